"""End a command on SIGINT and SIGTERM, also when the signal arrives in a finalizer."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

__all__ = ["TerminatedError", "ending_on_signals"]

LATER = 0.001  # seconds; a finalizer has ended by then


class TerminatedError(BaseException):
    """The process received SIGTERM."""


@contextlib.contextmanager
def ending_on_signals() -> Iterator[None]:
    """Raise `TerminatedError` on SIGTERM, so that temporary files are removed.

    Python prints and drops an exception that a signal handler raises inside a finalizer or a
    callback from compiled code. Here it is not printed, and the signal is sent again a little later.
    The same for the `KeyboardInterrupt` of SIGINT.

    Does nothing in a thread other than the main thread.

    Raises
    ------
    TerminatedError
        In the block, when SIGTERM arrives.
    KeyboardInterrupt
        In the block, when SIGINT arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    dropped: list[BaseException] = []

    def end(number: int, frame: object) -> None:
        raise TerminatedError

    def unraisable(problem: sys.UnraisableHookArgs) -> None:
        error = problem.exc_value
        if not isinstance(error, (TerminatedError, KeyboardInterrupt)):
            hook_before(problem)
            return
        dropped.append(error)
        again = signal.SIGTERM if isinstance(error, TerminatedError) else signal.SIGINT
        threading.Thread(
            target=_send_later, args=(again, lambda: bool(dropped)), daemon=True
        ).start()

    handler_before = signal.signal(signal.SIGTERM, end)
    hook_before, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        yield
    finally:
        dropped.clear()  # nothing is sent again
        sys.unraisablehook = hook_before
        signal.signal(signal.SIGTERM, handler_before)


def _send_later(number: signal.Signals, wanted: Callable[[], bool]) -> None:
    """Send a signal to the main thread after a short time, if it is still wanted then."""
    time.sleep(LATER)
    if not wanted():
        return
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)  # interrupts what the main thread waits for
    else:
        signal.raise_signal(number)
