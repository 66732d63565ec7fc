"""Kernels as numbers in text: typed on the command line, in text and CSV files, and as JSON."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import KernelError

__all__ = ["is_matrix_text", "matrix_json", "matrix_text", "parse_matrix"]

Array = NDArray[Any]

MATRIX = re.compile(r"\s*[\[({]*\s*[-+.]?\d[\s\d.,;:+\-eE/\[\](){}]*")
OPERATION = re.compile(r"^#\s*operation:\s*(correlate|convolve)\s*$", re.MULTILINE)
LONGEST = 1 << 26  # characters
SHOWN = 40  # characters of a wrong number in a message


def is_matrix_text(text: str) -> bool:
    """Return whether a text consists of numbers and not of a name.

    Examples
    --------
    >>> is_matrix_text("1 2 1; 2 4 2; 1 2 1"), is_matrix_text("-1,0,1"), is_matrix_text("box:3")
    (True, True, False)
    """
    return MATRIX.fullmatch(text) is not None


def parse_matrix(text: str) -> tuple[Array, str]:
    """Return the kernel that a text holds, and the operation that it names.

    Rows end with a semicolon or a line, planes of a volume with two semicolons or an empty line.
    Numbers are separated by spaces, tabs or commas; ``1/9`` is a number. Lines that begin with #
    are comments. JSON holds nested lists, or an object with the key "kernel".

    Parameters
    ----------
    text : str

    Returns
    -------
    kernel : ndarray
        Integers if all numbers are, else float64. One row gives shape ``(1, n)``.
    operation : str
        "correlate" or "convolve" if the text says it (``# operation: correlate``, or the key
        "operation" of JSON), else "".

    Raises
    ------
    KernelError
        If the text holds no numbers, or rows or planes of different sizes.

    Examples
    --------
    >>> parse_matrix("1 2 1; 2 4 2; 1 2 1")[0].tolist()
    [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    >>> parse_matrix('{"kernel": [[-1, 0, 1]], "operation": "correlate"}')
    (array([[-1,  0,  1]]), 'correlate')
    """
    if len(text) > LONGEST:
        raise KernelError(f"a kernel has at most {LONGEST} characters; got {len(text)}")
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith(("{", "[")):
        return _from_json(stripped)
    named = OPERATION.search(text)
    lines = (line.split("#")[0].strip() for line in text.lstrip("\ufeff").splitlines())
    kept = "\n".join(lines)
    planes = []
    for plane in re.split(r";\s*;|\n[ \t]*\n", kept):
        rows = [_row(row) for row in re.split(r"[;\n]", plane) if row.strip()]
        if rows:
            planes.append(rows)
    if not planes:
        raise KernelError("a kernel has numbers, such as 1 2 1; 2 4 2; 1 2 1; got none")
    values = _array(planes if planes[1:] else planes[0])
    return values, named[1] if named else ""


def _row(text: str) -> list[Any]:
    return [_number(word) for word in re.split(r"[\s,]+", text.strip(" ,\t")) if word]


def _number(word: str) -> Any:
    try:
        if "/" in word:
            return float(Fraction(word))
        return int(word) if re.fullmatch(r"[-+]?\d{1,18}", word) else float(word)
    except (ValueError, ZeroDivisionError):
        raise KernelError(
            f"a kernel has numbers, such as 1 2 1; 2 4 2; 1 2 1; got {word[:SHOWN]!r}"
        ) from None


def _from_json(text: str) -> tuple[Array, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as mistake:
        raise KernelError(f"a kernel in JSON cannot be read: {mistake}") from None
    operation = ""
    if isinstance(found, dict):
        operation, found = found.get("operation", ""), found.get("kernel")
        if operation not in ("", "correlate", "convolve"):
            raise KernelError(
                f'"operation" of a kernel in JSON must be correlate or convolve; got {operation!r}'
            )
    if not isinstance(found, list):
        raise KernelError(
            'a kernel in JSON is nested lists of numbers, or an object with the key "kernel"; got '
            f"{type(found).__name__}"
        )
    return _array(found), operation


def _array(rows: list[Any]) -> Array:
    try:
        values = np.array(rows)
    except ValueError:
        values = np.empty(0, object)
    if values.dtype.kind not in "iuf" or not values.size:
        lengths = sorted({len(row) for row in rows if isinstance(row, list)})
        sizes = f"rows of {' and '.join(map(str, lengths))} numbers" if lengths[1:] else "others"
        raise KernelError(f"a kernel has rows and planes of one size and only numbers; got {sizes}")
    return values


def matrix_text(kernel: Array, operation: str) -> str:
    """Return the text that `parse_matrix` reads a real kernel of 1 to 3 axes from.

    Examples
    --------
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


def matrix_json(kernel: Array, name: str, operation: str) -> str:
    """Return a kernel as JSON, which `parse_matrix` reads.

    Examples
    --------
    >>> matrix_json(np.array([1, 2, 1]), "binomial:3", "correlate")
    '{"name": "binomial:3", "shape": [3], "operation": "correlate", "kernel": [1, 2, 1]}'
    """
    if kernel.dtype.kind == "c":
        raise KernelError(f"a kernel as JSON is real; got {kernel.dtype}. Write it as .npy")
    return json.dumps(
        {
            "name": name,
            "shape": list(kernel.shape),
            "operation": operation,
            "kernel": kernel.tolist(),
        }
    )


def _shown(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.17g}"
