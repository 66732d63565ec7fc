"""FactoredConv: a convolution whose weights are factors, and the base of all other layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, DTypeError, PatternError
from separable.lowering.conv_spec import ConvSpec
from separable.lowering.lower import lower
from separable.lowering.scheme import Rank, Scheme
from separable.lowering.step import Step
from separable.nn.exchange import WeightExchange
from separable.nn.step_modules import step_module
from separable.nn.term_form import run_terms
from separable.nn.torch_convs import CONVS
from separable.pattern import Pattern, parse

__all__ = ["FactoredConv", "Sizes", "spatial_axes"]

Sizes = int | Sequence[int]


class FactoredConv(WeightExchange):
    """Convolution whose weights are the product of the factors that a pattern names.

    The layer runs one convolution per factor. Strides, dilation and padding belong to the one that
    has the axis, the bias to the last one. The parameters are those of plain `torch.nn`
    convolutions, one submodule per factor.

    Parameters
    ----------
    pattern : str
        Axes of the weights ``(out, in, *space)`` as `o`, `c` and spatial letters, and the
        factors: ``"ocyx -> oR,RyxS,Sc"``. Without `o` and `c` (``"yx -> y,x"``) it describes one
        filter per channel, and needs ``groups=in_channels``.
    in_channels, out_channels : int
    kernel_size : int or sequence of int
        Kernel size along each spatial axis.
    stride, dilation : int or sequence of int
    padding : 'same', 'valid', int or sequence of int
        'same' (the default) gives ``ceil(size / stride)`` outputs for any stride; an odd amount of
        padding has its extra sample at the end, as in Keras.
    groups : int
        Number of groups of channels; each group has factors of its own.
    bias : bool
    padding_mode : 'zeros', 'reflect', 'replicate' or 'circular'
    rank : int, sequence of int, or mapping of bond to those
        Size of each bond; a sequence has one number per batch value. There is no default because
        no rank suits all patterns.
    sizes : mapping of letter to int, optional
        Sizes of the letters of groups such as `(Yy)`.
    intermediate : torch.nn.Module, optional
        Normalisation, activation or both, run between the two steps. The layer is then no longer
        a product of factors, and `to_dense` raises an error.
    device, dtype
        See `torch.nn.Conv2d`.

    Attributes
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode
        Arguments of the equivalent dense convolution, as in `torch.nn.Conv2d`; 'valid' padding
        is stored as zeros.
    bias : Parameter or None
        Bias of the last step.

    Raises
    ------
    PatternError, RankError, ArgumentError, ArgumentTypeError
        If an argument does not fit. The message names the layer and the argument.

    Examples
    --------
    >>> layer = FactoredConv("ocyx -> oR,RyxS,Sc", 64, 64, 3, rank=16)  # Tucker-2
    >>> layer(torch.zeros(2, 64, 8, 8)).shape
    torch.Size([2, 64, 8, 8])
    >>> layer.multiplications, layer.spec.multiplications
    (4352, 36864)

    A trained convolution, at the rank that keeps its weights within 10 %:

    >>> conv = nn.Conv2d(8, 16, 3, stride=2, padding=1)
    >>> layer = FactoredConv.from_dense(conv, "ocyx -> ox,cy", tol=0.1)
    >>> image = torch.randn(1, 8, 32, 32)
    >>> (layer(image) - conv(image)).norm() / conv(image).norm() < 0.2
    tensor(True)
    """

    def __init__(
        self,
        pattern: str | Pattern,
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
        rank: Rank,
        sizes: Mapping[str, int] | None = None,
        intermediate: nn.Module | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        written = parse(pattern) if isinstance(pattern, str) else pattern
        spec = ConvSpec.make(
            owner, spatial_axes(owner, written), in_channels=in_channels, out_channels=out_channels,
            kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
            groups=groups, bias=bias, padding_mode=padding_mode,
        )  # fmt: skip
        scheme = Scheme.make(owner, written, spec, rank=rank, sizes=sizes)
        self._build(scheme, intermediate, device, dtype)

    def _build(
        self,
        scheme: Scheme,
        intermediate: nn.Module | None,
        device: Any,
        dtype: Any,
        *,
        draw: bool = True,
    ) -> None:
        """Create the submodules: the steps in running order, and the module between two of them."""
        self.scheme, self.steps = lower(scheme)
        if intermediate is not None and len(self.steps) != 2:
            raise ArgumentError(
                f"{scheme.owner}: `intermediate` stands between two steps; `{scheme.written}` has "
                f"{len(self.steps)}"
            )
        self.step_names = tuple(self._name(self.scheme, s) for s in self.steps)
        for at, (name, step) in enumerate(zip(self.step_names, self.steps, strict=True)):
            if at == 1 and len(self.steps) == 2:
                self.register_module("intermediate", intermediate)
            self.add_module(name, step_module(step, device, dtype, draw=draw))
        spec = self.scheme.spec
        self._at = -spec.ndim - 1  # the axis of the channels, counted from the end
        self._channels = spec.in_channels
        smallest = spec.smallest_input
        self._smallest = tuple((j - spec.ndim, n) for j, n in enumerate(smallest) if n > 1)
        self._serves = self._is_served()

    @classmethod
    def _name(cls, scheme: Scheme, step: Step) -> str:
        """Return the name of the submodule of a step."""
        return f"factor_{scheme.written.factors[step.factor]}"

    def forward(self, input: Tensor) -> Tensor:
        """Run the steps.

        Parameters
        ----------
        input : Tensor, shape ``(n, in_channels, *space)`` or ``(in_channels, *space)``

        Returns
        -------
        Tensor, shape ``(n, out_channels, *space)`` or ``(out_channels, *space)``

        Raises
        ------
        ArgumentError
            If the input has other channels or axes, or is too small for the kernel.
        DTypeError
            If it is of another type than the weights, and no autocast is on.
        """
        self._check(input)
        found = run_terms(self, input) if torch.onnx.is_in_onnx_export() else self._fused(input)
        if found is not None:
            return found
        for module in self._modules.values():
            if module is not None:
                input = module(input)
        return input

    def _is_served(self) -> bool:
        """Return True if the fused operators can run the layer's steps."""
        return False

    def _fused(self, input: Tensor) -> Tensor | None:
        """Return the layer's result from a fused operator, or None if none can run it."""
        return None

    def _check(self, input: Tensor) -> None:
        """Raise an error that names the layer for inputs that the convolutions cannot take."""
        # Attribute access on modules takes as long as a small convolution, so the dicts are read.
        first: Any = self._modules[self.step_names[0]]
        if (
            type(first) is nn.Identity
        ):  # in a fused network the layer before runs the first step too
            return
        shape = input.shape
        at = self._at
        if not 0 <= len(shape) + at <= 1 or shape[at] != self._channels:
            raise ArgumentError(self._wrong_shape(shape, "channels and axes"))
        for axis, smallest in self._smallest:
            if shape[axis] < smallest:
                raise ArgumentError(self._wrong_shape(shape, "sizes"))
        weight = first._parameters.get("weight")  # None if it is parametrised
        if weight is None or input.dtype == weight.dtype:
            return
        if not torch.is_autocast_enabled(input.device.type):
            raise DTypeError(
                f"{self._title()}: expected an input of {weight.dtype}, the type of its weights "
                f"{tuple(weight.shape)}; got {input.dtype}, shape {tuple(shape)}. Convert one of "
                f"them, for instance layer.to({input.dtype})"
            )

    def _wrong_shape(self, shape: Sequence[int], subject: str) -> str:
        letters = "zyx"[-self.spec.ndim :]
        wanted = f"(n, {self._channels}, {', '.join(letters)}) or without n"
        if subject == "sizes":
            wanted = f"sizes of at least {self.spec.smallest_input} after the channels"
        message = f"{self._title()}: expected an input of {wanted}; got {tuple(shape)}"
        if len(shape) == -self._at + 1 and shape[-1] == self._channels:
            message += ". The channels seem to be last: input.movedim(-1, 1)"
        return message

    def _title(self) -> str:
        return f"{type(self).__name__}({self.spec.describe()})"

    def reset_parameters(self) -> None:
        """Draw all weights again, as `torch.nn` does: uniform within ``fan_in ** -0.5``."""
        for module in self._convolutions():
            module.reset_parameters()

    @property
    def spec(self) -> ConvSpec:
        """Arguments of the equivalent dense convolution."""
        return self.scheme.spec

    # The attributes of `torch.nn.Conv2d`, for programs that inspect layers.

    @property
    def in_channels(self) -> int:
        """Number of input channels."""
        return self.spec.in_channels

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return self.spec.out_channels

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Kernel size along each spatial axis."""
        return self.spec.kernel_size

    @property
    def stride(self) -> tuple[int, ...]:
        """Stride along each spatial axis."""
        return self.spec.stride

    @property
    def padding(self) -> str | tuple[int, ...]:
        """Padding on both sides of each spatial axis, or 'same'."""
        return self.spec.padding

    @property
    def dilation(self) -> tuple[int, ...]:
        """Dilation along each spatial axis."""
        return self.spec.dilation

    @property
    def groups(self) -> int:
        """Number of groups of channels."""
        return self.spec.groups

    @property
    def padding_mode(self) -> str:
        """Values of the padding: 'zeros', 'reflect', 'replicate' or 'circular'."""
        return self.spec.padding_mode

    @property
    def bias(self) -> Tensor | None:
        """Bias of the last step, or None."""
        last: Any = self._modules[self.step_names[-1]]
        found: Tensor | None = last.bias
        return found

    @property
    def pattern(self) -> Pattern:
        """Pattern as written, for the channels of one group."""
        return self.scheme.written

    @property
    def ranks(self) -> dict[str, Any]:
        """Rank of each bond: an int, or a list with one rank per batch value."""
        return {
            bond: int(r.flat[0]) if r.min() == r.max() else r.ravel().tolist()
            for bond, r in self.scheme.ranks.items()
        }

    @property
    def multiplications(self) -> int:
        """Multiplications per output position; per input position if transposed."""
        return sum(step.multiplications for step in self.steps)

    def __repr__(self) -> str:
        return str(super().__repr__()).replace("\n  (intermediate): None", "")

    def extra_repr(self) -> str:
        """Return the arguments, the pattern, and the saving as text."""
        words = [self.spec.describe()]
        if len(self.steps) == 1:
            return f"{words[0]}; {self.multiplications:,} multiplications per position"
        words.append(f"'{self.pattern}'")
        for bond, rank in self.ranks.items():
            shown = rank if isinstance(rank, int) else f"{min(rank)}..{max(rank)}"
            words.append(f"{bond}={shown}")
        dense = self.spec.multiplications
        ratio = dense / self.multiplications
        saving = f"{ratio:.3g} times fewer" if ratio >= 1 else f"{1 / ratio:.3g} times more"
        return (
            f"{', '.join(words)}; {self.multiplications:,} multiplications per position, "
            f"{saving} than {dense:,} dense"
        )


def spatial_axes(owner: str, pattern: Pattern) -> int:
    """Return the number of spatial axes of a pattern."""
    ndim = sum("o" not in axis and "c" not in axis for axis in pattern.axes)
    if ndim not in CONVS:
        raise PatternError(
            f"{owner}: PyTorch convolves over 1, 2 or 3 spatial axes; `{pattern}` has {ndim}"
        )
    return ndim
