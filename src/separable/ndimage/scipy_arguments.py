"""SciPy's arguments: the checks of `separable.request`, with SciPy's words in front of their messages.

A message begins with SciPy's words for the same mistake, so that programs that look for them find
them. The rest of the message says what was expected and what was given.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable import request
from separable.arrays import array_of, complete_array_of, is_dask_array
from separable.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    KernelError,
    ModeError,
    OutputError,
)
from separable.kernels.kernel_arguments import MOST_TAPS
from separable.request import (
    AxisError,
    FilterAxes,
    OriginError,
    SequenceError,
    check_dtype,
    shown,
)

__all__ = [
    "Array",
    "AxisError",
    "CvalError",
    "OriginError",
    "Output",
    "SequenceError",
    "SizeError",
    "Target",
    "WeightsError",
    "check_axes",
    "check_axis",
    "check_cval",
    "check_filter_axes",
    "check_origins",
    "check_taps",
    "finite",
    "image_of",
    "index",
    "is_lazy",
    "number",
    "per_axis",
    "steps_of",
    "target_dtype",
    "target_of",
    "weights_of",
]

Array: TypeAlias = NDArray[Any]
Output: TypeAlias = "DTypeLike | Array | None"
Target: TypeAlias = "np.dtype[Any] | Array"  # type of a new array, or the array to write into


class CvalError(ArgumentError, TypeError):
    """The constant outside a real image is complex (SciPy raises `ValueError`, at times `TypeError`)."""


class SizeError(ArgumentError, RuntimeError):
    """The size of a filter is below 1 (SciPy raises `RuntimeError`)."""


class WeightsError(KernelError, RuntimeError):
    """The weights are empty or have a wrong number of axes (SciPy raises `RuntimeError`)."""


def image_of(image: ArrayLike) -> tuple[Array, Any]:
    """Return the image as a plain array, and as it was given (a masked array has its own mask).

    Raises
    ------
    DTypeError, ArgumentTypeError, ArgumentError
        If it is not an array of numbers.
    """
    if is_lazy(image):
        lazily: Any = image
        check_dtype(lazily.dtype, "input")
        return lazily, lazily
    given = array_of(image, "input")
    check_dtype(given.dtype, "input")
    return np.asarray(given), given


def weights_of(weights: ArrayLike) -> Array:
    """Return the weights of a kernel as an array of numbers.

    As in SciPy, the numbers may be in an array of objects.

    Raises
    ------
    DTypeError, ArgumentTypeError, ArgumentError
        If they are not an array of numbers, or some are masked.
    """
    found = complete_array_of(weights, "weights")
    if found.dtype.kind in "biufc":
        return found
    if found.dtype.kind != "O":
        raise DTypeError(f"`weights` must hold numbers; got dtype {found.dtype}")
    try:
        numbers = found.astype(np.complex128)
    except (TypeError, ValueError) as error:
        raise DTypeError(
            f"`weights` must hold numbers; got objects that are not numbers: {error}"
        ) from None
    return numbers if numbers.imag.any() else numbers.real.copy()


def is_lazy(image: Any) -> bool:
    """Return whether an image is a Dask array, which is filtered chunk by chunk when it is computed."""
    return not isinstance(image, np.ndarray) and is_dask_array(image)


def target_of(output: Output, image: Array, *, is_complex: bool = False) -> Target:
    """Return the array to write into, or the type of the array to make.

    Parameters
    ----------
    output : dtype, ndarray or None
        Argument of the filter, as in SciPy. None means the image's type, or complex for a complex
        result.
    image : ndarray or Dask array
        The image.
    is_complex : bool
        Whether the result is complex.

    Raises
    ------
    OutputError
        If an array has another shape than the image or is read-only, or if the output is real and
        the result complex. A real type that is not given by its name is promoted with a warning,
        as in SciPy.
    DTypeError
        If the filters do not accept the type.
    """
    if output is None:
        native = image.dtype.newbyteorder("=")
        return np.promote_types(native, np.complex64) if is_complex else native
    if isinstance(output, (type, np.dtype, str)):
        dtype = _type_of(output)
        if is_complex and dtype.kind != "c":
            if isinstance(output, str):
                raise OutputError(_not_complex(dtype))
            warnings.warn("promoting specified output dtype to complex", stacklevel=5)
            dtype = np.promote_types(dtype, np.complex64)
        return dtype
    if is_lazy(image) or is_lazy(output):
        raise OutputError(
            "`output` must name a type for a Dask array, which is filtered when it is computed, and "
            "cannot be one. To put the result somewhere call .store(...) or .to_zarr(...) on it"
        )
    array = np.asarray(array_of(output, "output"))
    check_dtype(array.dtype, "output")
    request.check_output_shape(array, image.shape)
    if is_complex and array.dtype.kind != "c":
        raise OutputError(_not_complex(array.dtype))
    if not array.flags.writeable:
        raise OutputError("`output` is read-only; give a writeable array, for instance a copy")
    return array


def _type_of(output: Any) -> np.dtype[Any]:
    try:
        return check_dtype(output, "output")
    except DTypeError as error:
        raise DTypeError(f"output must have numeric dtype: {error}") from None


def target_dtype(target: Target) -> np.dtype[Any]:
    """Return the type of a target."""
    return target.dtype if isinstance(target, np.ndarray) else target


def _not_complex(dtype: np.dtype[Any]) -> str:
    return (
        f"output must have complex dtype: the result is complex; got {dtype}. "
        "Take .real or np.abs of a complex result"
    )


def check_axis(axis: Any, ndim: int) -> int:
    """Return one axis, >= 0."""
    try:
        return request.check_axis(index("axis", axis), ndim)
    except AxisError as error:
        raise AxisError(f"{_out_of_bounds(error)}: {error}") from None


def check_axes(axes: Any, ndim: int) -> tuple[int, ...]:
    """Return the filtered axes, >= 0; all of them for None.

    Raises
    ------
    AxisError
        If one lies outside the image.
    ArgumentError
        If two are the same, or this is neither an integer nor a sequence.
    ArgumentTypeError
        If one is not an integer.

    Examples
    --------
    >>> check_axes((-1, 0), 3)
    (2, 0)
    """
    if axes is None:
        return tuple(range(ndim))
    several = request.is_sequence(axes)
    if not several and not np.isscalar(axes):
        raise ArgumentError(
            f"axes must be an integer, iterable of integers, or None; got `axes`={axes!r}"
        )
    try:
        if several:
            return request.check_axes(tuple(index("axes", a) for a in axes), ndim)
        return request.check_axes(index("axes", axes), ndim)
    except AxisError as error:
        words = f"specified axis: {error.axis} is out of range"
        raise AxisError(f"{words if several else _out_of_bounds(error)}: {error}") from None
    except ArgumentError as error:
        raise ArgumentError(f"axes must be unique: {error}") from None


def _out_of_bounds(error: AxisError) -> str:
    return f"axis {error.axis} is out of bounds for array of dimension {error.ndim}"


def per_axis(name: str, value: Any, count: int) -> tuple[Any, ...]:
    """Return one value for each filtered axis.

    Examples
    --------
    >>> per_axis("mode", "wrap", 2), per_axis("sigma", [1, 2], 2)
    (('wrap', 'wrap'), (1, 2))
    """
    try:
        return request.per_axis(name, value, count)
    except SequenceError as error:
        raise SequenceError(
            f"sequence argument must have length equal to input rank: {error}"
        ) from None


def steps_of(spacing: Any, count: int) -> tuple[float, ...]:
    """Return the distance between neighbours along each filtered axis; 1 for None.

    Examples
    --------
    >>> steps_of((3, 1), 2), steps_of(0.5, 2), steps_of(None, 2)
    ((3.0, 1.0), (0.5, 0.5), (1.0, 1.0))
    """
    return request.check_spacing(spacing, count, of="filtered axes")


def check_filter_axes(
    axes: Sequence[int], modes: Sequence[Any], cval: Any, origins: Sequence[int] = ()
) -> FilterAxes:
    """Return the filtered axes with their border modes; the origins are zeros if none are given.

    Raises
    ------
    ModeError
        If there is no such border mode.
    """
    try:
        return FilterAxes.of(axes, modes, cval, origins)
    except ModeError as error:
        raise ModeError(f"boundary mode not supported: {error}") from None


def index(name: str, value: Any) -> int:
    """Return an integer; `operator.index` decides what is one."""
    try:
        return int(operator.index(value))
    except TypeError as error:
        raise ArgumentTypeError(f"{error}: `{name}` must be an integer; got {value!r}") from None


def check_origins(origins: Sequence[Any], sizes: Sequence[int], rule: str) -> tuple[int, ...]:
    """Return the origins of a kernel of these sizes.

    Parameters
    ----------
    origins, sizes : sequence
        One for each filtered axis.
    rule : str
        SciPy's words for what an origin must be. Its functions differ.

    Raises
    ------
    OriginError
        If an origin is not an integer.
    ArgumentError
        If an origin moves the output beyond the kernel.
    """
    try:
        return request.check_origins([int(operator.index(origin)) for origin in origins], sizes)
    except TypeError as error:
        wrong = next(origin for origin in origins if not hasattr(origin, "__index__"))
        raise OriginError(
            f"{rule}, and {error}: `origin` must be an integer; got {wrong!r}"
        ) from None
    except ArgumentError as error:
        raise ArgumentError(f"{rule}: {error}") from None


def number(name: str, value: Any) -> float:
    """Return a real number."""
    try:
        if not isinstance(value, str):
            return float(value)
    except OverflowError:  # an integer of more than 308 digits
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        pass
    raise ArgumentTypeError(f"`{name}` must be a number; got {value!r}")


def finite(name: str, value: Any) -> float:
    """Return a finite real number.

    Examples
    --------
    >>> finite("truncate", 4)
    4.0
    """
    found = number(name, value)
    if not math.isfinite(found):
        raise ArgumentError(f"`{name}` must be finite; got {shown(value)}")
    return found


def check_taps(what: str, count: float) -> None:
    """Refuse a kernel with too many taps, before memory is allocated for it.

    Parameters
    ----------
    what : str
        Arguments that make the kernel so long, with their values.
    count : float
        Number of taps along one axis.

    Examples
    --------
    >>> check_taps("`sigma` 10000000.0", 8e7)
    Traceback (most recent call last):
        ...
    separable.errors.ArgumentError: the kernel must have at most 4194304 taps along each axis; got 80000000 from `sigma` 10000000.0
    """
    if count > MOST_TAPS:
        size = float(min(count, 1e300))
        shown_count = f"{size:.0f}" if size < 1e15 else f"{size:.3g}"
        raise ArgumentError(
            f"the kernel must have at most {MOST_TAPS} taps along each axis; got {shown_count} "
            f"from {what}"
        )


def check_cval(cval: Any, image: Array) -> Any:
    """Return the constant outside the image; as in SciPy it may be complex for complex images only."""
    if isinstance(cval, (int, float)):  # the usual case; `iscomplexobj` takes 3 microseconds
        return cval
    if image.dtype.kind != "c" and np.iscomplexobj(cval):
        raise CvalError(
            "Cannot provide a complex-valued cval when the input is real: `cval` must be real, as "
            f"the image is; got {cval!r}. Give a complex image to have it outside"
        )
    return cval
