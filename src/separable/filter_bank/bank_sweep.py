"""Run the passes of several kernels in one sweep of the compiled engine.

The order of the axes is the sweep's: down the rows, along them, then from plane to plane; of two axes
with many samples inside each position, along the inner one first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import extension
from separable.engine import Problem, WorkEstimate
from separable.engine.availability import compiling
from separable.engine.symmetry import is_folding
from separable.filter_bank.pass_graph import Graph
from separable.process_cache import ProcessCache

__all__ = ["MOST_AXES", "Sweep", "order_of", "work_of"]

Array = NDArray[Any]

MOST_AXES = 3
INNER = 32  # so many samples inside each position of the filtered axes fill the vectors


def order_of(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Return the kernel axes in the order in which a sweep filters them.

    Examples
    --------
    >>> order_of((64, 64, 64), (0, 1, 2)), order_of((64, 64), (0, 1)), order_of((64, 64, 64), (0, 1))
    ((1, 2, 0), (0, 1), (1, 0))
    """
    ascending = sorted(range(len(axes)), key=lambda k: axes[k])
    if len(axes) == 3:
        return (ascending[1], ascending[2], ascending[0])
    many = math.prod(shape[max(axes) + 1 :]) >= INNER
    return tuple(ascending[::-1] if many else ascending)


def work_of(problem: Problem, graph: Graph) -> WorkEstimate:
    """Count what a sweep does."""
    n = float(problem.size)
    last = graph.layers[-1]
    counts = {"call": 1.0, "element": n * len(last.sums), "tap": 0.0, "folded tap": 0.0}
    counts["axis element"] = n * sum(len(layer.sources) for layer in graph.layers)
    counts["plane"] = n * len(graph.layers[-2].sums) if len(graph.layers) > 2 else 0.0
    for taps in (row for layer in graph.layers for row in layer.taps):
        counts["folded tap" if is_folding(taps) else "tap"] += n * taps.size
    moved = n * (problem.dtype.itemsize + problem.out.itemsize * len(last.sums))
    return WorkEstimate(graph.passes, graph.multiplications, moved, counts)


class Sweep:
    """A graph for one problem, to be run again and again.

    Parameters
    ----------
    problem : Problem
        Of any of the kernels: what they have in common is used.
    graph : Graph
        Its axes in the order of `order_of`.
    """

    def __init__(self, problem: Problem, graph: Graph) -> None:
        self.problem, self.graph = problem, graph
        self._cached = ProcessCache()

    def __call__(self, image: Array, outputs: Sequence[Array]) -> None:
        """Filter a contiguous image into one contiguous array a kernel, of a type the engine has."""
        correlation = self._cached.get_or_build("correlation", self._correlation)
        correlation.into(image, outputs, self.problem.threads)

    def _correlation(self) -> Any:
        with compiling:
            from separable.engine.compiled.shared_passes import BankCorrelation
            from separable.engine.compiled.tiling import Network, Pass
        p, layers = self.problem, self.graph.layers
        passes = {}
        for layer in layers:
            axis, right = p.axes[layer.axis], layer.taps.shape[1] - 1 - layer.left
            border = extension(p.shape[axis], layer.left, right, p.modes[layer.axis])
            passes[axis] = Pass(layer.taps, layer.left, border.astype(np.int64))
        axes = sorted(passes)
        ring = layers[-2].sums if self._has_rings() else ()
        network = Network(
            x_from=self._x_from(),
            rings=ring,
            z_from=layers[-1].sources if ring else (),
            outputs=layers[-1].sums,
        )
        cval = float(np.real(p.cval))
        return BankCorrelation([passes[a] for a in axes], network, axes, cval, p.work, p.shape)

    def _has_rings(self) -> bool:
        """Whether the last layer goes from plane to plane."""
        first = [self.problem.axes[layer.axis] for layer in self.graph.layers]
        return len(first) == 3 or first != sorted(first)

    def _x_from(self) -> tuple[int, ...]:
        """What the terms along the rows read: a first layer, or the image."""
        layers = self.graph.layers
        if len(layers) == 1:
            return layers[0].sources
        return layers[1].sources if len(layers) == 3 or not self._has_rings() else ()
