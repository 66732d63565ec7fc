"""Common style of all plots: colours that colour-blind readers can tell apart, and Axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentTypeError

__all__ = ["ACCENT", "INK", "MAIN", "MUTED", "PALE", "axes_of", "image", "tidy"]

Array = NDArray[Any]

MAIN, ACCENT = "#1f5fa8", "#c2501b"  # blue and vermilion
INK, MUTED, PALE = "#1c1c22", "#6a6a72", "#c9ccd3"
SIGNED = "RdBu_r"  # blue is negative, red positive, in all pictures and on the page


def axes_of(ax: Any, width: float = 6.4, height: float = 4.4) -> Any:
    """Return the given Axes, or those of a new Pyplot figure; the size is in inches.

    Raises
    ------
    ArgumentTypeError
        If `ax` is not Matplotlib Axes.
    """
    if ax is None:
        from matplotlib import pyplot  # optional

        return pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    if not hasattr(ax, "add_patch"):
        raise ArgumentTypeError(f"`ax` must be Matplotlib Axes; got {type(ax).__name__}")
    return ax


def tidy(ax: Any) -> None:
    """Hide the upper and right side of the frame."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(PALE)
    ax.tick_params(color=PALE, labelcolor=INK)


def _positive() -> Any:
    """Return the half of the signed colours above zero, so that a colour means the same everywhere."""
    from matplotlib import colormaps, colors  # optional

    upper = colormaps[SIGNED](np.linspace(0.5, 1, 256))
    return colors.LinearSegmentedColormap.from_list("positive", list(upper))


def image(ax: Any, values: Array, extent: tuple[float, float, float, float], reach: float) -> Any:
    """Draw an array as colours: red above and blue below zero; only shades of red if nothing is below."""
    signed = bool(np.min(values, initial=0.0) < 0)
    low, colours = (-reach, SIGNED) if signed else (0.0, _positive())
    left, right, bottom, top = extent
    drawn = ax.imshow(
        values, cmap=colours, vmin=low, vmax=reach, extent=(left, right, bottom, top),
        interpolation="nearest", origin="upper", aspect="equal",
    )  # fmt: skip
    ax.plot(
        [left, right, right, left, left],
        [bottom, bottom, top, top, bottom],
        color=MUTED,
        linewidth=0.8,
    )
    return drawn
