"""The engine: methods that run one filter on NumPy arrays, behind one registry.

Callers need three names: `Problem` (a filter request without data), `Decomposition` (the kernel in the representation
that a method consumes) and `METHODS` (each method's limits, cost and implementation).
"""

from separable.engine.base import (
    Decomposition,
    Pass,
    Problem,
    WorkEstimate,
    dense_decomposition,
    pass_decomposition,
    work_dtype,
)
from separable.engine.lazy_kernel import Kernel
from separable.engine.method import DENSE, KRONECKER, TERMS, TREE, Method
from separable.engine.registry import (
    METHODS,
    register_method,
    registered_methods,
    unregister_method,
)
from separable.engine.thread_count import get_num_threads, set_num_threads

__all__ = [
    "DENSE",
    "KRONECKER",
    "METHODS",
    "TERMS",
    "TREE",
    "Decomposition",
    "Kernel",
    "Method",
    "Pass",
    "Problem",
    "WorkEstimate",
    "dense_decomposition",
    "get_num_threads",
    "pass_decomposition",
    "register_method",
    "registered_methods",
    "set_num_threads",
    "unregister_method",
    "work_dtype",
]
