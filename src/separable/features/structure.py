"""Structure tensors: smoothed products of first derivatives, their eigenvalues and coherence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError
from separable.features.feature_calls import over_variables
from separable.features.feature_documentation import documented
from separable.features.feature_run import FeatureOptions, compute
from separable.features.feature_values import (
    Coherence,
    StructureTensor,
    StructureTensorEigenvalues,
)
from separable.features.hessian import triangle_eigenvalues

__all__ = [
    "coherence",
    "structure_tensor",
    "structure_tensor_eigenvalues",
    "structure_tensor_eigvals_of",
]

Array = NDArray[Any]
Sigma: TypeAlias = "float | Sequence[float]"


@documented
@over_variables
def structure_tensor(
    image: ArrayLike,
    sigma: Sigma = 1,
    mode: Any = "constant",
    cval: float = 0.0,
    order: str = "rc",
    inner_sigma: Sigma | None = None,
    **options: Any,
) -> list[Array]:
    """Compute the structure tensor of an image: smoothed products of its first derivatives.

    ``A_ij = g_sigma * (d_i image  d_j image)``.

    Parameters
    ----------
    %(image)s
    sigma : float or sequence of float
        Standard deviation of the Gaussian that smooths the products.
    %(mode)s
    %(cval)s
    order : str
        "rc" counts from the first axis (A_00, A_01, A_11), "xy" from the last one (two axes).
    inner_sigma : float or sequence of float, optional
        Standard deviation of the derivatives of a Gaussian. Without it the derivatives are Sobel's
        masks, as in scikit-image, whose response to a slope of 1 is 8 for two axes and 32 for three.
    %(options)s

    Returns
    -------
    list of ndarray
        The upper triangle, row by row: 3 arrays for two axes, 6 for three.

    Raises
    ------
    %(raises)s

    References
    ----------
    Bigun and Granlund, 1987, Optimal orientation detection of linear symmetry, ICCV.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5))
    >>> image[2, 2] = 1
    >>> structure_tensor(image, sigma=0.1)[2]
    array([[0., 0., 0., 0., 0.],
           [0., 1., 0., 1., 0.],
           [0., 4., 0., 4., 0.],
           [0., 1., 0., 1., 0.],
           [0., 0., 0., 0., 0.]])
    """
    if order not in ("rc", "xy"):
        raise ArgumentError(f'`order` must be "rc" or "xy"; got {order!r}')
    found = list(
        compute(StructureTensor(sigma, inner_sigma), image, FeatureOptions.of(mode, cval, options))
    )
    if order == "xy":
        if len(found) != 3:
            raise ArgumentError('`order` "xy" is for two axes; take "rc"')
        found.reverse()
    return found


def structure_tensor_eigenvalues(A_elems: Sequence[ArrayLike]) -> Array:  # noqa: N803 (scikit-image's name)
    """Compute the eigenvalues of structure tensors.

    Parameters
    ----------
    A_elems : sequence of array_like
        Upper triangle of the tensors, row by row, as `structure_tensor` returns it.

    Returns
    -------
    ndarray, shape (axes, ...)
        Eigenvalues, the largest first.

    Raises
    ------
    ArgumentError
        If the number of elements is not that of an upper triangle, or their shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((5, 5))
    >>> image[2, 2] = 1
    >>> structure_tensor_eigenvalues(structure_tensor(image, sigma=0.1))[0]
    array([[0., 0., 0., 0., 0.],
           [0., 2., 4., 2., 0.],
           [0., 4., 0., 4., 0.],
           [0., 2., 4., 2., 0.],
           [0., 0., 0., 0., 0.]])
    """
    return triangle_eigenvalues(A_elems, "A_elems")


@documented
@over_variables
def structure_tensor_eigvals_of(
    image: ArrayLike,
    sigma: Sigma = 1,
    mode: Any = "constant",
    cval: float = 0.0,
    inner_sigma: Sigma | None = None,
    **options: Any,
) -> Array:
    """Compute the eigenvalues of the structure tensor of an image, without storing the tensor.

    Parameters
    ----------
    %(image)s
    sigma : float or sequence of float
        Standard deviation of the Gaussian that smooths the products.
    %(mode)s
    %(cval)s
    inner_sigma : float or sequence of float, optional
        As for `structure_tensor`.
    %(options)s

    Returns
    -------
    ndarray, shape (axes, ...)
        Eigenvalues, the largest first.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> import numpy as np
    >>> structure_tensor_eigvals_of(np.tile(np.arange(24.0), (24, 1)))[:, 12, 12].round(6)
    array([64.,  0.])
    """
    feature = StructureTensorEigenvalues(sigma, inner_sigma)
    return compute(feature, image, FeatureOptions.of(mode, cval, options))


@documented
@over_variables
def coherence(
    image: ArrayLike,
    sigma: Sigma = 1,
    mode: Any = "reflect",
    cval: float = 0.0,
    inner_sigma: Sigma | None = 1.0,
    **options: Any,
) -> Array:
    """Compute the coherence of an image: 1 where all gradients have one direction, 0 where none prevails.

    ``(l1 - ln) / (l1 + ln)`` of the largest and the smallest eigenvalue of the structure tensor; 0
    where the image is constant.

    Parameters
    ----------
    %(image)s
    sigma : float or sequence of float
        Standard deviation of the Gaussian that smooths the products.
    %(mode)s
    %(cval)s
    inner_sigma : float or sequence of float, optional
        As for `structure_tensor`.
    %(options)s

    Returns
    -------
    ndarray
        Coherence, 0 .. 1, of the shape of the image.

    Raises
    ------
    %(raises)s

    References
    ----------
    Jähne, 2005, Digital Image Processing, doi:10.1007/3-540-27563-0, chapter 13.

    Examples
    --------
    >>> import numpy as np
    >>> stripes = np.sin(np.arange(32.0))[:, None] * np.ones(32)
    >>> round(float(coherence(stripes, 2.0)[16, 16]), 3)
    1.0
    """
    feature = Coherence(sigma, inner_sigma)
    found: Array = compute(feature, image, FeatureOptions.of(mode, cval, options))[0]
    return found
