"""Outputs of a region of a tensor, at every n-th place: by the engine for arrays, with gradients by PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from separable.borders import OUTSIDE, Border, carried
from separable.engine import Decomposition
from separable.engine.base import Pass
from separable.engine.tensor_memory import array_of
from separable.errors import ArgumentError, OutputError
from separable.filtering import missing_options
from separable.plan import plan
from separable.request import kernel_axes
from separable.resample.output_regions import RegionAxis
from separable.resample.region_blocks import run_part
from separable.resample.region_plans import RegionPlan, plan_region
from separable.resample.valid_regions import RegionRun
from separable.tensors.ops import (
    MOST_AXES,
    exactly,
    own,
    scaled_back,
    stored,
    torch_dtype,
    untraced,
)
from separable.tensors.tensor_filter import array_kernel, check_tensor, numpy_dtype
from separable.tensors.valid_tensors import ValidRuns, filter_valid_tensor

__all__ = ["filter_region"]

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@untraced
def filter_region(
    image: torch.Tensor,
    kernel: Any,
    output: Any,
    *,
    output_region: Any = "same",
    stride: Any = 1,
    missing: Any = None,
    **options: Any,
) -> torch.Tensor:
    """Filter a tensor where a region and a stride say.

    A CPU tensor without gradients is filtered as an array. Otherwise the passes, or the dense kernel along at most
    three axes, are convolutions of PyTorch with strides.

    Raises
    ------
    ArgumentError
        If samples are missing and the kernel has a gradient.
    OutputError
        If `output` is a tensor of another shape or device.

    Examples
    --------
    >>> x = torch.arange(6.0, requires_grad=True)
    >>> y = filter_region(x, [1, 1, 1], None, output_region="valid", stride=2)
    >>> y.detach(), torch.autograd.grad(y.sum(), x)[0]
    (tensor([3., 9.]), tensor([1., 1., 2., 1., 1., 0.]))
    """
    # Step 1: check the arguments, and plan.
    check_tensor(image)
    weights = kernel if isinstance(kernel, torch.Tensor) and kernel.requires_grad else None
    array = array_kernel(kernel)
    axes = kernel_axes(options.pop("axes", None), image.ndim, len(array.shape), last=True)
    into = output if isinstance(output, torch.Tensor) else None
    dtype = _dtype(image, output)
    planned = plan_region(
        array, tuple(image.shape), numpy_dtype(image.dtype), output_region=output_region,
        stride=stride, axes=axes, output=numpy_dtype(dtype), **options,
    )  # fmt: skip
    # Step 2: filter.
    if image.device.type == "cpu" and not image.requires_grad and weights is None:
        result = _by_arrays(image, array, planned, missing, dtype)
    elif missing is not None:
        if weights is not None:
            raise ArgumentError(
                "a kernel with gradients takes no missing samples: the sum of its weights would change with "
                "it. Detach it"
            )
        result = _valid(image, array, planned, missing, dtype)
    else:
        result = _by_torch(image, weights, planned, dtype)
    # Step 3: write the result into `output`.
    if into is None:
        return result
    if result.requires_grad:
        raise OutputError("`output` must be a type where a gradient is asked for; got a tensor")
    if into.shape != result.shape or into.device != result.device:
        raise OutputError(
            f"`output` must have shape {tuple(result.shape)} on {result.device}; got "
            f"{tuple(into.shape)} on {into.device}"
        )
    return into.copy_(result)


def _dtype(image: torch.Tensor, output: Any) -> torch.dtype:
    if output is None:
        return image.dtype
    if isinstance(output, (torch.dtype, torch.Tensor)):
        return output if isinstance(output, torch.dtype) else output.dtype
    return torch_dtype(output)


def _by_arrays(
    image: torch.Tensor, kernel: Any, planned: RegionPlan, missing: Any, dtype: torch.dtype
) -> torch.Tensor:
    """Filter a CPU tensor as an array."""
    plain = image.detach().resolve_conj().resolve_neg()
    values = array_of(plain.float() if plain.dtype == torch.bfloat16 else plain)
    if missing is not None and isinstance(missing.mask, torch.Tensor):
        missing = missing._replace(mask=missing.mask.numpy(force=True))
    found = run_part(planned, values, None, kernel=kernel, missing=missing)
    return own(torch.from_numpy(np.ascontiguousarray(found)).to(dtype))


def _valid(
    image: torch.Tensor, kernel: Any, planned: RegionPlan, missing: Any, dtype: torch.dtype
) -> torch.Tensor:
    """Filter the valid samples, with gradients."""
    problem, request = planned.whole.problem, planned.whole.request
    outside = problem.cval if problem.fills else 0.0

    def linear(values: torch.Tensor, own_kernel: Any, cval: Any) -> torch.Tensor:
        kind = numpy_dtype(values.dtype)
        made = plan(
            own_kernel, problem.shape, kind, axes=problem.axes, mode=problem.modes, cval=cval,
            origin=request.origins, operation=request.operation,
        )  # fmt: skip
        return _by_torch(values, None, replace(planned, whole=made), torch_dtype(made.problem.out))

    runs = ValidRuns(linear, RegionRun(planned, planned.axes).weigh)
    given = missing_options(*missing)
    return filter_valid_tensor(image, kernel, problem.axes, dtype, outside, given, runs)


def _by_torch(
    image: torch.Tensor, weights: torch.Tensor | None, planned: RegionPlan, dtype: torch.dtype
) -> torch.Tensor:
    """Filter a tensor by convolutions that autograd differentiates."""
    problem = planned.whole.problem
    work = torch_dtype(problem.work)
    with exactly(image.device):
        values = image.to(work)
        if weights is not None:
            flips = planned.whole.request.operation == "convolve"
            taps = weights.flip(tuple(range(weights.ndim))) if flips else weights
            found = _dense(values, taps.to(image.device, work), planned)
        elif planned.form is None:
            kernel = torch.tensor(np.ascontiguousarray(planned.whole.request.weights.dense))
            found = _dense(values, kernel.to(image.device, work), planned)
        else:
            found = scaled_back(_by_passes(values, planned.form, planned), problem.exponent)
        return own(stored(found, dtype))


def _dense(image: torch.Tensor, kernel: torch.Tensor, planned: RegionPlan) -> torch.Tensor:
    problem = planned.whole.problem
    if kernel.ndim > MOST_AXES:
        raise ArgumentError(
            f"a tensor of this device or with gradients is filtered densely along at most {MOST_AXES} axes; "
            f"got {kernel.ndim}. Give Factors, or a kernel that separates"
        )
    return _along(image, kernel, planned.axes, problem.lefts, problem.modes, problem.cval)


def _by_passes(image: torch.Tensor, form: Decomposition, planned: RegionPlan) -> torch.Tensor:
    """Run the passes of a form, each with the stride of its axis."""
    problem = planned.whole.problem
    one = torch.ones(1, dtype=image.dtype, device=image.device)

    def rest(source: torch.Tensor, cval: complex, left: frozenset[int]) -> torch.Tensor:
        for k in sorted(left):  # axes without a pass have the outputs of the region, too
            own_axis = planned.axes[k]
            if own_axis.size != source.shape[own_axis.axis] or own_axis.stride > 1:
                source = _along(source, one, (own_axis,), (0,), (problem.modes[k],), cval)
        return source

    def walk(
        passes: Sequence[Pass], source: torch.Tensor, cval: complex, left: frozenset[int]
    ) -> torch.Tensor:
        total: Any = None
        for p in passes:
            k = p.axes[0]
            taps = torch.tensor(p.taps).to(source.device, source.dtype)
            out = _along(source, taps, (planned.axes[k],), p.lefts, (problem.modes[k],), cval)
            outside, others = carried(cval, p.taps), left - {k}
            out = walk(p.then, out, outside, others) if p.then else rest(out, outside, others)
            total = out if total is None else total + out
        return total  # type: ignore[no-any-return]

    every = frozenset(range(len(problem.axes)))
    return walk(form.roots, image, problem.cval, every)


def _along(
    image: torch.Tensor,
    taps: torch.Tensor,
    axes: Sequence[RegionAxis],
    lefts: Sequence[int],
    modes: Sequence[Border],
    cval: complex,
) -> torch.Tensor:
    """Correlate along some axes at the outputs of a region."""
    for one, left, border, size in zip(axes, lefts, modes, taps.shape, strict=True):
        start = one.first - left
        index = one.samples(border, start, start + (one.size - 1) * one.stride + size)
        image = _gathered(image, one.axis, index, cval)
    # (lines, 1, *filtered axes): the other axes are independent images.
    ends = tuple(range(image.ndim - len(axes), image.ndim))
    moved = image.movedim(tuple(one.axis for one in axes), ends)
    others = moved.shape[: image.ndim - len(axes)]
    lines = moved.reshape(-1, 1, *moved.shape[image.ndim - len(axes) :])
    steps = tuple(one.stride for one in axes)
    found = CONVOLUTIONS[len(axes)](lines, taps[None, None], stride=steps)
    wide = found.reshape(*others, *found.shape[2:])
    return wide.movedim(ends, tuple(one.axis for one in axes))


def _gathered(image: torch.Tensor, axis: int, index: Any, cval: complex) -> torch.Tensor:
    """Return the samples at positions of an axis; the constant where they lie outside."""
    if np.array_equal(index, np.arange(image.shape[axis])):
        return image
    outside = index == OUTSIDE
    at = torch.as_tensor(np.where(outside, 0, index), device=image.device)
    found = image.index_select(axis, at)
    if not outside.any():
        return found
    shape = [1] * image.ndim
    shape[axis] = len(index)
    place = torch.as_tensor(outside, device=image.device).reshape(shape)
    constant = torch.as_tensor(cval, device=image.device).to(image.dtype)
    return torch.where(place, constant, found)
