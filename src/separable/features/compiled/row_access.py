"""The rows of a tile: the table that describes a sweep of features, reading derivatives, storing features."""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part
from separable.engine.compiled.numba_api import without_literals
from separable.engine.compiled.simd import (
    at,
    high,
    lanes_of,
    load_any,
    load_scalar,
    mul,
    offset_pointer,
    splat,
    store,
    store_any,
    store_scalar,
)
from separable.engine.compiled.sweep_params import word

from .closed_forms import (
    eigenvalues_2,
    eigenvalues_3,
)

__all__ = [
    "ACCUMULATE",
    "CHUNK_STEP",
    "COLUMN_STEP",
    "COUNT",
    "FEATURE_STEP",
    "NUMBERS",
    "PLANE_STEP",
    "ROW",
    "ROWS",
    "ROW_STEP",
    "TABLE_WORDS",
    "TILE_STEP",
    "derivative",
    "hessian_2",
    "hessian_3",
    "number",
    "put",
    "put_larger",
    "row_eigenvalues_2",
    "row_eigenvalues_3",
]

# Words of the table at `params.feature_data`.
ROW = 0  # address of the stage
TILE_STEP = 1  # bytes from a derivative to the next in the tile
FEATURE_STEP = 2  # bytes from a feature to the next in the result
PLANE_STEP, ROW_STEP = 3, 4  # strides of the result
COLUMN_STEP, CHUNK_STEP = 5, 6  # bytes per column of the result; of a maximum per chunk
NUMBERS = 7  # address of the numbers of the feature, in the working dtype
ACCUMULATE = 8  # 1: the result is the larger of the feature and what is stored already
COUNT = 9  # derivatives
ROWS = 10  # rows of a plane, where derivatives are arrays of planes
TABLE_WORDS = 16


@without_literals
@inline
def number(params, like, index):
    """Return copies of one of the numbers of the feature."""
    numbers = at(like, word(params.feature_data, NUMBERS))
    return splat(like, load_scalar(offset_pointer(numbers, index)))


@without_literals
@inline
def derivative(params, like, tile, number, column):
    """Return one vector of a derivative."""
    row = at(like, tile + number * word(params.feature_data, TILE_STEP))
    return load_any(offset_pointer(row, column))


@without_literals
@part
def put(params, like, scratch, target, column, left, values):
    """Store one vector of a feature, of which ``left`` samples lie within the row."""
    place = offset_pointer(at(like, target), column)
    size = lanes_of(like)
    if left >= size:
        store_any(place, values)
        return
    temp = at(like, scratch + params.at_temp)
    store(temp, values)
    for lane in range(left):
        store_scalar(offset_pointer(place, lane), load_scalar(offset_pointer(temp, lane)))


@without_literals
@part
def put_larger(params, like, scratch, target, column, left, values):
    """Store the larger of one vector of a feature and what is stored already, if the table says so."""
    if word(params.feature_data, ACCUMULATE) == 0:
        put(params, like, scratch, target, column, left, values)
        return
    place = offset_pointer(at(like, target), column)
    size = lanes_of(like)
    if left >= size:
        store_any(place, high(values, load_any(place)))
        return
    temp = at(like, scratch + params.at_temp)
    store(temp, values)
    for lane in range(left):
        value, old = (
            load_scalar(offset_pointer(temp, lane)),
            load_scalar(offset_pointer(place, lane)),
        )
        store_scalar(offset_pointer(place, lane), value if value > old else old)


@without_literals
@inline
def hessian_2(params, like, tile, f):
    """Return the three elements of a symmetric 2x2 matrix, times the sign of the ridges."""
    sign = number(params, like, 0)
    return (
        mul(sign, derivative(params, like, tile, 0, f)),
        mul(sign, derivative(params, like, tile, 1, f)),
        mul(sign, derivative(params, like, tile, 2, f)),
    )


@without_literals
@inline
def hessian_3(params, like, tile, f):
    """Return the six elements of a symmetric 3x3 matrix, times the sign of the ridges."""
    sign = number(params, like, 0)
    return (
        mul(sign, derivative(params, like, tile, 0, f)),
        mul(sign, derivative(params, like, tile, 1, f)),
        mul(sign, derivative(params, like, tile, 2, f)),
        mul(sign, derivative(params, like, tile, 3, f)),
        mul(sign, derivative(params, like, tile, 4, f)),
        mul(sign, derivative(params, like, tile, 5, f)),
    )


@without_literals
@inline
def row_eigenvalues_2(params, like, tile, f):
    """Return the eigenvalues of the 2x2 matrix."""
    a, b, c = hessian_2(params, like, tile, f)
    return eigenvalues_2(a, b, c)


@without_literals
@part
def row_eigenvalues_3(params, like, tile, f):
    """Return the eigenvalues of the 3x3 matrix."""
    a, b, c, d, e, g = hessian_3(params, like, tile, f)
    return eigenvalues_3(a, b, c, d, e, g)
