"""Measure this computer: run every method on a few problems and fit the seconds of each operation.

The counts that a method reports (`WorkEstimate.counts`) times the unknown seconds of each kind should equal
the measured times. This is a least-squares problem with non-negative unknowns (Lawson and Hanson,
1974; scipy.optimize.nnls). Every row is divided by its time, so that small problems count as much
as large ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import METHODS, Decomposition, Problem
from separable.engine.availability import EngineError, compiling
from separable.engine.method import CalibrationCase as Case
from separable.engine.thread_count import get_num_threads
from separable.kernels import ball
from separable.machine import (
    Machine,
    Primitives,
    current,
    measure_with_numpy,
    thread_clock,
    vector_bits,
)
from separable.plan import Candidate, plan
from separable.plan.candidates import STORE
from separable.run import run, store
from separable.system import processor_name

__all__ = ["Case", "cases", "measure"]

Array = NDArray[Any]

DTYPES = ("float32", "float64", "uint8", "uint16")
REPEATS = 7
PATIENCE = 0.08  # seconds after which a case is not repeated
STORE_SCALES = {"element": "convert"}
QUICK = Machine("none", 1, {})  # predicts nothing: the methods are named one by one


def cases() -> Iterator[Case]:
    """Yield the problems that are measured: the cases that each method names.

    The compiled methods are measured for each data type; the others, whose time hardly depends on
    it, for one or two.
    """
    for method in METHODS.values():
        yield from method.calibration_cases()


def measure(progress: Callable[[float], None] | None = None, rounds: int = 1) -> Machine:
    """Measure this computer, in under 20 seconds.

    Without the compiled engine, its methods keep the rates that plans use now, so that they can be
    chosen once the engine is installed.

    Parameters
    ----------
    progress : callable, optional
        Called with the fraction of the work just done.
    rounds : int
        How often everything is measured; the shortest times count. More than one helps on a busy computer.

    Returns
    -------
    Machine
    """
    listed = [case for case in cases() if not METHODS[case.method].unavailable()]
    threads, share = get_num_threads(), 0.97 / (rounds * len(listed))
    counts: dict[int, dict[str, float]] = {}
    times = [np.inf] * len(listed)
    primitives = Primitives()
    for _ in range(rounds):
        for number, case in enumerate(listed):
            counts[number], seconds = _time_case(case)
            times[number] = min(times[number], seconds)
            if progress:
                progress(share)
        primitives = primitives.fastest(_primitives())
    rates = _rates_of(listed, counts, times)
    rates[STORE] = {dtype: _time_store(dtype) for dtype in DTYPES}
    if progress:
        progress(0.03)
    scales = {name: dict(m.scales_with) for name, m in METHODS.items() if m.scales_with}
    return Machine(
        name=f"{processor_name()}, {threads} threads, {time.strftime('%Y-%m-%d')}",
        threads=threads,
        rates=rates,
        primitives=primitives,
        scales=scales | {STORE: STORE_SCALES},
        vector_bits=vector_bits(),
        processor=processor_name(),
    )


def _rates_of(
    listed: list[Case], counts: dict[int, dict[str, float]], times: list[float]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the rates of each method and data type, those in use for methods that cannot be run here."""
    rows: dict[tuple[str, str], list[tuple[dict[str, float], float]]] = {}
    for number, case in enumerate(listed):
        rows.setdefault((case.method, case.dtype), []).append((counts[number], times[number]))
    rates: dict[str, dict[str, dict[str, float]]] = {}
    known = current().to_dict()["rates"]
    for name, method in METHODS.items():
        if method.unavailable() and name in known:
            rates[name] = known[name]
    for (name, dtype), measured in rows.items():
        rates.setdefault(name, {})[dtype] = _fit(measured)
    return rates


def _primitives() -> Primitives:
    """Measure the primitives of this computer, without those of the engine if it cannot be used."""
    found = measure_with_numpy()
    try:
        with compiling:
            from separable.engine.compiled import processor_speed
    except EngineError:
        return found
    return found.with_compiled(processor_speed.measure())


def _time_case(case: Case) -> tuple[dict[str, float], float]:
    """Return the counts of a case and its time, the best of a few runs."""
    problem, form, image = _prepare(case)
    method = METHODS[case.method]
    out = np.empty(problem.shape, problem.out)
    clock = thread_clock() if problem.threads == 1 else time.perf_counter
    best, spent = np.inf, 0.0
    for turn in range(REPEATS + 1):
        start = clock()
        run(problem, method, form, image, out)
        took = clock() - start
        if turn:
            best, spent = min(best, took), spent + took
            if spent > PATIENCE:
                break
    return method.timed_counts(problem, form), best


def _prepare(case: Case) -> tuple[Problem, Decomposition, Array]:
    """Return a problem whose result needs no conversion, the decomposition of its kernel and an image."""
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
    tol = 0.01 if case.kernel[0] == "gaussian" else None
    made = plan(kernel, case.shape, case.dtype, axes=case.axes, method=name, machine=QUICK, tol=tol)
    return made.problem, made.chosen


def _kernel(kind: tuple[Any, ...], rng: np.random.Generator) -> Array:
    """Return a kernel of the given kind, whose absolute weights sum to 1 for most kinds."""
    name, *sizes = kind
    if name == "ball":
        return np.asarray(ball(sizes[0]), np.float64)
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
    threads = get_num_threads()
    clock, best = thread_clock() if threads == 1 else time.perf_counter, np.inf
    for _ in range(REPEATS):
        start = clock()
        store(values, out, threads)
        best = min(best, clock() - start)
    return {"element": float(f"{best / out.size:.4g}")}
