"""Executor: runs a module of a fused network by programs, in place of its `forward`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from separable.engine.availability import EngineError
from separable.engine.tensor_memory import dense_strides, empty_strided
from separable.nn.fused.kernel_use import HOOKS, are_observed, can_use_fused_kernel
from separable.nn.fused.layout_transpose import to_first, to_last
from separable.nn.fused.openmp import Job, ready, run
from separable.nn.fused.program.convolution_operations import Layer, Pointwise
from separable.nn.fused.program.network_trace import TraceError, traced
from separable.nn.fused.program.operations import Choices
from separable.nn.fused.program.program import Program
from separable.nn.fused.program.translation import (
    Segment,
    Translated,
    strides_in_program,
    translate,
)
from separable.process_cache import ProcessBound, ProcessCache

__all__ = ["NO_KERNEL", "Execution", "Executor", "RunSegment"]

SHAPES_KEPT = 64
NO_KERNEL = "no operator has a kernel"


class Executor:
    """The method `forward` of a module whose operators programs run.

    A call goes to the module's own `forward` wherever programs might give another result: with gradients, under
    tracing, dispatch modes, autocast or hooks, for other dtypes and devices, and for inputs that are not plain tensors.

    Parameters
    ----------
    module : torch.nn.Module
        Module in evaluation mode; its parameters and buffers are constants as long as they do not change.
    exact : bool
        See `fuse`.

    Attributes
    ----------
    by_torch : frozenset of str
        Names of operators that PyTorch runs, because it was measured to be faster.
    """

    def __init__(self, module: nn.Module, *, exact: bool = False) -> None:
        self.module, self._exact = module, exact
        self._executions = ProcessCache(SHAPES_KEPT)
        self._kept = ProcessCache()  # the state that executions were made for, and packed weights
        self.by_torch: frozenset[str] = frozenset()

    @property
    def _plain(self) -> Callable[..., Any]:
        """The module's own `forward`; not kept, because a pickled method is looked up by its name."""
        found: Callable[..., Any] = type(self.module).forward.__get__(self.module)
        return found

    # PyTorch's exporter and compiler look at a method's code and its parameters.

    @property
    def __code__(self) -> Any:
        return self._plain.__code__

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._plain)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Run the module."""
        if options or not inputs or torch.compiler.is_compiling():
            return self._plain(*inputs, **options)
        if self._must_be_plain(inputs):
            return self._plain(*inputs)
        state = self._kept.get("state")
        if state is None or not state.holds():
            state = self._renewed()
        if state.is_observed():
            return self._plain(*inputs)
        execution = self.execution(*inputs)
        return self._plain(*inputs) if execution.reason else execution(inputs)

    def _must_be_plain(self, inputs: Sequence[Any]) -> bool:
        """Return whether a call must see the operators of the module itself."""
        for x in inputs:
            if type(x) is not Tensor or x.dtype is not torch.float32 or not x.is_cpu:
                return True
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            return True
        return not can_use_fused_kernel(inputs[0]) or are_observed()

    def _renewed(self) -> _State:
        """Forget all executions, and return the present state of the module."""
        self._executions.clear()
        self._kept.clear()
        made: _State = self._kept.get_or_build("state", lambda: _State(self.module))
        return made

    def why_not(self, *inputs: Tensor) -> str:
        """Return why programs do not run the module on such inputs; an empty string if they do."""
        other = {
            str(x.dtype).removeprefix("torch.") for x in inputs if x.dtype is not torch.float32
        }
        if other:
            return f"its inputs are of {', '.join(sorted(other))}, and programs compute in float32"
        if self._must_be_plain(inputs):
            return "its inputs are not plain tensors on the CPU, or calls are recorded"
        state = self._kept.get("state") or self._renewed()
        if state.is_observed():
            return "a module inside has hooks"
        return self.execution(*inputs).reason

    def execution(self, *inputs: Tensor) -> Execution:
        """Return the execution for inputs of these shapes, which is built once."""
        threads = torch.get_num_threads()
        key = (tuple([(x.shape, x.stride()) for x in inputs]), threads)
        made: Execution = self._executions.get_or_build(key, lambda: self._built(inputs, threads))
        return made

    def leave_to_torch(self, nodes: Iterable[str]) -> None:
        """Let PyTorch run operators from now on."""
        self.by_torch |= frozenset(nodes)
        self._executions.clear()

    def _built(self, inputs: Sequence[Tensor], threads: int) -> Execution:
        """Trace and translate the module; if that is impossible, the result says why."""
        packed = self._kept.get_or_build("packed", dict)
        if not all(x.numel() for x in inputs):
            return Execution(None, threads, "an input is empty")
        try:
            graph = traced(self.module, self._plain, inputs)
            choices = Choices(threads, self._exact, self.by_torch)
            return Execution(translate(graph, packed, choices), threads)
        except (TraceError, EngineError) as error:
            return Execution(None, threads, str(error))


class _State(ProcessBound):
    """Modules, parameters and buffers that the programs of a module were made of."""

    def __init__(self, root: nn.Module) -> None:
        modules = list(root.modules())
        tables = [d for m in modules for d in (m._modules, m._parameters, m._buffers) if d]
        self._tables = [(d, tuple(d.values())) for d in tables]
        tensors = [t for d, _ in self._tables for t in d.values() if isinstance(t, Tensor)]
        self._tensors = [(t, t._version, t.data_ptr()) for t in tensors if not t.is_inference()]
        self._hooks = [getattr(m, name) for m in modules[1:] for name in HOOKS]

    def holds(self) -> bool:
        """Return whether the module still consists of the same modules and unchanged tensors."""
        for table, values in self._tables:
            if len(table) != len(values) or not all(map(is_, table.values(), values)):
                return False
        for tensor, version, address in self._tensors:
            if tensor._version != version or tensor.data_ptr() != address:
                return False
        return True

    def is_observed(self) -> bool:
        """Return whether a module inside has hooks, which must see its inputs and outputs."""
        return any(self._hooks)


class Execution(ProcessBound):
    """Execution of a module for inputs of one shape.

    Attributes
    ----------
    reason : str
        Why the module's own `forward` runs; empty if programs run.
    translated : Translated or None
    parts : list of RunSegment or TorchCall
        What a call runs, one after the other.
    """

    def __init__(self, translated: Translated | None, threads: int, reason: str = "") -> None:
        self.reason, self.translated = reason, translated
        if translated is None:
            return
        if not translated.segments:
            self.reason = NO_KERNEL
            return
        self._inputs = translated.inputs
        self._output = translated.output
        self._single = isinstance(translated.output, fx.Node)
        self.parts: list[Any] = [
            RunSegment(part, part.program(threads, translated.alias), threads)
            if isinstance(part, Segment)
            else part
            for part in translated.parts
        ]
        self._constants = translated.constants

    @property
    def programs(self) -> list[Program]:
        """The programs that this consists of."""
        return [p.program for p in self.parts if isinstance(p, RunSegment)]

    def __call__(self, inputs: Sequence[Tensor]) -> Any:
        """Run all parts on inputs of the right shapes."""
        values: dict[fx.Node, Any] = dict(zip(self._inputs, inputs, strict=True))
        for part in self.parts:
            part.run(values)
        if self._single:
            return values[self._output]
        return map_arg(self._output, lambda n: values[n] if n in values else self._constants[n])


class RunSegment(ProcessBound):
    """A segment with its program."""

    def __init__(self, segment: Segment, program: Program, threads: int) -> None:
        self.segment, self.program, self._threads = segment, program, threads
        self._reads = [(n, strides_in_program(n)) for n in segment.reads]
        self._writes = []
        for node in segment.writes:
            like = node.meta["val"]
            strides = strides_in_program(node)
            final = None if like.stride() == strides or _same(like, strides) else like.stride()
            self._writes.append((node, tuple(like.shape), strides, final))
        self._job: Job | None = None
        self._alone = _single_layer(segment)
        if len(self._reads) == len(self._writes) == 1:

            def otherwise(source: int, target: int) -> None:
                run(program, (source, target), 0, threads)

            self._job = ready(program, (), threads, otherwise)

    def _run_ready(self, values: dict[fx.Node, Any]) -> None:
        """Run the program by the ready job, from one value to another."""
        assert self._job is not None
        source, strides = self._reads[0]
        node, shape, written, final = self._writes[0]
        x = values[source]
        if self._alone is not None and final is not None and self._alone.takes_first(x):
            values[node] = self._alone(x)
            return
        if x.stride() != strides:
            x = _in_program_layout(x, strides)
        made = empty_strided(shape, written, torch.float32)
        self._job(x.data_ptr(), made.data_ptr())
        values[node] = made if final is None else _in_layout(made, final)

    def run(self, values: dict[fx.Node, Any]) -> None:
        """Run the program, and add its results to the values."""
        if self._job is not None:
            self._run_ready(values)
            return
        held = []
        for node, strides in self._reads:
            x = values[node]
            held.append(x if x.stride() == strides else _in_program_layout(x, strides))
        for node, shape, strides, _ in self._writes:
            made = values[node] = empty_strided(shape, strides, torch.float32)
            held.append(made)
        run(self.program, [t.data_ptr() for t in held], 0, self._threads)
        for node, _, _, final in self._writes:
            if final is not None:
                values[node] = _in_layout(values[node], final)


def _single_layer(segment: Segment) -> Any:
    """Return the packed layer of a segment that has no other operation, or None.

    Such a layer need not convert an input and a result that have their channels first.
    """
    operation = segment.operations[0]
    if len(segment.operations) > 1 or not isinstance(operation, Layer | Pointwise):
        return None
    return None if operation.has_residual else operation.packed


def _in_layout(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Return a copy of a tensor with other strides."""
    if tuple(strides) == dense_strides(x.shape):
        return to_first(x)
    return empty_strided(x.shape, strides, torch.float32).copy_(x)


def _same(x: Tensor, strides: Sequence[int]) -> bool:
    """Return whether strides mean the same memory for a tensor: they may differ along axes of size 1."""
    return all(n == 1 or a == b for n, a, b in zip(x.shape, x.stride(), strides, strict=True))


def _in_program_layout(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Return a tensor as programs read it: dense, with the channels innermost."""
    return x.contiguous() if strides[-1] == 1 and _same_as_contiguous(x, strides) else to_last(x)


def _same_as_contiguous(x: Tensor, strides: Sequence[int]) -> bool:
    """Return whether strides are those of a tensor in PyTorch's default layout."""
    step = 1
    for n, stride in zip(reversed(x.shape), reversed(strides), strict=True):
        if n != 1 and stride != step:
            return False
        step *= n
    return True
