"""Choose the role of each axis of an array in a sweep: x, y, z, channels or batch.

The order of the axes in memory decides, not their order in the shape: a Fortran-ordered array is filtered
as fast as its transpose.  The innermost filtered axis is ``x`` if each of its positions holds few samples (one, or the
channels of a colour image).  If it holds many, that axis is ``y``, and vectors run along those samples.  If it is alone
and so short that its rows do not fill a vector, it is ``y`` too, and vectors run across many rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

INNER_RUN = 32
"""Number of inner samples from which vectors run along them, so that no transpose is needed."""

SHORT_ROW = 16
"""Rows of fewer flat columns do not fill a vector."""


@dataclass(frozen=True)
class Axis:
    """One axis: its size, byte strides in source and target, and its number among the filtered ones (-1: none)."""

    size: int
    source: int
    target: int
    filtered: int = -1


@dataclass(frozen=True)
class Layout:
    """The roles of all axes; a role without an axis has one of size 1."""

    z: Axis | None
    y: Axis
    x: Axis
    channels: Axis
    batch: tuple[Axis, ...] = field(default=())


_ONE = Axis(1, 0, 0)


def _joined(outer: Axis, inner: Axis) -> Axis | None:
    """Return two neighbouring axes as one, or None if the strides do not allow it."""
    if outer.size == 1:
        return inner
    if inner.size == 1:
        return outer
    if outer.source == inner.source * inner.size and outer.target == inner.target * inner.size:
        return Axis(outer.size * inner.size, inner.source, inner.target)
    return None


def join(axes: list[Axis]) -> list[Axis]:
    """Join neighbouring axes that are not filtered where the strides allow it."""
    result: list[Axis] = []
    for axis in axes:
        both = None
        if result and axis.filtered < 0 and result[-1].filtered < 0:
            both = _joined(result[-1], axis)
        if both is None:
            result.append(axis)
        else:
            result[-1] = both
    return result


def arrange(
    shape: tuple[int, ...],
    source: tuple[int, ...],
    target: tuple[int, ...],
    axes: tuple[int, ...],
    inner_run: int = INNER_RUN,
) -> Layout:
    """Give each axis its role; ``axes`` are the one to three filtered ones.

    >>> arrange((5, 6), (24, 4), (24, 4), (0, 1)).x
    Axis(size=6, source=4, target=4, filtered=1)
    """
    # Step 1: from the outermost axis in memory to the innermost, without axes of size 1.
    order = sorted(range(len(shape)), key=lambda d: -abs(source[d]) - abs(target[d]))
    rank = {axis: number for number, axis in enumerate(axes)}
    found = [Axis(shape[d], source[d], target[d], rank.get(d, -1)) for d in order]
    ordered = join([a for a in found if a.size != 1 or a.filtered >= 0])
    # Step 2: what lies inside the innermost filtered axis are its channels; what lies outside is filtered or batch.
    filtered = [i for i, a in enumerate(ordered) if a.filtered >= 0]
    last = filtered[-1]
    inner, rest = ordered[last + 1 :], ordered[:last]
    channels = inner[-1] if inner else _ONE
    batch = [a for a in rest if a.filtered < 0] + inner[:-1]
    outer = [a for a in rest if a.filtered >= 0]
    # Step 3: with many channels, vectors run along them and the innermost filtered axis is y.
    if channels.size >= inner_run and len(outer) <= 1:
        z = outer[-1] if outer else None
        return Layout(z, ordered[last], channels, _ONE, tuple(batch))
    if outer:
        y, z = outer[-1], outer[0] if len(outer) > 1 else None
        return Layout(z, y, ordered[last], channels, tuple(batch))
    y, x, channels, batch_axes = _rows(batch, ordered[last], channels)
    if x.size * channels.size < SHORT_ROW <= y.size:
        inside = (channels,) if channels.size > 1 else ()
        return Layout(None, x, y, _ONE, (*batch_axes, *inside))
    return Layout(None, y, x, channels, batch_axes)


def _rows(batch: list[Axis], x: Axis, channels: Axis) -> tuple[Axis, Axis, Axis, tuple[Axis, ...]]:
    """Choose the largest axis that is not filtered to run across the vectors."""
    if not batch:
        return _ONE, x, channels, ()
    best = max(range(len(batch)), key=lambda i: batch[i].size)
    others = batch[:best] + batch[best + 1 :]
    return batch[best], x, channels, tuple(others)
