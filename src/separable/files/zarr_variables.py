"""Coordinates and groups beside an array of a Zarr store, as xarray writes them."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from separable.files.cf_conventions import (
    even_step,
    fill_as_text,
    fill_number,
    length_unit,
    referenced,
    unpacked,
)
from separable.files.diagnostics import import_package
from separable.files.image_info import SPACE
from separable.files.ome_zarr import plain_json
from separable.files.stored_variables import Place, Variable, groups_above, resolve_name
from separable.files.zarr_drafts import read_store

__all__ = ["ZarrPlace", "array_metadata", "data_arrays", "place_in", "spacing_in", "write_beside"]


@dataclass(frozen=True)
class ZarrPlace(Place):
    """Place of an array in a Zarr store.

    Attributes
    ----------
    zarr_format : int
        Version of Zarr.
    consolidated : bool
        Whether the metadata of all arrays are in one file too.
    """

    zarr_format: int = 3
    consolidated: bool = False

    def variables(self) -> Iterator[Variable]:
        """Yield the arrays beside the array that hold numbers or text of a fixed length."""
        self.check()
        zarr = import_package("zarr", self.path)
        for name in self.beside:
            if not _is_plain(self.path / name):
                continue
            node = zarr.open(read_store(self.path), mode="r", path=name)
            attributes, dims = array_metadata(self.path / name) or ({}, ())
            if self.zarr_format == 2 and node.fill_value is not None:
                attributes = {**attributes, "_FillValue": node.fill_value}
            gone = ("_ARRAY_DIMENSIONS",)
            kept = {k: v for k, v in attributes.items() if k not in gone}
            if "_FillValue" in kept:
                kept["_FillValue"] = fill_number(kept["_FillValue"])
            yield Variable(name, dims, np.asarray(node[...]), kept)


def array_metadata(folder: Path) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """Return the attributes and dimension names of an array, or None if the folder is not an array."""
    new, old, attributes = (folder / n for n in ("zarr.json", ".zarray", ".zattrs"))
    if new.is_file():
        meta = json.loads(new.read_bytes())
        if meta.get("node_type") != "array":
            return None
        dims = meta.get("dimension_names") or ()
        return dict(meta.get("attributes") or {}), tuple(str(d or "") for d in dims)
    if not old.is_file():
        return None
    found = json.loads(attributes.read_bytes()) if attributes.is_file() else {}
    return found, tuple(str(d) for d in found.get("_ARRAY_DIMENSIONS") or ())


def _is_plain(folder: Path) -> bool:
    """Return whether an array holds numbers or texts of a fixed length, and no Python objects."""
    new, old = folder / "zarr.json", folder / ".zarray"
    if new.is_file():
        meta = json.loads(new.read_bytes())
        return isinstance(meta.get("data_type"), str) and not meta["data_type"].startswith("str")
    if not old.is_file():
        return False
    meta = json.loads(old.read_bytes())
    plain = str(meta.get("dtype", "|O"))[1:2] in "biufcU"
    return plain and not any("pickle" in str(f) for f in meta.get("filters") or ())


def _arrays_around(path: Path, name: str) -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """Return the metadata of the arrays in the groups from the root to an array."""
    found = {}
    for group in groups_above(name):
        folder = path / group if group else path
        for child in sorted(folder.iterdir()) if folder.is_dir() else ():
            meta = array_metadata(child) if child.is_dir() else None
            if meta is not None:
                found["/".join(filter(None, (group, child.name)))] = meta
    return found


def data_arrays(path: Path, names: list[str]) -> list[str]:
    """Return those of the arrays of a store that are images: no coordinates and grid mappings."""
    known = {n: meta for n in names if (meta := array_metadata(path / n)) is not None}
    beside = {
        resolve_name(one, name, set(known))
        for name, (attributes, dims) in known.items()
        for one in (*dims, *referenced(attributes))
    }
    beside |= {resolve_name(one, "any", set(known)) for one in referenced(_group(path))}
    return [n for n in names if n not in beside] or names


def _group(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group."""
    new, old = folder / "zarr.json", folder / ".zattrs"
    if new.is_file():
        return dict(json.loads(new.read_bytes()).get("attributes") or {})
    return dict(json.loads(old.read_bytes())) if old.is_file() else {}


def place_in(path: Path, name: str, zarr_format: int) -> ZarrPlace:
    """Return the place of an array in a store: its groups, and the coordinates that belong to it."""
    known = _arrays_around(path, name)
    own, dims = known[name]
    groups = {g: _group(path / g if g else path) for g in groups_above(name)}
    waiting: list[str | None] = [resolve_name(d, name, set(known)) for d in dims if d]
    waiting += [resolve_name(one, name, set(known)) for one in referenced(own)]
    for group, attributes in groups.items():
        for one in referenced(attributes):
            found = resolve_name(one, f"{group}/any", set(known))
            if found and set(known[found][1]) <= set(dims):
                waiting.append(found)
    beside: list[str] = []
    while waiting:
        one_name = waiting.pop(0)
        if one_name is None or one_name in beside or one_name == name:
            continue
        beside.append(one_name)
        attributes, more = known[one_name]
        waiting += [resolve_name(r, one_name, set(known)) for r in (*more, *referenced(attributes))]
    consolidated = (path / ".zmetadata").is_file() or (
        zarr_format == 3
        and (path / "zarr.json").is_file()
        and bool(json.loads((path / "zarr.json").read_bytes()).get("consolidated_metadata"))
    )
    others = sorted(set(known) - {name, *beside})
    return ZarrPlace(
        path, name, dims, tuple(beside), groups, tuple(others), zarr_format, consolidated
    )


def spacing_in(
    zarr: Any, place: ZarrPlace, axes: str
) -> tuple[tuple[float | None, ...] | None, str]:
    """Return the spacing and its unit, from evenly spaced coordinates in a unit of length."""
    spacing: list[float | None] = [None] * len(place.dims)
    units = []
    for i, dim in enumerate(place.dims):
        found = resolve_name(dim, place.name, set(place.beside)) if dim else None
        if found is None or axes[i : i + 1] not in SPACE or not _is_plain(place.path / found):
            continue
        node = zarr.open(read_store(place.path), mode="r", path=found)
        attributes = dict(node.attrs)
        if node.ndim == 1 and length_unit([attributes.get("units", "")]):
            spacing[i] = even_step(unpacked(np.asarray(node[...]), attributes))
            units.append(attributes["units"])
    unit = length_unit(units)
    return (tuple(spacing), unit) if unit and any(spacing) else (None, "")


# Writing


def write_beside(zarr: Any, draft: Path, place: Place, zarr_format: int) -> None:
    """Write what lies beside an image into a store that holds the image already."""
    place.check()
    if isinstance(place, ZarrPlace) and place.zarr_format == zarr_format:
        for name in place.beside:
            shutil.copytree(place.path / name, draft / name)
    else:
        for variable in place.variables():
            _write(zarr, draft, variable, zarr_format)
    if (zarr_format == 2 and place.beside) or getattr(place, "consolidated", False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is not yet part of the specification of Zarr 3
            zarr.consolidate_metadata(str(draft), zarr_format=zarr_format)


def _write(zarr: Any, draft: Path, variable: Variable, zarr_format: int) -> None:
    """Write an array of another format."""
    values = variable.values
    if values.dtype.kind == "O":
        values = values.astype("U")
    if values.dtype.kind == "S":
        values = np.char.decode(values, errors="replace")
    attributes = {
        k: plain_json(v) for k, v in variable.attributes.items() if not k.startswith("_Netcdf4")
    }
    fill = attributes.pop("_FillValue", None)
    fill = np.ravel(fill)[0] if fill is not None else None  # netCDF has an array of one
    options: dict[str, Any] = {}
    if zarr_format == 2:
        attributes["_ARRAY_DIMENSIONS"] = list(variable.dims)
        options["fill_value"] = None if fill is None else values.dtype.type(fill)
    else:
        options["dimension_names"] = variable.dims
        if fill is not None:
            attributes["_FillValue"] = fill_as_text(values.dtype.type(fill))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts of a fixed length are not in the specification
        made = zarr.create_array(
            str(draft), name=variable.name, shape=values.shape, dtype=values.dtype,
            attributes=attributes, zarr_format=zarr_format, **options,
        )  # fmt: skip
        made[...] = values
