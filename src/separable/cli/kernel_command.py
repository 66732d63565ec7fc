"""`separable kernel`: a kernel, its factors and its singular values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from separable.cli.console import output, put
from separable.cli.drawing import draw, number
from separable.cli.options import (
    Kernel,
    SpacingText,
    is_kernel_file,
    read_kernel,
    read_spacing,
)
from separable.cost import KernelCount, count_kernel
from separable.errors import ArgumentError, PatternError
from separable.factorize import Spectrum, factorize, spectrum
from separable.factors import Factors
from separable.kernels import parse_spec, registered_kernels
from separable.kernels.matrix_text import matrix_json, matrix_text
from separable.pattern import filter_pattern, kronecker_pattern

__all__ = ["kernel_command", "kernel_of"]

TERMS = 2  # shown of a kernel that has more
VALUES, FEW = 33, 11  # a longer vector is cut: of a kernel of rank 1, and of the terms of others
ENDS = 3  # values shown at either end then
ROWS = 10  # shown of a longer spectrum
KRONECKER_AXES = 3  # most axes of a kernel that is searched for Kronecker products
BAR = 30  # columns of the longest bar
LEGEND = (
    "terms: number of separable terms in the sum; singular value: that of the last term; error: "
    "|kernel - sum| / |kernel| (Frobenius norm)."
)


def kernel_command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Kernel name with parameters, for example sobel or gaussian:2,order=1. Without it, "
            "the available names are listed.",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            "-f",
            help="File with a dense kernel, for example psf.npy.",
            show_default=False,
        ),
    ] = None,
    ndim: Annotated[
        int | None, typer.Option(help="Number of axes, 1 to 4.", show_default=False)
    ] = None,
    spacing: SpacingText = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Axes and factors, for example yx->y,x or zyx->z,yx. Default: one factor per axis.",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Number of terms of the factors.", show_default=False)
    ] = None,
    tol: Annotated[
        float | None,
        typer.Option(
            help="Fewest terms within this error, relative (Frobenius norm). With a pattern with groups, "
            "the sizes may be omitted: those with the fewest multiplications are found.",
            show_default=False,
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Sizes of the inner letters of groups, for example y=3,x=3 for (Yy)(Xx)->YX,yx.",
            show_default=False,
        ),
    ] = None,
    as_text: Annotated[
        bool, typer.Option("--text", help="Print only the numbers, for -k - of another command.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the kernel as JSON.")] = False,
) -> None:
    """Show a kernel, its factors and its singular values; without a name, list all kernels."""
    console = output()
    if name is not None and file is not None:
        raise ArgumentError(f"give a name or `--file`, not both; got {name!r} and {file!r}")
    if name is None and file is None:
        _list(console)
        return
    kernel = kernel_of(name, file, ndim, spacing)
    if as_text and as_json:
        raise ArgumentError("give `--text` or `--json`, not both")
    if as_text:
        print(matrix_text(kernel.dense, kernel.operation))
    elif as_json:
        asked = _Asked(pattern, rank, tol, _sizes(sizes))
        extra = asked.factors(kernel) if kernel.dense.ndim > 1 else None
        print(matrix_json(kernel.dense, kernel.name, kernel.operation, extra))
    else:
        _show(kernel, _Asked(pattern, rank, tol, _sizes(sizes)), console)


def _sizes(text: str | None) -> dict[str, int] | None:
    """Return the sizes of letters from text such as ``y=3,x=3``."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*[A-Za-z]\s*=\s*\d+\s*(,\s*[A-Za-z]\s*=\s*\d+\s*)*", text)
    if not found:
        raise ArgumentError(f"`--sizes` must be letters and sizes such as y=3,x=3; got {text!r}")
    return {a: int(n) for a, n in re.findall(r"([A-Za-z])\s*=\s*(\d+)", text)}


def kernel_of(name: str | None, file: str | None, ndim: int | None, spacing: str | None) -> Kernel:
    """Return the kernel of a name or a file."""
    source = file or name or ""
    if file is None and not is_kernel_file(source):
        return Kernel(source, _named(source, ndim, spacing), "correlate")
    kernel = read_kernel(source, None, spacing)
    if ndim is not None and ndim != len(kernel.shape):
        raise ArgumentError(f"{source} has {len(kernel.shape)} axes; got --ndim {ndim}")
    return kernel


def _named(text: str, ndim: int | None, spacing: str | None) -> Factors | NDArray[Any]:
    used = read_spacing(spacing)
    if used is None:
        return parse_spec(text, ndim)
    count = ndim or len(used.steps)
    steps = used.along(range(count), count) if count > 1 else used.along([0], 1)[0]
    return parse_spec(text, ndim, spacing=steps, unit=used.unit)


def _list(console: Console) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column()
    for kernel in sorted(registered_kernels(), key=lambda k: k.name):
        grid.add_row(kernel.name, kernel.description.replace("``", ""))
    console.print("Kernels:")
    put(console, grid, indent=2)
    console.print(
        "\nParameters follow a colon: gaussian:2  gaussian:2,order=1  gaussian:3x1x1\n"
        "sobel:axis=0  motion:15,angle=45deg  disk:7. `log` and `dog` are short names.\n"
        "Lengths are in pixels; with a unit, for example gaussian:2mm, they need the\n"
        "spacing of the image. `separable kernel NAME` shows one kernel."
    )


@dataclass(frozen=True)
class _Asked:
    """Options of the factors."""

    pattern: str | None
    rank: int | None
    tol: float | None
    sizes: dict[str, int] | None = None

    def factors(self, kernel: Kernel) -> Factors:
        """Return the factors; by default those that the catalogue gives, or exact ones."""
        given = kernel.values
        if self != _Asked(None, None, None) or not isinstance(given, Factors):
            try:
                return factorize(
                    kernel.dense, self.pattern, rank=self.rank, tol=self.tol, sizes=self.sizes
                )
            except PatternError as mistake:
                found = r"--sizes \1=\2, or --tol 1e-6 to find sizes"
                text = re.sub(r"sizes=\{'(\w)': (\d+)\}", found, str(mistake))
                raise PatternError(text) from None
        least = spectrum(kernel.dense).rank
        return given if given.rank <= least else factorize(kernel.dense)


def _show(kernel: Kernel, asked: _Asked, console: Console) -> None:
    """Print the drawing, the factors, the singular values and the multiplications."""
    dense = kernel.dense
    size = "x".join(map(str, dense.shape))
    console.print(f"{kernel.name}: {size}, sum {number(_sum(dense))}", style="bold")
    console.print()
    put(console, draw(dense, console), indent=2)
    console.print()
    if dense.ndim == 1 and asked.pattern is None:
        put(console, _vector(dense, VALUES), indent=2)
        console.print("\nThe kernel has one axis: a single pass, nothing to separate.")
        return
    factors = asked.factors(kernel)
    values = None
    if factors.pattern.has_one_bond:
        values = spectrum(dense, factors.pattern, sizes=_group_sizes(factors))
    _show_factors(factors, values, console)
    if factors.rank and values is not None and not factors.pattern.batch:
        _show_spectrum(values, console)
    if factors.rank:
        _show_cost(dense, factors, console)
    if factors.rank and asked.tol and asked.pattern is None:
        _show_kronecker(dense, factors, asked.tol, console)


def _group_sizes(factors: Factors) -> dict[str, int] | None:
    """Return the sizes of the letters of a kernel whose pattern has groups; None for other patterns."""
    pattern = factors.pattern
    return {a: factors.sizes[a] for a in pattern.letters} if pattern.has_groups else None


def _sum(dense: NDArray[Any]) -> Any:
    total = dense.sum()
    return 0.0 if abs(total) <= 1e-12 * np.abs(dense).sum() else total


def _show_factors(factors: Factors, values: Spectrum | None, console: Console) -> None:
    rank = factors.rank
    if rank == 0:
        console.print("The kernel is zero everywhere.")
        return
    if values is None or factors.pattern.batch:
        console.print(f"{factors!r}\n")
        return
    console.print(_verdict(factors, values), soft_wrap=True)
    if factors.pattern.has_groups:
        groups = "".join(axis for axis in factors.pattern.axes if len(axis) > 1)
        console.print(
            f"Sizes of the groups: {', '.join(f'{a}={factors.sizes[a]}' for a in groups)}."
        )
    console.print()
    letters = factors.pattern.factors
    for index, term in enumerate(factors.terms[:TERMS]):
        if rank > 1:
            console.print(f"  term {index + 1}")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="bold cyan", no_wrap=True)
        grid.add_column()
        for letter, vector in zip(letters, term, strict=True):
            grid.add_row(letter, _vector(vector, VALUES if rank <= 1 else FEW))
        put(console, grid, indent=2 if rank <= 1 else 4)
    if rank > TERMS:
        more = rank - TERMS
        console.print(f"  ... {more} more term{'s' if more > 1 else ''}")
    console.print()


def _verdict(factors: Factors, values: Spectrum) -> str:
    """Return whether the kernel separates, and what is shown of it."""
    usual = str(factors.pattern) == filter_pattern(len(factors.shape))
    parts = "one vector per axis" if usual else f"the factors of {factors.pattern}"
    exact = (
        f"Separable: the product of {parts}."
        if values.separable
        else f"Not separable: the sum of {values.rank} separable terms (rank {values.rank})."
    )
    if factors.rank == values.rank:
        return exact
    terms = f"{factors.rank} term{'' if factors.rank == 1 else 's'}"
    return f"{exact}\nShown: {terms}, with an error of {factors.error:.2g} of the kernel (Frobenius norm)."


def _vector(values: NDArray[Any], max_values: int) -> str:
    flat = values.ravel()
    if flat.size <= max_values:
        return "  ".join(number(v) for v in flat)
    return "  ".join([*map(number, flat[:ENDS]), "...", *map(number, flat[-ENDS:])])


def _show_spectrum(values: Spectrum, console: Console) -> None:
    """Print the largest singular values with bars, and the error after each term."""
    total = values.values.size
    count = min(values.rank + 1, ROWS, total)
    largest = float(values.values.max(initial=0.0)) or 1.0
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(justify="right", no_wrap=True)
    for style in ("", "", "cyan"):
        grid.add_column(no_wrap=True, style=style)
    grid.add_row("terms", "singular value", "error", "")
    block = "#" if console.options.ascii_only else "█"
    for r in range(1, count + 1):
        value = float(values.values[r - 1]) if r <= values.rank else 0.0
        error = float(values.errors[r])
        exact = r >= values.rank
        bar = block * max(round(BAR * value / largest), int(value > 0))
        grid.add_row(str(r), f"{value:.4g}", "0" if exact else f"{error:.2g}", bar)
    console.print("Singular values")
    put(console, grid, indent=2)
    if values.rank > count:
        console.print(f"  ... exact with {values.rank} terms")
    put(console, LEGEND, indent=2)
    console.print()


def _show_kronecker(dense: NDArray[Any], factors: Factors, tol: float, console: Console) -> None:
    """Say which Kronecker products within the error are cheaper than the terms shown, if any are."""
    if dense.ndim > KRONECKER_AXES:
        return
    pattern = kronecker_pattern(dense.ndim)
    found = factorize(dense, pattern, tol=tol)
    cheapest = min(factors.parameters, int(np.count_nonzero(dense)))
    if not found.rank or found.parameters >= cheapest:
        return
    block = "x".join(str(found.sizes[a]) for a in found.pattern.factors[1])
    products = "one Kronecker product" if found.rank == 1 else f"{found.rank} Kronecker products"
    put(
        console,
        f"Cheaper within this error: {products} of a coarse kernel and one of {block}, "
        f"{found.parameters} multiplications in {2 * found.rank} passes, with an error of "
        f"{found.error:.2g}. To see the factors, add --pattern '{pattern}'.",
    )


def _show_cost(dense: NDArray[Any], factors: Factors, console: Console) -> None:
    """Print the multiplications per output; of factors over several axes, those of their passes."""
    count = count_kernel(dense, factors.rank)
    if str(factors.pattern) != filter_pattern(dense.ndim):
        parts = factors.rank * len(factors.pattern.factors)
        count = KernelCount(count.dense, count.nonzero, factors.parameters, parts)
    sentence = count.sentence
    put(console, f"{sentence[:1].upper()}{sentence[1:]}.")
