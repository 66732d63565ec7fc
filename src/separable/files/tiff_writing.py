"""Write TIFF files, whole and by parts: the order of their axes, and the options of tifffile."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.errors import FileError
from separable.files.chunked_io import Region, Source, Target, boxes
from separable.files.file_format import CreateRequest
from separable.files.flat_binary import Raw, raw_target
from separable.files.image_info import Array, ImageInfo
from separable.files.ome_tiff import imagej_settings, ome_settings, plain_resolution
from separable.files.tiff_checks import damage_raises
from separable.files.tiff_samples import layout_settings
from separable.files.tiff_tags import tag_settings

__all__ = ["create_tiff", "join_tiff", "kept_by_tiff", "refuse_tiff", "write_several", "write_tiff"]

CLASSIC_BYTES = (1 << 32) - (1 << 25)  # TIFF has 32-bit offsets, BigTIFF 64-bit ones
OME_TYPES = frozenset(("uint8", "int8", "uint16", "int16", "uint32", "int32",
                       "float32", "float64", "complex64", "complex128", "bool"))  # fmt: skip
PART_BYTES = 32 << 20  # samples that are copied at a time


def _file_order(info: ImageInfo, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes in the order of TIFF: pages of rows and columns, T Z C before them, samples last.

    Samples that were stored as planes lie before the rows again.
    """
    axes, ndim = info.axes, len(shape)
    if len(axes) != ndim or not {"Y", "X"} <= set(axes) or len(set(axes)) != ndim:
        return tuple(range(ndim))
    if not axes.endswith(("YX", "YXS")) or "S" in axes[:-1]:
        rank = {letter: i for i, letter in enumerate("TZCLYXS")}
        order = tuple(sorted(range(ndim), key=lambda i: rank.get(axes[i], -1)))
    else:
        order = tuple(range(ndim))
    if "S" in axes and info.options.get("samples", {}).get("planar") and shape[order[-1]] > 1:
        order = (*order[:-3], order[-1], *order[-3:-1])
    return order


def _described(info: ImageInfo, shape: tuple[int, ...]) -> ImageInfo:
    """Return metadata in which an array without any that looks like colours has colours."""
    if not info.axes and len(shape) == 3 and shape[-1] in (3, 4) and min(shape[:2]) > 4:
        return replace(info, axes="YXS")
    return info


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
    axes = info.axes if len(info.axes) == len(shape) else ""
    samples = shape[axes.index("S")] if "S" in axes else 0
    settings = layout_settings(info, samples, dtype)
    if samples == 1:  # one sample is no axis of a page
        axes = axes.replace("S", "Q" if "C" in axes else "C")
        info = replace(info, axes=axes)
    settings["bigtiff"] = math.prod(shape) * dtype.itemsize > CLASSIC_BYTES
    tags = tag_settings(info)
    extra = {k: v for k, v in tags.items() if k in ("extratags", "software")}
    ome = {**settings, **extra, "ome": True, "metadata": ome_settings(info, len(shape))}
    supported = name in OME_TYPES and (not axes or set(axes) <= set("TZCYXLSQ"))
    named = path.name.lower().endswith((".ome.tif", ".ome.tiff"))
    if (named or info.options.get("ome") is not None) and supported:
        return ome
    on_earth = "geotiff" in info.options
    imagej = None if on_earth else imagej_settings(info, shape, name)
    if imagej is not None and not samples:
        return {**imagej, **settings, **extra}
    if imagej is not None:
        return {**imagej, **extra}
    steps = len(info.spacing or ()) == len(shape) == len(info.axes)
    measured = steps and info.unit and "resolution" not in info.options
    if measured and supported and not on_earth:
        return ome
    metadata = {"axes": axes} if axes else {}
    return {**settings, **tags, "metadata": metadata, **plain_resolution(info)}


def kept_by_tiff(
    info: ImageInfo, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path
) -> frozenset[str]:
    """Return what a TIFF file keeps of the metadata of an image, as `Format.keeps` does."""
    settings = _layout(shape, dtype, info, path).settings
    found = {"axes", "nodata", "inks", "white_is_zero", "geotiff"}
    if "colormap" in settings:
        found.add("colormap")
    if settings.get("ome"):
        found |= {"spacing", "ome"}
    elif settings.get("imagej"):
        found |= {"spacing", "imagej"}
    elif "resolution" in settings or "geotiff" in info.options:
        found.add("spacing")
    return frozenset(found)


@dataclass(frozen=True)
class _Layout:
    """The order of the axes of an image in a file, and the options of tifffile that write it."""

    order: tuple[int, ...]
    settings: dict[str, Any]


def _layout(shape: tuple[int, ...], dtype: np.dtype[Any], info: ImageInfo, path: Path) -> _Layout:
    info = _described(info, shape)
    order = _file_order(info, shape)
    return _Layout(
        order, _settings(_in_order(info, order), tuple(shape[i] for i in order), dtype, path)
    )


def write_tiff(file: BinaryIO, array: Array, info: ImageInfo, path: Path) -> None:
    """Write a whole image, as `Format.write` does."""
    import tifffile  # start-up time

    layout = _layout(array.shape, array.dtype, info, path)
    settings = layout.settings
    if not settings.get("imagej") and info.options.get("compression"):
        settings["compression"] = info.options["compression"]
    tifffile.imwrite(file, array.transpose(layout.order), **settings)


def _of_several(
    images: Sequence[tuple[tuple[int, ...], np.dtype[Any], ImageInfo]],
    path: Path,
) -> tuple[list[_Layout], bool]:
    """Return how each of several images is written, and whether all of them are described by OME-XML.

    ImageJ holds one image per file. One image that needs OME-XML, for instance for its spacing, makes the
    file an OME-TIFF.
    """
    known = [
        replace(info, options={k: v for k, v in info.options.items() if k != "imagej"})
        for _, _, info in images
    ]
    kinds = [(shape, dtype) for shape, dtype, _ in images]
    made = [_layout(*kind, info, path) for kind, info in zip(kinds, known, strict=True)]
    if any(one.settings.get("ome") or one.settings.get("imagej") for one in made):
        known = [replace(info, options={"ome": {}, **info.options}) for info in known]
        wanted = [_layout(*kind, info, path) for kind, info in zip(kinds, known, strict=True)]
        if all(one.settings.get("ome") for one in wanted):
            made = wanted
    ome = all(one.settings.get("ome") for one in made)
    for one in made:
        for name in ("ome", "bigtiff", "imagej"):
            one.settings.pop(name, None)
    return made, ome


def _are_large(images: Sequence[tuple[tuple[int, ...], np.dtype[Any], ImageInfo]]) -> bool:
    """Return whether several images need the 64-bit offsets of BigTIFF."""
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype, _ in images) > CLASSIC_BYTES


def write_several(file: BinaryIO, images: Sequence[tuple[Array, ImageInfo]], path: Path) -> None:
    """Write several images: OME-TIFF if one of them needs it, else one series of pages after the other."""
    import tifffile  # start-up time

    described = [(array.shape, array.dtype, info) for array, info in images]
    made, ome = _of_several(described, path)
    with tifffile.TiffWriter(file, bigtiff=_are_large(described), ome=ome) as writer:
        for (array, info), layout in zip(images, made, strict=True):
            packed = {k: v for k, v in info.options.items() if k == "compression" and v}
            writer.write(array.transpose(layout.order), **layout.settings, **packed)


def join_tiff(draft: Path, sources: Sequence[Source], path: Path) -> None:
    """Write the images of open files into one file, in regions, as `Format.join` does."""
    import tifffile  # start-up time

    described = [(source.shape, source.dtype, source.info) for source in sources]
    made, ome = _of_several(described, path)
    places = []
    with tifffile.TiffWriter(draft, bigtiff=_are_large(described), ome=ome) as writer:
        for source, layout in zip(sources, made, strict=True):
            shape = tuple(source.shape[axis] for axis in layout.order)
            place = writer.write(
                None, shape=shape, dtype=source.dtype, returnoffset=True, **layout.settings
            )
            if place is None:
                raise FileError(
                    f"cannot write {path}: its images of {source.dtype} are not stored as they are in "
                    "memory. Choose one image (--image N, image=N), or make them uint8 (--dtype uint8)"
                )
            places.append(int(place[0]))
    for source, layout, start in zip(sources, made, places, strict=True):
        raw = Raw.open(draft, source.dtype, source.shape, start, layout.order, write=True)
        try:
            for region in _copied_parts(source, layout.order):
                raw.write(region, source.read(region))
            raw.flush()
        finally:
            raw.close()


def _copied_parts(source: Source, order: tuple[int, ...]) -> Iterator[Region]:
    """Yield regions of a few megabytes, cut along the slowest axes of the file."""
    sides, bytes_ = list(source.shape), source.nbytes
    for axis in order:
        if bytes_ <= PART_BYTES:
            break
        row = bytes_ // sides[axis]
        sides[axis] = max(1, PART_BYTES // row)
        bytes_ = row * sides[axis]
    return boxes(source.shape, tuple(sides))


def create_tiff(request: CreateRequest) -> Target:
    """Create a file of one image that is written by parts, as `Format.create` does."""
    import tifffile  # start-up time

    if request.dtype.kind == "b":
        raise FileError(
            f"cannot write {request.path} by parts: TIFF stores truth values as bits. Make them uint8 "
            "(--dtype uint8), or write .npy"
        )
    layout = _layout(request.shape, request.dtype, request.info, request.path)
    shape = tuple(request.shape[i] for i in layout.order)
    if not request.resume:
        tifffile.memmap(request.draft, shape=shape, dtype=request.dtype, **layout.settings)
    with damage_raises(), tifffile.TiffFile(request.draft) as made:
        series = made.series[0]
        found = tuple(int(n) for n in series.shape)
        same = [n for n in found if n > 1] == [n for n in shape if n > 1]
        request.check_draft(request.shape if same else found, series.dtype)
        dtype, place = np.dtype(made.byteorder + series.dtype.char), int(series.dataoffset or 0)
    raw = Raw.open(request.draft, dtype, request.shape, place, layout.order, write=True)
    return raw_target(request, raw)


def refuse_tiff(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return why TIFF cannot hold such an array, as `Format.refuse` does."""
    if len(shape) < 2 or 0 in shape:
        return f"a TIFF image has two axes or more and is not empty; got shape {shape}. Write .npy"
    return ""
