"""Fused layers beside PyTorch, ONNX Runtime and OpenVINO: how much of the saved multiplications is saved time.

Calls of all are interleaved, round by round; the medians are compared. `--rounds` and `--only` make it short,
`--compile` adds torch.compile. LiteRT is not among the peers: to convert a model for it takes TensorFlow.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn as tnn

from separable import nn

Run = Callable[[], Any]
THREADS = 2


@dataclass
class Row:
    """One line of the table: ours, peers, and the dense layer for the ratio of realised to theoretical."""

    name: str
    ours: Run
    peers: dict[str, Run]
    dense: Run | None = None
    saving: float = 0.0
    aim: str = ""
    check: tuple[Any, ...] = field(default=())


def medians(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Return the median seconds of each, calls interleaved."""
    calls = {}
    for name, run in runs.items():
        run()
        begun = time.perf_counter()
        run()
        calls[name] = max(1, min(50, int(0.02 / (time.perf_counter() - begun))))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            for _ in range(calls[name]):
                run()
            seconds[name].append((time.perf_counter() - begun) / calls[name])
    return {name: statistics.median(s) for name, s in seconds.items()}


def last(x: torch.Tensor) -> torch.Tensor:
    """Channels last, where there is such a layout."""
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last_3d) if x.dim() == 5 else x


def onnx_bytes(layers: list[Any], shape: tuple[int, ...]) -> bytes:
    """Write convolutions and clamps one after the other as an ONNX model."""
    import onnx
    from onnx import helper, numpy_helper

    nodes, weights, name = [], [], "x"
    for i, layer in enumerate(layers):
        out = f"t{i}"
        if isinstance(layer, tnn.modules.conv._ConvNd):
            names = [name, f"w{i}"]
            weights.append(numpy_helper.from_array(layer.weight.detach().numpy(), f"w{i}"))
            if layer.bias is not None:
                names.append(f"b{i}")
                weights.append(numpy_helper.from_array(layer.bias.detach().numpy(), f"b{i}"))
            pads = [0 if isinstance(layer.padding, str) else int(p) for p in layer.padding]
            nodes.append(helper.make_node(
                "Conv", names, [out], strides=list(layer.stride), pads=pads * 2,
                dilations=list(layer.dilation), group=layer.groups,
            ))  # fmt: skip
        else:
            for bound, value in (("l", 0.0), ("h", 6.0)):
                weights.append(numpy_helper.from_array(np.float32(value), f"{bound}{i}"))
            nodes.append(helper.make_node("Clip", [name, f"l{i}", f"h{i}"], [out]))
        name = out
    one = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "layers", [helper.make_tensor_value_info("x", one, shape)],
        [helper.make_tensor_value_info(name, one, None)], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def runtimes(data: bytes, x: torch.Tensor) -> dict[str, Run]:
    """Return the model in the runtimes that are installed."""
    found: dict[str, Run] = {}
    array = np.ascontiguousarray(x.numpy())
    try:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        found["onnxruntime"] = lambda: session.run(None, {"x": array})
    except ImportError:
        pass
    try:
        import openvino as ov

        settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
        core = ov.Core()
        request = core.compile_model(core.read_model(data), "CPU", settings).create_infer_request()
        request.set_input_tensor(ov.Tensor(array, shared_memory=True))
        found["openvino"] = request.infer
    except ImportError:
        pass
    return found


def peers_of(layers: list[Any], x: torch.Tensor, compiled: bool) -> dict[str, Run]:
    """Return PyTorch in both layouts and the runtimes, for layers one after the other."""
    net = tnn.Sequential(*layers)
    turned = tnn.Sequential(*layers)
    xl = last(x)
    found: dict[str, Run] = {"torch": lambda: net(x), "torch last": lambda: turned(xl)}
    if compiled:
        made = torch.compile(tnn.Sequential(*layers))
        found["torch.compile"] = lambda: made(xl)
    return {**found, **runtimes(onnx_bytes(layers, tuple(x.shape)), x)}


def pair(
    name: str, c: int, o: int, kernel: Any, size: tuple[int, ...], *, stride: int = 1, batch: int = 1,
    pad: int = 1, clamp: bool = True, aim: str = "", compiled: bool = False,
) -> Row:  # fmt: skip
    """A depthwise and a pointwise step, perhaps with ReLU6 after each."""
    ndim = len(size)
    conv = (tnn.Conv1d, tnn.Conv2d, tnn.Conv3d)[ndim - 1]
    depthwise = conv(c, c, kernel, stride, pad, groups=c)
    layers: list[Any] = [depthwise]
    layers += [tnn.ReLU6()] if clamp else []
    if o:
        layers.append(conv(c, o, 1))
        layers += [tnn.ReLU6()] if clamp else []
    net = tnn.Sequential(*layers).eval()
    x = torch.randn(batch, c, *size)
    fused, _ = nn.fuse(net, x)
    xl = last(x)
    run = (lambda: fused(x)) if ndim == 1 else (lambda: fused(xl))
    dense = conv(c, o, kernel, stride, pad) if o else None
    taps = kernel**ndim
    saving = taps * o / (taps + o) if o else 0.0
    return Row(
        name, run, peers_of(layers, x, compiled), (lambda: dense(xl)) if dense else None, saving, aim
    )


def inference(compiled: bool) -> list[Callable[[], Row]]:
    """The lines of the table for inference."""
    made: list[Callable[[], Row]] = []
    for side, c, o, stride in (
        (112, 32, 64, 1), (112, 64, 128, 2), (56, 128, 128, 1), (28, 256, 256, 1),
        (14, 512, 512, 1), (7, 1024, 1024, 1),
    ):  # fmt: skip
        made.append(
            lambda a=(side, c, o, stride): pair(
                f"3x3 {a[0]}^2 {a[1]}->{a[2]}" + (" s2" if a[3] > 1 else ""), a[1], a[2], 3,
                (a[0], a[0]), stride=a[3], aim="best peer, 1.4 torch", compiled=compiled,
            )
        )  # fmt: skip
    made.append(lambda: pair("Xception middle 19^2 728", 728, 728, 3, (19, 19), aim="1.3 torch", clamp=False))
    made.append(lambda: pair("depthwise 7x7 96 56^2", 96, 0, 7, (56, 56), pad=3, clamp=False, aim="1.4 best"))
    made.append(lambda: pair("depthwise 31x31 128 32^2", 128, 0, 31, (32, 32), pad=15, clamp=False, aim="1.4 best"))
    made.append(lambda: pair("1-D k=9 64 512 b32", 64, 64, 9, (512,), batch=32, pad=4, clamp=False, aim="best, 2 torch"))
    made.append(lambda: pair("3-D 3^3 32->64 32^3", 32, 64, 3, (32, 32, 32), clamp=False, aim="1.6 best"))
    made.append(lambda: pair("12x12x3 5x5 256", 3, 256, 5, (12, 12), pad=0, clamp=False, aim="1 dense"))
    made.append(lambda: pair("12x12x3 5x5 256 b256", 3, 256, 5, (12, 12), pad=0, clamp=False, batch=256, aim="best"))
    made.append(mobilenet)
    return made


def mobilenet() -> Row:
    """A whole network inside PyTorch."""
    net = nn.models.MobileNetV1().eval()
    x = torch.randn(1, 3, 224, 224)
    fused, _ = nn.fuse(net, x)
    turned = nn.models.MobileNetV1().eval().to(memory_format=torch.channels_last)
    xl = last(x)
    # PyTorch's own convolutions, not the operators that the layers ask: as a user of PyTorch has it.
    def plain(model: tnn.Module) -> tnn.Module:
        for module in model.modules():
            if isinstance(module, nn.FactoredConv):
                module._serves = False
        return model

    net, turned = plain(net), plain(turned)
    return Row("MobileNetV1 224", lambda: fused(x), {"torch": lambda: net(x), "torch last": lambda: turned(xl)},
               aim="2 torch")  # fmt: skip


def training(norm: bool) -> Row:
    """One step forward and backward, without an optimiser."""
    layer = nn.SeparableConv2d(128, 128, 3, intermediate=tnn.BatchNorm2d(128) if norm else None)
    x = torch.randn(16, 128, 56, 56)

    def step(serves: bool, x: torch.Tensor) -> Run:
        x = x.detach().requires_grad_()

        def run() -> None:
            layer._serves = serves
            layer.zero_grad()
            x.grad = None
            out = layer(x)
            out.backward(out.detach())

        return run

    peers = {"torch": step(False, x), "torch last": step(False, last(x))}
    dense = tnn.Conv2d(128, 128, 3, padding=1)
    xd = last(x).requires_grad_()

    def whole() -> None:
        dense.zero_grad()
        xd.grad = None
        out = dense(xd)
        out.backward(out.detach())

    name = "training 56^2 128 b16" + (" norm" if norm else "")
    return Row(name, step(True, last(x)), peers, whole, 9 * 128 / (9 + 128), "2 torch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="")
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    load = ", ".join(f"{n:.1f}" for n in os.getloadavg())
    versions = []
    for name in ("torch", "onnxruntime", "openvino"):
        try:
            versions.append(f"{name} {importlib.import_module(name).__version__.split('-')[0]}")
        except ImportError:
            versions.append(f"no {name}")
    raised = "raised" if os.environ.get("MALLOC_TOP_PAD_") else "as they are"
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load}, "
          f"{', '.join(versions)}, allocator's thresholds {raised}")  # fmt: skip
    print(f"{'work':<28}{'ours':>10}  times the others take; realised/theoretical; aim")
    rows = [*inference(chosen.compile), lambda: training(False), lambda: training(True)]
    for make in rows:
        row = make()
        if chosen.only and chosen.only not in row.name:
            continue
        runs = {"ours": row.ours, **row.peers, **({"dense": row.dense} if row.dense else {})}
        with torch.set_grad_enabled("training" in row.name):
            seconds = medians(runs, chosen.rounds)
        mine = seconds.pop("ours")
        dense = seconds.pop("dense", 0.0)
        realised = f"; r/t {dense / mine / row.saving:.2f}" if dense and row.saving else ""
        ratios = ", ".join(f"{n} {s / mine:.2f}" for n, s in seconds.items())
        print(f"{row.name:<28}{mine * 1e6:>8.0f}us  {ratios}{realised}; {row.aim}", flush=True)


if __name__ == "__main__":
    main()
