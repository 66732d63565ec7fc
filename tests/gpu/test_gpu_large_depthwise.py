"""Large depthwise kernels and sums of separable terms as products of matrices, in Triton's interpreter."""

from __future__ import annotations

import random

import pytest
import torch
from tests.gpu.gpu_cases import DTYPES, ERRORS, error_of
from torch import Tensor
from torch.nn import functional

from separable.gpu import large_depthwise
from separable.gpu.kernel_launch import recorded
from separable.gpu.rank_terms import RankTerms, run_rank_passes
from separable.nn.fused import autograd as _autograd  # noqa: F401

pytestmark = pytest.mark.usefixtures("interpreted")


def check(seed: int, sides: tuple[int, ...] = (7, 9, 15, 31), most: int = 40) -> None:
    """Compare the result and all gradients of one layer with float64."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    dtype, side = draw.choice(DTYPES), draw.choice(sides)
    channels, images = draw.choice((1, 2)), draw.choice((1, 2))
    dilation = 2 if side == 7 and draw.random() < 0.5 else 1
    stride, multiplier = draw.choice((1, 1, 1, 2)), draw.choice((1, 1, 2))
    pad = dilation * (side - 1) // 2 - draw.choice((0, 0, 1))
    size = [draw.randint(13, most) for _ in range(2)]
    x = torch.randn(images, channels, *size, generator=generator).to(dtype)
    if draw.random() < 0.3:
        x = x.contiguous(memory_format=torch.channels_last)
    weight = (torch.randn(channels * multiplier, 1, side, side, generator=generator) / side).to(
        dtype
    )
    bias = torch.randn(channels * multiplier, generator=generator).to(dtype)
    window = (stride, stride), (pad,) * 4, (dilation, dilation)

    def ours(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return torch.ops.separable.depthwise(x, w, b, *window, "silu")

    def oracle(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return functional.silu(functional.conv2d(x, w, b, stride, pad, dilation, channels))

    def run(function: object, tensors: list[Tensor]) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in tensors]
        out = function(*leaves)  # type: ignore[operator]
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(
            out.dtype
        )
        return [out.detach(), *torch.autograd.grad(out, leaves, upstream)]

    with recorded() as launches:
        found = run(ours, [x, weight, bias])
    names = [made.name for made in launches]
    assert names[:2] == [
        "toeplitz_layer",
        "toeplitz_layer",
    ]  # forward, and again before the activation
    assert names[2] == "toeplitz_weight_sums"
    plain = stride == 1 and multiplier == 1
    assert names[3:] == ["toeplitz_layer" if plain else "depthwise_to_input"]
    for mine, theirs in zip(
        found, run(oracle, [t.double() for t in (x, weight, bias)]), strict=True
    ):
        assert error_of(mine, theirs) <= 4 * ERRORS[dtype]


@pytest.fixture(autouse=True)
def always_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose products of rows also for tiny inputs, for which one tap after the other is predicted to be faster."""
    monkeypatch.setattr(large_depthwise, "takes_rows", lambda sizes, x: sizes.taps > 9)
    from separable.gpu import depthwise_layers

    monkeypatch.setattr(depthwise_layers, "takes_rows", lambda sizes, x: sizes.taps > 9)


@pytest.mark.parametrize("seed", range(2))
def test_large_kernels_agree_with_float64(seed: int) -> None:
    check(seed, (7,), 14)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 60))
def test_many_large_kernels_agree_with_float64(seed: int) -> None:
    check(seed)


def check_ranks(seed: int, sides: tuple[int, ...] = (1, 7, 31)) -> None:
    """Compare channels of different ranks with the dense convolution that they multiply out to."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    dtype, ky, kx = draw.choice(DTYPES), draw.choice(sides), draw.choice(sides)
    ranks = [draw.choice((0, 1, 2, 3)) for _ in range(3)]
    starts = torch.tensor([0, *torch.tensor(ranks).cumsum(0).tolist()], dtype=torch.int32)
    columns = (torch.randn(sum(ranks), ky, generator=generator) / ky**0.5).to(dtype)
    lines = (torch.randn(sum(ranks), kx, generator=generator) / kx**0.5).to(dtype)
    bias, x = (
        torch.randn(3, generator=generator).to(dtype),
        torch.randn(2, 3, 20, 37, generator=generator).to(dtype),
    )
    stride, pads = draw.choice((1, 2)), (ky // 2, ky // 2, kx // 2, kx // 2)
    with recorded() as launches:
        found = run_rank_passes(
            x, RankTerms(columns, lines, starts, bias), ((stride, 1), pads, (1, 1)), 1
        )
    assert [made.name for made in launches] == ["rank_passes"]
    products = columns.double()[:, :, None] * lines.double()[:, None]
    dense = torch.stack([products[starts[c] : starts[c + 1]].sum(0) for c in range(3)])[:, None]
    wanted = functional.relu(
        functional.conv2d(
            x.double(), dense, bias.double(), (stride, 1), (ky // 2, kx // 2), groups=3
        )
    )
    assert error_of(found, wanted) <= 2 * ERRORS[dtype]


@pytest.mark.parametrize("seed", range(2))
def test_sums_of_separable_terms_agree_with_float64(seed: int) -> None:
    check_ranks(seed, (1, 7))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 60))
def test_many_sums_of_separable_terms_agree_with_float64(seed: int) -> None:
    check_ranks(seed)
