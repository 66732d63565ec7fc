"""The scripts as processes: killed and started again, and two of them sharing the work."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import checkpoints
import digits
import numpy as np
import pytest
import torch
import training
import tumours

pytestmark = pytest.mark.docs

EXAMPLES = Path(__file__).parents[2] / "examples"
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=QUIET, cwd=EXAMPLES, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(*arguments: str) -> str:
    process = start(*arguments)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def same(one: Any, other: Any) -> bool:
    """Return whether two states are bit-identical."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_training_ends_bit_identical(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process is killed in the second network, and this one continues; each checkpoint seen can be read."""
    asked = ["--steps", "50", "--seeds", "1", "--checkpoint"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert digits.main([*asked, str(whole)]) == 0
    first = capsys.readouterr().out
    process = start("digits.py", *asked, str(killed), "--save-every", "1")
    path, seen, begin = killed / "digits-separable-0.pt", 0, time.monotonic()
    name = "Digits of scikit-learn, 8x8: separable, seed 0, 50 steps of 32"
    while seen < 20:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - begin < 600
        state = checkpoints.load(path, name)
        seen = state["step"] if state else 0
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert out == ""
    at = checkpoints.load(path, name)["step"]
    assert 20 <= at < 50

    assert digits.main([*asked, str(killed), "--save-every", "7"]) == 0
    second = capsys.readouterr().out
    for network in ("dense", "separable"):
        found, wanted = (
            torch.load(folder / f"digits-{network}-0.pt", weights_only=True)
            for folder in (killed, whole)
        )
        assert len(found.pop("seconds")) == len(wanted.pop("seconds")) == 50
        assert {"model", "optimizer", "losses", "step"} < found.keys()
        assert same(found, wanted), network
    assert qualities(first) == qualities(second)


def qualities(printed: str) -> dict[str, str]:
    """The last column of the table's lines that begin with a name."""
    lines = [line.split() for line in printed.splitlines() if line[:6] in ("dense ", "separa")]
    return {line[0]: line[-1] for line in lines}


def test_two_processes_reach_the_loss_of_one(tmp_path: Path) -> None:
    asked = ["--quick", "--steps", "4", "--seeds", "1", "--threads", "1", "--json"]
    assert tumours.main([*asked, str(tmp_path / "one.json")]) == 0
    printed = finish(*TWO, "tumours.py", *asked, str(tmp_path / "two.json"))
    assert printed.count("parameters") == 1  # one table, not two
    assert "processes: 2" in printed
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    for a, b in zip(one["results"], two["results"], strict=True):
        assert len(a["losses"]) == 4
        assert np.ptp(a["losses"]) > 0.01  # it is a training, not a constant
        np.testing.assert_allclose(b["losses"], a["losses"], rtol=5e-5)
        assert b["quality"] == pytest.approx(a["quality"], abs=0.005)


class Killed(BaseException):
    """Exception that no `except` of the training catches."""


def test_two_processes_go_on_where_one_was_killed(tmp_path: Path) -> None:
    """The first network from its beginning, the second from a checkpoint of its third step."""
    example = digits.example(argparse.Namespace(mnist=None))
    data = example.data(0)
    runs = [training.Run(example, network, 0, 6) for network in ("dense", "separable")]
    whole = [training.train(run, data, training.Ranks(), lambda *_: None)[0] for run in runs]

    def kill(steps: int, loss: float) -> None:
        if loss == whole[1].losses[2]:
            raise Killed

    kept = dataclasses.replace(runs[1], folder=tmp_path)
    with pytest.raises(Killed):
        training.train(kept, data, training.Ranks(), kill)
    assert checkpoints.load(kept.path, kept.text)["step"] == 3
    asked = ["digits.py", "--steps", "6", "--seeds", "1", "--json", str(tmp_path / "a.json")]
    finish(*TWO, *asked, "--checkpoint", str(tmp_path))
    dense, separable = json.loads((tmp_path / "a.json").read_text())["results"]
    assert separable["losses"][:3] == whole[1].losses[:3]
    np.testing.assert_allclose(separable["losses"], whole[1].losses, rtol=5e-5)
    np.testing.assert_allclose(dense["losses"], whole[0].losses, rtol=5e-5)
