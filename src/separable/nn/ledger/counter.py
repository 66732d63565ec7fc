"""ModuleTotals: what each module of a model has run so far."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from separable.cost import Cost
from separable.nn.ledger import matmul_ops, pooling_ops
from separable.nn.ledger.elementwise_ops import EMPTY, UNREAD, moves
from separable.nn.ledger.formulas import FORMULAS, Count, Operation
from separable.nn.ledger.ledger_data import Call, Container, Layer, Uncounted
from separable.nn.ledger.matmul_ops import convolution_of
from separable.nn.step_times.recorded_operation import RecordedOperation

__all__ = ["ModuleTotals", "count"]

FORMULA_FILES = (matmul_ops, pooling_ops)  # imported to register their formulas
RELABELLED = frozenset(["_unsafe_view", "_reshape_alias", "alias", "lift_fresh", "lift"])
PICKED = frozenset(["embedding", "index", "_unsafe_index", "index_select", "gather", "take"])
NO_FORMULA = "no formula"


def count(op: Operation) -> Count | str:
    """Return the arithmetic of an operation, or the reason why it is unknown.

    Elementwise operations without a formula count one of `others` per element. Integers are not
    counted because they are indices and bookkeeping.
    """
    involved = [*op.inputs, *op.outputs]
    found = FORMULAS.get(op.name) if op.function.namespace == "aten" else None
    if found is moves:
        return found(op)
    if any(t.is_complex() for t in involved):
        return "complex numbers"
    if found is None and torch.Tag.pointwise not in op.function.tags:
        return NO_FORMULA
    if not any(t.is_floating_point() for t in involved):
        return Count()
    return found(op) if found is not None else Count(others=op.size)


def _relabels(op: Operation) -> bool:
    """Return True if an operation only changes the shape of a tensor, in place or not, and moves no data."""
    in_place = torch.Tag.inplace_view in op.function.tags and op.name not in FORMULAS
    return op.name in RELABELLED or in_place


@dataclass
class _Page:
    """Counts of one module."""

    name: str
    kind: str
    calls: int = 0
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    counts: list[Count] = field(default_factory=lambda: [Count(), Count()])  # forward, backward
    activation_bytes: list[int] = field(default_factory=lambda: [0, 0])
    weight_bytes: list[int] = field(default_factory=lambda: [0, 0])
    convolutions: list[Call] = field(default_factory=list)
    operations: int = 0
    parameters: int = 0

    def cost(self, side: int) -> Cost:
        found = self.counts[side]
        multiplications = found.macs + found.multiplications
        return Cost(
            multiplications,
            found.macs,
            multiplications + found.macs,
            0 if side else self.parameters,
            self.activation_bytes[side],
            self.weight_bytes[side],
            found.additions,
            found.others,
        )


class ModuleTotals:
    """Operations that each module of a model has run so far, forward and backward."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.is_backward = False
        self.names: dict[int, str] = {}
        self.owners: dict[int, str] = {}
        self.pages: dict[str, _Page] = {}
        for name, module in model.named_modules():
            self.names[id(module)] = name
            self.pages[name] = _Page(name, type(module).__name__)
            for parameter in module.parameters(recurse=False):
                self.owners.setdefault(id(parameter), name)
        self.weights = {_storage(t) for t in (*model.parameters(), *model.buffers())}
        self.used: set[int] = set()
        self.written: dict[int, tuple[str, int]] = {}  # storage -> last writer, and bytes
        self.refused: Counter[tuple[str, str, str]] = Counter()
        self.operations: list[RecordedOperation] = []
        self._values = 0
        self._numbers: dict[int, int] = {}  # storage -> number of the value that it holds now
        self._own_kernels = {
            name for name, module in model.named_modules() if getattr(module, "_serves", False)
        }

    def kind(self, name: str) -> str:
        """Return the name of a module's class."""
        return self.pages[name].kind

    def enter(self, module: nn.Module, inputs: Sequence[Tensor]) -> str:
        """Record that a module starts to run, and return its name."""
        name = self.names[id(module)]
        page = self.pages[name]
        if not self.is_backward:
            if not page.calls and inputs:
                page.input_shape = tuple(inputs[0].shape)
            page.calls += 1
        return name

    def leave(self, name: str, outputs: Sequence[Tensor]) -> None:
        """Record what a module returned at its first call."""
        page = self.pages[name]
        if page.calls == 1 and outputs and not self.is_backward:
            page.output_shape = tuple(outputs[0].shape)

    def owner(self, parameter: Any) -> str:
        """Return the module that holds a parameter."""
        return self.owners.get(id(parameter), "")

    def refuse(self, layer: str, operation: str, reason: str) -> None:
        """Record an operation as not counted."""
        self.refused[layer, operation, reason] += 1

    def write(self, layer: str, op: Operation) -> None:
        """Count an operation for a module."""
        if _relabels(op) or op.name in EMPTY:
            return
        page, side = self.pages[layer], int(self.is_backward)
        page.operations += 1
        found = count(op)
        if isinstance(found, str):
            self.refuse(layer, f"{op.function.namespace}::{op.name}", found)
        else:
            page.counts[side] = Count(*map(sum, zip(page.counts[side], found, strict=True)))
        self._move(page, side, op)
        if op.name == "convolution" and not self.is_backward:
            storage = _storage(op["weight"])
            is_first = storage in self.weights and storage not in self.used
            self.used.add(storage)
            page.convolutions.append(Call(convolution_of(op), is_first))
        if not self.is_backward:
            macs = 0 if isinstance(found, str) else found.macs
            self.operations.append(self._recorded(layer, op, macs))

    def _recorded(self, layer: str, op: Operation, macs: int) -> RecordedOperation:
        """Return an operation of the forward pass with the numbers of its values."""
        read = _read(op)
        weights = [t for t in op.inputs if _storage(t) in self.weights]
        held = {id(t) for t in weights}
        reads = [t for t in op.inputs if id(t) not in held]
        numbers = tuple(self._number(t) for t in reads)
        for tensor in op.outputs:  # a storage that is written, again or first, holds a new value
            self._numbers[_storage(tensor)] = -1
        writes = tuple(self._number(t) for t in op.outputs)
        return RecordedOperation(
            layer, op.name, macs,
            sum(_size(t) for t in read if id(t) not in held),
            sum(_size(t) for t in op.outputs),
            sum(_size(t) for t in read if id(t) in held),
            numbers, writes,
            tuple(tuple(t.shape) for t in op.inputs), tuple(tuple(t.shape) for t in op.outputs),
            convolution_of(op) if op.name == "convolution" else None,
            math.prod(op.get("kernel_size") or (1,)),
            layer.rpartition(".")[0] in self._own_kernels,
        )  # fmt: skip

    def _number(self, tensor: Tensor) -> int:
        storage = _storage(tensor)
        if self._numbers.get(storage, -1) < 0:
            self._values += 1
            self._numbers[storage] = self._values
        return self._numbers[storage]

    def _move(self, page: _Page, side: int, op: Operation) -> None:
        """Count the bytes that an operation reads and writes."""
        for tensor in _read(op):
            size = _size(tensor)
            if op.name in PICKED and tensor is op.inputs[0]:
                size = min(size, _size(op.outputs[0]))  # only the selected rows
            target = (
                page.weight_bytes if _storage(tensor) in self.weights else page.activation_bytes
            )
            target[side] += size
        for tensor in op.outputs:
            page.activation_bytes[side] += _size(tensor)
            if self.is_backward:
                self.written[_storage(tensor)] = (page.name, _size(tensor))

    def close(self) -> None:
        """Count gradients of parameters as weights, once it is known which tensors these are."""
        for parameter in self.model.parameters():
            if parameter.grad is None:
                continue
            name, size = self.written.pop(_storage(parameter.grad), ("", 0))
            self.pages[name].activation_bytes[1] -= size
            self.pages[name].weight_bytes[1] += size

    def layers(self) -> tuple[Layer, ...]:
        """Return one row per module that computes something itself or has parameters."""
        for parameter in self.model.parameters():
            self.pages[self.owner(parameter)].parameters += parameter.numel()
        return tuple(
            Layer(
                page.name, page.kind, page.calls, page.input_shape, page.output_shape,
                page.cost(0), page.cost(1), tuple(page.convolutions),
            )
            for page in self.pages.values()
            if page.operations or page.parameters
        )  # fmt: skip

    def containers(self) -> dict[str, Container]:
        """Return class and output of every module, also of those that only call others."""
        return {
            name: Container(page.kind, page.calls, page.input_shape, page.output_shape)
            for name, page in self.pages.items()
        }

    def uncounted(self) -> tuple[Uncounted, ...]:
        """Return the operations without a formula."""
        return tuple(Uncounted(*key, calls) for key, calls in self.refused.items())


def _storage(tensor: Tensor) -> int:
    """Return a key of the memory of a tensor, which its views share."""
    if tensor.layout is not torch.strided:
        return id(tensor)
    return int(tensor.untyped_storage()._cdata)


def _read(op: Operation) -> list[Tensor]:
    """Return the tensors whose values an operation needs."""
    if op.name in UNREAD:
        return op.inputs[1:] if op.name == "copy" else []
    if (
        op.name == "convolution_backward"
    ):  # weights for the gradient of the input, inputs for that of the weights
        to_input, to_weight, _ = op["output_mask"]
        needed = {"grad_output": True, "input": to_weight, "weight": to_input}
        return [op[name] for name, is_needed in needed.items() if is_needed]
    return op.inputs


def _size(tensor: Tensor) -> int:
    """Return the bytes of the elements that a tensor really has: an expanded axis has one."""
    if tensor.layout is not torch.strided:
        return tensor.numel() * tensor.element_size()
    own = (n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or n == 0)
    return math.prod(own) * tensor.element_size()
