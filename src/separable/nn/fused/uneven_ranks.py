"""Layers of two steps whose channels have different numbers of terms: made even with zeros, or multiplied out.

Kernels read each channel once. A depthwise step that reads some channels more often than others would need a copy of its
input, and one that adds different numbers of terms a copy of its output. Such steps are PyTorch's, and a program ends there.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from separable.lowering.step import Step
from separable.nn.step_modules import step_module

__all__ = ["channel_of_each_term", "dense_product", "is_worth_zeros", "make_even"]

MOST_ADDED = 3.0
"""Largest ratio of even to uneven numbers of terms for which zeros are added: up to there gathered channels took 1.02
to 7 times as long (3x3, 24 to 256 channels at 14^2 to 56^2)."""
FEW_ADDED = 1.5
"""Ratio up to which zeros are added without a look at the dense product."""
MOST_MULTIPLIED = 6.0
"""Largest ratio of the multiplications of the dense product to those of the steps for which it runs instead: up to there
gathered channels took 1.4 to 2.2 times as long (3x3, 24 to 128 channels at 14^2 to 28^2)."""


def channel_of_each_term(first: Step, second: Step) -> NDArray[np.intp] | None:
    """Return the channel of each term of a depthwise step that gathers its channels, or None for other steps.

    The pointwise step `second` reads the terms.

    Examples
    --------
    >>> from separable import nn
    >>> layer = nn.FactoredConv("ocyx -> oc,cyx", 3, 8, 3, rank=[1, 2, 2])
    >>> channel_of_each_term(*layer.steps)
    array([0, 1, 1, 2, 2])
    """
    if first.gather is None or first.scatter is not None or first.shared > 1:
        return None
    one_each = first.groups == first.in_channels == first.out_channels
    if not _pads_zeros(first) or not one_each or second.in_channels != first.out_channels:
        return None
    terms = np.array(first.gather)
    return terms if bool((np.diff(terms) >= 0).all()) else None


def is_worth_zeros(terms: NDArray[np.intp], channels: int) -> bool:
    """Return True if making the terms even with zeros is faster than gathering `channels` channels.

    Examples
    --------
    >>> is_worth_zeros(np.array([0, 1, 1, 2, 2]), 3), is_worth_zeros(np.array([0, 0, 0, 0, 0, 1, 2, 3]), 8)
    (True, False)
    """
    return bool(_added(terms, channels) <= MOST_ADDED)


def _added(terms: NDArray[np.intp], channels: int) -> float:
    return float(np.bincount(terms).max() * channels / terms.size)


def _pads_zeros(step: Step) -> bool:
    return step.padding_mode == "zeros" or all(p == (0, 0) for p in step.padding)


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


def dense_product(
    first: Step,
    second: Step,
    weights: tuple[Tensor, Tensor],
    channels: int,
) -> tuple[nn.Module, Step] | None:
    """Return the dense convolution, without bias, that a depthwise and a pointwise step multiply out to, and its step.

    There may be nothing between the steps. The result is None for steps that kernels run as they are or with a few zeros, and
    where the dense convolution is not expected to be faster than what PyTorch runs.

    Parameters
    ----------
    first, second : Step
        A depthwise step and a pointwise one, or a pointwise step and a depthwise one that adds up its terms.
    weights : tuple of two Tensor
    channels : int
        Channels of the input.

    Examples
    --------
    >>> from separable import nn
    >>> layer = nn.FactoredConv("ocyx -> oc,oyx", 4, 3, 3, rank=[1, 2, 2])
    >>> weights = tuple(layer.get_submodule(n).weight for n in layer.step_names)
    >>> dense_product(*layer.steps, weights, 4)[0]
    Conv2d(4, 3, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    terms = channel_of_each_term(first, second)
    if terms is not None and _added(terms, channels) <= FEW_ADDED:
        return None
    window, targets = first, None
    if terms is None:
        window, targets = second, _output_of_each_term(first, second)
        if targets is None:
            return None
    outputs, taps = second.outputs, math.prod(window.kernel_size)
    if taps * outputs * channels > MOST_MULTIPLIED * (
        first.multiplications + second.multiplications
    ):
        return None
    # (terms, outputs) x (terms, channels, taps), or (terms, taps) x (terms, channels) summed per output.
    a, b = (w.double().flatten(1) for w in weights)
    dense = a.new_zeros(outputs, channels, taps)
    if terms is not None:
        products = b.t()[:, :, None] * a[:, None]  # (terms, outputs, taps)
        place = torch.from_numpy(terms).to(a.device)
        dense = dense.transpose(0, 1).contiguous().index_add(0, place, products).transpose(0, 1)
    else:
        place = torch.from_numpy(np.asarray(targets)).to(a.device)
        dense = dense.index_add(0, place, a[:, :, None] * b.reshape(len(a), 1, taps))
    step = replace(
        window, in_channels=channels, out_channels=outputs, groups=1, gather=None, scatter=None,
        outputs=outputs, bias=False,
    )  # fmt: skip
    module = step_module(step, draw=False)
    shape = (outputs, channels, *window.kernel_size)
    weight = dense.reshape(shape).to(weights[0].dtype).contiguous()
    module._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
    return module, step


def _output_of_each_term(first: Step, second: Step) -> NDArray[np.intp] | None:
    """Return the output that each channel between a pointwise step and a depthwise one is added to, or None.

    The result is None as well if each output has one term, as in steps that kernels run.
    """
    ones = all(k == 1 for k in first.kernel_size) and all(s == 1 for s in first.stride)
    if not (ones and first.groups == 1 and first.plain) or second.transposed or second.shared > 1:
        return None
    if second.gather is not None or not _pads_zeros(second):
        return None
    if first.out_channels != second.in_channels:
        return None
    if second.scatter is not None:
        one_each = second.groups == second.in_channels == second.out_channels
        return np.array(second.scatter) if one_each else None
    each = second.in_channels // second.groups
    if second.groups != second.out_channels or each == 1 or second.groups == 1:
        return None
    return np.repeat(np.arange(second.groups), each)
