"""Every item of work is taken once, by its own thread first."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separable.engine.availability import available

pytestmark = pytest.mark.compiled
if available():
    from separable.engine.compiled import work_items
    from separable.engine.compiled.jit import kernel

    @kernel
    def take(counters, items, worker):  # type: ignore[no-untyped-def]
        return work_items.next_work_item(counters, items, worker)

    @kernel
    def take_all(counters, items, worker, taken):  # type: ignore[no-untyped-def]
        item = work_items.next_work_item(counters, items, worker)
        while item < items:
            taken[item] += 1
            item = work_items.next_work_item(counters, items, worker)


def started(threads: int) -> np.ndarray:
    counters = np.zeros(8, np.int64)
    counters[work_items.RANGES_WORD] = min(threads, work_items.RANGES)
    return counters


@given(
    st.integers(0, 60), st.integers(1, 12), st.lists(st.integers(0, 11), min_size=80, max_size=80)
)
def test_each_item_is_taken_once_in_any_order(items: int, threads: int, order: list[int]) -> None:
    counters = started(threads)
    turns = [worker % threads for worker in order] + [w for w in range(threads) for _ in range(80)]
    taken = [take(counters.ctypes.data, items, w) for w in turns]
    found = [item for item in taken if item < items]
    assert sorted(found) == list(range(items))
    assert all(item == items for item in taken if item not in found)


@pytest.mark.parametrize(("items", "threads"), [(10, 2), (11, 3), (7, 7), (100, 4)])
def test_a_thread_takes_neighbours(items: int, threads: int) -> None:
    counters = started(threads)
    rounds = items // threads
    taken = [take(counters.ctypes.data, items, w) for _ in range(rounds) for w in range(threads)]
    for worker in range(threads):
        first = items * worker // threads
        assert taken[worker::threads] == list(range(first, first + rounds))


def test_others_are_helped_from_the_back() -> None:
    counters = started(2)
    assert [take(counters.ctypes.data, 6, 0) for _ in range(7)] == [0, 1, 2, 5, 4, 3, 6]
    assert take(counters.ctypes.data, 6, 1) == 6


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_threads_at_the_same_time(threads: int) -> None:
    for items in (1, 5, 20_000):
        counters, taken = started(threads), np.zeros(items, np.int64)
        workers = [
            threading.Thread(target=take_all, args=(counters.ctypes.data, items, w, taken))
            for w in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert (taken == 1).all()
