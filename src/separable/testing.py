"""Oracles and Hypothesis strategies for tests of filters, also for users of the library.

Hypothesis is imported only when a strategy is requested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.borders import Modes, canonical_modes, extend
from separable.engine import METHODS
from separable.filtering import correlate
from separable.plan import Plan

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "assert_same_filter",
    "kernels",
    "methods_for",
    "reference",
    "reference_valid",
    "with_each_method",
]


def reference(
    image: ArrayLike,
    kernel: ArrayLike,
    *,
    axes: int | Sequence[int] | None = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
) -> NDArray[Any]:
    """Correlate by the definition, one weight at a time, in double precision.

    The parameters are those of `separable.correlate`. This is slow: it passes ``kernel.size`` times
    over the image.

    Examples
    --------
    >>> reference([0.0, 0, 1, 1], [-1, 0, 1])
    array([0., 1., 1., 0.])
    """
    array = np.asarray(image)
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    return correlate(
        array.astype(wide), kernel, axes=axes, mode=mode, cval=cval, origin=origin,
        method="reference",
    )  # fmt: skip


def reference_valid(
    image: ArrayLike,
    kernel: ArrayLike,
    mask: ArrayLike,
    *,
    axes: Sequence[int] | None = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    fill: complex = math.nan,
    outside: bool = True,
) -> NDArray[Any]:
    """Correlate an image with missing samples by the definition, one output at a time.

    The parameters are those of `separable.correlate`; `mask` has the shape of the image, and
    `outside` says whether samples outside are valid for border mode constant. This is very slow.

    Examples
    --------
    >>> reference_valid([1.0, 2.0, np.nan, 4.0], [1, 1, 1], [1, 1, 0, 1])
    array([ 4. ,  4.5,  9. , 12. ])
    """
    array, weights = np.asarray(image), np.asarray(kernel)
    along = tuple(range(array.ndim)) if axes is None else tuple(a % array.ndim for a in axes)
    sizes, modes = weights.shape, canonical_modes(mode, weights.ndim)
    origins = (origin,) * weights.ndim if isinstance(origin, int) else tuple(origin)
    widths = [(n // 2 + o, n - 1 - n // 2 - o) for n, o in zip(sizes, origins, strict=True)]
    wide = np.dtype(np.complex128 if "c" in (array.dtype.kind + weights.dtype.kind) else np.float64)
    valid = np.asarray(mask) != 0
    samples = extend(np.where(valid, array, 0), along, widths, modes, cval, wide)
    counted = extend(valid, along, widths, modes, outside, np.dtype(bool))
    out = np.full(array.shape, fill, wide)
    for at in np.ndindex(array.shape):
        window = [slice(i, i + 1) for i in at]
        for axis, n in zip(along, sizes, strict=True):
            window[axis] = slice(at[axis], at[axis] + n)
        order = [*along, *(a for a in range(array.ndim) if a not in along)]
        here = np.transpose(samples[tuple(window)], order).reshape(sizes)
        known = np.transpose(counted[tuple(window)], order).reshape(sizes)
        share = np.abs(weights) * known
        if share.any():
            mean = np.sum(share * here) / np.sum(share)
            out[at] = np.sum(weights * np.where(known, here, mean))
    return out


def assert_same_filter(
    got: ArrayLike, exact: ArrayLike, image: ArrayLike, kernel: ArrayLike, rtol: float = 1e-13
) -> None:
    """Assert that two results differ by at most ``rtol * max|image| * sum|kernel|``.

    Raises
    ------
    AssertionError
        If they differ more; the message contains the largest difference and the limit.

    Examples
    --------
    >>> assert_same_filter([1.0], [1.0 + 1e-15], [1.0], [1.0])
    """
    limit = rtol * float(np.max(np.abs(image), initial=0)) * float(np.sum(np.abs(kernel)))
    difference = float(np.max(np.abs(np.asarray(got) - np.asarray(exact)), initial=0.0))
    assert difference <= limit, f"largest difference {difference:.3g}, allowed {limit:.3g}"


def methods_for(plan: Plan) -> tuple[str, ...]:
    """Return the names of the methods that can run a filter, in the order of the registry.

    The plan is asked: a method is left out because its `refuse` says so, or because it has nothing to
    offer for the kernel.

    Parameters
    ----------
    plan : Plan
        Plan of the filter, by whatever method.

    Examples
    --------
    >>> import separable as sep
    >>> methods_for(sep.plan([1j, 2], (2,)))[-4:]
    ('passes', 'correlate', 'fft', 'overlap')
    """
    return tuple(m.name for m in METHODS.values() if m.planned and plan.with_method(m.name))


def with_each_method(
    run: Callable[[str], NDArray[Any]], plan: Plan
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the result of each planned method that can run a filter.

    Parameters
    ----------
    run : callable
        ``(method) -> result``; called with the name of each method in turn. What it raises is raised.
    plan : Plan
        Plan of the same filter; it says which methods can run it (`methods_for`).

    Yields
    ------
    (str, ndarray)

    Examples
    --------
    >>> import separable as sep
    >>> plan = sep.plan([1j, 2], (2,), operation="correlate")
    >>> ran = with_each_method(lambda m: correlate([0.0, 1.0], [1j, 2], method=m), plan)
    >>> [m for m, _ in ran][-4:]
    ['passes', 'correlate', 'fft', 'overlap']
    """
    for name in methods_for(plan):
        yield name, run(name)


def kernels(
    ndim: int = 2, max_size: int = 7, max_rank: int = 3
) -> SearchStrategy[NDArray[np.float64]]:
    """Return a Hypothesis strategy for kernels of known rank and any scale.

    Parameters
    ----------
    ndim : int
    max_size : int
        Largest size of each axis.
    max_rank : int
        Largest number of products of vectors that a kernel is the sum of.

    Examples
    --------
    >>> kernels(ndim=3)  # doctest: +SKIP
    """
    from hypothesis import strategies as st  # optional

    sizes = st.lists(st.integers(1, max_size), min_size=ndim, max_size=ndim)
    numbers = (sizes, st.integers(1, max_rank), st.integers(0, 2**32), st.integers(-12, 12))
    return st.tuples(*numbers).map(lambda drawn: _kernel(*drawn))


def _kernel(sizes: list[int], rank: int, seed: int, exponent: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    total: Any = 0.0
    for _ in range(rank):
        term: Any = np.ones(())
        for n in sizes:
            term = np.multiply.outer(term, rng.normal(size=n))
        total = total + term
    return np.asarray(total * 10.0**exponent)
