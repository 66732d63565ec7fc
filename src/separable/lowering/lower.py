"""Lowering of a scheme to Steps, and conversion between arrays of factors and weights of steps.

This is the only module that turns axes into convolutions. A channel between two steps is labelled
by the values of the letters it stands for: a channel of the input by `c`, one after the depthwise
step of ``ocyx -> oc,cyx`` by `(c, R)`. `step_shapes` gives the role of each letter in each step;
here the rows of letter values are listed, sorted and counted, which also covers ragged ranks.

Padding commutes with the steps that do not pad, because all steps are linear and only the last one
has a bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.lowering.conv_spec import ConvSpec
from separable.lowering.scheme import Scheme
from separable.lowering.step import Labels, SamePadding, Step
from separable.lowering.step_shapes import StepShape, step_shapes

__all__ = ["lower", "read_weights", "weights_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class _Channels:
    """Channels between two steps: one row of letter values per channel, in channel order."""

    letters: str
    rows: Labels

    def column(self, letter: str) -> Labels:
        return self.rows[:, self.letters.index(letter)]

    def key(self, letters: str) -> Labels:
        """Return the columns of these letters."""
        return self.rows[:, [self.letters.index(a) for a in letters]]

    def order(self, letters: str) -> Labels:
        """Return the order that sorts the channels by these letters, the first one slowest."""
        if not letters or not len(self.rows):
            return np.arange(len(self.rows))
        return np.lexsort(self.key(letters).T[::-1])

    def first_part(self, parts: int) -> _Channels:
        """Return the first of `parts` equal parts."""
        return _Channels(self.letters, self.rows[: len(self.rows) // parts])

    def sorted(self, letters: str) -> _Channels:
        return _Channels(letters, self.key(letters)[self.order(letters)])


class _RaggedGroupsError(Exception):
    """Groups of different sizes, which no convolution has; carries the letters of the groups."""

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
        The same scheme; ragged ranks are raised where no grouped convolution could have groups of
        such different sizes.
    steps : tuple of Step
        The convolutions, in running order.

    Examples
    --------
    >>> from separable.lowering.conv_spec import ConvSpec
    >>> spec = ConvSpec.make("layer", 2, in_channels=4, out_channels=8, kernel_size=3, stride=2)
    >>> _, steps = lower(Scheme.make("layer", "ocyx -> oc,cyx", spec, rank=2))
    >>> [(s.in_channels, s.out_channels, s.groups, s.kernel_size, s.stride) for s in steps]
    [(4, 8, 4, (3, 3), (2, 2)), (8, 8, 1, (1, 1), (1, 1))]
    """
    try:
        return scheme, _steps(scheme)
    except _RaggedGroupsError as ragged:
        raised = scheme.with_even_ranks(ragged.letters)
        return lower(
            raised if raised is not scheme else scheme.with_even_ranks(scheme.pattern.batch)
        )


# Step 1: one convolution per factor.


def _steps(scheme: Scheme) -> tuple[Step, ...]:
    state = _Channels(scheme.inputs, scheme.grid(scheme.inputs))
    shapes, steps = step_shapes(scheme), []
    for shape in shapes:
        is_last = shape is shapes[-1]
        gather = _permutation(state, shape.carried + shape.grouped + shape.summed)
        if gather is not None:
            state = _Channels(state.letters, state.rows[list(gather)])
        after = _produced(scheme, state, shape)
        step = _convolution(scheme, shape, state, after)
        if gather is not None:
            taken = step.gather if step.gather is not None else range(len(gather))
            step = replace(step, gather=tuple(gather[i] for i in taken))
        state = after
        if is_last:
            step, state = _in_output_order(scheme, step, state)
        steps.append(replace(step, bias=is_last and scheme.spec.bias))
    return tuple(steps)


def _permutation(state: _Channels, letters: str) -> tuple[int, ...] | None:
    """Return the order that sorts the channels by `letters`, or None if they are sorted."""
    order = state.order(letters)
    if np.array_equal(order, np.arange(len(order))):
        return None
    return tuple(order.tolist())


def _produced(scheme: Scheme, state: _Channels, shape: StepShape) -> _Channels:
    """Return the channels after a step, in the order of its convolution's output."""
    kept = shape.carried + shape.grouped
    ragged = any(a in scheme.bonds for a in kept)
    old = np.unique(state.key(kept), axis=0) if ragged else scheme.grid(kept)
    new = scheme.grid(shape.new)
    rows = np.concatenate([np.repeat(old, len(new), axis=0), np.tile(new, (len(old), 1))], axis=1)
    letters = kept + shape.new
    return _Channels(letters, rows[scheme.exists(letters, rows)])


def _convolution(scheme: Scheme, shape: StepShape, before: _Channels, after: _Channels) -> Step:
    """Return the convolution that turns the channels `before` into the channels `after`."""
    # Blocks of channels that share the weights look alike: the first one describes them all.
    inner = before.first_part(shape.blocks)
    outer = after.first_part(shape.blocks)
    groups = scheme.grid(shape.grouped)
    if shape.grouped:
        seen = np.concatenate([inner.key(shape.grouped), outer.key(shape.grouped)])
        groups = np.unique(seen, axis=0)
    ins = _counts(inner, shape.grouped, groups)
    outs = _counts(outer, shape.grouped, groups)
    gather = scatter = None
    if len(set(ins.tolist())) == 1 and len(set(outs.tolist())) == 1:
        sizes = (len(groups), int(outs[0]), int(ins[0]))
    elif shape.blocks == 1 and set(ins.tolist()) == {1}:
        # Ragged outputs: each input is taken once per output, and every group has one of both.
        gather = np.repeat(np.arange(len(groups)), outs)
        inner = _Channels(inner.letters, inner.rows[gather])
        sizes = (len(gather), 1, 1)
    elif shape.blocks == 1 and set(outs.tolist()) == {1}:
        # Ragged inputs: one output per input, added up by `scatter`.
        scatter = np.repeat(np.arange(len(groups)), ins)
        outer = _Channels(outer.letters, outer.rows[scatter])
        sizes = (len(scatter), 1, 1)
    else:
        raise _RaggedGroupsError(shape.grouped)
    spec = scheme.spec
    transposed = spec.transposed and any(shape.pads)  # other steps are pointwise convolutions
    return Step(
        factor=shape.factor, in_channels=sizes[0] * sizes[2], out_channels=sizes[0] * sizes[1],
        groups=sizes[0], kernel_size=shape.kernel_size, stride=shape.stride,
        dilation=shape.dilation,
        padding=tuple(_padding(spec, j) if pads else (0, 0) for j, pads in enumerate(shape.pads)),
        padding_mode=spec.padding_mode, bias=False, shared=shape.blocks, gather=_as_tuple(gather),
        scatter=_as_tuple(scatter), outputs=len(after.rows),
        index=_index(scheme.channel_letters(shape.factor), inner, outer, sizes),
        positions=shape.positions, transposed=transposed,
        output_padding=tuple(
            n if pads else 0 for n, pads in zip(spec.output_padding, shape.pads, strict=True)
        ) if transposed else (),
    )  # fmt: skip


def _padding(spec: ConvSpec, axis: int) -> tuple[int, int] | SamePadding:
    if not isinstance(spec.padding, str):
        return spec.padding[axis], spec.padding[axis]
    same = SamePadding(spec.reach[axis], spec.stride[axis])
    return same.amounts(1) if same.stride == 1 or same.reach == 0 else same


def _as_tuple(index: Labels | None) -> tuple[int, ...] | None:
    return None if index is None else tuple(index.tolist())


def _counts(state: _Channels, letters: str, groups: Labels) -> Labels:
    """Return the number of channels in each group."""
    if not letters:
        return np.array([len(state.rows)])
    known, counts = np.unique(state.key(letters), axis=0, return_counts=True)
    found = np.zeros(len(groups), np.intp)
    at = {tuple(row): n for n, row in enumerate(groups.tolist())}
    found[[at[tuple(row)] for row in known.tolist()]] = counts
    return found


def _index(
    letters: str, inner: _Channels, outer: _Channels, sizes: tuple[int, int, int]
) -> tuple[Labels, ...]:
    """Return the value of each channel letter of a factor at ``weight[group, out, in]``."""
    groups, outs, ins = sizes
    return tuple(
        outer.column(a).reshape(groups, outs, 1)
        if a in outer.letters
        else inner.column(a).reshape(groups, 1, ins)
        for a in letters
    )


def _in_output_order(scheme: Scheme, step: Step, state: _Channels) -> tuple[Step, _Channels]:
    """Sort the last step's channels as the layer's output has them."""
    order = _permutation(state, scheme.outputs)
    if order is None:
        return step, state
    place = np.empty(len(order), np.intp)
    place[list(order)] = np.arange(len(order))
    if step.scatter is not None:
        place = place[list(step.scatter)]
    return replace(step, scatter=tuple(place.tolist())), state.sorted(scheme.outputs)


# Step 2: weights.


def weights_of(scheme: Scheme, steps: Sequence[Step], arrays: Sequence[Array]) -> list[Array]:
    """Return the weights of each step, read from the arrays of the factors.

    Parameters
    ----------
    scheme : Scheme
    steps : sequence of Step
    arrays : sequence of ndarray
        Arrays as in `Factors.arrays` for ``scheme.pattern``; a bond may be shorter than in the
        scheme.

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
    """Return the arrays of the factors, read from the weights of each step.

    This is the inverse of `weights_of`.
    """
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
    """View a factor's array with its channel letters first, then its spatial letters."""
    operand = scheme.operands[factor]
    letters = scheme.channel_letters(factor) + scheme.space_letters(factor)
    return np.transpose(array, [operand.index(a) for a in letters])


def _filled_up(scheme: Scheme, factor: int, array: Array) -> Array:
    """Pad the bonds of a factor with zeros to the sizes in the scheme."""
    widths = [
        (0, max(0, scheme.size(a) - n))
        for a, n in zip(scheme.operands[factor], array.shape, strict=True)
    ]
    return np.pad(array, widths) if any(w for _, w in widths) else array
