"""Nodes of a separable layer in ONNX: parallel chains of convolutions (see `separable.nn.term_form`), no Gather."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from separable.lowering.step import SamePadding, Step
from separable.nn import term_form
from separable.nn.factored_conv import FactoredConv
from separable.nn.formats.onnx_layers import Padding
from separable.nn.term_form import TermConv

__all__ = ["PlainConv", "Terms", "conv_of", "terms_of"]

Array = NDArray[Any]


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
    found = term_form.terms_of(layer)
    if found is None:
        return None

    def node(conv: TermConv) -> PlainConv:
        made = conv_of(conv.step, conv.weight, conv.bias, paddings[conv.at])
        return replace(made, groups=conv.groups)

    chains = [[node(conv) for conv in chain] for chain in found.chains]
    return Terms(chains, None if found.last is None else node(found.last))
