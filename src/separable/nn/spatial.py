"""Layers that separate spatial axes from each other, or the spectrum from the pixels."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import nn

from separable.errors import ArgumentError
from separable.lowering.conv_spec import count
from separable.lowering.scheme import Rank, Scheme
from separable.lowering.step import Step
from separable.nn.factored_conv import FactoredConv, Sizes

__all__ = ["SpatialSpectralConv3d", "SpatiallySeparableConv2d", "SpatiallySeparableConv3d"]


class _SpatiallySeparableConv(FactoredConv):
    """Convolutions along one spatial axis after the other; see `SpatiallySeparableConv2d`."""

    spatial_ndim: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: str | Sizes = "same",
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        rank: Rank | None = None,
        intermediate: nn.Module | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if rank is None:
            owner = type(self).__name__
            outputs = count(owner, "out_channels", out_channels)
            rank = max(1, outputs // count(owner, "groups", groups))
        super().__init__(
            self._patterns(self.spatial_ndim)[0], in_channels, out_channels, kernel_size, stride,
            padding, dilation, groups, bias, padding_mode, rank=rank, intermediate=intermediate,
            device=device, dtype=dtype,
        )  # fmt: skip

    @classmethod
    def _patterns(cls, ndim: int) -> tuple[str, ...]:
        return ("ocyx -> ox,cy",) if ndim == 2 else ("oczyx -> oxS,SyR,Rcz",)

    @classmethod
    def _name(cls, scheme: Scheme, step: Step) -> str:
        return f"along_{scheme.space_letters(step.factor)}"


class SpatiallySeparableConv2d(_SpatiallySeparableConv):
    """Convolutions along one spatial axis after the other, over two axes.

    Each step mixes channels too: scheme 2 of Jaderberg et al. (2014, doi:10.5244/C.28.88), and
    the k x 1 and 1 x k layers of Inception.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or sequence of int
    stride, padding, dilation, groups, bias, padding_mode
        See `FactoredConv`; each step uses the values of its own axis.
    rank : int or mapping of bond to int, optional
        The channels between the steps, for each group. By default the number of output channels,
        as in Inception.
    intermediate : torch.nn.Module, optional
        Run between two steps.
    device, dtype
        See `torch.nn.Conv2d`.

    Examples
    --------
    >>> layer = SpatiallySeparableConv2d(1, 1, 3, padding="valid")
    >>> layer.along_y(torch.zeros(1, 1, 15, 15)).shape
    torch.Size([1, 1, 13, 15])
    >>> layer(torch.zeros(1, 1, 15, 15)).shape
    torch.Size([1, 1, 13, 13])
    """

    spatial_ndim = 2


class SpatiallySeparableConv3d(_SpatiallySeparableConv):
    """Convolutions along three spatial axes, one after the other.

    The parameters are those of `SpatiallySeparableConv2d`.

    Examples
    --------
    >>> SpatiallySeparableConv3d(8, 8, 5).multiplications, 8 * 8 * 5**3
    (960, 8000)
    """

    spatial_ndim = 3


class SpatialSpectralConv3d(FactoredConv):
    """Convolutions along the spectrum and over the pixels of a hyperspectral cube.

    The same with time in place of the spectrum is the (2+1)-D layer for video of Tran et al. (2018,
    doi:10.1109/CVPR.2018.00675).

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or sequence of int
        Bands, rows, columns.
    stride, padding, dilation, groups, bias, padding_mode
        See `FactoredConv`.
    rank : int, optional
        The channels between the two steps, for each group. By default as many as the layer gives
        out.
    order : 'spectral_first' or 'spatial_first'
    intermediate : torch.nn.Module, optional
        Run between the two steps.
    device, dtype
        See `torch.nn.Conv2d`.

    Examples
    --------
    >>> layer = SpatialSpectralConv3d(1, 8, (7, 3, 3))
    >>> layer(torch.zeros(2, 1, 100, 16, 16)).shape
    torch.Size([2, 8, 100, 16, 16])
    """

    spatial_ndim = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: str | Sizes = "same",
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        rank: int | None = None,
        order: Literal["spectral_first", "spatial_first"] = "spectral_first",
        intermediate: nn.Module | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        orders = ("spectral_first", "spatial_first")
        if order not in orders:
            raise ArgumentError(
                f"SpatialSpectralConv3d: `order` must be one of {', '.join(orders)}; got {order!r}"
            )
        if rank is None:
            outputs = count("SpatialSpectralConv3d", "out_channels", out_channels)
            rank = max(1, outputs // count("SpatialSpectralConv3d", "groups", groups))
        super().__init__(
            self._patterns(3)[orders.index(order)], in_channels, out_channels, kernel_size, stride,
            padding, dilation, groups, bias, padding_mode, rank=rank, intermediate=intermediate,
            device=device, dtype=dtype,
        )  # fmt: skip

    @classmethod
    def _patterns(cls, ndim: int) -> tuple[str, ...]:
        return "oclyx -> oyx,cl", "oclyx -> ol,cyx"

    @classmethod
    def _name(cls, scheme: Scheme, step: Step) -> str:
        return "spectral" if scheme.space_letters(step.factor) == "l" else "spatial"
