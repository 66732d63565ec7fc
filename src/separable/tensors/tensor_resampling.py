"""Resample tensors on their own device, with gradients: the gradient is the product with the transposed bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from separable.borders import OUTSIDE
from separable.engine.tensor_memory import array_of, empty
from separable.errors import ArgumentError, ArgumentTypeError, DTypeError, OutputError
from separable.masked import MissingOptions
from separable.resample.band_matrix import Band
from separable.resample.band_passes import pass_order, resampling_work, run_bands
from separable.resample.resampled_arrays import BandRequest
from separable.tensors.ops import own, stored, torch_dtype

__all__ = ["run_request"]

Bands = dict[int, Band]


@torch.compiler.disable  # type: ignore[untyped-decorator,unused-ignore]
def run_request(image: torch.Tensor, request: BandRequest, output: Any) -> torch.Tensor:
    """Multiply a tensor by the bands of a request, on its device.

    Bands run as compiled passes in main memory, and as sums of selected samples on other devices.

    Examples
    --------
    >>> from separable.resample import resize
    >>> x = torch.tensor([0.0, 4.0], requires_grad=True)
    >>> resize(x, 4).sum().backward()
    >>> x.grad
    tensor([2., 2.])
    """
    # Step 1: check the arguments.
    if request.missing != MissingOptions() and not request.missing.are_default:
        raise ArgumentError(
            "a tensor takes neither `mask` nor `nan` nor `nodata`. Divide two results, "
            "resize(image.where(valid, 0)) / resize(valid.float()), or resample the array: "
            "image.numpy(force=True)"
        )
    if request.votes:
        raise ArgumentError(
            'interpolation="majority" takes arrays; give tensor.numpy(), or interpolation="nearest"'
        )
    if image.layout != torch.strided or image.is_quantized:
        raise DTypeError(
            f"a tensor must be dense and unquantized; got {image.dtype}, {image.layout}"
        )
    dtype, into = _output(output, image, request)
    # Step 2: resample values of a working type.
    differentiable = image.dtype.is_floating_point or image.dtype.is_complex
    values = image if differentiable else image.detach()
    if values.is_complex():
        parts = torch.view_as_real(values)
        found = torch.view_as_complex(_resampled(parts, request).contiguous())
    else:
        found = _resampled(values, request)
    result = own(stored(found, dtype))
    # Step 3: write the result into `output`.
    if into is None:
        return result
    if result.requires_grad:
        raise OutputError("`output` must be a type where a gradient is asked for; got a tensor")
    return into.copy_(result)


def _resampled(values: torch.Tensor, request: BandRequest) -> torch.Tensor:
    cval: Any = request.cval
    if isinstance(cval, complex):
        raise ArgumentTypeError(f"`cval` must be a real number for a tensor; got {cval!r}")
    double = values.dtype == torch.float64 or values.dtype in (torch.int32, torch.int64)
    wide = values.to(torch.float64 if double else torch.float32)
    if wide.device.type != "cpu":
        return _selected(wide, request.bands, float(cval))
    found: torch.Tensor = _Bands.apply(wide, request.bands, float(cval), False)  # type: ignore[no-untyped-call]
    return found


class _Bands(torch.autograd.Function):
    """Autograd function of the product with bands, or with their transposes."""

    @staticmethod
    def forward(values: torch.Tensor, bands: Bands, cval: float, adjoint: bool) -> torch.Tensor:
        """Multiply by the bands."""
        return _transposed(values, bands) if adjoint else _forward(values, bands, cval)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Store the bands; no tensor is kept."""
        _, ctx.bands, _, ctx.adjoint = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradient of the image."""
        (gradient,) = gradients
        back = _Bands.apply(gradient, ctx.bands, 0.0, not ctx.adjoint)  # type: ignore[no-untyped-call]
        return back, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Return the tangent of the result."""
        return _Bands.apply(tangents[0], ctx.bands, 0.0, ctx.adjoint)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, values: torch.Tensor, bands: Bands, cval: float, adjoint: bool
    ) -> tuple[torch.Tensor, int]:
        """Run it for a batch, which is one more axis in front."""
        moved = {axis + 1: band for axis, band in bands.items()}
        batch = values.movedim(in_dims[0], 0)
        return _Bands.apply(batch, moved, cval, adjoint), 0  # type: ignore[no-untyped-call]


def _forward(values: torch.Tensor, bands: Bands, cval: float) -> torch.Tensor:
    array = array_of(values.detach())
    shape = [bands[a].size if a in bands else n for a, n in enumerate(array.shape)]
    result = empty(shape, values.dtype)
    run_bands(array, bands, array_of(result), cval=cval)
    return result


def _transposed(gradient: torch.Tensor, bands: Bands) -> torch.Tensor:
    """Return the product with the transposed bands, in the reverse order of the passes."""
    array = array_of(gradient.detach())
    work = resampling_work(array.dtype, array.dtype)
    for axis in reversed(pass_order(bands)):
        moved = np.moveaxis(array, axis, 0)
        flat = np.ascontiguousarray(moved).reshape(len(moved), -1)
        found = (bands[axis].adjoint().astype(work) @ flat).reshape(-1, *moved.shape[1:])
        array = np.moveaxis(found, 0, axis)
    result = empty(array.shape, gradient.dtype)
    return result.copy_(torch.from_numpy(np.ascontiguousarray(array)))


def _selected(values: torch.Tensor, bands: Bands, cval: float) -> torch.Tensor:
    """Return the product with the bands by operations of PyTorch, which autograd differentiates."""
    for axis in pass_order(bands):
        band = bands[axis]
        places = band.gathered
        shape = [1] * values.ndim
        shape[axis] = band.size
        total: Any = 0.0
        for j in range(band.taps):
            inside = places[:, j] != OUTSIDE
            index = torch.as_tensor(np.where(inside, places[:, j], 0), device=values.device)
            weights = np.where(inside, band.weights[:, j], 0.0)
            factor = torch.as_tensor(weights, device=values.device).to(values.dtype)
            total = total + values.index_select(axis, index) * factor.reshape(shape)
        if band.weight_outside.any():
            constant = torch.as_tensor(band.weight_outside * cval, device=values.device)
            total = total + constant.to(values.dtype).reshape(shape)
        values = total
    return values


def _output(
    output: Any, image: torch.Tensor, request: BandRequest
) -> tuple[torch.dtype, torch.Tensor | None]:
    """Return the type of the result, and the tensor to write it into, if it is given."""
    if output is None:
        return image.dtype, None
    if isinstance(output, torch.dtype):
        return output, None
    if isinstance(output, torch.Tensor):
        shape = request.result_shape(tuple(image.shape))
        if tuple(output.shape) != shape or output.device != image.device:
            raise OutputError(
                f"`output` must have shape {shape} on {image.device}; got {tuple(output.shape)} on "
                f"{output.device}"
            )
        return output.dtype, output
    try:
        return torch_dtype(output), None
    except (TypeError, AttributeError):
        raise ArgumentTypeError(
            f"`output` must be a torch.dtype or a tensor; got {output!r}"
        ) from None
