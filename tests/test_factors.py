"""Factors: building from terms, multiplying out, flipping, truncating, printing."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from separable import Factors, factorize
from separable.errors import ArgumentError, PatternError
from separable.factors import kernel_errors
from separable.pattern import parse

RNG = np.random.default_rng(1)
START = RNG.bit_generator.state
SOBEL = Factors.from_terms("yx -> y,x", [([1, 2, 1], [-1, 0, 1])])
LAPLACE = Factors.from_terms("y,x", [([1, -2, 1], [0, 1, 0]), ([0, 1, 0], [1, -2, 1])])
WEIGHTS = RNG.normal(size=(6, 5, 3, 3))


@pytest.fixture(autouse=True)
def same_numbers_in_any_order():
    RNG.bit_generator.state = START


def test_from_terms_multiplies_out_to_the_sum_of_products():
    a, b, c = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 4)), RNG.normal(size=(2, 5))
    factors = Factors.from_terms("z,y,x", list(zip(a, b, c, strict=True)))
    expected = sum(np.multiply.outer(np.multiply.outer(a[r], b[r]), c[r]) for r in range(2))
    np.testing.assert_allclose(factors.dense(), expected, atol=1e-15)
    assert factors.shape == (3, 4, 5)
    assert factors.rank == 2
    assert factors.error == factors.bound == 0.0


def test_from_terms_keeps_whole_numbers():
    np.testing.assert_array_equal(SOBEL.dense(), [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    assert SOBEL.dtype == np.int64
    np.testing.assert_array_equal(LAPLACE.dense(), [[0, 1, 0], [1, -4, 1], [0, 1, 0]])


def test_from_terms_puts_the_bond_where_it_is_written():
    rows, columns = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 4))
    factors = Factors.from_terms("yx -> yR,Rx", list(zip(rows, columns, strict=True)))
    assert [a.shape for a in factors.arrays] == [(3, 2), (2, 4)]
    np.testing.assert_allclose(factors.dense(), rows.T @ columns, atol=1e-15)


def test_from_terms_takes_factors_of_several_axes():
    factors = Factors.from_terms("lyx -> l,yx", [([1, 2], [[1, 0], [0, 1]])])
    np.testing.assert_array_equal(factors.dense(), [[[1, 0], [0, 1]], [[2, 0], [0, 2]]])


FROM_TERMS = [
    (
        "ocx -> oc,cx",
        [([[1]], [[1]])],
        "terms need a pattern of one bond and no batch letter; got `ocx -> oc,cx`",
    ),
    (
        "zyx -> zR,RyS,Sx",
        [([1], [1], [1])],
        "terms need a pattern of one bond and no batch letter; got `zyx -> zR,RyS,Sx`",
    ),
    (
        "y,x",
        [([1, 2], [[1, 2]])],
        "factor `x` of `yx -> y,x` needs arrays of 1 axes; got shape (1, 2)",
    ),
    (
        "y,x",
        [([1, 2], [1]), ([1], [1])],
        "factor `y` of `yx -> y,x` must have one shape in all terms; got shapes (2,), (1,)",
    ),
    (
        "y,x",
        [([1, 2],)],
        "`yx -> y,x` needs one term or more of 2 arrays each; got 1 terms of [1] arrays",
    ),
    ("y,x", [], "`yx -> y,x` needs one term or more of 2 arrays each; got 0 terms of [] arrays"),
]


@pytest.mark.parametrize(("pattern", "terms", "message"), FROM_TERMS)
def test_from_terms_refuses_what_does_not_fit(pattern, terms, message):
    with pytest.raises(PatternError) as caught:
        Factors.from_terms(pattern, terms)
    assert str(caught.value) == message


@pytest.mark.parametrize("pattern", ["y,x", "yx -> yR,Rx", "yx -> yQ,xQ"])
def test_terms_are_the_products_that_add_up(pattern):
    kernel = RNG.normal(size=(4, 6))
    factors = factorize(kernel, pattern)
    assert len(factors.terms) == factors.rank == 4
    np.testing.assert_allclose(sum(np.outer(y, x) for y, x in factors.terms), kernel, atol=1e-14)


@pytest.mark.parametrize("pattern", ["ocyx -> oc,cyx", "ocyx -> oR,RyxS,Sc"])
def test_terms_need_one_bond_and_no_batch(pattern):
    factors = factorize(WEIGHTS, pattern)
    with pytest.raises(PatternError) as caught:
        _ = factors.terms
    assert str(caught.value) == f"`{pattern}` is not a plain sum of terms: use `arrays`"


def test_factors_cannot_be_changed():
    for array in (SOBEL.arrays[0], SOBEL.dense()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(FrozenInstanceError):
        SOBEL.error = 1.0


def test_from_terms_leaves_the_arrays_given_alone():
    row = np.array([1.0, 2.0])
    Factors.from_terms("y,x", [(row, row)])
    row[0] = 7.0
    assert row.flags.writeable


@pytest.mark.parametrize(
    "pattern", ["zyx -> z,y,x", "zyx -> zB,By,xB", "zyx -> y,zx", "zyx->zR,RyS,Sx"]
)
def test_flipped_reverses_every_axis_of_the_kernel(pattern):
    kernel = RNG.normal(size=(3, 4, 5))
    factors = factorize(kernel, pattern)
    flipped = factors.flipped()
    np.testing.assert_allclose(flipped.dense(), kernel[::-1, ::-1, ::-1], atol=1e-13)
    assert flipped.rank == factors.rank
    assert (flipped.error, flipped.bound) == (factors.error, factors.bound)
    np.testing.assert_array_equal(flipped.flipped().dense(), factors.dense())


def test_flipped_reverses_every_letter_of_a_group():
    kernel = RNG.normal(size=(6, 6))
    factors = factorize(kernel, "(Yy)(Xx) -> YX,yx", sizes={"y": 2, "x": 3})
    np.testing.assert_allclose(factors.flipped().dense(), kernel[::-1, ::-1], atol=1e-13)


def test_truncated_keeps_the_first_terms():
    kernel = RNG.normal(size=(5, 7))
    factors = factorize(kernel, "y,x")
    best = factorize(kernel, "y,x", rank=2)
    cut = factors.truncated(2, best.error, best.bound)
    np.testing.assert_allclose(cut.dense(), best.dense(), atol=1e-14)
    assert (cut.rank, cut.error, cut.parameters) == (2, best.error, 24)
    assert factors.truncated(0, 1.0, 1.0).dense().tolist() == np.zeros((5, 7)).tolist()


def test_truncated_counts_every_batch_value():
    whole = factorize(WEIGHTS, "ocyx -> oc,cyx")
    cut, best = whole.truncated(2, 0.5, 0.5), factorize(WEIGHTS, "ocyx -> oc,cyx", rank=2)
    assert cut.parameters == best.parameters == 2 * 5 * (6 + 9)
    np.testing.assert_allclose(cut.dense(), best.dense(), atol=1e-14)


def test_truncated_refuses():
    with pytest.raises(ArgumentError) as caught:
        SOBEL.truncated(2, 0.0, 0.0)
    assert str(caught.value) == "`rank` must be 0 .. 1; got 2"
    tucker = factorize(WEIGHTS, "ocyx -> oR,RyxS,Sc")
    with pytest.raises(PatternError) as several:
        tucker.truncated(1, 0.0, 0.0)
    assert str(several.value) == (
        "`ocyx -> oR,RyxS,Sc` has several bonds: it has no list of terms to cut"
    )


def test_parameters_count_the_stored_numbers():
    assert SOBEL.parameters == 6
    assert LAPLACE.parameters == 12
    assert factorize(WEIGHTS, "ocyx -> oc,cyx", rank=1).parameters == 6 * 5 + 5 * 9
    tucker = factorize(WEIGHTS, "ocyx -> oR,RyxS,Sc", rank={"R": 2, "S": 3})
    assert tucker.parameters == 6 * 2 + 2 * 9 * 3 + 3 * 5


def test_parameters_leave_out_what_fills_up_ragged_ranks():
    weights = np.zeros((3, 2, 4))
    weights[:, 0] = np.outer([1, 2, 3], [1, 0, 1, 0])
    weights[:, 1] = np.eye(3, 4)
    factors = factorize(weights, "ocx -> oc,cx")
    assert factors.ranks["R"].tolist() == [1, 3]
    assert [a.shape for a in factors.arrays] == [(3, 3, 2), (3, 2, 4)]
    assert factors.parameters == (1 + 3) * (3 + 4)


REPRS = [
    (SOBEL, "Factors 'yx -> y,x' of a kernel 3x3: rank 1, exact\n  y  1 2 1\n  x  -1 0 1"),
    (
        LAPLACE,
        "Factors 'yx -> y,x' of a kernel 3x3: rank 2, exact\n  y  shape (2, 3)\n  x  shape (2, 3)",
    ),
    (
        factorize(np.outer([1, 0.5], [0.25, 4]), "y,x"),
        "Factors 'yx -> y,x' of a kernel 2x2: rank 1, exact\n  y  1.893 0.9467\n  x  0.132 2.113",
    ),
    (
        factorize(np.eye(4), "y,x", rank=3),
        "Factors 'yx -> y,x' of a kernel 4x4: rank 3, error 0.5, bound 0.25\n"
        "  y  shape (3, 4)\n  x  shape (3, 4)\n"
        "  error: |K - F| / |K| for the kernel K and these factors F (Frobenius norm);\n"
        "  bound: sum|K - F| / sum|K|",
    ),
    (
        factorize(np.ones((2, 3, 13)), "zyx -> zR,RyS,Sx"),
        "Factors 'zyx -> zR,RyS,Sx' of a kernel 2x3x13: ranks R=1, S=1, exact\n"
        "  zR  shape (2, 1)\n  RyS  shape (1, 3, 1)\n  Sx  shape (1, 13)",
    ),
    (
        factorize(np.stack([np.ones((2, 3)), np.eye(2, 3)], axis=1), "ocx -> oc,cx"),
        "Factors 'ocx -> oc,cx' of a kernel 2x2x3: rank 1..2, exact\n"
        "  oc  shape (2, 2, 2)\n  cx  shape (2, 2, 3)",
    ),
]


@pytest.mark.parametrize(("factors", "text"), REPRS)
def test_repr(factors, text):
    assert repr(factors) == text


def test_kernel_errors_by_hand():
    kernel, guess = np.array([3.0, 4.0]), np.array([3.0, 3.0])
    assert kernel_errors(kernel, guess) == (pytest.approx(1 / 5), pytest.approx(1 / 7))
    tiny = kernel_errors(kernel * 1e-300, guess * 1e-300)
    assert tiny == (pytest.approx(1 / 5), pytest.approx(1 / 7))


def test_kernel_errors_of_zeros():
    zero = np.zeros((2, 2))
    assert kernel_errors(zero, zero) == (0.0, 0.0)
    assert kernel_errors(zero, np.ones((2, 2))) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("kernel", "error"),
    [
        (np.array([[-128, 0]], dtype=np.int8), 0.0),  # -(-128) is -128 in int8
        (np.full((300, 300), 0.5, dtype=np.float16), 0.0),  # its squares add up beyond float16
        (np.array([[3 + 4j]], dtype=np.complex64), 0.0),
    ],
)
def test_kernel_errors_of_small_types(kernel, error):
    exact = kernel.astype(np.complex128 if kernel.dtype.kind == "c" else np.float64)
    assert kernel_errors(kernel, exact) == (error, error)


def test_the_bound_bounds_the_output_of_a_filter():
    kernel = RNG.normal(size=(5, 5))
    factors = factorize(kernel, "y,x", rank=2)
    residual = kernel - factors.dense()
    worst_image = np.sign(residual)  # of all images of size 1 the one that the error hits hardest
    reached = abs(np.sum(residual * worst_image))
    assert reached == pytest.approx(factors.bound * np.sum(np.abs(kernel)))


def test_dense_of_a_pattern_given_as_pattern():
    factors = Factors.from_terms(parse("x,y"), [([1, 2], [3, 4])])
    assert factors.dense().tolist() == [[3, 4], [6, 8]]
