"""The z pass: along z through rings of planes that are already filtered along y and x.

A ring is ``ring[term][row][vector column][slot][lane]``: the samples that the z pass reads for one vector of
outputs lie together, and it reads the ring from one end to the other.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .exact_rounding import round_exactly
from .fma_blocks import OUTPUTS, correlate_terms
from .jit import inline, stage
from .load_store import item_of, store_part, store_whole
from .numba_api import without_literals
from .simd import LINE_VECTORS, at, lanes_of, load, load_scalar, offset_pointer, splat, store
from .sweep_params import params_at, smaller
from .vector_blocks import store_block


@without_literals
@inline
def _drop_planes(column, count, kept):
    """Drop the first ``count`` vectors of a column; the ``kept`` ones behind them move up."""
    size = lanes_of(column)
    for k in range(kept):
        store(offset_pointer(column, k * size), load(offset_pointer(column, (count + k) * size)))


@stage
def finish_planes(
    params_address, ring, temp, target, like, place, first, columns, rows, count, dense, terms, kept, dropped
):  # fmt: skip
    """Filter ``count`` planes along z, store them, and drop as many from the first ``dropped`` rings.

    ``like`` is a null pointer whose type says of which kind the taps are; ``place`` is the address of flat column 0 of
    the first row in the first plane; the ``kept`` slots behind these planes are needed again; ``terms`` is
    ``first * 65536 + last``.
    """
    # target[z][r][first + f + lane] = sum_t sum_k taps[t][k] * ring[z_from[t]][r][f / size][z + k][lane]
    params = params_at(params_address)
    size = lanes_of(temp)
    # Steps in elements from a vector column, a row and a term to the next.
    column_step = params.ring_strip // params.work_item
    row_step = params.ring_row // params.work_item
    term_step, taps = params.ring_term // params.work_item, params.z_taps
    for r in range(rows):
        row = place + r * params.y_target
        for begin in range(0, columns, LINE_VECTORS * size):
            end = smaller(begin + LINE_VECTORS * size, columns)
            for z in range(0, count, OUTPUTS):
                inside, top = smaller(count - z, OUTPUTS), row + z * params.z_target
                # The vectors of a cache line of the result, one directly after the other.
                for f in range(begin, end, size):
                    column = offset_pointer(ring, r * row_step + f // size * column_step)
                    x, weights = offset_pointer(column, z * size), at(like, params.z_weights)
                    block = correlate_terms(
                        x, params.z_from, term_step, size, weights, taps, params.z_kinds,
                        terms >> 16, terms & 65535,
                    )  # fmt: skip
                    left, wide = first + f, smaller(columns - f, size)
                    block = round_exactly(
                        params_address, temp, target, block, left, wide, inside, r, terms, z
                    )
                    # The rows of this block are planes: `step` bytes apart.
                    step = params.z_target
                    if dense and inside == OUTPUTS and wide == size:
                        store_whole(target, top + left * item_of(target), step, block, dense)
                    else:
                        store_block(temp, size, block)
                        store_part(
                            params_address, target, top, step, left, dense, inside, wide, temp
                        )
            # While the columns are in the cache: planes that the next slab does not read make room.
            for f in range(begin, end, size):
                column = offset_pointer(ring, r * row_step + f // size * column_step)
                for t in range(dropped):
                    _drop_planes(offset_pointer(column, t * term_step), count, kept)


@stage
def fill_slot(slot, value_address, count, step):
    """Set the ``count`` vectors of a slot, ``step`` elements apart, to one value."""
    value = splat(slot, load_scalar(at(slot, value_address)))
    for i in range(count):
        store(offset_pointer(slot, i * step), value)


@stage
def copy_slot(slot, other, count, step):
    """Copy one slot to another."""
    for i in range(count):
        store(offset_pointer(slot, i * step), load(offset_pointer(other, i * step)))
