"""The HDF5 format, read and written with h5py: one numeric dataset in the file itself."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.axis_names import letters_of, names_of, short_unit
from separable.files.cf_conventions import decoded, result_attributes
from separable.files.chunked_io import Region, Source, Target, boxes, chunk_error
from separable.files.diagnostics import import_package
from separable.files.file_format import CreateRequest, Format, metadata_kept
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.grid_options import variables_on_grid
from separable.files.hdf5_variables import (
    attributes_of,
    copy_beside,
    data_names,
    everything_beside,
    flatten_attributes,
    letter_hints,
    place_of,
    set_attribute,
    spacing_of_coordinates,
)
from separable.files.image_info import Array, ImageInfo, affine_of
from separable.files.stored_variables import Place
from separable.files.volume_answers import HDF5_ANSWERS
from separable.masked.nodata import fits_dtype
from separable.system import flush_path

__all__ = ["HDF5", "create_hdf5", "open_hdf5"]

LAYOUT = (
    "chunks",
    "maxshape",
    "compression",
    "compression_opts",
    "shuffle",
    "fletcher32",
    "scaleoffset",
)
USUAL = "data"  # name of the dataset if nothing else is given


def open_hdf5(path: Path, inside: str = "") -> Source:
    """Open a dataset, as `Format.open` does."""
    h5py = import_package("h5py", path)
    file = h5py.File(path, "r")
    try:
        dataset = _dataset(h5py, path, file, inside)
        _check_filters(h5py, path, dataset)
        info = _info(h5py, path, dataset, inside)
        attributes = info.options["attributes"]
        where = _offset(h5py, file, dataset)
        if where is not None:
            dtype = dataset.dtype
            file.close()
            raw = Raw.open(path, dtype, where[1], where[0])
            found = raw_source(path, inside, raw, info, info.options["hdf5"])
            return decoded(found, attributes)
    except BaseException:
        file.close()
        raise

    def fetch(region: Region) -> Array:
        try:
            found = np.asarray(dataset[region])
        except Exception as error:
            if not dataset.chunks:
                raise
            raise chunk_error(
                path, dataset.shape, dataset.chunks, region, error, dataset.__getitem__, str
            ) from None
        return found.astype(found.dtype.newbyteorder("="), copy=False)

    found = Source(
        path=Path(f"{path}:{inside}") if inside else path,
        shape=tuple(dataset.shape),
        dtype=dataset.dtype.newbyteorder("="),
        chunks=dataset.chunks,
        info=info,
        fetch=fetch,
        release=file.close,
        layout=info.options["hdf5"],
    )
    return decoded(found, attributes)


def _dataset(h5py: Any, path: Path, file: Any, inside: str) -> Any:
    """Return the named dataset, or the only numeric one."""
    found: dict[str, Any] = {}

    def look(name: str, item: Any) -> None:  # h5py leaves out links to other files
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biufc" and item.shape:
            found["/" + name] = item

    file.visititems(look)
    if not inside:
        names = data_names(h5py, file, found)
        if len(names) == 1:
            return _at_home(path, found[names[0]])
        if not names:
            raise FileError(f"cannot read {path}: it holds no dataset of numbers")
        shown = " ".join(names[:12]) + (" ..." if len(names) > 12 else "")
        raise FileError(
            f"cannot read {path}: it holds {len(names)} datasets: {shown}. "
            f"Name one, as {path}:{names[0]}"
        )
    _refuse_links(h5py, path, file, inside)
    item = file.get(inside)
    if item is None:
        close = difflib.get_close_matches("/" + inside.strip("/"), sorted(found), n=1, cutoff=0.4)
        hint = (
            f"Did you mean {path}:{close[0]}?" if close else f"It holds: {' '.join(sorted(found))}"
        )
        raise FileError(f"cannot read {path}:{inside}: there is no such dataset. {hint}")
    if not isinstance(item, h5py.Dataset):
        within = [n for n in sorted(found) if n.startswith(item.name.rstrip("/") + "/")]
        raise FileError(
            f"cannot read {path}:{inside}: it is a group. It holds: {' '.join(within[:12])}"
        )
    if item.dtype.kind not in "biufc" or not item.shape:
        raise FileError(
            f"cannot read {path}:{inside}: expected an array of numbers; got {item.dtype} of "
            f"shape {item.shape}. Name another dataset"
        )
    return _at_home(path, item)


def _refuse_links(h5py: Any, path: Path, file: Any, inside: str) -> None:
    at = ""
    for name in inside.strip("/").split("/"):
        at = f"{at}/{name}"
        link = file.get(at, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise FileError(
                f"cannot read {path}:{inside}: {at} is a link to another file, {link.filename}. "
                "Name that file"
            )
        if link is None:
            return


def _at_home(path: Path, dataset: Any) -> Any:
    """Refuse data in other files: a received file must not make the library read another one."""
    if dataset.file.filename != str(path):  # reached through a link to a link
        raise FileError(
            f"cannot read {path}: the dataset is a link to another file, "
            f"{dataset.file.filename}. Name that file"
        )
    if dataset.external or dataset.is_virtual:
        raise FileError(
            f"cannot read {path}:{dataset.name}: its data is in other files. "
            "Copy it into one file, for instance with h5repack"
        )
    return dataset


def _check_filters(h5py: Any, path: Path, dataset: Any) -> None:
    made = dataset.id.get_create_plist()
    for i in range(made.get_nfilters()):
        code, _, _, name = made.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            known = name.decode(errors="replace") or "without a name"
            raise FileError(
                f"cannot read {path}:{dataset.name}: its codec {known} ({code}) is not installed. "
                "Install it: pip install hdf5plugin, and import hdf5plugin first"
            )


def _offset(h5py: Any, file: Any, dataset: Any) -> tuple[int, tuple[int, ...]] | None:
    """Return offset and shape if the data is contiguous and in a NumPy dtype, else None."""
    offset = dataset.id.get_offset()
    if offset is None or dataset.chunks or file.userblock_size:
        return None
    if dataset.id.get_type() != h5py.h5t.py_create(dataset.dtype, logical=True):
        return None
    return int(offset), tuple(dataset.shape)


def _info(h5py: Any, path: Path, dataset: Any, inside: str) -> ImageInfo:
    attributes, ndim = attributes_of(dataset), dataset.ndim
    place = place_of(h5py, path, dataset)
    names = place.dims
    axes = letters_of(names) if any(names) else _axes_of_vigra(attributes.get("axistags"), ndim)
    if any(names):
        hints = letter_hints(dataset)
        axes = "".join(hint or letter for hint, letter in zip(hints, axes, strict=True))
    notes = [place.note] if place.note else []
    axes = axes or _axes_of_image(path, attributes, ndim)
    if "PALETTE" in attributes:
        notes.append("the colour table (PALETTE) of the image is not kept")
    layout = {k: getattr(dataset, k) for k in LAYOUT}
    layout["dataset"] = dataset.name
    if dataset.id.get_create_plist().fill_value_defined() == h5py.h5d.FILL_VALUE_USER_DEFINED:
        layout["fillvalue"] = dataset.fillvalue
    spacing, unit = _spacing(attributes, axes, ndim)
    if spacing is None:
        spacing, unit = spacing_of_coordinates(dataset, axes)
    affine = attributes.get("affine")
    options: dict[str, Any] = {"hdf5": layout, "attributes": attributes}
    if place.beside or any(place.groups.values()) or len(place.groups) > 1:
        options["place"] = place
    return ImageInfo(
        axes,
        options,
        spacing=spacing,
        unit=unit,
        affine=affine_of(affine),
        names=tuple(names) if any(len(n) > 1 for n in names) and all(names) else (),
        notes=tuple(notes),
    )


def _axes_of_image(path: Path, attributes: dict[str, Any], ndim: int) -> str:
    """Return the axis letters of an image as the HDF5 image specification defines it.

    Raises
    ------
    FileError
        If its samples are indices into a palette.
    """
    kind, order = (_text(attributes.get(key, "")) for key in ("IMAGE_SUBCLASS", "INTERLACE_MODE"))
    if kind == "IMAGE_INDEXED":
        raise FileError(
            f"cannot read {path}: its samples are indices into a palette (IMAGE_INDEXED), which cannot be "
            "averaged. Convert it to colours"
        )
    if kind == "IMAGE_TRUECOLOR" and ndim == 3:
        return {"INTERLACE_PLANE": "SYX", "INTERLACE_LINE": "YSX"}.get(order, "YXS")
    return ""


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _axes_of_vigra(text: Any, ndim: int) -> str:
    """Return the axis letters of `axistags`, which ilastik writes."""
    try:
        keys = [str(a["key"]) for a in json.loads(text)["axes"]]
    except (TypeError, ValueError, KeyError):
        return ""
    return letters_of(keys) if len(keys) == ndim else ""


def _spacing(
    attributes: dict[str, Any], axes: str, ndim: int
) -> tuple[tuple[float | None, ...] | None, str]:
    """Return spacing and unit from `element_size_um` (3 or all axes), or `spacing` and `unit`."""
    size = np.atleast_1d(attributes.get("element_size_um", ()))
    if size.dtype.kind in "iuf" and size.size in (ndim, 3) and size.size:
        space = [i for i, a in enumerate(axes) if a in "ZYX"] or list(range(ndim))
        values: list[float | None] = [None] * ndim
        chosen = range(ndim) if size.size == ndim else space[-3:]
        for axis, value in zip(chosen, size[-len(chosen) :], strict=True):
            values[axis] = float(value)
        return tuple(values), "um"
    found = np.atleast_1d(attributes.get("spacing", ()))
    unit = attributes.get("unit", "")
    known = short_unit(unit.decode() if isinstance(unit, bytes) else str(unit))
    if found.dtype.kind not in "iuf" or found.size != ndim:
        return None, known
    return tuple(float(v) if v > 0 else None for v in found), known


# Writing


def _create_hdf5(request: CreateRequest) -> Target:
    return create_hdf5(request, scales=False)


def create_hdf5(request: CreateRequest, *, scales: bool) -> Target:
    """Write contiguous data, which survives a killed run; store it in chunks at the end if asked."""
    h5py = import_package("h5py", request.path)
    layout = dict(request.like_layout("HDF5") or request.info.options.get("hdf5", {}))
    kept = request.info.options.get("place")
    name = request.inside or (f"/{kept.name}" if kept else str(layout.get("dataset", USUAL)))
    if len(layout.get("chunks") or ()) != len(request.shape):
        layout["chunks"] = None
    if request.chunks:
        layout["chunks"] = tuple(
            min(c, n) for c, n in zip(request.chunks, request.shape, strict=True)
        )
    fill = _fill_value(request, layout)
    if not request.resume:
        with h5py.File(request.draft, "w") as file:
            early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            if fill is not None:
                early.set_fill_value(fill)
            created = file.create_dataset(name, request.shape, request.dtype, dcpl=early)
            _describe(created, request.info, labels=not scales)
            if scales:
                flatten_attributes(created)
            place = request.info.options.get("place") or Place(request.path, name, names_of(
                request.info.axes, request.info.names, len(request.shape)
            ))  # fmt: skip
            copy_beside(h5py, file, place, created, scales)
    with h5py.File(request.draft, "r") as file:
        dataset = _dataset(h5py, request.draft, file, request.inside or name)
        request.check_draft(dataset.shape, dataset.dtype)
        name, offset = dataset.name, int(dataset.id.get_offset())
    raw = Raw.open(request.draft, request.dtype, request.shape, offset, write=True)

    def pack() -> None:
        if layout.get("chunks"):
            _pack(h5py, request.draft, name, {**layout, "fillvalue": fill})

    return raw_target(request, raw, complete=pack)


def _fill_value(request: CreateRequest, layout: dict[str, Any]) -> Any:
    """Return the number of samples that were never written: the declared missing value, or that of the source."""
    if request.info.nodata:
        return np.asarray(request.info.nodata[0], request.dtype)
    value = layout.get("fillvalue")
    declared = "_FillValue" in request.info.options.get("attributes", {})
    if value is None or declared or not fits_dtype(value, request.dtype):
        return None
    return np.asarray(value, request.dtype)


def _describe(dataset: Any, info: ImageInfo, *, labels: bool) -> None:
    attributes = info.options.get("attributes", {})
    for name, value in result_attributes(attributes, info, dataset.dtype).items():
        if name in ("element_size_um", "spacing", "unit", "affine", "PALETTE"):
            continue  # written below with their current values
        set_attribute(dataset, name, np.atleast_1d(value) if name == "_FillValue" else value)
    if "IMAGE_SUBCLASS" in attributes:
        dataset.attrs["CLASS"] = np.bytes_("IMAGE")
    ndim, place = dataset.ndim, info.options.get("place")
    if (
        labels and len(info.axes) == ndim and not getattr(place, "beside", ())
    ):  # else scales have names
        for dimension, label in zip(dataset.dims, names_of(info.axes, info.names), strict=True):
            dimension.label = label
    spacing = info.spacing if len(info.spacing or ()) == ndim else None
    if place is not None and place.tells_spacing(attributes):
        spacing = None
    known = [s for s in spacing or () if s]
    if (
        spacing is not None
        and info.unit == "um"
        and (len(known) == ndim or (len(known) == 3 and len(info.axes) == ndim))
    ):
        dataset.attrs["element_size_um"] = known
    elif spacing is not None:
        dataset.attrs["spacing"] = [s or 0.0 for s in spacing]
        dataset.attrs["unit"] = info.unit
    if info.affine is not None:
        dataset.attrs["affine"] = info.affine


def _pack(h5py: Any, draft: Path, name: str, layout: dict[str, Any]) -> None:
    """Rewrite the partial file in chunks, with the compression of the file it is like."""
    packed = draft.with_name(draft.name + ".packed")
    options = {k: v for k, v in layout.items() if k in LAYOUT and v}
    if layout["fillvalue"] is not None:
        options["fillvalue"] = layout["fillvalue"]
    with h5py.File(draft, "r") as plain, h5py.File(packed, "w") as file:
        old = plain[name]
        if old.dtype.kind != "i" and old.dtype.kind != "u":
            options.pop("scaleoffset", None)
        if "maxshape" in options and len(options["maxshape"]) != old.ndim:
            del options["maxshape"]
        new = file.create_dataset(name, old.shape, old.dtype, **options)
        for key, value in attributes_of(old).items():
            new.attrs[key] = value
        for before, after in zip(old.dims, new.dims, strict=True):
            if before.label:
                after.label = before.label
        copy_beside(h5py, file, everything_beside(h5py, draft, old), new, scales=False)
        for region in boxes(old.shape, new.chunks):
            new[region] = old[region]
    flush_path(packed)
    os.replace(packed, draft)


def _refuse_hdf5(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if not shape or 0 in shape:
        return f"a dataset here has axes and is not empty; got shape {shape}. Write .npy"
    return ""


HDF5 = Format(
    name="HDF5",
    suffixes=(".h5", ".hdf5", ".he5", ".hdf", ".ims"),
    signatures=(b"\x89HDF\r\n\x1a\n",),
    refuse=_refuse_hdf5,
    open=open_hdf5,
    create=_create_hdf5,
    inner=True,
    package="h5py",
    keeps=metadata_kept("axes", "names", "spacing", "affine", "attributes", "nodata", "place"),
    options={"attributes": "the attributes", "place": "the coordinates and groups"},
    on_grid=variables_on_grid,
    statements=HDF5_ANSWERS,
)
