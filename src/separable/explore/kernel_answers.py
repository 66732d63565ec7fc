"""Answers about one kernel: its numbers, singular values, terms and verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from separable.cost import count_kernel
from separable.explore.limits import InputError
from separable.explore.uploads import check_kernel
from separable.factorize import factorize, spectrum
from separable.factors import Factors, kernel_errors
from separable.kernels import parse
from separable.kernels.matrix_parser import parse_matrix
from separable.pattern import filter_pattern

__all__ = ["Chosen", "choose", "describe"]

Array = NDArray[Any]

SHOWN_TERMS = 32
SHOWN_VALUES = 64


@dataclass(frozen=True)
class Chosen:
    """A kernel, its name, and whether it is correlated or convolved.

    Attributes
    ----------
    name : str
    values : ndarray
    operation : str
        "correlate" for named and drawn kernels, "convolve" for files.
    """

    name: str
    values: Array
    operation: str


class SupportsGet(Protocol):
    """Anything that returns an uploaded array by its name."""

    def get(self, name: str) -> Array:
        """Return the array of this name."""


def choose(asked: Any, store: SupportsGet) -> Chosen:
    """Return the kernel of a request: by name, as text of numbers, by its values, or uploaded."""
    if not isinstance(asked, dict):
        raise InputError("`kernel` must say spec, text, values or upload")
    if "spec" in asked:
        text = str(asked["spec"])[:200]
        parsed = parse(text, asked.get("ndim"))
        dense = parsed.dense() if isinstance(parsed, Factors) else np.asarray(parsed)
        return Chosen(text, check_kernel(dense), "correlate")
    if "text" in asked:
        values, operation = parse_matrix(str(asked["text"]))
        return Chosen("typed kernel", check_kernel(values), operation or "correlate")
    if "values" in asked:
        try:
            values = np.array(asked["values"])
        except ValueError:
            raise InputError("every row of the kernel must have the same length") from None
        return Chosen("drawn kernel", check_kernel(_as_integers(values)), "correlate")
    if "upload" in asked:
        return Chosen(
            str(asked.get("name", "uploaded kernel"))[:80],
            store.get(str(asked["upload"])),
            "convolve",
        )
    raise InputError("`kernel` must say spec, text, values or upload")


def _as_integers(values: Array) -> Array:
    """Return whole numbers as integers, whose factors are integers too."""
    if (
        values.dtype.kind == "f"
        and np.all(np.abs(values) < 2**31)
        and np.all(values == values // 1)
    ):
        return values.astype(np.int64)
    return values


def describe(chosen: Chosen) -> dict[str, Any]:
    """Return everything that the page shows about a kernel, as JSON values."""
    values = chosen.values
    found: dict[str, Any] = {
        "name": chosen.name,
        "operation": chosen.operation,
        "shape": list(values.shape),
        "values": values.tolist(),
        "sum": float(values.sum()),
    }
    if values.ndim == 1:
        verdict = "The kernel has one axis: a single pass, nothing to separate."
        return {**found, "pattern": "", "rank": 1, "verdict": verdict, "terms": [], "spectrum": [],
                "errors": [], "bounds": [], "multiplications": {"dense": values.size, "nonzero": int(np.count_nonzero(values)), "passes": [], "sentence": ""}}  # fmt: skip
    pattern = filter_pattern(values.ndim)
    spectral = spectrum(values, pattern)
    factors = factorize(values, pattern)
    terms = factors.terms[:SHOWN_TERMS]
    letters = list(factors.pattern.factors)
    rank = spectral.rank
    sums = [sum(len(v) for v in t) for t in terms]
    return {
        **found,
        "pattern": str(factors.pattern),
        "rank": rank,
        "verdict": _verdict(values, rank, spectral.errors),
        "letters": letters,
        "terms": [[v.astype(float).tolist() for v in t] for t in terms],
        "spectrum": spectral.values[: min(SHOWN_VALUES, rank)].tolist(),
        "errors": spectral.errors[: min(SHOWN_VALUES, rank) + 1].tolist(),
        "bounds": _bounds(values, terms),
        "multiplications": {
            "dense": int(values.size),
            "nonzero": int(np.count_nonzero(values)),
            "passes": np.cumsum(sums).astype(int).tolist(),
            "sentence": count_kernel(values, rank).sentence,
        },
    }


def _bounds(values: Array, terms: tuple[tuple[Array, ...], ...]) -> list[float]:
    """Return the relative 1-norm error of the sum of the first 0, 1, 2 ... terms."""
    total: Array = np.zeros(values.shape)
    bounds = [kernel_errors(values, total)[1]]
    for term in terms:
        product = term[0]
        for v in term[1:]:
            product = np.multiply.outer(product, v)
        total = total + product
        bounds.append(kernel_errors(values, total)[1])
    return [b if np.isfinite(b) else 0.0 for b in bounds]


def _verdict(values: Array, rank: int, errors: Array) -> str:
    vectors = "a column and a row" if values.ndim == 2 else f"{values.ndim} vectors, one per axis"
    if rank == 0:
        return "The kernel is zero everywhere."
    if rank == 1:
        return f"Separable: it is exactly the product of {vectors}."
    return (
        f"Not separable: it is the sum of {rank} products of {vectors}. "
        f"The best single product has an error of {errors[1]:.1%} (Frobenius norm)."
    )
