"""Cost of filtering images and volumes with one kernel, for one channel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from separable.cost.count import Cost, mac_cost
from separable.cost.geometry import check_sizes

__all__ = ["dense_filter", "separable_filter"]


def dense_filter(kernel_shape: Sequence[int], outputs: int = 1, itemsize: int = 4) -> Cost:
    """Count a dense kernel: ``prod(K)`` multiplications per output.

    Parameters
    ----------
    kernel_shape : sequence of int
    outputs : int
        Pixels or voxels of the result.
    itemsize : int
        Bytes of one number; 4 for float32.

    Raises
    ------
    ArgumentError
        If a size is not positive.

    Examples
    --------
    >>> [dense_filter(k).multiplications for k in [(3, 3), (7, 7), (7, 7, 7), (10, 10, 10)]]
    [9, 49, 343, 1000]
    """
    check_sizes("kernel_shape", kernel_shape)
    taps = math.prod(kernel_shape)
    return mac_cost(taps * outputs, taps, 2 * outputs, itemsize)


def separable_filter(
    kernel_shape: Sequence[int], rank: int = 1, outputs: int = 1, itemsize: int = 4
) -> Cost:
    """Count a sum of `rank` separable terms: ``rank * sum(K)`` multiplications per output.

    Parameters
    ----------
    kernel_shape : sequence of int
    rank : int
    outputs : int
    itemsize : int

    Raises
    ------
    ArgumentError
        If a size is not positive.

    Examples
    --------
    >>> [separable_filter(k).multiplications for k in [(3, 3), (7, 7), (7, 7, 7), (10, 10, 10)]]
    [6, 14, 21, 30]
    """
    check_sizes("kernel_shape", kernel_shape)
    taps = rank * sum(kernel_shape)
    return mac_cost(taps * outputs, taps, 2 * rank * len(kernel_shape) * outputs, itemsize)
