"""`separable plan`: every method for a filter with its predicted time, from shapes alone."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from separable.cli.console import output
from separable.cli.option_groups import FilterOptions, with_option_groups
from separable.cli.options import (
    Kernel,
    integers,
    is_kernel_file,
    named_kernel,
    read_kernel,
    read_spacing,
)
from separable.cli.region_options import RegionOptions
from separable.errors import ArgumentError
from separable.factorize import spectrum
from separable.factors import Factors
from separable.plan import plan, sweep_sizes

__all__ = ["plan_command", "show_plan"]


@with_option_groups
def plan_command(
    options: FilterOptions,
    region: RegionOptions,
    shape: Annotated[
        str, typer.Option("--shape", "-s", help="Image shape, for example 4096x4096.")
    ],
    dtype: Annotated[str, typer.Option(help="Data type of the image.")] = "float64",
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Show predicted times and multiplications of kernels of the same rank and growing size.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """List every method for a filter with its predicted time, and mark the chosen one.

    No image is needed, only its shape.
    """
    sizes = integers("--shape", shape, "x")
    if min(sizes) < 1:
        raise ArgumentError(f"`--shape` must be >= 1 along every axis; got {shape!r}")
    along = options.image_axes
    if is_kernel_file(options.kernel):
        chosen = read_kernel(options.kernel, options.operation, options.spacing)
    else:
        filtered = along or tuple(range(len(sizes)))
        spacing = read_spacing(options.spacing)
        chosen = named_kernel(options.kernel, filtered, len(sizes), options.operation, spacing)
    if sweep:
        if region.is_given:
            raise ArgumentError(
                "`--sweep` is for all outputs: leave out --output-region and --stride"
            )
        _sweep(chosen, [sizes[a] for a in along] if along else list(sizes), dtype, as_json)
        return
    filter_plan = plan(
        chosen.values,
        sizes,
        dtype,
        axes=along,
        operation=chosen.operation,
        **options.for_plan,
        **region.for_plan,
    )
    if as_json:
        print(json.dumps(filter_plan.to_dict()))
    else:
        show_plan(filter_plan, output())


def _sweep(kernel: Kernel, sizes: list[int], dtype: str, as_json: bool) -> None:
    """Print the predictions for kernels of the same rank and growing size."""
    values = kernel.values
    rank = values.rank if isinstance(values, Factors) else spectrum(values).rank
    found = sweep_sizes(sizes, dtype, rank=max(rank, 1))
    print(json.dumps(found.to_dict()) if as_json else found)


def show_plan(filter_plan: Any, console: Console) -> None:
    """Print a plan; on a terminal the chosen method is highlighted and rejected ones are dim."""
    for number, line in enumerate(str(filter_plan).splitlines()):
        style = {"*": "bold green", "N": "dim"}.get(line[:1], "") if number else "bold"
        console.print(line, style=style, soft_wrap=True)
