"""Filters of GPU arrays of other libraries, such as CuPy, exchanged by DLPack without a copy and returned in kind."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.utils.dlpack

from separable.arrays import is_gpu_array, package_of
from separable.errors import ArgumentTypeError
from separable.tensors.tensor_banks import run_bank as run_tensor_bank
from separable.tensors.tensor_filter import filter_with as filter_tensor

__all__ = ["array_like", "filter_with", "run_bank", "tensor_of"]


def filter_with(image: Any, kernel: Any, output: Any = None, **options: Any) -> Any:
    """Filter a GPU array by the filters of tensors; the parameters are those of `separable.tensors.filter_with`.

    Returns
    -------
    array
        An array of the image's library on the image's device.
    """
    own_kernel = tensor_of(kernel, "kernel") if is_gpu_array(kernel) else kernel
    into = tensor_of(output, "output") if is_gpu_array(output) else output
    mask = options.get("mask")
    if is_gpu_array(mask):
        options = {**options, "mask": tensor_of(mask, "mask")}
    found = filter_tensor(tensor_of(image), own_kernel, into, **options)
    return output if into is not output else array_like(image, found)


def run_bank(bank: Any, image: Any, out: Any, missing: dict[str, Any], progress: Any) -> Any:
    """Return the bands of a GPU array, as an array of its library."""
    into = None if out is None else tensor_of(out, "out")
    found = run_tensor_bank(bank, tensor_of(image), into, missing, progress)
    return array_like(image, found) if out is None else out


def tensor_of(value: Any, name: str = "image") -> torch.Tensor:
    """Return a tensor that shares the memory of a GPU array.

    Raises
    ------
    ArgumentTypeError
        If PyTorch cannot read the array.
    """
    try:
        found: torch.Tensor = torch.utils.dlpack.from_dlpack(value)
    except Exception as error:
        kind = f"{package_of(value)}.{type(value).__name__}"
        raise ArgumentTypeError(
            f"`{name}` must be an array that PyTorch reads by DLPack, or one in the computer's memory; got {kind} "
            f"({error}). Copy it from the GPU, for instance with .get(), or install PyTorch for the array's device "
            f"(torch.version.cuda is {torch.version.cuda})"
        ) from None
    return found


def array_like(image: Any, found: torch.Tensor) -> Any:
    """Return a tensor as an array of another array's library, which shares its memory.

    Raises
    ------
    ArgumentTypeError
        If the library cannot read tensors by DLPack.
    """
    space = getattr(image, "__array_namespace__", None)
    library = space() if callable(space) else sys.modules.get(package_of(image))
    reader = getattr(library, "from_dlpack", None) or getattr(type(image), "from_dlpack", None)
    if reader is None:
        raise ArgumentTypeError(
            f"`image` must be an array of a library with `from_dlpack`; got {type(image).__name__}. Give "
            "torch.from_dlpack(image) to get a tensor"
        )
    return reader(found.detach())
