"""Options for missing samples (--mask, --nan, --fill) and the filter that uses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from separable.cli.options import Kernel, number
from separable.errors import ArgumentError
from separable.files import ImageInfo, read_image
from separable.files.declared_nodata import Obeyed, obey_nodata
from separable.files.format_registry import locate
from separable.filtering import missing_options
from separable.masked import filter_missing, valid_samples
from separable.plan import Plan

__all__ = [
    "MissingOptions",
    "check_fill_used",
    "filter_valid",
    "obey_file",
    "read_missing",
    "read_nodata",
]


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


NoDataText = Annotated[
    str,
    typer.Option(
        "--nodata",
        help="Value of missing samples: a number; auto, what the file declares; or none.",
        metavar="VALUE",
    ),
]


@dataclass(frozen=True)
class MissingOptions:
    """The options --mask, --nan, --fill and --nodata as they were typed."""

    mask: MaskFile = None
    nan: Nan = "propagate"
    fill: Fill = None
    nodata: NoDataText = "auto"

    def given(self) -> dict[str, Any]:
        """Return the options that were given as keywords of `convolve`, the mask as a path.

        Raises
        ------
        ArgumentError
            If `--nodata` cannot be read.
        """
        nodata = read_nodata(self.nodata)
        fill = math.nan if self.fill is None else self.fill
        return missing_options(self.mask, self.nan, fill, nodata)


def check_fill_used(missing: dict[str, Any]) -> None:
    """Refuse `--fill` if no sample can be missing.

    Raises
    ------
    ArgumentError
    """
    if "fill" in missing and missing.keys() <= {"fill"}:
        raise ArgumentError(
            f"`--fill` {missing['fill']:g} needs missing samples: say which are missing with "
            "--mask FILE, --nan ignore or --nodata VALUE"
        )


def read_nodata(text: str) -> Any:
    """Read ``--nodata``: auto, none or a number.

    Raises
    ------
    ArgumentError
    """
    word = text.strip().lower()
    if word in ("auto", "none"):
        return word
    try:
        value = float(word)
    except ValueError:
        raise ArgumentError(
            f"`--nodata` must be auto, none or a number such as -9999; got {text!r}"
        ) from None
    return int(word) if word.lstrip("+-").isdigit() else value


def obey_file(
    missing: dict[str, Any],
    image: NDArray[Any],
    info: ImageInfo,
    files: tuple[Path, Path],
    dtype: np.dtype[Any] | None,
) -> Obeyed:
    """Return the options that obey the missing values of an image in memory, with a note of their number.

    `files` are the names of the image and of the result; `dtype` is the type of the result.
    """
    out = image.dtype if dtype is None else dtype
    path, _, format = locate(files[1], "write")
    obeyed = obey_nodata(missing, info, files[0], image.dtype, out, (format, path))
    check_fill_used(obeyed.missing)
    if not obeyed.note:
        return obeyed
    count = image.size - np.count_nonzero(valid_samples(image, obeyed.missing["nodata"]))
    return replace(obeyed, note=f"{count} {obeyed.note}" if count else "")


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
