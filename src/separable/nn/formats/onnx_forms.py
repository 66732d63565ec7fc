"""Forms of a separable layer that onnxruntime runs fast: one convolution per term, no Gather.

onnxruntime keeps activations in blocks of channels. Its convolutions leave that layout where a
group has several filters or several inputs, and so do Gather and Pad. A layer of R terms is
therefore written as R depthwise convolutions of one filter per channel, joined by Concat before a
pointwise convolution or added up after one. Where R is large or the channels do not fill a block,
one convolution with R filters or inputs per channel is faster. A channel with fewer terms than
others gets filters of zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.lowering.step import SamePadding, Step
from separable.nn.dense_weights import as_array
from separable.nn.factored_conv import FactoredConv
from separable.nn.formats.onnx_layers import Padding

__all__ = ["PlainConv", "Terms", "conv_of", "terms_of"]

Array = NDArray[Any]
# Measured with onnxruntime 1.32 on an AMD EPYC with AVX-512, 1 to 256 channels, rank 1 to 9.
BLOCK = 16  # channels per block; layers of fewer channels gain nothing from depthwise form
MOST_JOINED, MOST_ADDED = 6, 16  # terms up to which separate convolutions are faster


@dataclass(frozen=True)
class PlainConv:
    """Arguments of one Conv or ConvTranspose node.

    Attributes
    ----------
    weight : ndarray, shape (out, in / groups, *kernel)
        For a ConvTranspose (in, out / groups, *kernel).
    bias : ndarray or None
    groups : int
    options : dict of str to value
        Strides, dilations and padding, as ONNX names them.
    transposed : bool
        True for a ConvTranspose.
    """

    weight: Array
    bias: Array | None
    groups: int
    options: dict[str, Any]
    transposed: bool = False


@dataclass(frozen=True)
class Terms:
    """Layer as parallel chains of convolutions.

    Attributes
    ----------
    chains : sequence of sequence of PlainConv
        Each chain reads the input of the layer.
    last : PlainConv or None
        Convolution of all chains' outputs one after the other; None if they are added up.
    """

    chains: Sequence[Sequence[PlainConv]]
    last: PlainConv | None


def conv_of(step: Step, weight: Array, bias: Array | None, padding: Padding | None) -> PlainConv:
    """Return the node of a step, with padding that the layer does not apply itself."""
    options: dict[str, Any] = {
        "kernel_shape": list(step.kernel_size), "strides": list(step.stride),
        "dilations": list(step.dilation),
    }  # fmt: skip
    if step.transposed:
        options["output_padding"] = list(step.output_padding)
    if padding is not None and padding.same:
        options["auto_pad"] = padding.same
        return PlainConv(weight, bias, step.groups, options)
    before, after = [], []
    for j, own in enumerate(step.padding):
        if isinstance(own, SamePadding):
            raise TypeError("the padding of a step in ONNX is known")
        ndim = len(step.padding)
        extra = (0, 0) if padding is None else (padding.amounts[j], padding.amounts[ndim + j])
        before.append(own[0] + extra[0])
        after.append(own[1] + extra[1])
    options["pads"] = [*before, *after]
    return PlainConv(weight, bias, step.groups, options, step.transposed)


def terms_of(layer: FactoredConv, paddings: Sequence[Padding | None]) -> Terms | None:
    """Return a layer of two steps as terms, or None if it is not a sum of such.

    Parameters
    ----------
    layer : FactoredConv
    paddings : sequence of Padding or None
        Further padding of each step.
    """
    if len(layer.steps) != 2 or any(step.shared > 1 or step.transposed for step in layer.steps):
        return None
    modules: list[Any] = [layer.get_submodule(name) for name in layer.step_names]
    first, second = layer.steps
    weights = [as_array(m.weight) for m in modules]
    bias = None if modules[1].bias is None else as_array(modules[1].bias)
    if first.scatter is not None:
        return None
    if _is_pointwise(second) and weights[0].shape[1] == 1:
        return _joined(layer, weights, bias, paddings)
    return _added(layer, weights, bias, paddings)


def _is_pointwise(step: Step) -> bool:
    ones = (1,) * len(step.kernel_size)
    return step.kernel_size == ones and step.groups == 1 and step.scatter is None


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


def _joined(
    layer: FactoredConv, weights: list[Array], bias: Array | None,
    paddings: Sequence[Padding | None],
) -> Terms | None:  # fmt: skip
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
    split = channels >= BLOCK and count <= MOST_JOINED
    columns = np.zeros((len(weights[1]), count, channels), weights[1].dtype)
    columns[:, term[read], source[read]] = weights[1].reshape(len(weights[1]), -1)
    if not split:  # one convolution: all terms of a channel stand together
        columns = columns.swapaxes(1, 2)
        filters = filters.swapaxes(0, 1).reshape(1, channels * count, *filters.shape[2:])
    depthwise = [_with_groups(conv_of(first, f, None, paddings[0]), channels) for f in filters]
    ones = (1,) * len(second.kernel_size)
    last = conv_of(second, columns.reshape(len(columns), -1, *ones), bias, paddings[1])
    return Terms([[conv] for conv in depthwise], last)


def _added(
    layer: FactoredConv, weights: list[Array], bias: Array | None,
    paddings: Sequence[Padding | None],
) -> Terms | None:  # fmt: skip
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
    groups = first.groups if first.groups == 1 else outputs
    if count > MOST_ADDED:  # one convolution: all terms of an output stand together
        rows = rows.swapaxes(0, 1).reshape(1, outputs * count, *rows.shape[2:])
        taps = taps[:, :, 0].swapaxes(0, 1)[None]  # (1, outputs, terms, *kernel)
    chains = []
    for at in range(len(rows)):
        one = _with_groups(conv_of(first, rows[at], None, paddings[0]), groups)
        own = bias if at == 0 else None
        chains.append([one, _with_groups(conv_of(second, taps[at], own, paddings[1]), outputs)])
    return Terms(chains, None)


def _rows(
    layer: FactoredConv, weight: Array, read: Array, target: Array, term: Array
) -> Array | None:
    """Return the filters of the first convolution for each term, (terms, outputs, in, ...)."""
    first = layer.steps[0]
    shape = (int(term.max()) + 1, layer.out_channels, *weight.shape[1:])
    found = np.zeros(shape, weight.dtype)
    found[term, target] = weight[read]
    if first.groups == 1:
        return found if first.gather is None else None
    if weight.shape[1] > 1:
        return None
    source = np.repeat(
        _sources(first, layer.in_channels), first.out_channels // first.groups
    )[read]  # fmt: skip
    return found if np.array_equal(source, target) else None  # each output from its own channel


def _with_groups(conv: PlainConv, groups: int) -> PlainConv:
    return PlainConv(conv.weight, conv.bias, groups, conv.options)
