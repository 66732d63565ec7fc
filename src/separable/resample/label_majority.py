"""Resample labels by majority: the label that covers the largest part of each output."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import OUTSIDE
from separable.resample.band_matrix import Band
from separable.resample.band_passes import run_bands

__all__ = ["majority"]

Array = NDArray[Any]

BLOCK = 1 << 16  # outputs that are decided together: few labels meet in them


def majority(
    image: Array, bands: Mapping[int, Band], out: Array, cval: Any, threads: int | None
) -> None:
    """Write the label with the largest weight of each output; of several the lowest.

    Parameters
    ----------
    image : ndarray of bool or integers
    bands : mapping of int to Band
        Weights >= 0 along each of some axes.
    out : ndarray
        The array to write into, of the shape of the result.
    cval : number
        The label outside the image, where a border mode fills it in.
    threads : int, optional

    Examples
    --------
    >>> halves = Band(np.array([0, 3]), np.full((2, 3), 1 / 3), np.arange(6), 6)
    >>> found = np.empty(2, int)
    >>> majority(np.array([5, 7, 7, 2, 2, 5]), {0: halves}, found, 0, None)
    >>> found
    array([7, 2])
    """
    sides = _sides(out.shape)
    for corner in itertools.product(
        *(range(0, n, side) for n, side in zip(out.shape, sides, strict=True))
    ):
        place = tuple(
            slice(c, min(c + s, n)) for c, s, n in zip(corner, sides, out.shape, strict=True)
        )
        _decide(image, bands, out, place, cval, threads)


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of blocks, as equal as the shape allows."""
    sides = [1] * len(shape)
    while True:
        open_axes = [a for a, n in enumerate(shape) if sides[a] < n]
        if not open_axes or np.prod(sides) * 2 > BLOCK:
            return tuple(sides)
        axis = min(open_axes, key=lambda a: sides[a])
        sides[axis] = min(2 * sides[axis], shape[axis])


def _decide(
    image: Array,
    bands: Mapping[int, Band],
    out: Array,
    place: tuple[slice, ...],
    cval: Any,
    threads: int | None,
) -> None:
    """Decide one block of outputs."""
    source, parts, fills = list(place), {}, False
    for axis, band in bands.items():
        part = band.part(place[axis].start, place[axis].stop)
        first, last = part.needs(0, part.size)
        parts[axis] = part.of_block(first, last)
        source[axis] = slice(first, last)
        fills = fills or bool((part.gathered == OUTSIDE).any())
    samples = image[tuple(source)]
    labels = np.unique(samples)
    if fills:
        labels = np.union1d(labels, np.array([cval], image.dtype))
    if len(labels) == 1:
        out[place] = labels[0]
        return
    shape = out[place].shape
    best, weight = np.zeros(shape, np.float32), np.empty(shape, np.float32)
    found = np.full(shape, labels[0], image.dtype)
    for label in labels:
        run_bands(
            (samples == label).astype(np.float32), parts, weight,
            cval=float(label == cval), threads=threads,
        )  # fmt: skip
        larger = weight > best * (1 + 1e-6)  # rounding errors are not a larger part
        np.copyto(found, label, where=larger)
        np.copyto(best, weight, where=larger)
    out[place] = found
