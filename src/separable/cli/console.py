"""Output of the commands: results on stdout, errors and progress on stderr."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from separable.errors import FileError

__all__ = [
    "WIDEST",
    "StoppedError",
    "error",
    "output",
    "own_warnings",
    "printable",
    "progress",
    "put",
]

OWN = "separable"
WIDEST = 100  # columns; longer lines are hard to read


class StoppedError(BaseException):
    """The user interrupted a run that keeps its partial results; the message says where."""


def output() -> Console:
    """Return the console for results; without a terminal it is plain and 80 columns wide."""
    console = Console(highlight=False, markup=False, emoji=False)
    console.width = min(console.width, WIDEST)
    return console


def put(console: Console, what: RenderableType, indent: int = 0) -> None:
    """Print a table or drawing without trailing spaces, which Rich would leave."""
    with console.capture() as captured:
        console.print(what, width=console.width - indent)
    for line in captured.get().splitlines():
        console.file.write((" " * indent + line).rstrip() + "\n")


def error(message: str, code: int) -> int:
    """Print one message on stderr and return the exit status.

    It is one line, except where it points at a place in a pattern.
    """
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print("Error:", style="bold red", end=" ")
    lines = message.splitlines()
    if lines and lines[-1].strip() == "^":  # points at a place in the line above
        console.print("\n".join(map(printable, lines)), soft_wrap=True)
    else:
        console.print(printable(message), soft_wrap=True)
    return code


def printable(message: str) -> str:
    r"""Return a message in one line, with unprintable characters escaped.

    Examples
    --------
    >>> print(printable("no file caf\udce9.npy.\nName another"))
    no file caf\udce9.npy. Name another
    """
    line = " ".join(message.splitlines())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


@contextlib.contextmanager
def enough_memory(source: Path) -> Iterator[None]:
    """Raise a `FileError` that names the file if filtering it needs too much memory.

    Raises
    ------
    FileError
    """
    try:
        yield
    except MemoryError:
        raise FileError(
            f"cannot filter {source}: not enough memory. Filter it in slabs, for instance with "
            "--memory 2GiB, or cut it into parts"
        ) from None


@contextlib.contextmanager
def own_warnings() -> Iterator[None]:
    """Print warnings of this package as one line on stderr, and hide those of other packages."""

    def show(message: Any, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
        own = OWN in Path(filename).parts or category.__module__.partition(".")[0] == OWN
        if own and " encountered in " not in str(message):  # numbers that overflow are results
            console = Console(stderr=True, highlight=False, markup=False, emoji=False)
            console.print(f"Warning: {' '.join(str(message).split())}", soft_wrap=True)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


@contextlib.contextmanager
def progress(title: str, *, shown: bool) -> Iterator[Callable[[float], None] | None]:
    """Show a progress bar on stderr if it is a terminal.

    Yields
    ------
    callable or None
        Call it with the fraction of the work just done, from any thread.
    """
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # start-up time

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(compact=True))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda fraction: bar.advance(task, fraction)
