"""Locks of files that end with their process."""

from __future__ import annotations

import errno
import sys

__all__ = ["try_lock"]

TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)


def try_lock(handle: int) -> bool | None:
    """Lock a file as long as this process has it open; a killed process lets go of it.

    Parameters
    ----------
    handle : int
        Of the open file.

    Returns
    -------
    bool or None
        Whether it is locked now. False if another process has it; None where the file system has
        no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in TAKEN else None
    return True
