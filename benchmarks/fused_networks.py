"""Whole networks, inside PyTorch and exported to other runtimes, for `fused.py`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import runtimes
import torch
from fused_work import Contestant, Peers, Work, beside, in_float64, last, own
from paper_networks import calibrated
from runtimes import Conv
from torch import Tensor
from torch import nn as tnn

from separable import nn

CALIBRATION = 4
"""Number of random images that give normalisation layers their statistics."""


def network(make: Callable[[], tnn.Module], shape: tuple[int, ...], peers: Peers) -> Work:
    """Return the work of a network; runtimes that read ONNX are asked along."""
    return _network(_plain(make(), shape), torch.randn(shape), peers)[0]


def mobilenet(batch: int, peers: Peers) -> Work:
    """Return MobileNetV1, in LiteRT too, beside its dense twin."""
    shape = (batch, 3, 224, 224)
    net, dense = (_plain(nn.models.MobileNetV1(dense=d), shape) for d in (False, True))
    x = torch.randn(shape)
    work, fused = _network(net, x, peers)
    with contextlib.suppress(ImportError):
        work.contestants["LiteRT"] = _in_litert(fused, x, peers.threads)
    dense, xl = dense.to(memory_format=torch.channels_last), last(x)  # type: ignore[call-overload]
    work.contestants["dense"] = Contestant(lambda: dense(xl))
    counts = [nn.ledger(n, shape).total.multiplications for n in (dense, net)]
    work.saving = counts[0] / counts[1]
    return work


def _plain(net: tnn.Module, shape: tuple[int, ...]) -> tnn.Module:
    """Return a network as a user of PyTorch has it: no layer runs compiled kernels by itself."""
    net = calibrated(net, torch.randn(CALIBRATION, *shape[1:]))
    for module in net.modules():
        if isinstance(module, nn.FactoredConv):
            module._serves = False
    return net


def _network(net: tnn.Module, x: Tensor, peers: Peers) -> tuple[Work, tnn.Module]:
    fused, _ = nn.fuse(net, x)
    contestants = {"separable": own(lambda: fused(x)), **beside(net, x, peers)}
    with contextlib.suppress(ImportError):
        data = _exported(net, x)
        for other, make in (("onnxruntime", runtimes.onnxruntime), ("openvino", runtimes.openvino)):
            with contextlib.suppress(ImportError):
                peer = make(data, x.numpy(), peers.threads)
                contestants[other] = Contestant(peer.run, peer.result)
    return Work(contestants, in_float64(net, x)), fused


def _exported(net: tnn.Module, x: Tensor) -> bytes:
    held = io.BytesIO()
    torch.onnx.export(net, (x,), held, dynamo=False)
    return held.getvalue()


def _in_litert(fused: tnn.Module, x: Tensor, threads: int) -> Contestant:
    """Write the folded network for LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    convs: list[Conv] = []
    head: Any = None
    for module in fused.modules():
        kind = type(module).__name__
        if kind not in ("FusedConv", "FusedSeparable"):
            if isinstance(module, tnn.Linear):
                head = module.weight.detach().numpy(), module.bias.detach().numpy()
            continue
        part: Any = module
        step = part.conv if kind == "FusedConv" else part.step
        none = tuple(0 for _ in step.kernel_size)
        if kind == "FusedConv":
            conv = part.conv
            convs.append(Conv(conv.weight.detach().numpy(), conv.bias.detach().numpy(),
                              step.stride, none, 1, part.act, same=True))  # fmt: skip
        else:
            given = {n: b.numpy() for n, b in module.named_buffers()}
            convs.append(Conv(given["depthwise"], given["between_bias"], step.stride, none,
                              step.in_channels, part.between, same=True))  # fmt: skip
            convs.append(Conv(given["pointwise"], given["bias"], (1, 1), none, 1, part.act))
    data = runtimes.litert_bytes(convs, tuple(x.shape), head)
    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(place, x.movedim(1, -1).contiguous().numpy())
    made = interpreter.get_output_details()[0]["index"]

    def result() -> Any:
        interpreter.invoke()
        return interpreter.get_tensor(made)

    return Contestant(interpreter.invoke, result)
