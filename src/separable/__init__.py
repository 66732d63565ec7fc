"""separable: separable convolution for images, volumes and networks.

>>> import numpy as np, separable as sep
>>> image = np.zeros((5, 5)); image[2, 2] = 1
>>> sep.factorize([[1, 2, 1], [2, 4, 2], [1, 2, 1]], "yx -> y,x")
Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact
  y  1 2 1
  x  1 2 1
"""

from separable.factorize import Spectrum, factorize, spectrum
from separable.factors import Factors

__all__ = ["Factors", "Spectrum", "factorize", "spectrum"]
