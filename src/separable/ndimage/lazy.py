"""What the filters of Dask arrays do sample by sample: the same functions, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["LazySquares", "by_chunks"]


def by_chunks(function: Callable[..., Any], image: Any, dtype: np.dtype[Any]) -> Any:
    """Return, lazily, ``function(chunk, dtype)`` of every chunk.

    Examples
    --------
    >>> import dask.array as da
    >>> by_chunks(np.ndarray.astype, da.arange(3, chunks=2), np.dtype(bool)).compute()
    array([False,  True,  True])
    """
    meta = np.empty((0,) * image.ndim, dtype)
    return image.map_blocks(function, dtype, dtype=dtype, meta=meta)


class LazySquares:
    """The root of the sum of the squares of several Dask arrays, as of `SumOfSquares`.

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
        import dask.array

        first = self.parts[0]
        dtype = np.result_type(np.float64, *(p.dtype for p in self.parts))
        meta = np.empty((0,) * first.ndim, dtype)
        chunkwise: Any = dask.array.map_blocks
        return chunkwise(_root, *self.parts, dtype=dtype, meta=meta)


def _root(*parts: Any) -> Any:
    from separable.ndimage.apply import SumOfSquares

    squares = SumOfSquares(parts[0].shape)
    for part in parts:
        squares.add(part)
    return squares.root()
