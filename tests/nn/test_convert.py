"""convert: exactness, errors in closed form, budgets, data, what is left alone, messages."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError, PatternError, RankError
from separable.nn import FactoredConv, SeparableConv2d
from separable.nn.convert import convert
from separable.nn.ledger import ledger

CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
BATCHES = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def small_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2), nn.ReLU(),
        nn.Conv2d(24, 24, 5, padding=2, groups=2, padding_mode="reflect"), nn.ReLU(),
        nn.Conv2d(24, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(8, 5),
    ).eval()  # fmt: skip


def images(count: int = 24, size: int = 16, seed: int = 1) -> Tensor:
    """Smooth noise: neighbours are alike, as in pictures."""
    noise = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool2d(noise, 3, 1, 1)


def relative(got: Tensor, wanted: Tensor) -> float:
    return float(((got - wanted).norm() / wanted.norm()).detach())


# Exactness.


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    ndim = draw(st.integers(1, 3))
    size = {1: 13, 2: 9, 3: 7}[ndim]
    torch.manual_seed(draw(st.integers(0, 99)))
    layers: list[nn.Module] = []
    channels = 4
    for _ in range(draw(st.integers(1, 2))):
        groups = draw(st.sampled_from([1, 2, 4]))
        out = groups * draw(st.integers(1, 3))
        mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
        conv = CONVS[ndim](
            channels, out,
            draw(st.tuples(*[st.integers(1, 3)] * ndim)),
            stride=draw(st.integers(1, 2)), padding=draw(st.integers(0, 1)),
            dilation=draw(st.integers(1, 2)), groups=groups, bias=draw(st.booleans()),
            padding_mode=mode,
        )  # fmt: skip
        norm = BATCHES[ndim](out)
        nn.init.uniform_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        layers += [conv, norm, nn.ReLU()]
        if groups == 1 or out % 4:
            break
        channels = out
    return nn.Sequential(*layers).eval(), (2, 4, *[size] * ndim)


PATTERNS = ["ocyx -> oc,cyx", "ocyx -> oc,oyx", "ocyx -> oR,RyxS,Sc"]


@given(networks(), st.sampled_from(PATTERNS))
def test_full_rank_is_the_original(made: tuple[nn.Module, tuple[int, ...]], pattern: str) -> None:
    net, shape = made
    before = copy.deepcopy(net.state_dict())
    try:
        wanted = net(x := torch.randn(shape))
    except (RuntimeError, ValueError):  # the random kernel is larger than the image
        return
    exact, report = convert(net, pattern, min_saving=0, repeats=0)
    assert relative(exact(x), wanted) < 1e-5 or wanted.norm() < 1e-6
    for layer in report.layers:
        assert layer.weight_error < 1e-6
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("pattern", ["ocyx -> ox,cy", "ocyx -> oR,RyS,SxT,Tc", "ocyx -> oc,cy,cx"])
def test_other_patterns_at_full_rank(pattern: str) -> None:
    net = small_net()
    exact, report = convert(net, pattern, min_saving=0, repeats=0)
    assert len(report.converted) >= 3
    x = images(2)
    assert relative(exact(x), net(x)) < 1e-5


@pytest.mark.parametrize("multiplier", [1, 2, 5])
def test_the_weight_error_is_the_closed_form(multiplier: int) -> None:
    """The sum over the input channels of the squared singular values beyond the multiplier."""
    conv = nn.Conv2d(6, 20, 3)
    small, report = convert(nn.Sequential(conv), rank=multiplier, min_saving=0, repeats=0)
    weights = conv.weight.detach().double().numpy()
    values = np.linalg.svd(weights.transpose(1, 0, 2, 3).reshape(6, 20, 9), compute_uv=False)
    wanted = math.sqrt(float((values[:, multiplier:] ** 2).sum() / (values**2).sum()))
    assert report["0"].weight_error == pytest.approx(wanted, rel=1e-6)
    dense = small[0].to_dense().weight.detach().double().numpy()
    assert np.linalg.norm(dense - weights) / np.linalg.norm(weights) == pytest.approx(
        wanted, rel=1e-6
    )


def test_ragged_ranks_drop_the_smallest_values_of_all_channels() -> None:
    """One channel needs more terms than the others, so that equal ranks would waste a budget."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 32, 3, bias=False)
    with torch.no_grad():
        conv.weight[:, 1:] *= 0.1 + 0.9 * torch.eye(9)[0].reshape(1, 1, 3, 3)
        conv.weight[:, 0] *= 3
    small, report = convert(nn.Sequential(conv), budget=0.3, input_shape=(1, 8, 9, 9), repeats=0)
    weights = conv.weight.detach().double().numpy().transpose(1, 0, 2, 3).reshape(8, 32, 9)
    values = np.sort((np.linalg.svd(weights, compute_uv=False) ** 2).ravel())[::-1]
    terms = report["0"].terms["R"]
    assert terms == int(0.3 * 32 * 8 * 9 / (32 + 9))
    wanted = math.sqrt(values[terms:].sum() / values.sum())
    assert report["0"].weight_error == pytest.approx(wanted, rel=1e-6)
    assert len(set(small[0].ranks["R"])) > 1


def test_equal_ranks_are_preferred_where_the_error_is_about_the_same() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3))
    for pattern in ("ocyx -> oc,cyx", "auto"):
        _, report = convert(net, pattern, budget=0.5, input_shape=(1, 8, 12, 12), repeats=0)
        assert report.converted
        assert all(isinstance(r, int) for x in report.converted for r in x.ranks.values())


def test_a_tolerance_is_kept_layer_by_layer() -> None:
    net = small_net()
    _, report = convert(net, tol=0.5, min_saving=0, repeats=0)
    assert all(0.3 < x.weight_error <= 0.5 for x in report.converted)
    _, report = convert(net, "auto", tol=0.7, input_shape=(1, 3, 16, 16), repeats=0)
    assert report.converted
    assert all(x.weight_error <= 0.7 + 1e-6 for x in report.converted)
    data = images().split(8)
    _, report = convert(net, tol=0.3, data=data, repeats=0)
    assert report.converted
    assert report["0"].output_error <= 0.3 + 1e-6  # nothing before it adds to its error


# Budgets.


@pytest.mark.parametrize("pattern", ["ocyx -> oc,cyx", "ocyx -> oc,oyx", "auto"])
@pytest.mark.parametrize("budget", [0.2, 0.35, 0.5, 0.8])
def test_a_budget_is_kept_by_the_ledger(pattern: str, budget: float) -> None:
    net, shape = small_net(), (1, 3, 16, 16)
    small, report = convert(net, pattern, budget=budget, input_shape=shape, repeats=0)
    before = ledger(net, shape, backward=False).total.multiplications
    after = ledger(small, shape, backward=False).total.multiplications
    assert after <= budget * before
    assert (after, before) == (report.multiplications, report.multiplications_before)
    found = ledger(small, shape, backward=False)
    for row in report.layers:
        inside = [x.cost.multiplications for x in found.layers if x.name.split(".")[0] == row.name]
        assert row.multiplications == sum(inside)


def test_more_budget_is_less_error() -> None:
    net, shape = small_net(), (1, 3, 16, 16)
    errors = []
    for budget in (0.2, 0.4, 0.6, 0.9):
        _, report = convert(net, "auto", budget=budget, input_shape=shape, repeats=0)
        rows = [x.weight_error**2 for x in report.layers]
        errors.append(sum(rows))
    assert errors == sorted(errors, reverse=True)


def test_a_layer_that_loses_nothing_goes_first() -> None:
    """One layer is separable with multiplier 1, one is noise: the noise stays dense."""
    torch.manual_seed(0)
    noise, simple = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    with torch.no_grad():
        simple.weight.copy_(torch.randn(8, 8, 1, 1) * torch.randn(1, 8, 3, 3))
    net = nn.Sequential(noise, simple)
    _, report = convert(net, budget=0.75, input_shape=(1, 8, 8, 8), repeats=0)
    assert report["1"].ranks == {"R": 1}
    assert report["1"].weight_error < 1e-6
    assert report["0"].reason.startswith("dense")


def test_a_budget_out_of_reach_says_the_smallest() -> None:
    net, shape = small_net(), (1, 3, 16, 16)
    with pytest.raises(ArgumentError, match=r"`budget` 0.01 cannot be met: the smallest") as caught:
        convert(net, budget=0.01, input_shape=shape)
    smallest = float(str(caught.value).split("can is ")[1].split(",")[0])
    convert(net, budget=smallest, input_shape=shape, repeats=0)
    with pytest.raises(ArgumentError, match="cannot be met"):
        convert(net, budget=smallest * 0.97, input_shape=shape, repeats=0)


# Data.


@pytest.mark.parametrize("pattern", [*PATTERNS, "ocyx -> ox,cy", "auto"])
def test_data_never_makes_it_worse(pattern: str) -> None:
    net = small_net()
    data = images(16).split(8)
    how: dict[str, Any] = {"budget": 0.5} if pattern == "auto" else {"rank": 2}
    small, report = convert(net, pattern, data=data, repeats=0, **how)
    assert report.output_error <= report.plain_output_error
    with torch.no_grad():
        x = torch.cat(list(data))
        wanted, got = net(x), small(x)
    spread = (wanted - wanted.mean(dim=0)).norm()
    assert report.output_error == pytest.approx(float((got - wanted).norm() / spread), rel=1e-4)


def test_data_halves_the_error() -> None:
    net = small_net()
    _, report = convert(net, rank=2, data=images(64).split(16), repeats=0)
    assert report.output_error < 0.5 * report.plain_output_error


@pytest.mark.parametrize("pattern", [*PATTERNS, "ocyx -> ox,cy"])
def test_one_layer_is_fitted_as_least_squares_would(pattern: str) -> None:
    """The factor with the outputs solves the normal equations: no change of it is better."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3))
    data = images(8)
    small, _ = convert(
        net, pattern, rank=1, data=[data], ridge=0, sweeps=0, repeats=0, min_saving=0
    )
    layer = small[0]
    name = next(n for n in layer.step_names if "o" in n.removeprefix("factor_"))
    if pattern == "ocyx -> oc,oyx":  # each output has its own: the one with fewest numbers
        name = "factor_oc"
    weight = getattr(layer, name).weight
    loss = ((layer(data) - net(data)) ** 2).mean()
    others = [m.weight for m in layer._convolutions() if m.weight is not weight]
    fitted, bias, other = torch.autograd.grad(
        loss, [weight, layer._convolutions()[-1].bias, others[0]]
    )
    assert fitted.norm() < 1e-4 * other.norm()
    assert bias.norm() < 1e-4 * other.norm()


def test_sweeps_lower_the_error() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3))
    errors = [
        convert(net, rank=1, data=[images(16)], ridge=0, sweeps=s, repeats=0)[1].output_error
        for s in (0, 1, 4)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_a_bias_is_added_and_corrected() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False))
    data = images(16) + 1
    small, _ = convert(net, rank=1, data=[data], repeats=0)
    with torch.no_grad():
        error = (small(data) - net(data)).mean(dim=(0, 2, 3))
        assert float(error.abs().max()) < 1e-5
    assert small[0].spec.bias


@pytest.mark.parametrize(
    "kind", ["list", "generator", "loader", "tuples", "mapping", "no batch axis"]
)
def test_all_kinds_of_batches(kind: str) -> None:
    net = small_net()
    x = images(8)
    data: Any = {
        "list": [x],
        "generator": (b for b in x.split(4)),
        "loader": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=4),
        "tuples": [(x,)],
        "mapping": [{"input": x}],
        "no batch axis": list(x),
    }[kind]
    if kind == "no batch axis":
        net = net[:1]
    _, report = convert(net, rank=2, data=data, repeats=0)
    assert report.output_error < report.plain_output_error


def test_modes_and_gradients_stay() -> None:
    net = small_net().train()
    net[0].requires_grad_(False)
    net[3].eval()
    small, _ = convert(net, rank=2, data=[images(8)], repeats=0)
    assert small.training
    assert not small[3].training
    assert small[0].training
    assert not any(p.requires_grad for p in small[0].parameters())
    assert all(p.requires_grad for p in small[3].parameters())
    assert torch.equal(small[1].running_mean, net[1].running_mean)


class Twice(nn.Module):
    """One convolution under two names, called three times at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 6, 3, padding=1)
        self.again = nn.ModuleList([self.first, nn.Conv2d(6, 6, 3, padding=1)])

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.again[0](x))
        return self.again[1](self.first(x[..., ::2, ::2]))


@pytest.mark.parametrize("with_data", [False, True])
def test_shared_layers_are_converted_once(with_data: bool) -> None:
    torch.manual_seed(0)
    net, x = Twice(), torch.randn(4, 6, 8, 8)
    how: dict[str, Any] = {"data": [x]} if with_data else {"input_shape": (4, 6, 8, 8)}
    small, report = convert(net, rank=2, repeats=0, **how)
    assert small.first is small.again[0]
    assert isinstance(small.first, FactoredConv)
    assert report["first"].aliases == ("again.0",)
    assert report["again.0"] is report["first"]
    assert [x.name for x in report.layers] == ["first", "again.1"]
    found = ledger(small, (4, 6, 8, 8), backward=False)
    assert found.total.multiplications == report.multiplications


def test_the_model_itself_may_be_the_layer() -> None:
    conv = nn.Conv1d(4, 8, 5)
    small, report = convert(conv, rank=2, data=[torch.randn(4, 4, 30)], repeats=0)
    assert isinstance(small, FactoredConv)
    assert report.layers[0].name == ""
    assert report.layers[0].pattern == "ocx -> oc,cx"


# What is left alone.


class Own(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) ** 2


class OwnTranspose(nn.ConvTranspose2d):
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(input, output_size) ** 2


def reasons() -> dict[str, tuple[nn.Module, str]]:
    hooked = nn.Conv2d(4, 4, 3)
    hooked.register_forward_hook(lambda *_: None)
    broken = nn.Conv2d(4, 4, 3)
    nn.init.constant_(broken.weight, math.nan)
    return {
        "lazy transposed": (nn.LazyConvTranspose2d(4, 3), "no weights yet"),
        "own transposed": (OwnTranspose(4, 4, 3), "OwnTranspose overrides the convolution"),
        "depthwise": (nn.Conv2d(4, 4, 3, groups=4), "depthwise already"),
        "pointwise": (nn.Conv2d(4, 4, 1), "nothing to separate"),
        "separable": (SeparableConv2d(4, 4, 3), "separable already"),
        "own": (Own(4, 4, 3), "Own overrides the convolution"),
        "hooked": (hooked, "has hooks"),
        "parametrised": (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), "parametrised"),
        "not finite": (broken, "not finite"),
        "meta": (nn.Conv2d(4, 4, 3, device="meta"), "meta device"),
        "lazy": (nn.LazyConv2d(4, 3), "no weights yet"),
        "dear": (nn.Conv2d(4, 2, (1, 2)), "R=1 takes 1.00 times as many multiplications"),
    }


@pytest.mark.parametrize("name", reasons())
def test_what_cannot_be_converted_is_listed_with_the_reason(name: str) -> None:
    layer, reason = reasons()[name]
    net = nn.ModuleDict({"odd": layer, "good": nn.Conv2d(4, 64, 3)})
    small, report = convert(net, rank=1)
    assert reason in report["odd"].reason
    assert type(small["odd"]) is type(layer)
    assert report["good"].converted
    assert reason.split(" of ")[0] in str(report).replace("\n", " ")


def test_what_does_not_run_is_left_alone() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Conv2d(4, 64, 3), nn.Conv2d(4, 64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) + nn.functional.conv2d(x, self.unused.weight)

    small, report = convert(Half(), rank=1, input_shape=(1, 4, 8, 8), repeats=0)
    assert report["unused"].reason == "does not run"
    small(torch.zeros(1, 4, 8, 8))


def test_patterns_by_layer() -> None:
    net = small_net()
    patterns = {"0": "ocyx -> ox,cy", "5": None, "*": "ocyx -> oR,RyxS,Sc"}
    _, report = convert(net, patterns, rank=2, repeats=0)
    assert report["0"].pattern == "ocyx -> ox,cy"
    assert report["3"].pattern == "ocyx -> oR,RyxS,Sc"
    assert report["5"].reason == "no pattern given"


def test_patterns_of_images_fit_other_axes_or_say_why_not() -> None:
    net = nn.ModuleList([nn.Conv1d(8, 16, 5), nn.Conv2d(8, 16, 3), nn.Conv3d(8, 16, 3)])
    _, report = convert(net, rank=1)
    assert [x.pattern for x in report.layers] == [
        "ocx -> oc,cx", "ocyx -> oc,cyx", "oczyx -> oc,czyx"
    ]  # fmt: skip
    _, report = convert(net, "ocyx -> ox,cy", rank=1)
    assert [bool(x.reason) for x in report.layers] == [True, False, True]
    assert report["0"].reason == "`ocyx -> ox,cy` separates 2 spatial axes; this has one axis"


def test_auto_takes_the_patterns_that_fit() -> None:
    """One input channel: pointwise first separates nothing, depthwise first does."""
    net = nn.Sequential(nn.Conv2d(1, 64, 5), nn.Conv2d(64, 64, 1), nn.Conv2d(1, 1, 1))
    _, report = convert(net[:1], "auto", tol=0.9)
    assert report.layers[0].converted
    _, report = convert(net[2], "auto", tol=0.5)
    assert report.layers[0].reason == "nothing to separate"


def test_low_precision_weights_stay_what_they_are() -> None:
    net = nn.Sequential(nn.Conv2d(4, 16, 3)).to(torch.bfloat16)
    data = [torch.randn(2, 4, 9, 9).to(torch.bfloat16)]
    small, report = convert(net, rank=3, data=data, repeats=0)
    assert all(p.dtype == torch.bfloat16 for p in small.parameters())
    assert report.output_error < report.plain_output_error


def test_include_and_exclude() -> None:
    net = nn.Sequential(small_net(), small_net(1))
    _, report = convert(net, rank=1, include=["0"], exclude=["*.5"])
    assert [x.name for x in report.converted] == ["0.0", "0.3"]
    assert report["0.5"].reason == "in `exclude`"
    assert report["1.0"].reason == "not in `include`"


# Bad input.


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


X = torch.zeros(2, 3, 9, 9)
BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown layer": (
        {"include": ["encodr.1"], "rank": 1}, ArgumentError,
        r"`include` names 'encodr.1', which is neither a convolution .* Did you mean 'encoder.1'",
    ),
    "unknown pattern": ({"pattern": {"decoder": "ocyx -> oc,cyx"}}, ArgumentError, "`pattern` names"),
    "two limits": ({"rank": 1, "tol": 0.1}, ArgumentError, "give one of `rank`, `tol` and `budget`"),
    "no shape": ({"budget": 0.5}, ArgumentError, "give `data` or `input_shape`"),
    "budget 0": ({"budget": 0, "data": [X]}, ArgumentError, "> 0; got 0"),
    "budget 2": ({"budget": 2, "data": [X]}, ArgumentError, r"`budget` must be 0 .. 1; got 2"),
    "rank 0": ({"rank": 0}, RankError, "`rank` must be >= 1; got 0"),
    "rank text": ({"rank": "2"}, ArgumentTypeError, "`rank` must be an integer"),
    "bonds": ({"rank": {"S": 1}}, RankError, "must name the bonds R"),
    "pattern": ({"pattern": "ocyx -> oc,ckx"}, PatternError, "axis `y` of the kernel is not in any factor"),
    "auto": ({"pattern": "auto", "rank": 1}, ArgumentError, "give `budget`"),
    "empty": ({"data": []}, ArgumentError, "`data` is empty"),
    "nan": ({"data": [X, X * math.nan]}, ArgumentError, r"batch 1, shape \(2, 3, 9, 9\), has 486"),
    "empty batch": ({"data": [X[:0]]}, ArgumentError, "batch 0 is empty"),
    "channels": (
        {"data": [X[:, :2]], "rank": 1}, ArgumentError,
        r"`data`: batch 0, 2x2x9x9, does not go through the model: .*encoder.0",
    ),
    "later batch": (
        {"data": [X, X[:, :2]], "rank": 1}, ArgumentError, r"`data`: batch 1, 2x2x9x9, does not",
    ),
    "labels": ({"data": [(X, torch.zeros(2))], "rank": 1}, ArgumentError, "does not go through"),
    "one tensor": ({"data": X}, ArgumentTypeError, "must be an iterable of batches; got one tensor"),
    "numbers": ({"data": [1, 2]}, ArgumentTypeError, "batch 0 is int"),
    "shape": ({"input_shape": (1, 4, 9, 9), "rank": 1}, ArgumentError, "`input_shape` does not go"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_says_what_to_do(name: str) -> None:
    arguments, kind, message = BAD[name]
    net = Named()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(kind, match=f"(?s){message}"):
        convert(net, **arguments)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_model_without_convolutions() -> None:
    with pytest.raises(ArgumentError, match="Linear has no convolution to convert"):
        convert(nn.Linear(3, 4))
    with pytest.raises(ArgumentTypeError, match=r"must be a torch\.nn\.Module; got int"):
        convert(3)  # type: ignore[arg-type]


def test_progress_is_reported() -> None:
    told: list[tuple[str, int, int]] = []
    convert(small_net(), rank=2, data=[images(4)], repeats=0, progress=lambda *a: told.append(a))
    assert any(what == "fit of 3" for what, _, _ in told)
    assert all(0 <= done < count for _, done, count in told)


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.4, 0.6, 0.9]),
    st.sampled_from(["ocyx -> oc,cyx", "auto"]),
)
def test_any_network_any_budget(seed: int, budget: float, pattern: str) -> None:
    """Random widths and groups: the budget is kept, and the outputs stay finite."""
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    groups = int(generator.choice([1, 2, 3]))
    channels = 6 * int(generator.integers(1, 4))
    net = nn.Sequential(
        nn.Conv2d(3, channels, int(generator.integers(2, 5)), padding=1), nn.ReLU(),
        nn.Conv2d(channels, 12, 3, stride=int(generator.integers(1, 3)), groups=groups), nn.ReLU(),
        nn.Conv2d(12, 6, (1, 3)),
    )  # fmt: skip
    shape = (1, 3, 14, 15)
    before = ledger(net, shape, backward=False).total.multiplications
    small, report = convert(net, pattern, budget=budget, input_shape=shape, repeats=0)
    assert ledger(small, shape, backward=False).total.multiplications <= budget * before
    assert report.multiplications <= budget * before
    assert small(torch.randn(shape)).isfinite().all()
