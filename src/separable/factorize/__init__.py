"""Factorisation of dense kernels: `factorize`, `is_separable`, `spectrum` and the decompositions behind them."""

from separable.factorize.factorization import factorize
from separable.factorize.factorize_request import accept_text, as_kernel, check_tolerance
from separable.factorize.leading import factorize_few
from separable.factorize.separability import Separability, is_separable
from separable.factorize.spectrum import Spectrum, spectrum

__all__ = [
    "Separability",
    "Spectrum",
    "accept_text",
    "as_kernel",
    "check_tolerance",
    "factorize",
    "factorize_few",
    "is_separable",
    "spectrum",
]
