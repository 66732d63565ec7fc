"""The registry of methods: a new one is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import dense, direct, fourier, fused, lines, overlap, passes, reference
from separable.engine.base import Form, Problem, Work

__all__ = ["METHODS", "Method"]

Array = NDArray[Any]
Tick = Callable[[float], None]


def _only_the_work_type(_: np.dtype[Any]) -> bool:
    return False


@dataclass(frozen=True)
class Method:
    """One way to run a filter.

    Attributes
    ----------
    name, title : str
        For programs and for people.
    refuse : callable
        (problem, form) -> why it cannot run this, or "".
    work : callable
        (problem, form) -> Work.
    run : callable
        (problem, form, image, target, tick): fill `target` (of the work type or one that it
        stores, not overlapping the image); call `tick` with the fraction of the work just done.
    separated : bool
        Whether it runs passes (else the dense kernel).
    finite_only : bool
        Whether one NaN in the image would spread beyond the kernel's support.
    planned : bool
        Whether the planner may choose it.
    stores : callable
        (dtype) -> whether it rounds and stores this type of output itself.
    plain : str
        For a method of the compiled engine: the method that runs the same form without it.
    """

    name: str
    title: str
    refuse: Callable[[Problem, Form], str]
    work: Callable[[Problem, Form], Work]
    run: Callable[[Problem, Form, Array, Array, Tick], None]
    separated: bool = False
    finite_only: bool = False
    planned: bool = True
    stores: Callable[[np.dtype[Any]], bool] = _only_the_work_type
    plain: str = ""


METHODS = {
    m.name: m
    for m in (
        Method("fused", "compiled", fused.refuse, fused.work, fused.run, True, stores=fused.supports, plain="passes"),
        Method("nested", "compiled, nested", fused.refuse_nested, fused.work_nested, fused.run_nested, True, plain="passes"),
        Method("dense", "compiled, dense", dense.refuse, dense.work, dense.run, stores=fused.supports, plain="correlate"),
        Method("box", "running sums", lines.refuse_box, lines.work_box, lines.run_box, True, stores=fused.supports, plain="passes"),
        Method("recursive", "recursion", lines.refuse_recursive, lines.work_recursive, lines.run_recursive, True, finite_only=True, stores=fused.supports, plain="passes"),
        Method("passes", "SciPy's passes", passes.refuse, passes.work, passes.run, True),
        Method("correlate", "SciPy's dense filter", direct.refuse, direct.work, direct.run),
        Method("fft", "FFT", fourier.refuse, fourier.work, fourier.run, finite_only=True),
        Method("overlap", "FFT, overlap-add", overlap.refuse, overlap.work, overlap.run, finite_only=True),
        Method("reference", "reference", reference.refuse, reference.work, reference.run, planned=False),
    )
}  # fmt: skip
