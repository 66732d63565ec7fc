"""Trace: the order in which the convolutions of a network run, their shapes and their costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from separable.errors import ArgumentError
from separable.lowering.conv_spec import ConvSpec
from separable.lowering.step import Step
from separable.nn.convert.calibration import Calibration
from separable.nn.convert.layer_refs import LayerRef
from separable.nn.ledger import ledger
from separable.nn.ledger.fake_model import fake_copy, fake_inputs, fake_keywords
from separable.nn.step_times.recorded_operation import RecordedOperation

__all__ = [
    "Trace",
    "dense_multiplications",
    "steps_multiplications",
    "trace_model",
    "traced",
    "traced_singly",
]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Trace:
    """Record of one run of a network.

    Attributes
    ----------
    inputs : tuple of str
        Inputs as text.
    shapes : mapping of str to list of tuple of int
        Shapes of each convolution's input in all calls; convolutions in the order of first calls.
    layers : mapping of str to int
        Multiplications of each module without its children, by the ledger.
    operations : tuple of RecordedOperation
        Operations of the whole network in the order in which they ran.
    """

    inputs: tuple[str, ...]
    shapes: Mapping[str, Sequence[Shape]]
    layers: Mapping[str, int]
    operations: tuple[RecordedOperation, ...] = ()

    @property
    def total(self) -> int:
        """Multiplications of the whole network."""
        return sum(self.layers.values())

    def within(self, name: str) -> int:
        """Return the multiplications of a module with all its children."""
        return sum(n for key, n in self.layers.items() if key == name or key.startswith(f"{name}."))


def trace_model(
    model: nn.Module,
    inputs: Any,
    watched: Mapping[str, nn.Module],
    kwargs: Mapping[str, Any] | None = None,
) -> Trace:
    """Run a model on fake tensors, which have no memory.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : tuple of int, or list of shapes or tensors
    watched : mapping of str to module
        The convolutions, by a path in the model.
    kwargs : mapping, optional
        Inputs by name.

    Raises
    ------
    ArgumentError
        If such an input does not go through.
    """
    book = ledger(model, inputs, kwargs=kwargs, backward=False)
    layers = {layer.name: layer.cost.multiplications for layer in book.layers}
    shapes: dict[str, list[Shape]] = {}
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        arguments = fake_inputs(model, inputs, None)
        keywords = fake_keywords(model, kwargs)
        copied = fake_copy(model)
        for name in watched:

            def note(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                tensor = args[0] if args else kwargs["input"]
                shapes.setdefault(name, []).append(tuple(tensor.shape))

            copied.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True)
        copied(*arguments, **keywords)
    return Trace(book.inputs, shapes, layers, book.operations)


def traced(
    model: nn.Module, refs: Sequence[LayerRef], calibration: Calibration | None, input_shape: Any
) -> Trace | None:
    """Run the model on the given shapes with fake tensors."""
    watched = {s.name: s.conv for s in refs if not s.reason}
    if calibration is None:
        return None if input_shape is None else trace_model(model, input_shape, watched)
    first = calibration.first
    assert first is not None
    try:
        return trace_model(model, list(first.args), watched, first.kwargs)
    except ArgumentError as problem:
        raise ArgumentError(
            f"`data`: batch 0, {first.describe()}, does not go through the model: {problem}"
        ) from problem


def traced_singly(
    model: nn.Module, refs: Sequence[LayerRef], calibration: Calibration
) -> Trace | None:
    """Run the model on one sample of the first batch, or return None if batches have one sample.

    A model that cannot run on inputs cut to one sample gives None too.
    """
    first = calibration.first
    assert first is not None
    sizes = {t.shape[0] if t.dim() else 0 for t in first.tensors}
    if len(sizes) != 1 or max(sizes) < 2:
        return None

    def cut(value: Any) -> Any:
        return value[:1] if isinstance(value, torch.Tensor) else value

    watched = {s.name: s.conv for s in refs if not s.reason}
    kwargs = {name: cut(value) for name, value in first.kwargs.items()}
    try:
        return trace_model(model, [cut(value) for value in first.args], watched, kwargs)
    except ArgumentError:
        return None


def dense_multiplications(spec: ConvSpec, shapes: Sequence[Shape] | None) -> int:
    """Return the multiplications of a convolution in all calls, or per position without shapes."""
    if shapes is None:
        return spec.multiplications
    total = 0
    for shape in shapes:
        space = shape[-spec.ndim :]
        positions = math.prod(space if spec.transposed else spec.output_size(space))
        total += _images(spec, shape) * spec.multiplications * positions
    return total


def steps_multiplications(
    spec: ConvSpec, steps: Sequence[Step], shapes: Sequence[Shape] | None
) -> int:
    """Return the multiplications of a layer's steps in all calls, or per position without shapes."""
    if shapes is None:
        return sum(step.multiplications for step in steps)
    total = 0
    for shape in shapes:
        space = shape[-spec.ndim :]
        for step in steps:
            after = step.output_size(space)
            weights = math.prod(step.weight_shape) * step.shared
            total += _images(spec, shape) * weights * math.prod(space if step.transposed else after)
            space = after
    return total


def _images(spec: ConvSpec, shape: Shape) -> int:
    return math.prod(shape[: -spec.ndim - 1])
