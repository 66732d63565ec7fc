"""Plans as JSON values, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.factors import Factors
from separable.pattern import parse
from separable.plan.candidates import Candidate

__all__ = [
    "array_from_list",
    "array_to_list",
    "candidate_to_dict",
    "factors_from_dict",
    "factors_to_dict",
    "number_from_json",
    "number_to_json",
]

Array = NDArray[Any]


def candidate_to_dict(c: Candidate) -> dict[str, Any]:
    """Return a candidate as JSON values, without its decomposition."""
    names = ("name", "method", "rank", "passes", "multiplications", "bytes", "seconds", "bound")
    values: dict[str, Any] = {n: number_to_json(getattr(c, n)) for n in names}
    return {**values, "refused": c.refused}


def number_to_json(value: Any) -> Any:
    """Return a number as JSON, which has neither NaN nor infinity nor complex numbers."""
    if isinstance(value, complex):
        return {"complex": [number_to_json(value.real), number_to_json(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def number_from_json(value: Any) -> Any:
    """Return the number that `number_to_json` wrote."""
    if isinstance(value, dict) and "complex" in value:
        real, imag = value["complex"]
        return complex(number_from_json(real), number_from_json(imag))
    if isinstance(value, dict) and "float" in value:
        return float(value["float"])
    return value


def array_to_list(array: Array) -> Any:
    """Return an array as nested lists; a complex one as those of its two parts."""
    if array.dtype.kind == "c":
        return [array.real.tolist(), array.imag.tolist()]
    return array.tolist()


def array_from_list(values: Any, dtype: str) -> Array:
    """Return the array that `array_to_list` wrote."""
    kind = np.dtype(dtype)
    if kind.kind == "c":
        array = np.empty(np.shape(values[0]), kind)
        array.real, array.imag = values  # a sum would turn -0.0 into 0.0
        return array
    return np.array(values, dtype=kind)


def factors_to_dict(factors: Factors) -> dict[str, Any]:
    """Return factors as JSON values."""
    return {
        "pattern": str(factors.pattern),
        "arrays": [array_to_list(a) for a in factors.arrays],
        "shapes": [list(a.shape) for a in factors.arrays],
        "dtypes": [str(a.dtype) for a in factors.arrays],
        "error": number_to_json(factors.error),
        "bound": number_to_json(factors.bound),
        "ranks": {bond: array_to_list(r) for bond, r in factors.ranks.items()},
        "sizes": dict(factors.sizes),
    }


def factors_from_dict(values: dict[str, Any]) -> Factors:
    """Return the factors that `factors_to_dict` wrote."""
    described = zip(values["arrays"], values["dtypes"], values["shapes"], strict=True)
    return Factors(
        parse(values["pattern"]),
        tuple(array_from_list(a, dtype).reshape(shape) for a, dtype, shape in described),
        number_from_json(values["error"]),
        number_from_json(values["bound"]),
        {bond: np.array(r) for bond, r in values["ranks"].items()},
        values["sizes"],
    )
