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
    "registry_version",
    "unregister_method",
]

DIRECT, SEPARABLE, LOW_RANK = "direct", "separable", "low-rank"
NESTED, TRUNCATED, PARTIAL = "nested", "truncated", "partial"
CANDIDATES = (DIRECT, SEPARABLE, LOW_RANK, NESTED, TRUNCATED, PARTIAL)
"""Candidates of a plan that are named after the decomposition; several methods may run each."""

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
    Reference(),
)
_methods: dict[str, Method] = {m.name: m for m in _BUILT_IN}
_version = 0

METHODS: Mapping[str, Method] = MappingProxyType(_methods)
"""All methods by name."""


def register_method(method: Method) -> None:
    """Make a method known: plans list it, and it can be asked for by name.

    Parameters
    ----------
    method : Method
        Instance of a subclass of `Method`. Its class must be importable by name where plans that chose
        it are pickled.

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


def unregister_method(name: str) -> None:
    """Remove a method that was registered at run time.

    Raises
    ------
    ArgumentError
        If there is no such method, or it is one of the package's own.
    """
    global _version
    if name not in _methods or any(m.name == name for m in _BUILT_IN):
        raise ArgumentError(f"`name` must be that of a method registered before; got {name!r}")
    del _methods[name]
    _version += 1


def registry_version() -> int:
    """Return a number that changes whenever a method is registered or removed."""
    return _version
