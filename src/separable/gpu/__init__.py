"""Triton kernels for separable layers and filters on NVIDIA GPUs.

`kernel_support` decides whether the kernels take given tensors, and says why not. `device_profile` describes a GPU as a
value, `tile_cost` predicts the time of a choice of tile sizes on it, and `tuned_tiles` keeps measured choices on disk.
`kernel_launch` starts kernels, and `ahead` compiles them without a GPU. The kernels themselves are in `triton_kernels`,
which is the only part that imports Triton; it is imported when a tensor on a GPU is first served.
"""

from __future__ import annotations

from separable.gpu.device_profile import PROFILES, Device
from separable.gpu.kernel_support import interpreting, serves, why_not_served

__all__ = ["PROFILES", "Device", "interpreting", "serves", "why_not_served"]
