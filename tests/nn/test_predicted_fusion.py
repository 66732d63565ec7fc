"""`fuse(measure=False)`: a profile of the computer decides what PyTorch runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn as tnn

from separable import nn
from separable.nn.fused import kernel_choice
from separable.nn.fused.fuse import fuse_without_choice
from separable.nn.fused.program.executor import Executor
from separable.nn.ledger.layer_seconds import predicted_seconds
from separable.nn.step_times.layer_profile import LayerProfile
from separable.nn.step_times.step_work import COPY
from separable.nn.step_times.time_model import TimeModel

pytestmark = pytest.mark.apart


def rates(byte: float, mac: float = 0.0, call: float = 0.0) -> TimeModel:
    """A model without correction by sizes."""
    return TimeModel((call, mac, byte), np.zeros((0, 1)), np.zeros(0), np.ones(1), 0.1)


def profile(**models: dict[str, TimeModel]) -> LayerProfile:
    return LayerProfile("a made-up processor", 2, models, {"fused": 0.0}, "shipped")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets the profile of this computer."""
    return lambda made: monkeypatch.setattr(kernel_choice, "current_profile", lambda: made)


class Two(tnn.Module):
    """A dense part and a separable one, with an operator between them for which there is no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = tnn.Sequential(
            tnn.Conv2d(8, 16, 3, padding=1), tnn.BatchNorm2d(16), tnn.ReLU()
        )
        self.separable = tnn.Sequential(
            tnn.Conv2d(16, 16, 3, padding=1, groups=16),
            tnn.ReLU6(),
            tnn.Conv2d(16, 24, 1),
            tnn.SiLU(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.separable(self.dense(x).cummax(2)[0])
        return found


def run(net: tnn.Module, x: torch.Tensor) -> tuple[Any, Any]:
    """Fuse a network without a measurement, compare its output, and return its executor and the report."""
    fused, report = nn.fuse(net, x, measure=False)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x), rtol=1e-4, atol=1e-5)
    return fused.forward, report


def test_programs_run_what_they_are_predicted_to_be_faster_at(use: Any) -> None:
    torch.manual_seed(0)
    net, x = Two().eval(), torch.randn(1, 8, 12, 11)
    slow, fast = rates(1e-8, 1e-8), rates(1e-9, 1e-9)
    use(profile(torch={COPY: slow}, fused={COPY: fast}))
    executor, report = run(net, x)
    assert [s.kept for s in report.segments] == [True, True]
    assert all(s.is_predicted for s in report.segments)
    assert report.times is None
    assert executor.by_torch == frozenset()
    assert len(executor.execution(x).programs) == 2
    first, *lines = str(report).split("\n")
    assert first == (
        "not measured; predicted from times of 2 threads of a reference computer (a made-up processor); "
        "`separable machine --layers` measures those of this one"
    )
    assert "predicted (PyTorch" in lines[0]

    use(profile(torch={COPY: fast}, fused={COPY: slow}))
    executor, report = run(net, x)
    assert [s.kept for s in report.segments] == [False, False]
    assert executor.execution(x).reason
    assert str(report).count("left to PyTorch, which is faster") == 2


@pytest.mark.parametrize(
    ("slow_kind", "kept"), [("depthwise_separable", [True, False]), ("dense", [False, True])]
)
def test_each_segment_is_decided_on_its_own(slow_kind: str, kept: list[bool], use: Any) -> None:
    torch.manual_seed(0)
    net, x = Two().eval(), torch.randn(2, 8, 12, 11)
    use(profile(torch={COPY: rates(2e-9)}, fused={COPY: rates(1e-9), slow_kind: rates(1e-6)}))
    executor, report = run(net, x)
    assert [s.kept for s in report.segments] == kept
    assert len(executor.execution(x).programs) == 1
    with torch.no_grad():  # another shape is divided in the same way
        y = torch.randn(1, 8, 20, 7)
        torch.testing.assert_close(executor(y), net(y), rtol=1e-4, atol=1e-5)
    assert len(executor.execution(y).programs) == 1


def test_a_profile_without_programs_decides_nothing(use: Any) -> None:
    use(profile(torch={COPY: rates(1e-9)}))
    _, report = run(Two().eval(), torch.randn(1, 8, 12, 11))
    assert report.segments == ()


def test_without_a_choice_programs_run_everything(use: Any) -> None:
    use(profile(torch={COPY: rates(1e-12)}, fused={COPY: rates(1.0)}))
    fused, report = fuse_without_choice(Two().eval(), torch.randn(1, 8, 12, 11))
    assert report.segments == ()
    assert isinstance(fused.forward, Executor)
    assert len(fused.forward.execution(torch.randn(1, 8, 12, 11)).programs) == 2


@pytest.mark.parametrize("name", ["MobileNetV1", "MobileNetV2", "EfficientNet"])
def test_predictions_are_those_of_the_ledger(name: str, use: Any) -> None:
    """The graph of a fused network holds the work that the ledger finds in the network as it was."""
    torch.manual_seed(0)
    net = getattr(nn.models, name)(classes=10).eval()
    x = torch.randn(1, 3, 64, 64)
    models = {
        kind: rates(1e-10, 1e-11, 1e-6)
        for kind in (COPY, "dense", "depthwise", "pointwise", "depthwise_separable", "product")
    }
    made = profile(torch=models, fused=models)
    use(made)
    _, report = nn.fuse(net, x, measure=False)
    found = sum(s.seconds for s in report.segments)
    operations = nn.ledger(net, tuple(x.shape), backward=False).operations
    layers = predicted_seconds("", (), operations, ["fused"], made)
    assert found == pytest.approx(layers.total["fused"], rel=0.05)
