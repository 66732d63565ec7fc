"""Operators of one call of a network, as a graph of PyTorch's operators on tensors of known shapes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from separable.nn.fused.program.whole_modules import kept_whole

__all__ = ["TraceError", "constant_of", "traced"]


class TraceError(Exception):
    """Reason why the operators of a network cannot be recorded."""


def traced(module: nn.Module, run: Callable[..., Any], inputs: Sequence[Tensor]) -> fx.GraphModule:
    """Return the operators of one call of a module in evaluation mode, without changes in place.

    Parameters
    ----------
    module : torch.nn.Module
        The module, whose parameters and buffers become constants of the graph.
    run : callable
        Its `forward`.
    inputs : sequence of Tensor
        Tensors of the shapes, strides and dtypes to record; their values are not used.

    Raises
    ------
    TraceError
        If the control flow depends on values, or the module changes its own buffers or its input.
    """
    versions = _versions(module)
    try:
        with torch.no_grad(), _evaluation_only(module), kept_whole(module):
            graph = _recorded(lambda *x: run(*x), inputs)
            # Changes in place are removed in a second pass: PyTorch can do that for its basic operators only.
            if any(_changes(n) for n in graph.graph.nodes):
                graph = _recorded(functionalize(graph, remove="mutations"), inputs)
    except Exception as error:  # PyTorch raises errors of many kinds
        first = str(error).strip().split("\n", 1)[0]
        raise TraceError(
            f"its operators cannot be recorded ({type(error).__name__}: {first})"
        ) from error
    if _versions(module) != versions:
        raise TraceError("it changes its own parameters or buffers")
    writes = any(
        n.target is torch.ops.aten.copy_.default and n.args[0].op == "placeholder"
        for n in graph.graph.nodes
    )
    if writes:
        raise TraceError("it changes its input")
    return graph


def _recorded(run: Callable[..., Any], inputs: Sequence[Tensor]) -> fx.GraphModule:
    """Return the graph of one call on tensors without values."""
    tracer: Any = make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)
    graph: fx.GraphModule = tracer(*inputs)
    return graph


def _changes(node: fx.Node) -> bool:
    """Return whether an operator changes a tensor in place."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)


def _versions(module: nn.Module) -> list[int]:
    tensors = itertools.chain(module.parameters(), module.buffers())
    return [t._version for t in tensors if not t.is_inference()]


@contextlib.contextmanager
def _evaluation_only(module: nn.Module) -> Iterator[None]:
    """Refuse modules in training mode, whose operators change statistics or draw random numbers."""
    if any(m.training for m in module.modules()):
        raise TraceError("it is in training mode")
    yield


def constant_of(graph: fx.GraphModule, node: Any) -> Any:
    """Return the constant tensor that a node of a graph stands for, or None."""
    if not isinstance(node, fx.Node):
        return None
    if node.op == "get_attr":
        return getattr(graph, str(node.target)).detach()
    if node.op == "call_function" and node.target in _VIEWS_OF_CONSTANTS:
        values = [constant_of(graph, a) if isinstance(a, fx.Node) else a for a in node.args]
        if (
            values
            and values[0] is not None
            and not any(isinstance(a, fx.Node) for a in node.args[1:])
        ):
            return _target(node)(*values)
    return None


def _target(node: fx.Node) -> Any:
    return node.target


_aten = torch.ops.aten
_VIEWS_OF_CONSTANTS = {
    _aten.t.default, _aten.transpose.int, _aten.permute.default, _aten.view.default, _aten.detach.default,
    _aten.alias.default, _aten.unsqueeze.default, _aten.squeeze.dim,
}  # fmt: skip
