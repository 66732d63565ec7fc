"""Features of tensors, computed as those of arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from separable.engine.tensor_memory import array_of
from separable.features.feature_base import Feature
from separable.features.feature_run import FeatureOptions, compute
from separable.features.tensor_gradients import compute_with_gradients
from separable.tensors.ops import own
from separable.tensors.tensor_filter import check_tensor

__all__ = ["compute_of_tensor"]


def compute_of_tensor(feature: Feature, image: torch.Tensor, options: FeatureOptions) -> Any:
    """Return the results of a feature of a tensor; parameters are those of `feature_run.compute`.

    A tensor of another device is computed in main memory, and the result is copied back. Where a gradient is
    needed, operations of PyTorch compute the feature on the tensor's device.

    Returns
    -------
    torch.Tensor, shape (results, *image.shape)

    Examples
    --------
    >>> from separable.features.feature_values import GradientMagnitude
    >>> compute_of_tensor(GradientMagnitude(1.0), torch.ones(9, 9), FeatureOptions()).shape
    torch.Size([1, 9, 9])
    """
    check_tensor(image)
    if image.requires_grad and torch.is_grad_enabled():
        return compute_with_gradients(feature, image, options)
    plain = image.detach().cpu().resolve_conj().resolve_neg()
    values = array_of(plain.float() if plain.dtype == torch.bfloat16 else plain)
    missing = dict(options.missing or {})
    if isinstance(missing.get("mask"), torch.Tensor):
        missing["mask"] = missing["mask"].numpy(force=True)
    found = compute(feature, values, replace(options, missing=missing or None))
    return own(torch.from_numpy(np.ascontiguousarray(found)).to(image.device))
