"""Documentation of the arguments of resampling: `documented` puts it into the docstrings of functions."""

from __future__ import annotations

from separable.docstrings import docfiller

__all__ = ["documented"]

_TEXTS = {
    "image": """\
image : array_like, torch.Tensor, dask.array.Array or xarray object
    Image or volume of any number of axes: bool, integers, float16 .. float64 or complex. A tensor is
    resampled on its device and has gradients; a Dask array is resampled when it is computed. A `DataArray`
    and the variables of a `Dataset` get the coordinates of their new samples.""",
    "axes": """\
axes : int or sequence of int, optional
    Axes to resample. Default is all of them; leave out those of colours, channels and time.""",
    "interpolation": """\
interpolation : str, int or Interpolation
    "nearest", "linear", "cubic" (Catmull-Rom), "cubic-sharp" (as PyTorch and OpenCV), "spline2" ..
    "spline5" or an order 0 .. 5 (B-splines through the samples, as SciPy), "lanczos2" .. "lanczos4",
    "area" (means over the length of an output), or "majority" for labels (the label that covers the
    largest part of an output). The default has no overshoot.""",
    "antialias": """\
antialias : bool or str
    Filter for axes that shrink. "gaussian" (True, the default) smooths with a sigma of half the step
    minus a half first, as scikit-image; "stretch" stretches the weights, as Pillow and PyTorch;
    "none" (False) does nothing, as SciPy and OpenCV. "nearest", "area" and "majority" need none.""",
    "align": """\
align : str
    "edges" (default): samples are squares, and the outer edges of the image stay where they are.
    "centres": the centre of the first sample stays.""",
    "mode": """\
mode : str or sequence of str
    Border mode, for all axes or for each: reflect, mirror, nearest, wrap or constant.""",
    "cval": """\
cval : number
    Value outside the image where the mode is constant.""",
    "output": """\
output : dtype or ndarray, optional
    Type of the result, or the array to write it into. Default is the image's type. Integers are rounded
    half to even and saturated, once.""",
    "missing": """\
mask : array_like, optional
    **Nonzero where the image is valid**, 0 where samples are missing, as for `separable.convolve`. A
    `numpy.ma.MaskedArray` has its own.
nan : str
    "propagate" spreads NaN to all values that its sample has a weight in; "ignore" treats NaN as
    missing: values are computed from the valid samples around them.
fill : number
    Value of results without a valid sample.
nodata : number or sequence of numbers, optional
    Value of samples that are missing.""",
    "threads": """\
threads : int, optional
    Number of threads. Default is all processors that this process may use.""",
    "how": """\
%(axes)s
%(interpolation)s
%(antialias)s
%(align)s
%(mode)s
%(cval)s
%(output)s
%(missing)s
%(threads)s""",
    "raises": """\
ArgumentError, ArgumentTypeError, AxisError, ModeError, OutputError, DTypeError
    If an argument is out of its range, or of a wrong type.""",
}

documented = docfiller(_TEXTS)
