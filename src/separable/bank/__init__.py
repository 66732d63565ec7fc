"""Banks: several kernels over one image, with the passes that they share run once."""

from separable.bank.core import Bank, Group, bank
from separable.bank.wavelets import wavelet_step

__all__ = ["Bank", "Group", "bank", "wavelet_step"]
