"""`separable machine` and `separable warmup`: measure this computer, compile in advance."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from separable.cli.console import output, progress, put
from separable.configuration import configuration, configuration_text
from separable.engine.availability import available, why_not
from separable.errors import ArgumentError, FileError
from separable.machine import Machine, cache_path, current, keep

__all__ = ["machine_command", "show_machine", "warmup_command"]

LEGEND = (
    "call: once per filter; element: per output sample; axis element: per sample and pass; tap: "
    "per sample and weight (folded tap: of a symmetric kernel); element log: per sample, times "
    "log2 of the transform size; tile: per FFT tile. A dot: too short to measure."
)
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def machine_command(
    show: Annotated[
        bool, typer.Option("--show", help="Print the rates in use without measuring.")
    ] = False,
) -> None:
    """Measure how fast this computer runs each method, and print versions and settings.

    This takes less than 20 seconds. The rates are kept in the user's cache folder and used for
    every plan from then on.
    """
    console = output()
    if show:
        show_machine(current(), console)
        _show_configuration(console)
        return
    from separable.calibrate import measure  # start-up time
    from separable.engine.compile_ahead import is_compiled, warmup  # start-up time

    if available() and not is_compiled():
        with progress("Compiling, once", shown=True) as step:
            warmup(step)
    with progress("Measuring this computer", shown=True) as step:
        measured = measure(step)
    try:
        keep(measured)
    except OSError as error:
        raise FileError(
            f"cannot keep the profile in {cache_path()}: {error.strerror or error}. "
            "Choose another cache folder, for instance with XDG_CACHE_HOME"
        ) from None
    show_machine(current(), console)
    _show_configuration(console)
    console.print(f"Kept in {cache_path()}; every plan uses it from now on.", soft_wrap=True)


def warmup_command() -> None:
    """Compile the engine for the common data types and keep it in the user's cache folder.

    This takes less than a minute, and no time if it was done before.
    """
    reason = why_not()
    if reason:
        raise ArgumentError(f"nothing to compile: the compiled engine is not available: {reason}")
    from separable.engine.compile_ahead import warmup  # start-up time
    from separable.engine.compiled.code_cache import state  # the compiled engine is optional
    from separable.engine.compiled.jit import cache_folder  # the compiled engine is optional

    folder = cache_folder()
    if state(folder) != "writable":
        where = "there is no cache folder" if folder is None else f"{folder} cannot be written"
        raise FileError(
            f"cannot keep compiled code: {where}. "
            "Choose another folder, for instance with SEPARABLE_CACHE_DIR"
        )
    start = time.perf_counter()
    with progress("Compiling", shown=True) as step:
        count = warmup(step)
    took = time.perf_counter() - start
    output().print(
        f"Ready: {count} combinations of types in {took:.1f} s.\nKept in {folder}.", soft_wrap=True
    )


def show_machine(machine: Machine, console: Console) -> None:
    """Print the rates of a profile: methods and operations in rows, data types in columns."""
    threads = f"{machine.threads} thread{'s' if machine.threads != 1 else ''}"
    console.print(f"Rates: {machine.origin}.", style="bold")
    console.print(f"Time of one operation on {threads}, per data type of the image:")
    types = list(dict.fromkeys(d for tables in machine.rates.values() for d in tables))
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("method", "operation", *types):
        grid.add_column(name, justify="right" if name in types else "left", no_wrap=True)
    for method, tables in machine.rates.items():
        kinds = dict.fromkeys(kind for rates in tables.values() for kind in rates)
        for row, kind in enumerate(sorted(kinds)):
            cells = (_rate(tables.get(d, {}).get(kind, 0.0)) for d in types)
            grid.add_row("" if row else method, kind, *cells)
    put(console, grid)
    put(console, LEGEND)


def _show_configuration(console: Console) -> None:
    """Print versions, engine, threads and cache."""
    console.print(
        f"\n{configuration_text(configuration())}", soft_wrap=True, markup=False, highlight=False
    )


def _rate(seconds: float) -> str:
    """Format the time of one operation; a dot if it was too short to measure."""
    if seconds <= 0:
        return "."
    unit, factor = next((u for u in UNITS if seconds >= u[1] * 0.9995), UNITS[-1])
    return f"{seconds / factor:.3g} {unit}"
