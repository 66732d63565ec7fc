"""Correlation of rows with taps that lie anywhere: ``out[r][x] = sum_t weights[t] * source[starts[r] + offsets[t] + x]``.

The offsets are distances in memory, so that taps of any number of axes and at any distance are one list. ``OUTPUTS``
neighbouring vectors of a row are summed together, in the order of the taps; long sums are sums of short ones. Rows are
computed in whole tiles: a row of the source must have a tile of numbers after it that may be read, a row of the
result one that may be written.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from .fma_blocks import OUTPUTS, accumulate_any, zeros
from .jit import address, stage
from .numba_api import types
from .simd import lanes, lanes_of, offset_pointer, pointer
from .sweep_params import smaller, word
from .vector_blocks import plus, store_block_any

__all__ = ["correlate_rows", "tile_of"]

SHORT_SUM = 16
"""Taps that are summed on their own."""


@stage
def sum_spread_taps(source, target, weights, starts, offsets, rows, pitch, columns, taps):
    """Correlate ``rows`` rows of ``columns`` numbers; rows of the result lie ``pitch`` numbers apart."""
    size = lanes_of(source)
    for r in range(rows):
        row = offset_pointer(source, word(starts, r))
        out = offset_pointer(target, r * pitch)
        for x in range(0, columns, OUTPUTS * size):
            here = offset_pointer(row, x)
            total = zeros(weights)
            for first in range(0, taps, SHORT_SUM):
                block = zeros(weights)
                for t in range(first, smaller(first + SHORT_SUM, taps)):
                    # block[v] += weights[t] * source[starts[r] + offsets[t] + x + v * size]
                    place = offset_pointer(here, word(offsets, t))
                    block = accumulate_any(block, place, size, offset_pointer(weights, t), 1)
                total = plus(total, block)
            store_block_any(offset_pointer(out, x), size, total)


def correlate_rows(name: str) -> int:
    """Return the address of the compiled loop for numbers of a type, "float32" or "float64"."""
    numbers = (pointer(name),) * 3
    return address(sum_spread_taps, (*numbers, *(types.int64,) * 6))


def tile_of(name: str) -> int:
    """Return how many numbers of a row are computed together.

    Examples
    --------
    >>> tile_of("float32") == 2 * tile_of("float64")
    True
    """
    return OUTPUTS * lanes(name)
