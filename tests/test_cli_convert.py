"""`separable convert`: what it writes, and its mistakes, after which nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from separable import nn
from separable.cli import run

FACTORY = """
from torch import nn
def make():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3))
def linear():
    return nn.Sequential(nn.Linear(3, 4))
"""


def dense() -> torch.nn.Sequential:
    conv = torch.nn.Conv2d
    return torch.nn.Sequential(conv(3, 16, 3, padding=1), torch.nn.ReLU(), conv(16, 32, 3))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_here.py").write_text(FACTORY)
    save_file(dense().state_dict(), "w.safetensors")
    save_file(torch.nn.Sequential(torch.nn.Linear(3, 4)).state_dict(), "linear.safetensors")
    for name in ("empty", "nan", "wrong"):
        (tmp_path / name).mkdir()
    np.save("nan/a.npy", np.full((2, 3, 8, 8), np.nan, "f"))
    np.save("wrong/a.npy", np.zeros((2, 5, 8, 8), "f"))
    return tmp_path


def test_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["convert", "w.safetensors", "--factory", "made_here:make", "--budget", "0.4", "--input-shape", "1x3x16x16", "--repeats", "0", "--report", "html", "-o", "out"])  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "Wrote out.safetensors" in printed.out
    again = nn.rebuild(dense(), (folder / "out.json").read_text())
    again.load_state_dict(load_file("out.safetensors"))
    count, before = (
        sum(x.cost.multiplications for x in nn.ledger(m, (1, 3, 16, 16)).layers)
        for m in (again, dense())
    )
    assert count <= 0.4 * before
    assert json.loads((folder / "out.json").read_text())["layers"]
    assert "<table" in (folder / "out.html").read_text()


GOOD = "w.safetensors --factory made_here:make --input-shape 1x3x8x8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{GOOD} --budget 0.001", "the smallest that can is"),
        (f"{GOOD} --data empty", "it is empty"),
        (f"{GOOD} --data nan", "NaN"),
        (f"{GOOD} --data wrong", "has shape (2, 5, 8, 8)"),
        (f"{GOOD} --include nowhere", "'nowhere'"),
        ("w.safetensors", "--factory"),
        ("w.safetensors --factory made_here:none", "AttributeError"),
        ("w.safetensors --factory made_here:linear", "not of the network"),
        ("linear.safetensors --factory made_here:linear", "no convolution to convert"),
        ("mobilenet_v9", "Did you mean `mobilenet_v1`?"),
        ("there_is_none.onnx", "no such file"),
    ],
)
def test_mistakes(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert run(["convert", *arguments.split(), "--repeats", "0", "-o", "out"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(folder.glob("out*"))
    assert not list(folder.glob(".separable*"))


def test_a_pickle_is_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(dense(), "whole.pt")
    assert run(["convert", "whole.pt", "--factory", "made_here:make", "-o", "out"]) == 2
    assert "would run code" in capsys.readouterr().err


def test_torch_is_imported_only_if_needed() -> None:
    code = "import sys, separable.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
