"""Dense convolutions of fused networks: by the compiled kernels where they serve, by PyTorch elsewhere."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import nn as tnn

from separable import nn
from separable.nn.fused.dense_layer import PackedConvolution
from separable.nn.fused.fuse import fuse_without_choice
from separable.nn.fused.fused_modules import FusedConv
from separable.nn.fused.winograd_tiling import WinogradPlan


class Block(tnn.Module):
    """Basic block of a residual network."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.one = tnn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
        self.norm_one = tnn.BatchNorm2d(outputs)
        self.two = tnn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_two = tnn.BatchNorm2d(outputs)
        self.short = tnn.Conv2d(channels, outputs, 1, stride)
        self.act = tnn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the block."""
        inner = self.act(self.norm_one(self.one(x)))
        out: torch.Tensor = self.act(self.norm_two(self.two(inner)) + self.short(x))
        return out


def network() -> tnn.Module:
    torch.manual_seed(0)
    net = tnn.Sequential(
        tnn.Conv2d(3, 24, 7, 2, 3),
        tnn.BatchNorm2d(24),
        tnn.SiLU(),
        Block(24, 24, 1),
        Block(24, 40, 2),
    )
    for m in net.modules():
        if isinstance(m, tnn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)  # type: ignore[union-attr, operator]
            m.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr, operator]
    return net.eval()


@pytest.fixture
def packed_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the inputs of compiled convolutions."""
    found: list[tuple[int, ...]] = []
    real = PackedConvolution.__call__

    def counted(self: Any, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        found.append(tuple(x.shape))
        return real(self, x, *rest)

    monkeypatch.setattr(PackedConvolution, "__call__", counted)
    return found


def near(found: torch.Tensor, exact: torch.Tensor) -> None:
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() <= 1e-5 * (exact.abs().max() + 1)


def test_a_residual_network_runs_on_the_kernels(packed_calls: list[tuple[int, ...]]) -> None:
    net = network()
    fused, report = nn.fuse(net, torch.randn(1, 3, 40, 40))
    assert not report.left
    fused.__dict__.pop("forward")  # without it the modules run, not one program
    convs = [m for m in fused.modules() if isinstance(m, FusedConv)]
    # The shortcut of stride 1 is a pointwise layer; all other convolutions are dense.
    assert len(convs) == 6
    packed_calls.clear()
    x = torch.randn(2, 3, 50, 37)
    with torch.no_grad():
        found = fused(x)
        near(found, net.double()(x.double()))
    assert len(packed_calls) == 6
    again = pickle.loads(pickle.dumps(copy.deepcopy(fused)))
    with torch.no_grad():
        assert torch.equal(again(x), found)
    assert len(packed_calls) == 12


def test_new_weights_are_packed_again() -> None:
    fused, _ = nn.fuse(network(), torch.randn(1, 3, 40, 40))
    x = torch.randn(1, 3, 40, 40)
    with torch.no_grad():
        before = fused(x)
        state = {name: t * 0.5 for name, t in fused.state_dict().items()}
        fused.load_state_dict(state)
        after = fused(x)
        assert not torch.allclose(before, after)
        near(after, copy.deepcopy(fused).double()(x.double()))


def test_pytorch_runs_what_the_kernels_do_not_serve(packed_calls: list[tuple[int, ...]]) -> None:
    fused, _ = nn.fuse(network(), torch.randn(1, 3, 40, 40))
    packed_calls.clear()
    x = torch.randn(1, 3, 40, 40)
    first: Any = fused[0]  # type: ignore[index]
    with torch.no_grad():
        near(fused.double()(x.double()), network().double()(x.double()))
        assert not packed_calls
        fused.float()
        with torch.autocast("cpu", torch.bfloat16):
            assert first(x).dtype is torch.bfloat16
        assert first(x[0]).shape == (24, 20, 20)
        with pytest.raises(RuntimeError, match="expected input"):
            first(x[:, :2])
    wanted = x.clone().requires_grad_()
    first(wanted).sum().backward()
    assert wanted.grad is not None
    assert not packed_calls
    assert not first.serves((1, 3, 40))
    assert first.serves((1, 3, 40, 40))
    few: Any = nn.fuse(
        tnn.Sequential(tnn.Conv2d(8, 8, 3, groups=2), tnn.ReLU()).eval(), torch.randn(1, 8, 9, 9)
    )[0][0]  # type: ignore[index]
    assert isinstance(few, FusedConv)
    assert not few.serves((1, 8, 9, 9))


def test_hooks_of_convolutions_are_called(packed_calls: list[tuple[int, ...]]) -> None:
    net = tnn.Sequential(tnn.Conv2d(4, 8, 3), tnn.ReLU(), tnn.Conv2d(8, 8, 3)).eval()
    seen: list[int] = []
    net[2].register_forward_hook(lambda *_: seen.append(1))
    x = torch.randn(1, 4, 9, 9)
    fused, _ = nn.fuse(net, x)
    for module in fused.modules():
        module.__dict__.pop("forward", None)  # no programs: the modules themselves run
    seen.clear()
    packed_calls.clear()
    with torch.no_grad():
        near(fused(x), net.double()(x.double()))
    assert len(packed_calls) == 1
    assert len(seen) == 2  # of the fused network and of the original one


def test_the_output_keeps_the_layout_of_the_input() -> None:
    fused, _ = nn.fuse(network(), torch.randn(1, 3, 40, 40))
    conv: Any = fused[3].one  # type: ignore[index, union-attr]
    x = torch.randn(2, 24, 9, 11)
    with torch.no_grad():
        first, last = conv(x), conv(x.to(memory_format=torch.channels_last))
    assert first.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(first, last)


def test_exact_networks_do_without_winograd() -> None:
    net = tnn.Sequential(tnn.Conv2d(32, 32, 3, padding=1), tnn.ReLU()).eval()
    x = torch.randn(1, 32, 30, 30)
    found = []
    for exact in (False, True):
        fused, _ = fuse_without_choice(net, x, exact=exact)
        last = x.contiguous(memory_format=torch.channels_last)
        (program,) = fused.__dict__["forward"].execution(last).programs
        assert isinstance(program.steps[0].plan, WinogradPlan) is not exact
        with torch.no_grad():
            found.append(fused(x))
            executor = fused.__dict__.pop("forward")
            near(fused(x), found[-1].double())
            fused.forward = executor
        conv: Any = fused[0]  # type: ignore[index]
        assert conv.exact is exact
        packed = next(iter(conv._cached.values()))
        assert list(packed._packed) == ["direct" if exact else "winograd"]
    assert not torch.equal(found[0], found[1])
    near(found[0], net.double()(x.double()))


def test_several_python_threads_share_a_network() -> None:
    fused, _ = nn.fuse(network(), torch.randn(1, 3, 40, 40))
    inputs = [torch.randn(1, 3, n, n + 3) for n in (33, 40, 57, 64)]
    with torch.no_grad():
        exact = [fused(x) for x in inputs]
    again = copy.deepcopy(fused)  # without packed weights: the threads pack them
    wrong: list[int] = []

    def work(i: int) -> None:
        with torch.no_grad():
            wrong.extend(i for _ in range(30) if not torch.equal(again(inputs[i]), exact[i]))

    crew = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert not wrong
