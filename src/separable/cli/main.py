"""The commands, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from separable.cli.console import StoppedError, error, own_warnings
from separable.cli.convert_command import convert_command
from separable.cli.cost_command import cost_app
from separable.cli.demo_command import demo_command
from separable.cli.explore_command import explore_command
from separable.cli.filter_command import filter_command
from separable.cli.kernel_command import kernel_command
from separable.cli.machine_command import machine_command
from separable.cli.options import mode_help
from separable.cli.plan_command import plan_command
from separable.cli.report_command import report_command
from separable.cli.warmup_command import warmup_command
from separable.errors import SeparableError

__all__ = ["app", "run"]

MISTAKE = 2
DEBUG = "SEPARABLE_DEBUG"  # in the environment: unexpected errors show where they arose
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

# Typer carries Click under its own name or imports it, by its version.
UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError"
)


class _TerminatedError(BaseException):
    """The process was asked to end."""


app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
app.command("kernel", short_help="Show what a kernel is made of.")(kernel_command)
app.command("plan", short_help="List the ways to run a filter and their times.")(plan_command)
app.command("filter", short_help="Filter an image or volume.")(filter_command)
app.add_typer(cost_app, name="cost", short_help="Count what layers and networks cost.")
app.command("convert", short_help="Make a trained network separable.")(convert_command)
app.command("machine", short_help="Measure this computer.")(machine_command)
app.command("warmup", short_help="Compile ahead, once.")(warmup_command)
app.command("report", short_help="Write all about a kernel into one page.")(report_command)
app.command("explore", short_help="Look at kernels, layers and conversions in a browser.")(
    explore_command
)
app.command("demo", short_help="See it work on real images.")(demo_command)


@app.callback(invoke_without_command=True)
def _separable(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Separable convolution: is a kernel separable, what is the cheapest way to run it, run it."""
    if version:
        from separable import __version__

        print(f"separable {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str
        Without the program's name.

    Returns
    -------
    int
        The exit status: 0, 2 for a user's mistake (told on stderr), 130 when interrupted, 143 when terminated.
    """
    command = typer.main.get_command(app)
    _list_modes(command)
    _tolerate_any_encoding()
    try:
        with _terminable(), own_warnings():
            code = command.main(list(arguments), prog_name="separable", standalone_mode=False)
            sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except StoppedError as stopped:
        return error(str(stopped), INTERRUPTED)
    except _TerminatedError:
        return TERMINATED
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:  # so that the end of the process flushes nothing
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    except SeparableError as mistake:
        return error(str(mistake), MISTAKE)
    except UsageError as mistake:
        return error(_usage(mistake), MISTAKE)
    except MemoryError:
        return error("not enough memory for this image. Cut it into parts", MISTAKE)
    except Exception as unexpected:
        if os.environ.get(DEBUG):
            raise
        return error(_unexpected(unexpected), MISTAKE)
    if code == INTERRUPTED:
        return error("interrupted; nothing was written", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _list_modes(command: Any) -> None:
    """Have the help of --mode list the border modes that are registered now."""
    for one in command.commands.values():
        for parameter in one.params:
            if parameter.name == "mode":
                parameter.help = mode_help()


def _unexpected(problem: Exception) -> str:
    """Say that this is a mistake of this program, and how to see more of it."""
    reason = " ".join(f"{type(problem).__name__}: {problem}".split())
    return (
        f"unexpected {reason[:300]}. This is a mistake in separable: please report it, with what "
        f"{DEBUG}=1 prints before the same command"
    )


def _usage(mistake: Exception) -> str:
    """Say what is wrong with the arguments and where they are explained."""
    text = mistake.format_message().rstrip(".")  # type: ignore[attr-defined]
    context = getattr(mistake, "ctx", None)
    path = context.command_path if context is not None else "separable"
    return f"{text[:1].lower()}{text[1:]}. See `{path} --help`"


def _tolerate_any_encoding() -> None:
    """Print a question mark for what the terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let a request to end unwind, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
