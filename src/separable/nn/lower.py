"""lower: a pattern and a convolution -> Steps; the arrays of Factors <-> the weights of Steps.

The only place that turns axes into convolutions. A channel between two steps is labelled by the
values of the letters it stands for: the input's channels by `c`, those after the depthwise step of
``ocyx -> oc,cyx`` by `(c, R)`. A step takes one factor into account:

* a letter of the factor that is needed later stays: each of its values is a group;
* one that is not needed any more is summed over: the channels of a group;
* a new one is produced: the output channels of a group;
* a letter that the factor does not have is carried along: its values share the weights.

Strides, dilation and padding go to the step that owns the axis. Padding commutes with the steps
that do not (all are linear and have no bias but the last), and where two steps share an axis
(``(Yy)``) the first one pads for both, and takes what of the stride divides the reach of the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.nn.scheme import Scheme
from separable.nn.step import Labels, Same, Step

__all__ = ["Same", "Step", "lower", "read_weights", "weights_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class _State:
    """The channels between two steps: one row of letter values a channel, in channel order."""

    letters: str
    rows: Labels

    def column(self, letter: str) -> Labels:
        return self.rows[:, self.letters.index(letter)]

    def key(self, letters: str) -> Labels:
        """The columns of these letters."""
        return self.rows[:, [self.letters.index(a) for a in letters]]

    def order(self, letters: str) -> Labels:
        """The order of the channels in which they are sorted by these letters, slowest first."""
        if not letters or not len(self.rows):
            return np.arange(len(self.rows))
        return np.lexsort(self.key(letters).T[::-1])

    def sorted(self, letters: str) -> _State:
        return _State(letters, self.key(letters)[self.order(letters)])


@dataclass(frozen=True)
class _Roles:
    """What a step does with each letter, in the order the letters are to have."""

    shared: str
    grouped: str
    summed: str
    new: str


class _UnevenError(Exception):
    """Groups of different sizes, which no convolution has; with the letters of the groups."""

    def __init__(self, letters: str) -> None:
        super().__init__(letters)
        self.letters = letters


def lower(scheme: Scheme) -> tuple[Scheme, tuple[Step, ...]]:
    """Turn a scheme into convolutions.

    Parameters
    ----------
    scheme : Scheme
        The layer, the pattern, the sizes of its letters and its ranks.

    Returns
    -------
    scheme : Scheme
        The same, its ragged ranks raised where no grouped convolution has groups that uneven.
    steps : tuple of Step
        In the order in which they run.

    Examples
    --------
    >>> from separable.nn.conv_spec import ConvSpec
    >>> spec = ConvSpec.make("layer", 2, in_channels=4, out_channels=8, kernel_size=3, stride=2)
    >>> _, steps = lower(Scheme.make("layer", "ocyx -> oc,cyx", spec, rank=2))
    >>> [(s.in_channels, s.out_channels, s.groups, s.kernel_size, s.stride) for s in steps]
    [(4, 8, 4, (3, 3), (2, 2)), (8, 8, 1, (1, 1), (1, 1))]
    """
    try:
        return scheme, _walk(scheme, _running_order(scheme))
    except _UnevenError as uneven:
        raised = scheme.evened(uneven.letters)
        return lower(raised if raised is not scheme else scheme.evened(scheme.pattern.batch))


# Step 1: the order of the factors.


def _running_order(scheme: Scheme) -> tuple[int, ...]:
    """Return the order with the fewest multiplications.

    Among equals a factor of the input's channels comes first and one of the output's last (which
    they always do where there are more than one of each), then they run as written.
    """
    count = len(scheme.operands)

    def key(order: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]]:
        late = 0
        for at, k in enumerate(order):
            own = [a for a in scheme.channel_letters(k) if a not in scheme.pattern.batch]
            late += at * any(a in scheme.inputs for a in own)
            late += (count - at) * any(a in scheme.outputs for a in own)
        return _cost(scheme, order), late, order

    return min(itertools.permutations(range(count)), key=key)


def _cost(scheme: Scheme, order: tuple[int, ...]) -> int:
    """Multiplications for each position, strides not counted."""
    state, total = set(scheme.inputs), 0
    for at, k in enumerate(order):
        letters = set(scheme.channel_letters(k))
        later = _later(scheme, order, at)
        used = state | letters
        taps = math.prod(scheme.size(a) for a in scheme.operands[k] if a in scheme.places)
        total += math.prod(scheme.size(a) for a in used) * taps
        state = {a for a in used if a in later}
    return total


def _later(scheme: Scheme, order: Sequence[int], at: int) -> set[str]:
    """The letters needed after this step."""
    needed = set(scheme.outputs)
    for k in order[at + 1 :]:
        needed |= set(scheme.operands[k])
    return needed


# Step 2: one convolution for each factor.


def _walk(scheme: Scheme, order: tuple[int, ...]) -> tuple[Step, ...]:
    state = _State(scheme.inputs, scheme.grid(scheme.inputs))
    axes = _Axes(scheme, order)
    steps = []
    for at, k in enumerate(order):
        last = at == len(order) - 1
        roles = _roles(scheme, order, at, state.letters)
        gather = _permutation(state, roles.shared + roles.grouped + roles.summed)
        if gather is not None:
            state = _State(state.letters, state.rows[list(gather)])
        after = _produced(scheme, state, roles)
        step = _convolution(scheme, k, state, after, roles)
        if gather is not None:
            taken = step.gather if step.gather is not None else range(len(gather))
            step = replace(step, gather=tuple(gather[i] for i in taken))
        state = after
        if last:
            step, state = _in_output_order(scheme, step, state)
        steps.append(replace(step, bias=last and scheme.spec.bias, **axes.take(k)))
    return tuple(_with_positions(steps))


def _roles(scheme: Scheme, order: tuple[int, ...], at: int, letters: str) -> _Roles:
    own = scheme.channel_letters(order[at])
    later = _later(scheme, order, at)
    kept = [a for a in letters if a in later]
    new = [a for a in own if a not in letters]
    if at + 1 < len(order):  # what the next step sums over comes last, what it carries first
        after = scheme.channel_letters(order[at + 1])
        needed = _later(scheme, order, at + 1)
        new.sort(key=lambda a: (a not in needed, a in after))
    else:
        new.sort(key=scheme.outputs.index)
    return _Roles(
        "".join(a for a in kept if a not in own),
        "".join(a for a in kept if a in own),
        "".join(a for a in letters if a not in later),
        "".join(new),
    )


def _permutation(state: _State, letters: str) -> tuple[int, ...] | None:
    """The order of channels that puts the letters in this order, None if they are in it."""
    order = state.order(letters)
    if np.array_equal(order, np.arange(len(order))):
        return None
    return tuple(order.tolist())


def _produced(scheme: Scheme, state: _State, roles: _Roles) -> _State:
    """The channels after a step, sorted as its convolution gives them."""
    kept = roles.shared + roles.grouped
    ragged = any(a in scheme.bonds for a in kept)
    old = np.unique(state.key(kept), axis=0) if ragged else scheme.grid(kept)
    new = scheme.grid(roles.new)
    rows = np.concatenate([np.repeat(old, len(new), axis=0), np.tile(new, (len(old), 1))], axis=1)
    letters = kept + roles.new
    return _State(letters, rows[scheme.exists(letters, rows)])


def _convolution(scheme: Scheme, k: int, before: _State, after: _State, roles: _Roles) -> Step:
    """The convolution from these channels to those, its axes of space still to be filled in."""
    shared = math.prod(scheme.size(a) for a in roles.shared)
    inner = _State(before.letters, before.rows[: len(before.rows) // shared])
    outer = _State(after.letters, after.rows[: len(after.rows) // shared])
    groups = scheme.grid(roles.grouped)
    if roles.grouped:
        seen = np.concatenate([inner.key(roles.grouped), outer.key(roles.grouped)])
        groups = np.unique(seen, axis=0)
    ins = _counts(inner, roles.grouped, groups)
    outs = _counts(outer, roles.grouped, groups)
    gather = scatter = None
    if len(set(ins.tolist())) == 1 and len(set(outs.tolist())) == 1:
        shape = (len(groups), int(outs[0]), int(ins[0]))
    elif shared == 1 and set(ins.tolist()) == {1}:
        gather = np.repeat(np.arange(len(groups)), outs)
        inner = _State(inner.letters, inner.rows[gather])
        shape = (len(gather), 1, 1)
    elif shared == 1 and set(outs.tolist()) == {1}:
        scatter = np.repeat(np.arange(len(groups)), ins)
        outer = _State(outer.letters, outer.rows[scatter])
        shape = (len(scatter), 1, 1)
    else:
        raise _UnevenError(roles.grouped)
    width = shape[0] * shape[2]
    return Step(
        factor=k, in_channels=width, out_channels=shape[0] * shape[1], groups=shape[0],
        kernel_size=(), stride=(), dilation=(), padding=(), padding_mode=scheme.spec.padding_mode,
        bias=False, shared=shared, gather=_as_tuple(gather), scatter=_as_tuple(scatter),
        outputs=len(after.rows), index=_index(scheme.channel_letters(k), inner, outer, shape),
    )  # fmt: skip


def _as_tuple(index: Labels | None) -> tuple[int, ...] | None:
    return None if index is None else tuple(index.tolist())


def _counts(state: _State, letters: str, groups: Labels) -> Labels:
    """How many channels each group has."""
    if not letters:
        return np.array([len(state.rows)])
    known, counts = np.unique(state.key(letters), axis=0, return_counts=True)
    found = np.zeros(len(groups), np.intp)
    at = {tuple(row): n for n, row in enumerate(groups.tolist())}
    found[[at[tuple(row)] for row in known.tolist()]] = counts
    return found


def _index(
    letters: str, inner: _State, outer: _State, shape: tuple[int, int, int]
) -> tuple[Labels, ...]:
    """The value of each channel letter of a factor at ``weight[group, out, in]``."""
    groups, outs, ins = shape
    return tuple(
        outer.column(a).reshape(groups, outs, 1)
        if a in outer.letters
        else inner.column(a).reshape(groups, 1, ins)
        for a in letters
    )


def _in_output_order(scheme: Scheme, step: Step, state: _State) -> tuple[Step, _State]:
    """Put the last step's channels into the order that the layer's output has."""
    order = _permutation(state, scheme.outputs)
    if order is None:
        return step, state
    place = np.empty(len(order), np.intp)
    place[list(order)] = np.arange(len(order))
    if step.scatter is not None:
        place = place[list(step.scatter)]
    return replace(step, scatter=tuple(place.tolist())), state.sorted(scheme.outputs)


# Step 3: strides, dilation and padding.


class _Axes:
    """Hands each step its share of stride, dilation and padding; steps are taken in order."""

    def __init__(self, scheme: Scheme, order: tuple[int, ...]) -> None:
        self.scheme = scheme
        self.waiting = list(order)
        self.left = list(scheme.spec.stride)  # the stride still to be done
        self.done = [1] * scheme.spec.ndim

    def take(self, k: int) -> dict[str, Any]:
        self.waiting.remove(k)
        parts = [self._axis(k, j) for j in range(self.scheme.spec.ndim)]
        names = ("kernel_size", "stride", "dilation", "padding")
        return dict(zip(names, zip(*parts, strict=True), strict=True))

    def _axis(self, k: int, j: int) -> tuple[int, int, int, tuple[int, int] | Same]:
        """Return kernel size, stride, dilation and padding of one axis."""
        mine = self.scheme.on_axis(k, j)
        if mine is None:
            return 1, 1, 1, (0, 0)
        size, pitch = mine
        first = not any(self.scheme.on_axis(o, j) for o in self._earlier(k))
        dilation = pitch // self.done[j]
        later = [p for o in self.waiting if (p := self.scheme.on_axis(o, j)) is not None]
        stride = math.gcd(self.left[j], *(p[1] // self.done[j] for p in later))
        self.left[j] //= stride
        self.done[j] *= stride
        return size, stride, dilation, self._padding(j) if first else (0, 0)

    def _earlier(self, k: int) -> list[int]:
        every = range(len(self.scheme.operands))
        return [o for o in every if o not in self.waiting and o != k]

    def _padding(self, j: int) -> tuple[int, int] | Same:
        spec = self.scheme.spec
        if not isinstance(spec.padding, str):
            return spec.padding[j], spec.padding[j]
        same = Same(spec.reach[j], spec.stride[j])
        return same.amounts(1) if same.stride == 1 or same.reach == 0 else same


def _with_positions(steps: list[Step]) -> list[Step]:
    found, positions = [], 1
    for step in reversed(steps):
        found.append(replace(step, positions=positions))
        positions *= math.prod(step.stride)
    return found[::-1]


# Step 4: weights.


def weights_of(scheme: Scheme, steps: Sequence[Step], arrays: Sequence[Array]) -> list[Array]:
    """Return the weights of each step, read from the arrays of the factors.

    Parameters
    ----------
    scheme : Scheme
    steps : sequence of Step
    arrays : sequence of ndarray
        As in `Factors.arrays` for ``scheme.pattern``; a bond may be shorter than the scheme's.

    Returns
    -------
    list of ndarray, each of the shape ``step.weight_shape``
    """
    found = []
    for step in steps:
        array = _filled_up(scheme, step.factor, arrays[step.factor])
        block = _letters_in_order(scheme, step.factor, array)[step.index]
        found.append(np.ascontiguousarray(block.reshape(step.weight_shape)))
    return found


def read_weights(scheme: Scheme, steps: Sequence[Step], weights: Sequence[Array]) -> list[Array]:
    """Return the arrays of the factors, read from the weights of each step: the inverse."""
    found: dict[int, Array] = {}
    for step, weight in zip(steps, weights, strict=True):
        operand = scheme.operands[step.factor]
        array = np.zeros([scheme.size(a) for a in operand], dtype=weight.dtype)
        view = _letters_in_order(scheme, step.factor, array)
        spatial = view.shape[len(step.index) :]
        groups = np.broadcast_shapes((1, 1, 1), *(i.shape for i in step.index))
        view[step.index] = weight.reshape(*groups, *spatial)
        found[step.factor] = array
    return [found[k] for k in range(len(scheme.operands))]


def _letters_in_order(scheme: Scheme, factor: int, array: Array) -> Array:
    """View a factor's array with its channel letters first, then its letters of space."""
    operand = scheme.operands[factor]
    letters = scheme.channel_letters(factor) + scheme.space_letters(factor)
    return np.transpose(array, [operand.index(a) for a in letters])


def _filled_up(scheme: Scheme, factor: int, array: Array) -> Array:
    """Fill the bonds of a factor up with zeros to the size that the scheme has for them."""
    widths = [
        (0, max(0, scheme.size(a) - n))
        for a, n in zip(scheme.operands[factor], array.shape, strict=True)
    ]
    return np.pad(array, widths) if any(w for _, w in widths) else array
