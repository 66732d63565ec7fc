"""Features of tensors that require a gradient, by operations that autograd differentiates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from separable.engine.tensor_memory import array_of
from separable.factors import Factors
from separable.features.feature_base import Feature, Grid
from separable.features.feature_run import NOISE, FeatureOptions, check_count
from separable.features.feature_steps import SweepStep
from separable.features.smoothed_steps import Powers, SmoothedStep
from separable.filtering import correlate
from separable.masked.samples import MissingOptions, missing_of
from separable.pattern import filter_pattern
from separable.request import FilterAxes, check_axes, check_spacing

__all__ = ["TENSOR_WORKS", "compute_with_gradients", "tensor_eigenvalues", "tensor_eigenvectors"]

Tensor = torch.Tensor
Elements = Sequence[Tensor]
Numbers = Sequence[Any]


def tensor_eigenvalues(elements: Elements) -> Tensor:
    """Return the eigenvalues of symmetric matrices in decreasing order, the first axis of the result.

    Their gradient is that of the eigenvalues as a set: it is finite where two of them are equal.

    Parameters
    ----------
    elements : sequence of Tensor
        Upper triangle of the matrices, row by row: 1, 3, 6 ... tensors of one shape.

    Examples
    --------
    >>> tensor_eigenvalues([torch.tensor(2.0), torch.tensor(1.0), torch.tensor(2.0)])
    tensor([3., 1.])
    """
    matrices, finite = _matrices(elements)
    found = torch.linalg.eigvalsh(matrices).flip(-1).movedim(-1, 0)
    return torch.where(finite, found, math.nan)


def tensor_eigenvectors(elements: Elements) -> tuple[Tensor, Tensor]:
    """Return eigenvalues, shape (axes, ...), and eigenvectors, shape (axes, axes, ...), the largest first.

    The gradient of an eigenvector is not finite where two eigenvalues are equal.

    Examples
    --------
    >>> values, vectors = tensor_eigenvectors([torch.tensor(2.0), torch.tensor(0.0), torch.tensor(1.0)])
    >>> values, vectors.abs()
    (tensor([2., 1.]), tensor([[1., 0.],
            [0., 1.]]))
    """
    matrices, finite = _matrices(elements)
    values, vectors = torch.linalg.eigh(matrices)
    values = values.flip(-1).movedim(-1, 0)
    vectors = vectors.flip(-1).movedim((-1, -2), (0, 1))
    return torch.where(finite, values, math.nan), torch.where(finite, vectors, math.nan)


def _matrices(elements: Elements) -> tuple[Tensor, Tensor]:
    """Return the matrices on the last two axes, zero where an element is not finite, and where all are."""
    size = round((math.sqrt(8 * len(elements) + 1) - 1) / 2)
    place = {pair: k for k, pair in enumerate((i, j) for i in range(size) for j in range(i, size))}
    finite = torch.stack([torch.isfinite(e) for e in elements]).all(0)
    known = [torch.where(finite, e, 0.0) for e in elements]
    rows = [
        torch.stack([known[place[min(i, j), max(i, j)]] for j in range(size)], -1)
        for i in range(size)
    ]
    return torch.stack(rows, -2), finite


def _signed(elements: Elements, numbers: Numbers) -> Tensor:
    return tensor_eigenvalues([e * numbers[0] for e in elements])


def _eigenvalues(elements: Elements, numbers: Numbers) -> list[Tensor]:
    return list(_signed(elements, numbers))


def _frangi(elements: Elements, numbers: Numbers) -> list[Tensor]:
    _, plate, blob, structure = numbers
    values = _signed(elements, numbers)
    found = torch.take_along_dim(values, values.abs().argsort(dim=0, stable=True), 0)
    ridge = (found[1:] > 0).all(0)
    safe = torch.where(
        ridge, found, 1.0
    )  # a gradient through 0 / 0 would be NaN, also where it is not taken
    if len(safe) == 2:
        value = torch.exp(blob * (safe[0] / safe[1]) ** 2)
    else:
        ra = safe[1] / safe[2]
        value = (1 - torch.exp(plate * ra**2)) * torch.exp(blob * (safe[0] / safe[2]) ** 2 / ra)
    value = value * (1 - torch.exp(-(structure * safe).square().sum(0)))
    return [_where(ridge, value, values)]


def _where(chosen: Tensor, value: Tensor, source: Tensor) -> Tensor:
    """Return a value where it is chosen, else 0; NaN where a source has NaN."""
    return torch.where(torch.isnan(source).any(0), math.nan, torch.where(chosen, value, 0.0))


def _sato(elements: Elements, numbers: Numbers) -> list[Tensor]:
    values = _signed(elements, numbers)
    ridge = (values[:-1] > 0).all(0)
    safe = torch.where(ridge, values[:-1], 1.0)
    value = safe[0] if len(safe) == 1 else safe[0].sqrt() * safe[1].sqrt()
    return [_where(ridge, value * numbers[1], values)]


def _neuriteness(elements: Elements, numbers: Numbers) -> Tensor:
    values, alpha = _signed(elements, numbers), numbers[1]
    mixed = values + alpha * (values.sum(0) - values)
    return torch.take_along_dim(mixed, mixed.abs().argmax(0)[None], 0)[0].clamp(min=0)


def _meijering(elements: Elements, numbers: Numbers) -> list[Tensor]:
    return [_neuriteness(elements, numbers) / numbers[2]]


def _largest(values: Tensor) -> list[Tensor]:
    """Return the largest value that is not NaN, or 0."""
    return [torch.where(torch.isnan(values), 0.0, values).amax().clamp(min=0).reshape(1)]


def _length_of(squares: Tensor) -> Tensor:
    """Return a square root whose gradient at 0 is 0."""
    some = squares != 0
    return torch.where(some, torch.where(some, squares, 1.0).sqrt(), 0.0)


def _norms(elements: Elements) -> Tensor:
    size = round((math.sqrt(8 * len(elements) + 1) - 1) / 2)
    weights = [1.0 if i == j else 2.0 for i, j in zip(*np.triu_indices(size), strict=True)]
    return _length_of(_total([w * e.square() for w, e in zip(weights, elements, strict=True)]))


def _total(parts: Elements) -> Tensor:
    return torch.stack(list(parts)).sum(0)


def _determinant(elements: Elements, numbers: Numbers) -> list[Tensor]:
    signed = [e * numbers[0] for e in elements]
    if len(signed) == 3:
        a, b, c = signed
        return [numbers[1] * (a * c - b * b)]
    a, b, c, d, e, f = signed
    value = a * (d * f - e * e) - b * (b * f - e * c) + c * (b * e - d * c)
    return [numbers[1] * value]


def _length(elements: Elements, numbers: Numbers) -> list[Tensor]:
    return [_length_of(_total([e.square() for e in elements])) * numbers[1]]


def _gaussian_features(elements: Elements, numbers: Numbers) -> list[Tensor]:
    ndim = 2 if len(elements) == 6 else 3
    smooth, slopes, hessian = elements[0], elements[1 : 1 + ndim], elements[1 + ndim :]
    diagonal = [hessian[k] for k in ((0, 2) if ndim == 2 else (0, 3, 5))]
    (length,) = _length(slopes, (1.0, 1.0))
    return [smooth, length, _total(diagonal), *_signed(hessian, numbers)]


def _products(elements: Elements, numbers: Numbers) -> list[Tensor]:
    count = len(elements)
    return [elements[i] * elements[j] for i in range(count) for j in range(i, count)]


def _coherence(elements: Elements, numbers: Numbers) -> list[Tensor]:
    found = _signed(elements, numbers)
    total = found[0] + found[-1]
    some = total > 0
    value = (found[0] - found[-1]) / torch.where(some, total, 1.0)
    return [_where(some, value, found)]


def _variance(elements: Elements, numbers: Numbers) -> list[Tensor]:
    mean, square = elements
    return [(square - mean.square()).clamp(min=0) * numbers[1]]


TENSOR_WORKS: dict[str, Callable[[Elements, Numbers], list[Tensor]]] = {
    "eigenvalues": _eigenvalues,
    "frangi": _frangi,
    "sato": _sato,
    "meijering": _meijering,
    "largest_neuriteness": lambda elements, numbers: _largest(_neuriteness(elements, numbers)),
    "neuriteness": lambda elements, numbers: [_neuriteness(elements, numbers)],
    "norm": lambda elements, numbers: [_norms(elements)],
    "largest_norm": lambda elements, numbers: _largest(_norms(elements)),
    "determinant": _determinant,
    "length": _length,
    "copies": lambda elements, numbers: [e * numbers[1] for e in elements],
    "gaussian_features": _gaussian_features,
    "products": _products,
    "coherence": _coherence,
    "sum": lambda elements, numbers: [_total(elements) * numbers[1]],
    "difference": lambda elements, numbers: [(elements[0] - elements[1]) * numbers[1]],
    "variance": _variance,
}
"""The functions of `pointwise.WORKS` for tensors, by the same names."""


def compute_with_gradients(feature: Feature, image: Tensor, options: FeatureOptions) -> Tensor:
    """Return the results of a feature of a floating tensor, which have gradients.

    The maximum over the image that Frangi's and Meijering's filters divide by is a function of the image too,
    and the gradient goes through it.

    Parameters
    ----------
    feature : Feature
    image : Tensor
    options : FeatureOptions

    Returns
    -------
    Tensor, shape (results, *image.shape)

    Examples
    --------
    >>> from separable.features.feature_values import GradientMagnitude
    >>> image = torch.arange(9.0, requires_grad=True)
    >>> found = compute_with_gradients(GradientMagnitude(1.0), image, FeatureOptions())
    >>> found.shape, found.requires_grad
    (torch.Size([1, 9]), True)
    """
    axes = check_axes(options.axes, image.ndim)
    check_count(feature, len(axes))
    modes = FilterAxes.of(axes, options.mode, options.cval).modes
    grid = Grid(check_spacing(options.spacing, len(axes)))
    missing = dict(options.missing or {})
    fill = missing.pop("fill", None)
    run = _Run(axes, modes, float(options.cval), options.threads, missing)
    values = image if image.dtype == torch.float64 else image.float()
    maxima = run.maxima(feature, grid, values)
    found: list[Tensor] = []
    for number, step in enumerate(feature.steps(grid, maxima)):
        results = run.step(step, values)
        if number and getattr(step, "accumulate", False):
            before = found[-len(results) :]
            results = [torch.fmax(a, b) for a, b in zip(before, results, strict=True)]
            del found[-len(results) :]
        found.extend(results)
    result = torch.stack(found)
    if fill is not None:
        result = torch.where(torch.isnan(result), fill, result)
    return result


class _Run:
    """Steps of features of a tensor, along some of its axes."""

    def __init__(
        self, axes: tuple[int, ...], modes: Any, cval: float, threads: int | None, missing: Any
    ) -> None:
        self.axes, self.modes, self.cval, self.threads = axes, modes, cval, threads
        self.missing: dict[str, Any] = missing

    def maxima(self, feature: Feature, grid: Grid, image: Tensor) -> list[Any]:
        """Return the maxima that a feature needs to know; 0 where one is nothing but rounding."""
        found: list[Any] = []
        for step in feature.reductions(grid):
            most = self.step(step, image)[0][0]
            largest = torch.where(torch.isfinite(image), image.detach(), 0.0).abs().amax()
            rounding = NOISE * torch.finfo(image.dtype).eps * step.norm * float(largest)
            found.append(most if float(most.detach()) > rounding else 0.0)
        return found

    def step(self, step: Any, image: Tensor) -> list[Tensor]:
        """Return the results of a step."""
        if isinstance(step, SweepStep):
            derivatives = [self._derivative(step, orders, image) for orders in step.orders]
            return TENSOR_WORKS[step.work](derivatives, step.numbers)
        return self._smoothed(step, image)

    def _derivative(self, step: SweepStep, orders: tuple[int, ...], image: Tensor) -> Tensor:
        taps = [rows[k] for rows, k in zip(step.taps, orders, strict=True)]
        return self._correlated(image, taps, self.cval, self.missing)

    def _smoothed(self, step: SmoothedStep, image: Tensor) -> list[Tensor]:
        """Return features of smoothed products; products exist inside the image only."""
        inner, dtype = step.inner, image.dtype
        if isinstance(inner, Powers):
            known = self._marked(image)
            products = [known, known.square()]
        else:
            products = self.step(inner, image)
        if step.work == "variance":  # a small difference of large numbers
            products = [p.double() for p in products]
        missing = {"nan": "ignore"} if self.missing else {}
        smooth = [
            self._correlated(p, list(step.smoothing), cval, missing)
            for p, cval in zip(products, inner.outside(self.cval), strict=True)
        ]
        return [found.to(dtype) for found in TENSOR_WORKS[step.work](smooth, step.numbers)]

    def _marked(self, image: Tensor) -> Tensor:
        """Return the samples with NaN where one is missing."""
        if not self.missing:
            return image
        plain = array_of(image.detach().cpu())
        mask = self.missing.get("mask")
        if isinstance(mask, torch.Tensor):
            mask = mask.numpy(force=True)
        options = MissingOptions(
            **{"nan": "propagate", "fill": math.nan, **self.missing, "mask": mask}
        )
        found = missing_of(plain, plain, self.axes, options, plain.dtype, 0.0)
        if found is None:
            return image
        valid = torch.from_numpy(np.broadcast_to(found.valid, plain.shape).copy())
        return torch.where(valid.to(image.device), image, math.nan)

    def _correlated(self, image: Tensor, taps: list[Any], cval: float, missing: Any) -> Tensor:
        kernel: Any = taps[0]
        if len(taps) > 1:
            kernel = Factors.from_terms(filter_pattern(len(taps)), [taps])
        found: Any = correlate(
            image, kernel, axes=self.axes, mode=self.modes, cval=cval, threads=self.threads, **missing
        )  # fmt: skip
        result: Tensor = found
        return result
