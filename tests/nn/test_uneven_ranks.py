"""Layers whose channels have different ranks: fused without gathering channels."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn as tnn

from separable import nn
from separable.nn.fused.fuse import fuse_without_choice
from separable.nn.fused.fused_modules import FusedSeparable
from separable.nn.fused.program.convolution_operations import Dense, Pointwise
from separable.nn.fused.program.executor import Executor, RunSegment

UNEVEN = [2, 3, 1, 3, 2, 3, 3, 2]


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("act", [None, tnn.ReLU(), tnn.Hardswish()])
def test_values(ndim, act):
    letters = "zyx"[-ndim:]
    layer = nn.FactoredConv(
        f"oc{letters} -> oc,c{letters}", 8, 12, 3, stride=2, rank=UNEVEN, intermediate=act
    )
    norm = (tnn.BatchNorm1d, tnn.BatchNorm2d, tnn.BatchNorm3d)[ndim - 1](12)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    net = tnn.Sequential(layer, norm, tnn.ReLU6()).eval()
    x = torch.randn(2, 8, *(11, 10, 9)[:ndim])
    fused, report = nn.fuse(net, x)
    assert len(report.fused) == 1
    assert not report.left
    (module,) = (m for m in fused.modules() if isinstance(m, FusedSeparable))
    assert module.depthwise.shape[0] == 8 * 3
    exact = net.double()(x.double())
    assert (fused(x) - exact).abs().max() <= 1e-5 * exact.abs().max()


def programs(fused):
    """Return a function that returns the programs of a network, and the operators that PyTorch runs between them."""
    executor = fused.__dict__["forward"]
    assert isinstance(executor, Executor)
    return executor.execution


FEW_OF_ONE, MANY = [1, 1, 1, 1, 1, 1, 1, 8], [1, 2, 1, 1, 3, 1, 1, 1, 1, 2, 1, 1]


@pytest.mark.parametrize(
    ("pattern", "rank"),
    [
        ("ocyx -> oc,cyx", UNEVEN),
        ("ocyx -> oc,cyx", FEW_OF_ONE),
        ("ocyx -> oc,oyx", MANY),
        ("ocyx -> oc,oyx", 2),
        ("ocyx -> oc,oyx", [1] * 11 + [6]),
    ],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_no_channels_are_copied(pattern, rank, stride):
    """One program runs the layer and its neighbours, without operators of PyTorch between its steps."""
    net = tnn.Sequential(
        tnn.Conv2d(3, 8, 3), tnn.ReLU(),
        nn.FactoredConv(pattern, 8, 12, 3, rank=rank, stride=stride), tnn.BatchNorm2d(12), tnn.ReLU(),
        tnn.Conv2d(12, 4, 1),
    )  # fmt: skip
    net[3].running_mean.normal_()
    net[3].running_var.uniform_(0.5, 2)
    net, x = net.eval(), torch.randn(2, 3, 13, 12)
    fused, report = fuse_without_choice(net, x)
    assert not report.left
    execution = programs(fused)(x.contiguous(memory_format=torch.channels_last))
    assert [type(part) for part in execution.parts] == [RunSegment]
    exact = net.double()(x.double())
    assert (fused(x) - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_a_bias_between_the_steps_stays():
    """Only a linear layer without a bias between its steps can be multiplied out."""
    layer = nn.FactoredConv(
        "ocyx -> oc,oyx", 8, 12, 3, rank=MANY, intermediate=tnn.BatchNorm2d(sum(MANY))
    )
    layer.intermediate.running_mean.normal_()
    net, x = tnn.Sequential(layer).eval(), torch.randn(2, 8, 9, 9)
    sum_of_terms, _ = fuse_without_choice(net, x)
    assert torch.allclose(sum_of_terms(x), net(x), atol=1e-5)


def test_other_paddings_keep_their_steps():
    net = tnn.Sequential(
        nn.FactoredConv("ocyx -> oc,cyx", 8, 12, 3, rank=UNEVEN, padding_mode="reflect")
    ).eval()
    x = torch.randn(2, 8, 11, 10)
    fused, _ = nn.fuse(net, x)
    assert not any(isinstance(m, FusedSeparable) for m in fused.modules())
    assert torch.allclose(fused(x), net(x), atol=1e-5)


@given(
    ranks=st.lists(st.integers(1, 9), min_size=5, max_size=5), first=st.booleans(),
    stride=st.sampled_from([1, 2]), bias=st.booleans(),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_any_ranks(ranks, first, stride, bias):
    pattern = "ocyx -> oc,cyx" if first else "ocyx -> oc,oyx"
    layer = nn.FactoredConv(pattern, 5, 5, 3, rank=ranks, stride=stride, bias=bias)
    net, x = tnn.Sequential(layer, tnn.ReLU()).eval(), torch.randn(2, 5, 8, 7)
    fused, _ = fuse_without_choice(net, x)
    exact = net.double()(x.double())
    assert (fused(x) - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize(
    ("pattern", "rank"),
    [
        ("ocyx -> oc,cyx", UNEVEN * 2),
        ("ocyx -> oc,cyx", FEW_OF_ONE * 2),
        ("ocyx -> oc,cyx", 3),
        ("ocyx -> oc,oyx", MANY),
        ("ocyx -> oc,oyx", 2),
        ("yx -> y,x", [1, 2, 3, 1] * 4),
        ("yx -> y,x", 2),
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_exported_files_copy_no_channels(pattern, rank, groups):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    depthwise = pattern.startswith("yx")
    outputs = 16 if depthwise else 12
    if groups == 2 and isinstance(rank, list) and not depthwise:
        rank = rank[: len(rank) // 2] * 2
    layer = nn.FactoredConv(
        pattern, 16, outputs, 3, padding=1, groups=16 if depthwise else groups, rank=rank
    )
    net = tnn.Sequential(layer, tnn.ReLU()).eval()
    x, out = torch.randn(2, 16, 9, 8), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter is deprecated
        torch.onnx.export(net, (x,), out, dynamo=False)
    graph = onnx.load_from_string(out.getvalue()).graph
    kinds = {node.op_type for node in graph.node}
    assert kinds <= {"Conv", "Concat", "Add", "Relu", "Constant", "Identity"}
    session = onnxruntime.InferenceSession(out.getvalue(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        wanted = net(x)
    assert (torch.from_numpy(got) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_networks_run_their_first_layer_and_wide_pairs_in_one_program():
    """A single input channel fills no vector of a depthwise kernel, and a pair outside a program changes the layout."""
    net = tnn.Sequential(
        tnn.Conv2d(1, 24, 3, padding=1), tnn.BatchNorm2d(24), tnn.ReLU(),
        nn.FactoredConv("ocyx -> ox,cy", 24, 24, 3, padding=1, rank=16), tnn.ReLU(),
        tnn.Conv2d(24, 24, 1),
    ).eval()  # fmt: skip
    x = torch.randn(2, 1, 33, 40)
    fused, _ = fuse_without_choice(net, x)
    execution = programs(fused)(x.contiguous(memory_format=torch.channels_last))
    (part,) = execution.parts
    kinds = [type(operation) for operation in part.segment.operations]
    assert kinds == [Dense, Dense, Dense, Pointwise]
    exact = net.double()(x.double())
    assert (fused(x) - exact).abs().max() <= 1e-5 * exact.abs().max()
