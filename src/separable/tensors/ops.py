"""Filters as operations of PyTorch, for tensors on any device: what autograd follows by itself.

A pass is a convolution along one axis of a tensor of two; several axes at once, up to three, are a
convolution of as many. Borders are written out before each pass.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from separable.borders import OUTSIDE, carried, extension
from separable.engine import Decomposition, Problem
from separable.engine.base import Pass
from separable.errors import ArgumentError

__all__ = ["correlated", "dense", "exactly", "own", "scaled_back", "stored", "torch_dtype"]

MOST_AXES = 3  # of one convolution
MOST_DOUBLINGS = 100  # a power of two that every type of intermediates has


def torch_dtype(dtype: Any) -> torch.dtype:
    """Return PyTorch's name of a NumPy type."""
    found: torch.dtype = getattr(torch, np.dtype(dtype).name)
    return found


def correlated(image: torch.Tensor, problem: Problem, form: Decomposition) -> torch.Tensor:
    """Run the passes of a form, or its dense kernel, on a tensor of the work type."""
    if not form.separated:
        kernel = torch.tensor(np.ascontiguousarray(form.kernel)).to(image.device, image.dtype)
        return dense(image, kernel, problem)
    if not form.roots:
        return torch.zeros_like(image)

    def walk(passes: Sequence[Pass], source: torch.Tensor, cval: complex) -> torch.Tensor:
        done = []
        for p in passes:
            taps = torch.tensor(p.taps).to(source.device, source.dtype)
            out = _along(source, taps, p.axes, p.lefts, problem, cval)
            done.append(walk(p.then, out, carried(cval, p.taps)) if p.then else out)
        total = done[0]
        for other in done[1:]:
            total = total + other
        return total

    return walk(form.roots, image, problem.cval)


def dense(image: torch.Tensor, kernel: torch.Tensor, problem: Problem) -> torch.Tensor:
    """Correlate with a dense kernel, which may be one that gradients are asked for."""
    if kernel.ndim > MOST_AXES:
        raise ArgumentError(
            f"a tensor of this device or a kernel with gradients is filtered densely along at most "
            f"{MOST_AXES} axes; got {kernel.ndim}. Give Factors, or a kernel that separates"
        )
    return _along(image, kernel, tuple(range(kernel.ndim)), problem.lefts, problem, problem.cval)


def _along(
    image: torch.Tensor,
    taps: torch.Tensor,
    kernel_axes: Sequence[int],
    lefts: Sequence[int],
    problem: Problem,
    cval: complex,
) -> torch.Tensor:
    """Correlate along some axes, borders and all."""
    if taps.numel() == 1:
        return image * taps.reshape(())
    axes = [problem.axes[k] for k in kernel_axes]
    for k, axis, left, size in zip(kernel_axes, axes, lefts, taps.shape, strict=True):
        image = _extended(image, axis, (left, size - 1 - left), problem.modes[k], cval)
    if len(axes) == 1:
        return _along_one(image, axes[0], taps)
    ends = tuple(range(-len(axes), 0))
    moved = image.movedim(axes, ends)
    outer, inner = moved.shape[: -len(axes)], moved.shape[-len(axes) :]
    convolve = functional.conv2d if len(axes) == 2 else functional.conv3d
    flat = moved.reshape(-1, 1, *inner)
    out = convolve(flat, taps[None, None]) if flat.numel() else flat
    return out.reshape(*outer, *out.shape[2:]).movedim(ends, axes)


def _along_one(image: torch.Tensor, axis: int, taps: torch.Tensor) -> torch.Tensor:
    """Correlate an extended tensor along one axis."""
    before, after = image.shape[:axis], image.shape[axis + 1 :]
    inner = math.prod(after)
    if inner == 1:
        flat, weights = image.reshape(1, 1, -1, image.shape[axis]), taps[None, None, None]
    else:
        flat = image.reshape(-1, 1, image.shape[axis], inner)
        weights = taps[None, None, :, None]
    length = image.shape[axis] - len(taps) + 1
    return functional.conv2d(flat, weights).reshape(*before, length, *after)


def _extended(
    image: torch.Tensor, axis: int, widths: tuple[int, int], mode: str, cval: complex
) -> torch.Tensor:
    """A tensor with its border written out along one axis."""
    if not any(widths):
        return image
    if mode == "constant":
        value = cval if image.is_complex() else float(np.real(cval))
        parts = [image]
        for where, width in zip((0, 1), widths, strict=True):
            shape = [*image.shape[:axis], width, *image.shape[axis + 1 :]]
            fill = torch.full(shape, value, dtype=image.dtype, device=image.device)
            parts.insert(where * len(parts), fill)
        return torch.cat(parts, axis)
    places = extension(image.shape[axis], *widths, mode)
    assert OUTSIDE not in places
    return image.index_select(axis, torch.as_tensor(places, device=image.device))


def scaled_back(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """Multiply by a power of two, in steps that are each within the range of the type."""
    while exponent:
        step = max(-MOST_DOUBLINGS, min(exponent, MOST_DOUBLINGS))
        values = values * 2.0**step
        exponent -= step
    return values


def stored(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert to the output's type; whole numbers are rounded half to even and saturated."""
    if values.is_complex() and not dtype.is_complex:
        values = values.real
    if dtype.is_floating_point or dtype.is_complex:
        return values.to(dtype)
    rounded = torch.nan_to_num(values.detach().round(), nan=0.0)
    if dtype == torch.bool:
        return rounded.clamp(0, 1).to(dtype)
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    if torch.iinfo(dtype).bits < 64:
        return rounded.clamp(low, high).to(dtype)
    # The largest 64-bit numbers are no float64: saturate where the float reaches past them.
    above, below = rounded >= float(high), rounded < float(low)
    whole = torch.where(above | below, 0.0, rounded).to(dtype)
    return whole.masked_fill(above, high).masked_fill(below, low)


def own(values: torch.Tensor) -> torch.Tensor:
    """Return a result that nobody else refers to as a tensor that owns its memory; gradients are followed.

    A view of all of its memory is not copied: autograd knows an operator that gives it a name of its own.
    """
    if type(values) is not torch.Tensor or torch._C._functorch.peek_interpreter_stack() is not None:
        return values  # of a transform, which makes the tensor of the result itself
    whole = values.untyped_storage().nbytes() == values.numel() * values.element_size()
    if not whole:
        return values.clone(memory_format=torch.contiguous_format)
    made: torch.Tensor = values.contiguous()
    if made._is_view():
        made = torch.ops.aten._unsafe_view(made, made.shape)
    return made


@contextlib.contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Keep the precision asked for: no autocast, no TF32, no transform that spreads a NaN."""
    kind = device.type
    with contextlib.ExitStack() as stack:
        if torch.amp.is_autocast_available(kind):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if kind == "cuda":
            flags = torch.backends.cudnn.flags(enabled=False, allow_tf32=False)
            stack.enter_context(flags)
        yield
