"""Step: the description of one convolution of a separated layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["SamePadding", "Step"]

Labels = NDArray[np.intp]


@dataclass(frozen=True)
class SamePadding:
    """Padding of a strided axis that gives ``ceil(size / stride)`` outputs.

    Examples
    --------
    >>> SamePadding(reach=2, stride=2).amounts(8), SamePadding(reach=2, stride=2).amounts(9)
    ((0, 1), (1, 1))
    """

    reach: int
    stride: int

    def amounts(self, size: int) -> tuple[int, int]:
        """Return the padding before and after an axis of this size; an odd sample goes after."""
        total = max((size - 1) // self.stride * self.stride + self.reach + 1 - size, 0)
        return total // 2, total - total // 2


@dataclass(frozen=True)
class Step:
    """One convolution of a separated layer.

    Attributes
    ----------
    factor : int
        Index of the factor of the pattern that the step applies.
    in_channels, out_channels, groups : int
        Arguments of the convolution, for one block of channels.
    kernel_size, stride, dilation : tuple of int
    padding : tuple of (int, int) or SamePadding
        Padding before and after each axis.
    padding_mode : str
    bias : bool
        True for the last step of a layer with a bias.
    shared : int
        Number of blocks of channels to which the convolution is applied with the same weights.
    gather : tuple of int or None
        Input channels that the convolution reads, unless it reads each of them once and in order.
        For instance, a ragged depth multiplier of 3 reads its channel three times.
    scatter : tuple of int or None
        Output channel to which each channel of the convolution is added.
    outputs : int
        Number of channels after the step.
    index : tuple of ndarray
        Value of each channel letter of the factor at ``weight[group, out, in]``.
    positions : int
        Output positions of the step per output position of the layer; in a transposed layer, input
        positions per input position.
    transposed : bool
        True for a transposed convolution.
    output_padding : tuple of int
        Samples that a transposed convolution adds at the end of each axis; empty for others.

    Examples
    --------
    >>> from separable import nn
    >>> [(s.groups, s.weight_shape, s.multiplications) for s in nn.SeparableConv2d(3, 256, 5).steps]
    [(3, (3, 1, 5, 5), 75), (1, (256, 3, 1, 1), 768)]
    """

    factor: int
    in_channels: int
    out_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int] | SamePadding, ...]
    padding_mode: str
    bias: bool
    shared: int
    gather: tuple[int, ...] | None
    scatter: tuple[int, ...] | None
    outputs: int
    index: tuple[Labels, ...] = field(repr=False, compare=False)
    positions: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the size of the output for an input of this size, one number per spatial axis."""
        found = []
        for j, n in enumerate(size):
            pad = self.padding[j]
            total = sum(pad.amounts(n) if isinstance(pad, SamePadding) else pad)
            reach = self.dilation[j] * (self.kernel_size[j] - 1)
            if self.transposed:
                extra = self.output_padding[j] - total
                found.append((n - 1) * self.stride[j] + reach + extra + 1)
            else:
                found.append((n + total - reach - 1) // self.stride[j] + 1)
        return tuple(found)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the convolution's weights as patterns have them, ``(out, in / groups, *kernel)``."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def multiplications(self) -> int:
        """Multiplications per output position of the layer; per input position if transposed."""
        return math.prod(self.weight_shape) * self.shared * self.positions

    @property
    def fan_in(self) -> float:
        """Number of products summed per output; the average if that is ragged."""
        summed = self.out_channels / self.outputs if self.scatter and not self._permutes else 1.0
        return math.prod(self.weight_shape[1:]) * summed

    @property
    def fan_out(self) -> float:
        """Number of outputs that depend on one input, as if the stride were 1."""
        used = 1.0
        if self.gather:
            used = len(self.gather) / (max(self.gather) + 1)
        return self.out_channels // self.groups * math.prod(self.kernel_size) * used

    @cached_property
    def plain(self) -> bool:
        """True if a `torch.nn` convolution computes the whole step."""
        even = all(not isinstance(p, SamePadding) and p[0] == p[1] for p in self.padding)
        return even and self.shared == 1 and self.gather is None and self.scatter is None

    @property
    def _permutes(self) -> bool:
        return self.scatter is not None and len(set(self.scatter)) == len(self.scatter)
