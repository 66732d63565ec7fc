"""Check, then measure, the kernels on a GPU; at most eight minutes.

    python benchmarks/gpu.py                               on a machine with an NVIDIA GPU
    TRITON_INTERPRET=1 python benchmarks/gpu.py --toy      tiny sizes in Triton's interpreter, without times

Each work is checked against float64 first; nothing is measured that is wrong. Times are medians of CUDA events of
interleaved runs; cuDNN chooses its best algorithm (`torch.backends.cudnn.benchmark`). A copy of 1 GiB gives the rate of
memory from which the floor of each work follows.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from unittest import mock

import gpu_filters
import gpu_layers
import torch

from separable.gpu import interpreting, why_not_served
from separable.gpu.kernel_launch import recorded
from separable.gpu.tuned_tiles import device_of, keep_device
from separable.nn.fused import packed_layer

SECONDS = 5 * 60  # for layers; filters take the rest of the eight minutes
REPEATS = 9


def events(run: Callable[[], object]) -> float:
    """Return the seconds of one run by CUDA events."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3


def is_ready(name: str, run: Callable[[], object]) -> bool:
    """Run three times, so that all is compiled and chosen; print why if that is impossible."""
    try:
        for _ in range(3):
            run()
        torch.cuda.synchronize()
    except Exception as error:
        print(f"    {name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
        return False
    return True


def medians(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median of interleaved runs of each; what cannot run is left out and named."""
    ready: dict[str, list[float]] = {name: [] for name, run in runs.items() if is_ready(name, run)}
    for _ in range(REPEATS):
        for name, seconds in ready.items():
            seconds.append(events(runs[name]))
    return {name: statistics.median(seconds) for name, seconds in ready.items()}


def copy_rate() -> float:
    """Return bytes per second of a copy on the device, counting reads and writes."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / medians({"copy": lambda: target.copy_(source)})["copy"]


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Run layers of tensors on the CPU by the kernels for GPUs, not by those for CPUs."""
    with interpreting(), mock.patch.object(packed_layer, "available", return_value=False):
        yield


def check(work: gpu_layers.LayerWork, device: str) -> bool:
    """Check a work in both layouts, print the errors, and return whether they pass and kernels were run."""
    errors = []
    for last in (False, True):
        with recorded() as launches:
            errors.append(gpu_layers.error_of(work, device, last=last))
        if not launches:
            print(f"{work.title}: PyTorch ran it, and no kernel")
            return False
    good = max(errors) <= gpu_layers.ERRORS[work.dtype]
    print(
        f"{work.title}: error {max(errors):.1e} of the largest value{'' if good else ', TOO LARGE'}"
    )
    return good


def measure(work: gpu_layers.LayerWork, rate: float) -> None:
    """Measure a work and print one line per candidate."""
    times = medians(gpu_layers.candidates(work, "cuda"))
    floor = work.floor_bytes / rate
    best = {
        k: min((t for n, t in times.items() if n.startswith(k)), default=float("nan"))
        for k in ("ours", "eager")
    }
    for name, seconds in times.items():
        print(f"    {name:18} {seconds * 1e3:9.3f} ms   {seconds / floor:6.2f} x floor")
    print(f"    eager / ours {best['eager'] / best['ours']:.2f} (target {work.target})")


def kept_rate(where: torch.device) -> float:
    """Measure the rate of memory, keep it for predictions on this computer, and return it."""
    rate = copy_rate()
    print(f"copy: {rate / 1e9:.0f} GB/s")
    keep_device(device_of(where).measured(memory_rate=rate))
    return rate


def run_layers(toy: bool, rate: float) -> int:
    """Check and measure all layers; return 1 if a result is wrong."""
    begun, good = time.monotonic(), True
    with interpreted() if toy else contextlib.nullcontext():
        for work in gpu_layers.works():
            good &= check(work.toy() if toy else work, "cpu" if toy else "cuda")
    if toy or not good:
        return int(not good)
    for work in gpu_layers.works():
        if time.monotonic() - begun > SECONDS:
            print(f"{work.title}: not measured, the time for layers is over")
            continue
        print(f"{work.title}, {str(work.dtype).removeprefix('torch.')}")
        measure(work, rate)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run all checks and measurements; return 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description="Check and measure the GPU kernels.")
    parser.add_argument(
        "--toy", action="store_true", help="tiny sizes in Triton's interpreter, no times"
    )
    parser.add_argument("--only", choices=("layers", "filters"), help="one of the two halves")
    options = parser.parse_args(arguments)
    if not options.toy:
        probe = torch.zeros(1, device="cuda") if torch.cuda.is_available() else torch.zeros(1)
        reason = why_not_served(probe)
        if reason:
            print(f"benchmarks/gpu.py: {reason}. Without a GPU: TRITON_INTERPRET=1 python benchmarks/gpu.py --toy",
                  file=sys.stderr)  # fmt: skip
            return 2
        print(
            f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"
        )
    torch.backends.cudnn.benchmark = True
    rate = 0.0 if options.toy else kept_rate(torch.device("cuda", torch.cuda.current_device()))
    wrong = 0 if options.only == "filters" else run_layers(options.toy, rate)
    if options.only != "layers":
        wrong |= gpu_filters.run_filters(options.toy)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
