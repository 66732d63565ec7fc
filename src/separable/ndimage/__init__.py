"""The linear filters and grid interpolations of `scipy.ndimage`, with the same names, parameters and defaults.

A program changes one import line::

    from separable import ndimage        # was: from scipy import ndimage

Every filter checks its arguments, builds one kernel (a product of vectors or a sum of such products),
plans it, and runs the plan. `zoom`, `shift` and the spline filters multiply by one banded matrix per axis. The last plans are cached. So results are rounded once, at the end, and the
choice of method changes the time, not the result. ``docs/compatibility.md`` lists every intended
difference from SciPy.

Examples
--------
>>> import numpy as np
>>> from separable import ndimage
>>> ndimage.correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
array([ 8, 26,  8, 12,  7, 28, 36,  9])
>>> photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
>>> ndimage.gaussian_filter(photo, sigma=2, axes=(0, 1)).dtype
dtype('uint8')
"""

from separable.ndimage.correlation_filters import convolve, convolve1d, correlate, correlate1d
from separable.ndimage.derivative_filters import (
    gaussian_gradient_magnitude,
    gaussian_laplace,
    laplace,
)
from separable.ndimage.generic_filters import generic_gradient_magnitude, generic_laplace
from separable.ndimage.interpolation_filters import shift, spline_filter, spline_filter1d, zoom
from separable.ndimage.masks import prewitt, sobel
from separable.ndimage.smoothing_filters import (
    gaussian_filter,
    gaussian_filter1d,
    uniform_filter,
    uniform_filter1d,
)

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "generic_gradient_magnitude",
    "generic_laplace",
    "laplace",
    "prewitt",
    "shift",
    "sobel",
    "spline_filter",
    "spline_filter1d",
    "uniform_filter",
    "uniform_filter1d",
    "zoom",
]
