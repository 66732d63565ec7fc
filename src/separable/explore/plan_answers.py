"""Plan of a filter as rows of a table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from separable.borders import Mode
from separable.errors import SeparableError
from separable.explore.curve_answers import roof
from separable.explore.kernel_answers import Chosen
from separable.explore.limits import InputError
from separable.plan import Plan, plan

__all__ = ["plan_rows"]

MEASURED_SIZE = 1 << 24  # largest number of samples of the noise image used for timing
MEASURED_SECONDS = 3.0  # largest predicted time of all methods together
DTYPES = ("uint8", "uint16", "float32", "float64")


def plan_rows(
    chosen: Chosen, shape: Any, dtype: Any, mode: Mode, tol: Any, *, measure: bool
) -> dict[str, Any]:
    """Plan a filter for an image shape; with `measure`, time the methods on noise."""
    if dtype not in DTYPES:
        raise InputError(f"`dtype` must be one of {', '.join(DTYPES)}; got {dtype!r}")
    try:
        sizes = tuple(int(n) for n in shape)
        allowed = None if tol in (None, "", 0) else float(tol)
    except (TypeError, ValueError):
        raise InputError(
            f"`shape` must be whole numbers, `tol` a number; got {shape!r}, {tol!r}"
        ) from None
    if len(sizes) != chosen.values.ndim or not all(1 <= n <= 1 << 20 for n in sizes):
        raise InputError(
            f"the image must have {chosen.values.ndim} sizes, each 1 .. 1048576; got {shape!r}"
        )
    filter_plan = plan(
        chosen.values, sizes, dtype, mode=mode, tol=allowed, operation=chosen.operation
    )
    found = _rows(filter_plan)
    found["roof"] = roof(filter_plan.problem.threads)
    if measure:
        found["measured"], found["note"] = _measured(filter_plan)
    return found


def _rows(filter_plan: Plan) -> dict[str, Any]:
    rows = [
        {
            "name": c.name,
            "title": c.title,
            "explanation": c.explanation,
            "chosen": c is filter_plan.chosen,
            "passes": c.passes,
            "multiplications": _finite(c.multiplications),
            "bytes": _finite(c.bytes),
            "seconds": _finite(c.seconds),
            "bound": _finite(c.bound),
            "refused": c.refused,
        }
        for c in filter_plan.candidates
    ]
    return {
        "rows": rows,
        "machine": filter_plan.machine,
        "threads": filter_plan.problem.threads,
        "text": str(filter_plan),
    }


def _finite(value: float) -> float | None:
    """Return a number, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def _measured(filter_plan: Plan) -> tuple[dict[str, float], str]:
    size = math.prod(filter_plan.problem.shape)
    running = [c for c in filter_plan.candidates if not c.refused and c.form is not None]
    predicted = sum(c.seconds for c in running)
    if size > MEASURED_SIZE or 2 * predicted > MEASURED_SECONDS:
        return {}, (
            f"Not measured: it would take about {2 * predicted:.1f} s. Choose a smaller image"
        )
    noise = np.random.default_rng(0).random(filter_plan.problem.shape)
    image = (noise * 200).astype(filter_plan.problem.dtype)
    try:
        result = filter_plan.measure(image, repeats=1)
    except SeparableError as error:
        return {}, str(error)
    return {c.name: s for c, s in zip(result.candidates, result.seconds, strict=True)}, ""
