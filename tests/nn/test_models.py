"""The networks: shapes, gradients, twins, seeds, compilers, options, messages, summaries."""

from __future__ import annotations

import copy
import math
import pickle
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn import models
from separable.nn.models import (
    SCALINGS,
    EfficientNet,
    MobileNetV1,
    MultiModalNet,
    Network,
    Scaling,
    SeriesClassifier,
    SpatialSpectralNet,
    UNet,
    Xception,
    compound_scaling,
)
from separable.nn.models.efficientnet import drop_path

pytestmark = pytest.mark.apart

SNAPSHOTS = Path(__file__).parents[1] / "snapshot"

TINY = Scaling(0.25, 0.3, 32, 0.0)
# A small one of each network, its input and its output. 33 is odd: nothing hides in even sizes.
SMALL: dict[str, tuple[Callable[..., Network], dict[str, Any], tuple[int, ...], tuple[int, ...]]]
SMALL = {
    "mobilenet": (MobileNetV1, {"width": 0.25, "classes": 5}, (3, 33, 40), (5,)),
    "efficientnet": (EfficientNet, {"scaling": TINY, "classes": 5}, (3, 33, 40), (5,)),
    "unet": (UNet, {"widths": (8, 16, 32), "classes": 3}, (1, 18, 25), (3, 18, 25)),
    "unet_3d": (UNet, {"ndim": 3, "widths": (4, 8)}, (1, 7, 8, 10), (2, 7, 8, 10)),
    "spectral": (SpatialSpectralNet, {"bands": 31, "width": 4}, (31, 6, 7), (16, 6, 7)),
    "series": (SeriesClassifier, {"in_channels": 6, "width": 16}, (6, 48), (2,)),
    "steps": (
        SeriesClassifier, {"in_channels": 6, "width": 16, "depth": 2, "per": "step"}, (6, 48), (2, 48),
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", SMALL)
TWINS = pytest.mark.parametrize("dense", [False, True], ids=["separable", "dense"])


def build(name: str, seed: int = 0, **options: Any) -> Network:
    kind, settings, _, _ = SMALL[name]
    torch.manual_seed(seed)
    return kind(**{**settings, **options})


def batch(name: str, n: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(n, *SMALL[name][2], generator=torch.Generator().manual_seed(seed))


def multimodal(**options: Any) -> MultiModalNet:
    torch.manual_seed(0)
    settings = {"width": 16, "depth": 2, "vocabulary": 50, "dropout": 0.0}
    return MultiModalNet({"digits": 10, "mood": 2}, **{**settings, **options})


def three(n: int = 2) -> dict[str, Tensor]:
    seed = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(n, 3, 33, 40, generator=seed),
        "audio": torch.randn(n, 1, 20, 31, generator=seed),
        "text": torch.randint(1, 50, (n, 9), generator=seed),
    }


def macs(net: nn.Module, *inputs: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        net(*inputs)
    return counter.get_total_flops() // 2


# ---------------------------------------------------------------- forward, backward, twins


@EACH
@TWINS
def test_every_weight_gets_a_gradient(name: str, dense: bool) -> None:
    net = build(name, dense=dense, **({"drop_path": 0.0} if name == "efficientnet" else {}))
    out = net(batch(name))
    assert out.shape == (2, *SMALL[name][3])
    (out * torch.randn_like(out)).sum().backward()
    for key, weight in net.named_parameters():
        assert weight.grad is not None, key
        assert weight.grad.isfinite().all(), key
    still = [k for k, w in net.named_parameters() if not w.grad.any()]  # type: ignore[union-attr]
    assert not still


@TWINS
def test_every_weight_of_the_multimodal_net_gets_a_gradient(dense: bool) -> None:
    net = multimodal(dense=dense)
    logits = net(**three())
    assert {k: tuple(v.shape) for k, v in logits.items()} == {"digits": (2, 10), "mood": (2, 2)}
    sum((v * torch.randn_like(v)).sum() for v in logits.values()).backward()  # type: ignore[union-attr]
    assert not [k for k, w in net.named_parameters() if w.grad is None or not w.grad.any()]


@EACH
def test_a_dense_twin_has_the_same_shapes_and_no_groups(name: str) -> None:
    net = build(name)
    twin = net.twin()
    assert (net.dense, twin.dense) == (False, True)
    assert twin.twin().parameter_count() == net.parameter_count() < twin.parameter_count()
    groups = [m.groups for m in twin.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    assert set(groups) == {1}
    x = batch(name)
    assert twin.eval()(x).shape == net.eval()(x).shape
    assert macs(net, x) < macs(twin, x)


def test_a_dense_twin_does_not_touch_what_is_not_separable() -> None:
    """Stem, norms, squeeze and excitation, projections and head have the same shapes."""
    for kind in (MobileNetV1, Xception, EfficientNet):
        with torch.device("meta"):
            net, twin = kind(), kind(dense=True)
        for part in ("stem", "head"):
            ours, theirs = getattr(net, part).state_dict(), getattr(twin, part).state_dict()
            assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@EACH
def test_a_network_learns_its_batch(name: str) -> None:
    """Thirty steps make the loss on one batch much smaller than guessing."""
    net = build(name, **({"drop_path": 0.0} if name == "efficientnet" else {}))
    x = batch(name, 4)
    want = torch.randint(0, SMALL[name][3][0], (4, *SMALL[name][3][1:]))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), want)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@EACH
def test_one_sample_and_none(name: str) -> None:
    net = build(name).eval()
    for n in (1, 0):
        assert net(batch(name, n)).shape == (n, *SMALL[name][3])


# ---------------------------------------------------------------- PyTorch's own machinery


@pytest.mark.parametrize(
    ("name", "dense"),
    [
        *((name, False) for name in SMALL if name not in ("unet", "efficientnet")),
        pytest.param("efficientnet", False, marks=pytest.mark.peers),
        ("mobilenet", True),
        ("spectral", True),
    ],
)
def test_compiles_as_one_graph(name: str, dense: bool) -> None:
    net = build(name, dense=dense).eval()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = batch(name)
    torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.peers
def test_a_compiled_unet_takes_other_sizes() -> None:
    """It compiles as one graph; sizes become symbols with the second one, also odd ones."""
    net = build("unet", widths=(8, 16)).eval()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for shape in ((18, 25), (21, 33), (16, 16)):
        x = torch.randn(1, 1, *shape)
        torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.peers
def test_the_multimodal_net_compiles_as_one_graph() -> None:
    net = multimodal().eval()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(**three()), net(**three()), rtol=1e-4, atol=1e-5)


@EACH
def test_weights_travel(name: str) -> None:
    """Through a state dict into a network that had no memory, a deep copy and a pickle."""
    net, x = build(name).eval(), batch(name)
    want = net(x)
    with torch.device("meta"):
        empty = build(name).eval()
    assert all(p.is_meta for p in empty.parameters())
    empty.load_state_dict(net.state_dict(), assign=True)
    assert torch.equal(empty(x), want)
    assert torch.equal(copy.deepcopy(net)(x), want)
    assert torch.equal(pickle.loads(pickle.dumps(net))(x), want)


@EACH
def test_half_precision(name: str) -> None:
    net, x = build(name).eval(), batch(name)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(x)
    assert out.dtype == torch.bfloat16
    assert net.to(torch.bfloat16)(x.to(torch.bfloat16)).isfinite().all()


def test_channels_last_images_give_the_same() -> None:
    net, x = build("mobilenet").eval(), batch("mobilenet")
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), net(x))


@pytest.mark.parametrize("name", ["spectral", "series", "steps"])
def test_nothing_depends_on_the_other_samples(name: str) -> None:
    """Several processes, each with a part of the batch, learn the same as one."""
    net, x = build(name, dropout=0.0), batch(name, 5)
    torch.testing.assert_close(net(x)[:2], net(x[:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["unet", "unet_3d"])
def test_a_unet_depends_on_the_other_samples_by_its_norm(name: str) -> None:
    x = batch(name, 5)
    group, by_batch = build(name, norm="group"), build(name)
    torch.testing.assert_close(group(x)[:2], group(x[:2]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(by_batch(x)[:2], by_batch(x[:2]), rtol=1e-2)


# ---------------------------------------------------------------- initial weights


def test_a_seed_gives_the_same_weights_and_leaves_the_state() -> None:
    state = torch.get_rng_state()
    one, same, other = (models.create("series", seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    ours, theirs = one.state_dict(), same.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert not torch.equal(one.head.weight, other.head.weight)  # type: ignore[union-attr,arg-type]


def test_without_a_seed_the_state_of_pytorch_decides() -> None:
    a, b, c = build("unet", 3), build("unet", 3), build("unet", 4)
    key = "down.0.0.weight"
    assert torch.equal(a.state_dict()[key], b.state_dict()[key])
    assert not torch.equal(a.state_dict()[key], c.state_dict()[key])


def test_initial_weights_have_the_variance_of_fan_out() -> None:
    net = models.create("mobilenet_v1", seed=0)
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 27
    for conv in convs[-2:]:  # 1024 channels: 3x3 depthwise, then pointwise
        fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
        assert fan_out == (9 if conv.groups > 1 else 1024)
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.03)
    head = next(m for m in net.modules() if isinstance(m, nn.Linear))
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not head.bias.any()


def test_the_first_loss_is_that_of_guessing() -> None:
    for name in ("mobilenet", "efficientnet", "series"):
        net, x = build(name, classes=10), batch(name, 8)
        loss = nn.functional.cross_entropy(net(x), torch.arange(8))
        assert loss.item() == pytest.approx(math.log(10), abs=0.3)


# ---------------------------------------------------------------- each network's own


def test_the_width_multiplier_scales_every_layer() -> None:
    def channels(width: float) -> list[int]:
        with torch.device("meta"):
            net = MobileNetV1(width)
        return [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]

    full = channels(1.0)
    assert full[:4] == [32, 32, 64, 64]
    assert channels(0.5) == [c // 2 for c in full]
    assert channels(1e-3) == [8] * len(full)


def test_resolution_changes_multiplications_only() -> None:
    with torch.device("meta"):
        large, small = MobileNetV1(resolution=256), MobileNetV1(resolution=128)
    assert large.parameter_count() == small.parameter_count()
    head = 1024 * 1000
    large_macs, small_macs = (macs(net, *net.example()) - head for net in (large, small))
    assert large_macs == 4 * small_macs


def test_efficientnets_follow_the_law_of_compound_scaling() -> None:
    assert pytest.approx(2, rel=0.05) == 1.2 * 1.1**2 * 1.15**2
    assert compound_scaling(0) == SCALINGS["b0"]
    counts = []
    for phi in (0, 2):
        with torch.device("meta"):
            net = EfficientNet(compound_scaling(phi))
        counts.append(macs(net, *net.example()))
    assert (counts[1] / counts[0]) ** (1 / 2) == pytest.approx(2, rel=0.1)


def test_the_stages_of_efficientnet_b0_are_those_of_table_1() -> None:
    with torch.device("meta"):
        net = EfficientNet("b0").eval()
        x = net.stem(torch.zeros(1, 3, 224, 224))
        shapes = [tuple(x.shape[1:])]
        for block in net.blocks:
            x = block(x)
            shapes += [tuple(x.shape[1:])] if tuple(x.shape[1:]) != shapes[-1] else []
    assert shapes == [
        (32, 112, 112), (16, 112, 112), (24, 56, 56), (40, 28, 28), (80, 14, 14), (112, 14, 14),
        (192, 7, 7), (320, 7, 7),
    ]  # fmt: skip


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(20_000, 2, 3)
    out = drop_path(x, 0.3)
    kept = out[out != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.7))
    assert len(kept) < out.numel()
    assert torch.equal(out.amin((1, 2)), out.amax((1, 2)))
    assert out.mean().item() == pytest.approx(1, abs=0.02)
    assert drop_path(x, 0.0) is x


def test_drop_path_grows_with_depth_and_acts_in_training_only() -> None:
    net = build("efficientnet", drop_path=0.8)
    rates = [block.drop for block in net.blocks]  # type: ignore[union-attr]
    assert rates == [0.8 * i / len(rates) for i in range(len(rates))]
    x = batch("efficientnet", 8)
    assert torch.equal(net.eval()(x), net(x))
    torch.manual_seed(1)
    net.train()
    net.apply(lambda m: m.eval() if isinstance(m, nn.BatchNorm2d) else None)
    assert not torch.allclose(net(x), net(x))


def test_dropout_stands_before_the_last_layer() -> None:
    net = build("mobilenet", dropout=0.5)
    net.apply(lambda m: m.eval() if isinstance(m, nn.BatchNorm2d) else None)
    x = batch("mobilenet")
    assert not torch.allclose(net(x), net(x))
    assert [type(m).__name__ for m in net.head][-2:] == ["Dropout", "Linear"]  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [7, 8, 32, 71])
def test_xception_takes_images_from_7_on(size: int) -> None:
    with torch.device("meta"):
        net = Xception(classes=4).eval()
        assert net(torch.zeros(2, 3, size, size)).shape == (2, 4)


def test_xception_trains() -> None:
    net = Xception(classes=4, dropout=0.0)
    loss = nn.functional.cross_entropy(net(torch.randn(2, 3, 40, 33)), torch.tensor([0, 1]))
    loss.backward()
    assert not [k for k, w in net.named_parameters() if w.grad is None or not w.grad.any()]


@pytest.mark.parametrize("shape", [(16, 16), (13, 16), (1, 1), (9, 30), (5, 5, 5), (2, 8, 11)])
def test_a_unet_takes_any_size(shape: tuple[int, ...]) -> None:
    """Also what is cut and pooled at an odd end reaches the output, without skips to carry it."""
    net = UNet(len(shape), widths=(8, 16, 32), norm="group", skips=False).eval()
    x = torch.randn(1, 1, *shape)
    changed = x.clone()
    changed[(..., *[-1] * len(shape))] += 5
    before, after = net(x), net(changed)
    assert before.shape == (1, 2, *shape)
    assert ((after - before)[(..., *[-1] * len(shape))].abs() > 1e-4).all()


def test_skips_carry_what_coarse_levels_lose() -> None:
    """With one pixel of the coarsest level for all, only skips tell places apart."""
    torch.manual_seed(0)
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 5, 3] = 1
    for skips in (True, False):
        net = UNet(2, widths=(8, 8, 8), skips=skips, norm="group").eval()
        pools = net.down[1][0]
        pools.register_forward_hook(lambda *args: torch.zeros_like(args[2]))
        changed = (net(x) - net(torch.zeros_like(x))).abs().amax().item()
        assert (changed > 1e-4) is skips
    with torch.device("meta"):
        assert UNet(2, skips=False).parameter_count() < UNet(2).parameter_count()


def test_steps_do_not_look_ahead() -> None:
    net, x = build("steps").eval(), batch("steps")
    later = x.clone()
    later[..., 20:] += 1
    before, after = net(x), net(later)
    assert torch.equal(before[..., :20], after[..., :20])
    assert not torch.allclose(before[..., 20], after[..., 20])


def test_a_step_sees_its_receptive_field() -> None:
    net = build("steps", width=8, kernel_size=3).eval()
    x = torch.randn(1, 6, 48, requires_grad=True)
    net(x)[0, :, -1].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((0, 1)).nonzero().flatten()
    assert net.receptive_field == 1 + 2 * (1 + 2 * 3) == 48 - seen.min().item()


def test_a_short_event_shows_in_a_long_series() -> None:
    """The largest value over time does not fade with the length of the series."""
    net = build("series", norm="batch", dropout=0.0).eval()
    event = torch.zeros(1, 6, 2000)
    event[..., 1000:1003] = 5
    moved = (net(event) - net(torch.zeros_like(event))).abs().max().item()
    short = (net(event[..., 976:1024]) - net(torch.zeros(1, 6, 48))).abs().max().item()
    assert moved > 0.2 * short


def test_a_cube_may_have_fewer_bands_than_a_kernel() -> None:
    assert SpatialSpectralNet(3, 2).eval()(torch.zeros(1, 3, 4, 5)).shape == (1, 2, 4, 5)


def test_a_cube_is_labelled_pixel_by_pixel() -> None:
    """A pixel reaches three pixels far: three convolutions of 3 x 3."""
    net = build("spectral", norm="batch").eval()
    x = torch.zeros(1, 31, 15, 15)
    changed = x.clone()
    changed[..., 7, 7] = 1
    reach = (net(changed) - net(x)).abs().sum((0, 1)).nonzero()
    assert reach.amin(0).tolist() == [4, 4]
    assert reach.amax(0).tolist() == [10, 10]


# ---------------------------------------------------------------- one body for all


def test_padding_a_text_changes_nothing() -> None:
    net, inputs = multimodal().eval(), three()
    longer = torch.cat([inputs["text"], torch.zeros(2, 30, dtype=torch.long)], dim=1)
    torch.testing.assert_close(net(text=longer), net(text=inputs["text"]))
    with_image = {"image": inputs["image"], "text": longer}
    torch.testing.assert_close(net(**with_image), net(image=inputs["image"], text=inputs["text"]))
    nothing = torch.zeros(2, 9, dtype=torch.long)
    assert all(v.isfinite().all() for v in net(text=nothing).values())


def test_every_modality_matters() -> None:
    net, inputs = multimodal().eval(), three()
    whole = net(**inputs)["digits"]
    for name in inputs:
        rest = {k: v for k, v in inputs.items() if k != name}
        assert not torch.allclose(net(**rest)["digits"], whole, atol=1e-4)
        alone = net(**{name: inputs[name]})["digits"]
        assert alone.shape == (2, 10)


def test_an_image_and_a_sound_of_the_same_numbers_differ() -> None:
    net = multimodal(in_channels=1).eval()
    net.audio.load_state_dict(net.image.state_dict())
    x = torch.randn(2, 1, 32, 32)
    assert not torch.allclose(net(image=x)["mood"], net(audio=x)["mood"], atol=1e-5)


def test_the_multimodal_net_learns_all_tasks_with_one_body() -> None:
    net, inputs = multimodal(), three(4)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    want = {"digits": torch.tensor([1, 2, 3, 4]), "mood": torch.tensor([0, 1, 0, 1])}
    first = last = 0.0
    for _ in range(40):
        optimizer.zero_grad()
        digits = nn.functional.cross_entropy(net(image=inputs["image"])["digits"], want["digits"])
        mood = nn.functional.cross_entropy(net(text=inputs["text"])["mood"], want["mood"])
        (digits + mood).backward()
        optimizer.step()
        last = (digits + mood).item()
        first = first or last
    assert last < 0.3 * first


# ---------------------------------------------------------------- messages

BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: MobileNetV1(0), ArgumentError, "`width` must be > 0 and finite; got 0"),
    (lambda: MobileNetV1(float("nan")), ArgumentError, "`width` must be > 0 and finite; got nan"),
    (lambda: MobileNetV1("1"), ArgumentTypeError, "`width` must be a number; got '1'"),  # type: ignore[arg-type]
    (
        lambda: EfficientNet(1.2),  # type: ignore[arg-type]
        ArgumentTypeError, '`scaling` must be a name such as "b0" or a Scaling; got 1.2',
    ),
    (lambda: MobileNetV1(classes=0), ArgumentError, "`classes` must be >= 1; got 0"),
    (
        lambda: MobileNetV1(resolution=22.4),  # type: ignore[arg-type]
        ArgumentTypeError, "`resolution` must be a whole number; got 22.4",
    ),
    (lambda: MobileNetV1(dropout=1.0), ArgumentError, "`dropout` must be in [0, 1); got 1.0"),
    (lambda: EfficientNet(drop_path=-1), ArgumentError, "`drop_path` must be in [0, 1); got -1"),
    (
        lambda: EfficientNet("b8"), ArgumentError,
        "`scaling` must be one of b0, b1, b2, b3, b4, b5, b6, b7 or a Scaling; got 'b8'",
    ),
    (
        lambda: EfficientNet(Scaling(width=-1.0)), ArgumentError,
        "`scaling.width` must be > 0 and finite; got -1.0",
    ),
    (lambda: compound_scaling(math.inf), ArgumentError, "`phi` must be finite; got inf"),
    (lambda: UNet(1), ArgumentError, "`ndim` must be 2 or 3; got 1"),
    (lambda: UNet(3, widths=(3, 8)), ArgumentError, "`widths` of a 3-D U-Net must be even; got (3, 8)"),
    (lambda: UNet(widths=()), ArgumentError, "`widths` must have at least one level; got ()"),
    (lambda: UNet(widths=(8, 0)), ArgumentError, "`widths` must be >= 1; got 0"),
    (lambda: UNet(norm="none"), ArgumentError, '`norm` must be "batch" or "group"; got \'none\''),
    (lambda: SeriesClassifier(per="day"), ArgumentError, '`per` must be "series" or "step"; got \'day\''),
    (lambda: SeriesClassifier(True), ArgumentTypeError, "`in_channels` must be a whole number; got True"),
    (lambda: MultiModalNet({}), ArgumentError, "`tasks` must name at least one task and its classes; got {}"),
    (lambda: MultiModalNet({"a": 0}), ArgumentError, "`tasks['a']` must be >= 1; got 0"),
    (
        lambda: MobileNetV1(0.25)(torch.zeros(1, 1, 32, 32)), ArgumentError,
        "`MobileNetV1` expects images (N, 3, Y, X); got shape (1, 1, 32, 32). "
        "Build it with `in_channels=1`, or put the channels first",
    ),
    (
        lambda: MobileNetV1(0.25)(torch.zeros(3, 32, 32)), ArgumentError,
        "`MobileNetV1` expects images (N, 3, Y, X); got shape (3, 32, 32)",
    ),
    (
        lambda: MobileNetV1(0.25)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)), ArgumentTypeError,
        "`MobileNetV1` expects floating point images; got torch.uint8. "
        "Scale them first: `x.float() / 255`",
    ),
    (
        lambda: UNet(3, widths=(4, 8))(torch.zeros(1, 1, 8, 8)), ArgumentError,
        "`UNet` expects volumes (N, 1, Z, Y, X); got shape (1, 1, 8, 8)",
    ),
    (
        lambda: SeriesClassifier(4)(torch.zeros(1, 48, 4)), ArgumentError,
        "`SeriesClassifier` expects series (N, 4, T); got shape (1, 48, 4). "
        "Build it with `in_channels=48`, or put the channels first",
    ),
    (
        lambda: SpatialSpectralNet(31)(torch.zeros(1, 30, 4, 4)), ArgumentError,
        "`SpatialSpectralNet` expects cubes (N, 31, Y, X); got shape (1, 30, 4, 4). "
        "Build it with `bands=30`, or put the channels first",
    ),
    (lambda: multimodal()(), ArgumentError, "`MultiModalNet` expects an image, audio or text; got none"),
    (
        lambda: multimodal()(audio=torch.zeros(1, 64, 100)), ArgumentError,
        "`audio` must be spectrograms (N, 1, frequency, t); got shape (1, 64, 100)",
    ),
    (
        lambda: multimodal()(text=torch.zeros(1, 9)), ArgumentTypeError,
        "`text` must be tokens (N, t) of whole numbers; got torch.float32 of shape (1, 9)",
    ),
    (
        lambda: multimodal()(text=torch.zeros(9, dtype=torch.long)), ArgumentError,
        "`text` must be tokens (N, t) of whole numbers; got torch.int64 of shape (9,)",
    ),
    (
        lambda: multimodal()(**{**three(2), "text": three(3)["text"]}), ArgumentError,
        "all inputs must be as many samples; got {'image': 2, 'audio': 2, 'text': 3}",
    ),
    (
        lambda: models.create("mobilnet-v1"), ArgumentError,
        "no network `mobilnet-v1`. Did you mean `mobilenet_v1`?",
    ),
    (
        lambda: models.create("zzz"), ArgumentError,
        "no network `zzz`: there are " + ", ".join(models.names()),
    ),
    (
        lambda: models.create("unet", depths=3), ArgumentTypeError,
        "`unet` has no option `depths`. Did you mean `widths`?",
    ),
    (
        lambda: models.sample_shape(nn.Linear(2, 3)), ArgumentError,
        "`Linear` does not say what its input is: give the shape yourself, for instance (3, 224, 224)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=[b[2][:40] for b in BAD])
def test_messages(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_too_small_an_image_for_xception() -> None:
    with torch.device("meta"):
        net = Xception()
        with pytest.raises(ArgumentError, match="images of at least 7 along each axis; got shape"):
            net(torch.zeros(1, 3, 6, 32))


# ---------------------------------------------------------------- names


# Deep ones are like their shallow relatives, and `make test-docs` counts their multiplications.
DEEP = ("efficientnet_b[3-7]", "resnet(101|152)", "convnext_(base|large)")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] if re.fullmatch("|".join(DEEP), name) else [])
        for name in models.names()
    ],
)
def test_every_name_builds_a_network_and_its_twin(name: str) -> None:
    net = models.create(name, device="meta", dense=False).eval()
    twin = models.create(name, device="meta", dense=True)
    assert isinstance(net, Network)
    assert models.sample_shape(net) == net.sample_shape
    assert type(net.twin()) is type(net)
    assert twin.parameter_count() > net.parameter_count()
    out = net(*net.example())
    for logits in out.values() if isinstance(out, dict) else [out]:
        assert logits.shape[0] == 1


def test_names_forgive_case_and_hyphens() -> None:
    net = models.create("EfficientNet-B1", device="meta")
    assert net.options["scaling"] == "b1"


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """A module with the three functions of timm that are used; it notes what is asked of it."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def create_model(model_name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        asked.append((model_name, {"pretrained": pretrained, **options}))
        net = nn.Conv2d(3, 8, 3)
        net.pretrained_cfg = {"input_size": (3, 160, 160)}  # type: ignore[assignment]
        return net

    stub = types.ModuleType("timm")
    stub.create_model = create_model  # type: ignore[attr-defined]
    stub.is_model = lambda name: name.split(".")[0] in stub.list_models()  # type: ignore[attr-defined]
    stub.list_models = lambda: ["resnet18", "efficientnet_lite0"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", stub)
    return asked


def test_networks_of_timm(timm: list[tuple[str, dict[str, Any]]]) -> None:
    net = models.create("timm:resnet18.a1_in1k", pretrained=True, num_classes=5, device="meta")
    assert timm == [("resnet18.a1_in1k", {"pretrained": True, "num_classes": 5})]
    assert models.sample_shape(net) == (3, 160, 160)
    assert net.weight.is_meta  # type: ignore[union-attr]
    models.create("timm:hf-hub:someone/something")
    assert timm[-1][0] == "hf-hub:someone/something"
    a, b = (models.create("timm:resnet18", seed=3) for _ in range(2))
    assert torch.equal(a.weight, b.weight)  # type: ignore[arg-type]


def test_an_unknown_network_of_timm(timm: list[tuple[str, dict[str, Any]]]) -> None:
    with pytest.raises(ArgumentError) as caught:
        models.create("timm:resnet1")
    assert str(caught.value) == "timm has no network `resnet1`. Did you mean `resnet18`?"


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ArgumentError, match="needs timm, which cannot be imported") as caught:
        models.create("timm:resnet18")
    assert str(caught.value).endswith("Install it: pip install timm")


# ---------------------------------------------------------------- summaries


def test_summaries(request: pytest.FixtureRequest) -> None:
    """`print(network)` shows the cost of each part, and the parts add up to the total."""
    texts = []
    for name in ("mobilenet_v1", "xception", "efficientnet_b0", "unet_3d", *models.names()[-3:]):
        net = models.create(name, device="meta")
        texts.append(repr(net))
        parts = [x for x in repr(net).splitlines() if x.startswith("  ") and x[2] != " "]
        numbers = [part.split()[-1].replace(",", "") for part in parts]
        assert sum(int(n) for n in numbers if n.isdigit()) == net.parameter_count()
    text = "\n\n".join(texts) + "\n"
    kept = SNAPSHOTS / "networks.txt"
    if request.config.getoption("--rewrite-snapshots"):
        kept.write_text(text, encoding="utf-8")
    assert text == kept.read_text(encoding="utf-8")
