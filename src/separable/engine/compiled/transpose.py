"""The transpose of square blocks of vectors: as many vectors as each has lanes, held in registers."""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

from .jit import intrinsic
from .numba_api import cgutils
from .simd import emit_shuffle


def emit_transpose(builder: Any, rows: list[Any], group: int) -> list[Any]:
    """Emit the transpose of a square block; ``group`` lanes make 128 bits."""
    # columns[c][r] = rows[r][c].  First within 128-bit groups by interleaving, then of whole groups by
    # separating even and odd ones: each step is one cheap shuffle on every target.  For 16 lanes of float32:
    # 4 blocks of 4 rows, two rounds of 4 shuffles each, then two rounds over groups: 64 shuffles for 16 vectors.
    size = len(rows)
    blocks = [_interleave(builder, rows[i : i + group], group) for i in range(0, size, group)]
    columns: list[Any] = [None] * size
    for c in range(group):
        for q, value in enumerate(_separate(builder, [block[c] for block in blocks], group)):
            columns[q * group + c] = value
    return columns


def _interleave(builder: Any, rows: list[Any], group: int) -> list[Any]:
    """Transpose ``len(rows)`` lanes inside every 128-bit group."""
    if len(rows) == 1:
        return rows
    # Interleaving the transposes of the even and of the odd rows gives the transpose of all.
    evens = _interleave(builder, rows[0::2], group)
    odds = _interleave(builder, rows[1::2], group)
    result = []
    for a, b in zip(evens, odds, strict=True):
        size = a.type.count
        for part in (0, group // 2):
            taken = []
            for start in range(0, size, group):
                for k in range(group // 2):
                    taken += [start + part + k, size + start + part + k]
            result.append(emit_shuffle(builder, a, b, taken))
    return result


def _separate(builder: Any, values: list[Any], group: int) -> list[Any]:
    """Transpose the 128-bit groups of ``len(values)`` vectors."""
    if len(values) == 1:
        return values
    size = values[0].type.count
    # The groups at even positions of all vectors, then those at odd ones.
    halves = []
    for parity in (0, 1):
        taken = [
            start + k for start in range(parity * group, 2 * size, 2 * group) for k in range(group)
        ]
        pairs = zip(values[0::2], values[1::2], strict=True)
        halves.append([emit_shuffle(builder, a, b, taken) for a, b in pairs])
    even, odd = (_separate(builder, half_values, group) for half_values in halves)
    return [value for pair in zip(even, odd, strict=True) for value in pair]


@intrinsic
def transpose(_typing: Any, rows: Any) -> Any:
    """Transpose each square block of a tuple of vectors: as many rows as a vector has lanes."""
    vector = rows.dtype
    group, size = max(1, 128 // vector.dtype.bitwidth), vector.lanes

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = cgutils.unpack_tuple(builder, arguments[0], len(rows))
        columns = []
        for start in range(0, len(rows), size):
            columns += emit_transpose(builder, values[start : start + size], group)
        return context.make_tuple(builder, signature.return_type, columns)

    return rows(rows), emit
