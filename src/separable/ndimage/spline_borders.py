"""The border modes of SciPy's interpolation, some of which mean other things than those of its filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.borders import CONSTANT, MIRROR, REFLECT, WRAP, Border, canonical
from separable.errors import ModeError

__all__ = ["SplineBorder", "spline_border"]

Indices: TypeAlias = NDArray[np.int64]
Places: TypeAlias = NDArray[np.float64]
PADDING = 12  # samples that SciPy adds at both ends before it computes coefficients, for "nearest"


@dataclass(frozen=True)
class SplineBorder:
    """A border mode of interpolation that extends the image and its coefficients alike.

    Attributes
    ----------
    name : str
    coefficients : Border
        The border of the filter that computes coefficients.
    better : str
        The mode that SciPy recommends instead with ``grid_mode``; may be empty.
    """

    name: str
    coefficients: Border
    better: ClassVar[str] = ""

    def padding(self, filtered: bool) -> int:
        """Return how many samples are added before coefficients are computed."""
        return 0

    def mapped(self, places: Places, length: int, padding: int) -> tuple[Places, NDArray[np.bool_]]:
        """Return where values are taken instead of `places`, and which of them are the constant."""
        return places, np.zeros(len(places), bool)

    def samples(self, length: int, padding: int) -> Border | Callable[[int, int], Indices]:
        """Return the samples at positions outside the image, as `extended_band` takes them."""
        return self.coefficients


class _Reflect(SplineBorder):
    """A reflection about the outer edges: of two samples that are equally near SciPy takes the reflected one."""

    def mapped(self, places: Places, length: int, padding: int) -> tuple[Places, NDArray[np.bool_]]:
        moved = np.mod(places, 2 * length)
        moved = np.where(moved >= length, 2 * length - 1 - moved, moved)
        beyond = (places < -0.5) | (places > length - 0.5)
        return np.where(beyond, moved, places), np.zeros(len(places), bool)


class _Mirror(SplineBorder):
    """A reflection about the centres of the outer samples."""

    def mapped(self, places: Places, length: int, padding: int) -> tuple[Places, NDArray[np.bool_]]:
        period = 2 * length - 2
        moved = np.mod(places, period) if period else np.zeros_like(places)
        moved = np.where(moved > length - 1, period - moved, moved)
        beyond = (places < 0) | (places > length - 1)
        return np.where(beyond, moved, places), np.zeros(len(places), bool)


class _Constant(SplineBorder):
    """The constant beyond the centres of the outer samples; nothing is interpolated with it."""

    better = "grid-constant"

    def mapped(self, places: Places, length: int, padding: int) -> tuple[Places, NDArray[np.bool_]]:
        outside = (places < 0) | (places > length - 1)
        return np.where(outside, 0.0, places), outside


class _Wrap(SplineBorder):
    """A period of one sample less than the image: its last sample is its first one."""

    better = "grid-wrap"

    def mapped(self, places: Places, length: int, padding: int) -> tuple[Places, NDArray[np.bool_]]:
        last = length - 1
        beyond = (places < 0) | (places > last)
        moved = np.where(beyond, np.mod(places, last) if last else 0.0, places)
        return moved, np.zeros(len(places), bool)


class _Nearest(SplineBorder):
    """The sample at the edge, which SciPy repeats a few times before it reflects the whole."""

    def padding(self, filtered: bool) -> int:
        return PADDING if filtered else 0

    def mapped(self, places: Places, length: int, padding: int) -> tuple[Places, NDArray[np.bool_]]:
        moved = np.clip(places, -padding, length - 1 + padding)
        return moved, np.zeros(len(places), bool)

    def samples(self, length: int, padding: int) -> Border | Callable[[int, int], Indices]:
        wide = length + 2 * padding

        def padded(start: int, stop: int) -> Indices:
            found = REFLECT.samples(wide, start + padding, stop + padding) - padding
            return np.clip(found, 0, length - 1)

        return padded


class _GridConstant(SplineBorder):
    """The constant outside, with which values near the edge are interpolated."""

    def samples(self, length: int, padding: int) -> Border | Callable[[int, int], Indices]:
        return CONSTANT


_MODES = {
    one.name: one
    for one in (
        _Reflect("reflect", REFLECT), _Reflect("grid-mirror", REFLECT),
        _Mirror("mirror", MIRROR), SplineBorder("grid-wrap", WRAP),
        _Constant("constant", MIRROR), _GridConstant("grid-constant", MIRROR),
        _Nearest("nearest", REFLECT), _Wrap("wrap", MIRROR),
    )
}  # fmt: skip


def spline_border(mode: Any) -> SplineBorder:
    """Return the border mode of interpolation with a name; registered borders extend image and coefficients.

    Raises
    ------
    ModeError
        If there is no such mode.

    Examples
    --------
    >>> spline_border("grid-wrap").coefficients
    <Border wrap>
    """
    if isinstance(mode, str) and mode in _MODES:
        return _MODES[mode]
    try:
        border = canonical(mode)
    except ModeError as error:
        raise ModeError(f"boundary mode not supported: {error}") from None
    return SplineBorder(border.name, border)
