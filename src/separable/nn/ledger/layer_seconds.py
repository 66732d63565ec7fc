"""LayerSeconds: the predicted time of each layer of a network, in each runtime."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import Any

from separable.cost.cost_text import Column, fitting, table
from separable.errors import ArgumentError
from separable.nn.runtimes.known_runtimes import RUNTIMES
from separable.nn.step_times.layer_profile import LayerProfile, current_profile
from separable.nn.step_times.recorded_operation import RecordedOperation
from separable.nn.step_times.time_model import BOUNDS

__all__ = ["LayerSeconds", "TimedLayer", "predicted_seconds"]

NARROWEST = 14
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


@dataclass(frozen=True)
class TimedLayer:
    """Predicted time of one layer.

    Attributes
    ----------
    name : str
        Path of the module in the model.
    seconds : mapping of str to float
        Time per runtime; 0 where another layer computes it too.
    bound : mapping of str to str
        What takes most of it per runtime: "arithmetic", "bytes" or "call"; empty where `with_layer` says more.
    with_layer : mapping of str to str
        Layer that computes this one too, per runtime; empty where there is none.
    """

    name: str
    seconds: Mapping[str, float]
    bound: Mapping[str, str]
    with_layer: Mapping[str, str]


@dataclass(frozen=True, repr=False)
class LayerSeconds:
    """Predicted times of the layers of a network; prints as a table.

    Attributes
    ----------
    model : str
    inputs : tuple of str
    layers : tuple of TimedLayer
        Layers in the order in which they run.
    calls : mapping of str to float
        Time of a call of the network besides its layers, per runtime.
    origin : str
        Whose times they are predicted from.
    threads : int
        Number of threads that these were measured with.

    Examples
    --------
    >>> import torch
    >>> from separable.nn.ledger import ledger
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.ReLU()).eval()
    >>> found = ledger(net, (1, 3, 64, 64), backward=False).seconds()
    >>> found.runtimes, found["1"].with_layer["fused"]
    (('torch', 'fused', 'onnxruntime'), '0')
    >>> found.total["torch"] > found["0"].seconds["torch"] > 0
    True
    """

    model: str
    inputs: tuple[str, ...]
    layers: tuple[TimedLayer, ...]
    calls: Mapping[str, float]
    origin: str
    threads: int

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes."""
        return tuple(self.calls)

    @property
    def total(self) -> dict[str, float]:
        """Time of a call of the network per runtime."""
        return {
            runtime: call + sum(x.seconds[runtime] for x in self.layers)
            for runtime, call in self.calls.items()
        }

    def __getitem__(self, name: str) -> TimedLayer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"no layer {name!r}; there are {', '.join(x.name for x in self.layers)}")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and texts, as JSON needs it."""
        return {
            "model": self.model,
            "inputs": list(self.inputs),
            "origin": self.origin,
            "threads": self.threads,
            "total": self.total,
            "calls": dict(self.calls),
            "layers": [
                {
                    "name": x.name,
                    "seconds": dict(x.seconds),
                    "bound": dict(x.bound),
                    "with_layer": dict(x.with_layer),
                }
                for x in self.layers
            ],
        }

    def table(self, *, width: int = 80) -> str:
        """Return the printed table; the runtimes that do not fit are left out.

        Parameters
        ----------
        width : int
            The widest line.
        """
        total = TimedLayer("total", self.total, {}, {})
        columns = _columns(self.runtimes)
        shown = fitting(columns, [*self.layers, total], width, NARROWEST)
        rows = [[c.cell(x) for c in shown] for x in self.layers]
        last = [c.cell(total) for c in shown]
        grid = table([c.name for c in shown], [*rows, (), last], width=width)
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        notes = (
            f"{self.model} on {', '.join(self.inputs) or 'no input'}: predicted time of the forward pass",
            "Each time is followed by what takes most of it: arithmetic, bytes moved, or the call. "
            "A layer without a time is computed together with the one before it.",
            f"Predicted from times of {threads} {self.origin}.",
        )
        folded = [textwrap.fill(n, width, break_on_hyphens=False) for n in notes]
        return "\n".join([folded[0], grid, *folded[1:]])

    def __str__(self) -> str:
        return self.table(width=max(80, get_terminal_size((80, 24)).columns))

    __repr__ = __str__


def predicted_seconds(
    model: str,
    inputs: tuple[str, ...],
    operations: Sequence[RecordedOperation],
    runtimes: Sequence[str],
    profile: LayerProfile | None = None,
) -> LayerSeconds:
    """Predict the times of the layers that some operations belong to.

    Parameters
    ----------
    model : str
    inputs : tuple of str
    operations : sequence of RecordedOperation
    runtimes : sequence of str
        Names; all that the profile contains if empty.
    profile : LayerProfile, optional
        That of this computer if not given.

    Raises
    ------
    ArgumentError
        If there is no such runtime, or the profile lacks it.
    """
    known = current_profile() if profile is None else profile
    names = tuple(runtimes) or tuple(r for r in RUNTIMES if r in known.models)
    for name in names:
        if name not in RUNTIMES or name not in known.models:
            raise ArgumentError(
                f"`runtimes` must be among {', '.join(map(repr, known.runtimes))}; got {name!r}. "
                "`separable machine --layers` measures those that are installed"
            )
    layers = dict.fromkeys(o.layer for o in operations)
    found = {name: _of_runtime(name, operations, known) for name in names}
    timed = tuple(
        TimedLayer(
            layer,
            {r: sum(found[r][0].get(layer, {}).values()) for r in names},
            {r: _largest(found[r][0].get(layer, {})) for r in names},
            {r: found[r][1].get(layer, "") for r in names},
        )
        for layer in layers
    )
    calls = {name: known.calls.get(name, 0.0) for name in names}
    return LayerSeconds(model, inputs, timed, calls, known.origin, known.threads)


def _of_runtime(
    runtime: str, operations: Sequence[RecordedOperation], profile: LayerProfile
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Return the time of each layer by what binds it, and the layers that others compute too."""
    times: dict[str, dict[str, float]] = {}
    joined: dict[str, str] = {}
    for step in RUNTIMES[runtime].steps(operations):
        found = profile.predict(runtime, step.work)
        own = times.setdefault(step.layer, {})
        own[found.bound] = own.get(found.bound, 0.0) + found.seconds
        joined |= dict.fromkeys(step.joined, step.layer)
    return times, {k: v for k, v in joined.items() if k not in times}


def _largest(parts: Mapping[str, float]) -> str:
    """Return what takes the largest part of a time."""
    return max(BOUNDS, key=lambda bound: parts.get(bound, 0.0)) if parts else ""


def _columns(runtimes: Sequence[str]) -> tuple[Column[TimedLayer], ...]:
    """Return a column of names, and two per runtime; the last runtimes are left out first."""
    columns: list[Column[TimedLayer]] = [Column("layer", lambda x: x.name or "(model)")]
    for at, runtime in enumerate(runtimes):
        columns += [
            Column(runtime, lambda x, r=runtime: _time(x, r), at),  # type: ignore[misc]
            Column("bound", lambda x, r=runtime: x.bound.get(r, ""), at),  # type: ignore[misc]
        ]
    return tuple(columns)


def _time(layer: TimedLayer, runtime: str) -> str:
    """Return a time with three digits and a unit; nothing where another layer has it."""
    seconds = layer.seconds[runtime]
    if seconds <= 0 or math.isnan(seconds):
        return ""
    unit, factor = next((u for u in UNITS if seconds >= u[1] * 0.9995), UNITS[-1])
    value = seconds / factor
    return f"{value:.0f} {unit}" if value >= 99.95 else f"{value:#.3g} {unit}"
