"""Banks of filters on tensors: shared passes by the engine for arrays; with gradients, one filter per band."""

from __future__ import annotations

from typing import Any

import torch

from separable.engine.tensor_memory import array_of, empty
from separable.errors import ArgumentError, OutputError
from separable.filter_bank import Bank
from separable.gpu.kernel_support import is_interpreting
from separable.tensors.device.device_choice import filter_together
from separable.tensors.ops import torch_dtype
from separable.tensors.tensor_filter import check_tensor, filter_with, numpy_dtype

__all__ = ["run_bank"]


def run_bank(
    bank: Bank, image: torch.Tensor, out: Any, missing: dict[str, Any], progress: Any
) -> torch.Tensor:
    """Return the bands of a tensor; with gradients if it requires one.

    Raises
    ------
    ArgumentError
        If the tensor is not of the planned shape and type.
    OutputError
        If `out` is not a tensor of the result's shape, or a gradient is asked for.

    Examples
    --------
    >>> import separable as sep
    >>> b = sep.bank(["gaussian:1", "log:1"], (8, 9), "float32")
    >>> b(torch.ones(8, 9, requires_grad=True)).requires_grad
    True
    """
    check_tensor(image)
    p, kind = bank.problem, numpy_dtype(image.dtype)
    if tuple(image.shape) != p.shape or kind != p.dtype:
        raise ArgumentError(
            f"this bank is for shape {p.shape}, {p.dtype}; got shape {tuple(image.shape)}, {kind}. Make a "
            "bank for this image"
        )
    plain = image.device.type == "cpu" and not image.requires_grad and not missing
    plain = plain and not is_interpreting()
    if plain and image.dtype != torch.bfloat16:
        made = empty(bank.shape, torch_dtype(p.out))
        bank(
            array_of(image.detach().resolve_conj().resolve_neg()), array_of(made), progress=progress
        )
    else:
        together = None if missing else _together(bank, image)
        if together is None:
            bands = [_band(single, image, p.out, missing) for single in bank.plans]
            together = torch.stack(bands)
        made = together
    if out is None:
        return made
    if not isinstance(out, torch.Tensor) or out.shape != made.shape or made.requires_grad:
        raise OutputError(
            f"`out` must be a tensor of shape {tuple(made.shape)}, and no gradient may be asked for; got "
            f"{getattr(out, 'shape', type(out).__name__)}"
        )
    into: torch.Tensor = out.copy_(made)
    return into


def _together(bank: Bank, image: torch.Tensor) -> torch.Tensor | None:
    """Return the bands of a tensor on a GPU, with shared passes only once; None if no kernel runs them."""
    if image.device.type == "cpu" and not is_interpreting():
        return None
    return filter_together(bank.plans, image, torch_dtype(bank.problem.out))


def _band(single: Any, image: torch.Tensor, out: Any, missing: dict[str, Any]) -> torch.Tensor:
    request, p = single.request, single.problem
    kernel = request.kernel if request.factors is None else request.factors
    found: torch.Tensor = filter_with(
        image, kernel, torch_dtype(out), operation=request.operation, axes=p.axes, mode=p.modes,
        cval=p.cval, origin=request.origins, **missing,
    )  # fmt: skip
    return found
