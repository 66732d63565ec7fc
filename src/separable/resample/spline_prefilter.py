"""The filter that turns samples into B-spline coefficients, as symmetric taps.

The filter is recursive, with poles ``z`` and an endless response. Its response to one sample is a sum of
``c_z z^|k|`` over the poles, which falls so fast that few taps are exact to rounding: 13 on each side in float32 for
cubic splines. With taps the filter and the interpolation are one banded matrix, and one NaN spoils the values near it and
not its whole line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["prefilter_taps", "prefilter_tolerance"]

Array = NDArray[Any]


def prefilter_tolerance(work: np.dtype[Any]) -> float:
    """Return the size of taps, relative to the largest one, that do not count in arithmetic of this type."""
    return float(np.finfo(work).eps) / 16


@lru_cache(maxsize=32)
def prefilter_taps(poles: tuple[float, ...], tolerance: float) -> Array:
    """Return the taps of the filter with these poles; an odd number, the sample itself in the middle.

    Parameters
    ----------
    poles : tuple of float
        Poles within -1 .. 1, one of each pair of reciprocals.
    tolerance : float
        Taps below this value are left out on both sides.

    Examples
    --------
    >>> taps = prefilter_taps((3**0.5 - 2,), 1e-3)
    >>> taps.round(3)[len(taps) // 2 :].tolist()
    [1.732, -0.464, 0.124, -0.033, 0.009, -0.002, 0.001]
    >>> float(taps.sum().round(12))
    1.0
    """
    if not poles:
        return np.ones(1)
    reach = max(1, math.ceil(math.log(tolerance) / math.log(max(abs(z) for z in poles))))
    distance = np.abs(np.arange(-reach, reach + 1))
    # The transfer function is prod_z (1 - z)^2 / ((1 - z w) (1 - z / w)); its partial fractions are
    # c_z (1 - z^2) / ((1 - z w) (1 - z / w)), and 1 / ((1 - z w)(1 - z / w)) has the response z^|k| / (1 - z^2).
    taps = np.zeros(2 * reach + 1)
    gain = math.prod((1 - z) ** 2 for z in poles)
    for z in poles:
        taps += gain * _residue(z, poles) / (1 - z * z) * z**distance
    return np.asarray(taps / taps.sum())


def _residue(z: float, poles: Sequence[float]) -> float:
    """Return the weight of one pole in the partial fractions."""
    # For w = 1 / z the factors of the other poles p are (1 - p / z) (1 - p z).
    return 1.0 / math.prod((1 - p / z) * (1 - p * z) for p in poles if p != z)
