"""`ImageInfo`: axes, spacing, unit and other metadata of an image file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPACE", "Alpha", "Array", "ImageInfo", "affine_of"]

Array: TypeAlias = NDArray[Any]

SPACE = frozenset("ZYXQI")  # letters of the TIFF axes that a filter runs along; Q and I: unknown


@dataclass(frozen=True)
class Alpha:
    """The opacity of each pixel, one of the samples along axis S.

    Attributes
    ----------
    index : int
        Index of the opacity along axis S, >= 0.
    premultiplied : bool
        Whether the file stores the colours multiplied by the opacity.

    Examples
    --------
    >>> ImageInfo("YXS", alpha=Alpha(3)).alpha
    Alpha(index=3, premultiplied=False)
    """

    index: int
    premultiplied: bool = False


@dataclass(frozen=True)
class ImageInfo:
    """Metadata of an image file: everything except its samples.

    Attributes
    ----------
    axes : str
        One letter per axis, as in TIFF: Z Y X space, S colour samples, C channels, T time, L
        spectrum, Q and I unknown. Empty if the file does not say.
    options : dict
        Further metadata that the format needs to write the same file again, such as the
        resolution. `Format.options` describes the keys.
    format : str
        Name of the format that the image was read from.
    notes : tuple of str
        Notes for the user, for instance that the file contains several images.
    spacing : tuple of float or None
        Distance between samples along each axis, in `unit`; None for an axis that is not space or
        whose spacing is unknown. None if the file has no spacing.
    unit : str
        Unit of `spacing`: mm, um, m ...; empty if the file does not say.
    affine : ndarray, optional
        Matrix from indices to coordinates, shape ``(4, 4)``, in `unit`, as in NIfTI.
    names : tuple of str
        Names of the axes, if the file has names longer than letters.
    alpha : Alpha, optional
        Which of the samples along axis S is the opacity.
    nodata : tuple of numbers
        Values of samples that are missing, as the file declares them; NaN may be among them.

    Examples
    --------
    >>> ImageInfo("ZYX", spacing=(3.0, 1.0, 1.0), unit="mm").spacing
    (3.0, 1.0, 1.0)
    """

    axes: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    format: str = ""
    notes: tuple[str, ...] = ()
    spacing: tuple[float | None, ...] | None = None
    unit: str = ""
    affine: NDArray[np.float64] | None = field(default=None, compare=False)
    names: tuple[str, ...] = ()
    alpha: Alpha | None = None
    nodata: tuple[Any, ...] = ()

    def space(self, ndim: int) -> tuple[int, ...]:
        """Return the spatial axes, that is neither colour nor channels nor time.

        Examples
        --------
        >>> ImageInfo("YXS").space(3), ImageInfo().space(3)
        ((0, 1), (0, 1, 2))
        """
        if len(self.axes) != ndim:
            return tuple(range(ndim))
        return tuple(i for i, letter in enumerate(self.axes) if letter in SPACE)


def affine_of(value: Any) -> NDArray[np.float64] | None:
    """Return the value of an attribute as an affine matrix, or None if it is not one."""
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError):
        return None
    if matrix.shape == (16,):  # netCDF attributes have one axis
        matrix = matrix.reshape(4, 4)
    return matrix if matrix.shape == (4, 4) else None
