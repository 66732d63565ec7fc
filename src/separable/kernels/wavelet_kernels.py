"""Low-pass and high-pass filters of wavelets, and their products along several axes."""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from separable.distribution import install_command
from separable.errors import ArgumentError, ArgumentTypeError
from separable.factors import Factors
from separable.kernels.kernel_arguments import (
    check_ndim,
    factors_from_terms,
)

__all__ = ["wavelet", "wavelet1d", "wavelet_bands"]


def wavelet(name: str, bands: str, *, ndim: int | None = None) -> Factors:
    """Return one band of a wavelet transform: a low-pass or a high-pass filter along each axis.

    Written for convolution: ``sep.convolve(image, wavelet(...), mode="wrap")`` is PyWavelets'
    undecimated step, ``pywt.swtn(image, name, level=1)``.

    Parameters
    ----------
    name : str
        Name of the wavelet: "haar", "db1", "db2", or, if PyWavelets is installed, any discrete
        wavelet of it ("coif1" ...).
    bands : str
        ``L`` or ``H`` for each axis, in memory order: ``"LLH"`` is high along x.
    ndim : int, optional
        Number of axes: 2, 3 or 4. Default is the number of letters.

    Returns
    -------
    Factors
        Factors of rank 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the wavelet is unknown or has no filters of finite length, or the letters do not fit.

    References
    ----------
    Mallat, 1989, doi:10.1109/34.192463; Daubechies, 1988, doi:10.1002/cpa.3160410705.

    Examples
    --------
    >>> wavelet("haar", "LH").dense().round(3)
    array([[-0.5,  0.5],
           [-0.5,  0.5]])
    """
    if not isinstance(bands, str):
        raise ArgumentTypeError(f"`bands` must be a string such as 'LLH'; got {bands!r}")
    if set(bands.upper()) - {"L", "H"} or not bands:
        raise ArgumentError(f"`bands` must be L or H for each axis, such as 'LLH'; got {bands!r}")
    count = check_ndim(len(bands), "number of bands") if ndim is None else check_ndim(ndim)
    if len(bands) != count:
        raise ArgumentError(f"`bands` must be one letter per axis, {count} of them; got {bands!r}")
    low, high = wavelet1d(name)
    return factors_from_terms([[low if letter == "L" else high for letter in bands.upper()]])


def wavelet_bands(name: str, *, ndim: int = 3) -> dict[str, Factors]:
    """Return all bands of one step of a wavelet transform, by their letters, for `sep.bank`.

    Parameters
    ----------
    name : str
        Name of the wavelet, as for `wavelet`.
    ndim : int, default 3
        Number of axes: 2, 3 or 4, for 4, 8 or 16 bands.

    Returns
    -------
    dict of str to Factors
        Bands from ``"LLL"`` to ``"HHH"``. A bank runs the eight as 14 passes instead of 24.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the wavelet is unknown or has no filters of finite length.

    Examples
    --------
    >>> list(wavelet_bands("haar", ndim=2))
    ['LL', 'LH', 'HL', 'HH']
    """
    letters = map("".join, itertools.product("LH", repeat=check_ndim(ndim)))
    return {bands: wavelet(name, bands) for bands in letters}


def wavelet1d(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the low-pass and the high-pass analysis filter of a wavelet, for convolution.

    Parameters
    ----------
    name : str
        Name of the wavelet, as for `wavelet`.

    Returns
    -------
    (ndarray, ndarray)
        Two vectors of equal length. The low-pass filter of an orthogonal wavelet has the Euclidean
        norm 1.

    Raises
    ------
    ArgumentError, ArgumentTypeError
        If the wavelet is unknown or has no filters of finite length.

    Examples
    --------
    >>> low, high = wavelet1d("db2")
    >>> low.round(4), high.round(4)
    (array([-0.1294,  0.2241,  0.8365,  0.483 ]), array([-0.483 ,  0.8365, -0.2241, -0.1294]))
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"`name` must be a string such as 'db2'; got {name!r}")
    low, high = _taps(name.lower())
    return low.copy(), high.copy()


@lru_cache(maxsize=64)
def _taps(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    root = math.sqrt(3)
    known = {"haar": (1, 1), "db1": (1, 1), "db2": (1 - root, 3 - root, 3 + root, 1 + root)}
    if name in known:
        low = np.array(known[name], np.float64)
        low /= np.sqrt(np.sum(low * low))
        high = low[::-1] * np.where(np.arange(low.size) % 2, 1.0, -1.0)
        return low, high
    try:
        import pywt  # optional dependency
    except ImportError:
        raise ArgumentError(
            f"`name` must be haar, db1 or db2 unless PyWavelets is installed; got {name!r}. "
            f"Install it: {install_command('wavelets')}"
        ) from None
    if name not in pywt.wavelist(kind="discrete"):
        raise ArgumentError(
            f"`name` must be one of PyWavelets' discrete wavelets, such as haar, db4, coif1 or "
            f"bior2.2; got {name!r}"
        )
    found = pywt.Wavelet(name)
    return np.array(found.dec_lo), np.array(found.dec_hi)
