"""Light steps of networks, each a kernel that runs alone or as a step of a program.

All arrays are dense float32 with the channels last, [image][position][channel], unless a step from a position to the
next says otherwise: so a step reads or writes some of the channels of a larger array.

`elementwise` has sums, products and activations; `pooling` windows, and averages of whole images; `copies` padding,
upsampling, channel shuffles, pixel shuffles and parts of channels; `layer_norm` normalisation over channels and
softmax; `linear` linear layers, and the two of
squeeze-and-excitation in one step.
"""

from __future__ import annotations

from separable.nn.fused.steps.copies import Copies, CopyPlan
from separable.nn.fused.steps.elementwise import Elementwise, ElementwisePlan
from separable.nn.fused.steps.layer_norm import LayerNorm, LayerNormPlan, SoftmaxPlan
from separable.nn.fused.steps.linear import (
    Excitation,
    ExcitationPlan,
    PackedLinear,
    linear_plan,
    pack_linear,
)
from separable.nn.fused.steps.pooling import AveragePlan, Pooling, PoolingPlan

__all__ = [
    "AveragePlan",
    "Copies",
    "CopyPlan",
    "Elementwise",
    "ElementwisePlan",
    "Excitation",
    "ExcitationPlan",
    "LayerNorm",
    "LayerNormPlan",
    "PackedLinear",
    "Pooling",
    "PoolingPlan",
    "SoftmaxPlan",
    "linear_plan",
    "pack_linear",
]
