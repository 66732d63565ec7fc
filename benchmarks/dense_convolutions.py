"""Dense convolutions by the compiled kernels beside PyTorch in both layouts, float32, batch 1.

Prints microseconds (the best of many interleaved calls), billions of multiply-adds per second of the direct kernel,
and errors relative to the largest output in float64. One thread is timed by its CPU time, which does not count
other programs; more threads by wall time. Limit the instructions as for the other benchmarks:

    python benchmarks/dense_convolutions.py --threads 1
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx,+avx2,+f16c,+fma SEPARABLE_CACHE_DIR=/tmp/avx2 \
        ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/dense_convolutions.py
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from separable.nn.fused.dense_layer import ConvSettings, PackedConvolution

CALLS = (functional.conv1d, functional.conv2d, functional.conv3d)
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class Case(NamedTuple):
    """Sizes of one convolution; the padding keeps the size, divided by the stride."""

    channels: int
    outputs: int
    kernel: tuple[int, ...]
    size: tuple[int, ...]
    stride: int = 1


CASES = [
    Case(64, 64, (3, 3), (56, 56)),
    Case(128, 128, (3, 3), (28, 28)),
    Case(256, 256, (3, 3), (14, 14)),
    Case(512, 512, (3, 3), (7, 7)),
    Case(32, 32, (3, 3), (28, 28)),
    Case(3, 64, (7, 7), (224, 224), 2),
    Case(3, 32, (3, 3), (224, 224), 2),
    Case(64, 128, (3, 3), (56, 56), 2),
    Case(256, 512, (1, 1), (56, 56), 2),
    Case(64, 64, (1, 3), (56, 56)),
    Case(128, 128, (3, 1), (28, 28)),
    Case(48, 64, (5, 5), (35, 35)),
    Case(16, 32, (3, 3, 3), (32, 32, 32)),
    Case(64, 64, (9,), (512,)),
]


def timed(calls: dict[str, Callable[[], Any]], threads: int, rounds: int) -> dict[str, float]:
    """Return the shortest time of each call in seconds, of interleaved rounds."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    best = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            call()
            best[name] = min(best[name], clock() - start)
    return best


def measure(case: Case, threads: int, rounds: int) -> str:
    """Return one line of the table."""
    torch.manual_seed(0)
    ndim = len(case.size)
    weight = torch.randn(case.outputs, case.channels, *case.kernel)
    weight /= weight[0].numel() ** 0.5
    bias, x = torch.randn(case.outputs), torch.randn(1, case.channels, *case.size)
    padding = tuple(k // 2 for k in case.kernel)
    own = ConvSettings((case.stride,) * ndim, tuple(p for p in padding for _ in "ab"), (1,) * ndim)
    layers = {e: PackedConvolution(weight, bias, 0, own, exact=e) for e in (True, False)}

    def torch_call(x: Tensor, weight: Tensor) -> Tensor:
        made: Tensor = CALLS[ndim - 1](x, weight, bias.to(x.dtype), case.stride, padding)
        return made

    last = x.movedim(1, -1).contiguous().movedim(-1, 1)
    given = x if case.channels <= 3 else last
    calls: dict[str, Callable[[], Any]] = {"first": lambda: torch_call(x, weight)}
    if ndim > 1:
        turned = weight.contiguous(memory_format=LAYOUTS[ndim + 2])
        calls["last"] = lambda: torch_call(last, turned)
    calls["direct"], calls["ours"] = lambda: layers[True](given), lambda: layers[False](given)
    with torch.inference_mode():
        exact = torch_call(x.double(), weight.double())
        errors = [
            float((layers[e](given) - exact).abs().max() / exact.abs().max()) for e in (True, False)
        ]
        seconds = timed(calls, threads, rounds)
    rate = exact.numel() * weight[0].numel() / seconds["direct"] / 1e9
    torch_best = min(seconds["first"], seconds.get("last", math.inf))
    name = f"{case.channels} -> {case.outputs}, {'x'.join(map(str, case.kernel))} / {case.stride}, {'x'.join(map(str, case.size))}"
    times = " ".join(
        f"{seconds[n] * 1e6:9.0f}" if n in seconds else " " * 9
        for n in ("first", "last", "direct", "ours")
    )
    return f"{name:34} {times} {torch_best / seconds['ours']:7.2f} {rate:8.1f}  {errors[0]:.1e} {errors[1]:.1e}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=30, help="interleaved calls of each")
    parser.add_argument("--cases", type=int, default=len(CASES), help="number of convolutions")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.threads} threads, microseconds; direct: without Winograd's filtering")
    print(f"{'convolution':34}   torch, channels                  torch /  direct,   error of")
    print(f"{'':34}     first      last    direct      ours    ours  G per s  direct  ours")
    for case in CASES[: given.cases]:
        print(measure(case, given.threads, given.rounds), flush=True)


if __name__ == "__main__":
    main()
