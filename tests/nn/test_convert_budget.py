"""Budgets: kept for one sample too, and what is said where none can be kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from separable.errors import ArgumentError
from separable.nn import SeparableConv2d
from separable.nn.convert import convert, convert_network
from separable.nn.ledger import ledger


def normed() -> nn.Sequential:
    """Norms on a single position, whose work once a call weighs much in one sample."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3),
        nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 8, 1),
    ).eval()  # fmt: skip


def share(small: nn.Module, net: nn.Module, samples: int) -> float:
    shape = (samples, 4, 5, 5)
    counts = [ledger(m, shape, backward=False).total.multiplications for m in (small, net)]
    return counts[0] / counts[1]


@pytest.mark.parametrize("budget", [0.12, pytest.param(0.3, marks=pytest.mark.long), 0.5])
def test_a_budget_is_kept_for_one_sample_and_for_a_batch(
    budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net, data = normed(), torch.randn(64, 4, 5, 5).split(32)
    small, report = convert(net, "auto", budget=budget, data=data, repeats=0)
    for samples in (1, 2, 32, 1000):
        assert share(small, net, samples) <= budget
    assert share(small, net, 32) > 0.75 * budget
    assert report.inputs == ("32x4x5x5 float32",)
    if budget == 0.12:  # counted for the batch alone it would be more
        monkeypatch.setattr(convert_network, "traced_singly", lambda *_: None)
        over, _ = convert(net, "auto", budget=budget, data=data, repeats=0)
        assert share(over, net, 32) <= budget < share(over, net, 1)


def test_the_smallest_budget_named_is_that_of_one_sample() -> None:
    net, data = normed(), [torch.randn(32, 4, 5, 5)]
    with pytest.raises(ArgumentError, match="the smallest that can is") as caught:
        convert(net, "auto", budget=0.01, data=data)
    smallest = float(str(caught.value).split("can is ")[1].split(",")[0])
    small, _ = convert(net, "auto", budget=smallest, data=data, repeats=0)
    assert share(small, net, 32) < share(small, net, 1) <= smallest
    # What comes before lets hardly anything through: the last layer gets the same again and again.
    assert all(p.isfinite().all() for p in small.parameters())


def separated() -> nn.Sequential:
    return nn.Sequential(
        SeparableConv2d(4, 16, 3), nn.Conv2d(16, 16, (1, 3), groups=16), nn.Flatten()
    )


REMEDIES: dict[str, tuple[nn.Module, dict[str, Any], str]] = {
    "other pattern": (normed(), {"pattern": "ocyx -> oc,cyx"}, 'Another `pattern` .*"auto"'),
    "mapping": (normed(), {"pattern": {"0": "auto", "3": "ocyx -> oc,cyx"}}, 'Another `pattern`'),
    "auto": (normed(), {"pattern": "auto"}, "No pattern reaches further: give that budget"),
    "excluded": (
        normed(), {"pattern": "auto", "exclude": ["3"]},
        r"% of the network \(in `exclude`\).*`include` and `exclude` leave layers out",
    ),
    "saving": (normed(), {"pattern": "auto", "min_saving": 1e6}, r"`min_saving` below 1e\+06"),
    "all separable": (
        separated(), {"pattern": "auto"},
        r"can is 1, .*\(separable already\).*\(depthwise already\).*no convolution that could be",
    ),
    "all separable, a pattern": (
        separated(), {"pattern": "ocyx -> oc,cyx"}, "no convolution that could be converted"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REMEDIES)
def test_a_budget_out_of_reach_says_what_would_help(name: str) -> None:
    net, how, message = REMEDIES[name]
    with pytest.raises(ArgumentError, match=f"(?s){message}") as caught:
        convert(net, budget=0.01, input_shape=(1, 4, 5, 5), **how)
    said = str(caught.value)
    assert ('"auto"' in said) == (how["pattern"] != "auto" and "all separable" not in name)
