"""Documentation of the parameters that the filters share: `documented` puts it into their docstrings."""

from __future__ import annotations

from separable.docstrings import docfiller

__all__ = ["documented"]

_TEXTS = {
    "input": """\
input : array_like
    Image or volume of any number of axes: bool, integers, float16 .. float64 or complex.""",
    "axis": """\
axis : int
    Axis to filter. Default is the last one.""",
    "axes": """\
axes : int or sequence of int, optional
    Axes to filter. Default is all of them.""",
    "weights_1d": """\
weights : array_like
    Weights along one axis.""",
    "output": """\
output : dtype or ndarray, optional
    Type of the result, or the array to write it into, which may be the image itself. Default is
    the type of the image.""",
    "mode": """\
mode : str or sequence of str
    Border mode, for all filtered axes or for each: reflect, mirror, nearest, wrap, constant (or
    their grid- names).""",
    "mode_of_all": """\
mode : str or sequence of str
    Border mode, for all axes of the image or for each: reflect, mirror, nearest, wrap, constant
    (or their grid- names).""",
    "mode_1d": """\
mode : str
    Border mode: reflect, mirror, nearest, wrap or constant (or their grid- names).""",
    "cval": """\
cval : number
    Value outside the image where the mode is constant.""",
    "origin": """\
origin : int or sequence of int
    Shift of the kernel, for all of `axes` or for each, in their order.""",
    "origin_1d": """\
origin : int
    Shift of the kernel.""",
    "sigma": """\
sigma : float or sequence of float
    Standard deviation, for all filtered axes or for each, in pixels or in the units of
    `spacing`. An axis with 0 is not filtered.""",
    "sigma_1d": """\
sigma : float
    Standard deviation, in pixels or in the units of `spacing`; > 0.""",
    "order": """\
order : int or sequence of int
    Derivative along each axis: 0 smooths, 1 is the first derivative, and so on.""",
    "order_1d": """\
order : int
    Derivative: 0 smooths, 1 is the first derivative, and so on.""",
    "truncate": """\
truncate : float
    Number of standard deviations at which the kernel is cut off.""",
    "radius": """\
radius : int or sequence of int, optional
    Half the length of the kernel without its centre, for all filtered axes or for each. It
    replaces `truncate`.""",
    "radius_1d": """\
radius : int, optional
    Half the length of the kernel without its centre. It replaces `truncate`.""",
    "gaussian_options": """\
**kwargs
    `truncate` and `radius`, as for `gaussian_filter`.""",
    "spacing": """\
spacing : float or sequence of float, optional
    Distance between the centres of neighbouring samples, for all filtered axes or for each; > 0.
    Derivatives are per unit of it. SciPy has no such keyword.""",
    "spacing_of_size": """\
spacing : float or sequence of float, optional
    Distance between the centres of neighbouring samples, for all filtered axes or for each; > 0.
    SciPy has no such keyword.""",
    "spacing_of_all": """\
spacing : float or sequence of float, optional
    Distance between the centres of neighbouring samples, for all axes of the image or for each;
    > 0. The result is divided by that of `axis`, so it is a slope per unit of length. SciPy has
    no such keyword.""",
    "spacing_of_size_1d": """\
spacing : float, optional
    Distance between the centres of neighbouring samples; > 0. SciPy has no such keyword.""",
    "spacing_1d": """\
spacing : float, optional
    Distance between the centres of neighbouring samples; > 0. Derivatives are per unit of it.
    SciPy has no such keyword.""",
    "extra": """\
extra_arguments : sequence
    Further positional arguments of the function.
extra_keywords : dict, optional
    Further keyword arguments of the function.""",
    "missing": """\
mask : array_like, optional
    **Nonzero where the image is valid**, 0 where samples are missing, of the image's shape or
    of the shape of the filtered axes. SciPy has no such keyword.
nan : str
    "propagate" spreads NaN as far as the kernel reaches; "ignore" treats NaN as missing. SciPy
    has no such keyword.
fill : number
    Value of the result where no valid sample lies below the kernel. SciPy has no such keyword.""",
    "region": """\
output_region : str
    "same" has all outputs; "valid" those for which the kernel lies inside the image, "full" all for
    which it overlaps the image. SciPy has no such keyword.
stride : int or sequence of int
    Compute every `stride`-th output only. SciPy has no such keyword.""",
    "raises": """\
ArgumentError, ArgumentTypeError, ModeError, OutputError, DTypeError
    If an argument is out of its range, or of a wrong type.""",
    "raises_axis": """\
AxisError
    (ValueError, IndexError) If `axis` lies outside the image.
ArgumentError, ArgumentTypeError, ModeError, OutputError, DTypeError
    If another argument is out of its range, or of a wrong type.""",
    "raises_weights": """\
WeightsError
    (KernelError, RuntimeError) If the weights are empty or have a wrong number of axes.
KernelError
    If the weights are not finite.
ArgumentError, ArgumentTypeError, ModeError, OutputError, DTypeError
    If another argument is out of its range, or of a wrong type.""",
    "weights": """\
weights : array_like
    Kernel with one axis for each filtered one, in the image's order of axes.""",
    "returns": """\
ndarray
    An array of the image's shape. Integers are rounded half to even and saturated, once.""",
    "returns_derivative": """\
ndarray
    An array of the image's shape. Integers are rounded and saturated once, at the end.""",
    "returns_slope": """\
ndarray
    An array of the image's shape and type. Negative slopes of an unsigned image become 0: pass
    ``output=float`` to keep them.""",
    "correlation": """\
Parameters
----------
%(input)s
%(weights)s
%(output)s
%(mode)s
%(cval)s
%(origin)s
%(axes)s
%(missing)s
%(region)s

Returns
-------
%(returns)s

Raises
------
%(raises_weights)s""",
    "correlation_1d": """\
Parameters
----------
%(input)s
%(weights_1d)s
%(axis)s
%(output)s
%(mode_1d)s
%(cval)s
%(origin_1d)s
%(missing)s
%(region)s

Returns
-------
%(returns)s

Raises
------
%(raises_weights)s""",
    "slope": """\
Parameters
----------
%(input)s
%(axis)s
%(output)s
%(mode_of_all)s
%(cval)s
%(spacing_of_all)s
%(missing)s

Returns
-------
%(returns_slope)s

Raises
------
%(raises_axis)s

Notes
-----
The local mean of the valid samples replaces missing ones, so a constant image with holes has no
slope.""",
    "gaussian_derivatives": """\
Parameters
----------
%(input)s
%(sigma)s
%(output)s
%(mode)s
%(cval)s
%(axes)s
%(spacing)s
%(missing)s
%(gaussian_options)s

Returns
-------
%(returns_derivative)s

Raises
------
%(raises)s

Notes
-----
The derivative along each axis is a filter of its own. Where samples are missing the local mean
of the valid ones replaces them, and the result is `fill` where one of the filters has no valid
sample below it.""",
    "after_derivative": """\
%(output)s
%(mode)s
%(cval)s
%(extra)s
%(axes)s
%(missing)s

Returns
-------
%(returns_derivative)s

Raises
------
%(raises)s

Notes
-----
Where samples are missing the function is called with the keywords `mask`, of the image's shape,
`nan` and ``fill=nan`` too. The result is `fill` where an array that it returns is NaN.""",
    "gaussian_1d": """\
Parameters
----------
%(input)s
%(sigma_1d)s
%(axis)s
%(order_1d)s
%(output)s
%(mode_1d)s
%(cval)s
%(truncate)s
%(radius_1d)s
%(spacing_1d)s
%(missing)s
%(region)s

Returns
-------
%(returns_gaussian)s

Raises
------
%(raises_axis)s""",
    "returns_gaussian": """\
ndarray
    An array of the image's shape. Integers are rounded once, half to even, so a constant image
    keeps its value. One axis takes ``2 * radius + 1`` multiplications per sample.""",
}

documented = docfiller(_TEXTS)
