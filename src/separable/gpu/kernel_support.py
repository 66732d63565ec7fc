"""Decision whether the GPU kernels take given tensors, and the reason if they do not.

All code that may run a GPU kernel asks this module. It does not import Triton: it only looks whether it is installed.

The environment variable ``SEPARABLE_GPU`` set to ``torch`` leaves all work on GPUs to PyTorch.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from separable.distribution import install_command
from separable.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "LAYER_DTYPES",
    "MINIMUM_TRITON",
    "MOST_ELEMENTS",
    "VARIABLE_GPU",
    "LaunchError",
    "interpreting",
    "is_interpreting",
    "serves",
    "warn_of_fallback",
    "why_no_kernels",
    "why_not_served",
]

VARIABLE_GPU = "SEPARABLE_GPU"
CHOICES = ("auto", "torch")
MINIMUM_TRITON = (3, 4)
"""The oldest Triton whose compiler accepts the kernels' options."""
MINIMUM_CAPABILITY = (8, 0)
"""The first generation of GPUs (Ampere) with tensor cores for TF32 and bfloat16, which the tiles are made for."""
MOST_ELEMENTS = 2**31
"""Tensors with this many elements or more are left to PyTorch: the kernels compute offsets of 32 bits."""
LAYER_DTYPES = ("float32", "float16", "bfloat16")
"""Types of numbers of the layers' kernels."""


class LaunchError(RuntimeError):
    """Failure of a kernel that PyTorch can stand in for: Triton cannot compile or start it, or no tile of it fits."""


_interprets: ContextVar[bool] = ContextVar("separable_gpu_interprets", default=False)
_warned: set[str] = set()


@contextlib.contextmanager
def interpreting() -> Iterator[None]:
    """Serve tensors on the CPU too, by Triton's interpreter, for tests without a GPU.

    Raises
    ------
    ArgumentError
        If ``TRITON_INTERPRET=1`` is not set in the environment. Triton reads it when kernels are defined, so it must
        be set before this package is used.
    """
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise ArgumentError(
            "interpreting: expected TRITON_INTERPRET=1 in the environment before the first import; got "
            f"{os.environ.get('TRITON_INTERPRET')!r}"
        )
    token = _interprets.set(True)
    try:
        yield
    finally:
        _interprets.reset(token)


def is_interpreting() -> bool:
    """Return True if Triton's interpreter serves tensors on the CPU."""
    return _interprets.get()


def why_not_served(
    x: Tensor, *others: Tensor | None, dtypes: tuple[str, ...] = LAYER_DTYPES
) -> str:
    """Return the reason why the kernels do not take these tensors, or an empty string if they do.

    Parameters
    ----------
    x : Tensor
        Input; its device and type of numbers decide.
    *others : Tensor or None
        All other tensors of the call.
    dtypes : tuple of str
        Names of the types of numbers that the kernels in question take.
    """
    if x.device.type != "cuda" and not (is_interpreting() and x.device.type == "cpu"):
        return f"the tensor is on {x.device}, and the kernels run on CUDA devices"
    name = str(x.dtype).removeprefix("torch.")
    if name not in dtypes:
        return f"the numbers are of type {name}, and the kernels take {', '.join(dtypes)}"
    for t in (x, *others):
        if t is None:
            continue
        if t.device != x.device:
            return f"the tensors are on different devices, {x.device} and {t.device}"
        if t.dtype != x.dtype:
            other = str(t.dtype).removeprefix("torch.")
            return f"the tensors are of different types, {name} and {other}"
        if _extent(t) >= MOST_ELEMENTS:
            return f"a tensor of {t.numel():,} elements is too large for offsets of 32 bits"
    reason = why_no_kernels()
    if reason and reason == _why_too_old():  # installed to be used, but it cannot be
        _warn_once("old Triton", f"{reason}. PyTorch runs what the GPU kernels would run")
    return reason or (_why_not_device(x.device.index) if x.device.type == "cuda" else "")


def serves(x: Tensor, *others: Tensor | None, dtypes: tuple[str, ...] = LAYER_DTYPES) -> bool:
    """Return True if the kernels take these tensors, see `why_not_served`."""
    if x.device.type == "cpu" and not _interprets.get():  # the most frequent case first
        return False
    return not why_not_served(x, *others, dtypes=dtypes)


def _extent(t: Tensor) -> int:
    """Return the distance from the first to the last element in memory, plus one."""
    if t.numel() == 0:
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))


def why_no_kernels() -> str:
    """Return the reason why no kernel can run in this process, or an empty string.

    Raises
    ------
    ArgumentError
        If ``SEPARABLE_GPU`` in the environment is neither "auto" nor "torch".
    """
    asked = os.environ.get(VARIABLE_GPU, "") or "auto"
    if asked not in CHOICES:
        raise ArgumentError(
            f"the environment variable {VARIABLE_GPU} must be one of {', '.join(CHOICES)}; got {asked!r}"
        )
    return f"{VARIABLE_GPU}=torch is set" if asked == "torch" else _why_no_triton()


@lru_cache(maxsize=1)
def _why_no_triton() -> str:
    """Return the reason why Triton cannot be used, or an empty string; it is not imported."""
    if not _triton_version():
        return f"Triton is not installed ({install_command('triton')})"
    return _why_too_old()


@lru_cache(maxsize=1)
def _why_too_old() -> str:
    """Return that Triton is older than the kernels need, or an empty string, also if there is none."""
    version = _triton_version()
    numbers = tuple(int(n) for n in version.split(".")[:2] if n.isdigit())
    if len(numbers) == 2 and numbers < MINIMUM_TRITON:
        wanted = ".".join(map(str, MINIMUM_TRITON))
        return f"Triton {version} is too old: {wanted} or later is needed"
    return ""


def _triton_version() -> str:
    """Return the version of Triton, or an empty string if it is not installed; it is not imported."""
    # Import hooks of other packages may raise anything, and a source tree has no metadata.
    with contextlib.suppress(Exception):
        if importlib.util.find_spec("triton") is not None:
            return metadata.version("triton")
    return ""


@lru_cache(maxsize=32)
def _why_not_device(index: int | None) -> str:
    """Return the reason why a CUDA device is not supported, or an empty string."""
    import torch

    if getattr(torch.version, "hip", None):
        return "the kernels are made and checked for NVIDIA GPUs"
    capability = torch.cuda.get_device_capability(index)
    if capability < MINIMUM_CAPABILITY:
        have, need = (".".join(map(str, c)) for c in (capability, MINIMUM_CAPABILITY))
        return f"the GPU has compute capability {have}, and the kernels need {need} or later"
    return ""


def warn_of_fallback(what: str, error: Any) -> None:
    """Warn, once per operation and kind of error, that PyTorch runs an operation because a kernel failed."""
    reason = f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]
    _warn_once(
        f"{what} {type(error).__name__}",
        f"{what}: the GPU kernel could not be run ({reason}). PyTorch runs it instead, with the same "
        f"result and more traffic to memory. Set {VARIABLE_GPU}=torch to use PyTorch from the start",
    )


def _warn_once(key: str, text: str) -> None:
    if key not in _warned:
        _warned.add(key)
        warnings.warn(text, RuntimeWarning, stacklevel=3)
