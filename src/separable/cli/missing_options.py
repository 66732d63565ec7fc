"""Options for missing samples (--mask, --nan, --fill) and the filter that uses them."""

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
        help="Mask file: nonzero where the input is valid. Other samples are ignored.",
        show_default=False,
        readable=False,
    ),
]
Nan = Annotated[
    str,
    typer.Option(
        help="NaN samples: propagate spreads them over the kernel's support, ignore treats them "
        "as missing.",
        metavar="WORD",
    ),
]
Fill = Annotated[
    float | None,
    typer.Option(
        help="Result where the kernel covers no valid sample. Default: NaN; integer outputs need "
        "a value.",
        show_default=False,
        parser=_number,
        metavar="NUMBER",
    ),
]


def said_missing(mask: Path | None, nan: str, fill: float | None) -> dict[str, Any]:
    """Return the options for missing samples that were given, the mask as a path.

    Raises
    ------
    ArgumentError
        If `--fill` is given although no sample can be missing.
    """
    if fill is not None and mask is None and nan == "propagate":
        raise ArgumentError(
            f"`--fill` {fill:g} needs missing samples: say which are missing with --mask FILE or "
            "--nan ignore"
        )
    return missing_options(mask, nan, math.nan if fill is None else fill)


def read_missing(options: dict[str, Any]) -> dict[str, Any]:
    """Replace the path of the mask by its values; return keywords of `filter_missing`.

    Raises
    ------
    FileError
        If the mask cannot be read.
    """
    return options | {"mask": read_image(options["mask"])[0]} if "mask" in options else options


def filter_valid(
    filter_plan: Plan,
    kernel: Kernel,
    image: NDArray[Any],
    missing: dict[str, Any],
    progress: Callable[[float], None] | None,
) -> NDArray[Any]:
    """Filter the valid samples only, with the options of the plan."""
    request, problem = filter_plan.request, filter_plan.problem
    return filter_missing(
        image, kernel.values, problem.out, progress=progress, operation=request.operation,
        axes=problem.axes, mode=problem.modes, cval=problem.cval, origin=request.origins,
        tol=request.tol, method=request.method, **missing,
    )  # fmt: skip
