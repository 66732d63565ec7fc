"""Banks of filters on Dask arrays, lazily: each block is read once, and shared passes run once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import EngineError
from separable.engine.result_memory import empty
from separable.errors import ArgumentError, OutputError
from separable.factors import Factors
from separable.filter_bank import Bank, Group
from separable.filter_bank.bank_sweep import Sweep
from separable.filter_bank.sweep_groups import widest
from separable.pattern import filter_pattern
from separable.plan import plan
from separable.process_cache import ProcessCache
from separable.run import readable, store
from separable.volumes.dask_arrays import check_blocks, filter_blocks, filter_dask
from separable.volumes.halo import Block, BlockFilter, block_filter, chunkwise

__all__ = ["BankBlocks", "run_bank"]

Array = NDArray[Any]

SWEEPS_KEPT = 16  # shapes of blocks whose compiled sweeps are kept


class BankBlocks(BlockFilter):
    """The filters of a bank on blocks; the results of a sample are fields, one per band.

    Parameters
    ----------
    inner : BlockFilter
        A filter that reads as far as all kernels do.
    bank : Bank
    """

    def __init__(self, inner: BlockFilter, bank: Bank) -> None:
        out = np.dtype([(f"band {k}", bank.problem.out) for k in range(len(bank.names))])
        super().__init__(replace(inner.problem, out=out), inner.method, inner.form)
        self.inner, self.bank = inner, bank
        alone = {g.members[0] for g in bank.groups if g.graph is None}
        self.parts = {band: block_filter(chunkwise(bank.plans[band])) for band in alone}
        self._sweeps = ProcessCache(SWEEPS_KEPT)

    @property
    def filters(self) -> tuple[BlockFilter, ...]:
        """The filter that reads as far as all kernels do."""
        return (self.inner,)

    @property
    def own_bytes(self) -> int:
        """Bytes per sample of a block for the results and their copies."""
        problem = self.bank.problem
        return len(self.bank.names) * (problem.out.itemsize + problem.work.itemsize)

    @property
    def token(self) -> tuple[Any, ...]:
        """Values that identify this filter."""
        return (*self.inner.token, "bank", self.bank)

    def with_threads(self, threads: int) -> BankBlocks:
        """Return the same filters with another number of threads."""
        found = BankBlocks(self.inner.with_threads(threads), self.bank)
        found.parts = {band: part.with_threads(threads) for band, part in self.parts.items()}
        return found

    def run(self, samples: Array, block: Block, out: Array | None = None) -> Array:
        """Filter a block; parameters are those of `BlockFilter.run`."""
        region = tuple(part.stop - part.start for part in block.crop)
        result = np.empty(region, self.problem.out) if out is None else out[block.crop]
        names = self.problem.out.names
        assert names is not None
        for group in self.bank.groups:
            bands = self._bands(group, samples, block)
            for band, values in zip(group.members, bands, strict=True):
                result[names[band]] = values
        return result

    def _bands(self, group: Group, samples: Array, block: Block) -> list[Array]:
        """Return the regions of the bands of a group."""
        if group.graph is None:
            (band,) = group.members
            return [self.parts[band].run(samples, block)]
        problems = [self.bank.plans[band].problem for band in group.members]
        whole, graph = widest(problems), group.graph
        local = replace(
            whole, shape=block.shape, modes=block.modes, threads=self.inner.problem.threads
        )  # fmt: skip
        key = (group.members, block.shape, block.modes)
        sweep: Sweep = self._sweeps.get_or_build(key, lambda: Sweep(local, graph))
        made = list(empty((len(problems), *block.shape), local.work))
        try:
            sweep(np.ascontiguousarray(readable(samples, local)), made)
        except EngineError:  # this computer cannot compile, which is found at the first run
            own = [block_filter(chunkwise(self.bank.plans[band])) for band in group.members]
            return [part.run(samples, block) for part in own]
        found = []
        for values in made:
            kept = np.ascontiguousarray(values[block.crop])
            if local.out != local.work:
                stored = np.empty(kept.shape, local.out)
                store(kept, stored, local.threads)
                kept = stored
            found.append(kept)
        return found


def run_bank(bank: Bank, image: Any, out: Any, missing: dict[str, Any], progress: Any) -> Any:
    """Return the bands of a Dask array, lazily.

    With missing samples each band is a filter of its own, as in memory.

    Returns
    -------
    dask.array.Array, shape (bands, *image.shape)

    Raises
    ------
    ArgumentError
        If the array is not of the planned shape and type.
    OutputError
        If `out` is given: nothing is computed here.

    Examples
    --------
    >>> import dask.array as da, separable as sep
    >>> lazy = da.ones((20, 30), chunks=10, dtype="float32")
    >>> b = sep.bank(["gaussian:1", "log:1"], lazy.shape, "float32")
    >>> bands = b(lazy)
    >>> bands.shape, round(float(bands[0, 5, 5].compute()), 3)
    ((2, 20, 30), 1.0)
    """
    import dask.array  # optional

    array: Any = dask.array
    check_blocks(image)
    if out is not None:
        raise OutputError(
            "`out` must be left out for a Dask array; store the result with .store(...) or .to_zarr(...)"
        )
    p = bank.problem
    if tuple(image.shape) != p.shape or image.dtype != p.dtype:
        raise ArgumentError(
            f"this bank is for shape {p.shape}, {p.dtype}; got shape {tuple(image.shape)}, {image.dtype}. "
            "Make a bank for this image"
        )
    if missing or isinstance(image._meta, np.ma.MaskedArray):
        bands = []
        for single in bank.plans:
            request = single.request
            kernel = request.kernel if request.factors is None else request.factors
            bands.append(
                filter_dask(
                    image, kernel, p.out, operation=request.operation, axes=p.axes, mode=p.modes,
                    cval=p.cval, origin=request.origins, **missing,
                )
            )  # fmt: skip
        return array.stack(bands)
    if p.size == 0:
        return array.zeros(bank.shape, dtype=p.out)
    blocks = filter_blocks(image, BankBlocks(_reach(bank), bank), None)
    return array.stack([blocks[name] for name in blocks.dtype.names])


def _reach(bank: Bank) -> BlockFilter:
    """Return a filter that reads as far as all kernels of a bank do."""
    problems = [p.problem for p in bank.plans]
    taps = []
    for k in range(len(bank.problem.axes)):
        left = max(p.lefts[k] for p in problems)
        right = max(p.kernel_shape[k] - 1 - p.lefts[k] for p in problems)
        size = 2 * max(left, right) + 1
        taps.append(np.full(size, 1.0 / size))
    kernel: Any = taps[0]
    if len(taps) > 1:
        kernel = Factors.from_terms(filter_pattern(len(taps)), [taps])
    p = bank.problem
    wide = np.result_type(p.dtype.newbyteorder("="), np.float32)
    made = plan(
        kernel, p.shape, p.dtype, output=wide, axes=p.axes, mode=p.modes, cval=p.cval,
        method="separable", operation="correlate",
    )  # fmt: skip
    return block_filter(chunkwise(made))
