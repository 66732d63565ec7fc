"""Dense layers whose weights are zero between blocks of channels become layers with groups."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from separable.nn import FactoredConv, audit, blueprint, convert, merge, rebuild
from separable.nn.convert.channel_blocks import blocks_of
from separable.nn.formats import open_network
from separable.nn.ledger import ledger
from separable.nn.torch_convs import spec_of


def block_diagonal(conv: Any, blocks: int) -> Any:
    """Set the weights between blocks of channels to zero, the first two axes being channels."""
    rows, columns = conv.weight.shape[0] // blocks, conv.weight.shape[1] // blocks
    mask = torch.kron(torch.eye(blocks), torch.ones(rows, columns))
    conv.weight.data *= mask.reshape(*mask.shape, *(1,) * (conv.weight.dim() - 2))
    return conv


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        block_diagonal(nn.Conv2d(8, 16, 3, padding=1), 4), nn.ReLU(), nn.Conv2d(16, 8, 3)
    ).eval()


SHAPE = (1, 8, 12, 12)
HOW: dict[str, Any] = {"input_shape": SHAPE, "repeats": 0}


def test_the_layer_becomes_groups_without_any_error() -> None:
    net, image = network(), torch.randn(2, *SHAPE[1:])
    small, report = convert(net, "auto", tol=1e-5, **HOW)
    layer = small[0]
    assert isinstance(layer, FactoredConv)
    assert layer.groups == 4
    torch.testing.assert_close(small(image), net(image), rtol=1e-4, atol=1e-5)
    assert report["0"].multiplications_before == 4 * report["0"].multiplications
    assert report["0"].weight_shape == (16, 8, 3, 3)
    assert report["0"].weight_error == 0
    assert "4 groups" in str(report)
    assert report.multiplications_before == ledger(net, SHAPE).total.multiplications
    assert report.multiplications == ledger(small, SHAPE).total.multiplications


@pytest.mark.parametrize("has_data", [False, True])
@pytest.mark.parametrize("budget", [0.6, 0.2])
def test_a_budget_counts_from_the_dense_layer(budget: float, has_data: bool) -> None:
    net, images = network(), torch.randn(8, *SHAPE[1:])
    how = {"data": images.split(4), "repeats": 0} if has_data else HOW
    small, _ = convert(net, "auto", budget=budget, **how)
    counts = [ledger(m, SHAPE, backward=False).total.multiplications for m in (small, net)]
    assert counts[0] <= budget * counts[1]
    assert small[0].spec.groups in (4, 8)
    if budget == 0.6:  # the groups alone save more than half of this budget's saving
        error = (small(images) - net(images)).norm() / net(images).norm()
        assert error < 0.5


def test_patterns_are_tried_on_the_blocks() -> None:
    net = nn.Sequential(block_diagonal(nn.Conv2d(6, 6, 15, padding=7), 6)).eval()
    line = torch.hann_window(15, periodic=False)
    net[0].weight.data[:] = torch.eye(6)[:, :, None, None] * line[:, None] * line
    small, report = convert(net, "auto", tol=1e-5, input_shape=(1, 6, 20, 20), repeats=0)
    assert report["0"].pattern == "cyx -> cy,cx"
    image = torch.randn(1, 6, 20, 20)
    torch.testing.assert_close(small(image), net(image), rtol=1e-4, atol=1e-4)
    assert report["0"].multiplications_before == 45 * report["0"].multiplications


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: block_diagonal(nn.Conv1d(6, 12, 3, bias=False), 3), (1, 6, 9)),
        (lambda: block_diagonal(nn.Conv3d(4, 4, 3, stride=2), 2), (1, 4, 7, 7, 7)),
        (lambda: block_diagonal(nn.Conv2d(6, 6, 1), 6), (1, 6, 4, 4)),
        (lambda: block_diagonal(nn.ConvTranspose2d(4, 8, 4, stride=2, padding=1), 2), (1, 4, 5, 5)),
        (lambda: block_diagonal(nn.Conv2d(4, 8, 3, padding="same", dilation=2), 4), (1, 4, 9, 9)),
    ],
)
def test_every_kind_of_layer(make: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    conv = make()
    small, report = convert(conv, "auto", tol=1e-5, input_shape=shape, repeats=0)
    assert small.groups == report[""].groups > 1
    image = torch.randn(shape)
    torch.testing.assert_close(small(image), conv(image), rtol=1e-4, atol=1e-5)


def test_layers_that_are_not_asked_for_stay() -> None:
    for how in ({"exclude": ["0"]}, {"include": ["2"]}, {"pattern": {"2": "auto", "0": None}}):
        options: dict[str, Any] = {"pattern": "auto", "tol": 0.01, **HOW, **how}
        small, report = convert(network(), **options)
        assert type(small[0]) is nn.Conv2d
        assert small[0].groups == 1
        assert not report["0"].converted


def test_shared_weights_stay_shared() -> None:
    first, second = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, stride=2)
    second.weight = block_diagonal(first, 4).weight
    small, report = convert(
        nn.Sequential(first, second), "auto", tol=1e-5, input_shape=(1, 8, 12, 12)
    )
    assert small[0].groups == small[1].groups == 4
    weights = [next(iter(layer.parameters())) for layer in small]
    assert weights[0] is weights[1]
    assert not report.untied


def test_blueprints_and_merged_networks() -> None:
    net, image = network(), torch.randn(1, *SHAPE[1:])
    small, _ = convert(net, "auto", tol=1e-5, **HOW)
    again = rebuild(network(), blueprint(small))
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(again(image), small(image))
    torch.testing.assert_close(merge(small)(image), net(image), rtol=1e-4, atol=1e-5)


def test_the_audit_names_a_conversion_that_does_it() -> None:
    net = network()
    found = audit(net, SHAPE, repeats=0)
    assert found["0"].is_convertible
    assert "`nn.convert(model, \"auto\", tol=1e-5, include=['0'])`" in " ".join(str(found).split())


def test_onnx_files_get_groups(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    import onnxruntime

    net, path = network(), tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        torch.onnx.export(net, (torch.randn(SHAPE),), str(path), dynamo=False)
    source = open_network(str(path))
    small, _ = convert(source.module, "auto", tol=1e-5, input_shape=[SHAPE], repeats=0)
    content = source.serialised(small)
    nodes = onnx.load_from_string(content).graph.node
    groups = [a.i for n in nodes if n.op_type == "Conv" for a in n.attribute if a.name == "group"]
    assert groups[0] == 4
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: image})
    wanted = net(torch.from_numpy(image)).detach().numpy()
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-5)


@given(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(0, 9)
)
def test_blocks_are_found_by_brute_force(
    blocks: int, rows: int, columns: int, groups: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    conv = nn.Conv2d(groups * blocks * columns, groups * blocks * rows, 1, groups=groups)
    weight = np.zeros((groups, blocks * rows, blocks * columns))
    for g in range(groups):
        for k in range(blocks):
            inside = slice(k * rows, (k + 1) * rows), slice(k * columns, (k + 1) * columns)
            weight[(g, *inside)] = rng.random((rows, columns)) + 0.1
    found = blocks_of(weight.reshape(conv.weight.shape), spec_of(conv))
    assert found == blocks  # blocks that are full cannot be smaller
