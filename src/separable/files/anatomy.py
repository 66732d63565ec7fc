"""Position and direction of medical images: from the coordinates of DICOM and ITK to those of NIfTI and back.

DICOM, MetaImage and NRRD measure positions to the left (L), posterior (P) and superior (S); NIfTI and
`ImageInfo.affine` to the right, anterior and superior. The columns of an affine are the steps
along x, y and z.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.files.image_info import ImageInfo

__all__ = ["MILLIMETRES", "Frame", "file_axes", "frame_of", "info_with_frame", "lps_affine"]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
MILLIMETRES = {"": 1.0, "mm": 1.0, "um": 1e-3, "nm": 1e-6, "cm": 10.0, "m": 1000.0,
               "km": 1e6, "A": 1e-7, "pm": 1e-9, "in": 25.4}  # fmt: skip
PLACES = {"T": 0, "Z": 1, "Y": 2, "X": 3, "S": 4, "C": 4, "L": 4}  # from the slowest axis


class Frame:
    """Origin, spacing and direction of an image, in millimetres to the left, posterior and superior.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Matrix from indices (x, y, z) to positions.

    Attributes
    ----------
    origin : ndarray, shape (3,)
    spacing : ndarray, shape (3,)
    direction : ndarray, shape (3, 3)
        Unit vectors of x, y and z as columns.
    """

    def __init__(self, affine: NDArray[np.float64]) -> None:
        self.affine = affine
        self.origin = affine[:3, 3]
        self.spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        self.direction = affine[:3, :3] / np.where(self.spacing > 0, self.spacing, 1.0)


def lps_affine(origin: Any, spacing: Any, direction: Any) -> NDArray[np.float64]:
    """Return the affine of up to three axes, from their origin, spacing and unit vectors (columns).

    Examples
    --------
    >>> lps_affine([1, 2], [3, 4], np.eye(2)).tolist()[0]
    [3.0, 0.0, 0.0, 1.0]
    """
    affine, count = np.eye(4), len(spacing)
    affine[:count, :count] = np.asarray(direction, float) * np.asarray(spacing, float)
    affine[:count, 3] = origin
    return affine


def info_with_frame(
    axes: str, affine: NDArray[np.float64], options: dict[str, Any], **more: Any
) -> ImageInfo:
    """Return the metadata of an image whose affine is given in the coordinates of DICOM."""
    steps = dict(zip("XYZ", np.sqrt((affine[:3, :3] ** 2).sum(axis=0)), strict=True))
    spacing = tuple(float(steps[letter]) if letter in steps else None for letter in axes)
    return ImageInfo(axes, options, spacing=spacing, unit="mm", affine=LPS @ affine, **more)


def frame_of(info: ImageInfo, ndim: int) -> Frame:
    """Return the position and direction of an image; without an affine, from its spacing."""
    factor = MILLIMETRES.get(info.unit, 1.0)
    if info.affine is not None:
        affine = LPS @ info.affine
        affine[:3] *= factor
        return Frame(affine)
    axes, _ = file_axes(info.axes, ndim)
    known = info.spacing if info.spacing is not None and len(info.spacing) == ndim else ()
    steps = {letter: s for letter, s in zip(axes, known, strict=False) if s}
    return Frame(np.diag([*(float(steps.get(a, 1.0 / factor)) * factor for a in "XYZ"), 1.0]))


def file_axes(axes: str, ndim: int) -> tuple[str, tuple[int, ...]]:
    """Return the letters of the array axes, and the array axes from the slowest to the fastest in a file.

    x is the fastest spatial axis, as ITK has it; axes of unknown letters stay in the order of memory.

    Examples
    --------
    >>> file_axes("XYZ", 3), file_axes("ZYXC", 4), file_axes("", 2)
    (('XYZ', (2, 1, 0)), ('ZYXC', (0, 1, 2, 3)), ('YX', (0, 1)))
    """
    places = [PLACES.get(letter, -1) for letter in axes]
    if len(axes) != ndim or -1 in places or len(set(places)) != ndim:
        letters = "TZYX"[-ndim:] if ndim <= 4 else "Q" * (ndim - 4) + "TZYX"
        return letters, tuple(range(ndim))
    return axes, tuple(int(i) for i in np.argsort(places))
