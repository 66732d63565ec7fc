"""`benchmarks/gpu.py` runs end to end at toy sizes in Triton's interpreter."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

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


def test_without_a_gpu_the_script_says_what_to_do(
    script: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.torch.cuda, "is_available", lambda: False)
    assert script.main([]) == 2
    assert "the tensor is on cpu" in capsys.readouterr().err


def test_the_floor_is_one_read_and_one_write(script: Any) -> None:
    first = next(script.gpu_layers.works())
    assert first.floor_bytes == 16 * 512 * 512 * (64 + 128) * 4
