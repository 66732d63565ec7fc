"""The registry of methods: the planner, the filters and the tests take their lists from it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from separable.engine.method import Method
from separable.engine.methods.compiled_dense import CompiledDense
from separable.engine.methods.fft import Fft
from separable.engine.methods.fft_overlap import FftOverlap
from separable.engine.methods.fused_terms import FusedTerms
from separable.engine.methods.gaussian_recursion import GaussianRecursion
from separable.engine.methods.kronecker import Kronecker
from separable.engine.methods.nested_terms import NestedTerms
from separable.engine.methods.reference import Reference
from separable.engine.methods.running_sums import RunningSums
from separable.engine.methods.scipy_direct import ScipyDirect
from separable.engine.methods.scipy_separable import ScipySeparable
from separable.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "CANDIDATES",
    "DIRECT",
    "LOW_RANK",
    "METHODS",
    "NESTED",
    "PARTIAL",
    "SEPARABLE",
    "TRUNCATED",
    "register_method",
    "registered_methods",
    "registry_version",
    "unregister_method",
]

DIRECT, SEPARABLE, LOW_RANK = "direct", "separable", "low-rank"
NESTED, TRUNCATED, PARTIAL = "nested", "truncated", "partial"
CANDIDATES: Mapping[str, str] = {
    DIRECT: "the dense kernel",
    SEPARABLE: "kernels of rank 1",
    LOW_RANK: "kernels that are a sum of separable terms",
    NESTED: "kernels of several terms that begin with the same pass",
    TRUNCATED: "kernels of several terms, some of which `tol` allows to omit",
    PARTIAL: "kernels of three axes or more from which one axis separates exactly",
}
"""Candidates of a plan that are named after the decomposition, and the kernels that have them.

Several methods may run each of them.
"""

# The order says which of several methods that can run a decomposition does so: the faster one is first.
_BUILT_IN: tuple[Method, ...] = (
    FusedTerms(),
    NestedTerms(),
    CompiledDense(),
    RunningSums(),
    GaussianRecursion(),
    ScipySeparable(),
    ScipyDirect(),
    Fft(),
    FftOverlap(),
    Kronecker(),
    Reference(),
)
_methods: dict[str, Method] = {m.name: m for m in _BUILT_IN}
_version = 0

METHODS: Mapping[str, Method] = MappingProxyType(_methods)
"""All methods by name."""


def register_method(method: Method) -> Method:
    """Add a method, so that plans list it and it can be asked for by name.

    Parameters
    ----------
    method : Method
        Instance of a subclass of `Method`. Its class must be importable by name where plans that chose
        it are pickled.

    Returns
    -------
    Method
        The same.

    Raises
    ------
    ArgumentTypeError
        If it is not a `Method`.
    ArgumentError
        If it has no name or title, or its name is taken.
    """
    global _version
    if not isinstance(method, Method):
        raise ArgumentTypeError(
            f"`method` must be an instance of separable.engine.Method; got {method!r}"
        )
    if not method.name or not method.title:
        raise ArgumentError(f"`method` must have a name and a title; got {method!r}")
    own = method.own_candidate and method.name in CANDIDATES
    if method.name in _methods or method.name == "auto" or own:
        raise ArgumentError(f"`method` must have a name of its own; {method.name!r} is taken")
    _methods[method.name] = method
    _version += 1
    return method


def unregister_method(method: Method | str) -> None:
    """Remove a method that `register_method` added.

    Parameters
    ----------
    method : Method or str
        The method, or its name.

    Raises
    ------
    ArgumentError
        If it is not registered, or is one of the package.
    """
    global _version
    name = method if isinstance(method, str) else method.name
    if name not in _methods:
        raise ArgumentError(f"`method` must be a registered method; got {name!r}")
    if any(m.name == name for m in _BUILT_IN):
        raise ArgumentError(f"the method {name!r} of the package cannot be removed")
    del _methods[name]
    _version += 1


def registered_methods() -> tuple[Method, ...]:
    """Return all methods, those of the package first; `METHODS` has them by name.

    Examples
    --------
    >>> [method.name for method in registered_methods()][-3:]
    ['overlap', 'kronecker', 'reference']
    """
    return tuple(_methods.values())


def registry_version() -> int:
    """Return a number that changes whenever a method is registered or removed."""
    return _version
