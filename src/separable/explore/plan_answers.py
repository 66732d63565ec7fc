"""The plan of a filter as rows of a table."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from separable.borders import Mode
from separable.errors import SeparableError
from separable.explore.kernel_answers import Chosen
from separable.explore.limits import InputError
from separable.plan import Plan, plan

__all__ = ["plan_rows"]

MEASURED_SIZE = 1 << 24  # samples of an image that is made up to measure on
MEASURED_SECONDS = 3.0  # of all candidates together, predicted
DTYPES = ("uint8", "uint16", "float32", "float64")


def plan_rows(
    chosen: Chosen, shape: Any, dtype: Any, mode: Mode, tol: Any, *, measure: bool
) -> dict[str, Any]:
    """Plan a filter on images of a shape; measure the candidates on noise if asked."""
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
    made = plan(chosen.values, sizes, dtype, mode=mode, tol=allowed, operation=chosen.operation)
    found = _rows(made)
    if measure:
        found["measured"], found["note"] = _measured(made)
    return found


def _rows(made: Plan) -> dict[str, Any]:
    rows = [
        {
            "name": c.name,
            "title": c.title,
            "explanation": c.explanation,
            "chosen": c is made.chosen,
            "passes": c.passes,
            "multiplications": _finite(c.multiplications),
            "bytes": _finite(c.bytes),
            "seconds": _finite(c.seconds),
            "bound": _finite(c.bound),
            "refused": c.refused,
        }
        for c in made.candidates
    ]
    return {
        "rows": rows,
        "machine": made.machine,
        "threads": made.problem.threads,
        "text": str(made),
    }


def _finite(value: float) -> float | None:
    """JSON knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def _measured(made: Plan) -> tuple[dict[str, float], str]:
    size = math.prod(made.problem.shape)
    running = [c for c in made.candidates if not c.refused and c.form is not None]
    predicted = sum(c.seconds for c in running)
    if size > MEASURED_SIZE or 2 * predicted > MEASURED_SECONDS:
        return {}, (
            f"Not measured: that would take about {2 * predicted:.1f} s. "
            "Use `separable plan` for it, or a smaller image"
        )
    noise = np.random.default_rng(0).random(made.problem.shape)
    image = (noise * 200).astype(made.problem.dtype)
    try:
        result = made.measure(image, repeats=1)
    except SeparableError as error:
        return {}, str(error)
    return {c.name: s for c, s in zip(result.candidates, result.seconds, strict=True)}, ""
