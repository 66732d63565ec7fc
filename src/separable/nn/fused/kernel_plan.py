"""KernelPlan: the record of one compiled layer for one shape of input; and access to compiled code.

No other module of this package imports compiled code, because that imports Numba, which takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from separable.engine.availability import compiling
from separable.process_cache import ProcessBound

__all__ = ["KernelPlan", "Kernels", "RunTemplate", "kernels"]

SOURCE, TARGET, SCRATCH = 0, 1, 6
RUN_FIELDS = 7
"""Fields at the start of each record that change from run to run: six arrays and the scratch memory."""


class RunTemplate(NamedTuple):
    """Record of a run without the addresses that change from run to run.

    Attributes
    ----------
    words : ndarray of int64
        The record.
    source, target : int
        Words that hold the addresses of the input and of the result.
    relative : tuple of (int, int)
        Words that hold an address in the memory of the run, and its distance from the beginning in bytes.
    zero_bytes : int
        Bytes at the beginning of the memory of the run that are 0 before it.
    """

    words: NDArray[np.int64]
    source: int
    target: int
    relative: tuple[tuple[int, int], ...]
    zero_bytes: int = 0


class KernelPlan(ProcessBound):
    """Record of one compiled layer for one shape of input, and the tables that it refers to.

    Attributes
    ----------
    function : int
        Address of the compiled kernel.
    scratch_size : int
        Bytes of scratch memory per thread.
    shared_size : int
        Bytes of memory of a run that all threads share, before their scratch memory.
    threads : int
        Number of threads that have work worth waking them for.
    """

    function: int
    scratch_size: int
    shared_size = 0
    threads: int

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._record = np.zeros(1, dtype)
        self._words = self._record.view(np.int64)
        self._tables: list[NDArray[Any]] = []

    @property
    def words(self) -> NDArray[np.int64]:
        """The record as int64 words, without the addresses of a run."""
        return self._words

    def words_with_stride(self, stride: int) -> NDArray[np.int64]:
        """Return the record for scratch memory of `stride` bytes per thread, at least `scratch_size`."""
        record = self._record.copy()
        if "scratch_size" in (record.dtype.names or ()):
            record["scratch_size"] = stride
        return record.view(np.int64)

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self._record[name] = value

    def _add_table(self, table: NDArray[Any]) -> int:
        """Keep a table alive with the plan; return its address."""
        contiguous = np.ascontiguousarray(table)
        self._tables.append(contiguous)
        return int(contiguous.ctypes.data)

    def fill(
        self, words: NDArray[np.int64], source: tuple[int, ...], target: int, scratch: int
    ) -> None:
        """Write the record of one run.

        Parameters
        ----------
        words : ndarray of int64
            Memory for the record.
        source : tuple of int
            Addresses of the input and of the arrays of weights, in the order of the record's fields.
        target, scratch : int
            Addresses of the output and of the scratch memory.
        """
        words[: self._words.size] = self._words
        words[:RUN_FIELDS] = (source[0], target, *source[1:], scratch)

    def template(self, constants: tuple[int, ...]) -> RunTemplate:
        """Return the record of all runs with the same weights.

        Parameters
        ----------
        constants : tuple of int
            Addresses of the arrays of weights, in the order of the record's fields.
        """
        words = self._words.copy()
        words[:RUN_FIELDS] = (0, 0, *constants, 0)
        return RunTemplate(words, SOURCE, TARGET, ((SCRATCH, 0),))


@dataclass(frozen=True)
class Kernels:
    """Access to compiled kernels and the constants that plans depend on.

    Attributes
    ----------
    lanes : int
        Numbers in a vector of float32.
    pixels : int
        Outputs of a depthwise block.
    vectors : int
        Largest number of vectors of output channels of a pointwise block.
    run : callable
        Runs a plan on the threads of the engine or of OpenMP.
    ready : callable
        Makes a plan with its weights ready to be run again and again, see `ReadyJob`.
    """

    lanes: int
    pixels: int
    vectors: int
    run: Callable[..., None]
    ready: Callable[..., Any]
    _modules: tuple[ModuleType, ...]
    _address: Callable[[Any], int]

    @property
    def panel(self) -> int:
        """Output channels of a panel of pointwise weights."""
        return self.vectors * self.lanes

    def constant(self, name: str) -> Any:
        """Return a constant of the compiled code: the dtype of a record, or a number."""
        return next(getattr(m, name) for m in self._modules if hasattr(m, name))

    def address(self, name: str) -> int:
        """Return the address of a kernel, which is compiled if it was never needed before."""
        return self._address(self.constant(name))


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """Return the compiled kernels.

    Raises
    ------
    EngineError
        If Numba cannot be used.
    """
    with compiling:  # imported here for start-up time: Numba takes half a second
        from separable.engine.compiled import jit, numba_api, ready_job, thread_pool
        from separable.nn.fused.compiled import (
            copy_kernels,
            dense_conv_kernels,
            dense_params,
            depthwise_kernels,
            elementwise_kernels,
            excitation_kernels,
            gradient_kernels,
            inverted_residual_kernels,
            layer_blocks,
            layer_kernels,
            layer_params,
            layout_kernels,
            norm_kernels,
            norm_rows,
            normalisation_kernels,
            pointwise_kernels,
            pooling_kernels,
            program_kernels,
            simd_ops,
            spatial_kernels,
            split_depthwise_kernels,
            winograd_kernels,
        )

        signature = (numba_api.types.int64,) * 3  # address of the record, counter, thread
        modules = (
            layer_kernels, layer_params, depthwise_kernels, gradient_kernels, layout_kernels, spatial_kernels, dense_conv_kernels,
            dense_params, pointwise_kernels, inverted_residual_kernels, split_depthwise_kernels, program_kernels,
            winograd_kernels, elementwise_kernels, pooling_kernels, copy_kernels, normalisation_kernels,
            excitation_kernels, norm_kernels, norm_rows,
        )  # fmt: skip
        return Kernels(
            simd_ops.LANES, layer_blocks.PIXELS, layer_blocks.VECTORS, thread_pool.run,
            ready_job.ReadyJob, modules,
            lambda kernel: jit.address(kernel, signature),
        )  # fmt: skip
