"""Plots of networks: multiplications per layer, and error against multiplications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from separable.errors import ArgumentError
from separable.plot.style import ACCENT, MAIN, MUTED, axes_of, tidy

if TYPE_CHECKING:
    from separable.nn import Ledger, Report

__all__ = ["ledger", "tradeoff"]

LARGEST = 20  # default number of layers with a separate bar


def ledger(ledger: Ledger, ax: Any = None, *, layers: int = LARGEST) -> Any:
    """Draw the multiplications of each layer, in the order of the network.

    Parameters
    ----------
    ledger : Ledger
        Result of `separable.nn.ledger`. After `Ledger.what_if`, separated layers are drawn beside
        the original ones.
    ax : matplotlib.axes.Axes, optional
    layers : int
        Number of layers with a separate bar; the others share one. Default 20.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ArgumentError
        If nothing in the ledger multiplies, or `layers` is below 1.

    Examples
    --------
    >>> import torch, separable as sep
    >>> found = sep.nn.ledger(torch.nn.Conv2d(3, 256, 5), (1, 3, 12, 12))
    >>> sep.plot.ledger(found).get_title()
    'Conv2d: 1.23 M multiplications'
    """
    if layers < 1:
        raise ArgumentError(f"`layers` must be >= 1; got {layers}")
    counted = [x for x in ledger.layers if x.cost.multiplications]
    if not counted:
        raise ArgumentError("`ledger` has no layer that multiplies: there is nothing to draw")
    order = sorted(counted, key=lambda x: -x.cost.multiplications)
    largest = {x.name for x in order[:layers]}
    rows = [(x.name or x.kind, x.cost, x.separated or x.cost) for x in counted if x.name in largest]
    others = order[layers:]
    if others:
        costs = [x.cost for x in others]
        parts = [x.separated or x.cost for x in others]
        rows.append((f"{len(others)} others", _sum(costs), _sum(parts)))
    ax = axes_of(ax, 7.2, 1.3 + 0.3 * len(rows))
    after = ledger.separated
    at = range(len(rows))
    shift = 0.2 if after is not None else 0.0
    tall = 0.38 if after is not None else 0.7
    dense = [c.multiplications / 1e6 for _, c, _ in rows]
    ax.barh([r - shift for r in at], dense, height=tall, color=MAIN, label="original")
    if after is not None:
        less = [c.multiplications / 1e6 for _, _, c in rows]
        label = f"separated, {ledger.pattern}"
        ax.barh([r + shift for r in at], less, height=tall, color=ACCENT, label=label)
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    ax.set_yticks(at, [name for name, _, _ in rows], fontsize=8)
    ax.invert_yaxis()
    total = f"{ledger.model}: {_short(ledger.total.multiplications)} multiplications"
    if after is not None:
        total += f", separated {_short(after.multiplications)}"
    ax.set(xlabel="multiplications (millions)", title=total)
    ax.grid(axis="x", color=MUTED, alpha=0.2)
    tidy(ax)
    return ax


def tradeoff(report: Report, ax: Any = None) -> Any:
    """Draw the error of a network against its multiplications, and mark the conversion.

    Parameters
    ----------
    report : Report
        Report of `separable.nn.convert`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import torch, separable as sep
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Conv2d(16, 16, 3))
    >>> _, report = sep.nn.convert(net, rank=2)
    >>> sep.plot.tradeoff(report).get_title()
    'Sequential'
    """
    return report.plot_tradeoff(axes_of(ax))


def _sum(costs: list[Any]) -> Any:
    first, *rest = costs
    return sum(rest, first)


def _short(count: float) -> str:
    """Return a count with three digits and K, M or G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"
