"""Transpose and store: how lines of an image become vectors that a filter can run along, and back.

======================== =====================================================================
``transpose_strips``     strips transposed, so that lines along x run through memory as well
``store_across``         transposed back, scaled, rounded and stored
``store_strips``         strips scaled, rounded and stored
======================== =====================================================================

Rows are loaded by :func:`.load_store.load_tile`.  Strips are ``strip[g][row][lane]``, the transposed buffer is
``across[group of rows][column][lane]``.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .exact_rounding import SNAP, snap_halves
from .jit import inline, stage
from .load_store import store_part, store_whole
from .simd import at, lanes_of, load, load_scalar, mul, offset_pointer, splat, store
from .sweep_params import params_at, smaller
from .transpose import transpose
from .vector_blocks import load_block, store_block, times


@stage
def transpose_strips(params_address, strips, across, groups, count):
    """Transpose ``count`` strips into the columns of ``across``."""
    params = params_at(params_address)
    size = lanes_of(strips)
    for g in range(count):
        strip = offset_pointer(strips, g * params.load_strip + params.y_shift * size)
        for q in range(groups):
            # across[q][g * size + i][j] = strip[g][q * size + j][i]
            block = transpose(load_block(offset_pointer(strip, q * size * size), size))
            place = offset_pointer(across, (q * params.across_width + g * size) * size)
            store_block(place, size, block)


@inline
def _density(params, first, size):
    """Return 0 for samples that are not neighbours, 2 to bypass the caches from column ``first`` on, else 1."""
    if params.stream and (first - params.unaligned_prefix) % size == 0:
        return 2  # every vector from here on is aligned in the target
    return params.target_dense


@stage
def store_across(params_address, across, temp, target, row, step, first, columns, rows):
    """Transpose ``columns`` of ``across`` back, scale them and store them from flat column ``first`` on.

    ``row`` is the address of flat column 0 of the first row, ``step`` the bytes between rows.
    """
    params = params_at(params_address)
    size = lanes_of(temp)
    # target[q * size + j][first + f + i] = scale * across[q][f + i][j]
    scale = splat(temp, load_scalar(at(temp, params.scale)))
    dense = _density(params, first, size)
    for q in range((rows + size - 1) // size):
        inside = smaller(size, rows - q * size)
        top = row + q * size * step
        source = offset_pointer(across, q * params.across_width * size)
        for f in range(0, columns, size):
            wide = smaller(size, columns - f)
            block = times(transpose(load_block(offset_pointer(source, f * size), size)), scale)
            block = snap_halves(target, block, SNAP)
            if dense and inside == size and wide == size:
                store_whole(target, top + (first + f) * params.target_item, step, block, dense)
            else:
                store_block(temp, size, block)
                store_part(params_address, target, top, step, first + f, dense, inside, wide, temp)


@stage
def store_strips(params_address, strips, temp, target, row, step, first, columns, rows):
    """Scale strips and store them from flat column ``first`` on; see :func:`store_across`."""
    params = params_at(params_address)
    size = lanes_of(temp)
    # target[r][first + g * size + lane] = scale * strip[g][r + y_shift][lane]
    scale = splat(temp, load_scalar(at(temp, params.scale)))
    dense = _density(params, first, size)
    whole = columns // size if dense else 0
    for r in range(rows):
        here = offset_pointer(strips, (r + params.y_shift) * size)
        place = row + r * step + first * params.target_item
        for g in range(whole):
            value = (mul(load(offset_pointer(here, g * params.load_strip)), scale),)
            value = snap_halves(target, value, SNAP)
            store_whole(target, place + g * size * params.target_item, 0, value, dense)
        for g in range(whole, (columns + size - 1) // size):
            value = (mul(load(offset_pointer(here, g * params.load_strip)), scale),)
            store(temp, snap_halves(target, value, SNAP)[0])
            wide = smaller(size, columns - g * size)
            store_part(
                params_address, target, row + r * step, 0, first + g * size, dense, 1, wide, temp
            )
