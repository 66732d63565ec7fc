"""factorize and spectrum against decompositions computed here, another way."""

from __future__ import annotations

import numpy as np
import pytest

from separable import factorize, spectrum
from separable.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    KernelError,
    PatternError,
    RankError,
)
from separable.factorize import nested, polyadic
from separable.factorize.integers import integer_factors
from separable.pattern import parse

RNG = np.random.default_rng(2)
START = RNG.bit_generator.state
EPS = np.finfo(np.float64).eps
SCALES = [1e-300, 1e-9, 1.0, 1e9, 1e300]

# Each pattern with a shape, the sizes of its groups, and the kernel's letters.
PATTERNS = [
    ("yx -> y,x", (5, 7), None),
    ("zyx -> z,y,x", (3, 4, 5), None),
    ("tzyx -> t,z,y,x", (2, 3, 3, 4), None),
    ("lyx -> l,yx", (6, 3, 4), None),
    ("ocx -> oc,cx", (6, 4, 3), None),
    ("ocyx -> oc,cyx", (6, 4, 3, 3), None),
    ("oczyx -> oc,czyx", (5, 2, 3, 3, 2), None),
    ("ocyx -> oc,oyx", (6, 4, 3, 3), None),
    ("ocyx -> ox,cy", (6, 4, 3, 3), None),
    ("ocyx -> oR,RyxS,Sc", (6, 5, 3, 3), None),
    ("ocyx -> oR,RyS,SxT,Tc", (6, 5, 3, 3), None),
    ("czyx -> zc,cy,cx", (2, 3, 4, 3), None),
    ("cyx -> cyR,RcS,Sxc", (3, 4, 5), None),
    ("yx -> yR,RS,Sx", (4, 6), None),
    ("yx -> xR,yR", (4, 6), None),
    ("(Yy)(Xx) -> YX,yx", (6, 6), {"y": 3, "x": 2}),
    ("c(Yy)(Xx) -> YcX,yxc", (2, 6, 4), {"y": 3, "X": 2}),
]


def best_errors(matrix):
    """Relative errors of the best matrices of rank 0, 1, .. (Eckart and Young)."""
    s = np.linalg.svd(matrix, compute_uv=False)
    return np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0)) / np.linalg.norm(matrix)


def relative_error(kernel, factors):
    return np.linalg.norm(kernel - factors.dense()) / np.linalg.norm(kernel)


def outer(*vectors):
    product = np.asarray(vectors[0])
    for vector in vectors[1:]:
        product = np.multiply.outer(product, vector)
    return product


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    RNG.bit_generator.state = START


# Exactness.


@pytest.mark.parametrize(("pattern", "shape", "sizes"), PATTERNS)
@pytest.mark.parametrize("kind", ["float64", "complex128"])
def test_exact_without_rank_or_tolerance(pattern, shape, sizes, kind):
    kernel = RNG.normal(size=shape)
    if kind == "complex128":
        kernel = kernel + 1j * RNG.normal(size=shape)
    factors = factorize(kernel, pattern, sizes=sizes)
    assert factors.shape == shape
    assert factors.dtype == kernel.dtype
    assert factors.error < 30 * EPS
    np.testing.assert_allclose(factors.dense(), kernel, atol=1e-13)
    assert factors.error == pytest.approx(relative_error(kernel, factors), abs=4 * EPS)
    assert [a.ndim for a in factors.arrays] == [len(o) for o in factors.pattern.operands]


@pytest.mark.apart
@pytest.mark.parametrize(("pattern", "shape", "sizes"), PATTERNS)
@pytest.mark.parametrize("scale", SCALES)
def test_rank_and_error_do_not_depend_on_the_scale(pattern, shape, sizes, scale):
    kernel = np.random.default_rng(3).normal(size=shape)
    for options in ({}, {"tol": 0.3}):
        plain = factorize(kernel, pattern, sizes=sizes, **options)
        scaled = factorize(kernel * scale, pattern, sizes=sizes, **options)
        for bond, ranks in plain.ranks.items():
            np.testing.assert_array_equal(scaled.ranks[bond], ranks)
        assert scaled.error == pytest.approx(plain.error, rel=1e-9, abs=20 * EPS)
        assert scaled.bound == pytest.approx(plain.bound, rel=1e-9, abs=20 * EPS)


@pytest.mark.parametrize("scale", SCALES)
def test_a_tiny_kernel_of_full_rank_is_not_separable(scale):
    assert factorize(scale * np.eye(5), "y,x").rank == 5
    assert spectrum(scale * np.eye(5), "y,x").rank == 5
    assert factorize(scale * outer([1, 2, 3], [1, 0, 1], [2, 1, 1]), "z,y,x").rank == 1


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_float32_is_exact_to_its_own_rounding(rank):
    product = RNG.normal(size=(40, rank)) @ RNG.normal(size=(rank, 30))
    factors = factorize(product.astype(np.float32), "y,x")
    assert factors.rank == rank
    assert factors.error < 30 * np.finfo(np.float32).eps
    assert factors.dtype == np.float64
    cube = sum(outer(*RNG.normal(size=(3, 6))) for _ in range(1)).astype(np.float32)
    assert factorize(cube, "z,y,x").rank == 1


def test_float16_kernels():
    kernel = np.outer(np.linspace(0.1, 1, 300), np.linspace(1, 2, 300)).astype(np.float16)
    factors = factorize(kernel, "y,x")
    assert factors.rank == 1
    assert 0 < factors.error < 4 * np.finfo(np.float16).eps


# Whole numbers.


WHOLE = [
    ([[3, 6, 9], [4, 8, 12], [5, 10, 15]], "y,x", [[3, 4, 5], [1, 2, 3]]),
    ([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "y,x", [[1, 2, 1], [-1, 0, 1]]),
    ([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], "y,x", [[-1, 0, 1], [1, 2, 1]]),
    ([[1, 0, -1], [2, 0, -2], [1, 0, -1]], "y,x", [[1, 2, 1], [1, 0, -1]]),
    ([[2, 4], [6, 12]], "y,x", [[2, 6], [1, 2]]),
    ([[-2, -4]], "y,x", [[2], [-1, -2]]),
    ([[7]], "y,x", [[7], [1]]),
    ([[-7]], "y,x", [[7], [-1]]),
    ([[0, 0], [0, 6]], "y,x", [[0, 6], [0, 1]]),
    (outer([1, 2, 1], [1, 2, 1], [-1, 0, 1]), "z,y,x", [[1, 2, 1], [1, 2, 1], [-1, 0, 1]]),
]


@pytest.mark.parametrize(("kernel", "pattern", "expected"), WHOLE)
@pytest.mark.parametrize("kind", [np.int64, np.float32, np.int8])
def test_whole_numbers_of_rank_1_stay_whole(kernel, pattern, expected, kind):
    factors = factorize(np.array(kernel, dtype=kind), pattern)
    assert [a[0].tolist() for a in factors.arrays] == expected
    assert factors.dtype == np.int64
    assert factors.error == factors.bound == 0.0
    np.testing.assert_array_equal(factors.dense(), kernel)


def test_whole_numbers_in_factors_of_several_axes():
    kernel = outer([2, 4], [[1, 0], [3, 1]])
    factors = factorize(kernel, "lyx -> l,yx")
    assert factors.arrays[0].tolist() == [[2, 4]]
    assert factors.arrays[1].tolist() == [[[1, 0], [3, 1]]]


def test_whole_numbers_of_higher_rank_are_real_factors():
    factors = factorize(np.eye(3, dtype=int), "y,x")
    assert (factors.rank, factors.dtype) == (3, np.float64)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int8, np.uint64, np.float16])
def test_other_types_of_number(kind):
    kernel = np.array([[1, 0, 1], [1, 0, 1]]).astype(kind)
    assert [a[0].tolist() for a in factorize(kernel, "y,x").arrays] == [[1, 1], [1, 0, 1]]


def test_the_least_int8_has_no_positive_twin():
    factors = factorize(np.array([[-128, 0], [0, 0]], dtype=np.int8), "y,x")
    assert factors.error == 0.0
    assert factors.dense().tolist() == [[-128, 0], [0, 0]]


def test_whole_numbers_too_large_to_be_exact_are_left_alone():
    pattern = parse("y,x")
    assert integer_factors(np.array([[2.0**53, 1]]), pattern) is None
    assert integer_factors(np.array([[2.0**53 - 1, 1.0]]), pattern) is not None
    assert integer_factors(np.array([[0.5, 1.0]]), pattern) is None
    assert integer_factors(np.zeros((2, 2)), pattern) is None
    assert integer_factors(np.array([[1j]]), pattern) is None
    assert integer_factors(np.eye(2), pattern) is None


# Two factors: the best there is.


UNFOLDED = [  # pattern, shape, how to see each batch value as a matrix
    ("yx -> y,x", (5, 7), lambda k: [k]),
    ("zyx -> zy,x", (3, 4, 5), lambda k: [k.reshape(12, 5)]),
    ("zyx -> y,zx", (3, 4, 5), lambda k: [k.transpose(1, 0, 2).reshape(4, 15)]),
    ("ocyx -> oc,cyx", (6, 4, 3, 3), lambda k: [k[:, c].reshape(6, 9) for c in range(4)]),
    ("ocyx -> oc,oyx", (6, 4, 3, 3), lambda k: [k[o].reshape(4, 9) for o in range(6)]),
    ("ocyx -> ox,cy", (6, 4, 3, 3), lambda k: [k.transpose(0, 3, 1, 2).reshape(18, 12)]),
]


@pytest.mark.parametrize(("pattern", "shape", "unfold"), UNFOLDED)
def test_two_factors_have_the_least_error_of_their_rank(pattern, shape, unfold):
    kernel = RNG.normal(size=shape)
    matrices = unfold(kernel)
    s = np.array([np.linalg.svd(m, compute_uv=False) for m in matrices])
    report = spectrum(kernel, pattern)
    assert report.values.reshape(s.shape) == pytest.approx(s)
    for rank in range(1, s.shape[1] + 1):
        factors = factorize(kernel, pattern, rank=rank)
        best = np.sqrt(np.sum(s[:, rank:] ** 2) / np.sum(s**2))
        assert factors.error == pytest.approx(best, abs=1e-14)
        assert report.errors[rank] == pytest.approx(best, abs=1e-14)
        assert factors.rank == rank


@pytest.mark.parametrize(("pattern", "shape", "unfold"), UNFOLDED)
@pytest.mark.parametrize("tol", [0.05, 0.2, 0.5, 0.9])
def test_tolerance_is_reached_with_the_fewest_terms(pattern, shape, unfold, tol):
    kernel = RNG.normal(size=shape)
    factors = factorize(kernel, pattern, tol=tol)
    squares = np.sort(np.concatenate([np.linalg.svd(m)[1] ** 2 for m in unfold(kernel)]))
    fewest = next(n for n in range(len(squares) + 1) if tails(squares, n) <= tol)
    assert factors.error <= tol
    assert int(np.sum(factors.ranks[factors.pattern.bonds])) == fewest
    assert tails(squares, fewest - 1) > tol


def tails(squares, kept):
    """Relative error when `kept` of the ascending squares are kept."""
    return (
        np.sqrt(np.sum(squares[: len(squares) - kept]) / np.sum(squares)) if kept >= 0 else np.inf
    )


def test_equal_singular_values_are_not_dropped_together():
    factors = factorize(np.eye(4), "y,x", tol=0.5)
    assert (factors.rank, factors.error) == (3, pytest.approx(0.5))
    cube = np.zeros((3, 3, 3))
    cube[range(3), range(3), range(3)] = 1
    nested_factors = factorize(cube, "z,y,x", tol=0.6)
    assert (nested_factors.rank, nested_factors.error) == (2, pytest.approx(3**-0.5))
    batches = factorize(np.stack([np.eye(2), np.eye(2)], axis=1), "ocx -> oc,cx", tol=0.5)
    assert batches.error == pytest.approx(0.5)
    assert sorted(batches.ranks["R"].tolist()) == [1, 2]


def test_batch_values_keep_the_ranks_they_need():
    weights = np.zeros((5, 3, 4))
    weights[:, 0] = np.outer(np.arange(5), [1, 2, 3, 4])
    weights[:, 2] = RNG.normal(size=(5, 4))
    factors = factorize(weights, "ocx -> oc,cx")
    assert factors.ranks["R"].tolist() == [1, 0, 4]
    assert factors.rank == 4
    np.testing.assert_allclose(factors.dense(), weights, atol=1e-14)
    np.testing.assert_array_equal(factors.arrays[0][1:, :, 0], 0)  # (R, o, c): filled up
    report = spectrum(weights, "ocx -> oc,cx")
    assert report.values.shape == (3, 4)
    assert report.rank == 4


def test_batch_values_share_one_tolerance():
    weights = np.stack([100 * RNG.normal(size=(5, 4)), RNG.normal(size=(5, 4))], axis=1)
    factors = factorize(weights, "ocx -> oc,cx", tol=0.05)
    assert factors.ranks["R"].tolist() == [4, 0]  # all of the small one is within the tolerance
    assert factors.error <= 0.05


@pytest.mark.parametrize("pattern", ["y,x", "yx -> yR,Rx"])
def test_each_factor_carries_an_equal_share_of_its_term(pattern):
    for y, x in factorize(1e6 * RNG.normal(size=(5, 7)), pattern).terms:
        assert np.linalg.norm(y) == pytest.approx(np.linalg.norm(x))


def test_shares_are_equal_for_three_factors_and_trees():
    for term in factorize(1e-7 * RNG.normal(size=(3, 4, 5)), "z,y,x").terms:
        norms = [np.linalg.norm(v) for v in term]
        assert norms == pytest.approx([norms[0]] * 3)
    arrays = factorize(1e-7 * RNG.normal(size=(6, 5, 3, 3)), "ocyx -> oR,RyxS,Sc").arrays
    norms = [np.linalg.norm(a) for a in arrays]
    assert norms == pytest.approx([norms[0]] * 3)


def test_terms_are_oriented():
    """The first factor of a term has a positive sum, whatever sign the decomposition chose."""
    for y, _ in factorize(RNG.normal(size=(6, 6)), "y,x").terms:
        assert y.sum() > 0


# Groups.


def test_a_kronecker_product_has_rank_1():
    outside, inside = RNG.normal(size=(2, 3)), RNG.normal(size=(4, 5))
    factors = factorize(np.kron(outside, inside), "(Yy)(Xx) -> YX,yx", sizes={"y": 4, "x": 5})
    assert factors.rank == 1
    assert factors.error < 10 * EPS
    ratio = factors.arrays[0][0] / outside
    np.testing.assert_allclose(ratio, ratio[0, 0])
    np.testing.assert_allclose(factors.arrays[1][0] * ratio[0, 0], inside)


def test_the_nearest_kronecker_product():
    """Van Loan and Pitsianis, 1993: the rearranged matrix's singular values."""
    kernel = RNG.normal(size=(6, 6))
    rearranged = kernel.reshape(2, 3, 2, 3).transpose(0, 2, 1, 3).reshape(4, 9)
    factors = factorize(kernel, "(Yy)(Xx) -> YX,yx", sizes={"y": 3, "x": 3}, rank=1)
    assert factors.error == pytest.approx(best_errors(rearranged)[1])


# Three factors and more.


def test_nested_terms_are_orthogonal_and_their_spectrum_is_the_error():
    kernel = RNG.normal(size=(3, 4, 5))
    factors = factorize(kernel, "z,y,x")
    dense_terms = [outer(*t).ravel() for t in factors.terms]
    gram = np.array([[a @ b for b in dense_terms] for a in dense_terms])
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    report = spectrum(kernel, "z,y,x")
    assert report.rank == factors.rank
    assert np.sort(np.diag(gram))[::-1] == pytest.approx(report.values**2)
    assert np.sum(report.values**2) == pytest.approx(np.linalg.norm(kernel) ** 2)


@pytest.mark.parametrize("tol", [0.1, 0.3, 0.6])
def test_nested_tolerance_is_reached_with_no_term_too_many(tol):
    kernel = RNG.normal(size=(3, 4, 5))
    factors = factorize(kernel, "z,y,x", tol=tol)
    errors = spectrum(kernel, "z,y,x").errors
    assert factors.error <= tol
    assert errors[factors.rank - 1] > tol


def test_terms_share_first_factors():
    """z against the rest has rank 1 here, so all terms have the same vector along z."""
    kernel = outer([1.0, 2.0], np.eye(3))
    factors = factorize(kernel, "z,y,x")
    along_z = np.array([t[0] / np.linalg.norm(t[0]) for t in factors.terms])
    assert factors.rank == 3
    np.testing.assert_allclose(along_z, np.broadcast_to(along_z[0], along_z.shape))
    assert nested.pass_count([nested.Term(1.0, t) for t in factors.terms]) == 7


def test_the_axis_that_needs_fewest_passes_leads():
    kernel = np.moveaxis(outer([1.0, 2.0, 0.5], RNG.normal(size=(3, 3))), 0, 2)
    factors = factorize(kernel, "z,y,x")
    assert factors.rank == 3
    along_x = np.array([t[2] / np.linalg.norm(t[2]) for t in factors.terms])
    np.testing.assert_allclose(np.abs(along_x), np.broadcast_to(np.abs(along_x[0]), (3, 3)))


@pytest.mark.parametrize("seed", range(12))
def test_spectrum_and_factorize_agree_on_the_rank(seed):
    rng = np.random.default_rng(seed)
    kernel = sum(outer(*rng.integers(-3, 4, (3, 5))) for _ in range(2)).astype(float)
    assert spectrum(kernel, "z,y,x").rank == factorize(kernel, "z,y,x").rank


def test_batches_of_three_factors():
    kernel = np.zeros((2, 3, 4, 5))
    kernel[0] = outer([1.0, 0.5, 2.0], [1.0, 2.0, 1.0, 3.0], np.arange(5.0))
    kernel[1] = RNG.normal(size=(3, 4, 5))
    factors = factorize(kernel, "czyx -> cz,cy,cx")
    assert factors.ranks["R"].tolist() == [1, factorize(kernel[1], "z,y,x").rank]
    one = factorize(kernel, "czyx -> cz,cy,cx", rank=1)
    alone = nested.largest(nested.decompose(kernel[1], 0.0), 1)[0]
    missed = np.linalg.norm(kernel[1]) ** 2 - alone.coefficient**2
    assert one.error == pytest.approx(np.sqrt(missed) / np.linalg.norm(kernel))


# Polyadic terms: only where better, never where they cancel.


def test_polyadic_terms_are_used_where_they_need_fewer_passes():
    a, b = RNG.normal(size=(3, 5)), RNG.normal(size=(3, 5))
    kernel = outer(*a) + outer(*b)
    assert factorize(kernel, "z,y,x").rank > 2  # orthogonal terms
    factors = factorize(kernel, "z,y,x", tol=1e-4)
    assert factors.rank == 2
    assert factors.error <= 1e-4
    assert factors.error == pytest.approx(relative_error(kernel, factors))


def test_polyadic_terms_are_used_where_their_error_is_smaller():
    kernel = RNG.normal(size=(4, 4, 4))
    terms = nested.largest(nested.decompose(kernel, 0.0), 2)
    plain = sum(t.coefficient * outer(*t.vectors) for t in terms)
    factors = factorize(kernel, "z,y,x", rank=2)
    assert factors.rank == 2
    assert factors.error < np.linalg.norm(kernel - plain) / np.linalg.norm(kernel)


def test_polyadic_terms_are_not_used_where_nested_ones_are_as_good():
    kernel = outer([1.0, 2.0], [3.0, 1.0], [0.5, 1.5])
    assert polyadic.improve(kernel, factorize(kernel, "z,y,x"), False, 0.1, EPS) is None
    complex_kernel = RNG.normal(size=(2, 2, 2)) * 1j
    plain = factorize(complex_kernel, "z,y,x", rank=1)
    assert polyadic.improve(complex_kernel, plain, True, None, EPS) is None


@pytest.mark.parametrize("size", [1e8, 1e13])
def test_polyadic_terms_that_cancel_are_refused(monkeypatch, size):
    """The sum of (e + f/n)^3 n - e^3 n needs ever larger terms: de Silva and Lim, 2008."""
    e, f = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    kernel = outer(e, e, f) + outer(e, f, e) + outer(f, e, e)
    g = e + f / size
    cancelling = [(size * g, g, g), (-size * e, e, e)]
    monkeypatch.setattr(polyadic, "_fit", lambda tensor, rank: (cancelling, 1e-4))
    plain = factorize(kernel, "z,y,x")
    assert plain.rank == 3
    loose = factorize(kernel, "z,y,x", rank=2)
    found = polyadic.improve(kernel, loose, False, 1e-4, EPS)
    # 2 * size terms of 1-norm 1, times eps, against 1e-4 of the kernel's 1-norm, 3
    assert (found is None) == (2 * size * EPS > 3e-4)
    assert (found is None) == (size == 1e13)


def test_the_tensor_without_a_best_approximation_is_still_within_its_error():
    e, f = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    kernel = outer(e, e, f) + outer(e, f, e) + outer(f, e, e)
    for tol in (1e-1, 1e-6, 1e-12):
        factors = factorize(kernel, "z,y,x", tol=tol)
        assert relative_error(kernel, factors) <= tol
        assert factors.error <= tol


# Trees of bonds.


def unfolding(kernel, *axes):
    moved = np.moveaxis(kernel, axes, range(len(axes)))
    return moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)


TUCKER = "ocyx -> oR,RyxS,Sc"
TRAIN = "ocyx -> oR,RyS,SxT,Tc"
CUTS = {TUCKER: {"R": (0,), "S": (1,)}, TRAIN: {"R": (0,), "S": (0, 2), "T": (1,)}}


@pytest.mark.parametrize("pattern", [TUCKER, TRAIN])
def test_bonds_are_cut_between_the_unfoldings_bounds(pattern):
    """No less than the worst cut, no more than all cuts together."""
    kernel = RNG.normal(size=(6, 5, 3, 3))
    for rank in ({"R": 2, "S": 3, "T": 2}, {"R": 5, "S": 1, "T": 1}, {"R": 4, "S": 5, "T": 3}):
        wanted = {b: r for b, r in rank.items() if b in CUTS[pattern]}
        factors = factorize(kernel, pattern, rank=wanted)
        assert {b: int(r) for b, r in factors.ranks.items()} == wanted
        cuts = [best_errors(unfolding(kernel, *CUTS[pattern][b]))[r] for b, r in wanted.items()]
        assert max(cuts) - 1e-12 <= factors.error <= np.sqrt(np.sum(np.square(cuts))) + 1e-12
        assert factors.error == pytest.approx(relative_error(kernel, factors))


@pytest.mark.parametrize("pattern", [TUCKER, TRAIN])
def test_bonds_of_a_kernel_made_with_them_are_found(pattern):
    shape = {"o": 7, "c": 6, "y": 3, "x": 3, "R": 2, "S": 3, "T": 2}
    operands = parse(pattern).operands
    arrays = [RNG.normal(size=[shape[a] for a in operand]) for operand in operands]
    kernel = np.einsum(",".join(operands) + "->ocyx", *arrays)
    factors = factorize(kernel, pattern)
    assert {b: int(r) for b, r in factors.ranks.items()} == {b: shape[b] for b in factors.ranks}
    assert factors.error < 30 * EPS
    for bond, axes in CUTS[pattern].items():
        report = spectrum(kernel, pattern, bond=bond)
        s = np.linalg.svd(unfolding(kernel, *axes), compute_uv=False)
        assert report.values == pytest.approx(s, abs=1e-12)
        assert report.rank == shape[bond]


@pytest.mark.parametrize("pattern", [TUCKER, TRAIN])
@pytest.mark.parametrize("tol", [0.05, 0.3, 0.7])
def test_tolerance_of_a_tree_is_for_all_cuts_together(pattern, tol):
    kernel = RNG.normal(size=(6, 5, 3, 3))
    factors = factorize(kernel, pattern, tol=tol)
    assert 0 < relative_error(kernel, factors) <= tol
    for bond, axes in CUTS[pattern].items():  # no cut is better than its unfolding allows
        assert (
            best_errors(unfolding(kernel, *axes))[int(factors.ranks[bond])] <= factors.error + 1e-12
        )


def test_an_int_is_a_limit_for_every_bond():
    factors = factorize(RNG.normal(size=(6, 5, 3, 3)), TUCKER, rank=2)
    assert {b: int(r) for b, r in factors.ranks.items()} == {"R": 2, "S": 2}
    large = factorize(RNG.normal(size=(6, 5, 3, 3)), TUCKER, rank=99)
    assert {b: int(r) for b, r in large.ranks.items()} == {"R": 6, "S": 5}
    half = factorize(RNG.normal(size=(6, 5, 3, 3)), TUCKER, rank={"R": 2})
    assert {b: int(r) for b, r in half.ranks.items()} == {"R": 2, "S": 5}


def test_trees_of_batches_have_ragged_bonds():
    kernel = np.stack([np.outer(np.arange(1, 5), np.arange(1, 6)), RNG.normal(size=(4, 5))])
    factors = factorize(kernel, "cyx -> cyR,RcS,Sxc")
    assert factors.ranks["R"].tolist() == factors.ranks["S"].tolist() == [1, 4]
    np.testing.assert_allclose(factors.dense(), kernel, atol=1e-13)


# Small and odd kernels.


@pytest.mark.parametrize(("pattern", "shape", "sizes"), PATTERNS)
def test_zeros_have_rank_0(pattern, shape, sizes):
    factors = factorize(np.zeros(shape), pattern, sizes=sizes)
    assert factors.rank == 0
    assert factors.parameters == 0
    assert (factors.error, factors.bound) == (0.0, 0.0)
    np.testing.assert_array_equal(factors.dense(), np.zeros(shape))
    assert factorize(np.zeros(shape), pattern, sizes=sizes, tol=0.1).rank == 0


def test_zeros_have_factors_of_the_rank_asked_for():
    assert factorize(np.zeros((2, 3)), "y,x", rank=1).dense().tolist() == [[0] * 3] * 2
    assert factorize(np.zeros((2, 3)), "yx -> yR,RS,Sx", rank=1).dense().tolist() == [[0] * 3] * 2


def test_the_spectrum_of_zeros():
    for pattern, shape in (("y,x", (2, 3)), ("z,y,x", (2, 2, 2))):
        report = spectrum(np.zeros(shape), pattern)
        assert report.rank == 0
        assert report.separable
        assert report.errors[0] == 0
        assert not report.values.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_lines_are_separable(shape):
    kernel = RNG.normal(size=shape)
    factors = factorize(kernel, "y,x")
    assert factors.rank == 1
    assert factors.error < 4 * EPS
    assert spectrum(kernel, "y,x").separable
    cube = factorize(kernel[None], "z,y,x")
    assert cube.rank == 1
    assert factorize(kernel[None, :, None], "ocyx -> oR,RyxS,Sc").rank == 1


def test_complex_kernels_of_rank_1():
    y, x = np.exp(1j * np.arange(4)), np.exp(-0.5j * np.arange(5))
    factors = factorize(np.outer(y, x), "y,x")
    assert factors.rank == 1
    assert factors.dtype == np.complex128
    np.testing.assert_allclose(factors.dense(), np.outer(y, x), atol=1e-14)


def test_the_kernel_given_is_not_changed():
    kernel = RNG.normal(size=(3, 3))
    before = kernel.copy()
    factorize(kernel, "y,x")
    np.testing.assert_array_equal(kernel, before)
    assert kernel.flags.writeable


def test_tolerance_nil_means_exact():
    kernel = RNG.normal(size=(4, 4))
    assert factorize(kernel, "y,x", tol=0).rank == factorize(kernel, "y,x", tol=0.0).rank == 4


def test_a_tolerance_of_1_drops_everything():
    assert factorize(RNG.normal(size=(4, 4)), "y,x", tol=1.0 + 1e-9).rank == 0


# The spectrum as a report.


def test_rank_for():
    report = spectrum(np.diag([4.0, 2.0, 1.0]), "y,x")
    assert report.errors == pytest.approx([1, np.sqrt(5 / 21), np.sqrt(1 / 21), 0])
    assert [report.rank_for(t) for t in (0, 0.1, 0.3, 0.6, 1.0)] == [3, 3, 2, 1, 0]
    with pytest.raises(ArgumentError, match=r"`tol` must be finite and >= 0; got -1"):
        report.rank_for(-1)


LEGEND = "\n  error: |K - F| / |K| for the kernel K and its best factors F (Frobenius norm)"
SPECTRA = [
    (
        np.diag([4.0, 2.0, 0.0]),
        "y,x",
        "'yx -> y,x': rank 2, not separable\n"
        "  rank   singular value   error\n"
        "     1   4                0.447\n"
        "     2   2                0\n"
        "     3   0                0" + LEGEND,
    ),
    (
        np.stack([np.eye(2), np.ones((2, 2))], axis=1),
        "ocx -> oc,cx",
        "'ocx -> oc,cx': rank 2, not separable, 2 batch values\n"
        "  rank   singular value   error\n"
        "     1   2                0.408\n"
        "     2   1                0\n"
        "  singular value: the largest one of all batch values" + LEGEND,
    ),
]


@pytest.mark.parametrize(("kernel", "pattern", "text"), SPECTRA)
def test_a_spectrum_prints_as_a_table(kernel, pattern, text):
    assert str(spectrum(kernel, pattern)) == text


def test_a_long_spectrum_is_abridged():
    text = str(spectrum(np.eye(40), "y,x"))
    assert text.endswith("  ... 40 values" + LEGEND)
    assert len(text.splitlines()) == 2 + 12 + 1 + 1


# Bad input.


NAN = np.array([[1.0, np.nan], [np.inf, 0.0]])
BAD = [
    (
        NAN,
        "y,x",
        {},
        KernelError,
        "`kernel` must be finite; got 2 NaN or infinite of 4 elements, shape (2, 2), the first at index (0, 1). "
        "Replace them, for instance with numpy.nan_to_num",
    ),
    (
        np.zeros((0, 3)),
        "y,x",
        {},
        KernelError,
        "`kernel` must have at least one element on one axis; got shape (0, 3)",
    ),
    (
        3.0,
        "y,x",
        {},
        KernelError,
        "`kernel` must have at least one element on one axis; got shape ()",
    ),
    (
        [["a", "b"]],
        "y,x",
        {},
        DTypeError,
        "`kernel` must hold numbers; got dtype <U1, shape (1, 2)",
    ),
    (
        np.eye(3),
        "z,y,x",
        {},
        PatternError,
        "pattern `zyx -> z,y,x` needs a kernel of 3 axes; got kernel shape (3, 3), 2 axes",
    ),
    (
        np.eye(3),
        "y,xk -> ",
        {},
        PatternError,
        "`,` is not allowed here: expected a letter or a group\n  y,xk -> \n   ^\nkernel shape (3, 3).",
    ),
    (np.eye(3), "y,x", {"tol": -0.1}, ArgumentError, "`tol` must be finite and >= 0; got -0.1"),
    (np.eye(3), "y,x", {"tol": np.nan}, ArgumentError, "`tol` must be finite and >= 0; got nan"),
    (np.eye(3), "y,x", {"tol": "1"}, ArgumentTypeError, "`tol` must be a number; got '1'"),
    (np.eye(3), "y,x", {"tol": True}, ArgumentTypeError, "`tol` must be a number; got True"),
    (
        np.eye(3),
        "y,x",
        {"rank": 1, "tol": 0.1},
        ArgumentError,
        "give `rank` or `tol`, not both; got rank=1, tol=0.1",
    ),
    (
        np.eye(3),
        "y,x",
        {"rank": 4},
        RankError,
        "`rank` must be 1 .. 3 for `yx -> y,x` and this kernel; got 4",
    ),
    (
        np.eye(3),
        "y,x",
        {"rank": 0},
        RankError,
        "`rank` must be 1 .. 3 for `yx -> y,x` and this kernel; got 0",
    ),
    (np.eye(3), "y,x", {"rank": 1.5}, ArgumentTypeError, "`rank` must be an integer; got 1.5"),
    (np.eye(3), "y,x", {"rank": True}, ArgumentTypeError, "`rank` must be an integer; got True"),
    (
        np.eye(3),
        "y,x",
        {"rank": {"S": 1}},
        RankError,
        "`rank` must name the bond 'R'; got {'S': 1}",
    ),
    (
        np.ones((2, 3, 4)) / 3,
        "z,y,x",
        {"rank": 7},
        RankError,
        "`rank` must be 1 .. 6 for `zyx -> z,y,x` and this kernel; got 7",
    ),
    (
        np.ones((2, 3, 4)),
        "zyx -> zR,RyS,Sx",
        {"rank": {"Q": 1}},
        RankError,
        "`rank` names ['Q']; the bonds of `zyx -> zR,RyS,Sx` are R, S",
    ),
    (
        np.ones((2, 3, 4)),
        "zyx -> zR,RyS,Sx",
        {"rank": {"R": 3}},
        RankError,
        "`rank` of bond R must be 1 .. 2 for `zyx -> zR,RyS,Sx`; got 3",
    ),
    (
        np.ones((2, 3, 4)),
        "zyx -> zR,RyS,Sx",
        {"rank": {"R": "a"}},
        ArgumentTypeError,
        "`rank` must be an integer; got 'a' for bond R",
    ),
]


@pytest.mark.parametrize(("kernel", "pattern", "options", "kind", "message"), BAD)
def test_bad_input(kernel, pattern, options, kind, message):
    with pytest.raises(kind) as caught:
        factorize(kernel, pattern, **options)
    assert str(caught.value) == message


def test_spectrum_of_several_bonds_needs_one_named():
    kernel = np.ones((2, 3, 4))
    for bond in (None, "Q"):
        with pytest.raises(ArgumentError) as caught:
            spectrum(kernel, "zyx -> zR,RyS,Sx", bond=bond)
        assert str(caught.value) == (
            f"`zyx -> zR,RyS,Sx` has several bonds: `bond` must be one of R, S; got {bond!r}"
        )


def test_spectrum_refuses_what_factorize_refuses():
    with pytest.raises(KernelError, match="must be finite"):
        spectrum(NAN, "y,x")
    with pytest.raises(PatternError, match="needs a kernel of 2 axes"):
        spectrum(np.ones(3), "y,x")
