"""Current configuration: versions, engine, threads, cache of compiled code, machine profile."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import Any

from separable.engine.availability import EngineError, compiling, why_not
from separable.engine.thread_count import get_num_threads
from separable.errors import ArgumentError
from separable.machine import cache_path, current

__all__ = ["VARIABLES", "configuration", "configuration_text", "show_config"]

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "torch")
MODES = ("stdout", "dicts")
VARIABLES = (
    "SEPARABLE_CACHE_DIR",
    "SEPARABLE_DEBUG",
    "SEPARABLE_ENGINE",
    "SEPARABLE_GPU",
    "SEPARABLE_KEEP_BYTES",
    "SEPARABLE_NUM_THREADS",
    "SEPARABLE_VECTOR_BITS",
    "NUMBA_CACHE_DIR",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "TRITON_INTERPRET",
)
"""Environment variables that change what runs (see the page in the documentation)."""


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Show the current configuration: versions, engine, threads, cache and machine profile.

    Include it in a bug report. Nothing is compiled, and PyTorch is not imported.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print text, or return the same as a dictionary, as `numpy.show_config` does.

    Returns
    -------
    dict or None

    Raises
    ------
    ArgumentError
        If `mode` is not one of these.

    Examples
    --------
    >>> import separable as sep
    >>> found = sep.show_config(mode="dicts")
    >>> found["engine"]["name"] in ("compiled", "scipy"), found["threads"]["count"] >= 1
    (True, True)
    >>> sep.show_config()  # doctest: +ELLIPSIS
    separable 0.1.0, Python ...
    """
    if mode not in MODES:
        raise ArgumentError(f"`mode` must be one of {', '.join(MODES)}; got {mode!r}")
    found = configuration()
    if mode == "dicts":
        return found
    print(configuration_text(found))
    return None


def configuration() -> dict[str, Any]:
    """Return the content of `show_config` as plain values."""
    return {
        "separable": str(sys.modules["separable"].__version__),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        **_engine(),
        "threads": _threads(),
        "machine": _machine(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def configuration_text(found: dict[str, Any]) -> str:
    """Return the text that `show_config` prints."""
    packages = ", ".join(f"{n} {v}" if v else f"no {n}" for n, v in found["packages"].items())
    lines = [
        f"separable {found['separable']}, Python {found['python']}, {found['platform']}",
        f"packages   {packages}",
        *_engine_lines(found),
        f"rates      {found['machine']['origin']}",
    ]
    for name, value in found["environment"].items():
        lines.append(f"variable   {name}={value}")
    return "\n".join(lines)


def _engine_lines(found: dict[str, Any]) -> list[str]:
    """Return the lines on engine, threads and cache."""
    engine, thread_count, cache = found["engine"], found["threads"], found["cache"]
    if engine["name"] == "compiled":
        what = f"compiled, vectors of {engine['vector_bits']} bits for {engine['cpu']}"
    else:
        what = f"SciPy: {engine['reason']}"
    lines = [f"engine     {what}", f"threads    {thread_count['count']} ({thread_count['source']})"]
    if cache["state"] == "none":
        lines.append("cache      none: each process compiles what it needs")
    else:
        size = f"{cache['bytes'] / 2**20:.1f} MiB"
        lines.append(f"cache      {cache['folder']} ({cache['state']}, {size})")
    return lines


def _engine() -> dict[str, Any]:
    """Return the engine and the state of its cache."""
    cache: dict[str, Any] = {"folder": None, "state": "none", "bytes": 0}
    try:
        with compiling:  # the compiled engine is optional
            from separable.engine.compiled.code_cache import size, state
            from separable.engine.compiled.jit import cache_folder, host, vector_bits

            engine = {
                "name": "compiled", "reason": "", "vector_bits": vector_bits(), "cpu": host()[1],
            }  # fmt: skip
    except EngineError:
        engine = {"name": "scipy", "reason": why_not(), "vector_bits": 0, "cpu": ""}
        return {"engine": engine, "cache": cache}
    folder = cache_folder()
    if folder is not None:
        cache = {"folder": str(folder), "state": state(folder), "bytes": size(folder)}
    return {"engine": engine, "cache": cache}


def _machine() -> dict[str, Any]:
    """Return whose rates plans use, and where those of this computer are kept once they are measured."""
    profile = current()
    return {
        "name": profile.name,
        "source": profile.source,
        "origin": profile.origin,
        "path": str(cache_path()),
    }


def _threads() -> dict[str, Any]:
    """Return the number of threads and where it comes from."""
    from separable.engine import thread_count  # its state is read now

    asked = os.environ.get("SEPARABLE_NUM_THREADS", "")
    if getattr(thread_count, "_chosen", None) is not None:
        source = "set_num_threads"
    elif asked.isdigit() and int(asked) > 0:
        source = "SEPARABLE_NUM_THREADS"
    else:
        source = "processors this process may use"
    return {"count": get_num_threads(), "source": source}


def _version(name: str) -> str | None:
    """Return the version of a package without importing it, or None if it is not installed."""
    module = sys.modules.get(name)
    try:
        return str(module.__version__) if module is not None else metadata.version(name)
    except (AttributeError, metadata.PackageNotFoundError):
        return None
