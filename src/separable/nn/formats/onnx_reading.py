"""Reading of ONNX files: safety checks, inferred shapes, and stored weights."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from separable.distribution import install_command
from separable.errors import ArgumentError, FileError

__all__ = ["graph_inputs", "inferred_shapes", "load", "opset_of", "parameters_of", "used_names"]

Shape = tuple[int, ...]
EXTERNAL = frozenset(("location", "offset", "length", "checksum"))  # keys that locate external data
COMPILED = frozenset(("EPContext", "PyOp"))  # nodes of onnxruntime without arithmetic
MOST_INLINED = 1_000_000  # nodes; more come from functions that are nested to fill the memory
OLDEST = 11  # the first opset with the amounts of Pad as an input


def load(path: Path) -> Any:
    """Read and check a model, with external data if it is in the model's folder.

    Raises
    ------
    FileError
        If the file is damaged or refers to files outside its folder.
    ArgumentError
        If onnx is missing or the model is of an old opset.
    """
    try:
        import onnx  # optional dependency
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            f"{path.name} needs onnx, which is not installed: {install_command('convert')}"
        ) from missing
    folder = path.resolve().parent
    try:
        model = onnx.load(str(path), load_external_data=False)
        parts = list(_parts(model))
    except Exception as problem:  # protobuf's exceptions differ between versions
        raise _damaged(path, problem) from None
    tensors = [p for p in parts if isinstance(p, onnx.TensorProto)]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_location(path, folder, tensor)
    for node in parts:
        if isinstance(node, onnx.NodeProto) and node.op_type in COMPILED:
            raise FileError(
                f"cannot read {path}: its node `{node.name}` ({node.op_type}) holds compiled code "
                "or names a file of it. Export the model without"
            )
    try:
        onnx.load_external_data_for_model(model, str(folder))
        onnx.checker.check_model(model)
    except Exception as problem:
        raise _damaged(path, problem) from None
    left = next((t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL), None)
    if left is not None:  # onnxruntime would read it from the current folder
        raise FileError(
            f"cannot read {path}: the data of `{left.name}` is in another file, which is read for "
            "the graph's own tensors alone. Save the model with all data in it"
        )
    version = opset_of(model)
    if version < OLDEST:
        raise ArgumentError(
            f"{path.name} is of opset {version}; expected {OLDEST} or later. Convert it with "
            "onnx.version_converter.convert_version"
        )
    return _without_functions(path, model)


def opset_of(model: Any) -> int:
    """Return the version of the standard operators that a model uses; 0 if it uses none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def _without_functions(path: Path, model: Any) -> Any:
    """Return a model with its local functions written out, so that convolutions in them are found."""
    if not model.functions or _inlined_nodes(model) > MOST_INLINED:
        return model
    from onnx import inliner  # optional dependency

    try:
        return inliner.inline_local_functions(model)
    except Exception as problem:  # the inliner raises exceptions of its own
        raise _damaged(path, problem) from None


def _inlined_nodes(model: Any) -> float:
    """Return the number of nodes after inlining; infinity for functions that call themselves."""
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    counts: dict[tuple[str, str], float] = dict.fromkeys(bodies, math.inf)
    for _ in bodies:  # one level of nesting is resolved in each round
        for key, nodes in bodies.items():
            counts[key] = sum(counts.get((n.domain, n.op_type), 1) for n in nodes)
    return sum(counts.get((n.domain, n.op_type), 1) for n in model.graph.node)


def _damaged(path: Path, problem: Exception) -> FileError:
    reason = (str(problem).strip() or type(problem).__name__).splitlines()[0].rstrip(".")
    return FileError(
        f"cannot read {path}: no ONNX model, or a damaged one ({reason}). Fetch or export it again"
    )


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield every tensor stored in a graph, also in attributes and in nested graphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
            for inner in attribute.graphs:
                yield from _tensors(inner)


def _parts(message: Any) -> Iterator[Any]:
    """Yield a protobuf message and all messages nested in it: nodes, tensors, functions, training information."""
    waiting = [message]
    while waiting:
        found = waiting.pop()
        yield found
        for field, value in found.ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting.extend([value] if hasattr(value, "ListFields") else value)


def _check_location(path: Path, folder: Path, tensor: Any) -> None:
    """Raise an error for external data outside the model's folder, after following links."""
    keys = [e.key for e in tensor.external_data]
    if len(set(keys)) != len(keys) or not set(keys) <= EXTERNAL:
        raise FileError(
            f"cannot read {path}: the location of the data of `{tensor.name}` is given by {keys}; "
            f"expected each of {', '.join(sorted(EXTERNAL))} once at most. Export it again"
        )
    location = next((e.value for e in tensor.external_data if e.key == "location"), "")
    target = Path(os.path.realpath(folder / location))
    if not location or os.path.isabs(location) or not target.is_relative_to(folder):
        raise FileError(
            f"{path}: the data of `{tensor.name}` is in {location!r}, outside the model's folder "
            f"{folder}. Put the file there, under a name without folders"
        )
    if not target.is_file():
        raise FileError(
            f"{path}: the data of `{tensor.name}` is in {location!r}, which is not there. Put it "
            "beside the model"
        )


def graph_inputs(graph: Any) -> list[tuple[str, list[int | None]]]:
    """Return the inputs that are not weights with their sizes; None for a dynamic size."""
    stored = {t.name for t in graph.initializer}
    return [
        (value.name, [_size(d) for d in value.type.tensor_type.shape.dim])
        for value in graph.input
        if value.name not in stored
    ]


def _described(sizes: Sequence[Any]) -> str:
    return "x".join(map(str, sizes)) or "a single number"


def _size(dim: Any) -> int | None:
    return int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None


def inferred_shapes(
    model: Any, shapes: Sequence[Shape], title: str = "the model"
) -> dict[str, Shape]:
    """Return the shape of each value of the graph for the given input shapes.

    Raises
    ------
    ArgumentError
        If they are not what the graph takes.
    """
    import onnx  # optional dependency

    known = graph_inputs(model.graph)
    fits = len(known) == len(shapes) and all(
        len(own) == len(given)
        and all(
            a is None or a == b or not at for at, (a, b) in enumerate(zip(own, given, strict=True))
        )
        for (_, own), given in zip(known, shapes, strict=True)
    )
    if not fits:
        wanted = ", ".join(_described([n or "?" for n in own]) for _, own in known)
        got = ", ".join(_described(s) for s in shapes)
        names = f" ({', '.join(name for name, _ in known)})" if len(known) > 1 else ""
        raise ArgumentError(f"the inputs of {title}{names} are {wanted}; got {got}")
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    by_name = dict(zip((name for name, _ in known), shapes, strict=True))
    for value in fixed.graph.input:
        if value.name in by_name:
            for dim, n in zip(value.type.tensor_type.shape.dim, by_name[value.name], strict=True):
                dim.dim_value = n
    del fixed.graph.value_info[:]  # shapes inferred for other sizes
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    found = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes = [_size(d) for d in value.type.tensor_type.shape.dim]
            if None not in sizes:
                found[value.name] = tuple(sizes)
    return found


def parameters_of(graph: Any) -> int:
    """Count the trained numbers that a graph stores: real and 8-bit tensors.

    Indices, padding amounts, shapes and scalars are not counted.
    """
    import onnx  # optional dependency

    kinds = onnx.TensorProto
    trained = {
        kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE, kinds.INT8, kinds.UINT8,
    }  # fmt: skip
    return sum(math.prod(t.dims) for t in _tensors(graph) if t.dims and t.data_type in trained)


def used_names(nodes: Iterable[Any]) -> set[str]:
    """Return the values that nodes read, also in nested graphs."""
    found: set[str] = set()
    for node in nodes:
        found.update(name for name in node.input if name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                made = {v for n in inner.node for v in n.output} | {
                    t.name for t in inner.initializer
                }
                made |= {v.name for v in inner.input}
                ends = {v.name for v in inner.output}
                found |= (used_names(inner.node) | ends) - made
    return found
