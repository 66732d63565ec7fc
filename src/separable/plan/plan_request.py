"""Request: the arguments of a plan, checked and brought to the canonical form, a correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.borders import canonical_modes
from separable.engine import Kernel, Problem, work_dtype
from separable.engine.lazy_kernel import normalised_once
from separable.engine.thread_count import check_threads, get_num_threads
from separable.errors import ArgumentError, ArgumentTypeError, KernelError
from separable.factorize import as_kernel, check_tolerance
from separable.factors import Factors
from separable.run import check_dtype
from separable.value import Value

__all__ = ["OPERATIONS", "Request", "axes_of", "own_output", "request"]

Array = NDArray[Any]

OPERATIONS = ("convolve", "correlate")


@dataclass(frozen=True, eq=False)
class Request(Value):
    """Arguments of a filter, checked.

    Attributes
    ----------
    given : ndarray or Factors
        The kernel.
    weights : Kernel
        Weights to correlate with: those of the kernel, in the direction of the operation and of
        ordinary scale.
    operation : str
        "convolve" or "correlate".
    origins : tuple of int
        Origin along each kernel axis, as in SciPy.
    tol : float or None
    method : str
        "auto", or the name of a candidate or a method.
    problem : Problem
        Correlation that is equivalent to the filter.
    """

    given: Array | Factors
    weights: Kernel = field(compare=False)  # follows from the others
    operation: str
    origins: tuple[int, ...]
    tol: float | None
    method: str
    problem: Problem

    @property
    def kernel(self) -> Array:
        """The dense kernel as it was given."""
        return self.given.dense() if isinstance(self.given, Factors) else self.given

    @property
    def factors(self) -> Factors | None:
        """The kernel where it was given as factors."""
        return self.given if isinstance(self.given, Factors) else None


def request(
    kernel: ArrayLike | Factors,
    shape: Sequence[int],
    dtype: DTypeLike = np.float64,
    *,
    axes: int | Sequence[int] | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    output: DTypeLike | None = None,
    tol: float | None = None,
    method: str = "auto",
    operation: str = "convolve",
    threads: int | None = None,
) -> Request:
    """Check the arguments of `plan` and bring them to the canonical form."""
    if isinstance(kernel, Factors):
        given: Array | Factors = _checked_factors(kernel)
    else:  # a copy: the caller may change their array, a plan never changes
        given = np.array(as_kernel(kernel))
    plain = Kernel(given, flip=operation == "convolve")
    shape = tuple(int(n) for n in shape)
    if any(n < 0 for n in shape):
        raise ArgumentError(f"`shape` must be sizes >= 0; got {shape}")
    image_type = check_dtype(dtype, "dtype")
    if output is None:
        out_type = own_output(image_type, plain.dtype, cval)
    else:
        out_type = check_dtype(output, "output")
    filtered = axes_of(axes, len(shape), plain.ndim)
    if operation not in OPERATIONS:
        raise ArgumentError(
            f"`operation` must be one of {', '.join(OPERATIONS)}; got {operation!r}"
        )
    weights, exponent = normalised_once(plain)
    origins = _per_axis("origin", origin, plain.ndim)
    problem = Problem(
        shape=shape,
        dtype=image_type,
        out=out_type,
        work=work_dtype(image_type, out_type, plain),
        axes=filtered,
        kernel_shape=plain.shape,
        lefts=_lefts(plain.shape, origins, operation),
        modes=canonical_modes(mode, plain.ndim),
        cval=_check_cval(cval),
        threads=get_num_threads() if threads is None else check_threads(threads),
        exponent=exponent,
    )
    return Request(given, weights, operation, origins, check_tolerance(tol), method, problem)


def own_output(image: np.dtype[Any], kernel: np.dtype[Any], cval: Any) -> np.dtype[Any]:
    """Return the default type of a result: that of the image, complex if anything is complex."""
    if kernel.kind == "c" or isinstance(cval, complex):
        return np.promote_types(image, np.complex64)
    return image


def axes_of(axes: int | Sequence[int] | None, ndim: int, kernel_ndim: int) -> tuple[int, ...]:
    """Return the image axis, >= 0, of each kernel axis.

    Raises
    ------
    KernelError
        If the kernel has more axes than the image, or fewer and `axes` does not say which.
    ArgumentError
        If `axes` are out of range, repeat, or are not as many as the kernel's.
    """
    if axes is None:
        if kernel_ndim == ndim:
            return tuple(range(ndim))
        if kernel_ndim > ndim:
            raise KernelError(
                f"the kernel has more axes than the image: {kernel_ndim}, the image {ndim}"
            )
        raise KernelError(
            f"the kernel has {kernel_ndim} axes, the image {ndim}: say which ones to filter, for "
            f"instance axes={tuple(range(kernel_ndim))}"
        )
    given = (axes,) if isinstance(axes, (int, np.integer)) else tuple(axes)
    for axis in given:
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise ArgumentTypeError(f"`axes` must be integers; got {axes!r}")
        if not -ndim <= axis < ndim:
            raise ArgumentError(
                f"`axes` must be {-ndim} .. {ndim - 1} for this image; got {axes!r}"
            )
    positive = tuple(int(a) % ndim for a in given)
    if len(set(positive)) != len(positive):
        raise ArgumentError(f"`axes` must be different from each other; got {axes!r}")
    if len(positive) != kernel_ndim:
        raise KernelError(
            f"`axes` must name one axis for each of the kernel's {kernel_ndim}; got {axes!r}"
        )
    return positive


def _checked_factors(factors: Factors) -> Factors:
    pattern = factors.pattern
    if pattern.batch or not pattern.has_one_bond or any(len(a) > 1 for a in pattern.axes):
        raise KernelError(
            f"factors of `{pattern}` describe no filter: expected one bond, no batch letters and "
            "no groups. Give their dense() kernel"
        )
    for array in factors.arrays:
        if array.size:
            as_kernel(array)
    return factors


def _per_axis(name: str, value: Any, ndim: int) -> tuple[int, ...]:
    values = (value,) * ndim if isinstance(value, (int, np.integer)) else value
    try:
        found = tuple(values)
    except TypeError:
        raise ArgumentTypeError(
            f"`{name}` must be an integer or a sequence; got {value!r}"
        ) from None
    if any(isinstance(v, bool) or not isinstance(v, (int, np.integer)) for v in found):
        raise ArgumentTypeError(f"`{name}` must hold integers; got {value!r}")
    if len(found) != ndim:
        raise ArgumentError(f"`{name}` must be one integer, or one an axis ({ndim}); got {value!r}")
    return tuple(int(v) for v in found)


def _lefts(shape: tuple[int, ...], origins: tuple[int, ...], operation: str) -> tuple[int, ...]:
    lefts = []
    for n, origin in zip(shape, origins, strict=True):
        left = n // 2 + origin if operation == "correlate" else (n - 1) // 2 - origin
        if not 0 <= left < n:
            raise ArgumentError(
                f"invalid `origin`: it must keep the output within the kernel's {n} samples; "
                f"got {origin}"
            )
        lefts.append(left)
    return tuple(lefts)


def _check_cval(cval: Any) -> Any:
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
        return _check_cval(cval[()])
    raise ArgumentTypeError(f"`cval` must be a number; got {cval!r}")
