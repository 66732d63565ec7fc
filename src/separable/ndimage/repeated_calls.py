"""Plans of calls with the same arguments as before, found without checking the arguments again.

A filter of a small image takes less time than the checks of its arguments. A call whose arguments are
an array and plain numbers or names is therefore remembered with its plan.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable import borders
from separable.engine import METHODS, get_num_threads, registry
from separable.machine import current
from separable.plan import Plan
from separable.process_cache import ProcessCache
from separable.run import run

__all__ = ["call_key", "held_run", "hold"]

Array = NDArray[Any]

PLAIN = frozenset((int, float, str, type(None)))
CALLS_KEPT = 64

_runs = ProcessCache(CALLS_KEPT)


def call_key(name: str, image: Any, values: tuple[Any, ...]) -> Hashable | None:
    """Return all that the plan of a call depends on, or None where that takes too long to compare.

    Parameters
    ----------
    name : str
        Name of the function.
    image : Any
        Its image.
    values : tuple
        Its other arguments. Values of other types differ even where they are equal.

    Examples
    --------
    >>> image = np.zeros((3, 3))
    >>> call_key("f", image, (1,)) == call_key("f", image, (1.0,)), call_key("f", image, ([1],))
    (False, None)
    """
    if type(image) is not np.ndarray:
        return None
    types = tuple(map(type, values))
    if not PLAIN.issuperset(types):
        return None
    versions = (registry.registry_version(), borders.registry_version(), hash(current()))
    return (name, image.shape, image.dtype, values, types, get_num_threads(), versions)


def held_run(key: Hashable | None) -> Callable[[Any], Array] | None:
    """Return what filters an image as an earlier call with this key did, if there was one."""
    return None if key is None else _runs.get(key)


def hold(key: Hashable | None, plan: Plan | None) -> None:
    """Keep the plan of a call, all of whose work is to run it on the image.

    A plan that looks for NaN in the image first is not kept.
    """
    if key is None or plan is None or METHODS[plan.chosen.method].spreads_nan:
        return
    method, form = METHODS[plan.chosen.method], plan.chosen.form
    assert form is not None
    _runs.get_or_build(key, lambda: partial(run, plan.problem, method, form))
