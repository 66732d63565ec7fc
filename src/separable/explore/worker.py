"""Main program of a worker process: read questions from stdin, write answers to stdout.

A thread cannot be terminated but a process can. Each computation therefore runs in one of a few
worker processes, which is killed when its client is gone. The server itself writes the pickles in
the pipe.
"""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
import traceback
from typing import Any, BinaryIO

__all__ = ["main"]


def main() -> None:
    """Answer questions one by one until the server closes the pipe."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output printed by libraries must not mix with the answers
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, waiting), daemon=True).start()
    while True:
        reply = _reply(waiting.get())
        pickle.dump(reply, replies, protocol=pickle.HIGHEST_PROTOCOL)
        replies.flush()


def _listen(source: BinaryIO, waiting: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            waiting.put(pickle.load(source))
    except Exception:  # the server is gone, perhaps in the middle of a question
        os._exit(0)


def _reply(question: tuple[str, Any, dict[str, Any], Any]) -> tuple[str, Any]:
    """Return ("ok", answer), ("mistake", text) or ("failed", traceback)."""
    # Imported here for a quick start-up: the process listens before NumPy is loaded.
    from separable.errors import SeparableError

    try:
        from separable.explore.questions import answer  # start-up time

        return "ok", answer(*question)
    except SeparableError as error:
        return "mistake", str(error)
    except MemoryError:
        return "mistake", "not enough memory. Try something smaller"
    except Exception:
        return "failed", traceback.format_exc()
