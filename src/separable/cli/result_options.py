"""Options for what becomes of a result: --abs, --magnitude and --rescale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from separable.errors import ArgumentError
from separable.files.image_filter import check_percentiles

__all__ = ["ResultOptions"]

Absolute = Annotated[
    bool, typer.Option("--abs", help="Write the absolute value of the result, rounded once.")
]
Lengths = Annotated[
    bool,
    typer.Option(
        "--magnitude",
        help="Write the length of the gradient: the kernel (sobel, scharr, prewitt, "
        "central_difference or gaussian:SIGMA) along every filtered axis.",
    ),
]
Rescale = Annotated[
    str | None,
    typer.Option(
        help="Stretch the result to the range of its data type (0 to 1 for floats): minmax, or two "
        "percentiles, for example 1,99.",
        show_default=False,
        metavar="RANGE",
    ),
]


@dataclass(frozen=True)
class ResultOptions:
    """The options --abs, --magnitude and --rescale as they were typed."""

    absolute: Absolute = False
    magnitude: Lengths = False
    rescale: Rescale = None

    @property
    def percentiles(self) -> tuple[float, float] | None:
        """Percentiles of --rescale; None if it is not given.

        Raises
        ------
        ArgumentError
        """
        if self.rescale is None:
            return None
        if self.rescale.strip().lower() == "minmax":
            return 0.0, 100.0
        try:
            low, high = map(float, self.rescale.split(","))
        except ValueError:
            raise ArgumentError(
                f"`--rescale` must be minmax or two percentiles such as 1,99; got {self.rescale!r}"
            ) from None
        check_percentiles((low, high))
        return low, high
