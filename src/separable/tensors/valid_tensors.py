"""Missing samples of tensors with gradients or on other devices: normalised convolution by linear filters.

The mask does not depend on the samples, so ``k * (m x) + (|k| * (m x)) / (|k| * m) * (k * (1 - m))`` is linear in them:
each part is a filter that has a gradient. `separable.masked` has the definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from separable.masked import (
    Weights,
    check_fill,
    check_nan,
    check_nodata,
    fill_for,
    mask_of,
    nodata_values,
)
from separable.request import mask_shape
from separable.tensors.ops import own, stored

__all__ = ["ValidRuns", "filter_valid_tensor"]


@dataclass(frozen=True)
class ValidRuns:
    """Filters of the samples and of the mask.

    Attributes
    ----------
    linear : callable
        ``linear(image, kernel, cval)`` filters a tensor of the type of the arithmetic, with gradients.
    weigh : callable
        ``weigh(valid, weights, dtype, outside)`` filters an array of bool with the absolute weights, as
        `separable.masked.Run.weigh`.
    """

    linear: Callable[..., torch.Tensor]
    weigh: Callable[..., Any]


def filter_valid_tensor(
    image: torch.Tensor,
    kernel: Any,
    axes: tuple[int, ...],
    dtype: torch.dtype,
    cval: Any,
    missing: dict[str, Any],
    runs: ValidRuns,
) -> torch.Tensor:
    """Filter the valid samples of a tensor on its device, with gradients.

    Parameters
    ----------
    image : torch.Tensor
    kernel : ndarray or Factors
    axes : tuple of int
        Filtered axes.
    dtype : torch.dtype
        Type of the result.
    cval : number
        Value outside the image.
    missing : dict
        The options `mask`, `nan`, `fill` and `nodata` that were given.
    runs : ValidRuns

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the mask does not fit, or the type of the result cannot hold the fill.
    """
    # Step 1: the valid samples.
    kind = np.dtype(str(image.dtype).removeprefix("torch.").replace("bfloat16", "float32"))
    out = np.dtype(str(dtype).removeprefix("torch.").replace("bfloat16", "float32"))
    values = check_nodata(nodata_values(missing.get("nodata", "auto")), kind)
    ignoring = check_nan(missing.get("nan", "propagate")) == "ignore" or any(v != v for v in values)
    fill = check_fill(fill_for(missing.get("fill", float("nan")), values), out)
    valid = _valid(image, axes, missing.get("mask"), values, ignoring)
    outside = not (ignoring and bool(np.isnan(cval)))
    # Step 2: filters of the samples and of the mask.
    weights = Weights.of(kernel)
    wide = torch.promote_types(image.dtype, torch.float32)
    clean = torch.where(valid, image, torch.zeros((), dtype=image.dtype, device=image.device))
    clean = clean.to(wide)
    constant = cval if outside else 0.0
    found = runs.linear(clean, weights.kernel, constant)
    if weights.total:
        real = np.dtype(str(found.real.dtype).removeprefix("torch."))
        mask_array = np.ascontiguousarray(valid.numpy(force=True))
        heavy = runs.weigh(mask_array, weights, real, outside)
        weight = torch.from_numpy(np.ascontiguousarray(heavy)).to(image.device)
        nothing = weight < weights.half
        safe = torch.where(nothing, torch.ones_like(weight), weight)
        if weights.signed:
            mean = runs.linear(clean, weights.sizes, constant) / safe
            absent = (~valid).to(clean.real.dtype)
            found = found + mean * runs.linear(absent, weights.kernel, float(not outside))
        else:
            found = found * (weights.total / safe)
        found = torch.where(
            nothing, torch.as_tensor(fill, device=found.device).to(found.dtype), found
        )
    return own(stored(found, dtype))


def _valid(
    image: torch.Tensor, axes: tuple[int, ...], mask: Any, values: Any, ignoring: bool
) -> torch.Tensor:
    """Return where samples are valid, with the shape of the image."""
    valid = torch.ones(image.shape, dtype=torch.bool, device=image.device)
    if mask is not None:
        given = mask.numpy(force=True) if isinstance(mask, torch.Tensor) else mask_of(mask)
        known = (given != 0) & (given == given)
        shape = mask_shape(known.shape, tuple(image.shape), axes)
        valid = valid & torch.as_tensor(known.reshape(shape).copy(), device=image.device)
    if ignoring and (image.is_floating_point() or image.is_complex()):
        valid = valid & ~torch.isnan(image.detach())
    for value in values:
        if value == value:
            valid = valid & (image.detach() != value)
    return valid
