"""Laws' texture kernels: products of five short vectors."""

from __future__ import annotations

import itertools
import re

import numpy as np

from separable.errors import ArgumentError, ArgumentTypeError
from separable.factors import Factors
from separable.kernels.kernel_arguments import (
    check_ndim,
    factors_from_terms,
)

__all__ = ["laws", "laws_bands"]

VECTORS = {
    "L3": (1, 2, 1),
    "E3": (-1, 0, 1),
    "S3": (-1, 2, -1),
    "L5": (1, 4, 6, 4, 1),
    "E5": (-1, -2, 0, 2, 1),
    "S5": (-1, 0, 2, 0, -1),
    "W5": (-1, 2, 0, -2, 1),
    "R5": (1, -4, 6, -4, 1),
}


def laws(vectors: str, *, normalised: bool = False, ndim: int | None = None) -> Factors:
    """Return one of Laws' texture kernels: level, edge, spot, wave or ripple along each axis.

    ::

        L3  1 2 1      L5   1  4  6  4  1
        E3 -1 0 1      E5  -1 -2  0  2  1
        S3 -1 2 -1     S5  -1  0  2  0 -1
                       W5  -1  2  0 -2  1
                       R5   1 -4  6 -4  1

    Written for correlation.

    Parameters
    ----------
    vectors : str
        One name per axis, in memory order: ``"L5E5"`` in two dimensions, ``"L5E5S5"`` in three.
    normalised : bool, default False
        If true, divide each vector by its Euclidean norm, as the Image Biomarker Standardisation
        Initiative does. Otherwise the vectors are Laws' integers.
    ndim : int, optional
        Number of axes: 2, 3 or 4. Default is the number of names.

    Returns
    -------
    Factors
        Factors of rank 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If a name is unknown, or the number of names is not that of the axes.

    References
    ----------
    Laws, 1980, doi:10.1117/12.959169. Normalised: Depeursinge et al., 2020, arXiv:2006.05470.

    Examples
    --------
    >>> laws("L5E5")
    Factors 'yx -> y,x' of a kernel 5x5: rank 1, exact
      y  1 4 6 4 1
      x  -1 -2 0 2 1
    >>> laws("L3E3S3", normalised=True).dense().round(2)[0, 0]
    array([ 0.12, -0.24,  0.12])
    """
    if not isinstance(vectors, str):
        raise ArgumentTypeError(f"`vectors` must be a string such as 'L5E5S5'; got {vectors!r}")
    if not isinstance(normalised, (bool, np.bool_)):
        raise ArgumentTypeError(f"`normalised` must be True or False; got {normalised!r}")
    names = re.findall("[A-Za-z][0-9]", vectors)
    unknown = [name for name in names if name.upper() not in VECTORS]
    if unknown or "".join(names) != vectors:
        wrong = unknown[0] if unknown else vectors
        raise ArgumentError(
            f"`vectors` must be names out of {', '.join(VECTORS)}, one per axis; got {wrong!r}"
        )
    count = check_ndim(len(names), "number of vectors") if ndim is None else check_ndim(ndim)
    if len(names) != count:
        raise ArgumentError(
            f"`vectors` must be one name per axis, {count} of them; got {vectors!r}"
        )
    taps = [np.array(VECTORS[name.upper()]) for name in names]
    return factors_from_terms([[v / np.sqrt(np.sum(v * v)) if normalised else v for v in taps]])


def laws_bands(*, ndim: int = 3, normalised: bool = False) -> dict[str, Factors]:
    """Return all products of Laws' vectors with five taps, by name, for `sep.bank`.

    Parameters
    ----------
    ndim : int, default 3
        Number of axes: 2, 3 or 4, for 25, 125 or 625 kernels.
    normalised : bool, default False
        If true, divide each vector by its Euclidean norm.

    Returns
    -------
    dict of str to Factors
        Kernels from ``"L5L5L5"`` to ``"R5R5R5"``. A bank runs the 125 as 155 passes instead of
        375.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If `ndim` is out of its range.

    Examples
    --------
    >>> len(laws_bands()), next(iter(laws_bands(ndim=2)))
    (125, 'L5L5')
    """
    five = [name for name in VECTORS if name.endswith("5")]
    names = map("".join, itertools.product(five, repeat=check_ndim(ndim)))
    return {name: laws(name, normalised=normalised) for name in names}
