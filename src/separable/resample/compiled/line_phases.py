"""A decimating sweep: the passes of a separable kernel in one reading of the image, at the outputs that are kept only.

One row of the result at a time, so that what lies between the passes stays in the first-level cache::

    image planes --z--> buffer[position][column] --y--> line[position] --x--> a row of the result

The sum along y (and z) runs at the kept rows only, over vectors of neighbouring samples.  Along rows the kept outputs lie
``stride`` samples apart: as many vectors are loaded as one step of the kernel needs, and cut into *phases*, of which each
holds every ``stride``-th sample::

    line     x0 x1 x2 x3 x4 x5 x6 x7 ...        out[c] = sum_p sum_b w[b s + p] phase_p[c + b]
    phase 0  x0    x2    x4    x6
    phase 1     x1    x3    x5    x7

Sums are added in the same order as in :mod:`.band_kernels`, so their bits are the same.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from separable.engine.compiled.dtype_conversion import store_scalar_as
from separable.engine.compiled.exact_rounding import checks, snap_halves
from separable.engine.compiled.jit import inline, intrinsic, part, stage
from separable.engine.compiled.load_store import item_of
from separable.engine.compiled.numba_api import (
    cgutils,
    models,
    register_default,
    types,
    without_literals,
)
from separable.engine.compiled.simd import (
    ELEMENTS,
    at,
    emit_call,
    emit_fma,
    emit_load,
    emit_shuffle,
    emit_splat,
    lanes_of,
    load_scalar,
    native,
    offset_pointer,
    store_scalar,
)
from separable.engine.compiled.sweep_params import (
    larger,
    smaller,
    word,
)
from separable.engine.compiled.vector_blocks import (
    plus,
    splats_emitter,
    store_block,
    store_rows,
    zeros_emitter,
)

from .band_kernels import STEPS
from .band_record import SPAN_FIRST, SPAN_LAST, SPAN_SAMPLE, SPAN_START, SPAN_STOP
from .decimation_record import decimation_at
from .few_taps import fma_number

GROUP_VECTORS = 8
"""Vectors of a line that are cut into phases together."""


class Phases(types.CPointer):
    """A pointer whose type says how a line is cut: every how many positions, of how many channels, are kept.

    `taps` is the number of weights of an output where code is made for few of them, else 0.
    """

    def __init__(self, stride: int, channels: int, taps: int, dtype: Any) -> None:
        super().__init__(dtype)
        self.stride, self.channels, self.taps = stride, channels, taps
        self.name = f"Phases({stride}, {channels}, {taps}, {dtype})"

    @property
    def key(self) -> tuple[Any, ...]:
        """The attributes that distinguish two types."""
        return (*super().key, self.stride, self.channels, self.taps)

    @property
    def groups(self) -> int:
        """Groups of outputs that are computed together: several sums keep the multiply-add units busy."""
        return max(1, min(4, GROUP_VECTORS // (self.stride * self.channels)))

    @property
    def vectors(self) -> int:
        """Vectors of outputs that are computed together."""
        return self.groups * self.channels


register_default(Phases)(models.PointerModel)


def phases_pointer(stride: int, channels: int, taps: int, name: str) -> Phases:
    """Return the pointer type for a way to cut lines, of the NumPy dtype called ``name``."""
    return Phases(stride, channels, taps, ELEMENTS[name])


# --- phases of a line -------------------------------------------------------------------------------


def _emit_phase(builder: Any, vectors: list[Any], places: list[int], lanes: int) -> Any:
    """Emit the vector of the lanes at some places of several vectors, one behind the other."""
    used = sorted({place // lanes for place in places})
    if len(used) == 1:
        only = vectors[used[0]]
        inside = [place % lanes for place in places]
        return only if inside == list(range(lanes)) else emit_shuffle(builder, only, only, inside)
    # Two vectors at a time: what has been gathered keeps its lanes, and each further vector adds its own.
    result = vectors[used[0]]
    where = [place % lanes for place in places]
    known = {used[0]}
    for vector in used[1:]:
        mask = []
        for lane, place in enumerate(places):
            own = place // lanes
            if own == vector:
                mask.append(lanes + place % lanes)
            elif own in known:
                mask.append(where[lane])
            else:
                mask.append(0)
        result = emit_shuffle(builder, result, vectors[vector], mask)
        known.add(vector)
        where = [lane if place // lanes in known else 0 for lane, place in enumerate(places)]
    return result


def _emit_cut(
    builder: Any, vectors: list[Any], phases: Phases, lanes: int, phase: int, count: int
) -> list[Any]:
    """Emit vectors of one phase: flat output F = X channels + c reads flat place (X stride + phase) channels + c."""
    stride, channels = phases.stride, phases.channels
    found = []
    for v in range(count):
        flat = [divmod(v * lanes + lane, channels) for lane in range(lanes)]
        places = [(x * stride + phase) * channels + c for x, c in flat]
        found.append(_emit_phase(builder, vectors, places, lanes))
    return found


def _adder(sums: Any, x: Any, weight: Any, phases: Any, used: int) -> Any:
    vector = sums.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        totals = cgutils.unpack_tuple(builder, arguments[0], len(sums))
        loaded = []
        for v in range(phases.stride * phases.vectors):
            place = builder.gep(arguments[1], [ir.IntType(64)(v * vector.lanes)])
            loaded.append(emit_load(context, builder, vector, place, vector.dtype.bitwidth // 8))
        for p in range(used):
            number = builder.load(builder.gep(arguments[2], [ir.IntType(64)(p)]))
            factor = emit_splat(builder, number, vector.lanes)
            cut = _emit_cut(builder, loaded, phases, vector.lanes, p, phases.vectors)
            totals = [
                emit_fma(builder, vector, factor, value, total)
                for value, total in zip(cut, totals, strict=True)
            ]
        return context.make_tuple(builder, sums, totals)

    return sums(sums, x, weight, phases), emit


@intrinsic
def _add_all_phases(_typing: Any, sums: Any, x: Any, weight: Any, phases: Any) -> Any:
    """Return ``sums[v] + weight[p] * phase_p[v]`` summed over all phases of the line at ``x``."""
    return _adder(sums, x, weight, phases, phases.stride)


@intrinsic
def _add_first_phase(_typing: Any, sums: Any, x: Any, weight: Any, phases: Any) -> Any:
    """Return ``sums[v] + weight[0] * phase_0[v]``."""
    return _adder(sums, x, weight, phases, 1)


@intrinsic
def _group_of_few(_typing: Any, x: Any, numbers: Any, phases: Any) -> Any:
    """Return a group of outputs with few weights, the first of which reads the line from ``x`` on.

    Each vector of the line is loaded once: weight ``b stride + p`` takes phase p moved by b positions.
    """
    vector, stride, channels = numbers.dtype, phases.stride, phases.channels
    block, lanes = types.UniTuple(vector, phases.vectors), vector.lanes
    # Outputs are whole periods of all channels; moved ones need a period more.
    moved = (len(numbers) - 1) // stride * channels
    more = -(-moved // lanes)
    count = phases.vectors + -(-more // channels) * channels

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        loaded = []
        for v in range(stride * count):
            place = builder.gep(arguments[0], [ir.IntType(64)(v * lanes)])
            loaded.append(emit_load(context, builder, vector, place, vector.dtype.bitwidth // 8))
        factors = cgutils.unpack_tuple(builder, arguments[1], len(numbers))
        cuts = [_emit_cut(builder, loaded, phases, lanes, p, count) for p in range(stride)]
        zero = ir.Constant(loaded[0].type, [0.0] * lanes)
        totals: list[Any] = []
        for start in range(0, len(numbers), STEPS):
            sums = [zero] * phases.vectors
            for j in range(start, min(start + STEPS, len(numbers))):
                cut, shift = cuts[j % stride], j // stride * channels
                for v in range(phases.vectors):
                    places = [v * lanes + shift + lane for lane in range(lanes)]
                    value = _emit_phase(builder, cut, places, lanes)
                    sums[v] = emit_fma(builder, vector, factors[j], value, sums[v])
            totals = (
                [builder.fadd(a, b) for a, b in zip(totals, sums, strict=True)] if totals else sums
            )
        return context.make_tuple(builder, block, totals)

    return block(x, numbers, phases), emit


@intrinsic
def _taps_of(_typing: Any, phases: Any) -> Any:
    """Return the number of weights that code was made for, or 0."""

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(phases.taps)

    return types.int64(phases), emit


@intrinsic
def _weights_of(_typing: Any, weights: Any, phases: Any) -> Any:
    """Return a vector of copies of each weight that code was made for; one of the first where it was made for any."""
    block = types.UniTuple(native(weights.dtype), max(1, phases.taps))
    return block(weights, phases), splats_emitter(block)


@intrinsic
def _zero_sums(_typing: Any, like: Any, phases: Any) -> Any:
    """Return as many vectors of zeros as are computed together."""
    block = types.UniTuple(native(like.dtype), phases.vectors)
    return block(like, phases), zeros_emitter(block)


@intrinsic
def _stride_of(_typing: Any, phases: Any) -> Any:
    """Return the stride that a type of pointers says."""

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(phases.stride)

    return types.int64(phases), emit


@intrinsic
def _vectors_of(_typing: Any, phases: Any) -> Any:
    """Return how many vectors are computed together."""

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(phases.vectors)

    return types.int64(phases), emit


@without_literals
@inline
def _group_part(x, weights, start, stop, channels, phases):
    """Return the sums of the products ``start`` to ``stop`` of a group of outputs."""
    stride = _stride_of(phases)
    sums = _zero_sums(x, phases)
    j = start
    while j + stride <= stop:
        here = offset_pointer(x, j * channels)
        sums = _add_all_phases(sums, here, offset_pointer(weights, j), phases)
        j += stride
    while j < stop:
        here = offset_pointer(x, j * channels)
        sums = _add_first_phase(sums, here, offset_pointer(weights, j), phases)
        j += 1
    return sums


@without_literals
@inline
def _group(x, weights, numbers, taps, channels, phases):
    """Return a group of outputs, the first of which reads the line from ``x`` on."""
    if _taps_of(phases) > 0:
        return _group_of_few(x, numbers, phases)
    total = _group_part(x, weights, 0, smaller(STEPS, taps), channels, phases)
    for start in range(STEPS, taps, STEPS):
        stop = smaller(start + STEPS, taps)
        total = plus(total, _group_part(x, weights, start, stop, channels, phases))
    return total


@intrinsic
def _snap_number(_typing: Any, target: Any, number: Any, snap: Any) -> Any:
    """Return the half that lies within ``snap`` of a float64 number, else the number, as `snap_halves` does."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value, limit = arguments[1:]
        if not checks(target.dtype) or number != types.float64:
            return value
        whole = emit_call(builder, "llvm.rint.f64", value.type, [builder.fadd(value, value)])
        half = builder.fmul(whole, ir.Constant(value.type, 0.5))
        apart = emit_call(builder, "llvm.fabs.f64", value.type, [builder.fsub(value, half)])
        return builder.select(builder.fcmp_ordered("<=", apart, limit), half, value)

    return number(target, number, types.float64), emit


@without_literals
@part
def _one_output(params, line, target, place, first, c):
    """Compute output ``c`` of a line whose first position is ``first``."""
    weights = offset_pointer(at(line, params.x_weights), c * params.x_taps)
    begin = (word(params.x_starts, c) - first) * params.channels
    for channel in range(params.channels):
        total = load_scalar(weights) * 0
        for start in range(0, params.x_taps, STEPS):
            sums = load_scalar(weights) * 0
            for j in range(start, smaller(start + STEPS, params.x_taps)):
                value = load_scalar(offset_pointer(line, begin + j * params.channels + channel))
                sums = fma_number(load_scalar(offset_pointer(weights, j)), value, sums)
            total += sums
        here = place + (c * params.channels + channel) * item_of(target)
        store_scalar_as(at(target, here), _snap_number(target, total, params.snap))


@stage
def finish_line(params_address, line, target, phases, temp, place, first, start, stop):
    """Compute the outputs ``start`` to ``stop - 1`` of a row from a line.

    ``first`` is the position at the start of the line, ``place`` the address of output 0. Outputs `regular_first` to
    `regular_last` have the same weights; the others are computed one by one.
    """
    params = decimation_at(params_address)
    size, item = lanes_of(line), item_of(target)
    channels, taps, stride = params.channels, params.x_taps, _stride_of(phases)
    low = smaller(larger(start, params.regular_first), stop)
    high = larger(smaller(stop, params.regular_last), low)
    for c in range(start, low):
        _one_output(params, line, target, place, first, c)
    weights = offset_pointer(at(line, params.x_weights), low * taps)
    begin = (word(params.x_starts, smaller(low, params.x_outputs - 1)) - first) * channels
    wide = _vectors_of(phases) * size // channels  # outputs of a group
    numbers = _weights_of(weights, phases)
    c = low
    while c + wide <= high:
        x = offset_pointer(line, begin + (c - low) * stride * channels)
        sums = _group(x, weights, numbers, taps, channels, phases)
        sums = snap_halves(target, sums, params.snap)
        store_rows(target, place + c * channels * item, size * item, sums, False)
        c += wide
        if c < high and c + wide > high:
            c = high - wide  # the last group overlaps the one before it
    if c < high:
        x = offset_pointer(line, begin + (c - low) * stride * channels)
        sums = _group(x, weights, numbers, taps, channels, phases)
        store_block(temp, size, snap_halves(target, sums, params.snap))
        for k in range((high - c) * channels):
            value = load_scalar(offset_pointer(temp, k))
            store_scalar_as(at(target, place + (c * channels + k) * item), value)
    for c in range(high, stop):
        _one_output(params, line, target, place, first, c)


@stage
def extend_line(params_address, line, span):
    """Write the border of a line: copies of its samples, or the constant value outside."""
    params = decimation_at(params_address)
    channels, outside = params.channels, load_scalar(at(line, params.outside))
    first, last = word(span, SPAN_FIRST), word(span, SPAN_LAST)
    start, stop = word(span, SPAN_START), word(span, SPAN_STOP)
    position = first
    while position < last:
        if start <= position and position < stop:
            position = stop
            continue
        sample = word(params.x_samples, position)
        loaded = sample - word(span, SPAN_SAMPLE) + start - first
        for c in range(channels):
            value = outside
            if sample >= 0:
                value = load_scalar(offset_pointer(line, loaded * channels + c))
            store_scalar(offset_pointer(line, (position - first) * channels + c), value)
        position += 1
