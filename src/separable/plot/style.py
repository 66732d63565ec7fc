"""What all pictures have in common: colours that a colour-blind reader tells apart, and the Axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentTypeError

__all__ = ["ACCENT", "INK", "MAIN", "MUTED", "PALE", "axes_of", "image", "tidy"]

Array = NDArray[Any]

MAIN, ACCENT = "#1f5fa8", "#c2501b"  # blue and vermilion
INK, MUTED, PALE = "#1c1c22", "#6a6a72", "#c9ccd3"
SIGNED, POSITIVE = "RdBu_r", "Blues"


def axes_of(ax: Any, width: float = 6.4, height: float = 4.4) -> Any:
    """Return the Axes to draw on: those given, or of a new figure of Pyplot (inches).

    Raises
    ------
    ArgumentTypeError
        If `ax` is something else.
    """
    if ax is None:
        from matplotlib import pyplot

        return pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    if not hasattr(ax, "add_patch"):
        raise ArgumentTypeError(f"`ax` must be Matplotlib Axes; got {type(ax).__name__}")
    return ax


def tidy(ax: Any) -> None:
    """Take away the frame's upper and right side."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(PALE)
    ax.tick_params(color=PALE, labelcolor=INK)


def image(ax: Any, values: Array, extent: tuple[float, float, float, float], reach: float) -> Any:
    """Show numbers as colours, white at zero: red above, blue below; or blue alone."""
    signed = bool(np.min(values, initial=0.0) < 0)
    low, colours = (-reach, SIGNED) if signed else (0.0, POSITIVE)
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
