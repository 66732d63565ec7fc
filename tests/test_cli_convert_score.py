"""`separable convert --metric`: what it prints, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from separable.cli import run

FACTORY = """
import torch
from torch import nn
def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3))
def closeness(net):
    return -abs(net(torch.ones(1, 3, 8, 8)).mean().item() - {wanted!r})
def broken(net):
    return float("nan")
def failing(net):
    raise RuntimeError("no labels")
number = 3
"""
COMMAND = ["convert", "w.safetensors", "--factory", "scored_here:make", "--input-shape", "1x3x8x8", "--repeats", "0", "-o", "out"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3))
    wanted = net(torch.ones(1, 3, 8, 8)).mean().item()
    (tmp_path / "scored_here.py").write_text(FACTORY.replace("{wanted!r}", repr(wanted)))
    save_file(net.state_dict(), "w.safetensors")
    return tmp_path


def test_a_score_decides(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--budget", "0.6", "--metric", "scored_here:closeness", "--evaluations", "12"]
    code = run([*COMMAND, *options, "--report", "json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    said = " ".join(printed.out.split())
    assert "per call, predicted and not measured (`repeats` is 0); closeness -" in said
    assert "times to choose layers and ranks" in said
    report = json.loads((folder / "out.report.json").read_text())
    assert report["score"]["name"] == "closeness"
    assert report["score"]["evaluations"] <= 12
    assert report["multiplications"] <= 0.6 * report["multiplications_before"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "scored_here:missing", "--tol", "1"], "`--metric` scored_here:missing: AttributeError"),
        (["--metric", "nowhere_at_all:score", "--tol", "1"], "ModuleNotFoundError"),
        (["--metric", "scored_here:number", "--tol", "1"], "number is not a function but int"),
        (["--metric", "scored_here", "--tol", "1"], "Expected package.module:function, a function of the network that returns its score"),
        (["--metric", "scored_here:broken", "--tol", "1"], "`--metric` broken returned nan for the original network"),
        (["--metric", "scored_here:failing", "--budget", "0.5"], "raised RuntimeError for the original network: no labels"),
        (["--metric", "scored_here:closeness"], "give `--budget`, or as `--tol`"),
        (["--metric", "scored_here:closeness", "--tol", "1", "--evaluations", "3"], "must be >= 8; got 3"),
    ],
)  # fmt: skip
def test_mistakes(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMAND, *options]) == 2
    printed = capsys.readouterr()
    assert message in " ".join(printed.err.split())
    assert "Traceback" not in printed.err
    assert not (folder / "out.safetensors").exists()
