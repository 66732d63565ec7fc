"""What a convolution costs that is separated by a pattern: one convolution for each factor.

The values between two factors carry letters, as in an einsum: the input's channels at first. A
factor multiplies, at each position it computes, once for every value of the letters of the data
and of its own together; letters that nothing later needs are summed over. So one rule counts all
patterns, with the same order of factors, strides and padding as the layers of `separable.nn`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from separable.cost.count import Cost, mac_cost
from separable.cost.geometry import Convolution, Padding, outputs_along
from separable.errors import ArgumentError, PatternError
from separable.pattern import Pattern, parse

__all__ = ["factor_costs", "factored", "separate"]

Rank = int | Mapping[str, int]


def factored(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    filters: int,
    pattern: str,
    *,
    rank: Rank = 1,
    sizes: Mapping[str, int] | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    bias: bool = False,
    itemsize: int = 4,
) -> Cost:
    """Count a convolution layer separated by a pattern; the sum of `factor_costs`.

    Parameters
    ----------
    input_shape, kernel_shape, filters, stride, padding, dilation, bias, itemsize
        As for `conv`. Stride, dilation and padding go to the factor that has the axis.
    pattern : str
        Of the weights ``(o, c, space)``, for instance ``"ocyx -> oc,cyx"``.
    rank : int or mapping of bond to int
        1 if not given, the depthwise separable layer everyone knows.
    sizes : mapping of letter to int, optional
        Of the letters of groups ``(Yy)``.

    Raises
    ------
    PatternError
        If the pattern cannot be read, or is not one of a convolution's weights.
    ArgumentError, ArgumentTypeError
        If a number is out of its range or does not fit the others.

    Examples
    --------
    >>> factored((12, 12, 3), (5, 5), 256, "ocyx -> oc,cyx").multiplications
    53952
    >>> factored((15, 15, 1), (3, 3), 1, "ocyx -> ocy,ocx").multiplications
    1092
    """
    found = factor_costs(
        input_shape, kernel_shape, filters, pattern, rank=rank, sizes=sizes, stride=stride,
        padding=padding, dilation=dilation, bias=bias, itemsize=itemsize,
    )  # fmt: skip
    return sum(found.values(), Cost())


def factor_costs(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    filters: int,
    pattern: str,
    *,
    rank: Rank = 1,
    sizes: Mapping[str, int] | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    bias: bool = False,
    itemsize: int = 4,
) -> dict[str, Cost]:
    """Count each factor of a separated convolution layer.

    Parameters
    ----------
    input_shape, kernel_shape, filters, pattern, rank, sizes
        As for `factored`.
    stride, padding, dilation, bias, itemsize
        As for `factored`.

    Returns
    -------
    dict of str to Cost
        By the factor's letters, in the order in which they run: the one with the fewest
        multiplications.

    Raises
    ------
    PatternError, ArgumentError, ArgumentTypeError
        As for `factored`.

    Examples
    --------
    >>> found = factor_costs((12, 12, 3), (5, 5), 256, "ocyx -> oc,cyx")
    >>> {letters: cost.multiplications for letters, cost in found.items()}
    {'cyx': 4800, 'oc': 49152}
    """
    layer = Convolution.of(
        input_shape, kernel_shape, filters, stride=stride, padding=padding, dilation=dilation,
        bias=bias, itemsize=itemsize,
    )  # fmt: skip
    return separate(layer, parse(pattern), rank, sizes)


def separate(
    layer: Convolution, pattern: Pattern, rank: Rank = 1, sizes: Mapping[str, int] | None = None
) -> dict[str, Cost]:
    """Count each factor of a dense convolution separated by a pattern, in running order.

    Raises
    ------
    PatternError
        If the pattern is not one of this convolution's weights.
    ArgumentError
        If the convolution is grouped or transposed, or `rank` is not positive.

    Examples
    --------
    >>> from separable.pattern import parse
    >>> layer = Convolution((12, 12), 3, 256, (5, 5))
    >>> [cost.multiplications for cost in separate(layer, parse("ocyx -> oc,oyx")).values()]
    [110592, 409600]
    """
    if layer.groups > 1 or layer.transposed:
        what = "transposed" if layer.transposed else f"of {layer.groups} groups"
        raise ArgumentError(f"only a dense convolution can be separated; got one {what}")
    # Step 1: the size of every letter, and which factor runs when.
    scheme = _scheme(layer, pattern, rank, sizes)
    order = _running_order(scheme)
    # Step 2: one cost for each factor; each starts from what the one before left.
    found: dict[str, Cost] = {}
    space, letters = layer.space, frozenset(scheme.inputs)
    for at, k in enumerate(order):
        outputs = tuple(_advance(scheme, layer, order, at, axis, space) for axis in _axes(layer))
        after = _after(scheme, order, at, letters)
        macs = layer.batch * math.prod(outputs) * scheme.used(k, letters)
        before = layer.batch * math.prod(space) * scheme.count(letters)
        result = layer.batch * math.prod(outputs) * scheme.count(after)
        weights = math.prod(scheme.sizes[a] for a in pattern.operands[k])
        found[pattern.factors[k]] = mac_cost(macs, weights, before + result, layer.itemsize)
        space, letters = outputs, after
    if layer.bias:
        last = next(reversed(found))
        found[last] = _with_bias(found[last], layer)
    return found


@dataclass(frozen=True)
class _Scheme:
    """A pattern with the size of each of its letters, for one convolution."""

    pattern: Pattern
    sizes: Mapping[str, int]

    @property
    def outputs(self) -> str:
        return self.pattern.axes[0]

    @property
    def inputs(self) -> str:
        return self.pattern.axes[1]

    @property
    def places(self) -> str:
        """The letters of space."""
        return "".join(self.pattern.axes[2:])

    def channels(self, k: int) -> frozenset[str]:
        """The letters of a factor that are channels: not those of space."""
        return frozenset(self.pattern.operands[k]) - frozenset(self.places)

    def count(self, letters: frozenset[str]) -> int:
        return math.prod(self.sizes[a] for a in letters)

    def used(self, k: int, letters: frozenset[str]) -> int:
        """Multiplications of a factor at one of its positions, on data of these letters."""
        taps = math.prod(self.sizes[a] for a in self.pattern.operands[k] if a in self.places)
        return self.count(letters | self.channels(k)) * taps

    def on_axis(self, k: int, axis: int) -> tuple[int, int] | None:
        """How many taps a factor has along an axis of space, and how far apart; None if it has none."""
        group = self.pattern.axes[2 + axis]
        mine = [a for a in group if a in self.pattern.operands[k]]
        if not mine:
            return None
        inner = group[group.index(mine[-1]) + 1 :]
        return math.prod(self.sizes[a] for a in mine), math.prod(self.sizes[a] for a in inner)


def _scheme(
    layer: Convolution, pattern: Pattern, rank: Rank, sizes: Mapping[str, int] | None
) -> _Scheme:
    shape = (layer.filters, layer.channels, *layer.kernel)
    if pattern.ndim != len(shape):
        raise PatternError(
            f"pattern `{pattern}` is of a kernel of {pattern.ndim} axes; the weights of a "
            f"convolution in {layer.ndim}-D have {len(shape)}: {shape}. "
            'Start with the channels, for instance "ocyx -> oc,cyx"'
        )
    for axis in pattern.axes[2:]:
        shared = [a for a in axis if sum(a in f for f in pattern.factors) > 1]
        if shared:
            raise PatternError(
                f"letter `{shared[0]}` of space stands in several factors of `{pattern}`: no "
                "convolution does that. Leave it to one factor"
            )
    known = dict(pattern.sizes(shape, sizes))
    ranks = rank if isinstance(rank, Mapping) else dict.fromkeys(pattern.bonds, rank)
    for bond in pattern.bonds:
        size = ranks.get(bond, 1)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"`rank` must be a whole number >= 1; got {rank!r}")
        known[bond] = size
    unknown = sorted(set(ranks) - set(pattern.bonds))
    if unknown:
        raise ArgumentError(f"`rank` names {unknown}; the bonds of `{pattern}` are {pattern.bonds}")
    return _Scheme(pattern, known)


def _running_order(scheme: _Scheme) -> tuple[int, ...]:
    """Return the order of fewest multiplications, strides and borders not counted.

    Among equals a factor of the input's channels comes first, one of the output's last, and then
    they run as written.
    """
    count, batch = len(scheme.pattern.factors), frozenset(scheme.pattern.batch)

    def key(order: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]]:
        letters, total, late = frozenset(scheme.inputs), 0, 0
        for at, k in enumerate(order):
            own = scheme.channels(k) - batch
            total += scheme.used(k, letters)
            late += at * bool(own & frozenset(scheme.inputs))
            late += (count - at) * bool(own & frozenset(scheme.outputs))
            letters = _after(scheme, order, at, letters)
        return total, late, order

    return min(itertools.permutations(range(count)), key=key)


def _after(
    scheme: _Scheme, order: tuple[int, ...], at: int, letters: frozenset[str]
) -> frozenset[str]:
    """The letters of the data after a factor: those of the output and of the factors to come."""
    needed = frozenset(scheme.outputs).union(*(scheme.channels(k) for k in order[at + 1 :]))
    return (letters | scheme.channels(order[at])) & needed


def _axes(layer: Convolution) -> range:
    return range(layer.ndim)


def _advance(
    scheme: _Scheme,
    layer: Convolution,
    order: tuple[int, ...],
    at: int,
    axis: int,
    space: tuple[int, ...],
) -> int:
    """Return the size of an axis of space after a factor.

    The first factor that has the axis pads it. Where several have it, as with ``(Yy)``, each
    strides as far as the spacing of the later ones allows.
    """
    mine = scheme.on_axis(order[at], axis)
    if mine is None:
        return space[axis]
    left, done = layer.stride[axis], 1
    for k in order[: at + 1]:
        if scheme.on_axis(k, axis) is None:
            continue
        later = [p for o in order[order.index(k) + 1 :] if (p := scheme.on_axis(o, axis))]
        reaches = [layer.dilation[axis] * pitch // done for _, pitch in later]
        stride, before = math.gcd(left, *reaches), done
        left, done = left // stride, done * stride
    taps, pitch = mine
    first = not any(scheme.on_axis(k, axis) for k in order[:at])
    pads = layer.padding[axis] if first else (0, 0)
    dilation = layer.dilation[axis] * pitch // before
    return outputs_along(space[axis], taps, stride, dilation, pads)


def _with_bias(cost: Cost, layer: Convolution) -> Cost:
    outputs = layer.batch * math.prod(layer.outputs) * layer.filters
    return replace(
        cost,
        parameters=cost.parameters + layer.filters,
        weight_bytes=cost.weight_bytes + layer.filters * layer.itemsize,
        additions=cost.additions + outputs,
    )
