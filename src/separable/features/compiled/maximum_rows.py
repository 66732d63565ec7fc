"""Rows of norms and of what is divided by its maximum, and the maxima: one number per row of a tile.

The stages have the signature of :mod:`.feature_rows`.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline, part, stage
from separable.engine.compiled.numba_api import without_literals
from separable.engine.compiled.simd import (
    at,
    fma,
    high,
    lanes_of,
    load,
    load_scalar,
    mul,
    offset_pointer,
    store,
    store_scalar,
)
from separable.engine.compiled.sweep_params import params_at

from .closed_forms import (
    meijering_2,
    meijering_3,
)
from .row_access import (
    hessian_2,
    hessian_3,
    number,
    put,
    row_eigenvalues_2,
    row_eigenvalues_3,
)
from .vector_functions import absolute, inverse_power, power_of_two, ratio, root

__all__ = [
    "largest_neuriteness_row_2",
    "largest_neuriteness_row_3",
    "largest_norm_row_2",
    "largest_norm_row_3",
    "neuriteness_row_2",
    "neuriteness_row_3",
    "norm_row_2",
    "norm_row_3",
]


@without_literals
@part
def _put_maximum(params, like, scratch, target, values):
    """Store the largest element of a vector."""
    temp = at(like, scratch + params.at_temp)
    store(temp, values)
    largest = load_scalar(temp)
    for lane in range(1, lanes_of(like)):
        value = load_scalar(offset_pointer(temp, lane))
        largest = value if value > largest else largest
    store_scalar(at(like, target), largest)


@without_literals
@part
def _inside(params, like, scratch, left, values):
    """Return a vector with zeros behind the end of the row, ``left`` samples away."""
    size = lanes_of(like)
    if left >= size:
        return values
    temp = at(like, scratch + params.at_temp)
    store(temp, ratio(values, 0, 1))
    spare = offset_pointer(temp, size)
    store(spare, values)
    for lane in range(left):
        store_scalar(offset_pointer(temp, lane), load_scalar(offset_pointer(spare, lane)))
    return load(temp)


@without_literals
@inline
def _norm_2(params, like, tile, f):
    """Return the Frobenius norm of a 2x2 matrix."""
    a, b, c = hessian_2(params, like, tile, f)
    # Scaled by a power of two, so that squares neither overflow nor vanish.
    unit = power_of_two(high(high(absolute(a), absolute(b)), absolute(c)))
    down = inverse_power(unit)
    a, b, c = mul(a, down), mul(b, down), mul(c, down)
    # l1**2 + l2**2 = a**2 + 2 b**2 + c**2.
    return mul(unit, root(fma(a, a, fma(c, c, mul(mul(b, b), ratio(a, 2, 1))))))


@without_literals
@part
def _norm_3(params, like, tile, f):
    """Return the Frobenius norm of a 3x3 matrix."""
    a, b, c, d, e, g = hessian_3(params, like, tile, f)
    most = high(high(absolute(a), absolute(d)), high(absolute(g), absolute(b)))
    unit = power_of_two(high(most, high(absolute(c), absolute(e))))
    down = inverse_power(unit)
    a, b, c = mul(a, down), mul(b, down), mul(c, down)
    d, e, g = mul(d, down), mul(e, down), mul(g, down)
    beside = fma(b, b, fma(c, c, mul(e, e)))
    return mul(unit, root(fma(ratio(a, 2, 1), beside, fma(a, a, fma(d, d, mul(g, g))))))


@stage
def norm_row_2(params_address, scratch, like, tile, target, columns):
    """Store the Frobenius norm of the 2x2 matrix."""
    params = params_at(params_address)
    for f in range(0, columns, lanes_of(like)):
        put(params, like, scratch, target, f, columns - f, _norm_2(params, like, tile, f))


@stage
def norm_row_3(params_address, scratch, like, tile, target, columns):
    """Store the Frobenius norm of the 3x3 matrix."""
    params = params_at(params_address)
    for f in range(0, columns, lanes_of(like)):
        put(params, like, scratch, target, f, columns - f, _norm_3(params, like, tile, f))


@stage
def neuriteness_row_2(params_address, scratch, like, tile, target, columns):
    """Store Meijering's neuriteness before it is divided by its maximum."""
    params = params_at(params_address)
    alpha = number(params, like, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b = row_eigenvalues_2(params, like, tile, f)
        put(params, like, scratch, target, f, columns - f, meijering_2(a, b, alpha))


@stage
def neuriteness_row_3(params_address, scratch, like, tile, target, columns):
    """Store Meijering's neuriteness before it is divided by its maximum."""
    params = params_at(params_address)
    alpha = number(params, like, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b, c = row_eigenvalues_3(params, like, tile, f)
        put(params, like, scratch, target, f, columns - f, meijering_3(a, b, c, alpha))


@stage
def largest_norm_row_2(params_address, scratch, like, tile, target, columns):
    """Store the largest Frobenius norm of a row of 2x2 matrices."""
    params = params_at(params_address)
    largest = ratio(number(params, like, 0), 0, 1)
    for f in range(0, columns, lanes_of(like)):
        norm = _norm_2(params, like, tile, f)
        largest = high(_inside(params, like, scratch, columns - f, norm), largest)
    _put_maximum(params, like, scratch, target, largest)


@stage
def largest_norm_row_3(params_address, scratch, like, tile, target, columns):
    """Store the largest Frobenius norm of a row of 3x3 matrices."""
    params = params_at(params_address)
    largest = ratio(number(params, like, 0), 0, 1)
    for f in range(0, columns, lanes_of(like)):
        norm = _norm_3(params, like, tile, f)
        largest = high(_inside(params, like, scratch, columns - f, norm), largest)
    _put_maximum(params, like, scratch, target, largest)


@stage
def largest_neuriteness_row_2(params_address, scratch, like, tile, target, columns):
    """Store the largest neuriteness of a row."""
    params = params_at(params_address)
    alpha = number(params, like, 1)
    largest = ratio(alpha, 0, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b = row_eigenvalues_2(params, like, tile, f)
        value = meijering_2(a, b, alpha)
        largest = high(_inside(params, like, scratch, columns - f, value), largest)
    _put_maximum(params, like, scratch, target, largest)


@stage
def largest_neuriteness_row_3(params_address, scratch, like, tile, target, columns):
    """Store the largest neuriteness of a row."""
    params = params_at(params_address)
    alpha = number(params, like, 1)
    largest = ratio(alpha, 0, 1)
    for f in range(0, columns, lanes_of(like)):
        a, b, c = row_eigenvalues_3(params, like, tile, f)
        value = meijering_3(a, b, c, alpha)
        largest = high(_inside(params, like, scratch, columns - f, value), largest)
    _put_maximum(params, like, scratch, target, largest)
