"""Checks of TIFF files: damage that tifffile only logs, truncated pages, and codecs that are missing."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from separable.errors import FileError
from separable.files.diagnostics import DEFLATE_RATIO, check_packed

__all__ = ["check_pages", "codec_named", "damage_raises"]

# Largest compression ratios of the codecs that need no other package: none, LZW, deflate (two
# codes) and PackBits.
RATIOS = {1: 1, 5: 4096, 8: DEFLATE_RATIO, 32946: DEFLATE_RATIO, 32773: 128}
NODATA_TAG = "GDAL_NODATA"  # tifffile reports values outside the type; `nodata_of` reads them


@contextlib.contextmanager
def codec_named(path: Path) -> Iterator[None]:
    """Name the package that a codec needs, if it is not installed.

    Raises
    ------
    FileError
    """
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


def check_pages(path: Path, file: Any, series: Any) -> None:
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
def damage_raises() -> Iterator[None]:
    """Raise errors that tifffile only logs: a truncated file would be read with fewer pages."""
    log, found = logging.getLogger("tifffile"), list[str]()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR and NODATA_TAG not in record.getMessage():
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
