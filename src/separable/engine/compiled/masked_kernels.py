"""Images with missing samples, sample by sample: what is kept, and what the runs add up to.

All arrays are flat and contiguous.  LLVM turns the loops into vectors, for nothing in them branches and
no array is written to but one that is read at the same place.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from .jit import kernel


@kernel
def keep(source, valid, target):
    """Copy unsigned integers of any size, the bits of samples; 0 for what is missing."""
    zero = source.dtype.type(0)
    for i in range(source.size):
        target[i] = source[i] if valid[i] else zero


@kernel
def least(bits, half, most):
    """Return the smallest weight that is not below ``half``; ``most`` if there is none.

    All are the bits of numbers >= 0, as unsigned integers: they have the same order, and the smallest
    of integers is found by vectors.  Those of numbers below 0 are larger than all.
    """
    found = most
    for i in range(bits.size):
        found = min(found, bits[i] if bits[i] >= half else most)
    return found


@kernel
def divide(values, weight, numbers, fill):
    """Divide, in place, by the valid share of the weights; return how many results have nothing below them.

    ``numbers`` are the whole weight; what counts as all of it; what counts as none of it; and the one
    weight that all are multiples of, or 0.
    """
    whole, full, half, unit = numbers[0], numbers[1], numbers[2], numbers[3]
    one = numbers.dtype.type(1)
    void = 0
    for i in range(values.size):
        w = np.rint(weight[i] / unit) * unit if unit > 0 else weight[i]
        ratio = whole / w if w < full else one
        values[i] = fill if w < half else values[i] * ratio
        void += w < half
    return void


@kernel
def mend(values, mean, share, weight, numbers, fill):
    """Add, in place, what stands for the missing samples: the mean of the valid ones times their weights.

    ``numbers`` and the result are those of ``divide``.
    """
    half, unit = numbers[2], numbers[3]
    void = 0
    for i in range(values.size):
        w = np.rint(weight[i] / unit) * unit if unit > 0 else weight[i]
        more = values[i] + mean[i] / w * share[i]
        sum_ = values[i] if share[i] == 0 else more
        values[i] = fill if w < half else sum_
        void += w < half
    return void


@kernel
def settle(values, target, low, high):
    """Round half to even and saturate, to whole numbers of at most 16 bits; NaN becomes 0."""
    zero = values.dtype.type(0)
    for i in range(values.size):
        v = np.rint(values[i])
        v = v if v == v else zero
        v = low if v < low else v
        v = high if v > high else v
        target[i] = np.int32(v)
