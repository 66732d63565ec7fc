"""Import of Triton, in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from separable.distribution import install_command
from separable.gpu.kernel_support import LaunchError

try:
    import triton
    import triton.language as tl
except Exception as error:
    if isinstance(error, ModuleNotFoundError) and error.name == "triton":
        raise ModuleNotFoundError(
            f"the GPU kernels of `separable` need Triton, which is not installed: {install_command('triton')}",
            name="triton",
        ) from error
    # A release that does not fit this Python, this PyTorch or this system may raise anything.
    raise LaunchError(f"Triton cannot be imported: {type(error).__name__}: {error}") from error

__all__ = ["kernel", "tl", "triton"]


def kernel(function: Callable[..., Any]) -> Any:
    """Return a function as a Triton kernel, or as one that Triton's interpreter runs if TRITON_INTERPRET=1 is set."""
    try:
        return triton.jit(function)
    except Exception as error:  # a release with another language
        raise LaunchError(
            f"Triton {triton.__version__} refuses {function.__name__}: {error}"
        ) from error
