"""Zarr 2 and 3, plain and OME-Zarr 0.4 and 0.5, read and written with zarr-python 3."""

from __future__ import annotations

import difflib
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.axis_names import names_of
from separable.files.cf_conventions import decoded
from separable.files.chunked_io import Region, Source, Target, chunk_error
from separable.files.diagnostics import import_package, reason_of
from separable.files.file_format import CreateRequest, Format
from separable.files.grid_options import zarr_on_grid
from separable.files.image_info import Array, ImageInfo
from separable.files.level_writer import LevelWriter
from separable.files.ome_zarr import (
    has_names,
    ome_of,
    ome_to_info,
    own_to_info,
    plain_json,
    to_attributes,
    to_ome,
)
from separable.files.pyramid_levels import with_levels
from separable.files.volume_answers import ZARR_ANSWERS
from separable.files.zarr_codecs import check_codecs, check_opened
from separable.files.zarr_drafts import ChunkWriter, draft_store, read_store
from separable.files.zarr_variables import data_arrays, place_in, spacing_in, write_beside
from separable.masked.nodata import fits_dtype
from separable.system import flush_path

__all__ = ["ZARR"]

CHUNK_BYTES = 4 << 20
METADATA = ("zarr.json", ".zarray", ".zgroup")


def _open_zarr(path: Path, inside: str = "") -> Source:
    zarr = import_package("zarr", path)
    where = path / inside if inside else path
    if not any((path / name).is_file() for name in METADATA):
        raise FileError(
            f"cannot read {path}: it is a folder without {', '.join(METADATA)}, so it is not a Zarr store. "
            "Name the store itself"
        )
    check_codecs(where)
    try:
        node = zarr.open(read_store(path), mode="r", path=inside or None)
    except (FileNotFoundError, KeyError):
        raise _nothing_there(zarr, path, inside) from None
    name = inside
    if not hasattr(node, "shape"):
        name = _array_in(where, node, inside)
        check_codecs(path / name)
        node = zarr.open(read_store(path), mode="r", path=name)
    check_opened(where, node)
    if node.dtype.kind not in "biufc":
        raise FileError(
            f"cannot read {where}: expected numbers; got {node.dtype}. Save a plain array"
        )
    info = _info(zarr, path, name, node)
    return decoded(_source(where, node, info), *_declared(node, info))


def _declared(node: Any, info: ImageInfo) -> tuple[dict[str, Any], Any]:
    """Return the attributes of an array, and its fill value where xarray takes it as missing."""
    if "ome_zarr" in info.options:
        return {}, None
    attributes = dict(node.attrs)
    by_xarray = int(node.metadata.zarr_format) == 2 and "_ARRAY_DIMENSIONS" in attributes
    return attributes, node.fill_value if by_xarray else None


def _source(where: Path, node: Any, info: ImageInfo) -> Source:
    def fetch(region: Region) -> Array:
        try:
            found = np.asarray(node[region])
        except Exception as error:
            chunks, name = tuple(node.shards or node.chunks), node.metadata.encode_chunk_key
            raise chunk_error(
                where, node.shape, chunks, region, error, node.__getitem__, name
            ) from None
        return found.astype(found.dtype.newbyteorder("="), copy=False)

    layout = {
        "zarr_format": int(node.metadata.zarr_format),
        "chunks": tuple(node.chunks),
        "shards": node.shards,
        "compressors": node.compressors,
        "filters": node.filters,
        "order": node.order,
        "dtype": node.dtype,
        "fill_value": node.fill_value,
    }
    return Source(
        path=where,
        shape=tuple(node.shape),
        dtype=node.dtype.newbyteorder("="),
        chunks=tuple(node.shards or node.chunks),
        info=info,
        fetch=fetch,
        layout=layout,
    )


def _array_in(where: Path, group: Any, inside: str) -> str:
    """Return the array of a group: the finest level of OME-Zarr, or the only array."""
    ome = ome_of(dict(group.attrs))
    if ome is not None:
        return "/".join(filter(None, (inside, str(ome["datasets"][0]["path"]))))
    found = sorted(
        name for name, member in group.members(max_depth=None) if hasattr(member, "shape")
    )
    found = data_arrays(where, found)
    if len(found) == 1:
        return "/".join(filter(None, (inside, found[0])))
    if not found:
        raise FileError(f"cannot read {where}: it is a Zarr group without arrays")
    shown = " ".join(found[:12]) + (" ..." if len(found) > 12 else "")
    raise FileError(
        f"cannot read {where}: it is a Zarr group of {len(found)} arrays: {shown}. "
        f"Name one, as {where}/{found[0]}"
    )


def _nothing_there(zarr: Any, path: Path, inside: str) -> FileError:
    group = zarr.open(read_store(path), mode="r")
    if not hasattr(group, "members"):
        return FileError(
            f"cannot read {path}/{inside}: the store is one array and has no {inside}. Name the "
            "store itself"
        )
    names = [n for n, _ in group.members(max_depth=None)]
    close = difflib.get_close_matches(inside, names, n=1, cutoff=0.5)
    hint = f"Did you mean {path}/{close[0]}?" if close else f"It holds: {' '.join(names[:12])}"
    return FileError(f"cannot read {path}/{inside}: the store has no {inside}. {hint}")


def _info(zarr: Any, path: Path, name: str, node: Any) -> ImageInfo:
    """Return the metadata of an array, from the OME-Zarr group above it or its own attributes."""
    attributes = dict(node.attrs)
    above, _, last = name.rpartition("/")
    ome = None
    if name:
        parent = zarr.open(read_store(path), mode="r", path=above or None)
        ome = ome_of(dict(parent.attrs))
    if ome is not None and any(str(d["path"]) == last for d in ome["datasets"]):
        info = ome_to_info(ome, last, node.ndim, int(node.metadata.zarr_format))
        return with_levels(info, ome, parent, last)
    names = getattr(node.metadata, "dimension_names", None)
    info = own_to_info(attributes, names, node.ndim)
    info = replace(info, options={**info.options, "zarr_fill": node.fill_value})
    if not name:
        return info
    place = place_in(path, name, int(node.metadata.zarr_format))
    info = replace(info, options={**info.options, "place": place})
    spacing, unit = (None, "") if info.spacing else spacing_in(zarr, place, info.axes)
    info = replace(info, notes=(*info.notes, *filter(None, [place.note])))
    return replace(info, spacing=spacing, unit=unit) if spacing else info


# Writing


def _create_zarr(request: CreateRequest) -> Target:
    zarr = import_package("zarr", request.path)
    if not request.resume:
        _create_store(zarr, request)
    writer = ChunkWriter(request.draft, first=not request.joins)
    name = _name(request)
    with _open_zarr(request.draft, name) as found:
        request.check_draft(found.shape, found.dtype)
    store_of_draft = draft_store(writer)
    node = zarr.open(store_of_draft, mode="r+", path=name or None)

    levels = LevelWriter(partial(_level, zarr, store_of_draft, node), _levels(request))

    def store(region: Region, array: Array) -> None:
        node[region] = array
        if not request.joins:  # what other processes write, the first one would not know
            levels.add(region, array)

    def complete() -> None:
        levels.finish()
        writer.flush()
        writer.finish()

    return Target(
        path=request.path,
        draft=request.draft,
        shape=request.shape,
        dtype=request.dtype,
        chunks=tuple(node.shards or node.chunks),
        store=store,
        flush=writer.flush,
        release=writer.close,
        complete=complete,
        info=request.info,
        resumed=request.resume,
        levels=levels if len(levels.shapes) > 1 else None,
    )


def _level(zarr: Any, store: Any, finest: Any, number: int) -> Any:
    """Return the array of a level, open for reading and writing."""
    return zarr.open(store, mode="r+", path=str(number)) if number else finest


def _is_ome(request: CreateRequest) -> bool:
    return request.path.name.endswith(".ome.zarr") or "ome_zarr" in request.info.options


def _name(request: CreateRequest) -> str:
    """Return the path of the array in the store; empty if the store is the array."""
    if _is_ome(request):
        return "0"
    place = request.info.options.get("place")
    return place.name if place is not None else ""


def _levels(request: CreateRequest) -> list[tuple[int, ...]]:
    """Return the shapes of the resolution levels, the finest first."""
    levels = request.info.options.get("ome_zarr", {}).get("levels", ())
    shapes = [tuple(level["shape"]) for level in levels]
    return shapes if _is_ome(request) and shapes[:1] == [request.shape] else [request.shape]


def _create_store(zarr: Any, request: CreateRequest) -> None:
    """Create a store without chunks and flush it to the disk."""
    settings = _settings(request)
    version, ndim = settings.pop("zarr_format"), len(request.shape)
    place = request.info.options.get("place")
    if _is_ome(request):
        top = zarr.create_group(str(request.draft), zarr_format=version)
        shapes = _levels(request)
        top.attrs.update(to_ome(request.info, request.path, ndim, version, len(shapes)))
        for number, shape in enumerate(shapes):
            top.create_array(str(number), **_for_level(settings, shape))
    else:
        attributes = to_attributes(request.info, request.dtype, ndim, version)
        if place is not None:
            for group, own in place.groups.items():
                own = {k: plain_json(v) for k, v in own.items() if k != "_NCProperties"}
                zarr.create_group(
                    str(request.draft), path=group, zarr_format=version, attributes=own
                )
        zarr.create_array(
            str(request.draft), name=place.name if place is not None else None,
            zarr_format=version, attributes=attributes, **settings,
        )  # fmt: skip
        if place is not None:
            write_beside(zarr, request.draft, place, version)
    for path in request.draft.rglob("*"):
        if path.is_file():
            flush_path(path)


def _for_level(settings: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the settings of a level: chunks and shards no larger than it."""
    found = {**settings, "shape": shape}
    if shape != settings["shape"] and "shards" in settings:  # shards are multiples of chunks
        found.pop("shards")
        found["chunks"] = settings["chunks"]
    found["chunks"] = tuple(max(1, min(c, n)) for c, n in zip(found["chunks"], shape, strict=True))
    return found if shape != settings["shape"] else settings


def _settings(request: CreateRequest) -> dict[str, Any]:
    """Return chunks and codecs: those asked for, else those of `like`, else the defaults."""
    like = request.like_layout("Zarr")
    version = int(like.get("zarr_format") or request.info.options.get("zarr_format") or 3)
    if len(like.get("chunks", ())) != len(request.shape):
        like = {k: v for k, v in like.items() if k not in ("chunks", "shards")}
    chunks = request.chunks or like.get("chunks") or cubes(request.shape, request.dtype.itemsize)
    chunks = tuple(max(1, min(c, n)) for c, n in zip(chunks, request.shape, strict=True))
    settings: dict[str, Any] = {
        "shape": request.shape,
        "dtype": request.dtype,
        "chunks": chunks,
        "zarr_format": version,
        "fill_value": _fill_value(request, like, version),
    }
    settings.update(_shards(like, request.chunks, request.shape))
    if "compressors" in like:
        _check_encoders(request, like)
        same = like["dtype"] == request.dtype
        settings["compressors"] = like["compressors"] if same else _resized(like["compressors"])
        if same:
            settings["filters"] = like["filters"] or None
    if version == 2:
        settings["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    else:
        place = request.info.options.get("place")
        dims = getattr(place, "dims", ())
        settings["dimension_names"] = names_of(
            request.info.axes,
            dims if dims and all(dims) else request.info.names,
            len(request.shape),
        )
    return settings


def _fill_value(request: CreateRequest, like: dict[str, Any], version: int) -> Any:
    """Return the value of chunks that are not stored.

    In Zarr 2 with named dimensions xarray takes it as missing, so it is the declared value or none.
    """
    named = has_names(request.info, len(request.shape))
    if version == 2 and named and not _is_ome(request):
        return request.dtype.type(request.info.nodata[0]) if request.info.nodata else None
    value = like.get("fill_value", request.info.options.get("zarr_fill"))
    plain = isinstance(value, (bool, int, float, complex, np.number, np.bool_))
    return request.dtype.type(value if plain and fits_dtype(value, request.dtype) else 0)


def _check_encoders(request: CreateRequest, like: dict[str, Any]) -> None:
    """Refuse codecs of `like` that can decode but not encode, before the work begins."""
    import zarr  # optional

    sample = np.ones((4,) * len(request.shape), like["dtype"])
    try:
        zarr.create_array(
            {}, data=sample, chunks=sample.shape, zarr_format=like["zarr_format"],
            compressors=like["compressors"], filters=like["filters"] or None,
        )  # fmt: skip
    except Exception as error:
        assert request.like is not None
        raise FileError(
            f"cannot write {request.path}: the codecs of {request.like.path} cannot encode "
            f"({reason_of(error)}). Store that array with other codecs, or write .npy"
        ) from None


def _shards(
    like: dict[str, Any], chunks: tuple[int, ...] | None, shape: tuple[int, ...]
) -> dict[str, Any]:
    """Return shards and inner chunks; chunks that were asked for become the shards if they fit."""
    if not like.get("shards"):
        return {}
    shards, inner = chunks or like["shards"], like["chunks"]
    inner = tuple(min(i, s) for i, s in zip(inner, shards, strict=True))
    if any(s % i for s, i in zip(shards, inner, strict=True)):
        return {}
    return {"shards": shards, "chunks": inner}


def _resized(codecs: Any) -> Any:
    """Return compressors without the sample size that they were configured for."""
    return [
        type(c).from_dict({"name": "blosc", "configuration": _without_size(c)})
        if hasattr(c, "typesize")
        else c
        for c in codecs
    ] or None


def _without_size(codec: Any) -> dict[str, Any]:
    made: dict[str, Any] = dict(codec.to_dict()["configuration"])
    return {k: v for k, v in made.items() if k != "typesize"}


def cubes(shape: tuple[int, ...], itemsize: int, max_bytes: int = CHUNK_BYTES) -> tuple[int, ...]:
    """Return chunks with about equal sides, of at most `max_bytes`.

    Examples
    --------
    >>> cubes((512, 512, 512), 4), cubes((3, 5000, 5000), 1)
    ((64, 128, 128), (3, 1024, 1024))
    """
    sides = [max(1, n) for n in shape]
    while math.prod(sides) * itemsize > max_bytes:
        axis = int(np.argmax(sides))
        half = 1 << max(0, math.ceil(math.log2(sides[axis])) - 1)
        sides[axis] = half
    return tuple(sides)


def _refuse_zarr(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if not shape or 0 in shape:
        return f"a Zarr array has axes and is not empty; got shape {shape}. Write .npy"
    return ""


def _keeps(
    info: ImageInfo, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path
) -> frozenset[str]:
    common = {"axes", "names", "spacing", "affine", "attributes", "ome_zarr"}
    ome = path.name.endswith(".ome.zarr") or "ome_zarr" in info.options
    return frozenset(common if ome else common | {"nodata", "place"})


ZARR = Format(
    name="Zarr",
    suffixes=(".zarr",),
    refuse=_refuse_zarr,
    open=_open_zarr,
    create=_create_zarr,
    folder=True,
    contents=METADATA,
    inner=True,
    package="zarr",
    keeps=_keeps,
    options={"attributes": "the attributes"},
    on_grid=zarr_on_grid,
    statements=ZARR_ANSWERS,
)
