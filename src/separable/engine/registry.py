"""The registry of methods: a new one is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from separable.engine import direct, fourier, overlap, passes, reference
from separable.engine.problem import Form, Problem, Work

__all__ = ["METHODS", "Method"]

Array = NDArray[Any]
Tick = Callable[[float], None]


@dataclass(frozen=True)
class Method:
    """One way to run a filter.

    Attributes
    ----------
    name, title : str
        For programs and for people.
    separated : bool
        Whether it runs passes (else the dense kernel).
    finite_only : bool
        Whether one NaN in the image would spread beyond the kernel's support.
    refuse : callable
        (problem, form) -> why it cannot run this, or "".
    work : callable
        (problem, form) -> Work.
    run : callable
        (problem, form, image, target, tick): fill `target` (of the work type, not overlapping the
        image); call `tick` with the fraction of the work just done.
    planned : bool
        Whether the planner may choose it.
    """

    name: str
    title: str
    separated: bool
    finite_only: bool
    refuse: Callable[[Problem, Form], str]
    work: Callable[[Problem, Form], Work]
    run: Callable[[Problem, Form, Array, Array, Tick], None]
    planned: bool = True


METHODS = {
    m.name: m
    for m in (
        Method("direct", "direct", False, False, direct.refuse, direct.work, direct.run),
        Method("passes", "passes", True, False, passes.refuse, passes.work, passes.run),
        Method("fft", "FFT", False, True, fourier.refuse, fourier.work, fourier.run),
        Method(
            "overlap", "FFT, overlap-add", False, True, overlap.refuse, overlap.work, overlap.run
        ),
        Method(
            "reference",
            "reference",
            False,
            False,
            reference.refuse,
            reference.work,
            reference.run,
            planned=False,
        ),
    )
}
