"""Layers with batch normalisation between their steps, in training: the operator is used, and changes nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn as tnn

from separable import nn
from separable.nn.fused import forward

NORMS = {1: tnn.BatchNorm1d, 2: tnn.BatchNorm2d, 3: tnn.BatchNorm3d}
LAYERS = {1: nn.SeparableConv1d, 2: nn.SeparableConv2d, 3: nn.SeparableConv3d}


@pytest.fixture(autouse=True)
def _any_size(monkeypatch):
    """Use the operators for inputs of any size."""
    monkeypatch.setattr(
        forward, "LEAST_TRAINING_WORK", dict.fromkeys(forward.LEAST_TRAINING_WORK, 0)
    )


def is_fused(out):
    """Return True if the result comes from the operator."""
    return "depthwise_separable_norm" in out.grad_fn.name()


def layer_of(ndim, norm=None, *acts, stride=1):
    norm = norm or NORMS[ndim](16)
    middle = tnn.Sequential(norm, *acts) if acts else norm
    return LAYERS[ndim](16, 24, 3, stride=stride, intermediate=middle)


def inputs(ndim, last, images=9):
    x = torch.randn(images, 16, *(20, 11, 6)[:ndim])
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x


@pytest.mark.apart
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    "act", [(), (tnn.ReLU(),), (tnn.ReLU6(),), (tnn.SiLU(),), (tnn.Hardswish(inplace=True),)]
)
def test_a_step_is_that_of_pytorch(ndim, last, act):
    torch.manual_seed(0)
    layer = layer_of(ndim, None, *act, stride=2)
    exact = copy.deepcopy(layer).double()
    for _ in range(2):
        x = inputs(ndim, last).requires_grad_()
        wide = x.detach().double().requires_grad_()
        out, right = layer(x), exact(wide)
        assert is_fused(out)
        assert not is_fused(right)
        assert out.movedim(1, -1).is_contiguous() == last
        assert torch.allclose(out.double(), right, atol=1e-5)
        out.sin().sum().backward()
        right.sin().sum().backward()
        assert torch.allclose(x.grad.double(), wide.grad, atol=1e-4)
    for (name, one), two in zip(
        layer.state_dict().items(), exact.state_dict().values(), strict=True
    ):
        assert torch.allclose(one.double(), two.double(), atol=1e-6), name
    for one, two in zip(layer.parameters(), exact.parameters(), strict=True):
        assert torch.allclose(one.grad.double(), two.grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"momentum": None}, {"momentum": 0.7}, {"track_running_stats": False}, {"affine": False}, {"eps": 0.1}],
    ids=str,
)  # fmt: skip
def test_options_of_the_normalisation(options):
    torch.manual_seed(0)
    layer = layer_of(2, tnn.BatchNorm2d(16, **options))
    exact = copy.deepcopy(layer).double()
    for _ in range(4):
        x = inputs(2, last=True)
        out = layer(x)
        assert is_fused(out)
        assert torch.allclose(out.double(), exact(x.double()), atol=1e-5)
    for (name, one), two in zip(
        layer.state_dict().items(), exact.state_dict().values(), strict=True
    ):
        assert torch.allclose(one.double(), two.double(), atol=1e-5), name


def test_what_pytorch_must_run():
    x = inputs(2, last=True)
    for middle in (
        tnn.ReLU(), tnn.GroupNorm(4, 16), tnn.SyncBatchNorm(16), tnn.Sequential(tnn.ReLU(), tnn.BatchNorm2d(16)),
        tnn.Sequential(tnn.BatchNorm2d(16), tnn.GELU()), tnn.Sequential(), tnn.InstanceNorm2d(16),
        tnn.Sequential(tnn.BatchNorm2d(16), tnn.ReLU(), tnn.ReLU()),
    ):  # fmt: skip
        layer = nn.SeparableConv2d(16, 24, 3, intermediate=middle)
        if isinstance(middle, tnn.SyncBatchNorm):
            middle.eval()  # in training it wants a GPU
        assert not is_fused(layer(x))
    frozen = layer_of(2)
    frozen.intermediate.eval()
    before = copy.deepcopy(frozen.state_dict())
    assert not is_fused(frozen(x))
    assert all(
        torch.equal(a, b)
        for a, b in zip(before.values(), frozen.state_dict().values(), strict=True)
    )
    assert not is_fused(layer_of(2).eval()(x))


def test_hooks_see_what_they_expect():
    x, seen = inputs(2, last=True), []
    for name in ("depthwise", "intermediate", "intermediate.0", "intermediate.1", "pointwise"):
        layer = layer_of(2, None, tnn.ReLU())
        layer.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
        assert not is_fused(layer(x))
    assert seen == ["depthwise", "intermediate", "intermediate.0", "intermediate.1", "pointwise"]


def test_one_position_and_empty_batches_are_those_of_pytorch():
    layer = layer_of(2, stride=2)
    with pytest.raises(ValueError, match=r"more than 1 value per channel.*\[1, 16, 1, 1\]"):
        layer(torch.randn(1, 16, 2, 2))
    assert layer(torch.randn(0, 16, 4, 4)).shape == (0, 24, 2, 2)


def test_without_gradients_the_averages_still_move():
    layer, x = layer_of(2), inputs(2, last=True) + 5
    exact = copy.deepcopy(layer).double()
    with torch.no_grad():
        assert torch.allclose(layer(x).double(), exact(x.double()), atol=1e-5)
    mean = layer.intermediate.running_mean
    assert torch.allclose(mean.double(), exact.intermediate.running_mean, atol=1e-6)
    assert mean.abs().max() > 0


def test_autocast_runs_in_pytorch():
    layer, x = layer_of(2), inputs(2, last=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype is torch.bfloat16
    assert not is_fused(out)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_the_compiler_finds_no_graph_break(momentum):
    torch.manual_seed(0)
    layer = layer_of(2, tnn.BatchNorm2d(16, momentum=momentum), tnn.ReLU())
    exact = copy.deepcopy(layer)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        x = inputs(2, last=True).requires_grad_()
        other = x.detach().clone().requires_grad_()
        compiled(x).square().sum().backward()
        out = exact(other)
        assert is_fused(out)
        out.square().sum().backward()
        assert torch.equal(x.grad, other.grad)
    for one, two in zip(layer.state_dict().values(), exact.state_dict().values(), strict=True):
        assert torch.allclose(one, two)


def net():
    return tnn.Sequential(
        nn.SeparableConv2d(3, 16, 3, intermediate=tnn.BatchNorm2d(3)), tnn.BatchNorm2d(16), tnn.ReLU(),
        layer_of(2, None, tnn.ReLU(), stride=2), tnn.BatchNorm2d(24), tnn.ReLU(),
        nn.SeparableConv2d(24, 8, 3), tnn.AdaptiveAvgPool2d(1), tnn.Flatten(), tnn.Linear(8, 4),
    )  # fmt: skip


def losses_of(model, steps, dtype):
    generator, losses = torch.Generator().manual_seed(1), []
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        labels = torch.randint(3, (16,), generator=generator)
        x = torch.randn(16, 3, 14, 14, generator=generator)
        x[torch.arange(16), labels] += 1
        x = x.to(dtype).contiguous(memory_format=torch.channels_last)
        loss = tnn.functional.cross_entropy(model(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def test_a_network_learns_as_in_pytorch():
    torch.manual_seed(0)
    model = net()
    exact = copy.deepcopy(model).double()
    unfused = copy.deepcopy(model)
    for module in unfused.modules():
        if isinstance(module, nn.FactoredConv):
            module._serves = False
    found = [losses_of(m, 25, d) for m, d in ((model, torch.float32), (unfused, torch.float32),
                                              (exact, torch.float64))]  # fmt: skip
    # Rounding errors grow from step to step: PyTorch in float32 says how much.
    allowed = 5 * (found[1] - found[2]).abs().max() + 1e-5
    assert (found[0] - found[2]).abs().max() <= allowed
    assert found[0][-5:].mean() < found[0][:5].mean() / 2
