"""Kernels as text: rows of numbers and JSON, which `matrix_parser` reads again."""

from __future__ import annotations

import json
from typing import Any

from numpy.typing import NDArray

from separable.errors import KernelError
from separable.factors import Factors

__all__ = ["matrix_json", "matrix_text"]

Array = NDArray[Any]


def matrix_text(kernel: Array, operation: str) -> str:
    """Return the text that `parse_matrix` reads a real kernel of 1 to 3 axes from.

    Examples
    --------
    >>> import numpy as np
    >>> print(matrix_text(np.array([[-1, 0, 1]]), "correlate"))
    # operation: correlate
    -1 0 1
    """
    if kernel.ndim > 3 or kernel.dtype.kind == "c":
        raise KernelError(
            f"a kernel as text is real and has at most 3 axes; got {kernel.ndim} axes of "
            f"{kernel.dtype}. Write it as JSON or .npy"
        )
    planes = kernel.reshape((-1, *kernel.shape[-2:])) if kernel.ndim > 1 else kernel[None, None]
    text = "\n\n".join(
        "\n".join(" ".join(_shown(v) for v in row) for row in plane) for plane in planes
    )
    return f"# operation: {operation}\n{text}"


def matrix_json(kernel: Array, name: str, operation: str, factors: Factors | None = None) -> str:
    """Return a kernel as JSON, which `parse_matrix` reads, and its factors if they are given.

    Examples
    --------
    >>> import numpy as np
    >>> matrix_json(np.array([1, 2, 1]), "binomial:3", "correlate")
    '{"name": "binomial:3", "shape": [3], "operation": "correlate", "kernel": [1, 2, 1]}'
    """
    if kernel.dtype.kind == "c":
        raise KernelError(f"a kernel as JSON is real; got {kernel.dtype}. Write it as .npy")
    found: dict[str, Any] = {
        "name": name,
        "shape": list(kernel.shape),
        "operation": operation,
        "kernel": kernel.tolist(),
    }
    if factors is not None:
        found |= {
            "pattern": str(factors.pattern),
            "rank": factors.rank,
            "error": factors.error,
            "factors": [a.tolist() for a in factors.arrays],
        }
    return json.dumps(found)


def _shown(value: Any) -> str:
    return (
        str(int(value))
        if float(value).is_integer() and abs(float(value)) < 1e15
        else f"{value:.17g}"
    )
