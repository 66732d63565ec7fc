"""Width of the vectors that the compiled engine uses on this computer, found without importing Numba.

Planning must not import Numba, which takes a third of a second. A test compares the result with the engine's own.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
from functools import lru_cache
from typing import Any

from separable.system import processor_features

__all__ = ["architecture", "vector_bits"]

AVX512 = frozenset(("avx512f", "avx512bw", "avx512dq", "avx512vl"))


def architecture() -> str:
    """Return the instruction set of this computer: "x86_64", "aarch64" or another name."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def vector_bits() -> int:
    """Return the width of the engine's vectors in bits: 512, 256 or 128.

    The variables of the environment that limit the engine are obeyed.

    Examples
    --------
    >>> vector_bits() in (128, 256, 512)
    True
    """
    features = _features()
    bits = 512 if features >= AVX512 else 256 if "avx2" in features else 128
    asked = os.environ.get("SEPARABLE_VECTOR_BITS", "")
    return min(bits, int(asked)) if asked in ("128", "256", "512") else bits


def _features() -> frozenset[str]:
    """Return the instruction sets that Numba compiles for, in lower case."""
    asked = os.environ.get("NUMBA_CPU_FEATURES")
    if asked is None and os.environ.get("NUMBA_CPU_NAME") == "generic":
        asked = ""
    if asked is not None:
        return frozenset(f[1:] for f in asked.split(",") if f.startswith("+"))
    return _host_features()


@lru_cache(maxsize=1)
def _host_features() -> frozenset[str]:
    """Return what the operating system, or else NumPy, says of the processor."""
    return processor_features() or frozenset(
        f.lower() for f, has in _numpy_features().items() if has
    )


def _numpy_features() -> dict[str, Any]:
    """Return NumPy's table of instruction sets; it is empty where NumPy has moved it."""
    for home in ("numpy._core", "numpy.core"):  # NumPy 2, NumPy 1
        with contextlib.suppress(ImportError, AttributeError):
            return dict(importlib.import_module(f"{home}._multiarray_umath").__cpu_features__)
    return {}
