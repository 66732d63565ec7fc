"""Graph of the passes of several kernels: one layer per axis, with shared passes only once.

The terms of a layer correlate the sums of the layer before it; those of the first layer correlate the
image. The sums of a layer add up some of its terms, and those of the last layer are the bands. Terms
with the same first taps share their first passes, and terms with the same last taps are added before
their last pass: the Laplacian of Gaussian in three dimensions takes 7 passes instead of 9,

    y:  A = g'' * image,         B = g * image
    x:  C = g * A + g'' * B,     D = g * B
    z:  band = g * C + g'' * D
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.value import Value

__all__ = ["Graph", "Layer", "Terms", "families", "graph_of"]

Array = NDArray[Any]
Terms = Sequence[tuple[Array, ...]]

ROUNDING = 8 * np.finfo(np.float64).eps  # taps that differ by less count as equal


@dataclass(frozen=True, eq=False)
class Layer(Value):
    """Correlations along one kernel axis.

    Attributes
    ----------
    axis : int
        The kernel axis.
    taps : ndarray, shape (terms, taps)
        Taps of each term.
    left : int
        Number of taps to the left of the output's sample.
    sources : tuple of int
        For each term, the sum of the layer before that it reads; all 0 in the first layer.
    sums : tuple of (int, int)
        The first term of each sum, and the one after its last.
    """

    ARRAYS = ("taps",)

    axis: int
    taps: Array
    left: int
    sources: tuple[int, ...]
    sums: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Graph(Value):
    """Passes of several kernels; the sums of the last layer are their results, in order."""

    layers: tuple[Layer, ...]

    @property
    def passes(self) -> int:
        """Number of correlations along one axis with more than one tap."""
        return sum(int(np.sum(_used(layer) > 1)) for layer in self.layers)

    @property
    def multiplications(self) -> int:
        """Multiplications per sample, for all kernels together."""
        return sum(int(np.sum(_used(layer))) for layer in self.layers)

    def users(self) -> list[list[set[int]]]:
        """Return, for each layer and each of its terms, the kernels that need it."""
        last = self.layers[-1]
        needs: list[set[int]] = [{k} for k in range(len(last.sums))]
        found = []
        for layer in reversed(self.layers):
            terms: list[set[int]] = [set() for _ in layer.sources]
            for (start, stop), users in zip(layer.sums, needs, strict=True):
                for term in range(start, stop):
                    terms[term] |= users
            found.append(terms)
            needs = [set() for _ in range(1 + max(layer.sources, default=0))]
            for source, users in zip(layer.sources, terms, strict=True):
                needs[source] |= users
        return found[::-1]


def graph_of(
    kernels: Sequence[Terms], lefts: Sequence[tuple[int, ...]], order: Sequence[int]
) -> Graph:
    """Arrange the terms of several kernels as layers.

    Parameters
    ----------
    kernels : sequence of sequence of tuple of ndarray
        Terms of each kernel, at least one: one vector of correlation taps per kernel axis.
    lefts : sequence of tuple of int
        For each kernel and axis, the number of taps to the left of the output's sample.
    order : sequence of int
        Kernel axes in the order of the layers.

    Examples
    --------
    >>> low, high = np.array([1.0, 1.0]), np.array([1.0, -1.0])
    >>> bands = [[(low, low)], [(low, high)], [(high, low)], [(high, high)]]
    >>> graph = graph_of(bands, [(0, 0)] * 4, (0, 1))
    >>> graph.passes, graph.multiplications  # alone they are 8 and 16
    (6, 12)
    """
    builder = _Builder(tuple(order))
    for terms, own in zip(kernels, lefts, strict=True):
        builder.add(terms, own)
    return Graph(tuple(_layer(axis, sums) for axis, sums in zip(order, builder.sums, strict=True)))


def families(kernels: Sequence[Terms], lefts: Sequence[tuple[int, ...]], order: Any) -> list[Any]:
    """Return groups of kernels, by their numbers, that run in one sweep.

    A group has kernels that share passes, directly or through others, and kernels with the same number
    of taps. It reads the image only once.
    """
    parent = list(range(len(kernels)))

    def root(k: int) -> int:
        while parent[k] != k:
            k = parent[k]
        return k

    sizes: dict[Any, int] = {}
    for k, (terms, left) in enumerate(zip(kernels, lefts, strict=True)):
        own = graph_of([terms], [left], order).layers
        same = sizes.setdefault(tuple((layer.left, layer.taps.shape[1]) for layer in own), k)
        parent[root(k)] = root(same)
    layers = graph_of(kernels, lefts, order).users()
    for users in (users for terms in layers for users in terms if users):
        first, *others = sorted(users)
        for other in others:
            parent[root(other)] = root(first)
    groups: dict[int, list[int]] = {}
    for k in range(len(kernels)):
        groups.setdefault(root(k), []).append(k)
    return list(groups.values())


@dataclass(frozen=True, eq=False)
class _Edge:
    """Term of a layer: the sum that it reads, and its taps without zeros at the ends."""

    source: int
    taps: Array
    left: int

    @property
    def place(self) -> Any:
        return self.source, self.left, self.taps.tobytes()


class _Builder:
    """Builder of sums, layer by layer, that finds equal sums up to a factor."""

    def __init__(self, order: tuple[int, ...]) -> None:
        self.order = order
        self.sums: list[list[list[_Edge]]] = [[] for _ in order]
        self._numbers: dict[Any, tuple[int, Array]] = {}
        self._rows: dict[Any, Array] = {}

    def add(self, terms: Terms, lefts: tuple[int, ...]) -> None:
        depth = len(self.order) - 1
        edges = self._edges([(1.0, term) for term in terms], lefts, depth)
        self.sums[depth].append([_scaled(edge, scale) for edge, scale in edges])

    def _edges(
        self, terms: list[Any], lefts: tuple[int, ...], depth: int
    ) -> list[tuple[_Edge, Any]]:
        """Return terms, filtered along the first axes of the order, as edges with factors."""
        axis = self.order[depth]
        found = []
        for taps, members in self._proportional(terms, axis, depth):
            row, left, scale = self._row(axis, *_trim(taps, lefts[axis]))
            source, below = self._sum(members, lefts, depth - 1) if depth else (0, 1.0)
            if below != 0:  # else the terms cancel
                found.append((_Edge(source, row, left), scale * below))
        return found

    def _sum(self, terms: list[Any], lefts: tuple[int, ...], depth: int) -> tuple[int, Any]:
        """Return the number of a sum in its layer, and the factor to multiply it by."""
        edges = sorted(self._edges(terms, lefts, depth), key=lambda pair: pair[0].place)
        if not edges:
            return 0, 0.0
        first = edges[0][1]
        scales = np.array([scale / first for _, scale in edges])
        key = (depth, tuple(edge.place for edge, _ in edges), bytes(scales.round(10)))
        number, known = self._numbers.get(key, (-1, scales))
        if number < 0 or np.max(np.abs(scales - known)) > ROUNDING * np.max(np.abs(scales)):
            pairs = zip(edges, scales, strict=True)
            self.sums[depth].append([_scaled(edge, scale) for (edge, _), scale in pairs])
            number = len(self.sums[depth]) - 1
            self._numbers[key] = number, scales
        return number, first

    def _proportional(
        self, terms: list[Any], axis: int, depth: int
    ) -> Iterator[tuple[Array, list[Any]]]:
        """Yield groups of terms with proportional taps; along the first axis their taps are added."""
        if depth == 0:
            merged = sum(scale * term[axis] for scale, term in terms)
            if np.any(merged):
                yield np.asarray(merged), terms
            return
        groups: dict[Any, tuple[Array, list[Any]]] = {}
        for number, (scale, term) in enumerate(terms):
            taps = term[axis]
            first, members = groups.setdefault(_direction(taps), (taps, []))
            ratio = _ratio(taps, first)
            if ratio is None:  # equal in ten digits only
                groups[number] = taps, [(scale, term)]
            else:
                members.append((scale * ratio, term))
        yield from groups.values()

    def _row(self, axis: int, taps: Array, left: int) -> tuple[Array, int, Any]:
        """Return the first taps that are proportional to these, their left, and the ratio to them."""
        first = self._rows.setdefault((axis, left, taps.size, _direction(taps)), taps)
        ratio = _ratio(taps, first)
        return (taps, left, 1.0) if ratio is None else (first, left, ratio)


def _layer(axis: int, sums: list[list[_Edge]]) -> Layer:
    """Return all terms of an axis, with their taps padded with zeros to one length."""
    edges = [edge for members in sums for edge in members]
    left = max((edge.left for edge in edges), default=0)
    size = max((left - edge.left + edge.taps.size for edge in edges), default=1)
    dtype = np.result_type(np.float64, *(edge.taps for edge in edges))
    taps = np.zeros((len(edges), size), dtype)
    for row, edge in zip(taps, edges, strict=True):
        row[left - edge.left :][: edge.taps.size] = edge.taps
    ends = np.cumsum([0, *map(len, sums)]).tolist()
    ranges = tuple(itertools.pairwise(ends))
    return Layer(axis, taps, left, tuple(edge.source for edge in edges), ranges)


def _used(layer: Layer) -> Array:
    """Return the number of taps of each term, without zeros at the ends but with the one at `left`."""
    used = layer.taps != 0
    used[:, layer.left] = True
    size = used.shape[1]
    return np.asarray(size - used[:, ::-1].argmax(axis=1) - used.argmax(axis=1))


def _scaled(edge: _Edge, scale: Any) -> _Edge:
    return edge if scale == 1 else _Edge(edge.source, edge.taps * scale, edge.left)


def _trim(taps: Array, left: int) -> tuple[Array, int]:
    """Remove zeros at the ends of taps, but never the tap at the output's sample."""
    used = np.flatnonzero(taps)
    start, stop = min(int(used[0]), left), max(int(used[-1]), left) + 1
    return np.ascontiguousarray(taps[start:stop]), left - start


def _direction(taps: Array) -> bytes:
    """Return a key that proportional taps share. A rare miss costs only one more pass."""
    size = np.abs(taps)
    pivot = taps[int(np.argmax(size > 0.377 * size.max()))]
    return bytes((taps / pivot).round(10) + 0.0)


def _ratio(taps: Array, first: Array) -> Any:
    """Return the number c for which taps = c * first to rounding, or None."""
    if taps is first:
        return 1.0
    at = int(np.argmax(np.abs(first)))
    ratio = taps[at] / first[at]
    limit = ROUNDING * float(np.max(np.abs(taps)))
    return ratio if float(np.max(np.abs(taps - ratio * first))) <= limit and ratio != 0 else None
