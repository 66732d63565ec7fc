"""Compile and cache the engine's kernels.

A kernel is a module-level function decorated with :func:`kernel`.  It is specialised by the types of
its arguments and reached from other compiled code through its address, so that each stage of a
filter is compiled once per dtype and not once per combination of dtypes.

All that the engine takes from Numba it takes from here, where the whole package is imported first. Who
imports a part of it while another thread imports the package finds half of a module.

Compiled code is kept on disk in a folder named by a hash of the engine's own sources and of the vector
width, so that an edited helper never leaves a stale kernel behind.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numba as _numba
from numba.core import caching as _caching
from numba.core import cgutils as cgutils
from numba.core import extending as _extending
from numba.core import types as types
from numba.core.compiler_lock import global_compiler_lock as _compiler_lock
from numba.core.datamodel import models as models
from numba.core.datamodel.registry import register_default as register_default
from numba.core.registry import cpu_target

from separable.system import hold_while_forking

# Used where Numba's annotations do not know what Numba can do.
numba: Any = _numba
caching: Any = _caching
extending: Any = _extending

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": False,
}
# No way in from Python or C: that is half of the time to compile a small helper.
_INTERNAL = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


@lru_cache(maxsize=1)
def host() -> tuple[str, str, frozenset[str]]:
    """Return the target triple, the CPU's name and its features, as Numba compiles for them."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    enabled = frozenset(f[1:] for f in features.split(",") if f.startswith("+"))
    return triple, cpu, enabled


@lru_cache(maxsize=1)
def vector_bits() -> int:
    """Return the width of the host's vectors in bits: 512, 256 or 128.

    ``SEPARABLE_VECTOR_BITS`` in the environment narrows it (for tests), it never widens it.
    """
    features = host()[2]
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= features:
        bits = 512
    elif "avx2" in features:
        bits = 256
    else:
        bits = 128
    asked = os.environ.get("SEPARABLE_VECTOR_BITS", "")
    return min(bits, int(asked)) if asked in ("128", "256", "512") else bits


def _cache_root() -> Path:
    """Return the folder that holds compiled code of every version."""
    explicit = os.environ.get("SEPARABLE_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if explicit:
        return Path(explicit)
    from platformdirs import user_cache_path

    return Path(user_cache_path("separable"))


_HERE = Path(__file__).parent


@lru_cache(maxsize=4)
def source_stamp(folder: Path = _HERE) -> str:
    """Return a hash of all sources of the engine, of those beside a kernel, and of the vector width."""
    digest = hashlib.sha256()
    for home in sorted({_HERE, folder}):
        for path in sorted(home.glob("*.py")):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    digest.update(f"{numba.__version__} {vector_bits()}".encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4)
def cache_folder(home: Path = _HERE) -> str | None:
    """Return the folder of the compiled code of this version, or None where none can be written.

    `home` holds the sources: the engine's own, or another room's kernels that use its vectors.

    There is no other place to fall back to: compiled code is read only from the user's own folder.
    """
    folder = _cache_root() / f"{home.parent.name}-{source_stamp(home)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except OSError:
        return None


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Place every kernel of the engine in one versioned folder."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._py_file = py_file
        self._home = Path(py_file).parent
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder(self._home))

    def get_source_stamp(self) -> str:
        return source_stamp(self._home)

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)


class _CacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes: ClassVar[list[Any]] = [_Locator]

    def __init__(self, py_func: Callable[..., Any]) -> None:
        chosen, numba.config.CACHE_LOCATOR_CLASSES = numba.config.CACHE_LOCATOR_CLASSES, ""
        try:
            super().__init__(py_func)
        finally:
            numba.config.CACHE_LOCATOR_CLASSES = chosen


class _FunctionCache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _CacheImpl


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a module-level function that Python calls, and keep it on disk."""
    dispatcher = numba.njit(**_OPTIONS)(function)
    if cache_folder() is not None:
        dispatcher._cache = _FunctionCache(function)
    return dispatcher


def stage(function: Callable[..., Any]) -> Any:
    """Compile a module-level function that only compiled code calls, through its address."""
    dispatcher = numba.njit(no_cpython_wrapper=True, **_OPTIONS)(function)
    if cache_folder() is not None:
        dispatcher._cache = _FunctionCache(function)
    return dispatcher


def inline(function: Callable[..., Any]) -> Any:
    """Compile a helper into each of its callers."""
    return numba.njit(forceinline=True, **_INTERNAL)(function)


def part(function: Callable[..., Any]) -> Any:
    """Compile a helper beside its callers, in the same library but not into them."""
    return numba.njit(**_INTERNAL)(function)


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a word of the vocabulary: a function that types its arguments and emits LLVM code."""
    made: Callable[..., Any] = extending.intrinsic(function)
    return made


def literal_intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an intrinsic that sees the values of arguments which are literals."""
    made: Callable[..., Any] = extending.intrinsic(prefer_literal=True)(function)
    return made


def overload(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Choose the implementation of a function by the types of its arguments."""
    options = {"forceinline": True, **_INTERNAL}
    made: Callable[..., Any] = extending.overload(function, jit_options=options)
    return made


_addresses: dict[tuple[Any, ...], int] = {}


def address(
    function: Any, signature: tuple[types.Type, ...], returns: types.Type = types.void
) -> int:
    """Return the C address of a stage for one tuple of argument types; compile it if need be."""
    key = (function, signature, returns)
    found = _addresses.get(key)
    if found is None:
        result = function.get_compile_result(returns(*signature))
        found = result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)
        _addresses[key] = found
    return found


# A process is not forked while one of its threads compiles: the child would find the compiler's lock
# taken for ever by a thread that it does not have, and the compiler's data half changed.
hold_while_forking(_compiler_lock.acquire, _compiler_lock.release)
