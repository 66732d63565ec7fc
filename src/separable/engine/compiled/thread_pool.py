"""A pool of threads of the engine's own.

Workers wait in compiled code that has released the interpreter: they watch a mailbox for a short while and
then sleep.  A job is posted as a number of free seats; whoever takes a seat runs the job's function, which
claims items until none is left, so that a worker that wakes late is never waited for.  One job runs in the pool at
a time; a Python thread that finds it busy runs its own job alone.

Beside another library's threads a pool of one's own loses: OpenMP's workers keep looking for work for
milliseconds after theirs is done, on the cores that the job needs. Who runs between calls of such
a library gives its function that starts a team, and the job runs on that library's threads.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import atexit
import threading
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from separable.engine.availability import EngineError, compiling, failed, is_failure
from separable.process_cache import ProcessBound
from separable.system import after_fork, yield_function

from .jit import address, intrinsic, kernel, stage
from .numba_api import types
from .simd import IS_X86, emit_call
from .sweep_params import invoke, most, set_word, word

# Words of the mailbox, each on a cache line of its own where threads write it.
SEATS, DONE, STOP, FUNCTION, PLAN_ADDRESS, COUNTER, MAILBOX_WORDS = 0, 16, 32, 48, 49, 50, 64
SPINS = 4000
"""How often a worker looks at the mailbox before it sleeps: some 0.1 ms."""

_WORD = ir.IntType(64)


def _cell(builder: Any, arguments: Any) -> Any:
    base = builder.inttoptr(arguments[0], _WORD.as_pointer())
    return builder.gep(base, [arguments[1]])


@intrinsic
def atomic_load(_typing: Any, address: Any, index: Any) -> Any:
    """Return a word that other threads write; later reads are not done before it."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_cell(builder, arguments), "seq_cst", 8)

    return types.int64(types.int64, types.int64), emit


@intrinsic
def atomic_add(_typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Add to a word; return its former value."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _cell(builder, arguments), arguments[2], "seq_cst")

    return types.int64(types.int64, types.int64, types.int64), emit


@intrinsic
def atomic_swap(_typing: Any, address: Any, index: Any, value: Any) -> Any:
    """Set a word; return its former value."""

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


@kernel
def run_alone(function, plan_address, counter):
    """Run a job on the calling thread."""
    invoke(function, (plan_address, counter, 0))


@kernel
def run_shared(function, plan_address, counter, mailbox, seats):
    """Offer seats of a job, run it, and wait for those who took one."""
    set_word(mailbox, FUNCTION, function)
    set_word(mailbox, PLAN_ADDRESS, plan_address)
    set_word(mailbox, COUNTER, counter)
    atomic_swap(mailbox, DONE, 0)
    atomic_swap(mailbox, SEATS, seats)
    invoke(function, (plan_address, counter, 0))
    left = most(atomic_swap(mailbox, SEATS, 0), 0)
    looks = 0
    while atomic_load(mailbox, DONE) < seats - left:
        pause()
        looks += 1
        if looks > SPINS:
            give_way()


# Words of a team's job.
TEAM_FUNCTION, TEAM_PLAN, TEAM_COUNTER, TEAM_SEATS, TEAM_TAKEN, TEAM_WORDS = 0, 1, 2, 3, 8, 16


@stage
def take_part(team):
    """Run a job as one thread of a team: who comes first sits first, who finds no seat is not needed."""
    seat = atomic_add(team, TEAM_TAKEN, 1)
    if seat < word(team, TEAM_SEATS):
        invoke(word(team, TEAM_FUNCTION), (word(team, TEAM_PLAN), word(team, TEAM_COUNTER), seat))


@kernel
def run_in_team(start, part, team, threads):
    """Have a team do a job by a function like ``GOMP_parallel(function, data, threads, flags)``."""
    invoke(start, (part, team, threads, 0))


@kernel
def watch(mailbox, spins):
    """Take seats as they are offered, until nothing was offered for a while."""
    looks = 0
    while looks < spins and atomic_load(mailbox, STOP) == 0:
        if atomic_load(mailbox, SEATS) > 0:
            seat = atomic_add(mailbox, SEATS, -1)
            if seat > 0:
                function, plan_address = word(mailbox, FUNCTION), word(mailbox, PLAN_ADDRESS)
                invoke(function, (plan_address, word(mailbox, COUNTER), seat))
                atomic_add(mailbox, DONE, 1)
                looks = 0
        pause()
        looks += 1


class _Pool(ProcessBound):
    """Threads that share one mailbox."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self._wake = threading.Condition()
        self._sleeping = 0
        self._threads: list[threading.Thread] = []
        self._mailbox = np.zeros(MAILBOX_WORDS + 16, np.int64)
        self.address = (self._mailbox.ctypes.data + 127) & ~127
        self._words = self._mailbox[(self.address - self._mailbox.ctypes.data) // 8 :]

    def ready(self, seats: int) -> None:
        """See to it that ``seats`` workers exist and are awake; called by the holder of ``busy``."""
        while len(self._threads) < seats:
            name = f"separable-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        if self._sleeping:
            with self._wake:
                self._wake.notify(seats)

    def _work(self) -> None:
        while not self._words[STOP]:
            try:
                with compiling:
                    watch(self.address, SPINS)
            except EngineError:  # the seat stays free, and who offered it does the work
                return
            with self._wake:
                self._sleeping += 1
                if self._words[SEATS] <= 0 and not self._words[STOP]:
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
    """Memory for one running job: a copy of its plan, its counter, and the workers' buffers."""

    HEAD = 4096

    def __init__(self, size: int) -> None:
        self.size = size
        tail = 8 * TEAM_WORDS
        self._memory: NDArray[np.uint8] = np.empty(size + self.HEAD + tail + 128, np.uint8)
        skip = -self._memory.ctypes.data % 64
        self.address = self._memory.ctypes.data + skip
        self.words = self._memory[skip : skip + self.HEAD].view(np.int64)
        self.body = self._memory[skip + self.HEAD : skip + self.HEAD + size]
        behind = skip + self.HEAD + (size + 63 & ~63)
        self.team_address = self._memory.ctypes.data + behind
        self.team = self._memory[behind : behind + tail].view(np.int64)


KEPT_BYTES = 48 << 20
_free: list[Scratch] = []
_pool = _Pool()
poison = False
"""Fill scratch memory with NaN before each job (for tests)."""


def _take(size: int) -> Scratch:
    """Return scratch memory of at least ``size`` bytes that no other job uses."""
    try:
        held = _free.pop()
    except IndexError:
        return Scratch(size)
    return held if held.size >= size else Scratch(size)


def _give(scratch: Scratch) -> None:
    """Keep scratch memory for the next job, unless enough is kept."""
    if sum(s.size for s in tuple(_free)) + scratch.size <= KEPT_BYTES:
        _free.append(scratch)


def run(schedule: Any, source: int, target: int, threads: int, start: int = 0) -> None:
    """Run a prepared sweep on the arrays at two addresses, on up to ``threads`` threads.

    ``start`` is the address of a function like OpenMP's ``GOMP_parallel``, whose ``threads`` threads then
    run it; 0 for the engine's own.
    """
    team, threads = threads, min(threads, schedule.threads)
    lent = threads > 1 and start != 0
    shared = threads > 1 and not lent and _pool.busy.acquire(blocking=False)
    try:
        seats = threads - 1 if shared or lent else 0
        scratch = _take(schedule.scratch_size * (seats + 1))
        if poison:
            scratch.body[:] = 0xFF
        words = scratch.words
        schedule.fill(words, source, target, scratch.address + Scratch.HEAD)
        counter = scratch.address + Scratch.HEAD - 64
        words[Scratch.HEAD // 8 - 8] = 0
        if shared:
            _pool.ready(seats)
            run_shared(schedule.function, scratch.address, counter, _pool.address, seats)
        elif lent:  # the whole team: one of another size would be started anew each time
            scratch.team[:5] = schedule.function, scratch.address, counter, threads, 0
            scratch.team[TEAM_TAKEN] = 0
            run_in_team(start, address(take_part, (types.int64,)), scratch.team_address, team)
        else:
            run_alone(schedule.function, scratch.address, counter)
    except Exception as error:  # the first call of each kind compiles
        if is_failure(error):
            raise failed(error) from error
        raise
    finally:
        if shared:
            _pool.busy.release()
    _give(scratch)


def _after_fork() -> None:
    """Give the child a pool of its own: threads and locks do not survive a fork."""
    global _pool, _free
    _pool, _free = _Pool(), []


after_fork(_after_fork)
atexit.register(lambda: _pool.stop())
