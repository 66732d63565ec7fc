"""Metadata of images on another grid: spacing, affine, and what each format says about positions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from separable.files.format_registry import registered_formats
from separable.files.image_grids import GridChange
from separable.files.image_info import ImageInfo

__all__ = ["info_on_grid"]


@dataclass(frozen=True)
class _Placed:
    affine: NDArray[np.float64] | None
    note: str = ""


def info_on_grid(info: ImageInfo, change: GridChange) -> ImageInfo:
    """Return the metadata of an image after its samples were computed at other places.

    Parameters
    ----------
    info : ImageInfo
        Metadata of the image before.
    change : GridChange
        Places of the new samples.

    Examples
    --------
    >>> half = GridChange((4, 6), (2, 3), (2.0, 2.0), (0.5, 0.5))
    >>> info_on_grid(ImageInfo("YX", spacing=(3.0, 1.0), unit="mm"), half).spacing
    (6.0, 2.0)
    """
    spacing = info.spacing
    if spacing is not None and len(spacing) == len(change.steps):
        spacing = tuple(
            None if s is None else s * step for s, step in zip(spacing, change.steps, strict=True)
        )
    placed = _moved(info, change)
    notes = (*info.notes, *filter(None, [placed.note]))
    moved = replace(info, spacing=spacing, affine=placed.affine, notes=notes)
    for format in registered_formats():
        if format.name == info.format and format.on_grid is not None:
            options, note = format.on_grid(moved, change)
            moved = replace(moved, options=options, notes=(*notes, *filter(None, [note])))
    return moved


def _moved(info: ImageInfo, change: GridChange) -> _Placed:
    """Return the affine of the new grid: old index = first + step * new index along each axis."""
    if info.affine is None:
        return _Placed(None)
    if len(info.axes) != len(change.steps):
        return _Placed(None, "the affine is left out, because the axes have no names")
    matrix = np.eye(4)
    for axis, letter in enumerate(info.axes):
        if letter in "XYZ":
            column = "XYZ".index(letter)
            matrix[column, column] = change.steps[axis]
            matrix[column, 3] = change.firsts[axis]
    return _Placed(info.affine @ matrix)
