"""Closed forms of eigenvalues against LAPACK: repeated eigenvalues, tiny and huge numbers, special values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from separable import features

DTYPES = ("float32", "float64")


def triangle(matrices: Any) -> list[Any]:
    size = matrices.shape[-1]
    return [matrices[..., i, j] for i in range(size) for j in range(i, size)]


def check(matrices: Any, ulps: float = 16) -> None:
    ours = features.hessian_matrix_eigvals(triangle(matrices))
    exact = np.linalg.eigvalsh(matrices.astype("float64"))[..., ::-1]
    scale = np.abs(exact).max(-1)
    error = np.abs(np.moveaxis(ours, 0, -1).astype("float64") - exact).max(-1)
    tiny = float(np.finfo(matrices.dtype).tiny)
    assert (error <= ulps * np.finfo(matrices.dtype).eps * scale + tiny).all()
    assert (np.diff(ours, axis=0) <= 0).all()


def with_eigenvalues(values: Any, dtype: str, count: int = 200) -> Any:
    rng, size = np.random.default_rng(1), len(values)
    axes = np.linalg.qr(rng.standard_normal((count, size, size)))[0]
    made = (axes * np.asarray(values)) @ np.swapaxes(axes, 1, 2)
    return ((made + np.swapaxes(made, 1, 2)) / 2).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [2, 3])
def test_random_matrices(size: int, dtype: str) -> None:
    matrices = np.random.default_rng(0).standard_normal((5003, size, size))
    check((matrices + np.swapaxes(matrices, 1, 2)).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "values",
    [
        (1, 1, 1), (1, 1, 2), (1, 2, 2), (0, 0, 1), (0, 1, 1), (0, 0, -1), (-1, 0, 1), (-2, 1, 1),
        (1, 1 + 1e-4, 2), (1, 1 + 1e-7, 1), (1e-6, 1, 1), (1, 1e6, 1e6), (1, 1, 1e6), (0, 0, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_repeated_eigenvalues(values: Any, dtype: str, scale: float) -> None:
    check((with_eigenvalues(values, "float64") * scale).astype(dtype))
    check((np.diag(values)[None] * scale).astype(dtype))
    if values[0] == values[1]:
        check((with_eigenvalues(values[:2], "float64") * scale).astype(dtype))


@pytest.mark.parametrize("size", [2, 3])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_matrix(size: int, data: st.DataObject) -> None:
    numbers = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
    matrix = data.draw(hnp.arrays(np.float32, (3, size, size), elements=numbers))
    check(np.triu(matrix) + np.swapaxes(np.triu(matrix, 1), 1, 2))


@pytest.mark.parametrize("size", [2, 3])
def test_what_is_not_finite_stays_at_its_sample(size: int) -> None:
    matrices = with_eigenvalues((1, 2, 3)[:size], "float32", 40)
    matrices[7, 0, 0] = np.nan
    matrices[21, 0, 1] = matrices[21, 1, 0] = np.inf
    found = features.hessian_matrix_eigvals(triangle(matrices))
    assert np.isnan(found[:, 7]).all()
    assert not np.isfinite(found[:, 21]).all()
    others = np.delete(found, (7, 21), 1)
    np.testing.assert_allclose(
        others, np.array((3, 2, 1)[3 - size :])[:, None] * np.ones(38), rtol=1e-5
    )


@pytest.mark.parametrize("size", [1, 4])
def test_matrices_of_other_sizes(size: int) -> None:
    matrices = np.random.default_rng(0).standard_normal((50, size, size))
    check(matrices + np.swapaxes(matrices, 1, 2))


@pytest.mark.parametrize("size", [2, 3])
def test_eigenvectors(size: int) -> None:
    matrices = with_eigenvalues((1, 2, 4)[:size], "float64")
    values, vectors = features.symmetric_eigenvectors(triangle(matrices))
    for value, vector in zip(values, vectors, strict=True):
        moved = np.einsum("nij,jn->in", matrices, vector)
        np.testing.assert_allclose(moved, value * vector, atol=1e-12)
    assert (np.diff(values, axis=0) < 0).all()
