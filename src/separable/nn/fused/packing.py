"""Weights in the order in which the kernels read them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["pack_between", "pack_bias", "pack_depthwise", "pack_pointwise"]


def pack_depthwise(weight: Tensor, channels: int, lanes: int) -> Tensor:
    """Return ``(multiplier, blocks, taps, lanes)`` of weights ``(channels * multiplier, 1, *taps)``."""
    outputs = weight.shape[0]
    flat = weight.detach().reshape(channels, outputs // channels, -1).float()
    padded = functional.pad(flat.permute(1, 2, 0), (0, -channels % lanes))
    multiplier, taps, width = padded.shape
    return padded.reshape(multiplier, taps, width // lanes, lanes).transpose(1, 2).contiguous()


def pack_between(bias: Tensor | None, channels: int, outputs: int, lanes: int) -> Tensor:
    """Return ``(multiplier, blocks * lanes)`` of the biases of the depthwise step, or zeros."""
    multiplier = outputs // channels
    if bias is None:
        return torch.zeros(multiplier, -(-channels // lanes) * lanes, dtype=torch.float32)
    flat = bias.detach().float().reshape(channels, multiplier).T
    return functional.pad(flat, (0, -channels % lanes)).contiguous()


def pack_pointwise(weight: Tensor, channels: int, panel: int, lanes: int) -> Tensor:
    """Return panels ``(depth, panel)`` one after another, the last one of as few vectors as it needs.

    `weight` is ``(outputs, channels * multiplier, ...)``; the rows of a panel have the multiplier outside.
    """
    outputs = weight.shape[0]
    matrix = weight.detach().float().reshape(outputs, channels, -1)
    depth = matrix.shape[1] * matrix.shape[2]
    across = matrix.permute(2, 1, 0).reshape(depth, outputs)
    full = outputs // panel * panel
    packed = [across[:, :full].reshape(depth, -1, panel).transpose(0, 1).reshape(-1)]
    if outputs > full:
        rest = across[:, full:]
        packed.append(functional.pad(rest, (0, -rest.shape[1] % lanes)).reshape(-1))
    return torch.cat(packed).contiguous()


def pack_bias(bias: Tensor | None, outputs: int, panel: int) -> Tensor:
    """Return the biases of the pointwise step, whole panels of them, or zeros."""
    if bias is None:
        return torch.zeros(-(-outputs // panel) * panel, dtype=torch.float32)
    return functional.pad(bias.detach().float(), (0, -outputs % panel)).contiguous()
