"""Factors of a layer that give the wanted outputs, in closed form.

Let S be the second moment of the layer's input patches, and C their cross moment with the wanted
outputs. The best dense weights are ``T = (C + r W)(S + r)^-1``, where the ridge r pulls them towards
the trained weights W in directions that the data does not determine. Any other weights F add
``trace((F - T)(S + r)(F - T)^T)`` to the error of T, so T is factorised with the weight S + r.

1. A singular value decomposition weighted by a `Metric`, exact for each channel alone.
2. The factor of the outputs is fitted to all channels together by linear least squares.
3. In depthwise separable layers, the factors of one channel after the other are fitted given all
   other channels, again by a weighted decomposition. In spatially separable depthwise layers, one
   factor of each filter after the other is fitted by least squares. Each sweep lowers the error.

Step 1: if S is a (Kronecker) product of moments of the letters of each factor, the error is the
Frobenius norm of the weights times the roots of these moments. S is such a product for depthwise
separable layers, where each channel's factorisation sees its own patches alone; elsewhere the
product is an approximation with which the fit starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.lowering.lower import lower
from separable.lowering.scheme import Scheme
from separable.nn.convert.axis_roles import Letters
from separable.nn.convert.covariances import Moments
from separable.nn.convert.decompose import decomposed, multiplied
from separable.nn.convert.normal_equations import filter_equations, solved

__all__ = ["FitTarget", "fit", "fit_target", "matrices", "metric_of"]

Array = NDArray[Any]

ROUNDING = (
    1e-12  # relative to the mean square of inputs: rounding of the variance of constant inputs
)
UNKNOWNS = 128  # weights per filter; larger factors are fitted only if they are the smallest
SCARCE = 4.0  # chosen by fits to 4 to 64 small images


@dataclass(frozen=True, eq=False)
class FitTarget:
    """Weights that a factorisation approximates, and the metric of its error.

    Attributes
    ----------
    target : ndarray, shape (groups, outputs, inputs)
    weight : ndarray, shape (groups, inputs, inputs)
        Positive definite.
    """

    target: Array
    weight: Array


def fit_target(weights: Array, moments: Moments, ridge: float) -> FitTarget:
    """Return the best dense weights for the moments, and the metric around them.

    Parameters
    ----------
    weights : ndarray, shape (groups, outputs, inputs)
        The trained weights.
    moments : Moments
    ridge : float
        Regularisation relative to the mean variance of an input. It grows with the square of
        inputs over positions, because moments of few positions are unreliable.
    """
    n = weights.shape[-1]
    ridge *= 1 + SCARCE * (n / max(moments.count, 1)) ** 2
    mean = np.trace(moments.patches, axis1=1, axis2=2)[:, None, None] / n
    whole = mean + np.mean(moments.patch_mean**2, axis=1)[:, None, None]
    r = np.maximum(ridge * mean, ROUNDING * whole)
    r = np.where(r > 0, r, 1.0)  # all inputs are 0: keep the trained weights
    weight = moments.patches + r * np.eye(n)
    right = moments.cross + r * weights
    target = np.stack([solved(s, c.T).T for s, c in zip(weight, right, strict=True)])
    return FitTarget(target, weight)


def metric_of(letters: Letters, aim: FitTarget) -> Metric:
    """Return the metric of the first step of a fit."""
    return Metric.of(letters, aim.weight)


def fit(scheme: Scheme, aim: FitTarget, sweeps: int) -> tuple[Scheme, list[Array]]:
    """Fit factors to a target.

    Parameters
    ----------
    scheme : Scheme
        Layer, pattern and ranks.
    aim : FitTarget
    sweeps : int
        Number of passes of step 3 over all channels.

    Returns
    -------
    scheme : Scheme
        The scheme, with ranks raised where groups must be even.
    arrays : list of ndarray
        One array per factor.
    """
    letters = Letters(scheme)
    scheme, _ = lower(scheme)
    # Step 1: a weighted decomposition.
    metric = metric_of(letters, aim)
    kernel = metric.weighted(letters.kernel(aim.target)).reshape(scheme.kernel_shape)
    arrays = metric.unweighted(decomposed(scheme, kernel))
    # Step 2: the factor with the outputs, all channels together.
    arrays = _refitted(letters, scheme, arrays, aim)
    # Step 3: channel by channel.
    if sweeps and _is_depthwise(letters):
        arrays = _swept(letters, scheme, arrays, aim, sweeps)
        arrays = _refitted(letters, scheme, arrays, aim)
    # Step 3 for filters with factors of their own: one factor after the other.
    order = _by_size(letters, scheme) if sweeps and _has_filters(letters) else []
    for k in order * sweeps if len(order) > 1 else ():
        arrays = _filter_factor(letters, scheme, arrays, aim, k)
    return scheme, arrays


def matrices(scheme: Scheme, arrays: Sequence[Array]) -> Array:
    """Multiply factors out to matrices (groups, outputs, inputs)."""
    return Letters(scheme).matrix(multiplied(scheme, arrays))


def _is_depthwise(letters: Letters) -> bool:
    """Return True if each channel has two factors of its own."""
    pattern = letters.scheme.pattern
    batch = [a for a in pattern.batch if a != letters.group]
    return (
        len(pattern.factors) == 2
        and pattern.has_one_bond
        and len(batch) > 0
        and all(a in letters.inputs for a in batch)
        and pattern.own(0) == letters.outputs
    )


# Step 2.


def _refitted(letters: Letters, scheme: Scheme, arrays: list[Array], aim: FitTarget) -> list[Array]:
    """Fit one factor by least squares while the others stay fixed."""
    pattern = scheme.pattern
    owners = [
        k for k in range(len(arrays)) if letters.outputs and letters.outputs in pattern.own(k)
    ]
    if owners:
        return _output_factor(letters, scheme, arrays, aim, owners[0])
    if _has_filters(letters):
        return _filter_factor(letters, scheme, arrays, aim, _by_size(letters, scheme)[-1])
    return arrays


def _output_factor(
    letters: Letters, scheme: Scheme, arrays: list[Array], aim: FitTarget, owner: int
) -> list[Array]:
    """Fit the factor of the outputs, which are linear in the features that the others compute.

    Features are indexed by the owner's input and batch letters L and its bonds m. The features
    share the letters L with the inputs, so they are block diagonal in L.
    """
    g, operand = letters.group, scheme.operands[owner]
    lead = "".join(a for a in letters.inputs if a in operand)  # L
    rest = "".join(a for a in letters.inputs if a not in operand)  # M
    bonds = "".join(a for a in operand if a in scheme.bonds)  # m
    others = [k for k in range(len(arrays)) if k != owner]
    known = "".join(a for a in lead if any(a in scheme.operands[k] for k in others))
    result = g + known + bonds + rest
    subscripts = ",".join(scheme.operands[k] for k in others) + "->" + result
    made = np.einsum(subscripts, *(arrays[k] for k in others), optimize=len(others) > 2)
    sizes = (
        letters.count(g),
        letters.count(lead),
        scheme_count(scheme, bonds),
        letters.count(rest),
    )
    shape = [scheme.size(a) if a in known else 1 for a in lead]
    made = made.reshape(sizes[0], *shape, sizes[2], sizes[3])
    full = [scheme.size(a) for a in lead]
    made = np.broadcast_to(made, (sizes[0], *full, *sizes[2:])).reshape(sizes)  # (g, L, m, M)

    moment = letters.permuted(aim.weight, lead)  # (g, L, M, L, M)
    target = _input_order(letters, aim.target, lead)  # (g, o, L * M)
    found = []
    for q, s, t in zip(made, moment, target, strict=True):
        count, m, tail = q.shape
        weighted = (q @ s.reshape(count, tail, -1)).reshape(count * m, count, tail)
        normal = np.matmul(weighted.transpose(1, 0, 2), q.transpose(0, 2, 1))  # (L', Lm, m')
        normal = normal.transpose(1, 0, 2).reshape(count * m, count * m)
        right = (weighted.reshape(count * m, -1) @ t.T).T  # (o, L * m)
        kept = np.flatnonzero(np.abs(q).sum(axis=2).ravel() > 0)
        solution = np.zeros_like(right)
        if len(kept):
            solution[:, kept] = solved(normal[np.ix_(kept, kept)], right[:, kept].T).T
        found.append(solution)
    given = g + letters.outputs + lead + bonds
    whole = np.stack(found).reshape([scheme.size(a) for a in given])
    new = list(arrays)
    new[owner] = np.transpose(whole, [given.index(a) for a in operand])
    return _balanced(scheme, new)


def _has_filters(letters: Letters) -> bool:
    """Return True if each output has factors of its own, as in a separated depthwise layer."""
    pattern = letters.scheme.pattern
    return pattern.has_one_bond and set(pattern.batch) == set(letters.group + letters.outputs)


def _by_size(letters: Letters, scheme: Scheme) -> list[int]:
    """Return the factors that may be fitted, the smallest last: it, and all of `UNKNOWNS` or fewer."""
    counts = [
        letters.count(scheme.pattern.own(k)) * scheme.size(scheme.bonds)
        for k in range(len(scheme.operands))
    ]
    limit = max(UNKNOWNS, min(counts))
    return sorted((k for k, n in enumerate(counts) if n <= limit), key=lambda k: (-counts[k], -k))


def _filter_factor(
    letters: Letters, scheme: Scheme, arrays: list[Array], aim: FitTarget, fitted: int
) -> list[Array]:
    """Fit one factor of each output while the others stay fixed."""
    g, outputs, bond = letters.group, letters.outputs, scheme.bonds
    lead = scheme.pattern.own(fitted)
    rest = "".join(a for a in letters.inputs if a not in lead)
    others = [k for k in range(len(arrays)) if k != fitted]
    subscripts = ",".join(scheme.operands[k] for k in others) + "->" + g + outputs + bond + rest
    held = np.einsum(subscripts, *(arrays[k] for k in others))
    filters = letters.count(outputs)
    q = held.reshape(letters.count(g), filters, scheme.size(bond), -1)  # (g, o, m, M)
    moments = letters.permuted(aim.weight, lead)  # (g, L, M, L, M)
    targets = _input_order(letters, aim.target, lead)  # (g, o, L * M)
    count, tail = moments.shape[1:3]
    found = np.zeros((len(q), filters, count, q.shape[2]))
    for group, (moment, target) in enumerate(zip(moments, targets, strict=True)):
        product = (target @ moment.reshape(count * tail, -1)).reshape(-1, count, tail)
        flat = np.ascontiguousarray(moment.transpose(1, 0, 2, 3)).reshape(tail, -1)
        for part, normals, right in filter_equations(q[group], product, flat):
            for o, normal, wanted in zip(range(*part), normals, right, strict=True):
                kept = np.flatnonzero(np.abs(q[group, o]).sum(axis=1) > 0)
                if len(kept):
                    size = count * len(kept)
                    matrix = normal[:, kept][..., kept].reshape(size, size)
                    best = solved(matrix, wanted[:, kept].ravel())
                    found[group, o][:, kept] = best.reshape(count, -1)
    given = g + outputs + lead + bond
    whole = found.reshape([scheme.size(a) for a in given])
    new = list(arrays)
    new[fitted] = np.transpose(whole, [given.index(a) for a in scheme.operands[fitted]])
    return _balanced(scheme, new)


def _input_order(letters: Letters, matrix: Array, first: str) -> Array:
    """Return matrices (g, o, inputs) with some input letters first."""
    rest = "".join(a for a in letters.inputs if a not in first)
    split = matrix.reshape(*matrix.shape[:2], *letters.shape(letters.inputs))
    order = [2 + letters.inputs.index(a) for a in first + rest]
    return np.ascontiguousarray(np.transpose(split, [0, 1, *order])).reshape(matrix.shape)


def scheme_count(scheme: Scheme, letters: str) -> int:
    """Return the number of values that letters have together."""
    return int(np.prod([scheme.size(a) for a in letters], initial=1))


# Step 3.


def _swept(
    letters: Letters, scheme: Scheme, arrays: list[Array], aim: FitTarget, sweeps: int
) -> list[Array]:
    """Fit the factors of one channel after the other while all other channels stay fixed."""
    lead = "".join(a for a in scheme.pattern.batch if a != letters.group)
    g, bond = letters.group, scheme.bonds
    ranks = scheme.ranks[bond].reshape(letters.count(g), -1)
    moment = letters.permuted(aim.weight, lead)
    target = _input_order(letters, aim.target, lead)
    dense = _input_order(letters, matrices(scheme, arrays), lead)
    outs, ins = [], []
    for group, (s, t, f) in enumerate(zip(moment, target, dense, strict=True)):
        out, into = _sweep_group(s, t, f, ranks[group], scheme.size(bond), sweeps)
        outs.append(out)
        ins.append(into)
    rest = "".join(a for a in letters.inputs if a not in lead)
    new = []
    for operand, stack, own in zip(
        scheme.operands, (np.stack(outs), np.stack(ins)), (letters.outputs, rest), strict=True
    ):
        given = g + lead + own + bond
        whole = stack.reshape([scheme.size(a) for a in given])
        new.append(np.transpose(whole, [given.index(a) for a in operand]))
    return _balanced(scheme, new)


def _sweep_group(
    s: Array, target: Array, dense: Array, ranks: Array, width: int, sweeps: int
) -> tuple[Array, Array]:
    """Return the factors of one group, ``(c, o, R)`` and ``(c, taps, R)``."""
    count, taps = s.shape[:2]
    outs = np.zeros((count, len(target), width))
    ins = np.zeros((count, taps, width))
    columns = np.ascontiguousarray(s.transpose(2, 0, 1, 3)).reshape(count, -1, taps)
    # all small matrices are inverted at once, which is far faster than one solve each
    roots = np.linalg.cholesky(np.stack([s[c, :, c] for c in range(count)]))
    inverses = np.linalg.inv(roots)
    difference = dense - target
    for _ in range(sweeps):
        for c in range(count):
            block = slice(c * taps, (c + 1) * taps)
            pull = difference @ columns[c]  # (o, taps)
            weighted = dense[:, block] @ roots[c] - pull @ inverses[c].T
            basis = np.linalg.eigh(weighted.T @ weighted)[1][:, ::-1][:, : ranks[c]]
            outs[c, :, : ranks[c]] = weighted @ basis
            ins[c, :, : ranks[c]] = inverses[c].T @ basis
            new = outs[c] @ ins[c].T
            difference[:, block] += new - dense[:, block]
            dense[:, block] = new
    return outs, ins


# Scaling.


def _balanced(scheme: Scheme, arrays: list[Array]) -> list[Array]:
    """Scale both factors of each term to the same norm; in other patterns, whole factors."""
    if len(arrays) == 2 and scheme.pattern.has_one_bond:
        letters = scheme.pattern.batch + scheme.bonds
        norms = []
        for operand, a in zip(scheme.operands, arrays, strict=True):
            axes = tuple(i for i, letter in enumerate(operand) if letter not in letters)
            norms.append(np.sqrt(np.sum(a**2, axis=axes, keepdims=True)))
        known = [a for a in scheme.operands[0] if a in letters]
        other = [a for a in scheme.operands[1] if a in letters]
        flat = [
            np.squeeze(n, tuple(i for i, a in enumerate(o) if a not in letters))
            for n, o in zip(norms, scheme.operands, strict=True)
        ]
        second = np.transpose(flat[1], [other.index(a) for a in known])
        share = np.sqrt(
            np.divide(second, flat[0], out=np.ones_like(second), where=(flat[0] > 0) & (second > 0))
        )
        back = np.transpose(share, [known.index(a) for a in other])
        return [
            arrays[0] * share.reshape(norms[0].shape),
            arrays[1] / back.reshape(norms[1].shape),
        ]
    sizes = [float(np.linalg.norm(a)) for a in arrays]
    if not all(sizes):
        return arrays
    mean = float(np.exp(np.mean(np.log(sizes))))
    return [a * (mean / n) for a, n in zip(arrays, sizes, strict=True)]


# The metric of step 1.


@dataclass(frozen=True)
class Metric:
    """Square roots of the moments of each factor's input letters.

    Attributes
    ----------
    letters : Letters
    roots : tuple of (str, ndarray) or None
        The input letters of each factor, and the lower triangular root of their moment,
        ``(*batch, n, n)``; None for a factor without input letters.
    """

    letters: Letters
    roots: tuple[tuple[str, Array] | None, ...]

    @classmethod
    def of(cls, letters: Letters, moment: Array) -> Metric:
        """Compute the roots from a second moment ``(groups, inputs, inputs)``."""
        pattern = letters.scheme.pattern
        roots: list[tuple[str, Array] | None] = []
        for k in range(len(pattern.factors)):
            own = "".join(a for a in pattern.own(k) if a in letters.inputs)
            if not own:
                roots.append(None)
                continue
            part = letters.marginal(moment, own, pattern.batch)
            if any(roots):  # only the first root carries the scale
                part = part / np.maximum(_mean_diagonal(part), np.finfo(float).tiny)
            roots.append((own, _root(part)))
        return cls(letters, tuple(roots))

    def weighted(self, kernel: Array) -> Array:
        """Return a kernel, one axis per letter, times the roots."""
        for part in self.roots:
            if part is not None:
                kernel = self._times(kernel, self.letters.scheme.pattern.letters, *part)
        return kernel

    def unweighted(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the factors of a weighted kernel times the inverse roots."""
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
        """Multiply the axes of some letters by a matrix, one matrix per batch value."""
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
    """Return lower triangular roots of matrices that are positive definite up to rounding."""
    jitter = np.maximum(1e-10 * _mean_diagonal(part), 1e-30)
    return np.linalg.cholesky(part + jitter * np.eye(part.shape[-1]))
