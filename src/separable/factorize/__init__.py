"""Factorisation of dense kernels: `factorize`, `spectrum` and the decompositions behind them."""

from separable.factorize.factorization import factorize
from separable.factorize.factorize_request import as_kernel, check_tolerance
from separable.factorize.leading import factorize_few
from separable.factorize.spectrum import Spectrum, spectrum

__all__ = [
    "Spectrum",
    "as_kernel",
    "check_tolerance",
    "factorize",
    "factorize_few",
    "spectrum",
]
