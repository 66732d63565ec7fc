"""Filters whose result covers another region than the image, or every n-th sample of it: computed there only.

A kernel that separates runs as one banded pass per axis and term. A dense kernel is cut into one part for each phase of
the stride, ``k[a::s]``, which filters the samples of the same phase, ``x[a::s]``: as many products as there are weights
for each output, and none for outputs that are not wanted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import CONSTANT, OUTSIDE, carried
from separable.engine import Decomposition
from separable.engine.base import MOST_ROUNDING, Pass, Problem
from separable.errors import ArgumentError, OutputError
from separable.filtering import correlate
from separable.masked.valid_weights import is_steady
from separable.plan import Plan, plan
from separable.request import check_output_shape
from separable.resample.band_matrix import Band, extended_band
from separable.resample.band_passes import empty_like_layout, run_bands
from separable.resample.output_regions import RegionAxis, region_axes
from separable.resample.pass_tables import BandPass, passes_table
from separable.run import store

__all__ = ["RegionPlan", "plan_of_region", "plan_region"]

Array = NDArray[Any]

ROUNDING = MOST_ROUNDING * float(np.finfo(np.float64).eps)
"""Largest error of terms that are exact to rounding: those of the singular value decomposition of a dense kernel."""


@dataclass(frozen=True, eq=False)
class RegionPlan:
    """A filter of the outputs in a region, at every n-th place; a value that prints its passes and runs.

    Attributes
    ----------
    whole : Plan
        The plan of the filter of all outputs.
    axes : tuple of RegionAxis
        The outputs along each filtered axis.
    region : str
    steady : bool
        Whether only forms are run that are exact beside small weights: for missing samples.

    Examples
    --------
    >>> import separable as sep
    >>> print(plan_region(sep.kernels.gaussian(1), (15, 15), output_region="valid", stride=2))
    4x4 outputs of 15x15 (valid), every 2nd along axes 0 and 1
    separable: 42.8 multiplications per output, 684 in all (4,050 without region and stride)
    pass  axis  samples  weights  result  multiplications
    ─────────────────────────────────────────────────────
       1     0  15 -> 4        9    4x15              540
       2     1  15 -> 4        9     4x4              144
    """

    whole: Plan
    axes: tuple[RegionAxis, ...]
    region: str
    steady: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result."""
        sizes = {one.axis: one.size for one in self.axes}
        return tuple(sizes.get(a, n) for a, n in enumerate(self.whole.problem.shape))

    @property
    def form(self) -> Decomposition | None:
        """The passes that are run; None for a dense kernel, whose terms would take more multiplications."""
        able = (c for c in self.whole.candidates if not self.steady or is_steady(c))
        found = _separated([c.form for c in able], 0.0 if self.steady else ROUNDING)
        if found is None or found.bound == 0:
            return found
        total = sum(one.multiplications for one in self._passes_of(found))
        return found if total <= self._dense_multiplications else None

    @property
    def passes(self) -> tuple[BandPass, ...]:
        """Passes of all terms in their order; none for a dense kernel."""
        form = self.form
        return self._passes_of(form) if form is not None else ()

    def _passes_of(self, form: Decomposition) -> tuple[BandPass, ...]:
        """Return the passes of a form at the outputs of the region."""
        found = []
        for chain in _chains(form.roots):
            sizes = list(self.whole.problem.shape)
            for p in sorted(chain, key=lambda p: self._growth(p.axes[0])):
                one = self.axes[p.axes[0]]
                sizes[one.axis], count = one.size, int(np.count_nonzero(p.taps))
                total = math.prod(sizes) * count
                found.append(BandPass(one.axis, one.length, one.size, count, tuple(sizes), total))
        return tuple(found)

    @property
    def multiplications(self) -> int:
        """Number of multiplications of all outputs, by weights that are not zero."""
        if self.form is None:
            return self._dense_multiplications
        return sum(one.multiplications for one in self.passes)

    @property
    def _dense_multiplications(self) -> int:
        return math.prod(self.shape) * self.whole.request.weights.nonzeros

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "output_region": self.region,
            "stride": [one.stride for one in self.axes],
            "result": list(self.shape),
            "method": "dense" if self.form is None else "separable",
            "multiplications": self.multiplications,
            "whole": self.whole.to_dict(),
        }

    def _growth(self, kernel_axis: int) -> tuple[float, int]:
        """Return what the order of the passes depends on, as in `pass_order`."""
        one = self.axes[kernel_axis]
        return one.outputs_per_sample, one.axis

    def __call__(self, image: Array, out: Array | None = None) -> Array:
        """Filter an image of the planned shape and type.

        Raises
        ------
        ArgumentError
            If the image is not of the planned shape and type.
        OutputError
            If `out` has another shape or is read-only.
        """
        problem, shape = self.whole.problem, self.shape
        if image.shape != problem.shape or image.dtype != problem.dtype:
            raise ArgumentError(
                f"this plan is for shape {problem.shape}, {problem.dtype}; got shape {image.shape}, {image.dtype}"
            )
        if out is None:
            out = empty_like_layout(image, shape, problem.out)
        else:
            check_output_shape(out, shape)
            if not out.flags.writeable:
                raise OutputError(
                    "`output` is read-only; give a writeable array, for instance a copy"
                )
        if not out.size:
            return out
        self.fill(image, out, self.axes, problem)
        return out

    def fill(self, image: Array, out: Array, axes: Sequence[RegionAxis], problem: Problem) -> None:
        """Compute outputs along some axes from an image, or from a block of it."""
        form, shape = self.form, out.shape
        if form is not None and _is_plain(form, problem, image, out):
            bands = _bands_of(next(_chains(form.roots)), problem, axes)
            whole = out.dtype.kind in "iu"
            run_bands(image, bands, out, threads=problem.threads, whole_sums=whole)
            return
        if form is not None:
            total = _by_passes(image, problem, form, axes, shape)
        else:
            method = "direct" if self.steady else "auto"
            total = _by_phases(
                image, self.whole.request.weights.dense, problem, axes, shape, method
            )
        store(np.atleast_1d(total), np.atleast_1d(out), problem.threads, problem.exponent)

    def __str__(self) -> str:
        problem, total = self.whole.problem, self.multiplications
        outputs = math.prod(self.shape)
        strides = [
            f"every {_ordinal(a.stride)} along axis {a.axis}" for a in self.axes if a.stride > 1
        ]
        if len({a.stride for a in self.axes}) == 1 and strides:
            *most, last = (str(a.axis) for a in self.axes)
            along = f"{', '.join(most)} and {last}" if most else last
            plural = "axes" if len(self.axes) > 1 else "axis"
            strides = [f"every {_ordinal(self.axes[0].stride)} along {plural} {along}"]
        form = self.form
        per_output = self.whole.request.weights.nonzeros if form is None else form.multiplications
        all_outputs = math.prod(problem.shape) * per_output
        table = f"\n{passes_table(self.passes)}" if form is not None else ""
        return (
            f"{_sides(self.shape)} outputs of {_sides(problem.shape)} ({self.region})"
            f"{''.join(f', {s}' for s in strides)}\n"
            f"{'dense' if form is None else 'separable'}: {total / max(outputs, 1):.1f} multiplications per "
            f"output, {total:,} in all ({all_outputs:,.0f} without region and stride)"
            f"{table}"
        )


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def plan_region(
    kernel: Any,
    shape: Sequence[int],
    dtype: Any = np.float64,
    *,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
    **options: Any,
) -> RegionPlan:
    """Plan a filter of the outputs in a region, at every `stride`-th place, without data.

    Parameters
    ----------
    kernel : array_like or Factors
        Kernel with one axis for each filtered axis.
    shape : sequence of int
        Shape of the image.
    dtype : dtype
        Type of the image.
    output_region : str
        "same", "valid" or "full", as for `separable.convolve`.
    stride : int or sequence of int
        Samples from one output to the next, along all filtered axes or along each.
    **options
        Options of `separable.plan`: axes, mode, cval, origin, output, operation, threads.

    Returns
    -------
    RegionPlan

    Raises
    ------
    SeparableError
        As `separable.plan`; `ArgumentError` also if a stride or the region is not possible.

    Examples
    --------
    >>> plan_region(np.ones((3, 3)), (15, 15), output_region="valid").shape
    (13, 13)
    """
    return plan_of_region(plan(kernel, shape, dtype, **options), output_region, stride)


def plan_of_region(whole: Plan, output_region: str, stride: int | Sequence[int]) -> RegionPlan:
    """Return the plan for the outputs of a region of a filter that is planned already.

    Examples
    --------
    >>> plan_of_region(plan([1, 2, 1], (10,)), "full", 2).shape
    (6,)
    """
    return RegionPlan(whole, region_axes(whole.problem, output_region, stride), output_region)


def _separated(forms: Sequence[Decomposition | None], limit: float = 0.0) -> Decomposition | None:
    """Return the form with the fewest multiplications whose passes run along one axis each, if there is one.

    Its terms differ from the kernel by `limit` at most, relative to the sum of its absolute weights.
    """
    able = [
        form
        for form in forms
        if form is not None
        and form.separated
        and form.roots
        and form.bound <= limit
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
    total: Array | None = None
    for chain in _chains(form.roots):
        outside = problem.cval
        bands = _bands_of(chain, problem, axes)
        term = empty_like_layout(image, shape, problem.work)
        _run_term(image, bands, term, chain, problem, outside)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None  # a form has terms
    return total


def _is_plain(form: Decomposition, problem: Problem, image: Array, out: Array) -> bool:
    """Return whether one product of bands is the result: numbers of one type, one term, no constant outside."""
    single = all(len(p.then) <= 1 for root in form.roots for p in root.walk())
    return (
        single
        and len(form.roots) == 1
        and problem.exponent == 0
        and not (problem.fills and problem.cval)
        and image.dtype == out.dtype
        and (_is_small_whole(problem) or image.dtype == problem.work)
        and image.dtype.kind in "iuf"
        and image.dtype.isnative
        and not np.may_share_memory(image, out)
    )


def _is_small_whole(problem: Problem) -> bool:
    """Return whether images and results are whole numbers of at most 16 bits, summed in float64."""
    types = (problem.dtype, problem.out)
    return problem.work == np.float64 and all(t.kind in "iu" and t.itemsize <= 2 for t in types)


def _bands_of(
    chain: Sequence[Pass], problem: Problem, axes: Sequence[RegionAxis]
) -> dict[int, Band]:
    """Return the band of each filtered axis for one term."""
    bands = {one.axis: _strided(one, np.ones(1), 0, CONSTANT) for one in axes}
    for p in chain:
        k = p.axes[0]
        bands[problem.axes[k]] = _strided(axes[k], p.taps, p.lefts[0], problem.modes[k])
    return bands


def _strided(one: RegionAxis, taps: Array, left: int, border: Any) -> Band:
    """Return the band of a correlation at the outputs of a region."""
    firsts = one.places - left
    weights = np.broadcast_to(taps, (one.size, len(taps)))
    length = one.length if one.block is None else len(one.block)
    found = extended_band(firsts, weights, length, partial(one.samples, border))
    return replace(found, growth=one.outputs_per_sample)


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
    image: Array,
    dense: Array,
    problem: Problem,
    axes: Sequence[RegionAxis],
    shape: tuple[int, ...],
    method: str = "auto",
) -> Array:
    """Return the sum over the phases of the strides, each a dense correlation of a part of the samples."""
    # out[i] = sum_a sum_b k[b s + a] x[(i + b) s + a + first - left]
    wide = _written_out(image, dense.shape, problem, axes)
    total: Array = np.zeros(shape, problem.work)
    for phases in itertools.product(*(range(one.stride) for one in axes)):
        weights = dense[
            tuple(slice(p, None, one.stride) for p, one in zip(phases, axes, strict=True))
        ]
        if not weights.size:
            continue
        place: list[slice] = [slice(None)] * image.ndim
        crop: list[slice] = [slice(None)] * image.ndim
        for one, phase, count in zip(axes, phases, weights.shape, strict=True):
            begin = phase
            stop = begin + (one.size + count - 2) * one.stride + 1
            place[one.axis] = slice(begin, stop, one.stride)
            crop[one.axis] = slice(count // 2, count // 2 + one.size)
        found = correlate(
            wide[tuple(place)], weights, axes=problem.axes, mode="constant", output=problem.work,
            method=method, threads=problem.threads,
        )  # fmt: skip
        total += found[tuple(crop)]
    return total


def _written_out(
    image: Array, sizes: Sequence[int], problem: Problem, axes: Sequence[RegionAxis]
) -> Array:
    """Return the samples that the outputs depend on, with the border written out along each axis."""
    wide = image.astype(problem.work, copy=False) if problem.fills else image
    for one, left, taps, border in zip(axes, problem.lefts, sizes, problem.modes, strict=True):
        start = one.first - left
        index = one.samples(border, start, start + (one.size - 1) * one.stride + taps)
        if np.array_equal(index, np.arange(wide.shape[one.axis])):
            continue
        outside = index == OUTSIDE
        wide = np.take(wide, np.where(outside, 0, index), one.axis)
        if outside.any():
            wide[(slice(None),) * one.axis + (outside,)] = problem.cval
    return np.ascontiguousarray(wide)
