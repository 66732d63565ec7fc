"""Ridge filters: Frangi's vesselness, Sato's tubeness, Meijering's neuriteness."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError, ArgumentTypeError
from separable.features.feature_calls import over_variables
from separable.features.feature_documentation import documented
from separable.features.feature_run import FeatureOptions, compute
from separable.features.ridge_values import Frangi, Meijering, Sato
from separable.request import positive, real

__all__ = ["check_sigmas", "frangi", "meijering", "sato"]

Array = NDArray[Any]
SIGMAS = range(1, 10, 2)


@documented
@over_variables
def frangi(
    image: ArrayLike,
    sigmas: Iterable[float] = SIGMAS,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    gamma: float | None = None,
    black_ridges: bool = True,
    mode: Any = "reflect",
    cval: float = 0.0,
    **options: Any,
) -> Array:
    """Compute Frangi's vesselness of an image or volume: its largest value over the scales.

    With the eigenvalues of the Hessian sorted by size, ``|l1| <= |l2| <= |l3|``,

    ``(1 - exp(-Ra^2 / 2 alpha^2)) exp(-Rb^2 / 2 beta^2) (1 - exp(-S^2 / 2 gamma^2))``

    where ``Ra = l2 / l3``, ``Rb = |l1| / sqrt(l2 l3)``, ``S^2 = l1^2 + l2^2 + l3^2``, and 0 where l2
    or l3 is not positive. In two dimensions ``Rb = |l1| / l2`` and the first factor is 1.

    Parameters
    ----------
    %(image)s
    %(sigmas)s
    alpha : float
        Sensitivity to plates: larger values suppress them more.
    beta : float
        Sensitivity to blobs: smaller values suppress them more.
    gamma : float, optional
        Sensitivity to noise. Default: half of the largest Hessian norm at the first scale, which
        takes one more sweep.
    %(black_ridges)s
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    ndarray
        Vesselness, 0 .. 1, of the shape of the image.

    Raises
    ------
    %(raises)s

    References
    ----------
    Frangi, Niessen, Vincken and Viergever, 1998, doi:10.1007/BFb0056195.

    Examples
    --------
    A bright line is a vessel, a bright square is not:

    >>> image = np.zeros((32, 32))
    >>> image[:, 8] = 1
    >>> image[10:22, 18:30] = 1
    >>> found = frangi(image, [2], black_ridges=False)
    >>> round(float(found[16, 8]), 2), round(float(found[16, 24]), 2)
    (0.31, 0.0)
    """
    feature = Frangi(
        check_sigmas(sigmas), bool(black_ridges), positive("alpha", alpha), positive("beta", beta),
        None if gamma is None else positive("gamma", gamma),
    )  # fmt: skip
    found: Array = compute(feature, image, FeatureOptions.of(mode, cval, options))[0]
    return found


@documented
@over_variables
def sato(
    image: ArrayLike,
    sigmas: Iterable[float] = SIGMAS,
    *,
    black_ridges: bool = True,
    mode: Any = "reflect",
    cval: float = 0.0,
    **options: Any,
) -> Array:
    """Compute Sato's tubeness of an image or volume: its largest value over the scales.

    ``sigma^2 max(l1, 0)`` in two dimensions and ``sigma^2 sqrt(max(l1, 0) max(l2, 0))`` in three, of
    the eigenvalues of the Hessian in decreasing order.

    Parameters
    ----------
    %(image)s
    %(sigmas)s
    %(black_ridges)s
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    ndarray
        Tubeness, >= 0, of the shape of the image.

    Raises
    ------
    %(raises)s

    References
    ----------
    Sato et al., 1998, doi:10.1016/S1361-8415(98)80009-1.

    Examples
    --------
    >>> image = np.ones((32, 32))
    >>> image[:, 8] = 0
    >>> sato(image, [2])[16, 7:10].round(2)
    array([0.13, 0.2 , 0.13])
    """
    feature = Sato(check_sigmas(sigmas), bool(black_ridges))
    found: Array = compute(feature, image, FeatureOptions.of(mode, cval, options))[0]
    return found


@documented
@over_variables
def meijering(
    image: ArrayLike,
    sigmas: Iterable[float] = SIGMAS,
    *,
    alpha: float | None = None,
    black_ridges: bool = True,
    mode: Any = "reflect",
    cval: float = 0.0,
    **options: Any,
) -> Array:
    """Compute Meijering's neuriteness of an image or volume: its largest value over the scales.

    ``max(0, l_i + alpha sum_j l_j)``, j other than i, of the eigenvalue for which it is largest in size,
    divided by its maximum over the image at each scale.

    Parameters
    ----------
    %(image)s
    %(sigmas)s
    alpha : float, optional
        Shape of the filter. Default: ``1 / (axes + 1)``, as in scikit-image.
    %(black_ridges)s
    %(mode)s
    %(cval)s
    %(options)s

    Returns
    -------
    ndarray
        Neuriteness, 0 .. 1, of the shape of the image.

    Raises
    ------
    %(raises)s

    References
    ----------
    Meijering et al., 2004, doi:10.1002/cyto.a.20022.

    Examples
    --------
    >>> image = np.ones((32, 32))
    >>> image[:, 8] = 0
    >>> meijering(image, [2])[16, 7:10].round(2)
    array([0.66, 1.  , 0.66])
    """
    strength = None if alpha is None else real("alpha", alpha)
    feature = Meijering(check_sigmas(sigmas), bool(black_ridges), strength)
    found: Array = compute(feature, image, FeatureOptions.of(mode, cval, options))[0]
    return found


def check_sigmas(sigmas: Any) -> tuple[Any, ...]:
    """Return scales > 0, each a number or one number per axis.

    Raises
    ------
    ArgumentError
        If there is none, or one is not > 0.

    Examples
    --------
    >>> check_sigmas(range(1, 4)), check_sigmas(2)
    ((1.0, 2.0, 3.0), (2.0,))
    """
    if isinstance(sigmas, (str, bytes)):
        raise ArgumentTypeError(f"`sigmas` must be numbers; got {sigmas!r}")
    values = [sigmas] if np.ndim(sigmas) == 0 and not np.iterable(sigmas) else list(sigmas)
    if not values:
        raise ArgumentError("`sigmas` must hold at least one scale; got none")
    return tuple(
        tuple(positive("sigmas", v) for v in value)
        if np.iterable(value) and not isinstance(value, str)
        else positive("sigmas", value)
        for value in values
    )
