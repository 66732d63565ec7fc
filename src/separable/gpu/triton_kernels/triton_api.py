"""Import of Triton, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from separable.distribution import install_command

try:
    import triton
    import triton.language as tl
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"the GPU kernels of `separable` need Triton, which is not installed: {install_command('triton')}",
        name="triton",
    ) from error

__all__ = ["kernel", "tl", "triton"]


def kernel(function: Callable[..., Any]) -> Any:
    """Return a function as a Triton kernel, or as one that Triton's interpreter runs if TRITON_INTERPRET=1 is set."""
    return triton.jit(function)
