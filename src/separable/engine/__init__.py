"""The engine: methods that run one filter on NumPy arrays, behind one registry.

Callers need three names: `Problem` (a filter request without data), `Form` (the kernel in the representation that a
method consumes) and `METHODS` (each method's limits, cost and implementation).
"""

from separable.engine.base import Form, Pass, Problem, Work, dense_form, pass_form, work_dtype
from separable.engine.lazy_kernel import Kernel
from separable.engine.methods.box_and_recursive import recursive_form
from separable.engine.registry import METHODS, Method
from separable.engine.thread_count import get_num_threads, set_num_threads

__all__ = [
    "METHODS",
    "Form",
    "Kernel",
    "Method",
    "Pass",
    "Problem",
    "Work",
    "dense_form",
    "get_num_threads",
    "pass_form",
    "recursive_form",
    "set_num_threads",
    "work_dtype",
]
