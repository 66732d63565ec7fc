"""Separable layers for PyTorch.

>>> import torch
>>> from separable import nn
>>> layer = nn.SeparableConv2d(64, 128, 3)
>>> layer(torch.zeros(1, 64, 32, 32)).shape
torch.Size([1, 128, 32, 32])
"""

from __future__ import annotations

from separable.distribution import install_command

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"`separable.nn` needs PyTorch, which is not installed: {install_command('torch')}",
        name="torch",
    ) from error

from separable.lowering.step import Step
from separable.nn import models
from separable.nn.audit import Audit, audit
from separable.nn.convert import Report, blueprint, convert, merge, rebuild
from separable.nn.depthwise import (
    DepthwiseConv1d,
    DepthwiseConv2d,
    DepthwiseConv3d,
    PointwiseConv,
)
from separable.nn.depthwise_separable import SeparableConv1d, SeparableConv2d, SeparableConv3d
from separable.nn.factored_conv import FactoredConv
from separable.nn.factored_transpose import FactoredConvTranspose
from separable.nn.fused import FusionReport, fuse
from separable.nn.initialise import initialise
from separable.nn.ledger import Ledger, ledger
from separable.nn.spatial import (
    SpatiallySeparableConv2d,
    SpatiallySeparableConv3d,
    SpatialSpectralConv3d,
)

__all__ = [
    "Audit",
    "DepthwiseConv1d",
    "DepthwiseConv2d",
    "DepthwiseConv3d",
    "FactoredConv",
    "FactoredConvTranspose",
    "FusionReport",
    "Ledger",
    "PointwiseConv",
    "Report",
    "SeparableConv1d",
    "SeparableConv2d",
    "SeparableConv3d",
    "SpatialSpectralConv3d",
    "SpatiallySeparableConv2d",
    "SpatiallySeparableConv3d",
    "Step",
    "audit",
    "blueprint",
    "convert",
    "fuse",
    "initialise",
    "ledger",
    "merge",
    "models",
    "rebuild",
]
