"""Tiles loaded from the image and blocks stored to the result: what all sweeps share.

======================== =====================================================================
``load_tile``            rows of the image, converted, into strips one vector wide
``store_whole``          a block of whole vectors, rounded, to rows of the result
``store_part``           the same sample by sample, for what is not whole or not contiguous
======================== =====================================================================

Strips are ``strip[g][row][lane]``.  A border is only a table of where rows and columns lie: rows by their addresses
(0: the constant value), columns by byte offsets within a row (``OUTSIDE``: the constant value).
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .dtype_conversion import load_as, load_scalar_as, store_scalar_as
from .jit import inline, inline_coded, intrinsic, part, stage
from .numba_api import types, without_literals
from .simd import (
    at,
    lanes_of,
    load,
    load_scalar,
    offset_pointer,
    prefetch,
    splat,
    store,
    store_scalar,
)
from .sweep_params import OUTSIDE, larger, params_at, smaller, word
from .vector_blocks import store_rows

_OUTSIDE = int(OUTSIDE)
_FEW_ROWS = 64
"""Rows of a tile that are compared with each other."""


@intrinsic
def item_of(_typing: Any, like: Any) -> Any:
    """Return the size in bytes of an element of the pointer ``like``."""
    size = getattr(like.dtype, "bitwidth", 16) // 8

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(size)

    return types.int64(like), emit


# --- load -----------------------------------------------------------------------------------------


@without_literals
@inline_coded
def _gather(params, source, row, column, strip):
    """Fill one vector with the samples of flat columns from ``column`` on, border included."""
    # strip[lane] = image[row][column + lane], where flat column = position * channels + channel.
    outside = load_scalar(at(strip, params.outside))
    for lane in range(lanes_of(strip)):
        flat = column + lane
        if flat < 0:
            offset = word(params.left_table, flat + params.x_reach)
        elif flat >= params.x_flat:
            offset = word(params.right_table, flat - params.x_flat)
        else:
            position = flat // params.channels
            offset = (
                position * params.x_source + (flat - position * params.channels) * params.c_source
            )
        value = outside
        if offset != _OUTSIDE:
            value = load_scalar_as(at(source, row + offset), strip)
        store_scalar(offset_pointer(strip, lane), value)


@without_literals
@inline_coded
def _gather_strided(params, source, row, column, strip):
    """Fill one vector with samples of an image of one channel, all inside it and equally far apart."""
    # strip[lane] = image[row][column + lane]
    place = row + column * params.x_source
    for lane in range(lanes_of(strip)):
        value = load_scalar_as(at(source, place + lane * params.x_source), strip)
        store_scalar(offset_pointer(strip, lane), value)


@without_literals
@inline
def _earlier_row(table, r):
    """Return the first row of a table with the address of row ``r``, at most ``r``."""
    row = word(table, r)
    for k in range(r):
        if word(table, k) == row:
            return k
    return r


@stage
def load_tile(params_address, source, strips, table, rows, first, count):
    """Load ``count`` strips of ``rows`` rows, the flat column ``first`` at lane 0 of strip 0.

    If the record says so, as many columns to the right of them are prefetched.
    """
    params = params_at(params_address)
    size = lanes_of(strips)
    step = params.load_strip
    outside = splat(strips, load_scalar(at(strips, params.outside)))
    # Strips `start` to `stop` lie wholly inside the image, and their samples are neighbours in memory: one
    # vector load each.  All others, at the edges or of strided images, are gathered sample by sample.
    start, stop = 0, 0
    if params.source_dense:
        start = smaller(larger(0, (size - 1 - first) // size), count)
        stop = larger(start, smaller(count, (params.x_flat - first) // size))
    for r in range(rows):
        row = word(table, r)
        here = offset_pointer(strips, r * params.load_row)
        if row == 0:  # the row lies outside the image
            for g in range(count):
                store(offset_pointer(here, g * step), outside)
            continue
        # strip[g][r][lane] = image[r][first + g * size + lane]
        samples = at(source, row + first * item_of(source))
        for g in range(start, stop):
            store(
                offset_pointer(here, g * step), load_as(offset_pointer(samples, g * size), strips)
            )
        if params.prefetch_right and stop == count:
            # The hardware does not follow rows that are left after a few cache lines.
            width = count * size * params.source_item
            right = row + first * params.source_item + width
            for offset in range(0, width, 64):
                prefetch(right + offset)
        if params.source_dense == 0 and rows <= _FEW_ROWS:
            # A border repeats rows: a copy is faster than samples one by one.
            same = _earlier_row(table, r)
            if same < r:
                other = offset_pointer(strips, same * params.load_row)
                for g in range(count):
                    store(offset_pointer(here, g * step), load(offset_pointer(other, g * step)))
                continue
        for g in range(start):
            _gather(params, source, row, first + g * size, offset_pointer(here, g * step))
        for g in range(stop, count):
            column, strip = first + g * size, offset_pointer(here, g * step)
            inside = column >= 0 and column + size <= params.x_flat
            if inside and params.channels == 1:
                _gather_strided(params, source, row, column, strip)
            else:
                _gather(params, source, row, column, strip)


@without_literals
@inline_coded
def prefetch_rows_of(table, start, stop, offset):
    """Prefetch the cache line at ``offset`` of the rows ``start`` to ``stop`` of a table."""
    for r in range(start, stop):
        row = word(table, r)
        if row != 0:
            prefetch(row + offset)


# --- store ---------------------------------------------------------------------------------------


@without_literals
@inline_coded
def _scatter(params, target, row, column, count, values):
    """Store ``count`` samples one by one at the flat columns from ``column`` on."""
    # target[row][column + lane] = values[lane]
    if params.channels == 1:
        place = row + column * params.x_target
        for lane in range(count):
            value = load_scalar(offset_pointer(values, lane))
            store_scalar_as(at(target, place + lane * params.x_target), value)
        return
    for lane in range(count):
        flat = column + lane
        position = flat // params.channels
        offset = position * params.x_target + (flat - position * params.channels) * params.c_target
        store_scalar_as(at(target, row + offset), load_scalar(offset_pointer(values, lane)))


@without_literals
@part
def store_part(params_address, target, row, step, first, dense, rows, columns, values):
    """Store ``rows`` by ``columns`` samples of the block ``values[row][lane]`` one by one.

    ``row`` is the address of flat column 0 of the first row, ``step`` the bytes between rows, ``first`` the flat column
    of lane 0; ``dense`` is 0 if flat columns are not neighbours in memory.
    """
    params = params_at(params_address)
    size = lanes_of(values)
    for r in range(rows):
        place = at(target, row + r * step + first * item_of(target))
        here = offset_pointer(values, r * size)
        if dense:
            for lane in range(columns):
                store_scalar_as(
                    offset_pointer(place, lane), load_scalar(offset_pointer(here, lane))
                )
        else:
            _scatter(params, target, row + r * step, first, columns, here)


@without_literals
@inline
def store_whole(target, place, step, block, dense):
    """Store a block of vectors ``step`` bytes apart from ``place`` on, past the caches if ``dense`` is 2."""
    # Two calls because the instruction is chosen when the code is emitted.
    if dense == 2:
        store_rows(target, place, step, block, True)
    else:
        store_rows(target, place, step, block, False)
