"""Options for missing samples (--mask, --nan, --fill) and the filter that uses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from numpy.typing import NDArray

from separable.cli.options import Kernel, number
from separable.errors import ArgumentError
from separable.files import read_image
from separable.filtering import missing_options
from separable.masked import filter_missing
from separable.plan import Plan

__all__ = ["MissingOptions", "filter_valid", "read_missing"]


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
        parser=number,
        metavar="NUMBER",
    ),
]


@dataclass(frozen=True)
class MissingOptions:
    """The options --mask, --nan and --fill as they were typed."""

    mask: MaskFile = None
    nan: Nan = "propagate"
    fill: Fill = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given as keywords of `convolve`, the mask as a path.

        Raises
        ------
        ArgumentError
            If `--fill` is given although no sample can be missing.
        """
        if self.fill is not None and self.mask is None and self.nan == "propagate":
            raise ArgumentError(
                f"`--fill` {self.fill:g} needs missing samples: say which are missing with "
                "--mask FILE or --nan ignore"
            )
        return missing_options(self.mask, self.nan, math.nan if self.fill is None else self.fill)


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
