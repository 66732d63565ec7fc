"""Candidates of a filter on a device: each form of the kernel that a device method runs, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from separable.engine import METHODS, Decomposition
from separable.engine.registry import CANDIDATES
from separable.errors import ArgumentError
from separable.gpu.device_profile import Device
from separable.gpu.tile_cost import Prediction
from separable.plan import Plan
from separable.tensors.device.device_methods import (
    DeviceMethod,
    DeviceWork,
    registered_device_methods,
)

__all__ = [
    "DeviceCandidate",
    "best_candidate",
    "device_candidates",
    "filter_together",
    "method_names",
    "plan_method",
]


@dataclass(frozen=True, eq=False)
class DeviceCandidate:
    """One form of a kernel and the device method that runs it.

    Attributes
    ----------
    name : str
        Name of the form: "direct", "separable", "low-rank" ...
    rank : int
        Number of separable terms; 0 for the dense kernel.
    method : DeviceMethod
    work : DeviceWork
    bound : float
        Bound of the error, relative to ``sum|kernel| * max|input|``.
    refused : str
        Reason why the method cannot run it; empty if it can.
    """

    name: str
    rank: int
    method: DeviceMethod
    work: DeviceWork
    bound: float
    refused: str = ""

    def predict(self, image: torch.Tensor, device: Device) -> Prediction:
        """Return the predicted time on a device, and what binds it."""
        return self.method.predict(image, self.work, device)

    def answers_to(self, asked: str) -> bool:
        """Return whether ``method=`` with this name asks for this device method."""
        return asked == self.method.name


def method_names() -> list[str]:
    """Return the names that ``method=`` accepts for a tensor on a device."""
    able = (m.name for m in METHODS.values() if m.own_candidate and m.runs_on_tensors)
    return [*CANDIDATES, *(m.name for m in registered_device_methods()), *able]


def plan_method(asked: str) -> str:
    """Return the method that the plan for arrays is made with: "auto" for names that choose a candidate here."""
    return "auto" if asked in method_names() else asked


def device_candidates(
    planned: Plan, image: torch.Tensor, dtype: torch.dtype, asked: str = "auto"
) -> list[DeviceCandidate]:
    """Return all candidates, with the reasons of those that cannot run.

    Parameters
    ----------
    planned : Plan
        Plan of the same filter for arrays, which lists the forms of the kernel.
    image : torch.Tensor
        The tensor, or one without data ("meta") of its shape, strides and type.
    dtype : torch.dtype
        Type of the result.
    asked : str
        Name of a candidate or of a device method, or "auto".
    """
    by_device = {m.name for m in registered_device_methods()}
    found = []
    for c in planned.candidates:
        if c.form is None or not METHODS[c.method].runs_on_tensors:
            continue
        if asked not in ("auto", *by_device) and not (
            asked in method_names() and c.answers_to(asked)
        ):
            continue
        work = DeviceWork((planned.problem,), (c.form,), dtype)
        for method in registered_device_methods():
            if asked in by_device and asked != method.name:
                continue
            reason = method.refuse(image, work)
            found.append(DeviceCandidate(c.name, c.rank, method, work, c.bound, reason))
    return found


def best_candidate(
    found: Sequence[DeviceCandidate], image: torch.Tensor, device: Device, asked: str
) -> DeviceCandidate:
    """Return the candidate that is predicted to be the fastest.

    Each device method runs the form with the fewest multiplications that it takes, the first of equals.

    Raises
    ------
    ArgumentError
        If no candidate can run; the message says why.
    """
    able = [c for c in found if not c.refused]
    if not able:
        reasons = list(dict.fromkeys(c.refused for c in found))
        if reasons:
            raise ArgumentError(
                f"`method` {asked!r} cannot filter this tensor: {'; '.join(reasons)}"
            )
        raise ArgumentError(
            f"`method` must be auto or one of {', '.join(method_names())} that this kernel has, on a "
            f"tensor of this device; got {asked!r}"
        )
    fewest: dict[str, DeviceCandidate] = {}
    for c in able:
        known = fewest.get(c.method.name)
        if known is None or _multiplications(c) < _multiplications(known):
            fewest[c.method.name] = c
    best = list(fewest.values())
    return best[0] if len(best) == 1 else min(best, key=lambda c: c.predict(image, device).seconds)


def _multiplications(candidate: DeviceCandidate) -> int:
    return sum(form.multiplications for form in candidate.work.forms)


def filter_together(
    plans: Sequence[Plan], image: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor | None:
    """Filter a tensor with several kernels by a device method that shares their passes.

    Kernels whose sums do not fit into one launch are filtered in several launches.

    Parameters
    ----------
    plans : sequence of Plan
        Plan of each kernel, for one image.
    image : torch.Tensor
    dtype : torch.dtype
        Type of the results.

    Returns
    -------
    torch.Tensor or None
        Results of shape (bands, ...); None if no device method runs all kernels in this way.
    """
    forms = [_exact_form(p) for p in plans]
    if any(form is None for form in forms):
        return None
    problems = [p.problem for p in plans]
    for method in registered_device_methods():
        if not method.shares_passes:
            continue
        works = _split(method, image, problems, forms, dtype)
        if works:
            found = [method.run(image, work) for work in works]
            return found[0] if len(found) == 1 else torch.cat(found)
    return None


def _split(
    method: DeviceMethod, image: torch.Tensor, problems: Any, forms: Any, dtype: torch.dtype
) -> list[DeviceWork]:
    """Return the launches that filter all bands, halved until each fits; none if a single band does not."""
    work = DeviceWork(tuple(problems), tuple(forms), dtype)
    if not method.refuse(image, work):
        return [work]
    half = len(forms) // 2
    if not half:
        return []
    parts = [
        _split(method, image, problems[part], forms[part], dtype)
        for part in (slice(0, half), slice(half, None))
    ]
    return [w for part in parts for w in part] if all(parts) else []


def _exact_form(planned: Plan) -> Decomposition | None:
    """Return the terms that add up to the whole kernel, or None if it has too many."""
    for candidate in planned.candidates:
        form = candidate.form
        if candidate.is_exact and form is not None and form.terms:
            return form
    return None
