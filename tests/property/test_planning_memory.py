"""Planning takes little memory and time, whatever the kernel: a property, under a limit.

The limit is on the address space of a process: what it has, 256 MiB and 64 times the kernel. One
process runs all examples, for its imports take longer than they do.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import separable as sep
from separable.borders import registered_borders
from separable.errors import SeparableError
from separable.pattern import filter_pattern

TIMES, MORE = 64, 1 << 28
SECONDS = 10.0  # of CPU, for one plan: some 20 times the slowest seen
DTYPES = ("uint8", "int16", "float16", "float32", "float64", "complex64")
METHODS = ("auto", "direct", "separable", "low-rank", "fft", "overlap", "recursive", "reference")
MODES = [border.name for border in registered_borders()]


@st.composite
def kernels(draw):
    """A kernel of any kind, and how it was made."""
    ndim = draw(st.integers(1, 4))
    most = {1: 20_000, 2: 140, 3: 27, 4: 9}[ndim]
    shape = tuple(draw(st.one_of(st.integers(1, most), st.just(1))) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(sorted(KINDS)))
    kernel = KINDS[kind](shape, rng)
    if isinstance(kernel, np.ndarray):
        if draw(st.integers(0, 5)) == 0:
            kernel = kernel * (1 + 1j * rng.normal(size=shape))
        exponent = draw(st.sampled_from([0, 0, 0, 1, -300, 300, -1000, 900]))
        if exponent:
            kernel = np.ldexp(kernel, exponent) if kernel.dtype.kind == "f" else kernel * 1.0
        if kernel.dtype.kind == "f" and exponent == 0:
            kernel = kernel.astype(draw(st.sampled_from(["f8", "f8", "f4", "f2"])))
    return kind, kernel


def _product(vectors):
    product = vectors[0]
    for vector in vectors[1:]:
        product = np.multiply.outer(product, vector)
    return product


def _bells(shape, rng, widths, order=0):
    vectors = []
    for n in shape:
        x = (np.arange(n) - n // 2) / max(1e-3, n * rng.uniform(*widths))
        vectors.append(np.exp(-0.5 * x**2) * (x if order and n > 1 else 1.0))
    return vectors


def _lowrank(shape, rng):
    return sum(_product([rng.normal(size=n) for n in shape]) for _ in range(3))


KINDS = {
    "constant": lambda shape, rng: np.full(shape, rng.normal()),
    "mean": lambda shape, rng: np.full(shape, 1 / np.prod(shape)),
    "noise": lambda shape, rng: rng.normal(size=shape),
    "whole": lambda shape, rng: rng.integers(-3, 4, shape),
    "lowrank": _lowrank,
    "gaussian": lambda shape, rng: _product(_bells(shape, rng, (0.05, 0.3))),
    "cut": lambda shape, rng: _product(_bells(shape, rng, (0.3, 1e6))),
    "derivative": lambda shape, rng: _product(_bells(shape, rng, (0.05, 3.0), 1)),
    "symmetric": lambda shape, rng: (n := rng.normal(size=shape)) + np.flip(n),
    "sparse": lambda shape, rng: rng.normal(size=shape) * (rng.random(shape) < 0.1),
    "factors": lambda shape, rng: (
        sep.Factors.from_terms(
            filter_pattern(len(shape)),
            [_bells(tuple(2 * n for n in shape), rng, (0.05, 0.3)) for _ in range(2)],
        )
        if len(shape) > 1
        else rng.normal(size=shape)
    ),
}


def _size(kernel) -> int:
    if isinstance(kernel, sep.Factors):
        return sum(a.nbytes for a in kernel.arrays)
    return kernel.nbytes


class Limited:
    """A limit of the address space, beyond what the process has, and of CPU time."""

    def __init__(self, kernel) -> None:
        self.more = TIMES * _size(kernel) + MORE

    def __enter__(self) -> None:
        import resource

        with open("/proc/self/statm") as f:
            taken = int(f.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (taken + self.more, hard))
        self.start = time.process_time()

    def __exit__(self, *error: object) -> None:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        assert time.process_time() - self.start < SECONDS


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kernels(), st.sampled_from(DTYPES), st.sampled_from([None, 1e-6, 1e-3, 0.05, 0.5]),
    st.sampled_from(METHODS), st.sampled_from(MODES), st.sampled_from([1, 7, 128, 5000]),
)  # fmt: skip
@example(("mean", np.full((25, 25), 1 / 625)), "float32", 0.05, "auto", "reflect", 128)
@example(("mean", np.full((15, 25), 1 / 375)), "float32", 0.05, "auto", "reflect", 128)
@example(("mean", np.full((35, 35), 1 / 1225)), "uint8", 0.05, "auto", "wrap", 128)
@example(("mean", np.full((15,) * 3, 15.0**-3)), "float64", 0.05, "direct", "reflect", 128)
@example(("mean", np.full((51,) * 3, 51.0**-3)), "float64", 0.05, "auto", "reflect", 128)
@example(("born", sep.kernels.gaussian(30, ndim=3)), "float32", 0.05, "auto", "reflect", 128)
@example(("born", sep.kernels.gaussian(30, ndim=3)), "uint16", None, "auto", "reflect", 128)
@example(
    ("born", sep.kernels.laplacian_of_gaussian(25, ndim=3)), "float32", 1e-3, "auto", "wrap", 99
)
@example(
    ("long", np.exp(-0.5 * (np.arange(-200_000, 200_001) / 7e4) ** 2)),
    "float32",
    0.01,
    "auto",
    "wrap",
    5000,
)
@example(
    ("line", np.random.default_rng(0).normal(size=(1, 100_000))), "float32", 0.05, "auto", "wrap", 9
)
@example(
    ("flat", np.random.default_rng(0).normal(size=(3, 100, 100))),
    "float32",
    0.05,
    "auto",
    "wrap",
    9,
)
def plans_stay_small(made, dtype, tol, method, mode, size) -> None:
    _, kernel = made
    # a method may not run this, and a kernel may not be finite
    with Limited(kernel), contextlib.suppress(SeparableError):
        sep.plan(kernel, (size,) * len(kernel.shape), dtype, tol=tol, method=method, mode=mode)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(kernels(), st.sampled_from([None, 1e-3, 0.05, 0.5]), st.integers(0, 3))
def decompositions_stay_small(made, tol, which) -> None:
    _, kernel = made
    if isinstance(kernel, sep.Factors) or kernel.ndim == 1:
        return
    letters = filter_pattern(kernel.ndim)
    first, rest = letters[0], letters.partition(" ")[0][1:]
    chain = " -> ".join([letters.partition(" ")[0], f"{first}R,R{rest}"])
    pattern = [letters, chain, f"{letters.partition(' ')[0]} -> {first},{rest}", letters][which]
    with Limited(kernel):
        sep.factorize(kernel, pattern, tol=tol)
        sep.spectrum(kernel, pattern)


def main() -> None:
    """Run the properties; imports and threads of libraries count as what the process has."""
    import tensorly.decomposition  # noqa: F401

    sep.plan(np.random.default_rng(0).normal(size=(40, 40)), (64, 64), "float32", tol=0.05)
    plans_stay_small()
    decompositions_stay_small()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_planning_stays_within_64_times_the_kernel_and_256_mib() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__))], env=environment, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    main()
