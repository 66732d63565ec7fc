"""Passes of a filter or a bank as the layers of one kernel: along x, then z, then y."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.filter_bank.pass_graph import Layer, Terms, graph_of

__all__ = ["Links", "PassProgram", "flattened", "program_of", "whole_factors"]

Array = NDArray[Any]
Links: TypeAlias = tuple[tuple[tuple[int, int, int, int], ...], ...]
"""For each sum of a layer its terms: source, first tap, number of taps, place of the first weight."""

ONE_TAP: Links = (((0, 0, 1, 1),),)  # an axis that is not filtered: weight 1 of the table is 1
ROUNDINGS = 64 * float(np.finfo(np.float64).eps)  # of a decomposition, relative to the largest tap
LARGEST_DENOMINATOR = 1024
DYADIC_BITS = 24


def flattened(layer: Links) -> tuple[int, ...]:
    """Return a layer as the kernel takes it: the places of the first term of each sum and of the end, then all terms.

    Examples
    --------
    >>> flattened((((0, 0, 3, 2),), ((0, 1, 1, 5), (1, 0, 3, 6))))
    (3, 7, 15, 0, 0, 3, 2, 0, 1, 1, 5, 1, 0, 3, 6)
    """
    terms = [number for own in layer for term in own for number in term]
    ends = accumulate((4 * len(own) for own in layer), initial=len(layer) + 1)
    return (*ends, *terms)


@dataclass(frozen=True)
class PassProgram:
    """Layers of passes; the sums of the last layer are the outputs.

    Attributes
    ----------
    x, z, y : tuple
        Layers, see `Links`; `z` is empty if no axis has this role.
    taps : (int, int, int)
        Number of taps along x, z and y; that of z is 0 if no axis has this role.
    lefts : (int, int, int)
        Number of taps before the output's sample along x, z and y.

    Examples
    --------
    >>> smooth = np.array([1.0, 2.0, 1.0])
    >>> program, weights = program_of([[(smooth, smooth)]], [(1, 1)], {"y": 0, "x": 1})
    >>> program.taps, program.x, program.y
    ((3, 0, 3), (((0, 0, 3, 2),),), (((0, 0, 3, 5),),))
    >>> weights
    array([0., 1., 1., 2., 1., 1., 2., 1.])
    """

    x: Links
    z: Links
    y: Links
    taps: tuple[int, int, int]
    lefts: tuple[int, int, int]

    @property
    def bands(self) -> int:
        """Number of outputs."""
        return len(self.y)

    @property
    def multiplications(self) -> tuple[int, int, int]:
        """Multiplications per sample along x, z and y, for all outputs together."""
        return tuple(  # type: ignore[return-value]
            sum(count for terms in layer for _, _, count, _ in terms)
            for layer in (self.x, self.z, self.y)
        )

    def encoded(self) -> list[int]:
        """Return the program as numbers, which an operator of PyTorch takes."""
        found = [*self.taps, *self.lefts]
        for layer in (self.x, self.z, self.y):
            found.append(len(layer))
            for terms in layer:
                found.append(len(terms))
                found.extend(number for term in terms for number in term)
        return found

    @classmethod
    def decoded(cls, numbers: Sequence[int]) -> PassProgram:
        """Return the program that `encoded` made numbers of.

        Examples
        --------
        >>> program, _ = program_of([[(np.ones(2), np.ones(3))]], [(0, 1)], {"y": 0, "x": 1})
        >>> PassProgram.decoded(program.encoded()) == program
        True
        """
        at = 6

        def layer() -> Links:
            nonlocal at
            sums, at = numbers[at], at + 1
            found = []
            for _ in range(sums):
                count, at = numbers[at], at + 1
                own = tuple(
                    (numbers[k], numbers[k + 1], numbers[k + 2], numbers[k + 3])
                    for k in range(at, at + 4 * count, 4)
                )
                at += 4 * count
                found.append(own)
            return tuple(found)

        x, z, y = layer(), layer(), layer()
        taps, lefts = tuple(numbers[:3]), tuple(numbers[3:6])
        return cls(x, z, y, taps, lefts)  # type: ignore[arg-type]

    def adjoint(self, band: int, size: int) -> tuple[PassProgram, Array]:
        """Return the passes that carry a gradient of one output back to the extended image.

        The taps of every pass are reversed. Passes along different axes commute, so that the layers stay in
        their order.

        Parameters
        ----------
        band : int
        size : int
            Entries of the table of weights.

        Returns
        -------
        PassProgram
        ndarray of int
            Entries of the table of weights, in the order that the program needs.
        """
        order = np.arange(size)
        layers = []
        for layer, taps in zip((self.x, self.z, self.y), self.taps, strict=True):
            for terms in layer:
                for _, _, count, place in terms:
                    order[place : place + count] = np.arange(place + count - 1, place - 1, -1)
            turned = tuple(
                tuple((s, taps - first - count, count, place) for s, first, count, place in terms)
                for terms in layer
            )
            layers.append(turned)
        x, z, y = layers
        return replace(self, x=x, z=z, y=(y[band],)), order


def program_of(
    kernels: Sequence[Terms], lefts: Sequence[tuple[int, ...]], roles: dict[str, int]
) -> tuple[PassProgram, Array]:
    """Arrange the terms of kernels as layers, with shared passes only once.

    Parameters
    ----------
    kernels : sequence of sequence of tuple of ndarray
        Terms of each kernel: one vector of correlation taps per kernel axis.
    lefts : sequence of tuple of int
        For each kernel and axis, the number of taps to the left of the output's sample.
    roles : dict
        Kernel axis of each of "x", "y" and "z" that is filtered.

    Returns
    -------
    PassProgram
    ndarray
        Table of weights in float64; its entry 0 is for the constant outside.

    Raises
    ------
    ValueError
        If the terms of some kernel cancel, so that it has no pass.
    """
    order = [roles[role] for role in "xzy" if role in roles]
    graph = graph_of(kernels, lefts, order)
    layers = {layer.axis: layer for layer in graph.layers}
    table: list[Any] = [0.0, 1.0]
    links: dict[str, Links] = {}
    for role in "xzy":
        if role in roles:
            links[role] = _links(layers[roles[role]], table)
    sizes = {role: layers[axis].taps.shape[1] for role, axis in roles.items()}
    found = links.get("x", ONE_TAP), links.get("z", ())
    y = links.get("y")
    if y is None:  # every sum of the layer before is an output
        y = tuple(((band, 0, 1, 1),) for band in range(len(kernels)))
    if not all(terms for layer in (*found, y) for terms in layer):
        raise ValueError("a kernel without passes")
    taps = sizes.get("x", 1), sizes.get("z", 0), sizes.get("y", 1)
    own = {role: layers[axis].left for role, axis in roles.items()}
    left = own.get("x", 0), own.get("z", 0), own.get("y", 0)
    return PassProgram(*found, y, taps, left), np.array(table, np.float64)


def whole_factors(term: Sequence[Array]) -> tuple[Array, ...]:
    """Return the same product with factors of whole numbers, all but the last one, where there are any.

    A decomposition returns factors such as (0.41, 0.82, 0.41) and their last bits. Sums with (1, 2, 1) are exact,
    and so is the rounding of results that lie half way between two integers.

    Examples
    --------
    >>> whole_factors([np.array([0.5, 1.0, 0.5]) / 1.5**0.5, np.array([1.0, 3.0]) * 1.5**0.5 / 16])
    (array([1., 2., 1.]), array([0.03125, 0.09375]))
    """
    factors = [np.asarray(v, np.float64) for v in term]
    for k in range(len(factors) - 1):
        scale = _whole_scale(factors[k])
        if scale:
            factors[k] = np.rint(factors[k] * scale)
            factors[-1] = factors[-1] / scale
    last = factors[-1]
    grid = 2.0 ** (math.floor(math.log2(float(np.max(np.abs(last))))) - DYADIC_BITS)
    near = np.rint(last / grid) * grid
    if np.max(np.abs(near - last)) <= ROUNDINGS * np.max(np.abs(last)):
        factors[-1] = near
    return tuple(factors)


def _whole_scale(taps: Array) -> float:
    """Return a number that makes all taps whole up to rounding, or 0."""
    taps = np.where(np.abs(taps) <= ROUNDINGS * np.max(np.abs(taps)), 0.0, taps)
    unit = float(np.min(np.abs(taps[taps != 0])))
    ratios = [Fraction(float(v) / unit).limit_denominator(LARGEST_DENOMINATOR) for v in taps]
    common = math.lcm(*(r.denominator for r in ratios))
    if common > LARGEST_DENOMINATOR:
        return 0.0
    whole = np.array([float(r * common) for r in ratios])
    scale = common / unit
    close = np.abs(taps * scale - whole) <= ROUNDINGS * np.max(np.abs(whole))
    return scale if np.all(close) and np.max(np.abs(whole)) < LARGEST_DENOMINATOR**2 else 0.0


def _links(layer: Layer, table: list[Any]) -> Links:
    """Return the terms of each sum of a layer, and append their weights to the table."""
    places: dict[int, tuple[int, int, int]] = {}
    for number, row in enumerate(layer.taps):
        used = np.flatnonzero(row)
        first = min(int(used[0]), layer.left) if used.size else layer.left
        stop = max(int(used[-1]), layer.left) + 1 if used.size else layer.left + 1
        places[number] = (first, stop - first, len(table))
        table.extend(row[first:stop].tolist())
    return tuple(
        tuple((layer.sources[k], *places[k]) for k in range(start, stop))
        for start, stop in layer.sums
    )
