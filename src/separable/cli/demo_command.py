"""`separable demo`: the library on real images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo_command"]


def demo_command(
    folder: Annotated[
        Path, typer.Option("--output", "-o", readable=False, help="Where the pictures are written.")
    ] = Path("demo-output"),
) -> None:
    """Factor and run dense kernels on a photograph and an MRI volume, and compare the times."""
    from separable.demo import run_demo

    run_demo(folder)
