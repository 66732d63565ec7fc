"""The tables of docs/fused.md: what they compare, and what counts as missed."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.apart

FOLDER = Path(__file__).parents[1] / "benchmarks"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a module of `benchmarks/`, whose modules import each other by their names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def line(name: str = "pair", group: str = "", **aims: float) -> dict[str, Any]:
    """Return a line in which the dense layer needs six times our time, and four would be the full saving."""
    seconds = {"separable": 1e-3, "torch": 3e-3, "torch last": 2e-3, "openvino": 1.5e-3,
               "fused, channels last": 1e-4, "dense": 6e-3}  # fmt: skip
    aim = dict.fromkeys(("peer", "torch", "part", "dense")) | aims | {"group": group}
    return {"name": name, "seconds": seconds, "saving": 4.0, "aim": aim,
            "errors": {"separable": 2e-7, "openvino": 3e-6}}  # fmt: skip


def results(*lines: dict[str, Any]) -> dict[str, Any]:
    where = {"date": "2026-01-01", "processor": "P", "processors": 2, "threads": 2, "load": 0.0}
    part = {"limits": ["separable: vectors of 512 bits"], "memory": {"as it comes": list(lines)}}
    return {
        "where": {**where, "versions": {"torch": "2"}},
        "quick": False,
        "widths": {"native": part},
    }


def test_ratios_leave_out_what_is_ours(load: Load) -> None:
    tables = load("fused_tables")
    found = tables.ratios(line())
    assert found == pytest.approx({"peer": 1.5, "torch": 2.0, "dense": 6.0, "part": 1.5})
    assert tables.best_peer(line()) == "openvino"


def test_a_line_without_peers_has_no_ratio_over_them(load: Load) -> None:
    alone = line(peer=1.0) | {"seconds": {"separable": 1.0, "dense": 2.0}}
    tables = load("fused_tables")
    assert set(tables.ratios(alone)) == {"dense", "part"}
    assert tables.missed([alone]) == []
    assert "| pair | 1,000,000 |  |" in tables.table([alone])


def test_targets_are_judged_as_printed(load: Load) -> None:
    tables = load("fused_tables")
    assert tables.missed([line(peer=1.5, torch=2.0, part=1.5, dense=6.0)]) == []
    missed = tables.missed([line(peer=1.51, torch=2.1, dense=7.0)])
    assert [(what, aim) for _, what, _, aim in missed] == [
        ("the best peer (openvino)", 1.51), ("PyTorch", 2.1), ("dense", 7.0),
    ]  # fmt: skip


def test_the_mean_of_a_group_is_judged_and_not_each_line(load: Load) -> None:
    tables = load("fused_tables")
    slow = line("slow", "pairs", torch=2.4)
    fast = line("fast", "pairs", torch=2.4)
    fast["seconds"] = fast["seconds"] | {"torch": 3e-3, "torch last": 3e-3}
    assert tables.means([slow, fast]) == {"pairs": (pytest.approx(2.5), 2.4)}
    assert tables.missed([slow, fast]) == []
    (one,) = tables.missed([slow, slow])
    assert one == ("pairs, mean", "PyTorch", pytest.approx(2.0), 2.4)
    assert "2.4 (mean)" in tables.table([slow, fast])


def test_the_page_shows_errors_beside_times_and_counts_what_is_missed(load: Load) -> None:
    page = load("page")
    text = "<!-- measurements -->\n<!-- end -->\nbetween\n<!-- missed -->\nold\n<!-- end -->\n"
    written = page.fused_page(text, results(line(peer=2.0, torch=1.0)))
    assert (
        "| pair | 1,000 | 1.50 (openvino) | 2.00 | 6.00 | 1.50 | 2e-07 | 3e-06 | 2 / 1 / – |"
        in written
    )
    assert "1 of 2 targets are missed." in written
    assert "| pair | native | the best peer (openvino) | 1.50 | 2 |" in written
    assert "old" not in written
    assert page.fused_page(written, results(line(peer=2.0, torch=1.0))) == written


def test_results_of_a_quick_run_are_refused(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = load("fused_tables")
    monkeypatch.setattr(tables, "RESULTS", tmp_path / "fused.json")
    tables.RESULTS.write_text('{"quick": true}')
    with pytest.raises(SystemExit, match="measure again"):
        tables.load()


class Clock:
    """A clock that only sleeping advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_slow_calls_are_measured_few_times(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    fused, clock = load("fused"), Clock()
    monkeypatch.setattr(fused, "time", clock)
    called = dict.fromkeys(("fast", "slow"), 0)

    def call(name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            called[name] += 1
            clock.sleep(seconds)

        return run

    runs = {"fast": call("fast", 0.001), "slow": call("slow", 0.02)}
    found = fused.medians(runs, rounds=6, seconds=60, clock=clock.perf_counter)
    assert called["slow"] == 3 + 2 * fused.FEW  # to begin with; then a call before each sample
    assert found == pytest.approx({"fast": 0.001, "slow": 0.02})


@pytest.mark.compiled
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")
def test_lines_compute_what_their_layers_compute(load: Load) -> None:
    lines = load("fused_lines").all_lines()
    names = [each.name for each in lines]
    assert len(set(names)) == len(names)
    chosen = argparse.Namespace(
        threads=1, quick=True, no_compile=True, rounds=1, seconds=0, clock="wall"
    )
    for name in ("textbook 12x12x3 5x5 256", "Tucker-2, half the channels 14² 256"):
        found = load("fused").measured(next(each for each in lines if each.name == name), chosen)
        assert {"separable", "torch", "torch last"} <= set(found["errors"])
        assert max(found["errors"].values()) < 1e-5
        assert "dense" not in found["errors"]
        assert all(seconds > 0 for seconds in found["seconds"].values())
