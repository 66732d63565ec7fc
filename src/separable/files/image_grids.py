"""`GridChange`: where the samples of a resampled image lie, in samples of the image before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["GridChange"]


@dataclass(frozen=True)
class GridChange:
    """Places of the samples of a new grid along each axis: ``firsts[a] + i * steps[a]``.

    Attributes
    ----------
    before, shape : tuple of int
        Shapes of the old and of the new image.
    steps : tuple of float
        Distance between new samples, in old samples; 1 for an axis that stays.
    firsts : tuple of float
        Place of the first new sample, in old samples; 0 for an axis that stays.

    Examples
    --------
    >>> GridChange((4,), (2,), (2.0,), (0.5,)).corner(0, 4.0)
    2.0
    """

    before: tuple[int, ...]
    shape: tuple[int, ...]
    steps: tuple[float, ...]
    firsts: tuple[float, ...]

    def index(self, axis: int, place: float) -> float:
        """Return the new index of an old one, both counted from the centre of the first sample."""
        return (place - self.firsts[axis]) / self.steps[axis]

    def corner(self, axis: int, place: float) -> float:
        """Return the new place of an old one, both counted from the outer edge of the first sample."""
        return self.index(axis, place - 0.5) + 0.5

    def fitted(self, chunks: Sequence[int] | None) -> tuple[Any, ...] | None:
        """Return chunk sizes that are at most the sizes of the new image."""
        if chunks is None or len(chunks) != len(self.shape):
            return None
        return tuple(min(c, n) for c, n in zip(chunks, self.shape, strict=True))
