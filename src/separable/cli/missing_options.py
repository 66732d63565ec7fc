"""The options that say which samples of an image are missing, and a filter that heeds them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from numpy.typing import NDArray

from separable.cli.options import Kernel
from separable.errors import ArgumentError
from separable.files import read_image
from separable.filtering import missing_options
from separable.masked import filter_missing
from separable.plan import Plan

__all__ = ["Fill", "MaskFile", "Nan", "filter_valid", "read_missing", "said_missing"]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number; got {text!r}") from None


MaskFile = Annotated[
    Path | None,
    typer.Option(
        help="An image that is nonzero where the input is valid; what is missing does not count.",
        show_default=False,
        readable=False,
    ),
]
Nan = Annotated[
    str, typer.Option(help="ignore takes NaN for missing; propagate spreads it.", metavar="WORD")
]
Fill = Annotated[
    float | None,
    typer.Option(
        help="The result where nothing valid lies below the kernel; NaN if not given, which whole "
        "numbers cannot be.",
        show_default=False,
        parser=_number,
        metavar="NUMBER",
    ),
]


def said_missing(mask: Path | None, nan: str, fill: float | None) -> dict[str, Any]:
    """Return what was said about missing samples, the mask by its name.

    Raises
    ------
    ArgumentError
        If there is a fill for nothing.
    """
    if fill is not None and mask is None and nan == "propagate":
        raise ArgumentError(
            f"`--fill` {fill:g} is for where samples are missing: say which with --mask FILE or "
            "--nan ignore"
        )
    return missing_options(mask, nan, math.nan if fill is None else fill)


def read_missing(said: dict[str, Any]) -> dict[str, Any]:
    """Return the same with the mask's values, as keywords of `filter_missing`.

    Raises
    ------
    FileError
        If the mask cannot be read.
    """
    return said | {"mask": read_image(said["mask"])[0]} if "mask" in said else said


def filter_valid(
    made: Plan,
    kernel: Kernel,
    image: NDArray[Any],
    missing: dict[str, Any],
    progress: Callable[[float], None] | None,
) -> NDArray[Any]:
    """Filter what is valid, otherwise as planned."""
    request, problem = made.request, made.problem
    return filter_missing(
        image, kernel.values, problem.out, progress=progress, operation=request.operation,
        axes=problem.axes, mode=problem.modes, cval=problem.cval, origin=request.origins,
        tol=request.tol, method=request.method, **missing,
    )  # fmt: skip
