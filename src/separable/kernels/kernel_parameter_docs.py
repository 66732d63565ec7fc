"""Documentation of the parameters that kernels share: `documented` puts it into their docstrings."""

from __future__ import annotations

from separable.docstrings import docfiller

__all__ = ["documented"]

_TEXTS = {
    "axis": """\
axis : int, default -1
    Axis along which the kernel differentiates. The default gives the horizontal derivative.""",
    "ndim": """\
ndim : int, optional
    Number of axes: 2, 3 or 4. Default is the length of a sequence among the arguments, else 2.""",
    "sigma": """\
sigma : float or sequence of float
    Standard deviation, for all axes or for each, in pixels or in the units of `spacing`; > 0.""",
    "fwhm": """\
fwhm : float or sequence of float, optional
    Full width at half maximum, given instead of `sigma`: ``sigma = fwhm / 2.3548``.""",
    "fwhm_1d": """\
fwhm : float, optional
    Full width at half maximum, given instead of `sigma`: ``sigma = fwhm / 2.3548``.""",
    "sigma_1d": """\
sigma : float
    Standard deviation, in samples or in the units of `spacing`; > 0.""",
    "order": """\
order : int or sequence of int, default 0
    Derivative, for all axes or for each: 0 smooths, 1 .. 4 differentiate.""",
    "order_1d": """\
order : int, default 0
    Derivative: 0 smooths, 1 .. 4 differentiate.""",
    "truncate": """\
truncate : float, default 4.0
    Number of standard deviations at which a Gaussian is cut off. With the default, which is
    SciPy's, 6e-5 of its weight is left out.""",
    "radius": """\
radius : int or sequence of int, optional
    Half the length without the centre, for all axes or for each, in pixels whatever the spacing.
    It replaces `truncate`.""",
    "radius_1d": """\
radius : int, optional
    Half the length without the centre, in samples whatever the spacing. It replaces
    `truncate`.""",
    "spacing": """\
spacing : float or sequence of float, optional
    Distance between the centres of neighbouring samples, for all axes or for each; > 0.""",
    "spacing_of_derivatives": """\
spacing : float or sequence of float, optional
    Distance between the centres of neighbouring samples, for all axes or for each; > 0.
    Derivatives are per unit of it: order n is divided by ``spacing ** n``.""",
    "spacing_of_slope": """\
spacing : float or sequence of float, optional
    Distance between the centres of neighbouring samples, for all axes or for each; > 0. The mask
    is divided by that of `axis`, so its response is a slope per unit of length.""",
    "spacing_1d": """\
spacing : float, optional
    Distance between the centres of neighbouring samples; > 0.""",
    "spacing_1d_of_derivatives": """\
spacing : float, optional
    Distance between the centres of neighbouring samples; > 0. Derivatives are per unit of it.""",
    "raises": """\
ArgumentError, ArgumentTypeError
    If an argument is out of its range, or not a number, or if sequences differ in length.""",
    "slope": """\
Parameters
----------
%(axis)s
%(ndim)s
%(spacing_of_slope)s

Returns
-------
Factors
    Factors of rank 1 with 3 taps per axis, integers without `spacing`.

Raises
------
%(raises)s""",
    "sized_slope": """\
Parameters
----------
%(axis)s
size : int, default 3
    Number of taps per axis, odd.
%(ndim)s
%(spacing_of_slope)s

Returns
-------
Factors
    Factors of rank 1 with `size` taps per axis.

Raises
------
%(raises)s""",
}

documented = docfiller(_TEXTS)
