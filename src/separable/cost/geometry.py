"""Convolution: the sizes of one convolution layer, and its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral

from separable.cost.count import Cost, mac_cost
from separable.errors import ArgumentError, ArgumentTypeError

__all__ = ["Convolution", "Padding", "check_sizes", "describe", "outputs_along"]

Padding = str | int | Sequence[int]


@dataclass(frozen=True)
class Convolution:
    """Sizes of one convolution, without weights: what its cost depends on.

    Attributes
    ----------
    space : tuple of int
        The input's sizes in space.
    channels, filters : int
        Input and output channels.
    kernel : tuple of int
        One size per spatial axis.
    stride, dilation : tuple of int
    padding : tuple of (int, int)
        Zeros before and after, along each spatial axis.
    groups : int
        Each filter sees ``channels / groups`` channels.
    transposed : bool
        Each *input* position is multiplied with all weights and scattered; `padding` cuts that
        much off the result, and products that are cut off count, as they are computed.
    output_padding : tuple of int
        Further outputs of a transposed convolution.
    bias : bool
        One addition for each output.
    batch : int
    itemsize : int
        Bytes of one number.

    Examples
    --------
    >>> layer = Convolution((12, 12), 3, 256, (5, 5))
    >>> layer.outputs, layer.multiplications
    ((8, 8), 1228800)
    """

    space: tuple[int, ...]
    channels: int
    filters: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    bias: bool = False
    batch: int = 1
    itemsize: int = 4

    def __post_init__(self) -> None:
        ndim = len(self.space)
        defaults = {
            "stride": (1,) * ndim,
            "padding": ((0, 0),) * ndim,
            "dilation": (1,) * ndim,
            "output_padding": (0,) * ndim,
        }
        for name, value in defaults.items():
            object.__setattr__(self, name, getattr(self, name) or value)

    @classmethod
    def of(
        cls,
        input_shape: Sequence[int],
        kernel_shape: Sequence[int],
        filters: int,
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = "valid",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        transposed: bool = False,
        bias: bool = False,
        batch: int = 1,
        itemsize: int = 4,
    ) -> Convolution:
        """Check the arguments of a layer and create its sizes.

        Parameters
        ----------
        input_shape : sequence of int
            Space first, channels last: ``(12, 12, 3)``.
        kernel_shape : sequence of int
            One number per spatial axis.
        filters : int
            Output channels.
        stride, dilation : int or one per spatial axis
        padding : "valid", "same", int or one per spatial axis
            "same" gives ``ceil(size / stride)`` outputs (``size * stride`` transposed), as Keras
            does; integers are zeros on both sides, as in PyTorch.
        groups : int
        transposed : bool
        bias : bool
        batch : int
        itemsize : int

        Raises
        ------
        ArgumentError
            If a number is out of its range or does not fit the others.
        ArgumentTypeError
            If `padding` or a number is of another type.
        """
        *space, channels = _check_layer(input_shape, kernel_shape)
        ndim = len(space)
        made = cls(
            tuple(space),
            channels,
            _positive("filters", filters),
            tuple(kernel_shape),
            _spread("stride", stride, ndim),
            ((0, 0),) * ndim,
            _spread("dilation", dilation, ndim),
            _positive("groups", groups),
            transposed,
            bias=bias,
            batch=_positive("batch", batch),
            itemsize=_positive("itemsize", itemsize),
        )
        if channels % groups or filters % groups:
            raise ArgumentError(
                f"`groups` must divide the channels and the `filters`; got groups={groups}, "
                f"{channels} channels, filters={filters}"
            )
        return made._padded(padding)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.space)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Sizes of the output along the spatial axes."""
        along = _transposed_along if self.transposed else _along
        return tuple(along(self, axis) for axis in range(self.ndim))

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.filters * (self.channels // self.groups) * math.prod(self.kernel)

    @property
    def multiplications(self) -> int:
        """All weights times all output positions (input positions if transposed)."""
        positions = math.prod(self.space if self.transposed else self.outputs)
        return self.batch * positions * self.weights

    @property
    def cost(self) -> Cost:
        """Cost of the layer; a bias counts as additions and parameters."""
        out = self.batch * math.prod(self.outputs) * self.filters
        moved = self.batch * math.prod(self.space) * self.channels + out
        parameters = self.weights + self.filters * self.bias
        additions = out if self.bias else 0
        return mac_cost(self.multiplications, parameters, moved, self.itemsize, additions=additions)

    def _padded(self, padding: Padding) -> Convolution:
        """Return the convolution with its padding, which is checked against the kernel size."""
        if padding == "same":
            sides = tuple(_same(self, axis) for axis in range(self.ndim))
            extra = tuple(s - k for s, k in zip(self.stride, _extents(self), strict=True))
            more = tuple(max(0, e) if self.transposed else 0 for e in extra)
            return replace(self, padding=sides, output_padding=more)
        if isinstance(padding, str) and padding != "valid":
            raise ArgumentError(
                f"`padding` must be 'same', 'valid' or whole numbers; got {padding!r}"
            )
        numbers = 0 if isinstance(padding, str) else padding
        sides = tuple((p, p) for p in _spread("padding", numbers, self.ndim, minimum=0))
        made = replace(self, padding=sides)
        if any(n < 1 for n in made.outputs):
            raise ArgumentError(
                f"`kernel_shape` {self.kernel} must fit into the input {self.space}"
                + (f" with dilation {self.dilation}" if max(self.dilation) > 1 else "")
                + (f" and padding {padding}" if numbers else "")
                + ". Pad it, for instance padding='same'"
            )
        return made


def outputs_along(size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]) -> int:
    """Return the number of outputs along one axis.

    Examples
    --------
    >>> outputs_along(12, 5, 1, 1, (0, 0))
    8
    """
    return (size + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1


def describe(sizes: Sequence[int]) -> str:
    """Return sizes as text, for instance ``8x8x256``.

    Examples
    --------
    >>> describe((8, 8, 256))
    '8x8x256'
    """
    return "x".join(map(str, sizes))


def check_sizes(name: str, sizes: Sequence[int]) -> None:
    """Raise an error unless all sizes are >= 1.

    Raises
    ------
    ArgumentError
    """
    if not sizes or any(n < 1 for n in sizes):
        raise ArgumentError(f"`{name}` must be sizes >= 1; got {tuple(sizes)}")


def _extents(layer: Convolution) -> tuple[int, ...]:
    """Return the extent of the dilated kernel along each axis."""
    return tuple(d * (k - 1) + 1 for k, d in zip(layer.kernel, layer.dilation, strict=True))


def _along(layer: Convolution, axis: int) -> int:
    return outputs_along(
        layer.space[axis],
        layer.kernel[axis],
        layer.stride[axis],
        layer.dilation[axis],
        layer.padding[axis],
    )


def _transposed_along(layer: Convolution, axis: int) -> int:
    reached = (layer.space[axis] - 1) * layer.stride[axis] + _extents(layer)[axis]
    return reached - sum(layer.padding[axis]) + layer.output_padding[axis]


def _same(layer: Convolution, axis: int) -> tuple[int, int]:
    """Return the padding for which the number of outputs depends on size and stride alone."""
    size, stride, extent = layer.space[axis], layer.stride[axis], _extents(layer)[axis]
    if layer.transposed:
        total = max(0, extent - stride)
    else:
        total = max(0, (math.ceil(size / stride) - 1) * stride + extent - size)
    return total // 2, total - total // 2


def _check_layer(input_shape: Sequence[int], kernel_shape: Sequence[int]) -> tuple[int, ...]:
    check_sizes("input_shape", input_shape)
    check_sizes("kernel_shape", kernel_shape)
    axes = len(input_shape) - 1
    if len(kernel_shape) != axes:
        remedy = ""
        if len(kernel_shape) == len(input_shape):
            remedy = f". Append the channels, for instance {(*input_shape, 3)}"
        elif len(kernel_shape) == 1:
            remedy = (
                f". Give the kernel one size for each axis, for instance {(*kernel_shape,) * axes}"
            )
        raise ArgumentError(
            f"`input_shape` must be one size for each kernel axis and the channels; "
            f"got {tuple(input_shape)} for a kernel {tuple(kernel_shape)}{remedy}"
        )
    return tuple(input_shape)


def _positive(name: str, value: int) -> int:
    return _spread(name, value, 1)[0]


def _spread(name: str, value: int | Sequence[int], ndim: int, minimum: int = 1) -> tuple[int, ...]:
    """Return one integer per spatial axis."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,) * ndim
    if any(isinstance(n, bool) or not isinstance(n, Integral) for n in numbers):
        raise ArgumentTypeError(f"`{name}` must be whole numbers; got {value!r}")
    if len(numbers) != ndim or min(numbers) < minimum:
        each = f" for each of {ndim} axes" if ndim > 1 else ""
        raise ArgumentError(f"`{name}` must be whole numbers >= {minimum}{each}; got {value!r}")
    return tuple(map(int, numbers))
