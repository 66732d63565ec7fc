"""Resample tensors on their own device, with gradients: the gradient is the product with the transposed bands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from separable.borders import OUTSIDE
from separable.engine.tensor_memory import array_of, empty
from separable.errors import ArgumentTypeError, DTypeError, OutputError
from separable.masked import Missing, missing_of
from separable.resample.band_matrix import Band
from separable.resample.band_passes import pass_order, resampling_work, run_bands
from separable.resample.resampled_arrays import BandRequest
from separable.resample.resampled_arrays import run_request as run_on_array
from separable.tensors.ops import own, stored, torch_dtype, untraced

__all__ = ["run_request"]

Bands = dict[int, Band]


@untraced
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
    if image.layout != torch.strided or image.is_quantized:
        raise DTypeError(
            f"a tensor must be dense and unquantized; got {image.dtype}, {image.layout}"
        )
    dtype, into = _output(output, image, request)
    # Step 2: resample values of a working type; labels are counted by the engine for arrays.
    differentiable = image.dtype.is_floating_point or image.dtype.is_complex
    values = image if differentiable else image.detach()
    if request.votes:
        result = _labels(image, request)
    else:
        missing = _missing_of(image, request, dtype)
        if values.is_complex():
            inner = replace(request, cval=0.0)  # a real constant outside has no imaginary part
            parts = [
                _plain_or_valid(values.real, request, missing, _fills(missing)[0]),
                _plain_or_valid(values.imag, inner, missing, _fills(missing)[1]),
            ]
            found = torch.complex(*parts)
        else:
            found = _plain_or_valid(values, request, missing, _fills(missing)[0])
        result = own(stored(found, dtype))
    # Step 3: write the result into `output`.
    if into is None:
        return result
    if result.requires_grad:
        raise OutputError("`output` must be a type where a gradient is asked for; got a tensor")
    return into.copy_(result)


def _labels(image: torch.Tensor, request: BandRequest) -> torch.Tensor:
    """Return the label that covers most of each output."""
    found = run_on_array(array_of(image.detach().cpu()), request, None)
    return own(torch.from_numpy(np.ascontiguousarray(found)).to(image.device))


def _missing_of(image: torch.Tensor, request: BandRequest, dtype: torch.dtype) -> Missing | None:
    """Return the missing samples of a tensor, or None if none is missing."""
    options = request.missing
    if options.are_default:
        return None
    if isinstance(options.mask, torch.Tensor):
        options = options._replace(mask=options.mask.numpy(force=True))
    plain = image.detach().cpu().resolve_conj().resolve_neg()
    values = array_of(plain.float() if plain.dtype == torch.bfloat16 else plain)
    out = array_of(torch.empty(0, dtype=torch.float32 if dtype == torch.bfloat16 else dtype)).dtype
    return missing_of(values, values, tuple(request.bands), options, out, request.cval)


def _fills(missing: Missing | None) -> tuple[float, float]:
    """Return the real and imaginary part of the fill."""
    fill = 0.0 if missing is None else missing.fill
    return float(np.real(fill)), float(np.imag(fill))


def _plain_or_valid(
    values: torch.Tensor, request: BandRequest, missing: Missing | None, filling: float
) -> torch.Tensor:
    """Return weighted sums; a missing sample counts as the mean of the valid ones, as in `valid_values`."""
    if missing is None:
        return _resampled(values, request)
    # k (m x) + mean (k (1 - m)) with mean = |k| (m x) / |k| m: the mask is constant, so this is linear in x.
    valid = np.broadcast_to(missing.valid, tuple(values.shape))
    here = torch.as_tensor(valid.copy(), device=values.device)
    known = torch.where(here, values, torch.zeros((), dtype=values.dtype, device=values.device))
    outside = float(missing.outside)
    inner = replace(request, cval=request.cval if missing.outside else 0.0)
    signed = any((band.weights < 0).any() for band in request.bands.values())
    positive = {a: b.absolute() for a, b in request.bands.items()} if signed else request.bands

    def of_mask(mask: Any, bands: Bands, constant: float) -> torch.Tensor:
        found = np.empty(request.result_shape(mask.shape))
        run_bands(mask.astype(np.float64), bands, found, cval=constant)
        return torch.from_numpy(found).to(values.device)

    weight = of_mask(valid, positive, outside)
    nothing = weight <= 0
    mean = _resampled(known, replace(inner, bands=positive))
    mean = mean / torch.where(nothing, torch.ones_like(weight), weight).to(mean.dtype)
    if signed:
        share = of_mask(~valid, request.bands, 1.0 - outside)
        mean = _resampled(known, inner) + mean * share.to(mean.dtype)
    fill = torch.as_tensor(filling, dtype=mean.dtype, device=mean.device)
    return torch.where(nothing, fill, mean)


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
