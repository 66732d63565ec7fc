"""Plans of a filter on a GPU: candidates with the bytes that they move, predicted times, and what binds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from separable.errors import ArgumentError
from separable.gpu.device_profile import PROFILES, Device
from separable.gpu.tile_cost import Prediction
from separable.gpu.tuned_tiles import device_of
from separable.plan import Plan
from separable.plan.plan_text import amount, count_text, duration, headline, render, wrapped
from separable.tensors.device.device_choice import (
    DeviceCandidate,
    best_candidate,
    device_candidates,
)
from separable.tensors.ops import own, torch_dtype

__all__ = ["DevicePlan", "plan_on"]

COLUMNS = ("", "form", "by", "mult/out", "read", "written", "predicted", "bound by", "error")
LEGEND = (
    "by: name for `method=`; mult/out: multiplications per output; read, written: bytes moved from and to the memory "
    "of the GPU; bound by: what takes the predicted time (memory, cache: loads from the first-level cache, sums: "
    "multiplications); error: bound, relative to sum|kernel| x max|input|."
)


@dataclass(frozen=True, eq=False)
class DevicePlan:
    """All ways to run one filter on a GPU, and the one that is chosen.

    Attributes
    ----------
    planned : Plan
        Plan of the same filter for arrays, which holds the forms of the kernel.
    device : Device
        Sizes and rates of the GPU.
    where : torch.device or None
        The GPU; None for a profile of one that is not there.
    candidates : tuple of DeviceCandidate
    predictions : tuple of Prediction or None
        For each candidate; None where it cannot run.
    chosen : DeviceCandidate

    Examples
    --------
    >>> import separable as sep
    >>> p = sep.plan("gaussian:2", (4096, 4096), "float32", device="h100")
    >>> p.chosen.method.name, p.moved_bytes
    ('triton', (67108864, 67108864))
    """

    planned: Plan
    device: Device
    where: torch.device | None
    candidates: tuple[DeviceCandidate, ...]
    predictions: tuple[Prediction | None, ...]
    chosen: DeviceCandidate

    @property
    def seconds(self) -> float:
        """Predicted time of the chosen candidate."""
        return self._chosen_prediction.seconds

    @property
    def moved_bytes(self) -> tuple[int, int]:
        """Bytes that the chosen candidate reads and writes."""
        return self.chosen.method.moved_bytes(_without_samples(self.planned), self.chosen.work)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Filter a tensor of the planned shape and type on this device.

        Raises
        ------
        ArgumentError
            If the tensor has another shape, type or device, or the plan is for a GPU that is not there.
        """
        p = self.planned.problem
        if self.where is None:
            raise ArgumentError(
                f"this plan is for a described device, {self.device.name}; make one with device='cuda' to run it"
            )
        if tuple(image.shape) != p.shape or image.dtype != torch_dtype(p.dtype):
            raise ArgumentError(
                f"this plan is for shape {p.shape}, {p.dtype}; got shape {tuple(image.shape)}, {image.dtype}"
            )
        if image.device.type != self.where.type:
            raise ArgumentError(f"this plan is for {self.where}; got a tensor on {image.device}")
        reason = self.chosen.method.refuse(image, self.chosen.work)
        if reason:
            raise ArgumentError(f"the planned method cannot filter this tensor: {reason}")
        result = self.chosen.method.run(image, self.chosen.work)[0]
        return own(result) if result.is_contiguous() else result

    @property
    def _chosen_prediction(self) -> Prediction:
        found = self.predictions[self.candidates.index(self.chosen)]
        assert found is not None
        return found

    def __str__(self) -> str:
        title = headline(self.planned).rpartition(",")[0]  # threads are of the processor
        lines = [wrapped(f"{title}, on {self.device.name}"), render(COLUMNS, self._rows())]
        lines += [
            wrapped(f"Rejected: {c.name} by {c.method.name} ({c.refused}).")
            for c in self.candidates
            if c.refused
        ]
        p = self.planned.problem
        floor = p.size * (p.dtype.itemsize + p.out.itemsize)
        chosen = self._chosen_prediction
        lines += [
            wrapped(
                f"Chosen: {self.chosen.name} by {self.chosen.method.title}, bound by {chosen.binds}. It "
                f"{self.chosen.method.explanation}."
            ),
            wrapped(
                f"Floor: reading the image and writing the result once is {amount(floor)}, at least "
                f"{duration(floor / self.device.memory_rate)}; the prediction is "
                f"{chosen.seconds * self.device.memory_rate / floor:.2f} times that."
            ),
            wrapped(f"Rates: {self.device.name}, {self.device.origin}."),
            wrapped(LEGEND),
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<DevicePlan on {self.device.name}: {self.chosen.name} by {self.chosen.method.name}>"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        image = _without_samples(self.planned)
        rows: list[tuple[str, ...]] = []
        for c, prediction in zip(self.candidates, self.predictions, strict=True):
            if prediction is None:
                continue
            read, written = c.method.moved_bytes(image, c.work)
            count = c.work.forms[0].multiplications
            mark = "*" if c is self.chosen else ""
            moved = amount(read), amount(written)
            cost = duration(prediction.seconds), prediction.binds, f"{c.bound:.0e}"
            rows.append((mark, c.name, c.method.name, count_text(count), *moved, *cost))
        return rows


def plan_on(planned: Plan, device: Any) -> DevicePlan:
    """Plan a filter on a GPU.

    Parameters
    ----------
    planned : Plan
        Plan of the same filter for arrays.
    device : str or torch.device
        A CUDA device, such as "cuda" or "cuda:1", or the name of a profile: "a100", "h100", "h100 pcie", "h200" or
        "b200".

    Raises
    ------
    ArgumentError
        If there is no such device or profile.
    """
    where = None
    if isinstance(device, str) and device.lower() in PROFILES:
        profile = PROFILES[device.lower()]
    else:
        where = _present(device)
        profile = device_of(where)
    image = _without_samples(planned)
    dtype = torch_dtype(planned.problem.out)
    found = device_candidates(planned, image, dtype, "auto")
    chosen = best_candidate(found, image, profile, "auto")
    predictions = tuple(None if c.refused else c.predict(image, profile) for c in found)
    return DevicePlan(planned, profile, where, tuple(found), predictions, chosen)


def _present(device: Any) -> torch.device:
    """Return a CUDA device of this computer."""
    names = ", ".join(repr(n) for n in PROFILES)
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ArgumentError(
            f"`device` must be a CUDA device or one of the profiles {names}; got {device!r}"
        ) from None
    if found.type != "cuda" or not torch.cuda.is_available():
        raise ArgumentError(
            f"`device` must be a CUDA device of this computer, or one of the profiles {names}; got {device!r}"
            f"{' and PyTorch finds no CUDA device' if found.type == 'cuda' else ''}"
        )
    return found


def _without_samples(planned: Plan) -> torch.Tensor:
    p = planned.problem
    return torch.empty(p.shape, dtype=torch_dtype(p.dtype), device="meta")
