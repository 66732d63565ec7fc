"""Choice of a candidate of a plan, automatically or by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

from separable.engine import METHODS
from separable.engine.registry import CANDIDATES
from separable.errors import ArgumentError
from separable.plan.candidate_list import CandidateList
from separable.plan.candidates import Candidate

__all__ = ["choose", "fastest"]


def choose(listing: CandidateList, method: str) -> Candidate:
    """Return the candidate with the smallest predicted time of all, or of those that answer to a name.

    Raises
    ------
    ArgumentError
        If no candidate can run, or none has the name; the message says why.
    """
    if method == "auto":
        found = listing.fastest()
        if found is None:
            raise ArgumentError("no method can run this filter; print a plan with a method by name")
        return found
    listed = listing.complete()
    named = [c for c in listed if c.answers_to(method)]
    if not named:
        raise ArgumentError(_unknown_method(method, [c.name for c in listed]))
    admitted = [c for c in named if not c.refused]
    if not admitted:
        raise ArgumentError(f"`method` {method!r} cannot run this filter: {named[0].refused}")
    return fastest(admitted)


def _unknown_method(method: str, listed: list[str]) -> str:
    """Return the message for an unknown method, or one that this kernel cannot use."""
    unplanned = (m.name for m in METHODS.values() if not m.planned)
    names = sorted({"auto", *unplanned, *listed})
    message = f"`method` must be one of {', '.join(names)}; got {method!r}"
    known = METHODS.get(str(method))
    kernels = CANDIDATES.get(str(method), "") if known is None else known.kernels
    if kernels:
        return f"{message}, which is for {kernels}"
    near = difflib.get_close_matches(str(method), sorted({*names, *METHODS, *CANDIDATES}), n=1)
    return f'{message}. Did you mean "{near[0]}"?' if near and known is None else message


def fastest(listed: Iterable[Candidate]) -> Candidate:
    """Return the candidate with the smallest predicted time; the first of equals."""
    return min(listed, key=lambda c: math.inf if math.isnan(c.seconds) else c.seconds)
