"""Plots of kernels, factors, plans and networks; each function returns Matplotlib Axes.

Matplotlib is imported when something is drawn. Each function accepts the Axes to draw on; without
them it creates a new figure with Pyplot, which notebooks and ``pyplot.show()`` display and
``ax.figure.savefig("name.png")`` writes.
"""

from separable.plot.kernel_plots import factors, kernel, spectrum
from separable.plot.network_plots import ledger, tradeoff
from separable.plot.plan_plots import crossing, plan
from separable.plot.roofline_plots import Roof, roofline, roofs

__all__ = [
    "Roof",
    "crossing",
    "factors",
    "kernel",
    "ledger",
    "plan",
    "roofline",
    "roofs",
    "spectrum",
    "tradeoff",
]
