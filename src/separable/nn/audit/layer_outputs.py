"""LayerOutputs: what an error of a layer's weights does to its output on an example."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from separable.lowering.conv_spec import ConvSpec
from separable.nn.torch_convs import build_conv, set_weights

__all__ = ["LayerOutputs", "cropped", "first_inputs", "plain_conv"]

Array = NDArray[Any]
MOST = (
    2**22
)  # numbers of a layer's input that are kept; larger ones are cropped around their centre


class LayerOutputs:
    """Output of one layer on an example.

    Parameters
    ----------
    spec : ConvSpec
    weight : ndarray, shape ``spec.weight_shape``
    inputs : Tensor
        Input of the layer, with its batch.
    """

    def __init__(self, spec: ConvSpec, weight: Array, inputs: Tensor) -> None:
        self.inputs = inputs.float()
        output = _output(spec, weight, self.inputs)
        deviation = _deviation(output, spec.ndim)
        size = float(output.norm())
        # The deviation of constant outputs is rounding: errors are relative to their size.
        self.scale = deviation if deviation > 1e-5 * size else size

    def error(self, spec: ConvSpec, difference: Array) -> float:
        """Return the relative error of the output that a difference of the weights makes.

        It is that with the best bias, which a fit to data gives the layer.
        """
        if not self.scale:
            return math.nan
        return _deviation(_output(spec, difference, self.inputs), spec.ndim) / self.scale


def _deviation(output: Tensor, ndim: int) -> float:
    """Return the norm of an output without the mean of each channel; with it where that is the only value.

    A bias would make the error of a single value zero, whatever the weights are.
    """
    axes = [a for a in range(output.dim()) if a != output.dim() - ndim - 1]
    if math.prod(output.shape[a] for a in axes) < 2:
        return float(output.norm())
    return float((output - output.mean(dim=axes, keepdim=True)).norm())


@torch.no_grad()
def _output(spec: ConvSpec, weight: Array, inputs: Tensor) -> Tensor:
    found: Tensor = plain_conv(spec, weight)(inputs).double()
    return found


def plain_conv(spec: ConvSpec, weight: Array) -> nn.Module:
    """Return a convolution with these weights in single precision, without a bias."""
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn
        conv: Any = build_conv(spec)
    set_weights(conv, np.asarray(weight, np.float32))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    made: nn.Module = conv.eval()
    return made


def cropped(inputs: Tensor, ndim: int) -> Tensor:
    """Return a copy of a layer's input: its first sample, and the middle of its space if it is large."""
    found = inputs.detach()
    if found.dim() == ndim + 2:
        found = found[:1]
    share = (MOST / max(found.numel(), 1)) ** (1 / ndim)
    if share < 1:
        for axis in range(found.dim() - ndim, found.dim()):
            kept = max(1, int(found.shape[axis] * share))
            found = found.narrow(axis, (found.shape[axis] - kept) // 2, kept)
    return found.cpu().clone()


@torch.no_grad()
def first_inputs(
    run: Callable[[], Any], layers: Mapping[str, nn.Module], ndims: Mapping[str, int]
) -> dict[str, Tensor]:
    """Run a network and return the input of the first call of each layer, cropped."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any], None]:
        def note(module: nn.Module, args: Any) -> None:
            if name not in found:
                found[name] = cropped(args[0], ndims[name])

        return note

    handles = [m.register_forward_pre_hook(keep(n)) for n, m in layers.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found
