"""SeparableConv1d, 2d, 3d: depthwise separable layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.lowering.conv_spec import count
from separable.lowering.scheme import Scheme, space_letters
from separable.lowering.step import Step
from separable.nn.factored_conv import FactoredConv, Sizes
from separable.nn.fused.forward import is_depthwise, is_pointwise, run_separable, run_separable_norm
from separable.nn.fused.repeated_layer import RepeatingLayer
from separable.nn.keras import read_separable, write_separable

__all__ = [
    "SeparableConv1d",
    "SeparableConv2d",
    "SeparableConv3d",
]

Separable = TypeVar("Separable", bound="_SeparableConv")


class _SeparableConv(RepeatingLayer, FactoredConv):
    """Depthwise separable convolution over `spatial_ndim` axes; see `SeparableConv2d`."""

    spatial_ndim: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: str | Sizes = "same",
        dilation: Sizes = 1,
        depth_multiplier: int | Sequence[int] = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        order: Literal["depthwise_first", "pointwise_first"] = "depthwise_first",
        intermediate: nn.Module | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        orders = ("depthwise_first", "pointwise_first")
        if order not in orders:
            raise ArgumentError(
                f"{type(self).__name__}: `order` must be one of {', '.join(orders)}; got {order!r}"
            )
        if np.ndim(depth_multiplier) == 0:
            count(type(self).__name__, "depth_multiplier", depth_multiplier)
        super().__init__(
            self._patterns(self.spatial_ndim)[orders.index(order)], in_channels, out_channels,
            kernel_size, stride, padding, dilation, 1, bias, padding_mode, rank=depth_multiplier,
            intermediate=intermediate, device=device, dtype=dtype,
        )  # fmt: skip

    @classmethod
    def _patterns(cls, ndim: int) -> tuple[str, ...]:
        space = space_letters(ndim)
        return f"oc{space} -> oc,c{space}", f"oc{space} -> oc,o{space}"

    @classmethod
    def _name(cls, scheme: Scheme, step: Step) -> str:
        return "depthwise" if scheme.space_letters(step.factor) else "pointwise"

    @classmethod
    def from_keras_weights(
        cls: type[Separable],
        weights: Sequence[ArrayLike],
        *,
        stride: Sizes = 1,
        padding: str | Sizes = "valid",
        dilation: Sizes = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> Separable:
        """Create the layer from the weights of a Keras `SeparableConv1D` or `SeparableConv2D`.

        Parameters
        ----------
        weights : sequence of array_like
            Result of ``layer.get_weights()``: depthwise kernel ``(*space, in, multiplier)``,
            pointwise kernel ``(1.., in * multiplier, out)``, and the bias if there is one.
        stride, padding, dilation
            Keras's `strides`, `padding` ('valid' by default, as there) and `dilation_rate`.
        device, dtype
            See `SeparableConv2d`.

        Raises
        ------
        ArgumentError
            If there are not two or three arrays, or their shapes do not fit together.

        Notes
        -----
        Keras has the channels last, this layer in front of the spatial axes.

        Examples
        --------
        >>> weights = [np.zeros((3, 3, 8, 2)), np.zeros((1, 1, 16, 4)), np.zeros(4)]
        >>> layer = SeparableConv2d.from_keras_weights(weights, stride=2, padding="same")
        >>> layer(torch.zeros(1, 8, 15, 15)).shape
        torch.Size([1, 4, 8, 8])
        """
        found = read_separable(cls.__name__, weights, cls.spatial_ndim)
        layer = cls(
            found.channels, found.outputs, found.kernel_size, stride, padding, dilation,
            found.multiplier, found.bias is not None, device=device, dtype=dtype,
        )  # fmt: skip
        layer._load(found.arrays, found.bias)
        return layer

    def to_keras_weights(self) -> list[NDArray[Any]]:
        """Return the weights for ``set_weights`` of the Keras layer of the same name.

        Raises
        ------
        ArgumentError
            If Keras has no such layer: groups, the pointwise step first, or depth multipliers
            that differ between channels.

        Examples
        --------
        >>> [w.shape for w in SeparableConv2d(8, 4, 3, depth_multiplier=2).to_keras_weights()]
        [(3, 3, 8, 2), (1, 1, 16, 4), (4,)]
        """
        multiplier = self.depth_multiplier
        if self.order != "depthwise_first" or self.spec.groups > 1 or isinstance(multiplier, list):
            raise ArgumentError(
                f"{self._title()}: Keras's separable layers have no groups, run the depthwise step "
                f"first and have one depth multiplier; got groups={self.spec.groups}, "
                f"order={self.order!r}, depth_multiplier={multiplier}"
            )
        pointwise, depthwise = self._arrays(double=False)
        return write_separable(pointwise, depthwise, self._bias())

    def _by_kernels(self, input: Tensor) -> Tensor | None:
        modules = self._modules
        first, second = self.steps
        depthwise, pointwise = modules["depthwise"], modules["pointwise"]
        intermediate = modules.get("intermediate")
        if intermediate is None:
            return run_separable((first, second), (depthwise, pointwise), input, self)
        if not self.training:
            return None
        return run_separable_norm((first, second), (depthwise, intermediate, pointwise), input)

    def _is_served(self) -> bool:
        steps = self.steps
        return len(steps) == 2 and is_depthwise(steps[0]) and is_pointwise(steps[1])

    @property
    def depth_multiplier(self) -> int | list[int]:
        """Depthwise outputs per input channel, a list where they differ."""
        found: int | list[int] = next(iter(self.ranks.values()))
        return found

    @property
    def order(self) -> str:
        """The step that runs first."""
        return f"{self.step_names[0]}_first"


class SeparableConv1d(_SeparableConv):
    """Depthwise separable convolution over one axis.

    The parameters are those of `SeparableConv2d`.

    Examples
    --------
    >>> layer = SeparableConv1d(16, 32, 9, stride=4)
    >>> layer(torch.zeros(8, 16, 100)).shape
    torch.Size([8, 32, 25])
    """

    spatial_ndim = 1


class SeparableConv2d(_SeparableConv):
    """Depthwise separable convolution over two axes.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or sequence of int
    stride, padding, dilation, padding_mode
        See `FactoredConv`; they belong to the depthwise step.
    depth_multiplier : int or sequence of int
        Depthwise outputs for each input channel (with the pointwise step first: channels for each
        output channel); a sequence has one number for each channel. 1, the default, is the layer
        of MobileNet; a dense layer's equal needs up to ``prod(kernel_size)``.
    bias : bool
        Added by the last step; the first has none, for the second would only mix it.
    order : 'depthwise_first' or 'pointwise_first'
    intermediate : torch.nn.Module, optional
        Run between the two steps, for instance ``nn.Sequential(nn.BatchNorm2d(64), nn.ReLU())``.
    device, dtype
        See `torch.nn.Conv2d`.

    Examples
    --------
    >>> SeparableConv2d(64, 128, 3)
    SeparableConv2d(
      64, 128, kernel_size=(3, 3), padding='same', 'ocyx -> oc,cyx', R=1; 8,768 multiplications
      per position, 8.41 times fewer than 73,728 dense
      (depthwise): Conv2d(64, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1),
                          groups=64, bias=False)
      (pointwise): Conv2d(64, 128, kernel_size=(1, 1), stride=(1, 1))
    )
    """

    spatial_ndim = 2


class SeparableConv3d(_SeparableConv):
    """Depthwise separable convolution over three axes.

    The parameters are those of `SeparableConv2d`.

    Examples
    --------
    >>> layer = SeparableConv3d(8, 16, (3, 5, 5), padding="valid")
    >>> layer(torch.zeros(1, 8, 9, 32, 32)).shape
    torch.Size([1, 16, 7, 28, 28])
    """

    spatial_ndim = 3
