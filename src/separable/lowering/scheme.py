"""Scheme: a convolution with the pattern, letter sizes and ranks that factorise its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentTypeError, PatternError, RankError
from separable.lowering.conv_spec import ConvSpec
from separable.pattern import Pattern, parse

__all__ = ["GROUP", "Rank", "Scheme", "space_letters"]

Array = NDArray[Any]
Rank = int | Sequence[int] | NDArray[np.intp] | Mapping[str, Any]

OUT, IN, GROUP = "o", "c", "g"


@dataclass(frozen=True, eq=False)
class Scheme:
    """Convolution, pattern that factorises its weights, and ranks of the bonds.

    Attributes
    ----------
    owner : str
        Name of the layer, for messages.
    written : Pattern
        Pattern as the user wrote it: for the weights of one group of channels.
    pattern : Pattern
        The same pattern, with the batch letter `g` in front if there are several groups.
    spec : ConvSpec
        The convolution whose weights the factors multiply out to.
    sizes : mapping of str to int
        Size of each kernel letter.
    ranks : mapping of str to ndarray of int
        Rank of each batch value, per bond.

    Examples
    --------
    >>> spec = ConvSpec.make("layer", 2, in_channels=4, out_channels=8, kernel_size=3, groups=2)
    >>> scheme = Scheme.make("layer", "ocyx -> oc,cyx", spec, rank=3)
    >>> str(scheme.pattern), scheme.kernel_shape, scheme.sizes["o"], scheme.ranks["R"].shape
    ('gocyx -> goc,gcyx', (2, 4, 2, 3, 3), 4, (2, 2))
    """

    owner: str
    written: Pattern
    pattern: Pattern
    spec: ConvSpec
    sizes: Mapping[str, int]
    ranks: Mapping[str, NDArray[np.intp]]

    @classmethod
    def make(
        cls,
        owner: str,
        pattern: str | Pattern,
        spec: ConvSpec,
        *,
        rank: Rank,
        sizes: Mapping[str, int] | None = None,
    ) -> Scheme:
        """Fit a pattern to a convolution.

        Raises
        ------
        PatternError
            If the pattern does not describe such a convolution's weights.
        RankError, ArgumentTypeError
            If `rank` does not fit the pattern's bonds.
        """
        written = parse(pattern, spec.weight_shape) if isinstance(pattern, str) else pattern
        _check_axes(owner, written, spec)
        pattern = _with_groups(written, spec)
        letters = pattern.sizes(_kernel_shape(pattern, spec), sizes)
        return cls(owner, written, pattern, spec, letters, {}).with_ranks(rank)

    def with_ranks(self, rank: Rank) -> Scheme:
        """Return the same scheme with other ranks."""
        return replace(self, ranks=_read_ranks(self, rank))

    @property
    def operands(self) -> tuple[str, ...]:
        """Letters of each factor's array; a single factor has no bond."""
        if len(self.pattern.factors) == 1:
            return self.pattern.factors
        return self.pattern.operands

    @property
    def bonds(self) -> str:
        """Letters that are summed over between the factors."""
        return self.pattern.bonds if len(self.pattern.factors) > 1 else ""

    @cached_property
    def inputs(self) -> str:
        """Letters that label the channels of the input, slowest first."""
        return self._letters_of(IN)

    @cached_property
    def outputs(self) -> str:
        """Letters that label the channels of the output, slowest first."""
        return self._letters_of(OUT if OUT in self.pattern.letters else IN)

    def _letters_of(self, role: str) -> str:
        group = GROUP if GROUP in self.pattern.letters else ""
        return group + "".join(axis for axis in self.pattern.axes if role in axis)

    @cached_property
    def places(self) -> dict[str, tuple[int, int]]:
        """Axis of each spatial letter, and the distance between its values in the input."""
        found = {}
        spatial = self.pattern.axes[self.pattern.ndim - self.spec.ndim :]
        for j, axis in enumerate(spatial):
            pitch = self.spec.dilation[j]
            for letter in reversed(axis):
                found[letter] = (j, pitch)
                pitch *= self.sizes[letter]
        return found

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the weights, one axis per axis of the pattern."""
        return _kernel_shape(self.pattern, self.spec)

    def size(self, letter: str) -> int:
        """Return the size of a letter; for a bond, its largest rank."""
        if letter in self.sizes:
            return self.sizes[letter]
        return self._largest_ranks[letter]

    @cached_property
    def _largest_ranks(self) -> dict[str, int]:
        return {bond: int(np.max(ranks, initial=0)) for bond, ranks in self.ranks.items()}

    def channel_letters(self, factor: int) -> str:
        """Return the letters of a factor that are not spatial."""
        return "".join(a for a in self.operands[factor] if a not in self.places)

    def space_letters(self, factor: int) -> str:
        """Return the spatial letters of a factor, in the order of the kernel."""
        operand = self.operands[factor]
        return "".join(a for a in self.pattern.letters if a in operand and a in self.places)

    def on_axis(self, factor: int, axis: int) -> tuple[int, int] | None:
        """Return the number of taps of a factor along a spatial axis and their spacing, or None.

        Raises
        ------
        PatternError
            If the taps are not evenly spaced.
        """
        letters = self.pattern.axes[self.pattern.ndim - self.spec.ndim + axis]
        mine = [a for a in letters if a in self.operands[factor]]
        if not mine:
            return None
        if "".join(mine) not in letters:
            raise PatternError(
                f"{self.owner}: factor `{self.pattern.factors[factor]}` of `{self.written}` has "
                f"{' and '.join(mine)} of the group ({letters}) but not what is between: its "
                "taps are not evenly spaced, so it is not a convolution"
            )
        return math.prod(self.sizes[a] for a in mine), self.places[mine[-1]][1]

    def grid(self, letters: str) -> NDArray[np.intp]:
        """Return all combinations of values of these letters, one per row, the first letter slowest."""
        if not letters:
            return np.zeros((1, 0), np.intp)
        axes = np.indices([self.size(a) for a in letters])
        return axes.reshape(len(letters), -1).T

    def exists(self, letters: str, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which rows exist: those whose bond is below the rank of their batch value."""
        found = np.ones(len(rows), np.bool_)
        for bond, ranks in self.ranks.items():
            if bond in letters and ranks.min() < ranks.max():
                batch = tuple(rows[:, letters.index(a)] for a in self.pattern.batch)
                found &= rows[:, letters.index(bond)] < ranks[batch]
        return found

    def with_even_ranks(self, letters: str) -> Scheme:
        """Return a scheme whose ranks have the same sum for all values of these letters.

        The lowest ranks are raised first. A grouped convolution needs this, because all its groups
        have one size. Returns the scheme itself if nothing changes.
        """
        batch = self.pattern.batch
        lead = [batch.index(a) for a in batch if a in letters]
        rest = [i for i in range(len(batch)) if i not in lead]
        ranks = {}
        for bond, old in self.ranks.items():
            moved = np.transpose(old, lead + rest)
            flat = moved.reshape(math.prod(moved.shape[: len(lead)]), -1).copy()
            for row in flat:
                for _ in range(int(flat.sum(axis=1).max()) - int(row.sum())):
                    row[np.argmin(row)] += 1
            ranks[bond] = np.transpose(flat.reshape(moved.shape), np.argsort(lead + rest))
        if all(np.array_equal(ranks[b], self.ranks[b]) for b in ranks):
            return self
        return replace(self, ranks=ranks)

    def kernel_of(self, weight: Array) -> Array:
        """Return a convolution's weights with one axis per axis of the pattern."""
        return weight.reshape(self.kernel_shape)


def _kernel_shape(pattern: Pattern, spec: ConvSpec) -> tuple[int, ...]:
    out, into = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    lead: tuple[int, ...] = (spec.groups,) if GROUP in pattern.axes else ()
    if OUT in pattern.letters:
        lead += (out,)
    if IN in pattern.letters:
        lead += (into if OUT in pattern.letters else spec.in_channels,)
    return (*lead, *spec.kernel_size)


def _check_axes(owner: str, pattern: Pattern, spec: ConvSpec) -> None:
    """Check that the channels come first and that the number of spatial axes is right."""
    roles = ["".join(r for r in (OUT, IN) if r in axis) for axis in pattern.axes]
    spatial = roles.count("")
    if roles != [r for r in (OUT, IN) if r in roles] + [""] * spatial:
        raise PatternError(
            f"{owner}: the channels `o`, `c` come first and each once in a layer's pattern, then "
            f"the spatial axes; got `{pattern}`"
        )
    if spatial != spec.ndim:
        raise PatternError(
            f"{owner}: `{pattern}` has {spatial} spatial axes; the layer convolves over "
            f"{spec.ndim}, its kernel has the shape {spec.kernel_size}"
        )
    if spec.transposed and any(len(axis) > 1 for axis in pattern.axes[-spec.ndim :]):
        raise PatternError(
            f"{owner}: `{pattern}` splits a spatial axis among several factors, which transposed "
            "convolutions do not support"
        )
    if GROUP in pattern.letters:
        raise PatternError(
            f"{owner}: `g` stands for the groups of channels, which `groups` says; got `{pattern}`"
        )
    shared = [a for a in pattern.batch if a in "".join(pattern.axes[-spec.ndim :])]
    if shared and len(pattern.factors) > 1:
        raise PatternError(
            f"{owner}: `{shared[0]}` stands in every factor of `{pattern}`: each of its taps would "
            "be a layer of its own. Only channels can be batch letters of a layer"
        )
    _check_channels(owner, pattern, spec)


def _check_channels(owner: str, pattern: Pattern, spec: ConvSpec) -> None:
    """Check that a pattern without `o` or `c` describes groups with one such channel."""
    out, into = spec.out_channels // spec.groups, spec.in_channels // spec.groups
    lacks_out = OUT not in pattern.letters and out != 1
    lacks_in = (IN not in pattern.letters or OUT not in pattern.letters) and into != 1
    if not (lacks_out or lacks_in):
        return
    space = "".join("".join(a) for a in pattern.axes if OUT not in a and IN not in a)
    raise PatternError(
        f"{owner}: `{pattern}` describes {'one filter' if lacks_out else 'filters of one channel'} "
        f"for each group of channels; got in_channels={spec.in_channels}, "
        f"out_channels={spec.out_channels}, groups={spec.groups}. Give groups=in_channels, or a "
        f"pattern of weights `oc{space}`"
    )


def _with_groups(pattern: Pattern, spec: ConvSpec) -> Pattern:
    """Put the batch letter of the groups in front if there are several groups."""
    if spec.groups == 1 or (OUT not in pattern.letters and IN in pattern.letters):
        return pattern
    return Pattern((GROUP, *pattern.axes), tuple(GROUP + f for f in pattern.factors))


def _read_ranks(scheme: Scheme, rank: Rank) -> dict[str, NDArray[np.intp]]:
    """Return the rank of each bond and batch value."""
    shape = tuple(scheme.sizes[a] for a in scheme.pattern.batch)
    if not scheme.bonds:
        return {}
    given: Mapping[str, Any] = (
        rank if isinstance(rank, Mapping) else dict.fromkeys(scheme.bonds, rank)
    )
    if set(given) != set(scheme.bonds):
        raise RankError(
            f"{scheme.owner}: `rank` must name the bonds {', '.join(scheme.bonds)} of "
            f"`{scheme.written}`; got {dict(given)}"
        )
    ranks = {b: _rank_array(scheme, b, given[b], shape) for b in scheme.bonds}
    if not scheme.pattern.has_one_bond:  # the cores of Tucker and the like: one size for all groups
        return {b: np.full(shape, r.max(initial=1)) for b, r in ranks.items()}
    return ranks


def _rank_array(
    scheme: Scheme, bond: str, value: object, shape: tuple[int, ...]
) -> NDArray[np.intp]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(
            f"{scheme.owner}: `rank` must be integers; got {value!r} for bond {bond}"
        )
    ragged = array.ndim > 0
    if ragged and array.size != math.prod(shape):
        names = " x ".join(scheme.pattern.batch) or "no batch letter"
        raise RankError(
            f"{scheme.owner}: `rank` of bond {bond} must be one integer, or one for each of "
            f"{math.prod(shape)} batch values ({names}) of `{scheme.pattern}`; got {array.size}"
        )
    if array.min(initial=1) < (0 if ragged else 1) or array.max(initial=1) < 1:
        raise RankError(
            f"{scheme.owner}: `rank` must be >= 1 (or 0 for some batch values); got {value!r}"
        )
    if not ragged:
        return np.full(shape, int(array), np.intp)
    return array.reshape(shape).astype(np.intp)


def space_letters(ndim: int) -> str:
    """Return the letters of `ndim` spatial axes.

    Examples
    --------
    >>> space_letters(2)
    'yx'
    """
    return "zyx"[-ndim:]
