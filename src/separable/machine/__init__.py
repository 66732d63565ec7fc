"""Machine profiles: the measured time of each kind of operation on a computer.

A profile contains, for each method and data type, the seconds of one operation of each kind that the method
counts (`WorkEstimate.counts`). `separable machine` measures this computer. Until then, the most similar one of
the profiles in the package is used, adjusted to this computer by a short probe: each rate is multiplied by the
ratio of one of a few primitives, such as the time of a multiply-add, here and there. The code contains no rates.
"""

from separable.machine.machine_profile import Machine, Rates
from separable.machine.primitives import Primitives, measure_with_numpy, shortest, thread_clock
from separable.machine.this_machine import (
    cache_path,
    current,
    forget,
    keep,
    known_primitives,
    nearest,
    record_primitives,
    shipped,
    shipped_profiles,
)
from separable.machine.vector_width import vector_bits

__all__ = [
    "Machine",
    "Primitives",
    "Rates",
    "cache_path",
    "current",
    "forget",
    "keep",
    "known_primitives",
    "measure_with_numpy",
    "nearest",
    "record_primitives",
    "shipped",
    "shipped_profiles",
    "shortest",
    "thread_clock",
    "vector_bits",
]
