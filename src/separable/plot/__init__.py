"""Pictures of kernels, factors, plans and networks, each a function that returns Matplotlib's Axes.

Matplotlib is imported when something is drawn. Each function takes the Axes to draw on; without
one it makes a figure of its own with Pyplot, so that notebooks and ``pyplot.show()`` show it and
``ax.figure.savefig("name.png")`` writes it.
"""

from separable.plot.kernel_plots import factors, kernel, spectrum
from separable.plot.network_plots import ledger, tradeoff
from separable.plot.plan_plots import plan

__all__ = ["factors", "kernel", "ledger", "plan", "spectrum", "tradeoff"]
