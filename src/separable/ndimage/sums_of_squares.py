"""Square roots of sums of squares: the length of a gradient, in memory or chunk by chunk."""

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.thread_count import get_num_threads, in_parallel, slabs
from separable.ndimage.scipy_arguments import Array, is_lazy

__all__ = ["LazySquares", "SumOfSquares", "squares_of"]

CHUNK = 1 << 16  # outputs added at a time, so that they stay in the cache


def squares_of(image: Array) -> SumOfSquares | LazySquares:
    """Return a sum of squares for arrays like this one."""
    return LazySquares() if is_lazy(image) else SumOfSquares(image.shape)


class SumOfSquares:
    """Sum of the squares of several arrays.

    It is computed in double precision, so that it neither wraps nor overflows for narrower arrays.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.total: Array = np.zeros(shape, np.float64)

    def add(self, part: Array) -> None:
        """Add the squares of an array; complex ones stay complex, as in SciPy."""
        if part.dtype.kind == "c" and self.total.dtype.kind != "c":
            self.total = self.total.astype(np.complex128)
        total = self.total

        def job(rows: slice) -> None:
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                total[rows] += np.square(part[rows], dtype=total.dtype)

        self._in_parallel(job)

    def root(self) -> Array:
        """Return the square root of the sum, which it overwrites."""
        total = self.total

        def job(rows: slice) -> None:
            with np.errstate(invalid="ignore"):
                np.sqrt(total[rows], out=total[rows])

        self._in_parallel(job)
        return total

    def _in_parallel(self, job: Any) -> None:
        if self.total.ndim == 0:
            job(())
        elif self.total.size:
            parts = slabs(self.total.shape[0], self.total.size // CHUNK)
            in_parallel(job, parts, get_num_threads())


class LazySquares:
    """Root of the sum of the squares of several Dask arrays, as `SumOfSquares` computes it.

    Examples
    --------
    >>> import dask.array as da
    >>> squares = LazySquares()
    >>> squares.add(da.ones(2) * 3)
    >>> squares.add(da.ones(2) * 4)
    >>> squares.root().compute()
    array([5., 5.])
    """

    def __init__(self) -> None:
        self.parts: list[Any] = []

    def add(self, part: Any) -> None:
        """Add the squares of an array."""
        self.parts.append(part)

    def root(self) -> Any:
        """Return the square root of the sum."""
        import dask.array  # optional dependency

        first = self.parts[0]
        dtype = np.result_type(np.float64, *(p.dtype for p in self.parts))
        meta = np.empty((0,) * first.ndim, dtype)
        chunkwise: Any = dask.array.map_blocks
        return chunkwise(_root, *self.parts, dtype=dtype, meta=meta)


def _root(*parts: Any) -> Any:
    squares = SumOfSquares(parts[0].shape)
    for part in parts:
        squares.add(part)
    return squares.root()
