"""Zarr 2 and 3, plain and OME-Zarr 0.4 and 0.5, read and written with zarr-python 3."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.axis_names import names_of
from separable.files.chunked_io import Region, Source, Target, chunk_error
from separable.files.diagnostics import import_package, reason_of
from separable.files.file_format import CreateRequest, Format, metadata_kept
from separable.files.image_info import Array, ImageInfo
from separable.files.ome_zarr import ome_of, ome_to_info, own_to_info, to_attributes, to_ome
from separable.files.zarr_drafts import ChunkWriter, draft_store, read_store
from separable.system import flush_path

__all__ = ["ZARR"]

CHUNK_BYTES = 4 << 20
NEW = "zarr 3: "  # prefix of codec names of Zarr 3, which differ from those of Zarr 2
METADATA = ("zarr.json", ".zarray", ".zgroup")


def _open_zarr(path: Path, inside: str = "") -> Source:
    zarr = import_package("zarr", path)
    where = path / inside if inside else path
    if not any((path / name).is_file() for name in METADATA):
        raise FileError(
            f"cannot read {path}: it is a folder without {', '.join(METADATA)}, so it is not a Zarr store. "
            "Name the store itself"
        )
    _check_codecs(where)
    try:
        node = zarr.open(read_store(path), mode="r", path=inside or None)
    except (FileNotFoundError, KeyError):
        raise _nothing_there(zarr, path, inside) from None
    name = inside
    if not hasattr(node, "shape"):
        name = _array_in(where, node, inside)
        _check_codecs(path / name)
        node = zarr.open(read_store(path), mode="r", path=name)
    _check_opened(where, node)
    if node.dtype.kind not in "biufc":
        raise FileError(
            f"cannot read {where}: expected numbers; got {node.dtype}. Save a plain array"
        )
    return _source(where, node, _info(zarr, path, name, node))


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
        return ome_to_info(ome, last, node.ndim, int(node.metadata.zarr_format))
    names = getattr(node.metadata, "dimension_names", None)
    return own_to_info(attributes, names, node.ndim)


# Codecs


def _check_opened(where: Path, node: Any) -> None:
    """Check the codecs that zarr will use, from whichever metadata file it read them."""
    for codec in (*node.filters, *node.compressors, *_inner_codecs(node)):
        made = codec.get_config() if hasattr(codec, "get_config") else codec.to_dict()
        _check_trusted(where, str(made.get("id") or made.get("name")))


def _inner_codecs(node: Any) -> tuple[Any, ...]:
    """Return the codecs of Zarr 3, including those of chunks within shards."""
    found = list(getattr(node.metadata, "codecs", ()))
    for codec in found:
        found += [*getattr(codec, "codecs", ()), *getattr(codec, "index_codecs", ())]
    return tuple(found)


def _check_trusted(where: Path, codec: str) -> None:
    """Refuse codecs that decode objects, because they may execute what they decode."""
    name = codec.removeprefix(NEW)
    if name.removeprefix("numcodecs.") in NUMBERS or (
        name not in OBJECTS and any(name.startswith(start) for start, _ in PACKAGES)
    ):
        return
    raise FileError(
        f"cannot read {where}: its codec {name} decodes more than numbers, which is not safe. Store the "
        "array with another codec, such as blosc or zstd"
    )


def _check_codecs(where: Path) -> None:
    """Refuse a codec that is not installed, which zarr would report only at the first chunk."""
    for codec in _codecs(where):
        if codec.removeprefix(NEW) in OBJECTS:  # before it is looked up
            _check_trusted(where, codec)
        if not _known(codec):
            codec = codec.removeprefix(NEW)
            package = next((p for start, p in PACKAGES if codec.startswith(start)), None)
            remedy = (
                f"Install it: pip install {package}"
                if package
                else ("Install the package that contains it, or store the array with another codec")
            )
            raise FileError(f"cannot read {where}: its codec {codec} is not installed. {remedy}")
        _check_trusted(where, codec)


# Codecs of numcodecs and zarr that map bytes to bytes or numbers to numbers, and those that create
# Python objects: `pickle` executes what the file says.
NUMBERS = frozenset((
    "adler32", "astype", "base64", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta",
    "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits",
    "pcodec", "quantize", "shuffle", "zfpy", "zlib", "zstd",
    "bytes", "endian", "transpose", "sharding_indexed", "cast_value", "scale_offset",
))  # fmt: skip
OBJECTS = frozenset((
    "pickle", "json2", "msgpack2", "categorize", "vlen-utf8", "vlen-bytes", "vlen-array",
    "vlen-string",
))  # fmt: skip

PACKAGES = (
    ("imagecodecs", "imagecodecs"),
    ("blosc2", "blosc2"),
    ("zfpy", '"numcodecs[zfpy]"'),
    ("pcodec", '"numcodecs[pcodec]"'),
    ("crc32c", '"numcodecs[crc32c]"'),
    ("msgpack2", '"numcodecs[msgpack]"'),
    ("numcodecs.", '"zarr[numcodecs]"'),
    ("bitshuffle", "bitshuffle"),
    ("wavpack", "wavpack-numcodecs"),
    ("flac", "flac-numcodecs"),
)


def _codecs(where: Path) -> Iterator[str]:
    old, new = where / ".zarray", where / "zarr.json"
    if old.is_file():
        meta = json.loads(old.read_bytes())
        for codec in (meta.get("compressor"), *(meta.get("filters") or ())):
            if codec:
                yield str(codec["id"])
    if new.is_file():
        yield from _codecs_3(json.loads(new.read_bytes()).get("codecs") or ())


def _codecs_3(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        name = codec if isinstance(codec, str) else str(codec["name"])
        yield NEW + name
        if name == "sharding_indexed":
            yield from _codecs_3(codec["configuration"]["codecs"])


def _known(codec: str) -> bool:
    if not codec.startswith(NEW):
        from numcodecs.registry import get_codec  # optional

        try:
            get_codec({"id": codec})
        except ValueError:
            return False
        except TypeError:  # it is installed, and its options are missing
            return True
        return True
    from zarr.registry import get_codec_class  # optional

    try:
        get_codec_class(codec.removeprefix(NEW))
    except Exception:
        return False
    return True


# Writing


def _create_zarr(request: CreateRequest) -> Target:
    zarr = import_package("zarr", request.path)
    if not request.resume:
        _create_store(zarr, request)
    writer = ChunkWriter(request.draft, first=not request.joins)
    with _open_zarr(request.draft) as found:
        request.check_draft(found.shape, found.dtype)
    node = zarr.open(draft_store(writer), mode="r+")
    node = node if hasattr(node, "shape") else node["0"]

    def store(region: Region, array: Array) -> None:
        node[region] = array

    return Target(
        path=request.path,
        draft=request.draft,
        shape=request.shape,
        dtype=request.dtype,
        chunks=tuple(node.shards or node.chunks),
        store=store,
        flush=writer.flush,
        release=writer.close,
        complete=writer.finish,
        info=request.info,
        resumed=request.resume,
    )


def _create_store(zarr: Any, request: CreateRequest) -> None:
    """Create a store without chunks and flush it to the disk."""
    ome = request.path.name.endswith(".ome.zarr") or "ome_zarr" in request.info.options
    settings = _settings(request)
    version = settings.pop("zarr_format")
    if ome:
        top = zarr.create_group(str(request.draft), zarr_format=version)
        top.attrs.update(to_ome(request.info, request.path, len(request.shape), version))
        top.create_array("0", **settings)
    else:
        attributes = to_attributes(request.info, len(request.shape), version)
        zarr.create_array(
            str(request.draft), zarr_format=version, attributes=attributes, **settings
        )
    for path in request.draft.rglob("*"):
        if path.is_file():
            flush_path(path)


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
        "fill_value": request.dtype.type(0),
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
        settings["dimension_names"] = names_of(
            request.info.axes, request.info.names, len(request.shape)
        )
    return settings


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
    keeps=metadata_kept("axes", "names", "spacing", "affine", "attributes", "ome_zarr"),
    options={"attributes": "the attributes"},
)
