"""End a command on SIGINT and SIGTERM, also when the signal arrives in a finalizer."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from separable.system.processors import signal_main_thread

__all__ = ["TerminatedError", "ending_on_signals"]

LATER = 0.005  # seconds; most finalizers have ended by then


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

    ended = threading.Event()
    hook_before = sys.unraisablehook

    def dropped(problem: sys.UnraisableHookArgs) -> None:
        error = problem.exc_value
        if isinstance(error, TerminatedError):
            _send_later(signal.SIGTERM, ended)
        elif isinstance(error, KeyboardInterrupt):
            _send_later(signal.SIGINT, ended)
        else:
            hook_before(problem)

    def handle(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller is not None:
            if caller.f_code is dropped.__code__:  # an exception from here would be dropped too
                _send_later(signal.Signals(number), ended)
                return
            caller = caller.f_back
        raise TerminatedError if number == signal.SIGTERM else KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    handlers_before = {number: signal.signal(number, handle) for number in numbers}
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        ended.set()
        sys.unraisablehook = hook_before
        for number, handler in handlers_before.items():
            signal.signal(number, handler)


def _send_later(number: signal.Signals, ended: threading.Event) -> None:
    """Send a signal to the main thread after a short time, unless the block has ended by then."""

    def send() -> None:
        time.sleep(LATER)
        if not ended.is_set():
            signal_main_thread(number)

    threading.Thread(target=send, daemon=True).start()
