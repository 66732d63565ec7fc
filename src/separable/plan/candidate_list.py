"""The candidates of a plan: every way to run a filter, its cost, and the reason if it cannot run.

There is one loop over the registry of methods (`_open`). What it yields is not evaluated at once: an
`_Entry` knows a time that it cannot fall below, and is expanded only if that is below the best time
known so far, or if the list is printed or compared.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from separable.engine import (
    DENSE,
    KRONECKER,
    METHODS,
    TERMS,
    TREE,
    Decomposition,
    Method,
    dense_decomposition,
)
from separable.engine.method import TermSizes
from separable.engine.registry import (
    DIRECT,
    LOW_RANK,
    NESTED,
    PARTIAL,
    SEPARABLE,
    TRUNCATED,
)
from separable.machine import Machine
from separable.plan.candidates import STORE, Candidate
from separable.plan.kernel_terms import HINT, KernelTerms, Terms, terms_of
from separable.plan.plan_request import Request

__all__ = ["CandidateList"]

Order = tuple[int, ...]


@dataclass(frozen=True)
class _Entry:
    """A candidate that is not evaluated yet, or several.

    Attributes
    ----------
    order : tuple of int
        Place in the list.
    least : float
        Seconds that no candidate in it is predicted to fall below; infinite if none can be chosen.
    expand : callable
        Returns candidates and entries, in the order of the list.
    """

    order: Order
    least: float
    expand: Callable[[], list[Candidate | _Entry]]


class CandidateList:
    """The candidates of one request, evaluated as far as they are needed.

    Copies and pickles are complete lists.

    Parameters
    ----------
    request : Request
    machine : Machine
        Computer whose rates the predictions come from.
    """

    def __init__(self, request: Request, machine: Machine) -> None:
        self._search: _Search | None = _Search(request, machine)
        self._all: tuple[Candidate, ...] | None = None

    @classmethod
    def of(cls, candidates: tuple[Candidate, ...]) -> CandidateList:
        """Return a complete list."""
        made = cls.__new__(cls)
        made._search, made._all = None, candidates
        return made

    def complete(self) -> tuple[Candidate, ...]:
        """Return all candidates."""
        search = self._search
        if self._all is None and search is not None:
            self._all = search.complete()
            self._search = None
        assert self._all is not None
        return self._all

    def fastest(self) -> Candidate | None:
        """Return the candidate with the smallest predicted time, the first of equals.

        Candidates that cannot win are not evaluated. None if every candidate is refused.
        """
        if self._all is None and self._search is not None:
            return self._search.fastest()
        able = [c for c in self.complete() if not c.refused]
        return min(able, key=lambda c: _sortable(c.seconds)) if able else None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CandidateList):
            return NotImplemented
        return self is other or self.complete() == other.complete()

    def __hash__(self) -> int:
        return hash(self.complete())

    def __repr__(self) -> str:  # Dask names tasks by it: no address
        return f"CandidateList{self.complete()!r}"

    def __reduce__(self) -> Any:
        return CandidateList.of, (self.complete(),)


def _sortable(seconds: float) -> float:
    return math.inf if math.isnan(seconds) else seconds


class _Search:
    """The entries of one request, and what they were expanded to."""

    def __init__(self, request: Request, machine: Machine) -> None:
        self.request, self.machine = request, machine
        self.kernel: KernelTerms = terms_of(request.weights)
        self.methods = tuple(METHODS.values())  # as they were when the plan was made
        self._expanded: dict[Order, list[Candidate | _Entry]] = {}

    def complete(self) -> tuple[Candidate, ...]:
        """Return all candidates in order."""
        return tuple(self._walk(_entries(self)))

    def _walk(self, found: list[Candidate | _Entry]) -> Iterator[Candidate]:
        for item in found:
            if isinstance(item, Candidate):
                yield item
            else:
                yield from self._walk(self._expand(item))

    def fastest(self) -> Candidate | None:
        """Expand entries, the least time first, until no other one can be faster."""
        queue: list[tuple[float, Order, _Entry]] = []
        best: tuple[float, Order, Candidate] | None = None

        def push(found: list[Candidate | _Entry], place: Order) -> None:
            nonlocal best
            for number, item in enumerate(found):
                if isinstance(item, _Entry):
                    least = 0.0 if math.isnan(item.least) else item.least
                    heapq.heappush(queue, (least, item.order, item))
                elif not item.refused:
                    own = (_sortable(item.seconds), (*place, number), item)
                    best = own if best is None or own[:2] < best[:2] else best

        push(_entries(self), ())
        while queue and (best is None or queue[0][0] <= best[0]):
            _, order, entry = heapq.heappop(queue)
            push(self._expand(entry), order)
        return None if best is None else best[2]

    def _expand(self, entry: _Entry) -> list[Candidate | _Entry]:
        found = self._expanded.get(entry.order)
        if found is None:
            found = self._expanded.setdefault(entry.order, entry.expand())
        return found

    # What methods there are

    def of_kind(self, kind: str) -> list[Method]:
        """Return the methods that share one candidate for a kind of decomposition."""
        return [m for m in self.methods if kind in m.runs and not m.own_candidate]

    def own_of_kind(self, kind: str, terms: int = 0) -> list[Method]:
        """Return the methods that are listed under their own names for a kind of decomposition."""
        asked = self.request.method
        return [
            m
            for m in self.methods
            if kind in m.runs[:1]
            and m.own_candidate
            and (m.planned or m.name == asked)
            and (m.most_terms is None or terms <= m.most_terms)
        ]

    def least(self, kind: str, sizes: TermSizes) -> float:
        """Return a lower bound of the times predicted for the methods of a kind, in seconds."""
        problem = self.request.problem
        able = [m for m in self.of_kind(kind) if not m.unavailable()]
        times = [m.least_seconds(self.machine, problem, kind, sizes) for m in able]
        return min((0.0 if math.isnan(t) else t for t in times), default=0.0)

    # Candidates

    def shared(
        self, name: str, kind: str, decomposition: Decomposition, rank: int, *, exact: bool = False
    ) -> Candidate:
        """Return a candidate that the first able method of a kind runs, or the one asked for."""
        request, engines = self.request, self.of_kind(kind)
        chosen = next((m for m in engines if m.name == request.method), None)
        if chosen is None:
            able = (m for m in engines if not m.refuse(request.problem, decomposition))
            chosen = next(able, engines[-1])
        return self.estimate(name, chosen, decomposition, rank, exact=exact)

    def estimate(
        self, name: str, method: Method, form: Decomposition, rank: int = 0, *, exact: bool = False
    ) -> Candidate:
        """Ask the method for its work and for the time that takes."""
        problem, machine = self.request.problem, self.machine
        work = method.estimate(problem, form)
        seconds = method.seconds(machine, problem, work.counts)
        if problem.out != problem.work and not method.stores(problem.out):
            stored = {"element": float(problem.size)}
            seconds += machine.predict(STORE, problem.out, stored, problem.threads)
        return Candidate(
            name=name,
            method=method.name,
            rank=rank,
            passes=work.passes,
            multiplications=work.multiplications,
            bytes=work.bytes,
            seconds=seconds,
            bound=form.bound + work.rounding,
            refused=method.refuse(problem, form),
            form=form,
            is_exact=exact,
        )

    def rejected(
        self, name: str, rank: int, bound: float, reason: str, method: str = ""
    ) -> Candidate:
        """Return a candidate that is listed only with the reason why it is rejected."""
        method = method or self.of_kind(TERMS)[-1].name
        sizes = self.request.problem.kernel_shape
        count = float(rank * sum(sizes))
        return Candidate(
            name, method, rank, rank * len(sizes), count, math.nan, math.nan, bound, reason
        )

    def passes(self, terms: Terms, *, shared: bool = False) -> Decomposition:
        """Return terms as passes, with a cache of this plan's own."""
        found = self.kernel.passes(terms, self.request.problem.lefts, shared=shared)
        return replace(found, weights=self.request.weights)


# The list. Each function returns candidates and entries in their order.


def _entries(search: _Search) -> list[Candidate | _Entry]:
    """List the dense kernel, its decompositions, and the methods that take the dense kernel."""
    problem, machine = search.request.problem, search.machine
    dense = dense_decomposition(search.request.weights)
    found: list[Candidate | _Entry] = [
        _Entry(
            (0,), _least_of_direct(search, dense), lambda: [search.shared(DIRECT, DENSE, dense, 0)]
        ),
        _Entry((1,), 0.0, lambda: _of_terms(search)),
    ]
    for number, method in enumerate(search.own_of_kind(DENSE)):
        least = method.least_seconds(machine, problem, DENSE, TermSizes())
        expand = _own(search, method, DENSE, lambda: dense, 0)
        found.append(_Entry((2, number), least, expand))
    for number, method in enumerate(search.own_of_kind(KRONECKER)):
        found.append(_kronecker_entry(search, method, number))
    return found


def _kronecker_entry(search: _Search, method: Method, number: int) -> _Entry:
    """Return the entry of a method for coarse and fine passes, which is listed where they save multiplications."""
    request, weights = search.request, search.request.weights
    problem = request.problem
    # Numbers of 2 and more whose product is n add up to at least 2 log2(n). A close kernel may have fewer weights.
    exact_only = not (weights.is_product or request.tol)
    fewest = 2 * math.log2(max(2, weights.nonzeros)) if exact_only else 0.0
    counts = {"call": 1.0, "element": 2.0 * problem.size, "dense tap": problem.size * fewest}
    asked = request.method == method.name

    def expand() -> list[Candidate | _Entry]:
        found = search.kernel.kronecker_within(request.tol or 0.0)
        # Exact to rounding: that of the result, or of a factorisation in double precision.
        exact = max(float(np.finfo(problem.work).eps) / 2, 16 * float(np.finfo(np.float64).eps))
        limit = max(request.tol or 0.0, exact)
        if found is None or found.bound > limit:
            return []
        form = replace(dense_decomposition(weights), bound=found.bound, spread=found.chains)
        missing = method.unavailable()
        if missing:  # only a user who asks for it by name is told the reason
            rank = len(found.chains)
            fallback = method.fallback or method.name
            rejected = search.rejected(method.name, rank, found.bound, missing, fallback)
            return [rejected] if asked else []
        own = method.decompose(problem, form, request.tol)
        return [] if own is None else [search.estimate(method.name, method, own, len(found.chains))]

    # A least time above 0 is claimed only for a method whose rates say so.
    least = method.seconds(search.machine, problem, counts) if method.rates_of else 0.0
    return _Entry((3, number), least, expand)


def _least_of_direct(search: _Search, dense: Decomposition) -> float:
    """Return infinity where no method runs the dense kernel: then its weights are not counted."""
    problem = search.request.problem
    refused = all(m.refuse(problem, dense) for m in search.of_kind(DENSE))
    return math.inf if refused else 0.0


def _own(
    search: _Search,
    method: Method,
    kind: str,
    exact: Callable[[], Decomposition],
    rank: int,
) -> Callable[[], list[Candidate | _Entry]]:
    """Return a function that lists a method under its own name, if it can run this kernel."""

    def expand() -> list[Candidate | _Entry]:
        request = search.request
        missing = method.unavailable()
        if missing:  # only a user who asks for it by name is told the reason
            if request.method != method.name:
                return []
            fallback = method.fallback or method.name
            return [search.rejected(method.name, rank, exact().bound, missing, fallback)]
        form = method.decompose(request.problem, exact(), request.tol)
        return [] if form is None else [search.estimate(method.name, method, form, rank)]

    return expand


def _of_terms(search: _Search) -> list[Candidate | _Entry]:
    """List the candidates that run passes."""
    kernel, request = search.kernel, search.request
    if kernel.too_many:
        return _of_too_many(search)
    limit = float(np.finfo(request.problem.work).eps) / 2  # no more than one rounding
    exact = kernel.exact(limit)
    found = _of_one_term(search, exact) if len(exact.terms) <= 1 else _of_several(search, exact)
    if len(exact.terms) > 1:
        found.append(_Entry((1, 5), 0.0, lambda: _of_partial(search)))
    return found


def _own_terms(
    search: _Search, kind: str, place: int, exact: Callable[[], Decomposition], rank: int
) -> list[Candidate | _Entry]:
    """List the methods with names of their own that run terms."""
    sizes = TermSizes(rank)
    return [
        _Entry(
            (1, place, number),
            m.least_seconds(search.machine, search.request.problem, kind, sizes),
            _own(search, m, kind, exact, rank),
        )
        for number, m in enumerate(search.own_of_kind(kind, rank))
    ]


def _of_one_term(search: _Search, exact: Terms) -> list[Candidate | _Entry]:
    """List the one term, and the methods for taps of a kind: running sums, recursions."""
    form = search.passes(exact)
    first = search.shared(SEPARABLE, TERMS, form, len(exact.terms), exact=True)
    return [first, *_own_terms(search, TERMS, 1, lambda: search.passes(exact), 1)]


def _of_several(search: _Search, exact: Terms) -> list[Candidate | _Entry]:
    """List the candidates of several terms: one alone (rejected), all, all with shared passes, fewer."""
    kernel, problem, count = search.kernel, search.request.problem, len(exact.terms)
    along = [problem.shape[axis] for axis in problem.axes]
    sizes = kernel.sizes(exact, along)

    def one() -> list[Candidate | _Entry]:
        single = kernel.first_alone
        reason = _not_one(search.request, count, single)
        return [search.rejected(SEPARABLE, 1, single.bound, reason)]

    def flat() -> list[Candidate | _Entry]:
        return [search.shared(LOW_RANK, TERMS, search.passes(exact), count, exact=True)]

    def tree() -> list[Candidate | _Entry]:
        form = search.passes(exact, shared=True)
        return [search.shared(NESTED, TREE, form, count)] if form.shares else []

    found: list[Candidate | _Entry] = [
        _Entry((1, 0), math.inf, one),
        _Entry((1, 1), search.least(TERMS, sizes), flat),
        *_own_terms(search, TERMS, 2, lambda: search.passes(exact), count),
    ]
    if kernel.may_share:
        found.append(_Entry((1, 3), search.least(TREE, sizes), tree))
        found += _own_terms(search, TREE, 3, lambda: search.passes(exact, shared=True), count)
    least = 0.0 if search.request.tol else math.inf
    found.append(_Entry((1, 4), least, lambda: _of_fewer(search, exact)))
    return found


def _of_too_many(search: _Search) -> list[Candidate | _Entry]:
    """List the candidates of a large kernel with too many terms: a few terms if the tolerance allows it."""
    request, kernel = search.request, search.kernel
    most, size = kernel.most_terms, request.weights.size
    reason = f"a kernel of {size} weights that needs more than {most} terms"
    names = [SEPARABLE, *([LOW_RANK] if request.method == LOW_RANK else [])]
    found: list[Candidate | _Entry] = [search.rejected(n, 1, math.nan, reason) for n in names]
    few = kernel.few(request.tol) if request.tol else None
    if few is not None:
        found.append(search.shared(TRUNCATED, TERMS, search.passes(few), len(few.terms)))
    return [*found, _Entry((1, 5), 0.0, lambda: _of_partial(search))]


def _of_fewer(search: _Search, exact: Terms) -> list[Candidate | _Entry]:
    """List the fewest terms within the tolerance; without a tolerance, say how many terms one would save."""
    kernel, tol, count = search.kernel, search.request.tol, len(exact.terms)
    some = kernel.within(tol) if tol else kernel.hint
    if not tol:
        saved = count - len(some.terms)
        if saved <= 0:
            return []
        kept = len(some.terms)
        reason = f"no tolerance is given; tol={HINT:g} would allow {kept} of {count} terms"
    elif len(some.terms) >= count:
        reason = f"the tolerance needs all {count} terms"
    else:
        return [search.shared(TRUNCATED, TERMS, search.passes(some), len(some.terms))]
    return [search.rejected(TRUNCATED, len(some.terms), some.bound, reason)]


def _not_one(request: Request, count: int, single: Terms) -> str:
    if request.tol and single.bound <= request.tol:
        return "see truncated: one term is within the tolerance"
    if not single.bound < 1:
        return f"rank {count}: one term alone is not close to the kernel"
    off = f"{100 * single.bound:.2g} % of sum|kernel| x max|input|"
    return f"rank {count}: one term alone would be wrong by up to {off}"


def _of_partial(search: _Search) -> list[Candidate | _Entry]:
    """List one axis apart from the others, where that is exact."""
    apart = search.kernel.partial
    if apart is None:
        return []
    return [search.shared(PARTIAL, TERMS, search.passes(apart), len(apart.terms))]
