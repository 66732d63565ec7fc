"""Tell whether the compiled engine can be used in this process, and why not.

Everything that needs the engine asks here. Without it (Numba is not installed, is too old, cannot be
imported or fails to compile) filters run on SciPy's methods, with the same results. One warning per
process says so.

Nothing here imports Numba: planning a filter only looks whether it is installed. An import or a
compilation that fails later is recorded by `compiling`, and the caller takes the other way.
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

_reason: str | None = None  # "" if the engine can be used, None before the first question


class EngineError(Exception):
    """The compiled engine cannot be used; callers catch this and take another way."""


def why_not() -> str:
    """Return why the compiled engine cannot be used, or an empty string if it can.

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
    """Look for Numba without importing it; remember what was found."""
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
    except Exception:  # an importer of somebody else's may raise anything
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
    """Remember a reason and warn, once."""
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
    """Return the stack level, seen from who calls this, of the first frame outside the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("separable"):
        level, frame = level + 1, frame.f_back
    return level


class _Compiling:
    """A block that imports or compiles the engine: whatever fails in it becomes `EngineError`.

    The first failure is remembered, so that the engine is not tried again in this process. A lack
    of memory and an interrupt by the user pass unchanged.
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
    """Return whether an error of code that imports, compiles or calls the engine is the engine's."""
    return isinstance(error, Exception) and not isinstance(error, EngineError | MemoryError)


def failed(error: BaseException) -> EngineError:
    """Remember that the engine fails, and return the error to raise instead."""
    said = next(iter(str(error).strip().splitlines()), "")
    reason = f"Numba fails ({type(error).__name__}{': ' + said if said else ''})"
    _refuse(reason, "Repair it with `pip install --force-reinstall numba`")
    return EngineError(reason)


compiling = _Compiling()
