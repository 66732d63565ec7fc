"""Short filters along x, on whole rows: nothing is transposed.

A few rows are filtered along y into ``lines``, and these along x by vectors that lie at any address.  That takes fewer
steps than transposing, as long as there are few taps: each needs an unaligned vector of its own.  Each output is summed
in the same order as in :mod:`.microkernels`.

======================== =====================================================================
``load_rows``            rows of the image, converted, with the border beside them
``filter_lines``         the y pass of ``OUTPUTS`` rows
``finish_lines``         the x pass, rounded and stored
``band_of_rows``         the order of these in a band
======================== =====================================================================

Rows are ``rows[row][column]`` and ``lines[row][column]``, ``load_row`` elements apart.  Only the columns that taps reach
are loaded from beyond the ends of a row, and the last vector of a row overlaps the one before it.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .dtype_conversion import load_as, load_scalar_as
from .fma_blocks import EVEN, GENERAL, ODD, OUTPUTS, correlate, zeros
from .jit import inline, intrinsic, overload, part, stage
from .load_store import item_of, store_part
from .numba_api import cgutils, types, without_literals
from .simd import (
    VECTOR_BYTES,
    at,
    emit_fma,
    emit_load,
    emit_splat,
    lanes_of,
    load_scalar,
    native,
    offset_pointer,
    splat,
    store,
    store_any,
    store_scalar,
)
from .sweep_loop import find_rows
from .sweep_params import OUTSIDE, invoke, larger, params_at, smaller, word
from .vector_blocks import store_block, store_rows

_OUTSIDE = int(OUTSIDE)


# --- arithmetic -----------------------------------------------------------------------------------


def _adder(acc: Any, x: Any, operation: str) -> Any:
    """Return the type of an addition of products to a block, and the function that emits it."""
    vector = acc.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, arguments[0], OUTPUTS)
        pitch, tap = arguments[-2], emit_splat(builder, builder.load(arguments[-1]), vector.lanes)
        for i in range(OUTPUTS):
            samples = [
                emit_load(
                    context, builder, vector,
                    builder.gep(place, [builder.mul(pitch, pitch.type(i))]), 1,
                )
                for place in arguments[1:-2]
            ]  # fmt: skip
            value = getattr(builder, operation)(*samples) if operation else samples[0]
            sums[i] = emit_fma(builder, vector, tap, value, sums[i])
        return context.make_tuple(builder, acc, sums)

    return emit


@intrinsic
def add_tap(_typing: Any, acc: Any, x: Any, _pitch: Any, tap: Any) -> Any:
    """Add ``tap * x[i * pitch]`` to each ``acc[i]``; vectors may lie at any address."""
    return acc(acc, x, types.int64, tap), _adder(acc, x, "")


@intrinsic
def add_even_pair(_typing: Any, acc: Any, x: Any, y: Any, _pitch: Any, tap: Any) -> Any:
    """Add ``tap * (x[i * pitch] + y[i * pitch])`` to each ``acc[i]``."""
    return acc(acc, x, y, types.int64, tap), _adder(acc, x, "fadd")


@intrinsic
def add_odd_pair(_typing: Any, acc: Any, x: Any, y: Any, _pitch: Any, tap: Any) -> Any:
    """Add ``tap * (x[i * pitch] - y[i * pitch])`` to each ``acc[i]``."""
    return acc(acc, x, y, types.int64, tap), _adder(acc, x, "fsub")


@intrinsic
def correlate_three(_typing: Any, x: Any, _pitch: Any, taps: Any) -> Any:
    """Return ``OUTPUTS`` correlations down aligned vectors with three taps, each vector loaded once."""
    vector = native(x.dtype)
    block = types.UniTuple(vector, OUTPUTS)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        base, pitch, table = arguments
        places = [
            builder.gep(base, [builder.mul(pitch, pitch.type(i))]) for i in range(OUTPUTS + 2)
        ]
        x = [emit_load(context, builder, vector, place, VECTOR_BYTES) for place in places]
        numbers = [builder.load(builder.gep(table, [pitch.type(k)])) for k in range(3)]
        taken = [emit_splat(builder, number, vector.lanes) for number in numbers]
        sums = [ir.Constant(x[0].type, [0.0] * vector.lanes)] * OUTPUTS
        # The products are added in the order of `correlate`.
        for i in range(OUTPUTS):
            if taps.kind == GENERAL:
                products = [(taken[k], x[i + k]) for k in range(3)]
            else:
                fold = builder.fsub if taps.kind == ODD else builder.fadd
                products = [(taken[0], fold(x[i], x[i + 2])), (taken[1], x[i + 1])]
                products = products[: 1 if taps.kind == ODD else 2]
            for tap, value in products:
                sums[i] = emit_fma(builder, vector, tap, value, sums[i])
        return context.make_tuple(builder, block, sums)

    return block(x, types.int64, taps), emit


def correlate_lines(x, pitch, step, taps, count):
    """Return the correlations of ``OUTPUTS`` lines, ``pitch`` apart, with taps ``step`` elements apart.

    The type of the pointer ``taps`` says of which kind they are.
    """
    raise NotImplementedError("for compiled code only")


@overload(correlate_lines)
def _correlate_lines(x, pitch, step, taps, count):
    # acc[i] = sum_j taps[j] * x[i * pitch + j * step]; mirrored taps share a multiplication
    def general(x, pitch, step, taps, count):
        acc = zeros(x)
        for j in range(count):
            acc = add_tap(acc, offset_pointer(x, j * step), pitch, offset_pointer(taps, j))
        return acc

    def even(x, pitch, step, taps, count):
        acc, pairs = zeros(x), count // 2
        for j in range(pairs):
            left, right = offset_pointer(x, j * step), offset_pointer(x, (count - 1 - j) * step)
            acc = add_even_pair(acc, left, right, pitch, offset_pointer(taps, j))
        if count & 1:
            middle, tap = offset_pointer(x, pairs * step), offset_pointer(taps, pairs)
            acc = add_tap(acc, middle, pitch, tap)
        return acc

    def odd(x, pitch, step, taps, count):
        acc = zeros(x)
        for j in range(count // 2):
            left, right = offset_pointer(x, j * step), offset_pointer(x, (count - 1 - j) * step)
            acc = add_odd_pair(acc, left, right, pitch, offset_pointer(taps, j))
        return acc

    return {GENERAL: general, EVEN: even, ODD: odd}[taps.kind]


# --- stages ---------------------------------------------------------------------------------------


@without_literals
@inline
def _sample(params, source, row, flat, like, outside):
    """Return the sample at a flat column, inside or outside the image."""
    if flat < 0:
        offset = word(params.left_table, flat + params.x_reach)
    elif flat >= params.x_flat:
        offset = word(params.right_table, flat - params.x_flat)
    else:
        position = flat // params.channels
        offset = position * params.x_source + (flat - position * params.channels) * params.c_source
    return outside if offset == _OUTSIDE else load_scalar_as(at(source, row + offset), like)


@without_literals
@part
def _load_outside(params_address, source, row, here, first, start, stop):
    """Load the columns ``start`` to ``stop`` of a row one by one; column 0 is the flat column ``first``."""
    params = params_at(params_address)
    outside = load_scalar(at(here, params.outside))
    for c in range(start, stop):
        value = _sample(params, source, row, first + c, here, outside)
        store_scalar(offset_pointer(here, c), value)


@stage
def load_rows(params_address, source, rows, table, count, first, columns):
    """Load ``columns`` flat columns from ``first`` on of the ``count`` rows of ``table``."""
    params = params_at(params_address)
    size = lanes_of(rows)
    outside = splat(rows, load_scalar(at(rows, params.outside)))
    # Columns `start` to `stop` lie inside the image.  Neighbours in memory are loaded as vectors.
    start = smaller(larger(-first, 0), columns)
    stop = larger(start, smaller(columns, params.x_flat - first))
    whole = stop if params.source_dense and stop - start >= size else start
    for r in range(count):
        row = word(table, r)
        here = offset_pointer(rows, r * params.load_row)
        if row == 0:  # the row lies outside the image
            for c in range(0, columns, size):
                store(offset_pointer(here, c), outside)
            continue
        samples = at(source, row + first * item_of(source))
        for c in range(start, whole, size):
            place = smaller(c, whole - size)  # the last vector overlaps the one before it
            store_any(offset_pointer(here, place), load_as(offset_pointer(samples, place), rows))
        if start > 0:
            _load_outside(params_address, source, row, here, first, 0, start)
        if whole < columns:
            _load_outside(params_address, source, row, here, first, whole, columns)


@stage
def filter_lines(params_address, rows, lines, like, columns):
    """Filter ``OUTPUTS`` rows along y."""
    # lines[i][c] = sum_k taps[k] * rows[i + k][c]
    params = params_at(params_address)
    weights, kind = at(like, params.y_weights), word(params.y_kinds, 0)
    pitch = params.load_row
    for c in range(0, columns, lanes_of(lines)):
        x = offset_pointer(rows, c)
        if params.y_taps == 3:
            block = correlate_three(x, pitch, weights)
        else:
            block = correlate(zeros(lines), x, pitch, weights, params.y_taps, kind)
        store_block(offset_pointer(lines, c), pitch, block)


@stage
def finish_lines(params_address, lines, temp, target, like, row, step, first, columns, count):
    """Filter ``OUTPUTS`` lines along x and store ``count`` of them, ``columns`` flat columns from ``first`` on."""
    # target[i][first + c] = sum_k taps[k] * lines[i][c + k * channels]
    params = params_at(params_address)
    size, pitch = lanes_of(lines), params.load_row
    weights, taps = at(like, params.x_weights), params.x_taps
    for start in range(0, columns, size):
        c = larger(smaller(start, columns - size), 0)  # the last vector overlaps the one before it
        block = correlate_lines(offset_pointer(lines, c), pitch, params.channels, weights, taps)
        if count == OUTPUTS and columns >= size:
            store_rows(target, row + (first + c) * item_of(target), step, block, False)
        else:
            store_block(temp, size, block)
            wide = smaller(size, columns - c)
            store_part(params_address, target, row, step, first + c, 1, count, wide, temp)


@stage
def band_of_rows(
    params_address, scratch, base, top, rows, start, columns, row, step, ring, next_base, next_top
):
    """Filter a band of one plane along y, if at all, and x; see :mod:`.tile_loop` for the arguments."""
    params = params_at(params_address)
    reach = larger(params.y_taps, 1) - 1
    table = scratch + params.at_rows
    find_rows(params, table, base, top, rows + reach)
    source, lines, temp = (
        scratch + params.at_strips, scratch + params.at_line, scratch + params.at_temp
    )  # fmt: skip
    around = (params.x_taps - 1) * params.channels
    pitch = params.load_row * params.work_item
    done = 0
    while done < columns:
        wide = smaller(params.tile, columns - done)
        first = start + done
        wanted = wide + around
        invoke(
            params.load,
            (params_address, 0, source, table, rows + reach, first - params.x_reach, wanted),
        )
        for r in range(0, rows, OUTPUTS):
            # The last rows of a band overlap those before them; of fewer than OUTPUTS rows some are not stored.
            begin = larger(smaller(r, rows - OUTPUTS), 0)
            here, count = source + begin * pitch, smaller(rows, OUTPUTS)
            if params.y_taps > 0:
                invoke(params.filter_columns, (params_address, here, lines, 0, wanted))
                here = lines
            place = row + begin * step
            invoke(
                params.filter_rows,
                (params_address, here, temp, 0, 0, place, step, first, wide, count),
            )
        done += wide
