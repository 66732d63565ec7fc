"""Cost of dense and of depthwise separable convolution layers."""

from __future__ import annotations

from collections.abc import Sequence

from separable.cost.count import Cost
from separable.cost.factored_layers_cost import factored
from separable.cost.geometry import Convolution, Padding
from separable.errors import ArgumentError

__all__ = ["conv", "separable"]

SPACE = {1: "x", 2: "yx", 3: "zyx", 4: "tzyx"}  # the letters of the spatial axes


def conv(
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
    itemsize: int = 4,
) -> Cost:
    """Count a convolution layer: all its weights at each output position.

    Parameters
    ----------
    input_shape : sequence of int
        Space first, channels last: ``(12, 12, 3)``.
    kernel_shape : sequence of int
        Kernel size along each spatial axis.
    filters : int
        Output channels.
    stride, dilation : int or one per spatial axis
    padding : "valid", "same", int or one per spatial axis
        No padding by default. "same" gives ``ceil(size / stride)`` outputs
        (``size * stride`` transposed), as Keras does; integers are zeros on both sides, as in
        PyTorch. Products with these zeros are counted.
    groups : int
        Each filter sees ``channels / groups`` channels.
    transposed : bool
        Each *input* position is multiplied with all weights.
    bias : bool
        True if there is a bias, which is counted as one of `additions` per output.
    itemsize : int
        Bytes of one number; 4 for float32.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a number is out of its range or does not fit the others.

    Examples
    --------
    >>> conv((12, 12, 3), (5, 5), 256).multiplications
    1228800
    >>> conv((112, 112, 32), (3, 3), 32, padding="same", groups=32).multiplications
    3612672
    """
    layer = Convolution.of(
        input_shape, kernel_shape, filters, stride=stride, padding=padding, dilation=dilation,
        groups=groups, transposed=transposed, bias=bias, itemsize=itemsize,
    )  # fmt: skip
    return layer.cost


def separable(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    filters: int,
    *,
    depth_multiplier: int = 1,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    bias: bool = False,
    itemsize: int = 4,
) -> Cost:
    """Count a depthwise separable layer: a depthwise and a pointwise convolution.

    The ratio of dense to separable is ``C_out K^N / (M (K^N + C_out))``.

    Parameters
    ----------
    input_shape, kernel_shape, filters, stride, padding, dilation, itemsize
        See `conv`; stride, dilation and padding belong to the depthwise part.
    depth_multiplier : int
        Depthwise outputs per input channel.
    bias : bool
        True if the pointwise convolution has a bias.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a number is out of its range or does not fit the others.

    Examples
    --------
    >>> separable((12, 12, 3), (5, 5), 256).multiplications
    53952
    >>> separable((3, 3, 64), (3, 3), 128).multiplications
    8768
    """
    if len(kernel_shape) not in SPACE:
        raise ArgumentError(f"`kernel_shape` must have 1 to 4 axes; got {tuple(kernel_shape)}")
    space = SPACE[len(kernel_shape)]
    return factored(
        input_shape, kernel_shape, filters, f"oc{space} -> oc,c{space}", rank=depth_multiplier,
        stride=stride, padding=padding, dilation=dilation, bias=bias, itemsize=itemsize,
    )  # fmt: skip
