"""Transpose and store: how lines of an image become vectors that a filter can run along, and back.

======================== =====================================================================
``transpose_strips``     strips transposed, so that lines along x run through memory as well
``store_across``         transposed back, scaled, rounded and stored
``store_strips``         strips scaled, rounded and stored
======================== =====================================================================

Rows are loaded by :func:`.microkernels.load_tile`.  Strips are ``strip[g][row][lane]``, the transposed buffer is
``across[group of rows][column][lane]``.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .jit import stage
from .microkernels import put_part, put_whole
from .simd import ahead, at, lanes_of, load, mul, peek, splat, store
from .sweep_params import least, plan_at
from .transpose import transpose
from .vector_blocks import load_block, store_block, times


@stage
def transpose_strips(plan_address, strips, across, groups, count):
    """Transpose ``count`` strips into the columns of ``across``."""
    plan = plan_at(plan_address)
    size = lanes_of(strips)
    for g in range(count):
        strip = ahead(strips, g * plan.load_strip + plan.y_shift * size)
        for q in range(groups):
            # across[q][g * size + i][j] = strip[g][q * size + j][i]
            block = transpose(load_block(ahead(strip, q * size * size), size))
            place = ahead(across, (q * plan.across_width + g * size) * size)
            store_block(place, size, block)


@stage
def store_across(plan_address, across, temp, target, row, step, first, columns, rows):
    """Transpose ``columns`` of ``across`` back, scale them and store them from flat column ``first`` on.

    ``row`` is the address of flat column 0 of the first row, ``step`` the bytes between rows.
    """
    plan = plan_at(plan_address)
    size = lanes_of(temp)
    scale = splat(temp, peek(at(temp, plan.scale)))
    dense = plan.target_dense
    if plan.stream and (first - plan.unaligned_prefix) % size == 0:
        dense = 2
    for q in range((rows + size - 1) // size):
        inside = least(size, rows - q * size)
        top = row + q * size * step
        source = ahead(across, q * plan.across_width * size)
        for f in range(0, columns, size):
            wide = least(size, columns - f)
            block = times(transpose(load_block(ahead(source, f * size), size)), scale)
            if dense and inside == size and wide == size:
                put_whole(target, top + (first + f) * plan.target_item, step, block, dense)
            else:
                store_block(temp, size, block)
                put_part(plan_address, target, top, step, first + f, dense, inside, wide, temp)


@stage
def store_strips(plan_address, strips, temp, target, row, step, first, columns, rows):
    """Scale strips and store them from flat column ``first`` on; see :func:`store_across`."""
    plan = plan_at(plan_address)
    size = lanes_of(temp)
    scale = splat(temp, peek(at(temp, plan.scale)))
    dense = plan.target_dense
    if plan.stream and (first - plan.unaligned_prefix) % size == 0:
        dense = 2
    whole = columns // size if dense else 0
    for r in range(rows):
        here = ahead(strips, (r + plan.y_shift) * size)
        place = row + r * step + first * plan.target_item
        for g in range(whole):
            value = (mul(load(ahead(here, g * plan.load_strip)), scale),)
            put_whole(target, place + g * size * plan.target_item, 0, value, dense)
        for g in range(whole, (columns + size - 1) // size):
            store(temp, mul(load(ahead(here, g * plan.load_strip)), scale))
            wide = least(size, columns - g * size)
            put_part(
                plan_address, target, row + r * step, 0, first + g * size, dense, 1, wide, temp
            )
