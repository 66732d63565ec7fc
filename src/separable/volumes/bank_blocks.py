"""Several filters of one volume whose blocks are read together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from separable.volumes.halo import Block, BlockFilter, Index, Region

__all__ = ["BankFilter"]


class BankFilter(BlockFilter):
    """Filters of the same samples; a block holds what the widest of them needs.

    It chooses slabs and reads blocks; each of its `parts` runs on its own part of a block, so that
    results are those of the filters alone.

    Parameters
    ----------
    parts : sequence of BlockFilter
        Filters along the same axes, with the same types of samples and results.

    Examples
    --------
    >>> import separable as sep
    >>> from separable.volumes.halo import block_filter
    >>> small, large = (block_filter(sep.plan([1] * n, (100,))) for n in (3, 9))
    >>> together = BankFilter([small, large])
    >>> together.block((slice(50, 60),)).shape, small.block((slice(50, 60),)).shape
    ((18,), (12,))
    """

    def __init__(self, parts: Sequence[BlockFilter]) -> None:
        widest = max(parts, key=lambda part: part.problem.kernel_shape)
        super().__init__(widest.problem, widest.method, widest.form)
        self.parts = tuple(parts)

    @property
    def bands(self) -> int:
        """Number of results."""
        return len(self.parts)

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """The filters that run on a block."""
        return tuple(one for part in self.parts for one in part.filters)

    @property
    def own_bytes(self) -> int:
        """Bytes that the largest of the filters allocates per sample of a block, beside its `filters`."""
        return max(part.own_bytes for part in self.parts)

    @property
    def token(self) -> tuple[Any, ...]:
        """Values that identify this filter."""
        return ("bank", *(part.token for part in self.parts))

    def with_threads(self, threads: int) -> BankFilter:
        """Return the same filters with another number of threads."""
        return BankFilter([part.with_threads(threads) for part in self.parts])

    def block(self, region: Region) -> Block:
        """Return the block that the results of all filters are computed from; it has no border modes."""
        blocks = [part.block(region) for part in self.parts]
        starts = tuple(min(ends) for ends in zip(*(b.starts for b in blocks), strict=True))
        stops = tuple(max(ends) for ends in zip(*(b.stops for b in blocks), strict=True))
        inner = zip(blocks[0].crop, blocks[0].starts, starts, strict=True)
        crop = tuple(slice(c.start + a - b, c.stop + a - b) for c, a, b in inner)
        return Block(starts, stops, (), crop)

    def samples(self, axis: int, start: int, stop: int) -> Index:
        """Return the samples at the positions ``start .. stop - 1`` of an axis."""
        return self.parts[0].samples(axis, start, stop)
