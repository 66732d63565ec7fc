"""FactoredConvTranspose: a transposed convolution whose weights are factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from separable.errors import ArgumentTypeError
from separable.lowering.conv_spec import ConvSpec
from separable.lowering.scheme import Rank, Scheme
from separable.nn.factored_conv import FactoredConv, Sizes, spatial_axes
from separable.pattern import Pattern, parse

__all__ = ["FactoredConvTranspose", "factored_layer", "layer_class"]


class FactoredConvTranspose(FactoredConv):
    """Transposed convolution whose weights are the product of the factors that a pattern names.

    The steps that have a spatial axis are transposed convolutions, the others are pointwise. A
    pointwise step that runs before the strides works on few positions.

    Parameters
    ----------
    pattern : str
        Axes of the weights as for `FactoredConv`, outputs first: ``(out, in, *space)``. PyTorch stores the
        weights of transposed convolutions with the inputs first; `from_dense` takes care of that.
        No spatial axis can be split into a group such as `(Yy)`.
    in_channels, out_channels : int
    kernel_size : int or sequence of int
        Kernel size along each spatial axis.
    stride, dilation : int or sequence of int
    padding : int or sequence of int
        Samples cut from both ends of each axis of the output.
    output_padding : int or sequence of int
        Samples added at the end of each axis.
    groups : int
        Number of groups of channels; each group has factors of its own.
    bias : bool
    rank : int, sequence of int, or mapping of bond to those
        See `FactoredConv`.
    sizes : mapping of letter to int, optional
        Sizes of the letters of groups of channels such as `(Oo)`.
    intermediate : torch.nn.Module, optional
        Normalisation, activation or both, run between the two steps.
    device, dtype
        See `torch.nn.ConvTranspose2d`.

    Raises
    ------
    PatternError, RankError, ArgumentError, ArgumentTypeError
        If an argument does not fit.

    Examples
    --------
    >>> layer = FactoredConvTranspose("ocyx -> oc,oyx", 64, 32, 2, stride=2, rank=1)
    >>> layer(torch.zeros(1, 64, 8, 8)).shape
    torch.Size([1, 32, 16, 16])
    >>> layer.multiplications, layer.spec.multiplications  # per position of the input
    (2176, 8192)

    A trained decoder layer, at the rank that keeps its weights within 10 %:

    >>> conv = nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1)
    >>> layer = FactoredConvTranspose.from_dense(conv, "ocyx -> oc,oyx", tol=0.1)
    >>> image = torch.randn(1, 16, 8, 8)
    >>> (layer(image) - conv(image)).norm() / conv(image).norm() < 0.2
    tensor(True)
    """

    transposed: ClassVar[bool] = True

    def __init__(
        self,
        pattern: str | Pattern,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        *,
        rank: Rank,
        sizes: Mapping[str, int] | None = None,
        intermediate: nn.Module | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)
        owner = type(self).__name__
        written = parse(pattern) if isinstance(pattern, str) else pattern
        spec = ConvSpec.make(
            owner, spatial_axes(owner, written), in_channels=in_channels,
            out_channels=out_channels, kernel_size=kernel_size, stride=stride, padding=padding,
            dilation=dilation, groups=groups, bias=bias, transposed=True,
            output_padding=output_padding,
        )  # fmt: skip
        scheme = Scheme.make(owner, written, spec, rank=rank, sizes=sizes)
        self._build(scheme, intermediate, device, dtype)

    @property
    def output_padding(self) -> tuple[int, ...]:
        """Samples added at the end of each spatial axis."""
        return self.spec.output_padding


def layer_class(spec: ConvSpec) -> type[FactoredConv]:
    """Return the class of the factored layer for a convolution."""
    return FactoredConvTranspose if spec.transposed else FactoredConv


def factored_layer(
    spec: ConvSpec,
    pattern: str | Pattern,
    *,
    rank: Rank,
    sizes: Mapping[str, int] | None = None,
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> FactoredConv:
    """Create a factored layer with random weights for a convolution, transposed or not.

    Parameters
    ----------
    spec : ConvSpec
    pattern, rank, sizes, device, dtype
        See `FactoredConv`.
    """
    options: dict[str, Any] = {"rank": rank, "sizes": sizes, "device": device, "dtype": dtype}
    if spec.transposed:
        if isinstance(spec.padding, str):
            raise ArgumentTypeError(f"`padding` must be integers; got {spec.padding!r}")
        return FactoredConvTranspose(
            pattern, spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride,
            spec.padding, spec.output_padding, spec.groups, spec.bias, spec.dilation, **options,
        )  # fmt: skip
    return FactoredConv(
        pattern, spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, spec.padding,
        spec.dilation, spec.groups, spec.bias, spec.padding_mode, **options,
    )  # fmt: skip
