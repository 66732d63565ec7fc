"""The pool: shared by Python threads, alive after fork, asleep and awake."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from compiled_oracle import border

import separable
from separable.engine.compiled.term_sums import Correlation


def make(n=300):
    w = np.hanning(11)
    c = Correlation(
        [[w, w]], (0, 1), (5, 5), [border(n, 11, 5, "reflect")] * 2, 0, "float32", (n, n)
    )
    image = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    return c, image, c(image, np.zeros_like(image), 1)


def test_many_python_threads_at_once():
    c, image, expected = make()
    wrong = []

    def work():
        out = np.zeros_like(image)
        for _ in range(100):
            out[:] = np.nan
            c(image, out, 3)
            if not np.array_equal(out, expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_workers_sleep_and_wake():
    c, image, expected = make()
    for pause in (0, 0, 0.001, 0.05, 0, 0.2):
        time.sleep(pause)
        assert np.array_equal(c(image, np.zeros_like(image), 2), expected)
    for _ in range(100):  # on a busy machine they come to rest later
        before = time.process_time()
        time.sleep(0.1)
        if time.process_time() - before < 0.01:
            return
    pytest.fail("the threads do not sleep")


def _child(queue):
    c, image, expected = make()
    queue.put(all(np.array_equal(c(image, np.zeros_like(image), 2), expected) for _ in range(20)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_fork():
    c, image, expected = make()
    c(image, np.zeros_like(image), 2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_child, args=(queue,))
    process.start()
    assert queue.get(timeout=600)
    process.join(timeout=600)
    assert process.exitcode == 0
    assert np.array_equal(c(image, np.zeros_like(image), 2), expected)


def test_exit_is_clean_and_quick():
    code = "import sys; sys.path[:0] = sys.argv[1:]; import test_compiled_threads as t; c, i, e = t.make(); c(i, e, 2)"
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", code, here, os.path.dirname(here)], capture_output=True, timeout=600
    )
    assert done.returncode == 0
    assert not done.stderr


IMPORTED = """
import importlib.abc, sys, threading, time
import separable

started, errors, count = threading.Event(), [], 0

class Slow(importlib.abc.MetaPathFinder):
    "Takes its time for each module of Numba, so that a second thread comes in between."

    def find_spec(self, name, path, target=None):
        global count
        if name.startswith("numba"):
            count += 1
            if count > int(sys.argv[1]):
                started.set()
            time.sleep(0.005)

def whole():
    import numba

def engine():
    started.wait()
    try:
        from separable.engine.compiled.term_sums import Correlation
    except Exception as error:
        errors.append(error)

sys.meta_path.insert(0, Slow())
threads = [threading.Thread(target=whole), threading.Thread(target=engine)]
for t in threads: t.start()
for t in threads: t.join()
print(errors)
"""


def test_threads_may_import_the_engine_and_numba_together():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, "3"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_whole_of_numba_is_imported_first():
    """A part of half a package is half a module."""
    home = Path(separable.__file__).parent
    text = (home / "engine/compiled/numba_api.py").read_text(encoding="utf-8")
    assert text.index("import numba as") < text.index("from numba.")
