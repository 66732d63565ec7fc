"""Folding of normalisation layers into the convolutions before them, and names of activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from separable.lowering.step import Step
from separable.nn.fused.tracing import Call
from separable.nn.step_modules import _StepConv

__all__ = ["Folded", "as_step", "folded", "name_of_activation"]


@dataclass(frozen=True)
class Folded:
    """Convolution with the layers that were folded into it.

    Attributes
    ----------
    weight : Tensor
    bias : Tensor or None
    act : str
        The activation, one of `ACTIVATIONS`.
    until : int
        The first call of the chain that is not part of it.
    what : str
        The folded layers as text.
    """

    weight: Tensor
    bias: Tensor | None
    act: str
    until: int
    what: str


_NAMES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}


def name_of_activation(module: nn.Module) -> str | None:
    """Return the name of an activation that the operators support, or None."""
    if type(module) is nn.Hardtanh:
        return "relu6" if (module.min_val, module.max_val) == (0.0, 6.0) else None
    if type(module) is nn.GELU:
        return "gelu_tanh" if module.approximate == "tanh" else "gelu"
    return _NAMES.get(type(module))


def folded(chain: Sequence[Call], at: int) -> Folded:
    """Fold the normalisations and the activation after a convolution into it."""
    conv: Any = chain[at].module
    weight, bias = conv.weight.detach(), conv.bias
    bias = None if bias is None else bias.detach()
    words = []
    until, act = at + 1, "none"
    while until < len(chain):
        module = chain[until].module
        if isinstance(module, nn.Identity | nn.Dropout):
            until += 1
        elif isinstance(module, _BatchNorm) and _is_foldable(module, conv):
            weight, bias = _with_norm(weight, bias, module, _added_to(conv))
            words.append("norm")
            until += 1
            inner = _activation_inside(module)
            if inner is not None:
                act = inner
                break
        else:
            break
    if act == "none" and until < len(chain):
        act = name_of_activation(chain[until].module) or "none"
        until += act != "none"
    while until < len(chain) and isinstance(chain[until].module, nn.Identity | nn.Dropout):
        until += 1
    if act != "none":
        words.append(act)
    return Folded(weight, bias, act, until, "".join(f"{w}, " for w in words))


def _is_foldable(norm: Any, conv: Any) -> bool:
    whole = norm.running_mean is not None and norm.running_var is not None
    plain = not isinstance(conv, _StepConv) or conv.step.shared == 1
    inner = getattr(norm, "act", None)
    known = inner is None or isinstance(inner, nn.Identity) or name_of_activation(inner) is not None
    index = _added_to(conv)
    outputs = conv.weight.shape[0] if index is None else conv.step.outputs
    return bool(whole and plain and known and norm.num_features == outputs)


def _added_to(conv: nn.Module) -> list[int] | None:
    """Return the output channel to which each channel of a convolution is added, None for its own."""
    index = conv.step.scatter if isinstance(conv, _StepConv) else None
    return None if index is None else list(index)


def _activation_inside(norm: nn.Module) -> str | None:
    """Return the activation that a normalisation layer applies itself, as those of timm do."""
    inner = getattr(norm, "act", None)
    return None if inner is None else name_of_activation(inner)


def _with_norm(
    weight: Tensor, bias: Tensor | None, norm: Any, added_to: list[int] | None
) -> tuple[Tensor, Tensor]:
    """Fold a batch normalisation with its running statistics into weights and a bias."""
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    if bias is not None:
        shift = shift + bias.double() * scale
    scale = scale if added_to is None else scale[added_to]
    scaled = weight.double() * scale.reshape(-1, *(1,) * (weight.dim() - 1))
    return scaled.to(weight.dtype), shift.to(weight.dtype)


def as_step(conv: nn.Module) -> Step | None:
    """Return a convolution as a step, or None if the operators cannot run it."""
    if isinstance(conv, _StepConv):
        return conv.step
    if not isinstance(conv, _ConvNd) or isinstance(conv, _ConvTransposeNd):
        return None
    if type(conv) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return None
    if isinstance(conv.padding, str):
        reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        pads = tuple((r // 2, r - r // 2) if conv.padding == "same" else (0, 0) for r in reach)
    else:
        pads = tuple((int(p), int(p)) for p in conv.padding)
    return Step(
        0, conv.in_channels, conv.out_channels, conv.groups, tuple(conv.kernel_size),
        tuple(conv.stride), tuple(conv.dilation), pads, conv.padding_mode, conv.bias is not None,
        1, None, None, conv.out_channels, (np.zeros(0, np.intp),),
    )  # fmt: skip
