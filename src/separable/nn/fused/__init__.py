"""Fused separable layers on the CPU: fewer multiplications become less time.

`operators` registers ``separable::depthwise`` and ``separable::depthwise_separable``, `autograd` their
gradients; `prepared` holds a layer with packed weights, `plan` what one shape of input needs, `compiled`
the kernels. `fuse` rebuilds a trained network of them.
"""

from __future__ import annotations

from separable.nn.fused.fuse import FusionReport, fuse

__all__ = ["FusionReport", "fuse"]
