"""`filter_with` for PyTorch tensors: checks, and the choice between the engine and PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from separable.arrays import ImageShape
from separable.borders import Modes
from separable.errors import ArgumentError, ArgumentTypeError, DTypeError, OutputError
from separable.factorize import as_kernel
from separable.factors import Factors
from separable.filtering import cached_plan
from separable.gpu.kernel_support import is_interpreting
from separable.gpu.tuned_tiles import device_of
from separable.masked import MissingOptions, PlannedRun, filter_missing
from separable.plan import Plan, plan
from separable.plan.plan_request import request
from separable.request import kernel_axes
from separable.request.filter_parameter_docs import documented
from separable.tensors.device.device_choice import best_candidate, device_candidates, plan_method
from separable.tensors.engine_on_tensors import Filter, Linear
from separable.tensors.ops import (
    dense,
    exactly,
    own,
    stored,
    torch_dtype,
    untraced,
)
from separable.tensors.valid_tensors import ValidRuns, filter_valid_tensor

__all__ = ["array_kernel", "check_tensor", "filter_with", "numpy_dtype"]


@documented
@untraced
def filter_with(
    image: torch.Tensor,
    kernel: Any,
    output: Any = None,
    *,
    progress: Callable[[float], None] | None = None,
    axes: int | Sequence[int] | None = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    tol: float | None = None,
    method: str = "auto",
    operation: str = "convolve",
    threads: int | None = None,
    **missing: Any,
) -> torch.Tensor:
    """Filter a tensor on its own device, for `sep.convolve` and `sep.correlate`.

    The engine of arrays filters a CPU tensor, without a copy, and its gradients. On a CUDA device one Triton
    kernel runs all passes where it can, and elsewhere the passes are PyTorch convolutions, in the separated
    form with the fewest multiplications. ``method="triton"`` and ``method="torch"`` ask for one of the two.

    Parameters
    ----------
    image : torch.Tensor
        Image of any number of axes: bool, integers, floating point or complex.
    kernel : array_like, Factors or torch.Tensor
        Kernel with one axis for each filtered one. A tensor that requires a gradient runs as a dense
        PyTorch convolution of at most three axes.
    output : torch.dtype, dtype or torch.Tensor, optional
        Type of the result, or the tensor to write it into.
    progress : callable, optional
        Function that is called with the fraction of the work just done.
    axes : int or sequence of int, optional
        Axes to filter. Default is the last ones, so that batch axes may be in front.
    %(mode)s
    %(cval)s
    %(origin)s
    %(tol)s
    %(method)s
    %(operation)s
    %(threads)s
    **missing
        `mask`, `nan`, `nodata` and `fill`, as for arrays, also with gradients of the image.

    Returns
    -------
    torch.Tensor
        A tensor of the image's shape, device and, unless `output` says otherwise, type. float16 and
        bfloat16 are summed in float32. Integers are rounded half to even and saturated, once, and
        have no gradient.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> import torch, separable as sep
    >>> batch = torch.zeros(2, 3, 8, 8, requires_grad=True)
    >>> smooth = sep.convolve(batch, sep.kernels.gaussian(1))
    >>> smooth.shape, smooth.requires_grad
    (torch.Size([2, 3, 8, 8]), True)
    """
    # Step 1: check the arguments.
    check_tensor(image)
    weights = kernel if isinstance(kernel, torch.Tensor) and kernel.requires_grad else None
    array = array_kernel(kernel)
    filtered = kernel_axes(axes, image.ndim, len(array.shape), last=True)
    dtype, into = _output(output, image)
    options = {
        "mode": mode, "cval": cval, "origin": origin, "tol": tol, "method": method,
        "operation": operation, "threads": threads,
    }  # fmt: skip

    # Step 2: filter on the tensor's device; missing samples by the engine of arrays.
    if missing.keys() - {"fill"} and weights is not None:
        raise ArgumentError(
            "a kernel with gradients takes no missing samples: the sum of its weights would change with it. "
            "Detach it, or divide two filters: convolve(image.where(valid, 0), kernel) / "
            "convolve(valid.float(), kernel)"
        )
    if missing.keys() - {"fill"}:
        plain = image.device.type == "cpu" and not image.requires_grad
        how = _by_arrays if plain else _by_parts
        result = how(image, array, filtered, dtype, {**options, **missing}, progress)
    elif weights is None and image.device.type == "cpu" and not is_interpreting():
        result = _by_engine(image, array, filtered, dtype, options, progress)
    else:
        result = _by_torch(image, array, weights, filtered, dtype, options)
        if progress is not None:
            progress(1.0)

    # Step 3: write the result into `output`.
    if into is None:
        return result
    if result.requires_grad:
        raise OutputError("`output` must be a type where a gradient is asked for; got a tensor")
    return into.copy_(result)


def _by_engine(
    image: torch.Tensor,
    kernel: Any,
    axes: tuple[int, ...],
    dtype: torch.dtype | None,
    options: dict[str, Any],
    progress: Any,
) -> torch.Tensor:
    """Filter a CPU tensor."""
    asked = {k: v for k, v in options.items() if k != "method"}
    out = None if dtype is None else numpy_dtype(dtype)
    p = request(
        kernel, image.shape, numpy_dtype(image.dtype), axes=axes, output=out, **asked
    ).problem
    others = {k: v for k, v in options.items() if k != "mode"}
    ends = tuple(a - image.ndim for a in p.axes)
    tensor_filter = Filter(kernel, ends, p.widths, p.modes, others, progress)
    differentiable = image.dtype.is_floating_point or image.dtype.is_complex
    if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
        differentiable = False
    if not differentiable:
        return tensor_filter.run(image.detach(), None if dtype is None else p.out)
    if dtype is not None:
        wide = torch.promote_types(image.dtype, dtype)
        image = image.to(wide) if not wide.is_complex or image.is_complex() else image
    result: torch.Tensor = Linear.apply(image, tensor_filter, False, False)  # type: ignore[no-untyped-call]
    return result if dtype is None else own(stored(result, dtype))


def _by_torch(
    image: torch.Tensor,
    kernel: Any,
    weights: torch.Tensor | None,
    axes: tuple[int, ...],
    dtype: torch.dtype | None,
    options: dict[str, Any],
) -> torch.Tensor:
    """Filter a tensor by PyTorch operations."""
    planned = _plan(image, kernel, axes, dtype, options)
    p = planned.problem
    if dtype is None:
        dtype = image.dtype
        if p.out.kind == "c" and not dtype.is_complex:
            dtype = torch_dtype(p.out)
    if weights is None:
        asked = options["method"]
        found = device_candidates(planned, image, dtype, asked)
        best = best_candidate(found, image, device_of(image.device), asked)
        result = best.method.run(image, best.work)[0]
        return own(result) if result.is_contiguous() else result
    work = torch_dtype(p.work)
    with exactly(image.device):
        flip = planned.request.operation == "convolve"
        taps = weights.flip(tuple(range(weights.ndim))) if flip else weights
        return own(stored(dense(image.to(work), taps.to(image.device, work), p), dtype))


def _plan(
    image: torch.Tensor,
    kernel: Any,
    axes: tuple[int, ...],
    dtype: torch.dtype | None,
    options: dict[str, Any],
) -> Plan:
    """Return the plan of the same filter for arrays, from the cache if an earlier call had the same arguments."""
    shape: Any = ImageShape(tuple(image.shape), numpy_dtype(image.dtype))
    out = None if dtype is None else numpy_dtype(dtype)
    own = {**options, "axes": axes, "method": plan_method(options["method"])}
    return cached_plan(shape, kernel, out, own)


def array_kernel(kernel: Any) -> Any:
    """Return the kernel as Factors or an array."""
    if isinstance(kernel, Factors):
        return kernel
    if isinstance(kernel, torch.Tensor):
        kernel = kernel.detach().cpu().resolve_conj().resolve_neg()
        kernel = (kernel.float() if kernel.dtype == torch.bfloat16 else kernel).numpy()
    return as_kernel(kernel)


def check_tensor(image: torch.Tensor) -> None:
    """Refuse a tensor that is sparse, quantized or nested, or of a type that filters do not take.

    Raises
    ------
    DTypeError
    """
    if image.layout != torch.strided or image.is_quantized or image.is_nested:
        raise DTypeError(
            f"a tensor must be dense and unquantized to be filtered; got {image.dtype}, "
            f"{image.layout}. Convert it, for instance with image.to_dense()"
        )
    numpy_dtype(image.dtype)


def _by_parts(
    image: torch.Tensor,
    kernel: Any,
    axes: tuple[int, ...],
    dtype: torch.dtype | None,
    options: dict[str, Any],
    progress: Any,
) -> torch.Tensor:
    """Filter a tensor with missing samples by linear filters, on its device and with gradients."""
    missing = {k: options.pop(k) for k in tuple(options) if k in MissingOptions._fields}

    def linear(values: torch.Tensor, own: Any, cval: Any) -> torch.Tensor:
        asked = {**options, "cval": cval}
        if values.device.type == "cpu":
            return _by_engine(values, own, axes, None, asked, None)
        return _by_torch(values, own, None, axes, None, asked)

    def weigh(valid: Any, weights: Any, real: Any, outside: bool) -> Any:
        asked = {k: v for k, v in options.items() if k not in ("tol", "method", "cval")}
        asked["axes"] = axes
        made = plan(weights.sizes, valid.shape, np.uint8, output=real, cval=float(outside), **asked)
        return PlannedRun.of(made, asked).weigh(valid, weights, real, outside)

    kind = image.dtype if dtype is None else dtype
    runs = ValidRuns(linear, weigh)
    return filter_valid_tensor(image, kernel, axes, kind, options["cval"], missing, runs)


def _by_arrays(
    image: torch.Tensor,
    kernel: Any,
    axes: tuple[int, ...],
    dtype: torch.dtype | None,
    options: dict[str, Any],
    progress: Any,
) -> torch.Tensor:
    """Filter a CPU tensor with missing samples as an array."""
    kind = numpy_dtype(image.dtype)
    values = (image.float() if image.dtype == torch.bfloat16 else image).detach().numpy()
    mask = options.get("mask")
    if isinstance(mask, torch.Tensor):
        options = {**options, "mask": mask.numpy(force=True)}
    out = kind if dtype is None else numpy_dtype(dtype)
    found = filter_missing(values, kernel, out, axes=axes, progress=progress, **options)
    return own(torch.from_numpy(np.ascontiguousarray(found)).to(dtype or image.dtype))


def numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Return the NumPy type of a tensor's type; float32 for bfloat16."""
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        return np.dtype(np.float32)
    try:
        found = np.dtype(name)
    except TypeError:
        found = None
    if found is None or found.isbuiltin != 1:  # a type that another package has registered
        raise DTypeError(
            f"a tensor must be bool, an integer, float16 .. float64, bfloat16 or complex; got "
            f"{dtype}. Convert it, for instance with image.float()"
        )
    return found


def _output(output: Any, image: torch.Tensor) -> tuple[torch.dtype | None, torch.Tensor | None]:
    """Return the type of the result and the tensor to write it into, if they are given."""
    if output is None or isinstance(output, torch.dtype):
        return output, None
    if isinstance(output, torch.Tensor):
        if output.shape != image.shape or output.device != image.device:
            raise OutputError(
                f"`output` must have shape {tuple(image.shape)} on {image.device}; got "
                f"{tuple(output.shape)} on {output.device}"
            )
        return output.dtype, output
    try:
        return torch_dtype(output), None
    except (TypeError, AttributeError):
        raise ArgumentTypeError(
            f"`output` must be a torch.dtype or a tensor; got {output!r}"
        ) from None
