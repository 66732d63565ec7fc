"""ReadyJob: a job that is run again and again, with all of its record written but for two addresses.

`thread_pool.run` writes the record of a layer in Python, which for a layer of a few microseconds takes as long as the
layer. A ready job keeps the complete record; a run is one call of compiled code, which copies the record to memory of its
own and writes the addresses of the source, the target and the memory.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.availability import failed, is_failure
from separable.process_cache import ProcessBound

from . import thread_pool
from .jit import kernel
from .sweep_params import invoke, move, set_word, word
from .thread_pool import COUNTER_OFFSET, HEAD, settle_stack
from .work_items import start_counters

# Words of a job; behind them lie pairs (word of the record, bytes).
FUNCTION, SOURCE_WORD, TARGET_WORD, ZERO_BYTES, RELATIVE_COUNT, RECORD, RECORD_BYTES = range(7)
JOB_WORDS = 8


@kernel
def run_ready(job, memory, source, target):
    """Run a ready job in a piece of scratch memory, on the calling thread."""
    settle_stack()
    move(memory, word(job, RECORD), word(job, RECORD_BYTES))
    set_word(memory, word(job, SOURCE_WORD), source)
    set_word(memory, word(job, TARGET_WORD), target)
    for i in range(word(job, RELATIVE_COUNT)):
        # Words of the record that hold an address in this memory.
        set_word(
            memory, word(job, JOB_WORDS + 2 * i), memory + HEAD + word(job, JOB_WORDS + 2 * i + 1)
        )
    for i in range(word(job, ZERO_BYTES) // 8):
        set_word(memory + HEAD, i, 0)
    counter = memory + COUNTER_OFFSET
    start_counters(counter, 1)
    invoke(word(job, FUNCTION), (memory, counter, 0))


class ReadyJob(ProcessBound):
    """A job with a complete record.

    Parameters
    ----------
    schedule : KernelPlan
        Plan that the calling thread runs alone.
    constants : tuple of int
        Addresses of weights, in the order of the record's fields.
    """

    __slots__ = ("_address", "_kept", "_size")

    def __init__(self, schedule: Any, constants: tuple[int, ...]) -> None:
        template = schedule.template(constants)
        self._size = schedule.shared_size + schedule.scratch_size
        record = np.ascontiguousarray(template.words)
        assert record.nbytes <= COUNTER_OFFSET
        relative = [n for pair in template.relative for n in pair]
        job = np.zeros(JOB_WORDS + len(relative), np.int64)
        values = {
            FUNCTION: schedule.function, SOURCE_WORD: template.source, TARGET_WORD: template.target,
            ZERO_BYTES: template.zero_bytes, RELATIVE_COUNT: len(template.relative),
            RECORD: record.ctypes.data, RECORD_BYTES: record.nbytes,
        }  # fmt: skip
        job[list(values)] = list(values.values())
        job[JOB_WORDS:] = relative
        self._address = job.ctypes.data
        self._kept = schedule, record, job

    def __call__(self, source: int, target: int) -> None:
        """Run the job on two addresses."""
        scratch = thread_pool.take_scratch(self._size)
        try:
            run_ready(self._address, scratch.address, source, target)
        except Exception as error:  # the first call compiles
            if is_failure(error):
                raise failed(error) from error
            raise
        thread_pool.give_scratch(scratch)
