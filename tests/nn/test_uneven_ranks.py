"""Layers whose channels have different ranks: fused without gathering channels."""

from __future__ import annotations

import pytest
import torch
from torch import nn as tnn

from separable import nn
from separable.nn.fused.fused_modules import FusedSeparable

UNEVEN = [2, 3, 1, 3, 2, 3, 3, 2]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("act", [None, tnn.ReLU(), tnn.Hardswish()])
def test_values(ndim, act):
    letters = "zyx"[-ndim:]
    layer = nn.FactoredConv(
        f"oc{letters} -> oc,c{letters}", 8, 12, 3, stride=2, rank=UNEVEN, intermediate=act
    )
    norm = (tnn.BatchNorm1d, tnn.BatchNorm2d, tnn.BatchNorm3d)[ndim - 1](12)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    net = tnn.Sequential(layer, norm, tnn.ReLU6()).eval()
    x = torch.randn(2, 8, *(11, 10, 9)[:ndim])
    fused, report = nn.fuse(net, x)
    assert len(report.fused) == 1
    assert not report.left
    (module,) = (m for m in fused.modules() if isinstance(m, FusedSeparable))
    assert module.depthwise.shape[0] == 8 * 3
    exact = net.double()(x.double())
    assert (fused(x) - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize(
    "arguments", [{"rank": [1, 1, 1, 1, 1, 1, 1, 8]}, {"rank": UNEVEN, "padding_mode": "reflect"}]
)
def test_other_layers_keep_their_steps(arguments):
    net = tnn.Sequential(nn.FactoredConv("ocyx -> oc,cyx", 8, 12, 3, **arguments)).eval()
    x = torch.randn(2, 8, 11, 10)
    fused, _ = nn.fuse(net, x)
    assert not any(isinstance(m, FusedSeparable) for m in fused.modules())
    assert torch.allclose(fused(x), net(x), atol=1e-5)
