"""Rows of features: each stage reads the rows of derivatives of one tile and stores those of the features.

All stages have one signature, because the table of a sweep (`feature_loop`) names the one that serves::

    stage(params, scratch, like, tile, target, columns)

``tile`` is the address of the first derivative's row, the next derivatives lie ``TILE_STEP`` bytes apart, and each row
has room for whole vectors.  ``target`` is the address of the first feature's row, the next ones lie ``FEATURE_STEP`` bytes
apart.  ``like`` is a null pointer whose type is the working dtype.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import stage
from separable.engine.compiled.simd import (
    add,
    fma,
    high,
    lanes_of,
    mul,
    sub,
)
from separable.engine.compiled.sweep_params import params_at, word

from .closed_forms import (
    coherence,
    determinant_2,
    determinant_3,
    eigenvalues_2,
    eigenvalues_3,
    frangi_2,
    frangi_3,
    meijering_2,
    meijering_3,
    sato_2,
    sato_3,
)
from .row_access import (
    COUNT,
    FEATURE_STEP,
    TILE_STEP,
    derivative,
    hessian_2,
    hessian_3,
    number,
    put,
    put_larger,
    row_eigenvalues_2,
    row_eigenvalues_3,
)
from .vector_functions import divide, ratio, root

__all__ = [
    "coherence_row_2",
    "coherence_row_3",
    "copies_row",
    "determinant_row_2",
    "determinant_row_3",
    "difference_row",
    "eigenvalues_row_2",
    "eigenvalues_row_3",
    "frangi_row_2",
    "frangi_row_3",
    "gaussian_features_row_2",
    "gaussian_features_row_3",
    "length_row",
    "meijering_row_2",
    "meijering_row_3",
    "products_row",
    "sato_row_2",
    "sato_row_3",
    "sum_row",
    "variance_row",
]


@stage
def eigenvalues_row_2(params_address, scratch, like, tile, target, columns):
    """Store the two eigenvalues, the larger first."""
    params = params_at(params_address)
    step = word(params.feature_data, FEATURE_STEP)
    for f in range(0, columns, lanes_of(like)):
        a, b = row_eigenvalues_2(params, like, tile, f)
        put(params, like, scratch, target, f, columns - f, a)
        put(params, like, scratch, target + step, f, columns - f, b)


@stage
def eigenvalues_row_3(params_address, scratch, like, tile, target, columns):
    """Store the three eigenvalues in decreasing order."""
    params = params_at(params_address)
    step = word(params.feature_data, FEATURE_STEP)
    for f in range(0, columns, lanes_of(like)):
        a, b, c = row_eigenvalues_3(params, like, tile, f)
        put(params, like, scratch, target, f, columns - f, a)
        put(params, like, scratch, target + step, f, columns - f, b)
        put(params, like, scratch, target + 2 * step, f, columns - f, c)


@stage
def determinant_row_2(params_address, scratch, like, tile, target, columns):
    """Store the determinant of the 2x2 matrix, times a number."""
    params = params_at(params_address)
    scale = number(params, like, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b, c = hessian_2(params, like, tile, f)
        put_larger(
            params, like, scratch, target, f, columns - f, mul(scale, determinant_2(a, b, c))
        )


@stage
def determinant_row_3(params_address, scratch, like, tile, target, columns):
    """Store the determinant of the 3x3 matrix, times a number."""
    params = params_at(params_address)
    scale = number(params, like, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b, c, d, e, g = hessian_3(params, like, tile, f)
        value = mul(scale, determinant_3(a, b, c, d, e, g))
        put_larger(params, like, scratch, target, f, columns - f, value)


@stage
def frangi_row_2(params_address, scratch, like, tile, target, columns):
    """Store the larger of Frangi's vesselness and that of the scales before."""
    params = params_at(params_address)
    plate, blob = number(params, like, 1), number(params, like, 2)
    structure = number(params, like, 3)
    for f in range(0, columns, lanes_of(like)):
        a, b = row_eigenvalues_2(params, like, tile, f)
        value = frangi_2(a, b, plate, blob, structure)
        put_larger(params, like, scratch, target, f, columns - f, value)


@stage
def frangi_row_3(params_address, scratch, like, tile, target, columns):
    """Store the larger of Frangi's vesselness and that of the scales before."""
    params = params_at(params_address)
    plate, blob = number(params, like, 1), number(params, like, 2)
    structure = number(params, like, 3)
    for f in range(0, columns, lanes_of(like)):
        a, b, c = row_eigenvalues_3(params, like, tile, f)
        value = frangi_3(a, b, c, plate, blob, structure)
        put_larger(params, like, scratch, target, f, columns - f, value)


@stage
def sato_row_2(params_address, scratch, like, tile, target, columns):
    """Store the larger of Sato's tubeness and that of the scales before."""
    params = params_at(params_address)
    scale = number(params, like, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b = row_eigenvalues_2(params, like, tile, f)
        put_larger(params, like, scratch, target, f, columns - f, sato_2(a, b, scale))


@stage
def sato_row_3(params_address, scratch, like, tile, target, columns):
    """Store the larger of Sato's tubeness and that of the scales before."""
    params = params_at(params_address)
    scale = number(params, like, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b, c = row_eigenvalues_3(params, like, tile, f)
        put_larger(params, like, scratch, target, f, columns - f, sato_3(a, b, c, scale))


@stage
def meijering_row_2(params_address, scratch, like, tile, target, columns):
    """Store the larger of Meijering's neuriteness, divided by its maximum, and that of the scales before."""
    params = params_at(params_address)
    alpha, most = number(params, like, 1), number(params, like, 2)
    for f in range(0, columns, lanes_of(like)):
        a, b = row_eigenvalues_2(params, like, tile, f)
        value = divide(meijering_2(a, b, alpha), most)
        put_larger(params, like, scratch, target, f, columns - f, value)


@stage
def meijering_row_3(params_address, scratch, like, tile, target, columns):
    """Store the larger of Meijering's neuriteness, divided by its maximum, and that of the scales before."""
    params = params_at(params_address)
    alpha, most = number(params, like, 1), number(params, like, 2)
    for f in range(0, columns, lanes_of(like)):
        a, b, c = row_eigenvalues_3(params, like, tile, f)
        value = divide(meijering_3(a, b, c, alpha), most)
        put_larger(params, like, scratch, target, f, columns - f, value)


@stage
def length_row(params_address, scratch, like, tile, target, columns):
    """Store the length of a vector of any number of derivatives, times a number."""
    params = params_at(params_address)
    scale, count = number(params, like, 1), word(params.feature_data, COUNT)
    for f in range(0, columns, lanes_of(like)):
        x = derivative(params, like, tile, 0, f)
        total = mul(x, x)
        for k in range(1, count):
            x = derivative(params, like, tile, k, f)
            total = fma(x, x, total)
        put_larger(params, like, scratch, target, f, columns - f, mul(scale, root(total)))


@stage
def copies_row(params_address, scratch, like, tile, target, columns):
    """Store the derivatives themselves, times a number."""
    params = params_at(params_address)
    scale, count = number(params, like, 1), word(params.feature_data, COUNT)
    step = word(params.feature_data, FEATURE_STEP)
    for f in range(0, columns, lanes_of(like)):
        for k in range(count):
            value = mul(scale, derivative(params, like, tile, k, f))
            put(params, like, scratch, target + k * step, f, columns - f, value)


@stage
def sum_row(params_address, scratch, like, tile, target, columns):
    """Store the sum of the derivatives, times a number."""
    params = params_at(params_address)
    scale, count = number(params, like, 1), word(params.feature_data, COUNT)
    for f in range(0, columns, lanes_of(like)):
        total = derivative(params, like, tile, 0, f)
        for k in range(1, count):
            total = add(total, derivative(params, like, tile, k, f))
        put(params, like, scratch, target, f, columns - f, mul(scale, total))


@stage
def difference_row(params_address, scratch, like, tile, target, columns):
    """Store the difference of the first two derivatives, times a number."""
    params = params_at(params_address)
    scale = number(params, like, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b = derivative(params, like, tile, 0, f), derivative(params, like, tile, 1, f)
        put(params, like, scratch, target, f, columns - f, mul(scale, sub(a, b)))


@stage
def products_row(params_address, scratch, like, tile, target, columns):
    """Store the products of all pairs of derivatives: 00, 01, ..., 11, 12 ..."""
    params = params_at(params_address)
    step, count = word(params.feature_data, FEATURE_STEP), word(params.feature_data, COUNT)
    for f in range(0, columns, lanes_of(like)):
        place = target
        for i in range(count):
            x = derivative(params, like, tile, i, f)
            for j in range(i, count):
                value = mul(x, derivative(params, like, tile, j, f))
                put(params, like, scratch, place, f, columns - f, value)
                place += step


@stage
def coherence_row_2(params_address, scratch, like, tile, target, columns):
    """Store ``(l1 - l2) / (l1 + l2)``, 0 where the sum is not positive."""
    params = params_at(params_address)
    for f in range(0, columns, lanes_of(like)):
        a, b = row_eigenvalues_2(params, like, tile, f)
        put(params, like, scratch, target, f, columns - f, coherence(a, b))


@stage
def coherence_row_3(params_address, scratch, like, tile, target, columns):
    """Store ``(l1 - l3) / (l1 + l3)``, 0 where the sum is not positive."""
    params = params_at(params_address)
    for f in range(0, columns, lanes_of(like)):
        a, _, c = row_eigenvalues_3(params, like, tile, f)
        put(params, like, scratch, target, f, columns - f, coherence(a, c))


@stage
def variance_row(params_address, scratch, like, tile, target, columns):
    """Store the variance from the means of the samples and of their squares, times a number."""
    params = params_at(params_address)
    scale = number(params, like, 1)
    for f in range(0, columns, lanes_of(like)):
        mean, square = derivative(params, like, tile, 0, f), derivative(params, like, tile, 1, f)
        value = sub(square, mul(mean, mean))
        none = mul(value, ratio(value, 0, 1))
        put(params, like, scratch, target, f, columns - f, mul(scale, high(value, none)))


@stage
def gaussian_features_row_2(params_address, scratch, like, tile, target, columns):
    """Store smoothing, gradient magnitude, Laplacian and the Hessian's eigenvalues from g, gy, gx, gyy, gyx, gxx."""
    params = params_at(params_address)
    step = word(params.feature_data, FEATURE_STEP)
    hessian = tile + 3 * word(params.feature_data, TILE_STEP)
    for f in range(0, columns, lanes_of(like)):
        left = columns - f
        y, x = derivative(params, like, tile, 1, f), derivative(params, like, tile, 2, f)
        a, b, c = hessian_2(params, like, hessian, f)
        first, second = eigenvalues_2(a, b, c)
        put(params, like, scratch, target, f, left, derivative(params, like, tile, 0, f))
        put(params, like, scratch, target + step, f, left, root(fma(y, y, mul(x, x))))
        put(params, like, scratch, target + 2 * step, f, left, add(a, c))
        put(params, like, scratch, target + 3 * step, f, left, first)
        put(params, like, scratch, target + 4 * step, f, left, second)


@stage
def gaussian_features_row_3(params_address, scratch, like, tile, target, columns):
    """Store smoothing, gradient magnitude, Laplacian and the Hessian's eigenvalues from 1 + 3 + 6 derivatives."""
    params = params_at(params_address)
    step = word(params.feature_data, FEATURE_STEP)
    hessian = tile + 4 * word(params.feature_data, TILE_STEP)
    for f in range(0, columns, lanes_of(like)):
        left = columns - f
        z, y = derivative(params, like, tile, 1, f), derivative(params, like, tile, 2, f)
        x = derivative(params, like, tile, 3, f)
        a, b, c, d, e, g = hessian_3(params, like, hessian, f)
        first, second, third = eigenvalues_3(a, b, c, d, e, g)
        length = root(fma(z, z, fma(y, y, mul(x, x))))
        put(params, like, scratch, target, f, left, derivative(params, like, tile, 0, f))
        put(params, like, scratch, target + step, f, left, length)
        put(params, like, scratch, target + 2 * step, f, left, add(a, add(d, g)))
        put(params, like, scratch, target + 3 * step, f, left, first)
        put(params, like, scratch, target + 4 * step, f, left, second)
        put(params, like, scratch, target + 5 * step, f, left, third)
