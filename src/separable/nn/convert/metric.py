"""Metric: how much an error of each weight matters, as a product of one matrix a factor.

The error of a layer's output is ``trace((W - F) S (W - F)^T)`` with the second moment S of the
layer's input patches. Where S is a (Kronecker) product of moments of the letters of each factor,
weights times the roots of these moments have that error as their Frobenius norm: what is best for
them in the plain sense is best for the output. S is such a product for depthwise separable
layers, for there each channel's factorisation knows only its own patches; elsewhere it is the
nearest guess, with which a factorisation starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.nn.convert.axis_roles import Letters

__all__ = ["Metric"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Metric:
    """The roots of the moments of each factor's input letters.

    Attributes
    ----------
    letters : Letters
    roots : tuple of (str, ndarray) or None
        For each factor its own input letters, and the lower triangular root of their moment,
        ``(*batch, n, n)``.
    """

    letters: Letters
    roots: tuple[tuple[str, Array] | None, ...]

    @classmethod
    def of(cls, letters: Letters, moment: Array) -> Metric:
        """Take a second moment ``(groups, inputs, inputs)`` apart."""
        pattern = letters.scheme.pattern
        roots: list[tuple[str, Array] | None] = []
        for k in range(len(pattern.factors)):
            own = "".join(a for a in pattern.own(k) if a in letters.inputs)
            if not own:
                roots.append(None)
                continue
            part = letters.marginal(moment, own, pattern.batch)
            if any(roots):  # the first has the scale, of the others only the shape counts
                part = part / np.maximum(_mean_diagonal(part), np.finfo(float).tiny)
            roots.append((own, _root(part)))
        return cls(letters, tuple(roots))

    def weighted(self, kernel: Array) -> Array:
        """Return a kernel, one axis a letter, times the roots."""
        for part in self.roots:
            if part is not None:
                kernel = self._times(kernel, self.letters.scheme.pattern.letters, *part)
        return kernel

    def unweighted(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the arrays of the factors of a weighted kernel, the roots divided out."""
        found = []
        scheme = self.letters.scheme
        for operand, array, part in zip(scheme.operands, arrays, self.roots, strict=True):
            if part is None:
                found.append(array)
                continue
            own, root = part
            found.append(self._times(array, operand, own, np.linalg.inv(root)))
        return found

    def _times(self, array: Array, axes: str, own: str, root: Array) -> Array:
        """Multiply the axes of some letters by a matrix, for each batch value its own."""
        batch = self.letters.scheme.pattern.batch
        rest = "".join(a for a in axes if a not in own + batch)
        order = batch + rest + own
        moved = np.transpose(array, [axes.index(a) for a in order])
        lead = moved.shape[: len(batch)]
        flat = moved.reshape(*lead, -1, root.shape[-1]) @ root
        return np.transpose(flat.reshape(moved.shape), [order.index(a) for a in axes])


def _mean_diagonal(part: Array) -> Array:
    return np.asarray(np.trace(part, axis1=-2, axis2=-1)[..., None, None] / part.shape[-1])


def _root(part: Array) -> Array:
    """Lower triangular roots, of matrices that need not be quite positive definite."""
    jitter = np.maximum(1e-10 * _mean_diagonal(part), 1e-30)
    return np.linalg.cholesky(part + jitter * np.eye(part.shape[-1]))
