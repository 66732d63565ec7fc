"""The common part of schedules of compiled passes: a record, and the tables that it refers to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.compiled.sweep_params import array_address
from separable.engine.compiled.thread_pool import run
from separable.process_cache import ProcessBound


class PassSchedule(ProcessBound):
    """The record of passes over arrays of one shape and type.

    Parameters
    ----------
    kind : dtype
        Data type of the record, whose fields are words; it has `source`, `target` and `scratch`.
    """

    shared_size = 0
    threads: int

    def __init__(self, kind: np.dtype[Any]) -> None:
        self.record = np.zeros((), kind)
        self._tables: list[NDArray[Any]] = []

    def run(self, source: NDArray[Any], target: NDArray[Any]) -> None:
        """Run the passes."""
        run(self, (array_address(source), array_address(target)), 0, self.threads)

    def fill(self, words: NDArray[np.int64], source: Any, target: int, scratch: int) -> None:
        """Write the record of one run."""
        record = words[: self.record.nbytes // words.itemsize].view(self.record.dtype)[0:1]
        record[0] = self.record
        record["source"], record["target"] = source
        record["scratch"] = scratch

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self.record[name] = value

    def _add(self, table: NDArray[Any]) -> int:
        """Keep a table alive with the record; return its address."""
        kept = np.ascontiguousarray(table)
        self._tables.append(kept)
        return int(kept.ctypes.data)
