"""Hessian matrices: their elements, eigenvalues, eigenvectors and determinant."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.engine import get_num_threads
from separable.engine.result_memory import empty
from separable.errors import ArgumentError
from separable.features.array_features import padded, pointwise
from separable.features.eigenvectors import GRADIENTS, eigenvectors_of
from separable.features.feature_calls import over_variables
from separable.features.feature_documentation import documented
from separable.features.feature_run import FeatureOptions, compute
from separable.features.feature_values import (
    FORMS,
    HessianDeterminant,
    HessianEigenvalues,
    HessianMatrix,
)

__all__ = [
    "hessian_eigenvalues",
    "hessian_eigenvectors",
    "hessian_matrix",
    "hessian_matrix_det",
    "hessian_matrix_eigvals",
    "triangle_eigenvalues",
]

Array = NDArray[Any]


@documented
@over_variables
def hessian_matrix(
    image: ArrayLike,
    sigma: float | Sequence[float] = 1,
    mode: Any = "constant",
    cval: float = 0.0,
    order: str = "rc",
    use_gaussian_derivatives: bool = False,
    **options: Any,
) -> list[Array]:
    """Compute the Hessian matrix of an image smoothed with a Gaussian.

    ``H_ij = d^2 (g_sigma * image) / (dx_i dx_j)``; all elements are computed in one sweep.

    Parameters
    ----------
    %(image)s
    %(sigma)s
    %(mode)s
    %(cval)s
    order : str
        "rc" counts from the first axis (H_00, H_01, H_11), "xy" from the last one (two axes).
    use_gaussian_derivatives : bool
        Whether to use derivatives of Gaussians (more accurate), or differences of the smoothed
        image.
    %(options)s

    Returns
    -------
    list of ndarray
        The upper triangle of the matrix, row by row: 3 arrays for two axes, 6 for three.

    Raises
    ------
    %(raises)s

    Notes
    -----
    Values are those of `skimage.feature.hessian_matrix` away from the border. Integers are not
    scaled to 0 .. 1. At the border this is the Hessian of the image as the border mode
    continues it; scikit-image extends the gradient instead.

    Examples
    --------
    >>> y, x = np.mgrid[-8.0:9, -8:9]
    >>> h00, h01, h11 = hessian_matrix(3 * y**2 + x * y, use_gaussian_derivatives=True)
    >>> [round(float(h[8, 8]), 2) + 0.0 for h in (h00, h01, h11)]
    [5.98, 1.0, 0.0]
    """
    if order not in ("rc", "xy"):
        raise ArgumentError(f'`order` must be "rc" or "xy"; got {order!r}')
    feature = HessianMatrix(sigma, FORMS[bool(use_gaussian_derivatives)])
    found = list(compute(feature, image, FeatureOptions.of(mode, cval, options)))
    if order == "xy":
        if len(found) != 3:
            raise ArgumentError('`order` "xy" is for two axes; take "rc"')
        found.reverse()
    return found


@documented
@over_variables
def hessian_eigenvalues(
    image: ArrayLike,
    sigma: float | Sequence[float] = 1,
    mode: Any = "reflect",
    cval: float = 0.0,
    use_gaussian_derivatives: bool = True,
    **options: Any,
) -> Array:
    """Compute the eigenvalues of the Hessian of a smoothed image, in one sweep.

    Parameters
    ----------
    %(image)s
    %(sigma)s
    %(mode)s
    %(cval)s
    use_gaussian_derivatives : bool
        As for `hessian_matrix`.
    %(options)s

    Returns
    -------
    ndarray, shape (axes, ...)
        Eigenvalues, the largest first. No second derivative is stored.

    Raises
    ------
    %(raises)s

    Examples
    --------
    A bright line has one large negative eigenvalue:

    >>> image = np.zeros((9, 9))
    >>> image[4] = 1
    >>> hessian_eigenvalues(image, 1.0)[1, 3:6, 4].round(2)
    array([-0.03, -0.35, -0.03])
    """
    feature = HessianEigenvalues(sigma, FORMS[bool(use_gaussian_derivatives)])
    return compute(feature, image, FeatureOptions.of(mode, cval, options))


def hessian_matrix_eigvals(H_elems: Sequence[ArrayLike]) -> Array:  # noqa: N803 (scikit-image's name)
    """Compute the eigenvalues of symmetric matrices, one matrix per sample.

    Parameters
    ----------
    H_elems : sequence of array_like
        Upper triangle of the matrices, row by row, as `hessian_matrix` returns it.

    Returns
    -------
    ndarray, shape (axes, ...)
        Eigenvalues, the largest first. They are exact to a few roundings of the largest one, for
        repeated eigenvalues as well.

    Raises
    ------
    ArgumentError
        If the number of elements is not that of an upper triangle, or their shapes differ.

    Examples
    --------
    >>> hessian_matrix_eigvals([np.array([2.0]), np.array([1.0]), np.array([2.0])])
    array([[3.],
           [1.]])
    """
    return triangle_eigenvalues(H_elems, "H_elems")


def triangle_eigenvalues(elements: Sequence[ArrayLike], name: str) -> Array:
    """Return the eigenvalues of symmetric matrices; `name` is that of the argument."""
    if len(elements) and any(getattr(e, "requires_grad", False) for e in elements):
        found: Array = importlib.import_module(GRADIENTS).tensor_eigenvalues(elements)
        return found
    arrays = triangle_of(elements, name)
    size = round((np.sqrt(8 * len(arrays) + 1) - 1) / 2)
    dtype, shape = arrays[0].dtype, arrays[0].shape
    out = empty((size, *shape), dtype)
    count = out[0].size
    step = min(count, 1 << 20)  # samples at a time: little memory beside the result
    flat, target = [a.reshape(-1) for a in arrays], out.reshape(size, -1)
    for start in range(0, count, max(step, 1)):
        stop = min(start + step, count)
        block = padded(len(arrays), (stop - start,), dtype)
        for row, values in zip(block, flat, strict=True):
            row[:] = values[start:stop]
        pointwise("eigenvalues", (1.0,), block, target[:, start:stop], get_num_threads())
    return out


def triangle_of(elements: Sequence[ArrayLike], name: str) -> list[Array]:
    """Check the elements of upper triangles, and return them as floating arrays of one type."""
    arrays = [np.asarray(e) for e in elements]
    size = (np.sqrt(8 * len(arrays) + 1) - 1) / 2
    if not arrays or size != int(size):
        raise ArgumentError(
            f"`{name}` must be an upper triangle: 1, 3, 6 ... arrays; got {len(arrays)}"
        )
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise ArgumentError(f"`{name}` must have one shape; got {sorted(shapes)}")
    dtype = np.result_type(*arrays, np.float32)
    dtype = dtype if dtype.itemsize <= 8 else np.dtype(np.float64)
    return [a.astype(dtype, copy=False) for a in arrays]


@documented
@over_variables
def hessian_eigenvectors(
    image: ArrayLike,
    sigma: float | Sequence[float] = 1,
    mode: Any = "reflect",
    cval: float = 0.0,
    use_gaussian_derivatives: bool = True,
    **options: Any,
) -> tuple[Array, Array]:
    """Compute the eigenvalues and the eigenvectors of the Hessian of a smoothed image.

    Parameters
    ----------
    %(image)s
    %(sigma)s
    %(mode)s
    %(cval)s
    use_gaussian_derivatives : bool
        As for `hessian_matrix`.
    %(options)s

    Returns
    -------
    eigenvalues : ndarray, shape (axes, ...)
        Eigenvalues, the largest first.
    eigenvectors : ndarray, shape (axes, axes, ...)
        ``eigenvectors[k]`` is the unit vector of eigenvalue k, its components in the order of the
        axes. Its sign has no meaning.

    Raises
    ------
    %(raises)s

    Examples
    --------
    The normal of a horizontal line points along the first axis:

    >>> image = np.zeros((9, 9))
    >>> image[4] = 1
    >>> values, vectors = hessian_eigenvectors(image, 1.0)
    >>> np.abs(vectors[1, :, 4, 4]).round(3)
    array([1., 0.])
    """
    return eigenvectors_of(
        hessian_matrix(
            image, sigma, mode, cval, use_gaussian_derivatives=use_gaussian_derivatives, **options
        )
    )


@documented
@over_variables
def hessian_matrix_det(
    image: ArrayLike,
    sigma: float | Sequence[float] = 1,
    approximate: bool = False,
    mode: Any = "constant",
    cval: float = 0.0,
    **options: Any,
) -> Array:
    """Compute the determinant of the Hessian of a smoothed image.

    Parameters
    ----------
    %(image)s
    %(sigma)s
    approximate : bool
        Must be False: scikit-image's approximation by box filters is not offered, because the exact
        determinant is faster here.
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    ndarray
        Determinant of differences of the smoothed image, as in
        ``skimage.feature.hessian_matrix_det(approximate=False)``.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> y, x = np.mgrid[-8.0:9, -8:9]
    >>> round(float(hessian_matrix_det(y**2 + 2 * x**2)[8, 8]), 3)
    8.0
    """
    if approximate:
        raise ArgumentError(
            "`approximate` must be False: the exact determinant is computed in one sweep"
        )
    feature = HessianDeterminant(sigma, FORMS[False])
    found: Array = compute(feature, image, FeatureOptions.of(mode, cval, options))[0]
    return found
