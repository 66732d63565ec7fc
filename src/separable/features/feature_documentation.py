"""Documentation of the arguments that all features have: `documented` puts it into the docstrings of functions."""

from __future__ import annotations

from separable.docstrings import docfiller

__all__ = ["documented"]

_TEXTS = {
    "image": """\
image : array_like, torch.Tensor, dask.array.Array or xarray object
    Image or volume: bool, integers or floats. Integers keep their values. A tensor that requires a gradient
    gives results that have one; a `DataArray` and the variables of a `Dataset` keep their coordinates.""",
    "sigma": """\
sigma : float or sequence of float
    Standard deviation of the Gaussian, for all axes or for each, in samples or in the unit of
    `spacing`.""",
    "sigmas": """\
sigmas : iterable of float
    Scales: standard deviations in samples, or in the unit of `spacing`.""",
    "black_ridges": """\
black_ridges : bool
    Whether to find dark ridges (the default) or bright ones.""",
    "mode": """\
mode : str or sequence of str
    Border mode, for all axes or for each: reflect, mirror, nearest, wrap or constant.""",
    "cval": """\
cval : float
    Value outside the image where the mode is constant.""",
    "options": """\
**options
    axes : int or sequence of int
        Axes of the image; default: all. The others are independent images.
    spacing : float or sequence of float
        Distance between neighbouring samples along each axis. Derivatives are then per unit of it.
    threads : int
        Number of threads; default: all processors that this process may use.
    mask, nan, fill, nodata
        Missing samples, as for `separable.correlate`.""",
    "raises": """\
ArgumentError, ArgumentTypeError, DTypeError, ModeError
    If an argument is out of its range, or of a wrong type.""",
}

documented = docfiller(_TEXTS)
