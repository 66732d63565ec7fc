"""The z pass: down a ring of planes that are already filtered along y and x.

The ring is ``ring[term][row][group of columns][slot][lane]``: what the z pass reads for one vector of
outputs lies together, and it reads the ring from one end to the other.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .fma_blocks import OUTPUTS, correlate_terms
from .jit import inline, stage
from .microkernels import item_of, put_part, put_whole
from .numba_api import without_literals
from .simd import ahead, at, lanes_of, load, peek, splat, store
from .sweep_params import least, plan_at
from .vector_blocks import store_block


@without_literals
@inline
def _forget(column, count, kept):
    """Drop the first ``count`` vectors of a column; the ``kept`` ones behind them move up."""
    size = lanes_of(column)
    for k in range(kept):
        store(ahead(column, k * size), load(ahead(column, (count + k) * size)))


@stage
def finish_planes(
    plan_address, ring, temp, target, like, place, first, columns, rows, count, dense, terms, kept, dropped
):  # fmt: skip
    """Filter ``count`` planes along z, store them, and drop as many from the first ``dropped`` rings.

    The type of the pointer ``like`` says of which kind the taps are; ``place`` is the address of flat column 0 of the first row in the first plane; the slots after these,
    ``kept`` of them, are needed again; ``terms`` is ``first * 65536 + last``.
    """
    plan = plan_at(plan_address)
    size = lanes_of(temp)
    column_step, row_step = plan.ring_strip // plan.work_item, plan.ring_row // plan.work_item
    term_step, taps = plan.ring_term // plan.work_item, plan.z_taps
    for r in range(rows):
        row = place + r * plan.y_target
        for f in range(0, columns, size):
            column = ahead(ring, r * row_step + f // size * column_step)
            wide = least(columns - f, size)
            for z in range(0, count, OUTPUTS):
                x, weights = ahead(column, z * size), at(like, plan.z_weights)
                block = correlate_terms(
                    x, plan.z_from, term_step, size, weights, taps, plan.z_kinds,
                    terms >> 16, terms & 65535,
                )  # fmt: skip
                inside, top = least(count - z, OUTPUTS), row + z * plan.z_target
                left = first + f
                if dense and inside == OUTPUTS and wide == size:
                    put_whole(target, top + left * item_of(target), plan.z_target, block, dense)
                else:
                    store_block(temp, size, block)
                    put_part(
                        plan_address, target, top, plan.z_target, left, dense, inside, wide, temp
                    )
            for t in range(dropped):
                _forget(ahead(column, t * term_step), count, kept)


@stage
def fill_slot(slot, value_address, count, step):
    """Set the vectors of a slot, ``count`` of them ``step`` elements apart, to one value."""
    value = splat(slot, peek(at(slot, value_address)))
    for i in range(count):
        store(ahead(slot, i * step), value)


@stage
def copy_slot(slot, other, count, step):
    """Copy one slot to another."""
    for i in range(count):
        store(ahead(slot, i * step), load(ahead(other, i * step)))
