"""`resize`, `rescale` and `resample`: the same picture or volume with other samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.borders import Modes, canonical_modes
from separable.errors import ArgumentError
from separable.masked import MissingOptions
from separable.request import real_per_axis, shown, whole_per_axis
from separable.resample.axis_grids import Grid, check_align, check_antialias, grid_of_shape
from separable.resample.interpolations import InterpolationName, interpolation_of
from separable.resample.resampled_arrays import Sampling, image_and_axes, sampled, spacing_of
from separable.resample.resampling_docs import documented

__all__ = ["factor_grids", "resample", "rescale", "resize", "spacing_grids"]

Array = NDArray[Any]
PerAxis = float | Sequence[float]
LARGEST = 1 << 31  # samples along an axis


@documented
def resize(
    image: ArrayLike,
    shape: int | Sequence[int],
    *,
    axes: int | Sequence[int] | None = None,
    interpolation: InterpolationName = "linear",
    antialias: bool | str = True,
    align: str = "edges",
    mode: Modes = "reflect",
    cval: complex = 0.0,
    output: DTypeLike | Array | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    nodata: Any = None,
    threads: int | None = None,
) -> Array:
    """Return an image with another number of samples along its axes.

    Parameters
    ----------
    %(image)s
    shape : int or sequence of int
        Number of samples of the result along each resampled axis.
    %(how)s

    Returns
    -------
    ndarray
        An array of the new shape.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> resize([0.0, 4.0], (4,))
    array([0., 1., 3., 4.])

    A colour picture, smoothed before it shrinks:

    >>> photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    >>> resize(photo, (32, 48), axes=(0, 1), interpolation="cubic").shape
    (32, 48, 3)

    Labels keep their values:

    >>> resize([[1, 1, 7, 7], [1, 7, 7, 9]], (1, 2), interpolation="majority")
    array([[1, 7]])
    """
    given, along = image_and_axes(image, axes)
    _check_count("shape", shape, along, given.ndim)
    sizes = whole_per_axis("shape", shape, len(along), 1, LARGEST)
    align = check_align(align)
    grids = {
        a: grid_of_shape(int(given.shape[a]), n, align) for a, n in zip(along, sizes, strict=True)
    }
    how = _sampling(interpolation, antialias, align, mode, len(along), cval, threads)
    return _array(sampled(given, grids, how, output, MissingOptions(mask, nan, fill, nodata)))


@documented
def rescale(
    image: ArrayLike,
    factor: PerAxis,
    *,
    axes: int | Sequence[int] | None = None,
    interpolation: InterpolationName = "linear",
    antialias: bool | str = True,
    align: str = "edges",
    mode: Modes = "reflect",
    cval: complex = 0.0,
    output: DTypeLike | Array | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    nodata: Any = None,
    threads: int | None = None,
) -> Array:
    """Return an image with `factor` times as many samples along its axes.

    The number of samples is ``factor * n`` rounded, halves to even, and the image is stretched to fit it as
    in `resize`.

    Parameters
    ----------
    %(image)s
    factor : float or sequence of float
        Factor of the number of samples along each resampled axis.
    %(how)s

    Returns
    -------
    ndarray
        An array of the new shape.

    Raises
    ------
    %(raises)s

    Examples
    --------
    >>> rescale([0.0, 4.0], 2)
    array([0., 1., 3., 4.])
    >>> rescale(np.ones((100, 80)), (0.5, 1.5)).shape
    (50, 120)
    """
    given, along = image_and_axes(image, axes)
    _check_count("factor", factor, along, given.ndim)
    factors = real_per_axis("factor", factor, len(along))
    lengths = {a: int(given.shape[a]) for a in along}
    grids = factor_grids(lengths, factors, check_align(align))
    how = _sampling(interpolation, antialias, align, mode, len(along), cval, threads)
    return _array(sampled(given, grids, how, output, MissingOptions(mask, nan, fill, nodata)))


@documented
def resample(
    image: ArrayLike,
    spacing_in: PerAxis | None,
    spacing_out: PerAxis,
    *,
    axes: int | Sequence[int] | None = None,
    interpolation: InterpolationName = "linear",
    antialias: bool | str = True,
    align: str = "edges",
    mode: Modes = "reflect",
    cval: complex = 0.0,
    output: DTypeLike | Array | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    nodata: Any = None,
    threads: int | None = None,
) -> Array:
    """Return an image whose samples lie `spacing_out` apart, and not `spacing_in`.

    The new spacing is exact. The image covers the same length up to half a sample: ``n * spacing_in /
    spacing_out`` samples, rounded, halves to even. With ``align="edges"`` the first sample lies
    ``(spacing_out - spacing_in) / 2`` after the old first one, with "centres" at the same place.

    Parameters
    ----------
    %(image)s
    spacing_in, spacing_out : float or sequence of float
        Distance between neighbours along each resampled axis, in the same unit. `spacing_in` may be
        None for an xarray `DataArray`, whose coordinates have it.
    %(how)s

    Returns
    -------
    ndarray
        An array of the new shape.

    Raises
    ------
    %(raises)s

    Examples
    --------
    Slices 3 mm apart with pixels of 0.5 mm, as cubes of 1 mm:

    >>> volume = np.zeros((20, 64, 64), np.float32)
    >>> resample(volume, (3, 0.5, 0.5), 1).shape
    (60, 32, 32)
    """
    given, along = image_and_axes(image, axes)
    if spacing_in is None:
        spacing_in = spacing_of(given, along)
    for name, value in (("spacing_in", spacing_in), ("spacing_out", spacing_out)):
        _check_count(name, value, along, given.ndim)
    before = real_per_axis("spacing_in", spacing_in, len(along))
    after = real_per_axis("spacing_out", spacing_out, len(along))
    lengths = {a: int(given.shape[a]) for a in along}
    grids = spacing_grids(lengths, before, after, check_align(align))
    how = _sampling(interpolation, antialias, align, mode, len(along), cval, threads)
    return _array(sampled(given, grids, how, output, MissingOptions(mask, nan, fill, nodata)))


def spacing_grids(
    lengths: Mapping[int, int],
    before: Sequence[float],
    after: Sequence[float],
    align: str,
    *,
    name: str = "spacing_out",
) -> dict[int, Grid]:
    """Return the grids of new spacings along some axes.

    Parameters
    ----------
    lengths : mapping of int to int
        Number of samples of each axis.
    before, after : sequence of float
        Old and new spacing of each of them.
    align : str
    name : str
        Name of the argument with the new spacing, for messages.

    Raises
    ------
    ArgumentError
        If an axis is shorter than half the new spacing.

    Examples
    --------
    >>> spacing_grids({0: 10}, (3.0,), (1.0,), "edges")[0].places[:4].round(3).tolist()
    [-0.333, 0.0, 0.333, 0.667]
    """
    grids = {}
    for (axis, length), old, new in zip(lengths.items(), before, after, strict=True):
        step = new / old
        if align == "edges":
            size = _size(name, new, length / step, axis, length)
            grids[axis] = Grid(length, size, step, (step - 1) / 2)
        else:
            size = math.floor((length - 1) / step + 1e-9) + 1
            grids[axis] = Grid(length, size, step, 0.0)
    return grids


def factor_grids(
    lengths: Mapping[int, int], factors: Sequence[float], align: str, *, name: str = "factor"
) -> dict[int, Grid]:
    """Return the grids with some factors of the number of samples; `name` is that of the argument, for messages.

    Examples
    --------
    >>> factor_grids({1: 5}, (0.5,), "edges")[1].size
    2
    """
    grids = {}
    for (axis, length), factor in zip(lengths.items(), factors, strict=True):
        size = _size(name, factor, length * factor, axis, length)
        grids[axis] = grid_of_shape(length, size, align)
    return grids


def _size(name: str, value: Any, length: float, axis: int, samples: int) -> int:
    """Return the number of outputs; refuse less than half a sample."""
    if length < 0.5 or length > LARGEST:
        many = "less than half a sample" if length < 0.5 else f"{length:.3g} samples"
        raise ArgumentError(
            f"`{name}` must leave at least one sample along each axis, and at most {LARGEST}; got "
            f"{shown(value)}, which leaves {many} of the {samples} along axis {axis}"
        )
    return max(1, int(np.rint(length)))


def _check_count(name: str, value: Any, along: tuple[int, ...], ndim: int) -> None:
    """Refuse a sequence of another length with the remedy that most callers need: `axes`."""
    count = len(value) if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) else 0
    if count and count != len(along):
        raise ArgumentError(
            f"`{name}` must have one value for each of the {len(along)} resampled axes; got {count}: "
            f"{shown(value)}. Say which axes they are for, for instance "
            f"axes={tuple(range(min(count, ndim)))}"
        )


def _sampling(
    interpolation: Any,
    antialias: Any,
    align: str,
    mode: Any,
    count: int,
    cval: Any,
    threads: int | None,
) -> Sampling:
    return Sampling(
        interpolation_of(interpolation), check_antialias(antialias), canonical_modes(mode, count),
        cval, threads, align,
    )  # fmt: skip


def _array(result: Any) -> Array:
    found: Array = result
    return found
