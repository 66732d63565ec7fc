"""The kernels: functions that Triton compiles for a GPU. Nothing else imports Triton.

Every kernel has its program index first to last from the fastest moving tile to the slowest, masks all loads and
stores, and sums in float32. Upper-case parameters are constants of the compilation.
"""

from __future__ import annotations

from separable.gpu.triton_kernels.triton_api import kernel, tl

__all__ = ["kernel", "tl"]
