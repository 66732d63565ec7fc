"""Documentation of the arguments of filters: `documented` puts it into the docstrings of functions."""

from __future__ import annotations

from separable.docstrings import docfiller

__all__ = ["documented"]

_TEXTS = {
    "image": """\
image : array_like
    Image or volume of any number of axes: bool, integers, float16 .. float64 or complex.""",
    "kernel": """\
kernel : array_like, Factors or str
    Dense or factored kernel, with one axis for each filtered axis; or a text that
    `separable.kernels.parse` reads, such as ``"gaussian:2"`` or ``"1 2 1; 2 4 2; 1 2 1"``.""",
    "axes": """\
axes : int or sequence of int, optional
    Axes of the image to filter, one for each axis of the kernel. Default is all of them if the
    kernel has as many.""",
    "mode": """\
mode : str or sequence of str
    Border mode, for all filtered axes or for each: reflect, mirror, nearest, wrap or constant.
    The default is that of SciPy.""",
    "cval": """\
cval : number
    Value outside the image where the mode is constant.""",
    "origin": """\
origin : int or sequence of int
    Shift of the kernel, as in SciPy.""",
    "output": """\
output : dtype or ndarray, optional
    Type of the result, or the array to write it into, which may be the image itself.""",
    "region": """\
output_region : str
    "same" has the shape of the image; "valid" has the outputs for which the kernel lies inside the
    image, so that no border is needed (15x15 filtered with 3x3 gives 13x13); "full" has all outputs
    for which it overlaps the image.
stride : int or sequence of int
    Only every `stride`-th output of the region is computed, along all filtered axes or along each.""",
    "output_dtype": """\
output : dtype, optional
    Type of the result. Default is that of the image. Integers are rounded half to even and
    saturated, once.""",
    "tol": """\
tol : float, optional
    Bound of the error: ``max|out - exact| <= tol * sum|kernel| * max|input|``. Without it the
    result is exact to rounding.""",
    "method": """\
method : str
    "auto" takes the method that is predicted to be the fastest. Otherwise the name of a method
    ("direct", "separable", "low-rank", "fft" ...), as `plan` lists them.""",
    "operation": """\
operation : str
    "convolve" flips the kernel, "correlate" does not.""",
    "threads": """\
threads : int, optional
    Number of threads. Default is all processors that this process may use.""",
    "machine": """\
machine : Machine, optional
    Computer whose measured rates predict the times. Default is this computer.""",
    "missing": """\
mask : array_like, optional
    **Nonzero where the image is valid**, 0 where samples are missing: the opposite of `numpy.ma`.
    Of the image's shape, or of the shape of the filtered axes (one mask for all channels).
    Values of the image where it is 0 have no influence. If the image is a
    `numpy.ma.MaskedArray`, its own mask (True is missing, as in NumPy) counts too.
nan : str
    "propagate" spreads NaN as far as the kernel reaches; "ignore" treats NaN as missing.
fill : number
    Value of the result where no valid sample lies below the kernel. Integers cannot be NaN: with
    a mask they need another `fill`.
nodata : number, sequence of numbers, "auto" or "none"
    Value of samples that are missing. It is then also the default of `fill`, and results of valid
    samples differ from it, so that the result can declare the same value. "auto" takes what a file
    declares (its `_FillValue`, data ignore value ...); arrays declare none.""",
    "returns": """\
ndarray
    An array of the image's shape and, unless `output` says otherwise, type. Without `tol` it is
    exact to rounding. Integers are rounded half to even and saturated, once.""",
    "raises": """\
KernelError, DTypeError, ArgumentError, ArgumentTypeError, ModeError, OutputError
    If an argument is out of its range, or of a wrong type.""",
    "filter": """\
Parameters
----------
%(image)s
%(kernel)s
%(axes)s
%(mode)s
%(cval)s
%(origin)s
%(output)s
%(region)s
%(tol)s
%(method)s
%(threads)s
%(missing)s

Returns
-------
%(returns)s

Raises
------
%(raises)s""",
}

documented = docfiller(_TEXTS)
