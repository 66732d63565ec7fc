"""`separable explore`: the page where a kernel comes apart."""

from __future__ import annotations

import importlib.util
from typing import Annotated

import typer

from separable.cli.console import output
from separable.distribution import install_command
from separable.errors import ArgumentError

__all__ = ["explore_command"]


def explore_command(
    host: Annotated[
        str,
        typer.Option(help="The address to listen on; others than this computer's need a token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8765,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
) -> None:
    """Serve a page to look at kernels, layers and conversions, on this computer."""
    console = output()
    missing = [p for p in ("starlette", "uvicorn", "PIL") if importlib.util.find_spec(p) is None]
    if missing:
        raise ArgumentError(
            f"the page needs {', '.join(missing)}. Install: {install_command('explore')}"
        )
    from separable.explore import serve

    serve(host, port, browser=browser, say=lambda text: console.print(text, soft_wrap=True))
