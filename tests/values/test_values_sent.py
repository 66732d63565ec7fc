"""Values that have run are pickled, copied and sent: nothing of this process goes with them."""

from __future__ import annotations

import copy
import gc
import importlib.util
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sent_values
from send_values import WAYS

from separable.engine import METHODS

PROGRAM = Path(__file__).with_name("send_values.py")


@pytest.fixture(scope="module")
def ran() -> list[Any]:
    return sent_values.ran(sent_values.cases())


def printed(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, timeout=1000
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout.strip()


def test_every_method_is_sent(ran: list[Any]) -> None:
    names = {case.name.split()[0] for case in ran}
    available = [name for name, method in METHODS.items() if not method.unavailable()]
    assert len(available) >= 5
    assert set(available) <= names
    for name in available:
        kinds = {tuple(case.name.split()[1:]) for case in ran if case.name.startswith(name + " ")}
        axes = {ndim for _, ndim in kinds}
        assert {"float32", "float64", "uint8"} <= {dtype for dtype, _ in kinds}
        assert axes >= ({"1-D", "2-D"} if name == "dense" else {"1-D", "2-D", "3-D"})


def test_a_fresh_interpreter_gives_the_same_bits(ran: list[Any], tmp_path: Path) -> None:
    (tmp_path / "cases.pickle").write_bytes(pickle.dumps(ran))
    assert printed("load", str(tmp_path / "cases.pickle")) == "the same"


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy], ids=["deepcopy", "copy"])
def test_a_copy_outlives_the_original(duplicate: Any) -> None:
    chosen = sent_values.ran(sent_values.cases())
    for case in chosen:
        case.value = duplicate(case.value)  # what ran is deleted here
    gc.collect()
    rubbish = [np.full(n, 0x5A, np.uint8) for n in (64, 640, 6400, 64000) for _ in range(500)]
    assert sent_values.different(chosen) == []
    del rubbish


def test_pickles_do_not_grow_by_running() -> None:
    """A pickle contains only the value as it was before it ran, byte for byte."""
    for case in sent_values.cases():
        before = pickle.dumps(case.value)
        case.run()
        if case.value.__hash__ is not None:
            hash(case.value)
        assert pickle.dumps(case.value) == before, case.name


POOLS = ("fork", "spawn", "forkserver")
PACKAGES = {"loky": "joblib", "dask": "distributed", "cloudpickle": "cloudpickle"}


@pytest.fixture(scope="module")
def sent() -> dict[str, str]:
    """Return what one process found that sent its values in all ways that there are here; it may have crashed."""
    ways = [way for way in POOLS if way in multiprocessing.get_all_start_methods()]
    ways += [way for way, name in PACKAGES.items() if importlib.util.find_spec(name)]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *ways], capture_output=True, text=True, timeout=1000
    )
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    failed = f"exit {done.returncode}: {done.stderr[-2000:]}"
    return {way: found.get(way, failed) for way in ways}


@pytest.mark.parametrize("way", WAYS)
def test_values_are_sent_to_other_processes(way: str, sent: dict[str, str]) -> None:
    if way not in sent:
        pytest.skip(f"{way}: not on this system, or not installed")
    assert sent[way] == "the same"
