"""Removal of the nodes and weights that a rewritten ONNX graph no longer uses."""

from __future__ import annotations

from typing import Any

from separable.nn.formats.onnx_constants import nested_graphs
from separable.nn.formats.onnx_reading import used_names

__all__ = ["prune"]


def prune(before: Any, after: Any) -> None:
    """Remove what only the replaced nodes of a graph read; what was unused before is kept.

    Parameters
    ----------
    before, after : onnx.GraphProto
        The graph as it was read, and with other nodes; the latter is changed.
    """
    was = {node.output[0]: node for node in before.node if node.output}
    for node in after.node:
        old = was.get(node.output[0]) if node.output else None
        if old is not None:
            graphs = dict(nested_graphs(old))
            for name, inner in nested_graphs(node):
                if name in graphs:
                    prune(graphs[name], inner)
    gone = _live(before) - _live(after)
    nodes = [node for node in after.node if not node.output or not set(node.output) <= gone]
    del after.node[:]
    after.node.extend(nodes)
    stored = {t.name for t in before.initializer}
    for part in (after.initializer, after.input):
        kept = [t for t in part if t.name not in gone or t.name not in stored]
        del part[:]
        part.extend(kept)


def _live(graph: Any) -> set[str]:
    """Return the values that the outputs of a graph depend on."""
    live = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if live & set(node.output):
            live |= used_names([node]) | set(node.output)
    return live
