"""Every script: it runs, prints and writes what it promises, goes on, and refuses in words."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import math
import re
import sys
from pathlib import Path

import crossing
import cubes
import fraud
import numpy as np
import pytest
import torch
import training
import tumours
from scipy.optimize import nnls
from torch import nn

from separable.nn import SeparableConv2d

pytestmark = pytest.mark.docs

README = (Path(__file__).parents[2] / "examples" / "README.md").read_text(encoding="utf-8")
SCRIPTS = {
    "digits": [],
    "tumours": [],
    "tumours in 3-D": ["--volumes"],
    "cubes": [],
    "fraud": [],
    "crossing": [],
    "crossing of one": ["--detectors", "1"],
}


def run(name: str, *arguments: str) -> int:
    return importlib.import_module(name.split()[0]).main([*SCRIPTS[name], *arguments])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_quick_training(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--quick", "--steps", "2", "--seeds", "2", "--checkpoint", str(tmp_path / "kept")]
    assert run(name, *asked, "--json", str(tmp_path / "a.json")) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert {"parameters", "multiplications", "time", "±"} <= set(printed.out.split())
    told = json.loads((tmp_path / "a.json").read_text())
    assert (told["options"]["steps"], told["processes"]) == (2, 1)
    assert [r["seed"] for r in told["results"]] == sorted(2 * [0, 1] * (len(told["results"]) // 4))
    dense, separable = told["results"][:2]
    if name != "crossing of one":
        assert separable["parameters"] < dense["parameters"]
        assert separable["multiplications"] < dense["multiplications"]
    for result in told["results"]:
        assert all(map(math.isfinite, result["losses"]))
        assert 0 <= result["quality"] <= 1
        assert result["step_seconds"] > 0
    assert all(0 <= q <= 1 for values in told["baselines"].values() for q in values)

    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "kept").iterdir()}
    assert len(files) == len(told["results"])
    assert run(name, *asked, "--json", str(tmp_path / "b.json")) == 0
    again = json.loads((tmp_path / "b.json").read_text())
    assert again["results"] == told["results"]
    assert files == {p: p.stat().st_mtime_ns for p in (tmp_path / "kept").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "argument --steps: expected a whole number of at least 1; got '0'"),
        (["--seeds", "-1"], "argument --seeds: expected a whole number of at least 1; got '-1'"),
        (["--threads", "two"], "got 'two'"),
        (["--save-every", "1.5"], "got '1.5'"),
        (["--detectors", "3"], "argument --detectors: invalid choice: 3"),
        (["--epochs", "3"], "unrecognized arguments: --epochs 3"),
        (["--quick", "extra"], "unrecognized arguments: extra"),
    ],
)
def test_bad_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        crossing.main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_bad_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("text")
    bad = {
        ("--json", str(tmp_path)): "`--json` must name a file in a folder that exists",
        ("--json", str(tmp_path / "no" / "a.json")): "`--json` must name a file in a folder",
        ("--checkpoint", str(file)): "File exists",
        ("--checkpoint", str(file / "deeper")): "Not a directory",
    }
    for arguments, message in bad.items():
        assert crossing.main(["--quick", *arguments]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert message in told.err
        assert str(arguments[1]) in told.err
        assert "Traceback" not in told.err


def test_checkpoints_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--quick", "--seeds", "1", "--checkpoint", str(tmp_path)]
    assert crossing.main([*asked, "--steps", "2"]) == 0
    assert crossing.main([*asked, "--steps", "3"]) == 2
    assert "give the same options, or another folder to `--checkpoint`" in capsys.readouterr().err
    (tmp_path / "crossing-2-dense-0.pt").write_bytes(b"damaged")
    assert crossing.main([*asked, "--steps", "2"]) == 2
    assert "delete it to begin this run anew" in capsys.readouterr().err


def test_a_batch_must_be_shared_equally(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        training, "_processes", lambda: contextlib.nullcontext(training.Ranks(0, 3))
    )
    assert crossing.main(["--quick"]) == 2
    assert "3 processes cannot share a batch of 64 equally" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    assert crossing.main(["--quick", "--steps", "3", "--seeds", "1", "--detectors", "1"]) == 0
    text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", seen.getvalue())
    assert re.search(r"two separable layers, seed 0, loss \d\.\d{4}", text)
    assert "12/12" in text  # 3 steps of 4 networks


def test_ctrl_c_says_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    assert crossing.main(["--quick"]) == 130
    assert "stopped; nothing kept" in capsys.readouterr().err
    assert crossing.main(["--quick", "--checkpoint", str(tmp_path)]) == 130
    assert "the same command goes on from the checkpoint" in capsys.readouterr().err


# ---------------------------------------------------------------- what is learned from


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: tumours.data(seed, (32, 32), 3, 2),
        lambda seed: tumours.data(seed, (16, 16, 16), 3, 2),
        lambda seed: cubes.data(seed, 3, 2),
        lambda seed: fraud.data(seed, 200),
        lambda seed: crossing.data(seed, 3, 2, 2),
    ],
    ids=["tumours", "tumours in 3-D", "spectral", "fraud", "crossing"],
)
def test_data_are_a_function_of_the_seed(make) -> None:
    first, again, other = make(0), make(0), make(1)
    for a, b, c in zip(first.train, again.train, other.train, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert not torch.equal(first.train[0][:2], first.test[0][:2])


def test_one_card_in_a_hundred_is_stolen() -> None:
    series, stolen = fraud.transactions(2000, np.random.default_rng(0))
    assert stolen.sum() == 20
    assert np.isfinite(series).all()
    # The largest and smallest amounts and pauses, which say nothing of the order, tell little.
    extremes = np.concatenate([series[:, :2].max(2), series[:, :2].min(2)], axis=1)
    apart = np.abs(extremes[stolen].mean(0) - extremes[~stolen].mean(0)) / extremes.std(0)
    assert apart.max() < 1.5


def test_known_end_members_explain_the_cube(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubes, "NOISE", 0.0)
    seen, shares = cubes.cube(np.random.default_rng(0))
    for y, x in ((0, 0), (3, 11), (15, 15)):
        found, left = nnls(cubes.end_members().T, seen[:, y, x])
        assert left < 1e-10
        np.testing.assert_allclose(found / found.sum(), shares[:, y, x], atol=1e-8)


def test_no_threshold_finds_the_tumours() -> None:
    data = tumours.data(0, (64, 64), 60, 20)
    assert 0.02 < data.train[1].mean() < 0.15
    assert tumours.threshold(data, nn.Identity())["best threshold"] < 0.45


# ---------------------------------------------------------------- what one layer can do


def test_crossings_by_brute_force() -> None:
    images = crossing.scenes(3, np.random.default_rng(0))
    found = crossing.crossings(images)
    count = 0
    for n, detector, y, x in np.ndindex(found.shape):
        red, blue = images[n] if detector == 0 else images[n][::-1]
        inside = 0 < y < crossing.SIDE - 1 and 0 < x < crossing.SIDE - 1
        down = inside and all(red[y + k, x] for k in (-1, 0, 1))
        across = inside and all(blue[y, x + k] for k in (-1, 0, 1))
        assert found[n, detector, y, x] == (down and across)
        count += down and across
    assert count > 0


def perfect(detectors: int) -> nn.Conv2d:
    """The dense layer that answers above 0 where a crossing is, and nowhere else."""
    layer = nn.Conv2d(2, detectors, 3, padding="same")
    line = torch.zeros(3, 3)
    line[:, 1] = 1
    with torch.no_grad():
        for detector in range(detectors):
            layer.weight[detector, detector] = line
            layer.weight[detector, 1 - detector] = line.T
        layer.bias.fill_(-5.5)
    return layer


@pytest.mark.parametrize("detectors", [1, 2])
def test_the_statement_by_ranks(detectors: int) -> None:
    layer = perfect(detectors)
    images, wanted = crossing.data(0, 1, 40, detectors).test
    assert wanted.sum() > 0
    assert torch.equal(layer(images) > 0, wanted > 0.5)
    ranks = [torch.linalg.matrix_rank(layer.weight[:, c].flatten(1)) for c in range(2)]
    assert ranks == [detectors, detectors]
    enough = SeparableConv2d.from_dense(layer, rank=detectors)
    torch.testing.assert_close(enough(images), layer(images))
    if detectors == 2:
        short = SeparableConv2d.from_dense(layer, rank=1)
        assert not torch.equal(short(images) > 0, wanted > 0.5)
    assert crossing.converted(training.Data((images, wanted), (images, wanted)), layer)[
        f"dense, cut to rank {detectors}"
    ] == pytest.approx(1)


def test_multiplier_1_fails_and_2_repairs_it() -> None:
    example = crossing.example(crossing_options(2))
    qualities = {}
    for network in ("dense", "separable, M = 1", "separable, M = 2"):
        run = training.Run(example, network, 0, 800)
        data = crossing.data(0, 500, 200, 2)
        result, _ = training.train(run, data, training.Ranks(), lambda steps, loss: None)
        qualities[network] = result.quality
    assert qualities["dense"] > 0.95
    assert qualities["separable, M = 2"] > 0.95
    assert qualities["separable, M = 1"] < 0.6


def crossing_options(detectors: int):
    return training.argparse.Namespace(quick=True, detectors=detectors)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_costs_in_the_readme(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measured tables still give the correct numbers of parameters and multiplications."""
    made: list[training.Example] = []

    def keep(make, read, arguments) -> None:
        quick = make(read.parse_args([*arguments, "--quick"]))
        made.extend([make(read.parse_args(arguments)), quick])

    monkeypatch.setattr(training, "main", keep)
    run(name)
    full, quick = made
    tables = README.split(full.title, 1)[1].split("```", 1)[0].splitlines()
    shape = quick.data(0).test[0].shape[1:]
    for network, build in full.networks.items():
        model = build()
        costs = (
            sum(p.numel() for p in model.parameters()),
            training.ledger(model, (1, *shape)).total.multiplications,
        )
        line = next(line for line in tables if line.startswith(f"{network} "))
        assert line.removeprefix(network).split()[:2] == [f"{cost:,}" for cost in costs], network
