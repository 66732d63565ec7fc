"""Dense kernel -> Factors: `factorize`, `spectrum`, and the decompositions behind them."""

from separable.factorize.core import Spectrum, as_kernel, factorize, spectrum

__all__ = ["Spectrum", "as_kernel", "factorize", "spectrum"]
