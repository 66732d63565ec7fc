"""Common style of all plots: colours that colour-blind readers can tell apart, and Axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentTypeError

__all__ = [
    "ACCENT",
    "COLOURS",
    "INK",
    "MAIN",
    "MUTED",
    "PALE",
    "SIGNED",
    "axes_of",
    "colour_scale",
    "image",
    "plain_ticks",
    "tidy",
]

Array = NDArray[Any]

MAIN, ACCENT = "#1f5fa8", "#c2501b"  # blue and vermilion
INK, MUTED, PALE = "#1c1c22", "#6a6a72", "#c9ccd3"
SIGNED = "RdBu_r"  # blue is negative, red positive, in all pictures and on the page
COLOURS = "blue is negative, white 0, red positive"
DECADES = 2.5  # of an axis: on a shorter one ticks are also at 2 and 5


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


def colour_scale(values: Array, reach: float | None = None) -> dict[str, Any]:
    """Return the colour map and the limits for `imshow`: blue is negative, white 0 and red positive.

    Parameters
    ----------
    values : ndarray
        Values to draw. If none is negative, only white to red is used.
    reach : float, optional
        Largest magnitude that has a colour of its own; default: that of the values.

    Examples
    --------
    >>> scale = colour_scale(np.array([-1.0, 2.0]))
    >>> scale["cmap"], scale["vmin"], scale["vmax"]
    ('RdBu_r', -2.0, 2.0)
    """
    if reach is None:
        reach = float(np.max(np.abs(values), initial=0.0)) or 1.0
    if np.min(values, initial=0.0) < 0:
        return {"cmap": SIGNED, "vmin": -reach, "vmax": reach}
    return {"cmap": _positive(), "vmin": 0.0, "vmax": reach}


def plain_ticks(axis: Any) -> None:
    """Write the ticks of a logarithmic axis as plain numbers, also at 2 and 5 where few powers of 10 lie on it."""
    from matplotlib import ticker  # optional

    low, high = sorted(axis.get_view_interval())
    few = low > 0 and np.log10(high / low) < DECADES
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def image(ax: Any, values: Array, extent: tuple[float, float, float, float], reach: float) -> Any:
    """Draw an array as colours: red above and blue below zero; only shades of red if nothing is below."""
    left, right, bottom, top = extent
    drawn = ax.imshow(
        values, **colour_scale(values, reach), extent=(left, right, bottom, top),
        interpolation="nearest", origin="upper", aspect="equal",
    )  # fmt: skip
    ax.plot(
        [left, right, right, left, left],
        [bottom, bottom, top, top, bottom],
        color=MUTED,
        linewidth=0.8,
    )
    return drawn
