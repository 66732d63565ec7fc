"""The command line program: its commands, and the exit status for each error."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer

from separable.cli.audit_command import audit_command
from separable.cli.bank_command import bank_command
from separable.cli.console import StoppedError, error, own_warnings
from separable.cli.convert_command import convert_command
from separable.cli.cost_command import NETWORK, cost_app
from separable.cli.features_command import features_command
from separable.cli.filter_command import filter_command
from separable.cli.kernel_command import kernel_command
from separable.cli.machine_command import machine_command, warmup_command
from separable.cli.option_groups import list_registered
from separable.cli.page_commands import demo_command, explore_command, report_command
from separable.cli.plan_command import plan_command
from separable.cli.resample_command import resample_command
from separable.cli.signals import TerminatedError, ending_on_signals
from separable.distribution import VERSION
from separable.errors import SeparableError

__all__ = ["app", "run"]

MISTAKE = 2
DEBUG = "SEPARABLE_DEBUG"  # environment variable: unexpected errors print their traceback
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

# Typer carries Click under its own name or imports it, by its version.
UsageError: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError"
)


app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
app.command("kernel", short_help="Show a kernel and its factors.")(kernel_command)
app.command("plan", short_help="List the methods for a filter with predicted times.")(plan_command)
app.command("filter", short_help="Filter an image or volume file.")(filter_command)
app.command("bank", short_help="Filter an image with several kernels.")(bank_command)
app.command("resample", short_help="Change the spacing, shape or scale of a file.")(
    resample_command
)
app.command("features", short_help="Compute edges, vessels, blobs and textures of an image.")(
    features_command
)
app.add_typer(cost_app, name="cost", short_help="Count multiplications of layers and networks.")
app.command("convert", short_help="Convert a trained network to separable layers.")(convert_command)
app.command("audit", short_help="Find the separable layers of a network.")(audit_command)
app.command("machine", short_help="Measure the speed of this computer.")(machine_command)
app.command("warmup", short_help="Compile the engine in advance.")(warmup_command)
app.command("report", short_help="Write a report on a kernel as one HTML file.")(report_command)
app.command("explore", short_help="Explore kernels, layers and conversions in a browser.")(
    explore_command
)
app.command("demo", short_help="Run a demonstration on real images.")(demo_command)


@app.callback(invoke_without_command=True)
def _separable(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Separable convolution: test kernels, choose the fastest method, filter images, convert networks."""
    if version:
        print(f"separable {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str
        The arguments without the name of the program.

    Returns
    -------
    int
        Exit status: 0 on success, 2 for an error (reported on stderr), 130 if interrupted, 143 if
        terminated.
    """
    command = _command()
    list_registered(command)  # anew: what is registered may have changed since the last run
    _tolerate_any_encoding()
    try:
        with ending_on_signals(), own_warnings():
            code = command.main(
                [_no_option(a) for a in arguments], prog_name="separable", standalone_mode=False
            )
            sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except StoppedError as stopped:
        return error(str(stopped), INTERRUPTED)
    except TerminatedError:
        return TERMINATED
    except BrokenPipeError:
        with open(os.devnull, "wb") as nowhere:  # so that the end of the process flushes nothing
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    except SeparableError as mistake:
        return error(_with_options(str(mistake), command, arguments), MISTAKE)
    except UsageError as mistake:
        return error(_usage(mistake), MISTAKE)
    except MemoryError:
        return error("not enough memory for this image. Filter it in slabs with --memory", MISTAKE)
    except Exception as unexpected:
        if os.environ.get(DEBUG):
            raise
        return error(_unexpected(unexpected), MISTAKE)
    if code == INTERRUPTED:
        return error("interrupted; nothing was written", INTERRUPTED)
    return code if isinstance(code, int) else 0


@cache
def _command() -> Any:
    """Return the command with its subcommands: reading their signatures takes 25 ms."""
    return typer.main.get_command(app)


def _no_option(argument: str) -> str:
    """Return an argument so that a typed matrix such as "-1 0 1; -2 0 2" is not taken for an option."""
    return f" {argument}" if re.match(r"-[\d.][^A-Za-z]*[\s;]", argument) else argument


def _with_options(message: str, command: Any, arguments: Sequence[str]) -> str:
    """Return a message that names options as users type them: `--mode` instead of `mode`."""
    for argument in arguments:
        commands = getattr(command, "commands", {})
        command = commands.get(argument) or commands.get(NETWORK) or command
    for parameter in command.params:
        option = max(parameter.opts, key=len)
        if option.startswith("--"):
            message = message.replace(f"`{parameter.name}`", f"`{option}`")
    return message


def _unexpected(problem: Exception) -> str:
    """Return the message for an unexpected exception: a bug, with a way to report it."""
    reason = " ".join(f"{type(problem).__name__}: {problem}".split())
    return (
        f"unexpected {reason[:300]}. This is a bug in separable: please report it together with the "
        f"traceback that {DEBUG}=1 prints for the same command"
    )


def _usage(mistake: Exception) -> str:
    """Return the message for wrong arguments, with the command that explains them."""
    text = mistake.format_message().rstrip(".")  # type: ignore[attr-defined]
    context = getattr(mistake, "ctx", None)
    path = context.command_path if context is not None else "separable"
    if re.search(
        r"extra argument.*\((-?[\d.;\[\]]+ ?)+\)$|no such option: -\d", text, re.IGNORECASE
    ):
        text += '. Write a matrix in quotes, for example "1 2 1; 2 4 2; 1 2 1"'
    stop = "" if text.endswith("?") else "."
    return f"{text[:1].lower()}{text[1:]}{stop} See `{path} --help`"


def _tolerate_any_encoding() -> None:
    """Print a question mark for what the terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
