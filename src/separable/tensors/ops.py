"""Filter tensors on any device by operations of PyTorch, which autograd differentiates by itself.

A pass along one axis is a convolution of a tensor with two axes; a pass along two or three axes at once
is a convolution with as many. The border is written out before each pass.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from separable.borders import OUTSIDE, Border, carried
from separable.engine import Decomposition, Problem
from separable.engine.base import Pass
from separable.errors import ArgumentError

__all__ = [
    "MOST_AXES",
    "correlated",
    "dense",
    "exactly",
    "own",
    "scaled_back",
    "stored",
    "torch_dtype",
    "untraced",
]

Function = TypeVar("Function", bound=Callable[..., Any])

MOST_AXES = 3  # of one convolution
MOST_DOUBLINGS = 100  # every type of intermediates can represent this power of two


def untraced(function: Function) -> Function:
    """Keep PyTorch's compiler out of a function, as `torch.compiler.disable` does, without importing the compiler.

    That decorator imports `torch._dynamo`, which takes a second. Here the first call under the compiler applies it, for
    until then the compiler has not been imported. Versions of PyTorch that lack what this needs get the decorator itself.
    """
    disable: Any = torch.compiler.disable
    try:
        frames: Any = torch._C._dynamo.eval_frame
        run_only = frames._FrameExecStrategy(frames._FrameAction.SKIP, frames._FrameAction.DEFAULT)
        set_strategy = frames.set_code_exec_strategy
    except AttributeError:
        disabled: Function = disable(function)
        return disabled
    made: list[Any] = []

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **options)
        if not made:
            made.append(disable(function))
        return made[0](*args, **options)

    # What the compiler looks at where a function calls this one, and where it has been called.
    marked: Any = call
    marked._torchdynamo_disable = True
    set_strategy(marked.__code__, run_only)
    found: Function = marked
    return found


def torch_dtype(dtype: Any) -> torch.dtype:
    """Return the PyTorch dtype of the same name as a NumPy dtype."""
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
    """Correlate with a dense kernel, which may require a gradient."""
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
    """Correlate along some axes, after writing out the border along each of them."""
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
    """Correlate along one axis a tensor that is already extended."""
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
    image: torch.Tensor, axis: int, widths: tuple[int, int], border: Border, cval: complex
) -> torch.Tensor:
    """Return a tensor extended along one axis by the samples of its border mode."""
    if not any(widths):
        return image
    n, (before, _) = image.shape[axis], widths
    samples = border.extension(n, *widths)
    if not border.fills:
        return image.index_select(axis, torch.as_tensor(samples, device=image.device))
    value = cval if image.is_complex() else float(np.real(cval))
    left = _with_constant(image, axis, samples[:before], value)
    right = _with_constant(image, axis, samples[before + n :], value)
    return torch.cat([left, image, right], axis)


def _with_constant(
    image: torch.Tensor, axis: int, samples: NDArray[np.intp], value: complex
) -> torch.Tensor:
    """Return samples along an axis, and the constant for those that are `OUTSIDE`."""
    constant = samples == OUTSIDE
    if constant.all():
        shape = (*image.shape[:axis], len(samples), *image.shape[axis + 1 :])
        return image.new_full(shape, value)
    found = image.index_select(
        axis, torch.as_tensor(np.where(constant, 0, samples), device=image.device)
    )
    return found.index_fill(
        axis, torch.as_tensor(np.flatnonzero(constant), device=image.device), value
    )


def scaled_back(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """Multiply by a power of two, in steps that are each within the range of the type."""
    while exponent:
        step = max(-MOST_DOUBLINGS, min(exponent, MOST_DOUBLINGS))
        values = values * 2.0**step
        exponent -= step
    return values


def stored(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert to the output's type; integers are rounded half to even and saturated."""
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
    # float64 cannot represent the largest 64-bit integers: saturate values beyond them explicitly.
    above, below = rounded >= float(high), rounded < float(low)
    whole = torch.where(above | below, 0.0, rounded).to(dtype)
    return whole.masked_fill(above, high).masked_fill(below, low)


def own(values: torch.Tensor) -> torch.Tensor:
    """Return a result that is not shared as a tensor that owns its memory, with its gradient.

    A view of all of its memory is not copied: autograd has an operator that turns it into a tensor.
    """
    if type(values) is not torch.Tensor or torch._C._functorch.peek_interpreter_stack() is not None:
        return values  # inside a transform, which makes the resulting tensor itself
    uses_all = values.untyped_storage().nbytes() == values.numel() * values.element_size()
    if not uses_all:
        return values.clone(memory_format=torch.contiguous_format)
    result: torch.Tensor = values.contiguous()
    if result._is_view():
        result = torch.ops.aten._unsafe_view(result, result.shape)
    return result


@contextlib.contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Keep full precision: no autocast, no TF32, no transform that spreads a NaN."""
    name = device.type
    with contextlib.ExitStack() as stack:
        if torch.amp.is_autocast_available(name):
            stack.enter_context(torch.autocast(name, enabled=False))
        if name == "cuda":
            flags = torch.backends.cudnn.flags(enabled=False, allow_tf32=False)
            stack.enter_context(flags)
        yield
