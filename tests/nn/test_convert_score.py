"""`convert(metric=...)`: the user's score decides on layers and ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn import FactoredConv
from separable.nn.convert import convert
from separable.nn.ledger import ledger

SHAPE = (1, 4, 10, 10)


class TwoOutputs(nn.Module):
    """Two layers that read the same input; a score may look at the output of one of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Conv2d(4, 24, 3), nn.Conv2d(4, 24, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(x), self.right(x)


def chain() -> nn.Sequential:
    """Return three layers that are nearly depthwise separable."""
    torch.manual_seed(1)
    made = nn.Sequential(
        nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3)
    )
    for conv in (made[0], made[2], made[4]):
        one = torch.randn_like(conv.weight[:, :, :1, :1]) * torch.randn_like(conv.weight[:1])
        conv.weight.data = 0.1 * (one + 0.15 * torch.randn_like(conv.weight))
    return made


def agreement(net: nn.Module, inputs: Tensor, outputs: int = 0) -> Callable[[nn.Module], float]:
    """Return a score: 1 for the outputs of a network, less for others."""

    def of(model: nn.Module) -> Tensor:
        found = model(inputs)
        return found[outputs] if isinstance(found, tuple) else found

    with torch.no_grad():
        wanted = of(net)

    def score(model: nn.Module) -> float:
        return 1 - ((of(model) - wanted).norm() / wanted.norm()).item()

    return score


def count(net: nn.Module) -> int:
    return ledger(net, SHAPE, backward=False).total.multiplications


@pytest.mark.parametrize("seen", [0, 1])
@pytest.mark.parametrize("has_data", [False, True])
def test_the_layer_that_the_score_depends_on_keeps_its_multiplications(
    seen: int, has_data: bool
) -> None:
    net, images = TwoOutputs().eval(), torch.randn(6, *SHAPE[1:])
    score = agreement(net, images, seen)
    how: dict[str, Any] = {"data": images.split(3)} if has_data else {"input_shape": SHAPE}
    small, report = convert(net, "auto", budget=0.5, metric=score, repeats=0, **how)
    without, _ = convert(net, "auto", budget=0.5, repeats=0, **how)
    kept = [report[n].multiplications for n in ("left", "right")]
    assert kept[seen] > 2 * kept[1 - seen]
    assert score(small) > score(without) + 0.01
    assert report.score is not None
    assert report.score.after == pytest.approx(score(small), abs=1e-6)
    assert report.score.before == pytest.approx(1.0)
    assert count(small) <= 0.5 * count(net)
    assert report[("left", "right")[1 - seen]].score_loss == pytest.approx(0, abs=1e-6)
    assert report[("left", "right")[seen]].score_loss > 0.01


@pytest.mark.parametrize("has_data", [False, True])
def test_a_tolerance_is_in_units_of_the_score(has_data: bool) -> None:
    net, images = chain().eval(), torch.randn(4, *SHAPE[1:])
    score = agreement(net, images)
    how: dict[str, Any] = {"data": images.split(2)} if has_data else {"input_shape": SHAPE}
    counts = []
    how |= {"metric": score, "evaluations": 16, "repeats": 0, "sweeps": 0}
    for tol in (0.05, 0.3):
        small, report = convert(net, "auto", tol=tol, **how)
        assert score(small) >= 1 - tol - 1e-6
        assert report.score is not None
        assert report.score.loss <= tol
        counts.append(count(small))
    assert counts[1] < counts[0] <= count(net)
    exact, report = convert(net, "auto", tol=0, **how)
    assert score(exact) >= 1 - 1e-6


def test_a_budget_beyond_the_tolerance_is_missed_and_the_report_says_so() -> None:
    net, images = chain().eval(), torch.randn(4, *SHAPE[1:])
    score = agreement(net, images)
    small, report = convert(
        net, "auto", budget=0.1, tol=0.2, metric=score, input_shape=SHAPE, repeats=0
    )
    assert report.score is not None
    assert report.score.loss <= 0.2
    assert 0.1 * count(net) < count(small) < count(net)
    assert report.score.missed_budget == "0.1"
    assert "budget 0.1 was not met: it would cost more than the 0.2 that `tol` allows" in (
        " ".join(str(report).split())
    )


@pytest.mark.parametrize("limit", [8, 11, 30])
@pytest.mark.parametrize("how", [{"budget": 0.4}, {"tol": 0.1}, {"budget": 0.2, "tol": 0.1}])
def test_the_metric_is_called_at_most_as_often_as_allowed(limit: int, how: dict[str, Any]) -> None:
    net, images = chain().eval(), torch.randn(4, *SHAPE[1:])
    score, calls = agreement(net, images), []

    def counted(model: nn.Module) -> float:
        assert not torch.is_grad_enabled()
        assert not model.training
        calls.append(1)
        return score(model)

    _, report = convert(
        net, "auto", metric=counted, evaluations=limit, input_shape=SHAPE, repeats=0, **how
    )
    assert len(calls) <= limit
    assert report.score is not None
    assert report.score.evaluations == len(calls)


def test_a_metric_that_changes_its_network_changes_nothing_else() -> None:
    net, images = chain().train(), torch.randn(4, *SHAPE[1:])
    score = agreement(net, images)
    before = {k: v.clone() for k, v in net.state_dict().items()}

    def careless(model: nn.Module) -> Tensor:
        found = score(model)
        for parameter in model.parameters():
            parameter.zero_()
        model.train()
        return torch.tensor([found])

    how = {"budget": 0.5, "input_shape": SHAPE, "repeats": 0}
    first, _ = convert(net, "auto", metric=score, **how)
    second, report = convert(net, "auto", metric=careless, **how)
    assert score(second) == pytest.approx(score(first))
    assert report.score is not None
    assert report.score.after == pytest.approx(score(second), abs=1e-6)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(module.training for module in second.modules())


def test_a_search_in_time_meets_the_goal_as_predicted() -> None:
    net, images = TwoOutputs().eval(), torch.randn(2, 4, 40, 40)
    score = agreement(net, images)
    how = {"input_shape": (1, 4, 40, 40), "repeats": 0, "runtime": "onnxruntime"}
    small, report = convert(net, "auto", budget="1.2x faster", tol=0.9, metric=score, **how)
    assert report.duration is not None
    assert report.duration.runtime == "onnxruntime"
    assert report.score is not None
    assert report.score.after == pytest.approx(score(small), abs=1e-6)
    assert "metric" not in report.request
    assert "by the score score" in report.request


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "nan": (math.nan, ArgumentError, "returned nan for {}; expected a finite number"),
    "infinity": (np.float32(-np.inf), ArgumentError, "returned -inf for {}"),
    "text": ("good", ArgumentTypeError, "must return one number, higher is better; got 'good' for {}"),
    "truth": (True, ArgumentTypeError, "got True for {}"),
    "two numbers": (torch.zeros(2), ArgumentTypeError, r"got tensor\(\[0., 0.\]\) for {}"),
    "nothing": (None, ArgumentTypeError, "got None for {}"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("when", ["original", "one layer"])
def test_bad_values_are_named_with_the_network(name: str, when: str) -> None:
    value, kind, message = BAD[name]
    where = "the original network" if when == "original" else (
        r"the network with layer '\d' converted \(.*, rank .*\)"
    )  # fmt: skip

    def score(model: nn.Module) -> Any:
        converted = any(isinstance(m, FactoredConv) for m in model.modules())
        return value if converted or when == "original" else 1.0

    with pytest.raises(kind, match=f"`metric` score .*{message.format(where)}"):
        convert(chain(), "auto", budget=0.5, metric=score, input_shape=SHAPE, repeats=0)


def test_an_exception_of_the_metric_is_named_with_the_layer() -> None:
    def score(model: nn.Module) -> float:
        if any(isinstance(m, FactoredConv) for m in model.modules()):
            raise KeyError("labels")
        return 0.0

    with pytest.raises(
        ArgumentError, match=r"`metric` score raised KeyError for .* layer '\d'.*: 'labels'"
    ) as caught:
        convert(chain(), "auto", budget=0.5, metric=score, input_shape=SHAPE, repeats=0)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ({}, ArgumentError, "give `budget`, or as `tol` .*got neither"),
        ({"rank": 2}, ArgumentError, "got rank=2"),
        ({"budget": 0.5, "metric": nn.ReLU()}, ArgumentTypeError, "must be a function of a network"),
        ({"budget": 0.5, "metric": 3}, ArgumentTypeError, "got int"),
        ({"budget": 0.5, "evaluations": 7}, ArgumentError, "`evaluations` must be >= 8; got 7"),
        ({"budget": 0.5, "evaluations": 9.5}, ArgumentTypeError, "`evaluations` must be an integer"),
        ({"tol": 0.1, "input_shape": None}, ArgumentError, "`metric` needs the network's mult"),
        ({"tol": -1}, ArgumentError, "`tol` must be >= 0"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_carried_out(
    how: dict[str, Any], kind: type[Exception], message: str
) -> None:
    given: dict[str, Any] = {"metric": lambda net: 0.0, "input_shape": SHAPE, **how}
    pattern = "auto" if {"budget", "tol"} & set(how) else "ocyx -> oc,cyx"
    with pytest.raises(kind, match=message):
        convert(chain(), pattern, repeats=0, **given)


def test_noise_of_the_metric_is_reported() -> None:
    net, images = chain().eval(), torch.randn(2, *SHAPE[1:])
    score, generator = agreement(net, images), np.random.default_rng(0)

    def noisy(model: nn.Module) -> float:
        return score(model) + 0.01 * generator.random()

    _, report = convert(net, "auto", budget=0.5, metric=noisy, input_shape=SHAPE, repeats=0)
    assert report.score is not None
    assert 0 < report.score.noise < 0.01
    assert "two calls on the original differ by 0.00" in " ".join(str(report).split())
    assert report.to_dict()["score"]["name"] == "noisy"
    assert report.to_dict()["score"]["tol"] is None
