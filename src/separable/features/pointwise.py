"""Features of the derivatives at each sample, in NumPy: the formulas, and the way without the compiled engine.

A work has the name of a stage of `compiled.feature_rows`, which computes the same with vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WORKS", "eigenvalues", "outputs_of"]

Array = NDArray[Any]
Numbers = Sequence[float]


def eigenvalues(elements: Sequence[Array]) -> Array:
    """Return the eigenvalues of symmetric matrices in decreasing order, the first axis of the result.

    Parameters
    ----------
    elements : sequence of ndarray
        Upper triangle of the matrices, row by row: 1, 3, 6 ... arrays of one shape.

    Examples
    --------
    >>> eigenvalues([np.array([2.0]), np.array([1.0]), np.array([2.0])]).ravel()
    array([3., 1.])
    """
    first = elements[0]
    if len(elements) == 3:
        a, b, c = elements
        mean, spread = a / 2 + c / 2, np.hypot(b, a / 2 - c / 2)
        return np.stack([mean + spread, mean - spread])
    size = round((np.sqrt(8 * len(elements) + 1) - 1) / 2)
    matrices = np.empty((*first.shape, size, size), first.dtype)
    for values, (i, j) in zip(elements, zip(*np.triu_indices(size), strict=True), strict=True):
        matrices[..., i, j] = matrices[..., j, i] = values
    finite = np.asarray(np.isfinite(matrices).all((-2, -1)))
    found = np.linalg.eigvalsh(np.where(finite[..., None, None], matrices, 0))
    found[~finite] = np.nan
    return np.ascontiguousarray(np.moveaxis(found[..., ::-1], -1, 0))


def _signed(elements: Sequence[Array], numbers: Numbers) -> Array:
    return eigenvalues([e * e.dtype.type(numbers[0]) for e in elements])


def _sorted_by_size(found: Array) -> Array:
    return np.take_along_axis(found, np.argsort(np.abs(found), axis=0, kind="stable"), 0)


def _eigenvalues(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    return list(_signed(elements, numbers))


def _frangi(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    _, plate, blob, structure = numbers
    found = _sorted_by_size(_signed(elements, numbers))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        if len(found) == 2:
            value = np.exp(blob * (found[0] / found[1]) ** 2)
        else:
            ra = found[1] / found[2]
            value = (1 - np.exp(plate * ra**2)) * np.exp(blob * (found[0] / found[2]) ** 2 / ra)
        value *= 1 - np.exp(-np.square(structure * found).sum(0))
    ridge = (found[1:] > 0).all(0)
    nothing = np.where(np.isnan(found).any(0), found.dtype.type(np.nan), found.dtype.type(0))
    return [np.where(ridge, value, nothing)]


def _sato(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    found = np.maximum(_signed(elements, numbers)[:-1], 0)
    value = found[0] if len(found) == 1 else np.sqrt(found[0]) * np.sqrt(found[1])
    return [value * found.dtype.type(numbers[1])]


def _neuriteness(elements: Sequence[Array], numbers: Numbers) -> Array:
    found, alpha = _signed(elements, numbers), numbers[1]
    mixed = found + found.dtype.type(alpha) * (found.sum(0) - found)
    largest = np.take_along_axis(mixed, np.abs(mixed).argmax(0)[None], 0)[0]
    return np.asarray(np.maximum(largest, 0))


def _meijering(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    value = _neuriteness(elements, numbers)
    return [value / value.dtype.type(numbers[2])]


def _largest_neuriteness(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    return [np.fmax.reduce(_neuriteness(elements, numbers), axis=None, keepdims=True, initial=0)]


def _norms(elements: Sequence[Array]) -> Array:
    size = round((np.sqrt(8 * len(elements) + 1) - 1) / 2)
    largest = np.abs(np.stack(elements)).max(0)
    unit = np.where(largest > 0, largest, 1)  # so that squares neither overflow nor vanish
    total = np.zeros_like(elements[0])
    for values, (i, j) in zip(elements, zip(*np.triu_indices(size), strict=True), strict=True):
        total += np.square(values / unit) * (1 if i == j else 2)
    return np.asarray(unit * np.sqrt(total))


def _largest_norm(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    return [np.fmax.reduce(_norms(elements), axis=None, keepdims=True, initial=0)]


def _determinant(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    signed = [e * e.dtype.type(numbers[0]) for e in elements]
    scale = elements[0].dtype.type(numbers[1])
    if len(signed) == 3:
        a, b, c = signed
        return [scale * (a * c - b * b)]
    a, b, c, d, e, f = signed
    value = a * (d * f - e * e) - b * (b * f - e * c) + c * (b * e - d * c)
    return [scale * value]


def _length(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    total = np.square(elements[0])
    for values in elements[1:]:
        total += np.square(values)
    return [np.sqrt(total) * total.dtype.type(numbers[1])]


def _copies(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    return [e * e.dtype.type(numbers[1]) for e in elements]


def _sum(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    return [sum(elements[1:], elements[0]) * elements[0].dtype.type(numbers[1])]


def _difference(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    return [(elements[0] - elements[1]) * elements[0].dtype.type(numbers[1])]


def _gaussian_features(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    ndim = 2 if len(elements) == 6 else 3
    smooth, slopes, hessian = elements[0], elements[1 : 1 + ndim], elements[1 + ndim :]
    (length,) = _length(slopes, (1.0, 1.0))
    diagonal = [hessian[k] for k in ((0, 2) if ndim == 2 else (0, 3, 5))]
    return [smooth, length, sum(diagonal[1:], diagonal[0]), *_signed(hessian, numbers)]


def _products(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    count = len(elements)
    return [elements[i] * elements[j] for i in range(count) for j in range(i, count)]


def _coherence(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    found = _signed(elements, numbers)
    total = found[0] + found[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (found[0] - found[-1]) / total
    return [np.where(total > 0, value, np.where(np.isnan(total), total, 0)).astype(total.dtype)]


def _variance(elements: Sequence[Array], numbers: Numbers) -> list[Array]:
    mean, square = elements
    return [np.maximum(square - np.square(mean), 0) * mean.dtype.type(numbers[1])]


Work = Callable[[Sequence[Array], Numbers], list[Array]]

WORKS: dict[str, Work] = {
    "eigenvalues": _eigenvalues,
    "frangi": _frangi,
    "sato": _sato,
    "meijering": _meijering,
    "largest_neuriteness": _largest_neuriteness,
    "neuriteness": lambda elements, numbers: [_neuriteness(elements, numbers)],
    "norm": lambda elements, numbers: [_norms(elements)],
    "largest_norm": _largest_norm,
    "determinant": _determinant,
    "length": _length,
    "copies": _copies,
    "gaussian_features": _gaussian_features,
    "products": _products,
    "coherence": _coherence,
    "sum": _sum,
    "difference": _difference,
    "variance": _variance,
}
"""Function of the derivatives and the numbers, by the name of the work."""


def outputs_of(work: str, ndim: int) -> int:
    """Return the number of features that a work computes for an image of `ndim` axes.

    Examples
    --------
    >>> outputs_of("eigenvalues", 3), outputs_of("products", 3), outputs_of("frangi", 3)
    (3, 6, 1)
    """
    several = {
        "eigenvalues": ndim,
        "gaussian_features": 3 + ndim,
        "products": ndim * (ndim + 1) // 2,
    }
    return several.get(work, 1)
