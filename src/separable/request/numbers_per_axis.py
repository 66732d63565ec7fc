"""Numbers, one number per axis, and the spacing of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from separable.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "SequenceError",
    "check_spacing",
    "is_sequence",
    "per_axis",
    "positive",
    "real",
    "real_per_axis",
    "shown",
    "whole",
    "whole_in_range",
    "whole_per_axis",
]


class SequenceError(ArgumentError, RuntimeError):
    """A sequence does not have one value for each filtered axis (SciPy raises `RuntimeError`)."""


def real(name: str, value: object, given: object = None) -> float:
    """Return a finite number.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : object
        The number, or one of several.
    given : object, optional
        The whole argument, for messages, where `value` is only a part of it.

    Raises
    ------
    ArgumentTypeError, ArgumentError
        If it is not a number, or not finite.
    """
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


def whole(name: str, value: object, given: object = None) -> int:
    """Return a whole number; 3.0 is one, 3.5 and True are not."""
    number = real(name, value, given)
    if number != int(number):
        raise ArgumentError(
            f"`{name}` must be a whole number; got {shown(value if given is None else given)}"
        )
    return int(number)


def whole_in_range(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return one whole number in a range."""
    number = whole(name, value)
    if number < low or (high is not None and number > high):
        raise ArgumentError(f"`{name}` must be {_range(low, high)}; got {shown(value)}")
    return number


def shown(value: object) -> str:
    """Show a value as given, sequences as tuples and numbers without their NumPy type.

    Examples
    --------
    >>> shown([np.float64(2), 1]), shown("axb")
    ('(2.0, 1)', "'axb'")
    """
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1):
        inner = [shown(v) for v in value]
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    try:
        return repr(value.item()) if isinstance(value, np.generic) else repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return f"an integer of {int(value).bit_length()} bits"  # type: ignore[call-overload]


def _range(low: int, high: int | None) -> str:
    return f">= {low}" if high is None else f"{low} .. {high}"


def is_sequence(value: object) -> bool:
    """Return whether a value holds several values: it is iterable, and neither text nor a mapping."""
    return not isinstance(value, (str, bytes, Mapping)) and np.iterable(value)


def per_axis(
    name: str,
    value: Any,
    count: int,
    *,
    of: str = "filtered axes",
    names: Sequence[Any] = (),
    default: Any = None,
) -> tuple[Any, ...]:
    """Return one value for each axis; a single value counts for all of them.

    Parameters
    ----------
    name : str
        Name of the argument, for messages.
    value : object
        One value, a sequence of them or, where the axes have names, a mapping of names to values.
    count : int
        Number of axes.
    of : str
        What the axes are, for messages.
    names : sequence, optional
        Names of the axes.
    default : object, optional
        Value of an axis that a mapping does not name; without it every axis must be named.

    Raises
    ------
    SequenceError
        If a sequence has another length.
    ArgumentError
        If a mapping does not have one value for each name.

    Examples
    --------
    >>> per_axis("mode", "wrap", 2), per_axis("sigma", [1, 2], 2)
    (('wrap', 'wrap'), (1, 2))
    >>> per_axis("order", {"x": 1}, 2, names=("y", "x"), default=0)
    (0, 1)
    """
    if names and isinstance(value, Mapping):
        return _per_name(name, value, names, default)
    if not is_sequence(value):
        return (value,) * count
    values = tuple(value)
    if len(values) != count:
        raise SequenceError(
            f"`{name}` must be one value, or one for each of the {count} {of}; "
            f"got {len(values)}: {shown(values)}"
        )
    return values


def _per_name(
    name: str, value: Mapping[Any, Any], names: Sequence[Any], default: Any
) -> tuple[Any, ...]:
    unknown = [n for n in value if n not in names]
    missing = [n for n in names if n not in value and default is None]
    if unknown or missing:
        wrong = f"nothing for {missing[0]!r}" if missing else f"{unknown[0]!r} too"
        raise ArgumentError(
            f"`{name}` must have a value for each of {', '.join(map(str, names))}; got {wrong}"
        )
    return tuple(value.get(n, default) for n in names)


def real_per_axis(name: str, value: object, count: int) -> tuple[float, ...]:
    """Return one number > 0 per axis."""
    numbers = tuple(real(name, v, value) for v in per_axis(name, value, count, of="axes"))
    if not all(v > 0 for v in numbers):
        raise ArgumentError(f"`{name}` must be > 0 for every axis; got {shown(value)}")
    return numbers


def whole_per_axis(
    name: str, value: object, count: int, low: int, high: int | None = None
) -> tuple[int, ...]:
    """Return one whole number in a range per axis."""
    numbers = tuple(whole(name, v, value) for v in per_axis(name, value, count, of="axes"))
    if not all(low <= v and (high is None or v <= high) for v in numbers):
        raise ArgumentError(
            f"`{name}` must be {_range(low, high)} for every axis; got {shown(value)}"
        )
    return numbers


def check_spacing(spacing: object, count: int, *, of: str = "axes") -> tuple[float, ...]:
    """Return the distance between the centres of neighbours along each axis; 1 for None.

    Examples
    --------
    >>> check_spacing((3, 1), 2), check_spacing(0.5, 2), check_spacing(None, 2)
    ((3.0, 1.0), (0.5, 0.5), (1.0, 1.0))
    """
    if spacing is None:
        return (1.0,) * count
    values = per_axis("spacing", spacing, count, of=of)
    found = tuple(real("spacing", v, spacing) for v in values)
    if not all(v > 0 for v in found):
        raise ArgumentError(
            "`spacing` must be > 0 for every axis, the distance between the centres of neighbours; "
            f"got {shown(spacing)}. Leave it out to measure in samples"
        )
    return found
