"""Availability of the compiled engine in this process, and the reason if it cannot be used.

All code that needs the engine asks this module. Without the engine (Numba is not installed, is too old, cannot be
imported or fails to compile) filters run on SciPy's methods, with the same results. One warning per
process says so.

Nothing here imports Numba: planning a filter only checks that it is installed. An import or a
compilation that fails later is recorded by `compiling`, and the caller falls back to SciPy.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from importlib import metadata
from types import TracebackType

from separable.errors import ArgumentError

__all__ = [
    "MINIMUM",
    "VARIABLE",
    "EngineError",
    "announce_compiling",
    "available",
    "compiling",
    "failed",
    "is_failure",
    "why_not",
]

MINIMUM = (0, 62)
"""The oldest Numba whose compiler accepts the engine."""
VARIABLE = "SEPARABLE_ENGINE"
CHOICES = ("auto", "scipy")

_announced = False
_reason: str | None = None  # "" if the engine can be used, None before the first question


class EngineError(Exception):
    """The compiled engine cannot be used; callers catch this and fall back to SciPy."""


def why_not() -> str:
    """Return the reason why the compiled engine cannot be used, or an empty string if it can.

    Raises
    ------
    ArgumentError
        If ``SEPARABLE_ENGINE`` in the environment is neither "auto" nor "scipy".
    """
    if _reason is None:
        _look()
    return _reason or ""


def available() -> bool:
    """Return whether the compiled engine can be used.

    Examples
    --------
    >>> available() == (why_not() == "")
    True
    """
    return not why_not()


def _look() -> None:
    """Look for Numba without importing it, and record the result."""
    global _reason
    asked = os.environ.get(VARIABLE, "") or "auto"
    if asked not in CHOICES:
        raise ArgumentError(
            f"the environment variable {VARIABLE} must be one of {', '.join(CHOICES)}; got {asked!r}"
        )
    if asked == "scipy":
        _reason = f"{VARIABLE}=scipy is set"
        return
    missing = [name for name in ("numba", "llvmlite") if not _is_installed(name)]
    if missing:
        what = " and ".join({"numba": "Numba"}.get(name, name) for name in missing)
        _refuse(f"{what} cannot be found", "Install it with `pip install numba`")
        return
    found = _version("numba")
    numbers = _numbers(found)
    if numbers and numbers < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        _refuse(
            f"Numba {found} is too old",
            f'Install {wanted} or later with `pip install "numba>={wanted}"`',
        )
        return
    _reason = ""


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except Exception:  # import hooks of other packages may raise anything
        return False


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except Exception:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version.

    >>> _numbers("0.62.0rc1"), _numbers("dev")
    ((0, 62), ())
    """
    found = []
    for part in version.split(".")[:2]:
        if not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def _refuse(reason: str, remedy: str) -> None:
    """Record a reason and warn, once."""
    global _reason
    if _reason:
        return
    _reason = reason
    warnings.warn(
        f"the compiled engine is not available: {reason}. Filters run on SciPy instead: the results "
        f"are the same, the time is several times as long. {remedy}, or set {VARIABLE}=scipy to "
        "silence this warning",
        RuntimeWarning,
        stacklevel=_level_of_caller(),
    )


def _level_of_caller() -> int:
    """Return the stack level, relative to the caller of this function, of the first frame outside the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("separable"):
        level, frame = level + 1, frame.f_back
    return level


class _Compiling:
    """Context manager for imports and compilations of the engine: any failure becomes an `EngineError`.

    The first failure is recorded, so that the engine is not tried again in this process. A `MemoryError`
    and an interrupt by the user pass unchanged.
    """

    def __enter__(self) -> None:
        reason = why_not()
        if reason:
            raise EngineError(reason)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and is_failure(error):
            raise failed(error) from error


def is_failure(error: BaseException) -> bool:
    """Return whether an error means that the engine fails, rather than a lack of memory or an interrupt."""
    return isinstance(error, Exception) and not isinstance(error, EngineError | MemoryError)


def failed(error: BaseException) -> EngineError:
    """Record that the engine fails, and return the error to raise instead."""
    first_line = next(iter(str(error).strip().splitlines()), "")
    reason = f"Numba fails ({type(error).__name__}{': ' + first_line if first_line else ''})"
    _refuse(reason, "Repair it with `pip install --force-reinstall numba`")
    return EngineError(reason)


compiling = _Compiling()


def announce_compiling(*, shown: bool = True) -> None:
    """Print on a terminal, once per process, that kernels are being compiled, which takes some seconds.

    With ``shown=False`` nothing is printed, now or later.
    """
    global _announced
    if _announced:
        return
    _announced = True
    if shown and sys.stderr is not None and sys.stderr.isatty():
        print(
            "separable: compiling for this computer, once (some seconds). "
            "`separable warmup` compiles everything in advance.",
            file=sys.stderr,
        )
