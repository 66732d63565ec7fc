"""Networks from the literature built on separable convolutions, each with its dense twin.

>>> from separable.nn import models
>>> models.create("efficientnet_b0", device="meta").parameter_count()
5288548

`docs/networks.md` compares each with its paper, parameters and multiplications.
"""

from __future__ import annotations

from separable.nn.models._network import Network
from separable.nn.models.convnext import ConvNeXt
from separable.nn.models.efficientnet import SCALINGS, EfficientNet, Scaling, compound_scaling
from separable.nn.models.mobilenet import MobileNetV1
from separable.nn.models.mobilenet_inverted import MobileNetV2, MobileNetV3
from separable.nn.models.model_registry import create, names, sample_shape
from separable.nn.models.multimodal import MultiModalNet
from separable.nn.models.resnet import ResNet
from separable.nn.models.series import SeriesClassifier
from separable.nn.models.spectral import SpatialSpectralNet
from separable.nn.models.unet import UNet
from separable.nn.models.xception import Xception

__all__ = [
    "SCALINGS",
    "ConvNeXt",
    "EfficientNet",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3",
    "MultiModalNet",
    "Network",
    "ResNet",
    "Scaling",
    "SeriesClassifier",
    "SpatialSpectralNet",
    "UNet",
    "Xception",
    "compound_scaling",
    "create",
    "names",
    "sample_shape",
]
