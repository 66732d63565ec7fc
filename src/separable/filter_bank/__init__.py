"""Banks filter one image with several kernels and run the passes that they share only once."""

from separable.filter_bank.planned_bank import Bank, Group, bank
from separable.filter_bank.wavelet_steps import wavelet_step

__all__ = ["Bank", "Group", "bank", "wavelet_step"]
