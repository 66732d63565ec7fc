"""What the kernels of the catalogue share: checks of arguments, and terms -> Factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError, ArgumentTypeError
from separable.factors import Factors

__all__ = [
    "Array",
    "Kernel",
    "PerAxis",
    "WholePerAxis",
    "born",
    "check_axis",
    "check_extent",
    "check_ndim",
    "check_reach",
    "count_axes",
    "in_samples",
    "mirrored",
    "per_axis",
    "positive",
    "real",
    "real_per_axis",
    "shown",
    "spacing_of",
    "spacings",
    "whole",
    "whole_from",
    "whole_per_axis",
    "whole_samples",
]

Array: TypeAlias = NDArray[Any]
Kernel: TypeAlias = Factors | Array
PerAxis: TypeAlias = float | Sequence[float]
WholePerAxis: TypeAlias = int | Sequence[int]

LETTERS = "tzyx"
WHOLE = 1e-6  # relative: a length so close to whole samples is that many
MOST_TAPS = 1 << 22  # along one axis; a plan of more takes longer than anybody waits
LARGEST = 2**26  # elements; no filter has ever wanted more, and more does not fit small memories


def born(terms: Sequence[Sequence[Array]]) -> Factors:
    """Make the factors of a kernel from its terms, each one vector an axis."""
    letters = LETTERS[-len(terms[0]) :]
    return Factors.from_terms(f"{letters} -> {','.join(letters)}", terms)


def check_ndim(ndim: object, name: str = "ndim") -> int:
    """Return the number of axes of a kernel made of factors."""
    count = whole(name, ndim)
    if not 2 <= count <= len(LETTERS):
        raise ArgumentError(
            f"`{name}` must be 2, 3 or 4; got {count}. One-dimensional kernels are arrays: "
            "gaussian1d, box1d, binomial1d"
        )
    return count


def check_axis(axis: object, ndim: int) -> int:
    """Return the axis counted from the front."""
    index = whole("axis", axis)
    if not -ndim <= index < ndim:
        raise ArgumentError(f"`axis` must be {-ndim} .. {ndim - 1} for ndim={ndim}; got {index}")
    return index % ndim


def check_extent(name: str, value: object, *lengths: float, most: int = LARGEST) -> None:
    """Refuse a kernel too large to hold, or too long along one axis to be made."""
    if math.prod(lengths) > most:
        size = "x".join(f"{n:.4g}" for n in lengths)
        raise ArgumentError(
            f"`{name}` makes a kernel of {size}, more than {most} elements; got {shown(value)}"
        )
    longest = max(lengths)
    if longest > MOST_TAPS:
        raise ArgumentError(
            f"`{name}` makes a kernel of {longest:.4g} samples along one axis, more than "
            f"{MOST_TAPS}; got {shown(value)}"
        )


def check_reach(sigma: float, truncate: object, *lengths: float) -> None:
    """Refuse a Gaussian too large to hold; blame `truncate` where it was given."""
    name, value = ("sigma", sigma) if truncate == 4.0 else ("truncate", truncate)
    check_extent(name, value, *lengths)


def count_axes(ndim: int | None, **values: object) -> int:
    """Return the number of axes: `ndim`, or what the sequences among the values have, or 2."""
    found: tuple[str, int] | None = None if ndim is None else ("ndim", check_ndim(ndim))
    for name, value in values.items():
        if not _is_sequence(value):
            continue
        length = len(value)  # type: ignore[arg-type]
        if found is None:
            found = name, check_ndim(length, f"len({name})")
        elif length != found[1]:
            raise ArgumentError(
                f"`{name}` must be one value, or one for each of {found[1]} axes "
                f"(from `{found[0]}`); got {shown(value)}"
            )
    return 2 if found is None else found[1]


def per_axis(value: object, ndim: int) -> tuple[Any, ...]:
    """Repeat a single value for every axis."""
    return tuple(value) if _is_sequence(value) else (value,) * ndim  # type: ignore[arg-type]


def real_per_axis(name: str, value: object, ndim: int) -> tuple[float, ...]:
    """Return numbers > 0, one an axis."""
    numbers = tuple(real(name, v, value) for v in per_axis(value, ndim))
    if not all(v > 0 for v in numbers):
        raise ArgumentError(f"`{name}` must be > 0 for every axis; got {shown(value)}")
    return numbers


def whole_per_axis(
    name: str, value: object, ndim: int, low: int, high: int | None = None
) -> tuple[int, ...]:
    """Return whole numbers in a range, one an axis."""
    numbers = tuple(whole(name, v, value) for v in per_axis(value, ndim))
    if not all(low <= v and (high is None or v <= high) for v in numbers):
        allowed = f">= {low}" if high is None else f"{low} .. {high}"
        raise ArgumentError(f"`{name}` must be {allowed} for every axis; got {shown(value)}")
    return numbers


def spacings(spacing: object, ndim: int) -> tuple[float, ...]:
    """Return the distance between the centres of neighbours along each axis; 1 for None."""
    if spacing is None:
        return (1.0,) * ndim
    if _is_sequence(spacing) and len(spacing) != ndim:  # type: ignore[arg-type]
        raise ArgumentError(
            f"`spacing` must be one number, or one for each of {ndim} axes; got {shown(spacing)}"
        )
    found = tuple(real("spacing", v, spacing) for v in per_axis(spacing, ndim))
    if not all(v > 0 for v in found):
        raise ArgumentError(
            "`spacing` must be > 0 for every axis, the distance between the centres of neighbours; "
            f"got {shown(spacing)}. Leave it out to measure in samples"
        )
    return found


def spacing_of(spacing: object) -> float:
    """Return the spacing of a kernel of one axis."""
    return spacings(spacing, 1)[0]


def in_samples(lengths: Sequence[float], steps: Sequence[float]) -> tuple[float, ...]:
    """Divide lengths by the spacing, axis by axis."""
    return tuple(length / step for length, step in zip(lengths, steps, strict=True))


def whole_samples(name: str, length: object, step: float) -> int:
    """Return how many samples a length is; it must be a whole number of them."""
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
    ]  # one axis a factor, (R, axis)
    return Factors.from_terms(kernel.pattern, [[a[r] for a in arrays] for r in range(kernel.rank)])


def real(name: str, value: object, given: object = None) -> float:
    """Return a finite number."""
    given = value if given is None else given
    if isinstance(value, (bool, np.bool_)) or not isinstance(
        value, (int, float, np.integer, np.floating)
    ):
        raise ArgumentTypeError(f"`{name}` must be a number; got {shown(given)}")
    try:
        number = float(value)
    except OverflowError:  # an int of more than 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise ArgumentError(f"`{name}` must be finite; got {shown(given)}")
    return number


def positive(name: str, value: object) -> float:
    """Return a finite number > 0."""
    number = real(name, value)
    if number <= 0:
        raise ArgumentError(f"`{name}` must be > 0; got {shown(value)}")
    return number


def whole_from(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return one whole number in a range."""
    number = whole(name, value)
    if number < low or (high is not None and number > high):
        allowed = f">= {low}" if high is None else f"{low} .. {high}"
        raise ArgumentError(f"`{name}` must be {allowed}; got {shown(value)}")
    return number


def whole(name: str, value: object, given: object = None) -> int:
    """Return a whole number; 3.0 is one, 3.5 and True are not."""
    number = real(name, value, given)
    if number != int(number):
        raise ArgumentError(
            f"`{name}` must be a whole number; got {shown(value if given is None else given)}"
        )
    return int(number)


def shown(value: object) -> str:
    """Show a value as given, sequences as tuples and numbers without their NumPy type."""
    if _is_sequence(value):
        inner = [shown(v) for v in value]  # type: ignore[attr-defined]
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    try:
        return repr(value.item()) if isinstance(value, np.generic) else repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"an integer of {int(value).bit_length()} bits"  # type: ignore[call-overload]


def _is_sequence(value: object) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)
