"""Request: the arguments of a plan, checked and brought to the canonical form, a correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.borders import Modes
from separable.engine import Kernel, Problem, work_dtype
from separable.engine.lazy_kernel import normalised_once
from separable.engine.thread_count import check_threads, get_num_threads
from separable.errors import ArgumentError, KernelError
from separable.factorize import as_kernel, check_tolerance
from separable.factors import Factors
from separable.kernels.parse import read_kernel_of
from separable.request import (
    FilterAxes,
    check_dtype,
    check_origins,
    kernel_axes,
    result_dtype,
)
from separable.value import Value

__all__ = ["OPERATIONS", "Request", "request"]

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

    ARRAYS = ("given",)

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
        """The kernel if it was given as factors, otherwise None."""
        return self.given if isinstance(self.given, Factors) else None


def request(
    kernel: ArrayLike | Factors,
    shape: Sequence[int],
    dtype: DTypeLike = np.float64,
    *,
    axes: int | Sequence[int] | None = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    output: DTypeLike | None = None,
    tol: float | None = None,
    method: str = "auto",
    operation: str = "convolve",
    threads: int | None = None,
) -> Request:
    """Check the arguments of `plan` and bring them to the canonical form."""
    kernel = read_kernel_of(kernel, axes, len(shape))
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
        out_type = result_dtype(image_type, plain.dtype, cval)
    else:
        out_type = check_dtype(output, "output")
    filtered = kernel_axes(axes, len(shape), plain.ndim)
    if operation not in OPERATIONS:
        raise ArgumentError(
            f"`operation` must be one of {', '.join(OPERATIONS)}; got {operation!r}"
        )
    weights, exponent = normalised_once(plain)
    filter_axes = FilterAxes.of(filtered, mode, cval, check_origins(origin, plain.shape))
    problem = Problem(
        shape=shape,
        dtype=image_type,
        out=out_type,
        work=work_dtype(image_type, out_type, plain),
        axes=filter_axes.axes,
        kernel_shape=plain.shape,
        lefts=_lefts(plain.shape, filter_axes.origins, operation),
        modes=filter_axes.modes,
        cval=filter_axes.cval,
        threads=get_num_threads() if threads is None else check_threads(threads),
        exponent=exponent,
    )
    return Request(
        given, weights, operation, filter_axes.origins, check_tolerance(tol), method, problem
    )


def _checked_factors(factors: Factors) -> Factors:
    pattern = factors.pattern
    if pattern.batch or not pattern.has_one_bond:
        raise KernelError(
            f"factors of `{pattern}` describe no filter: expected one bond and no batch letters. "
            "Give their dense() kernel"
        )
    for array in factors.arrays:
        if array.size:
            as_kernel(array)
    return factors


def _lefts(shape: tuple[int, ...], origins: tuple[int, ...], operation: str) -> tuple[int, ...]:
    """Return how many samples of the kernel lie before the output, for the correlation."""
    if operation == "correlate":
        return tuple(n // 2 + origin for n, origin in zip(shape, origins, strict=True))
    return tuple((n - 1) // 2 - origin for n, origin in zip(shape, origins, strict=True))
