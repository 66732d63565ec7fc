"""Correctly rounded integers: sums too close to a half are summed again in float64.

The passes round each partial sum, so that a sum ``v`` differs from the exact one by at most a bound ``e`` (see
:mod:`.rounding_bounds`).  Where ``|v - rint(v)| <= 1/2 - e`` both round to the same integer.  The few other sums are
replaced, before they are stored, by the integers to which the exact sums round::

    s = sum_z sum_y sum_x weights[z][y][x] * image[z0 + z][y0 + y][x0 + x]        in float64, through the border maps

A sum within ``snap`` of a half counts as that half, which rounds to even: float64 cannot tell them apart.  So the
result is the same for every order of summation, every vector width and every method.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from functools import reduce
from typing import Any

from llvmlite import ir

from .dtype_conversion import emit_widen, load_scalar_as
from .jit import inline, inline_coded, intrinsic, part, stage
from .load_store import item_of
from .numba_api import cgutils, types, without_literals
from .simd import (
    VECTOR_BYTES,
    Vec,
    address_of,
    at,
    emit_call,
    emit_fma,
    emit_load,
    emit_splat,
    lanes_of,
    load_scalar,
    native,
    offset_pointer,
    suffix,
)
from .sweep_params import (
    ITEM_PLANE,
    ITEM_SOURCE,
    ITEM_TOP,
    OUTSIDE,
    invoke,
    params_at,
    set_word,
    word,
)
from .vector_blocks import store_block

SNAP = 2.0**-30
"""Exact sums this close to a half count as that half: float64 cannot tell them apart."""
SAMPLES = 8
"""Samples that are summed together again: a float64 vector of 512 bits, narrower ones in parts."""
_OUTSIDE = int(OUTSIDE)
_WIDE = Vec(types.float64, SAMPLES)
_I32 = ir.IntType(32)


def checks(target: Any) -> bool:
    """Return whether results of the Numba type ``target`` are correctly rounded integers."""
    return getattr(target, "bitwidth", 0) <= 16 and isinstance(target, types.Integer)


# --- which sums are close to a half ------------------------------------------------------------------


def _emit_distance(builder: Any, value: Any, vector: Vec) -> Any:
    """Emit the distance of each sum to the nearest integer."""
    whole = emit_call(builder, f"llvm.rint.{suffix(vector)}", value.type, [value])
    difference = builder.fsub(value, whole)
    return emit_call(builder, f"llvm.fabs.{suffix(vector)}", value.type, [difference])


@intrinsic
def _has_close(_typing: Any, target: Any, block: Any, limit: Any) -> Any:
    """Return whether the distance of any sum of a block to the nearest integer is larger than ``limit``.

    That is False for targets that are not checked, so that no code is made for them.
    """
    vector = block.dtype
    flag = ir.IntType(1)

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if not checks(target.dtype):
            return flag(0)
        values = cgutils.unpack_tuple(builder, arguments[1], len(block))
        limits = emit_splat(builder, arguments[2], vector.lanes)
        # Each vector is compared for itself.  Rows of a block that are not used may hold NaN, and the larger one of a
        # distance and NaN would hide the distance.
        close = [
            builder.fcmp_ordered(">", _emit_distance(builder, v, vector), limits) for v in values
        ]
        bits = builder.bitcast(reduce(builder.or_, close), ir.IntType(vector.lanes))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(target, block, limit), emit


@intrinsic
def _close_lanes(_typing: Any, values: Any, limit: Any) -> Any:
    """Return a number whose bit ``lane`` says that the sum in this lane of the vector at ``values`` is close to a half."""
    vector = native(values.dtype)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        value = emit_load(context, builder, vector, arguments[0], VECTOR_BYTES)
        distance = _emit_distance(builder, value, vector)
        close = builder.fcmp_ordered(">", distance, emit_splat(builder, arguments[1], vector.lanes))
        return builder.zext(builder.bitcast(close, ir.IntType(vector.lanes)), ir.IntType(64))

    return types.int64(values, limit), emit


@intrinsic
def _lowest_bit(_typing: Any, bits: Any) -> Any:
    """Return the number of the lowest bit that is set."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        flags = [arguments[0], ir.IntType(1)(1)]  # 1: not called with 0
        return emit_call(builder, "llvm.cttz.i64", ir.IntType(64), flags)

    return types.int64(types.int64), emit


@intrinsic
def _load_like(_typing: Any, p: Any, block: Any) -> Any:
    """Load a block like ``block`` of vectors that lie one behind the other."""
    vector = block.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values = []
        for i in range(len(block)):
            place = builder.gep(arguments[0], [ir.IntType(64)(i * vector.lanes)])
            values.append(emit_load(context, builder, vector, place, VECTOR_BYTES))
        return context.make_tuple(builder, block, values)

    return block(p, block), emit


@without_literals
@inline
def round_exactly(params_address, temp, target, block, first, columns, rows, row, terms, plane):
    """Return a block of sums in which those close to a half are replaced by the integers they round to.

    Row ``j`` of the block, of which ``rows`` are used, belongs to row ``row + j`` of the band (in a z pass to row
    ``row`` of plane ``plane + j`` of the slab), lane ``l`` of ``columns`` to the flat column ``first + l``.
    """
    params = params_at(params_address)
    if _has_close(target, block, load_scalar(at(temp, params.half_limit))):
        store_block(temp, lanes_of(temp), block)
        # A stage of its own: it is needed seldom, and it alone knows the dtype of the image.
        invoke(
            params.sum_again,
            (params_address, 0, address_of(temp), 0, first, columns, rows, row, terms, plane),
        )
        block = _load_like(temp, block)
    return block


@intrinsic
def snap_halves(_typing: Any, target: Any, block: Any, snap: Any) -> Any:
    """Return a block of float64 sums in which those within ``snap`` of a half are that half, for checked targets."""
    vector = block.dtype

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if not checks(target.dtype) or vector.dtype != types.float64:
            return arguments[1]
        # half = rint(2 v) / 2, and v where that is not near
        values, name = [], suffix(vector)
        limit = emit_splat(builder, arguments[2], vector.lanes)
        one_half = ir.Constant(context.get_value_type(vector), [0.5] * vector.lanes)
        for v in cgutils.unpack_tuple(builder, arguments[1], len(block)):
            whole = emit_call(builder, f"llvm.rint.{name}", v.type, [builder.fadd(v, v)])
            half = builder.fmul(whole, one_half)
            apart = emit_call(builder, f"llvm.fabs.{name}", v.type, [builder.fsub(v, half)])
            near = builder.fcmp_ordered("<=", apart, limit)
            values.append(builder.select(near, half, v))
        return context.make_tuple(builder, block, values)

    return block(target, block, types.float64), emit


# --- summing again -----------------------------------------------------------------------------------


@intrinsic
def _no_sum(_typing: Any) -> Any:
    """Return a vector of zeros."""

    def emit(context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(_WIDE), [0.0] * SAMPLES)

    return _WIDE(), emit


@intrinsic
def _add_products(_typing: Any, total: Any, samples: Any, weights: Any) -> Any:
    """Return ``total`` plus the products of ``SAMPLES`` samples and weights, at any addresses."""
    stored = Vec(samples.dtype, SAMPLES)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        x = emit_load(context, builder, stored, arguments[1], 1)
        x = emit_widen(context, builder, x, samples.dtype, _WIDE)
        w = emit_load(context, builder, _WIDE, arguments[2], 8)
        return emit_fma(builder, _WIDE, w, x, arguments[0])

    return _WIDE(_WIDE, samples, weights), emit


@intrinsic
def _sum_lanes(_typing: Any, a: Any, _b: Any) -> Any:
    """Return the sum of all lanes of two vectors."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total = builder.fadd(*arguments)
        lanes = [builder.extract_element(total, _I32(i)) for i in range(SAMPLES)]
        while len(lanes) > 1:
            lanes = [builder.fadd(a, b) for a, b in zip(lanes[0::2], lanes[1::2], strict=True)]
        return lanes[0]

    return types.float64(_WIDE, _WIDE), emit


@intrinsic
def _rint(_typing: Any, x: Any) -> Any:
    """Return the nearest integer, half to even."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return emit_call(builder, "llvm.rint.f64", ir.DoubleType(), [arguments[0]])

    return types.float64(types.float64), emit


@without_literals
@inline
def _round_half(total, snap):
    """Return the integer that a sum rounds to; within ``snap`` of a half it counts as that half."""
    half = 0.5 * _rint(2.0 * total)
    if abs(total - half) <= snap:
        total = half
    return _rint(total)


@without_literals
@part
def _find_window_rows(params, table, base, row, plane):
    """Write the addresses of the rows that a window reads, 0 for the constant; return whether all lie inside the image.

    ``row`` is the first one of the extended image, ``plane`` likewise; ``base`` is the address of the first sample.
    """
    inside, n = True, 0
    planes, rows = params.window_planes, params.window_rows
    for k in range(planes):
        z = word(params.z_map, plane + k) if params.z_taps > 0 else 0
        for j in range(rows):
            y = word(params.y_map, row + j) if params.y_taps > 0 else row
            place = base + z * params.z_source + y * params.y_source if z >= 0 and y >= 0 else 0
            inside = inside and place != 0
            set_word(table, n, place)
            n += 1
    return inside


@without_literals
@inline_coded
def _sum_inside(params, source, table, weights, first):
    """Return the sum over a window whose rows can be read from flat column ``first`` on in whole vectors."""
    even = odd = _no_sum()
    rows, width = params.window_rows * params.window_planes, params.window_width
    offset = first * item_of(source)
    for f in range(0, width, SAMPLES):
        here = offset + f * item_of(source)
        taken = offset_pointer(weights, f)
        for n in range(
            0, rows - 1, 2
        ):  # two sums, so that one addition need not wait for the other
            even = _add_products(even, at(source, word(table, n) + here), taken)
            odd = _add_products(
                odd, at(source, word(table, n + 1) + here), offset_pointer(taken, width)
            )
            taken = offset_pointer(taken, 2 * width)
        if rows & 1:
            even = _add_products(even, at(source, word(table, rows - 1) + here), taken)
    return _sum_lanes(even, odd)


@without_literals
@part
def _sum_anywhere(params, source, table, weights, first, outside):
    """Return the sum over a window sample by sample, through the border maps."""
    total = 0.0 * outside
    channels, n = params.channels, params.window_rows * params.window_planes
    for i in range(params.window_columns):
        flat = first + i * channels
        if flat < 0:
            offset = word(params.left_table, flat + params.x_reach)
        elif flat >= params.x_flat:
            offset = word(params.right_table, flat - params.x_flat)
        else:
            position = flat // channels
            offset = position * params.x_source + (flat - position * channels) * params.c_source
        for r in range(n):
            row = word(table, r)
            value = outside
            if row != 0 and offset != _OUTSIDE:
                value = load_scalar_as(at(source, row + offset), weights)
            total += value * load_scalar(
                offset_pointer(weights, r * params.window_width + i * channels)
            )
    return total


@stage
def sum_again(params_address, source, temp, like, first, columns, rows, row, terms, plane):
    """Replace the sums of a block at ``temp`` that are close to a half by the integers that the exact sums round to.

    The arguments are those of :func:`round_exactly`; ``source`` and ``like`` are null pointers that say of which types
    the image and the weights (float64) are.
    """
    params = params_at(params_address)
    size = lanes_of(temp)
    scratch = address_of(temp) - params.at_temp
    item, table = scratch + params.at_item, scratch + params.at_window
    limit = load_scalar(at(temp, params.half_limit))
    outside, snap = load_scalar(at(like, params.exact_outside)), load_scalar(at(like, params.snap))
    # Each result has a kernel of its own: the one of the same range of terms.
    k = 0
    while word(params.out_terms, k) != terms:
        k += 1
    weights = at(like, params.exact_weights)
    kernel = params.window_planes * params.window_rows * params.window_width
    weights = offset_pointer(weights, k * kernel)
    base, top = word(item, ITEM_SOURCE), word(item, ITEM_TOP) + row
    first_plane = word(item, ITEM_PLANE)
    used = (1 << columns) - 1
    left = params.window_left * params.channels
    for j in range(rows):
        values = offset_pointer(temp, j * size)
        close = _close_lanes(values, limit) & used
        if close == 0:
            continue
        if params.z_taps > 0 and params.kernel_columns == 0:  # rows of the block are planes
            inside = _find_window_rows(params, table, base, top, first_plane + plane + j)
        else:  # of a dense kernel they are rows, in three axes too
            inside = _find_window_rows(params, table, base, top + j, first_plane)
        inside = inside and params.source_dense != 0
        while close != 0:
            lane = _lowest_bit(close)
            close &= close - 1
            begin = first + lane - left
            if params.window_columns == 0:
                total = load_scalar(offset_pointer(values, lane))
            elif inside and begin >= 0 and begin + params.window_width <= params.x_flat:
                total = _sum_inside(params, source, table, weights, begin)
            else:
                total = _sum_anywhere(params, source, table, weights, begin, outside)
            whole = _round_half(total, snap)
            _store_whole_number(offset_pointer(values, lane), whole)


@intrinsic
def _store_whole_number(_typing: Any, p: Any, value: Any) -> Any:
    """Store an integer held in float64 at ``p``, a pointer to float32 or float64."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        number = arguments[1]
        if p.dtype == types.float32:
            number = builder.fptrunc(number, ir.FloatType())
        builder.store(number, arguments[0])
        return context.get_dummy_value()

    return types.none(p, types.float64), emit
