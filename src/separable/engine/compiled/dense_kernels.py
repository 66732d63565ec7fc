"""Dense correlation with small kernels that do not separate.

A kernel is a sum of columns: a block of ``OUTPUTS`` rows adds the correlation down each column of the
kernel, of the image shifted by it.  Vectors lie along rows, so that shifted loads are not aligned.  A kernel over three
axes has the columns of all its planes; each reads the tile of its plane of the image.
As in :mod:`.fma_blocks` long sums are sums of short ones, here of whole columns where these are short.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .exact_rounding import round_exactly
from .fma_blocks import MOST_STEPS, OUTPUTS, STEPS, correlate_any, zeros
from .jit import inline, stage
from .load_store import item_of, prefetch_rows_of, store_part, store_whole
from .simd import LINE_BYTES, LINE_VECTORS, at, lanes_of, offset_pointer
from .sweep_params import larger, params_at, smaller, word
from .vector_blocks import plus, store_block

SHORT_SUMS = 16
"""Number of short sums that are added up on their own."""


@inline
def _sum_columns(params, here, weights, offsets):
    """Return the correlation with all columns of the kernel, for ``OUTPUTS`` vectors from ``here`` on.

    ``offsets`` is a row of ``column_table``.
    """
    stride, taps = params.load_row, params.y_taps
    # A short sum is a few whole columns of the kernel, or a part of one that is longer than MOST_STEPS.
    longest = taps if taps <= MOST_STEPS else STEPS
    together = larger(1, MOST_STEPS // taps)
    # `block` is the short sum in work, `some` the sum of up to SHORT_SUMS of them, `total` of all before;
    # (i, j) is the next tap: column i of the kernel, row j.
    block = zeros(weights)
    some, total, sums, i, j = block, block, 0, 0, 0
    while i < params.kernel_columns:
        block = zeros(weights)
        for _ in range(together):
            column = offset_pointer(here, word(offsets, i) + j * stride)
            count = smaller(longest, taps - j)
            block = correlate_any(
                block, column, stride, offset_pointer(weights, i * taps + j), count
            )
            j += count
            if j == taps:
                i, j = i + 1, 0
                if i == params.kernel_columns:
                    break
        # A kernel of one short sum needs no further additions.
        if sums > 0 or i < params.kernel_columns:
            some = plus(some, block)
            sums += 1
            if sums % SHORT_SUMS == 0:
                total, some = plus(total, some), zeros(weights)
    return plus(total, some) if sums > 0 else block


@stage
def filter_direct(
    params_address, source, temp, target, offsets, rows, row, step, first, columns, dense,
    table, prefetch_rows, prefetch_offset,
):  # fmt: skip
    """Filter ``columns`` flat columns from ``first`` on of ``rows`` rows and store them.

    ``row`` is the address of flat column 0 of the first row, ``step`` the bytes between rows; ``dense`` is
    0 for samples that are not neighbours, 2 to bypass the caches; ``offsets`` is a row of ``column_table``.
    Meanwhile the ``prefetch_rows`` rows of ``table`` are prefetched at ``prefetch_offset``.
    """
    # target[r][first + c] = sum_i sum_j weights[i][j] * source[r + j][c + i * channels + phase],
    # with source[row][column] and the taps of column i of the kernel in weights[i].
    params = params_at(params_address)
    size = lanes_of(temp)
    stride = params.load_row
    weights = at(temp, params.x_weights)
    line = size * params.source_item
    share = (prefetch_rows * OUTPUTS + rows - 1) // rows
    count = (columns + size - 1) // size
    for begin in range(0, count, LINE_VECTORS):
        begun = 0 if (begin * line) % LINE_BYTES == 0 else prefetch_rows
        for r in range(0, rows, OUTPUTS):
            until = smaller(begun + share, prefetch_rows)
            prefetch_rows_of(table, begun, until, prefetch_offset + begin * line)
            begun = until
            inside, top = smaller(rows - r, OUTPUTS), row + r * step
            # The vectors of a cache line of the result, one directly after the other.
            for g in range(begin, smaller(begin + LINE_VECTORS, count)):
                here = offset_pointer(source, r * stride + g * size + params.x_phase)
                block = _sum_columns(params, here, weights, offsets)
                left, wide = first + g * size, smaller(columns - g * size, size)
                block = round_exactly(
                    params_address, temp, target, block, left, wide, inside, r, 1, 0
                )
                if dense and inside == OUTPUTS and wide == size:
                    store_whole(target, top + left * item_of(target), step, block, dense)
                else:
                    store_block(temp, size, block)
                    store_part(params_address, target, top, step, left, dense, inside, wide, temp)
