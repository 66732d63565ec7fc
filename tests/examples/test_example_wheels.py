"""The scripts on trained networks inside wheels, on networks that are made here."""

from __future__ import annotations

import math
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import wheel_networks
import wheel_times
from wheel_networks import WHEELS, MtcnnNet, WheelNetwork, agreement, crops, text_lines
from wheel_times import Converted, Measured


def test_agreement_counts_decisions_made_by_either() -> None:
    first, second = np.array([0, 0, 3, 1, 2]), np.array([0, 1, 3, 2, 0])
    assert agreement(first, second) == pytest.approx(2 * 1 / (3 + 3))
    assert agreement(first, first) == 1
    assert math.isnan(agreement(np.zeros(3), np.zeros(3)))


def test_inputs_differ_between_calibration_and_test() -> None:
    assert crops(4, 0, 24).shape == (4, 24, 24, 3)
    assert not np.array_equal(crops(4, 0, 24), crops(4, 1, 24))
    assert np.array_equal(crops(4, 0, 24), crops(4, 0, 24))
    lines = text_lines(2, 5)
    upright = text_lines(2, 5, turned=False)
    assert np.array_equal(lines[0], upright[0])
    assert np.array_equal(lines[1], upright[1][::-1, ::-1])


@pytest.mark.parametrize("network", WHEELS, ids=lambda n: n.title)
def test_calls_have_the_samples_in_their_axes(network: WheelNetwork) -> None:
    first, second = network.calls(3, 0, 2)
    for a, b, axis in zip(first, second, network.batch_axes, strict=True):
        assert (a.shape[axis], b.shape[axis]) == (2, 1)
        assert a.dtype == np.float32
        assert np.isfinite(a).all()


@pytest.mark.parametrize(
    ("stage", "side", "shape"),
    [("pnet", 12, (2, 6, 1, 1)), ("rnet", 24, (2, 6)), ("onet", 48, (2, 16))],
)
def test_networks_of_mtcnn_have_the_published_sizes(
    stage: str, side: int, shape: tuple[int, ...]
) -> None:
    model = MtcnnNet(stage)
    assert model(torch.zeros(2, 3, side, side)).shape == shape
    counts = {"pnet": 6_632, "rnet": 100_178, "onet": 389_040}
    assert sum(p.numel() for p in model.parameters()) == counts[stage]


def test_text_is_read_from_scores() -> None:
    """Repeated letters count once unless a blank is between them."""
    letters = np.array([[1, 1, 0, 1, 2], [1, 0, 1, 2, 2], [1, 1, 2, 0, 0]])
    scores = np.eye(3)[letters]
    first, second, third = wheel_networks._texts([scores])
    assert first == second != third


def test_a_wheel_is_converted_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = MtcnnNet("rnet")
    torch.save(model.state_dict(), tmp_path / "rnet.pt")
    with zipfile.ZipFile(tmp_path / "some-1.whl", "w") as archive:
        archive.write(tmp_path / "rnet.pt", "some/data/rnet.pt")
    rnet = next(n for n in WHEELS if n.file == "rnet.pt")
    small = replace(rnet, calibration=32, tests=32)
    monkeypatch.setattr(wheel_times, "WHEELS", (small,))
    page = tmp_path / "page.md"
    page.write_text(f"{wheel_times.BEGIN}\n{wheel_times.END}\n")
    asked = ["--wheels", str(tmp_path), "--checkpoint", str(tmp_path / "kept"), "--budget", "0.5"]
    asked += ["--seconds", "0.1", "--threads", "1", "--markdown", str(page)]
    for _ in range(2):  # the second run reads what the first one kept
        assert wheel_times.main(asked) == 0, sys.stderr
    cells = next(x for x in page.read_text().splitlines() if "R-Net" in x).split(" | ")
    assert cells[1:3] == ["32", "0.5"]
    assert 0 < float(cells[3]) <= 0.5
    assert float(cells[6]) > 0
    assert "with one of these budgets" in page.read_text()
    assert "times as fast" in capsys.readouterr().out


def test_goals_that_are_out_of_reach_say_what_is_possible() -> None:
    refusal = "`budget` '2x faster' cannot be met in ONNX Runtime: at most 1.31 times as fast is"
    rows = [
        (WHEELS[0], Converted("0.5 time", 1.0, refusal), None),
        (WHEELS[0], Converted("0.7 time", 0.6), Measured(0.003, 0.002, 0.1, 0.9)),
    ]
    text = wheel_times.markdown(rows, 1)
    assert "cannot be met, at most 1.31" in text
    assert "| 1.50 | 0.100 | 0.900 of boxes" in text
    assert "1 of 1 networks run at least 1.4 times as fast" in text
