"""Budgets in time: what is chosen, what is said, and goals that cannot be met.

The times are those of made-up profiles in which they follow from multiplications or calls alone, so that no test
depends on the computer.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn import convert, ledger
from separable.nn.convert import layer_prices, report_builder, time_decision
from separable.nn.convert.conversion_goal import Goal, goal_of
from separable.nn.convert.error_curves import kernel_ranks
from separable.nn.convert.network_times import NetworkDuration
from separable.nn.convert.report_text import time_line
from separable.nn.factored_conv import FactoredConv
from separable.nn.runtimes.known_runtimes import RUNTIMES
from separable.nn.step_times.layer_profile import LayerProfile
from separable.nn.step_times.step_work import COPY, GEOMETRIES
from separable.nn.step_times.time_model import TimeModel

pytestmark = pytest.mark.apart

SHAPE = (1, 3, 16, 16)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
    ).eval()  # fmt: skip


def profile(call: float, mac: float) -> LayerProfile:
    """Return a profile whose steps take so long per call and per multiplication."""
    model = TimeModel((call, mac, 0.0), np.zeros((0, 1)), np.zeros(0), np.ones(1), 1.0)
    kinds = dict.fromkeys((*GEOMETRIES, "depthwise_separable"), model)
    free = TimeModel((0.0, 0.0, 0.0), np.zeros((0, 1)), np.zeros(0), np.ones(1), 1.0)
    kinds |= dict.fromkeys(("relu", "batch_norm", COPY), free)
    return LayerProfile("made up", 1, dict.fromkeys(RUNTIMES, kinds), {})


@pytest.fixture
def by_multiplications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_prices, "current_profile", lambda: profile(0.0, 1e-9))


@pytest.fixture
def by_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_prices, "current_profile", lambda: profile(1e-3, 1e-13))


@pytest.mark.parametrize(
    ("budget", "goal"),
    [
        (0.5, Goal(0.5)),
        (1, Goal(1.0)),
        ("0.5", Goal(0.5)),
        ("2x faster", Goal(0.5, True)),
        ("4 times faster", Goal(0.25, True)),
        ("2.5 x as fast", Goal(0.4, True)),
        ("0.25 time", Goal(0.25, True)),
        (" 0.25 of the time ", Goal(0.25, True)),
    ],
)
def test_budgets(budget: object, goal: Goal) -> None:
    assert goal_of(budget) == goal


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("fast", "`budget` must be a share of the multiplications such as 0.5, or of the time"),
        ("", "got ''"),
        ("1.2.3x faster", "got '1.2.3x faster'"),
        ("-2x faster", "got '-2x faster'"),
        ("0.5x faster", "faster means a factor above 1"),
        ("1e999x faster", "faster means a factor above 1"),
        ("0 time", "a part of the time is > 0 and at most 1"),
        ("1.5 time", "a part of the time is > 0 and at most 1"),
        ("nan time", "got 'nan time'"),
        ("0", "the share of the multiplications that may stay, > 0"),
        ("7", "must be 0 .. 1"),
        (float("nan"), "must be 0 .. 1"),
    ],
)
def test_budgets_that_mean_nothing(budget: object, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        convert(net(), "auto", budget=budget, input_shape=SHAPE, repeats=0)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_other_bad_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentTypeError, match=r"`budget` must be a number or a text"):
        convert(net(), "auto", budget=[2], input_shape=SHAPE)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"`runtime` must be one of"):
        convert(net(), "auto", budget="2x faster", input_shape=SHAPE, runtime="tpu")
    with pytest.raises(ArgumentError, match=r"give one of `rank`, `tol` and `budget`"):
        convert(net(), budget=0.5, tol=0.1, input_shape=SHAPE)
    with pytest.raises(ArgumentError, match="give `data` or `input_shape`"):
        convert(net(), "auto", budget="2x faster")
    monkeypatch.setattr(RUNTIMES["onnxruntime"], "why_not", lambda: "it is not installed")
    with pytest.raises(ArgumentError, match=r"`runtime` 'onnxruntime' cannot be used"):
        convert(net(), "auto", budget="2x faster", input_shape=SHAPE, runtime="onnxruntime")


@pytest.mark.usefixtures("by_multiplications")
@pytest.mark.parametrize("runtime", ["torch", "fused", "onnxruntime"])
def test_time_that_goes_by_multiplications(runtime: str) -> None:
    pytest.importorskip("onnxruntime")
    before = ledger(net(), SHAPE, backward=False).total.macs
    small, report = convert(
        net(), "auto", budget="3x faster", input_shape=SHAPE, repeats=0, runtime=runtime
    )
    assert ledger(small, SHAPE, backward=False).total.macs <= before / 3 * 1.001
    found = report.duration
    assert found is not None
    assert found.predicted_before == pytest.approx(before * 1e-9)
    assert found.predicted == pytest.approx(report.multiplications * 1e-9)
    assert not found.misses_goal
    lines = report.table().splitlines()
    assert " times as fast in " in lines[0]
    assert "The network takes" in "\n".join(lines[1:4])
    assert "predicted and not measured (`repeats` is 0)" in report.table(width=300)


@pytest.mark.usefixtures("by_multiplications")
def test_transposed_layers_are_predicted_by_their_own_multiplications() -> None:
    torch.manual_seed(0)
    up = nn.Sequential(nn.ConvTranspose2d(16, 24, 5, stride=2, padding=1, output_padding=1)).eval()
    small, report = convert(up, "auto", budget="0.5 time", input_shape=(1, 16, 9, 9), repeats=0)
    assert isinstance(small[0], FactoredConv)
    assert report.duration is not None
    counted = [ledger(m, (1, 16, 9, 9), backward=False).total.macs for m in (up, small)]
    assert report.duration.predicted_before == pytest.approx(counted[0] * 1e-9)
    assert report.duration.predicted == pytest.approx(counted[1] * 1e-9)
    assert counted[1] <= 0.5 * counted[0]


@pytest.mark.usefixtures("by_multiplications")
def test_ranks_suit_kernels() -> None:
    small, _ = convert(net(), "auto", budget="2x faster", input_shape=SHAPE, repeats=0)
    layers = [m for m in small.modules() if isinstance(m, FactoredConv)]
    assert layers
    for layer in layers:
        for ranks in layer.scheme.ranks.values():
            assert ranks.min() == ranks.max()
        if "oc,cyx" not in str(layer.pattern):
            for ranks in layer.scheme.ranks.values():
                rank, width = int(ranks.max()), layer_width()
                assert rank % width == 0 or rank < width or rank == max(layer.spec.weight_shape[:2])


def layer_width() -> int:
    from separable.machine import vector_bits

    return vector_bits() // 32


@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize("limit", [1, 2, 5, 16, 17, 100, 1000])
def test_kernel_ranks(limit: int, width: int) -> None:
    found = kernel_ranks(limit, width)
    assert found == sorted(set(found))
    assert found[0] > 0
    assert found[-1] <= limit
    assert all(r % width == 0 or r < width or r == limit for r in found)
    assert len(found) < 2 * 24 + 8


@pytest.mark.usefixtures("by_calls")
def test_what_would_be_slower_is_left_or_said() -> None:
    with pytest.raises(
        ArgumentError, match=r"'2x faster' cannot be met in PyTorch .*at most 1\.00 times as fast"
    ):
        convert(net(), "auto", budget="2x faster", input_shape=SHAPE, repeats=0)
    _, report = convert(net(), rank=2, input_shape=SHAPE, repeats=0)
    assert report.table(width=200).startswith("Slower than the original in PyTorch (eager)")
    same, kept = convert(net(), "auto", budget="2x faster", tol=0.5, input_shape=SHAPE, repeats=0)
    assert not kept.converted
    assert kept.table(width=300).startswith("Goal of 2x faster not met. As fast as the original")
    assert torch.equal(same(torch.ones(SHAPE)), net()(torch.ones(SHAPE)))


@pytest.mark.usefixtures("by_multiplications")
def test_a_tolerance_stops_before_the_goal() -> None:
    _, free = convert(net(), "auto", budget="6x faster", input_shape=SHAPE, repeats=0)
    _, report = convert(net(), "auto", budget="6x faster", tol=0.5, input_shape=SHAPE, repeats=0)
    assert report.duration is not None
    assert free.duration is not None
    assert report.duration.misses_goal
    assert not free.duration.misses_goal
    assert all(x.weight_error <= 0.5 + 1e-6 for x in report.converted)
    assert report.table(width=300).startswith("Goal of 6x faster not met. ")
    assert max(x.weight_error for x in free.converted) > 0.5


@pytest.mark.usefixtures("by_multiplications")
def test_unreachable_goals_say_what_is_possible() -> None:
    with pytest.raises(ArgumentError) as caught:
        convert(net(), "auto", budget="10000x faster", input_shape=SHAPE, repeats=0)
    found = float(str(caught.value).split("at most ")[1].split(" ")[0])
    convert(net(), "auto", budget=f"{found * 0.98}x faster", input_shape=SHAPE, repeats=0)


class Stubborn(nn.Module):
    """A network that runs on shapes, and on no numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3)
        self.more = nn.Conv2d(32, 32, 3)

    def forward(self, x: Tensor) -> Tensor:
        if type(x) is Tensor:
            raise RuntimeError("no numbers, please")
        return self.more(self.conv(x))


def test_networks_whose_time_cannot_be_measured() -> None:
    with pytest.raises(ArgumentError) as caught:
        convert(Stubborn(), "auto", budget="2x faster", input_shape=SHAPE, repeats=1)
    assert "needs the time of Stubborn, which cannot be measured" in str(caught.value)
    assert "no numbers, please" in str(caught.value)
    _, report = convert(Stubborn(), rank=1, input_shape=SHAPE, repeats=1)
    assert "predicted and not measured (it does not run" in report.table(width=400)


def test_times_are_measured() -> None:
    """No test of which is faster: that depends on the computer."""
    data = torch.randn(4, *SHAPE[1:])
    _, report = convert(net(), "auto", budget="0.9 time", tol=0.9, data=[data], repeats=1)
    found = report.duration
    assert found is not None
    assert found.is_measured
    assert found.gain == pytest.approx(found.seconds_before / found.seconds)
    assert report.to_dict()["duration"]["seconds"] == found.seconds
    first = report.table(width=400).splitlines()[0]
    assert "error of its output" in first or not report.converted  # nothing is faster at times
    said = {"Slower": found.is_slower, "Goal": found.misses_goal}
    assert all(
        first.startswith(word) or not holds for word, holds in said.items() if word == "Goal"
    )
    assert ("Slower than the original" in first) == found.is_slower


@pytest.mark.parametrize(
    ("seconds", "goal", "line"),
    [
        (5e-3, math.nan, "2.00 times as fast in PyTorch (eager), 2 threads: 5.00 ms instead of 10.0 ms per call; its"),
        (1e-2, math.nan, "As fast as the original in PyTorch (eager), 2 threads: 10.0 ms instead"),
        (2e-2, math.nan, "Slower than the original in PyTorch (eager), 2 threads: 20.0 ms instead"),
        (5e-3, 0.5, "2.00 times as fast"),
        (8e-3, 0.5, "Goal of 2x faster not met. 1.25 times as fast"),
        (2e-2, 0.5, "Goal of 2x faster not met. Slower than the original"),
    ],
)  # fmt: skip
def test_the_first_line(seconds: float, goal: float, line: str) -> None:
    _, report = convert(net(), rank=1, repeats=0)
    assert time_line(report) == (
        "Time unknown without an input shape or data; its error is unknown without data."
    )
    duration: Any = NetworkDuration("torch", 2, seconds, 1e-2, goal=goal)
    object.__setattr__(report, "duration", duration)
    assert time_line(report).startswith(line)
    slower = replace(duration, slower_in={"fused": 0.9})
    object.__setattr__(report, "duration", slower)
    assert "per call; SLOWER in fused programs, 0.90 times as fast; its error" in time_line(report)


@pytest.mark.usefixtures("by_calls")
def test_a_runtime_leaves_out_what_saves_no_time() -> None:
    """Multiplications are free in this profile, so that the budget alone decides; it still holds."""
    _, report = convert(net(), "auto", budget=0.5, input_shape=SHAPE, repeats=0, runtime="fused")
    assert report.multiplications <= 0.5 * report.multiplications_before
    for layer in report.converted:
        for ranks in layer.ranks.values():
            assert isinstance(ranks, int)


def measured_as(monkeypatch: pytest.MonkeyPatch, share: Any) -> None:
    """Let layers take what is predicted, and converted networks `share` of what is predicted for them."""

    def timed(runtime: Any, networks: Any, inputs: Any, seconds: float = 0.0) -> list[float]:
        macs = [ledger(n, SHAPE, backward=False).total.macs for n in networks]
        return [1.0, share(macs[1] / macs[0]) if macs[1] != macs[0] else 1.0]

    def layers(prices: Any, ref: Any, schemes: Any) -> list[float]:
        return [prices.dense(ref) if s is None else prices.cost(ref, s) for s in schemes]

    monkeypatch.setattr(time_decision, "timed_networks", timed)
    monkeypatch.setattr(report_builder, "timed_networks", timed)
    monkeypatch.setattr(layer_prices.LayerPrices, "measured", layers)


@pytest.mark.usefixtures("by_multiplications")
def test_predictions_that_promise_too_much_are_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks take 1.4 times as long as predicted, so that the ranks must become smaller."""
    measured_as(monkeypatch, lambda predicted: 1.4 * predicted)
    _, report = convert(net(), "auto", budget="2x faster", input_shape=SHAPE, repeats=1)
    assert report.duration is not None
    assert not report.duration.misses_goal
    assert report.duration.is_measured
    assert report.duration.predicted / report.duration.predicted_before < 0.5 / 1.3


@pytest.mark.usefixtures("by_multiplications")
def test_a_network_that_does_not_become_faster_stays_dense(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured_as(monkeypatch, lambda predicted: 1.5)
    _, report = convert(net(), "auto", budget="2x faster", input_shape=SHAPE, repeats=1)
    assert not report.converted
    assert time_line(report).startswith("Goal of 2x faster not met. As fast as the original")
