"""Layout of a tensor in memory as the kernel needs it: filtered axes, batches and what lies inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

__all__ = ["TensorLayout", "empty_result", "layout_of"]

MOST_AXES = 3


@dataclass(frozen=True)
class TensorLayout:
    """Axes of a tensor in the order of memory, and the roles of the filtered ones.

    Attributes
    ----------
    order : tuple of int
        Axes of the tensor, the one with the largest stride first.
    sizes : tuple of int
        Their sizes in this order.
    named : tuple of (str, int)
        Place in `order` of the axes "z", "y" and "x"; x is the innermost filtered axis. A single filtered axis
        with others inside is "y": then the lanes run along these.
    inner : int
        Samples inside each position of x; 1 if x is the innermost axis, or if no axis is x.
    lanes : int
        Positions along the lanes' axis if no axis is x.
    batches : tuple of int
        Sizes of three batch axes: before the first filtered axis, and between them.
    """

    order: tuple[int, ...]
    sizes: tuple[int, ...]
    named: tuple[tuple[str, int], ...]
    inner: int
    lanes: int
    batches: tuple[int, int, int]

    @property
    def roles(self) -> dict[str, int]:
        """Place in `order` of the axis of each role."""
        return dict(self.named)

    def with_sizes(self, sizes: dict[str, int]) -> TensorLayout:
        """Return the layout of a result, of which some filtered axes have other sizes."""
        changed = list(self.sizes)
        for role, size in sizes.items():
            if role in self.roles:
                changed[self.roles[role]] = size
        return TensorLayout(
            self.order, tuple(changed), self.named, self.inner, self.lanes, self.batches
        )

    @property
    def size(self) -> int:
        """Number of samples."""
        return math.prod(self.sizes)

    def stride(self, place: int) -> int:
        """Return the distance of neighbours along the axis at a place of `order`, in samples."""
        return math.prod(self.sizes[place + 1 :])

    def strides(self) -> dict[str, int]:
        """Return the strides of "y" and "z"; 0 where no axis has the role."""
        return {r: self.stride(self.roles[r]) if r in self.roles else 0 for r in "yz"}

    def batch_strides(self) -> tuple[int, int, int]:
        """Return the strides of the batch axes."""
        found = [self.stride(place - 1) if place else 0 for place in sorted(self.roles.values())]
        return tuple([*found, 0, 0][:MOST_AXES])  # type: ignore[return-value]


def layout_of(
    shape: Sequence[int], strides: Sequence[int], axes: Sequence[int]
) -> TensorLayout | None:
    """Return the layout of a tensor without gaps, or None if it has gaps and must be copied first.

    Examples
    --------
    >>> layout_of((2, 5, 7), (35, 7, 1), (1, 2)).roles
    {'y': 1, 'x': 2}
    >>> found = layout_of((2, 3, 5, 7), (105, 1, 21, 3), (2, 3))  # channels last
    >>> found.order, found.roles, found.inner
    ((0, 2, 3, 1), {'y': 1, 'x': 2}, 3)
    >>> layout_of((5, 7), (14, 2), (0, 1)) is None
    True
    """
    order = _order(shape, strides)
    if order is None:
        return None
    sizes = tuple(shape[a] for a in order)
    places = sorted(order.index(a) for a in axes)
    inside = math.prod(sizes[places[-1] + 1 :])
    if len(places) == 1 and inside > 1:
        named: tuple[tuple[str, int], ...] = (("y", places[0]),)
        inner, lanes = 1, inside
    else:
        named = tuple(zip("zyx"[-len(places) :], places, strict=True))
        inner, lanes = inside, 0
    starts = [0, *(place + 1 for place in places[:-1])]
    batches = [math.prod(sizes[a:b]) for a, b in zip(starts, places, strict=True)]
    first, second, third = [*batches, 1, 1][:MOST_AXES]
    return TensorLayout(order, sizes, named, inner, lanes, (first, second, third))


def _order(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...] | None:
    """Return the axes by descending stride, or None if there are gaps between samples."""
    plain = tuple(range(len(shape)))
    for order in (plain, tuple(sorted(plain, key=lambda a: (-strides[a], a)))):
        expected = 1
        for axis in reversed(order):
            if shape[axis] > 1 and strides[axis] != expected:
                break
            expected *= shape[axis]
        else:
            return order
    return None


def empty_result(
    layout: TensorLayout, bands: int, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Return a new tensor of shape (bands, ...) whose axes lie in memory as those of the image."""
    made = torch.empty((bands, *layout.sizes), dtype=dtype, device=device)
    back = [1 + layout.order.index(axis) for axis in range(len(layout.order))]
    return made.permute(0, *back)
