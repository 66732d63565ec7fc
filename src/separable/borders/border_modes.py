"""The base class of border modes, and the five built-in ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CONSTANT",
    "MIRROR",
    "NEAREST",
    "OUTSIDE",
    "REFLECT",
    "WRAP",
    "Border",
    "Indices",
    "Mode",
    "Modes",
    "runs_of",
]

Indices: TypeAlias = NDArray[np.intp]

OUTSIDE = -1  # in an index map: the constant


class Border(ABC):
    """A border mode: a frozen value that owns every fact about it.

    A subclass needs a `name`, a line of `help`, a `picture` and the method `extension`. The other
    methods follow from `extension`, correctly if not always fast; the built-in modes override them
    only to be faster. Parameters of a mode are fields of a frozen dataclass.

    Attributes
    ----------
    name : str
        Its name: lower-case letters, digits, ``-`` and ``_``.
    aliases : tuple of str
        Other names for it.
    help : str
        One line that says what lies outside.
    picture : str
        The samples outside ``a b c d``, such as ``"d c b a | a b c d | d c b a"``.
    fills : bool
        Whether `extension` marks samples that are `cval`.
    commutes : bool
        Whether two passes with symmetric taps along the same axis may change places.
    scipy_name : str
        The name of this mode in `scipy.ndimage`; empty if SciPy does not have it.
    opencv_name : str
        The constant of this mode in `cv2`; empty if OpenCV's filters do not have it.

    Notes
    -----
    Borders are equal if their types and fields are. A pickle holds the type and the fields, so that
    another process needs the class but no registration.

    Examples
    --------
    >>> class FarEdge(Border):
    ...     name, help = "far-edge", "the last sample on the left, the first one on the right"
    ...     picture = "d d d d | a b c d | a a a a"
    ...     def extension(self, n, before, after):
    ...         return np.r_[np.full(before, n - 1), np.arange(n), np.zeros(after, int)]
    >>> import separable as sep
    >>> sep.correlate([1.0, 0, 0, 5], [1, 1, 1], mode=FarEdge())
    array([6., 1., 5., 6.])
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    help: ClassVar[str]
    picture: ClassVar[str]
    fills: ClassVar[bool] = False
    commutes: ClassVar[bool] = False
    scipy_name: ClassVar[str] = ""
    opencv_name: ClassVar[str] = ""

    @abstractmethod
    def extension(self, n: int, before: int, after: int) -> Indices:
        """Return the samples of a line of `n` samples and of positions on both sides of it.

        Parameters
        ----------
        n : int
            The number of samples of the line, at least 1.
        before, after : int
            The numbers of positions on the left and right; they may exceed `n`.

        Returns
        -------
        ndarray of int, shape (before + n + after,)
            Indices in ``0 .. n - 1``, those of the line itself in the middle; `OUTSIDE` (-1) for
            the constant, if the mode `fills` one in.

        Examples
        --------
        >>> MIRROR.extension(4, 3, 2).tolist()
        [3, 2, 1, 0, 1, 2, 3, 2, 1]
        """

    def samples(self, n: int, start: int, stop: int) -> Indices:
        """Return the samples at the positions from `start` to `stop - 1` of a line of `n` samples.

        Examples
        --------
        >>> NEAREST.samples(10, -2, 3).tolist()
        [0, 0, 0, 1, 2]
        """
        before, after = max(0, -start), max(0, stop - n)
        found: Indices = self.extension(n, before, after)[start + before : stop + before]
        return found

    def block(self, n: int, first: int, last: int, least: int) -> tuple[int, int, Border]:
        """Return the block of a line from which some of its outputs can be computed.

        Parameters
        ----------
        n : int
            The number of samples of the line.
        first, last : int
            The positions ``first .. last - 1`` that the outputs read. They include these outputs'
            own positions, so that at least one of them lies within the line.
        least : int
            The number of samples that a block must have, unless the line itself is shorter.

        Returns
        -------
        start, stop : int
            The positions ``start .. stop - 1`` of the block. Those below 0 or from `n` on hold the
            samples that `samples` names, which are never the constant.
        border : Border
            The mode to filter the block with. What it adds at an edge of the block that is not an
            edge of the line reaches only outputs that are cut off.

        Notes
        -----
        By default this is the range of all samples that are read, with the border as it is seen from
        there. Where that range is longer than what is read, as for *wrap*, the positions outside the line
        become part of the block instead.

        Examples
        --------
        >>> REFLECT.block(100, -3, 8, 2)
        (0, 8, <Border reflect>)
        >>> WRAP.block(100, 97, 103, 2)
        (97, 103, <Border nearest>)
        """
        if first >= 0 and last <= n:
            return *_widened(n, first, last, least), NEAREST
        samples = self.samples(n, first, last)
        inside = samples[samples != OUTSIDE]
        start, stop = _widened(n, int(inside.min()), int(inside.max()) + 1, least)
        last = max(last, first + least)
        if (
            stop - start > last - first and not self.fills
        ):  # a constant may not fit the image's type
            return first, last, NEAREST
        return start, stop, self if (start, stop) == (0, n) else _BorderOfBlock(self, n, start)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a border mode cannot be changed: {name} of {self!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Border {self.name}>"

    def __dask_tokenize__(self) -> Any:
        """Return what Dask names tasks by: equal borders have equal names in every process."""
        kind = type(self)
        return kind.__module__, kind.__qualname__, self.name, sorted(vars(self).items())


Mode: TypeAlias = str | Border
"""One border mode, by its name or as the object."""
Modes: TypeAlias = str | Border | Sequence[str | Border]
"""One border mode for all filtered axes, or one for each of them."""


def runs_of(samples: Indices) -> list[tuple[int, int]]:
    """Return the ranges of successive samples that follow each other in an index map.

    Examples
    --------
    >>> runs_of(WRAP.samples(10, -2, 12))
    [(8, 10), (0, 10), (0, 2)]
    """
    cuts = np.flatnonzero(np.diff(samples) != 1) + 1
    starts = [0, *cuts.tolist()]
    stops = [*cuts.tolist(), len(samples)]
    return [(int(samples[a]), int(samples[b - 1]) + 1) for a, b in zip(starts, stops, strict=True)]


def _widened(n: int, start: int, stop: int, least: int) -> tuple[int, int]:
    """Widen a range within a line to at least so many samples, if the line has them."""
    stop = min(n, max(stop, start + least))
    return max(0, min(start, stop - least)), stop


@dataclass(frozen=True, eq=False)
class _BorderOfBlock(Border):
    """The border of a line, as seen from a block of that line."""

    line: Border
    n: int  # samples of the line
    start: int  # the first one of the block

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the border mode."""
        return self.line.name

    @property
    def fills(self) -> bool:  # type: ignore[override]
        """True if a constant is filled in."""
        return self.line.fills

    def extension(self, n: int, before: int, after: int) -> Indices:
        found = self.line.samples(self.n, self.start - before, self.start + n + after)
        # Samples that the block lacks are read by outputs that are cut off: any will do.
        return np.where(found == OUTSIDE, OUTSIDE, np.clip(found - self.start, 0, n - 1))


class _Reflection(Border):
    """A reflection: its blocks lie within the line, include the edge that they need, and keep the mode."""

    commutes = True
    skipped: ClassVar[int]  # samples at the edge that a reflection does not repeat

    def block(self, n: int, first: int, last: int, least: int) -> tuple[int, int, Border]:
        start, stop = max(0, first), min(n, last)
        if first < 0:
            stop = max(stop, min(n, self.skipped - first))
        if last > n:
            start = min(start, max(0, n - (last - n) - self.skipped))
        return *_widened(n, start, stop, least), self


class _Reflect(_Reflection):
    name, aliases, scipy_name = "reflect", ("grid-mirror",), "reflect"
    opencv_name = "BORDER_REFLECT"
    help = "reflected, with the sample at the edge twice"
    picture = "d c b a | a b c d | d c b a"
    skipped = 0

    def extension(self, n: int, before: int, after: int) -> Indices:
        at = np.mod(np.arange(-before, n + after), 2 * n)
        return np.where(at < n, at, 2 * n - 1 - at)


class _Mirror(_Reflection):
    name, scipy_name, opencv_name = "mirror", "mirror", "BORDER_REFLECT_101"
    help = "reflected, with the sample at the edge once"
    picture = "d c b | a b c d | c b a"
    skipped = 1

    def extension(self, n: int, before: int, after: int) -> Indices:
        period = max(1, 2 * (n - 1))
        at = np.mod(np.arange(-before, n + after), period)
        return np.where(at < n, at, period - at)


class _OfTheEdge(Border):
    """A mode that reads only the sample at the edge, or none: its blocks are the part that is read."""

    def block(self, n: int, first: int, last: int, least: int) -> tuple[int, int, Border]:
        return *_widened(n, max(0, first), min(n, last), least), self


class _Nearest(_OfTheEdge):
    name, scipy_name, opencv_name = "nearest", "nearest", "BORDER_REPLICATE"
    help = "the sample at the edge, again and again"
    picture = "a a a a | a b c d | d d d d"

    def extension(self, n: int, before: int, after: int) -> Indices:
        return np.clip(np.arange(-before, n + after), 0, n - 1)


class _Constant(_OfTheEdge):
    name, aliases, scipy_name = "constant", ("grid-constant",), "constant"
    help = "the constant `cval`"
    picture = "k k k k | a b c d | k k k k"
    fills = True

    def extension(self, n: int, before: int, after: int) -> Indices:
        at = np.arange(-before, n + after)
        return np.where((at < 0) | (at >= n), OUTSIDE, at)


class _Wrap(Border):
    name, aliases, scipy_name = "wrap", ("grid-wrap",), "wrap"
    help = "the image again, as if it were periodic"
    picture = "a b c d | a b c d | a b c d"
    commutes = True

    def extension(self, n: int, before: int, after: int) -> Indices:
        return np.mod(np.arange(-before, n + after), n)

    def samples(self, n: int, start: int, stop: int) -> Indices:
        return np.mod(np.arange(start, stop), n)


REFLECT, MIRROR, NEAREST = _Reflect(), _Mirror(), _Nearest()
WRAP, CONSTANT = _Wrap(), _Constant()
