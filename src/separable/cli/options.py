"""Options that several commands share, and functions that read their values."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from numpy.typing import NDArray

from separable.errors import ArgumentError, FileError, KernelError, SeparableError
from separable.factorize import as_kernel
from separable.factors import Factors
from separable.files import ImageInfo, is_image_path, read_image
from separable.files.diagnostics import reason_of
from separable.files.format_registry import locate
from separable.files.opening import open_source
from separable.kernels import parse_spec
from separable.kernels.mat_file import read_mat
from separable.kernels.matrix_parser import is_matrix_text, parse_matrix
from separable.kernels.units import has_units, read_lengths, unit_of
from separable.request import check_spacing, per_axis

__all__ = [
    "Axes",
    "Cval",
    "Kernel",
    "KernelText",
    "MethodName",
    "Mode",
    "Operation",
    "Spacing",
    "SpacingText",
    "Tol",
    "file_spacing",
    "integers",
    "is_kernel_file",
    "modes",
    "named_kernel",
    "number",
    "read_kernel",
    "read_spacing",
]


STANDARD_INPUT = "-"
TEXT_FILES = (".txt", ".csv", ".tsv", ".json")
LARGEST_TEXT = 1 << 26  # bytes of a kernel as text
LARGEST = 1 << 24  # largest number of elements of a kernel file, 256 along each of three axes


def number(text: str) -> float:
    """Read a number, for options that take one."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected a number; got {text!r}") from None


KernelText = Annotated[
    str,
    typer.Option(
        "--kernel",
        "-k",
        help="Kernel: a name with its parameters, for example gaussian:2, gaussian:2mm or "
        "sobel:axis=0 (`separable kernel` lists the names); numbers, for example '1 2 1; 2 4 2; "
        "1 2 1'; a file with a dense kernel, for example psf.npy or weights.csv; or - for numbers "
        "or JSON on standard input.",
        show_default=False,
    ),
]
Axes = Annotated[
    str | None,
    typer.Option(help="Image axes to filter, for example 0,1.", show_default=False),
]
# The help of the next two, with what is registered, comes from `option_groups.list_registered`.
Mode = Annotated[str, typer.Option()]
MethodName = Annotated[str, typer.Option()]
Cval = Annotated[
    float,
    typer.Option(
        help="Value outside the image for border mode constant.", parser=number, metavar="NUMBER"
    ),
]
Tol = Annotated[
    float | None,
    typer.Option(
        help="Largest error allowed, relative to sum|kernel| x max|image|; exact if not given.",
        show_default=False,
        parser=number,
        metavar="NUMBER",
    ),
]
Operation = Annotated[
    str | None,
    typer.Option(
        help="correlate, or convolve (which flips the kernel). Default: correlate for named "
        "kernels, convolve for kernel files.",
        show_default=False,
    ),
]


SpacingText = Annotated[
    str | None,
    typer.Option(
        "--spacing",
        help="Sample spacing, for example 3x1x1mm. Lengths of the kernel are then in this unit, "
        "or in the unit they name, and derivatives are per unit.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Spacing:
    """Sample spacing of an image.

    Attributes
    ----------
    steps : tuple of float or None
        One value per filtered axis, one per image axis, or one for all; None for an axis without
        spacing.
    unit : str
        Unit of length; may be empty.
    source : str
        Origin of the spacing, in words.
    """

    steps: tuple[float | None, ...]
    unit: str
    source: str

    def along(self, axes: Sequence[int], ndim: int) -> tuple[float, ...]:
        """Return the spacing along the filtered axes of an image with `ndim` axes.

        Raises
        ------
        ArgumentError
            If the number of values does not match, or an axis has no spacing.
        """
        steps = self.steps
        if len(steps) == ndim != len(axes):
            steps = tuple(steps[a] for a in axes)
        steps = per_axis("--spacing", steps[0] if len(steps) == 1 else steps, len(axes))
        known = tuple(s for s in steps if s is not None)
        if len(known) < len(steps):
            without = ", ".join(str(a) for a, s in zip(axes, steps, strict=True) if s is None)
            raise ArgumentError(
                f"the spacing {self.source} has no value for axis {without}. Give --spacing, or "
                "filter other axes with --axes"
            )
        return known

    def __str__(self) -> str:
        return "x".join("?" if s is None else f"{s:.6g}" for s in self.steps) + self.unit


def read_spacing(text: str | None) -> Spacing | None:
    """Read ``--spacing``: ``3x1x1mm``, ``0.5``, ``3mmx500umx500um``.

    Raises
    ------
    ArgumentError
        If the text cannot be read, or is in samples.
    """
    if text is None:
        return None
    try:
        found = read_lengths(text.strip())
        unit = found.units[-1]
        within = found.within(unit)
    except ValueError:
        unit, within = "px", 0.0
    if unit == "px":
        raise ArgumentError(f"`--spacing` must be lengths such as 3x1x1mm; got {text!r}")
    steps = within if isinstance(within, tuple) else (within,)
    return Spacing(steps, unit, "of --spacing")


def file_spacing(info: ImageInfo, path: object) -> Spacing | None:
    """Return the spacing in the metadata of a file, or None."""
    if not info.spacing or not any(info.spacing):
        return None
    return Spacing(info.spacing, unit_of(info.unit), f"of {path}")


@dataclass(frozen=True)
class Kernel:
    """A kernel and how it is applied.

    Attributes
    ----------
    name : str
        Text of the kernel as the user typed it.
    values : Factors or ndarray
    operation : str
        "correlate" or "convolve".
    spacing : str
        Spacing that its lengths were converted with, in words.
    """

    name: str
    values: Factors | NDArray[Any]
    operation: str
    spacing: str = ""

    def as_line(self) -> Kernel:
        """Return a kernel of one row or column as one of one axis; another kernel as it is."""
        dense = self.dense
        if dense.ndim != 2 or 1 not in dense.shape:
            return self
        return replace(self, values=dense.reshape(-1))

    @property
    def dense(self) -> NDArray[Any]:
        """Dense array of the kernel."""
        return self.values.dense() if isinstance(self.values, Factors) else self.values

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense kernel."""
        return self.values.shape


def is_kernel_file(text: str) -> bool:
    """Return whether a kernel is in a file, in typed numbers or on standard input, and not a name."""
    return (
        text == STANDARD_INPUT
        or is_matrix_text(text)
        or is_image_path(text)
        or text.lower().endswith((*TEXT_FILES, ".mat"))
        or os.path.basename(text) != text
    )


def read_kernel(text: str, operation: str | None = None, spacing: str | None = None) -> Kernel:
    """Read a dense kernel from a file, typed numbers or standard input; by default it is convolved.

    Raises
    ------
    FileError, KernelError
        If the file cannot be read; if the kernel is empty or not finite.
    ArgumentError
        If `spacing` is given, because such a kernel is in samples.
    """
    if spacing is not None:
        raise ArgumentError(
            f"`--spacing` is for named kernels; got the file {text}, which is in samples. "
            "Leave it out"
        )
    values, own = _typed(text) if _is_typed(text) else (_from_image(text), "")
    name = "the kernel of standard input" if text == STANDARD_INPUT else _one_line(text)
    try:
        return Kernel(name, as_kernel(values), operation or own or "convolve")
    except SeparableError as mistake:
        raise KernelError(f"{str(mistake).rstrip('.')}. It was read from {text}") from None


def _one_line(text: str) -> str:
    """Return typed numbers in one line, for messages."""
    return re.sub(r"\s*\n\s*", "; ", text.strip()) if is_matrix_text(text) else text


def _is_typed(text: str) -> bool:
    return text == STANDARD_INPUT or is_matrix_text(text) or text.lower().endswith(TEXT_FILES)


def _typed(text: str) -> tuple[NDArray[Any], str]:
    """Return a kernel and its operation from typed numbers, a text file or standard input."""
    if is_matrix_text(text):
        return parse_matrix(text)
    try:
        content = sys.stdin.read() if text == STANDARD_INPUT else _text_of(Path(text))
        return parse_matrix(content)
    except UnicodeDecodeError:
        raise KernelError(
            f"cannot read the kernel {text}: expected text; got other bytes"
        ) from None
    except KernelError as mistake:
        place = "standard input" if text == STANDARD_INPUT else text
        raise KernelError(f"{str(mistake).rstrip('.')}. It was read from {place}") from None


def _text_of(path: Path) -> str:
    try:
        if not path.is_file():
            raise FileError(f"cannot read {path}: there is no such file")
        if path.stat().st_size > LARGEST_TEXT:
            raise FileError(
                f"cannot read {path}: a kernel as text has at most {LARGEST_TEXT} bytes"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot read {path}: {reason_of(error)}") from None


def _from_image(text: str) -> NDArray[Any]:
    if text.lower().endswith(".mat"):
        return read_mat(Path(text))
    _check_size(text)
    values, _ = read_image(text)
    return values


def _check_size(text: str) -> None:
    """Refuse a file with too many elements for a kernel before it is read."""
    format = locate(text, "read")[2]
    if format.open is None:
        return
    try:
        with open_source(text) as source:
            count = math.prod(source.shape)
    except FileError:
        if format.read is None:
            raise
        return  # it cannot be read by parts, because it is compressed; or the reader says what is wrong
    if count > LARGEST:
        sides = "x".join(map(str, source.shape))
        raise KernelError(
            f"{text} cannot be used as a kernel: its header says {sides}, {count} elements; "
            f"expected at most {LARGEST}. Cut out the relevant part"
        )


def named_kernel(
    text: str,
    axes: Sequence[int],
    ndim: int,
    operation: str | None = None,
    requested: Spacing | None = None,
    from_file: Spacing | None = None,
) -> Kernel:
    """Return the kernel that a name stands for, with as many axes as are filtered.

    Parameters
    ----------
    text : str
    axes : sequence of int
        Image axes to filter, >= 0.
    ndim : int
        Number of image axes.
    operation : str, optional
    requested : Spacing, optional
        Spacing of `--spacing`; all lengths of the kernel are in its unit.
    from_file : Spacing, optional
        Spacing of the file, which is used only if the text of the kernel has units.

    Raises
    ------
    ArgumentError
        If there is no kernel of that name, or it has fewer axes.
    """
    used = requested or (from_file if has_units(text) else None)
    steps = None if used is None else used.along(axes, ndim)
    unit = "" if used is None else used.unit
    check_spacing(steps, len(axes))  # raises an error if a value is not > 0
    try:
        values = parse_spec(text, len(axes), spacing=steps, unit=unit)
    except ArgumentError as mistake:
        kernel_axes = _axes_of(text, steps, unit)
        if kernel_axes is None or kernel_axes >= len(axes):
            raise mistake from None
        last = ",".join(map(str, range(len(axes) - kernel_axes, len(axes))))
        raise ArgumentError(
            f"kernel `{text}` has {kernel_axes} axes; got {len(axes)} to filter. "
            f"Name {kernel_axes} of them, for instance --axes {last}"
        ) from None
    spacing_text = (
        "" if used is None or steps is None or "px" in text else _spacing_text(steps, used)
    )
    return Kernel(text, values, operation or "correlate", spacing_text)


def _axes_of(text: str, steps: tuple[float, ...] | None, unit: str) -> int | None:
    """Return the fixed number of axes of a kernel, or None if its text is wrong."""
    try:
        return len(parse_spec(text, spacing=None if steps is None else max(steps), unit=unit).shape)
    except ArgumentError:
        return None


def _spacing_text(steps: tuple[float, ...], used: Spacing) -> str:
    size = "x".join(f"{s:.6g}" for s in steps)
    return f"{size} {used.unit} ({used.source})" if used.unit else f"{size} ({used.source})"


def integers(name: str, text: str, separator: str) -> tuple[int, ...]:
    """Read integers such as ``0,1`` or ``4096x4096``.

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
    """Read one border mode, or one per axis."""
    parts = tuple(part.strip() for part in text.split(","))
    return parts[0] if len(parts) == 1 else parts
