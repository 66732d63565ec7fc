"""Banks: several kernels over one image, with the passes that they share run once."""

from separable.filter_bank.planned_bank import Bank, Group, bank
from separable.filter_bank.wavelet_steps import wavelet_step

__all__ = ["Bank", "Group", "bank", "wavelet_step"]
