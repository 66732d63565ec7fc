"""The algebra of factorize and spectrum, for kernels that nobody chose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from separable import factorize, kernels, spectrum
from separable.pattern import parse

QUICK = settings(max_examples=40, deadline=None, derandomize=True)

PATTERNS = [
    "y,x",
    "yx -> yR,Rx",
    "z,y,x",
    "l,yx",
    "zy,x",
    "ocx -> oc,cx",
    "ocyx -> oc,cyx",
    "ocyx -> oc,oyx",
    "ocyx -> ox,cy",
    "ocyx -> oR,RyxS,Sc",
    "ocyx -> oR,RyS,SxT,Tc",
    "czyx -> zc,cy,cx",
    "(Yy)(Xx) -> YX,yx",
]
EXACT = 1e-13
MATRICES = [p for p in PATTERNS if parse(p).has_one_bond and len(parse(p).factors) == 2]


@st.composite
def problems(draw, patterns=tuple(PATTERNS), complex_too=True):
    """A pattern, sizes for its letters, and a kernel: dense, of low rank, or with zeros in it."""
    pattern = parse(draw(st.sampled_from(patterns)))
    sizes = {a: draw(st.integers(1, 4), label=a) for a in pattern.letters}
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal", "low rank", "whole", "holes"]))
    shape = [sizes[a] for a in pattern.letters]
    if kind == "low rank":
        bond = dict.fromkeys(pattern.bonds, draw(st.integers(1, 2)))
        parts = [rng.normal(size=[(sizes | bond)[a] for a in o]) for o in pattern.operands]
        kernel = np.einsum(pattern.einsum, *parts)
    else:
        kernel = rng.normal(size=shape)
        if kind == "whole":
            kernel = np.rint(3 * kernel)
        elif kind == "holes":
            kernel = kernel * (rng.uniform(size=shape) < 0.4)
        elif complex_too and draw(st.booleans()):
            kernel = kernel + 1j * rng.normal(size=shape)
    groups = {a: sizes[a] for axis in pattern.axes if len(axis) > 1 for a in axis}
    whole_axes = [int(np.prod([sizes[a] for a in axis])) for axis in pattern.axes]
    return pattern, groups, kernel.reshape(whole_axes)


def distance(kernel, factors):
    norm = np.linalg.norm(kernel)
    return np.linalg.norm(kernel - factors.dense()) / norm if norm else 0.0


@QUICK
@given(problems())
def test_factors_multiply_out_to_the_kernel(problem):
    pattern, groups, kernel = problem
    factors = factorize(kernel, pattern, sizes=groups)
    assert factors.shape == kernel.shape
    assert distance(kernel, factors) <= EXACT
    assert factors.error <= EXACT
    assert factors.bound <= EXACT


@QUICK
@given(problems(), st.floats(1e-6, 0.99))
def test_the_error_promised_is_kept_and_the_one_reported_is_reached(problem, tol):
    pattern, groups, kernel = problem
    factors = factorize(kernel, pattern, sizes=groups, tol=tol)
    reached = distance(kernel, factors)
    assert reached <= tol * (1 + 1e-12)
    assert factors.error == pytest.approx(reached, abs=EXACT)
    missed = np.sum(np.abs(kernel - factors.dense()))
    assert factors.bound * np.sum(np.abs(kernel)) == pytest.approx(missed, rel=1e-9, abs=1e-12)


@QUICK
@given(problems(), st.floats(1e-6, 0.99))
def test_a_tolerance_never_costs_more_terms_than_exactness(problem, tol):
    pattern, groups, kernel = problem
    exact = factorize(kernel, pattern, sizes=groups)
    loose = factorize(kernel, pattern, sizes=groups, tol=tol)
    for bond, ranks in loose.ranks.items():
        assert np.all(ranks <= exact.ranks[bond])
    assert loose.parameters <= exact.parameters


@QUICK
@given(problems(), st.integers(-900, 900))
def test_rank_does_not_depend_on_scale(problem, exponent):
    pattern, groups, kernel = problem
    scaled = kernel * 2.0**exponent  # exact, so that the two kernels differ in nothing else
    plain = factorize(kernel, pattern, sizes=groups)
    other = factorize(scaled, pattern, sizes=groups)
    for bond, ranks in plain.ranks.items():
        np.testing.assert_array_equal(other.ranks[bond], ranks)
    assert other.error <= EXACT
    if pattern.has_one_bond:
        ours, theirs = (spectrum(k, pattern, sizes=groups) for k in (kernel, scaled))
        assert theirs.rank == ours.rank
        np.testing.assert_allclose(theirs.errors, ours.errors, atol=1e-12)


@QUICK
@given(problems(patterns=tuple(MATRICES)))
def test_the_spectrums_errors_are_those_of_real_truncations(problem):
    pattern, groups, kernel = problem
    report = spectrum(kernel, pattern, sizes=groups)
    assert report.rank == factorize(kernel, pattern, sizes=groups).rank
    for rank in range(1, report.values.shape[-1] + 1):
        factors = factorize(kernel, pattern, sizes=groups, rank=rank)
        assert report.errors[rank] == pytest.approx(distance(kernel, factors), abs=1e-12)


@QUICK
@given(problems(patterns=("z,y,x", "czyx -> zc,cy,cx"), complex_too=False))
def test_nested_terms_do_no_worse_than_their_spectrum(problem):
    pattern, _, kernel = problem
    report = spectrum(kernel, pattern)
    assert report.rank == factorize(kernel, pattern).rank
    for rank in range(1, report.rank + 1):
        assert factorize(kernel, pattern, rank=rank).error <= report.errors[rank] + 1e-12


@QUICK
@given(problems())
def test_errors_fall_as_the_rank_rises(problem):
    pattern, groups, kernel = problem
    bonds = pattern.bonds if not pattern.has_one_bond else [None]
    for bond in bonds:
        report = spectrum(kernel, pattern, bond=bond, sizes=groups)
        assert np.all(np.diff(report.errors) <= 1e-15)
        assert report.errors[-1] == 0
        assert report.errors[0] == (1 if np.any(kernel) else 0)
        assert np.all(np.diff(report.values, axis=-1) <= 1e-12 * np.max(report.values))


@QUICK
@given(problems(patterns=tuple(p for p in PATTERNS if "(" not in p)))
def test_flipping_the_factors_flips_the_kernel(problem):
    pattern, _, kernel = problem
    factors = factorize(kernel, pattern)
    close = 1e-13 * np.max(np.abs(kernel))  # sums in another order
    np.testing.assert_allclose(factors.flipped().dense(), np.flip(factors.dense()), atol=close)


@QUICK
@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=5), min_size=2, max_size=4),
    st.integers(1, 7),
)
def test_products_of_whole_numbers_come_back_as_whole_numbers(vectors, scale):
    kernel = np.array(scale)
    for vector in vectors:
        kernel = np.multiply.outer(kernel, vector)
    assume(kernel.any())
    letters = "tzyx"[-len(vectors) :]
    factors = factorize(kernel, ",".join(letters))
    assert factors.rank == 1
    assert factors.dtype == np.int64
    np.testing.assert_array_equal(factors.dense(), kernel)
    for array in factors.arrays[1:]:  # the first carries the common divisor
        assert np.gcd.reduce(array.ravel()) == 1


@QUICK
@given(st.lists(st.floats(0.3, 4.0), min_size=2, max_size=3), st.integers(0, 4), st.data())
def test_gaussians_of_any_widths_and_orders_have_rank_1(sigma, order, data):
    orders = [data.draw(st.integers(0, order)) for _ in sigma]
    born = kernels.gaussian(sigma, order=orders, truncate=3)
    letters = ",".join("zyx"[-len(sigma) :])
    assume(np.any(born.dense()))
    assert factorize(born.dense(), letters).rank == born.rank == 1
