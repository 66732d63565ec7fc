"""Forms of a convolution's weights: every pattern at every rank, exact and approximate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from separable.errors import RankError
from separable.factorize import factorize
from separable.lowering.conv_spec import ConvSpec
from separable.lowering.lower import lower
from separable.lowering.scheme import Scheme
from separable.nn.audit.audit_data import Form
from separable.nn.audit.layer_outputs import LayerOutputs
from separable.nn.convert.channel_blocks import blocks_of, diagonal_blocks
from separable.nn.convert.decompose import decomposed, multiplied
from separable.nn.convert.error_curves import Curve, curve
from separable.nn.convert.patterns import candidates, if_it_fits
from separable.nn.convert.trace import dense_multiplications, steps_multiplications
from separable.pattern import parse

__all__ = [
    "POOLING",
    "Forms",
    "forms_of",
    "is_pooling",
    "properties",
    "rounding",
]

Array = NDArray[Any]
Shape = tuple[int, ...]

POOLING = "average pooling"
LONG = 5  # smallest kernel for which depthwise steps along each axis are tried
LEAST = 0.99  # an exact form must need less than this share of the multiplications


@dataclass(frozen=True, eq=False)
class Forms:
    """All forms of one layer.

    Attributes
    ----------
    spec : ConvSpec
        The layer, with one group per block of channels.
    weight : ndarray, shape ``spec.weight_shape``
        The weights of the blocks.
    before : int
        Multiplications of the layer as it is.
    exact_error : float
        Largest relative error that is rounding of the weights.
    curves : tuple of Curve
        One per pattern.
    whole : Form
        The layer with its blocks as groups, without factors.
    average : Form or None
        Average pooling, if that is what the layer computes.
    """

    spec: ConvSpec
    weight: Array
    before: int
    exact_error: float
    curves: tuple[Curve, ...]
    whole: Form
    average: Form | None = None

    def within(self, error: float) -> Form | None:
        """Return the cheapest form within an error, or None if it saves nothing."""
        found = [self.whole]
        for made in self.curves:
            at = np.flatnonzero(np.sqrt(made.errors) <= max(error, self.exact_error))
            if len(at):
                found.append(self._form(made, int(at[0])))
        if self.average is not None:
            found.append(self.average)
        best = min(found, key=lambda f: f.multiplications)
        return best if best.multiplications < LEAST * self.before else None

    def at_share(self, share: float, outputs: LayerOutputs | None = None) -> Form | None:
        """Return the form with the smallest error for a share of the multiplications, or None.

        With the outputs of the layer it is their error that counts.
        """
        found = [self.whole] if self.whole.multiplications <= share * self.before else []
        for made in self.curves:
            count = int(np.searchsorted(made.costs, share * self.before, side="right"))
            if count:
                found.append(self._form(made, count - 1))
        if outputs is None:
            return min(found, key=lambda f: (f.error, f.multiplications), default=None)
        measured = [self.on_outputs(f, outputs) for f in found]
        return min(measured, key=lambda f: (f.output_error, f.multiplications), default=None)

    def on_outputs(self, form: Form, outputs: LayerOutputs) -> Form:
        """Return a form with the error of the layer's output."""
        if form.error == 0.0 or "->" not in form.pattern:
            return replace(form, output_error=0.0)
        scheme = self.scheme(form)
        kernel = scheme.kernel_of(self.weight)
        try:
            found = multiplied(scheme, decomposed(scheme, kernel))
        except RankError:  # ranks of a tree that one limit for all bonds gives smaller
            limit = max(int(r.max()) for r in scheme.ranks.values())
            found = factorize(kernel, scheme.pattern, rank=limit, sizes=scheme.sizes).dense()
        difference = self.weight - found.reshape(self.weight.shape)
        return replace(form, output_error=outputs.error(self.spec, difference))

    def cheapest(self) -> tuple[Form, ...]:
        """Return the cheapest form of each pattern, in the order of their errors."""
        return tuple(sorted((self._form(c, 0) for c in self.curves), key=lambda f: f.error))

    def scheme(self, form: Form) -> Scheme:
        """Return the scheme of a form with a pattern."""
        made = next(c for c in self.curves if str(c.scheme.written) == form.pattern)
        ranks = {b: np.asarray(r) if isinstance(r, list) else r for b, r in form.ranks.items()}
        return lower(made.scheme.with_ranks(ranks))[0]

    def spectrum(self, form: Form | None) -> dict[str, Array]:
        """Return the spectrum of a form's pattern, or that of the first pattern."""
        for made in self.curves:
            if form is None or str(made.scheme.written) == form.pattern:
                return dict(made.spectrum)
        return {}

    def _form(self, made: Curve, at: int) -> Form:
        scheme = made.scheme.with_ranks(made.ranks(at))
        ranks = {
            b: int(r.flat[0]) if r.min() == r.max() else r.ravel().tolist()
            for b, r in scheme.ranks.items()
        }
        error = float(np.sqrt(made.errors[at]))
        return Form(
            str(scheme.written), self.spec.groups, ranks, round(float(made.costs[at])),
            0.0 if error <= self.exact_error else error,
        )  # fmt: skip


def forms_of(
    spec: ConvSpec, weight: Array, shapes: Sequence[Shape] | None, dtype: torch.dtype
) -> Forms:
    """Examine the weights of a convolution in every pattern.

    Parameters
    ----------
    spec : ConvSpec
    weight : ndarray, shape ``spec.weight_shape``
    shapes : sequence of tuple of int, or None
        Shapes of the input in all calls; None counts per output position.
    dtype : torch.dtype
        Type in which the weights are stored; it determines what counts as rounding.
    """
    before = dense_multiplications(spec, shapes)
    parts = blocks_of(weight, spec)
    split = replace(spec, groups=spec.groups * parts)
    weight = diagonal_blocks(weight.astype(np.float64), spec, parts)
    curves = []
    for scheme in _schemes(split):

        def cost(found: Scheme) -> float:
            return steps_multiplications(split, lower(found)[1], shapes)

        curves.append(curve(scheme, scheme.kernel_of(weight), cost, None))
    whole = Form("", split.groups, {}, dense_multiplications(split, shapes), 0.0)
    average = None
    if is_pooling(weight, split, dtype):
        scaled = dense_multiplications(split, shapes) // math.prod(spec.kernel_size)
        average = Form(POOLING, split.groups, {}, scaled, 0.0)
    return Forms(split, weight, before, rounding(dtype), tuple(curves), whole, average)


def _schemes(spec: ConvSpec) -> list[Scheme]:
    """Return the schemes of all patterns that fit a layer."""
    patterns = list(candidates(spec))
    if spec.ndim == 2 and min(spec.kernel_size) >= LONG and not spec.is_depthwise:
        patterns.append(parse("ocyx -> oc,cy,cx"))
    found = (if_it_fits(pattern, spec) for pattern in patterns)
    return [scheme for scheme in found if scheme is not None]


def rounding(dtype: torch.dtype) -> float:
    """Return the relative error that weights of this type have by rounding alone.

    Weights are rounded by at most half the spacing of numbers, relative to each of them.

    Examples
    --------
    >>> rounding(torch.float32), round(rounding(torch.bfloat16), 4)
    (1e-06, 0.0039)
    """
    return max(1e-6, float(torch.finfo(dtype).eps) / 2)


def is_pooling(weight: Array, spec: ConvSpec, dtype: torch.dtype) -> bool:
    """Return True if a layer averages blocks of samples that do not overlap."""
    taps = math.prod(spec.kernel_size)
    one = spec.in_channels == spec.groups == spec.out_channels
    if not one or taps == 1 or spec.stride != spec.kernel_size or max(spec.dilation) > 1:
        return False
    return float(np.abs(weight * taps - 1).max()) <= taps * rounding(dtype)


def properties(weight: Array, spec: ConvSpec, dtype: torch.dtype) -> tuple[str, ...]:
    """Return properties of the weights that are worth knowing, as sentences.

    Parameters
    ----------
    weight : ndarray, shape ``spec.weight_shape``
    spec : ConvSpec
    dtype : torch.dtype
        Type in which the weights are stored.
    """
    notes = []
    parts = blocks_of(weight, spec)
    split = replace(spec, groups=spec.groups * parts)
    weight = diagonal_blocks(weight, spec, parts)
    if parts > 1:
        notes.append(
            f"Its channels mix only within {split.groups} groups: groups={split.groups} alone needs "
            f"{parts} times fewer multiplications."
        )
    taps = weight.reshape(spec.out_channels, weight.shape[1], -1)
    largest = np.abs(taps).max(axis=2)
    if not largest.all() or taps.shape[2] == 1 or taps.shape[1] > 1:
        return tuple(notes)
    kernel = "x".join(map(str, spec.kernel_size))
    if is_pooling(weight, split, dtype):
        notes.append(
            f"It averages blocks of {kernel}, as torch.nn.AvgPool{spec.ndim}d{spec.kernel_size} does."
        )
    elif float(np.max(np.ptp(taps, axis=2) / largest)) <= rounding(dtype):
        notes.append(
            f"All taps of a filter are equal: running sums add up {kernel} samples with two "
            "additions per axis, whatever the size."
        )
    elif (np.sum(np.abs(taps) > 0, axis=2) == 1).all():
        notes.append("Each filter has one tap that is not 0: it shifts and scales a channel.")
    return tuple(notes)
