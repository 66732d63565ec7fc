"""Plan: a value that explains itself, runs, and measures itself."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.arrays import MASKED_REMEDY, complete_array_of
from separable.borders import Modes
from separable.engine import METHODS, Decomposition, Problem
from separable.errors import ArgumentError
from separable.factors import Factors
from separable.machine import Machine, current
from separable.plan import plan_text
from separable.plan.candidate_choice import choose, fastest
from separable.plan.candidate_list import CandidateList
from separable.plan.candidates import Candidate
from separable.plan.plan_json import (
    array_from_list,
    array_to_list,
    candidate_to_dict,
    factors_from_dict,
    factors_to_dict,
    number_from_json,
    number_to_json,
)
from separable.plan.plan_request import Request, request
from separable.run import PreparedRun, all_finite, run
from separable.value import Value

__all__ = ["Measurement", "Plan", "plan"]

Array = NDArray[Any]
REGIONS = (
    "separable.resample.region_plans"  # for a part of the outputs; it stands above this package
)
DEVICES = "separable.tensors.device.device_plans"  # for GPUs; it needs PyTorch


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Value):
    """All ways to run one filter on images of one shape and type, and the one that is chosen.

    Attributes
    ----------
    request : Request
        The requested filter.
    listing : CandidateList
        The candidates, evaluated as far as they were needed.
    chosen : Candidate
        The candidate with the smallest predicted time of those that may be taken.
    machine : str
        Whose rates the predictions are made with: ``Machine.origin``.

    Notes
    -----
    Plans are equal, and have equal hashes, if the same filter was requested and the same candidates were
    listed and chosen. A plan may be copied, pickled and sent to other processes at any time, also
    after it has run: compiled records stay behind and are built anew at the first call.

    Examples
    --------
    >>> import numpy as np, separable as sep
    >>> p = sep.plan(sep.kernels.gaussian(2).dense(), shape=(512, 512), dtype="float32")
    >>> p.chosen.name, p.chosen.multiplications
    ('separable', 34)
    >>> p(np.ones((512, 512), "float32")).dtype
    dtype('float32')
    """

    request: Request
    listing: CandidateList
    chosen: Candidate
    machine: str

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates; those that could not win are evaluated when they are first asked for."""
        return self.listing.complete()

    @property
    def problem(self) -> Problem:
        """Shapes, types and border modes of the filter, as the engine needs them."""
        return self.request.problem

    @property
    def bound(self) -> float:
        """``max|out - exact| / (sum|kernel| * max|input|)`` is at most this, to first order."""
        return self.chosen.bound

    def __call__(
        self,
        image: ArrayLike,
        out: Array | None = None,
        *,
        progress: Callable[[float], None] | None = None,
    ) -> Array:
        """Filter an image.

        Parameters
        ----------
        image : array_like
            Image of the planned shape and type, with any strides. It may hold NaN or infinity: if the
            chosen method would spread them, the best one that does not is run instead.
        out : ndarray, optional
            Array of the planned shape and output type; it may be the image itself.
        progress : callable, optional
            Called with the fraction of the work just done, from any thread.

        Returns
        -------
        ndarray

        Raises
        ------
        ArgumentError
            If the image is not of the planned shape and type, or has masked samples.
        ArgumentTypeError
            If the image or `out` is not an array.
        OutputError
            If `out` has another shape or type, or is read-only.
        """
        form = self.chosen.form
        if progress is None and form is not None:
            filtered = self._run_prepared(form, image, out)
            if filtered is not None:
                return filtered
        array = complete_array_of(image, remedy=MASKED_REMEDY)
        candidate = self.chosen
        threads = self.problem.threads
        if METHODS[candidate.method].spreads_nan and not all_finite(array, threads):
            candidate = self._best(lambda c: not METHODS[c.method].spreads_nan)
        return self._run(candidate, array, out, progress)

    def measure(self, image: ArrayLike, *, repeats: int = 3) -> Measurement:
        """Run every candidate that is not rejected and compare its time with the prediction.

        Parameters
        ----------
        image : array_like
            Finite image of the planned shape and type.
        repeats : int
            Number of runs of each candidate, in turn; the median counts. Candidates that take more
            than ten times as long as the fastest run once.

        Returns
        -------
        Measurement
        """
        array = complete_array_of(image, remedy=MASKED_REMEDY)
        runnable = [c for c in self.candidates if not c.refused and c.form is not None]
        times: list[list[float]] = [[] for _ in runnable]
        results: dict[str, Array] = {}
        for turn in range(repeats + 1):
            fastest = min((min(t) for t in times if t), default=math.inf)
            for c, own in zip(runnable, times, strict=True):
                if _enough(own, fastest):
                    continue
                start = time.perf_counter()
                result = self._run(c, array, None, None)
                own.append(time.perf_counter() - start)
                if turn == 0:
                    results[c.name] = result
        medians = [float(np.median(t[1:] or t)) for t in times]  # the first run warms up
        exact = results.get(self.chosen.name)
        differences = [
            math.nan if exact is None else _difference(results[c.name], exact) for c in runnable
        ]
        return Measurement(self, tuple(runnable), tuple(medians), tuple(differences))

    def with_method(self, method: str) -> Candidate | None:
        """Return the candidate that would run the same filter by a method of this name, if any can.

        Parameters
        ----------
        method : str
            Name of a candidate or of a method, as for `separable.plan`.

        Examples
        --------
        >>> import separable as sep
        >>> p = sep.plan([1, 2, 1], (100,))
        >>> p.with_method("passes").name, p.with_method("recursive")
        ('separable', None)
        """
        listed = CandidateList(replace(self.request, method=method), current()).complete()
        able = [c for c in listed if c.answers_to(method) and not c.refused]
        return fastest(able) if able else None

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values, from which `from_dict` rebuilds it."""
        r, p = self.request, self.problem
        return {
            "kernel": array_to_list(r.kernel),
            "kernel_dtype": str(r.kernel.dtype),
            "factors": None if r.factors is None else factors_to_dict(r.factors),
            "operation": r.operation,
            "shape": list(p.shape),
            "dtype": str(p.dtype),
            "output": str(p.out),
            "axes": list(p.axes),
            "mode": [border.name for border in p.modes],
            "cval": number_to_json(p.cval),
            "origin": list(r.origins),
            "tol": r.tol,
            "method": r.method,
            "threads": p.threads,
            "machine": self.machine,
            "chosen": self.chosen.name,
            "candidates": [candidate_to_dict(c) for c in self.candidates],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """Rebuild a plan from the result of `to_dict`, with the same choice and predictions."""
        kernel = array_from_list(values["kernel"], values["kernel_dtype"])
        factors = values["factors"]
        asked = request(
            kernel if factors is None else factors_from_dict(factors),
            values["shape"],
            values["dtype"],
            axes=values["axes"],
            mode=values["mode"],
            cval=number_from_json(values["cval"]),
            origin=values["origin"],
            output=values["output"],
            tol=values["tol"],
            method=values["method"],
            operation=values["operation"],
            threads=values["threads"],
        )
        rebuilt = CandidateList(asked, current()).complete()
        stored = {c["name"]: c for c in values["candidates"]}
        restored = tuple(
            replace(c, **{k: number_from_json(v) for k, v in stored[c.name].items()})
            for c in rebuilt
            if c.name in stored
        )
        chosen = next(c for c in restored if c.name == values["chosen"])
        return cls(asked, CandidateList.of(restored), chosen, values["machine"])

    def __str__(self) -> str:
        return plan_text.plan_text(self)

    def _repr_html_(self) -> str:
        return plan_text.plan_html(self)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.problem.kernel_shape))
        return (
            f"<Plan {self.request.operation} {size} on {self.problem.shape} {self.problem.dtype}: "
            f"{self.chosen.title}, predicted {plan_text.duration(self.chosen.seconds)}>"
        )

    def _run_prepared(self, form: Decomposition, image: Any, out: Any) -> Array | None:
        """Filter a plain array without further checks, or return None where there is something to check."""
        method = self.chosen.method
        key = ("run", method)  # several methods may run one form of the kernel
        prepared: Any = form.cached.get(key)
        if prepared is None:
            try:
                prepared = form.cached.get_or_build(
                    key, lambda: PreparedRun(self.problem, METHODS[method], form)
                )
            except MemoryError:  # `run` says what there is no memory for
                return None
        return prepared(image, out)  # type: ignore[no-any-return]

    def _best(self, admit: Callable[[Candidate], bool]) -> Candidate:
        return fastest(c for c in self.candidates if not c.refused and admit(c))

    def _run(
        self,
        candidate: Candidate,
        image: Array,
        out: Array | None,
        progress: Callable[[float], None] | None,
    ) -> Array:
        assert candidate.form is not None
        method = METHODS[candidate.method]
        return run(self.problem, method, candidate.form, image, out, progress)


@dataclass(frozen=True, eq=False)
class Measurement(Value):
    """Predicted and measured times of each candidate.

    Attributes
    ----------
    plan : Plan
    candidates : tuple of Candidate
    seconds : tuple of float
        Median of the measured times of each candidate.
    differences : tuple of float
        Largest difference of each result from that of the chosen candidate.
    """

    plan: Plan
    candidates: tuple[Candidate, ...]
    seconds: tuple[float, ...]
    differences: tuple[float, ...]

    @property
    def regret(self) -> float:
        """Measured time of the choice divided by that of the fastest candidate."""
        mine = self.seconds[[c.name for c in self.candidates].index(self.plan.chosen.name)]
        return mine / min(self.seconds)

    def __str__(self) -> str:
        return plan_text.measurement_text(self)


def plan(
    kernel: ArrayLike | Factors,
    shape: Sequence[int],
    dtype: DTypeLike = np.float64,
    *,
    axes: int | Sequence[int] | None = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    output: DTypeLike | None = None,
    tol: float | None = None,
    method: str = "auto",
    operation: str = "convolve",
    threads: int | None = None,
    machine: Machine | None = None,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
    device: Any = None,
) -> Plan:
    """Plan a filter: list the ways to run it, predict their times and choose one.

    Parameters
    ----------
    kernel : array_like, Factors or str
        Kernel, dense (it is factored then) or already factored, with one axis per filtered axis; or
        a text for `separable.kernels.parse`.
    shape : sequence of int
        Shape of the image. No data is needed.
    dtype : dtype
        Type of the image.
    axes : int or sequence of int, optional
        Image axes to filter, one per kernel axis. By default all of them, if the kernel has as many.
    mode : str, Border, or sequence of str or Border
        Border mode: "reflect" (the default, as in SciPy), "mirror", "nearest", "wrap", "constant" or
        a registered one (`separable.borders.register_border`); or one per filtered axis.
    cval : number
        Value outside the image, for the mode "constant".
    origin : int or sequence of int
        Shift of the kernel, as in SciPy.
    output : dtype, optional
        Type of the result; by default that of the image. Whole numbers are rounded (half to even)
        and saturated once, at the end.
    tol : float, optional
        Error that the result may have: ``max|out - exact| <= tol * sum|kernel| * max|input|``.
        Without a tolerance the result is exact to rounding.
    method : str
        "auto" chooses the fastest method. Otherwise a name from the first column of a printed plan
        ("direct", "separable", "low-rank", "fft" ...), or "reference", the slow definition of the
        filter. "low-rank" accepts kernels of rank 1, too.
    operation : str
        "convolve" flips the kernel, "correlate" does not.
    threads : int, optional
        Number of threads; by default all processors that this process may use.
    machine : Machine, optional
        Computer whose rates the predictions are made with; by default this one.
    output_region, stride : str, int or sequence of int
        Outputs to compute, as for `separable.convolve`.
    device : str or torch.device, optional
        GPU to plan for: "cuda", "cuda:1" ..., or a profile of one that need not be there, such as "h100".

    Returns
    -------
    Plan
        A plan to call with an image, or to print: the table lists every candidate. With a region or a
        stride, the `separable.resample.RegionPlan` of these outputs. With a device, the
        `separable.tensors.device.DevicePlan` for tensors.

    Raises
    ------
    KernelError, DTypeError, ArgumentError, ArgumentTypeError, ModeError
        If an argument is out of its range; the message says which one and what is allowed.

    Examples
    --------
    >>> import separable as sep
    >>> p = sep.plan(sep.kernels.gaussian(2).dense(), shape=(1000, 1000))
    >>> p.chosen.name
    'separable'
    """
    asked = request(
        kernel, shape, dtype, axes=axes, mode=mode, cval=cval, origin=origin, output=output,
        tol=tol, method=method, operation=operation, threads=threads,
    )  # fmt: skip
    profile = machine if machine is not None else current()
    listing = CandidateList(asked, profile)
    made = Plan(asked, listing, choose(listing, asked.method), profile.origin)
    whole = output_region == "same" and not np.ndim(stride) and stride == 1
    if device is not None:
        if not whole:
            raise ArgumentError(
                "`device` takes no `output_region` and no `stride`; plan the whole filter"
            )
        return importlib.import_module(DEVICES).plan_on(made, device)  # type: ignore[no-any-return]
    if whole:
        return made
    return importlib.import_module(REGIONS).plan_of_region(made, output_region, stride)  # type: ignore[no-any-return]


def _enough(own: list[float], fastest: float) -> bool:
    """Return whether a slow candidate has run often enough; a first run may have compiled code."""
    patience = 15.0 if len(own) == 1 else 0.0
    return bool(own) and min(own) > max(10 * fastest, patience)


def _difference(a: Array, b: Array) -> float:
    kind = np.complex128 if a.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(a.astype(kind) - b.astype(kind)), initial=0.0))
