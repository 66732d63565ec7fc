"""Images with missing samples, sample by sample: masked copies, and the division by the valid weight.

All arrays are flat and contiguous.  LLVM turns the loops into vectors because nothing in them branches and each
array that is written is read only at the same place.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from .jit import kernel


@kernel
def masked_copy(source, valid, target):
    """Copy samples, given as unsigned integers of the same size; missing ones become 0."""
    # target = source where valid, else 0: as bits, so that one kernel serves all dtypes of a size.
    zero = source.dtype.type(0)
    for i in range(source.size):
        target[i] = source[i] if valid[i] else zero


@kernel
def smallest_weight(bits, half, largest):
    """Return the smallest weight that is not below ``half``; ``largest`` if there is none.

    All arguments are the bits of floats, as unsigned integers.
    """
    # The bits of floats >= 0 have the order of the floats, those of negative ones are larger than all, and
    # LLVM finds the minimum of integers by vectors, which it does not for floats.
    smallest = largest
    for i in range(bits.size):
        smallest = min(smallest, bits[i] if bits[i] >= half else largest)
    return smallest


@kernel
def normalise(values, weight, numbers, fill):
    """Divide, in place, by the valid share of the weights; return the number of results without valid samples.

    ``numbers`` are the total weight, the weight from which nothing counts as missing, the weight below which
    everything does, and the unit of which all weights are multiples (0: none).
    """
    # values = values * total / weight; `fill` where weight < half.
    whole, full, half, unit = numbers[0], numbers[1], numbers[2], numbers[3]
    one = numbers.dtype.type(1)
    empty = 0
    for i in range(values.size):
        # Sums of equal weights are multiples of one: rounding makes them exact.
        w = np.rint(weight[i] / unit) * unit if unit > 0 else weight[i]
        ratio = whole / w if w < full else one
        values[i] = fill if w < half else values[i] * ratio
        empty += w < half
    return empty


@kernel
def add_masked_mean(values, mean, share, weight, numbers, fill):
    """Add, in place, the mean of the valid samples times the weight of the missing ones.

    ``numbers`` and the result are those of :func:`normalise`.
    """
    # values = values + (mean / weight) * share; `fill` where weight < half.  `mean` is the sum of the valid samples
    # under non-negative weights, `weight` the sum of those weights, `share` the filter of the mask of missing samples.
    half, unit = numbers[2], numbers[3]
    empty = 0
    for i in range(values.size):
        w = np.rint(weight[i] / unit) * unit if unit > 0 else weight[i]
        more = values[i] + mean[i] / w * share[i]
        sum_ = values[i] if share[i] == 0 else more
        values[i] = fill if w < half else sum_
        empty += w < half
    return empty


@kernel
def round_and_clip(values, target, low, high):
    """Round half to even and saturate, to whole numbers of at most 16 bits; NaN becomes 0."""
    # target = clip(rint(values), low, high)
    zero = values.dtype.type(0)
    for i in range(values.size):
        v = np.rint(values[i])
        v = v if v == v else zero  # NaN
        v = low if v < low else v
        v = high if v > high else v
        target[i] = np.int32(v)
