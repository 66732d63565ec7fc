"""Plans of features: sweeps, shared passes and multiplications, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from separable.arrays import ImageShape
from separable.errors import ArgumentError, ArgumentTypeError
from separable.features.feature_base import Feature, Grid
from separable.features.feature_calls import FeatureCall
from separable.features.feature_steps import SweepStep
from separable.features.smoothed_steps import SmoothedStep
from separable.filter_bank.magnitude import wide_type
from separable.plan.plan_text import amount, count_text, render, wrapped
from separable.request import check_dtype, whole_per_axis

__all__ = ["FeaturePlan", "PlannedSweep", "plan_features", "plan_of_features"]

COLUMNS = ("", "computes", "reads", "results", "passes", "mult", "alone", "dense")
LEGEND = (
    "reads: samples along each axis; mult: multiplications per sample by weights that are not zero, with shared "
    "passes counted once; alone: if each derivative had passes of its own; dense: if each were one sum "
    "over its neighbourhood."
)
WORDS = {"copies": "derivatives", "eigenvalues": "eigenvalues", "length": "gradient length"}


@dataclass(frozen=True)
class PlannedSweep:
    """One sweep over the image.

    Attributes
    ----------
    title : str
        Function of the derivatives that is computed at each sample.
    sides : tuple of int
        Number of samples that a result depends on, along each axis.
    results : int
        Number of results; 0 if it is a maximum over the image.
    passes : int
    multiplications, alone, dense : int
        Multiplications per sample: with shared passes, with passes for each derivative alone, and with
        one sum over the neighbourhood for each.
    """

    title: str
    sides: tuple[int, ...]
    results: int
    passes: int
    multiplications: int
    alone: int
    dense: int


@dataclass(frozen=True, eq=False)
class FeaturePlan:
    """Plan of features of an image: a value that prints its sweeps and runs.

    Attributes
    ----------
    title : str
    image : ImageShape
    calls : tuple of FeatureCall
        Features, one after the other.
    function : callable, optional
        Function that computes them from an image.

    Examples
    --------
    >>> from separable import features
    >>> p = plan_features(features.hessian_eigenvalues, (64, 64), "float32", 1.5)
    >>> p.multiplications, p.results
    (102, 2)
    >>> p(np.ones((64, 64), "float32")).shape
    (2, 64, 64)
    """

    title: str
    image: ImageShape
    calls: tuple[FeatureCall, ...]
    function: Callable[[Any], Any] | None = None

    @property
    def sweeps(self) -> tuple[PlannedSweep, ...]:
        """Sweeps in the order in which they run."""
        found: list[PlannedSweep] = []
        for call in self.calls:
            maxima = call.feature.reductions(call.grid)
            values = tuple(1.0 for _ in maxima)
            steps = (*maxima, *call.feature.steps(call.grid, values))
            found += [_planned_sweep(step) for step in steps]
        return tuple(found)

    @property
    def results(self) -> int:
        """Number of results."""
        return sum(len(call.feature.labels(call.grid.ndim)) for call in self.calls)

    @property
    def multiplications(self) -> int:
        """Multiplications per sample of the image, for the derivatives of all sweeps."""
        return sum(sweep.multiplications for sweep in self.sweeps)

    @property
    def multiplications_dense(self) -> int:
        """Multiplications per sample if each derivative were one sum over its neighbourhood."""
        return sum(sweep.dense for sweep in self.sweeps)

    def __call__(self, image: Any) -> Any:
        """Compute the features of an image of the planned shape and type.

        Raises
        ------
        ArgumentError
            If the image is not of the planned shape and type.
        """
        if self.function is None:
            raise ArgumentTypeError("this plan belongs to files; run it with `write_features`")
        given = image if hasattr(image, "dtype") else np.asarray(image)
        kind = str(given.dtype).removeprefix("torch.")
        if tuple(given.shape) != self.image.shape or kind != self.image.dtype.name:
            raise ArgumentError(
                f"this plan is for shape {self.image.shape}, {self.image.dtype}; got shape "
                f"{tuple(given.shape)}, {kind}"
            )
        return self.function(given)

    def __str__(self) -> str:
        sweeps, size = self.sweeps, math.prod(self.image.shape)
        rows = [
            (
                str(number + 1), one.title, "x".join(map(str, one.sides)),
                str(one.results) if one.results else "maximum", str(one.passes),
                str(one.multiplications), str(one.alone), str(one.dense),
            )
            for number, one in enumerate(sweeps)
        ]  # fmt: skip
        total = self.multiplications
        ratio = self.multiplications_dense / max(1, total)
        out = _result_type(self.image.dtype)
        notes = [
            f"Multiplications: {total:,} per sample, {total * size:,} in all; dense "
            f"{self.multiplications_dense:,}, {count_text(round(ratio, 1))} times as many.",
            f"Memory: image {amount(float(size * self.image.dtype.itemsize))}, results "
            f"{amount(float(self.results * size * out.itemsize))}, and less than 64 MiB.",
            LEGEND,
        ]
        return "\n".join([self._head(), render(COLUMNS, rows), *map(wrapped, notes)])

    def _head(self) -> str:
        first = self.calls[0]
        steps = first.grid.spacing
        where = (
            "" if set(steps) == {1.0} else f", samples {'x'.join(f'{s:g}' for s in steps)} apart"
        )
        modes = "/".join(dict.fromkeys(border.name for border in first.modes))
        sizes = "x".join(map(str, self.image.shape))
        return wrapped(f"{self.title} of {sizes} {self.image.dtype}{where}, {modes}")


def plan_features(
    function: Callable[..., Any],
    shape: Sequence[int],
    dtype: DTypeLike = np.float32,
    *arguments: Any,
    **options: Any,
) -> FeaturePlan:
    """Plan a function of this package without data.

    Parameters
    ----------
    function : callable
        Function of `separable.features`, for instance `frangi`.
    shape : sequence of int
        Shape of the image.
    dtype : dtype
        Type of the image.
    *arguments, **options
        Arguments of the function after the image.

    Returns
    -------
    FeaturePlan

    Raises
    ------
    ArgumentTypeError
        If it is not a function that can be planned.
    SeparableError
        As the function.

    Examples
    --------
    >>> from separable import features
    >>> plan_features(features.frangi, (64, 96, 96), "float32", [1, 2]).sweeps[0].title
    'largest norm'
    """
    name = str(getattr(function, "__name__", function))
    if not str(getattr(function, "__module__", "")).startswith(__package__ or ""):
        raise ArgumentTypeError(
            f"`function` must be a function of separable.features, for instance frangi; got {name}"
        )
    sizes = whole_per_axis("shape", tuple(shape), len(shape), 0, 1 << 62)
    image = ImageShape(sizes, check_dtype(dtype, "dtype"))
    function(image, *arguments, **options)
    if not image.calls:
        raise ArgumentTypeError(f"`function` {name} computes no features of an image")
    return FeaturePlan(
        name, ImageShape(sizes, image.dtype), tuple(image.calls),
        lambda values: function(values, *arguments, **options),
    )  # fmt: skip


def plan_of_features(
    features: Mapping[str, Feature],
    shape: Sequence[int],
    dtype: DTypeLike,
    grid: Grid,
    modes: Sequence[Any],
) -> FeaturePlan:
    """Return the plan of several features by name, for files.

    Examples
    --------
    >>> from separable.borders import REFLECT
    >>> from separable.features.feature_values import GradientMagnitude
    >>> found = plan_of_features({"g": GradientMagnitude(1.0)}, (9, 9), "f4", Grid((1.0, 1.0)), [REFLECT])
    >>> found.results
    1
    """
    image = ImageShape(tuple(shape), np.dtype(dtype))
    calls = tuple(FeatureCall(feature, grid, tuple(modes)) for feature in features.values())
    return FeaturePlan(", ".join(features), image, calls)


def _planned_sweep(step: Any) -> PlannedSweep:
    if isinstance(step, SmoothedStep):
        return _smoothed(step)
    return _sweep(step)


def _sweep(step: SweepStep) -> PlannedSweep:
    sums, products = 0, 0
    for orders in step.orders:
        counts = [int(np.count_nonzero(rows[k])) for rows, k in zip(step.taps, orders, strict=True)]
        sums += sum(counts)
        products += math.prod(counts)
    graph = step.graph
    shared = sum(int(np.count_nonzero(layer.taps)) for layer in graph.layers)
    return PlannedSweep(
        _title(step.work), tuple(2 * r + 1 for r in step.radii), 0 if step.reduces else step.outputs,
        graph.passes, shared, sums, products,
    )  # fmt: skip


def _smoothed(step: SmoothedStep) -> PlannedSweep:
    """Return the sweep of products and the passes that smooth each of them."""
    inner = step.inner
    first = _sweep(inner) if isinstance(inner, SweepStep) else None
    counts = [int(np.count_nonzero(taps)) for taps in step.smoothing]
    passes = inner.outputs * sum(n > 1 for n in counts)
    smooth, dense = inner.outputs * sum(counts), inner.outputs * math.prod(counts)
    own = (0, 1, 1, 1) if first is None else (
        first.passes, first.multiplications, first.alone, first.dense
    )  # fmt: skip
    return PlannedSweep(
        f"smoothed {_title(step.work)}", tuple(2 * r + 1 for r in step.radii), step.outputs,
        own[0] + passes, own[1] + smooth, own[2] + smooth, own[3] + dense,
    )  # fmt: skip


def _title(work: str) -> str:
    return WORDS.get(work, work.replace("_", " "))


def _result_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    found = wide_type(dtype.newbyteorder("="))
    return found if found.itemsize <= 8 else np.dtype(np.float64)
