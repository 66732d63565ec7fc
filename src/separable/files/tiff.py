"""The TIFF format, also for volumes, read and written with tifffile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.chunked_io import Region, Source, chunk_error
from separable.files.diagnostics import check_memory, import_package
from separable.files.file_format import Format, first_of
from separable.files.flat_binary import Raw, raw_source
from separable.files.grid_options import tiff_on_grid
from separable.files.image_info import Array, ImageInfo
from separable.files.ome_tiff import check_files, tiff_info
from separable.files.statements import answers_of
from separable.files.tiff_checks import check_pages, codec_named, damage_raises
from separable.files.tiff_masks import MaskedImage, mask_of
from separable.files.tiff_samples import Meaning, meaning_of, samples_last
from separable.files.tiff_tags import band_scaling, geo_spacing, kept_tags, nodata_of
from separable.files.tiff_writing import (
    create_tiff,
    join_tiff,
    kept_by_tiff,
    refuse_tiff,
    write_several,
    write_tiff,
)

__all__ = ["TIFF"]

REDUCED, MASK = 1, 4  # bits of NewSubfileType


@dataclass(frozen=True)
class _Image:
    """An image of a file: where its samples are, and what they mean.

    Attributes
    ----------
    series : tifffile.TiffPageSeries
    order : tuple of int
        Axes of the stored array in the order in which they are read, samples last.
    shape, dtype
        Shape and data type as they are read.
    info : ImageInfo
    converts : bool
        Whether stored samples are converted.
    convert : callable
        ``(stored, samples) -> meant``: convert an array whose axes are in order and that holds all
        samples of its pixels, and return a range of the samples.
    mask : MaskedImage, optional
        What becomes of the pixels that an internal mask leaves out.
    """

    series: Any
    order: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    info: ImageInfo
    converts: bool
    convert: Callable[[Array, slice], Array]
    mask: MaskedImage | None = None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the stored samples, with the axes in the order in which they are read."""
        return tuple(int(self.series.shape[axis]) for axis in self.order)


def _images(file: Any) -> list[int]:
    """Return the places of the images among the series of a file, without thumbnails and masks."""
    kinds = [int(series.keyframe.subfiletype) for series in file.series]
    return [at for at, kind in enumerate(kinds) if not kind & (REDUCED | MASK)] or [0]


def _count_images(path: Path) -> int:
    import tifffile  # start-up time

    with damage_raises(), tifffile.TiffFile(path) as file:
        check_files(path, file)
        return len(_images(file))


def _image(path: Path, file: Any, number: int = 1) -> _Image:
    """Return an image of a file, and what it says about its numbers."""
    place = _images(file)[number - 1]
    series = file.series[place]
    first = series.keyframe if place else file.pages[0]
    stored, axes = np.dtype(series.dtype).newbyteorder("="), str(series.axes)
    if stored.kind not in "biufc":
        raise FileError(f"cannot read {path}: expected numbers; got {series.dtype}")
    order = samples_last(axes) or tuple(range(len(axes)))
    meaning = meaning_of(path, series.keyframe, stored, bool(file.is_imagej))
    scaling = band_scaling(first, meaning.samples)
    dtype = meaning.dtype
    if scaling is not None:
        dtype = np.dtype(np.float64 if dtype.itemsize > 2 else np.float32)

    def convert(found: Array, samples: slice) -> Array:
        meant = found if meaning.convert is None else meaning.convert(found)
        if scaling is not None:
            meant = (meant * scaling[0] + scaling[1]).astype(dtype)
        return meant[..., samples] if meaning.samples else meant

    axes = "".join(axes[i] for i in order)
    shape = tuple(int(series.shape[i]) for i in order)
    if meaning.samples and not axes.endswith("S"):  # colours of a palette
        axes, shape = axes + "S", (*shape, meaning.samples)
    at = mask_of(file, place, axes, shape)
    info = _info(path, file, place, axes, meaning, scaling, masked=at is not None)
    converts = meaning.convert is not None or scaling is not None
    mask = None
    if at is not None:
        mask = MaskedImage.of(path, at, info, dtype).placed(shape[2] if len(shape) > 2 else 1)
    return _Image(series, order, shape, dtype, info, converts, convert, mask)


def _info(
    path: Path, file: Any, place: int, axes: str, meaning: Meaning, scaling: Any, *, masked: bool
) -> ImageInfo:
    """Return the metadata of an image."""
    series = file.series[place]
    first = series.keyframe if place else file.pages[0]
    info = tiff_info(file, axes, place)
    tags, lost = kept_tags(first)
    notes = [*info.notes, *meaning.notes, *lost]
    nodata = nodata_of(path, first, meaning.dtype)
    if scaling is not None:
        notes.append("scale and offset of the bands were applied")
        wide = np.float64 if meaning.dtype.itemsize > 2 else np.float32
        meant = (np.array(v) * scaling[0] + scaling[1] for v in nodata)
        nodata = tuple(dict.fromkeys(float(wide(v)) for m in meant for v in np.ravel(m)))
    left_out = len(file.series) - len(_images(file)) - masked
    if left_out:
        notes.append(f"left out {left_out} thumbnails, overviews or masks of {path.name}")
    if len(series.levels) > 1:
        notes.append(f"took the finest of {len(series.levels)} resolution levels")
    on_earth = geo_spacing(first)
    if on_earth and "X" in axes and "Y" in axes:
        steps = tuple(on_earth.get(letter) for letter in axes)
        info = replace(info, spacing=steps, unit="m")
    if file.is_ome or file.is_imagej:
        tags.pop("description", None)
    options = {**info.options, **tags, **meaning.options}
    return replace(info, options=options, notes=tuple(notes), alpha=meaning.alpha, nodata=nodata)


def _read_tiff(path: Path, number: int = 1) -> tuple[Array, ImageInfo]:
    import tifffile  # start-up time

    with damage_raises(), tifffile.TiffFile(path) as file:
        check_files(path, file)
        image = _image(path, file, number)
        check_memory(path, image.shape, image.dtype)
        check_pages(path, file, image.series)
        with codec_named(path):
            array = np.asarray(image.series.asarray()).transpose(image.order)
            array = image.convert(array, slice(None))
            if image.mask is None:
                return array, image.info
            valid = np.asarray(file.series[image.mask.place].asarray()) != 0
        return image.mask.applied(array, valid), image.mask.info


def _open_tiff(path: Path, inside: str = "") -> Source:
    """Open an image of a TIFF file: contiguous samples are read by their offset, others page by page.

    `inside` is the number of the image; if it is empty, a note says how many there are.
    """
    import tifffile  # start-up time

    with contextlib.ExitStack() as open_files:
        with damage_raises():
            file = open_files.enter_context(tifffile.TiffFile(path))
            check_files(path, file)
            image = _image(path, file, int(inside or 1))
            count = len(_images(file))
            if not inside and count > 1:  # and so without a mask
                notes = (*image.info.notes, first_of(count))
                image = replace(image, info=replace(image.info, notes=notes))
            series = image.series
            place, dtype = series.dataoffset, np.dtype(file.byteorder + series.dtype.char)
            plain = place is not None and series.dtype.kind != "b"
            if not plain:
                check_pages(path, file, series)
        if plain:
            slow = tuple(int(axis) for axis in np.argsort(image.order))
            raw = Raw.open(path, dtype, image.stored_shape, int(place or 0), slow)
            source = _converted(raw_source(path, "", raw, image.info), image)
        else:
            source = _converted(_paged(path, file, image), image)
            open_files.pop_all()
        return source if image.mask is None else image.mask.source(source)


def _converted(source: Source, image: _Image) -> Source:
    """Return a source of what the stored samples mean."""
    if not image.converts:
        return source
    samples, stored = image.info.axes.endswith("S"), source.fetch
    chunks = source.chunks
    if chunks is not None and samples:
        chunks = (*chunks[: len(image.shape) - 1], image.shape[-1])

    def fetch(region: Region) -> Array:
        if not samples:
            return image.convert(stored(region), slice(None))
        pixels = region[:-1]
        every = (slice(None),) * (source.ndim - len(pixels))
        return image.convert(stored((*pixels, *every)), region[-1])

    return replace(source, shape=image.shape, dtype=image.dtype, chunks=chunks, fetch=fetch)


def _paged(path: Path, file: Any, image: _Image) -> Source:
    zarr = import_package("zarr", path)
    file.filehandle.set_lock(True)
    node = zarr.open(image.series.aszarr(level=0), mode="r")
    order = image.order

    def fetch(region: Region) -> Array:
        own = tuple(region[order.index(axis)] for axis in range(len(order)))
        try:
            with codec_named(path):
                found = np.asarray(node[own])
        except FileError:
            raise
        except Exception as error:
            raise chunk_error(
                path, node.shape, node.chunks, own, error, node.__getitem__, str
            ) from None
        return found.astype(found.dtype.newbyteorder("="), copy=False).transpose(order)

    chunks = tuple(node.chunks[axis] for axis in order)
    dtype = node.dtype.newbyteorder("=")
    return Source(path, image.stored_shape, dtype, chunks, image.info, fetch, file.close)


TIFF = Format(
    name="TIFF",
    suffixes=(".tif", ".tiff"),
    signatures=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    read=_read_tiff,
    write=write_tiff,
    count=_count_images,
    read_one=_read_tiff,
    write_several=write_several,
    join=join_tiff,
    refuse=refuse_tiff,
    open=_open_tiff,
    create=create_tiff,
    keeps=kept_by_tiff,
    options={
        "ome": "OME's metadata",
        "imagej": "ImageJ's metadata",
        "geotiff": "the georeference",
        "colormap": "the colour table",
        "inks": "that the samples are inks (CMYK)",
        "white_is_zero": "that 0 is white",
    },
    selective=True,
    on_grid=tiff_on_grid,
    statements=answers_of(
        kept={
            "colour samples": "of any type, contiguous",
            "several bands": "contiguous samples, with the codes of extra samples",
            "planar colour": "as planes; read with the samples last",
            "white is zero": "in TIFF; inverted for PNG, JPEG and BMP",
            "CMYK": "each ink is filtered; converted to RGB for PNG",
            "colour profile": "",
            "rotation": "the orientation tag; turned upright for PNG, JPEG and BMP",
            "spacing": "of OME, ImageJ, a resolution per cm, or the pixel scale of GeoTIFF",
            "spacing in several units": "OME: converted to the unit along x",
            "georeference": "GeoTIFF tags and GDAL's metadata, without its statistics",
            "print resolution": "per inch",
            "axis names": "as letters",
            "other metadata": "description, OME channels, texts and XMP; not EXIF, and a note says so",
            "several images": "series and positions are all filtered, whole and by parts; --image N takes one; not "
            "thumbnails, overviews and masks, and a note says so",
        },
        converted={
            "palette": "to RGB; tables of ImageJ, grey ramps and smooth tables are kept instead, and "
            "the intensities are filtered",
            "YCbCr": "to RGB; subsampling without JPEG compression is refused",
            "CIELab": "of 8 bits to sRGB, by LittleCMS; 16 bits are refused",
            "sample depth": "2 and 4 bits become 8; 1 bit is read as bool",
            "scale and offset": "of GDAL: applied, in float32 (float64 beyond 16 bits)",
            "contradicting spacing": "OME's is taken, then that of ImageJ, then the resolution; a "
            "GeoTIFF's pixel scale before these",
            "resolution levels": "the finest is taken, and a note says of how many",
        },
        obeyed={
            "alpha": "colours are weighted by it",
            "premultiplied alpha": "colours and alpha are filtered alike",
            "missing value": "GDAL_NODATA, and internal masks: pixels are missing, or transparent in uint8 and "
            "uint16 without a declared value",
        },
        refused={
            "unknown colour space": "also ICCLab, ITULab, CFA, LogL, LogLuv and LinearRaw",
            "missing value outside the type": "unless --nodata says otherwise",
        },
        cannot_occur="transparent colour, valid range, position and direction, coordinates, groups, "
        "incomplete series, tilted slices",
    ),
)
