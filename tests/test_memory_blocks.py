"""Large results: their memory comes back when nothing looks at it any more, and not before."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest

import separable as sep
from separable.engine import result_memory
from separable.engine.availability import available
from separable.kernels import gaussian

SHAPE = (1024, 1024)


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """Load the engine if there is one, for blocks are used from then on."""
    if available():
        import separable.engine.compiled.jit  # noqa: F401

    gc.collect()
    result_memory.release()


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.compiled
def test_memory_is_used_again_only_when_no_view_is_left() -> None:
    first = result_memory.empty(SHAPE, "float32")
    view, where = first[3:].T, address(first)
    # As NumPy's own arrays lie relative to a cache line, directly before a huge page.
    assert where % 64 == address(np.empty(result_memory.MAPPED, np.uint8)) % 64
    assert -where % result_memory.HUGE_PAGE < 64
    view[...] = 7
    del first
    gc.collect()
    assert result_memory.kept_bytes() == 0
    second = result_memory.empty(SHAPE, "float32")
    assert address(second) != where
    second[...] = 1
    assert (view == 7).all()
    del view
    gc.collect()
    assert result_memory.kept_bytes() == 4 << 20
    assert address(result_memory.empty(SHAPE, "float32")) == where


def test_results_do_not_share_memory() -> None:
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    results = [sep.convolve(image * n, gaussian(1)) for n in range(4)]
    for n, result in enumerate(results):
        expected = sep.convolve(image * n, gaussian(1), output=np.empty(SHAPE, "f4"))
        assert np.array_equal(result, expected)
    assert len({address(r) for r in results}) == 4


@pytest.mark.compiled
def test_no_more_is_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPARABLE_KEEP_BYTES", str(9 << 20))
    arrays = [result_memory.empty(SHAPE, "float32") for _ in range(5)]
    del arrays
    gc.collect()
    assert result_memory.kept_bytes() == 8 << 20
    monkeypatch.setenv("SEPARABLE_KEEP_BYTES", "0")
    result_memory.empty(SHAPE, "float32")
    assert result_memory.kept_bytes() == 8 << 20


def test_small_arrays_are_numpys() -> None:
    assert result_memory.empty((10, 10), "float64").flags.owndata
    assert result_memory.empty((0, 10), "float64").shape == (0, 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_copy() -> None:
    kept = result_memory.empty(SHAPE, "float32")
    kept[...] = 5
    del kept
    gc.collect()
    held = result_memory.empty(SHAPE, "float32")
    held[...] = 6
    child = os.fork()
    if child == 0:
        held[...] = 0
        result_memory.empty(SHAPE, "float32")[...] = 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (held == 6).all()


def test_many_threads_never_get_the_same_memory() -> None:
    wrong: list[int] = []

    def work(n: int) -> None:
        for _ in range(40):
            mine = result_memory.empty(SHAPE, "float32")
            mine[...] = n
            if not (mine == n).all():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
