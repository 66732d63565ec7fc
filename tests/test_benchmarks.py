"""The programs in `benchmarks/`: what they compare, how they measure, and what they print."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

pytestmark = pytest.mark.apart

FOLDER = Path(__file__).parents[1] / "benchmarks"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a module of `benchmarks/`, whose modules import each other by their names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


# --- what is compared -----------------------------------------------------------------------------


@pytest.mark.compiled
def test_every_row_compares_the_same_filter(load: Load) -> None:
    rows = load("rows")
    seen = []
    for row in rows.rows(smaller=8):
        seen.append(row.key)
        integers = row.image.dtype.kind == "u"
        top = 1.001 / np.iinfo(row.image.dtype).max if integers else 1e-5
        tol = row.options.get("tol", 0)
        assert rows.error_of(row, row.ours(), border=True) <= max(tol, top), row.key
        for name, call in row.peers.items():
            if name != "SimpleITK":  # another definition of a Gaussian
                # OpenCV rounds uint8 after each pass.
                error = rows.error_of(row, call(), border=False)
                assert error <= max(tol, 2 * top), (row.key, name)
    assert set(load("targets").TARGETS) <= set(seen)
    assert len(seen) == len(set(seen))


@pytest.mark.compiled
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_ipp_computes_the_correlation(load: Load, threads: int) -> None:
    ipp = load("ipp")
    if ipp.library(256) is None:
        pytest.skip("IPP is not installed (pip install ipp)")
    rng = np.random.default_rng(0)
    x, kernel = rng.random((70, 60), dtype=np.float32), rng.random((5, 7))
    found = ipp.correlate(x, kernel, 256, threads)()
    np.testing.assert_allclose(found, ndimage.correlate(x, kernel, mode="mirror"), rtol=1e-5)


# --- limits ---------------------------------------------------------------------------------------

LIMITED = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[1])
import limits, numpy
cv2 = __import__("cv2") if importlib.util.find_spec("cv2") else None
limits.check("avx2", cv2)
from numpy._core._multiarray_umath import __cpu_features__ as features
print(json.dumps([limits.in_force(cv2), [n for n in limits.wide_numpy_features() if features[n]]]))
"""


@pytest.mark.compiled
def test_the_limit_to_avx2_is_effective(load: Load) -> None:
    numpy_version = tuple(map(int, np.__version__.split(".")[:2]))
    if numpy_version < (2, 0) or sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("x86-64 Linux with NumPy 2")
    variables = {**os.environ, **load("limits").environment("avx2")}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(FOLDER)], env=variables, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    told, numpy_features = json.loads(done.stdout)
    assert told[0] == "separable: vectors of 256 bits"
    assert not any("AVX-512" in t.replace("no AVX-512", "") for t in told)
    assert numpy_features == []
    assert "unknown" not in done.stderr  # OpenCV ignores names that it does not know


# --- measuring ------------------------------------------------------------------------------------


class Clock:
    """A clock that only calls advance."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def call(self, name: str, *seconds: float) -> Callable[[], None]:
        """Return a call that takes these times, one after another, and then the last of them."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]
            self.calls.append(name)

        return run


def test_calls_take_turns_and_medians_count(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    timing, clock = load("timing"), Clock()
    monkeypatch.setattr(timing, "time", clock)
    a = clock.call("a", 9, 9, 1, 5, 3)  # the first two are not samples
    found = timing.interleaved({"a": a, "b": clock.call("b", 2)}, 3)
    assert found == {"a": 3, "b": 2}
    assert clock.calls == ["a", "a", "b", "b", *"ababab"]


def test_short_calls_are_repeated_and_slow_ones_measured_few_times(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing, clock = load("timing"), Clock()
    monkeypatch.setattr(timing, "time", clock)
    calls = {"short": clock.call("short", 1e-5), "slow": clock.call("slow", 1.0)}
    found = timing.interleaved(calls, 5)
    assert found == pytest.approx({"short": 1e-5, "slow": 1.0})
    assert clock.calls.count("slow") == 2 + timing.FEW
    assert clock.calls.count("short") >= 2 * 5 * timing.SHORTEST / 1e-5


@pytest.mark.compiled
def test_floor_is_the_longer_of_copy_and_the_cheaper_sums(load: Load) -> None:
    floors = load("floors")
    rate = {"float32": 100.0, "float64": 50.0}
    x = np.zeros((10, 10), np.float32)
    free = floors.Rates({400: 1e9}, {}, rate, rate)  # an addition beside a multiply-add is free
    assert free.floor((x, x), [(17, True)]) == (pytest.approx(100 * 9 / 100), "multiply-adds")
    assert free.floor((x, x), [(17, False)]) == (pytest.approx(100 * 17 / 100), "multiply-adds")
    third = {work: r / 3 for work, r in rate.items()}
    costly = floors.Rates({400: 1e9}, {}, rate, third)  # folding does not pay
    assert costly.floor((x, x), [(17, True)]) == (pytest.approx(100 * 17 / 100), "multiply-adds")
    assert free.floor((x.astype(float), x), [(3, False)]) == (pytest.approx(6), "multiply-adds")
    slow = floors.Rates({400: 10.0, 40_000: 1e9}, {}, rate, rate)  # the nearest size counts
    assert slow.floor((x, x), [(17, True)]) == (80, "copy")


@pytest.mark.compiled
def test_rates_of_this_machine_are_plausible(load: Load) -> None:
    rates = load("floors").measure([1 << 20], threads=1, rounds=1)
    assert 1e7 < rates.copy[1 << 20] < 1e13
    assert 1e7 < rates.multiply_adds["float64"] < 1e13
    assert set(rates.pairs) == {"float32", "float64"}


# --- tables ---------------------------------------------------------------------------------------


def run(
    avx512: bool, seconds: float, opencv: float, key: str = "gaussian float32"
) -> dict[str, Any]:
    row = {
        "key": key, "name": key, "seconds": seconds, "floor": [1.0, "copy"], "method": "separable",
        "peers": {"OpenCV": opencv, "SciPy": 60.0}, "error": 1e-7, "errors": {"OpenCV": 2e-7},
    }  # fmt: skip
    rates = {"copy": {"1048576": 1e9}, "stores": {"1048576": "NumPy"}}
    rates |= {kind: {"float32": 1e9} for kind in ("multiply_adds", "pairs")}
    return {"avx512": avx512, "limits": [], "rates": rates, "rows": [row]}


def test_targets_are_judged_by_the_medians_of_the_runs(load: Load) -> None:
    tables = load("ratio_tables")
    (line,) = tables.lines([run(True, 1.0, 3.6), run(True, 2.0, 2.0), run(True, 1.5, 5.4)])
    assert (line.seconds, line.ratio, line.floor) == (1.5, pytest.approx(3.6), 1.5)
    assert (line.goal, line.floor_goal, line.met) == (3.5, 1.8, True)
    assert line.others == {"SciPy": 40}


@pytest.mark.parametrize(
    ("avx512", "seconds", "opencv", "met"),
    [(True, 1.0, 3.4, False), (True, 1.9, 9.0, False), (False, 1.9, 5.0, True), (False, 1, 2.4, False)],
)  # fmt: skip
def test_both_the_ratio_and_the_floor_must_reach_their_targets(
    load: Load, avx512: bool, seconds: float, opencv: float, met: bool
) -> None:
    (line,) = load("ratio_tables").lines([run(avx512, seconds, opencv)])
    assert line.met is met


def test_a_missing_peer_is_not_a_target_that_is_met(load: Load) -> None:
    tables = load("ratio_tables")
    one = run(True, 1.0, 9.0)
    del one["rows"][0]["peers"]["OpenCV"]
    (line,) = tables.lines([one])
    assert (line.over, line.ratio, line.met) == ("", None, None)
    where = {"date": "", "processor": "", "processors": 2, "threads": 2, "load": 0, "versions": {}}
    text = tables.text({"where": where, "widths": {"native": {"runs": [one]}}})
    assert "not installed and therefore not measured: OpenCV" in text
    assert "targets met: 0 of 0" in text


@pytest.mark.parametrize(("load_average", "warned"), [(0.4, False), (3.0, True)])
def test_a_busy_machine_is_told(load: Load, load_average: float, warned: bool) -> None:
    where = {"date": "", "processor": "", "processors": 2, "threads": 2, "versions": {}}
    found = {"where": {**where, "load": load_average}, "widths": {}}
    assert ("not reliable" in load("ratio_tables").text(found)) is warned


def test_the_fastest_of_several_peers_counts(load: Load) -> None:
    one = run(False, 1.0, 7.0, key="dense separable")
    one["rows"][0]["peers"]["fftconvolve"] = 4.0
    (line,) = load("ratio_tables").lines([one])
    assert (line.over, line.ratio, line.met) == ("fftconvolve", 4, False)
    assert line.others == {"OpenCV": 7, "SciPy": 60}


@pytest.mark.compiled
def test_a_run_saves_what_it_prints(load: Load, tmp_path: Path) -> None:
    saved = tmp_path / "results" / "one.json"
    asked = ["--quick", "--native", "--runs", "1", "--rounds", "1", "--rows", "small sobel 64"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "filters.py"), *asked, "--output", str(saved)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(saved.read_text())
    assert load("ratio_tables").text(found) in done.stdout
    (line,) = load("ratio_tables").lines(found["widths"]["native"]["runs"])
    assert line.key == "small sobel 64"
    assert line.seconds > 0
    assert line.error < 1e-6
    assert line.goal == 0.5


@pytest.mark.compiled
def test_the_line_of_a_dense_convolution(load: Load) -> None:
    pytest.importorskip("torch")
    dense = load("dense_convolutions")
    line = dense.measure(dense.Case(16, 16, (3, 3), (40, 41)), 1, 1)
    name, numbers = line[:34].strip(), [float(n) for n in line[34:].split()]
    assert name == "16 -> 16, 3x3 / 1, 40x41"
    assert len(numbers) == 8  # four times, the ratio, the rate, two errors
    assert all(n > 0 for n in numbers[:4])
    assert all(0 < n < 5e-6 for n in numbers[6:])
