"""Dimension scales, coordinates and groups beside a dataset of an HDF5 or netCDF-4 file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from separable.files.axis_names import letter_by_attributes
from separable.files.cf_conventions import even_step, length_unit, referenced, unpacked
from separable.files.diagnostics import import_package
from separable.files.image_info import SPACE
from separable.files.stored_variables import Place, Variable, groups_above, resolve_name

__all__ = [
    "OWN",
    "HDF5Place",
    "attributes_of",
    "copy_beside",
    "data_names",
    "everything_beside",
    "flatten_attributes",
    "letter_hints",
    "name_dimensions",
    "names_of_dimensions",
    "place_of",
    "set_attribute",
    "spacing_of_coordinates",
]

OWN = frozenset(("DIMENSION_LABELS", "DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME"))
NETCDF_OWN = frozenset(("_Netcdf4Dimid", "_Netcdf4Coordinates", "_nc3_strict"))
NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."


@dataclass(frozen=True)
class HDF5Place(Place):
    """Place of a dataset in an HDF5 file."""

    def variables(self) -> Iterator[Variable]:
        """Yield the arrays beside the dataset that hold numbers or text."""
        self.check()
        h5py = import_package("h5py", self.path)
        with h5py.File(self.path, "r") as file:
            for name in self.beside:
                item = file[name]
                if item.dtype.kind in "biufcSU" or h5py.check_string_dtype(item.dtype):
                    if _has_no_variable(item):
                        continue
                    text = h5py.check_string_dtype(item.dtype)
                    values = item.asstr()[()] if text else item[()]
                    dims = names_of_dimensions(h5py, item)
                    yield Variable(name, dims, np.asarray(values), attributes_of(item))


def attributes_of(item: Any) -> dict[str, Any]:
    """Return the attributes of a dataset or a group, without those of HDF5 itself."""
    found = {}
    for name in item.attrs:
        if name not in OWN:
            try:
                found[name] = item.attrs[name]
            except (OSError, TypeError):  # of a type that h5py cannot read
                continue
    return found


def set_attribute(item: Any, name: str, value: Any) -> None:
    """Write an attribute; nested values of other formats become JSON."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value):
        value = np.array(value, dtype=object)
    elif isinstance(value, (dict, list, tuple)) and np.asarray(value, object).dtype == object:
        numbers = not isinstance(value, dict) and all(isinstance(v, (int, float)) for v in value)
        value = np.asarray(value) if numbers else json.dumps(value)
    if value is not None:
        item.attrs[name] = value


def flatten_attributes(item: Any) -> None:
    """Write attributes as netCDF has them: with one axis, and no truth values."""
    for name, value in attributes_of(item).items():
        values = np.asarray(value)
        if values.ndim > 1 or values.dtype.kind == "b":
            item.attrs[name] = values.ravel().astype(
                "i1" if values.dtype.kind == "b" else values.dtype
            )


def names_of_dimensions(h5py: Any, dataset: Any) -> tuple[str, ...]:
    """Return the names of the dimensions: of their scales, else their labels; "" without any."""
    if _is_scale(dataset) and dataset.ndim == 1:
        return (dataset.name.rpartition("/")[2],)
    return tuple(
        scales[0].name.rpartition("/")[2] if scales else dimension.label
        for scales, dimension in zip(_scales(dataset), dataset.dims, strict=True)
    )


def _is_scale(dataset: Any) -> bool:
    """Return whether a dataset is a dimension scale.

    The attribute is read as any other: HDF5's own function ends the process if it is damaged.
    """
    return _class_of(dataset) == "DIMENSION_SCALE"


def _is_palette(dataset: Any) -> bool:
    """Return whether a dataset is the colour table of an image."""
    return _class_of(dataset) == "PALETTE"


def _class_of(dataset: Any) -> str:
    try:
        name = dataset.attrs.get("CLASS", b"")
    except (OSError, TypeError, RuntimeError, ValueError):
        return ""
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _scales(dataset: Any) -> list[list[Any]]:
    """Return the scales of each dimension of a dataset; those that cannot be found are left out."""
    found: list[list[Any]] = [[] for _ in range(dataset.ndim)]
    try:
        lists = dataset.attrs.get("DIMENSION_LIST", ())
    except (OSError, TypeError, RuntimeError, ValueError):
        return found
    for scales, references in zip(found, lists, strict=False):
        for reference in np.ravel(references):
            try:
                scale = dataset.file[reference]
            except (OSError, TypeError, RuntimeError, ValueError, KeyError):
                continue
            if getattr(scale, "name", None) and hasattr(scale, "dtype"):
                scales.append(scale)
    return found


def _has_no_variable(dataset: Any) -> bool:
    name = dataset.attrs.get("NAME", b"")
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    return text.startswith(NO_VARIABLE)


def _datasets(h5py: Any, file: Any) -> dict[str, Any]:
    """Return all datasets of a file by their paths; links to other files are left out."""
    found: dict[str, Any] = {}

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
            found[name] = item

    file.visititems(look)
    return found


def data_names(h5py: Any, file: Any, numeric: Mapping[str, Any]) -> list[str]:
    """Return the datasets that are images: no scales, coordinates, bounds or grid mappings.

    `numeric` has the datasets of numbers by their absolute names.
    """
    known = _datasets(h5py, file)
    beside = set()
    for name, item in known.items():
        for one in referenced(attributes_of(item)):
            beside.add(resolve_name(one, name, set(known)))
    for one in referenced(attributes_of(file)):
        beside.add(resolve_name(one, "any", set(known)))
    return sorted(
        name for name, item in numeric.items()
        if not (_is_scale(item) or _is_palette(item)) and name.strip("/") not in beside
    ) or sorted(numeric)  # fmt: skip


def place_of(h5py: Any, path: Path, dataset: Any) -> HDF5Place:
    """Return the place of a dataset: its groups, and the scales and coordinates that belong to it."""
    file, name = dataset.file, dataset.name.strip("/")
    known = _datasets(h5py, file)
    dims = names_of_dimensions(h5py, dataset)
    waiting, beside = [name], list[str]()
    groups = {group: attributes_of(file[group or "/"]) for group in groups_above(name)}
    for group, attributes in groups.items():
        for one in referenced(attributes):
            found = resolve_name(one, f"{group}/any", set(known))
            if found and set(names_of_dimensions(h5py, known[found])) <= set(dims):
                waiting.append(found)
    while waiting:
        one = waiting.pop(0)
        if one in beside:
            continue
        if one != name:
            beside.append(one)
        item = known.get(one)
        if item is None:  # the dataset itself, in unusual storage
            item = dataset
        scales = [s.name.strip("/") for found_scales in _scales(item) for s in found_scales]
        named = (resolve_name(r, one, set(known)) for r in referenced(attributes_of(item)))
        waiting += [n for n in (*scales, *named) if n and n in known and n != name]
    numeric = {n for n, item in known.items() if item.dtype.kind in "biufc" and item.shape}
    others = sorted(numeric - {name, *beside})
    return HDF5Place(path, name, dims, tuple(beside), groups, tuple(others))


def everything_beside(h5py: Any, path: Path, dataset: Any) -> HDF5Place:
    """Return the place of a dataset with all other datasets of its file beside it."""
    found = place_of(h5py, path, dataset)
    others = tuple(name for name in _datasets(h5py, dataset.file) if name != found.name)
    return HDF5Place(found.path, found.name, found.dims, others, found.groups)


def letter_hints(dataset: Any) -> tuple[str, ...]:
    """Return the letter of each dimension that the attributes of its coordinate say, else ""."""
    return tuple(
        letter_by_attributes(attributes_of(scales[0])) if scales else ""
        for scales in _scales(dataset)
    )


def spacing_of_coordinates(dataset: Any, axes: str) -> tuple[tuple[float | None, ...] | None, str]:
    """Return the spacing and its unit, from evenly spaced coordinates in a unit of length."""
    spacing: list[float | None] = [None] * dataset.ndim
    units = []
    for i, scales in enumerate(_scales(dataset)):
        if not scales or (axes[i : i + 1] or "Q") not in SPACE:
            continue
        scale = scales[0]
        if not _has_no_variable(scale):
            spacing[i] = even_step(unpacked(np.asarray(scale[()]), attributes_of(scale)))
            units.append(scale.attrs.get("units", ""))
    unit = length_unit(units)
    return (tuple(spacing), unit) if unit and any(spacing) else (None, "")


# Writing


def copy_beside(h5py: Any, file: Any, place: Place, dataset: Any, scales: bool) -> None:
    """Copy what lies beside an image into a file, and name the dimensions of its dataset.

    With `scales` true, dimensions without a coordinate become scales without values, which netCDF
    needs.
    """
    for group, attributes in place.groups.items():
        for name, value in attributes.items():
            if name != "_NCProperties" or not group:
                set_attribute(file.require_group(group or "/"), name, value)
    place.check()
    if isinstance(place, HDF5Place) and place.beside:
        with h5py.File(place.path, "r") as source:
            for name in place.beside:
                _copy(h5py, source, file, name)
            for name in place.beside:
                _attach_like(h5py, source[name], file, file[name])
            _attach_like(h5py, source[place.name], file, dataset)
            if not scales:  # which netCDF has in place of labels
                for before, after in zip(source[place.name].dims, dataset.dims, strict=False):
                    if before.label:
                        after.label = before.label
    elif place.beside:
        _write(h5py, file, place)
    if scales or place.beside:
        name_dimensions(h5py, file, dataset, place.dims)


def _copy(h5py: Any, source: Any, file: Any, name: str) -> None:
    above, _, last = name.rpartition("/")
    old = source[name]
    if h5py.check_string_dtype(old.dtype):  # HDF5 copies fill values of texts as dead references
        new = file.create_dataset(name, data=old[()], dtype=old.dtype)
        for key, value in attributes_of(old).items():
            new.attrs[key] = value
        if _is_scale(old):
            new.make_scale(last)
        return
    source.copy(old, file.require_group(above or "/"), name=last)
    for gone in ("REFERENCE_LIST", "DIMENSION_LIST"):  # they refer to datasets of the source
        if gone in file[name].attrs:
            del file[name].attrs[gone]


def _attach_like(h5py: Any, old: Any, file: Any, new: Any) -> None:
    """Attach the scales that the old dataset has, where they were copied."""
    if _is_scale(old):
        return
    for before, after in zip(_scales(old), new.dims, strict=True):
        for scale in before:
            name = (scale.name or "").strip("/")
            if name and name in file:
                after.attach_scale(file[name])


def _write(h5py: Any, file: Any, place: Place) -> None:
    """Write the arrays of another format."""
    for variable in place.variables():
        values: Any = variable.values
        if values.dtype.kind in "UO":
            values = np.asarray(values, object).astype(h5py.string_dtype())
        elif values.dtype.kind in "mM":
            continue
        made = file.create_dataset(variable.name, data=values)
        for name, value in variable.attributes.items():
            typed = (
                np.atleast_1d(np.asarray(value, values.dtype)) if name == "_FillValue" else value
            )
            set_attribute(made, name, typed)
        if variable.dims == (variable.name.rpartition("/")[2],):
            made.make_scale(variable.dims[0])
    for variable in place.variables():
        if variable.name in file and not _is_scale(file[variable.name]):
            name_dimensions(h5py, file, file[variable.name], variable.dims)


def name_dimensions(h5py: Any, file: Any, dataset: Any, dims: tuple[str, ...]) -> None:
    """Attach a scale to each dimension of a dataset that has none: one of that name, or an empty one."""
    for dimension, name, size in zip(dataset.dims, dims, dataset.shape, strict=False):
        if len(dimension) or not name:
            continue
        found = resolve_name(name, dataset.name.strip("/"), set(_datasets(h5py, file)))
        if found is None or file[found].shape != (size,):
            group = file.require_group(dataset.name.rpartition("/")[0] or "/")
            if name in group:
                continue
            empty = group.create_dataset(name, (size,), ">f4")
            empty.make_scale(f"{NO_VARIABLE} {size:10d}")
            found = empty.name.strip("/")
        elif not _is_scale(file[found]):
            file[found].make_scale(name)
        dimension.attach_scale(file[found])
