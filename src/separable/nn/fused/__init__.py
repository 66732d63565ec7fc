"""Fused separable layers on the CPU: fewer multiplications become less time.

`operators` registers ``separable::depthwise`` and ``separable::depthwise_separable``, and `autograd` their
gradients (`layer_gradients` runs them). `norm_operator` registers ``separable::depthwise_separable_norm``, the layer
with batch normalisation in training (`norm_training` and `output_norm` run it). `packed_layer` packs the weights of a
layer; `layer_tiling` (channels last) and `direct_nchw` (channels first) plan one shape of input; `steps` has the light
steps of networks (sums, pooling, copies, linear layers); `program` runs whole networks as one native call; `compiled`
has the kernels. `fuse` replaces the layers of a
trained network by fused modules.
"""

from __future__ import annotations

from separable.nn.fused.fuse import fuse
from separable.nn.fused.fusion_report import FusionReport

__all__ = ["FusionReport", "fuse"]
