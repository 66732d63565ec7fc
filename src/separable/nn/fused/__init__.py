"""Fused separable layers on the CPU: fewer multiplications become less time.

`operators` registers ``separable::depthwise`` and ``separable::depthwise_separable``, and `autograd` their
gradients. `packed_layer` packs the weights of a layer; `layer_tiling` (channels last) and `direct_nchw`
(channels first) plan one shape of input; `steps` has the light steps of networks (sums, pooling, copies, linear
layers); `compiled` has the kernels. `fuse` replaces the layers of a
trained network by fused modules.
"""

from __future__ import annotations

from separable.nn.fused.fuse import FusionReport, fuse

__all__ = ["FusionReport", "fuse"]
