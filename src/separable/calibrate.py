"""Measure this computer: run every method on a few problems and fit the seconds of each operation.

The counts that a method reports (`Work.counts`) times the unknown seconds of each kind should equal
the measured times. This is a least-squares problem with non-negative unknowns (Lawson and Hanson,
1974; scipy.optimize.nnls). Every row is divided by its time, so that small problems count as much
as large ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import METHODS, Form, Problem
from separable.engine.availability import available
from separable.engine.thread_count import get_num_threads
from separable.machine import Machine, shipped
from separable.plan import Candidate, plan
from separable.plan.candidates import STORE
from separable.run import run, store
from separable.system import processor_name

__all__ = ["Case", "cases", "measure"]

Array = NDArray[Any]

DTYPES = ("float32", "float64", "uint8", "uint16")
REPEATS = 7
PATIENCE = 0.08  # seconds after which a case is not repeated
QUICK = Machine("none", 1, {})  # predicts nothing: the methods are named one by one


@dataclass(frozen=True)
class Case:
    """A method to time on a problem."""

    method: str
    dtype: str
    shape: tuple[int, ...]
    kernel: tuple[Any, ...]  # (kind, size of each axis...)
    axes: tuple[int, ...]


def cases() -> Iterator[Case]:
    """Yield the cases to measure: small and large images, few and many taps, all axes and dtypes.

    The compiled methods are measured for each data type; the others, whose time hardly depends on
    it, for one or two.
    """
    for dtype in DTYPES:
        yield from _fused_cases(dtype)
        for size in (3, 5, 9, 15):
            yield Case("dense", dtype, (700, 800), ("general", size, size), (0, 1))
        yield Case("dense", dtype, (64, 64), ("general", 5, 5), (0, 1))
        yield Case("dense", dtype, (2000, 2000), ("general", 5, 5), (0, 1))
        yield Case("dense", dtype, (2500, 2500), ("general", 9, 9), (0, 1))
    for dtype in ("float32", "float64"):
        yield from _scipy_cases(dtype)
        yield from _line_cases(dtype)
    yield from _line_cases("uint8")
    transformed = (((64, 64), 9), ((500, 600), 9), ((1000, 1000), 33), ((1500, 1500), 65))
    for method in ("fft", "overlap"):
        for shape, size in transformed:
            yield Case(method, "float32", shape, ("general", size, size), (0, 1))
        yield Case(method, "float32", (64, 100, 100), ("general", 9, 9, 9), (0, 1, 2))


def _scipy_cases(dtype: str) -> Iterator[Case]:
    """Yield the cases for the passes and the dense filter of SciPy."""
    for shape in ((96, 96), (700, 1000)):
        yield Case("passes", dtype, shape, ("even", 9, 9), (0, 1))
    for taps in (3, 31, 101):
        yield Case("passes", dtype, (700, 700), ("even", taps), (0,))
        yield Case("passes", dtype, (700, 700), ("even", taps), (1,))
        yield Case("passes", dtype, (700, 700), ("general", taps), (1,))
    yield Case("passes", dtype, (64, 128, 128), ("general", 7, 7, 7), (0, 1, 2))
    yield Case("passes", dtype, (900, 900), ("rank2", 9, 9), (0, 1))
    yield Case("passes", dtype, (500, 500), ("rank2", 9, 9), (0, 1))
    yield Case("passes", dtype, (40, 60, 60), ("partial", 5, 5, 5), (0, 1, 2))
    for size in (3, 5, 9, 15):
        yield Case("correlate", dtype, (250, 250), ("general", size, size), (0, 1))
    yield Case("correlate", dtype, (64, 64), ("general", 5, 5), (0, 1))
    yield Case("correlate", dtype, (40, 60, 60), ("general", 3, 3, 3), (0, 1, 2))


def _fused_cases(dtype: str) -> Iterator[Case]:
    """Yield the cases for the compiled separable filters."""
    for shape in ((64, 64), (300, 300), (1000, 1000), (2500, 2500)):
        for kind, taps in (("even", 3), ("even", 17), ("general", 31), ("even", 101)):
            if shape[0] < 2500 or taps < 30:
                yield Case("fused", dtype, shape, (kind, taps, taps), (0, 1))
    for taps in (51, 241):
        yield Case("fused", dtype, (600, 600), ("even", taps, taps), (0, 1))
        yield Case("fused", dtype, (1500, 1500), ("even", taps, taps), (0, 1))
    for axis in (0, 1):
        yield Case("fused", dtype, (1500, 1500), ("even", 17), (axis,))
        yield Case("fused", dtype, (1500, 1500), ("general", 5), (axis,))
    yield Case("fused", dtype, (1200, 1200), ("rank2", 21, 21), (0, 1))
    yield Case("fused", dtype, (300, 300), ("rank2", 9, 9), (0, 1))
    yield Case("fused", dtype, (300, 300), ("full", 10, 31), (0, 1))
    yield Case("fused", dtype, (1000, 1000), ("full", 10, 31), (0, 1))
    for volume in ((40, 60, 60), (100, 160, 160)):
        yield Case("fused", dtype, volume, ("even", 17, 17, 17), (0, 1, 2))
        yield Case("fused", dtype, volume, ("general", 5, 5, 5), (0, 1, 2))
        yield Case("nested", dtype, volume, ("full", 5, 3, 7), (0, 1, 2))
        yield Case("nested", dtype, volume, ("partial", 5, 5, 5), (0, 1, 2))
    yield Case("nested", dtype, (40, 60, 60), ("full", 3, 3, 3), (0, 1, 2))
    yield Case("nested", dtype, (20, 300, 300), ("full", 3, 9, 9), (0, 1, 2))


def _line_cases(dtype: str) -> Iterator[Case]:
    """Yield the cases for box filters and recursive filters."""
    for size in (64, 300, 1000, 2500):
        yield Case("box", dtype, (size, size), ("box", 51, 51), (0, 1))
        yield Case("recursive", dtype, (size, size), ("gaussian", 8, 8), (0, 1))
    yield Case("box", dtype, (1500, 1500), ("box", 9), (1,))
    yield Case("box", dtype, (60, 100, 100), ("box", 15, 15, 15), (0, 1, 2))
    yield Case("recursive", dtype, (1500, 1500), ("gaussian", 20), (1,))
    yield Case("recursive", dtype, (60, 100, 100), ("gaussian", 6, 6, 6), (0, 1, 2))


def measure(progress: Callable[[float], None] | None = None) -> Machine:
    """Measure this computer, in under 20 seconds.

    Without the compiled engine, its methods keep the rates in the package, so that they can be
    chosen once the engine is installed.

    Parameters
    ----------
    progress : callable, optional
        Called with the fraction of the work just done.

    Returns
    -------
    Machine
    """
    listed = [case for case in cases() if available() or not METHODS[case.method].plain]
    threads = get_num_threads()
    rows: dict[tuple[str, str], list[tuple[dict[str, float], float]]] = {}
    for case in listed:
        counts, seconds = _time_case(case)
        rows.setdefault((case.method, case.dtype), []).append((counts, seconds))
        if progress:
            progress(0.97 / len(listed))
    rates: dict[str, dict[str, dict[str, float]]] = {}
    if not available():
        known = shipped().to_dict()["rates"]
        rates = {name: known[name] for name, m in METHODS.items() if m.plain and name in known}
    for (method, dtype), measured in rows.items():
        rates.setdefault(method, {})[dtype] = _fit(measured)
    rates[STORE] = {dtype: _time_store(dtype) for dtype in DTYPES}
    if progress:
        progress(0.03)
    name = f"{processor_name()}, {threads} threads, {time.strftime('%Y-%m-%d')}"
    return Machine(name, threads, rates)


def _time_case(case: Case) -> tuple[dict[str, float], float]:
    """Return the counts of a case and its time, the best of a few runs."""
    problem, form, image = _prepare(case)
    method = METHODS[case.method]
    out = np.empty(problem.shape, problem.out)
    best, spent = np.inf, 0.0
    for turn in range(REPEATS + 1):
        start = time.perf_counter()
        run(problem, method, form, image, out)
        took = time.perf_counter() - start
        if turn:
            best, spent = min(best, took), spent + took
            if spent > PATIENCE:
                break
    return method.work(problem, form).counts, best


def _prepare(case: Case) -> tuple[Problem, Form, Array]:
    """Return a problem whose result needs no conversion, the form of its kernel and an image."""
    rng = np.random.default_rng(0)
    image = (rng.random(case.shape) * 100).astype(case.dtype)
    chosen = _candidate(case, _kernel(case.kernel, rng))
    made, candidate = chosen
    assert candidate.form is not None
    if not METHODS[case.method].stores(made.out):
        made = replace(made, out=made.work)
    return made, candidate.form, image


def _candidate(case: Case, kernel: Array) -> tuple[Problem, Candidate]:
    name = "partial" if case.kernel[0] == "partial" else case.method
    tol = 0.01 if case.method == "recursive" else None
    made = plan(kernel, case.shape, case.dtype, axes=case.axes, method=name, machine=QUICK, tol=tol)
    return made.problem, made.chosen


def _kernel(kind: tuple[Any, ...], rng: np.random.Generator) -> Array:
    """Return a kernel of the given kind, whose absolute weights sum to 1 for most kinds."""
    name, *sizes = kind
    if name == "full":
        return np.asarray(rng.random(sizes))
    if name == "partial":
        return np.asarray(np.multiply.outer(rng.random(sizes[0]), rng.random(sizes[1:])))
    kernel: Any = np.ones(())
    if name in ("box", "gaussian"):
        for n in sizes:
            line = np.ones(n) if name == "box" else _bell(n)
            kernel = np.multiply.outer(kernel, line / line.sum())
        return np.asarray(kernel)
    for n in sizes:
        taps = rng.random(n) + 0.1
        kernel = np.multiply.outer(kernel, taps + taps[::-1] if name == "even" else taps)
    if name == "rank2":
        kernel = kernel + np.multiply.outer(rng.random(sizes[0]), rng.random(sizes[1]))
    normalised: Array = np.asarray(kernel / np.sum(np.abs(kernel)))
    return normalised


def _bell(sigma: int) -> Array:
    """Return a sampled Gaussian, truncated at four sigma."""
    return np.asarray(np.exp(-0.5 * (np.arange(-4 * sigma, 4 * sigma + 1) / sigma) ** 2))


def _fit(measured: list[tuple[dict[str, float], float]]) -> dict[str, float]:
    """Return the seconds of each kind of operation, fitted by relative least squares."""
    from scipy.optimize import nnls  # start-up time

    kinds = sorted({k for counts, _ in measured for k, v in counts.items() if v})
    matrix = np.array([[counts.get(k, 0.0) for k in kinds] for counts, _ in measured])
    times = np.array([seconds for _, seconds in measured])
    matrix /= times[:, None]
    scale = matrix.max(axis=0)
    solution, _ = nnls(matrix / scale, np.ones(len(times)))
    return {k: float(f"{s:.4g}") for k, s in zip(kinds, solution / scale, strict=True)}


def _time_store(dtype: str) -> dict[str, float]:
    """Return the seconds to round and convert one output."""
    kind = np.dtype(dtype)
    values = np.random.default_rng(0).random((1000, 2000)).astype(np.float32) * 300
    if kind.kind == "f":
        values = values.astype(np.float64 if kind.itemsize == 4 else np.float32)
    out = np.empty(values.shape, kind)
    best = np.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        store(values, out, get_num_threads())
        best = min(best, time.perf_counter() - start)
    return {"element": float(f"{best / out.size:.4g}")}
