"""Conversion between the weights of Keras layers and factors; Keras itself is not needed.

Keras keeps the spatial axes first: a depthwise kernel is ``(*space, in, multiplier)``, a
pointwise one ``(1.., in * multiplier, out)``; its output channel ``c * multiplier + m`` of the
depthwise step is the m-th of channel c, as it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError

__all__ = ["KerasWeights", "read_depthwise", "read_separable", "write_depthwise", "write_separable"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class KerasWeights:
    """Sizes and arrays read from the weights of a Keras layer.

    Attributes
    ----------
    channels, multiplier, outputs : int
    kernel_size : tuple of int
    arrays : tuple of ndarray
        The arrays of the factors, ``(Roc, Rc*space)`` or ``(c, m, *space)``.
    bias : Tensor or None
    """

    channels: int
    multiplier: int
    outputs: int
    kernel_size: tuple[int, ...]
    arrays: tuple[Array, ...]
    bias: torch.Tensor | None


def read_separable(owner: str, weights: Sequence[ArrayLike], ndim: int) -> KerasWeights:
    """Read the weights of a `SeparableConv1D` or `SeparableConv2D`.

    Examples
    --------
    >>> found = read_separable("layer", [np.ones((5, 4, 2)), np.ones((1, 8, 3))], ndim=1)
    >>> found.channels, found.multiplier, found.outputs, [a.shape for a in found.arrays]
    (4, 2, 3, [(2, 3, 4), (2, 4, 5)])
    """
    arrays = [np.asarray(w) for w in weights]
    if len(arrays) not in (2, 3) or arrays[0].ndim != ndim + 2:
        raise _mismatch(owner, "(*space, in, multiplier), (1.., in * multiplier, out)", arrays)
    *kernel_size, channels, multiplier = arrays[0].shape
    outputs = arrays[1].shape[-1] if arrays[1].ndim else 0
    wanted = [arrays[0].shape, (1,) * ndim + (channels * multiplier, outputs), (outputs,)]
    if [a.shape for a in arrays] != wanted[: len(arrays)]:
        raise _mismatch(owner, ", ".join(map(str, wanted[: len(arrays)])), arrays)
    pointwise = arrays[1].reshape(channels, multiplier, outputs).transpose(1, 2, 0)
    depthwise = np.moveaxis(arrays[0], (-1, -2), (0, 1))
    bias = torch.tensor(arrays[2]) if len(arrays) == 3 else None
    factors = (pointwise, depthwise)
    return KerasWeights(channels, multiplier, outputs, tuple(kernel_size), factors, bias)


def read_depthwise(owner: str, weights: Sequence[ArrayLike], ndim: int) -> KerasWeights:
    """Read the weights of a `DepthwiseConv1D` or `DepthwiseConv2D`.

    Examples
    --------
    >>> read_depthwise("layer", [np.ones((3, 3, 8, 2)), np.ones(16)], ndim=2).outputs
    16
    """
    arrays = [np.asarray(w) for w in weights]
    if len(arrays) not in (1, 2) or arrays[0].ndim != ndim + 2:
        raise _mismatch(owner, "(*space, in, multiplier), (in * multiplier,)", arrays)
    *kernel_size, channels, multiplier = arrays[0].shape
    outputs = channels * multiplier
    wanted = [arrays[0].shape, (outputs,)][: len(arrays)]
    if [a.shape for a in arrays] != wanted:
        raise _mismatch(owner, ", ".join(map(str, wanted)), arrays)
    kernel = np.moveaxis(arrays[0], (-2, -1), (0, 1))
    bias = torch.tensor(arrays[1]) if len(arrays) == 2 else None
    return KerasWeights(channels, multiplier, outputs, tuple(kernel_size), (kernel,), bias)


def write_separable(pointwise: Array, depthwise: Array, bias: Array | None) -> list[Array]:
    """Return the Keras weights of the factors ``(R, o, c)`` and ``(R, c, *space)``."""
    multiplier, outputs, channels = pointwise.shape
    ones = (1,) * (depthwise.ndim - 2)
    mixed = pointwise.transpose(2, 0, 1).reshape(*ones, channels * multiplier, outputs)
    return [write_depthwise(depthwise.swapaxes(0, 1), None)[0], mixed, *_listed(bias)]


def write_depthwise(kernel: Array, bias: Array | None) -> list[Array]:
    """Return the Keras weights of a kernel ``(c, m, *space)``."""
    return [np.ascontiguousarray(np.moveaxis(kernel, (0, 1), (-2, -1))), *_listed(bias)]


def _listed(bias: Array | None) -> list[Array]:
    return [] if bias is None else [bias]


def _mismatch(owner: str, wanted: str, arrays: Sequence[Array]) -> ArgumentError:
    got = ", ".join(str(a.shape) for a in arrays)
    return ArgumentError(
        f"{owner}.from_keras_weights: expected `weights` of shapes {wanted}, the bias last where "
        f"there is one; got {len(arrays)} of shapes {got}"
    )
