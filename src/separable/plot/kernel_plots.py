"""Plots of a kernel, its singular values and its factors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from separable.errors import ArgumentError, KernelError
from separable.factorize import Spectrum, as_kernel
from separable.factorize import spectrum as spectrum_of
from separable.factors import Factors
from separable.pattern import filter_pattern
from separable.plot.style import (
    ACCENT,
    COLOURS,
    INK,
    MAIN,
    MUTED,
    axes_of,
    image,
    plain_ticks,
    tidy,
)

__all__ = ["factors", "kernel", "spectrum"]

Array = NDArray[Any]

WRITTEN = 121  # largest number of elements that are written as numbers
TERMS = 6  # default number of terms to draw
CELLS = 9  # largest number of values along an axis that are written into a drawing of factors
LEGEND = f"{COLOURS}; each factor has a scale of its own"
FLOOR = 1e-16  # relative error below which only rounding is left


def kernel(kernel: ArrayLike | Factors, ax: Any = None) -> Any:
    """Draw a kernel: bars in 1-D, an image in 2-D, the planes side by side in 3-D.

    Parameters
    ----------
    kernel : array_like, Factors or str
        Kernel with one to three axes, or its text. The weights of a small kernel are written into the picture.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; default: those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    KernelError
        If the kernel is empty, complex, or has no axis or more than three.

    Examples
    --------
    >>> import separable as sep
    >>> ax = sep.plot.kernel(sep.kernels.sobel(ndim=2))
    >>> ax.get_title()
    'kernel 3x3'
    """
    values = _dense(kernel)
    title = f"kernel {'x'.join(map(str, values.shape))}"
    if values.ndim == 1:
        ax = axes_of(ax)
        at = np.arange(values.size) - values.size // 2
        ax.bar(at, values, width=0.85, color=MAIN)
        ax.axhline(0, color=MUTED, linewidth=0.8)
        ax.set(xlabel="position", ylabel="weight", title=title)
        tidy(ax)
        return ax
    ax = axes_of(ax, 5.2, 4.6)
    sheet, across = _planes(values)
    reach = float(np.max(np.abs(values))) or 1.0
    height, width = values.shape[-2:]
    drawn = image(ax, sheet, (0, sheet.shape[1], sheet.shape[0], 0), reach)
    if values.ndim == 3:
        title += ", plane by plane"
        for line in range(1, across):
            ax.axvline(line * width, color=MUTED, linewidth=0.8)
        for line in range(1, sheet.shape[0] // height):
            ax.axhline(line * height, color=MUTED, linewidth=0.8)
    if sheet.size <= WRITTEN:
        _write_numbers(ax, sheet, reach)
    ax.figure.colorbar(drawn, ax=ax, shrink=0.85, label="weight")
    ax.set(xticks=[], yticks=[], xlabel="x", ylabel="y", title=title)
    ax.set_frame_on(False)
    return ax


def spectrum(
    kernel: ArrayLike | Factors | Spectrum, pattern: str | None = None, ax: Any = None
) -> Any:
    """Draw the singular values of a kernel and the error for each number of terms.

    Parameters
    ----------
    kernel : array_like, Factors, Spectrum or str
    pattern : str, optional
        As for `separable.spectrum`; default: one factor per axis.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Values are relative to the largest one, errors to the kernel (Frobenius norm). Errors at
        the level of rounding are not drawn.

    Raises
    ------
    KernelError, PatternError
        As for `separable.spectrum`.

    Examples
    --------
    >>> import separable as sep
    >>> disk = sep.kernels.disk(5)
    >>> sep.plot.spectrum(disk).get_title()
    "'yx -> y,x': rank 4"
    """
    found = kernel if isinstance(kernel, Spectrum) else _spectrum(kernel, pattern)
    values = found.values.reshape(-1, found.values.shape[-1]).max(axis=0, initial=0.0)
    largest = float(values.max(initial=0.0)) or 1.0
    shown = max(1, min(values.size, found.rank + 1))
    terms = np.arange(1, shown + 1)
    relative = np.where(terms <= found.rank, values[:shown] / largest, np.nan)
    errors = np.where(found.errors > FLOOR, found.errors, np.nan)[: shown + 1]
    ax = axes_of(ax)
    ax.bar(terms, relative, width=0.6, color=MAIN, label="singular value")
    ax.plot(range(len(errors)), errors, "o-", color=ACCENT, ms=4, label="error of the sum of terms")
    ax.axvline(found.rank, color=MUTED, ls="--", lw=1, label=f"rank {found.rank}: exact")
    ax.set_yscale("log")
    plain_ticks(ax.yaxis)
    ax.set_xlim(-0.5, shown + 0.7)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="terms", ylabel="relative", title=f"'{found.pattern}': rank {found.rank}")
    ax.legend(frameon=False)
    tidy(ax)
    return ax


def factors(factors: Factors, ax: Any = None, *, terms: int = TERMS) -> Any:
    """Draw the vectors of each term of a factorisation, and their product.

    Parameters
    ----------
    factors : Factors
        Factors with one bond and no batch letters.
    ax : matplotlib.axes.Axes, optional
    terms : int
        Largest number of terms to draw, in descending order. Default 6, because more are too small
        to see.

    Returns
    -------
    matplotlib.axes.Axes
        One row per term: its vectors, and their product if it has two axes.

    Raises
    ------
    PatternError
        If the factors are not a plain sum of terms.
    ArgumentError
        If `terms` is below 1.
    KernelError
        If there is no term because the kernel is zero.

    Examples
    --------
    >>> import separable as sep
    >>> f = sep.factorize(sep.kernels.disk(5), "yx -> y,x")
    >>> sep.plot.factors(f, terms=2).get_title()
    "'yx -> y,x': 2 of 4 terms"
    """
    if terms < 1:
        raise ArgumentError(f"`terms` must be >= 1; got {terms}")
    drawn = factors.terms[:terms]
    if not drawn:
        raise KernelError("`factors` are of a kernel of zeros: there is no term to draw")
    ax = axes_of(ax, 6.4, 1.1 + 1.3 * len(drawn))
    reach = [max(float(np.max(np.abs(t[k]))) for t in drawn) or 1.0 for k in range(len(drawn[0]))]
    size = max(factors.shape)
    top = 0.0
    for number, term in enumerate(drawn, 1):
        right = _term(ax, term, factors.pattern.factors, reach, top, size)
        sign = "" if number == 1 else "+  "
        ax.text(-0.35 * size, top - size / 2, f"{sign}term {number}", ha="right", va="center")
        top -= 1.25 * size
    count = f"{len(drawn)} of {factors.rank} terms" if factors.rank > len(drawn) else (
        f"{factors.rank} term" + "s" * (factors.rank != 1)
    )  # fmt: skip
    ax.set(xlim=(-1.5 * size, right + 0.2 * size), ylim=(top + 0.1 * size, 0.5 * size))
    ax.set(xticks=[], yticks=[], aspect="equal", title=f"'{factors.pattern}': {count}")
    ax.set_xlabel(LEGEND, color=MUTED, size=8)
    ax.set_frame_on(False)
    return ax


def _term(
    ax: Any, term: tuple[Array, ...], names: Any, reach: list[float], top: float, size: int
) -> float:
    """Draw the vectors of one term from the left; return the x position where they end."""
    left, gap = 0.0, 0.35 * size
    middle = top - size / 2
    for k, (strip, name) in enumerate(zip(term, names, strict=True)):
        values = _flat(strip, upright=k == 0)
        height, width = _box(values, size)
        if k:
            ax.text(left + gap / 2, middle, "\N{MULTIPLICATION SIGN}", ha="center", va="center")
            left += gap
        box = (left, left + width, middle - height / 2, middle + height / 2)
        image(ax, values, box, reach[k])
        _write_in_box(ax, values, box, reach[k], size)
        ax.text(left + width / 2, middle + size / 2 + 0.06 * size, name, ha="center", color=MUTED)
        left += width
    if len(term) == 2 and all(s.ndim == 1 for s in term):
        product = np.outer(*term)
        height, width = _box(product, size)
        ax.text(left + gap / 2, middle, "=", ha="center", va="center", color=INK)
        left += gap
        whole = float(np.max(np.abs(product))) or 1.0
        box = (left, left + width, middle - height / 2, middle + height / 2)
        image(ax, product, box, whole)
        _write_in_box(ax, product, box, whole, size)
        left += width
    return left


def _box(values: Array, size: int) -> tuple[float, float]:
    """Return height and width of an array in the plot, where the largest axis has length `size`."""
    high, wide = values.shape
    cell = size / max(high, wide, 1)
    thin = 0.12 * size  # so that a single row or column is visible
    return max(high * cell, thin), max(wide * cell, thin)


def _flat(strip: Array, upright: bool) -> Array:
    """Return a factor as rows and columns; a vector is upright or horizontal."""
    values = np.real(strip).astype(np.float64)
    if values.ndim == 1:
        return values[:, None] if upright else values[None, :]
    return _planes(values)[0] if values.ndim == 3 else values.reshape(-1, values.shape[-1])


def _array(kernel: ArrayLike | Factors) -> Array:
    """Return the dense kernel of an array, factors or a text."""
    if isinstance(kernel, Factors):
        return kernel.dense()
    return as_kernel(kernel) if isinstance(kernel, str) else np.asarray(kernel)


def _dense(kernel: ArrayLike | Factors) -> Array:
    values = _array(kernel)
    if values.dtype.kind not in "biuf" or not 1 <= values.ndim <= 3 or values.size == 0:
        raise KernelError(
            f"`kernel` must be real, non-empty and have one to three axes; got shape "
            f"{values.shape}, {values.dtype}. Draw a part of it, for instance its .real"
        )
    return values.astype(np.float64)


def _spectrum(kernel: ArrayLike | Factors, pattern: str | None) -> Spectrum:
    values = _array(kernel)
    return spectrum_of(values, pattern or filter_pattern(values.ndim))


def _planes(values: Array) -> tuple[Array, int]:
    """Arrange the planes of a volume in rows; return the sheet and the planes per row."""
    if values.ndim == 2:
        return values, 1
    count, height, width = values.shape
    across = math.ceil(math.sqrt(count))
    down = -(-count // across)
    sheet = np.zeros((down * across, height, width))
    sheet[:count] = values
    rows = sheet.reshape(down, across, height, width).swapaxes(1, 2)
    return rows.reshape(down * height, across * width), across


def _write_numbers(ax: Any, values: Array, reach: float) -> None:
    """Write the weights into a picture whose cells are of size 1."""
    small = 8 if max(values.shape) <= 7 else 6
    for (y, x), value in np.ndenumerate(values):
        _write(ax, (x + 0.5, y + 0.5), value, reach, small)


def _write_in_box(
    ax: Any, values: Array, box: tuple[float, float, float, float], reach: float, size: int
) -> None:
    """Write the values of a factor into its cells, if all fit."""
    if size > CELLS:
        return
    left, right, bottom, top = box
    down, across = (top - bottom) / values.shape[0], (right - left) / values.shape[1]
    small = 9 if size <= 4 else 6
    for (y, x), value in np.ndenumerate(values):
        _write(ax, (left + (x + 0.5) * across, top - (y + 0.5) * down), value, reach, small)


def _write(ax: Any, place: tuple[float, float], value: float, reach: float, size: int) -> None:
    """Write one number, white on dark cells."""
    text = f"{value:.0f}" if float(value).is_integer() else f"{value:.2g}"
    colour = "white" if abs(value) > 0.55 * reach else INK
    ax.text(*place, text, ha="center", va="center", color=colour, size=size)
