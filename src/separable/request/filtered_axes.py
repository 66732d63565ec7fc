"""Axes of a filter, with the origin of the kernel, the border mode and the constant outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from separable.borders import Border, canonical_modes
from separable.errors import ArgumentError, ArgumentTypeError, KernelError
from separable.request.numbers_per_axis import is_sequence, per_axis

__all__ = [
    "AxisError",
    "FilterAxes",
    "OriginError",
    "axes_by_name",
    "check_axes",
    "check_axis",
    "check_cval",
    "check_origins",
    "kernel_axes",
]

IMAGE = "this image"


class AxisError(ArgumentError, np.exceptions.AxisError):
    """An axis lies outside the image. It is NumPy's error too: a `ValueError` and an `IndexError`."""

    __str__ = Exception.__str__  # NumPy's adds `axis` and `ndim` to the message


class OriginError(ArgumentTypeError, ValueError):
    """An origin is not an integer (SciPy raises `ValueError`, at times `TypeError`)."""


@dataclass(frozen=True)
class FilterAxes:
    """Filtered axes of an image, and how the image continues outside along each of them.

    Attributes
    ----------
    axes : tuple of int
        Axes of the image, >= 0, in the order of the kernel's axes.
    modes : tuple
        Canonical border mode of each axis.
    cval : number
        Value outside the image where the mode is constant.
    origins : tuple of int
        Shift of the kernel along each axis, as in SciPy.
    """

    axes: tuple[int, ...]
    modes: tuple[Border, ...]
    cval: Any
    origins: tuple[int, ...]

    @classmethod
    def of(
        cls, axes: Sequence[int], mode: Any, cval: Any = 0.0, origins: Sequence[int] = ()
    ) -> FilterAxes:
        """Check the modes and the constant; the origins are zeros if none are given.

        Examples
        --------
        >>> [border.name for border in FilterAxes.of((0, 2), "grid-wrap").modes]
        ['wrap', 'wrap']
        """
        modes = canonical_modes(mode, len(axes))
        return cls(tuple(axes), modes, check_cval(cval), tuple(origins) or (0,) * len(modes))

    @property
    def options(self) -> dict[str, Any]:
        """The same as keyword arguments of `plan`."""
        return {
            "axes": self.axes, "mode": self.modes, "cval": self.cval, "origin": self.origins
        }  # fmt: skip


def check_axis(axis: Any, ndim: int, *, name: str = "axis", of: str = IMAGE) -> int:
    """Return one axis, >= 0.

    Raises
    ------
    ArgumentTypeError, AxisError
        If it is not an integer, or lies outside.
    """
    return _in_range(_integer(name, axis, axis), axis, ndim, name, of)


def check_axes(axes: Any, ndim: int) -> tuple[int, ...]:
    """Return the filtered axes, >= 0; all of them for None.

    Raises
    ------
    AxisError
        If one lies outside the image.
    ArgumentError
        If two are the same.
    ArgumentTypeError
        If it is neither an integer nor a sequence of integers.

    Examples
    --------
    >>> check_axes((-1, 0), 3), check_axes(None, 2)
    ((2, 0), (0, 1))
    """
    if axes is None:
        return tuple(range(ndim))
    given = tuple(axes) if is_sequence(axes) else (axes,)
    found = tuple(_in_range(_integer("axes", a, axes), axes, ndim, "axes") for a in given)
    if len(set(found)) != len(found):
        raise ArgumentError(f"`axes` must be different from each other; got {axes!r}")
    return found


def kernel_axes(axes: Any, ndim: int, kernel_ndim: int, *, last: bool = False) -> tuple[int, ...]:
    """Return the image axis, >= 0, of each kernel axis.

    Parameters
    ----------
    axes : int, sequence of int or None
        Axes as they were given; None means all axes of the image.
    ndim : int
        Number of axes of the image.
    kernel_ndim : int
        Number of axes of the kernel.
    last : bool
        For None, take the last axes of an image that has more axes than the kernel.

    Raises
    ------
    KernelError
        If the kernel has more axes than the image, or fewer and `axes` does not say which.
    ArgumentError
        If `axes` are out of range, repeat, or are not as many as the kernel's.

    Examples
    --------
    >>> kernel_axes((0, -1), 3, 2), kernel_axes(None, 3, 2, last=True)
    ((0, 2), (1, 2))
    """
    if axes is not None:
        found = check_axes(axes, ndim)
        if len(found) != kernel_ndim:
            raise KernelError(
                f"`axes` must name one axis for each of the kernel's {kernel_ndim}; got {axes!r}"
            )
        return found
    if kernel_ndim > ndim:
        raise KernelError(
            f"the kernel has more axes than the image: {kernel_ndim}, the image {ndim}"
        )
    if kernel_ndim == ndim or last:
        return tuple(range(ndim - kernel_ndim, ndim))
    raise KernelError(
        f"the kernel has {kernel_ndim} axes, the image {ndim}: say which ones to filter, for "
        f"instance axes={tuple(range(kernel_ndim))}"
    )


def axes_by_name(
    axes: Any, names: Sequence[Any], *, name: str = "axes", numbers: bool = True
) -> tuple[int, ...]:
    """Return the positions of axes that are given by name or, if allowed, by number.

    Raises
    ------
    ArgumentError
        If there is no such axis.

    Examples
    --------
    >>> axes_by_name(("x", 0), ("y", "x"))
    (1, 0)
    """
    names = tuple(names)
    found = []
    for axis in axes if isinstance(axes, (list, tuple, np.ndarray)) else (axes,):
        if axis in names:
            found.append(names.index(axis))
        elif numbers and isinstance(axis, (int, np.integer)):
            found.append(int(axis))
        else:
            allowed = "numbers, or dims of" if numbers else "some of"
            raise ArgumentError(
                f"`{name}` must be {allowed} {', '.join(map(str, names))}; got {axis!r}"
            )
    return tuple(found)


def _integer(name: str, value: Any, given: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        kind = "an integer" if name == "axis" else "integers"
        raise ArgumentTypeError(f"`{name}` must be {kind}; got {given!r}")
    return int(value)


def _in_range(axis: int, given: Any, ndim: int, name: str, of: str = IMAGE) -> int:
    """Return an axis counted from the front; the error carries NumPy's `axis` and `ndim`."""
    if -ndim <= axis < ndim:
        return axis % ndim
    if ndim:
        allowed = f"{-ndim} .. {ndim - 1} for {of}"
    else:
        allowed = "absent: the image has none" if name == "axis" else "empty: the image has no axes"
    error = AxisError(f"`{name}` must be {allowed}; got {given!r}")
    error.axis, error.ndim = axis, ndim
    raise error


def check_origins(origin: Any, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the origin along each axis of a kernel of these sizes.

    Raises
    ------
    OriginError
        If one is not an integer.
    ArgumentError
        If one moves the output beyond the kernel.

    Examples
    --------
    >>> check_origins(1, (3, 4)), check_origins((0, -2), (3, 4))
    ((1, 1), (0, -2))
    """
    values = per_axis("origin", origin, len(sizes))
    if not any(type(v) is not int or v for v in values):
        return values
    for value, size in zip(values, sizes, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise OriginError(f"`origin` must be an integer; got {value!r}")
        if not -(size // 2) <= value <= (size - 1) // 2:
            raise ArgumentError(
                f"`origin` must be {-(size // 2)} .. {(size - 1) // 2}, so that the output "
                f"lies below one of the kernel's {size} samples; got {value}"
            )
    return tuple(int(v) for v in values)


def check_cval(cval: Any) -> Any:
    """Return the constant outside the image: a float, or a complex number.

    Raises
    ------
    ArgumentTypeError, ArgumentError
        If it is not a number, or an integer that no float64 can hold.
    """
    if type(cval) is float:
        return cval
    if isinstance(cval, (bool, int, float, np.number)) and not isinstance(cval, np.complexfloating):
        try:
            return float(cval)
        except OverflowError:  # an integer of more than 308 digits
            raise ArgumentError(
                "`cval` must be within the range of a float64; got an integer of "
                f"{int(cval).bit_length()} bits"
            ) from None
    if isinstance(cval, (complex, np.complexfloating)):
        return complex(cval)
    if isinstance(cval, np.ndarray) and cval.ndim == 0:
        return check_cval(cval[()])
    raise ArgumentTypeError(f"`cval` must be a number; got {cval!r}")
