"""Sweeps that run the passes of several kernels together, by the compiled engine.

A sweep filters down the rows, then along them, then from plane to plane. With two axes and many samples
inside each position it filters along the inner axis first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Border
from separable.engine import Problem, WorkEstimate
from separable.engine.availability import compiling
from separable.engine.methods.compiled_sweeps import worthwhile_threads
from separable.engine.methods.fused_terms import FusedTerms
from separable.engine.symmetry import is_folding
from separable.filter_bank.pass_graph import Graph
from separable.machine import current
from separable.process_cache import ProcessCache

__all__ = ["MOST_AXES", "Sweep", "compiled_passes", "order_of", "work_of"]

Array = NDArray[Any]

MOST_AXES = 3
INNER = 32  # samples inside each position of the filtered axes that fill the SIMD vectors


def order_of(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """Return the kernel axes in the order in which a sweep filters along them.

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
    """Graph of passes for one problem, which may run many times.

    Parameters
    ----------
    problem : Problem
        Problem of any of the kernels; only properties that they share are used.
    graph : Graph
        The passes, with the axes in the order of `order_of`.
    """

    def __init__(self, problem: Problem, graph: Graph) -> None:
        self.problem, self.graph = problem, graph
        self._cached = ProcessCache()

    def __call__(self, image: Array, outputs: Sequence[Array]) -> None:
        """Filter a contiguous image into one contiguous array per kernel, of a type that the engine supports."""
        correlation = self._cached.get_or_build("correlation", self._correlation)
        correlation.into(image, outputs, self.problem.threads)

    def _correlation(self) -> Any:
        with compiling:
            # start-up: Numba is imported at the first run
            from separable.engine.compiled.shared_passes import BankCorrelation
        p = self.problem
        axes, passes, network = compiled_passes(self.graph, p.shape, p.axes, p.modes)
        cval = float(np.real(p.cval))
        bank = BankCorrelation(passes, network, axes, cval, p.work, p.shape)
        alone = FusedTerms().seconds(
            current(), replace(p, threads=1), work_of(p, self.graph).counts
        )
        bank.most_threads = worthwhile_threads(alone, p.threads)
        return bank


def compiled_passes(
    graph: Graph, shape: Sequence[int], axes: Sequence[int], modes: Sequence[Border]
) -> tuple[list[int], list[Any], Any]:
    """Return a graph as the compiled engine takes it: image axes, their passes, and what is summed.

    Parameters
    ----------
    graph : Graph
        The passes, with the axes in the order of `order_of`.
    shape : sequence of int
        Shape of the image.
    axes : sequence of int
        Image axis of each kernel axis.
    modes : sequence of Border
        Border mode of each kernel axis.

    Returns
    -------
    list of int, list of Pass, TermGraph
        The filtered axes, ascending, and the other two in that order.
    """
    with compiling:
        from separable.engine.compiled.term_graph import Pass, TermGraph
    layers, passes = graph.layers, {}
    for layer in layers:
        axis, right = axes[layer.axis], layer.taps.shape[1] - 1 - layer.left
        border = modes[layer.axis].extension(shape[axis], layer.left, right)
        passes[axis] = Pass(layer.taps, layer.left, border.astype(np.int64))
    first = [axes[layer.axis] for layer in layers]
    # Whether the last layer goes from plane to plane.
    has_rings = len(first) == 3 or first != sorted(first)
    ring = layers[-2].sums if has_rings else ()
    # The terms along the rows read sums of a first layer, or the image.
    if len(layers) == 1:
        x_from = layers[0].sources
    else:
        x_from = layers[1].sources if len(layers) == 3 or not has_rings else ()
    network = TermGraph(
        x_from=x_from,
        rings=ring,
        z_from=layers[-1].sources if ring else (),
        outputs=layers[-1].sums,
    )
    ascending = sorted(passes)
    return ascending, [passes[a] for a in ascending], network
