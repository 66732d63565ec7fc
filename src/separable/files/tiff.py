"""The TIFF format, also for volumes, read and written with tifffile."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.errors import FileError
from separable.files.chunked_io import Region, Source, Target, chunk_error
from separable.files.diagnostics import DEFLATE_RATIO, check_memory, check_packed, import_package
from separable.files.file_format import CreateRequest, Format
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.image_info import Array, ImageInfo
from separable.files.ome_tiff import (
    check_files,
    imagej_settings,
    ome_settings,
    plain_resolution,
    tiff_info,
)

__all__ = ["TIFF"]

CLASSIC_BYTES = (1 << 32) - (1 << 25)  # TIFF has 32-bit offsets, BigTIFF 64-bit ones
# Largest compression ratios of the codecs that need no other package: none, LZW, deflate (two
# codes) and PackBits.
RATIOS = {1: 1, 5: 4096, 8: DEFLATE_RATIO, 32946: DEFLATE_RATIO, 32773: 128}
OME_TYPES = frozenset(("uint8", "int8", "uint16", "int16", "uint32", "int32",
                       "float32", "float64", "complex64", "complex128", "bool"))  # fmt: skip


def _read_tiff(path: Path) -> tuple[Array, ImageInfo]:
    import tifffile  # start-up time

    with _damage_raises(), tifffile.TiffFile(path) as file:
        check_files(path, file)
        series = file.series[0]
        check_memory(path, series.shape, series.dtype)
        _check_pages(path, file, series)
        with _codec_named(path):
            array = np.asarray(series.asarray())
        return array, _info(path, file)


def _info(path: Path, file: Any) -> ImageInfo:
    info = tiff_info(file, str(file.series[0].axes))
    count = len(file.series)
    return replace(info, notes=(f"took the first of {count} images in {path.name}",) * (count > 1))


@contextlib.contextmanager
def _codec_named(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        codec = str(error).partition(":")[0].rpartition(".")[2]
        raise FileError(
            f"cannot read {path}: its compression {codec} needs another package. "
            "Install it: pip install imagecodecs"
        ) from None


def _open_tiff(path: Path, inside: str = "") -> Source:
    """Open a TIFF file: contiguous samples are read by their offset, others page by page."""
    import tifffile  # start-up time

    with contextlib.ExitStack() as open_files:
        with _damage_raises():
            file = open_files.enter_context(tifffile.TiffFile(path))
            check_files(path, file)
            series = file.series[0]
            info, shape = _info(path, file), tuple(int(n) for n in series.shape)
            if series.dtype.kind not in "biufc":
                raise FileError(f"cannot read {path}: expected numbers; got {series.dtype}")
            place, dtype = series.dataoffset, np.dtype(file.byteorder + series.dtype.char)
            plain = place is not None and series.dtype.kind != "b"
            if not plain:
                _check_pages(path, file, series)
        if plain:
            return raw_source(path, "", Raw.open(path, dtype, shape, int(place or 0)), info)
        source = _paged(path, file, series, info)
        open_files.pop_all()
        return source


def _paged(path: Path, file: Any, series: Any, info: ImageInfo) -> Source:
    zarr = import_package("zarr", path)
    file.filehandle.set_lock(True)
    node = zarr.open(series.aszarr(level=0), mode="r")

    def fetch(region: Region) -> Array:
        try:
            with _codec_named(path):
                found = np.asarray(node[region])
        except FileError:
            raise
        except Exception as error:
            raise chunk_error(
                path, node.shape, node.chunks, region, error, node.__getitem__, str
            ) from None
        return found.astype(found.dtype.newbyteorder("="), copy=False)

    chunks, dtype = tuple(node.chunks), node.dtype.newbyteorder("=")
    return Source(path, tuple(node.shape), dtype, chunks, info, fetch, file.close)


def _check_pages(path: Path, file: Any, series: Any) -> None:
    """Refuse a truncated file, whose last pages would be read as zeros."""
    size, stored, sparse = file.filehandle.size, 0, False
    for page in series.pages:
        if page is None:
            sparse = True
            continue
        stored += sum(page.databytecounts)
        sparse = sparse or 0 in page.databytecounts  # tiles that were never written are zeros
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > size:
            raise FileError(
                f"cannot read {path}: it is truncated; a page ends beyond its {size} bytes. "
                "Fetch or export it again"
            )
    ratio = RATIOS.get(int(series.keyframe.compression))
    if ratio is not None and not sparse:
        bits = math.prod(series.shape) * int(series.keyframe.bitspersample)
        check_packed(path, bits // 8, stored, ratio)


@contextlib.contextmanager
def _damage_raises() -> Iterator[None]:
    """Raise errors that tifffile only logs: a truncated file would be read with fewer pages."""
    log, found = logging.getLogger("tifffile"), list[str]()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                found.append(record.getMessage())

    keep, propagate = Keep(), log.propagate
    log.addHandler(keep)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(keep)
        log.propagate = propagate
    if found:
        raise ValueError(found[0].rpartition("> ")[2])


def _turned(info: ImageInfo, ndim: int) -> tuple[int, ...]:
    """Return the axes in the order of TIFF: pages of rows and columns, T Z C before them."""
    axes = info.axes
    usual = axes.endswith(("YX", "YXS")) or len(axes) != ndim
    if usual or not {"Y", "X"} <= set(axes) or len(set(axes)) != ndim:
        return tuple(range(ndim))
    rank = {letter: i for i, letter in enumerate("TZCLYXS")}
    return tuple(sorted(range(ndim), key=lambda i: rank.get(axes[i], -1)))


def _in_order(info: ImageInfo, order: tuple[int, ...]) -> ImageInfo:
    if len(info.axes) != len(order):
        return info
    spacing = info.spacing if len(info.spacing or ()) == len(order) else None
    return replace(
        info,
        axes="".join(info.axes[i] for i in order),
        spacing=tuple(spacing[i] for i in order) if spacing is not None else None,
    )


def _settings(
    info: ImageInfo, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path
) -> dict[str, Any]:
    """Return options for tifffile: OME-TIFF, ImageJ or plain TIFF, by name, origin and spacing."""
    name = dtype.newbyteorder("=").name
    colour = (
        len(info.axes) == len(shape)
        and info.axes[-1:] == "S"
        and shape[-1] in (3, 4)
        and dtype.kind == "u"
    )
    named = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    settings: dict[str, Any] = {"photometric": "rgb" if colour else "minisblack"}
    if not colour and "S" in info.axes:  # not the last axis, or more samples than colours
        info = replace(info, axes=info.axes.replace("S", "Q" if "C" in info.axes else "C"))
    settings["bigtiff"] = math.prod(shape) * dtype.itemsize > CLASSIC_BYTES
    ome = {**settings, "ome": True, "metadata": ome_settings(info, len(shape))}
    held = name in OME_TYPES and (len(info.axes) != len(shape) or set(info.axes) <= set("TZCLYXSQ"))
    if (named or info.options.get("ome") is not None) and held:
        return ome
    imagej = imagej_settings(info, shape, name)
    if imagej is not None:
        return imagej
    steps = len(info.spacing or ()) == len(shape) == len(info.axes)
    if steps and info.unit and held and "resolution" not in info.options:
        return ome
    axes = info.axes if len(info.axes) == len(shape) else ""
    return {**settings, "metadata": {"axes": axes} if axes else {}, **plain_resolution(info)}


def _keeps(
    info: ImageInfo, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path
) -> frozenset[str]:
    order = _turned(info, len(shape))
    turned = _in_order(info, order)
    settings = _settings(turned, tuple(shape[i] for i in order), dtype, path)
    if settings.get("ome"):
        return frozenset(("axes", "spacing", "ome"))
    if settings.get("imagej"):
        return frozenset(("axes", "spacing", "imagej"))
    return frozenset(("axes", "spacing" if "resolution" in settings else "axes"))


def _write_tiff(file: BinaryIO, array: Array, info: ImageInfo, path: Path) -> None:
    import tifffile  # start-up time

    order = _turned(info, array.ndim)
    array, info = array.transpose(order), _in_order(info, order)
    settings = _settings(info, array.shape, array.dtype, path)
    if not settings.get("imagej") and info.options.get("compression"):
        settings["compression"] = info.options["compression"]
    tifffile.imwrite(file, array, **settings)


def _create_tiff(request: CreateRequest) -> Target:
    import tifffile  # start-up time

    order = _turned(request.info, len(request.shape))
    shape = tuple(request.shape[i] for i in order)
    if not request.resume:
        info = _in_order(request.info, order)
        settings = _settings(info, shape, request.dtype, request.path)
        tifffile.memmap(request.draft, shape=shape, dtype=request.dtype, **settings)
    with tifffile.TiffFile(request.draft) as made:
        series = made.series[0]
        found = tuple(int(n) for n in series.shape)
        same = [n for n in found if n > 1] == [n for n in shape if n > 1]
        request.check_draft(request.shape if same else found, series.dtype)
        dtype, place = np.dtype(made.byteorder + series.dtype.char), int(series.dataoffset or 0)
    raw = Raw.open(request.draft, dtype, request.shape, place, order, write=True)
    return raw_target(request, raw)


def _refuse_tiff(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if len(shape) < 2 or 0 in shape:
        return f"a TIFF image has two axes or more and is not empty; got shape {shape}. Write .npy"
    return ""


TIFF = Format(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    signatures=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    read=_read_tiff,
    write=_write_tiff,
    refuse=_refuse_tiff,
    open=_open_tiff,
    create=_create_tiff,
    keeps=_keeps,
    options={"ome": "OME's metadata", "imagej": "ImageJ's metadata"},
)
