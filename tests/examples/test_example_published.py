"""The published methods that `convert` is compared with, and the scripts that write the tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import baselines
import conversion_times
import numpy as np
import published
import pytest
import torch
from baselines import Choice, Compression, in_covariance_norm, whitened
from conversion_times import TimedNetwork
from published import Outcome
from tables import replace_marked
from torch import nn

from separable.errors import FileError
from separable.nn import ledger

pytestmark = pytest.mark.docs
PAGE = Path(__file__).parents[2] / "docs" / "conversion.md"
SHAPE = (1, 6, 10, 10)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(6, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1)
    ).eval()


def count(net: nn.Module) -> int:
    return ledger(net, SHAPE, backward=False).total.multiplications


def error(net: nn.Module, other: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        wanted = net(images)
        return float((other(images) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("method", [whitened, in_covariance_norm])
def test_budgets_are_kept_and_larger_ones_are_better(method: Callable[..., Compression]) -> None:
    net, images = network(), torch.randn(8, *SHAPE[1:])
    errors = []
    compression = method(net, images.split(4))
    for budget in (0.25, 0.6, 1.0):
        made = compression.within(budget)
        assert count(made) <= budget * count(net)
        errors.append(error(net, made, images))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5  # the dense layers are among the choices


def test_whitening_attains_the_best_rank_of_the_outputs() -> None:
    """Eckart and Young: no layer of that rank has outputs nearer to the original's."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, 3, bias=False)
    images = torch.randn(4, 4, 10, 10)
    made: Any = whitened(nn.Sequential(conv), images.split(2)).within(0.6)
    rank = made[0].ranks["R"]
    with torch.no_grad():
        wanted = conv(images).movedim(1, 0).reshape(8, -1)
        found = made(images).movedim(1, 0).reshape(8, -1)
    values = torch.linalg.svdvals(wanted)
    best = values[rank:].square().sum().sqrt()
    assert float((found - wanted).norm()) == pytest.approx(float(best), rel=1e-3)


@pytest.mark.parametrize("pattern", ["ocyx -> oR,RyxS,Sc", "ocyx -> o,c,yx"])
def test_each_least_squares_step_lowers_the_error_in_the_norm(pattern: str) -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((36, 36))
    conv = nn.Conv2d(4, 8, 3)
    layer = baselines.Layer(
        baselines.LayerRef("conv", (), conv), rng.standard_normal((8, 36)), root @ root.T
    )
    rank = {"R": 3, "S": 2} if "S" in pattern else 4
    scheme = layer.scheme(pattern, rank)
    errors = []
    for sweeps in (0, 1, 4, 20):
        arrays = baselines._placed(scheme, baselines._alternating(layer, scheme, sweeps))
        errors.append(layer.lost(np.einsum(scheme.pattern.einsum, *arrays)))
    assert errors[0] > errors[1] > errors[2] >= errors[3] * (1 - 1e-9)


def test_the_relaxation_is_within_the_budget_and_near_the_best() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        tables = {
            name: [Choice(100, 0.0), *(Choice(float(c), float(e)) for c, e in rng.random((4, 2)) * (60, 1))]
            for name in "abc"
        }  # fmt: skip
        budget = float(rng.uniform(200, 300))
        chosen = baselines._relaxed(tables, budget)
        assert sum(c.cost for c in chosen.values()) <= budget
        every = itertools.product(*tables.values())
        best = min(sum(c.error for c in p) for p in every if sum(c.cost for c in p) <= budget)
        assert sum(c.error for c in chosen.values()) <= best + 0.7


def test_the_table_marks_the_best_and_counts_the_rows() -> None:
    rows = [
        Outcome("net", "accuracy", budget, method, seed, quality + 0.01 * seed, budget)
        for seed in (0, 1)
        for budget, method, quality in (
            (1.0, "dense", 0.95), (0.5, "nn.convert", 0.9), (0.5, "whitening", 0.8),
            (0.5, "Tucker-2 and CP", 0.7), (0.25, "nn.convert", 0.5), (0.25, "whitening", 0.6),
            (0.25, "Tucker-2 and CP", 0.4),
        )
    ]  # fmt: skip
    text = published.markdown(rows)
    assert "| net | accuracy | 0.955 ± 0.007 | 0.5 | **0.905 ± 0.007** | 0.805 ± 0.007 |" in text
    assert "at least as good as both in 1 of 2 rows" in text


def test_a_budget_that_a_method_cannot_meet_is_in_the_table() -> None:
    values = {"nn.convert": 0.4, "whitening": math.nan, "Tucker-2 and CP": 0.3}
    rows = [Outcome("net", "accuracy", 0.25, m, 0, q, 0.25) for m, q in values.items()]
    rows.append(Outcome("net", "accuracy", 1.0, "dense", 0, 1.0, 1.0))
    text = published.markdown(rows)
    assert "| 0.25 | **0.400** | cannot be met | 0.300 |" in text
    assert "in 1 of 1 rows" in text


def test_missing_wheels_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no wheel in .* contains onet\.pt"):
        next(iter(published.faces(tmp_path)))


def test_times_of_one_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{conversion_times.BEGIN}\n{conversion_times.END}\n")
    asked = ["--case", "vgg-digits", "--steps", "2", "--budget", "0.5", "--threads", "1"]
    assert conversion_times.main([*asked, "--markdown", str(page)]) == 0
    lines = page.read_text().splitlines()
    dense, half = (line.split(" | ") for line in lines if "VGG" in line)
    assert dense[1] == "dense"
    assert half[1] == "0.5"
    assert float(half[3]) >= 2
    assert all(cell.endswith(" ms") for cell in (half[5], half[6], half[8], half[9]))
    capsys.readouterr()


def test_goals_that_cannot_be_met_are_in_the_table() -> None:
    nothing = (math.nan, math.nan)
    rows = [
        TimedNetwork("vgg-digits", "dense", 100, 0.9, (0.1, 0.1), (0.1, 0.1), (0.1, 0.1)),
        TimedNetwork("vgg-digits", "9x faster in ONNX Runtime", 0, math.nan, *[nothing] * 3),
    ]
    assert "| 9x faster in ONNX Runtime | cannot be met | - |" in conversion_times.markdown(rows)


def test_the_page_has_the_table(tmp_path: Path) -> None:
    copy = tmp_path / "conversion.md"
    copy.write_text(PAGE.read_text())
    begin, rest = copy.read_text().split(published.BEGIN)
    assert "| --- |" in rest.split(published.END)[0]
    replace_marked(copy, published.BEGIN, published.END, "new")
    assert f"{published.BEGIN}\n\nnew\n\n{published.END}" in copy.read_text()
    assert copy.read_text().startswith(begin)
