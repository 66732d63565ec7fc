"""The options --output-region and --stride: the outputs that a filter computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from separable.cli.options import integers

__all__ = ["RegionOptions"]

Region = Annotated[
    str,
    typer.Option(
        "--output-region",
        help="Outputs to compute: same (as the image), valid (where the kernel lies inside the image) or "
        "full (where it overlaps the image).",
        metavar="REGION",
    ),
]
Stride = Annotated[
    str | None,
    typer.Option(
        "--stride",
        help="Compute every n-th output only, along all filtered axes or along each: 2 or 1x2x2.",
        show_default=False,
        metavar="COUNTS",
    ),
]


@dataclass(frozen=True)
class RegionOptions:
    """The options --output-region and --stride as they were typed."""

    output_region: Region = "same"
    stride: Stride = None

    @property
    def is_given(self) -> bool:
        """True if not all outputs are asked for."""
        return self.output_region != "same" or self.stride is not None

    @property
    def for_plan(self) -> dict[str, Any]:
        """Keywords of `plan`."""
        if not self.is_given:
            return {}
        steps = (1,) if self.stride is None else integers("--stride", self.stride, "x")
        return {
            "output_region": self.output_region,
            "stride": steps if len(steps) > 1 else steps[0],
        }
