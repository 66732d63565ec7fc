"""ConvSpec: the arguments of the standard convolution that a separable layer replaces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = ["PADDING_MODES", "ConvSpec", "count", "spread"]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class ConvSpec:
    """Arguments of a standard convolution, one number per spatial axis.

    Attributes
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : tuple of int
    padding : 'same' or tuple of int
        Number of samples added on both sides of each axis. 'same' gives ``ceil(size / stride)``
        outputs, as in Keras: an odd amount of padding has its extra sample at the end.
    groups : int
    bias : bool
    padding_mode : 'zeros', 'reflect', 'replicate' or 'circular'
        Values of the added samples.
    transposed : bool
        True for a transposed convolution, whose padding is cut from the output.
    output_padding : tuple of int
        Samples that a transposed convolution adds at the end of each axis; empty for others.

    Examples
    --------
    >>> spec = ConvSpec.make("layer", 2, in_channels=8, out_channels=16, kernel_size=3, stride=2)
    >>> spec.weight_shape, spec.stride, spec.multiplications
    ((16, 8, 3, 3), (2, 2), 1152)
    """

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    padding_mode: str
    transposed: bool = False
    output_padding: tuple[int, ...] = ()

    @classmethod
    def make(
        cls,
        owner: str,
        ndim: int,
        *,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = "same",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        transposed: bool = False,
        output_padding: int | Sequence[int] = 0,
    ) -> ConvSpec:
        """Check the arguments of a layer and repeat single numbers for every axis.

        `owner` is the name of the layer, for messages.
        """
        if padding_mode not in PADDING_MODES:
            raise ArgumentError(
                f"{owner}: `padding_mode` must be one of {', '.join(PADDING_MODES)}; "
                f"got {padding_mode!r}"
            )
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ArgumentError(
                f"{owner}: `padding` must be 'same', 'valid' or integers; got {padding!r}"
            )
        amounts = 0 if padding == "valid" else padding
        spec = cls(
            count(owner, "in_channels", in_channels),
            count(owner, "out_channels", out_channels),
            spread(owner, "kernel_size", kernel_size, ndim),
            spread(owner, "stride", stride, ndim),
            amounts if isinstance(amounts, str) else spread(owner, "padding", amounts, ndim, 0),
            spread(owner, "dilation", dilation, ndim),
            count(owner, "groups", groups),
            bool(bias),
            padding_mode,
            transposed,
            spread(owner, "output_padding", output_padding, ndim, 0) if transposed else (),
        )
        if transposed:
            spec._check_transposed(owner)
        if spec.in_channels % spec.groups or spec.out_channels % spec.groups:
            raise ArgumentError(
                f"{owner}: `groups` must divide both numbers of channels; got groups={groups}, "
                f"in_channels={in_channels}, out_channels={out_channels}"
            )
        return spec

    def _check_transposed(self, owner: str) -> None:
        """Raise an error for arguments that no transposed convolution has."""
        if isinstance(self.padding, str) or self.padding_mode != "zeros":
            raise ArgumentError(
                f"{owner}: a transposed convolution has integers as `padding` and zeros as "
                f"`padding_mode`; got {self.padding!r} and {self.padding_mode!r}"
            )
        limits = [max(s, d) for s, d in zip(self.stride, self.dilation, strict=True)]
        if any(n >= limit for n, limit in zip(self.output_padding, limits, strict=True)):
            raise ArgumentError(
                f"{owner}: `output_padding` must be less than `stride` or `dilation`; got "
                f"{self.output_padding} with stride {self.stride}, dilation {self.dilation}"
            )

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the size of the output for an input of this size, one number per spatial axis."""
        found = []
        for j, n in enumerate(size):
            pad = 0 if isinstance(self.padding, str) else 2 * self.padding[j]
            if self.transposed:
                extra = self.reach[j] + self.output_padding[j]
                found.append((n - 1) * self.stride[j] - pad + extra + 1)
            elif isinstance(self.padding, str):
                found.append(-(-n // self.stride[j]))
            else:
                found.append((n + pad - self.reach[j] - 1) // self.stride[j] + 1)
        return tuple(found)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weights, ``(out_channels, in_channels // groups, *kernel_size)``."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def multiplications(self) -> int:
        """Multiplications per output position; per input position if transposed."""
        return math.prod(self.weight_shape)

    @property
    def is_depthwise(self) -> bool:
        """True if each filter reads one channel, and there are several channels."""
        return self.groups == self.in_channels > 1

    @property
    def reach(self) -> tuple[int, ...]:
        """Extent of the kernel beyond one sample, per axis: ``dilation * (kernel_size - 1)``."""
        return tuple(d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))

    @property
    def smallest_input(self) -> tuple[int, ...]:
        """Smallest input size along each axis that gives an output."""
        if self.transposed:
            assert not isinstance(self.padding, str)
            missing = (
                2 * p - r - e
                for p, r, e in zip(self.padding, self.reach, self.output_padding, strict=True)
            )
            return tuple(1 + max(0, -(-m // s)) for m, s in zip(missing, self.stride, strict=True))
        if self.padding_mode in ("zeros", "replicate"):
            border = (1,) * self.ndim
        else:
            extra = 1 if self.padding_mode == "reflect" else 0
            same = tuple(r - r // 2 for r in self.reach)
            pads = same if isinstance(self.padding, str) else self.padding
            border = tuple(max(1, p + extra) for p in pads)
        if isinstance(self.padding, str):
            return border
        return tuple(
            max(b, r + 1 - 2 * p) for b, r, p in zip(border, self.reach, self.padding, strict=True)
        )

    def describe(self) -> str:
        """Return the arguments as text, without those that have their default value."""
        words = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        if max(self.stride) > 1:
            words.append(f"stride={self.stride}")
        words.append(f"padding={self.padding!r}")
        if any(self.output_padding):
            words.append(f"output_padding={self.output_padding}")
        if max(self.dilation) > 1:
            words.append(f"dilation={self.dilation}")
        if self.groups > 1:
            words.append(f"groups={self.groups}")
        if not self.bias:
            words.append("bias=False")
        if self.padding_mode != "zeros":
            words.append(f"padding_mode={self.padding_mode!r}")
        return ", ".join(words)


def count(owner: str, name: str, value: object, minimum: int = 1) -> int:
    """Return `value` as an integer of at least `minimum`, or raise an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"{owner}: `{name}` must be an integer; got {value!r}")
    if value < minimum:
        raise ArgumentError(f"{owner}: `{name}` must be >= {minimum}; got {value}")
    return int(value)


def spread(owner: str, name: str, value: object, ndim: int, minimum: int = 1) -> tuple[int, ...]:
    """Return one integer per spatial axis."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return (count(owner, name, value, minimum),) * ndim
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentTypeError(
            f"{owner}: `{name}` must be an integer or one for each of {ndim} axes; got {value!r}"
        )
    if len(value) != ndim:
        raise ArgumentError(
            f"{owner}: `{name}` must have one integer for each of {ndim} axes; got {tuple(value)}"
        )
    return tuple(count(owner, name, v, minimum) for v in value)
