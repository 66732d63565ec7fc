"""Eigenvectors of symmetric matrices, one matrix per sample."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.arrays import package_of
from separable.errors import ArgumentError

__all__ = ["GRADIENTS", "eigenvectors_of", "symmetric_eigenvectors"]

Array = NDArray[Any]

SAMPLES = 1 << 18  # matrices that are decomposed at a time
GRADIENTS = "separable.features.tensor_gradients"  # imported by name: PyTorch is optional


def symmetric_eigenvectors(elements: Sequence[ArrayLike]) -> tuple[Array, Array]:
    """Compute the eigenvalues and eigenvectors of symmetric matrices.

    Parameters
    ----------
    elements : sequence of array_like
        Upper triangle of the matrices, row by row: 3 arrays for 2x2, 6 for 3x3.

    Returns
    -------
    eigenvalues : ndarray, shape (axes, ...)
        Eigenvalues, the largest first.
    eigenvectors : ndarray, shape (axes, axes, ...)
        ``eigenvectors[k]`` is the unit vector of eigenvalue k.

    Raises
    ------
    ArgumentError
        If the number of elements is not that of an upper triangle.

    Notes
    -----
    By LAPACK's method for symmetric matrices (`numpy.linalg.eigh`), so many at a time that the
    matrices need little memory. Where an element is not finite, all results are NaN.

    Examples
    --------
    >>> values, vectors = symmetric_eigenvectors([np.array([2.0]), np.array([1.0]), np.array([2.0])])
    >>> values.ravel(), np.abs(vectors[0].ravel()).round(3)
    (array([3., 1.]), array([0.707, 0.707]))
    """
    arrays = [np.asarray(e) for e in elements]
    dtype = np.result_type(*arrays, np.float32)
    size = round((np.sqrt(8 * len(arrays) + 1) - 1) / 2)
    if size * (size + 1) // 2 != len(arrays) or not arrays:
        raise ArgumentError(
            f"`elements` must be an upper triangle: 1, 3, 6 ... arrays; got {len(arrays)}"
        )
    shape = arrays[0].shape
    values = np.empty((size, arrays[0].size), dtype)
    vectors = np.empty((size, size, arrays[0].size), dtype)
    flat = [a.reshape(-1) for a in arrays]
    rows, columns = np.triu_indices(size)
    for start in range(0, flat[0].size, SAMPLES):
        part = slice(start, min(start + SAMPLES, flat[0].size))
        matrices = np.empty((part.stop - part.start, size, size), dtype)
        for elements_of, i, j in zip(flat, rows, columns, strict=True):
            matrices[:, i, j] = matrices[:, j, i] = elements_of[part]
        finite = np.isfinite(matrices).all((1, 2))
        matrices[~finite] = 0
        own, axes = np.linalg.eigh(matrices)
        own[~finite], axes[~finite] = np.nan, np.nan
        values[:, part] = own[:, ::-1].T
        vectors[:, :, part] = axes[:, :, ::-1].transpose(2, 1, 0)
    return values.reshape(size, *shape), vectors.reshape(size, size, *shape)


def eigenvectors_of(elements: Sequence[Any]) -> tuple[Any, Any]:
    """Return the eigenvalues and eigenvectors of arrays, tensors or Dask arrays, as they are.

    Examples
    --------
    >>> values, vectors = eigenvectors_of([np.array([2.0]), np.array([1.0]), np.array([2.0])])
    >>> values.shape, vectors.shape
    ((2, 1), (2, 2, 1))
    """
    package = package_of(elements[0])
    if package == "torch" and any(e.requires_grad for e in elements):
        found: tuple[Any, Any] = importlib.import_module(GRADIENTS).tensor_eigenvectors(elements)
        return found
    if package == "torch":
        from_numpy = importlib.import_module("torch").from_numpy
        values, vectors = (
            from_numpy(found) for found in symmetric_eigenvectors([e.cpu() for e in elements])
        )
        return values.to(elements[0].device), vectors.to(elements[0].device)
    if package != "dask":
        return symmetric_eigenvectors(elements)
    array = importlib.import_module("dask.array")
    first = elements[0]
    size = round((np.sqrt(8 * len(elements) + 1) - 1) / 2)
    both = array.map_blocks(
        _joined, *elements, dtype=first.dtype, new_axis=0,
        chunks=((size * (size + 1),), *first.chunks), meta=np.empty((0,) * (first.ndim + 1), first.dtype),
    )  # fmt: skip
    return both[:size], both[size:].reshape(size, size, *first.shape)


def _joined(*elements: Array) -> Array:
    """Return eigenvalues and eigenvectors of a block one after the other."""
    values, vectors = symmetric_eigenvectors(elements)
    return np.concatenate([values, vectors.reshape(-1, *values.shape[1:])])
