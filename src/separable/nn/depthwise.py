"""DepthwiseConv1d, 2d, 3d and PointwiseConv: the two steps of a separable layer as layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from separable.errors import ArgumentError
from separable.lowering.conv_spec import count
from separable.lowering.scheme import Scheme, space_letters
from separable.lowering.step import Step
from separable.nn.factored_conv import FactoredConv, Sizes
from separable.nn.fused.forward import is_depthwise, run_depthwise
from separable.nn.fused.repeated_layer import RepeatingLayer
from separable.nn.keras import read_depthwise, write_depthwise
from separable.nn.torch_convs import CONVS
from separable.pattern import Pattern

__all__ = ["DepthwiseConv1d", "DepthwiseConv2d", "DepthwiseConv3d", "PointwiseConv"]

Depthwise = TypeVar("Depthwise", bound="_DepthwiseConv")


class _DepthwiseConv(RepeatingLayer, FactoredConv):
    """Convolution of each channel alone, over `spatial_ndim` axes; see `DepthwiseConv2d`."""

    spatial_ndim: ClassVar[int]

    def __init__(
        self,
        channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: str | Sizes = "same",
        dilation: Sizes = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        owner = type(self).__name__
        channels = count(owner, "channels", channels)
        outputs = channels * count(owner, "depth_multiplier", depth_multiplier)
        super().__init__(
            self._patterns(self.spatial_ndim)[0], channels, outputs, kernel_size, stride, padding,
            dilation, channels, bias, padding_mode, rank=1, device=device, dtype=dtype,
        )  # fmt: skip

    @classmethod
    def _patterns(cls, ndim: int) -> tuple[Pattern, ...]:
        return (_single("o" + space_letters(ndim)),)

    @classmethod
    def _name(cls, scheme: Scheme, step: Step) -> str:
        return "depthwise"

    @classmethod
    def from_keras_weights(
        cls: type[Depthwise],
        weights: Sequence[ArrayLike],
        *,
        stride: Sizes = 1,
        padding: str | Sizes = "valid",
        dilation: Sizes = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> Depthwise:
        """Create the layer from the weights of a Keras `DepthwiseConv1D` or `DepthwiseConv2D`.

        Parameters
        ----------
        weights : sequence of array_like
            Result of ``layer.get_weights()``: the kernel ``(*space, channels, multiplier)`` and
            the bias if there is one.
        stride, padding, dilation
            Keras's `strides`, `padding` ('valid' by default, as there) and `dilation_rate`.
        device, dtype
            See `DepthwiseConv2d`.

        Raises
        ------
        ArgumentError
            If the arrays' shapes do not fit together.

        Examples
        --------
        >>> import numpy as np
        >>> DepthwiseConv1d.from_keras_weights([np.zeros((3, 8, 2))], padding="same").spec.bias
        False
        """
        found = read_depthwise(cls.__name__, weights, cls.spatial_ndim)
        layer = cls(
            found.channels, found.kernel_size, stride, padding, dilation, found.multiplier,
            found.bias is not None, device=device, dtype=dtype,
        )  # fmt: skip
        layer._load([found.arrays[0].reshape(layer.scheme.kernel_shape)], found.bias)
        return layer

    def to_keras_weights(self) -> list[NDArray[Any]]:
        """Return the weights for ``set_weights`` of the Keras layer of the same name.

        Examples
        --------
        >>> [w.shape for w in DepthwiseConv2d(8, 3, depth_multiplier=2).to_keras_weights()]
        [(3, 3, 8, 2), (16,)]
        """
        shape = (self.spec.in_channels, self.depth_multiplier, *self.spec.kernel_size)
        return write_depthwise(self._arrays(double=False)[0].reshape(shape), self._bias())

    def _by_kernels(self, input: Tensor) -> Tensor | None:
        return run_depthwise(self.steps[0], self._modules["depthwise"], input, self)

    def _is_served(self) -> bool:
        return is_depthwise(self.steps[0])

    @property
    def depth_multiplier(self) -> int:
        """Number of outputs per channel."""
        return self.spec.out_channels // self.spec.in_channels


class DepthwiseConv1d(_DepthwiseConv):
    """Convolution of each channel alone, over one axis.

    The parameters are those of `DepthwiseConv2d`.

    Examples
    --------
    >>> DepthwiseConv1d(8, 3, depth_multiplier=2)(torch.zeros(1, 8, 20)).shape
    torch.Size([1, 16, 20])
    """

    spatial_ndim = 1


class DepthwiseConv2d(_DepthwiseConv):
    """Convolution of each channel alone, over two axes.

    Parameters
    ----------
    channels : int
    kernel_size : int or sequence of int
    stride, padding, dilation, bias, padding_mode, device, dtype
        See `FactoredConv`.
    depth_multiplier : int
        Outputs for each channel; output ``c * depth_multiplier + m`` is the m-th of channel c.

    Examples
    --------
    >>> DepthwiseConv2d(3, 5, padding="valid", depth_multiplier=2)(torch.zeros(1, 3, 12, 12)).shape
    torch.Size([1, 6, 8, 8])
    """

    spatial_ndim = 2


class DepthwiseConv3d(_DepthwiseConv):
    """Convolution of each channel alone, over three axes.

    The parameters are those of `DepthwiseConv2d`.

    Examples
    --------
    >>> DepthwiseConv3d(4, 3, stride=2)(torch.zeros(1, 4, 8, 8, 9)).shape
    torch.Size([1, 4, 4, 4, 5])
    """

    spatial_ndim = 3


class PointwiseConv(FactoredConv):
    """Convolution of kernel size 1, which combines the channels at each position.

    Parameters
    ----------
    in_channels, out_channels : int
    bias : bool
    ndim : int
        Axes of space, 1 to 3.
    stride : int or sequence of int
    groups : int
    device, dtype
        See `torch.nn.Conv2d`.

    Examples
    --------
    >>> PointwiseConv(64, 128)
    PointwiseConv(
      64, 128, kernel_size=(1, 1), padding=(0, 0); 8,192 multiplications per position
      (pointwise): Conv2d(64, 128, kernel_size=(1, 1), stride=(1, 1))
    )
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bias: bool = True,
        *,
        ndim: int = 2,
        stride: Sizes = 1,
        groups: int = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if ndim not in CONVS:
            raise ArgumentError(f"PointwiseConv: `ndim` must be 1, 2 or 3; got {ndim!r}")
        super().__init__(
            self._patterns(ndim)[0], in_channels, out_channels, 1, stride, 0, 1, groups, bias,
            rank=1, device=device, dtype=dtype,
        )  # fmt: skip

    @classmethod
    def _patterns(cls, ndim: int) -> tuple[Pattern, ...]:
        return (_single("oc" + space_letters(ndim)),)

    @classmethod
    def _name(cls, scheme: Scheme, step: Step) -> str:
        return "pointwise"


def _single(letters: str) -> Pattern:
    """Return the pattern of weights that are not factorised."""
    return Pattern(tuple(letters), (letters,))
