"""Compile the engine's kernels.

A kernel is a module-level function decorated with :func:`kernel`.  It is specialised by the types of
its arguments and reached from other compiled code through its address, so that each stage of a
filter is compiled once per dtype and not once per combination of dtypes.

Compiled code is kept on disk (see :mod:`.code_cache`) in a folder named by a hash of the engine's own sources
and of the vector width, so that an edited helper never leaves a stale kernel behind.  Comments and docstrings
are not part of the hash.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from separable.engine.availability import announce_compiling, compiling
from separable.system import hold_while_forking

from .code_cache import Cache, mark_used, root
from .numba_api import (
    HelperCompiler,
    StageCompiler,
    compiler_lock,
    cpu_target,
    extending,
    numba,
    types,
)

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": False,
    "pipeline_class": StageCompiler,
}
# No wrappers for calls from Python or C: they are half of the compile time of a small helper.
_INTERNAL = {
    **_OPTIONS,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": HelperCompiler,
}


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


_HERE = Path(__file__).parent


# A string in triple quotes that begins a line is a docstring; a test checks that nothing else is removed.
_DOCSTRING = re.compile(rb'^([ \t]*)"""(?:[^"\\]|\\.|"(?!""))*"""', re.MULTILINE | re.DOTALL)
_NO_CODE = re.compile(rb"^[ \t]*(?:#.*)?\r?\n", re.MULTILINE)


def code_of(source: bytes) -> bytes:
    """Return Python source without docstrings, lines of comments and blank lines.

    Parsing would do the same, but takes 80 ms in each process instead of 5.
    """
    return _NO_CODE.sub(b"", _DOCSTRING.sub(rb'\1""', source))


@lru_cache(maxsize=4)
def source_stamp(folder: Path = _HERE) -> str:
    """Return a hash of the engine's code, of the code beside a kernel, and of the vector width."""
    digest = hashlib.sha256()
    for home in sorted({_HERE, folder}):
        for path in sorted(home.glob("*.py")):
            digest.update(path.name.encode())
            digest.update(code_of(path.read_bytes()))
    digest.update(f"{numba.__version__} {vector_bits()}".encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=4)
def cache_folder(home: Path = _HERE) -> Path | None:
    """Return the folder of the compiled code of this version, or None where there is no place for it.

    `home` holds the sources: the engine's own, or those of other kernels that use its vectors.  The folder need not
    exist or be writable.
    """
    parent = root()
    if parent is None:
        return None
    folder = parent / f"{home.parent.name}-{source_stamp(home)}"
    mark_used(folder)
    return folder


def _cached(dispatcher: Any, function: Callable[..., Any]) -> Any:
    home = Path(function.__code__.co_filename).parent
    dispatcher._cache = Cache(function, partial(cache_folder, home), announce_compiling)
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a module-level function that Python calls, and keep it on disk."""
    return _cached(numba.njit(**_OPTIONS)(function), function)


def stage(function: Callable[..., Any]) -> Any:
    """Compile a module-level function that only compiled code calls, through its address."""
    return _cached(numba.njit(no_cpython_wrapper=True, **_OPTIONS)(function), function)


def inline(function: Callable[..., Any]) -> Any:
    """Compile a helper into each of its callers."""
    return numba.njit(forceinline=True, **_INTERNAL)(function)


def inline_coded(function: Callable[..., Any]) -> Any:
    """Compile a helper into each of its callers after it was optimised on its own.

    Loops that are optimised twice run faster: this saves 2 % of the time of a dense filter and 9 % of that of a
    small volume, whose borders are gathered sample by sample.
    """
    options = {**_INTERNAL, "pipeline_class": StageCompiler}
    return numba.njit(forceinline=True, **options)(function)


def part(function: Callable[..., Any]) -> Any:
    """Compile a helper beside its callers, in the same library but not into them."""
    return numba.njit(**_INTERNAL)(function)


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an intrinsic: a function that types its arguments and emits LLVM code."""
    decorated: Callable[..., Any] = extending.intrinsic(function)
    return decorated


def literal_intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make an intrinsic that sees the values of literal arguments."""
    decorated: Callable[..., Any] = extending.intrinsic(prefer_literal=True)(function)
    return decorated


def overload(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Choose the implementation of a function by the types of its arguments."""
    options = {"forceinline": True, **_INTERNAL}
    decorated: Callable[..., Any] = extending.overload(function, jit_options=options)
    return decorated


_addresses: dict[tuple[Any, ...], int] = {}


def address(
    function: Any, signature: tuple[types.Type, ...], returns: types.Type = types.void
) -> int:
    """Return the C address of a stage for one tuple of argument types, compiling it if necessary."""
    key = (function, signature, returns)
    found = _addresses.get(key)
    if found is None:
        with compiling:
            result = function.get_compile_result(returns(*signature))
            found = result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name)
        _addresses[key] = found
    return found


# A process is not forked while one of its threads compiles: the child would inherit a lock held for ever by a
# thread that it does not have, and half-changed data of the compiler.
hold_while_forking(compiler_lock.acquire, compiler_lock.release)
