"""Archives of `torch.export.save`, read without executing anything in them.

`torch.export.load` unpickles sample inputs, weights and constants as a file asks for, loads
compiled code, and evaluates texts. Here the archive is read by `Archive`, tensors are taken from
their bytes, pickles are read by the restricted unpickler alone, and the program's JSON is checked
(`program_check`); PyTorch then gets no more than JSON and tensors.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.nn.formats.archives import Archive, ArchiveError
from separable.nn.formats.program_check import check_path, checked_program
from separable.nn.formats.tensors_only import check_unpickler, is_plain, load_tensors

__all__ = ["load_program"]

JSON_BYTES = 256 << 20
EXPANDED = 64 << 20  # bytes that a tensor may have beyond those stored for it
MODEL = "model"  # the one that `torch.export.load` returns
AGAIN = "Export the model again with torch.export.save"
PICKLED = f"it is pickled, which would run code. {AGAIN}, or convert it to ONNX"

# Known members of an archive; all others are refused. The first layout is that of
# PyTorch 2.8 and later, below a folder of any name, the second that of 2.5 to 2.7.
NEW = {
    "texts": r"archive_format|archive_version|byteorder|version|\.format_version"
    r"|\.storage_alignment|\.data/version|\.data/serialization_id",
    "programs": r"models/[\w\-]+\.json",
    "tensors": r"data/weights/weight_\d+|data/constants/tensor_\d+"
    r"|data/(?:weights|constants)/[\w\-]+_(?:weights|constants)_config\.json",
    "pickles of tensors": r"data/(?:weights|constants|sample_inputs)/[\w\-]+\.pt",
    "ignored": r"extra/.*",
}
OLD = {
    "texts": r"version",
    "programs": r"serialized_exported_program\.json",
    "pickles of tensors": r"serialized_(?:state_dict|constants|example_inputs)\.(?:pt|json)",
    "ignored": r"extra_files/.*",
}
REFUSED = (
    (r"data/aotinductor/.*", "it holds code compiled by AOTInductor"),
    (r"data/constants/(?:custom_obj|opaque_obj)_\d+", "it holds objects of a class of their own"),
    (r"data/executorch/.*", "it holds a program of ExecuTorch"),
    (r"code/.*|constants\.pkl|data\.pkl", "it is an archive of TorchScript or torch.save"),
)


@dataclass(frozen=True)
class _Contents:
    """Contents of an archive, as data."""

    program: dict[str, Any]
    state: dict[str, Tensor]
    constants: dict[str, Tensor]
    examples: tuple[Any, ...] | None


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Read an exported program.

    Raises
    ------
    ArchiveError
        If the archive holds anything that would run code, or is larger than it can be.
    Exception
        Whatever zipfile, json and PyTorch raise for a damaged file.
    """
    from torch._export.serde.serialize import SerializedArtifact, deserialize  # start-up time

    with Archive(path) as archive:
        contents = _old(archive) if "version" in archive else _new(archive)
    text = json.dumps(contents.program).encode()
    # Tensors in place of bytes, because PyTorch would unpickle bytes.
    parts: Any = (text, contents.state, contents.constants, contents.examples or b"")
    return deserialize(SerializedArtifact(*parts))


def _old(archive: Archive) -> _Contents:
    _check_members(list(archive), OLD)
    pickled = {}
    for part in ("state_dict", "constants", "example_inputs"):
        names = [n for n in archive if re.fullmatch(rf"serialized_{part}\.(?:pt|json)", n)]
        pickled[part] = archive.read(names[0]) if names else b""
    return _Contents(
        checked_program(archive.read("serialized_exported_program.json", JSON_BYTES)),
        _unpickled(pickled["state_dict"], "its weights"),
        _unpickled(pickled["constants"], "its constants"),
        _examples(pickled["example_inputs"]),
    )


def _new(archive: Archive) -> _Contents:
    names = list(archive)
    root = names[0].partition("/")[0] + "/" if names else ""
    outside = [n for n in names if not n.startswith(root)]
    if outside:
        raise ArchiveError(f"its member {outside[0]!r} lies outside its folder {root}")
    _check_members([n.removeprefix(root) for n in names], NEW)
    if archive.read(f"{root}archive_format", 100) != b"pt2":
        raise ValueError("its format is not pt2")
    version = archive.read(f"{root}archive_version", 100).decode()
    if version != "0":
        raise ValueError(f"it is of archive version {version[:20]}, this reads version 0")
    if f"{root}byteorder" in archive:
        order = archive.read(f"{root}byteorder", 100).decode()
        if order != sys.byteorder:
            raise ValueError(f"its numbers are in {order[:20]} byte order")
    reading = _Payloads(archive, f"{root}data/")
    examples = archive.read(f"{root}data/sample_inputs/{MODEL}.pt")
    return _Contents(
        checked_program(archive.read(f"{root}models/{MODEL}.json", JSON_BYTES)),
        reading.read("weights", r"weight_\d+"),
        reading.read("constants", r"tensor_\d+"),
        _examples(examples),
    )


def _check_members(names: list[str], layout: Mapping[str, str]) -> None:
    known = re.compile("|".join(layout.values()))
    for name in names:
        if known.fullmatch(name):
            continue
        for pattern, said in REFUSED:
            if re.fullmatch(pattern, name):
                raise ArchiveError(f"{said}, which would run ({name!r}). {AGAIN}")
        raise ArchiveError(f"it has a member {name!r}, which no program has. {AGAIN}")


class _Payloads:
    """Weights and constants: tensors stored as bytes and described by JSON."""

    def __init__(self, archive: Archive, folder: str) -> None:
        self.archive = archive
        self.folder = folder

    def read(self, section: str, stored: str) -> dict[str, Tensor]:
        """Return tensors by name; those that share memory in the file still do."""
        pickled = f"{self.folder}{section}/{MODEL}.pt"
        if pickled in self.archive:  # PyTorch 2.8
            return _unpickled(self.archive.read(pickled), f"its {section}")
        config = f"{self.folder}{section}/{MODEL}_{section}_config.json"
        described = json.loads(self.archive.read(config, JSON_BYTES))["config"]
        found: dict[str, Tensor] = {}
        flat: dict[str, Tensor] = {}
        for name, meta in described.items():
            check_path(name)
            where = meta["path_name"]
            if meta["use_pickle"] is not False or meta["tensor_meta"] is None:
                raise ArchiveError(f"{name!r} in it cannot be read: {PICKLED}")
            if not isinstance(where, str) or re.fullmatch(stored, where) is None:
                raise ArchiveError(f"{name!r} is stored in {str(where)[:60]!r}. {AGAIN}")
            if where not in flat:
                content = self.archive.read(f"{self.folder}{section}/{where}")
                flat[where] = _flat(content, meta["tensor_meta"])
            tensor = _strided(flat[where], name, meta["tensor_meta"])
            trained = bool(meta["tensor_meta"]["requires_grad"])
            found[name] = nn.Parameter(tensor, trained) if meta["is_param"] is True else tensor
        return found


def _flat(content: bytes, meta: dict[str, Any]) -> Tensor:
    from torch._export.serde.serialize import deserialize_scalar_type  # start-up time

    dtype = deserialize_scalar_type(meta["dtype"])
    if not content:
        return torch.empty(0, dtype=dtype)
    # A writable copy, without trailing bytes that are less than one number.
    return torch.frombuffer(bytearray(content), dtype=dtype)


def _strided(flat: Tensor, name: str, meta: dict[str, Any]) -> Tensor:
    sizes, strides = ([int(s["as_int"]) for s in meta[k]] for k in ("sizes", "strides"))
    offset = int(meta["storage_offset"]["as_int"])
    claimed = math.prod(sizes)
    if claimed > flat.numel() and (not flat.numel() or claimed * flat.itemsize > EXPANDED):
        raise ArchiveError(
            f"{name!r} has {claimed:,} numbers by its description and {flat.numel():,} in the file"
        )
    return torch.as_strided(
        flat, sizes, strides, offset
    )  # raises an error for positions outside the data


def _unpickled(content: bytes, title: str) -> dict[str, Tensor]:
    """Return a dictionary of tensors that was written by `torch.save`."""
    if not content:
        return {}
    found = _restricted(content, title)
    if not isinstance(found, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()
    ):
        raise ArchiveError(f"{title} are not a dictionary of tensors. {AGAIN}")
    for name in found:
        check_path(name)
    return dict(found)


def _examples(content: bytes) -> tuple[Any, ...] | None:
    """Return the inputs with which the program was exported, or None.

    An old PyTorch, whose restricted unpickler has faults, reads none: zeros stand for them.
    """
    if not content:
        return None
    try:
        check_unpickler("it")
    except ArgumentError:
        return None
    found = _restricted(content, "its sample inputs")
    if not isinstance(found, tuple) or len(found) != 2:
        raise ArchiveError(f"its sample inputs are not arguments of a call. {AGAIN}")
    return found


def _restricted(content: bytes, title: str) -> Any:
    try:
        found = load_tensors(content, title)
    except (ArchiveError, ArgumentError):
        raise
    except Exception as problem:
        raise ArchiveError(
            f"{title} hold more than tensors and plain values, which would run code "
            f"({_first_line(problem)}). {AGAIN}, with tensors as inputs"
        ) from None
    if not is_plain(found):
        raise ArchiveError(f"{title} hold more than tensors and plain values. {AGAIN}")
    return found


def _first_line(problem: Exception) -> str:
    """Return the first line that describes an error; PyTorch puts advice to unpickle before it."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    found: Callable[[str], bool] = lambda line: line.startswith(("Trying to", "Unsupported"))  # noqa: E731
    return next(filter(found, lines), lines[0] if lines else type(problem).__name__)[:120]
