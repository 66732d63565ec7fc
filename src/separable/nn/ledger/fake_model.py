"""Copies of a model, and inputs for it, that have shapes and no memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = ["Shapes", "fake_copy", "fake_inputs", "fake_keywords"]

# Everything is on one device, so that models with parameters on "meta" can create tensors in
# `forward` as on a CPU.
DEVICE = "cpu"
Shapes = Sequence[int] | Tensor | Sequence[Sequence[int] | Tensor]


def fake_copy(model: nn.Module) -> nn.Module:
    """Copy the modules with fake tensors for their tensors; call it in a `FakeTensorMode`.

    The model stays as it is whatever becomes of the copy: its buffers, caches, hooks and mode.

    Raises
    ------
    ArgumentError
        If a lazy layer has no parameters yet.
    ArgumentTypeError
        If something in the model cannot be copied.
    """
    memo: dict[int, Any] = {}
    for tensor in _held(model):
        if is_lazy(tensor):
            raise ArgumentError(
                f"`model` {type(model).__name__} has lazy layers without parameters: run it once "
                "on an input, then count"
            )
        memo.setdefault(id(tensor), _fake(tensor))
    try:
        copied: nn.Module = copy.deepcopy(model, memo)
    except Exception as problem:
        raise ArgumentTypeError(
            f"`model` {type(model).__name__} cannot be copied, which counting needs: {problem}. "
            "Take out of it what `copy.deepcopy` cannot copy"
        ) from problem
    return copied


def _held(model: nn.Module) -> Iterator[Tensor]:
    """Return parameters, buffers, and tensors that are plain attributes."""
    for module in model.modules():
        groups = (module._parameters, module._buffers, module.__dict__)
        for value in (v for group in groups for v in group.values()):
            if isinstance(value, Tensor):
                yield value


def _fake(tensor: Tensor) -> Tensor:
    strided = tensor.layout is torch.strided and not tensor.is_quantized
    strides = tensor.stride() if strided else torch.empty(tensor.shape, device="meta").stride()
    fake = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=DEVICE)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(fake, requires_grad=tensor.requires_grad)
    return fake


def fake_inputs(
    model: nn.Module, shapes: Shapes, dtype: torch.dtype | Sequence[torch.dtype] | None
) -> list[Tensor]:
    """Create the positional inputs.

    Raises
    ------
    ArgumentError
        If a shape has a negative size, or `dtype` is not one for each input.
    ArgumentTypeError
        If a shape is none.
    """
    several = _several(shapes)
    if isinstance(dtype, torch.dtype) or dtype is None:
        types: list[torch.dtype | None] = [dtype] * len(several)
    else:
        types = list(dtype)
    if len(types) != len(several):
        raise ArgumentError(
            f"`dtype` must be one for all inputs or one for each of {len(several)}; got {dtype!r}"
        )
    standard = _standard_dtype(model)
    return [_input(shape, t, standard) for shape, t in zip(several, types, strict=True)]


def fake_keywords(model: nn.Module, keywords: Mapping[str, Any] | None) -> dict[str, Any]:
    """Create the keyword inputs: tuples of integers are shapes, tensors become fake."""
    standard = _standard_dtype(model)
    return {
        name: _input(value, None, standard)
        if _is_shape(value) or isinstance(value, Tensor)
        else value
        for name, value in (keywords or {}).items()
    }


def _several(shapes: Shapes) -> list[Any]:
    if isinstance(shapes, Tensor) or (_is_shape(shapes) and shapes):
        return [shapes]
    if isinstance(shapes, list | tuple):
        if shapes and all(_is_number(n) for n in shapes):
            return [tuple(shapes)]
        if all(isinstance(s, list | tuple | Tensor) for s in shapes):
            return list(shapes)
    raise ArgumentTypeError(
        "`input_shape` must be the shape of the input with its batch, as (1, 3, 224, 224), or a "
        f"list of shapes; got {shapes!r}"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_shape(value: object) -> bool:
    return isinstance(value, tuple) and all(_is_number(n) for n in value)


def _input(shape: Any, dtype: torch.dtype | None, standard: torch.dtype) -> Tensor:
    if isinstance(shape, Tensor):
        return torch.empty(shape.shape, dtype=dtype or shape.dtype, device=DEVICE)
    sizes = tuple(shape)
    if not all(_is_number(n) for n in sizes):
        raise ArgumentTypeError(f"`input_shape` must be whole numbers; got {sizes}")
    if any(n < 0 for n in sizes):
        raise ArgumentError(f"`input_shape` must be sizes >= 0; got {sizes}")
    return torch.empty(sizes, dtype=dtype or standard, device=DEVICE)


def _standard_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype of the model's first floating-point parameter, or PyTorch's default."""
    found = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(found, torch.get_default_dtype())
