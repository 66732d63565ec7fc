"""The registry of methods: a new one is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine.base import Form, Problem, Work
from separable.engine.methods import (
    box_and_recursive,
    compiled_dense,
    compiled_separable,
    fft,
    fft_overlap,
    reference,
    scipy_direct,
    scipy_separable,
)

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
        Method("fused", "compiled", compiled_separable.refuse, compiled_separable.work, compiled_separable.run, True, stores=compiled_separable.supports, plain="passes"),
        Method("nested", "compiled, nested", compiled_separable.refuse_nested, compiled_separable.work_nested, compiled_separable.run_nested, True, plain="passes"),
        Method("dense", "compiled, dense", compiled_dense.refuse, compiled_dense.work, compiled_dense.run, stores=compiled_separable.supports, plain="correlate"),
        Method("box", "running sums", box_and_recursive.refuse_box, box_and_recursive.work_box, box_and_recursive.run_box, True, stores=compiled_separable.supports, plain="passes"),
        Method("recursive", "recursion", box_and_recursive.refuse_recursive, box_and_recursive.work_recursive, box_and_recursive.run_recursive, True, finite_only=True, stores=compiled_separable.supports, plain="passes"),
        Method("passes", "SciPy's passes", scipy_separable.refuse, scipy_separable.work, scipy_separable.run, True),
        Method("correlate", "SciPy's dense filter", scipy_direct.refuse, scipy_direct.work, scipy_direct.run),
        Method("fft", "FFT", fft.refuse, fft.work, fft.run, finite_only=True),
        Method("overlap", "FFT, overlap-add", fft_overlap.refuse, fft_overlap.work, fft_overlap.run, finite_only=True),
        Method("reference", "reference", reference.refuse, reference.work, reference.run, planned=False),
    )
}  # fmt: skip
