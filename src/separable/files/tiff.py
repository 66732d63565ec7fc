"""TIFF, also volumes, by tifffile."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.errors import FileError
from separable.files.formats import Array, Format, ImageInfo, check_memory

__all__ = ["TIFF"]


def _read_tiff(path: Path) -> tuple[Array, ImageInfo]:
    import tifffile

    with _damage_raises(), tifffile.TiffFile(path) as file:
        series = file.series[0]
        check_memory(path, series.shape, series.dtype)
        try:
            array = np.asarray(series.asarray())
        except ValueError as error:
            if "imagecodecs" in str(error):
                codec = str(error).partition(":")[0].rpartition(".")[2]
                raise FileError(
                    f"cannot read {path}: its compression {codec} needs another package. "
                    "Install it: pip install imagecodecs"
                ) from None
            raise
        options = _tiff_options(file)
        count = len(file.series)
    notes = (f"took the first of {count} images in {path.name}",) if count > 1 else ()
    return array, ImageInfo(str(series.axes), options, notes=notes)


@contextlib.contextmanager
def _damage_raises() -> Iterator[None]:
    """Raise what tifffile only logs: a file cut short would come back with fewer pages."""
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


def _tiff_options(file: Any) -> dict[str, Any]:
    """The resolution, and what ImageJ says of the third axis."""
    page = file.pages[0]
    options: dict[str, Any] = {}
    if "XResolution" in page.tags and "YResolution" in page.tags:
        options["resolution"] = tuple(page.tags[f"{a}Resolution"].value for a in "XY")
        options["resolutionunit"] = int(getattr(page, "resolutionunit", 1))
    if file.is_imagej and file.imagej_metadata:
        kept = {k: v for k, v in file.imagej_metadata.items() if k in ("spacing", "unit")}
        options["imagej"] = kept
    return options


def _write_tiff(file: BinaryIO, array: Array, info: ImageInfo) -> None:
    import tifffile

    known = len(info.axes) == array.ndim
    axes = info.axes if known else ""
    options = {k: v for k, v in info.options.items() if k in ("resolution", "resolutionunit")}
    imagej = info.options.get("imagej")
    if imagej is not None and array.dtype.name in ("uint8", "uint16", "float32") and known:
        metadata = {**imagej, "axes": axes}
        tifffile.imwrite(file, array, imagej=True, metadata=metadata, **options)
        return
    colour = axes[-1:] == "S" and array.shape[-1] in (3, 4) and array.dtype.kind == "u"
    options["photometric"] = "rgb" if colour else "minisblack"
    if "S" in axes and not colour:  # samples elsewhere than last, or more of them than colours
        axes = axes.replace("S", "C")
    tifffile.imwrite(file, array, metadata={"axes": axes} if axes else {}, **options)


def _refuse_tiff(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if len(shape) < 2 or 0 in shape:
        return f"a TIFF image has two axes or more and is not empty; got shape {shape}. Write .npy"
    return ""


TIFF = Format(
    "TIFF",
    (".tif", ".tiff"),
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    _read_tiff,
    _write_tiff,
    _refuse_tiff,
)
