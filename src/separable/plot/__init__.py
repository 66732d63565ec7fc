"""Pictures of kernels, factors, plans and networks, each a function that returns Matplotlib's Axes.

Matplotlib is imported when something is drawn. Each function takes the Axes to draw on; without
one it makes a figure of its own with Pyplot, so that notebooks and ``pyplot.show()`` show it and
``ax.figure.savefig("name.png")`` writes it.
"""

from separable.plot.kernels import factors, kernel, spectrum
from separable.plot.networks import ledger, tradeoff
from separable.plot.plans import plan

__all__ = ["factors", "kernel", "ledger", "plan", "spectrum", "tradeoff"]
