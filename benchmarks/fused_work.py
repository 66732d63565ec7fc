"""The work that `fused.py` measures: layers, a network and training steps, with all that can do them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import runtimes
import torch
from runtimes import Conv, Run
from torch import Tensor
from torch import nn as tnn

from separable import nn

EAGER = ("torch", "torch last")


@dataclass(frozen=True)
class Contestant:
    """One implementation of the layer; `result` returns its output, if it can be compared."""

    run: Run
    result: Run | None = None


@dataclass
class Work:
    """One line of the table. ``separable`` is ours, ``dense`` the layer that is not separable."""

    name: str
    contestants: dict[str, Contestant]
    aim: str
    exact: Tensor | None = None
    saving: float = 0.0
    trains: bool = False


@dataclass(frozen=True)
class Peers:
    """Whom to ask along."""

    threads: int
    compiled: bool


Maker = Callable[[Peers], Work]


@dataclass(frozen=True)
class Pair:
    """A depthwise and a pointwise step."""

    channels: int
    outputs: int
    kernel: int
    size: tuple[int, ...]
    aim: str
    stride: int = 1
    padding: int = 1
    batch: int = 1
    clamp: bool = True
    layers: list[Any] = field(default_factory=list)

    def modules(self) -> list[tnn.Module]:
        """Return the steps as one writes them in PyTorch."""
        conv = _CONVS[len(self.size)]
        made: list[tnn.Module] = [
            conv(
                self.channels,
                self.channels,
                self.kernel,
                self.stride,
                self.padding,
                groups=self.channels,
            )
        ]
        made += [tnn.ReLU6()] if self.clamp else []
        if self.outputs:
            made += [conv(self.channels, self.outputs, 1)] + ([tnn.ReLU6()] if self.clamp else [])
        return made

    def dense(self) -> tnn.Module | None:
        """Return the layer that does the same in one step."""
        if not self.outputs:
            return None
        conv = _CONVS[len(self.size)]
        made: tnn.Module = conv(self.channels, self.outputs, self.kernel, self.stride, self.padding)
        return tnn.Sequential(made, tnn.ReLU6()) if self.clamp else made

    @property
    def saving(self) -> float:
        """Number of multiplications of the dense layer divided by those of this one."""
        taps = self.kernel ** len(self.size)
        return taps * self.outputs / (taps + self.outputs) if self.outputs else 0.0


_CONVS: dict[int, Any] = {1: tnn.Conv1d, 2: tnn.Conv2d, 3: tnn.Conv3d}


def last(x: Tensor) -> Tensor:
    """Channels last, where PyTorch has such a layout."""
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last_3d) if x.dim() == 5 else x


def _own(run: Run) -> Contestant:
    return Contestant(run, run)


def _convs(modules: list[tnn.Module]) -> list[Conv]:
    """Return modules as values for the runtimes."""
    found: list[Conv] = []
    for module in modules:
        if isinstance(module, tnn.ReLU6):
            before = found.pop()
            found.append(Conv(**{**before.__dict__, "act": "relu6"}))
        else:
            found.append(runtimes.conv_of(module))
    return found


def _beside(net: tnn.Module, x: Tensor, peers: Peers) -> dict[str, Contestant]:
    """Return PyTorch in both layouts, and compiled."""
    xl = last(x)
    found = {"torch": _own(lambda: net(x))}
    if x.dim() > 3:
        found["torch last"] = _own(lambda: net(xl))
    if peers.compiled:
        with contextlib.suppress(Exception):  # it takes a compiler of C++
            made = torch.compile(net)
            with torch.no_grad():
                made(xl)
            found["torch.compile"] = _own(lambda: made(xl))
    return found


def chain(
    name: str, modules: list[tnn.Module], x: Tensor, aim: str, peers: Peers, *,
    dense: tnn.Module | None = None, saving: float = 0.0, first: bool = False,
) -> Work:  # fmt: skip
    """Return the work of some layers one after the other; `first`: our input has its channels first."""
    net = tnn.Sequential(*modules).eval().requires_grad_(False)
    fused, _ = nn.fuse(net, x)
    mine = x if first else last(x)
    contestants = {"separable": _own(lambda: fused(mine)), **_beside(net, x, peers)}
    for other, peer in runtimes.peers_of(_convs(modules), x.numpy(), peers.threads).items():
        contestants[other] = Contestant(peer.run, peer.result)
    if dense is not None:
        dense = dense.eval().requires_grad_(False)
        xl = last(x)
        contestants["dense"] = Contestant(lambda: dense(xl))
    with torch.no_grad():
        exact = tnn.Sequential(*modules).double()(x.double())
    net.float()
    return Work(name, contestants, aim, exact, saving)


def of_pair(name: str, pair: Pair, peers: Peers) -> Work:
    """Return the work of a depthwise and a pointwise step."""
    x = torch.randn(pair.batch, pair.channels, *pair.size)
    first = len(pair.size) == 1
    return chain(
        name,
        pair.modules(),
        x,
        pair.aim,
        peers,
        dense=pair.dense(),
        saving=pair.saving,
        first=first,
    )


def textbook(name: str, batch: int, aim: str, peers: Peers) -> Work:
    """Return the layer of the textbooks, in PyTorch, with our layer as one writes it and fused."""
    pair = Pair(3, 256, 5, (12, 12), aim, padding=0, batch=batch, clamp=False)
    work = of_pair(name, pair, peers)
    dense = tnn.Conv2d(3, 256, 5).requires_grad_(False)
    layer = nn.SeparableConv2d(3, 256, 5, padding="valid").eval().requires_grad_(False)
    x = torch.randn(batch, 3, 12, 12)
    xl = last(x)
    work.contestants["fused, channels last"] = work.contestants.pop("separable")
    work.contestants["separable"] = Contestant(lambda: layer(x))
    work.saving = 0.0
    work.contestants["dense"] = Contestant(lambda: dense(x))
    work.contestants["dense last"] = Contestant(lambda: dense(xl))
    return work


def hyperspectral(name: str, wide: bool, aim: str, peers: Peers) -> Work:
    """Return a spatial and a spectral step over 200 bands."""
    x = torch.randn(1, 1, 200, 64, 64)
    if wide:
        steps = [tnn.Conv3d(1, 16, (1, 3, 3)), tnn.Conv3d(16, 16, (7, 1, 1), groups=16)]
    else:
        steps = [tnn.Conv3d(1, 1, (1, 3, 3)), tnn.Conv3d(1, 16, (7, 1, 1))]
    dense = tnn.Conv3d(1, 16, (7, 3, 3))
    saving = 7 * 9 / (7 + 9) if wide else 7 * 9 * 16 / (7 * 16 + 9)
    return chain(name, list(steps), x, aim, peers, dense=dense, saving=saving, first=True)


def mobilenet(name: str, peers: Peers) -> Work:
    """Return a whole network, inside PyTorch and outside."""
    net = nn.models.MobileNetV1().eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.FactoredConv):
            module._serves = False  # PyTorch's own convolutions, as a user of PyTorch has them
    x = torch.randn(1, 3, 224, 224)
    fused, _ = nn.fuse(net, x)
    contestants = {"separable": _own(lambda: fused(x)), **_beside(net, x, peers)}
    with contextlib.suppress(ImportError):
        data = _exported(net, x)
        for other, make in (("onnxruntime", runtimes.onnxruntime), ("openvino", runtimes.openvino)):
            with contextlib.suppress(ImportError):
                peer = make(data, x.numpy(), peers.threads)
                contestants[other] = Contestant(peer.run, peer.result)
    with contextlib.suppress(ImportError):
        contestants["LiteRT"] = _mobilenet_in_litert(fused, x, peers.threads)
    with torch.no_grad():
        exact = net.double()(x.double())
    net.float()
    return Work(name, contestants, "2 torch, best peer", exact)


def _exported(net: tnn.Module, x: Tensor) -> bytes:
    import io

    held = io.BytesIO()
    torch.onnx.export(net, (x,), held, dynamo=False)
    return held.getvalue()


def _mobilenet_in_litert(fused: tnn.Module, x: Tensor, threads: int) -> Contestant:
    """Write the folded network for LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    convs: list[Conv] = []
    head: Any = None
    for module in fused.modules():
        kind = type(module).__name__
        if kind == "FusedConv":
            conv: Any = module.conv
            pads = tuple(1 for _ in conv.kernel_size)
            convs.append(Conv(conv.weight.detach().numpy(), conv.bias.detach().numpy(),
                              conv.stride, pads, 1, "relu6"))  # fmt: skip
        elif kind == "FusedSeparable":
            given = {n: b.numpy() for n, b in module.named_buffers()}
            step: Any = module.step
            pads = tuple(1 for _ in step.kernel_size)
            convs.append(Conv(given["depthwise"], given["between_bias"], step.stride, pads,
                              step.in_channels, "relu6"))  # fmt: skip
            convs.append(Conv(given["pointwise"], given["bias"], (1, 1), (0, 0), 1, "relu6"))
        elif isinstance(module, tnn.Linear):
            head = module.weight.detach().numpy(), module.bias.detach().numpy()
    data = runtimes.litert_bytes(convs, tuple(x.shape), head)
    interpreter = Interpreter(model_content=data, num_threads=threads)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(place, x.movedim(1, -1).contiguous().numpy())
    return Contestant(interpreter.invoke)


def training(name: str, norm: bool, peers: Peers) -> Work:
    """Return one step forward and backward, without an optimiser."""
    middle = tnn.BatchNorm2d(128) if norm else None
    layer = nn.SeparableConv2d(128, 128, 3, intermediate=middle)
    steps = [tnn.Conv2d(128, 128, 3, padding=1, groups=128, bias=False), tnn.BatchNorm2d(128),
             tnn.Conv2d(128, 128, 1)]  # fmt: skip
    plain = tnn.Sequential(*(steps if norm else steps[::2]))
    given = torch.randn(16, 128, 56, 56)

    def step(net: Any, x: Tensor, parameters: list[Tensor]) -> Contestant:
        x = x.detach().requires_grad_()

        def run() -> None:
            for parameter in parameters:
                parameter.grad = None
            x.grad = None
            out = net(x)
            out.backward(out.detach())

        return Contestant(run)

    weights = list(plain.parameters())
    contestants = {
        "separable": step(layer, last(given), list(layer.parameters())),
        "separable, channels first": step(layer, given, list(layer.parameters())),
        "torch": step(plain, given, weights),
        "torch last": step(plain, last(given), weights),
    }
    with contextlib.suppress(ImportError):
        contestants["Keras"] = _keras(norm, given, step)
    dense = tnn.Conv2d(128, 128, 3, padding=1)
    contestants["dense"] = step(dense, last(given), list(dense.parameters()))
    return Work(name, contestants, "2 torch, 1.5 with memory kept; r/t 0.7",
                saving=9 * 128 / (9 + 128), trains=True)  # fmt: skip


def _keras(norm: bool, given: Tensor, step: Any) -> Contestant:
    """The same in Keras, on PyTorch, with the channels last that it has by default."""
    import keras

    steps = [keras.layers.SeparableConv2D(128, 3, padding="same")]
    if norm:
        steps = [keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
                 keras.layers.BatchNormalization(), keras.layers.Conv2D(128, 1)]  # fmt: skip
    net = keras.Sequential(steps)
    x = given.movedim(1, -1).contiguous()
    with torch.no_grad():
        net(x)
    made: Contestant = step(
        lambda x: net(x, training=True), x, [v.value for v in net.trainable_variables]
    )
    return made


def all_works() -> list[tuple[str, Maker]]:
    """Return the lines of the table: a name, and what prepares it."""
    made: list[tuple[str, Maker]] = []

    def add(name: str, make: Callable[[str, Peers], Work]) -> None:
        made.append((name, lambda peers: make(name, peers)))

    def pair(name: str, *args: Any, **kwargs: Any) -> None:
        add(name, lambda name, peers: of_pair(name, Pair(*args, **kwargs), peers))

    aim = "best peer -5 %, 1.4 torch"
    for side, c, o, stride in (
        (112, 32, 64, 1), (112, 64, 128, 2), (56, 128, 128, 1), (28, 256, 256, 1),
        (14, 512, 512, 1), (7, 1024, 1024, 1),
    ):  # fmt: skip
        tail = " stride 2" if stride == 2 else ""
        pair(f"3x3 {side}^2 {c}->{o}{tail}", c, o, 3, (side, side), aim, stride=stride)
    add("MobileNetV1 224", mobilenet)
    pair("Xception middle 19^2 728", 728, 728, 3, (19, 19), "1.3 torch", clamp=False)
    pair("depthwise 7x7 96 56^2", 96, 0, 7, (56, 56), "1.4 best", padding=3, clamp=False)
    pair("depthwise 31x31 128 32^2", 128, 0, 31, (32, 32), "1.4 best", padding=15, clamp=False)
    pair(
        "1-D k=9 64->64 512 batch 32",
        64,
        64,
        9,
        (512,),
        "best peer, 2 torch",
        padding=4,
        batch=32,
        clamp=False,
    )
    pair("3-D 3^3 32->64 32^3", 32, 64, 3, (32,) * 3, "1.6 best, r/t 0.85", clamp=False)
    add("hyperspectral 1->1, 1->16", lambda n, p: hyperspectral(n, False, "1.5 best", p))
    add("hyperspectral 1->16, depthwise", lambda n, p: hyperspectral(n, True, "3 best", p))
    add("textbook 12x12x3 5x5 256", lambda n, p: textbook(n, 1, "faster than dense", p))
    add("textbook batch 256", lambda n, p: textbook(n, 256, "best peer", p))
    add("training 56^2 128 batch 16", lambda n, p: training(n, False, p))
    add("training with norm", lambda n, p: training(n, True, p))
    return made
