"""The cache of what belongs to one process: empty where it is copied, safe among threads and after forks."""

from __future__ import annotations

import ast
import copy
import gc
import multiprocessing
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sent_values

import separable
from separable.process_cache import ProcessBound, ProcessCache
from separable.value import KEY, Value

ROOT = Path(separable.__file__).parent
forks = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system"
)


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_copies_are_empty(again: Any) -> None:
    cache = ProcessCache(3)
    cache.get_or_build("a", threading.Lock)
    other = again(cache)
    assert type(other) is ProcessCache
    assert (len(other), other.limit) == (0, 3)
    assert len(cache) == 1
    assert other.get_or_build("a", lambda: 5) == 5


def test_what_holds_addresses_is_neither_copied_nor_pickled() -> None:
    class Record(ProcessBound):
        pass

    for again in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="a Record holds addresses of this process"):
            again(Record())


def test_the_record_used_longest_ago_is_discarded() -> None:
    cache = ProcessCache(2)
    for key in ("a", "b", "a", "c"):
        cache.get_or_build(key, lambda key=key: key.upper())
    assert list(cache) == ["a", "c"]
    assert ProcessCache().get_or_build("nothing", lambda: None) is None


def test_a_failure_is_not_kept() -> None:
    cache = ProcessCache()
    with pytest.raises(ZeroDivisionError):
        cache.get_or_build("a", lambda: 1 // 0)
    assert cache.get_or_build("a", lambda: 1) == 1


def test_a_record_is_built_once_by_many_threads() -> None:
    for limit in (None, 1, 3):
        cache, built, found = ProcessCache(limit), [], []
        barrier = threading.Barrier(8)

        def build(built: list[int] = built) -> object:
            built.append(1)
            return object()

        def work(
            cache: Any = cache, build: Any = build, found: Any = found, barrier: Any = barrier
        ) -> None:
            barrier.wait()
            found.extend(cache.get_or_build("key", build) for _ in range(200))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(built) == 1
        assert len(set(map(id, found))) == 1


def test_a_record_may_be_built_from_another_one() -> None:
    cache = ProcessCache(1)
    assert cache.get_or_build("b", lambda: cache.get_or_build("a", lambda: 1) + 1) == 2


FORKED = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")  # forking beside threads is what is tested
import numpy as np, separable as sep
from separable.process_cache import ProcessCache

def exits(work):
    "Return how a forked child ends that does some work, None if it hangs."
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + 300
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)

"""

LOCKED = (
    FORKED
    + """
cache, inside, end = ProcessCache(), threading.Event(), threading.Event()

def slow():
    inside.set()
    end.wait()
    return 1

thread = threading.Thread(target=cache.get_or_build, args=("a", slow))
thread.start()
inside.wait()
def work():
    assert cache.get_or_build("a", lambda: 2) == 2
print(exits(work))
end.set()
thread.join()
assert cache["a"] == 1
"""
)

COMPILING = (
    FORKED
    + """
from numba.core.compiler_lock import global_compiler_lock

image = np.arange(6400.0).reshape(64, 100)
sep.convolve(image.astype("float32"), [[1, 2, 1]])
plan = sep.plan(sep.kernels.gaussian(1), image.shape)
inside, end = threading.Event(), threading.Event()

def compile():
    with global_compiler_lock:
        inside.set()
        end.wait()
        time.sleep(0.2)  # a fork has begun, which waits for this lock

os.register_at_fork(before=end.set)  # the last that was registered is called first
thread = threading.Thread(target=compile)
thread.start()
inside.wait()
print(exits(lambda: plan(image)))  # the first of its type takes the compiler's lock, if only to load
thread.join()
"""
)

FILTERING = (
    FORKED
    + """
rng = np.random.default_rng(0)
image = rng.random((300, 400), dtype="float32")
kernels = ["gaussian:2", "log:2"]
plan, bank = sep.plan(np.ones((9, 9)), image.shape, "float32", threads=2), sep.bank(kernels, image.shape, "float32", threads=2)
low = sep.plan(sep.kernels.laplacian_of_gaussian(2), image.shape, "float32", threads=2)
values = (plan, bank, low)
expected = [value(image).tobytes() for value in values]
stop = threading.Event()

def filter():
    while not stop.is_set():
        for value in values:
            value(image)

def work():
    for value, found in zip(values, expected):
        assert value(image).tobytes() == found
    fresh = sep.plan(np.ones((9, 9)), image.shape, "float32", threads=2)
    assert fresh == plan and fresh(image).tobytes() == expected[0]
    sep.convolve(image, np.ones((7, 7)))

threads = [threading.Thread(target=filter) for _ in range(3)]
for t in threads: t.start()
codes = [exits(work) for _ in range(6)]
stop.set()
for t in threads: t.join()
print(*codes)
assert [value(image).tobytes() for value in values] == expected  # the parent goes on as before
"""
)


def printed(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1000
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@forks
def test_a_child_forked_while_a_record_is_built() -> None:
    assert printed(LOCKED) == "0"


@forks
@pytest.mark.compiled
def test_a_child_forked_while_a_thread_compiles() -> None:
    assert printed(COMPILING) == "0"


@forks
@pytest.mark.compiled
def test_children_forked_while_threads_filter() -> None:
    assert printed(FILTERING) == " ".join(["0"] * 6)


# The rule for all of the package: who keeps an address is process-bound, and lies in such a cache.


def reachable(value: Any) -> Iterator[Any]:
    """Yield all objects that a value refers to, but not what caches of this process hold."""
    seen, waiting = set(), [value]
    while waiting:
        found = waiting.pop()
        code = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType)
        if id(found) in seen or isinstance(found, (*code, ProcessCache)):
            continue
        seen.add(id(found))
        if isinstance(found, Value):  # hashes are of this process too, and no more pickled
            seen.add(id(vars(found).get(KEY)))
        yield found
        waiting += gc.get_referents(found)


def is_address(value: Any) -> bool:
    return type(value) is int and value >= 1 << 32


def test_values_that_ran_keep_nothing_of_this_process_but_in_caches() -> None:
    for case in sent_values.some():
        for found in reachable(case.value):
            name = f"{case.name}: {type(found).__name__}"
            assert not isinstance(found, ProcessBound), name
            assert not isinstance(found, (type(threading.Lock()), type(threading.RLock()))), name
            assert not is_address(found), f"{name} {found}"
            assert not type(found).__module__.startswith(("ctypes", "numba", "llvmlite")), name


@pytest.mark.compiled
def test_running_leaves_records_in_caches() -> None:
    """Else the test above finds nothing for want of anything to find."""
    (case,) = [c for c in sent_values.some() if c.name.startswith("fused ")]
    sweep = case.value.chosen.form.cached["fused"]
    assert any(isinstance(record, ProcessBound) for record in sweep._schedules.values())


def keeps_addresses(node: ast.ClassDef) -> bool:
    """Return whether a class takes the address of memory or of code anywhere."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and part.attr in ("ctypes", "data_ptr"):
            return True
        if isinstance(part, ast.Call) and getattr(part.func, "id", "") == "address":
            return True
        if isinstance(part, ast.Call) and getattr(part.func, "attr", "") == "address":
            return True
    return False


def test_classes_that_take_addresses_are_bound_to_their_process() -> None:
    classes = {
        node.name: (path, node)
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }

    def is_bound(name: str) -> bool:
        if name == "ProcessBound":
            return True
        bases = classes[name][1].bases if name in classes else []
        return any(isinstance(b, ast.Name) and is_bound(b.id) for b in bases)

    found = {name for name, (_, node) in classes.items() if keeps_addresses(node)}
    assert {"SweepSchedule", "PackedLayer", "KernelPlan", "BoxPlan", "Scratch"} <= found
    assert {name: str(classes[name][0]) for name in found if not is_bound(name)} == {}
