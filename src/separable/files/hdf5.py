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
from separable.files.chunked_io import Region, Source, Target, boxes, chunk_error
from separable.files.diagnostics import import_package
from separable.files.file_format import CreateRequest, Format, metadata_kept
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.image_info import Array, ImageInfo, affine_of
from separable.system import flush_path

__all__ = ["HDF5"]

OWN = frozenset(("DIMENSION_LABELS", "DIMENSION_LIST", "REFERENCE_LIST", "CLASS", "NAME"))
LAYOUT = ("chunks", "compression", "compression_opts", "shuffle", "fletcher32", "scaleoffset")
USUAL = "data"  # name of the dataset if nothing else is given


def _open_hdf5(path: Path, inside: str = "") -> Source:
    h5py = import_package("h5py", path)
    file = h5py.File(path, "r")
    try:
        dataset = _dataset(h5py, path, file, inside)
        _check_filters(h5py, path, dataset)
        info = _info(dataset)
        where = _place(h5py, file, dataset)
        if where is not None:
            file.close()
            raw = Raw.open(path, info.options.pop("dtype"), where[1], where[0])
            return raw_source(path, inside, raw, info, info.options["hdf5"])
        info.options.pop("dtype")
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

    return Source(
        path=Path(f"{path}:{inside}") if inside else path,
        shape=tuple(dataset.shape),
        dtype=dataset.dtype.newbyteorder("="),
        chunks=dataset.chunks,
        info=info,
        fetch=fetch,
        release=file.close,
        layout=info.options["hdf5"],
    )


def _dataset(h5py: Any, path: Path, file: Any, inside: str) -> Any:
    """Return the named dataset, or the only numeric one."""
    found: dict[str, Any] = {}

    def look(name: str, item: Any) -> None:  # h5py leaves out links to other files
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biufc" and item.shape:
            found["/" + name] = item

    file.visititems(look)
    if not inside:
        if len(found) == 1:
            return _at_home(path, next(iter(found.values())))
        names = sorted(found)
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


def _place(h5py: Any, file: Any, dataset: Any) -> tuple[int, tuple[int, ...]] | None:
    """Return offset and shape if the data is contiguous and in a NumPy dtype, else None."""
    offset = dataset.id.get_offset()
    if offset is None or dataset.chunks or file.userblock_size:
        return None
    if dataset.id.get_type() != h5py.h5t.py_create(dataset.dtype, logical=True):
        return None
    return int(offset), tuple(dataset.shape)


def _info(dataset: Any) -> ImageInfo:
    attributes = {}
    for name in dataset.attrs:
        if name not in OWN:
            try:
                attributes[name] = dataset.attrs[name]
            except (OSError, TypeError):  # of a type that h5py cannot read
                continue
    ndim = dataset.ndim
    names = [d.label for d in dataset.dims]
    axes = letters_of(names) if any(names) else _axes_of_vigra(attributes.get("axistags"), ndim)
    layout = {k: getattr(dataset, k) for k in LAYOUT}
    layout["dataset"] = dataset.name
    spacing, unit = _spacing(attributes, axes, ndim)
    affine = attributes.get("affine")
    return ImageInfo(
        axes,
        {"hdf5": layout, "attributes": attributes, "dtype": dataset.dtype},
        spacing=spacing,
        unit=unit,
        affine=affine_of(affine),
        names=tuple(names) if any(len(n) > 1 for n in names) and all(names) else (),
    )


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
    """Write contiguous data, which survives a killed run; store it in chunks at the end if asked."""
    h5py = import_package("h5py", request.path)
    layout = dict(request.like_layout("HDF5") or request.info.options.get("hdf5", {}))
    name = request.inside or str(layout.get("dataset", USUAL))
    if len(layout.get("chunks") or ()) != len(request.shape):
        layout["chunks"] = None
    if request.chunks:
        layout["chunks"] = tuple(
            min(c, n) for c, n in zip(request.chunks, request.shape, strict=True)
        )
    if not request.resume:
        with h5py.File(request.draft, "w") as file:
            early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            created = file.create_dataset(name, request.shape, request.dtype, dcpl=early)
            _describe(created, request.info)
    with h5py.File(request.draft, "r") as file:
        dataset = _dataset(h5py, request.draft, file, request.inside)
        request.check_draft(dataset.shape, dataset.dtype)
        name, offset = dataset.name, int(dataset.id.get_offset())
    raw = Raw.open(request.draft, request.dtype, request.shape, offset, write=True)

    def pack() -> None:
        if layout.get("chunks"):
            _pack(h5py, request.draft, name, layout)

    return raw_target(request, raw, complete=pack)


def _describe(dataset: Any, info: ImageInfo) -> None:
    for name, value in info.options.get("attributes", {}).items():
        if name in (
            "element_size_um",
            "spacing",
            "unit",
            "affine",
        ):  # written below with their current values
            continue
        nested = isinstance(value, dict | list)  # of another format
        dataset.attrs[name] = json.dumps(value) if nested else value
    ndim = dataset.ndim
    if len(info.axes) == ndim:
        for dimension, label in zip(dataset.dims, names_of(info.axes, info.names), strict=True):
            dimension.label = label
    spacing = info.spacing if len(info.spacing or ()) == ndim else None
    known = [s for s in spacing or () if s]
    if info.unit == "um" and (len(known) == ndim or (len(known) == 3 and len(info.axes) == ndim)):
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
    with h5py.File(draft, "r") as plain, h5py.File(packed, "w") as file:
        old = plain[name]
        if old.dtype.kind != "i" and old.dtype.kind != "u":
            options.pop("scaleoffset", None)
        new = file.create_dataset(name, old.shape, old.dtype, **options)
        for key in old.attrs:
            new.attrs[key] = old.attrs[key]
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
    open=_open_hdf5,
    create=_create_hdf5,
    inner=True,
    package="h5py",
    keeps=metadata_kept("axes", "names", "spacing", "affine", "attributes"),
    options={"attributes": "the attributes"},
)
