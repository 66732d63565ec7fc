"""The engine's own pool of threads.

Workers wait in compiled code that has released the interpreter: they watch the job slot, a small piece of shared
memory, for a short while and then sleep.  A job is offered with a number of open slots.  A worker that takes one runs the
job's function, which takes work items until none is left; so nobody waits for a worker that wakes late.  One job runs
in the pool at a time; a Python thread that finds it busy runs its own job alone.

Beside another library's threads an own pool loses: OpenMP's workers keep looking for work for milliseconds after
theirs is done, on the cores that the job needs.  A caller between calls of such a library passes the address of its
function that starts a team of threads, and the job runs on those.
"""

# Kernels are typed by Numba, once for each combination of dtypes.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from separable.engine.availability import EngineError, compiling, failed, is_failure
from separable.process_cache import ProcessBound
from separable.system import after_fork, yield_function

from .jit import address, intrinsic, kernel, part, stage
from .numba_api import types, without_literals
from .simd import IS_X86, LINE_BYTES, emit_call
from .sweep_params import (
    DATA_OFFSET,
    FIELDS,
    SWEEP,
    array_address,
    invoke,
    larger,
    move,
    params_at,
    set_word,
    word,
)
from .work_items import start_counters

if TYPE_CHECKING:
    from .sweep_builder import SweepSchedule

# Words of the job slot, each on a cache line of its own where threads write it.
OPEN_SLOTS = 0  # workers that the job still wants
DONE = 16  # workers that have finished it
STOP = 32  # 1: all workers end
FUNCTION, PARAMS_ADDRESS, COUNTER = 48, 49, 50  # the job: function(params, counter, worker)
JOB_SLOT_WORDS = 64
SPINS = 4000
"""Number of looks at the job slot before a worker sleeps: about 0.1 ms."""

_WORD = ir.IntType(64)
_BYTES = ir.IntType(8).as_pointer()


def _cell(builder: Any, arguments: Any) -> Any:
    base = builder.inttoptr(arguments[0], _WORD.as_pointer())
    return builder.gep(base, [arguments[1]])


@intrinsic
def atomic_load(_typing: Any, address: Any, index: Any) -> Any:
    """Return a word that other threads write; later reads are not moved before it."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_cell(builder, arguments), "seq_cst", 8)

    return types.int64(types.int64, types.int64), emit


@intrinsic
def atomic_add(_typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Add to a word and return its former value."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _cell(builder, arguments), arguments[2], "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), emit


@intrinsic
def atomic_swap(_typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Set a word and return its former value."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("xchg", _cell(builder, arguments), arguments[2], "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), emit


@intrinsic
def pause(_typing: Any) -> Any:
    """Tell the CPU that this is a waiting loop."""

    def emit(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        if IS_X86:
            emit_call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        return context.get_dummy_value()

    return types.none(), emit


@intrinsic
def give_way(_typing: Any) -> Any:
    """Let another thread run on this core, where the system has a call for it."""

    def emit(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        if yield_function():
            emit_call(builder, yield_function(), ir.IntType(32), [])
        return context.get_dummy_value()

    return types.none(), emit


PAGE, BELOW_PAGE = 4096, 64
"""Bytes of a page, and how far below the end of one a job's stack begins."""


@intrinsic
def settle_stack(_typing: Any) -> Any:
    """Lower the stack pointer so that the frames of what is called from here on begin just below the end of a page.

    Compiled code keeps vectors on the stack, at addresses that are multiples of 16 bytes. One that lies across the end of a page
    takes 20 cycles to store or load, and where the frames lie is chance: a Gaussian on one thread took 53 cycles per vector
    instead of 31 in every tenth process, and always on the second thread.
    """

    def emit(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        taken = ir.FunctionType(_WORD, [_WORD])
        used = ir.FunctionType(ir.VoidType(), [_BYTES])

        def lower(size: Any) -> Any:
            # No instructions: LLVM must neither know the size nor leave out the memory as unused.
            size = builder.asm(taken, "", "=r,0", [size], side_effect=True)
            found = builder.alloca(ir.IntType(8), size=size)
            found.align = 16
            builder.asm(used, "", "r,~{memory}", [found], side_effect=True)
            return builder.ptrtoint(found, _WORD)

        here = lower(_WORD(16))
        lower(builder.and_(builder.sub(here, _WORD(PAGE - BELOW_PAGE)), _WORD(PAGE - 1)))
        return context.get_dummy_value()

    return types.none(), emit


HEAD = 4096
"""Bytes of a job's record, with the counters of work items on their last cache line."""
COUNTER_OFFSET = HEAD - 64
_RECORD_BYTES = SWEEP.itemsize
_SOURCE, _TARGET, _SCRATCH, _STREAM, _PREFIX = (
    FIELDS.index(n) for n in ("source", "target", "scratch", "stream", "unaligned_prefix")
)


@without_literals
@part
def _begin(params_address, record, source_cell, target_cell, threads):
    """Start the counters of work items, and write the record of one run of a sweep.

    ``record`` is the address of the sweep's record, 0 if the caller has written it.  The cells are the addresses of the
    words that hold the addresses of the two arrays.
    """
    start_counters(params_address + COUNTER_OFFSET, threads)
    if record == 0:
        return
    move(params_address, record, _RECORD_BYTES)
    target = word(target_cell, 0)
    set_word(params_address, _SOURCE, word(source_cell, 0))
    set_word(params_address, _TARGET, target)
    set_word(params_address, _SCRATCH, params_address + HEAD)
    params = params_at(params_address)
    # Stores past the caches need vectors at multiples of their size: the first columns are stored otherwise.
    if params.stream:
        if target % params.target_item == 0:
            prefix = (LINE_BYTES - target % LINE_BYTES) % LINE_BYTES
            set_word(params_address, _PREFIX, prefix // params.target_item)
        else:
            set_word(params_address, _STREAM, 0)


@kernel
def run_alone(function, params_address, record, source_cell, target_cell):
    """Run a job on the calling thread."""
    settle_stack()
    _begin(params_address, record, source_cell, target_cell, 1)
    invoke(function, (params_address, params_address + COUNTER_OFFSET, 0))


@kernel
def run_shared(function, params_address, record, source_cell, target_cell, job_slot, open_slots):
    """Offer a job to ``open_slots`` workers, run it, and wait for the workers that took it."""
    settle_stack()
    _begin(params_address, record, source_cell, target_cell, open_slots + 1)
    counter = params_address + COUNTER_OFFSET
    # The job is complete before OPEN_SLOTS is set: workers read it only afterwards.
    set_word(job_slot, FUNCTION, function)
    set_word(job_slot, PARAMS_ADDRESS, params_address)
    set_word(job_slot, COUNTER, counter)
    atomic_swap(job_slot, DONE, 0)
    atomic_swap(job_slot, OPEN_SLOTS, open_slots)
    invoke(function, (params_address, counter, 0))
    # Close the slots that nobody took; only the others are waited for.
    left = larger(atomic_swap(job_slot, OPEN_SLOTS, 0), 0)
    looks = 0
    while atomic_load(job_slot, DONE) < open_slots - left:
        pause()
        looks += 1
        if looks > SPINS:
            give_way()


# Words of a job for another library's team: the job, the number of workers it wants, and of those that came.
TEAM_FUNCTION, TEAM_PARAMS, TEAM_COUNTER, TEAM_SLOTS, TEAM_TAKEN, TEAM_WORDS = 0, 1, 2, 3, 8, 16


@stage
def take_part(team):
    """Run a job as one thread of a team; a thread that comes when all slots are taken is not needed."""
    settle_stack()
    worker = atomic_add(team, TEAM_TAKEN, 1)
    if worker < word(team, TEAM_SLOTS):
        invoke(
            word(team, TEAM_FUNCTION), (word(team, TEAM_PARAMS), word(team, TEAM_COUNTER), worker)
        )


@kernel
def run_in_team(start, part, team, threads):
    """Run a job on a team of threads started by a function like ``GOMP_parallel(function, data, threads, flags)``."""
    start_counters(word(team, TEAM_COUNTER), word(team, TEAM_SLOTS))
    invoke(start, (part, team, threads, 0))


@kernel
def watch(job_slot, spins):
    """Run jobs as they are offered, until none was offered for ``spins`` looks."""
    settle_stack()
    looks = 0
    while looks < spins and atomic_load(job_slot, STOP) == 0:
        if atomic_load(job_slot, OPEN_SLOTS) > 0:
            # Numbers are given from the highest down: the caller is worker 0.  One that finds 0 or less came late.
            worker = atomic_add(job_slot, OPEN_SLOTS, -1)
            if worker > 0:
                function, params_address = word(job_slot, FUNCTION), word(job_slot, PARAMS_ADDRESS)
                invoke(function, (params_address, word(job_slot, COUNTER), worker))
                atomic_add(job_slot, DONE, 1)
                looks = 0
        pause()
        looks += 1


class _Pool(ProcessBound):
    """Threads that share one job slot."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self._wake = threading.Condition()
        self._sleeping = 0
        self._threads: list[threading.Thread] = []
        self._job_slot = np.zeros(JOB_SLOT_WORDS + 16, np.int64)
        self.address = (self._job_slot.ctypes.data + 127) & ~127
        self._words = self._job_slot[(self.address - self._job_slot.ctypes.data) // 8 :]

    def ready(self, open_slots: int) -> None:
        """Start missing workers and wake sleeping ones, ``open_slots`` in all; called by the holder of ``busy``."""
        while len(self._threads) < open_slots:
            name = f"separable-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        if self._sleeping:
            with self._wake:
                self._wake.notify(open_slots)

    def _work(self) -> None:
        while not self._words[STOP]:
            try:
                with compiling:
                    watch(self.address, SPINS)
            except EngineError:  # the slot stays open, and the caller does the work
                return
            with self._wake:
                self._sleeping += 1
                if self._words[OPEN_SLOTS] <= 0 and not self._words[STOP]:
                    self._wake.wait()
                self._sleeping -= 1

    def stop(self) -> None:
        """End all workers."""
        self._words[STOP] = 1
        with self._wake:
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=1.0)


class Scratch(ProcessBound):
    """Memory for one running job: a copy of its record, its counter, and the workers' buffers."""

    def __init__(self, size: int) -> None:
        self.size = size
        tail = 8 * TEAM_WORDS
        self._memory: NDArray[np.uint8] = np.empty(size + HEAD + tail + 128, np.uint8)
        skip = -self._memory.ctypes.data % 64
        self.address = self._memory.ctypes.data + skip
        self.words = self._memory[skip : skip + HEAD].view(np.int64)
        self.body = self._memory[skip + HEAD : skip + HEAD + size]
        end = skip + HEAD + (size + 63 & ~63)
        self.team_address = self._memory.ctypes.data + end
        self.team = self._memory[end : end + tail].view(np.int64)

    def cells(self, image: NDArray[Any], out: NDArray[Any]) -> tuple[int, int]:
        """Return the addresses of two words that hold the addresses of two arrays' first elements."""
        if DATA_OFFSET:
            return id(image) + DATA_OFFSET, id(out) + DATA_OFFSET
        self.team[:2] = array_address(image), array_address(out)  # a sweep has no team
        return self.team_address, self.team_address + 8


KEPT_BYTES = 48 << 20
"""Scratch memory that is kept for later jobs."""
KEPT_SMALL, SMALL_BYTES = 8, 1 << 20
"""As many pieces up to this size are kept without counting how much there is in all."""
_free: list[Scratch] = []
_pool = _Pool()
poison = False
"""Fill scratch memory with NaN before each job (for tests)."""


def take_scratch(size: int) -> Scratch:
    """Return scratch memory of at least ``size`` bytes that no other job uses."""
    try:
        scratch = _free.pop()
    except IndexError:
        scratch = Scratch(size)
    if scratch.size < size:
        scratch = Scratch(size)
    if poison:
        scratch.body[:] = 0xFF
    return scratch


def give_scratch(scratch: Scratch) -> None:
    """Keep scratch memory for the next job, unless enough is kept."""
    few = len(_free) < KEPT_SMALL and scratch.size <= SMALL_BYTES
    if few or sum(s.size for s in tuple(_free)) + scratch.size <= KEPT_BYTES:
        _free.append(scratch)


def run_sweep(
    schedule: SweepSchedule, image: NDArray[Any], out: NDArray[Any], threads: int
) -> None:
    """Run a prepared sweep on two arrays, on up to ``threads`` threads."""
    threads = min(threads, schedule.threads)
    try:
        if threads == 1 or not _pool.busy.acquire(blocking=False):
            scratch = take_scratch(schedule.scratch_size)
            source, target = scratch.cells(image, out)
            run_alone(schedule.function, scratch.address, schedule.address, source, target)
        else:
            try:
                scratch = take_scratch(schedule.scratch_size * threads)
                source, target = scratch.cells(image, out)
                _pool.ready(threads - 1)
                run_shared(
                    schedule.function, scratch.address, schedule.address, source, target,
                    _pool.address, threads - 1,
                )  # fmt: skip
            finally:
                _pool.busy.release()
    except Exception as error:  # the first call of each kind compiles
        if is_failure(error):
            raise failed(error) from error
        raise
    give_scratch(scratch)


def run(schedule: Any, source: Any, target: int, threads: int, start: int = 0) -> None:
    """Run a prepared layer, whose Python code writes its record, on up to ``threads`` threads.

    Parameters
    ----------
    schedule : PackedLayer or alike
        What `fill` writes the record of.
    source, target : Any, int
        What `fill` takes: the arrays it reads, and the address of the result.
    threads : int
        Largest number of threads.
    start : int
        Address of a function like OpenMP's ``GOMP_parallel``, whose ``threads`` threads run the job; 0 for the
        engine's own pool.
    """
    team, threads = threads, min(threads, schedule.threads)
    lent = threads > 1 and start != 0
    shared = threads > 1 and not lent and _pool.busy.acquire(blocking=False)
    try:
        open_slots = threads - 1 if shared or lent else 0
        scratch = take_scratch(schedule.shared_size + schedule.scratch_size * (open_slots + 1))
        schedule.fill(scratch.words, source, target, scratch.address + HEAD)
        if shared:
            _pool.ready(open_slots)
            run_shared(
                schedule.function, scratch.address, 0, 0, 0, _pool.address, open_slots
            )  # fmt: skip
        elif lent:  # the whole team: changing its size would start new threads each time
            counter = scratch.address + COUNTER_OFFSET
            scratch.team[:5] = schedule.function, scratch.address, counter, threads, 0
            scratch.team[TEAM_TAKEN] = 0
            run_in_team(start, address(take_part, (types.int64,)), scratch.team_address, team)
        else:
            run_alone(schedule.function, scratch.address, 0, 0, 0)
    except Exception as error:  # the first call of each kind compiles
        if is_failure(error):
            raise failed(error) from error
        raise
    finally:
        if shared:
            _pool.busy.release()
    give_scratch(scratch)


def _after_fork() -> None:
    """Give the child a pool of its own: threads and locks do not survive a fork."""
    global _pool, _free
    _pool, _free = _Pool(), []


after_fork(_after_fork)
atexit.register(lambda: _pool.stop())
