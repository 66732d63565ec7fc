"""`separable report`: a kernel's page as one file."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from separable.cli.console import output
from separable.cli.kernel_command import kernel_of
from separable.cli.options import SpacingText, integers, is_kernel_file
from separable.distribution import install_command
from separable.errors import ArgumentError, FileError
from separable.files.atomic_write import whole_or_nothing
from separable.files.diagnostics import reason_of, remedy_of

__all__ = ["report_command"]

ENDINGS = (".html", ".htm")


def report_command(
    kernel: Annotated[str, typer.Argument(help="As gaussian:2, or a file: psf.npy.")],
    target: Annotated[
        Path, typer.Option("--output", "-o", help="Where to, as report.html.", readable=False)
    ],
    ndim: Annotated[
        int | None, typer.Option(help="How many axes, 1 to 3.", show_default=False)
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Of the images to plan for, as 1024x1024.", show_default=False),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of these images.")] = "float32",
    spacing: SpacingText = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write all about a kernel into one page that needs no network."""
    if importlib.util.find_spec("starlette") is None:
        raise ArgumentError(f"reports need starlette. Install: {install_command('explore')}")
    from separable.explore import kernel_report

    with _writing(target):
        _check(target, force)
    chosen = kernel_of(kernel, None, ndim, spacing)
    sizes = None if shape is None else integers("--shape", shape, "x")
    page = kernel_report(
        Path(kernel).name if is_kernel_file(kernel) else kernel,
        chosen.dense,
        operation=chosen.operation,
        shape=sizes,
        dtype=dtype,
    )
    with _writing(target), whole_or_nothing(target.resolve(), force) as file:
        file.write(page.encode())
    output().print(
        f"Wrote {target}: {len(page) / 1024:.0f} KiB, opens without a network.", soft_wrap=True
    )


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Say clearly why a page cannot be written."""
    try:
        yield
    except FileError:
        raise
    except (OSError, RuntimeError) as error:  # before Python 3.13 a loop of links is the latter
        raise FileError(f"cannot write {target}: {reason_of(error)}{remedy_of(error)}") from None


def _check(target: Path, force: bool) -> None:
    """Say before the work begins whether the page can be written."""
    if target.suffix.lower() not in ENDINGS:
        raise FileError(f"cannot write {target}: a report is a page. Name it {target.stem}.html")
    if target.is_dir() or not target.resolve().parent.is_dir():
        raise FileError(f"cannot write {target}: there is no such folder, or it is one itself")
    if target.exists() and not force:
        raise FileError(f"{target} exists. Choose another name, or overwrite it (--force)")
