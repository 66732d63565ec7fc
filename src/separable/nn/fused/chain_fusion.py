"""Fusion of one chain of layers: which of them become one module."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from separable.gpu.kernel_support import serves
from separable.lowering.step import Step
from separable.nn.fused.batchnorm_folding import Folded, as_step, folded
from separable.nn.fused.forward import is_depthwise, is_pointwise
from separable.nn.fused.fused_modules import (
    FusedConv,
    FusedDepthwise,
    FusedPointwise,
    FusedSeparable,
)
from separable.nn.fused.fused_split import (
    FusedSplit,
    multiplied_out,
    pays,
    pays_on_gpu,
    runs_as_split,
    terms_of,
)
from separable.nn.fused.spatial_pair import LEAST_COLUMNS, FusedPair, splits
from separable.nn.fused.tracing import Call
from separable.nn.fused.uneven_ranks import (
    channel_of_each_term,
    dense_product,
    is_worth_zeros,
    make_even,
)

__all__ = ["fuse_chain"]

ALONE = 2
"""Most convolutions of a network that one kernel runs, with its channels first or last."""


def fuse_chain(
    network: nn.Module,
    chain: Sequence[Call],
    fused: list[tuple[str, str]],
    left: list[tuple[str, str]],
    exact: bool,
    groups: list[tuple[str, ...]],
) -> None:
    """Replace the first layers of a chain of calls, and continue after them; note layers that became one."""
    at = 0
    is_alone = sum(isinstance(m, _ConvNd) for m in network.modules()) <= ALONE
    while at < len(chain):
        call = chain[at]
        if not isinstance(call.module, _ConvNd):
            at += 1
            continue
        if (
            isinstance(call.module, _ConvTransposeNd)
            or sum(c.module is call.module for c in chain) > 1
        ):
            left.append((call.name, "a transposed convolution, or called more than once"))
            at += 1
            continue
        first = folded(chain, at)
        made, what, until = (
            _split_of(chain, at, first)
            or _dense_of(chain, at, first, exact)
            or _even_of(chain, at, first)
            or _pair_of(chain, at, first)
            or _module_of(call.module, chain, first, exact, is_alone)
        )
        if isinstance(made, FusedConv) and until == at + 1 and made.left_reason:
            left.append((call.name, _why_not(chain, at, made.left_reason)))
        else:
            network.set_submodule(call.name, made)
            for other in chain[at + 1 : until]:
                network.set_submodule(other.name, nn.Identity())
            fused.append((call.name, what))
            if until > at + 1:
                groups.append(tuple(c.name for c in chain[at:until]))
        at = until


def _following(chain: Sequence[Call], at: int) -> Step | None:
    """Return the convolution at a place of a chain as a step, or None."""
    behind = chain[at].module if at < len(chain) else None
    return as_step(behind) if isinstance(behind, _ConvNd) else None


def _split_of(chain: Sequence[Call], at: int, first: Folded) -> tuple[nn.Module, str, int] | None:
    """Return the module for two depthwise convolutions along one axis each, or None."""
    step, then = as_step(chain[at].module), _following(chain, first.until)
    if step is None or then is None:
        return None
    terms = terms_of(step, then)
    is_linear = first.bias is None and first.act == "none"
    on_gpu = serves(first.weight)
    if terms is None or not (
        (on_gpu and is_linear) or runs_as_split(step, then, is_linear=is_linear)
    ):
        return None
    second = folded(chain, first.until)
    kernels = ["x".join(map(str, s.kernel_size)) for s in (step, then)]
    what = f"depthwise {kernels[0]}, {first.what}depthwise {kernels[1]}, "
    faster = (
        pays_on_gpu((step, then), terms, chain[at].shape, first.weight)
        if on_gpu
        else pays((step, then), terms)
    )
    if is_linear and not faster:
        dense, weight = multiplied_out((step, then), (first.weight, second.weight), terms)
        return _depthwise_of(dense, chain, replace(second, weight=weight, what=what + second.what))
    tensors = (first.weight, first.bias, second.weight, second.bias)
    made = FusedSplit((step, then), tensors, (first.act, second.act), terms)
    return made, f"{what}{second.what}".rstrip(", "), second.until


def _dense_of(
    chain: Sequence[Call], at: int, first: Folded, exact: bool
) -> tuple[nn.Module, str, int] | None:
    """Return the module for two steps that would copy channels and are faster multiplied out, or None."""
    step, then = as_step(chain[at].module), _following(chain, first.until)
    if step is None or then is None or first.act != "none" or first.bias is not None:
        return None
    second = folded(chain, first.until)
    channels = chain[at].shape[-len(step.kernel_size) - 1]
    found = dense_product(step, then, (first.weight, second.weight), channels)
    if found is None:
        return None
    conv, dense = found
    conv._parameters["bias"] = (
        second.bias if second.bias is None else nn.Parameter(second.bias, requires_grad=False)
    )
    what = f"multiplied out, {first.what}{second.what}".rstrip(", ")
    return FusedConv(conv, second.act, dense, exact), what, second.until


def _even_of(chain: Sequence[Call], at: int, first: Folded) -> tuple[nn.Module, str, int] | None:
    """Return the module for a depthwise step that gathers channels and a pointwise step, or None."""
    step, then = as_step(chain[at].module), _following(chain, first.until)
    if step is None or then is None or not is_pointwise(then):
        return None
    channels = chain[at].shape[-len(step.kernel_size) - 1]
    terms = channel_of_each_term(step, then)
    if terms is None or not is_worth_zeros(terms, channels):
        return None
    second = folded(chain, first.until)
    tensors = (first.weight, first.bias, second.weight)
    even, (weight, bias, pointwise) = make_even(step, tensors, terms, channels)
    what = f"depthwise, {first.what}pointwise, {second.what}".rstrip(", ")
    made = FusedSeparable(even, (weight, bias, pointwise, second.bias), first.act, second.act)
    return made, what, second.until


def _pair_of(chain: Sequence[Call], at: int, first: Folded) -> tuple[nn.Module, str, int] | None:
    """Return the module for two convolutions that split the spatial axes, or None."""
    step, then = as_step(chain[at].module), _following(chain, first.until)
    if step is None or then is None or splits(step, then) is not None:
        return None
    if chain[at].shape[-1] < LEAST_COLUMNS:
        return None
    second = folded(chain, first.until)
    tensors = (first.weight, first.bias, second.weight, second.bias)
    kernels = ["x".join(map(str, s.kernel_size)) for s in (step, then)]
    what = f"{kernels[0]}, {first.what}{kernels[1]}, {second.what}".rstrip(", ")
    return FusedPair((step, then), tensors, (first.act, second.act)), what, second.until


def _why_not(chain: Sequence[Call], at: int, reason: str) -> str:
    """Return the reason why a convolution without anything to fold is left to PyTorch."""
    plain = f"nothing to fold, and {reason}"
    step, then = as_step(chain[at].module), _following(chain, at + 1)
    if step is None:
        return f"{plain}: {type(chain[at].module).__name__}"
    if then is None or any(all(k == 1 for k in s.kernel_size) for s in (step, then)):
        return plain
    why = splits(step, then)
    if why is None:
        width = chain[at].shape[-1]
        why = f"rows of {width} are shorter than the {LEAST_COLUMNS} columns from which fusing is faster"
    return f"{plain}; no pair with {chain[at + 1].name}: {why}"


def _depthwise_of(step: Step, chain: Sequence[Call], first: Folded) -> tuple[nn.Module, str, int]:
    """Return the module for a depthwise step, and for the pointwise one after it if there is one."""
    then = _following(chain, first.until)
    if then is not None and is_pointwise(then):
        second = folded(chain, first.until)
        tensors = (first.weight, first.bias, second.weight, second.bias)
        what = f"{first.what}pointwise, {second.what}".rstrip(", ")
        return FusedSeparable(step, tensors, first.act, second.act), what, second.until
    what = first.what.rstrip(", ")
    return FusedDepthwise(step, first.weight, first.bias, first.act), what, first.until


def _module_of(
    conv: nn.Module, chain: Sequence[Call], first: Folded, exact: bool, is_alone: bool
) -> tuple[nn.Module, str, int]:
    """Return the module for the layers that begin with a convolution, these layers, and their end.

    A depthwise kernel fills vectors with channels of the input. With a single one the outputs fill them, in a dense
    convolution, which takes 0.04 to 0.2 of the time in a program (1 to 16 .. 32 channels). Alone such a layer runs with its channels first.
    """
    reads_one = getattr(conv, "in_channels", 0) == 1 and not is_alone
    step = as_step(conv)
    if step is not None and is_depthwise(step) and step.out_channels > 1 and not reads_one:
        return _depthwise_of(step, chain, replace(first, what=f"depthwise, {first.what}"))
    if step is not None and is_pointwise(step):
        what = f"pointwise, {first.what}".rstrip(", ")
        return FusedPointwise(first.weight, first.bias, first.act), what, first.until
    # Without a normalisation the convolution itself is kept: its parameters may be shared with others.
    plain = copy.deepcopy(conv) if "norm" in first.what else conv
    if plain is not conv:
        plain._parameters["weight"] = nn.Parameter(first.weight, requires_grad=False)
        if first.bias is not None:
            plain._parameters["bias"] = nn.Parameter(first.bias, requires_grad=False)
    what = f"convolution, {first.what}".rstrip(", ")
    return FusedConv(plain, first.act, step, exact), what, first.until
