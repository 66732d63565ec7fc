"""`separable machine` and `separable warmup`: measure this computer, compile in advance."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from separable.cli.console import output, progress, put
from separable.configuration import configuration, configuration_text
from separable.distribution import install_command
from separable.engine.availability import available, why_not
from separable.errors import ArgumentError, FileError
from separable.machine import Machine, cache_path, current, keep

if TYPE_CHECKING:
    from separable.nn.step_times.layer_profile import LayerProfile

__all__ = ["machine_command", "show_machine", "warmup_command"]

LEGEND = (
    "call: once per filter; element: per output sample; axis element: per sample and pass; tap: "
    "per sample and weight (folded tap: of a symmetric kernel); element log: per sample, times "
    "log2 of the transform size; tile: per FFT tile. A dot: too short to measure."
)
LAYER_LEGEND = (
    "Average rates of the measured cases; each prediction corrects them by the sizes of the layer. "
    "call: once per layer; MAC: per multiplication added to a sum; byte: per byte moved. "
    "A dot: no part of the time."
)
UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("ps", 1e-12))


def machine_command(
    show: Annotated[
        bool, typer.Option("--show", help="Print the rates in use without measuring.")
    ] = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Measure layers of networks instead, in PyTorch, in fused programs and in ONNX Runtime.",
        ),
    ] = False,
) -> None:
    """Measure how fast this computer runs each method, and print versions and settings.

    This takes less than 20 seconds. The rates are kept in the user's cache folder and used for
    every plan from then on. Layers of networks are measured with --layers, which takes about a
    minute; their times are used by `separable convert --faster` and by the time columns of ledgers.
    """
    console = output()
    if layers:
        _measure_layers(show, console)
        return
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


def _measure_layers(show: bool, console: Console) -> None:
    """Measure the steps of networks, or show what is known of them."""
    try:
        from separable.nn.runtimes.profile_measurement import measured_profile
        from separable.nn.step_times import layer_profile  # PyTorch is optional
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            f"`--layers` needs PyTorch, which is not installed: {install_command('torch')}"
        ) from missing
    if not show:
        with progress("Measuring layers", shown=True) as step:
            measured = measured_profile(step)
        try:
            layer_profile.keep_profile(measured)
        except OSError as error:
            raise FileError(
                f"cannot keep the profile in {layer_profile.profile_path()}: "
                f"{error.strerror or error}. Choose another cache folder, for instance with "
                "XDG_CACHE_HOME"
            ) from None
    found = layer_profile.current_profile()
    put(console, _layer_grid(found))
    put(console, LAYER_LEGEND)
    if not show:
        console.print(
            f"Kept in {layer_profile.profile_path()}; predictions use it from now on.",
            soft_wrap=True,
        )


def _layer_grid(found: LayerProfile) -> Table:
    """Return the rates of each kind of step: call, multiplication, byte."""
    threads = f"{found.threads} thread{'s' if found.threads != 1 else ''}"
    grid = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title_justify="left",
        title=f"Times of layers on {threads}, {found.origin}.",
    )  # fmt: skip
    for at, name in enumerate(("runtime", "step", "cases", "call", "MAC", "byte")):
        grid.add_column(name, justify="left" if at < 2 else "right", no_wrap=True)
    for runtime, kinds in found.models.items():
        for row, (kind, model) in enumerate(kinds.items()):
            rates = (_rate(r) if r else "." for r in model.rates)
            grid.add_row("" if row else runtime, kind, str(len(model.points)), *rates)
    return grid


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
