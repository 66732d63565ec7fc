"""`is_separable`: an answer that is true or false and gives the vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import separable as sep
from separable.errors import ArgumentError, KernelError, PatternError

VECTORS = arrays.arrays(np.int64, st.integers(1, 6), elements=st.integers(-9, 9))


@given(st.lists(VECTORS, min_size=2, max_size=4))
def test_products_are_separable(vectors: list[np.ndarray]) -> None:
    kernel = np.asarray(1)
    for vector in vectors:
        kernel = np.multiply.outer(kernel, vector)
    answer = sep.is_separable(kernel)
    assert answer
    assert answer.rank == int(kernel.any())
    product = np.asarray(1)
    for vector in answer.vectors:
        product = np.multiply.outer(product, vector)
    np.testing.assert_array_equal(product, kernel)


@given(
    arrays.arrays(
        np.float64, arrays.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6),
        elements=st.floats(-1, 1, width=32),
    )
)  # fmt: skip
def test_the_error_is_that_of_the_best_product(kernel: np.ndarray) -> None:
    answer = sep.is_separable(kernel)
    values = np.linalg.svd(kernel, compute_uv=False)
    size = np.linalg.norm(kernel)
    best = np.linalg.norm(values[1:]) / size if size > 1e-100 else 0.0
    assert answer.error == pytest.approx(best, abs=1e-7)
    assert bool(answer) is (answer.rank <= 1)
    assert sep.is_separable(kernel, tol=best + 1e-6)
    if best > 1e-3:
        assert not answer
        assert not sep.is_separable(kernel, tol=best / 2)


def test_the_example_of_introductions() -> None:
    answer = sep.is_separable([[3, 6, 9], [4, 8, 12], [5, 10, 15]])
    assert answer.column.tolist() == [3, 4, 5]
    assert answer.row.tolist() == [1, 2, 3]
    assert repr(answer).splitlines() == [
        "separable: the product of one vector per axis", "  y  3 4 5", "  x  1 2 3",
    ]  # fmt: skip


def test_what_is_not_separable_says_how_far_it_is() -> None:
    answer = sep.is_separable(sep.kernels.disk(5))
    assert not answer
    assert repr(answer).startswith("not separable: rank 4; the best product of one vector per axis")
    assert sep.is_separable(sep.kernels.disk(5), tol=0.5)
    assert "with an error of 0." in repr(sep.is_separable(sep.kernels.disk(5), tol=0.5))


def test_without_a_pattern_all_axes_are_separated() -> None:
    volume = sep.kernels.gaussian(1, ndim=3).dense()
    assert sep.factorize(volume) == sep.factorize(volume, "zyx -> z,y,x")
    assert sep.spectrum(volume).rank == 1
    assert str(sep.spectrum(np.eye(3)).pattern) == "yx -> y,x"


def test_mistakes() -> None:
    with pytest.raises(PatternError, match="one axis is a single pass"):
        sep.is_separable([1, 2, 1])
    with pytest.raises(PatternError, match="one axis is a single pass"):
        sep.factorize([1, 2, 1])
    with pytest.raises(KernelError, match="finite"):
        sep.is_separable([[1, np.nan]])
    with pytest.raises(ArgumentError, match="`tol` must be finite"):
        sep.is_separable(np.eye(2), tol=-1)
    with pytest.raises(ArgumentError, match="Use `vectors`"):
        _ = sep.is_separable(np.ones((2, 2, 2))).row


@pytest.mark.parametrize("text", ["3 6 9; 4 8 12; 5 10 15", "gaussian:2", "log:1.5"])
def test_kernels_may_be_text(text: str) -> None:
    kernel = sep.kernels.parse(text)
    dense = kernel.dense() if isinstance(kernel, sep.Factors) else np.asarray(kernel)
    assert bool(sep.is_separable(text)) == bool(sep.is_separable(dense))
    np.testing.assert_array_equal(sep.spectrum(text).values, sep.spectrum(dense).values)
    np.testing.assert_array_equal(sep.factorize(text).dense(), sep.factorize(dense).dense())


def test_a_pattern_says_how_many_axes_a_kernel_of_the_catalogue_has() -> None:
    assert sep.factorize("gaussian:1", "zyx -> z,y,x").shape == (9, 9, 9)
    assert sep.spectrum("gaussian:1", "zyx -> z,yx").rank == 1
    with pytest.raises(sep.errors.SeparableError, match="Did you mean `sobel`"):
        sep.is_separable("sobl")
