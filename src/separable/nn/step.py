"""Step: one convolution of a separated layer, as a value."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Same", "Step"]

Labels = NDArray[np.intp]


@dataclass(frozen=True)
class Same:
    """The padding of an axis with a stride that gives ``ceil(size / stride)`` outputs.

    Examples
    --------
    >>> Same(reach=2, stride=2).amounts(8), Same(reach=2, stride=2).amounts(9)
    ((0, 1), (1, 1))
    """

    reach: int
    stride: int

    def amounts(self, size: int) -> tuple[int, int]:
        """Return how much to add before and behind an axis of this size; the odd one is behind."""
        total = max((size - 1) // self.stride * self.stride + self.reach + 1 - size, 0)
        return total // 2, total - total // 2


@dataclass(frozen=True)
class Step:
    """One convolution of a separated layer.

    Attributes
    ----------
    factor : int
        Which factor of the pattern it applies.
    in_channels, out_channels, groups : int
        Of the convolution, for one value of the letters carried along.
    kernel_size, stride, dilation : tuple of int
    padding : tuple of (int, int) or Same
        Before and behind each axis.
    padding_mode : str
    bias : bool
        The last step has the layer's.
    shared : int
        How many blocks of channels go through the convolution one by one with the same weights.
    gather : tuple of int or None
        The input channels that the convolution takes, where it does not take each once and in
        order: a channel with depth multiplier 3 is taken three times.
    scatter : tuple of int or None
        The output channel that each channel of the convolution is added to.
    outputs : int
        The channels after it all.
    index : tuple of ndarray
        For each channel letter of the factor, its value at ``weight[group, out, in]``.
    positions : int
        How many positions of its output there are for one of the layer's output.

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
    padding: tuple[tuple[int, int] | Same, ...]
    padding_mode: str
    bias: bool
    shared: int
    gather: tuple[int, ...] | None
    scatter: tuple[int, ...] | None
    outputs: int
    index: tuple[Labels, ...] = field(repr=False, compare=False)
    positions: int = 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the convolution's weights."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def multiplications(self) -> int:
        """Multiplications for each position of the layer's output."""
        return math.prod(self.weight_shape) * self.shared * self.positions

    @property
    def fan_in(self) -> float:
        """How many products are summed to one output, on average where that is ragged."""
        summed = self.out_channels / self.outputs if self.scatter and not self._permutes else 1.0
        return math.prod(self.weight_shape[1:]) * summed

    @property
    def fan_out(self) -> float:
        """How many outputs one input takes part in, counted as if there were no stride."""
        used = 1.0
        if self.gather:
            used = len(self.gather) / (max(self.gather) + 1)
        return self.out_channels // self.groups * math.prod(self.kernel_size) * used

    @cached_property
    def plain(self) -> bool:
        """Whether a `torch.nn` convolution does it all."""
        even = all(not isinstance(p, Same) and p[0] == p[1] for p in self.padding)
        return even and self.shared == 1 and self.gather is None and self.scatter is None

    @property
    def _permutes(self) -> bool:
        return self.scatter is not None and len(set(self.scatter)) == len(self.scatter)
