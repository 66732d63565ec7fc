"""ConvSpec: the standard convolution that a separable layer stands for, checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = ["CONVS", "PADDING_MODES", "ConvSpec"]

CONVS: dict[int, Any] = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@dataclass(frozen=True)
class ConvSpec:
    """The arguments of a standard convolution, one number for each axis of space.

    Attributes
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : tuple of int
    padding : 'same' or tuple of int
        Zeros (or what `padding_mode` says) on both sides of each axis. 'same' gives
        ``ceil(size / stride)`` outputs, as Keras does it: what is odd goes behind.
    groups : int
    bias : bool
    padding_mode : 'zeros', 'reflect', 'replicate' or 'circular'

    Examples
    --------
    >>> spec = ConvSpec.of(torch.nn.Conv2d(8, 16, 3, stride=2, padding=1))
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
    ) -> ConvSpec:
        """Check the arguments of a layer of this kind and spread single numbers over the axes."""
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
        )
        if spec.in_channels % spec.groups or spec.out_channels % spec.groups:
            raise ArgumentError(
                f"{owner}: `groups` must divide both numbers of channels; got groups={groups}, "
                f"in_channels={in_channels}, out_channels={out_channels}"
            )
        return spec

    @classmethod
    def of(cls, conv: Any) -> ConvSpec:
        """Read the arguments of a `torch.nn.Conv1d`, `Conv2d` or `Conv3d`.

        Raises
        ------
        ArgumentTypeError
            If it is another module, for instance a transposed convolution.
        """
        if isinstance(conv, torch.nn.modules.lazy.LazyModuleMixin):
            raise ArgumentTypeError(
                f"`conv` has no weights yet: run {type(conv).__name__} once on an input"
            )
        if not isinstance(conv, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
            raise ArgumentTypeError(
                "`conv` must be a torch.nn.Conv1d, Conv2d or Conv3d; got "
                f"{type(conv).__name__}: a transposed convolution or another layer has no "
                "kernel that these patterns describe"
            )
        return cls.make(
            type(conv).__name__,
            len(conv.kernel_size),
            in_channels=conv.in_channels,
            out_channels=conv.out_channels,
            kernel_size=conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            groups=conv.groups,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
        )

    @property
    def ndim(self) -> int:
        """The number of axes of space."""
        return len(self.kernel_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the weights, ``(out_channels, in_channels // groups, *kernel_size)``."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def multiplications(self) -> int:
        """Multiplications for each position of the output."""
        return math.prod(self.weight_shape)

    @property
    def reach(self) -> tuple[int, ...]:
        """How far the kernel reaches along each axis: ``dilation * (kernel_size - 1)``."""
        return tuple(d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))

    @property
    def smallest_input(self) -> tuple[int, ...]:
        """The smallest size of each axis for which there is an output."""
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

    def build(self, device: Any = None, dtype: torch.dtype | None = None) -> torch.nn.Module:
        """Make the `torch.nn` convolution.

        Raises
        ------
        ArgumentError
            If no standard convolution pads so: 'same' with a stride needs an amount of padding
            that depends on the input's size.
        """
        if self.padding == "same" and max(self.stride) > 1:
            raise ArgumentError(
                f"no torch.nn.Conv{self.ndim}d pads 'same' with stride {self.stride}: the amount "
                "depends on the input's size. Give the padding as integers"
            )
        made: torch.nn.Module = CONVS[self.ndim](
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding,
            self.dilation, self.groups, self.bias, self.padding_mode, device=device, dtype=dtype,
        )  # fmt: skip
        return made

    def describe(self) -> str:
        """Say the arguments as one would write them, defaults left out."""
        words = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        if max(self.stride) > 1:
            words.append(f"stride={self.stride}")
        words.append(f"padding={self.padding!r}")
        if max(self.dilation) > 1:
            words.append(f"dilation={self.dilation}")
        if self.groups > 1:
            words.append(f"groups={self.groups}")
        if not self.bias:
            words.append("bias=False")
        if self.padding_mode != "zeros":
            words.append(f"padding_mode={self.padding_mode!r}")
        return ", ".join(words)


def count(owner: str, name: str, value: object, least: int = 1) -> int:
    """Return a whole number that is large enough, or say which argument is none."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"{owner}: `{name}` must be an integer; got {value!r}")
    if value < least:
        raise ArgumentError(f"{owner}: `{name}` must be >= {least}; got {value}")
    return int(value)


def spread(owner: str, name: str, value: object, ndim: int, least: int = 1) -> tuple[int, ...]:
    """Return one whole number for each axis of space."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return (count(owner, name, value, least),) * ndim
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ArgumentTypeError(
            f"{owner}: `{name}` must be an integer or one for each of {ndim} axes; got {value!r}"
        )
    if len(value) != ndim:
        raise ArgumentError(
            f"{owner}: `{name}` must have one integer for each of {ndim} axes; got {tuple(value)}"
        )
    return tuple(count(owner, name, v, least) for v in value)
