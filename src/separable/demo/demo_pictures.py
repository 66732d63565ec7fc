"""Draw the two pictures of the demonstration with Matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.factors import Factors
from separable.plan import Plan
from separable.plan.plan_text import duration
from separable.plot.style import SIGNED

__all__ = ["DENSE", "PLANNED", "Result", "draw_photo", "draw_volume"]

Array: TypeAlias = NDArray[Any]

DPI, WIDTH = 100, 1600  # dots per inch; pixels across
MARGIN, HEAD, CAPTION = 24, 68, 56  # pixels: border, headline, space above each image
PAPER, INK, QUIET = "#fbfaf8", "#1c1c22", "#6a6a72"
DENSE, PLANNED = "dense here", "planned"  # names of times
SLICE = 1.1  # thickness of the slices of the volume relative to the width of its pixels
ARROW, TIMES = "\N{RIGHTWARDS ARROW}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Result:
    """One kernel, run as a dense convolution and by a plan.

    Attributes
    ----------
    title : str
    kernel : ndarray
    factors : Factors
    plan : Plan
    output : ndarray
    times : dict of str to float
        Seconds of the calls of other libraries, of the dense method here, and of the plan.
    difference : float
        Largest absolute difference between the two results.
    """

    title: str
    kernel: Array
    factors: Factors
    plan: Plan
    output: Array
    times: dict[str, float]
    difference: float

    @property
    def seconds(self) -> float:
        """Time of the plan."""
        return self.times[PLANNED]

    @property
    def best_peer(self) -> str:
        """Name of the fastest call of another library."""
        return min((n for n in self.times if n not in (DENSE, PLANNED)), key=self.times.__getitem__)

    @property
    def speedup(self) -> float:
        """Factor by which the plan is faster than the fastest call of another library."""
        return self.times[self.best_peer] / self.seconds

    @property
    def size(self) -> str:
        """Kernel size as text."""
        return "x".join(map(str, self.kernel.shape))


@dataclass(frozen=True)
class _Page:
    """Figure whose parts are placed in pixels from the upper left corner."""

    figure: Any
    height: int

    @classmethod
    def new(cls, height: int) -> _Page:
        """Make an empty page."""
        from matplotlib.figure import Figure  # optional

        size = (WIDTH / DPI, height / DPI)
        return cls(Figure(figsize=size, dpi=DPI, facecolor=PAPER), height)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Add axes for an image."""
        below = self.height - y - height
        sides = (x / WIDTH, below / self.height, width / WIDTH, height / self.height)
        axes = self.figure.add_axes(sides)
        axes.set_axis_off()
        return axes

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write a line."""
        self.figure.text(x / WIDTH, 1 - y / self.height, text, va="center", **style)

    def headline(self, text: str, results: Sequence[Result]) -> None:
        """Write the title of the page, and the total times of all filters."""
        best, planned = (
            sum(r.times[r.best_peer] for r in results), sum(r.seconds for r in results),
        )  # fmt: skip
        self.text(MARGIN, HEAD * 0.55, text, color=INK, size=20, weight="bold")
        story = (
            f"fastest other library {ARROW} planned:  {duration(best)} {ARROW} {duration(planned)}"
        )
        self.text(WIDTH - MARGIN, HEAD * 0.55, story, color=QUIET, size=14, ha="right")

    def caption(self, x: float, y: float, title: str, below: str) -> None:
        """Write the title and the times above an image."""
        self.text(x, y - 37, title, color=INK, size=12.5, weight="bold")
        self.text(x, y - 14, below, color=QUIET, size=12)

    def pixels(self) -> Array:
        """Return the page as an image."""
        from matplotlib.backends import backend_agg  # optional

        canvas: Any = backend_agg.FigureCanvasAgg(self.figure)
        canvas.draw()
        drawn: Array = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        return drawn


def draw_photo(photo: Array, results: Sequence[Result]) -> Array:
    """Return a picture of the photograph and its filtered versions, shape (y, x, 3)."""
    large = (WIDTH - 4 * MARGIN + CAPTION + MARGIN) // 2
    small = (large - CAPTION - MARGIN) // 2
    top = HEAD + CAPTION
    page = _Page.new(top + large + MARGIN)
    page.headline("The same results with the fastest method", results)
    page.caption(MARGIN, top, "Photograph", _size(photo.shape))
    _show(page.axes(MARGIN, top, large, large), photo, photo)
    for index, result in enumerate(results):
        x = 2 * MARGIN + large + (index % 2) * (small + MARGIN)
        y = top + (index // 2) * (small + CAPTION + MARGIN)
        page.caption(x, y, f"{result.title} {_size(result.kernel.shape)}", _times(result))
        axes = page.axes(x, y, small, small)
        _show(axes, result.output, photo)
        _inset(axes, result.kernel, 0.22, 0.22)
    return page.pixels()


def draw_volume(volume: Array, results: Sequence[Result]) -> Array:
    """Return a picture of slices of the volume before and after, shape (y, x, 3)."""
    depth, height, width = volume.shape
    across = (WIDTH - MARGIN * (len(results) + 2)) / (len(results) + 1)
    tall, thin = across * height / width, across * depth * SLICE / width
    top = HEAD + CAPTION
    page = _Page.new(round(top + tall + MARGIN / 2 + thin + MARGIN))
    page.headline("The same in three dimensions", results)
    shown = [(volume, "Volume", _size(volume.shape))]
    shown += [(r.output, f"{r.title} {_size(r.kernel.shape)}", _times(r)) for r in results]
    for column, (values, title, below) in enumerate(shown):
        x = MARGIN + column * (across + MARGIN)
        page.caption(x, top, title, below)
        upper = page.axes(x, top, across, tall)
        _show(upper, values[depth // 2, ::-1], volume, values_shown=values)
        lower = page.axes(x, top + tall + MARGIN / 2, across, thin)
        _show(lower, values[::-1, height // 2], volume, values_shown=values)
        if column:
            kernel = results[column - 1].kernel
            _inset(upper, kernel[len(kernel) // 2], 0.2, 0.2 * across / tall)
    return page.pixels()


def _size(shape: Sequence[int]) -> str:
    return TIMES.join(map(str, shape))


def _times(result: Result) -> str:
    best = result.best_peer
    faster = f",  {result.speedup:.1f}{TIMES}" if result.speedup >= 1.05 else ""
    return f"{best} {duration(result.times[best])} {ARROW} {duration(result.seconds)}{faster}"


def _show(axes: Any, values: Array, source: Array, values_shown: Array | None = None) -> None:
    """Show an image: with the grey levels of the source, or in red and blue if it has both signs."""
    values_shown = values if values_shown is None else values_shown
    if values_shown.min() < -0.05 * values_shown.max():
        plane = values.mean(axis=2) if values.ndim == 3 else values
        reach = float(np.percentile(np.abs(values_shown), 99.5)) or 1.0
        axes.imshow(
            plane, cmap=SIGNED, vmin=-reach, vmax=reach, interpolation="antialiased", aspect="auto"
        )
    elif values.ndim == 3:
        axes.imshow(np.clip(values / 255, 0, 1), interpolation="antialiased", aspect="auto")
    else:
        high = float(np.percentile(source, 99.8)) or 1.0
        axes.imshow(
            values, cmap="gray", vmin=0, vmax=high, interpolation="antialiased", aspect="auto"
        )


def _inset(axes: Any, kernel: Array, width: float, height: float) -> None:
    """Draw the kernel small in a corner."""
    corner = axes.inset_axes((0.03, 0.03 * height / width, width, height))
    reach = float(np.max(np.abs(kernel)))
    signed = kernel.min() < 0
    low, colours = (-reach, SIGNED) if signed else (0.0, "gray")
    corner.imshow(kernel, cmap=colours, vmin=low, vmax=reach, interpolation="nearest")
    corner.set(xticks=[], yticks=[])
    for side in corner.spines.values():
        side.set(color="#8a8a92", linewidth=1.5)
