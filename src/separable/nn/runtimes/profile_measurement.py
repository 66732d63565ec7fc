"""Measurement of a `LayerProfile`: every runtime runs the same cases, and rates are fitted to their times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import date

import torch
from torch import nn

from separable.errors import MachineError
from separable.machine import known_primitives
from separable.nn.runtimes.eager_runtime import warmed
from separable.nn.runtimes.known_runtimes import RUNTIMES
from separable.nn.runtimes.profile_cases import ProfileCase, profile_cases
from separable.nn.runtimes.runtime import Runtime
from separable.nn.step_times.layer_profile import LayerProfile
from separable.nn.step_times.time_model import TimeModel
from separable.system import processor_name

__all__ = ["measured_profile"]

FEWEST = 5
"""Fewest cases of a kind to fit a model to."""


def measured_profile(
    progress: Callable[[float], None] | None = None, share: float = 1.0
) -> LayerProfile:
    """Measure this computer, in at most a minute.

    Parameters
    ----------
    progress : callable, optional
        Called with the fraction of the work just done.
    share : float
        Part of the usual time to take; 1 gives the best profile.

    Raises
    ------
    MachineError
        If no runtime could be measured.
    """
    runtimes = [r for r in RUNTIMES.values() if not r.why_not()]
    cases = profile_cases()
    models, calls = {}, {}
    with torch.no_grad():
        warmed()
        for runtime in runtimes:
            times = runtime.measure(cases, share * runtime.profile_seconds)
            found = _fitted(cases, times)
            if found:
                models[runtime.name] = found
                calls[runtime.name] = _call(runtime)
            if progress is not None:
                progress(1 / len(runtimes))
    if not models:
        raise MachineError("no runtime could be measured on this computer")
    processor = processor_name()
    return LayerProfile(
        f"{processor}, {date.today().isoformat()}", torch.get_num_threads(), models, calls,
        processor=processor, primitives=known_primitives(),
    )  # fmt: skip


def _fitted(cases: Sequence[ProfileCase], times: Sequence[float]) -> dict[str, TimeModel]:
    """Fit a model to each kind of step."""
    known = [(c.work, t) for c, t in zip(cases, times, strict=True) if math.isfinite(t) and t > 0]
    found = {}
    for kind in sorted({work.kind for work, _ in known}):
        own = [(work, t) for work, t in known if work.kind == kind]
        if len(own) >= FEWEST:
            found[kind] = TimeModel.fitted([w for w, _ in own], [t for _, t in own])
    return found


def _call(runtime: Runtime) -> float:
    """Return the shortest time of a call of a network that computes next to nothing."""
    run = runtime.prepared(nn.Sequential(nn.ReLU()).eval(), [torch.rand(1, 4, 2, 2)])
    best, begun = math.inf, time.perf_counter()
    while time.perf_counter() - begun < 0.05:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
