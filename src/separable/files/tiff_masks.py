"""Internal masks of TIFF files, which GDAL writes: pages that say which pixels of an image are valid.

Invalid pixels become missing: they get the declared missing value, or NaN, or the smallest number of a signed
type. Pictures of uint8 and uint16 without a declared value have no such number, so the mask becomes the opacity
of their pixels, as transparent colours of PNG do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from separable.files.chunked_io import Region, Source
from separable.files.diagnostics import import_package
from separable.files.image_info import Alpha, Array, ImageInfo
from separable.files.tiff_checks import codec_named
from separable.masked.nodata import fits_dtype

__all__ = ["MaskedImage", "mask_of"]

WITH_ALPHA = ("uint8", "uint16", "bool")  # types for which GDAL reads an opacity
REDUCED, MASK = 1, 4  # bits of NewSubfileType


def mask_of(file: Any, place: int, axes: str, shape: tuple[int, ...]) -> int | None:
    """Return the place of the mask of an image among the series of a file, or None.

    Parameters
    ----------
    file : tifffile.TiffFile
    place : int
        Place of the image; a mask belongs to the image only if the file holds no other image.
    axes : str
        Axes of the image as it is read.
    shape : tuple of int
    """
    kinds = [int(series.keyframe.subfiletype) for series in file.series]
    images = [at for at, kind in enumerate(kinds) if not kind & (REDUCED | MASK)]
    if images != [place] or axes not in ("YX", "YXS"):
        return None
    for at, kind in enumerate(kinds):
        if kind & MASK and not kind & REDUCED and tuple(file.series[at].shape) == shape[:2]:
            return at
    return None


def _unused(dtype: np.dtype[Any]) -> Any:
    """Return the number that marks missing samples of a type: NaN, or the end of its range."""
    if dtype.kind not in "iu":
        return np.nan
    ends = np.iinfo(dtype)
    return int(ends.min if dtype.kind == "i" else ends.max)


@dataclass(frozen=True)
class MaskedImage:
    """An image whose invalid pixels are missing or transparent.

    Attributes
    ----------
    path : Path
    place : int
        Place of the mask among the series of the file.
    info : ImageInfo
        Metadata of the image with the mask.
    fill : number or None
        Number of invalid pixels; None if the mask becomes the opacity.
    added : bool
        Whether the opacity is one more sample than those of the file.
    """

    path: Path
    place: int
    info: ImageInfo
    fill: Any
    added: bool

    @classmethod
    def of(cls, path: Path, place: int, info: ImageInfo, dtype: np.dtype[Any]) -> MaskedImage:
        """Return how the mask of an image is obeyed; `info` and `dtype` are those of the image."""
        known = [v for v in info.nodata if v == v and fits_dtype(v, dtype)]
        if known or dtype.name not in WITH_ALPHA:
            fill = known[0] if known else _unused(dtype)
            note = "pixels that the internal mask of the file leaves out are missing"
            nodata = info.nodata or (fill,)
            info = replace(info, nodata=nodata, notes=(*info.notes, note))
            return cls(path, place, info, fill, False)
        note = "the internal mask of the file was converted to alpha"
        added = info.alpha is None
        kept = {**info.options.get("samples", {"colour": False, "planar": False}), "extra": ()}
        if added:
            info = replace(info, axes="YXS", options={**info.options, "samples": kept})
            if info.spacing is not None:
                info = replace(info, spacing=(*info.spacing[:2], None))
        return cls(path, place, replace(info, notes=(*info.notes, note)), None, added)

    def placed(self, samples: int) -> MaskedImage:
        """Return the same with the place of the opacity; `samples` is the number of samples in the file."""
        alpha = Alpha(samples) if self.added else self.info.alpha
        return replace(self, info=replace(self.info, alpha=alpha))

    def applied(self, values: Array, valid: Array) -> Array:
        """Return pixels with all their samples as the mask means them."""
        if self.fill is not None:
            return np.where(
                valid if values.ndim == 2 else valid[..., None], values, self.fill
            ).astype(values.dtype)
        most = 1 if values.dtype.kind == "b" else np.iinfo(values.dtype).max
        if self.added:
            opacity = np.where(valid, most, 0).astype(values.dtype)[..., None]
            return np.concatenate([np.atleast_3d(values), opacity], axis=2)
        assert self.info.alpha is not None
        result = np.array(values)
        result[..., self.info.alpha.index][~valid] = 0
        return result

    def source(self, stored: Source) -> Source:
        """Return a source of the pixels of `stored` as the mask means them."""
        mask = _Mask(self.path, self.place)
        samples = 1 if stored.ndim == 2 else stored.shape[2]
        shape = (*stored.shape[:2], samples + 1) if self.added else stored.shape
        chunks = stored.chunks
        if chunks is not None and len(shape) == 3:
            chunks = (*chunks[:2], shape[2])

        def fetch(region: Region) -> Array:
            pixels = region[:2]
            every = (slice(None),) * (stored.ndim - 2)
            found = self.applied(stored.fetch((*pixels, *every)), mask.read(pixels))
            return found[..., region[2]] if len(shape) == 3 else found

        def release() -> None:
            mask.close()
            stored.release()

        return replace(
            stored, shape=shape, chunks=chunks, info=self.info, fetch=fetch, release=release
        )


class _Mask:
    """A mask, opened when a region of it is read for the first time."""

    def __init__(self, path: Path, place: int) -> None:
        self._path, self._place = path, place
        self._lock = threading.Lock()
        self._opened: tuple[Any, Callable[[], None]] | None = None

    def read(self, region: Region) -> Array:
        with self._lock, codec_named(self._path):
            if self._opened is None:
                self._opened = self._open()
            return np.asarray(np.not_equal(self._opened[0][region], 0))

    def _open(self) -> tuple[Any, Callable[[], None]]:
        import tifffile  # start-up time

        zarr = import_package("zarr", self._path)
        file = tifffile.TiffFile(self._path)
        node = zarr.open(file.series[self._place].aszarr(level=0), mode="r")
        return node, file.close

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened[1]()
                self._opened = None
