"""Dense correlation with small kernels that do not separate.

A kernel is a sum of columns: a block of ``OUTPUTS`` rows adds the correlation down each column of the
kernel, of the image shifted by it.  Vectors lie along rows, so that shifted loads are not aligned.
As in :mod:`.fma_blocks` long sums are sums of short ones, here of whole columns where these are short.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .fma_blocks import MOST_STEPS, OUTPUTS, STEPS, correlate_any, zeros
from .jit import stage
from .microkernels import _ask, item_of, put_part, put_whole
from .simd import ahead, at, lanes_of
from .sweep_params import least, most, plan_at
from .vector_blocks import plus, store_block

SHORT_SUMS = 16
"""How many short sums are added up on their own again."""


@stage
def filter_direct(
    plan_address,
    source,
    temp,
    target,
    rows,
    row,
    step,
    first,
    columns,
    dense,
    table,
    asked,
    ahead_by,
):
    """Filter ``columns`` flat columns from ``first`` on of ``rows`` rows and store them.

    ``row`` is the address of flat column 0 of the first row, ``step`` the bytes between rows; ``dense`` is
    0 for samples that are not neighbours, 2 to bypass the cache.  Meanwhile rows are prefetched.
    """
    plan = plan_at(plan_address)
    size = lanes_of(temp)
    stride, taps, channels = plan.load_row, plan.y_taps, plan.channels
    weights = at(temp, plan.x_weights)
    line = size * plan.source_item
    share = (asked * OUTPUTS + rows - 1) // rows
    longest = taps if taps <= MOST_STEPS else STEPS
    together = most(1, MOST_STEPS // taps)
    for g in range((columns + size - 1) // size):
        begun = 0 if (g * line) % 64 == 0 else asked
        left, wide = first + g * size, least(columns - g * size, size)
        for r in range(0, rows, OUTPUTS):
            until = least(begun + share, asked)
            _ask(table, begun, until, ahead_by + g * line)
            begun = until
            here = ahead(source, r * stride + g * size + plan.x_phase)
            block = zeros(temp)
            some, total, sums, i, j = block, block, 0, 0, 0
            while i < plan.x_taps:
                block = zeros(temp)
                for _ in range(together):
                    column, taken = ahead(here, i * channels), ahead(weights, i * taps)
                    count = least(longest, taps - j)
                    x = ahead(column, j * stride)
                    block = correlate_any(block, x, stride, ahead(taken, j), count)
                    j += count
                    if j == taps:
                        i, j = i + 1, 0
                        if i == plan.x_taps:
                            break
                if sums > 0 or i < plan.x_taps:
                    some = plus(some, block)
                    sums += 1
                    if sums % SHORT_SUMS == 0:
                        total, some = plus(total, some), zeros(temp)
            if sums > 0:
                block = plus(total, some)
            inside, top = least(rows - r, OUTPUTS), row + r * step
            if dense and inside == OUTPUTS and wide == size:
                put_whole(target, top + left * item_of(target), step, block, dense)
            else:
                store_block(temp, size, block)
                put_part(plan_address, target, top, step, left, dense, inside, wide, temp)
