"""Eigenvalues of symmetric matrices in closed form, and the vesselness functions of them, on vectors of samples.

**2x2.**  ``(a + c) / 2 +- sqrt(b**2 + ((a - c) / 2)**2)``.

**3x3.**  With ``q = trace(A) / 3``, ``B = A - q I`` and ``p = sqrt(trace(B**2) / 6)`` the eigenvalues of B / p are
``2 cos(phi + 2 pi k / 3)`` with ``cos(3 phi) = r = det(B / p) / 2`` (Smith, 1961).  That formula alone loses half of
the digits where two eigenvalues are equal.  So it gives only the one that lies apart from the two others,
``sign(r) 2 p c`` with ``4 c**3 - 3 c = abs(r)``, ``0.866 <= c <= 1``, by Newton's method; its eigenvector is a column
of the adjugate; and the two others are those of the 2x2 matrix of B in the plane perpendicular to it (Eberly, 2014).
The errors are a few roundings of the largest eigenvalue, for repeated eigenvalues as well.  B is scaled by a power of
two first, so that nothing overflows or underflows.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from separable.engine.compiled.jit import inline
from separable.engine.compiled.simd import add, fma, high, low, mul, sub

from .vector_functions import (
    absolute,
    choose_less,
    divide,
    exponential,
    inverse_power,
    negative,
    power_of_two,
    ratio,
    root,
)

__all__ = [
    "coherence",
    "determinant_2",
    "determinant_3",
    "eigenvalues_2",
    "eigenvalues_3",
    "frangi_2",
    "frangi_3",
    "meijering_2",
    "meijering_3",
    "sato_2",
    "sato_3",
]


@inline
def _halves(a, b, c):
    """Return half the trace of a 2x2 matrix, and half the difference of its eigenvalues."""
    half = ratio(a, 1, 2)
    # Scaled by a power of two, so that squares neither overflow nor vanish.
    x, y = mul(a, half), mul(c, half)
    mean, d = add(x, y), sub(x, y)
    unit = power_of_two(high(absolute(d), absolute(b)))
    down = inverse_power(unit)
    d, b = mul(d, down), mul(b, down)
    return mean, mul(unit, root(fma(d, d, mul(b, b))))


@inline
def eigenvalues_2(a, b, c):
    """Return the eigenvalues of ``[[a, b], [b, c]]``, the larger first."""
    mean, spread = _halves(a, b, c)
    return add(mean, spread), sub(mean, spread)


@inline
def _apart(r):
    """Return the root c >= 0.866 of ``4 c**3 - 3 c = r`` for 0 <= r <= 1."""
    # c = cos(acos(r) / 3): a parabola is wrong by at most 1.6e-3, and each step of Newton's method squares the error.
    c = fma(r, fma(r, ratio(r, -327, 10000), ratio(r, 1, 6)), ratio(r, 8660254, 10000000))
    eight, twelve, three = ratio(r, 8, 1), ratio(r, 12, 1), ratio(r, -3, 1)
    square = mul(c, c)
    c = divide(fma(mul(eight, c), square, r), fma(twelve, square, three))
    square = mul(c, c)
    c = divide(fma(mul(eight, c), square, r), fma(twelve, square, three))
    square = mul(c, c)
    return divide(fma(mul(eight, c), square, r), fma(twelve, square, three))


@inline
def determinant_2(a, b, c):
    """Return the determinant of a symmetric 2x2 matrix."""
    return sub(mul(a, c), mul(b, b))


@inline
def determinant_3(a, b, c, d, e, f):
    """Return the determinant of ``[[a, b, c], [b, d, e], [c, e, f]]``."""
    first = mul(a, sub(mul(d, f), mul(e, e)))
    second = mul(b, sub(mul(b, f), mul(e, c)))
    return add(sub(first, second), mul(c, sub(mul(b, e), mul(d, c))))


@inline
def _axis(a, b, c, d, e, f):
    """Return the unit vector that a symmetric matrix of rank 2 maps to 0."""
    # Each column of the adjugate is a multiple of it; the one with the largest diagonal element is the longest.
    u, v, w = (
        sub(mul(d, f), mul(e, e)),
        sub(mul(c, e), mul(b, f)),
        sub(mul(b, e), mul(c, d)),
    )
    x, y = sub(mul(a, f), mul(c, c)), sub(mul(b, c), mul(a, e))
    z = sub(mul(a, d), mul(b, b))
    first, second, third = absolute(u), absolute(x), absolute(z)
    p, q, r = (
        choose_less(first, second, v, u),
        choose_less(first, second, x, v),
        choose_less(first, second, y, w),
    )
    best = high(first, second)
    p, q, r = (
        choose_less(best, third, w, p),
        choose_less(best, third, y, q),
        choose_less(best, third, z, r),
    )
    square = fma(p, p, fma(q, q, mul(r, r)))
    none, one = ratio(a, 0, 1), ratio(a, 1, 1)
    length = root(square)
    inverse = choose_less(none, square, divide(one, length), none)
    p, q, r = mul(p, inverse), mul(q, inverse), mul(r, inverse)
    # The zero matrix: any vector.
    return choose_less(none, square, p, one), q, r


@inline
def eigenvalues_3(a, b, c, d, e, f):
    """Return the eigenvalues of ``[[a, b, c], [b, d, e], [c, e, f]]`` in decreasing order."""
    third, none, one = ratio(a, 1, 3), ratio(a, 0, 1), ratio(a, 1, 1)
    # Step 1: B = (A - q I) / unit, whose largest element lies within 1 .. 2.
    q = fma(a, third, fma(d, third, mul(f, third)))
    a, d, f = sub(a, q), sub(d, q), sub(f, q)
    largest = high(high(absolute(a), absolute(d)), absolute(f))
    largest = high(largest, high(high(absolute(b), absolute(c)), absolute(e)))
    unit = power_of_two(largest)
    down = inverse_power(unit)
    a, b, c, d, e, f = (
        mul(a, down), mul(b, down), mul(c, down), mul(d, down), mul(e, down), mul(f, down)
    )  # fmt: skip
    # Step 2: the eigenvalue apart, from r = det(B / p) / 2.
    beside = fma(b, b, fma(c, c, mul(e, e)))
    squares = fma(a, a, fma(d, d, mul(f, f)))
    p = root(mul(fma(beside, ratio(a, 2, 1), squares), ratio(a, 1, 6)))
    over = choose_less(none, p, divide(one, p), none)
    half = ratio(a, 1, 2)
    r = mul(mul(mul(determinant_3(a, b, c, d, e, f), over), mul(over, over)), half)
    size = low(absolute(r), one)
    apart = mul(mul(p, ratio(a, 2, 1)), _apart(size))
    apart = choose_less(r, none, negative(apart), apart)
    # Step 3: its eigenvector (x, y, z), and two unit vectors perpendicular to it.
    x, y, z = _axis(sub(a, apart), b, c, sub(d, apart), e, sub(f, apart))
    # (-z, 0, x) or (0, z, -y), whichever is longer, and their cross product with (x, y, z).
    wide = absolute(y), absolute(x)
    i = choose_less(wide[0], wide[1], negative(z), none)
    j = choose_less(wide[0], wide[1], none, z)
    k = choose_less(wide[0], wide[1], x, negative(y))
    scale = divide(one, root(fma(i, i, fma(j, j, mul(k, k)))))
    i, j, k = mul(i, scale), mul(j, scale), mul(k, scale)
    g, m, n = sub(mul(y, k), mul(z, j)), sub(mul(z, i), mul(x, k)), sub(mul(x, j), mul(y, i))
    # Step 4: the two others are the eigenvalues of B in that plane.
    s, t, u = (
        fma(a, i, fma(b, j, mul(c, k))),
        fma(b, i, fma(d, j, mul(e, k))),
        fma(c, i, fma(e, j, mul(f, k))),
    )
    own = fma(i, s, fma(j, t, mul(k, u)))
    mixed = fma(g, s, fma(m, t, mul(n, u)))
    s, t, u = (
        fma(a, g, fma(b, m, mul(c, n))),
        fma(b, g, fma(d, m, mul(e, n))),
        fma(c, g, fma(e, m, mul(f, n))),
    )
    other = fma(g, s, fma(m, t, mul(n, u)))
    mean, d = mul(add(own, other), half), mul(sub(own, other), half)
    spread = root(fma(d, d, mul(mixed, mixed)))
    upper, lower = add(mean, spread), sub(mean, spread)
    # Step 5: order them; rounding must not change the order.
    first = choose_less(apart, upper, upper, apart)
    rest = choose_less(apart, upper, apart, upper)
    second = choose_less(rest, lower, lower, rest)
    last = choose_less(rest, lower, rest, lower)
    return fma(unit, first, q), fma(unit, second, q), fma(unit, last, q)


# --- functions of the eigenvalues ---------------------------------------------------------------------


@inline
def _by_size(a, b):
    """Return two numbers by their absolute values, the smaller first."""
    x, y = absolute(a), absolute(b)
    return choose_less(y, x, b, a), choose_less(y, x, a, b)


@inline
def frangi_2(a, b, plate, blob, structure):
    """Return Frangi's vesselness of two eigenvalues.

    The factors are ``-1 / (2 alpha**2)``, ``-1 / (2 beta**2)`` and ``1 / (sqrt(2) gamma)``; the vesselness is
    ``exp(-rb**2 / (2 beta**2)) (1 - exp(-s**2 / (2 gamma**2)))`` with ``rb = abs(l1) / l2`` for ``abs(l1) <= abs(l2)``,
    and 0 where ``l2 <= 0``.
    """
    none, one = ratio(a, 0, 1), ratio(a, 1, 1)
    small, large = _by_size(a, b)
    rb = divide(small, large)
    # s / gamma before it is squared: eigenvalues of any size have a square then.
    a, b = mul(a, structure), mul(b, structure)
    strength = sub(one, exponential(negative(fma(a, a, mul(b, b)))))
    value = mul(exponential(mul(mul(rb, rb), blob)), strength)
    # Where l2 is not a number, so is the result.
    return choose_less(none, large, value, add(mul(large, none), none))


@inline
def frangi_3(a, b, c, plate, blob, structure):
    """Return Frangi's vesselness of three eigenvalues, sorted by size to ``abs(l1) <= abs(l2) <= abs(l3)``.

    ``(1 - exp(-ra**2 / (2 alpha**2))) exp(-rb**2 / (2 beta**2)) (1 - exp(-s**2 / (2 gamma**2)))`` with ``ra = l2 / l3``
    and ``rb = abs(l1) / sqrt(l2 l3)``, and 0 where ``l2 <= 0`` or ``l3 <= 0``.
    """
    none, one = ratio(a, 0, 1), ratio(a, 1, 1)
    x, y, z = mul(a, structure), mul(b, structure), mul(c, structure)
    strength = sub(one, exponential(negative(fma(x, x, fma(y, y, mul(z, z))))))
    a, b = _by_size(a, b)
    b, c = _by_size(b, c)
    a, b = _by_size(a, b)
    ra = divide(b, c)
    # rb**2 = l1**2 / (l2 l3) = (l1 / l3)**2 / ra.
    part = divide(a, c)
    value = mul(
        sub(one, exponential(mul(mul(ra, ra), plate))),
        exponential(mul(divide(mul(part, part), ra), blob)),
    )
    value = mul(value, strength)
    return choose_less(none, low(b, c), value, add(mul(add(b, c), none), none))


@inline
def sato_2(a, b, scale):
    """Return Sato's tubeness of two eigenvalues, ``max(l1, 0)`` of the larger, times the square of the scale."""
    none = ratio(a, 0, 1)
    return mul(scale, add(high(a, mul(a, none)), none))  # 0, not -0


@inline
def sato_3(a, b, c, scale):
    """Return Sato's tubeness: ``sqrt(max(l1, 0) max(l2, 0))`` of the two larger, times the square of the scale."""
    none = ratio(a, 0, 1)
    first, second = add(high(a, mul(a, none)), none), add(high(b, mul(b, none)), none)
    return mul(scale, mul(root(first), root(second)))


@inline
def meijering_2(a, b, alpha):
    """Return Meijering's neuriteness of two eigenvalues before it is divided by its maximum."""
    x, y = fma(alpha, b, a), fma(alpha, a, b)
    _, largest = _by_size(y, x)
    none = ratio(a, 0, 1)
    return add(high(largest, mul(largest, none)), none)


@inline
def meijering_3(a, b, c, alpha):
    """Return Meijering's neuriteness of three eigenvalues before it is divided by its maximum."""
    x, y, z = fma(alpha, add(b, c), a), fma(alpha, add(a, c), b), fma(alpha, add(a, b), c)
    _, largest = _by_size(y, x)
    _, largest = _by_size(z, largest)
    none = ratio(a, 0, 1)
    return add(high(largest, mul(largest, none)), none)


@inline
def coherence(a, b):
    """Return ``(a - b) / (a + b)``, 0 where the sum is not positive, for the largest and the smallest eigenvalue."""
    none, total = ratio(a, 0, 1), add(a, b)
    return choose_less(none, total, divide(sub(a, b), total), mul(total, none))
