"""Where the commands print: results on stdout, errors and progress on stderr."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType

__all__ = ["WIDEST", "StoppedError", "error", "output", "progress", "put"]

WIDEST = 100  # columns; longer lines are hard to read


class StoppedError(BaseException):
    """The user interrupted what cannot be undone; the message says what is left."""


def output() -> Console:
    """Return the console for results; without a terminal it is 80 columns wide and plain."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDEST)
    return console


def put(console: Console, what: RenderableType, indent: int = 0) -> None:
    """Print a table or drawing without the spaces that Rich leaves at the ends of lines."""
    with console.capture() as captured:
        console.print(what, width=console.width - indent)
    for line in captured.get().splitlines():
        console.file.write((" " * indent + line).rstrip() + "\n")


def error(message: str, code: int) -> int:
    """Print one message on stderr and return the exit status."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print("Error:", style="bold red", end=" ")
    console.print(message, soft_wrap=True)
    return code


@contextlib.contextmanager
def progress(title: str, *, shown: bool) -> Iterator[Callable[[float], None] | None]:
    """Show a progress bar on stderr where that is a terminal.

    Yields
    ------
    callable or None
        To be called with the fraction of the work just done, from any thread.
    """
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(compact=True))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda fraction: bar.advance(task, fraction)
