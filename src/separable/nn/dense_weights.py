"""Conversion between the weights of a convolution and the arrays of its factors, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from separable.errors import ArgumentError, ArgumentTypeError, PatternError, RankError
from separable.factorize import factorize
from separable.factors import Factors
from separable.lowering.lower import lower
from separable.lowering.scheme import Rank, Scheme
from separable.nn.torch_convs import spec_of
from separable.pattern import Pattern

__all__ = ["as_array", "as_factors", "factor_weights", "filled", "scheme_for", "usable_ranks"]

Array = NDArray[Any]


def scheme_for(
    owner: str,
    ndim: int | None,
    patterns: Callable[[int], Sequence[str | Pattern]],
    conv: nn.Module,
    pattern: str | Pattern | None,
    sizes: Mapping[str, int] | None,
) -> Scheme:
    """Fit the given pattern, or the layer's own, to a convolution; all ranks are 1.

    Parameters
    ----------
    owner : str
        Name of the layer, for messages.
    ndim : int or None
        Number of spatial axes of the layer; None if it takes any number.
    patterns : function
        Function of the number of spatial axes that returns the layer's patterns; empty if it takes any.
    conv : torch.nn.Conv1d, Conv2d or Conv3d
    pattern, sizes
        See `FactoredConv.from_dense`.
    """
    spec = spec_of(conv)
    if ndim not in (None, spec.ndim):
        raise ArgumentTypeError(
            f"{owner} convolves over {ndim} axes; got a {type(conv).__name__} with weights "
            f"{spec.weight_shape}"
        )
    own = patterns(spec.ndim)
    if pattern is None and not own:
        raise ArgumentError(
            f"{owner}.from_dense needs a `pattern`, for instance 'ocyx -> oc,cyx' for a Conv2d"
        )
    scheme = Scheme.make(owner, own[0] if pattern is None else pattern, spec, rank=1, sizes=sizes)
    if own and str(scheme.written) not in map(str, own):
        raise PatternError(
            f"{owner} has the pattern {' or '.join(f'`{p}`' for p in own)}; got "
            f"`{scheme.written}`, which `FactoredConv` takes"
        )
    return scheme


def filled(dense: Any, kernel: Array, convolutions: Sequence[Any]) -> nn.Module:
    """Allocate and fill a convolution that was made on the meta device."""
    like = convolutions[0].weight
    dense = dense.to_empty(device=like.device)
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(kernel.reshape(dense.weight.shape).copy()))
        if dense.bias is not None:
            dense.bias.copy_(convolutions[-1].bias)
    made: nn.Module = dense.requires_grad_(like.requires_grad)
    return made


def as_array(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array; bfloat16, which NumPy lacks, as float32."""
    values = tensor.detach().cpu()
    if values.dtype == torch.bfloat16:
        values = values.float()
    return np.asarray(values.numpy())


def factor_weights(
    scheme: Scheme, weight: Array, rank: Rank | None, tol: float | None
) -> tuple[Scheme, Sequence[Array]]:
    """Factorise a convolution's weights.

    Parameters
    ----------
    scheme : Scheme
        Layer and pattern; the ranks are ignored.
    weight : ndarray, shape (out, in / groups, *space)
    rank, tol
        See `factorize`; `rank` may be a sequence with one number per batch value.

    Returns
    -------
    scheme : Scheme
        The scheme with the ranks of the factorisation.
    arrays : sequence of ndarray
        One array per factor.
    """
    kernel = scheme.kernel_of(weight)
    if not scheme.bonds:
        if rank is not None or tol is not None:
            raise ArgumentError(
                f"{scheme.owner}: one factor has no rank to choose; got rank={rank!r}, tol={tol!r}"
            )
        return scheme, [kernel]
    ragged = rank is not None and _is_ragged(rank)
    found = scheme.with_ranks(rank if rank is not None and ragged else 1)
    if not ragged:
        factors = factorize(kernel, scheme.pattern, rank=rank, tol=tol, sizes=scheme.sizes)  # type: ignore[arg-type]
        found = scheme.with_ranks(usable_ranks(factors.ranks))
    lowered, _ = lower(found)
    two = len(scheme.pattern.factors) == 2
    if ragged and not two:
        raise RankError(
            f"{scheme.owner}: ranks that differ between batch values can be given for two "
            f"factors; got `{scheme.written}`. Give one rank, or `tol`"
        )
    if ragged or (two and lowered is not found):  # use the terms that even groups require
        bond = scheme.bonds
        factors = factorize(kernel, scheme.pattern, rank=lowered.size(bond), sizes=scheme.sizes)
    return lowered, factors.arrays


def usable_ranks(ranks: Mapping[str, NDArray[np.intp]]) -> dict[str, NDArray[np.intp]]:
    """Replace ranks that are 0 for all batch values: no convolution has 0 channels."""
    return {b: r if np.max(r, initial=0) > 0 else np.ones_like(r) for b, r in ranks.items()}


def as_factors(scheme: Scheme, arrays: Sequence[Array]) -> Factors:
    """Return the arrays of a layer's weights as Factors with error 0.

    Raises
    ------
    ArgumentError
        If the layer has one factor only.
    """
    if not scheme.bonds:
        raise ArgumentError(f"{scheme.owner} has one factor: its weights are the kernel")
    return Factors(scheme.pattern, tuple(arrays), 0.0, 0.0, scheme.ranks, scheme.sizes)


def _is_ragged(rank: Rank) -> bool:
    values = rank.values() if isinstance(rank, Mapping) else [rank]
    return any(np.ndim(v) > 0 for v in values)
