"""Voxel sizes of NIfTI: the affine decides where the header contradicts itself, as in nilearn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import FileError

__all__ = ["Geometry", "geometry_of"]

EQUAL = 1e-3  # relative: headers store sizes in float32, and programs round them


@dataclass(frozen=True)
class Geometry:
    """Affine and voxel sizes of a NIfTI image.

    Attributes
    ----------
    affine : ndarray, shape (4, 4)
        Matrix from indices to coordinates.
    steps : tuple of float or None
        Voxel size along x, y and z; None where it is unknown.
    note : str
        Which of two contradicting statements is used; may be empty.
    """

    affine: NDArray[np.float64]
    steps: tuple[float | None, ...]
    note: str = ""

    def repair(self, header: Any) -> None:
        """Write the voxel sizes into a header whose `pixdim` contradicts them; 0 for unknown ones."""
        if self.note:  # the form that is not used would contradict the result again
            if not np.array_equal(header.get_best_affine(), self.affine):
                header.set_sform(self.affine, code="aligned")
            for axis, step in enumerate(self.steps[: len(header.get_data_shape())]):
                header["pixdim"][axis + 1] = 0.0 if step is None else step


def geometry_of(image: Any) -> Geometry:
    """Return the affine and the voxel sizes of a nibabel image.

    The affine is that of the sform, else of the qform, as in nibabel. If it is singular or not
    finite, the qform or the voxel sizes of the header are used.

    Raises
    ------
    FileError
        If neither says how large the voxels are.
    """
    stored, count = _stored_sizes(image), min(3, len(image.shape))
    affine = np.array(image.affine, float)
    known = tuple(float(s) if 0 < s < math.inf else None for s in stored)
    if not int(image.header["sform_code"]):  # the affine is made of the voxel sizes
        unknown = (
            ""
            if None not in known[:count]
            else (
                f"its voxel sizes {_sizes(stored[:count])} are not all > 0, and it has no other affine; "
                "give the spacing where it is needed"
            )
        )
        return Geometry(affine, known, unknown)
    if _is_regular(affine, count):
        sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        if (np.abs(stored - sizes) <= EQUAL * sizes)[:count].all():
            return Geometry(affine, known)
        return Geometry(
            affine, tuple(float(s) for s in sizes), _contradiction(stored[:count], sizes[:count])
        )
    why = "its affine (sform) is singular or not finite; "
    qform, code = image.header.get_qform(coded=True)
    if code and qform is not None and None not in known[:count]:
        return Geometry(np.array(qform, float), known, why + "its qform is used")
    if None in known[:count]:
        raise FileError(
            f"cannot read {image.get_filename()}: {why}its voxel sizes are "
            f"{_sizes(stored[:count])}. Correct its header, for instance with nibabel"
        )
    base = np.diag([*(s or 1.0 for s in known), 1.0])
    return Geometry(base, known, why + f"its voxel sizes {_sizes(stored[:count])} are used")


def _stored_sizes(image: Any) -> NDArray[np.float64]:
    """Return the voxel sizes as the file has them: nibabel replaces 0 by 1."""
    holder = image.file_map.get("header") or image.file_map["image"]
    try:
        with holder.get_prepare_fileobj("rb") as file:
            header = type(image.header).from_fileobj(file, check=False)
    except (AttributeError, TypeError):  # pragma: no cover - an image without a file
        header = image.header
    sizes: NDArray[np.float64] = np.abs(np.array(header["pixdim"][1:4], np.float64))
    return sizes


def _is_regular(affine: NDArray[np.float64], count: int) -> bool:
    """Return whether an affine tells `count` axes apart."""
    if not np.isfinite(affine).all():
        return False
    matrix = affine[:3, :count]
    sizes = np.sqrt((matrix**2).sum(axis=0))
    return bool((sizes > 0).all() and np.linalg.svd(matrix / sizes)[1][-1] > 1e-6)


def _contradiction(stored: NDArray[np.float64], sizes: NDArray[np.float64]) -> str:
    return (
        f"its voxel sizes {_sizes(stored)} contradict its affine; those of the affine, "
        f"{_sizes(sizes)}, are used"
    )


def _sizes(sizes: NDArray[np.float64]) -> str:
    return "x".join(f"{s:.6g}" for s in sizes)
