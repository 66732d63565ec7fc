"""The machinery of the trainings: data order, checkpoints, resuming, shares of a batch."""

from __future__ import annotations

import copy
import dataclasses
import doctest
import importlib
import os
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import report
import torch
import training
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch import nn
from training import Data, Example, Ranks, Run, batch_rows

from separable.cli.console import output, put
from separable.errors import FileError

pytestmark = pytest.mark.docs

EXAMPLES = Path(__file__).parents[2] / "examples"
WITH_EXAMPLES = [p for p in sorted(EXAMPLES.glob("*.py")) if ">>>" in p.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_in_docstrings_run(path: Path) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    outcome = doctest.testmod(importlib.import_module(path.stem), optionflags=flags)
    assert outcome.failed == 0
    assert outcome.attempted > 0


# ---------------------------------------------------------------- the order of the data


@given(
    batch=st.integers(1, 7),
    batches=st.integers(1, 5),
    left=st.integers(0, 6),
    seed=st.integers(0, 9),
)
def test_an_epoch_sees_every_sample_at_most_once(
    batch: int, batches: int, left: int, seed: int
) -> None:
    samples = batch * batches + left % batch
    epoch = [batch_rows(samples, batch, seed, step) for step in range(batches)]
    assert all(len(rows) == batch for rows in epoch)
    assert len(torch.cat(epoch).unique()) == batch * batches


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first = batch_rows(100, 100, 0, 0)
    assert not torch.equal(first, batch_rows(100, 100, 0, 1))
    assert not torch.equal(first, batch_rows(100, 100, 1, 0))
    assert torch.equal(first, batch_rows(100, 100, 0, 0))


@given(world=st.integers(1, 5), each=st.integers(1, 4))
def test_shares_make_up_the_batch(world: int, each: int) -> None:
    rows = torch.arange(world * each)
    shares = [Ranks(rank, world).share(rows) for rank in range(world)]
    assert torch.equal(torch.cat(shares), rows)


# ---------------------------------------------------------------- a small training


class Small(nn.Module):
    """All that a resumed run must get right: dropout, a buffer that counts, two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean(2))


def small_data(seed: int) -> Data:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(40, 2, 8, generator=generator)
    targets = inputs.amax((1, 2))[:, None]
    return Data((inputs[:30], targets[:30]), (inputs[30:], targets[30:]))


SMALL = Example(
    name="small",
    title="Small",
    quality="minus error",
    networks={"dense": Small},
    data=small_data,
    loss=nn.functional.mse_loss,
    score=lambda outputs, targets: -nn.functional.mse_loss(outputs, targets).item(),
    baselines=lambda data, model: {},
    steps=9,
    batch=8,
    rate=0.05,
)


def quiet(steps: int, loss: float) -> None:
    pass


def trained(run: Run) -> tuple[report.Result, nn.Module]:
    return training.train(run, run.example.data(run.seed), Ranks(), quiet)


class Killed(BaseException):
    """Exception that no `except` of the training catches."""


@pytest.mark.parametrize("step", range(1, 9))
@pytest.mark.parametrize("every", [1, 3])
def test_a_run_killed_at_any_step_ends_as_if_it_had_not_been(
    step: int, every: int, tmp_path: Path
) -> None:
    run = Run(SMALL, "dense", 0, SMALL.steps, tmp_path, every)
    whole, model = trained(dataclasses.replace(run, folder=None))
    count = 0

    def kill(steps: int, loss: float) -> None:
        nonlocal count
        count += steps
        if count == step:
            raise Killed

    with pytest.raises(Killed):
        training.train(run, small_data(0), Ranks(), kill)
    torch.rand(step)  # what else was drawn meanwhile does not matter
    resumed, again = trained(run)
    assert resumed.losses == whole.losses
    assert len(whole.losses) == SMALL.steps
    assert resumed.quality == whole.quality
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    run = Run(SMALL, "dense", 0, SMALL.steps, tmp_path)
    first, _ = trained(run)
    before = run.path.stat().st_mtime_ns
    again, _ = trained(run)
    assert again == first
    assert run.path.stat().st_mtime_ns == before


def test_seeds_and_steps_change_the_result() -> None:
    losses = [trained(Run(SMALL, "dense", seed, 9))[0].losses for seed in (0, 1)]
    assert losses[0] != losses[1]
    assert losses[0] == trained(Run(SMALL, "dense", 0, 9))[0].losses


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    checkpoints.save(path, {"run": "a run", "step": 1})

    def fail(*_: object) -> None:
        raise OSError("no space left")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="no space left"):
                checkpoints.save(path, {"run": "a run", "step": 2})
        assert checkpoints.load(path, "a run")["step"] == 1
    checkpoints.save(path, {"run": "a run", "step": 3})
    assert checkpoints.load(path, "a run")["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (told.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *a: (told.append("replace"), replace(*a)))
    checkpoints.save(tmp_path / "run.pt", {"run": "a run"})
    assert told == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\3\4 half an archive"])
def test_a_damaged_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"run\.pt cannot be read .*; delete it to begin"):
        checkpoints.load(path, "a run")


class Trap:
    """Object that a pickle from an untrusted source could contain."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trapped",)


def test_a_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"run": "a run", "trap": Trap()}, tmp_path / "run.pt")
    with pytest.raises(FileError, match="UnpicklingError"):
        checkpoints.load(tmp_path / "run.pt", "a run")
    assert not (tmp_path / "trapped").exists()


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run = Run(SMALL, "dense", 0, SMALL.steps, tmp_path)
    trained(run)
    with pytest.raises(
        FileError, match=r'of "Small: dense, seed 0, 9 steps of 8", not of .*12 steps'
    ):
        trained(dataclasses.replace(run, steps=12))


# ---------------------------------------------------------------- shares of a batch

SCRIPTS = ("digits", "tumours", "cubes", "fraud", "crossing")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_gradient_of_a_batch_is_the_mean_of_its_halves(script: str) -> None:
    """No network or loss depends on the whole batch, as torchrun requires (in float64)."""
    example = made(script)
    inputs, targets = example.data(0).train
    inputs, targets = inputs[:8].double(), targets[:8]
    targets = targets.double() if targets.is_floating_point() else targets
    for name, build in example.networks.items():
        torch.manual_seed(0)
        model = build().double().train()
        whole = gradient(example, model, inputs, targets)
        halves = [gradient(example, model, inputs[h], targets[h]) for h in (slice(4), slice(4, 8))]
        torch.testing.assert_close((halves[0] + halves[1]) / 2, whole, msg=f"{script}, {name}")
        assert (halves[0] - halves[1]).abs().max() > 1e-6


def gradient(
    example: Example, model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    model = copy.deepcopy(model)
    example.loss(model(inputs), targets).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def made(script: str, *arguments: str) -> Example:
    """The example that a script makes of its arguments, and of --quick."""
    found: list[Example] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            training, "main", lambda make, read, _: found.append(make(read.parse_args(["--quick", *arguments])))
        )  # fmt: skip
        importlib.import_module(script).main()
    return found[0]


# ---------------------------------------------------------------- the report


@given(st.lists(st.tuples(st.integers(-50, 50), st.booleans()), min_size=2, max_size=30))
def test_average_precision_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs]) + np.linspace(0, 0.5, len(pairs))
    wanted = np.array([truth for _, truth in pairs])
    if not wanted.any():
        return
    ours = report.average_precision(torch.from_numpy(scores), torch.from_numpy(wanted))
    assert ours == pytest.approx(average_precision_score(wanted, scores))


def test_equal_answers_earn_nothing() -> None:
    for wanted in ([1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]):
        assert report.average_precision(torch.zeros(4), torch.tensor(wanted)) == 0.25


def test_the_printed_table(
    request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [
        report.Result(name, seed, parameters, 73_728, 0.0123 * (1 + seed), 0.9 - seed / 100, [0.5])
        for seed in range(3)
        for name, parameters in (("dense", 73_728), ("separable", 8_768), ("wider", 147_456))
    ]
    table = report.summary(results, {"chance": [0.01, 0.01, 0.01]}, "average precision")
    put(output(), table)
    kept = Path(__file__).parent / "summary.txt"
    text = capsys.readouterr().out
    if request.config.getoption("--rewrite-snapshots"):
        kept.write_text(text, encoding="utf-8")
    assert text == kept.read_text(encoding="utf-8")
    assert "÷ 8.41" in text  # 73,728 / 8,768
    assert max(map(len, text.splitlines())) <= 80
