"""Repeated calls of layers: the same bits as the first call, and whatever has changed since is noticed."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn as tnn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrize, prune

from separable import nn
from separable.engine.compiled import thread_pool as pool
from separable.nn.fused import repeated_layer
from separable.nn.fused.forward import padding_of
from separable.nn.fused.operators import Window, by_torch

MAKERS = {
    "channels first": lambda: (nn.SeparableConv2d(3, 40, 5, padding="valid"), torch.randn(1, 3, 19, 23)),
    "channels last": lambda: (nn.SeparableConv2d(40, 24, 3), last(torch.randn(2, 40, 9, 8))),
    "depthwise": lambda: (nn.DepthwiseConv2d(24, 3), last(torch.randn(2, 24, 9, 8))),
    "one axis": lambda: (nn.SeparableConv1d(16, 24, 9), torch.randn(2, 16, 100)),
    "three axes": lambda: (nn.SeparableConv3d(8, 24, 3), last(torch.randn(2, 8, 5, 6, 7))),
}  # fmt: skip


def last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


@pytest.fixture(autouse=True)
def _same_threads():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.fixture
def repeats(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A list with one truth value per call of a layer: whether it was repeated."""
    seen: list[bool] = []
    result = repeated_layer.RepeatedCalls.result

    def watched(self: Any, x: torch.Tensor) -> torch.Tensor | None:
        found = result(self, x)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(repeated_layer.RepeatedCalls, "result", watched)
    return seen


def exact(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the layer's result by PyTorch in float64."""
    wide = copy.deepcopy(layer).double()
    with torch.no_grad():
        for step in wide.step_names:
            x = wide.get_submodule(step)(x.double())
    return x


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("kind", MAKERS)
def test_the_bits_are_those_of_the_first_call(
    kind: str, threads: int, repeats: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "poison", True)
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    layer, x = MAKERS[kind]()
    others = [torch.randn_like(x) for _ in range(3)]
    with torch.no_grad():
        first = layer(x)
        found = [layer(o) for o in (x, *others, x)]
    assert repeats == [False] + [True] * 5
    assert torch.equal(first, found[0])
    assert torch.equal(first, found[-1])
    assert found[0].stride() == first.stride()
    for other, made in zip(others, found[1:], strict=False):
        torch.testing.assert_close(made.double(), exact(layer, other), rtol=1e-5, atol=1e-5)


CHANGES = {
    "in place": lambda layer: layer.pointwise.weight.mul_(2),
    "another parameter": lambda layer: setattr(layer.pointwise, "bias", tnn.Parameter(torch.ones(24))),
    "no bias": lambda layer: setattr(layer.pointwise, "bias", None),
    "another module": lambda layer: setattr(layer, "pointwise", tnn.Conv2d(40, 24, 1)),
    "state": lambda layer: layer.load_state_dict(nn.SeparableConv2d(40, 24, 3).state_dict()),
    "a hook inside": lambda layer: layer.depthwise.register_forward_hook(lambda _m, _x, out: out * 2),
    "a hook before": lambda layer: layer.pointwise.register_forward_pre_hook(lambda _m, x: (x[0] + 1,)),
    "an intermediate module": lambda layer: setattr(layer, "intermediate", tnn.Tanh()),
    "pruned": lambda layer: prune.l1_unstructured(layer.pointwise, "weight", 0.5),
    "parametrised": lambda layer: parametrize.register_parametrization(layer.pointwise, "weight", tnn.Tanh()),
    "memory moved": lambda layer: setattr(layer.pointwise.weight, "data", torch.ones(24, 40, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_changes_are_noticed(change: str) -> None:
    torch.manual_seed(0)
    layer, x = MAKERS["channels last"]()
    before = layer(x)
    assert torch.equal(layer(x), before)
    CHANGES[change](layer)
    right = x
    for module in layer.children():
        right = module(right)
    assert not torch.allclose(right, before)
    for _ in range(2):
        torch.testing.assert_close(layer(x), right, rtol=1e-4, atol=1e-4)


def test_a_replaced_forward_and_hooks_for_all_modules_are_called() -> None:
    layer, x = MAKERS["channels last"]()
    with torch.no_grad():
        before = layer(x)
        handle = register_module_forward_hook(
            lambda m, _x, out: out * 2 if isinstance(m, tnn.Conv2d) and m.groups > 1 else None
        )
        bias = layer.pointwise.bias.view(-1, 1, 1)
        try:
            torch.testing.assert_close(layer(x) - bias, 2 * (before - bias), rtol=1e-4, atol=1e-4)
        finally:
            handle.remove()
        assert torch.equal(layer(x), before)
        layer.depthwise.forward = torch.zeros_like
        torch.testing.assert_close(layer(x), bias.expand_as(before), rtol=1e-4, atol=1e-4)


def test_gradients_are_recorded_after_calls_without() -> None:
    layer, x = MAKERS["channels last"]()
    with torch.no_grad():
        layer(x)
        layer(x)
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    layer.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    layer(leaf).sum().backward()
    assert leaf.grad is not None
    with torch.no_grad():
        assert not layer(leaf).requires_grad


def test_modes_and_other_inputs_are_seen(repeats: list[bool]) -> None:
    layer, x = MAKERS["channels last"]()
    with torch.inference_mode():
        first = layer(x)
        assert layer(x).is_inference()
    repeats.clear()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype is torch.bfloat16
        other = layer(x.contiguous())
        assert other.is_contiguous()
        torch.testing.assert_close(other, first.clone())
        negated = torch._neg_view(x)
        torch.testing.assert_close(layer(negated), layer(-x))
        repeats[-1] = False  # the second one is an input like any other
        assert torch.func.vmap(lambda one: layer(one[None])[0])(x).shape == first.shape
    assert not any(repeats)


@torch.no_grad()
def test_threads_forms_copies_and_pickles(repeats: list[bool]) -> None:
    layer, x = MAKERS["channels last"]()
    small = last(torch.randn(1, 40, 5, 5))
    first, second = layer(x), layer(small)
    for _ in range(3):
        assert torch.equal(layer(x), first)
        assert torch.equal(layer(small), second)
    assert repeats == [False, False] + [True] * 6
    torch.set_num_threads(torch.get_num_threads() + 1)
    assert torch.equal(layer(x), first)
    assert not repeats[-1]
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert not other._repeated._calls
        assert torch.equal(other(x), first)
        other.pointwise.weight.zero_()
        assert not torch.equal(other(x), first)
    assert torch.equal(layer(x), first)


@torch.no_grad()
def test_no_more_forms_than_are_kept() -> None:
    layer = nn.SeparableConv1d(4, 4, 3)
    for n in range(repeated_layer.FORMS_KEPT + 9):
        x = torch.randn(1, 4, n + 20)
        assert torch.equal(layer(x), layer(x))
    assert len(layer._repeated._calls) == repeated_layer.FORMS_KEPT


@settings(max_examples=40)
@given(st.data())
def test_any_layer(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    channels, outputs = (
        data.draw(st.sampled_from([1, 3, 16, 33])),
        data.draw(st.sampled_from([1, 5, 64])),
    )
    layer = (nn.SeparableConv1d, nn.SeparableConv2d, nn.SeparableConv3d)[ndim - 1](
        channels, outputs, data.draw(st.integers(1, 5)), data.draw(st.integers(1, 2)),
        depth_multiplier=data.draw(st.integers(1, 2)), bias=data.draw(st.booleans()),
    )  # fmt: skip
    x = torch.randn(data.draw(st.integers(1, 2)), channels, *[data.draw(st.integers(5, 24))] * ndim)
    x = last(x) if data.draw(st.booleans()) else x
    with torch.no_grad():
        first = layer(x)
        again = layer(x)
        weights = [layer.depthwise.weight, None, layer.pointwise.weight, layer.pointwise.bias]
        wide: Any = tuple(None if w is None else w.double() for w in weights)
        step = layer.steps[0]
        window = Window(step.stride, padding_of(step, x.shape), step.dilation)
        right = by_torch(x.double(), wide, window, "none", "none")
    assert torch.equal(first, again)
    torch.testing.assert_close(again.double(), right, rtol=1e-5, atol=1e-5)
