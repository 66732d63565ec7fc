"""Base class of all networks: options, usual input, dense twin and summary."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = ["Network"]


class Network(nn.Module):
    """Network that knows its options, its usual input and its dense twin.

    Parameters
    ----------
    sample_shape : tuple of int
        One usual input without its batch: ``(channels, y, x)``.
    noun : str
        Kind of input, for messages: "images", "series".
    options : Any
        The arguments of the constructor of the subclass; `repr` shows them, `twin` repeats them.

    Examples
    --------
    >>> from separable.nn.models import SeriesClassifier
    >>> SeriesClassifier(6, depth=2)
    SeriesClassifier(in_channels=6, classes=2, width=64, depth=2, kernel_size=5,
        per='series', dropout=0.1, norm='group', dense=False)
      20,482 parameters, input 6x128
      stem    Conv1d, GroupNorm, ReLU   2,048
      blocks  2 Block                  18,176
      head    Linear                      258
    """

    def __init__(self, sample_shape: tuple[int, ...], noun: str, **options: Any) -> None:
        super().__init__()
        self.sample_shape = sample_shape
        self.options: Mapping[str, Any] = options
        self._noun = noun

    @property
    def dense(self) -> bool:
        """True if the network has dense convolutions in place of all separable ones."""
        chosen = self.options["dense"]
        return all(chosen) if isinstance(chosen, Sequence) else bool(chosen)

    def twin(self) -> Network:
        """Return the same network with dense for separable convolutions or vice versa, newly initialised.

        It has the same device and dtype. Where `dense` was chosen for each stage, all stages are
        exchanged.
        """
        like = next(self.parameters())
        chosen = self.options["dense"]
        other = tuple(not v for v in chosen) if isinstance(chosen, Sequence) else not chosen
        with like.device:
            twin = type(self)(**{**self.options, "dense": other})
        return twin.to(like.dtype)

    def example(self, batch: int = 1, resolution: int | None = None) -> tuple[Tensor, ...]:
        """Return the arguments of a usual call: zeros, on the device of the parameters.

        Parameters
        ----------
        batch : int
        resolution : int, optional
            The size of each spatial axis of the first input, in place of the usual ones.
        """
        like = next(self.parameters())
        channels, *space = self.sample_shape
        sizes = space if resolution is None else [resolution] * len(space)
        return (torch.zeros(batch, channels, *sizes, dtype=like.dtype, device=like.device),)

    def parameter_count(self) -> int:
        """Return the number of trained numbers, without running statistics."""
        return sum(p.numel() for p in self.parameters())

    def check(self, x: Tensor, channels: str = "in_channels", minimum: int = 1) -> None:
        """Raise an error if an input has a wrong shape or holds integers.

        Raises
        ------
        ArgumentError
            If the number of axes or channels is wrong, or the input is smaller than `minimum`.
        ArgumentTypeError
            If the input holds integers.
        """
        want, axes = self.sample_shape[0], "LZYX"[5 - len(self.sample_shape) :]
        axes = "T" if axes == "X" else axes
        form = f"(N, {want}, {', '.join(axes)})"
        got = tuple(x.shape)
        name = type(self).__name__
        if len(got) != len(self.sample_shape) + 1:
            raise ArgumentError(f"`{name}` expects {self._noun} {form}; got shape {got}")
        if got[1] != want:
            raise ArgumentError(
                f"`{name}` expects {self._noun} {form}; got shape {got}. "
                f"Build it with `{channels}={got[1]}`, or put the channels first"
            )
        if min(got[2:]) < minimum:
            raise ArgumentError(
                f"`{name}` expects {self._noun} of at least {minimum} along each axis; got shape {got}"
            )
        if not x.is_floating_point():
            raise ArgumentTypeError(
                f"`{name}` expects floating point {self._noun}; got {x.dtype}. "
                "Scale them first: `x.float() / 255`"
            )

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self.options.items())
        rows = [(n, _describe(m), _parameters(m)) for n, m in self.named_children()]
        wide = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        lines = [f"  {n:<{wide[0]}}  {d:<{wide[1]}}  {p:>{wide[2]}}".rstrip() for n, d, p in rows]
        shape = "x".join(map(str, self.sample_shape))
        head = textwrap.wrap(f"{type(self).__name__}({shown})", 88, subsequent_indent="    ")
        return "\n".join([*head, f"  {self.parameter_count():,} parameters, input {shape}", *lines])


def _describe(module: nn.Module) -> str:
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        kinds = Counter(_kind(child) for child in module.children())
        return ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in kinds.items())
    return _kind(module)


def _kind(module: nn.Module) -> str:
    return type(module).__name__.removeprefix("_")


def _parameters(module: nn.Module) -> str:
    count = sum(p.numel() for p in module.parameters())
    return f"{count:,}" if count else ""
