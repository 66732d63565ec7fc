"""`separable report`, `explore` and `demo`: pages and pictures to look at."""

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
from separable.errors import ArgumentError, FileError, KernelError, SeparableError
from separable.files.atomic_write import whole_or_nothing
from separable.files.diagnostics import reason_of, remedy_of

__all__ = ["demo_command", "explore_command", "report_command"]

ENDINGS = (".html", ".htm")


def report_command(
    kernel: Annotated[
        str,
        typer.Argument(
            metavar="KERNEL",
            help="Kernel name, for example gaussian:2, or a file, for example psf.npy.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Output file, for example report.html.", readable=False
        ),
    ],
    ndim: Annotated[
        int | None, typer.Option(help="Number of axes, 1 to 3.", show_default=False)
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Image shape to plan for, for example 1024x1024.", show_default=False),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Data type of the image to plan for.")] = "float32",
    spacing: SpacingText = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a report on a kernel as one HTML file that needs no internet connection."""
    if importlib.util.find_spec("starlette") is None:
        raise ArgumentError(f"reports need starlette. Install: {install_command('explore')}")
    from separable.explore import kernel_report  # its packages are optional
    from separable.explore.uploads import check_kernel

    with _writing(target):
        _check(target, force)
    chosen = kernel_of(kernel, None, ndim, spacing)
    try:
        values = check_kernel(chosen.dense)
    except SeparableError as mistake:
        raise KernelError(f"cannot report on {kernel}: {mistake}") from None
    sizes = None if shape is None else integers("--shape", shape, "x")
    page = kernel_report(
        Path(kernel).name if is_kernel_file(kernel) else kernel,
        values,
        operation=chosen.operation,
        shape=sizes,
        dtype=dtype,
    )
    with _writing(target), whole_or_nothing(target.resolve(), force) as file:
        file.write(page.encode())
    output().print(
        f"Wrote {target}: {len(page) / 1024:.0f} KiB, no network needed to open it.", soft_wrap=True
    )


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Raise a `FileError` that says why the page cannot be written."""
    try:
        yield
    except FileError:
        raise
    except (OSError, RuntimeError) as error:  # before Python 3.13 a loop of links is the latter
        raise FileError(f"cannot write {target}: {reason_of(error)}{remedy_of(error)}") from None


def _check(target: Path, force: bool) -> None:
    """Check before the work begins that the page can be written."""
    if target.suffix.lower() not in ENDINGS:
        raise FileError(
            f"cannot write {target}: a report is an HTML file. Name it {target.stem}.html"
        )
    if target.is_dir() or not target.resolve().parent.is_dir():
        raise FileError(f"cannot write {target}: there is no such folder, or it is one itself")
    if target.exists() and not force:
        raise FileError(f"{target} exists. Choose another name, or overwrite it (--force)")


def explore_command(
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; non-loopback addresses require a token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 chooses a free one.")] = 8765,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    static: Annotated[
        Path | None,
        typer.Option(
            "--static",
            metavar="DIR",
            readable=False,
            show_default=False,
            help="Write the page to this folder instead; it works without a server, also from disk.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing page.")] = False,
) -> None:
    """Serve a page to explore kernels, layers, volumes and conversions, from this computer."""
    console = output()
    missing = [p for p in ("starlette", "uvicorn", "PIL") if importlib.util.find_spec(p) is None]
    if missing:
        raise ArgumentError(
            f"the page needs {', '.join(missing)}. Install: {install_command('explore')}"
        )
    from separable.explore import serve, write_static  # its packages are optional

    if static is not None:
        page = write_static(static, overwrite=force)
        console.print(
            f"Wrote {page}: {page.stat().st_size / 1000:.0f} kB. Open it from disk, or put the folder "
            "on any static host.",
            soft_wrap=True,
        )
        return
    serve(host, port, browser=browser, say=lambda text: console.print(text, soft_wrap=True))


def demo_command(
    folder: Annotated[
        Path, typer.Option("--output", "-o", readable=False, help="Folder for the pictures.")
    ] = Path("demo-output"),
) -> None:
    """Filter a photograph and an MRI volume with dense kernels, and compare the times."""
    from separable.demo import run_demo  # its packages are optional

    run_demo(folder)
