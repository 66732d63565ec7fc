"""Two published methods to compress convolutions with unlabelled data, to compare `nn.convert` with.

Both measure the error of weights by the outputs that they change: with S, the second moment of what the
filters of a layer see, the error of F instead of W is ``trace((W - F) S (W - F)^T)``.

- `whitened`: the weights as one matrix, times the root of S, in a singular value decomposition; ranks of
  all layers from a Lagrangian relaxation of the budget (BALF, González Martínez 2025, arXiv:2509.25136).
- `in_covariance_norm`: Tucker-2 and CP decompositions by alternating least squares in this norm
  (Kalle, Rudkiewicz, Ouerfelli and Tamaazousti 2025, arXiv:2511.04494). Here their ranks come from the
  same relaxation, and each layer gets the decomposition that it chooses.

They were written from the descriptions of the methods, not from the authors' programs. S is that of the
original network's activations, biases are kept, and no layer is fitted again after the layers before it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from separable.lowering.lower import lower
from separable.lowering.scheme import Scheme
from separable.nn.convert.calibration import Calibration, watched_run
from separable.nn.convert.covariances import Collector
from separable.nn.convert.factored_layers import built, weights_of_conv
from separable.nn.convert.layer_refs import LayerRef, find_layers, put
from separable.nn.convert.trace import Trace, dense_multiplications, steps_multiplications, traced

__all__ = ["Compression", "in_covariance_norm", "whitened"]

GRID = 10  # ranks per decomposition and layer that the relaxation chooses from
ROUGH, FINE = 2, 10  # sweeps of alternating least squares for a curve, and for the chosen ranks
DESCENTS = 8  # steps of conjugate gradients for a factor without a closed form


@dataclass(frozen=True)
class Choice:
    """One way to write a layer: its multiplications, the part of the output's energy that it loses."""

    cost: float
    error: float
    scheme: Scheme | None = None


@dataclass(frozen=True)
class Layer:
    """A layer with its weights ``(out, in)``, one column per value that a filter sees, and moment S."""

    ref: LayerRef
    weights: np.ndarray
    moment: np.ndarray

    @property
    def energy(self) -> float:
        """Mean square of the layer's outputs without bias."""
        return max(float(np.sum((self.weights @ self.moment) * self.weights)), 1e-30)

    def lost(self, approximation: np.ndarray) -> float:
        """Return the part of the energy that an approximation of the weights loses."""
        difference = self.weights - approximation.reshape(self.weights.shape)
        return float(np.sum((difference @ self.moment) * difference)) / self.energy

    def scheme(self, pattern: str, rank: int | dict[str, int]) -> Scheme:
        """Return a pattern of images at some ranks, for as many spatial axes as the layer has."""
        space = "zyx"[-self.ref.spec.ndim :]
        return Scheme.make("layer", pattern.replace("yx", space), self.ref.spec, rank=rank)


# ---------------------------------------------------------------- whitening


def whitened(model: nn.Module, batches: Iterable[Tensor]) -> Compression:
    """Return the compression of a network in which layers become products of two matrices.

    Parameters
    ----------
    model : torch.nn.Module
        Network in evaluation mode.
    batches : iterable of Tensor
        Calibration data without labels.
    """

    def choices(layer: Layer) -> list[Scheme]:
        limit = min(layer.weights.shape)
        return [layer.scheme("ocyx -> o,cyx", r) for r in _grid(limit)]

    return Compression(model, batches, choices, lambda layer, scheme, _: _svd(layer, scheme))


def _svd(layer: Layer, scheme: Scheme) -> list[np.ndarray]:
    """Project the weights on the leading singular vectors of their product with the root of S.

    These are the eigenvectors of ``W S W^T``, and the projection needs no inverse of the root.
    """
    basis = np.linalg.eigh(layer.weights @ layer.moment @ layer.weights.T)[1][:, ::-1]
    kept = basis[:, : scheme.size("R")]
    return [kept.T, kept.T @ layer.weights]  # (R, out), (R, in)


# ---------------------------------------------------------------- Tucker-2 and CP


def in_covariance_norm(model: nn.Module, batches: Iterable[Tensor]) -> Compression:
    """Return the compression of a network in which layers become Tucker-2 or CP decompositions.

    Layers of one tap are products of two matrices. The parameters are those of `whitened`.
    """

    def choices(layer: Layer) -> list[Scheme]:
        spec = layer.ref.spec
        if max(spec.kernel_size) == 1:
            return [layer.scheme("ocyx -> o,cyx", r) for r in _grid(min(layer.weights.shape))]
        found = []
        for share in np.linspace(1 / GRID, 1, GRID):
            ranks = {"R": spec.out_channels, "S": spec.in_channels}
            ranks = {b: max(1, round(share * n)) for b, n in ranks.items()}
            found.append(layer.scheme("ocyx -> oR,RyxS,Sc", ranks))
        taps = int(np.prod(spec.kernel_size))
        limit = (
            spec.out_channels * spec.in_channels * taps // (spec.out_channels + spec.in_channels)
        )
        return [*found, *(layer.scheme("ocyx -> o,c,yx", r) for r in _grid(limit))]

    return Compression(model, batches, choices, _alternating)


def _alternating(layer: Layer, scheme: Scheme, sweeps: int) -> list[np.ndarray]:
    """Fit the factors of a decomposition one after the other by least squares in the norm of S."""
    if len(scheme.operands) == 2:
        return _svd(layer, scheme)
    cube = layer.weights.reshape([scheme.size(a) for a in "oc"] + [-1])
    arrays = _start(layer, cube, scheme)
    terms = ("oR", "RkS", "Sc") if len(scheme.bonds) == 2 else ("oR", "cR", "kR")
    for _ in range(sweeps):
        for at in range(3):
            arrays[at] = _least_squares(layer, cube, arrays, terms, at)
    return arrays if len(scheme.bonds) == 2 else [a.T for a in arrays]  # of CP (R, ...)


def _start(layer: Layer, cube: np.ndarray, scheme: Scheme) -> list[np.ndarray]:
    """Return singular vectors of the weights along each axis; for CP, those of each axis in turn."""
    o, c, k = cube.shape
    out = np.linalg.eigh(layer.weights @ layer.moment @ layer.weights.T)[1][:, ::-1]
    side = np.moveaxis(cube, 1, 0).reshape(c, -1)
    into = np.linalg.eigh(side @ side.T)[1][:, ::-1]
    if len(scheme.bonds) == 2:
        a, b = out[:, : scheme.size("R")], into[:, : scheme.size("S")].T
        return [a, np.einsum("or,ock,sc->rks", a, cube, b), b]
    rank = scheme.size("R")
    taps = np.linalg.svd(cube.reshape(o * c, k), full_matrices=False)[2]
    rng = np.random.default_rng(0)  # terms beyond the axes' sizes start from random vectors
    a = np.concatenate([out, rng.standard_normal((o, rank))], axis=1)[:, :rank]
    b = np.concatenate([into, rng.standard_normal((c, rank))], axis=1)[:, :rank]
    h = taps[np.arange(rank) % len(taps)].T + 0.1 * rng.standard_normal((k, rank))
    return [a / o**0.5, b / c**0.5, h]


def _least_squares(
    layer: Layer, cube: np.ndarray, arrays: Sequence[np.ndarray], terms: Sequence[str], at: int
) -> np.ndarray:
    """Return one factor that is best while the others stay as they are.

    The factor of the outputs has a closed form. The equations of the others are too many to be stored
    for wide layers and are solved by conjugate gradients from the present factor.
    """
    others = [k for k in range(3) if k != at]
    if at == 0:
        rest = [terms[k] for k in others]
        features = np.einsum(f"{rest[0]},{rest[1]}->Rck", *(arrays[k] for k in others))
        flat = features.reshape(len(features), -1)
        weighted = flat @ layer.moment
        normal = weighted @ flat.T
        ridge = 1e-9 * np.trace(normal) / len(normal) + 1e-30
        found = np.linalg.solve(normal + ridge * np.eye(len(normal)), weighted @ layer.weights.T)
        return found.T
    inputs = [terms[k] for k in others]
    held = [arrays[k] for k in others]
    forward = f"{terms[at]},{inputs[0]},{inputs[1]}->ock"
    backward = f"ock,{inputs[0]},{inputs[1]}->{terms[at]}"

    def expand(factor: np.ndarray) -> np.ndarray:
        return np.einsum(forward, factor, *held, optimize=True)

    def gradient(difference: np.ndarray) -> np.ndarray:
        weighted = (difference.reshape(layer.weights.shape) @ layer.moment).reshape(cube.shape)
        return np.einsum(backward, weighted, *held, optimize=True)

    return _conjugate_gradients(
        lambda x: gradient(expand(x)), gradient(cube - expand(arrays[at])), arrays[at]
    )


def _conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray], residual: np.ndarray, start: np.ndarray
) -> np.ndarray:
    found, direction, square = start.copy(), residual.copy(), float(np.sum(residual**2))
    first = square
    for _ in range(DESCENTS):
        if square <= 1e-20 * first or square == 0:
            break
        image = product(direction)
        curvature = float(np.sum(direction * image))
        if curvature <= 0:
            break
        step = square / curvature
        found += step * direction
        residual = residual - step * image
        following = float(np.sum(residual**2))
        direction = residual + following / square * direction
        square = following
    return found


# ---------------------------------------------------------------- budgets


def _grid(limit: int) -> list[int]:
    """Return ranks up to a limit, denser where they are small."""
    return sorted({*np.geomspace(1, limit, GRID).round().astype(int).tolist()} & {*range(1, limit)})


class Compression:
    """Choices for all layers of a network, from which it is compressed to any budget.

    Parameters
    ----------
    model : torch.nn.Module
    batches : iterable of Tensor
    choices : callable
        Schemes that a layer may have.
    factors : callable
        ``factors(layer, scheme, sweeps)``: the factors of a layer.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Tensor],
        choices: Callable[[Layer], list[Scheme]],
        factors: Callable[[Layer, Scheme, int], list[np.ndarray]],
    ) -> None:
        # Step 1: second moments of what each layer sees, in the original network.
        calibration = Calibration(list(batches), torch.device("cpu"))
        refs = [r for r in find_layers(model) if not r.reason and r.spec.groups == 1]
        trace = traced(model, refs, calibration, None)
        assert trace is not None
        refs = [r for r in refs if r.name in trace.shapes and not r.spec.transposed]
        collectors = {r.name: Collector(r.conv) for r in refs}
        convs = {r.name: r.conv for r in refs}
        for batch in calibration:
            watched_run(model, batch, convs, lambda name, x, y: collectors[name].add(x, y))

        # Step 2: the part of the energy that each choice loses, and what it costs.
        self.model, self.factors, self.total = model, factors, trace.total
        self.layers: dict[str, Layer] = {}
        self.tables: dict[str, list[Choice]] = {}
        for ref in refs:
            found = collectors.pop(ref.name).moments()
            mean = found.patch_mean[0]
            weights = weights_of_conv(ref.conv).reshape(ref.spec.out_channels, -1)
            layer = Layer(ref, weights, found.patches[0] + np.outer(mean, mean))
            self.layers[ref.name] = layer
            self.tables[ref.name] = _table(layer, choices(layer), factors, trace)

    def within(self, budget: float) -> nn.Module:
        """Return a copy of the network with at most this share of its multiplications.

        Raises
        ------
        ValueError
            If the cheapest choices take more.
        """
        fixed = self.total - sum(t[0].cost for t in self.tables.values())
        chosen = _relaxed(self.tables, budget * self.total - fixed)
        result = copy.deepcopy(self.model)
        new: dict[int, nn.Module] = {}
        for name, choice in chosen.items():
            if choice.scheme is not None:
                conv: Any = result.get_submodule(name)
                scheme = lower(choice.scheme)[0]
                arrays = _placed(scheme, self.factors(self.layers[name], scheme, FINE))
                new[id(conv)] = built(scheme, arrays, conv)
        return put(result, new)


def _table(
    layer: Layer,
    schemes: Sequence[Scheme],
    factors: Callable[[Layer, Scheme, int], list[np.ndarray]],
    trace: Trace,
) -> list[Choice]:
    """Return the dense layer and all choices that are cheaper."""
    spec, shapes = layer.ref.spec, trace.shapes[layer.ref.name]
    dense = dense_multiplications(spec, shapes)
    found = [Choice(dense, 0.0)]
    for scheme in schemes:
        cost = steps_multiplications(spec, lower(scheme)[1], shapes)
        if cost < dense:
            arrays = _placed(scheme, factors(layer, scheme, ROUGH))
            product = np.einsum(scheme.pattern.einsum, *arrays, optimize=True)
            found.append(Choice(cost, layer.lost(product), scheme))
    return found


def _placed(scheme: Scheme, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return factors with one axis per letter of their operands."""
    return [
        np.ascontiguousarray(a.reshape([scheme.size(x) for x in operand]))
        for a, operand in zip(arrays, scheme.operands, strict=True)
    ]


def _relaxed(tables: Mapping[str, Sequence[Choice]], budget: float) -> dict[str, Choice]:
    """Minimise the sum of lost energy plus a price times the cost, at the price that meets the budget.

    What is left over then goes to the single changes that save most.
    """

    def at(price: float) -> dict[str, Choice]:
        return {
            n: min(t, key=lambda c: (c.error + price * c.cost, c.cost)) for n, t in tables.items()
        }

    def cost(chosen: Mapping[str, Choice]) -> float:
        return sum(c.cost for c in chosen.values())

    low, high = 1e-20, 1e3
    if cost(at(high)) > budget:
        raise ValueError(f"the smallest network takes {cost(at(high)):.4g} multiplications")
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if cost(at(middle)) <= budget else (middle, high)
    chosen = at(high)
    while True:
        left = budget - cost(chosen)
        better = [
            (chosen[n].error - c.error, n, c)
            for n, t in tables.items() for c in t
            if c.cost - chosen[n].cost <= left and c.error < chosen[n].error
        ]  # fmt: skip
        if not better:
            return chosen
        _, name, choice = max(better, key=lambda found: found[0])
        chosen[name] = choice
