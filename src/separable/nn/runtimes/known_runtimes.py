"""Registry of the runtimes that a network can run in."""

from __future__ import annotations

from separable.errors import ArgumentError
from separable.nn.runtimes.eager_runtime import EagerRuntime
from separable.nn.runtimes.fused_runtime import FusedRuntime
from separable.nn.runtimes.onnx_runtime import OnnxRuntime
from separable.nn.runtimes.runtime import Runtime

__all__ = ["RUNTIMES", "register", "runtime_named"]

RUNTIMES: dict[str, Runtime] = {}


def register(runtime: Runtime) -> Runtime:
    """Add a runtime to those that can be named."""
    RUNTIMES[runtime.name] = runtime
    return runtime


def runtime_named(name: object) -> Runtime:
    """Return a runtime by its name.

    Raises
    ------
    ArgumentError
        If there is no such runtime, or this computer cannot use it.

    Examples
    --------
    >>> runtime_named("torch").title
    'PyTorch (eager)'
    >>> runtime_named("tensorrt")
    Traceback (most recent call last):
    separable.errors.ArgumentError: `runtime` must be one of 'torch', 'fused', 'onnxruntime'; got 'tensorrt'
    """
    if not isinstance(name, str) or name not in RUNTIMES:
        known = ", ".join(map(repr, RUNTIMES))
        raise ArgumentError(f"`runtime` must be one of {known}; got {name!r}")
    RUNTIMES[name].check()
    return RUNTIMES[name]


for _runtime in (EagerRuntime(), FusedRuntime(), OnnxRuntime()):
    register(_runtime)
