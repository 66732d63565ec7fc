"""`separable machine`: measure this computer, so that predictions are its own."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from separable.cli.console import output, progress, put
from separable.configuration import configuration, configuration_text
from separable.engine.availability import available
from separable.errors import FileError
from separable.machine import Machine, cache_path, current

__all__ = ["machine_command", "show_machine"]

UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def machine_command(
    show: Annotated[
        bool, typer.Option("--show", help="Print the rates in use and measure nothing.")
    ] = False,
) -> None:
    """Measure how fast this computer runs each method, in under 20 seconds; say what runs here.

    The rates are kept in the user's cache folder and used for every plan from then on.
    """
    console = output()
    if show:
        show_machine(current(), console)
        _show_configuration(console)
        return
    from separable.calibrate import measure
    from separable.engine.compile_ahead import is_compiled, warmup

    if available() and not is_compiled():
        with progress("Compiling, once", shown=True) as step:
            warmup(step)
    with progress("Measuring this computer", shown=True) as step:
        measured = measure(step)
    try:
        measured.save(cache_path())
    except OSError as error:
        raise FileError(
            f"cannot keep the profile in {cache_path()}: {error.strerror or error}. "
            "Choose another cache folder, for instance with XDG_CACHE_HOME"
        ) from None
    show_machine(measured, console)
    _show_configuration(console)
    console.print(f"Kept in {cache_path()}; every plan uses it from now on.", soft_wrap=True)


def show_machine(machine: Machine, console: Console) -> None:
    """Print a profile's rates as a table: methods and operations down, types across."""
    threads = f"{machine.threads} thread{'s' if machine.threads != 1 else ''}"
    console.print(f"{machine.name} ({machine.source})", style="bold")
    console.print(f"Time of one operation, on {threads}, by the image's type:")
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


def _show_configuration(console: Console) -> None:
    """Print what runs here: versions, engine, threads and cache."""
    console.print(
        f"\n{configuration_text(configuration())}", soft_wrap=True, markup=False, highlight=False
    )


def _rate(seconds: float) -> str:
    """A time of one operation; a dot for none that could be measured."""
    if seconds <= 0:
        return "."
    unit, factor = next((u for u in UNITS if seconds >= u[1] * 0.9995), UNITS[-1])
    return f"{seconds / factor:.3g} {unit}"
