"""Why a file could not be read or written, in words, and what to do about it."""

from __future__ import annotations

import errno
import os
import re

__all__ = ["errno_of", "reason_of", "remedy_of"]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def remedy_of(error: BaseException) -> str:
    """What to do about an error in writing: empty where that is not known."""
    full = errno_of(error) in FULL
    return ". Free some space, or write elsewhere" if full else ""


def errno_of(error: BaseException) -> int | None:
    """The number of an error of the system, which HDF5 only has in its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"errno = (\d+), error message", str(error))
    return int(found[1]) if found else None


def reason_of(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    number = errno_of(error)
    if number:
        return os.strerror(number).lower()
    text = " ".join(str(error).split())
    return text or type(error).__name__
