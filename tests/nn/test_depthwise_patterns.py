"""Conversion of depthwise layers along their spatial axes, with a rank for each filter."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from torch import nn

from separable import nn as snn
from separable.nn.convert import blueprint, convert, merge, rebuild


def ranked(ranks: tuple[int, ...], size: int = 7, multiplier: int = 1) -> nn.Conv2d:
    """Return a depthwise layer whose filters have these ranks."""
    torch.manual_seed(0)
    channels = len(ranks) // multiplier
    conv = nn.Conv2d(channels, len(ranks), size, padding=size // 2, groups=channels)
    for at, rank in enumerate(ranks):
        conv.weight.data[at, 0] = torch.randn(size, rank) @ torch.randn(rank, size)
    return conv


def smooth(count: int, channels: int, size: int = 20) -> torch.Tensor:
    torch.manual_seed(1)
    return nn.functional.avg_pool2d(torch.randn(count, channels, size + 4, size + 4), 5, 1)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("pattern", ["cyx -> cy,cx", "yx -> y,x", "auto"])
def test_each_filter_gets_its_own_rank(pattern: str, multiplier: int) -> None:
    conv = ranked((1, 2, 1, 3), multiplier=multiplier)
    small, report = convert(nn.Sequential(conv), pattern, tol=1e-5, repeats=0)
    x = torch.randn(2, conv.in_channels, 12, 14)
    assert torch.allclose(small(x), conv(x), atol=1e-4)
    ranks = report.layers[0].ranks["R"]
    if pattern != "yx -> y,x" or multiplier == 2:  # one rank per filter
        assert ranks == [1, 2, 1, 3]
        assert report.layers[0].multiplications == 7 * 14


def test_a_gaussian_takes_sixteen_times_fewer_multiplications() -> None:
    line = torch.exp(-((torch.arange(33) - 16.0) ** 2) / 50)
    conv = nn.Conv2d(3, 3, 33, padding=16, groups=3)
    conv.weight.data[:] = line[:, None] * line
    small, report = convert(conv, "auto", tol=1e-5, repeats=0)
    assert [(m.kernel_size, m.groups) for m in small._convolutions()] == [
        ((33, 1), 3), ((1, 33), 3)
    ]  # fmt: skip
    assert report.layers[0].multiplications_before / report.layers[0].multiplications == 16.5


def test_channel_patterns_leave_depthwise_layers_alone() -> None:
    for pattern in ("ocyx -> oc,cyx", "ocyx -> oR,RyxS,Sc"):
        _, report = convert(nn.Sequential(ranked((1, 1))), pattern, rank=1, repeats=0)
        assert report.layers[0].reason == "depthwise already"
    _, report = convert(nn.Sequential(nn.Conv2d(4, 4, 3)), "cyx -> cy,cx", rank=1, repeats=0)
    assert "describes one filter for each group of channels" in report.layers[0].reason


@pytest.mark.parametrize("size", [3, 5])
def test_a_budget_is_shared_among_dense_and_depthwise_layers(size: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), ranked((3,) * 8, size), nn.Conv2d(8, 16, 1))
    _, report = convert(net, "auto", budget=0.6, input_shape=(1, 3, 24, 24), repeats=0)
    assert report.multiplications is not None
    assert report.multiplications_before is not None
    assert report.multiplications <= 0.6 * report.multiplications_before


def test_filters_are_fitted_to_data_as_well_as_a_general_optimiser_can() -> None:
    """Rank 1, one channel: the fit reaches the smallest error that an optimiser finds."""
    conv = ranked((5,), 5)
    data = smooth(8, 1)
    small, report = convert(
        nn.Sequential(conv), "yx -> y,x", rank=1, data=[data], ridge=0, sweeps=20, repeats=0
    )
    patches = nn.functional.unfold(data.double(), 5).transpose(1, 2).reshape(-1, 25).numpy()
    patches = patches - patches.mean(axis=0)
    wanted = patches @ conv.weight.detach().double().numpy().ravel()

    def wrong(values: Any) -> Any:
        return wanted - patches @ np.outer(values[:5], values[5:]).ravel()

    # The layer pads; the comparison is of the inner positions, which are most of them.
    starts = np.random.default_rng(0).standard_normal((6, 10))
    best = min(scipy.optimize.least_squares(wrong, s).cost for s in starts)
    factors = small[0].factors().dense()
    ours = 0.5 * float(np.sum((wanted - patches @ np.asarray(factors).ravel()) ** 2))
    assert ours <= 1.15 * best
    assert report.output_error < report.plain_output_error


@pytest.mark.parametrize("multiplier", [1, 2])
def test_data_lowers_the_error(multiplier: int) -> None:
    conv = ranked((7,) * 4, multiplier=multiplier)
    data = smooth(8, conv.in_channels)
    _, report = convert(nn.Sequential(conv), "cyx -> cy,cx", rank=2, data=[data], repeats=0)
    assert report.output_error < 0.7 * report.plain_output_error
    net = nn.Sequential(nn.Conv3d(4, 4, 5, groups=4))
    _, report = convert(
        net, "czyx -> cz,cy,cx", rank=2, repeats=0,
        data=[nn.functional.avg_pool3d(torch.randn(2, 4, 14, 14, 14), 3, 1)],
    )  # fmt: skip
    assert report.output_error < report.plain_output_error


def test_filters_of_one_input_channel_are_separated_too() -> None:
    conv = nn.Conv2d(1, 6, 9)
    for at in range(6):
        conv.weight.data[at, 0] = torch.outer(torch.randn(9), torch.randn(9))
    small, report = convert(nn.Sequential(conv), "auto", tol=1e-5, repeats=0)
    assert report.layers[0].pattern == "oyx -> oy,ox"
    assert report.layers[0].multiplications == 6 * 18
    x = torch.randn(1, 1, 20, 20)
    assert torch.allclose(small(x), conv(x), atol=1e-4)


def test_saved_merged_and_counted() -> None:
    net = nn.Sequential(ranked((1, 2, 1, 3)), nn.ReLU(), nn.Conv2d(4, 4, 1))
    small, report = convert(net, "auto", tol=1e-5, input_shape=(1, 4, 16, 16), repeats=0)
    again = rebuild(net, blueprint(small))
    again.load_state_dict(small.state_dict())
    x = torch.randn(1, 4, 16, 16)
    assert torch.equal(again(x), small(x))
    assert json.loads(blueprint(small))["layers"]["0"]["pattern"] == "cyx -> cy,cx"
    assert torch.allclose(merge(small)(x), net(x), atol=1e-5)
    assert snn.ledger(small, (1, 4, 16, 16)).total.multiplications == report.multiplications
    assert "cy,cx" in report.table()


@pytest.mark.parametrize("ranks", [(1, 1, 1, 1), (1, 2, 1, 3)])
def test_written_to_onnx(tmp_path: Path, ranks: tuple[int, ...]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from separable.nn.formats import open_network

    net = nn.Sequential(ranked(ranks), nn.ReLU()).eval()
    x = torch.randn(1, 4, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=False, input_names=["x"])
    source = open_network(str(tmp_path / "net.onnx"))
    small, report = convert(source.module, "auto", tol=1e-5, repeats=0)
    assert report.layers[0].converted
    session = onnxruntime.InferenceSession(source.serialised(small))
    assert np.allclose(session.run(None, {"x": x.numpy()})[0], net(x).detach().numpy(), atol=1e-4)
