"""Modules of steps: a plain `torch.nn` convolution wherever that computes the whole step.

Where padding depends on the input size or is uneven, or channels are read several times, added up or
share weights, the module is a subclass of that convolution with the same parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from separable.lowering.step import SamePadding, Step
from separable.nn.torch_convs import CONVS, TRANSPOSED

__all__ = [
    "StepConv1d",
    "StepConv2d",
    "StepConv3d",
    "StepConvTranspose1d",
    "StepConvTranspose2d",
    "StepConvTranspose3d",
    "step_module",
]


def step_module(
    step: Step, device: Any = None, dtype: torch.dtype | None = None, *, draw: bool = True
) -> nn.Module:
    """Create the module of a step.

    Parameters
    ----------
    step : Step
    device, dtype
        See `torch.nn.Conv2d`.
    draw : bool
        If False, the weights are not initialised and no random number is used: for layers whose
        weights come from elsewhere.

    Examples
    --------
    >>> from separable.lowering.lower import lower
    >>> from separable.lowering.scheme import Scheme
    >>> from separable.lowering.conv_spec import ConvSpec
    >>> spec = ConvSpec.make("layer", 1, in_channels=4, out_channels=8, kernel_size=3)
    >>> [step_module(s) for s in lower(Scheme.make("layer", "ocx -> oc,cx", spec, rank=1))[1]]
    [Conv1d(4, 4, kernel_size=(3,), stride=(1,), padding=(1,), groups=4, bias=False),
     Conv1d(4, 8, kernel_size=(1,), stride=(1,))]
    """
    ndim = len(step.kernel_size)
    where = device if draw else "meta"
    module: nn.Module
    if step.plain and step.transposed:
        module = TRANSPOSED[ndim](
            step.in_channels, step.out_channels, step.kernel_size, step.stride, _even(step),
            step.output_padding, step.groups, step.bias, step.dilation, device=where, dtype=dtype,
        )  # fmt: skip
    elif step.plain:
        module = CONVS[ndim](
            step.in_channels, step.out_channels, step.kernel_size, step.stride, _even(step),
            step.dilation, step.groups, step.bias, _mode(step), device=where, dtype=dtype,
        )  # fmt: skip
    else:
        kinds = STEP_TRANSPOSED if step.transposed else STEP_CONVS
        module = kinds[ndim](step, device=where, dtype=dtype)
    if draw:
        return module
    module.to_empty(device=device or "cpu")
    if not step.plain:
        cast(Any, module).write_indices()
    return module


def _even(step: Step) -> tuple[int, ...]:
    """Return the padding that the convolution itself applies: all of it, or none."""
    pads = step.padding
    if any(isinstance(p, SamePadding) or p[0] != p[1] for p in pads):
        return (0,) * len(pads)
    return tuple(cast("tuple[int, int]", p)[0] for p in pads)


def _mode(step: Step) -> str:
    """Return the padding mode of the convolution itself; 'zeros' if it does not pad."""
    return step.padding_mode if any(_even(step)) else "zeros"


class _StepConv(nn.modules.conv._ConvNd):
    """Common part of the three step convolutions: everything but the convolution."""

    step: Step
    gather: Tensor | None
    scatter: Tensor | None

    def __init__(self, step: Step, device: Any = None, dtype: torch.dtype | None = None) -> None:
        self.step = step
        self._made = False
        arguments: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(*self._arguments(step), **arguments)
        self._dim = -len(step.kernel_size) - 1
        self._pads = not any(_even(step)) and any(p != (0, 0) for p in step.padding)
        self._pad_mode = "constant" if step.padding_mode == "zeros" else step.padding_mode
        self._adds_bias = step.shared > 1 or step.scatter is not None
        for name, index in (("gather", step.gather), ("scatter", step.scatter)):
            made = None if index is None else torch.tensor(index, device=device)
            self.register_buffer(name, made)
        if step.bias:
            self.bias = nn.Parameter(torch.empty(step.outputs, device=device, dtype=dtype))
        self._made = True
        self.reset_parameters()

    @staticmethod
    def _arguments(step: Step) -> list[Any]:
        """Return the arguments of the convolution class."""
        return [
            step.in_channels, step.out_channels, step.kernel_size, step.stride, _even(step),
            step.dilation, step.groups, False, _mode(step),
        ]  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw the weights as `torch.nn` does, and write the indices again (after `to_empty`)."""
        if self._made:  # the base constructor calls this before the attributes are complete
            super().reset_parameters()
            self.write_indices()

    def write_indices(self) -> None:
        """Fill the index buffers, which are uninitialised after allocation."""
        for name in ("gather", "scatter"):
            buffer = getattr(self, name, None)
            if buffer is not None and not buffer.is_meta:
                buffer.copy_(torch.tensor(getattr(self.step, name)))

    def forward(self, input: Tensor) -> Tensor:
        """Apply the step: gather, pad, convolve, scatter, add the bias."""
        if self.gather is not None:
            input = input.index_select(self._dim, self.gather)
        if self._pads:
            input = functional.pad(input, self._amounts(input), mode=self._pad_mode)
        if not self._adds_bias:
            return self._conv_forward(input, self.weight, self.bias)
        return self._with_bias(self._scattered(self._by_blocks(input)))

    def _amounts(self, input: Tensor) -> list[int]:
        """Return the padding in the order of `functional.pad`, the last axis first."""
        amounts: list[int] = []
        for axis in range(-1, self._dim, -1):
            pad = self.step.padding[axis]
            amounts += pad.amounts(input.shape[axis]) if isinstance(pad, SamePadding) else pad
        return amounts

    def _by_blocks(self, input: Tensor) -> Tensor:
        """Convolve each block of channels with the same weights."""
        blocks = self.step.shared
        if blocks == 1:
            return self._conv_forward(input, self.weight, None)
        lead, space = input.shape[: self._dim], input.shape[self._dim + 1 :]
        images = blocks * lead[0] if lead else blocks  # -1 would be ambiguous for an empty batch
        folded = input.reshape(images, self.step.in_channels, *space)
        output = self._conv_forward(folded, self.weight, None)
        return output.reshape(*lead, blocks * self.step.out_channels, *output.shape[2:])

    def _scattered(self, output: Tensor) -> Tensor:
        if self.scatter is None:
            return output
        shape = list(output.shape)
        shape[self._dim] = self.step.outputs
        return output.new_zeros(shape).index_add(self._dim, self.scatter, output)

    def _with_bias(self, output: Tensor) -> Tensor:
        if self.bias is None:
            return output
        return output + self.bias.to(output.dtype).reshape(-1, *(1,) * (-self._dim - 1))

    def extra_repr(self) -> str:
        """Return the arguments of the convolution and of the rest of the step as text."""
        words = [super().extra_repr()]  # type: ignore[no-untyped-call]
        step = self.step
        if self._pads:
            words.append(
                "padding="
                + str(["same" if isinstance(p, SamePadding) else p for p in step.padding])
            )
        if step.shared > 1:
            words.append(f"weights shared by {step.shared} blocks of channels")
        if step.gather is not None:
            words.append(f"{len(step.gather)} channels gathered")
        if step.scatter is not None:
            words.append(f"added to {step.outputs} channels")
        return ", ".join(words)


class StepConv1d(_StepConv, nn.Conv1d):
    """Step over one spatial axis that no plain `Conv1d` computes."""


class StepConv2d(_StepConv, nn.Conv2d):
    """Step over two spatial axes that no plain `Conv2d` computes."""


class StepConv3d(_StepConv, nn.Conv3d):
    """Step over three spatial axes that no plain `Conv3d` computes."""


STEP_CONVS: dict[int, Any] = {1: StepConv1d, 2: StepConv2d, 3: StepConv3d}


class _StepConvTranspose(_StepConv):
    """Common part of the three transposed step convolutions."""

    output_padding: tuple[int, ...]
    _transposed: ClassVar[Callable[..., Tensor]]

    @staticmethod
    def _arguments(step: Step) -> list[Any]:
        return [
            step.in_channels, step.out_channels, step.kernel_size, step.stride, _even(step),
            step.output_padding, step.groups, False, step.dilation,
        ]  # fmt: skip

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return type(self)._transposed(
            input, weight, bias, self.stride, self.padding, self.output_padding, self.groups,
            self.dilation,
        )  # fmt: skip


class StepConvTranspose1d(_StepConvTranspose, nn.ConvTranspose1d):  # type: ignore[misc]
    """Step over one spatial axis that no plain `ConvTranspose1d` computes."""

    _transposed = staticmethod(functional.conv_transpose1d)


class StepConvTranspose2d(_StepConvTranspose, nn.ConvTranspose2d):  # type: ignore[misc]
    """Step over two spatial axes that no plain `ConvTranspose2d` computes."""

    _transposed = staticmethod(functional.conv_transpose2d)


class StepConvTranspose3d(_StepConvTranspose, nn.ConvTranspose3d):  # type: ignore[misc]
    """Step over three spatial axes that no plain `ConvTranspose3d` computes."""

    _transposed = staticmethod(functional.conv_transpose3d)


STEP_TRANSPOSED: dict[int, Any] = {
    1: StepConvTranspose1d,
    2: StepConvTranspose2d,
    3: StepConvTranspose3d,
}
