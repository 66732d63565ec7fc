"""Catalogue of kernels: functions that return common kernels by name.

A kernel that separates is returned as `Factors`; ``.dense()`` multiplies them out to an array. A
kernel that does not separate is returned as an array.

Conventions
-----------
* Masks are written as in the literature, which is for **correlation**: Sobel is ``[1, 2, 1]`` down
  times ``[-1, 0, 1]`` across, positive to the right. Correlating with a derivative kernel gives a
  positive response where the image rises along its axis::

      sep.correlate(image, kernels.sobel()) == scipy.ndimage.sobel(image)

  `sep.convolve` flips the kernel, and with it the sign of odd derivatives. For the same reason
  ``gaussian(2, order=1)`` is negative on the left and positive on the right, the mirror image of
  the weights that SciPy computes inside `gaussian_filter`, which flips them before it correlates.
* Axes are in memory order. Their letters are the last ones of ``tzyx``: ``yx`` in two dimensions,
  ``zyx`` in three. Kernels have two to four axes; one-dimensional kernels are arrays and have their
  own functions (`gaussian1d`, `box1d`, `binomial1d`), because one vector is not a product.
* Lengths are in pixels (voxels). With ``spacing=``, the distance between the centres of
  neighbouring samples along each axis, they are in its units, and derivatives are per unit of it, as
  in ITK. Angles are in radians, from the positive x axis towards the positive y axis. On a screen,
  where y points down, that is clockwise.
* The first factor of a term carries its scale, so that the other factors have their usual numbers.

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

from separable.factorize import accept_text
from separable.kernels.bandpass import difference_of_gaussians, gabor, sharpen
from separable.kernels.derivative_kernels import (
    central_difference,
    laplace,
    laplacian_of_gaussian,
    prewitt,
    scharr,
    sobel,
)
from separable.kernels.kernel_arguments import Kernel
from separable.kernels.kernel_registry import (
    register_kernel,
    registered_kernels,
    unregister_kernel,
)
from separable.kernels.parse import parse, parse_spec
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

accept_text(parse)  # so that kernels may be texts wherever arrays are factorised

__all__ = [
    "Kernel",
    "ball",
    "binomial",
    "binomial1d",
    "box",
    "box1d",
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
    "parse",
    "parse_spec",
    "pillbox",
    "prewitt",
    "register_kernel",
    "registered_kernels",
    "scharr",
    "sharpen",
    "sobel",
    "unregister_kernel",
    "wavelet",
    "wavelet1d",
    "wavelet_bands",
]
