"""Cases of a profile: steps of many kinds and sizes, drawn at random from the range that networks use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from separable.cost import Convolution
from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.nn.step_times.step_work import StepWork, joined_work, work_of

__all__ = ["JOINED_KIND", "ProfileCase", "profile_cases"]

SEED = 0
COUNTS = {"pointwise": 130, "dense": 190, "depthwise": 90, "grouped": 30, "transposed": 30}
"""Number of cases of each kind of convolution."""
JOINED_KIND = "depthwise_separable"
"""Kind of cases that are two operations for runtimes that do not join them."""
JOINED, PRODUCTS, LIGHT = 80, 32, 10
"""Number of depthwise separable pairs, of matrix products, and of cases of each other kind."""
STEMS = 32
"""Number of first layers: few channels, large images."""
MOST_MACS, LEAST_MACS = 8e8, 2e3
MOST_ELEMENTS = 2**22  # of the input and of the output
CHANNELS = (
    1,
    3,
    4,
    8,
    12,
    16,
    24,
    32,
    40,
    48,
    64,
    80,
    96,
    128,
    160,
    192,
    256,
    320,
    384,
    512,
    768,
    1024,
)
MOST_OCTAVES = 9.6  # ranks up to 776 channels
ALIGNED = 16  # elements of 64 bytes
SIZES = (
    1,
    2,
    4,
    5,
    7,
    8,
    10,
    12,
    14,
    16,
    20,
    24,
    28,
    32,
    40,
    48,
    56,
    64,
    80,
    96,
    112,
    128,
    160,
    224,
)
SQUARE, FLAT = ((3, 3), (5, 5), (7, 7), (2, 2)), ((1, 3), (3, 1), (1, 5), (5, 1), (1, 7), (7, 1))
KINDS_OF_KERNELS = (0.55, 0.08, 0.05, 0.02, 0.075, 0.075, 0.04, 0.04, 0.035, 0.035)


@dataclass(frozen=True)
class ProfileCase:
    """One step to measure.

    Attributes
    ----------
    work : StepWork
    module : function
        Function that returns the module to run.
    shapes : tuple of tuple of int
        Shapes of its inputs.
    convolution : Convolution or None
        Sizes of the first convolution, if there is one.
    operation : str
        Name of the operation in PyTorch.
    """

    work: StepWork
    module: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    convolution: Convolution | None = None
    operation: str = "convolution"

    def inputs(self) -> list[Tensor]:
        """Return inputs as an activation leaves them, all in the same memory, so that it is in the cache as in a network."""
        found, at = [], 0
        for shape in self.shapes:
            count = math.prod(shape)
            found.append(_memory()[at : at + count].view(shape))
            at += -(-count // ALIGNED) * ALIGNED
        return found


@lru_cache(maxsize=1)
def _memory() -> Tensor:
    """Return random numbers of which half are zero; pooling of values without order takes longer."""
    return (torch.rand(2 * MOST_ELEMENTS + ALIGNED) - 0.5).relu_()


def profile_cases(seed: int = SEED) -> list[ProfileCase]:
    """Return the cases of a profile: convolutions in the order of the bytes that they move, then all others.

    Cases that are measured together should be of similar size, as layers of a network are: large ones displace
    the code of the others from the cache, and a small step then takes three times as long. Operations without
    weights follow every convolution of a network; between cases of 32 other programs they take up to 1.4 times as long.

    Examples
    --------
    >>> found = profile_cases()
    >>> len({case.work.kind for case in found})
    22
    """
    random = np.random.default_rng(seed)
    cases = [*_convolutions(random), *_joined(random), *_products(random), *_light(random)]
    return sorted(cases, key=lambda case: (case.convolution is None, case.work.bytes))


def _convolutions(random: np.random.Generator) -> Iterator[ProfileCase]:
    for kind, count in COUNTS.items():
        made = 0
        while made < count:
            conv = _drawn(kind, random, thin=made % 8 == 7)
            if conv is not None:
                made += 1
                yield _case_of(conv)

    for _ in range(STEMS):
        k, size = (int(random.choice(n)) for n in ((3, 3, 5, 7), SIZES[-9:]))
        conv = Convolution(
            (size, size), int(random.choice([1, 3, 3, 4])), int(random.choice(CHANNELS[3:11])), (k, k),
            (int(random.choice([1, 2])),) * 2, ((k // 2, k // 2),) * 2,
        )  # fmt: skip
        if math.prod(conv.outputs) * conv.filters < MOST_ELEMENTS:
            yield _case_of(conv)


def _case_of(conv: Convolution) -> ProfileCase:
    operation = RecordedOperation.of_convolution(conv)
    shape = operation.input_shapes[0]
    return ProfileCase(work_of(operation), lambda: convolution_module(conv), (shape,), conv)


def _drawn(kind: str, random: np.random.Generator, *, thin: bool) -> Convolution | None:
    """Draw the sizes of a convolution; None if it takes too long, or next to nothing."""
    ndim = int(random.choice([1, 2, 3], p=[0.1, 0.82, 0.08])) if thin else 2
    channels, filters = (int(random.choice(CHANNELS)) for _ in range(2))
    usual = random.random()
    if usual < 0.4:  # most layers keep or double their channels
        filters = channels * (2 if usual < 0.1 else 1)
    elif usual < 0.55:  # ranks are any number
        channels = _any_rank(random)
    elif usual < 0.7:
        filters = _any_rank(random)
    size = int(random.choice(SIZES))
    kernel = _drawn_kernel(kind, random)
    kernel = (kernel * 2)[:ndim] if ndim != 2 else kernel
    stride = 2 if random.random() < 0.25 else 1
    groups = 1
    if kind == "depthwise":
        groups, filters = channels, channels * int(random.choice([1, 1, 1, 2, 3]))
    elif kind == "grouped":
        groups = int(random.choice([2, 4, 8, 32]))
        channels, filters = (-(-n // groups) * groups for n in (channels, filters))
    elif kind == "transposed":
        stride, kernel = 2, ((2,) if random.random() < 0.5 else (4,)) * ndim
    if kind == "pointwise" and random.random() < 0.85:
        stride = 1
    padding = tuple((k - stride if kind == "transposed" else k - 1) // 2 for k in kernel)
    conv = Convolution(
        (size,) * ndim, channels, filters, kernel, (stride,) * ndim,
        tuple((p, p) for p in padding), groups=groups, transposed=kind == "transposed",
        batch=int(random.choice([1, 1, 1, 1, 2, 4, 8])),
    )  # fmt: skip
    return conv if _is_usual(conv, kind) else None


def _any_rank(random: np.random.Generator) -> int:
    """Draw a number of channels that mostly does not fill the processor's vectors, small ones more often."""
    return int(2 ** random.uniform(1.0, MOST_OCTAVES))


def _drawn_kernel(kind: str, random: np.random.Generator) -> tuple[int, ...]:
    if kind == "pointwise":
        return (1, 1)
    return (SQUARE + FLAT)[int(random.choice(len(KINDS_OF_KERNELS), p=KINDS_OF_KERNELS))]


def _is_usual(conv: Convolution, kind: str) -> bool:
    if min(conv.outputs) < 1 or (kind != "dense" and conv.groups == 1 and conv.channels < 2):
        return False
    if kind in ("depthwise", "grouped") and (conv.channels < 4 or conv.groups == 1):
        return False
    if kind == "grouped" and conv.groups == conv.channels:
        return False
    inputs = conv.batch * conv.channels * math.prod(conv.space)
    outputs = conv.batch * conv.filters * math.prod(conv.outputs)
    most = MOST_MACS if kind == "dense" else MOST_MACS / 5
    largest = max(inputs, outputs, conv.weights)
    return LEAST_MACS < conv.multiplications < most and largest < MOST_ELEMENTS


def convolution_module(conv: Convolution) -> nn.Module:
    """Return the module of a convolution; its weights are copied, because drawing them takes longer than all else."""
    name = f"Conv{'Transpose' if conv.transposed else ''}{conv.ndim}d"
    made: nn.Module = getattr(nn, name)(
        conv.channels, conv.filters, conv.kernel, conv.stride,
        tuple(p for p, _ in conv.padding), groups=conv.groups, bias=True, device="meta",
    )  # fmt: skip
    return _with_weights(made)


def _with_weights(made: nn.Module) -> nn.Module:
    for key, like in list(made._parameters.items()):
        if like is not None:
            values = _memory()[: like.numel()].reshape(like.shape) / like.numel()
            made._parameters[key] = nn.Parameter(values, requires_grad=False)
    return made.eval()


def _joined(random: np.random.Generator) -> Iterator[ProfileCase]:
    """Yield pairs of a depthwise and a pointwise convolution."""
    made = 0
    while made < JOINED:
        first = _drawn("depthwise", random, thin=False)
        if first is None:
            continue
        filters = int(random.choice(CHANNELS[3:]))
        second = Convolution(first.outputs, first.filters, filters, (1, 1), batch=first.batch)
        if second.multiplications > MOST_MACS / 5:
            continue
        made += 1
        shape = (first.batch, first.channels, *first.space)
        yield ProfileCase(joined_work(first, second), _Pair(first, second), (shape,), first)


@dataclass(frozen=True)
class _Pair:
    first: Convolution
    second: Convolution

    def __call__(self) -> nn.Module:
        return nn.Sequential(convolution_module(self.first), convolution_module(self.second)).eval()


def _products(random: np.random.Generator) -> Iterator[ProfileCase]:
    """Yield linear layers, of few rows as after pooling and of many as in transformers."""
    for at in range(PRODUCTS):
        rows = int(random.choice([1, 1, 4, 16, 49, 64, 196, 256, 1024]))
        summed, columns = (int(random.choice([10, 64, 96, 128, 256, 384, 512, 768, 1000, 1280, 2048])) for _ in range(2))  # fmt: skip
        while rows * summed * columns > MOST_MACS / 5:
            rows //= 2
        macs = rows * summed * columns
        operation = RecordedOperation(
            str(at), "addmm", macs, 4 * rows * summed, 4 * rows * columns, 4 * summed * columns,
            (0,), (1,), ((rows, summed), (summed, columns)), ((rows, columns),),
        )  # fmt: skip
        yield ProfileCase(
            work_of(operation), partial(_linear, summed, columns), ((rows, summed),),
            operation="addmm",
        )  # fmt: skip


def _linear(summed: int, columns: int) -> nn.Module:
    return _with_weights(nn.Linear(summed, columns, device="meta"))


class Applied(nn.Module):
    """Module that calls a function."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        """Call the function."""
        return self.function(*inputs)


@dataclass(frozen=True)
class _Light:
    """An operation without MACs: its name, its module for some channels, and the sizes it relates."""

    name: str
    module: Callable[[int], nn.Module]
    inputs: int = 1
    outputs: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda s: s
    window: int = 1
    second: Callable[[tuple[int, ...]], tuple[int, ...]] = lambda s: s
    written: int = 4  # bytes per result


def _halved(s: tuple[int, ...]) -> tuple[int, ...]:
    return (*s[:2], max(1, s[2] // 2), max(1, s[3] // 2))


LIGHT_KINDS: tuple[_Light, ...] = (
    _Light("relu", lambda c: nn.ReLU()),
    _Light("silu", lambda c: nn.SiLU()),
    _Light("sigmoid", lambda c: nn.Sigmoid()),
    _Light("hardswish", lambda c: nn.Hardswish()),
    _Light("gelu", lambda c: nn.GELU()),
    _Light("add", lambda c: Applied(torch.add), 2),
    _Light("mul", lambda c: Applied(torch.mul), 2, second=lambda s: (*s[:2], 1, 1)),
    _Light("native_batch_norm", nn.BatchNorm2d),
    _Light("native_layer_norm", lambda c: nn.GroupNorm(1, c)),
    _Light("max_pool2d_with_indices", lambda c: nn.MaxPool2d(2), outputs=_halved, window=4, written=12),
    _Light("max_pool2d_with_indices", lambda c: nn.MaxPool2d(3, 2, 1), outputs=_halved, window=9, written=12),
    _Light("avg_pool2d", lambda c: nn.AvgPool2d(2), outputs=_halved, window=4),
    _Light("mean", lambda c: nn.AdaptiveAvgPool2d(1), outputs=lambda s: (*s[:2], 1, 1)),
    _Light("_softmax", lambda c: nn.Softmax(-1)),
    _Light(
        "upsample_nearest2d", lambda c: nn.Upsample(scale_factor=2),
        outputs=lambda s: (*s[:2], 2 * s[2], 2 * s[3]),
    ),
    _Light(
        "upsample_bilinear2d", lambda c: nn.Upsample(scale_factor=2, mode="bilinear"),
        outputs=lambda s: (*s[:2], 2 * s[2], 2 * s[3]),
    ),
    _Light(
        "cat", lambda c: Applied(lambda a, b: torch.cat((a, b), 1)), 2,
        outputs=lambda s: (s[0], 2 * s[1], *s[2:]),
    ),
    _Light(
        "constant_pad_nd", lambda c: Applied(lambda a: functional.pad(a, (0, 1, 0, 1))),
        outputs=lambda s: (*s[:2], s[2] + 1, s[3] + 1),
    ),
)  # fmt: skip


def _light(random: np.random.Generator) -> Iterator[ProfileCase]:
    """Yield operations without MACs, from a few kilobytes to a few megabytes."""
    for kind in LIGHT_KINDS:
        for at in range(LIGHT):
            elements = 2 ** (8 + 14 * (at + random.random()) / LIGHT)
            channels = int(random.choice([c for c in CHANNELS[3:] if c <= elements / 4]))
            size = max(2, int(math.sqrt(elements / channels)))
            shape = (1, channels, size, size)
            second = kind.second(shape)
            given: tuple[tuple[int, ...], ...] = (shape, second)[: kind.inputs]
            out = kind.outputs(shape)
            read = 4 * sum(math.prod(s) for s in given)
            written = kind.written * math.prod(out)
            operation = RecordedOperation(
                "", kind.name, 0, read, written, 0, (0,), (1,), given, (out,),
                window=kind.window,
            )  # fmt: skip
            yield ProfileCase(
                work_of(operation), _Built(kind.module, channels), given, operation=kind.name
            )


@dataclass(frozen=True)
class _Built:
    module: Callable[[int], nn.Module]
    channels: int

    def __call__(self) -> nn.Module:
        made: Any = self.module(self.channels)
        return made.eval()  # type: ignore[no-any-return]
