"""Compile the code of a filter before the slabs are chosen, so that it counts as memory in use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from separable.engine import METHODS
from separable.engine.result_memory import release
from separable.run import run as run_method
from separable.system import resident_memory
from separable.volumes.halo import BlockFilter

__all__ = ["ready_memory"]


def ready_memory(volume_filter: BlockFilter) -> int:
    """Compile the filter, free unused memory, and return the memory then in use."""
    release()
    _warm_up(volume_filter)
    return resident_memory()


def _warm_up(volume_filter: BlockFilter) -> None:
    """Load or compile the code of the filter, so that it counts as memory in use."""
    for one in volume_filter.filters:
        problem = one.problem
        small = replace(problem, shape=tuple(min(n, 4) for n in problem.shape), threads=1)
        form = replace(one.form)
        run_method(small, METHODS[one.method], form, np.zeros(small.shape, small.dtype))
