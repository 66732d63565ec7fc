"""What filters and layers cost, in closed form.

One convention: a *multiplication* is one multiplication of a weight with a value; a MAC is that
with the addition that follows; FLOPs count both, so they are twice the MACs. Biases are counted
apart: they are additions. One forward pass, one image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from separable.errors import ArgumentError

__all__ = ["Cost", "conv", "dense_filter", "separable", "separable_filter"]


@dataclass(frozen=True)
class Cost:
    """Counts of one computation; they add up.

    Attributes
    ----------
    multiplications, macs, flops : int
    parameters : int
    activation_bytes, weight_bytes : int
        Read and written once each.

    Examples
    --------
    >>> dense_filter((7, 7)) + dense_filter((7, 7)) == dense_filter((7, 7), outputs=2)
    False
    >>> (dense_filter((7, 7)) + dense_filter((7, 7))).multiplications
    98
    """

    multiplications: int = 0
    macs: int = 0
    flops: int = 0
    parameters: int = 0
    activation_bytes: int = 0
    weight_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)))

    @property
    def multiplications_per_byte(self) -> float:
        """The arithmetic intensity, in multiplications a byte moved."""
        moved = self.activation_bytes + self.weight_bytes
        return self.multiplications / moved if moved else math.nan


def dense_filter(kernel_shape: Sequence[int], outputs: int = 1, itemsize: int = 4) -> Cost:
    """Count a dense kernel: ``prod(K)`` multiplications for each output.

    Parameters
    ----------
    kernel_shape : sequence of int
    outputs : int
        Pixels or voxels of the result.
    itemsize : int
        Bytes of one number; 4 for float32.

    Examples
    --------
    >>> [dense_filter(k).multiplications for k in [(3, 3), (7, 7), (7, 7, 7), (10, 10, 10)]]
    [9, 49, 343, 1000]
    """
    _check_sizes("kernel_shape", kernel_shape)
    taps = math.prod(kernel_shape)
    return _cost(taps * outputs, taps, 2 * outputs, itemsize)


def separable_filter(
    kernel_shape: Sequence[int], rank: int = 1, outputs: int = 1, itemsize: int = 4
) -> Cost:
    """Count a sum of `rank` separable terms: ``rank * sum(K)`` multiplications for each output.

    Parameters
    ----------
    kernel_shape : sequence of int
    rank : int
    outputs : int
    itemsize : int

    Examples
    --------
    >>> [separable_filter(k).multiplications for k in [(3, 3), (7, 7), (7, 7, 7), (10, 10, 10)]]
    [6, 14, 21, 30]
    """
    _check_sizes("kernel_shape", kernel_shape)
    taps = rank * sum(kernel_shape)
    return _cost(taps * outputs, taps, 2 * rank * len(kernel_shape) * outputs, itemsize)


def conv(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    filters: int,
    *,
    stride: int = 1,
    itemsize: int = 4,
) -> Cost:
    """Count a dense convolution layer without padding.

    Parameters
    ----------
    input_shape : sequence of int
        Space first, channels last: ``(12, 12, 3)``.
    kernel_shape : sequence of int
        One number for each axis of space.
    filters : int
        Output channels.
    stride : int
    itemsize : int
        Bytes of one number; 4 for float32.

    Examples
    --------
    >>> conv((12, 12, 3), (5, 5), 256).multiplications
    1228800
    """
    *space, channels = _check_layer(input_shape, kernel_shape)
    positions = _positions(space, kernel_shape, stride)
    weights = math.prod(kernel_shape) * channels * filters
    moved = math.prod(input_shape) + positions * filters
    return _cost(positions * weights, weights, moved, itemsize)


def separable(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    filters: int,
    *,
    depth_multiplier: int = 1,
    stride: int = 1,
    itemsize: int = 4,
) -> Cost:
    """Count a depthwise separable layer without padding: a depthwise and a pointwise convolution.

    Parameters
    ----------
    input_shape, kernel_shape, filters, stride, itemsize
        As for `conv`.
    depth_multiplier : int
        Depthwise outputs for each input channel.

    Examples
    --------
    >>> separable((12, 12, 3), (5, 5), 256).multiplications
    53952
    >>> separable((3, 3, 64), (3, 3), 128).multiplications
    8768
    """
    *space, channels = _check_layer(input_shape, kernel_shape)
    positions = _positions(space, kernel_shape, stride)
    between = channels * depth_multiplier
    depthwise = math.prod(kernel_shape) * between
    pointwise = between * filters
    first = _cost(
        positions * depthwise, depthwise, math.prod(input_shape) + positions * between, itemsize
    )
    second = _cost(
        positions * pointwise, pointwise, positions * between + positions * filters, itemsize
    )
    return first + second


def _cost(macs: int, parameters: int, moved: int, itemsize: int) -> Cost:
    return Cost(macs, macs, 2 * macs, parameters, moved * itemsize, parameters * itemsize)


def _check_sizes(name: str, sizes: Sequence[int]) -> None:
    if not sizes or any(n < 1 for n in sizes):
        raise ArgumentError(f"`{name}` must be sizes >= 1; got {tuple(sizes)}")


def _check_layer(input_shape: Sequence[int], kernel_shape: Sequence[int]) -> tuple[int, ...]:
    _check_sizes("input_shape", input_shape)
    _check_sizes("kernel_shape", kernel_shape)
    if len(input_shape) != len(kernel_shape) + 1:
        raise ArgumentError(
            f"`input_shape` must be one size for each kernel axis and the channels; "
            f"got {tuple(input_shape)} for a kernel {tuple(kernel_shape)}"
        )
    return tuple(input_shape)


def _positions(space: Sequence[int], kernel_shape: Sequence[int], stride: int) -> int:
    if any(k > n for n, k in zip(space, kernel_shape, strict=True)):
        raise ArgumentError(
            f"`kernel_shape` {tuple(kernel_shape)} must fit into the input {tuple(space)}"
        )
    return math.prod((n - k) // stride + 1 for n, k in zip(space, kernel_shape, strict=True))
