"""The stack of a job: it begins just below the end of a page, on every thread and at any depth of calls."""

import ctypes
import threading
import time

import numpy as np
from llvmlite import ir

from separable.engine.compiled.jit import address, intrinsic, stage
from separable.engine.compiled.numba_api import types
from separable.engine.compiled.sweep_params import set_word
from separable.engine.compiled.thread_pool import (
    PAGE,
    _pool,
    atomic_load,
    run_alone,
    run_shared,
    take_part,
)

RESULTS = 128
"""Byte of a job's memory from which on this job writes, one word per thread."""


@intrinsic
def own_address(_typing):
    """Return an address in the frame of the function that calls this."""

    def emit(_context, builder, _signature, _arguments):
        kept = builder.alloca(ir.IntType(64))
        builder.asm(ir.FunctionType(ir.VoidType(), [kept.type]), "", "r,~{memory}", [kept], True)
        return builder.ptrtoint(kept, ir.IntType(64))

    return types.int64(), emit


@stage
def note_stack(job, _counter, worker):
    set_word(job + RESULTS + 8 * worker, 0, own_address())


@stage
def note_stack_of_worker(job, _counter, worker):
    set_word(job + RESULTS + 8 * worker, 0, own_address())
    looks = 0
    while worker == 0 and atomic_load(job + RESULTS, 1) == 0 and looks < 100_000_000:
        looks += 1


def job_memory():
    memory = np.zeros(3 * PAGE // 8, np.int64)
    return memory, memory.ctypes.data


def noted(memory, worker=0):
    return int(memory[RESULTS // 8 + worker]) % PAGE


def place_of_a_job_alone():
    memory, place = job_memory()
    run_alone(address(note_stack, (types.int64,) * 3), place, 0, 0, 0)
    return noted(memory)


def deeper(count):
    """Call `place_of_a_job_alone` through as many calls of C code, which use the stack of this thread."""
    callback = ctypes.CFUNCTYPE(ctypes.c_long)
    inner = place_of_a_job_alone if count == 0 else lambda: deeper(count - 1)
    return callback(inner)()


def test_frames_begin_at_one_place_of_a_page():
    found = {place_of_a_job_alone(), *(deeper(n) for n in range(1, 12))}
    threads = [threading.Thread(target=lambda: found.add(place_of_a_job_alone())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert PAGE - 1024 < found.pop() < PAGE


def test_workers_and_teams_too():
    """The frames between the settled one and the job's differ by kind of run, not from call to call."""
    function, found, seen = address(note_stack_of_worker, (types.int64,) * 3), set(), 0
    end = time.monotonic() + 300
    while seen < 6 and (time.monotonic() < end or not seen):
        memory, place = job_memory()
        _pool.ready(1)
        run_shared(function, place, 0, 0, 0, _pool.address, 1)
        if memory[RESULTS // 8 + 1]:  # otherwise the worker came too late, as on a busy machine
            found.add(noted(memory, 1))
            seen += 1
    assert len(found) == 1
    assert PAGE - 1024 < found.pop() < PAGE
    memory, place = job_memory()
    alone = address(note_stack, (types.int64,) * 3)
    team = np.array([alone, place, place, 1] + [0] * 12, np.int64)
    part = ctypes.CFUNCTYPE(None, ctypes.c_int64)(address(take_part, (types.int64,)))
    part(team.ctypes.data)
    assert PAGE - 1024 < noted(memory) < PAGE
