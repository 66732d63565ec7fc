"""Formulas of convolutions, matrix products and attention: the operations with MACs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from separable.cost import Convolution
from separable.nn.ledger.formulas import Count, Operation, formula

__all__ = ["convolution_of"]


def convolution_of(op: Operation) -> Convolution:
    """Read the sizes of a convolution that ran, or of one whose gradient was computed."""
    image, weight = op["input"].shape, op["weight"].shape
    groups, transposed = op["groups"], op["transposed"]
    ndim = len(weight) - 2
    first, second = weight[0], weight[1] * groups
    channels, filters = (first, second) if transposed else (second, first)
    has_bias = op.get("bias") is not None
    return Convolution(
        space=tuple(image[-ndim:]),
        channels=channels,
        filters=filters,
        kernel=tuple(weight[2:]),
        stride=_each(op["stride"], ndim),
        padding=tuple((p, p) for p in _each(op["padding"], ndim)),
        dilation=_each(op["dilation"], ndim),
        groups=groups,
        transposed=transposed,
        output_padding=_each(op["output_padding"], ndim),
        bias=has_bias,
        batch=image[0] if len(image) > ndim + 1 else 1,
        itemsize=op["weight"].element_size(),
    )


def _each(numbers: Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return one number per spatial axis; PyTorch may give one for all."""
    return tuple(numbers) * ndim if len(numbers) == 1 else tuple(numbers)


@formula("convolution", "_convolution", "convolution_overrideable", "cudnn_convolution")
def _convolution(op: Operation) -> Count:
    found = convolution_of(op).cost
    return Count(macs=found.macs, additions=found.additions)


@formula("convolution_backward", "convolution_backward_overrideable")
def _convolution_backward(op: Operation) -> Count:
    """Count the gradients: each multiplies as often as the forward pass, that of a bias is a sum."""
    layer = convolution_of(op)
    to_input, to_weight, to_bias = op["output_mask"]
    macs = layer.multiplications * (bool(to_input) + bool(to_weight))
    return Count(macs=macs, additions=op["grad_output"].numel() if to_bias else 0)


@formula("mm", "bmm", "mv", "dot", "vdot")
def _product(op: Operation) -> Count:
    """Count a matrix product: each element is a sum over the last axis of the first operand."""
    return Count(macs=op.size * op.inputs[0].shape[-1])


@formula("addmm", "addmv", "baddbmm", "addbmm", "_addmm_activation")
def _product_and_sum(op: Operation) -> Count:
    """Count ``beta * a + alpha * (b @ c)``; the addition of `a`, a bias, is counted apart."""
    left = next(op[n] for n in ("mat1", "mat", "batch1") if op.get(n) is not None)
    summed = left.shape[-1] * (left.shape[0] if op.name == "addbmm" else 1)
    scaled = (op["beta"] not in (0, 1)) + (op["alpha"] != 1)
    return Count(
        macs=op.size * summed,
        multiplications=op.size * scaled,
        additions=op.size if op["beta"] != 0 else 0,
    )


@formula("addr")
def _outer(op: Operation) -> Count:
    return Count(macs=op.size)


@formula("_trilinear")
def _trilinear(op: Operation) -> Count:
    """Count ``sum of i1 * i2 * i3``: two multiplications per term, one of them a MAC."""
    shapes = []
    for name, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        shape = list(op[name].shape)
        for axis in op[expand]:
            shape.insert(axis, 1)
        shapes.append(shape)
    terms = math.prod(max(sizes) for sizes in zip(*shapes, strict=True))
    return Count(macs=terms, multiplications=terms)


FORWARD = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)


@formula(*FORWARD)
def _attention(op: Operation) -> Count:
    """Count queries times keys, softmax of the scaled scores, weights times values; masks save nothing."""
    scores, to_scores, to_values = _attention_sizes(op)
    masked = scores if op.get("attn_mask") is not None or op.get("attn_bias") is not None else 0
    return Count(
        macs=to_scores + to_values,
        multiplications=2 * scores,  # scaling, and division of the softmax
        additions=2 * scores + masked,  # subtraction of the maximum, and sum
        others=2 * scores,  # maximum and exponential
    )


@formula(*(f"{name}_backward" for name in FORWARD))
def _attention_backward(op: Operation) -> Count:
    """Count the gradients of attention: the scores are computed again, then four products."""
    scores, to_scores, to_values = _attention_sizes(op)
    return Count(
        macs=3 * to_scores + 2 * to_values,
        multiplications=4 * scores,
        additions=3 * scores,
        others=scores,
    )


def _attention_sizes(op: Operation) -> tuple[int, int, int]:
    """Return the number of scores, and the MACs of the products before and after them."""
    query, value = op["query"].shape, op["value"].shape
    scores = math.prod(query[:-1]) * op["key"].shape[-2]
    return scores, scores * query[-1], scores * value[-1]
