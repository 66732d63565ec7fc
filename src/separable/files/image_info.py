"""What a file says about an image besides its samples: axes, spacing, unit and other metadata."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPACE", "Array", "ImageInfo", "affine_of"]

Array: TypeAlias = NDArray[Any]

SPACE = frozenset("ZYXQI")  # letters of the TIFF axes that a filter runs along; Q and I: unknown


@dataclass(frozen=True)
class ImageInfo:
    """What a file says about an image besides its numbers.

    Attributes
    ----------
    axes : str
        One letter an axis, as TIFF has them: Z Y X space, S colour samples, C channels, T time,
        L spectrum, Q and I unknown. Empty where the file does not say.
    options : dict
        What the format of that name needs to write the same again, such as the resolution.
    format : str
        The name of the format it was read from.
    notes : tuple of str
        What a reader should know, for instance that the file holds more than this image.
    spacing : tuple of float or None
        From one sample to the next, one an axis, in `unit`; None for an axis that is not space
        or of which the file does not say it. None where it says nothing at all.
    unit : str
        Of `spacing`: mm, um, m ...; empty where the file does not say.
    affine : ndarray, optional
        From indices to places, ``(4, 4)``, in `unit`, as NIfTI has it.
    names : tuple of str
        Of the axes, where the file has longer ones than letters.

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

    def space(self, ndim: int) -> tuple[int, ...]:
        """Return the axes that are space: neither colour nor channels nor time.

        Examples
        --------
        >>> ImageInfo("YXS").space(3), ImageInfo().space(3)
        ((0, 1), (0, 1, 2))
        """
        if len(self.axes) != ndim:
            return tuple(range(ndim))
        return tuple(i for i, letter in enumerate(self.axes) if letter in SPACE)


def affine_of(value: Any) -> NDArray[np.float64] | None:
    """Return what an attribute of that name holds, if it is one."""
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError):
        return None
    return matrix if matrix.shape == (4, 4) else None
