"""StepShape: which factor runs when, and the sizes of the convolution that applies it.

The values between two steps are labelled by letters, as in an einsum; at first by those of the
input's channels. For one factor, each letter has one of four roles:

* carried: the factor does not have the letter; blocks of channels share its weights;
* grouped: the factor has the letter and a later step needs it: one group per value;
* summed: nothing later needs the letter: the input channels of a group;
* new: the factor produces the letter: the output channels of a group.

Stride, dilation and padding belong to the step that has the spatial axis. Where several steps share
an axis (``(Yy)``), the first one pads for all of them and takes the part of the stride that divides
the spacing of the others' taps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from separable.lowering.scheme import Scheme

__all__ = ["StepShape", "step_shapes"]


@dataclass(frozen=True)
class StepShape:
    """Letters and sizes of the convolution that applies one factor.

    Attributes
    ----------
    factor : int
        Index of the factor in the pattern.
    carried, grouped, summed, new : str
        Letters by role, in the order in which they label the channels, slowest first.
    groups, inputs, outputs : int
        Number of groups, and of input and output channels per group, for even ranks.
    blocks : int
        Number of blocks of channels that share the weights.
    kernel_size, stride, dilation : tuple of int
        One number per spatial axis.
    pads : tuple of bool
        True for each axis along which this step adds the padding of the layer.
    positions : int
        Output positions of the step per output position of the layer; in a transposed layer, input
        positions per input position.

    Examples
    --------
    >>> from separable.lowering.conv_spec import ConvSpec
    >>> spec = ConvSpec.make("layer", 2, in_channels=4, out_channels=8, kernel_size=3, stride=2)
    >>> first, second = step_shapes(Scheme.make("layer", "ocyx -> oc,cyx", spec, rank=2))
    >>> first.grouped, first.new, first.kernel_size, first.stride, first.weights
    ('c', 'R', (3, 3), (2, 2), 72)
    >>> second.summed, second.new, second.channels_in, second.channels_out
    ('cR', 'o', 8, 8)
    """

    factor: int
    carried: str
    grouped: str
    summed: str
    new: str
    groups: int
    inputs: int
    outputs: int
    blocks: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[bool, ...]
    positions: int = 1

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.groups * self.inputs * self.outputs * math.prod(self.kernel_size)

    @property
    def multiplications(self) -> int:
        """Multiplications per output position of this step."""
        return self.blocks * self.weights

    @property
    def channels_in(self) -> int:
        """Number of channels before the step."""
        return self.blocks * self.groups * self.inputs

    @property
    def channels_out(self) -> int:
        """Number of channels after the step."""
        return self.blocks * self.groups * self.outputs


def step_shapes(scheme: Scheme) -> tuple[StepShape, ...]:
    """Return the shape of each step, in running order.

    Parameters
    ----------
    scheme : Scheme
        Ragged ranks count as the largest of each bond.

    Examples
    --------
    >>> from separable.lowering.conv_spec import ConvSpec
    >>> spec = ConvSpec.make("layer", 2, in_channels=64, out_channels=64, kernel_size=3)
    >>> tucker = Scheme.make("layer", "ocyx -> oR,RyxS,Sc", spec, rank=16)
    >>> [(s.factor, s.weights) for s in step_shapes(tucker)]
    [(2, 1024), (1, 2304), (0, 1024)]
    """
    order = _running_order(scheme)
    axes = _AxisShares(scheme, order)
    letters, found = scheme.inputs, []
    for at in range(len(order)):
        shape = _shape(scheme, order, at, letters, axes)
        letters = shape.carried + shape.grouped + shape.new
        found.append(shape)
    return _with_positions(found, scheme.spec.transposed)


# Step 1: the order of the factors.


def _running_order(scheme: Scheme) -> tuple[int, ...]:
    """Return the order with the fewest multiplications, strides and borders not counted.

    Among equal orders, a factor with letters of the input's channels runs first, one with letters
    of the output's channels last, and the others run as written.
    """
    count = len(scheme.operands)

    def key(order: tuple[int, ...]) -> tuple[int, int, tuple[int, ...]]:
        late = 0
        for at, k in enumerate(order):
            own = [a for a in scheme.channel_letters(k) if a not in scheme.pattern.batch]
            late += at * any(a in scheme.inputs for a in own)
            late += (count - at) * any(a in scheme.outputs for a in own)
        return _multiplications(scheme, order), late, order

    return min(itertools.permutations(range(count)), key=key)


def _multiplications(scheme: Scheme, order: tuple[int, ...]) -> int:
    """Return the multiplications per position if the factors run in this order."""
    state, total = set(scheme.inputs), 0
    for at, k in enumerate(order):
        used = state | set(scheme.channel_letters(k))
        taps = math.prod(scheme.size(a) for a in scheme.space_letters(k))
        total += math.prod(scheme.size(a) for a in used) * taps
        state = used & _needed_after(scheme, order, at)
    return total


def _needed_after(scheme: Scheme, order: Sequence[int], at: int) -> set[str]:
    """Return the letters that the output or a later step needs."""
    needed = set(scheme.outputs)
    for k in order[at + 1 :]:
        needed |= set(scheme.operands[k])
    return needed


# Step 2: the role of each letter.


def _shape(
    scheme: Scheme, order: tuple[int, ...], at: int, letters: str, axes: _AxisShares
) -> StepShape:
    """Return the shape of the step at this place, for channels labelled by `letters`."""
    own = scheme.channel_letters(order[at])
    needed = _needed_after(scheme, order, at)
    kept = [a for a in letters if a in needed]
    carried = "".join(a for a in kept if a not in own)
    grouped = "".join(a for a in kept if a in own)
    summed = "".join(a for a in letters if a not in needed)
    new = _new_letters(scheme, order, at, [a for a in own if a not in letters])

    def count(some: str) -> int:
        return math.prod(scheme.size(a) for a in some)

    kernel_size, stride, dilation, pads = axes.take(order[at])
    return StepShape(
        order[at], carried, grouped, summed, new, count(grouped), count(summed), count(new),
        count(carried), kernel_size, stride, dilation, pads,
    )  # fmt: skip


def _new_letters(scheme: Scheme, order: tuple[int, ...], at: int, new: list[str]) -> str:
    """Sort the letters that a step produces, so that the next step needs no permutation.

    The letters that the next step carries come first, those that it sums over last.
    """
    if at + 1 == len(order):
        return "".join(sorted(new, key=scheme.outputs.index))
    following = scheme.channel_letters(order[at + 1])
    needed = _needed_after(scheme, order, at + 1)
    return "".join(sorted(new, key=lambda a: (a not in needed, a in following)))


# Step 3: stride, dilation and padding.


class _AxisShares:
    """Share of each step in stride, dilation and padding; `take` is called in running order."""

    def __init__(self, scheme: Scheme, order: tuple[int, ...]) -> None:
        self.scheme = scheme
        self.waiting = list(order)
        self.left = list(scheme.spec.stride)  # the factor of the stride that is not yet applied
        self.done = [1] * scheme.spec.ndim  # the factor of the stride that earlier steps applied

    def take(
        self, k: int
    ) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[bool, ...]]:
        """Return kernel size, stride, dilation and whether to pad, for each axis."""
        self.waiting.remove(k)
        sizes, strides, dilations, pads = zip(
            *(self._axis(k, j) for j in range(self.scheme.spec.ndim)), strict=True
        )
        return sizes, strides, dilations, pads

    def _axis(self, k: int, j: int) -> tuple[int, int, int, bool]:
        taps = self.scheme.on_axis(k, j)
        if taps is None:
            return 1, 1, 1, False
        size, pitch = taps
        every = range(len(self.scheme.operands))
        earlier = [o for o in every if o not in self.waiting and o != k]
        is_first = not any(self.scheme.on_axis(o, j) for o in earlier)
        # Earlier steps kept every `done`-th sample, so taps `pitch` apart are pitch / done apart.
        dilation = pitch // self.done[j]
        later = [p for o in self.waiting if (p := self.scheme.on_axis(o, j)) is not None]
        # A step may drop samples only if no later step reads them: its stride divides the spacing.
        stride = math.gcd(self.left[j], *(p[1] // self.done[j] for p in later))
        self.left[j] //= stride
        self.done[j] *= stride
        return size, stride, dilation, is_first


def _with_positions(shapes: list[StepShape], transposed: bool) -> tuple[StepShape, ...]:
    """Fill in `positions`: each step runs before the strides of all later ones.

    Transposed strides raise the number of positions: each step runs after those of all earlier ones.
    """
    found, positions = [], 1
    for shape in shapes if transposed else shapes[::-1]:
        found.append(replace(shape, positions=positions))
        positions *= math.prod(shape.stride)
    return tuple(found if transposed else found[::-1])
