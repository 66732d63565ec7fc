"""Plots of plans: time of each method, and times against kernel size."""

from __future__ import annotations

import math
from typing import Any

from separable.errors import ArgumentError
from separable.plan import Measurement, Plan, SizeSweep
from separable.plan.plan_text import duration
from separable.plot.style import ACCENT, INK, MAIN, MUTED, PALE, axes_of, plain_ticks, tidy

__all__ = ["crossing", "plan"]


def plan(plan: Plan | Measurement, ax: Any = None) -> Any:
    """Draw the predicted time of every method, and the measured time if there is one.

    Parameters
    ----------
    plan : Plan or Measurement
        Result of `separable.plan` or `Plan.measure`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        One bar per method that can run, the fastest on top; the chosen one is highlighted,
        rejected ones are pale.

    Examples
    --------
    >>> import separable as sep
    >>> p = sep.plan(sep.kernels.disk(5), shape=(512, 512), dtype="float32")
    >>> sep.plot.plan(p).get_xlabel()
    'time (ms)'
    """
    measured = plan if isinstance(plan, Measurement) else None
    made = measured.plan if measured is not None else plan
    assert isinstance(made, Plan)
    shown = [c for c in made.candidates if c.form is not None and not math.isnan(c.seconds)]
    shown.sort(key=lambda c: (bool(c.refused), c.seconds))
    took = {}
    if measured is not None:
        took = {c.name: s for c, s in zip(measured.candidates, measured.seconds, strict=True)}
    ax = axes_of(ax, 6.8, 1.3 + 0.45 * len(shown))
    for row, c in enumerate(shown):
        colour = MAIN if c.name == made.chosen.name else PALE
        ax.barh(row, c.seconds * 1e3, color=colour, height=0.62, alpha=0.45 if c.refused else 1)
        end, note = c.seconds, duration(c.seconds)
        if c.name in took:
            end = max(end, took[c.name])
            note += f", measured {duration(took[c.name])}"
        note += ", rejected" if c.refused else ""
        colour = MUTED if c.refused else INK
        ax.annotate(
            note, (end * 1e3, row), (7, 0), textcoords="offset points",
            va="center", color=colour, size=9,
        )  # fmt: skip
    if took:
        points = [(took[c.name] * 1e3, row) for row, c in enumerate(shown) if c.name in took]
        ax.plot(*zip(*points, strict=True), "D", color=ACCENT, clip_on=False)
    ax.set_yticks(range(len(shown)), [c.title for c in shown])
    ax.invert_yaxis()
    ax.margins(x=0.7 if took else 0.4)  # room for the text beside the longest bar
    ax.set_xlim(left=0)
    size = "x".join(map(str, made.problem.kernel_shape))
    image = "x".join(map(str, made.problem.shape))
    unit = "time (ms): bars predicted, diamonds measured" if took else "time (ms)"
    ax.set(xlabel=unit, title=f"kernel {size} on {image} {made.problem.dtype}")
    tidy(ax)
    return ax


def crossing(sweep: SizeSweep, ax: Any = None, *, what: str = "seconds") -> Any:
    """Draw predicted times or multiplications against kernel size, where dense sums, passes and FFTs cross.

    Parameters
    ----------
    sweep : SizeSweep
        Result of `separable.plan.sweep_sizes`.
    ax : matplotlib.axes.Axes, optional
    what : "seconds" or "multiplications"
        What is drawn; the default is what a user waits for.

    Returns
    -------
    matplotlib.axes.Axes
        One line per way, on logarithmic axes; a dotted line where the FFT overtakes the passes.

    Raises
    ------
    ArgumentError
        If `what` is neither of the two.

    Examples
    --------
    >>> from separable.plan import sweep_sizes
    >>> crossing(sweep_sizes((512, 512), sizes=(3, 31))).get_ylabel()
    'predicted time (ms)'
    """
    if what not in ("seconds", "multiplications"):
        raise ArgumentError(f'`what` must be "seconds" or "multiplications"; got {what!r}')
    ax = axes_of(ax)
    scale = 1e3 if what == "seconds" else 1.0
    styles = {"dense": (MUTED, "-"), "passes": (MAIN, "-"), "FFT": (ACCENT, "-")}
    for way, values in getattr(sweep, what).items():
        points = [
            (n, v * scale) for n, v in zip(sweep.sizes, values, strict=True) if math.isfinite(v)
        ]
        if points:
            colour, line = styles[way]
            ax.plot(*zip(*points, strict=True), line, color=colour, marker="o", ms=3, label=way)
    place = sweep.crossing() if what == "seconds" else None
    if place:
        ax.axvline(place, color=PALE, linestyle=":")
        ax.annotate(
            f"FFT from {place} on", (place, ax.get_ylim()[1]), color=MUTED, size=9, va="top"
        )
    label = "predicted time (ms)" if what == "seconds" else "multiplications per output"
    ax.set(xscale="log", yscale="log", xlabel="kernel size K along each axis", ylabel=label)
    plain_ticks(ax.xaxis)
    plain_ticks(ax.yaxis)
    image = "x".join(map(str, sweep.shape))
    ax.set_title(f"kernels of rank {sweep.rank} on {image} {sweep.dtype}")
    ax.legend(frameon=False)
    tidy(ax)
    return ax
