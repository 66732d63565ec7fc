"""Depthwise and pointwise steps whose channels have different numbers of terms, made even with zeros."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separable.lowering.step import Step

__all__ = ["channel_of_each_term", "make_even"]

MOST_ADDED = 1.5
"""Largest ratio of even to uneven numbers of terms for which zeros are added: up to there gathered channels took 1.06
to 7 times as long (3x3, 64 to 256 channels at 14^2 to 56^2)."""


def channel_of_each_term(first: Step, second: Step, channels: int) -> NDArray[np.intp] | None:
    """Return the channel of each term of a depthwise step that gathers its channels, for an input of `channels`.

    The pointwise step `second` reads the terms. Return None for other steps, and where the channels differ so much
    that zeros would cost more than they save.

    Examples
    --------
    >>> from separable import nn
    >>> layer = nn.FactoredConv("ocyx -> oc,cyx", 3, 8, 3, rank=[1, 2, 2])
    >>> channel_of_each_term(*layer.steps, 3)
    array([0, 1, 1, 2, 2])
    """
    if first.gather is None or first.scatter is not None or first.shared > 1:
        return None
    zeros = first.padding_mode == "zeros" or all(p == (0, 0) for p in first.padding)
    one_each = first.groups == first.in_channels == first.out_channels
    if not zeros or not one_each or second.in_channels != first.out_channels:
        return None
    terms = np.array(first.gather)
    even = np.bincount(terms).max() * channels
    ordered = bool((np.diff(terms) >= 0).all())
    return terms if ordered and even <= MOST_ADDED * terms.size else None


def make_even(
    step: Step,
    tensors: tuple[Tensor, Tensor | None, Tensor],
    terms: NDArray[np.intp],
    channels: int,
) -> tuple[Step, tuple[Tensor, Tensor | None, Tensor]]:
    """Return a depthwise step that reads each channel once, and its weights, biases and the pointwise weights.

    Each channel gets as many terms as the largest number; the added ones have the weight 0.
    """
    weight, bias, pointwise = tensors
    counts = np.bincount(terms, minlength=channels)
    multiplier = int(counts.max())
    order = np.arange(terms.size) - (np.cumsum(counts) - counts)[terms]  # 0, 1, ... per channel
    places = torch.from_numpy(terms * multiplier + order).to(weight.device)
    even = channels * multiplier
    made = weight.new_zeros(even, *weight.shape[1:]).index_copy(0, places, weight)
    across = pointwise.new_zeros(pointwise.shape[0], even, *pointwise.shape[2:])
    across = across.index_copy(1, places, pointwise)
    if bias is not None:
        bias = bias.new_zeros(even).index_copy(0, places, bias)
    step = replace(
        step, in_channels=channels, out_channels=even, groups=channels, gather=None, outputs=even
    )
    return step, (made, bias, across)
