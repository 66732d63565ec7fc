"""Plots of a conversion report; Matplotlib is imported when one is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from separable.errors import ArgumentError
from separable.nn.convert.conversion_report import Report

__all__ = ["plot_spectrum", "plot_tradeoff"]


def plot_tradeoff(report: Report, ax: Any = None) -> Any:
    """Plot error against multiplications, and mark the conversion.

    Parameters
    ----------
    report : Report
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = _axes(ax)
    curve = report.tradeoff
    if len(curve):
        dense = curve[:, 0].max()
        ax.plot(curve[:, 0] / dense, curve[:, 1], color="#1f5fa8", label="best for each budget")
        if report.multiplications is not None:
            share = report.multiplications / dense
            ax.axvline(share, color="#b3441e", ls="--", label=f"this conversion, {share:.1%}")
        ax.legend()
    ax.set_xlabel("multiplications, share of the dense network")
    ax.set_ylabel("relative error of a layer (root mean square)")
    ax.set_title(report.model)
    ax.set_ylim(bottom=0)
    return ax


def plot_spectrum(report: Report, layer: str, ax: Any = None) -> Any:
    """Plot the singular values of one layer, and how many of them were kept.

    Parameters
    ----------
    report : Report
    layer : str
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ArgumentError
        If the layer was left alone before its spectrum was looked at.
    """
    found = report[layer]
    if not found.spectrum:
        raise ArgumentError(
            f"`layer` {layer!r} has no spectrum: it was left alone ({found.reason})"
        )
    ax = _axes(ax)
    for at, (bond, squares) in enumerate(found.spectrum.items()):
        values = np.sqrt(squares)
        color = f"C{at}"
        ax.plot(np.arange(1, len(values) + 1), values, color=color, label=f"bond {bond}")
        kept = found.terms.get(bond)
        if kept is not None:
            ax.axvline(kept, color=color, ls="--", label=f"{kept} kept")
    ax.set_yscale("log")
    ax.set_xlabel("term, the largest first")
    ax.set_ylabel("singular value, relative")
    ax.set_title(f"{layer or report.model}: {found.pattern or 'left dense'}")
    ax.legend()
    return ax


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    from matplotlib.figure import Figure  # optional dependency

    return Figure(layout="constrained").subplots()
