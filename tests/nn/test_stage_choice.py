"""Dense or separable stage by stage, and residual networks against PyTorch's own layers."""

from __future__ import annotations

import pytest
import torch

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn import ledger, models

STAGES = {
    "mobilenet_v1": 5, "mobilenet_v2": 7, "mobilenet_v3_small": 5, "efficientnet_b0": 7,
    "resnet18": 4, "convnext_tiny": 4,
}  # fmt: skip
# Parameters that torchvision 0.28 gives in the metadata of its weights.
TORCHVISION = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032,
    "resnet101": 44_549_160, "resnet152": 60_192_808, "mobilenet_v2": 3_504_872,
    "mobilenet_v3_large": 5_483_032, "mobilenet_v3_small": 2_542_856,
    "convnext_tiny": 28_589_128, "convnext_small": 50_223_688, "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
}  # fmt: skip


def macs(net: torch.nn.Module) -> int:
    return int(ledger(net, (1, 3, 64, 64), backward=False).total.macs)


@pytest.mark.parametrize("name", TORCHVISION)
def test_parameters_are_those_of_torchvision(name: str) -> None:
    net = models.create(name, device="meta")
    assert sum(p.numel() for p in net.parameters()) == TORCHVISION[name]


@pytest.mark.apart
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.long] if name in ("efficientnet_b0", "mobilenet_v2") else []
        )
        for name in STAGES
    ],
)
def test_stages_add_up(name: str) -> None:
    """Each stage alone saves a part of what all of them save."""
    count = STAGES[name]
    dense = models.create(name, device="meta", dense=True).eval()
    separable = models.create(name, device="meta", dense=False).eval()
    saved, all_macs = [], macs(dense)
    for at in range(count):
        chosen = tuple(k != at for k in range(count))
        net = models.create(name, device="meta", dense=chosen).eval()
        saved.append(all_macs - macs(net))
        assert net.dense is False
    assert min(saved) >= 0
    assert sum(s > 0 for s in saved) >= count - 1  # the stem alone has the finest stage of V3 small
    assert sum(saved) == all_macs - macs(separable)


def test_the_twin_of_a_choice_is_its_reverse() -> None:
    early = models.create("resnet18", device="meta", dense=(True, True, False, False))
    late = early.twin()
    assert late.options["dense"] == (False, False, True, True)
    assert late.twin().options["dense"] == early.options["dense"]


@pytest.mark.parametrize(
    ("dense", "error", "message"),
    [
        ((True, False), ArgumentError, "one value for each of 4 stages; got 2"),
        ("yes", ArgumentTypeError, "True, False or one of them per stage; got 'yes'"),
        ((1, 0, 0, 0), ArgumentTypeError, "True, False or one of them per stage"),
    ],
)
def test_wrong_choices(dense: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        models.create("resnet18", device="meta", dense=dense)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.ResNet(19), "`depth` must be one of 18, 34, 50, 101, 152; got 19"),
        (lambda: models.MobileNetV3("tiny"), '`variant` must be "large" or "small"'),
        (lambda: models.ConvNeXt("huge"), "`variant` must be one of tiny, small, base, large"),
        (lambda: models.MobileNetV2(0), "`width` must be > 0"),
    ],
)
def test_wrong_arguments(call: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_they_train(name: str) -> None:
    """One step of gradient descent on two images lowers the loss."""
    net = models.create(name, seed=0, classes=3).train()
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    images, labels = (
        torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 2, 0]),
    )
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in net.parameters())
