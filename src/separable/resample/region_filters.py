"""Filters whose result covers another region than the image, or every n-th sample of it: computed there only.

A kernel that separates runs as one banded pass per axis and term. A dense kernel is cut into one part for each phase of
the stride, ``k[a::s]``, which filters the samples of the same phase, ``x[a::s]``: as many products as there are weights
for each output, and none for outputs that are not wanted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.arrays import array_of, complete_array_of, package_of
from separable.borders import CONSTANT, carried, extend
from separable.engine import Decomposition
from separable.engine.base import Pass, Problem
from separable.errors import ArgumentError, ArgumentTypeError, OutputError
from separable.filtering import correlate
from separable.plan import plan
from separable.request import check_dtype, check_output_shape, shown, whole_per_axis
from separable.resample.band_matrix import Band, extended_band
from separable.resample.band_passes import empty_like_layout, run_bands
from separable.run import store

__all__ = ["REGIONS", "RegionAxis", "filter_region", "region_axes"]

Array = NDArray[Any]
REGIONS = ("same", "valid", "full")
LARGEST_STRIDE = 1 << 31


@dataclass(frozen=True)
class RegionAxis:
    """Outputs along one filtered axis: those at ``first + i * stride``.

    Attributes
    ----------
    axis, length : int
        Image axis, and its number of samples.
    size, first, stride : int
        Number of outputs, the place of the first one, and the samples from one to the next.

    Examples
    --------
    >>> RegionAxis(0, 10, 4, 1, 2).places.tolist()
    [1, 3, 5, 7]
    """

    axis: int
    length: int
    size: int
    first: int
    stride: int

    @property
    def places(self) -> NDArray[np.int64]:
        """Samples of all outputs."""
        return self.first + self.stride * np.arange(self.size)


def region_axes(problem: Problem, region: Any, stride: Any) -> tuple[RegionAxis, ...]:
    """Return the outputs along each filtered axis.

    Parameters
    ----------
    problem : Problem
        The filter of the whole image.
    region : str
        "same", "valid" or "full".
    stride : int or sequence of int

    Raises
    ------
    ArgumentError
        If there is no such region, a stride is below 1, or the kernel is larger than the image and the region
        is "valid".
    """
    if not (isinstance(region, str) and region in REGIONS):
        raise ArgumentError(
            '`output_region` must be "same" (as the image), "valid" (where the kernel lies inside the image) '
            f'or "full" (where it overlaps the image); got {shown(region)}'
        )
    strides = whole_per_axis("stride", stride, len(problem.axes), 1, LARGEST_STRIDE)
    found = []
    for axis, left, taps, step in zip(
        problem.axes, problem.lefts, problem.kernel_shape, strides, strict=True
    ):
        length = problem.shape[axis]
        first, count = 0, length
        if region == "valid":
            first, count = left, length - taps + 1
        elif region == "full":
            first, count = left - taps + 1, length + taps - 1
        if count < 1:
            raise ArgumentError(
                f'`output_region="valid"` needs an image as large as the kernel; along axis {axis} the image has '
                f"{length} samples and the kernel {taps}"
            )
        found.append(RegionAxis(axis, length, -(-count // step), first, step))
    return tuple(found)


def filter_region(
    image: Any,
    kernel: Any,
    output: Any,
    *,
    output_region: Any = "same",
    stride: Any = 1,
    **options: Any,
) -> Array:
    """Filter an image where a region and a stride say, for `separable.convolve` and `correlate`.

    Parameters
    ----------
    image : array_like
    kernel : array_like or Factors
    output : dtype, ndarray or None
    output_region : str
    stride : int or sequence of int
    **options
        Options of `separable.plan`.

    Raises
    ------
    ArgumentTypeError
        If the image is a tensor, a Dask array, an xarray object or a file.
    SeparableError
        Other subclasses, as for `separable.plan`.

    Examples
    --------
    >>> filter_region(np.arange(6.0), [1, 1, 1], None, output_region="valid", stride=2)
    array([3., 9.])
    """
    if package_of(image) in ("torch", "dask", "xarray") or isinstance(image, str):
        raise ArgumentTypeError(
            f"`output_region` and `stride` are for arrays; got {type(image).__name__}. Leave them out, and cut "
            "the result"
        )
    values = complete_array_of(array_of(image), "image")
    check_dtype(values.dtype, "image")
    into = output if isinstance(output, np.ndarray) else None
    made = plan(
        kernel, values.shape, values.dtype, output=into.dtype if into is not None else output,
        **options,
    )  # fmt: skip
    problem = made.problem
    axes = region_axes(problem, output_region, stride)
    sizes = {one.axis: one.size for one in axes}
    shape = tuple(sizes.get(a, n) for a, n in enumerate(values.shape))
    if into is not None:
        check_output_shape(into, shape)
        if not into.flags.writeable:
            raise OutputError("`output` is read-only; give a writeable array, for instance a copy")
    out = empty_like_layout(values, shape, problem.out) if into is None else into
    if not out.size:
        return out
    form = _separated([c.form for c in made.candidates])
    if form is not None:
        total = _by_passes(values, problem, form, axes, shape)
    else:
        total = _by_phases(values, made.request.weights.dense, problem, axes, shape)
    store(np.atleast_1d(total), np.atleast_1d(out), problem.threads, problem.exponent)
    return out


def _separated(forms: Sequence[Decomposition | None]) -> Decomposition | None:
    """Return the exact form with the fewest multiplications whose passes run along one axis each, if there is one."""
    able = [
        form
        for form in forms
        if form is not None
        and form.separated
        and form.roots
        and form.bound == 0
        and all(len(p.axes) == 1 and p.taps.dtype.kind != "c" for r in form.roots for p in r.walk())
    ]
    return min(able, key=lambda form: form.multiplications, default=None)


def _chains(passes: Sequence[Pass]) -> Iterator[tuple[Pass, ...]]:
    """Yield the passes from the image to each term of the sum."""
    for one in passes:
        if not one.then:
            yield (one,)
        for rest in _chains(one.then):
            yield (one, *rest)


def _by_passes(
    image: Array,
    problem: Problem,
    form: Decomposition,
    axes: Sequence[RegionAxis],
    shape: tuple[int, ...],
) -> Array:
    """Return the sum of the terms, each a product of bands."""
    total: Array = np.zeros(shape, problem.work)
    term: Array = empty_like_layout(image, shape, problem.work)
    for chain in _chains(form.roots):
        outside = problem.cval
        bands = {one.axis: _strided(one, np.ones(1), 0, CONSTANT) for one in axes}
        for p in chain:
            k = p.axes[0]
            bands[problem.axes[k]] = _strided(axes[k], p.taps, p.lefts[0], problem.modes[k])
        _run_term(image, bands, term, chain, problem, outside)
        total += term
    return total


def _strided(one: RegionAxis, taps: Array, left: int, border: Any) -> Band:
    """Return the band of a correlation at the outputs of a region."""
    firsts = one.places - left
    weights = np.broadcast_to(taps, (one.size, len(taps)))
    return extended_band(firsts, weights, one.length, border)


def _run_term(
    image: Array,
    bands: dict[int, Band],
    term: Array,
    chain: Sequence[Pass],
    problem: Problem,
    outside: complex,
) -> None:
    """Run one term. Where a constant lies outside, pass by pass, because each changes what the next one finds there."""
    if not (problem.fills and outside):
        _run_parts(image, bands, term, 0.0, problem)
        return
    current = image
    done = set()
    for p in chain:
        axis = problem.axes[p.axes[0]]
        shape = [bands[axis].size if a == axis else n for a, n in enumerate(current.shape)]
        result = empty_like_layout(current, shape, problem.work)
        _run_parts(current, {axis: bands[axis]}, result, outside, problem)
        outside, current = carried(outside, p.taps), result
        done.add(axis)
    rest = {axis: band for axis, band in bands.items() if axis not in done}
    _run_parts(current, rest, term, outside, problem)


def _run_parts(
    image: Array, bands: dict[int, Band], out: Array, cval: complex, problem: Problem
) -> None:
    """Run bands on the real and imaginary parts of an image."""
    native = image.astype(image.dtype.newbyteorder("="), copy=False)
    if out.dtype.kind != "c":
        run_bands(native, bands, out, cval=float(np.real(cval)), threads=problem.threads)
        return
    imaginary = native.imag if native.dtype.kind == "c" else np.zeros(native.shape, out.real.dtype)
    for part, into, constant in (
        (native.real, out.real, np.real(cval)), (imaginary, out.imag, np.imag(cval)),
    ):  # fmt: skip
        run_bands(part, bands, into, cval=float(constant), threads=problem.threads)


def _by_phases(
    image: Array, dense: Array, problem: Problem, axes: Sequence[RegionAxis], shape: tuple[int, ...]
) -> Array:
    """Return the sum over the phases of the strides, each a dense correlation of a part of the samples."""
    # out[i] = sum_a sum_b k[b s + a] x[(i + b) s + a + first - left]
    starts, stops = [], []
    for one, left, taps in zip(axes, problem.lefts, problem.kernel_shape, strict=True):
        starts.append(one.first - left)
        stops.append(one.first - left + (one.size - 1) * one.stride + taps)
    widths = [
        (max(0, -a), max(0, b - one.length)) for a, b, one in zip(starts, stops, axes, strict=True)
    ]
    wide = extend(
        image, problem.axes, widths, problem.modes, problem.cval,
        np.dtype(problem.work) if problem.fills else image.dtype,
    )  # fmt: skip
    total: Array = np.zeros(shape, problem.work)
    for phases in itertools.product(*(range(one.stride) for one in axes)):
        weights = dense[
            tuple(slice(p, None, one.stride) for p, one in zip(phases, axes, strict=True))
        ]
        if not weights.size:
            continue
        place: list[slice] = [slice(None)] * image.ndim
        crop: list[slice] = [slice(None)] * image.ndim
        for one, phase, start, width, count in zip(
            axes, phases, starts, widths, weights.shape, strict=True
        ):
            begin = start + width[0] + phase
            stop = begin + (one.size + count - 2) * one.stride + 1
            place[one.axis] = slice(begin, stop, one.stride)
            crop[one.axis] = slice(count // 2, count // 2 + one.size)
        found = correlate(
            wide[tuple(place)], weights, axes=problem.axes, mode="constant", output=problem.work,
            threads=problem.threads,
        )  # fmt: skip
        total += found[tuple(crop)]
    return total
