"""The work that `fused.py` measures: layers and training steps, with all that can do them."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Aim:
    """Targets of a line; None where there is none.

    Attributes
    ----------
    peer, torch : float or None
        Time of the best peer, and of PyTorch's better layout, divided by ours.
    part : float or None
        Realised saving divided by the theoretical one.
    dense : float or None
        Time of the layer that is not separable, divided by ours.
    group : str
        Name of the lines over which the mean is to reach `torch`; empty if each is to reach it.
    """

    peer: float | None = None
    torch: float | None = None
    part: float | None = None
    dense: float | None = None
    group: str = ""


@dataclass
class Work:
    """One line of the table. ``separable`` is ours, ``dense`` the layer that is not separable.

    `saving` is the number of multiplications of the dense layer divided by ours; 0 if that is not the question.
    """

    contestants: dict[str, Contestant]
    exact: Tensor | None = None
    saving: float = 0.0
    trains: bool = False


@dataclass(frozen=True)
class Peers:
    """Whom to ask along."""

    threads: int
    compiled: bool


@dataclass(frozen=True)
class Pair:
    """A depthwise and a pointwise step."""

    channels: int
    outputs: int
    kernel: int
    size: tuple[int, ...]
    stride: int = 1
    padding: int = 1
    batch: int = 1
    clamp: bool = True

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


def own(run: Run) -> Contestant:
    """Return a contestant that returns its output when it runs."""
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


def beside(net: tnn.Module, x: Tensor, peers: Peers) -> dict[str, Contestant]:
    """Return PyTorch in both layouts, and compiled."""
    found = {"torch": own(lambda: net(x))}
    xl, net_last = last(x), net
    if x.dim() in (4, 5):
        layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        net_last = copy.deepcopy(net).to(memory_format=layout)  # type: ignore[call-overload]
        found["torch last"] = own(lambda: net_last(xl))
    if peers.compiled:
        with contextlib.suppress(Exception):  # it takes a compiler of C++
            made = torch.compile(net_last)
            with torch.no_grad():
                made(xl)
            found["torch.compile"] = own(lambda: made(xl))
    return found


def chain(
    modules: list[tnn.Module], x: Tensor, peers: Peers, *,
    dense: tnn.Module | None = None, saving: float = 0.0, first: bool = False,
) -> Work:  # fmt: skip
    """Return the work of some layers one after the other; `first`: our input has its channels first."""
    net = tnn.Sequential(*modules).eval().requires_grad_(False)
    fused, _ = nn.fuse(net, x)
    mine = x if first else last(x)
    contestants = {"separable": own(lambda: fused(mine)), **beside(net, x, peers)}
    for other, peer in runtimes.peers_of(_convs(modules), x.numpy(), peers.threads).items():
        contestants[other] = Contestant(peer.run, peer.result)
    if dense is not None:
        dense = dense.eval().requires_grad_(False)
        xl = last(x)
        contestants["dense"] = Contestant(lambda: dense(xl))
    return Work(contestants, in_float64(net, x), saving)


def in_float64(net: tnn.Module, x: Tensor) -> Tensor:
    """Return the exact output."""
    with torch.no_grad():
        found: Tensor = copy.deepcopy(net).double()(x.double())
    return found


def of_pair(pair: Pair, peers: Peers) -> Work:
    """Return the work of a depthwise and a pointwise step."""
    x = torch.randn(pair.batch, pair.channels, *pair.size)
    first = len(pair.size) == 1
    return chain(
        pair.modules(), x, peers, dense=pair.dense(), saving=pair.saving, first=first
    )  # fmt: skip


def in_two_passes(channels: int, size: int, side: int, peers: Peers) -> Work:
    """Return depthwise kernels of rank 1, written as two layers; ``dense`` is our own layer of the whole kernels."""
    pad = size // 2
    steps: list[Any] = [
        tnn.Conv2d(channels, channels, (size, 1), padding=(pad, 0), groups=channels, bias=False),
        tnn.Conv2d(channels, channels, (1, size), padding=(0, pad), groups=channels),
    ]
    whole = tnn.Conv2d(channels, channels, size, padding=pad, groups=channels)
    with torch.no_grad():
        whole.weight.copy_(steps[0].weight * steps[1].weight)
        whole.bias.copy_(steps[1].bias)  # type: ignore[union-attr]
    x = torch.randn(1, channels, side, side)
    work = chain(steps, x, peers)
    fused, _ = nn.fuse(tnn.Sequential(whole).eval().requires_grad_(False), x)
    xl = last(x)
    work.contestants["dense"] = own(lambda: fused(xl))
    return work


FACTORED = ("Tucker-2, half the channels", "kx1 then 1xk, half", "pointwise first")


def factored(kind: str, channels: int, side: int, peers: Peers) -> Work:
    """Return a dense 3x3 layer in one of the forms that `nn.convert` makes of it."""
    c, half = channels, channels // 2
    if kind == FACTORED[0]:
        steps = [tnn.Conv2d(c, half, 1, bias=False), tnn.Conv2d(half, half, 3, padding=1, bias=False),
                 tnn.Conv2d(half, c, 1)]  # fmt: skip
    elif kind == FACTORED[1]:
        steps = [tnn.Conv2d(c, half, (3, 1), padding=(1, 0), bias=False),
                 tnn.Conv2d(half, c, (1, 3), padding=(0, 1))]  # fmt: skip
    else:
        steps = [tnn.Conv2d(c, c, 1, bias=False), tnn.Conv2d(c, c, 3, padding=1, groups=c)]
    dense = tnn.Conv2d(c, c, 3, padding=1)
    saving = dense.weight.numel() / sum(s.weight.numel() for s in steps)
    return chain(list(steps), torch.randn(1, c, side, side), peers, dense=dense, saving=saving)


def textbook(batch: int, peers: Peers) -> Work:
    """Return the layer of the textbooks, in PyTorch, with our layer as one writes it and fused."""
    depthwise = tnn.Conv2d(3, 3, 5, groups=3, bias=False)
    pointwise, dense = tnn.Conv2d(3, 256, 1), tnn.Conv2d(3, 256, 5)
    x = torch.randn(batch, 3, 12, 12)
    xl = last(x)
    work = chain([depthwise, pointwise], x, peers, dense=dense)
    layer = nn.SeparableConv2d(3, 256, 5, padding="valid").eval().requires_grad_(False)
    layer.load_state_dict(_named(depthwise, pointwise))
    work.contestants["fused, channels last"] = work.contestants.pop("separable")
    work.contestants["separable"] = own(lambda: layer(x))
    work.contestants["dense"] = Contestant(lambda: dense(x))
    work.contestants["dense last"] = Contestant(lambda: dense(xl))
    return work


def _named(depthwise: tnn.Module, pointwise: tnn.Module, norm: Any = None) -> dict[str, Tensor]:
    """Return the state of a `SeparableConv2d` with the weights of these layers."""
    parts = {"depthwise": depthwise, "pointwise": pointwise, "intermediate": norm}
    states = {n: m.state_dict() for n, m in parts.items() if m is not None}
    return {f"{name}.{key}": t for name, state in states.items() for key, t in state.items()}


def hyperspectral(wide: bool, peers: Peers) -> Work:
    """Return a spatial and a spectral step over 200 bands."""
    x = torch.randn(1, 1, 200, 64, 64)
    if wide:
        steps = [tnn.Conv3d(1, 16, (1, 3, 3)), tnn.Conv3d(16, 16, (7, 1, 1), groups=16)]
    else:
        steps = [tnn.Conv3d(1, 1, (1, 3, 3)), tnn.Conv3d(1, 16, (7, 1, 1))]
    dense = tnn.Conv3d(1, 16, (7, 3, 3))
    saving = 7 * 9 / (7 + 9) if wide else 7 * 9 * 16 / (7 * 16 + 9)
    return chain(list(steps), x, peers, dense=dense, saving=saving, first=True)


def training(norm: bool, peers: Peers) -> Work:
    """Return one step forward and backward, without an optimiser; what is compared is the gradient of the input."""
    middle = tnn.BatchNorm2d(128) if norm else None
    layer = nn.SeparableConv2d(128, 128, 3, intermediate=middle)
    steps = [tnn.Conv2d(128, 128, 3, padding=1, groups=128, bias=False), tnn.BatchNorm2d(128),
             tnn.Conv2d(128, 128, 1)]  # fmt: skip
    plain = tnn.Sequential(*(steps if norm else steps[::2]))
    layer.load_state_dict(_named(steps[0], steps[2], steps[1] if norm else None))
    given = torch.randn(16, 128, 56, 56)

    def step(net: Any, x: Tensor, parameters: list[Tensor]) -> Contestant:
        x = x.detach().requires_grad_()

        def run() -> Tensor | None:
            for parameter in parameters:
                parameter.grad = None
            x.grad = None
            out = net(x)
            out.backward(out.detach())
            return x.grad

        return own(run)

    def parameters(net: tnn.Module) -> list[Tensor]:
        return list(net.parameters())

    double = copy.deepcopy(plain).double()
    exact: Tensor = step(double, given.double(), parameters(double)).run()
    contestants = {
        "separable": step(layer, last(given), parameters(layer)),
        "separable, channels first": step(layer, given, parameters(layer)),
        "torch": step(plain, given, parameters(plain)),
        "torch last": step(plain, last(given), parameters(plain)),
    }
    if peers.compiled:
        with contextlib.suppress(Exception):  # it takes a compiler of C++
            made = torch.compile(plain)
            found = step(made, last(given), parameters(plain))
            found.run()
            contestants["torch.compile"] = found
    with contextlib.suppress(ImportError):
        contestants["Keras"] = Contestant(_keras(norm, given, step).run)
    dense = tnn.Conv2d(128, 128, 3, padding=1)
    contestants["dense"] = Contestant(step(dense, last(given), parameters(dense)).run)
    return Work(contestants, exact, saving=9 * 128 / (9 + 128), trains=True)


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
