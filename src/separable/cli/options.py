"""The options that commands share, and what their texts mean."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.factorize import as_kernel
from separable.factors import Factors
from separable.files import is_image_path, read_image
from separable.kernels import parse_spec

__all__ = [
    "Axes",
    "Cval",
    "Kernel",
    "KernelText",
    "Method",
    "Mode",
    "Operation",
    "Tol",
    "integers",
    "is_kernel_file",
    "modes",
    "named_kernel",
    "read_kernel",
]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number; got {text!r}") from None


KernelText = Annotated[
    str,
    typer.Option(
        "--kernel",
        "-k",
        help="A name with its parameters, as gaussian:2 or sobel:axis=0 (`separable kernel` lists "
        "them), or a file with a dense kernel, as psf.npy.",
        show_default=False,
    ),
]
Axes = Annotated[
    str | None,
    typer.Option(help="The image's axes to filter, as 0,1.", show_default=False),
]
Mode = Annotated[
    str,
    typer.Option(
        help="How the image goes on outside: reflect, mirror, nearest, wrap or constant; or one "
        "for each axis, as wrap,reflect."
    ),
]
Cval = Annotated[
    float,
    typer.Option(
        help="What lies outside where the mode is constant.", parser=_number, metavar="NUMBER"
    ),
]
Tol = Annotated[
    float | None,
    typer.Option(
        help="The error allowed, relative to max|image| * sum|kernel|. Exact if not given.",
        show_default=False,
        parser=_number,
        metavar="NUMBER",
    ),
]
Method = Annotated[
    str, typer.Option(help="auto takes the fastest; or separable, direct, fft ... as in a plan.")
]
Operation = Annotated[
    str | None,
    typer.Option(
        help="correlate or convolve (which flips the kernel). If not given, kernels of the "
        "catalogue are correlated, as their masks are printed, and files are convolved.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Kernel:
    """A kernel and what is done with it.

    Attributes
    ----------
    name : str
        As the user wrote it.
    values : Factors or ndarray
    operation : str
        "correlate" or "convolve".
    """

    name: str
    values: Factors | NDArray[Any]
    operation: str

    @property
    def dense(self) -> NDArray[Any]:
        """All its elements."""
        return self.values.dense() if isinstance(self.values, Factors) else self.values

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the dense kernel."""
        return self.values.shape


def is_kernel_file(text: str) -> bool:
    """Return whether a text means a file and not a kernel of the catalogue."""
    return is_image_path(text) or os.path.basename(text) != text


def read_kernel(text: str, operation: str | None = None) -> Kernel:
    """Read a dense kernel from a file; unless told otherwise it is convolved with.

    Raises
    ------
    FileError, KernelError
        If it cannot be read; if it is empty or not finite.
    """
    values, _ = read_image(text)
    return Kernel(text, as_kernel(values), operation or "convolve")


def named_kernel(text: str, ndim: int, operation: str | None = None) -> Kernel:
    """Make a kernel of the catalogue with as many axes as are filtered.

    Raises
    ------
    ArgumentError
        If there is none of that name, or it has fewer axes: then the message says what to do.
    """
    try:
        values = parse_spec(text, ndim)
    except ArgumentError:
        own = len(parse_spec(text).shape)  # raises again unless only the number of axes was wrong
        if own >= ndim:
            raise
        last = ",".join(map(str, range(ndim - own, ndim)))
        raise ArgumentError(
            f"kernel `{text}` has {own} axes; got {ndim} to filter. "
            f"Name {own} of them, for instance --axes {last}"
        ) from None
    return Kernel(text, values, operation or "correlate")


def integers(name: str, text: str, separator: str) -> tuple[int, ...]:
    """Read whole numbers, as ``0,1`` or ``4096x4096``.

    Raises
    ------
    ArgumentError
    """
    try:
        return tuple(int(part) for part in text.strip().split(separator))
    except ValueError:
        example = separator.join(("512", "512") if separator == "x" else ("0", "1"))
        raise ArgumentError(
            f"`{name}` must be whole numbers such as {example}; got {text!r}"
        ) from None


def modes(text: str) -> str | tuple[str, ...]:
    """Read one mode, or one for each axis."""
    parts = tuple(part.strip() for part in text.split(","))
    return parts[0] if len(parts) == 1 else parts
