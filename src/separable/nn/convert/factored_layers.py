"""Factored layers that replace convolutions, and measures to compare them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from separable.lowering.lower import lower
from separable.lowering.scheme import Scheme
from separable.nn.convert.covariances import Moments
from separable.nn.convert.decompose import decomposed
from separable.nn.convert.least_squares import FitTarget, fit, matrices
from separable.nn.dense_weights import as_array
from separable.nn.factored_conv import FactoredConv
from separable.nn.factored_transpose import layer_class
from separable.nn.torch_convs import weights_in_order

__all__ = ["built", "fitted", "measured", "plain", "weight_error", "weights_of_conv"]

Array = NDArray[Any]
NOISE = 1e-7  # relative difference of errors that does not justify another fit


def weights_of_conv(conv: Any) -> Array:
    """Return the weights of a convolution as patterns have them, in double precision."""
    weights = as_array(conv.weight).astype(np.float64)
    return weights_in_order(weights, conv.groups, isinstance(conv, _ConvTransposeNd))


def plain(scheme: Scheme, conv: Any) -> tuple[Scheme, list[Array]]:
    """Factorise the weights without data, at the scheme's ranks."""
    scheme, _ = lower(scheme)
    if not scheme.bonds:  # a layer with groups, not factorised
        sizes = [scheme.size(a) for a in scheme.operands[0]]
        return scheme, [weights_of_conv(conv).reshape(sizes)]
    return scheme, decomposed(scheme, scheme.kernel_of(weights_of_conv(conv)))


def fitted(
    scheme: Scheme, conv: Any, moments: Moments, aim: FitTarget, sweeps: int
) -> tuple[Scheme, list[Array], Array]:
    """Fit factors to data, or factorise the weights where that is closer.

    Returns
    -------
    scheme : Scheme
    arrays : list of ndarray
        One array per factor.
    bias : ndarray, shape (out_channels,)
        The best for these factors.
    """
    without = plain(scheme, conv)
    if not scheme.bonds:
        return (*without, moments.bias(without[1][0].reshape(moments.cross.shape)))
    with_data = fit(scheme, aim, sweeps)
    errors = [moments.error(matrices(*found)) for found in (with_data, without)]
    better = with_data if errors[0] < errors[1] * (1 - NOISE) else without
    return (*better, moments.bias(matrices(*better)))


def built(
    scheme: Scheme, arrays: Sequence[Array], conv: nn.Module, bias: Array | None = None
) -> FactoredConv:
    """Create the layer, with the geometry, device, dtype and mode of a convolution."""
    own = None if bias is None else torch.from_numpy(np.ascontiguousarray(bias))
    return layer_class(scheme.spec)._with_arrays(scheme, arrays, conv, own)


def weight_error(layer: FactoredConv, conv: nn.Module) -> float:
    """Return the relative Frobenius error of a layer's weights, in the layer's own dtype."""
    weights = weights_of_conv(conv)
    found = matrices(layer.scheme, layer._arrays()) if layer.scheme.bonds else layer._arrays()[0]
    norm = float(np.linalg.norm(weights))
    difference = float(np.linalg.norm(weights - found.reshape(weights.shape)))
    return difference / norm if norm else float(difference > 0)


@torch.no_grad()
def measured(layers: Sequence[nn.Module], shape: Sequence[int], repeats: int) -> list[float]:
    """Return the shortest time in seconds of each layer for an input.

    They run in turns, so that other load on the machine affects all of them equally.
    """
    like = next(layers[0].parameters())
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(tuple(shape), generator=generator)
    tensor = noise.to(device=like.device, dtype=like.dtype)
    times: list[list[float]] = [[] for _ in layers]
    for layer in layers:
        layer(tensor)
    for _ in range(repeats):
        for at, layer in enumerate(layers):
            _wait(like.device)
            start = time.perf_counter()
            layer(tensor)
            _wait(like.device)
            times[at].append(time.perf_counter() - start)
    return [min(t) for t in times]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
