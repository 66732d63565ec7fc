"""Programs of fused networks: results, and everything that must go to the modules themselves."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn as tnn
from torch.nn import functional

from separable import nn
from separable.engine.compiled import thread_pool as pool
from separable.errors import ArgumentError
from separable.nn.fused.fuse import fuse_without_choice
from separable.nn.fused.program import Executor

pytestmark = [pytest.mark.compiled, pytest.mark.widths]
ACTS = [tnn.Identity, tnn.ReLU, tnn.ReLU6, tnn.SiLU, tnn.Hardswish, tnn.GELU, tnn.Sigmoid]


@pytest.fixture(autouse=True)
def same_threads():
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


def drawn(net: tnn.Module) -> tnn.Module:
    """Return the network in evaluation mode, with statistics that are not those of a new one."""
    for m in net.modules():
        if isinstance(m, tnn.modules.batchnorm._BatchNorm):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return net.eval()


def executor_of(net: tnn.Module) -> Executor:
    found = net.__dict__.get("forward")
    assert isinstance(found, Executor)
    return found


def exact(net: tnn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return copy.deepcopy(net).double()(*(x.double() for x in inputs))


def same(found: torch.Tensor, expected: torch.Tensor, rtol: float = 2e-5) -> None:
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= rtol * expected.abs().max()


class Random(tnn.Module):
    """A network with branches, additions, concatenations, a shared module, and flow that depends on the size."""

    def __init__(self, draw, channels: int) -> None:
        super().__init__()
        whole = st.integers(1, 12)
        act = draw(st.sampled_from(ACTS))
        inner, outer = draw(whole), draw(whole)
        kernel, stride = draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 2))
        self.first = tnn.Conv2d(
            channels, inner, kernel, stride, kernel // 2, bias=draw(st.booleans())
        )
        self.norm, self.act = tnn.BatchNorm2d(inner), act()
        self.depthwise = tnn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.pointwise = tnn.Conv2d(inner, outer, 1)
        self.beside = tnn.Conv2d(inner, outer, draw(st.sampled_from([1, 3])), padding="same")
        self.shared = tnn.Sequential(tnn.Conv2d(outer, outer, 1), draw(st.sampled_from(ACTS))())
        self.joins = draw(st.sampled_from(["add", "cat", "mul", "one"]))
        self.in_place, self.turns = draw(st.booleans()), draw(st.booleans())
        self.head = tnn.Linear(2 * outer if self.joins == "cat" else outer, 5)

    def forward(self, x):
        x = self.act(self.norm(self.first(x)))
        a, b = self.pointwise(functional.relu(self.depthwise(x))), self.beside(x)
        if self.turns and x.shape[-1] % 2:
            a, b = b, a
        a = self.shared(a)
        if self.joins == "add":
            y = a.add_(b) if self.in_place else a + b
        elif self.joins == "cat":
            y = torch.cat([a, b], 1)
        else:
            y = a * torch.sigmoid(b) if self.joins == "mul" else self.shared(a)
        if self.in_place:
            y = functional.relu_(y)
        return self.head(y.mean((2, 3))), y


@contextlib.contextmanager
def refusal(*, possible: bool):
    """Accept that a fused network refuses an input whose layers follow each other in another order."""
    try:
        yield
    except ArgumentError:
        if not possible:
            raise


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_random_networks(data):
    torch.manual_seed(data.draw(st.integers(0, 1 << 20)))
    channels = data.draw(st.integers(1, 5))
    net = drawn(Random(data.draw, channels))
    shapes = [
        (
            data.draw(st.integers(1, 3)),
            channels,
            data.draw(st.integers(5, 17)),
            data.draw(st.integers(5, 17)),
        )
        for _ in range(2)
    ]
    fused, _ = fuse_without_choice(net, torch.randn(*shapes[0]))
    executor_of(fused)
    for shape in shapes:
        x = torch.randn(*shape)
        turned = net.turns and shape[3] % 2 != shapes[0][3] % 2
        with torch.no_grad(), refusal(possible=turned):
            for a, b in zip(fused(x), exact(net, x), strict=True):
                same(a, b)


def small() -> tnn.Module:
    return nn.models.MobileNetV1(width=0.25, classes=10, resolution=64)


def fused_small() -> tuple[tnn.Module, tnn.Module, torch.Tensor]:
    torch.manual_seed(0)
    net, x = drawn(small()), torch.randn(1, 3, 64, 64)
    return net, fuse_without_choice(net, x)[0], x


class NormFirst(tnn.Module):
    """A block of ConvNeXt: layer normalisation and linear layers on rows of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = tnn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = tnn.LayerNorm(channels)
        self.up, self.down = tnn.Linear(channels, 3 * channels), tnn.Linear(3 * channels, channels)
        self.scale = tnn.Parameter(torch.rand(channels))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(functional.gelu(self.up(y)))
        return x + y.permute(0, 3, 1, 2)


class LightSteps(tnn.Module):
    """Pooling, upsampling, padding, concatenation, squeeze-and-excitation, scalars and statistics that stay apart."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = tnn.BatchNorm2d(6), tnn.Conv2d(18, 5, 1)
        self.squeeze, self.excite = tnn.Conv2d(5, 2, 1), tnn.Conv2d(2, 5, 1)

    def forward(self, x):
        x = functional.silu(self.norm(x))
        a = functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        b = functional.avg_pool2d(functional.pad(x, (0, 1, 2, 0)), 2, ceil_mode=True)
        c = functional.interpolate(
            functional.adaptive_avg_pool2d(x, 3), scale_factor=2, mode="nearest"
        )
        sizes = [min(t.shape[i] for t in (a, b, c)) for i in (2, 3)]
        y = self.mix(torch.cat([t[..., : sizes[0], : sizes[1]] for t in (a, b, c)], 1)) * 0.5 + 1
        gate = functional.hardsigmoid(
            self.excite(functional.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        )
        return torch.flatten(functional.adaptive_avg_pool2d(y * gate, 1), 1), y - gate


@pytest.mark.parametrize(("net", "channels"), [(NormFirst(20), 20), (LightSteps(), 6)])
def test_steps_of_every_kind(net, channels):
    torch.manual_seed(0)
    net = drawn(tnn.Sequential(tnn.Conv2d(channels, channels, 3, padding=1), net))
    x = torch.randn(2, channels, 11, 14)
    fused, report = fuse_without_choice(net, x)
    assert not report.whole
    with torch.no_grad():
        for a, b in zip(fused(x), exact(net, x), strict=True):
            same(a, b)
    last = x.contiguous(memory_format=torch.channels_last)
    calls = [p for p in executor_of(fused).execution(last).parts if not hasattr(p, "program")]
    assert {str(c.node.target) for c in calls} <= {
        "aten.slice.Tensor", "aten.as_strided.default", "aten.view.default",
    }  # fmt: skip


def test_a_single_layer_is_a_network():
    torch.manual_seed(0)
    net, x = tnn.Conv2d(3, 8, 3).eval(), torch.randn(1, 3, 9, 9)
    fused, _ = nn.fuse(net, x)
    with torch.no_grad():
        same(fused(x), exact(net, x))


def test_any_number_of_threads_gives_the_same_bits():
    _, fused, x = fused_small()
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        with torch.no_grad():
            results.append(fused(x))
    assert all(torch.equal(results[0], r) for r in results)


def test_values_between_steps_are_never_read_before_they_are_written(monkeypatch):
    net, fused, x = fused_small()
    monkeypatch.setattr(pool, "poison", True)
    with torch.no_grad():
        same(fused(x), exact(net, x))


def test_results_are_separate_tensors():
    _, fused, x = fused_small()
    before = x.clone()
    with torch.no_grad():
        one, two = fused(x), fused(x)
        one.zero_()
        assert two.any()
    assert torch.equal(x, before)


def test_callers_at_the_same_time():
    _, fused, _ = fused_small()
    inputs = [torch.randn(n % 2 + 1, 3, 64, 64) for n in range(4)]
    with torch.no_grad():
        expected = [fused(x) for x in inputs]
    found: list[list[torch.Tensor]] = [[] for _ in inputs]

    def work(n: int) -> None:
        with torch.no_grad():
            found[n] += [fused(inputs[n]) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(torch.equal(r, expected[n]) for n in range(4) for r in found[n])


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "save"])
def test_copies_run_programs_of_their_own(way):
    _, fused, x = fused_small()
    if way == "deepcopy":
        made = copy.deepcopy(fused)
    elif way == "pickle":
        made = pickle.loads(pickle.dumps(fused))
    else:
        held = io.BytesIO()
        torch.save(fused, held)
        held.seek(0)
        made = torch.load(held, weights_only=False)
    assert executor_of(made).module is made
    with torch.no_grad():
        assert torch.equal(made(x), fused(x))
        for parameter in made.buffers():
            parameter.zero_()
        assert not torch.equal(made(x), fused(x))


def test_changed_weights_are_seen():
    _, fused, x = fused_small()
    with torch.no_grad():
        first = fused(x)
        weights = {k: v.clone() for k, v in fused.state_dict().items()}
        next(b for b in fused.buffers() if b.dim() == 4).mul_(2)
        assert not torch.equal(fused(x), first)
        fused.load_state_dict(weights)
        assert torch.equal(fused(x), first)


def test_replaced_modules_are_seen():
    _, fused, x = fused_small()
    with torch.no_grad():
        first = fused(x)
        name = next(n for n, m in fused.named_modules() if isinstance(m, tnn.Linear))
        linear = fused.get_submodule(name)
        fused.set_submodule(name, tnn.Linear(linear.in_features, 10).eval().requires_grad_(False))
        found = fused(x)
        assert not torch.equal(found, first)
        same(found, executor_of(fused)._plain(x).double())


def test_hooks_see_every_call():
    _, fused, x = fused_small()
    name = next(n for n, m in fused.named_modules() if type(m).__name__ == "FusedSeparable")
    seen = []
    handle = fused.get_submodule(name).register_forward_hook(lambda *a: seen.append(a[2]))
    with torch.no_grad():
        found = fused(x)
        fused(x)
        assert len(seen) == 2
        handle.remove()
        same(fused(x), found.double())
        assert len(seen) == 2


def test_a_hook_that_was_there_before_divides_the_network():
    torch.manual_seed(0)
    net, x = drawn(small()), torch.randn(1, 3, 64, 64)
    seen = []
    net.stages[4].register_forward_hook(lambda m, a, y: seen.append(y))
    fused, _ = fuse_without_choice(net, x)
    seen.clear()
    with torch.no_grad():
        found = fused(x)
    assert len(seen) == 1
    same(found, exact(net, x))
    assert "forward" not in fused.__dict__
    assert any(isinstance(m.__dict__.get("forward"), Executor) for m in fused.modules())


class Branches(tnn.Module):
    """Flow that depends on values cannot be recorded; the modules inside can."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (tnn.Sequential(tnn.Conv2d(3, 4, 3), tnn.ReLU()) for _ in range(2))

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else self.b(x)


class Swaps(tnn.Module):
    """Flow that depends on the size, or on the values, between modules that are fused otherwise."""

    def __init__(self, by_value: bool) -> None:
        super().__init__()
        self.by_value = by_value
        self.a, self.b = (
            tnn.Conv2d(3, 3, 3, padding=1, groups=3),
            tnn.Conv2d(3, 3, 3, padding=1, groups=3),
        )
        self.last = tnn.Conv2d(3, 4, 1)

    def forward(self, x):
        other = x.sum() > 0 if self.by_value else x.shape[-1] % 2 == 0
        return self.last(self.b(x) if other else self.a(x))


@pytest.mark.parametrize("by_value", [False, True])
def test_layers_that_do_not_follow_each_other_for_another_input(by_value):
    torch.manual_seed(0)
    net, x = Swaps(by_value).eval(), torch.rand(1, 3, 9, 9)
    fused, report = fuse_without_choice(net, x)
    other = -x if by_value else torch.rand(1, 3, 9, 10)
    with torch.no_grad():
        same(fused(x), exact(net, x))
        if by_value:
            assert all(
                "pointwise" not in what or "depthwise" not in what for _, what in report.fused
            )
            same(fused(other), exact(net, other))
        else:
            with pytest.raises(
                ArgumentError, match="fuse the network again, with an example of this"
            ):
                fused(other)


def test_flow_that_depends_on_values():
    torch.manual_seed(0)
    net, x = Branches().eval(), torch.rand(1, 3, 9, 9)
    fused, _ = fuse_without_choice(net, x)
    with torch.no_grad():
        for given_ in (x, -x):
            same(fused(given_), exact(net, given_))


class Counts(tnn.Module):
    """A module that changes a buffer in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = tnn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return self.conv(x) + 0 * self.calls


def test_a_module_that_changes_itself_runs_itself():
    net, x = Counts().eval(), torch.rand(1, 3, 9, 9)
    fused, _ = fuse_without_choice(net, x)
    before = int(fused.calls)
    with torch.no_grad():
        same(fused(x), exact(net, x))
        fused(x)
    assert int(fused.calls) == before + 2


class Writes(tnn.Module):
    """A module that changes its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = tnn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x.mul_(2))


def test_a_module_that_changes_its_input_runs_itself():
    net, x = Writes().eval(), torch.rand(1, 3, 9, 9)
    fused, _ = fuse_without_choice(net, x.clone())
    given_ = x.clone(memory_format=torch.channels_last)
    with torch.no_grad():
        same(fused(given_), exact(net, x))
    assert torch.equal(given_, 2 * x)


class Draws(tnn.Module):
    """A network with random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = tnn.Conv2d(3, 4, 3), tnn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.b(functional.dropout(self.a(x), 0.5, training=True))


def test_random_numbers_are_drawn_anew():
    net = Draws().eval()
    executor = Executor(net)
    with torch.no_grad():
        x = torch.rand(1, 3, 9, 9)
        assert not torch.equal(executor(x), executor(x))


@pytest.mark.parametrize("case", ["float64", "gradient", "autocast", "meta", "subclass", "empty"])
def test_other_calls_go_to_the_modules(case):
    _, fused, x = fused_small()
    if case == "float64":
        assert fused.double()(x.double()).dtype is torch.float64
    elif case == "gradient":
        given_ = x.clone().requires_grad_()
        fused(given_).sum().backward()
        assert given_.grad.any()
    elif case == "autocast":
        with torch.autocast("cpu"), torch.no_grad():
            assert fused(x).shape == (1, 10)
    elif case == "meta":
        assert copy.deepcopy(fused).to("meta")(x.to("meta")).device.type == "meta"
    elif case == "subclass":

        class Own(torch.Tensor):
            pass

        with torch.no_grad():
            assert type(fused(x.as_subclass(Own))) is Own
    else:
        with torch.no_grad():
            assert fused(x[:0]).shape == (0, 10)


def test_compiles_and_exports():
    _, fused, x = fused_small()
    with torch.no_grad():
        expected = fused(x)
        program = torch.export.export(fused, (x,))
        same(program.module()(x), expected.double())
        same(torch.compile(fused, backend="eager")(x), expected.double())


def test_many_shapes_and_calls_do_not_grow():
    net = drawn(tnn.Sequential(tnn.Conv2d(3, 8, 3), tnn.ReLU(), tnn.Conv2d(8, 4, 1)))
    fused, _ = fuse_without_choice(net, torch.rand(1, 3, 9, 9))
    executor = executor_of(fused)
    with torch.no_grad():
        for n in range(70):
            x = torch.rand(1, 3, 8 + n, 9)
            same(fused(x), exact(net, x))
    assert len(executor._executions) <= 64


def test_the_report_says_the_times_first():
    torch.manual_seed(0)
    net, x = drawn(small()), torch.randn(1, 3, 64, 64)
    fused, report = nn.fuse(net, x)
    assert report.times is not None
    assert report.times.seconds > 0
    lines = str(report).splitlines()
    assert lines[0] == str(report.times)
    assert " ms instead of " in lines[0]
    assert [line.strip() for line in lines[1 : 1 + len(report.segments)]] == list(
        map(str, report.segments)
    )
    assert all(s.steps >= 1 and s.seconds > 0 and s.torch_seconds > 0 for s in report.segments)
    with torch.no_grad():
        same(fused(x), exact(net, x))


def test_segments_that_pytorch_is_faster_at_are_left_to_it(monkeypatch):
    from separable.nn.fused.program import measurement

    torch.manual_seed(0)
    net, x = drawn(small()), torch.randn(1, 3, 64, 64)
    monkeypatch.setattr(measurement, "interleaved", lambda runs, *_: [2.0, 1.0, 1.0][: len(runs)])
    fused, report = nn.fuse(net, x)
    assert report.segments
    assert not any(s.kept for s in report.segments)
    assert "left to PyTorch, which is faster" in str(report)
    executor = executor_of(fused)
    last = x.contiguous(memory_format=torch.channels_last)
    assert executor.execution(last).reason == "no operator has a kernel"
    with torch.no_grad():
        same(fused(x), exact(net, x))
        same(fused(x[..., :40]), exact(net, x[..., :40]))


def test_a_slower_network_is_named_in_the_first_line():
    from separable.nn.fused.program.measurement import NetworkTimes

    assert str(NetworkTimes(2e-3, 1e-3, 3e-3, 2)).startswith(
        "slower than the network as it was: 2 ms"
    )
    assert str(NetworkTimes(1e-3, 3e-3, 2e-3, 1)) == (
        "2.00 times as fast: 1 ms instead of 2 ms of PyTorch with channels last, 1 thread"
    )
