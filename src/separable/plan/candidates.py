"""All the ways to run a filter, with what each costs and why it may not be taken."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.engine import METHODS, Form, Kernel, dense_form, pass_form, recursive_form
from separable.engine.availability import why_not
from separable.factorize import factorize, factorize_few
from separable.factors import Factors, kernel_errors
from separable.machine import Machine
from separable.plan.plan_request import Request
from separable.value import Value

__all__ = ["Candidate", "candidates"]

Array = NDArray[Any]

STORE = "store"  # in a machine profile: rounding and converting the result


DENSE = ("dense", "correlate")  # engines, the faster one first
SWEEPS = ("fused", "nested", "passes")
TREES = ("nested", "passes")
MANY = 256  # terms: beyond, what a tolerance would save is not worked out unless one is given
SLACK = 1e-9  # rounding of 1-norms
NEARLY = 1e-6  # of the largest weight: what rounding may leave of a kernel of rank one

# Kernels that take seconds to decompose are looked at for a few terms only: with more of them a
# transform is faster.
LARGE = 1 << 15  # weights on three axes and more
LARGE_PRODUCT = 1 << 28  # weights times the shorter side, on two
MOST_LEADING = 64  # terms on two axes


@dataclass(frozen=True, eq=False)
class Candidate(Value):
    """One way to run a filter.

    Attributes
    ----------
    name : str
        "direct", "separable", "box", "recursive", "low-rank", "nested", "truncated", "partial",
        "fft" or "overlap".
    method : str
        The engine's method that runs it.
    rank : int
        The number of separable terms; 0 for those that take the dense kernel.
    passes : int
        Sweeps over the image.
    multiplications : float
        For each output.
    bytes : float
        Read and written in all.
    seconds : float
        Predicted; NaN where the candidate cannot run.
    bound : float
        ``max|out - exact| / (sum|kernel| * max|input|)`` is at most this, to first order.
    refused : str
        Why it cannot be taken; empty if it can.
    form : Form or None
        The kernel as the method wants it.
    """

    name: str
    method: str
    rank: int
    passes: int
    multiplications: float
    bytes: float
    seconds: float
    bound: float
    refused: str = ""
    form: Form | None = field(default=None, compare=False, repr=False)

    @property
    def title(self) -> str:
        """The name for people."""
        if self.name in ("fft", "overlap", "reference", "box", "recursive"):
            return METHODS[self.name].title
        return f"{self.name} {self.rank}" if self.rank > 1 else self.name


@dataclass(frozen=True)
class _Terms:
    """Terms that stand for the kernel within `bound` (1-norm, relative)."""

    terms: tuple[tuple[Array, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    bound: float


def candidates(request: Request, machine: Machine) -> tuple[Candidate, ...]:
    """List the candidates: the dense ones, the exact factored ones, and those a tolerance allows."""
    weights = request.weights
    dense = dense_form(weights)
    found = [_estimate(request, machine, "direct", _engine(request, dense, DENSE), dense)]
    found += _factored(request, machine, weights)
    found += [_estimate(request, machine, name, name, dense) for name in ("fft", "overlap")]
    reference = _estimate(request, machine, "reference", "reference", dense)
    return (*found, reference) if request.method == "reference" else tuple(found)


def _factored(request: Request, machine: Machine, weights: Kernel) -> list[Candidate]:
    """The candidates that run passes."""
    limit = float(np.finfo(request.problem.work).eps) / 2  # no more than one rounding
    every = _all_terms(request, weights)
    if math.isinf(every.bound):
        return _too_many(request, machine, weights)
    exact = _fewest(every, weights, limit)
    found = []
    if len(exact.terms) <= 1:
        found.append(_passes(request, machine, "separable", exact, weights))
        found += _any_length(request, machine, exact, weights)
    else:
        flat = _form(exact, weights, request, shared=False)
        form = _form(exact, weights, request)
        single = _first_alone(every, weights)
        found.append(
            _hopeless(request, "separable", 1, single.bound, _not_one(request, exact, single))
        )
        engine = _engine(request, flat, SWEEPS)
        found.append(_estimate(request, machine, "low-rank", engine, flat, len(exact.terms)))
        if form.shares:
            engine = _engine(request, form, TREES)
            found.append(_estimate(request, machine, "nested", engine, form, len(exact.terms)))
        found += _truncated(request, machine, every, exact, weights)
    found += _partial(request, machine, weights, len(exact.terms))
    return found


def _too_many(request: Request, machine: Machine, weights: Kernel) -> list[Candidate]:
    """For a large kernel of many terms: within a tolerance perhaps a few of them."""
    most = MANY if weights.ndim > 2 else MOST_LEADING
    reason = f"a kernel of {weights.size} weights that needs more than {most} terms"
    found = [_hopeless(request, "separable", 1, math.nan, reason)]
    if request.tol:
        few = factorize_few(weights.array, filter_pattern(weights.ndim), most, request.tol)
        if few is not None and few.bound <= request.tol:
            found.append(_passes(request, machine, "truncated", _sorted(few), weights))
    return found + _partial(request, machine, weights, most)


def _any_length(
    request: Request, machine: Machine, terms: _Terms, weights: Kernel
) -> list[Candidate]:
    """For one term: running sums for equal taps, recursions for Gaussian ones within a tolerance."""
    form, found = _form(terms, weights, request, shared=False), []
    missing = why_not()
    if missing:  # both are compiled only; who asks for one of them is told why there is none
        asked = [name for name in ("box", "recursive") if name == request.method]
        return [_hopeless(request, name, 1, terms.bound, missing) for name in asked]
    if form.terms and not METHODS["box"].refuse(request.problem, form):
        found.append(_estimate(request, machine, "box", "box", form, 1))
    if request.tol and form.terms:
        fitted = recursive_form(request.problem, form, request.tol)
        if fitted is not None:
            found.append(_estimate(request, machine, "recursive", "recursive", fitted, 1))
    return found


def _all_terms(request: Request, weights: Kernel) -> _Terms:
    """The kernel's terms, largest first; a kernel of one axis is one term."""
    if weights.ndim == 1:
        dense = weights.dense
        return _Terms(((dense,),) if dense.any() else (), ((0,),), 0.0)
    factors = request.tap_factors
    if factors is None:
        return _decomposed(weights)
    if factors.rank > min(weights.shape) and not weights.is_product:
        again = factorize(weights.array, filter_pattern(weights.ndim))
        if again.rank < factors.rank:
            return _sorted(again)
    return _sorted(factors)


def _decomposed(weights: Kernel) -> _Terms:
    """The terms of a dense kernel; of a large one none where it needs too many of them.

    Then `bound` is infinite: no terms are exact. A kernel that large is filtered by transforms.
    """
    pattern = filter_pattern(weights.ndim)
    if weights.ndim > 2 and weights.size > LARGE:
        most = MANY
    elif weights.ndim == 2 and weights.size * min(weights.shape) > LARGE_PRODUCT:
        most = MOST_LEADING
    else:
        return _sorted(factorize(weights.array, pattern))
    few = factorize_few(weights.array, pattern, most)
    if few is None:
        groups = tuple((k,) for k in range(weights.ndim))
        return _Terms((), groups, math.inf)
    return _sorted(few)


def filter_pattern(ndim: int) -> str:
    """Return the pattern that separates all axes of a filter kernel.

    Examples
    --------
    >>> filter_pattern(3)
    'zyx -> z,y,x'
    """
    letters = "tzyx"[-ndim:] if ndim <= 4 else string.ascii_lowercase[:ndim]
    return f"{letters} -> {','.join(letters)}"


def _sorted(factors: Factors) -> _Terms:
    letters = factors.pattern.letters
    groups = tuple(
        tuple(letters.index(a) for a in factors.pattern.own(k))
        for k in range(len(factors.pattern.factors))
    )
    sizes = [math.prod(float(np.linalg.norm(v)) for v in t) for t in factors.terms]
    order = sorted(range(len(sizes)), key=lambda r: -sizes[r])
    return _Terms(tuple(factors.terms[r] for r in order), groups, factors.bound)


def _product(term: tuple[Array, ...], groups: Sequence[tuple[int, ...]]) -> Array:
    """The kernel that one term stands for."""
    product = term[0]
    for vector in term[1:]:
        product = np.multiply.outer(product, vector)
    return np.transpose(product, np.argsort([a for g in groups for a in g]))


def _first_alone(every: _Terms, weights: Kernel) -> _Terms:
    """The largest term alone, with the bound it reaches."""
    if weights.is_product:
        bound = every.bound + _left_out(every, weights)[1]
    else:
        one = _product(every.terms[0], every.groups)
        bound = kernel_errors(weights.array, one)[1]
    return _Terms(every.terms[:1], every.groups, bound)


def _left_out(every: _Terms, weights: Kernel) -> list[float]:
    """Return the relative 1-norm of the terms from each one on, by parts of a large kernel.

    Of very many terms the sum of their norms, which bounds it.
    """
    count = len(every.terms)
    if count > MANY:
        norms = [math.prod(float(np.sum(np.abs(v))) for v in t) for t in every.terms]
        sums = np.cumsum(norms[::-1])[::-1]
    else:
        lead = next(k for k, group in enumerate(every.groups) if group[0] == 0)
        sums = np.zeros(count)
        for rows in weights.rows():
            total: Any = 0.0
            for r in range(count - 1, -1, -1):
                part = tuple(v[rows] if k == lead else v for k, v in enumerate(every.terms[r]))
                total = total + _product(part, every.groups)
                sums[r] += float(np.sum(np.abs(total)))
    return [float(s) / weights.norm for s in sums]


def _fewest(every: _Terms, weights: Kernel, limit: float) -> _Terms:
    """Leave out the smallest terms while the 1-norm of what is left out stays within `limit`."""
    total = weights.norm
    if total == 0:  # a kernel of zeros, whatever its factors are
        return _Terms((), every.groups, 0.0)
    kept, bound = len(every.terms), every.bound
    if kept and _least(every) / total > limit + SLACK:
        return every  # not even the smallest one can be left out
    if weights.is_product:
        errors = _left_out(every, weights)
        while kept > 0 and errors[kept - 1] + every.bound <= limit:
            kept, bound = kept - 1, errors[kept - 1] + every.bound
        return _Terms(every.terms[:kept], every.groups, bound)
    left_out: Any = 0.0
    while kept > 0:
        left_out = left_out + _product(every.terms[kept - 1], every.groups)
        error = float(np.sum(np.abs(left_out))) / total + every.bound
        if error > limit:
            break
        kept, bound = kept - 1, error
    return _Terms(every.terms[:kept], every.groups, bound)


def _least(every: _Terms) -> float:
    """Return the 1-norm of the smallest term."""
    return math.prod(float(np.sum(np.abs(v))) for v in every.terms[-1])


def _truncated(
    request: Request, machine: Machine, every: _Terms, exact: _Terms, weights: Kernel
) -> list[Candidate]:
    """The fewest terms within the tolerance; without one, what a tolerance would bring, if any."""
    if not request.tol:
        some = _fewest(every, weights, 0.01) if len(every.terms) <= MANY else every
        saved = len(exact.terms) - len(some.terms)
        if saved <= 0:
            return []
        hint = f"no tolerance given; tol=0.01 would save {saved} of {len(exact.terms)} terms"
        return [_hopeless(request, "truncated", len(some.terms), some.bound, hint)]
    some = _fewest(every, weights, request.tol)
    if weights.ndim > 2 and request.factors is None:
        fewer = factorize(weights.array, filter_pattern(weights.ndim), tol=request.tol)
        if fewer.bound <= request.tol and fewer.rank < len(some.terms):
            some = _sorted(fewer)
    if len(some.terms) >= len(exact.terms):
        reason = f"the tolerance needs all {len(exact.terms)} terms"
        return [_hopeless(request, "truncated", len(some.terms), some.bound, reason)]
    return [_passes(request, machine, "truncated", some, weights)]


def _not_one(request: Request, exact: _Terms, single: _Terms) -> str:
    if request.tol and single.bound <= request.tol:
        return "see truncated: one term is within the tolerance"
    return f"rank {len(exact.terms)}: one term is off by up to {single.bound:.2g}"


def _partial(request: Request, machine: Machine, weights: Kernel, rank: int) -> list[Candidate]:
    """For three axes and more: one axis apart, the others dense, where that is exact."""
    if weights.ndim < 3 or rank <= 1 or request.factors is not None:
        return []
    letters = filter_pattern(weights.ndim).split(" ")[0]
    for lead, letter in enumerate(letters):
        matrix = np.moveaxis(weights.array, lead, 0).reshape(weights.shape[lead], -1)
        if not _may_have_rank_one(matrix):
            continue
        values = np.linalg.svd(matrix.astype(np.result_type(matrix, np.float64)), compute_uv=False)
        if np.sum(values > max(matrix.shape) * np.finfo(np.float64).eps * values[0]) != 1:
            continue
        rest = letters.replace(letter, "")
        factors = factorize(weights.array, f"{letters} -> {letter},{rest}", rank=1)
        return [_passes(request, machine, "partial", _sorted(factors), weights)]
    return []


def _may_have_rank_one(matrix: Array) -> bool:
    """Whether a matrix is near the product of the row and the column through its largest element.

    That costs little, and a singular value decomposition of a large kernel much.
    """
    at = np.unravel_index(int(np.argmax(np.abs(matrix))), matrix.shape)
    peak = matrix[at].astype(np.result_type(matrix, np.float64))
    cross = np.multiply.outer(matrix[:, at[1]] / peak, matrix[at[0]])
    return bool(np.max(np.abs(matrix - cross)) <= NEARLY * abs(peak))


def _passes(
    request: Request, machine: Machine, name: str, terms: _Terms, weights: Kernel
) -> Candidate:
    form = _form(terms, weights, request, shared=False)
    engine = _engine(request, form, SWEEPS)
    return _estimate(request, machine, name, engine, form, len(terms.terms))


def _engine(request: Request, form: Form, engines: tuple[str, ...]) -> str:
    """The first engine that can run this form, or the one that was asked for."""
    if request.method in engines:
        return request.method
    runnable = (e for e in engines if not METHODS[e].refuse(request.problem, form))
    return next(runnable, engines[-1])


def _form(terms: _Terms, weights: Kernel, request: Request, *, shared: bool = True) -> Form:
    lefts = request.problem.lefts
    return pass_form(terms.terms, terms.groups, weights, lefts, terms.bound, shared=shared)


def _estimate(
    request: Request, machine: Machine, name: str, method: str, form: Form, rank: int = 0
) -> Candidate:
    """Ask the method for its work and the machine for the time that takes."""
    problem, entry = request.problem, METHODS[method]
    work = entry.work(problem, form)
    seconds = machine.predict(method, problem.dtype, work.counts, problem.threads)
    if problem.out != problem.work and not entry.stores(problem.out):
        stored = {"element": float(problem.size)}
        seconds += machine.predict(STORE, problem.out, stored, problem.threads)
    return Candidate(
        name=name,
        method=method,
        rank=rank,
        passes=work.passes,
        multiplications=work.multiplications,
        bytes=work.bytes,
        seconds=seconds,
        bound=form.bound + work.rounding,
        refused=entry.refuse(problem, form),
        form=form,
    )


def _hopeless(request: Request, name: str, rank: int, bound: float, reason: str) -> Candidate:
    """A candidate that is listed only to say why it is not taken."""
    count = len(request.problem.kernel_shape)
    multiplications = float(rank * sum(request.problem.kernel_shape))
    return Candidate(
        name, "passes", rank, rank * count, multiplications, math.nan, math.nan, bound, reason
    )
