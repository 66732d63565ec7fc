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
from .jit import address, kernel
from .numba_api import types
from .sweep_params import invoke, move, set_word, word
from .thread_pool import (
    COUNTER_OFFSET,
    HEAD,
    TEAM_COUNTER,
    TEAM_FUNCTION,
    TEAM_PARAMS,
    TEAM_SLOTS,
    TEAM_TAKEN,
    TEAM_WORDS,
    settle_stack,
    take_part,
)

# Words of a job; behind them lie pairs (word of the record, bytes), and the record.
(
    FUNCTION, START, TEAM, SLOTS, TAKE_PART, SOURCE_WORD, TARGET_WORD, ZERO_BYTES, RELATIVE_COUNT, RECORD,
    RECORD_BYTES,
) = range(11)  # fmt: skip
JOB_WORDS = 16
TEAM_OFFSET = COUNTER_OFFSET - 2 * TEAM_WORDS * 8
"""Where the words of a team lie in the memory of a run: on cache lines of their own before the counter."""


@kernel
def run_ready(job, memory, source, target):
    """Run a ready job in a piece of scratch memory, on the calling thread or as a part of a team."""
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
    set_word(counter, 0, 0)
    start = word(job, START)
    if start == 0:
        invoke(word(job, FUNCTION), (memory, counter, 0))
        return
    team = memory + TEAM_OFFSET
    set_word(team, TEAM_FUNCTION, word(job, FUNCTION))
    set_word(team, TEAM_PARAMS, memory)
    set_word(team, TEAM_COUNTER, counter)
    set_word(team, TEAM_SLOTS, word(job, SLOTS))
    set_word(team, TEAM_TAKEN, 0)
    invoke(start, (word(job, TAKE_PART), team, word(job, TEAM), 0))


class ReadyJob(ProcessBound):
    """A job with a complete record.

    Parameters
    ----------
    schedule : KernelPlan
    constants : tuple of int
        Addresses of weights, in the order of the record's fields.
    threads : int
        Largest number of threads.
    start : int
        Address of a function like OpenMP's ``GOMP_parallel``, see `thread_pool.run`. On the engine's own threads ready
        jobs do not run.
    """

    __slots__ = ("_address", "_kept", "_size")

    def __init__(self, schedule: Any, constants: tuple[int, ...], threads: int, start: int) -> None:
        template = schedule.template(constants)
        slots = min(threads, schedule.threads)
        assert slots == 1 or start != 0
        self._size = schedule.shared_size + schedule.scratch_size * slots
        record = np.ascontiguousarray(template.words)
        assert record.nbytes <= TEAM_OFFSET
        relative = [n for pair in template.relative for n in pair]
        job = np.zeros(JOB_WORDS + len(relative), np.int64)
        values = {
            FUNCTION: schedule.function, SOURCE_WORD: template.source, TARGET_WORD: template.target,
            ZERO_BYTES: template.zero_bytes, RELATIVE_COUNT: len(template.relative),
            RECORD: record.ctypes.data, RECORD_BYTES: record.nbytes,
        }  # fmt: skip
        if slots > 1:  # the whole team: changing its size would start new threads each time
            part = address(take_part, (types.int64,))
            values |= {START: start, TEAM: threads, SLOTS: slots, TAKE_PART: part}
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
