"""LayerSizes: the sizes of a layer and its input on a GPU, always with three spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LayerSizes", "Three", "axes_of", "power_of_two", "strides_of", "three"]

Three = tuple[int, int, int]


def three(values: Sequence[int], fill: int) -> Three:
    """Return values per spatial axis as (z, y, x); axes that are not there are filled in front."""
    z, y, x = (fill,) * (3 - len(values)) + tuple(int(v) for v in values)
    return z, y, x


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least `n`.

    >>> [power_of_two(n) for n in (1, 3, 16, 17)]
    [1, 4, 16, 32]
    """
    return 1 << max(0, n - 1).bit_length()


def strides_of(t: Tensor) -> tuple[int, int, int, int, int]:
    """Return the strides of a tensor (n, channels, *space) for image, channel, z, y and x.

    The strides of axes of size 1 are never multiplied by anything but 0; they are given as 0.
    """
    strides = [0 if n == 1 else s for n, s in zip(t.shape, t.stride(), strict=True)]
    z, y, x = three(strides[2:], 0)
    return strides[0], strides[1], z, y, x


def axes_of(name: str, values: Sequence[int]) -> dict[str, int]:
    """Return values per axis by the names of a kernel's parameters.

    >>> axes_of("pad", (0, 1, 2))
    {'pad_z': 0, 'pad_y': 1, 'pad_x': 2}
    """
    return {f"{name}_{axis}": value for axis, value in zip("zyx", values, strict=True)}


@dataclass(frozen=True)
class LayerSizes:
    """Sizes of a depthwise step, with or without a pointwise one.

    Attributes
    ----------
    images, channels : int
    size, kernel, stride, dilation, before, out : tuple of three int
        Input size, kernel size, stride, dilation, padding in front of each axis, output size.
    multiplier : int
        Depthwise outputs per channel.
    outputs : int
        Outputs of the pointwise step; 0 if there is none.
    """

    images: int
    channels: int
    size: Three
    kernel: Three
    stride: Three
    dilation: Three
    before: Three
    out: Three
    multiplier: int
    outputs: int

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        depthwise: Sequence[int],
        outputs: int,
        window: tuple[Sequence[int], Sequence[int], Sequence[int]],
    ) -> LayerSizes:
        """Return the sizes for the shapes of an input and of the depthwise weights.

        `window` has stride, padding before and after each axis, and dilation.
        """
        stride, padding, dilation = window
        size, kernel = three(shape[2:], 1), three(depthwise[2:], 1)
        steps, dilations = three(stride, 1), three(dilation, 1)
        before, after = three(padding[0::2], 0), three(padding[1::2], 0)
        out = [
            (n + b + a - d * (k - 1) - 1) // s + 1
            for n, b, a, d, k, s in zip(size, before, after, dilations, kernel, steps, strict=True)
        ]
        return cls(
            shape[0], shape[1], size, kernel, steps, dilations, before, three(out, 1),
            depthwise[0] // shape[1], outputs,
        )  # fmt: skip

    @property
    def depth(self) -> int:
        """Number of middle channels."""
        return self.channels * self.multiplier

    @property
    def taps(self) -> int:
        """Number of taps of the depthwise kernel."""
        return math.prod(self.kernel)

    @property
    def positions(self) -> int:
        """Number of output positions of all images."""
        return self.images * math.prod(self.out)

    @property
    def key(self) -> tuple[int, ...]:
        """All sizes as one tuple, by which tuned tiles are kept."""
        return (
            self.images, self.channels, *self.size, *self.kernel, *self.stride, *self.dilation,
            *self.before, *self.out, self.multiplier, self.outputs,
        )  # fmt: skip

    def constants(self) -> dict[str, int]:
        """Return kernel size, stride and dilation by the names of a kernel's constants."""
        named = zip(("K", "S", "D"), (self.kernel, self.stride, self.dilation), strict=True)
        return {
            f"{name}{axis}": v
            for name, values in named
            for axis, v in zip("ZYX", values, strict=True)
        }

    def read_by_tiles(self, tile: Three) -> int:
        """Return how many input samples of one channel and image all tiles of output positions read.

        Samples that several tiles need are counted for each of them, those outside the image never.
        """
        total = 1
        for axis in range(3):
            reach = self.dilation[axis] * (self.kernel[axis] - 1)
            read = 0
            for first in range(0, self.out[axis], tile[axis]):
                last = min(first + tile[axis], self.out[axis]) - 1
                low = max(0, first * self.stride[axis] - self.before[axis])
                high = min(
                    self.size[axis] - 1, last * self.stride[axis] - self.before[axis] + reach
                )
                read += max(0, high - low + 1)
            total *= read
        return total

    def tiles(self, tile: Three) -> Three:
        """Return the number of tiles along each axis."""
        z, y, x = (-(-n // t) for n, t in zip(self.out, tile, strict=True))
        return z, y, x
