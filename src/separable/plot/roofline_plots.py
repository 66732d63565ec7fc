"""Roofline: rate of multiplications against multiplications per byte moved, for filters and for layers.

Above no point of a computer lie its rate of multiply-adds and its rate of memory traffic times the multiplications
per byte (Williams, Waterman and Patterson, 2009, doi:10.1145/1498765.1498785). Where the two meet, both are used.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from separable.engine.availability import EngineError, compiling
from separable.errors import ArgumentError, ArgumentTypeError, MachineError
from separable.machine import Primitives, current, known_primitives
from separable.plan import Measurement, Plan
from separable.plot.style import ACCENT, INK, MAIN, MUTED, axes_of, plain_ticks, tidy

if TYPE_CHECKING:
    from separable.nn import Ledger

__all__ = ["Roof", "roofline", "roofs"]

MARGIN = 3.0  # factor by which the axes reach beyond the points
STYLES = {
    "dense": (MAIN, "o"), "passes": (ACCENT, "D"), "FFT": (MUTED, "^"),
    "depthwise": (ACCENT, "D"), "pointwise": (INK, "s"), "other layers": (MUTED, "^"),
}  # fmt: skip


@dataclass(frozen=True)
class Roof:
    """The two rates that no computation exceeds.

    Attributes
    ----------
    multiplications : float
        Multiply-adds of float32 numbers per second.
    bytes : float
        Bytes read from and written to memory per second.
    threads : int
        Number of threads that reach them.

    Examples
    --------
    >>> roof = Roof(100e9, 20e9, 1)
    >>> roof.ridge, roof.rate(2.0), roof.rate(50.0)
    (5.0, 40000000000.0, 100000000000.0)
    """

    multiplications: float
    bytes: float
    threads: int

    @property
    def ridge(self) -> float:
        """Multiplications per byte at which both rates are reached."""
        return self.multiplications / self.bytes

    def rate(self, intensity: float) -> float:
        """Return the most multiplications per second for these multiplications per byte."""
        return min(self.multiplications, self.bytes * intensity)


@dataclass(frozen=True)
class _Point:
    """One filter or layer: its intensity and its rate."""

    kind: str
    intensity: float
    rate: float
    text: str


def roofs(primitives: Primitives | None = None, *, threads: int = 1) -> Roof:
    """Return the roof of this computer, from the elementary operations that were measured on it.

    Parameters
    ----------
    primitives : Primitives, optional
        Measured operations of one thread; by default those of this computer, which the compiled engine measures
        in 20 ms at its first use.
    threads : int
        Number of threads. Their rates are added up; memory that they share may be slower than that.

    Raises
    ------
    MachineError
        If the compiled engine, which measures them, cannot be used.

    Examples
    --------
    >>> found = roofs(Primitives(fma=1e-11, copy=1e-10, stream_copy=5e-11), threads=2)
    >>> round(found.multiplications / 1e9), round(found.bytes / 1e9)
    (200, 80)
    """
    if threads < 1:
        raise ArgumentError(f"`threads` must be >= 1; got {threads}")
    known = _measured() if primitives is None else primitives
    if math.isnan(known.fma) or math.isnan(known.memory_copy):
        raise MachineError(
            "the rates of this computer are not known: the compiled engine measures them, and it cannot be "
            "used here. Install Numba, or give `primitives`"
        )
    # A copy reads each byte and writes it.
    return Roof(threads / known.fma, 2 * threads / known.memory_copy, threads)


def roofline(
    shown: Plan | Measurement | Ledger | Sequence[Any],
    ax: Any = None,
    *,
    runtime: str = "torch",
    primitives: Primitives | None = None,
) -> Any:
    """Draw filters or layers as points under the roofline of this computer.

    Parameters
    ----------
    shown : Plan, Measurement, Ledger, or a sequence of them
        All methods of a plan that can run, at their predicted rates, or at the measured ones of a `Measurement`;
        all layers of a ledger that multiply, at their predicted rates. The chosen method of a plan is filled.
    ax : matplotlib.axes.Axes, optional
    runtime : str
        Runtime of the layers: "torch" (the default, PyTorch's operators one by one), "fused" or "onnxruntime".
    primitives : Primitives, optional
        Measured operations of one thread; by default those of this computer.

    Returns
    -------
    matplotlib.axes.Axes
        Left of where the two parts of the roof meet, memory traffic is the limit, right of it the arithmetic.
        Data that stay in the caches may lie above the sloping part.

    Raises
    ------
    ArgumentError
        If there is nothing to draw, or there is no such runtime.
    ArgumentTypeError
        If something is neither a plan nor a measurement nor a ledger.
    MachineError
        If the rates of this computer are not known.

    Examples
    --------
    >>> import separable as sep
    >>> p = sep.plan(sep.kernels.disk(5), shape=(512, 512), dtype="float32", threads=1)
    >>> roofline(p, primitives=Primitives(fma=1e-11, copy=1e-10, stream_copy=1e-10)).get_xlabel()
    'multiplications per byte moved'
    """
    items = list(shown) if isinstance(shown, (list, tuple)) else [shown]
    points = [point for item in items for point in _points(item, runtime)]
    if not points:
        raise ArgumentError("nothing multiplies: there is nothing to draw")
    roof = roofs(primitives, threads=max(_threads(item) for item in items))
    ax = axes_of(ax, 7.2, 4.6)
    reach = [p.intensity for p in points] + [roof.ridge]
    along = np.geomspace(min(reach) / MARGIN, max(reach) * MARGIN, 200)
    ax.plot(along, [roof.rate(x) / 1e9 for x in along], color=MUTED, lw=2)
    ax.axvline(roof.ridge, color=MUTED, lw=0.8, ls=":")
    for kind, (colour, mark) in STYLES.items():
        own = [p for p in points if p.kind == kind]
        if own:
            rates = ([p.intensity for p in own], [p.rate / 1e9 for p in own])
            ax.plot(*rates, mark, color=colour, label=kind, ms=6)
    if len(points) <= 8:
        for p in points:
            ax.annotate(
                p.text, (p.intensity, p.rate / 1e9), (6, -3), textcoords="offset points",
                va="top", color=INK, size=8,
            )  # fmt: skip
    count = f"{roof.threads} thread{'s' if roof.threads > 1 else ''}"
    ax.set(
        xscale="log", yscale="log", xlabel="multiplications per byte moved",
        ylabel="billion multiplications per second", title=f"roofline of this computer, {count}",
    )  # fmt: skip
    plain_ticks(ax.xaxis)
    plain_ticks(ax.yaxis)
    ax.legend(frameon=False, loc="lower right")
    tidy(ax)
    return ax


def _measured() -> Primitives:
    """Return the primitives of this computer, measured by the compiled engine if it can be used."""
    known = known_primitives()
    if known.is_complete:
        return known
    try:
        with compiling:
            return importlib.import_module("separable.engine.compiled.processor_speed").primitives()  # type: ignore[no-any-return]
    except EngineError:
        return current().primitives


def _threads(item: Any) -> int:
    if isinstance(item, Measurement):
        item = item.plan
    if isinstance(item, Plan):
        return item.problem.threads
    return int(item.seconds().threads)


def _points(item: Any, runtime: str) -> Iterator[_Point]:
    if isinstance(item, Plan):
        yield from _of_filter(item, {c.name: c.seconds for c in item.candidates})
    elif isinstance(item, Measurement):
        times = zip(item.candidates, item.seconds, strict=True)
        yield from _of_filter(item.plan, {c.name: s for c, s in times})
    elif hasattr(item, "what_if"):
        yield from _of_layers(item, runtime)
    else:
        raise ArgumentTypeError(
            f"`shown` must be plans, measurements or ledgers; got {type(item).__name__}"
        )


def _of_filter(made: Plan, seconds: dict[str, float]) -> Iterator[_Point]:
    """Yield a point for each method that can run; transforms multiply, too, but not weights and samples."""
    for c in made.candidates:
        took = seconds.get(c.name, math.nan)
        if c.refused or not c.bytes > 0 or not took > 0 or not c.multiplications:
            continue
        kind = "dense" if c.name == "direct" else "FFT" if not c.rank else "passes"
        count = c.multiplications * made.problem.size
        text = f"{c.name}, chosen" if c.name == made.chosen.name else c.name
        yield _Point(kind, count / c.bytes, count / took, text)


def _of_layers(ledger: Any, runtime: str) -> Iterator[_Point]:
    """Yield a point for each layer that multiplies and has a time of its own."""
    predicted = ledger.seconds(runtime)
    for layer in ledger.layers:
        cost, took = layer.cost, predicted[layer.name].seconds[runtime]
        if cost.macs and cost.bytes and took > 0:
            rate = cost.multiplications / took
            yield _Point(_kind(layer), cost.multiplications_per_byte, rate, layer.name)


def _kind(layer: Any) -> str:
    """Return the kind of a layer, by its convolutions."""
    kinds = set()
    for call in layer.convolutions:
        conv = call.convolution
        if conv.groups > 1 and conv.groups == conv.channels:
            kinds.add("depthwise")
        else:
            kinds.add("pointwise" if math.prod(conv.kernel) == 1 else "dense")
    return kinds.pop() if len(kinds) == 1 else "other layers"
