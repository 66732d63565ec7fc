"""Programs of `torch.export`, whose convolutions become modules, and the export of the result."""

from __future__ import annotations

import inspect
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from separable.errors import ArgumentError, FileError
from separable.nn.formats.archives import ArchiveError
from separable.nn.formats.network_source import Source
from separable.nn.formats.program_archive import load_program
from separable.nn.torch_convs import CONVS, TRANSPOSED

__all__ = ["ExportedSource", "read_exported", "with_modules"]

_CONVOLUTIONS: dict[Any, int] = {
    overload: ndim
    for ndim, name in ((1, "conv1d"), (2, "conv2d"), (3, "conv3d"))
    for overload in (
        getattr(torch.ops.aten, name).default,
        getattr(torch.ops.aten, name).padding,
    )
}
_TRANSPOSED = {
    torch.ops.aten.conv_transpose1d.default,
    torch.ops.aten.conv_transpose2d.input,
    torch.ops.aten.conv_transpose3d.input,
}
MOST_ZEROS = 1 << 31  # largest number of values of invented inputs
_GENERAL = torch.ops.aten.convolution.default
_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_NAMES = (*_NAMES[:5], "output_padding", "groups", "dilation")
_GENERAL_NAMES = (*_NAMES[:6], "transposed", "output_padding", "groups")


class ExportedSource(Source):
    """Program of `torch.export`; its convolutions have the names of their weights."""

    suffix = ".pt2"

    def __init__(self, title: str, program: torch.export.ExportedProgram) -> None:
        self.title = title
        self.program = program
        self.module = with_modules(program)
        self._args, self._kwargs = _example(title, program)
        sizes = [v.shape[:1] for v in _input_values(program) if isinstance(v, torch.Tensor)]
        if (
            sizes
            and all(s == sizes[0] for s in sizes)
            and isinstance(next(iter(sizes[0]), None), int)
        ):
            self.batch = int(sizes[0][0])

    def input_shapes(self) -> list[tuple[int, ...]] | None:
        """Return the shapes of the example with which the program was exported."""
        leaves = pytree.tree_leaves(self._args)
        if self._kwargs or not all(isinstance(v, torch.Tensor) for v in leaves):
            return None
        return [tuple(v.shape) for v in leaves]

    def shapes_to_count(
        self, input_shape: list[tuple[int, ...]] | None, needed: bool = True
    ) -> Any:
        """Return tensors of the given shapes in the dtypes that the program takes."""
        if input_shape is None:
            return list(self._args) if self.input_shapes() is not None else None
        leaves = [v for v in pytree.tree_leaves(self._args) if isinstance(v, torch.Tensor)]
        if len(leaves) != len(input_shape):
            return input_shape
        return [torch.zeros(s, dtype=v.dtype) for s, v in zip(input_shape, leaves, strict=True)]

    def serialised(self, converted: nn.Module) -> bytes:
        """Export the converted program; axes that were dynamic stay dynamic."""
        # Without gradients, as for inference: the program does not record whether there were any.
        with torch.no_grad():
            program = torch.export.export(
                converted, self._args, self._kwargs, dynamic_shapes=self._dynamic_shapes()
            )
        file = io.BytesIO()
        torch.export.save(program, file)
        return file.getvalue()

    def _dynamic_shapes(self) -> Any:
        """Return the axes of the inputs that were symbols, and their limits."""
        values = iter(_input_values(self.program))

        def axes(leaf: Any) -> Any:
            value = next(values, None)
            if not isinstance(leaf, torch.Tensor) or not isinstance(value, torch.Tensor):
                return None
            return {
                axis: _limits(self.program, size)
                for axis, size in enumerate(cast("tuple[Any, ...]", value.shape))
                if isinstance(size, torch.SymInt)
            }

        found = pytree.tree_map(axes, (self._args, self._kwargs))
        return (*found[0], *found[1].values())


def read_exported(path: Path) -> Source:
    """Read a file of `torch.export.save`; nothing in it is executed.

    Raises
    ------
    FileError
        If the file is damaged or of another kind, or holds anything that would run code.
    ArgumentError
        If it has no example inputs, and none can be made up.
    """
    try:
        program = load_program(path)
    except ArgumentError:
        raise
    except ArchiveError as problem:
        raise FileError(f"cannot read {path}: {problem}") from None
    except Exception as problem:  # zipfile, json and PyTorch raise arbitrary exceptions
        reason = (str(problem).strip() or type(problem).__name__).splitlines()[0].rstrip(".")
        raise FileError(
            f"cannot read {path}: no program of torch.export, or a damaged one ({reason}). "
            "Write it again with torch.export.save"
        ) from None
    return ExportedSource(path.name, program)


def with_modules(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """Return the program as a module, with a `torch.nn` convolution per convolution in it.

    Parameters
    ----------
    program : torch.export.ExportedProgram

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
    >>> with_modules(torch.export.export(net, (torch.zeros(1, 3, 8, 8),))).get_submodule("0")
    Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2))
    """
    module: Any = _module(program)
    graph = module.graph
    made: dict[Any, str] = {}
    for node in list(graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)
        elif node.op == "call_function" and (
            node.target in _CONVOLUTIONS or node.target in _TRANSPOSED or node.target is _GENERAL
        ):
            _replace(module, node, made)
    graph.eliminate_dead_code()
    # A new module, because exported modules raise an error in `eval()`, which would not change the graph.
    found = fx.GraphModule(module, graph, class_name="GraphModule")
    return found.eval()


def _module(program: torch.export.ExportedProgram) -> nn.Module:
    """Return the program as a module, without guards, whose source text would be executed."""
    if "check_guards" in inspect.signature(program.module).parameters:  # from PyTorch 2.9 on
        return program.module(check_guards=False)
    return program.module()


def _replace(module: nn.Module, node: Any, replacement: dict[Any, str]) -> None:
    """Call a module in place of a convolution whose weights are parameters."""
    names: tuple[str, ...] = _GENERAL_NAMES if node.target is _GENERAL else _NAMES
    if node.target in _TRANSPOSED:
        names = _TRANSPOSED_NAMES
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    weight, bias = given["weight"], given.get("bias")
    if weight.op != "get_attr" or (bias is not None and bias.op != "get_attr"):
        return  # computed from others
    if node.target in _TRANSPOSED:
        given["transposed"] = True
    key = repr((weight.target, None if bias is None else bias.target, *list(given.items())[3:]))
    if key not in replacement:
        conv = _conv(module, given)
        replacement[key] = _place(module, node, weight.target, set(replacement.values()))
        owner, _, last = replacement[key].rpartition(".")
        setattr(module.get_submodule(owner), last, conv)
    with node.graph.inserting_before(node):
        new = node.graph.call_module(replacement[key], (given["input"],))
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    node.graph.erase_node(node)


def _conv(module: nn.Module, arguments: dict[str, Any]) -> nn.Module:
    """Create the module of a convolution from the parameters themselves."""
    weight = _attribute(module, arguments["weight"].target)
    bias = arguments.get("bias")
    ndim = weight.dim() - 2
    groups = arguments.get("groups", 1)
    size, stride = tuple(weight.shape[2:]), _each(arguments.get("stride", 1), ndim)
    padding = _each(arguments.get("padding", 0), ndim)
    dilation = _each(arguments.get("dilation", 1), ndim)
    conv: Any
    if arguments.get("transposed", False):
        conv = TRANSPOSED[ndim](
            weight.shape[0], weight.shape[1] * groups, size, stride, padding,
            _each(arguments.get("output_padding", 0), ndim), groups, bias is not None, dilation,
            device="meta",
        )  # fmt: skip
    else:
        conv = CONVS[ndim](
            weight.shape[1] * groups, weight.shape[0], size, stride, padding, dilation, groups,
            bias is not None, device="meta",
        )  # fmt: skip
    conv.weight = _parameter(weight)
    if bias is not None:
        conv.bias = _parameter(_attribute(module, bias.target))
    return conv.eval()  # type: ignore[no-any-return]


def _place(module: nn.Module, node: Any, weight: str, taken: set[str]) -> str:
    """Return the path of the module: that of its weights, unless other parameters are there too."""
    owner = weight.rpartition(".")[0]
    if owner and owner not in taken:
        old = module.get_submodule(owner)
        others = [n for n, _ in (*old.named_parameters(), *old.named_buffers())]
        if not set(others) - {"weight", "bias"}:
            return owner
    return str(node.name)


def _attribute(module: nn.Module, path: str) -> torch.Tensor:
    owner, _, last = path.rpartition(".")
    return getattr(module.get_submodule(owner), last)  # type: ignore[no-any-return]


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    if isinstance(tensor, nn.Parameter):
        return tensor
    return nn.Parameter(tensor, requires_grad=False)


def _each(value: Any, ndim: int) -> Any:
    """Return one number per axis; the program may have one for all."""
    if isinstance(value, (str, int)):
        return value if isinstance(value, str) else (value,) * ndim
    return tuple(value) * ndim if len(value) == 1 else tuple(value)


def _input_values(program: torch.export.ExportedProgram) -> Sequence[Any]:
    """Return the metadata of the inputs, in the order of the flattened arguments."""
    by_name = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    return [by_name.get(n) for n in program.graph_signature.user_inputs]


def _limits(program: torch.export.ExportedProgram, size: Any) -> Any:
    """Return a dynamic axis with the range of sizes that the program declares."""
    found = program.range_constraints.get(size.node.expr)
    upper = None if found is None or not math.isfinite(float(found.upper)) else int(found.upper)
    if upper is not None and upper > 2**31:
        upper = None
    lower = None if found is None else int(found.lower)
    return torch.export.Dim.AUTO(min=lower, max=upper)


def _example(
    title: str, program: torch.export.ExportedProgram
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs that the program takes: those in the file, or zeros.

    Raises
    ------
    ArgumentError
        If the file has none, and what the program takes is more than tensors.
    """
    if program.example_inputs is not None:
        args, kwargs = program.example_inputs
        return tuple(args), dict(kwargs)
    values = _input_values(program)
    others = [at for at, v in enumerate(values) if not isinstance(v, torch.Tensor)]
    if others:
        raise ArgumentError(
            f"{title} has no example inputs, which exporting it again needs, and input {others[0]} "
            "is not a tensor that zeros could stand for. Write it again: torch.export.save keeps the "
            "inputs that torch.export.export(model, inputs) was called with"
        )
    sizes = [[_size(n) for n in v.shape] for v in values]
    if sum(map(math.prod, sizes)) > MOST_ZEROS:
        raise ArgumentError(
            f"{title} has no example inputs, and takes some of {sizes}: too much to make up. Write "
            "it again with example inputs"
        )
    zeros = [torch.zeros(n, dtype=v.dtype) for n, v in zip(sizes, values, strict=True)]
    made = pytree.tree_unflatten(zeros, program.call_spec.in_spec)
    return tuple(made[0]), dict(made[1])


def _size(size: Any) -> int:
    """Return a valid size of a dynamic axis: 2 unless the program was exported with another."""
    hint = size if isinstance(size, int) else size.node.hint
    return 2 if hint is None else int(hint)
