"""PyTorch as the oracle: filters, and layers written as factors."""

from __future__ import annotations

import numpy as np
import pytest

import separable as sep

torch = pytest.importorskip("torch")
functional = torch.nn.functional
RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("mode", "theirs"), [("mirror", "reflect"), ("nearest", "replicate"), ("wrap", "circular")]
)
def test_correlate_is_a_padded_conv2d(mode: str, theirs: str) -> None:
    image, kernel = RNG.random((20, 22)), RNG.random((5, 3)) - 0.3
    padded = functional.pad(torch.tensor(image)[None, None], (1, 1, 2, 2), mode=theirs)
    expected = functional.conv2d(padded, torch.tensor(kernel)[None, None])[0, 0].numpy()
    assert np.allclose(sep.correlate(image, kernel, mode=mode), expected, atol=1e-13)


def test_correlate_is_a_zero_padded_conv3d() -> None:
    volume, kernel = RNG.random((9, 10, 11)), RNG.random((3, 5, 3))
    expected = functional.conv3d(
        torch.tensor(volume)[None, None], torch.tensor(kernel)[None, None], padding=(1, 2, 1)
    )[0, 0].numpy()
    assert np.allclose(sep.correlate(volume, kernel, mode="constant"), expected, atol=1e-12)


@pytest.mark.parametrize("order", ["depthwise first", "pointwise first"])
def test_a_layer_of_full_multiplier_is_the_dense_layer(order: str) -> None:
    """The factors of a convolution's weights, run as PyTorch layers, are that convolution."""
    weights = RNG.normal(size=(6, 4, 3, 3))
    image = torch.tensor(RNG.normal(size=(2, 4, 8, 8)))
    expected = functional.conv2d(image, torch.tensor(weights))
    if order == "depthwise first":
        pointwise, depthwise = sep.factorize(weights, "ocyx -> oc,cyx").arrays  # Roc, Rcyx
        rank = depthwise.shape[0]
        stacked = torch.tensor(depthwise.transpose(1, 0, 2, 3).reshape(4 * rank, 1, 3, 3))
        mixed = torch.tensor(pointwise.transpose(1, 2, 0).reshape(6, 4 * rank, 1, 1))
        got = functional.conv2d(functional.conv2d(image, stacked, groups=4), mixed)
    else:
        pointwise, depthwise = sep.factorize(weights, "ocyx -> oc,oyx").arrays  # Roc, Royx
        rank = depthwise.shape[0]
        mixed = torch.tensor(pointwise.transpose(1, 0, 2).reshape(6 * rank, 4, 1, 1))
        stacked = torch.tensor(depthwise.transpose(1, 0, 2, 3))  # (o, R, y, x)
        got = functional.conv2d(functional.conv2d(image, mixed), stacked, groups=6)
    assert torch.allclose(got, expected, atol=1e-12)


def test_tucker_2_and_jaderberg_as_layers() -> None:
    weights = RNG.normal(size=(6, 5, 3, 4))
    image = torch.tensor(RNG.normal(size=(2, 5, 9, 9)))
    expected = functional.conv2d(image, torch.tensor(weights))
    out, core, into = map(torch.tensor, sep.factorize(weights, "ocyx -> oR,RyxS,Sc").arrays)
    inner = functional.conv2d(image, into[:, :, None, None])
    middle = functional.conv2d(inner, core.permute(0, 3, 1, 2))
    got = functional.conv2d(middle, out[:, :, None, None])
    assert torch.allclose(got, expected, atol=1e-12)
    across, down = map(torch.tensor, sep.factorize(weights, "ocyx -> ox,cy").arrays)  # Rox, Rcy
    columns = functional.conv2d(image, down[:, :, :, None])
    got = functional.conv2d(columns, across.permute(1, 0, 2)[:, :, None, :])
    assert torch.allclose(got, expected, atol=1e-12)
