"""Separable layers with batch normalisation in training on a GPU: two kernels and a reduction forward.

The first kernel sums the moments of the depthwise result, the reduction adds them, and the second kernel is the fused
layer with the normalisation folded into the depthwise weights, which stay in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from separable.gpu.depthwise_layers import GpuDepthwise
from separable.gpu.kernel_support import serves
from separable.gpu.layer_backward import MiddleNorm, backward_norm_layer, run_moments
from separable.gpu.layer_forward import GpuLayer, run_layer
from separable.nn.fused.norm_training import NormLayer, NormLayerGradients
from separable.nn.fused.output_norm import Moments, per_channel

__all__ = ["GpuNormCall", "norm_serves"]


def norm_serves(x: Tensor, layer: NormLayer, *others: Tensor | None) -> bool:
    """Return True if the GPU kernels take a call; the normalisation's parameters may be of another type."""
    steps = layer.depthwise, layer.between_bias, layer.pointwise, layer.bias
    norms = [t for t in (layer.gamma, layer.beta, *others) if t is not None]
    near = all(t.device == x.device and t.is_floating_point() for t in norms)
    return x.numel() > 0 and near and serves(x, *steps)


class GpuNormCall(NamedTuple):
    """One call of a layer ``pointwise(act(norm(depthwise(x))))`` with the statistics of the batch.

    Attributes
    ----------
    layer : NormLayer
    window : tuple
        Stride, padding before and after each axis, dilation.
    eps : float
    act : int
        Activation after the normalisation, as its place in `ACTIVATIONS`.
    """

    layer: NormLayer
    window: tuple[Sequence[int], Sequence[int], Sequence[int]]
    eps: float
    act: int

    @property
    def plain(self) -> GpuDepthwise:
        """The depthwise step as it is."""
        return GpuDepthwise(self.layer.depthwise, self.layer.between_bias, self.window)

    def _scaled(self, scale: Tensor, shift: Tensor, mean: Tensor) -> GpuLayer:
        """Return the layer whose depthwise step computes ``(depthwise(x) - mean) * scale + shift``."""
        layer = self.layer
        weight = layer.depthwise.detach().double()
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        bias = (per_channel(layer.between_bias, mean, 0.0) - mean) * scale + shift
        return GpuLayer(
            weight.float(), bias.float(), layer.pointwise, layer.bias, self.window, (self.act, 0)
        )

    def forward(self, x: Tensor, out: Tensor) -> Moments:
        """Compute the result of the pointwise step into `out`; return the moments of the depthwise result."""
        mean, var = run_moments(x, self.plain)
        scale = (var + self.eps).rsqrt() * per_channel(self.layer.gamma, var, 1.0)
        run_layer(x, self._scaled(scale, per_channel(self.layer.beta, var, 0.0), mean), out)
        return Moments(mean.float(), var.float())

    def backward(
        self, g: Tensor, x: Tensor, moments: Moments, *, to_input: bool
    ) -> NormLayerGradients:
        """Return all gradients from `g`, the gradient of the result of the pointwise step."""
        mean, inverse = moments.mean.double(), (moments.var.double() + self.eps).rsqrt()
        gamma = per_channel(self.layer.gamma, mean, 1.0)
        beta = per_channel(self.layer.beta, mean, 0.0)
        norm = MiddleNorm(gamma.float(), beta.float(), (gamma * inverse).float())
        normalising = self._scaled(inverse, torch.zeros_like(mean), mean)
        found, betas, gammas = backward_norm_layer(
            g, x, normalising, norm, self.plain, to_input=to_input
        )
        return NormLayerGradients(
            found.input,
            found.depthwise,
            found.between_bias,
            gammas,
            betas,
            found.pointwise,
            found.bias,
        )
