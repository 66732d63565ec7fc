"""The catalogue of kernels: functions that return the kernels people use, by name.

A kernel that separates is *born factored*: it is returned as `Factors`, and its dense array is
derived from them with ``.dense()``. A kernel that does not separate is returned as an array.

Conventions
-----------
* Masks stand as the literature writes them, which is for **correlation**: Sobel is ``[1, 2, 1]``
  down times ``[-1, 0, 1]`` across, positive to the right, so that correlating with a derivative
  kernel gives a positive response where the image rises along its axis::

      sep.correlate(image, kernels.sobel()) == scipy.ndimage.sobel(image)

  `sep.convolve` flips the kernel, and with it the sign of odd derivatives. For the same reason
  ``gaussian(2, order=1)`` is negative on the left and positive on the right, the mirror image of
  the weights SciPy computes inside `gaussian_filter`, which flips them before it correlates.
* Axes are in memory order, their letters the last ones of ``tzyx``: ``yx`` in two dimensions,
  ``zyx`` in three. Two to four axes; one-dimensional kernels are arrays and have their own
  functions (`gaussian1d`, `box1d`, `binomial1d`), for a single vector is no product.
* Lengths are in pixels (voxels), measured between the centres of neighbours; with ``spacing=``,
  the distance between those centres along each axis, they are in its units, and derivatives are
  per unit of it, as ITK has them. Angles are in
  radians, from the positive x axis towards the positive y axis, which on a screen, where y points
  down, is clockwise.
* A scale that belongs to a whole term stands in its first factor, so that the numbers of the
  others stay as they are known.

Examples
--------
>>> from separable import kernels
>>> kernels.sobel()
Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
  y  1 2 1
  x  -1 0 1
>>> kernels.disk(1)
array([[0, 1, 0],
       [1, 1, 1],
       [0, 1, 0]])
>>> kernels.parse_spec("gaussian:2x1x1").shape
(17, 9, 9)
>>> kernels.parse_spec("gaussian:2mm", spacing=(3, 1, 1), unit="mm").shape
(7, 17, 17)
"""

from separable.kernels.bandpass import difference_of_gaussians, gabor, sharpen
from separable.kernels.derivative_kernels import (
    central_difference,
    laplace,
    laplacian_of_gaussian,
    prewitt,
    scharr,
    sobel,
)
from separable.kernels.kernel_arguments import (
    Kernel,
)
from separable.kernels.parse import catalogue, parse_spec
from separable.kernels.shapes import ball, disk, motion, pillbox
from separable.kernels.smoothing_kernels import (
    binomial,
    binomial1d,
    box,
    box1d,
    gaussian,
    gaussian1d,
)
from separable.kernels.textures import laws, laws_bands
from separable.kernels.wavelet_kernels import wavelet, wavelet1d, wavelet_bands

__all__ = [
    "Kernel",
    "ball",
    "binomial",
    "binomial1d",
    "box",
    "box1d",
    "catalogue",
    "central_difference",
    "difference_of_gaussians",
    "disk",
    "gabor",
    "gaussian",
    "gaussian1d",
    "laplace",
    "laplacian_of_gaussian",
    "laws",
    "laws_bands",
    "motion",
    "parse_spec",
    "pillbox",
    "prewitt",
    "scharr",
    "sharpen",
    "sobel",
    "wavelet",
    "wavelet1d",
    "wavelet_bands",
]
