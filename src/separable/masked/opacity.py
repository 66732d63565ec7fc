"""Alpha: filters in which a colour counts as much as its pixel is opaque.

Definition, for a kernel k, colours c and their opacity a (0 .. 1)::

    mean  = (|k| * (a c)) / (|k| * a)       the mean colour, weighted by |k| and by the opacity
    c'    = k * (a c) + mean (k * (1 - a))  the filter, with that mean for what is transparent
    a'    = (k * a) / sum(k), or a if the weights of k sum to 0

where ``*`` filters. It is normalised convolution (`separable.masked`) with the opacity as certainty: for a
kernel without negative weights ``c' = sum(k) (k * (a c)) / (k * a)``, the usual filter of premultiplied
colours. The colour of a transparent pixel has no influence; an opaque picture is filtered as without
alpha; derivatives see no edge where only the opacity changes. Outside the image a constant colour is
opaque, so that borders do not fade.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.factors import Factors
from separable.filtering import cached_plan
from separable.masked.nodata import check_nodata, nodata_values, valid_samples
from separable.masked.normalised import PlannedRun, Run
from separable.masked.samples import MissingOptions, check_nan, mask_of
from separable.masked.valid_weights import Weights
from separable.request import mask_shape
from separable.run import store

__all__ = [
    "Opacity",
    "OpacityWeights",
    "filter_with_opacity",
    "valid_colours",
    "valid_pixels",
    "weigh_pixels",
]

Array = NDArray[Any]

ZERO_SUM = 1e-3  # of sum|k|: kernels whose weights sum to less are derivatives, and keep alpha


@dataclass(frozen=True)
class Opacity:
    """Place of the opacity among the samples of an image.

    Attributes
    ----------
    axis : int
        Axis of the colour samples, >= 0.
    index : int
        Index of the opacity along it.
    premultiplied : bool
        Whether colours are stored multiplied by the opacity.
    """

    axis: int
    index: int
    premultiplied: bool = False

    @property
    def place(self) -> tuple[slice, ...]:
        """Place of the opacity in an image of all colours."""
        return (slice(None),) * self.axis + (slice(self.index, self.index + 1),)


@dataclass(frozen=True)
class OpacityWeights:
    """A kernel, and what is computed from its filtered colours and opacities.

    Attributes
    ----------
    weights : Weights
    total : float
        Sum of the weights, with their signs.
    full : float
        Value of an opaque pixel.
    counts : bool
        Whether opacities are whole numbers.
    premultiplied : bool
    work : dtype
        Type of the intermediates. Results are divided by opacities as small as 1 / `full`, which float32
        can afford for 8 bits.
    """

    weights: Weights
    total: float
    full: float
    counts: bool
    premultiplied: bool
    work: np.dtype[Any]

    @classmethod
    def of(cls, kernel: Any, dtype: np.dtype[Any], premultiplied: bool) -> OpacityWeights:
        """Return the weights of a kernel for samples of a type.

        Raises
        ------
        ArgumentError
            If kernel or image are complex.
        """
        weights = Weights.of(kernel)
        if weights.is_complex or dtype.kind == "c":
            raise ArgumentError(
                "`kernel` and image must be real for a picture with alpha; got complex numbers"
            )
        dense = kernel.dense() if isinstance(kernel, Factors) else np.asarray(kernel)
        counts = dtype.kind in "biu"
        full = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
        total = float(np.sum(dense, dtype=np.float64))
        work = np.dtype(np.float32 if counts and dtype.itemsize == 1 else np.float64)
        return cls(weights, total, full, counts, premultiplied, work)

    @property
    def keeps_alpha(self) -> bool:
        """True if the weights sum to 0, so that the opacity stays as it is."""
        sizes = self.weights.total / self.weights.scale
        return abs(self.total) <= ZERO_SUM * sizes

    @property
    def smallest(self) -> float:
        """Smallest relative weight that a visible pixel may have."""
        return self.weights.smallest / (self.full if self.counts else 1e3)

    def multiplied(self, colours: Array, opacity: Array, valid: Array | None = None) -> Array:
        """Return colours multiplied by their opacity (0 .. 1), in the type of the intermediates.

        The opacity of missing pixels is 0.
        """
        if self.premultiplied:
            product = colours.astype(self.work)
            if valid is not None:
                np.copyto(product, 0.0, where=~valid)
            return product
        product = np.multiply(colours, opacity / self.work.type(self.full), dtype=self.work)
        np.copyto(product, 0.0, where=opacity == 0)  # also where the colour is NaN
        return np.asarray(product)

    def combined(
        self,
        filtered: Array,
        weight: Array,
        mean: Array | None,
        share: Array | None,
        own: Array,
        masked: Array | None = None,
    ) -> tuple[Array, Array]:
        """Return the colours and the opacity of the result.

        Parameters
        ----------
        filtered : ndarray
            Multiplied colours, filtered with the kernel.
        weight : ndarray
            Opacity, filtered with the absolute weights.
        mean, share : ndarray or None
            For a kernel of both signs: multiplied colours filtered with the absolute weights, and
            ``full - opacity`` filtered with the kernel.
        own : ndarray
            Opacity of the image.
        masked : ndarray, optional
            Filtered opacity of the valid pixels, for an image with missing ones: `valid_opacity`.
        """
        weights = self.weights
        if weights.total == 0.0:
            return np.zeros_like(filtered), own
        nothing = weight <= (weights.half if self.counts else 0.0)
        safe = np.where(nothing, self.work.type(1), weight)
        if mean is None or share is None:
            colours = filtered / safe
            colours *= self.full * weights.total
            opacity = weight / weights.total
        else:
            colours = filtered + mean / safe * share
            opacity = self.full - share / self.total if not self.keeps_alpha else own
        if self.keeps_alpha:
            opacity = own
        elif masked is not None:
            opacity = masked
        opacity = np.clip(opacity, 0.0, self.full)
        np.copyto(colours, 0, where=nothing)
        if self.premultiplied:
            colours *= opacity / self.full
        return colours, opacity

    def valid_opacity(
        self, weight: Array, valid: Array, filtered: Array | None, absent: Array | None
    ) -> Array:
        """Return the filtered opacity of the valid pixels, 0 where none is valid.

        Parameters
        ----------
        weight : ndarray
            Opacity of the valid pixels, filtered with the absolute weights.
        valid : ndarray
            Mask (0 and 1), filtered with the absolute weights.
        filtered, absent : ndarray or None
            For a kernel of both signs: opacity of the valid pixels, and ``1 - mask``, filtered with the
            kernel.
        """
        nothing = valid < self.weights.half
        mean = weight / np.where(nothing, self.work.type(1), valid)
        if filtered is not None and absent is not None:
            mean = (filtered + mean * absent) / self.work.type(self.total)
        return np.where(nothing, self.work.type(0), mean)


def valid_pixels(
    image: Array, opacity: Opacity, axes: Sequence[int], options: MissingOptions
) -> Array | None:
    """Return where the pixels of an image with alpha are valid, or None if all are.

    Parameters
    ----------
    image : ndarray
    opacity : Opacity
    axes : sequence of int
        Filtered axes.
    options : MissingOptions
        A mask of the image or of its filtered axes, NaN, and values that mean "no data".

    Raises
    ------
    ArgumentError
        If the mask does not fit.

    Examples
    --------
    >>> pixels = np.array([[[7, 7, 255], [7, 0, 255]]], "uint8")
    >>> valid_pixels(pixels, Opacity(2, 2), (0, 1), MissingOptions(nodata=7)).ravel()
    array([False,  True])
    """
    axis = opacity.axis
    valid = None
    if options.mask is not None:
        values = mask_of(options.mask)
        valid = (values != 0) & (values == values)
        valid = valid.reshape(mask_shape(values.shape, image.shape, axes)).all(axis, keepdims=True)
    given = check_nodata(nodata_values(options.nodata), image.dtype)
    ignoring = check_nan(options.nan) == "ignore"
    found = valid_colours(image, opacity, given, ignoring=ignoring)
    parts = [part for part in (valid, found) if part is not None]
    if not parts or all(part.all() for part in parts):
        return None
    return np.asarray(parts[0] if len(parts) == 1 else parts[0] & parts[1])


def valid_colours(
    image: Array, opacity: Opacity, nodata: Sequence[Any], *, ignoring: bool
) -> Array | None:
    """Return which pixels have valid colours; None if nothing can be missing.

    A pixel is missing if one of its colours is NaN, or if all of them mean "no data".
    """
    colours = np.delete(image, opacity.index, opacity.axis)
    numbers = [v for v in nodata if v == v]
    ignoring = ignoring or len(numbers) < len(nodata)
    valid: Any = None
    if ignoring and image.dtype.kind == "f":
        valid = ~np.isnan(colours).any(opacity.axis, keepdims=True)
    if numbers:
        known = valid_samples(colours, numbers).any(opacity.axis, keepdims=True)
        valid = known if valid is None else valid & known
    return None if valid is None else np.asarray(valid)


def filter_with_opacity(
    image: Array,
    opacity: Opacity,
    kernel: Any,
    output: Any = None,
    *,
    valid: Array | None = None,
    **options: Any,
) -> Array:
    """Filter an image whose samples along one axis are colours and their opacity.

    Parameters
    ----------
    image : ndarray
    opacity : Opacity
    kernel : array_like or Factors
    output : dtype, optional
        Data type of the result. Alpha is scaled to its range.
    valid : ndarray of bool, optional
        Where pixels are valid; its length along the axis of the colours is 1.
    **options
        Options of `separable.plan`; the axis of the colours must not be filtered.

    Raises
    ------
    ArgumentError
        If the kernel or the image is complex.

    Examples
    --------
    A red pixel beside a transparent one: the red spreads, and nothing of the colour below.

    >>> line = np.array([[[200, 255], [9, 0], [9, 0]]], "uint8")
    >>> filter_with_opacity(line, Opacity(2, 1), [1/3, 1/3, 1/3], axes=1)[0].tolist()
    [[200, 170], [200, 85], [0, 0]]
    """
    rule = OpacityWeights.of(kernel, image.dtype, opacity.premultiplied)
    plan = cached_plan(image, kernel, output, options)
    return weigh_pixels(
        image, opacity, rule, PlannedRun.of(plan, options), plan.problem.out, valid=valid
    )


def weigh_pixels(
    image: Array,
    opacity: Opacity,
    rule: OpacityWeights,
    run: Run,
    out: np.dtype[Any],
    *,
    valid: Array | None = None,
    own: Array | None = None,
) -> Array:
    """Filter colours and their opacity by the runs of a filter.

    Parameters
    ----------
    image : ndarray
    opacity : Opacity
    rule : OpacityWeights
    run : Run
        Runs kernels on the colours, the opacity and the mask.
    out : dtype
        Data type of the result.
    valid : ndarray of bool, optional
        Where pixels are valid; its length along the axis of the colours is 1.
    own : ndarray, optional
        Opacity of the image at the outputs, which a kernel whose weights sum to 0 keeps. Default: at all pixels.

    Returns
    -------
    ndarray
        Colours and opacity of the outputs.
    """
    axis, index = opacity.axis, opacity.index
    weights = rule.weights
    alpha = np.take(image, [index], axis).astype(rule.work)
    known = alpha if valid is None else alpha * valid
    colours = rule.multiplied(np.delete(image, index, axis), known, valid)
    cval = run.cval

    def filtered(samples: Array, kernel: Any, outside: Any, named: bool = False) -> Array:
        return run.data(samples, kernel, rule.work, outside, rule.smallest, named=named)

    own = alpha if own is None else own.astype(rule.work)
    result = filtered(colours, weights.kernel, cval, named=True)
    weight = filtered(known, weights.sizes, rule.full) if weights.total else own
    mean = share = masked = None
    if weights.signed:
        mean = filtered(colours, weights.sizes, cval)
        share = filtered(rule.work.type(rule.full) - known, weights.kernel, 0.0)
    if valid is not None and not rule.keeps_alpha:
        mask = np.broadcast_to(valid, alpha.shape).astype(rule.work)
        extra: tuple[Array | None, Array | None] = (None, None)
        if weights.signed:
            extra = (
                filtered(known, weights.kernel, rule.full),
                filtered(1 - mask, weights.kernel, 0.0),
            )
        masked = rule.valid_opacity(weight, filtered(mask, weights.sizes, 1.0), *extra)
    found, transparency = rule.combined(result, weight, mean, share, own, masked)
    shape = (*found.shape[:axis], image.shape[axis], *found.shape[axis + 1 :])
    made = np.empty(shape, out)
    before: tuple[slice, ...] = (slice(None),) * axis
    parts = (
        (slice(0, index), found[(*before, slice(0, index))]),
        (slice(index, index + 1), scaled(transparency, rule.full, out)),
        (slice(index + 1, None), found[(*before, slice(index, None))]),
    )
    for place, values in parts:
        store(values, made[(*before, place)], run.threads)
    return made


def scaled(opacity: Array, full: float, out: np.dtype[Any]) -> Array:
    """Return an opacity in the range of the data type of the result."""
    target = float(np.iinfo(out).max) if out.kind in "iu" else full if out.kind == "f" else 1.0
    return opacity if math.isclose(target, full) else opacity * (target / full)
