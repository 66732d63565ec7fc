"""Rescale a filtered volume to the range of its type, in parts: the second half of `filter(rescale=...)`.

The range is known only once everything is filtered. The filter therefore writes floats to a file beside
the target, whose samples are then read twice or three times: for the minimum and maximum, for percentiles,
and to be scaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.files.chunked_io import Region, Source, Target, boxes, draft_of, remove
from separable.files.image_filter import check_percentiles, scaled_between
from separable.files.opening import create_target, open_source
from separable.masked import Opacity, check_fill
from separable.run import store

__all__ = ["middle_path", "write_rescaled"]

Array = NDArray[Any]

BINS = 1 << 16  # of the histogram: percentiles are exact to 1 / 65536 of the range
PART_BYTES = 32 << 20  # samples that are read at a time


def middle_path(target: Path) -> Path:
    """Return the file of floats beside a target.

    Examples
    --------
    >>> middle_path(Path("out.tif")).name
    'out.tif.partial.float.npy'
    """
    return target.with_name(draft_of(target).name + ".float.npy")


def write_rescaled(
    source: Callable[[], Source],
    target: Path,
    out: np.dtype[Any],
    percentiles: tuple[float, float],
    *,
    fill: Any = math.nan,
    opacity: Opacity | None = None,
    overwrite: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Target:
    """Write the floats beside a target, scaled to the range of its type, and remove them.

    Parameters
    ----------
    source : callable
        Opens the file whose metadata the target has.
    target : Path
    out : dtype
        Type of the target.
    percentiles : (float, float)
        Percentiles that become the ends of the range.
    fill : number
        Value instead of NaN in integer results.
    opacity : Opacity, optional
        Place of samples that are not scaled.
    overwrite : bool
    progress : callable, optional
        Called with the fraction of the work just done.

    Returns
    -------
    Target
        The finished file, with its notes.

    Raises
    ------
    FileError
        If a file cannot be read or written.
    """
    check_percentiles(percentiles)
    middle = middle_path(target)
    with open_source(middle) as values, source() as like:
        low, high = _ends(values, percentiles, opacity)
        made = create_target(
            target, values.shape, out, info=replace(like.info, notes=()), like=like,
            overwrite=overwrite,
        )  # fmt: skip
        try:
            for region in _parts(values, made.chunks):
                part = values.read(region)
                made.write(region, _scaled(part, region, (low, high), out, fill, opacity))
                if progress is not None:
                    progress(part.size / max(1, math.prod(values.shape)))
            made.finish()
        except BaseException:
            made.abandon(keep=False)
            raise
    remove(middle)
    return made


def _scaled(
    part: Array,
    region: Region,
    ends: tuple[float, float],
    out: np.dtype[Any],
    fill: Any,
    opacity: Opacity | None,
) -> Array:
    scaled = scaled_between(part, *ends, out)
    if opacity is not None:
        at = _alpha(part, region, opacity)
        scaled[at] = part[at]
    missing = np.isnan(scaled)
    if out.kind in "biu" and missing.any():
        scaled[missing] = check_fill(fill, out)
    result = np.empty(scaled.shape, out)
    store(np.ascontiguousarray(scaled), result, 1)
    return result


def _alpha(part: Array, region: Region, opacity: Opacity) -> tuple[slice, ...]:
    """Return the place of the opacity in a part; an empty one if it is not in it."""
    place = opacity.index - region[opacity.axis].start
    inside = 0 <= place < part.shape[opacity.axis]
    return (slice(None),) * opacity.axis + (slice(place, place + 1) if inside else slice(0, 0),)


def _ends(
    values: Source, percentiles: tuple[float, float], opacity: Opacity | None
) -> tuple[float, float]:
    """Return two percentiles of the finite samples."""
    low, high = math.inf, -math.inf
    for part in _finite(values, opacity):
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    if percentiles == (0, 100) or not low < high:
        return low, high
    counts = np.zeros(BINS, np.int64)
    for part in _finite(values, opacity):
        counts += np.histogram(part, BINS, (low, high))[0]
    below = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    edges = np.linspace(low, high, BINS + 1)
    first, last = np.interp(np.array(percentiles) / 100, below, edges)
    return float(first), float(last)


def _finite(values: Source, opacity: Opacity | None) -> Iterator[Array]:
    for region in _parts(values, None):
        part = values.read(region)
        if opacity is not None:
            at = _alpha(part, region, opacity)
            part[at] = math.nan
        finite = part[np.isfinite(part)]
        if finite.size:
            yield finite


def _parts(values: Source, chunks: tuple[int, ...] | None) -> Iterator[Region]:
    """Yield regions of a few megabytes along the slowest axis, at the borders of chunks."""
    row = max(1, values.nbytes // max(1, values.shape[0]))
    count = max(1, PART_BYTES // row)
    step = chunks[0] if chunks else 1
    return boxes(values.shape, (-(-count // step) * step, *values.shape[1:]))
