"""Layers of two steps as parallel chains of plain convolutions, without copies of channels.

A sum of R terms is R depthwise convolutions of one filter per channel, joined before a pointwise convolution or added up
after one. Runtimes such as onnxruntime keep activations in blocks of channels; a convolution with several filters or inputs
per group, and copies of channels, leave that layout. Where R is large or the channels do not fill a block, one
convolution with R filters or inputs per channel is faster. A channel with fewer terms than others gets filters of zeros.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from separable.lowering.step import SamePadding, Step
from separable.nn.dense_weights import as_array

__all__ = ["TermConv", "Terms", "run_terms", "terms_of"]

Array = NDArray[Any]
# Measured with onnxruntime 1.32 on an AMD EPYC with AVX-512, 1 to 256 channels, rank 1 to 9.
BLOCK = 16  # channels per block; layers of fewer channels gain nothing from depthwise form
MOST_JOINED, MOST_ADDED = 6, 16  # terms up to which separate convolutions are faster
_CONVOLVE: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@dataclass(frozen=True)
class TermConv:
    """One convolution of a term.

    Attributes
    ----------
    at : int
        Number of the layer's step that it is a part of.
    step : Step
        That step: its kernel, strides, dilation and padding.
    weight : ndarray, shape (out, in / groups, *kernel)
    bias : ndarray or None
    groups : int
    """

    at: int
    step: Step
    weight: Array
    bias: Array | None
    groups: int


@dataclass(frozen=True)
class Terms:
    """Layer as parallel chains of convolutions.

    Attributes
    ----------
    chains : sequence of sequence of TermConv
        Each chain reads the input of the layer.
    last : TermConv or None
        Convolution of all chains' outputs one after the other; None if they are added up.
    """

    chains: Sequence[Sequence[TermConv]]
    last: TermConv | None


def terms_of(layer: Any) -> Terms | None:
    """Return a `FactoredConv` of two steps as terms, or None if it is not a sum of such.

    Examples
    --------
    >>> from separable import nn
    >>> found = terms_of(nn.FactoredConv("ocyx -> oc,cyx", 16, 8, 3, rank=[1] * 15 + [2]))
    >>> [chain[0].weight.shape for chain in found.chains], found.last.weight.shape
    ([(16, 1, 3, 3), (16, 1, 3, 3)], (8, 32, 1, 1))
    """
    if len(layer.steps) != 2 or any(step.shared > 1 or step.transposed for step in layer.steps):
        return None
    modules: list[Any] = [layer.get_submodule(name) for name in layer.step_names]
    first, second = layer.steps
    weights = [as_array(m.weight) for m in modules]
    bias = None if modules[1].bias is None else as_array(modules[1].bias)
    if first.scatter is not None:
        return None
    if _is_pointwise(second, layer.groups) and weights[0].shape[1] == 1:
        return _joined(layer, weights, bias)
    return _added(layer, weights, bias)


def run_terms(layer: Any, x: Tensor) -> Tensor | None:
    """Run a layer as its terms, with weights that are constants: for export. None if its steps are run as well.

    Layers with something between their steps, padding that is not the same on both sides, or without terms are run as they
    are.
    """
    if getattr(layer, "intermediate", None) is not None or x.dim() != layer.spec.ndim + 2:
        return None
    pads = [p for step in layer.steps for p in step.padding]
    if any(isinstance(p, SamePadding) or p[0] != p[1] for p in pads):
        return None
    if layer.spec.padding_mode != "zeros" and any(p != (0, 0) for p in pads):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of weights that are constants
        terms = terms_of(layer)
        if terms is None:
            return None
        found = []
        for chain in terms.chains:
            value = x
            for conv in chain:
                value = _convolved(value, conv)
            found.append(value)
        if terms.last is not None:
            return _convolved(torch.cat(found, 1) if len(found) > 1 else found[0], terms.last)
        total = found[0]
        for value in found[1:]:
            total = total + value
        return total


def _convolved(x: Tensor, conv: TermConv) -> Tensor:
    step = conv.step
    weight, bias = (
        None if a is None else torch.from_numpy(np.ascontiguousarray(a)).to(x)
        for a in (conv.weight, conv.bias)
    )
    padding = [p[0] for p in step.padding if not isinstance(p, SamePadding)]
    made: Tensor = _CONVOLVE[len(step.kernel_size)](
        x, weight, bias, step.stride, padding, step.dilation, conv.groups
    )
    return made


def _is_pointwise(step: Step, groups: int) -> bool:
    ones = (1,) * len(step.kernel_size)
    return step.kernel_size == ones and step.groups == groups and step.scatter is None


def _sources(step: Step, count: int) -> Array:
    """Return the channels that the convolution of a step reads, in its order."""
    return np.arange(count) if step.gather is None else np.array(step.gather)


def _numbered(keys: Array) -> Array:
    """Return for each key how many equal keys come before it."""
    seen: dict[int, int] = {}
    found = []
    for key in keys.tolist():
        found.append(seen.get(key, 0))
        seen[key] = found[-1] + 1
    return np.array(found, np.intp)


def _joined(layer: Any, weights: list[Array], bias: Array | None) -> Terms | None:
    """Return depthwise convolutions whose outputs a pointwise one reads one after the other."""
    first, second = layer.steps
    channels = layer.in_channels
    # Input channel and term of each output of the first convolution.
    source = np.repeat(_sources(first, channels), first.out_channels // first.groups)
    term = _numbered(source)
    count = int(term.max()) + 1
    if count == 1 and first.gather is None:
        return None
    filters = np.zeros((count, channels, *weights[0].shape[1:]), weights[0].dtype)
    filters[term, source] = weights[0]
    read = _sources(second, len(source))  # output of the first step per column of the second
    # Terms one after the other would mix the groups of the second convolution.
    split = channels >= BLOCK and count <= MOST_JOINED and second.groups == 1
    columns = np.zeros((len(weights[1]), count, channels // second.groups), weights[1].dtype)
    outputs, inputs = len(columns) // second.groups, len(read) // second.groups
    for g in range(second.groups):
        own, among = read[g * inputs : (g + 1) * inputs], slice(g * outputs, (g + 1) * outputs)
        place = (slice(None), term[own], source[own] - g * channels // second.groups)
        columns[among][place] = weights[1][among].reshape(outputs, -1)
    if not split:  # one convolution: all terms of a channel stand together
        columns = columns.swapaxes(1, 2)
        filters = filters.swapaxes(0, 1).reshape(1, channels * count, *filters.shape[2:])
    depthwise = [TermConv(0, first, f, None, channels) for f in filters]
    ones = (1,) * len(second.kernel_size)
    last = TermConv(1, second, columns.reshape(len(columns), -1, *ones), bias, second.groups)
    return Terms([[conv] for conv in depthwise], last)


def _added(layer: Any, weights: list[Array], bias: Array | None) -> Terms | None:
    """Return chains whose depthwise second convolutions are added up."""
    first, second = layer.steps
    read = _sources(second, len(weights[0]))
    inner = weights[1].shape[1]
    if second.scatter is not None:
        if inner != 1 or second.groups != len(weights[1]):
            return None
        target, filters = np.array(second.scatter), weights[1][:, 0]
    elif second.groups == second.out_channels:
        target = np.repeat(np.arange(second.groups), inner)
        filters = weights[1].reshape(-1, *weights[1].shape[2:])
    else:
        return None
    term = _numbered(target)
    count, outputs = int(term.max()) + 1, layer.out_channels
    if count == 1 and second.scatter is None and second.gather is None:
        return None
    rows = _rows(layer, weights[0], read, target, term)
    if rows is None:
        return None
    taps = np.zeros((count, outputs, 1, *filters.shape[1:]), filters.dtype)
    taps[term, target, 0] = filters
    groups = outputs if weights[0].shape[1] == 1 < first.groups else first.groups
    if count > MOST_ADDED:  # one convolution: all terms of an output stand together
        rows = rows.swapaxes(0, 1).reshape(1, outputs * count, *rows.shape[2:])
        taps = taps[:, :, 0].swapaxes(0, 1)[None]  # (1, outputs, terms, *kernel)
    chains = []
    for at in range(len(rows)):
        one = TermConv(0, first, rows[at], None, groups)
        own = bias if at == 0 else None
        chains.append([one, TermConv(1, second, taps[at], own, outputs)])
    return Terms(chains, None)


def _rows(layer: Any, weight: Array, read: Array, target: Array, term: Array) -> Array | None:
    """Return the filters of the first convolution for each term, (terms, outputs, in, ...)."""
    first = layer.steps[0]
    shape = (int(term.max()) + 1, layer.out_channels, *weight.shape[1:])
    found = np.zeros(shape, weight.dtype)
    found[term, target] = weight[read]
    if first.groups == 1:
        return found if first.gather is None else None
    if weight.shape[1] > 1:  # each output reads its own group of channels
        groups = read // (first.out_channels // first.groups)
        own = target // (layer.out_channels // first.groups)
        return found if first.gather is None and np.array_equal(groups, own) else None
    source = np.repeat(
        _sources(first, layer.in_channels), first.out_channels // first.groups
    )[read]  # fmt: skip
    return found if np.array_equal(source, target) else None  # each output from its own channel
