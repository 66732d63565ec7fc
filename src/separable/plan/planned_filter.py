"""Plan: a value that explains itself, runs, and measures itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.arrays import MASKED_REMEDY, complete_array_of
from separable.borders import Modes
from separable.engine import METHODS, Problem
from separable.errors import ArgumentError
from separable.factors import Factors
from separable.machine import Machine, current
from separable.pattern import parse
from separable.plan import plan_text
from separable.plan.candidates import Candidate, candidates
from separable.plan.plan_request import Request, request
from separable.run import all_finite, run
from separable.value import Value

__all__ = ["Measurement", "Plan", "plan"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Value):
    """The ways to run one filter on images of one shape and type, and the one taken.

    Attributes
    ----------
    request : Request
        What was asked for.
    candidates : tuple of Candidate
    chosen : Candidate
        The one with the smallest predicted time of those that may be taken.
    machine : str
        Whose rates the predictions come from.

    Notes
    -----
    Plans are equal, and hash alike, where the same filter was asked for and the same candidates were
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
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    machine: str

    @property
    def problem(self) -> Problem:
        """Shapes, types, borders: what the engine is given."""
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
            Of the planned shape and type; any strides. It may hold NaN or infinity: where the
            method chosen would spread them, the next best one that does not is run.
        out : ndarray, optional
            Of the planned shape and output type; it may be the image itself.
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
            If the image or `out` is no array.
        OutputError
            If `out` has another shape or type, or is read-only.
        """
        array = complete_array_of(image, remedy=MASKED_REMEDY)
        candidate = self.chosen
        threads = self.problem.threads
        if METHODS[candidate.method].finite_only and not all_finite(array, threads):
            candidate = self._best(lambda c: not METHODS[c.method].finite_only)
        return self._run(candidate, array, out, progress)

    def measure(self, image: ArrayLike, *, repeats: int = 3) -> Measurement:
        """Run every candidate that may be taken and compare its time with the prediction.

        Parameters
        ----------
        image : array_like
            Of the planned shape and type, finite.
        repeats : int
            How often each one runs, in turn; the median counts. Those that take more than ten
            times the fastest run once.

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

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values; `from_dict` makes the same plan of them."""
        r, p = self.request, self.problem
        return {
            "kernel": _to_list(r.kernel),
            "kernel_dtype": str(r.kernel.dtype),
            "factors": None if r.factors is None else _factors_to_dict(r.factors),
            "operation": r.operation,
            "shape": list(p.shape),
            "dtype": str(p.dtype),
            "output": str(p.out),
            "axes": list(p.axes),
            "mode": [border.name for border in p.modes],
            "cval": _number(p.cval),
            "origin": list(r.origins),
            "tol": r.tol,
            "method": r.method,
            "threads": p.threads,
            "machine": self.machine,
            "chosen": self.chosen.name,
            "candidates": [_candidate_to_dict(c) for c in self.candidates],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """Make a plan of what `to_dict` returned: the same choice, the same predictions."""
        kernel = _from_list(values["kernel"], values["kernel_dtype"])
        factors = values["factors"]
        asked = request(
            kernel if factors is None else _factors_from_dict(factors),
            values["shape"],
            values["dtype"],
            axes=values["axes"],
            mode=values["mode"],
            cval=_from_number(values["cval"]),
            origin=values["origin"],
            output=values["output"],
            tol=values["tol"],
            method=values["method"],
            operation=values["operation"],
            threads=values["threads"],
        )
        rebuilt = candidates(asked, current())
        stored = {c["name"]: c for c in values["candidates"]}
        restored = tuple(
            replace(c, **{k: _from_number(v) for k, v in stored[c.name].items()})
            for c in rebuilt
            if c.name in stored
        )
        chosen = next(c for c in restored if c.name == values["chosen"])
        return cls(asked, restored, chosen, values["machine"])

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
    """Predicted beside measured times, candidate by candidate.

    Attributes
    ----------
    plan : Plan
    candidates : tuple of Candidate
    seconds : tuple of float
        Medians.
    differences : tuple of float
        The largest difference from the chosen candidate's result.
    """

    plan: Plan
    candidates: tuple[Candidate, ...]
    seconds: tuple[float, ...]
    differences: tuple[float, ...]

    @property
    def regret(self) -> float:
        """The measured time of the choice over that of the fastest candidate."""
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
) -> Plan:
    """Plan a filter: list the ways to run it, predict each one's time, choose.

    Parameters
    ----------
    kernel : array_like or Factors
        Dense (then it is factored) or already factored. One axis for each filtered axis.
    shape : sequence of int
        The image's shape. No data is needed.
    dtype : dtype
        The image's type.
    axes : int or sequence of int, optional
        The image axes to filter, one for each kernel axis; all of them if the kernel has as many.
    mode : str, Border, or sequence of str or Border
        Border mode: "reflect" (the default, as in SciPy), "mirror", "nearest", "wrap", "constant" or
        a registered one (`separable.borders.register`); or one per filtered axis.
    cval : number
        The value outside the image, for the mode "constant".
    origin : int or sequence of int
        Shifts the kernel, as in SciPy.
    output : dtype, optional
        The type of the result; the image's own if not given. Whole numbers are rounded (half to
        even) and saturated once, at the end.
    tol : float, optional
        What error the result may have: ``max|out - exact| <= tol * sum|kernel| * max|input|``.
        Without it the result is exact to rounding.
    method : str
        "auto" takes the fastest; otherwise the name of a candidate ("direct", "separable", "fft",
        ...), or "reference", a slow one straight from the definition.
    operation : str
        "convolve" flips the kernel, "correlate" does not.
    threads : int, optional
        All processors this process may use if not given.
    machine : Machine, optional
        Whose rates to predict with; this computer's if not given.

    Returns
    -------
    Plan
        Call it with an image; print it to see every candidate.

    Raises
    ------
    KernelError, DTypeError, ArgumentError, ArgumentTypeError, ModeError
        If an argument is out of its range; the message says which and what would do.

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
    listed = candidates(asked, profile)
    chosen = _choose(listed, asked.method)
    return Plan(asked, listed, chosen, f"{profile.name} ({profile.source})")


def _choose(listed: Sequence[Candidate], method: str) -> Candidate:
    if method == "auto":
        return fastest(c for c in listed if not c.refused)
    named = [c for c in listed if method in (c.name, c.method)]
    if not named:
        names = sorted({"auto", "reference", *(c.name for c in listed)})
        raise ArgumentError(f"`method` must be one of {', '.join(names)}; got {method!r}")
    admitted = [c for c in named if not c.refused]
    if not admitted:
        raise ArgumentError(f"`method` {method!r} cannot run this filter: {named[0].refused}")
    return fastest(admitted)


def fastest(listed: Iterable[Candidate]) -> Candidate:
    """Return the candidate with the smallest predicted time; the first of equals."""
    return min(listed, key=lambda c: math.inf if math.isnan(c.seconds) else c.seconds)


def _enough(own: list[float], fastest: float) -> bool:
    """Whether a slow candidate has run often enough; a first run may have compiled something."""
    patience = 15.0 if len(own) == 1 else 0.0
    return bool(own) and min(own) > max(10 * fastest, patience)


def _difference(a: Array, b: Array) -> float:
    if a.size == 0:
        return 0.0
    kind = np.complex128 if a.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(a.astype(kind) - b.astype(kind)), initial=0.0))


def _candidate_to_dict(c: Candidate) -> dict[str, Any]:
    names = ("name", "method", "rank", "passes", "multiplications", "bytes", "seconds", "bound")
    values: dict[str, Any] = {n: _number(getattr(c, n)) for n in names}
    return {**values, "refused": c.refused}


def _number(value: Any) -> Any:
    """JSON has neither NaN nor infinity nor complex numbers."""
    if isinstance(value, complex):
        return {"complex": [_number(value.real), _number(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def _from_number(value: Any) -> Any:
    if isinstance(value, dict) and "complex" in value:
        real, imag = value["complex"]
        return complex(_from_number(real), _from_number(imag))
    if isinstance(value, dict) and "float" in value:
        return float(value["float"])
    return value


def _to_list(array: Array) -> Any:
    if array.dtype.kind == "c":
        return [array.real.tolist(), array.imag.tolist()]
    return array.tolist()


def _from_list(values: Any, dtype: str) -> Array:
    kind = np.dtype(dtype)
    if kind.kind == "c":
        array = np.empty(np.shape(values[0]), kind)
        array.real, array.imag = values  # a sum would turn -0.0 into 0.0
        return array
    return np.array(values, dtype=kind)


def _factors_to_dict(factors: Factors) -> dict[str, Any]:
    return {
        "pattern": str(factors.pattern),
        "arrays": [_to_list(a) for a in factors.arrays],
        "shapes": [list(a.shape) for a in factors.arrays],
        "dtypes": [str(a.dtype) for a in factors.arrays],
        "error": _number(factors.error),
        "bound": _number(factors.bound),
        "ranks": {bond: _to_list(r) for bond, r in factors.ranks.items()},
        "sizes": dict(factors.sizes),
    }


def _factors_from_dict(values: dict[str, Any]) -> Factors:
    described = zip(values["arrays"], values["dtypes"], values["shapes"], strict=True)
    return Factors(
        parse(values["pattern"]),
        tuple(_from_list(a, dtype).reshape(shape) for a, dtype, shape in described),
        _from_number(values["error"]),
        _from_number(values["bound"]),
        {bond: np.array(r) for bond, r in values["ranks"].items()},
        values["sizes"],
    )
