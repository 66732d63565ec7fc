"""`benchmarks/gpu.py` runs end to end at toy sizes in Triton's interpreter."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from separable.gpu import interpreting, tuned_tiles

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the script, whose modules import each other by their names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("gpu")


def test_a_toy_work_is_checked(
    script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = next(script.gpu_layers.works())
    monkeypatch.setattr(script.gpu_layers, "works", lambda: iter([work]))
    assert script.main(["--toy", "--only", "layers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [work.title]
    assert all("error" in line and "LARGE" not in line for line in lines)


def test_a_work_that_pytorch_runs_is_not_measured(
    script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = next(script.gpu_layers.works())
    monkeypatch.setattr(script.gpu_layers, "works", lambda: iter([work]))
    monkeypatch.setattr(type(work), "ours", type(work).eager)
    assert script.main(["--toy", "--only", "layers"]) == 1
    assert "no kernel" in capsys.readouterr().out


@pytest.mark.long
def test_all_toy_works_are_checked(script: Any) -> None:
    assert script.main(["--toy"]) == 0


def test_wrong_results_are_not_measured(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    work = next(script.gpu_layers.works())
    monkeypatch.setattr(script.gpu_layers, "works", lambda: iter([work]))
    monkeypatch.setattr(script.gpu_layers, "error_of", lambda *args, **options: 1.0)
    assert script.main(["--toy", "--only", "layers"]) == 1


def test_wrong_filters_are_not_measured(
    script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = script.gpu_filters.works(script.torch.device("cpu"), True)[0]
    work.ways["fused"] = lambda: work.exact() + 1
    monkeypatch.setattr(script.gpu_filters, "works", lambda device, toy: [work])
    assert script.main(["--toy", "--only", "filters"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_the_measured_rate_of_memory_is_used_from_then_on(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = SimpleNamespace(
        name="NVIDIA of a test", major=9, minor=0, multi_processor_count=100, L2_cache_size=1 << 25
    )
    where = script.torch.device("cuda", 0)
    monkeypatch.setattr(script.torch.cuda, "get_device_properties", lambda _: seen)
    monkeypatch.setattr(tuned_tiles, "cache_path", lambda: tmp_path / "machine.json")
    monkeypatch.setattr(script, "copy_rate", lambda: 1.5e12)
    tuned_tiles._seen_device.cache_clear()
    try:
        before = tuned_tiles.device_of(where)
        assert script.kept_rate(where) == 1.5e12
        after = tuned_tiles.device_of(where)
        assert (before.origin, after.memory_rate) == ("data sheet", 1.5e12)
        assert after == before.measured(1.5e12) != before
    finally:
        tuned_tiles._seen_device.cache_clear()


def test_filters_are_compared_at_toy_sizes(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    filters = script.gpu_filters
    with interpreting():
        (work,) = [
            w for w in filters.works(script.torch.device("cpu"), True) if w.name.startswith("six")
        ]
        work.ways.pop("six calls")
        assert filters.check(work)
    work.seconds = dict.fromkeys(work.ways, 1e-3)
    filters.report(work)
    printed = capsys.readouterr().out
    assert "target: at least 4 times faster, missed" in printed
    assert "1.00 of fused  target: at most 2 copies, reached" in printed


@pytest.mark.long
def test_all_filters_are_compared_at_toy_sizes(
    script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.gpu_filters.run_filters(toy=True) == 0
    assert capsys.readouterr().out.count("fused") == 3


def test_without_a_gpu_the_script_says_what_to_do(
    script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)
    assert script.main([]) == 2
    assert "the tensor is on cpu" in capsys.readouterr().err


def test_the_floor_is_one_read_and_one_write(script: Any) -> None:
    first = next(script.gpu_layers.works())
    assert first.floor_bytes == 16 * 512 * 512 * (64 + 128) * 4
