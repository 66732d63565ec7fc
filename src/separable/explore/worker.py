"""A worker process of the page: reads questions from its input, writes answers to its output.

A computation in a thread cannot be ended; a process can. So each computation runs in one of a few
of these, which is ended when its client is gone. The pickles in the pipe are the server's own.
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
    """Answer one question after the other until the server closes the pipe, or is gone."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
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
    from separable.errors import SeparableError

    try:
        from separable.explore.questions import answer

        return "ok", answer(*question)
    except SeparableError as error:
        return "mistake", str(error)
    except MemoryError:
        return "mistake", "not enough memory for that. Take something smaller"
    except Exception:
        return "failed", traceback.format_exc()
