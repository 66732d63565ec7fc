"""Banks filter one image with several kernels and run the passes that they share only once."""

from separable.filter_bank.magnitude import Gradient, Magnitude, gradient
from separable.filter_bank.planned_bank import Bank, Group, bank
from separable.filter_bank.wavelet_steps import wavelet_step

__all__ = ["Bank", "Gradient", "Group", "Magnitude", "bank", "gradient", "wavelet_step"]
