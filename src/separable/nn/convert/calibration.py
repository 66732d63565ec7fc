"""Calibration data: checked batches, and runs of a network up to a layer."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = ["Batch", "Calibration", "ErrorTally", "outputs_of", "run_until", "watched_run"]


@dataclass(frozen=True)
class Batch:
    """Arguments of one call of a model."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    at: int = 0

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors of the batch."""
        return outputs_of([list(self.args), dict(self.kwargs)])

    def describe(self) -> str:
        """Return the shapes as text."""
        return ", ".join("x".join(map(str, t.shape)) for t in self.tensors) or "no tensor"


class Calibration:
    """Batches that can be iterated several times.

    Parameters
    ----------
    data : iterable
        Batches: tensors, tuples of them (positional arguments of the model) or mappings (keyword
        arguments). An iterator is stored as a list.
    device : torch.device
        Device of the model.

    Raises
    ------
    ArgumentTypeError, ArgumentError
        If it is not an iterable of such batches, or is empty.
    """

    def __init__(self, data: object, device: torch.device) -> None:
        if isinstance(data, Tensor):
            raise ArgumentTypeError(
                f"`data` must be an iterable of batches; got one tensor of shape "
                f"{tuple(data.shape)}. Give [tensor], or tensor.split(16)"
            )
        if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
            raise ArgumentTypeError(
                f"`data` must be an iterable of batches; got {type(data).__name__}"
            )
        self._data: Iterable[Any] = list(data) if iter(data) is iter(data) else data
        self._device = device
        self.first = next(iter(self), None)
        if self.first is None:
            raise ArgumentError("`data` is empty: give at least one batch, or no `data`")
        self.count = 0
        for at, batch in enumerate(self):
            self._check(at, batch)
            self.count += 1

    def __iter__(self) -> Iterator[Batch]:
        for at, item in enumerate(self._data):
            yield self._batch(at, item)

    def _batch(self, at: int, item: object) -> Batch:
        if isinstance(item, Tensor):
            return Batch((item.to(self._device),), {}, at)
        if isinstance(item, Mapping):
            return Batch((), {k: self._moved(v) for k, v in item.items()}, at)
        if isinstance(item, (tuple, list)) and item:
            return Batch(tuple(self._moved(v) for v in item), {}, at)
        raise ArgumentTypeError(
            f"`data` must give tensors, tuples of tensors or mappings; batch {at} is "
            f"{type(item).__name__}"
        )

    def _moved(self, value: Any) -> Any:
        return value.to(self._device) if isinstance(value, Tensor) else value

    def _check(self, at: int, batch: Batch) -> None:
        for tensor in batch.tensors:
            if tensor.numel() == 0:
                raise ArgumentError(f"`data`: batch {at} is empty, shape {tuple(tensor.shape)}")
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                bad = int((~tensor.isfinite()).sum())
                raise ArgumentError(
                    f"`data`: batch {at}, shape {tuple(tensor.shape)}, has {bad} values that are "
                    "NaN or infinite"
                )


class _StopError(Exception):
    """Exception raised in a hook to end a forward pass early."""


@contextlib.contextmanager
def _hooked(handles: Sequence[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def run_until(
    model: nn.Module,
    batch: Batch,
    layer: nn.Module,
    calls: int,
    callback: Callable[[Tensor, Tensor | None], None],
    *,
    inputs_only: bool = False,
) -> None:
    """Run a model up to the last call of a layer, and pass on the layer's inputs and outputs.

    Parameters
    ----------
    model : torch.nn.Module
    batch : Batch
    layer : torch.nn.Module
    calls : int
        Number of calls of the layer per forward pass.
    callback : function
        Function of the layer's input and output; if `inputs_only`, it is called before the layer
        runs, with the input and None.
    """
    count = 0

    def note(tensor: Tensor, output: Tensor | None) -> None:
        nonlocal count
        count += 1
        callback(tensor, output)
        if count == calls:
            raise _StopError

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        note(args[0] if args else kwargs["input"], None)

    def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        note(args[0] if args else kwargs["input"], output)

    if inputs_only:
        handle = layer.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = layer.register_forward_hook(after, with_kwargs=True)
    with _hooked([handle]), contextlib.suppress(_StopError):
        _forward(model, batch)


@torch.no_grad()
def watched_run(
    model: nn.Module,
    batch: Batch,
    layers: Mapping[str, nn.Module],
    callback: Callable[[str, Tensor, Tensor], None],
) -> list[Tensor]:
    """Run a model, pass on inputs and outputs of some layers, and return the model's outputs."""
    handles = []
    for name, layer in layers.items():

        def note(module: nn.Module, args: Any, kwargs: Any, out: Any, name: str = name) -> None:
            callback(name, args[0] if args else kwargs["input"], out)

        handles.append(layer.register_forward_hook(note, with_kwargs=True))
    with _hooked(handles):
        return outputs_of(_forward(model, batch))


def _forward(model: nn.Module, batch: Batch) -> Any:
    """Call the model; errors that it raises name the batch."""
    try:
        return model(*batch.args, **batch.kwargs)
    except _StopError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as problem:
        raise ArgumentError(
            f"`data`: batch {batch.at}, {batch.describe()}, does not go through the model: "
            f"{str(problem).strip() or type(problem).__name__}\nA batch is what the model takes: "
            "a tensor, a tuple of its arguments, or a mapping of them; no labels"
        ) from problem


def outputs_of(value: Any) -> list[Tensor]:
    """Return the tensors in a model's inputs or outputs, however they are nested."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in outputs_of(v)]
    return []


class ErrorTally:
    """Accumulator of squared errors and of the variance of the outputs they refer to."""

    def __init__(self) -> None:
        self.count = 0
        self.wrong = self.squares = 0.0
        self.sum: Any = None

    def add(self, wanted: Tensor, got: Tensor) -> None:
        """Add the outputs of one call, the wanted ones first."""
        if not wanted.is_floating_point() or wanted.numel() == 0:
            return
        wanted, got = wanted.double(), got.double()
        axes = [i for i in range(wanted.dim()) if i != 1]
        total = wanted.sum(dim=axes) if wanted.dim() > 1 else wanted.sum()
        self.sum = total if self.sum is None or self.sum.shape != total.shape else self.sum + total
        self.count += wanted.numel() // max(1, total.numel())
        self.squares += float((wanted**2).sum())
        self.wrong += float(((wanted - got) ** 2).sum())

    @property
    def error(self) -> float:
        """Square root of the squared error over the squared deviation from each channel's mean."""
        if self.sum is None:
            return math.nan
        spread = self.squares - float((self.sum**2).sum()) / max(self.count, 1)
        if spread <= 1e-12 * self.squares:  # constant outputs: the error is relative to their size
            spread = self.squares
        return math.sqrt(self.wrong / spread) if spread else float(self.wrong > 0)
