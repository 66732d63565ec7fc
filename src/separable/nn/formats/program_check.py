"""Reduction of an exported program's JSON to plain data, before PyTorch builds the program.

PyTorch turns this JSON into Python code: sizes are evaluated by SymPy, names become names in
generated functions, operators are looked up by attribute, guards are source text, and the structure
of the inputs may name modules to import. So every text in it is compared with what it may be.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable
from typing import Any

import torch

from separable.nn.formats.archives import ArchiveError
from separable.nn.formats.expressions import SYMBOL, check_expression

__all__ = ["check_path", "checked_program"]

NAMESPACES = ("aten", "prims", "quantized_decomposed", "torchvision")
CONTROL_FLOW = frozenset((
    "cond", "map_impl", "while_loop", "scan", "associative_scan", "wrap_with_set_grad_enabled",
    "wrap_with_autocast",
))  # fmt: skip
ON_NUMBERS = frozenset((
    "eq", "ne", "le", "ge", "lt", "gt", "neg", "pos", "mul", "add", "sub", "floordiv", "mod",
    "pow", "truediv", "and_", "or_", "not_", "lshift", "rshift", "getitem",
))  # fmt: skip
MATH = frozenset(("trunc", "ceil", "floor", "sqrt"))
OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.(\w+))?", re.ASCII)
SYMBOLIC = re.compile(r"torch\._?sym_[a-z0-9_]{1,20}")
FILES = ("file", "path")  # in the names of text arguments of operators that open files
PATH_PART = re.compile(r"[\w\-+@:/ ]+")
TEXT = re.compile(r"[\w .,:;/+*()\[\]-]*")
UNBACKED = ("u", "i", "zuf", "uf")
MOST_UNBACKED = 100_000  # PyTorch counts up to the highest one
TREES = frozenset((
    "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict",
    "torch.fx.immutable_collections.immutable_list",
    "torch.fx.immutable_collections.immutable_dict",
))  # fmt: skip
REMEDY = "Export the model to ONNX, or without it"

# Fields of the schema by the kind of their value. Fields that `PARTS` does not list are refused.
NAMED = ("tensor_values", "sym_int_values", "sym_float_values", "sym_bool_values")
OBJECTS = ("custom_obj_values", "custom_obj", "as_custom_obj", "class_fqn", "custom_obj_name")
PATHS = ("parameter_name", "buffer_name", "tensor_constant_name", "user_input_name")
PARTS = frozenset((
    "as_none", "as_tensor", "as_tensors", "as_int", "as_ints", "as_float", "as_floats", "as_string",
    "as_strings", "as_sym_int", "as_sym_ints", "as_scalar_type", "as_memory_format", "as_layout",
    "as_device", "as_bool", "as_bools", "as_sym_bool", "as_sym_bools", "as_graph",
    "as_optional_tensors", "as_sym_float", "as_sym_floats", "as_optional_tensor", "as_complex",
    "as_nested_tensors", "as_int_lists", "as_string_to_argument", "as_float_lists", "as_expr",
    "inputs", "outputs", "nodes", "graph", "is_single_tensor_return",
    "is_hop_single_tensor_return", "arg", "kind", "dtype", "sizes", "strides", "storage_offset",
    "layout", "requires_grad", "device", "index", "hint", "real", "imag", "input_specs",
    "output_specs", "user_input", "parameter", "buffer", "tensor_constant", "token",
    "constant_input", "persistent", "value", "user_output", "loss_output", "buffer_mutation",
    "parameter_mutation", "gradient_to_parameter", "gradient_to_user_input",
    "user_input_mutation",
))  # fmt: skip


def checked_program(text: bytes) -> dict[str, Any]:
    """Return the JSON of a program without fields that are not needed.

    Notes on where nodes came from, guards (source text), the calls of submodules and the fields
    of named tuples are left out; the program that is built from the rest computes the same.

    Raises
    ------
    ArchiveError
        If it holds anything that PyTorch would look up, import or run, but for its own operators.
    ValueError, KeyError, TypeError
        If it is not a program.
    """
    program = json.loads(text)
    module = program["graph_module"]
    ranges = program["range_constraints"]
    _check_ranges(ranges)
    check = _Check(frozenset(ranges))
    signatures = [c for c in module["module_call_graph"] if c["fqn"] == ""]
    if len(signatures) != 1:
        raise ValueError("it has no signature")
    for value in module["graph"]["inputs"]:
        _check_constant(value)
    reduced = {
        "graph": check.reduced(module["graph"]),
        "signature": check.reduced(module["signature"]),
        "module_call_graph": [{"fqn": "", "signature": check.signature(signatures[0])}],
        "metadata": {},
    }
    if "treespec_namedtuple_fields" in module:
        reduced["treespec_namedtuple_fields"] = {}
    found: dict[str, Any] = {
        "graph_module": reduced,
        "opset_version": {str(k): int(v) for k, v in program["opset_version"].items()},
        "range_constraints": ranges,
        "schema_version": {k: int(program["schema_version"][k]) for k in ("major", "minor")},
        "torch_version": "",
    }
    fixed = {"guards_code": [], "dialect": "ATEN", "verifiers": _verifiers(program)}
    return found | {name: value for name, value in fixed.items() if name in program}


def _verifiers(program: dict[str, Any]) -> list[str]:
    return [v for v in program.get("verifiers", ()) if v in ("ATEN", "TRAINING", "")]


def _check_ranges(ranges: dict[str, Any]) -> None:
    for name, limits in ranges.items():
        if SYMBOL.fullmatch(name) is None:
            raise ArchiveError(f"it declares a size {name[:60]!r}; expected a name such as s0")
        letters = name.rstrip("0123456789")
        if letters in UNBACKED and int(name[len(letters) :]) > MOST_UNBACKED:
            raise ArchiveError(f"it declares the size {name}; expected numbers below 100000")
        for limit in limits.values():
            if not (limit is None or isinstance(limit, int | float)):
                raise ArchiveError(f"it limits a size by {str(limit)[:60]!r}; expected a number")


def _check_constant(value: dict[str, Any]) -> None:
    """Check an input with one value, whose text would become part of a guard."""
    text = value.get("as_string", "")
    if not isinstance(text, str) or TEXT.fullmatch(text) is None:
        raise ArchiveError(f"it takes the text {str(text)[:60]!r}; expected letters and digits")


def _identifier(name: Any) -> None:
    """Check a name, which becomes a name in generated code."""
    if name is None or name == "":
        return
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ArchiveError(f"it names a value {str(name)[:60]!r}; expected a Python name")


def check_path(path: Any) -> None:
    """Raise an error unless a text is the name of a parameter, as ``features.0.weight``.

    Raises
    ------
    ArchiveError
    """
    parts = path.split(".") if isinstance(path, str) else [""]
    if any(PATH_PART.fullmatch(p) is None or p.startswith("__") for p in parts):
        raise ArchiveError(
            f"it names a parameter {str(path)[:60]!r}; expected a name such as features.0.weight"
        )


def _operator(target: Any) -> None:
    """Check that an operator is PyTorch's own and takes no file name."""
    text = target if isinstance(target, str) else ""
    kind, _, name = text.partition(".")
    if kind == "_operator" and name in ON_NUMBERS:
        return
    if kind == "math" and name in MATH:
        return
    if SYMBOLIC.fullmatch(text) and callable(getattr(torch, name, None)):
        return
    match = OPERATOR.fullmatch(text)
    if match and _is_known(*match.groups()):
        return
    raise ArchiveError(
        f"it calls {str(target)[:80]!r}, which is not an operator of PyTorch that computes with "
        f"tensors alone. {REMEDY}"
    )


def _is_known(namespace: str, name: str, overload: str | None) -> bool:
    if namespace == "higher_order":
        known = getattr(torch.ops.higher_order, name, None) if name in CONTROL_FLOW else None
        return overload is None and isinstance(known, torch._ops.HigherOrderOperator)
    if namespace not in NAMESPACES or overload is None:
        return False
    packet: Any = getattr(getattr(torch.ops, namespace), name, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return False
    operator = getattr(packet, overload, None)
    if not isinstance(operator, torch._ops.OpOverload):
        return False
    texts = [a.name for a in operator._schema.arguments if str(a.type) == "str"]
    return not any(word in name for name in texts for word in FILES)


class _Check:
    """Copy of JSON by the schema, each field by the rule of its name."""

    def __init__(self, symbols: frozenset[str]) -> None:
        self.symbols = symbols
        self.rules: dict[str, Callable[[Any], None]] = {
            "expr_str": self._expression,
            "target": _operator,
            "as_operator": _operator,
            "name": _identifier,
            "as_name": _identifier,
            "type": _device,
            **dict.fromkeys(PATHS, check_path),
            **dict.fromkeys(OBJECTS, _no_objects),
        }

    def reduced(self, value: Any) -> Any:
        """Return a copy without metadata."""
        if isinstance(value, list):
            return [self.reduced(v) for v in value]
        if not isinstance(value, dict):
            return value
        found: dict[str, Any] = {}
        for key, part in value.items():
            if key == "metadata":
                found[key] = {}
            elif key in NAMED or key == "as_string_to_argument":
                for name in part:
                    _identifier(name)
                found[key] = {name: self.reduced(v) for name, v in part.items()}
            elif key in self.rules:
                self.rules[key](part)
                found[key] = part if isinstance(part, str | None) else self.reduced(part)
            elif key == "constant_input":
                _check_constant(part["value"])
                found[key] = self.reduced(part)
            elif key in PARTS:
                found[key] = self.reduced(part)
            elif isinstance(part, str | list | dict) and part:
                raise ArchiveError(
                    f"it has a field {key[:60]!r}, which is not known. Export it with an older "
                    "PyTorch, or to ONNX"
                )
        return found

    def _expression(self, text: Any) -> None:
        try:
            check_expression(text, self.symbols)
        except ValueError as problem:
            raise ArchiveError(f"{problem}. {REMEDY}") from None

    def signature(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the signature of the program: the structure of its inputs and outputs."""
        given = entry["signature"]
        names = given.get("forward_arg_names")
        for name in names or ():
            _identifier(name)
        for side in ("in_spec", "out_spec"):
            _check_tree(given[side])
        _check_keywords(given["in_spec"])
        found = {side: given[side] for side in ("in_spec", "out_spec")}
        found |= {side: self.reduced(given[side]) for side in ("inputs", "outputs")}
        if "forward_arg_names" in given:
            found["forward_arg_names"] = names
        return found


def _device(kind: Any) -> None:
    if not isinstance(kind, str) or re.fullmatch(r"[a-z]{1,20}", kind) is None:
        raise ArchiveError(f"it names a device {str(kind)[:60]!r}")


def _no_objects(value: Any) -> None:
    if value:
        raise ArchiveError(f"it holds objects of a class of their own, which run code. {REMEDY}")


def _check_tree(text: str) -> None:
    """Check the structure of inputs or outputs: tuples, lists and dictionaries with plain keys."""
    waiting = [json.loads(text)[1]]
    while waiting:
        node = waiting.pop()
        kind, context = node["type"], node["context"]
        if kind is not None and kind not in TREES:
            raise ArchiveError(
                f"its inputs or outputs have a part of type {str(kind)[:80]!r}; expected tuples, "
                "lists and dictionaries. Export a model that takes and returns those"
            )
        keys = json.loads(context) if isinstance(context, str) else context
        if not (keys is None or (isinstance(keys, list) and all(_is_key(k) for k in keys))):
            raise ArchiveError(
                f"its inputs or outputs have the keys {str(keys)[:80]!r}; expected texts and "
                "whole numbers"
            )
        waiting.extend(node["children_spec"])


def _is_key(key: Any) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and key.isprintable())


def _check_keywords(text: str) -> None:
    """Check the names of keyword arguments, which become names in generated code."""
    children = json.loads(text)[1]["children_spec"]
    for child in children[1:2]:
        if child["type"] == "builtins.dict":
            for key in json.loads(child["context"]) or ():
                _identifier(key)
