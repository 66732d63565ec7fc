"""Helpers of the catalogue: checks of the arguments of kernels, and factors from terms."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.factors import Factors
from separable.request import is_sequence, real, shown, whole

__all__ = [
    "Array",
    "Kernel",
    "PerAxis",
    "WholePerAxis",
    "check_extent",
    "check_ndim",
    "check_reach",
    "count_axes",
    "factors_from_terms",
    "in_samples",
    "mirrored",
    "whole_samples",
]

Array: TypeAlias = NDArray[Any]
Kernel: TypeAlias = Factors | Array
PerAxis: TypeAlias = float | Sequence[float]
WholePerAxis: TypeAlias = int | Sequence[int]

LETTERS = "tzyx"
WHOLE = 1e-6  # relative: a length so close to a whole number of samples counts as that number
MOST_TAPS = 1 << 22  # along one axis; planning more takes minutes
LARGEST = 2**26  # elements of a kernel; larger ones do not fit into small memories


def factors_from_terms(terms: Sequence[Sequence[Array]]) -> Factors:
    """Return the factors of a kernel from its terms; each term is one vector per axis."""
    letters = LETTERS[-len(terms[0]) :]
    return Factors.from_terms(f"{letters} -> {','.join(letters)}", terms)


def check_ndim(ndim: object, name: str = "ndim") -> int:
    """Return the number of axes of a kernel that is returned as factors."""
    count = whole(name, ndim)
    if not 2 <= count <= len(LETTERS):
        raise ArgumentError(
            f"`{name}` must be 2, 3 or 4; got {count}. One-dimensional kernels are arrays: "
            "gaussian1d, box1d, binomial1d"
        )
    return count


def check_extent(name: str, value: object, *lengths: float, limit: int = LARGEST) -> None:
    """Refuse a kernel that is too large for memory, or too long along one axis."""
    if math.prod(lengths) > limit:
        size = "x".join(f"{n:.4g}" for n in lengths)
        raise ArgumentError(
            f"`{name}` makes a kernel of {size}, more than {limit} elements; got {shown(value)}"
        )
    longest = max(lengths)
    if longest > MOST_TAPS:
        raise ArgumentError(
            f"`{name}` makes a kernel of {longest:.4g} samples along one axis, more than "
            f"{MOST_TAPS}; got {shown(value)}"
        )


def check_reach(sigma: float, truncate: object, *lengths: float) -> None:
    """Refuse a Gaussian that is too large; the message names `truncate` if it was given."""
    name, value = ("sigma", sigma) if truncate == 4.0 else ("truncate", truncate)
    check_extent(name, value, *lengths)


def count_axes(ndim: int | None, **values: object) -> int:
    """Return the number of axes: `ndim`, or the length of the sequences among the values, or 2."""
    found: tuple[str, int] | None = None if ndim is None else ("ndim", check_ndim(ndim))
    for name, value in values.items():
        if not is_sequence(value) or not isinstance(value, Sized):
            continue
        length = len(value)
        if found is None:
            found = name, check_ndim(length, f"len({name})")
        elif length != found[1]:
            raise ArgumentError(
                f"`{name}` must be one value, or one for each of {found[1]} axes "
                f"(from `{found[0]}`); got {shown(value)}"
            )
    return 2 if found is None else found[1]


def in_samples(lengths: Sequence[float], steps: Sequence[float]) -> tuple[float, ...]:
    """Divide lengths by the spacing, axis by axis."""
    return tuple(length / step for length, step in zip(lengths, steps, strict=True))


def whole_samples(name: str, length: object, step: float) -> int:
    """Return the number of samples of a length, which must be a whole number."""
    given = real(name, length)
    ratio = given / step
    count = round(ratio) if abs(ratio) < LARGEST else 0
    if count < 1 or abs(ratio - count) > WHOLE * count:
        low = max(1, math.floor(min(max(ratio, 0.0), LARGEST)))
        raise ArgumentError(
            f"`{name}` must be a whole number of samples, at least 1; got {shown(length)}, which "
            f"is {ratio:.6g} of {step:.6g}. Take {low * step:.6g} or {(low + 1) * step:.6g}"
        )
    return count


def mirrored(kernel: Kernel, axes: Sequence[int]) -> Kernel:
    """Flip a kernel of the catalogue along some of its axes, counted from the front."""
    if not isinstance(kernel, Factors):
        return np.flip(kernel, tuple(axes))
    arrays = [
        np.flip(a, -1) if k in axes else a for k, a in enumerate(kernel.arrays)
    ]  # each has shape (R, axis)
    return Factors.from_terms(kernel.pattern, [[a[r] for a in arrays] for r in range(kernel.rank)])
