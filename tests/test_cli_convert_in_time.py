"""`separable convert --faster` and `--runtime`, `separable machine --layers`: what they print, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from separable.cli import run
from separable.nn.runtimes import profile_measurement
from separable.nn.step_times import layer_profile

FACTORY = """
from torch import nn
def make():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3))
"""
COMMAND = ["convert", "w.safetensors", "--factory", "timed_here:make", "--input-shape", "1x3x16x16", "--repeats", "0", "-o", "out"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timed_here.py").write_text(FACTORY)
    made = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3)
    )
    save_file(made.state_dict(), "w.safetensors")
    monkeypatch.setattr(layer_profile, "profile_path", lambda: tmp_path / "layers.json")
    layer_profile.forget_profile()
    return tmp_path


def test_faster(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run([*COMMAND, "--faster", "1.05", "--tol", "0.99", "--runtime", "torch"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    first, second = " ".join(printed.out.split()).split(". The network takes ")[:2]
    assert "in PyTorch (eager)" in first
    assert "multiplications" in second
    assert (folder / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--faster", "0.5"], "`--faster` must be a factor above 1, for example 2; got 0.5"),
        (["--faster", "nan"], "`--faster` must be a factor above 1"),
        (["--faster", "2", "--budget", "0.5"], "give one of `--budget` and `--faster`; got both"),
        (["--budget", "quick"], "must be a share of the multiplications such as 0.5"),
        (["--budget", "2x faster", "--runtime", "tpu"], "must be one of 'torch', 'fused'"),
        (["--faster", "100000"], "times as fast is possible"),
    ],
)
def test_mistakes(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMAND, *options]) == 2
    printed = capsys.readouterr()
    assert message in " ".join(printed.err.split())
    assert "Traceback" not in printed.err
    assert not (folder / "out.safetensors").exists()


def test_the_machine_command_measures_layers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["machine", "--layers", "--show"]) == 0
    shown = capsys.readouterr().out
    assert "pointwise" in shown
    assert "MAC: per multiplication added to a sum" in " ".join(shown.split())
    assert not layer_profile.profile_path().exists()
    made = layer_profile.shipped_profile()
    monkeypatch.setattr(profile_measurement, "measured_profile", lambda step: made)
    assert run(["machine", "--layers"]) == 0
    assert "Kept in" in capsys.readouterr().out
    assert layer_profile.current_profile().source == "this computer"
    layer_profile.forget_profile()
