"""Predicted times of layers: the model of times, the profile, folding by runtimes, and ledgers in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from separable.cost import Convolution
from separable.errors import ArgumentError, MachineError
from separable.nn import ledger
from separable.nn.runtimes import profile_measurement
from separable.nn.runtimes.known_runtimes import RUNTIMES, runtime_named
from separable.nn.runtimes.profile_cases import profile_cases
from separable.nn.step_times import layer_profile
from separable.nn.step_times.layer_profile import LayerProfile
from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.nn.step_times.step_work import COPY, StepWork, work_of
from separable.nn.step_times.time_model import TimeModel

SHAPE = (1, 3, 32, 32)


class Residual(nn.Module):
    """Convolutions with everything that a runtime may fold, and a value that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.pointwise = nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.pointwise(self.depthwise(torch.relu(self.b(x) + x)))


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(layer_profile, "profile_path", lambda: tmp_path / "layers.json")
    layer_profile.forget_profile()
    yield tmp_path / "layers.json"
    layer_profile.forget_profile()


@settings(max_examples=20, deadline=None)
@given(
    st.floats(1e-7, 1e-4),
    st.floats(1e-12, 1e-9),
    st.floats(1e-12, 1e-9),
    st.integers(0, 2**31),
)
def test_a_law_of_rates_is_found_again(call: float, mac: float, byte: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    logs = random.uniform(8, 24, (40, 2))
    works = [StepWork("k", (m, b), 2.0**m, 2.0**b) for m, b in logs]
    true = [call + mac * w.macs + byte * w.bytes for w in works]
    model = TimeModel.fitted(works[:30], true[:30])
    for work, seconds in zip(works[30:], true[30:], strict=True):
        found = model.predict(work)
        assert found.seconds == pytest.approx(seconds, rel=0.05)
        parts = {"call": call, "arithmetic": mac * work.macs, "bytes": byte * work.bytes}
        first, second = sorted(parts.values(), reverse=True)[:2]
        if first > 1.3 * second:
            assert found.bound == max(parts, key=lambda p: parts[p])


def test_a_model_corrects_the_rates_by_sizes() -> None:
    """Small channels are inefficient: no rate per multiplication describes both halves."""

    def seconds(channels: float) -> float:
        return 1e-10 * 2.0 ** (2 * channels) * (8.0 if channels < 4 else 1.0)

    logs = np.linspace(2, 8, 50)
    works = [StepWork("k", (c,), 2.0 ** (2 * c), 2.0**c) for c in logs]
    model = TimeModel.fitted(works, [seconds(c) for c in logs])
    for c in (2.5, 3.1, 5.2, 7.7):
        found = model.predict(StepWork("k", (c,), 2.0 ** (2 * c), 2.0**c)).seconds
        assert found == pytest.approx(seconds(c), rel=0.15)


def test_profiles_are_kept_and_broken_ones_ignored(no_cache: Path) -> None:
    shipped = layer_profile.current_profile()
    assert shipped.source == "adjusted"
    assert "`separable machine --layers`" in shipped.origin
    layer_profile.keep_profile(shipped)
    again = layer_profile.current_profile()
    assert again.source == "this computer"
    assert again.to_dict()["models"] == shipped.to_dict()["models"]
    for text in ("{ broken", "[]", '{"format": 99}', '{"format": 2}'):
        no_cache.write_text(text)
        layer_profile.forget_profile()
        assert layer_profile.current_profile().source == "adjusted"


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"models": 3},
        {"models": {"torch": {COPY: {"rates": [1, 2], "points": [], "weights": [], "lengths": [1], "swing": 1}}}},
        {"models": {"torch": {COPY: {"rates": [1, 2, -3], "points": [], "weights": [], "lengths": [1], "swing": 1}}}},
        {"threads": "many"},
    ],
)  # fmt: skip
def test_values_that_are_not_a_profile(change: dict[str, Any]) -> None:
    values = {**layer_profile.shipped_profile().to_dict(), **change}
    with pytest.raises(MachineError, match=r"separable machine --layers|not a profile of layers"):
        LayerProfile.from_dict(json.loads(json.dumps(values)))


def test_the_recorded_operations_are_those_of_the_ledger() -> None:
    book = ledger(Residual().eval(), SHAPE)
    assert sum(o.macs for o in book.operations) == book.total.macs
    assert sum(o.bytes for o in book.operations) == book.total.bytes
    convolutions = [o for o in book.operations if o.convolution is not None]
    assert [o.layer for o in convolutions] == ["a.0", "b.0", "depthwise", "pointwise"]
    assert convolutions[3].reads == convolutions[2].writes
    for operation in convolutions:
        own = RecordedOperation.of_convolution(operation.convolution)
        assert work_of(own).macs == work_of(operation).macs


def test_runtimes_fold_what_follows_a_convolution() -> None:
    operations = ledger(Residual().eval(), SHAPE, backward=False).operations
    found = {
        name: [(s.layer, s.work.kind) for s in RUNTIMES[name].steps(operations)]
        for name in RUNTIMES
    }
    assert [kind for _, kind in found["torch"]] == [
        "dense", "batch_norm", "relu", "dense", "batch_norm", "add", "relu", "depthwise", "pointwise",
    ]  # fmt: skip
    assert found["onnxruntime"] == [
        ("a.0", "dense"), ("b.0", "dense"), ("depthwise", "depthwise"), ("pointwise", "pointwise"),
    ]  # fmt: skip
    assert found["fused"] == [
        ("a.0", "dense"), ("b.0", "dense"), ("pointwise", "depthwise_separable"),
    ]  # fmt: skip


def test_a_value_that_is_used_twice_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return torch.relu(y) * y.mean()

    operations = ledger(Twice(), SHAPE, backward=False).operations
    kinds = [s.work.kind for s in RUNTIMES["fused"].steps(operations)]
    assert kinds[:2] == ["dense", "relu"]


def test_ledgers_in_seconds(no_cache: Path) -> None:
    found = ledger(Residual().eval(), SHAPE, backward=False).seconds()
    assert found.runtimes == ("torch", "fused", "onnxruntime")
    for runtime in found.runtimes:
        layers = sum(x.seconds[runtime] for x in found.layers)
        assert found.total[runtime] == pytest.approx(found.calls[runtime] + layers)
    assert found["a.1"].seconds["torch"] > 0
    assert found["a.1"].seconds["fused"] == 0
    assert found["a.1"].with_layer == {"torch": "", "fused": "a.0", "onnxruntime": "a.0"}
    assert found["a.0"].bound["torch"] in ("arithmetic", "bytes", "call")
    text = found.table()
    assert max(map(len, text.splitlines())) <= 80
    for word in ("torch", "fused", "onnxruntime", "total", "separable machine --layers"):
        assert word in text.replace("\n", " ")
    assert json.loads(json.dumps(found.to_dict()))["total"] == found.total
    with pytest.raises(KeyError, match=r"no layer 'c'; there are a\.0"):
        found["c"]
    with pytest.raises(ArgumentError, match=r"`runtimes` must be among 'torch', .*got 'tpu'"):
        ledger(Residual().eval(), SHAPE, backward=False).seconds("tpu")


def test_larger_layers_take_longer(no_cache: Path) -> None:
    for runtime in RUNTIMES:
        times = [
            ledger(nn.Conv2d(c, c, 3), (1, c, 30, 30), backward=False).seconds(runtime)
            for c in (16, 64, 256)
        ]
        totals = [t.total[runtime] for t in times]
        assert totals == sorted(totals)
        assert totals[2] > 5 * totals[0]


def test_cases_cover_what_runtimes_run() -> None:
    kinds = {case.work.kind for case in profile_cases()}
    assert {"pointwise", "dense", "depthwise", "grouped", "transposed", "product", COPY} <= kinds
    assert [c.work for c in profile_cases()] == [c.work for c in profile_cases()]
    for case in profile_cases()[::40]:
        with torch.no_grad():
            found = case.module()(*case.inputs())
        if case.convolution is not None and case.work.kind != "depthwise_separable":
            assert found.shape[2:] == case.convolution.outputs


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_profile_can_be_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    known = profile_cases()
    cases = [c for kind in ("pointwise", COPY) for c in known if c.work.kind == kind]
    cases = [*cases[:12], *cases[-12:]]
    monkeypatch.setattr(profile_measurement, "profile_cases", lambda: cases)
    monkeypatch.setattr(profile_measurement, "RUNTIMES", {name: RUNTIMES[name]})
    monkeypatch.setattr(profile_measurement, "warmed", lambda: None)
    told: list[float] = []
    found = profile_measurement.measured_profile(told.append, share=0.02)
    assert sum(told) == pytest.approx(1)
    assert found.runtimes == (name,)
    conv = RecordedOperation.of_convolution(Convolution.of((14, 14, 64), (1, 1), 64))
    assert 1e-7 < found.predict(name, work_of(conv)).seconds < 0.1
    assert LayerProfile.from_dict(found.to_dict()).to_dict() == found.to_dict()


def test_runtimes_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime_named("torch") is RUNTIMES["torch"]
    with pytest.raises(ArgumentError, match=r"`runtime` must be one of 'torch', .*; got 3"):
        runtime_named(3)
    monkeypatch.setattr(RUNTIMES["onnxruntime"], "why_not", lambda: "it is not installed")
    with pytest.raises(ArgumentError, match=r"`runtime` 'onnxruntime' cannot be used: it is not"):
        runtime_named("onnxruntime")
