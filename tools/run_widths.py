"""Run the tests of the compiled engine once per width of vectors: 128, 256 and 512 bits.

    python tools/run_widths.py                 # every width that this processor has (`make test-widths`)
    python tools/run_widths.py --long          # 10,000 random filters per test (`make test-widths-long`)
    python tools/run_widths.py --widths 256 -x # one width; other options go to pytest
    python tools/run_widths.py --after-test    # without what `make test` runs: the width of this processor

On x86-64, 128 bits stand for a processor with SSE4.2 (no multiply-add, no float16 instructions) and 256 bits for one
with AVX2 (no AVX-512): the kernels are compiled for exactly these. The tests of short vectors run once
more with every instruction of this processor, because ARM has multiply-add and float16 in 128 bits.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).parents[1]
ENGINE = ("tests/compiled", "tests/test_engine.py", "tests/nn/test_fused.py")
LAYERS = tuple(
    f"tests/nn/test_{name}.py"
    for name in ("activations", "channels_first", "dense_conv", "depth_multipliers", "edge_tiles", "elementwise_steps", "inverted_residual",
                 "layer_residuals", "linear_steps", "norm_training", "pooling_steps", "programs", "split_depthwise",
                 "step_memory", "winograd")
)  # fmt: skip
SHORT = ("tests/compiled/test_compiled_simd.py", "tests/compiled/test_compiled_filters.py")
QUICK = ("-n", "2", "--dist", "worksteal", "-m", "not long")
RANDOM = (*ENGINE, "tests/property/test_filter_properties.py")
# What is compiled, kept and shared out is the same for every width.
INDEPENDENT = (
    "--ignore",
    "tests/compiled/test_compiled_cache.py",
    "--ignore",
    "tests/compiled/test_work_items.py",
)
LONG = ("-m", "long", "--timeout", "7200", "--hypothesis-profile", "long")


@dataclass(frozen=True)
class Run:
    """Tests on one kind of processor."""

    bits: int
    processor: str
    tests: tuple[str, ...] = ENGINE
    variables: dict[str, str] = field(default_factory=dict)

    def failed(self, options: list[str]) -> bool:
        """Run the tests with options of pytest, and return whether one of them failed."""
        print(f"\n{self.bits} bits, {self.processor}", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", *options, *self.tests]
        variables = {"SEPARABLE_VECTOR_BITS": str(self.bits), **self.variables}
        done = subprocess.run(command, cwd=HOME, env={**os.environ, **variables})
        print(f"{self.bits} bits: {time.monotonic() - start:.0f} s", flush=True)
        return done.returncode != 0


def compiled_for(name: str, features: str) -> dict[str, str]:
    """Return the variables with which Numba compiles for an older processor."""
    return {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}


SSE = compiled_for("x86-64", "+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt")
AVX2 = compiled_for("haswell", "+sse4.2,+avx,+avx2,+f16c,+fma,+bmi,+bmi2,+popcnt")


def runs(tests: tuple[str, ...]) -> list[Run]:
    """Return what is run, narrow vectors first."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return [Run(bits, "width forced", tests) for bits in (128, 256, 512)]
    return [
        Run(128, "SSE4.2", tests, SSE),
        Run(128, "all instructions of this processor", SHORT),
        Run(256, "AVX2", tests, AVX2),
        Run(512, "AVX-512", tests),
    ]


def widest_here() -> int:
    """Return the number of bits of the vectors that the engine uses on this processor."""
    code = "from separable.engine.compiled.jit import vector_bits; print(vector_bits())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


def main() -> int:
    """Run the tests of each width, also after a failure; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=(128, 256, 512))
    parser.add_argument("--long", action="store_true", help="10,000 random filters per test")
    parser.add_argument(
        "--after-test",
        action="store_true",
        help="of the width that `make test` has run, run only what it leaves out",
    )
    asked, more = parser.parse_known_args()
    options = [*(LONG if asked.long else QUICK), *more]
    widest, failed = widest_here(), []
    for run in runs(RANDOM if asked.long else (*ENGINE, *LAYERS)):
        if (asked.long and run.tests == SHORT) or run.bits not in asked.widths:
            continue
        if run.bits > widest:
            print(f"\n{run.bits} bits are left out: this processor has vectors of {widest} bits")
            continue
        extra: tuple[str, ...] = () if run.bits == widest else INDEPENDENT
        if asked.after_test and not asked.long and run.bits == widest and not run.variables:
            extra = ("-m", "widths and not long")  # what `make test` leaves out
        if run.failed([*options, *extra]):
            failed.append(run.bits)
    if failed:
        print(f"\ntests failed with vectors of {', '.join(map(str, failed))} bits")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
