"""The two pictures of the demonstration, drawn with Matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from separable.plan.table import duration

if TYPE_CHECKING:
    from separable.demo.core import Result

__all__ = ["draw_photo", "draw_volume"]

Array: TypeAlias = NDArray[Any]

DPI = 100
PAPER, INK, QUIET = "#fbfaf8", "#1c1c22", "#6a6a72"
SIGNED = "RdBu_r"


def draw_photo(photo: Array, results: Sequence[Result]) -> Array:
    """Return a picture of the photograph and what each kernel makes of it, shape (y, x, 3)."""
    figure = _figure(16, 8.75)
    grid = figure.add_gridspec(
        2, 4, left=0.012, right=0.988, top=0.855, bottom=0.02, wspace=0.05, hspace=0.27
    )
    _headline(figure, "The same result, by the cheapest way", results)
    large = figure.add_subplot(grid[:, :2])
    _image(large, photo, results[1].output)
    _caption(large, "Photograph", f"{photo.shape[0]} x {photo.shape[1]} x {photo.shape[2]}")
    for index, result in enumerate(results):
        axes = figure.add_subplot(grid[index // 2, 2 + index % 2])
        _image(axes, result.output, photo)
        _caption(axes, f"{result.title} {result.size}", _times(result))
        _inset(axes, result.kernel)
    return _pixels(figure)


def draw_volume(volume: Array, results: Sequence[Result]) -> Array:
    """Return a picture of slices of the volume before and after, shape (y, x, 3)."""
    panels = len(results) + 1
    figure = _figure(16, 7.2)
    depth, height, width = volume.shape
    grid = figure.add_gridspec(
        2, panels, left=0.012, right=0.988, top=0.80, bottom=0.02, wspace=0.04, hspace=0.04,
        height_ratios=(height, depth),
    )  # fmt: skip
    _headline(figure, "The same in three dimensions", results)
    shown = [(volume, "Volume", f"{width} x {height} x {depth}")]
    shown += [(r.output, f"{r.title} {r.size}", _times(r)) for r in results]
    for column, (values, title, below) in enumerate(shown):
        upper = figure.add_subplot(grid[0, column])
        _image(upper, values[depth // 2, ::-1], volume, whole=values)
        _caption(upper, title, below)
        lower = figure.add_subplot(grid[1, column])
        _image(lower, values[::-1, height // 2], volume, whole=values)
    return _pixels(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor=PAPER)


def _headline(figure: Any, text: str, results: Sequence[Result]) -> None:
    total, planned = (sum(r.dense_seconds for r in results), sum(r.seconds for r in results))
    top = 1 - 0.42 / figure.get_figheight()
    figure.text(0.012, top, text, color=INK, size=21, weight="bold", va="center")
    story = f"dense {duration(total)} in all, planned {duration(planned)}"
    figure.text(0.988, top, story, color=QUIET, size=15, va="center", ha="right")


def _times(result: Result) -> str:
    before, after = duration(result.dense_seconds), duration(result.seconds)
    return f"{before} \N{RIGHTWARDS ARROW} {after}   {result.speedup:.0f}\N{MULTIPLICATION SIGN}"


def _image(axes: Any, values: Array, source: Array, whole: Array | None = None) -> None:
    """Show a picture: in the source's own scale, or in red and blue where it has both signs."""
    whole = values if whole is None else whole
    if whole.min() < -0.05 * whole.max():
        plane = values.mean(axis=2) if values.ndim == 3 else values
        reach = float(np.percentile(np.abs(whole), 99.5)) or 1.0
        axes.imshow(plane, cmap=SIGNED, vmin=-reach, vmax=reach, interpolation="antialiased")
    elif values.ndim == 3:
        axes.imshow(np.clip(values / 255, 0, 1), interpolation="antialiased")
    else:
        high = float(np.percentile(source, 99.8)) or 1.0
        axes.imshow(values, cmap="gray", vmin=0, vmax=high, interpolation="antialiased")
    axes.set_axis_off()


def _caption(axes: Any, title: str, below: str) -> None:
    """A title in two lines: what, and how long it took."""
    axes.annotate(
        title, (0, 1), (0, 24), xycoords="axes fraction", textcoords="offset points",
        color=INK, size=13.5, weight="bold", va="bottom",
    )  # fmt: skip
    axes.annotate(
        below, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points",
        color=QUIET, size=13, va="bottom",
    )  # fmt: skip


def _inset(axes: Any, kernel: Array) -> None:
    """The kernel itself, small, in a corner."""
    corner = axes.inset_axes((0.03, 0.03, 0.24, 0.24))
    reach = float(np.max(np.abs(kernel)))
    signed = kernel.min() < 0
    low, colours = (-reach, SIGNED) if signed else (0.0, "gray")
    corner.imshow(kernel, cmap=colours, vmin=low, vmax=reach, interpolation="nearest")
    corner.set(xticks=[], yticks=[])
    for side in corner.spines.values():
        side.set(color=PAPER, linewidth=2)


def _pixels(figure: Any) -> Array:
    from matplotlib.backends import backend_agg

    canvas: Any = backend_agg.FigureCanvasAgg(figure)
    canvas.draw()
    pixels: Array = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels
