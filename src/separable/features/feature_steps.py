"""One sweep of an image: derivatives along every axis, and the features of them at each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Border
from separable.engine.availability import EngineError, available, compiling
from separable.factors import Factors
from separable.features.array_features import COUNTED, REDUCES, padded, pointwise
from separable.features.pointwise import outputs_of
from separable.filter_bank.bank_sweep import compiled_passes
from separable.filter_bank.pass_graph import graph_of
from separable.filtering import correlate
from separable.pattern import filter_pattern
from separable.value import Value

__all__ = ["Surroundings", "SweepStep", "hessian_orders", "unit_orders"]

Array = NDArray[Any]
Orders = tuple[tuple[int, ...], ...]


def unit_orders(ndim: int) -> Orders:
    """Return the orders of the first derivatives.

    Examples
    --------
    >>> unit_orders(2)
    ((1, 0), (0, 1))
    """
    return tuple(tuple(int(i == k) for k in range(ndim)) for i in range(ndim))


def hessian_orders(ndim: int) -> Orders:
    """Return the orders of the second derivatives, the upper triangle of the Hessian row by row.

    Examples
    --------
    >>> hessian_orders(2)
    ((2, 0), (1, 1), (0, 2))
    """
    return tuple(
        tuple((i == k) + (j == k) for k in range(ndim)) for i in range(ndim) for j in range(i, ndim)
    )


@dataclass(frozen=True)
class Surroundings:
    """The border modes of an image, its missing samples, and the number of threads.

    Attributes
    ----------
    modes : tuple of Border
        Border mode of each axis.
    cval : float
        Value outside where the mode is constant.
    threads : int
    missing : dict
        Options for missing samples, as for `separable.correlate`.
    """

    modes: tuple[Border, ...]
    cval: float
    threads: int
    missing: Any = None


@dataclass(frozen=True, eq=False)
class SweepStep(Value):
    """Derivatives of an image, and what is computed of them at each sample.

    Attributes
    ----------
    orders : tuple of tuple of int
        For each derivative its order along every axis.
    taps : tuple of tuple of ndarray
        Taps for correlation by axis and order, of one odd length per axis.
    work : str
        Name in `pointwise.WORKS`.
    numbers : tuple of float
        Numbers of the work, the first a factor of all derivatives.
    accumulate : bool
        Whether the result is the larger of the feature and what it contains already.
    """

    ARRAYS = ("taps",)

    orders: Orders
    taps: tuple[tuple[Array, ...], ...]
    work: str
    numbers: tuple[float, ...] = (1.0, 1.0)
    accumulate: bool = False

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.taps)

    @property
    def outputs(self) -> int:
        """Number of features."""
        return len(self.orders) if self.work == "copies" else outputs_of(self.work, self.ndim)

    @property
    def radii(self) -> tuple[int, ...]:
        """Samples that are read on either side, along each axis."""
        return tuple(rows[0].size // 2 for rows in self.taps)

    def outside(self, cval: float) -> tuple[float, ...]:
        """Return the value of each result outside the image where the border mode is constant."""
        return (cval,) * self.outputs

    @property
    def reduces(self) -> bool:
        """True if the work returns the maximum over all samples."""
        return self.work.startswith(REDUCES)

    @property
    def norm(self) -> float:
        """Largest sum of the absolute weights of a derivative."""
        sums = [[float(np.abs(taps).sum()) for taps in rows] for rows in self.taps]
        return max(
            math.prod(row[k] for row, k in zip(sums, orders, strict=True)) for orders in self.orders
        )

    @cached_property
    def graph(self) -> Any:
        """Passes along every axis; derivatives share those that are equal."""
        terms = [
            [tuple(rows[k] for rows, k in zip(self.taps, o, strict=True))] for o in self.orders
        ]
        order = (1, 2, 0) if self.ndim == 3 else tuple(range(self.ndim))
        return graph_of(terms, [self.radii] * len(terms), order)

    def run(self, image: Array, out: Array | None, around: Surroundings) -> Array:
        """Compute the features of an image.

        Parameters
        ----------
        image : ndarray
            Image with the axes of the step.
        out : ndarray, shape (features, *image.shape)
            Floating result; None if the step reduces.
        around : Surroundings

        Returns
        -------
        ndarray
            `out`, or the maximum as an array of one element.
        """
        dtype = image.dtype if out is None else out.dtype
        if dtype.kind != "f" or dtype.itemsize < 4:
            dtype = np.result_type(dtype, np.float32)
        dtype = dtype.newbyteorder("=")
        if self._sweeps(image, dtype, around):
            try:
                return self._sweep(image, out, dtype, around)
            except EngineError:
                pass
        derivatives = padded(len(self.orders), image.shape, dtype)
        for orders, target in zip(self.orders, derivatives, strict=True):
            target[...] = self._derivative(image, orders, dtype, around)
        flat = None if out is None else out.reshape(len(out), -1)
        found = pointwise(
            self.work, self.numbers, derivatives.reshape(len(derivatives), -1), flat, around.threads,
            accumulate=self.accumulate,
        )  # fmt: skip
        return found if out is None else out

    def largest(self, image: Array, around: Surroundings, crop: tuple[slice, ...]) -> float:
        """Return the maximum of a step that reduces over a part of an image; 0 if it has none."""
        kind = np.result_type(image.dtype.newbyteorder("="), np.float32)
        out = np.empty((1, *image.shape), kind if kind.itemsize <= 8 else np.float64)
        replace(self, work=self.work.removeprefix(REDUCES)).run(image, out, around)
        return float(np.fmax.reduce(out[0][crop], axis=None, initial=0))

    def _sweeps(self, image: Array, dtype: np.dtype[Any], around: Surroundings) -> bool:
        """Return whether the compiled engine computes this step in one sweep."""
        return (
            self.ndim in (2, 3)
            and image.size > 0
            and not around.missing
            and dtype.name in ("float32", "float64")
            and available()
        )

    def _sweep(
        self, image: Array, out: Array | None, dtype: np.dtype[Any], around: Surroundings
    ) -> Array:
        with compiling:
            from separable.features.compiled.feature_tiling import FeatureWork, run_features
        axes = tuple(range(self.ndim))
        _, passes, network = compiled_passes(self.graph, image.shape, axes, around.modes)
        network = replace(network, at=(0,) * len(network.outputs))
        row = f"{self.work}_row" + ("" if self.work in COUNTED else f"_{self.ndim}")
        work = FeatureWork(row, self.numbers, self.accumulate, self.reduces)
        source = _native(image)
        found = run_features(source, out, passes, network, around.cval, work, dtype, around.threads)
        return np.max(found, keepdims=True).reshape(1) if out is None else found

    def _derivative(
        self, image: Array, orders: tuple[int, ...], dtype: np.dtype[Any], around: Surroundings
    ) -> Array:
        """Return one derivative of the image."""
        taps = [rows[order] for rows, order in zip(self.taps, orders, strict=True)]
        kernel: Any = (
            taps[0] if len(taps) == 1 else Factors.from_terms(filter_pattern(len(taps)), [taps])
        )
        return np.asarray(
            correlate(
                image, kernel, mode=around.modes, cval=around.cval, output=dtype,
                threads=around.threads, **(around.missing or {}),
            )
        )  # fmt: skip


def _native(image: Array) -> Array:
    """Return an image that the compiled engine reads: C-contiguous native numbers."""
    if image.dtype == bool:
        image = image.view(np.uint8)
    if image.dtype.kind == "f" and image.dtype.itemsize > 8:
        image = image.astype(np.float64)
    return np.ascontiguousarray(image, image.dtype.newbyteorder("="))
