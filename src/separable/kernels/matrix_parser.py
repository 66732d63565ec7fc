"""Kernels from numbers in text: typed, pasted from MATLAB or NumPy, in text and CSV files, as JSON."""

from __future__ import annotations

import cmath
import json
import re
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import KernelError

__all__ = ["is_matrix_text", "parse_matrix"]

Array = NDArray[Any]

# A text of numbers begins with one, behind brackets or the call of NumPy that made them.
CALL = r"(?:(?:np|numpy)\s*\.\s*)?(?:array|asarray|matrix)\s*\("
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
BEGIN = re.compile(rf"\s*(?:{CALL})?[\s\[({{]*{NUMBER}j?(?=[\s,;:/*\])}}]|$)")
FILE = re.compile(r"\.[A-Za-z]\w*\s*$")
OPERATION = re.compile(r"^[#%]\s*operation:\s*(correlate|convolve)\s*$", re.MULTILINE)
CALLED = re.compile(rf"{CALL}(.*?)(?:,\s*(?:dtype|np|numpy)\b[^\])}}]*)?\)\s*", re.DOTALL)
QUOTIENT = rf"\(?\s*{NUMBER}\s*(?:/\s*{NUMBER}\s*)?\)?"
BEFORE = re.compile(rf"({QUOTIENT})\s*\*\s*(?=[\[({{])(.*)", re.DOTALL)
AFTER = re.compile(rf"(.*[\])}}])\s*([*/])\s*({QUOTIENT})\s*", re.DOTALL)
TOKEN = re.compile(r"[\[\](){},;\n]|[^\s\[\](){},;]+")
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
CELL = re.compile(r"[-+]?\d+(?:,\d+)?")
LONGEST = 1 << 26  # characters
DEEPEST = 16  # nested brackets
SHOWN = 40  # characters of a wrong number in a message
EXAMPLE = "a kernel has numbers, such as 1 2 1; 2 4 2; 1 2 1"


def is_matrix_text(text: str) -> bool:
    """Return whether a text is meant as numbers and not as a name or a file.

    Examples
    --------
    >>> is_matrix_text("1 2 1; 2 4 2; 1 2 1"), is_matrix_text("-1,0,1"), is_matrix_text("box:3")
    (True, True, False)
    >>> is_matrix_text("np.array([[1, 2], [3, 4]])"), is_matrix_text("3x3.npy")
    (True, False)

    Names have neither semicolons nor brackets:

    >>> is_matrix_text("one 2; 3 4"), is_matrix_text("[]")
    (True, True)
    """
    meant = BEGIN.match(text) is not None or ";" in text or text.lstrip().startswith("[")
    return meant and FILE.search(text) is None


def parse_matrix(text: str) -> tuple[Array, str]:
    """Return the kernel that a text of numbers holds, and the operation that it names.

    Rows end with a semicolon or a line, planes of a volume with two semicolons or an empty line.
    Numbers are separated by spaces, tabs or commas; ``1/9`` is a number. Brackets may be there, as
    in MATLAB (``[1 2 1; 2 4 2]``), in NumPy (``np.array([[1, 2, 1], [2, 4, 2]])``, or as an array
    is printed), and a factor beside them (``1/16 * [...]``, ``[...] / 16``). Behind # or % is a
    comment. JSON holds nested lists, or an object with the key "kernel".

    Parameters
    ----------
    text : str

    Returns
    -------
    kernel : ndarray
        Integers if all numbers are, else float64 or complex128. One row gives shape ``(1, n)``,
        one row in brackets with commas ``(n,)``, as in NumPy.
    operation : str
        "correlate" or "convolve" if the text says it (``# operation: correlate``, or the key
        "operation" of JSON), else "".

    Raises
    ------
    KernelError
        If the text holds no numbers, something else, or rows or planes of different sizes.

    Examples
    --------
    >>> parse_matrix("1 2 1; 2 4 2; 1 2 1")[0].tolist()
    [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    >>> parse_matrix("[1 2 1; 2 4 2] / 2")[0].tolist()
    [[0.5, 1.0, 0.5], [1.0, 2.0, 1.0]]
    >>> parse_matrix('{"kernel": [[-1, 0, 1]], "operation": "correlate"}')
    (array([[-1,  0,  1]]), 'correlate')
    """
    if len(text) > LONGEST:
        raise KernelError(f"a kernel has at most {LONGEST} characters; got {len(text)}")
    stripped = text.lstrip("\ufeff \t\r\n")
    if re.match(r"\{\s*\"", stripped):  # an object of JSON; its lists are read as brackets
        return _from_json(stripped)
    named = OPERATION.search(text)
    kept = "\n".join(
        re.split("[#%]", line)[0].strip() for line in text.lstrip("\ufeff").splitlines()
    )
    _check_decimals(kept)
    scale, kept = _scale(kept.strip("\n"))
    values = _array(_bracketed(kept) if kept.lstrip()[:1] in ("[", "(", "{") else _planes(kept))
    return values if scale is None else values * scale, named[1] if named else ""


def _scale(text: str) -> tuple[float | None, str]:
    """Return the factor beside a bracketed matrix, or None, and the matrix."""
    scale = None
    if found := BEFORE.fullmatch(text):
        scale, text = _quotient(found[1]), found[2]
    if found := AFTER.fullmatch(text):
        own = _quotient(found[3])
        if found[2] == "/" and own == 0:
            raise KernelError(f"a kernel cannot be divided by 0; got {found[3]!r}")
        own = 1 / own if found[2] == "/" else own
        scale, text = own if scale is None else scale * own, found[1]
    if found := CALLED.fullmatch(text.strip()):
        text = found[1]
    return scale, text


def _quotient(text: str) -> float:
    top, _, bottom = text.strip("() \t\n").partition("/")
    if bottom and float(bottom) == 0:
        raise KernelError(f"a kernel cannot be divided by 0; got {text!r}")
    return float(top) / float(bottom or 1)


def _planes(text: str) -> list[Any]:
    """Return rows, or planes of rows, of numbers without brackets."""
    planes = []
    for plane in re.split(r";\s*;|\n[ \t]*\n", text):
        rows = [row for row in re.split(r"[;\n]", plane) if row.strip()]
        if rows:
            planes.append([_row(row, number) for number, row in enumerate(rows, 1)])
    if not planes:
        raise KernelError(f"{EXAMPLE}; got none")
    return planes if planes[1:] else planes[0]


def _check_decimals(text: str) -> None:
    """Raise an error if commas seem to be decimals, which would make two numbers of each."""
    lines = [line for line in text.splitlines() if line.strip()]
    cells = [[cell.strip() for cell in line.strip("; ").split(";")] for line in lines]
    # As tables are written where commas are decimals: 0,5;0,25 in each line.
    table = len(lines) > 1 and all(len(c) > 1 and all(map(CELL.fullmatch, c)) for c in cells)
    for number, row in enumerate(re.split(r"[;\n]", re.sub(r"[\[\](){}]", " ", text)), 1):
        words = row.split()
        apart = len(words) > 1 and all(DECIMAL_COMMA.fullmatch(word) for word in words)
        if apart or (table and words and DECIMAL_COMMA.fullmatch(words[0])):
            raise KernelError(
                f"row {number} seems to have commas as decimals; write {words[0].replace(',', '.')} for "
                f"{words[0]}, or spaces behind commas that separate numbers"
            )


def _row(text: str, number: int) -> list[Any]:
    words = [word for word in re.split(r"[\s,]+", text.strip(" ,\t")) if word]
    return [_number(word, number, place) for place, word in enumerate(words, 1)]


def _number(word: str, row: int, place: int) -> Any:
    try:
        if "/" in word:
            return float(Fraction(word))
        if re.fullmatch(r"[-+]?\d{1,18}", word):
            return int(word)
        value = complex(word) if word[-1:] in "jJ" else float(word)
    except (ValueError, ZeroDivisionError):
        raise KernelError(f"{EXAMPLE}; got {word[:SHOWN]!r} in row {row}, place {place}") from None
    if not cmath.isfinite(value):
        raise KernelError(
            f"the numbers of a kernel must be finite; got {word[:SHOWN]!r} in row {row}, place {place}"
        )
    return value


def _bracketed(text: str) -> list[Any]:
    """Return the lists that brackets make, as in MATLAB (rows end with ; or a line) and NumPy."""
    words = iter(TOKEN.findall(text.replace("...\n", " ")))
    next(words)
    found, open_brackets = _inside(words, 1, [1])
    if open_brackets or "".join(words).strip(" \n;,"):
        raise KernelError(f"the brackets of a kernel do not match in {_shown(text)}")
    return found


def _inside(words: Any, depth: int, row: list[int]) -> tuple[list[Any], int]:
    """Return what stands up to the closing bracket, and how many brackets stay open."""
    if depth > DEEPEST:
        raise KernelError(f"a kernel has at most {DEEPEST} brackets within each other")
    lists: list[Any] = []
    rows: list[list[Any]] = [[]]
    ends, commas = (";", "\n") if depth == 1 else (";",), False
    for word in words:
        if word in ("[", "(", "{"):
            inner, still_open = _inside(words, depth + 1, row)
            if still_open:
                return [], still_open
            lists.append(inner)
            row[0] += 1
        elif word in ("]", ")", "}"):
            rows = [own for own in rows if own]
            if lists and rows:
                raise KernelError(f"{EXAMPLE}; got numbers beside brackets in row {row[0]}")
            if not lists and not rows:
                raise KernelError(f"{EXAMPLE}; got empty brackets")
            one = len(rows) == 1 and (depth > 1 or commas)
            return (lists or (rows[0] if one else rows)), 0
        elif word in ends and not lists:
            if rows[-1]:
                rows.append([])
                row[0] += 1
        elif word == ",":
            commas = True
        elif word not in (";", "\n"):
            rows[-1].append(_number(word, row[0], len(rows[-1]) + 1))
    return [], depth


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def _from_json(text: str) -> tuple[Array, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as mistake:
        raise KernelError(f"a kernel in JSON cannot be read: {mistake}") from None
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
    if values.dtype.kind not in "iufc" or not values.size:
        raise KernelError(
            f"a kernel has rows and planes of one size and only numbers; got {_unequal(rows)}"
        )
    return values


def _unequal(rows: list[Any]) -> str:
    """Say which two rows or planes differ in size."""
    sizes = [len(row) if isinstance(row, list) else 0 for row in rows]
    other = next((n for n, size in enumerate(sizes) if size != sizes[0]), None)
    inner = next(
        (r for r in rows if isinstance(r, list) and any(isinstance(v, list) for v in r)), None
    )
    if other is not None:
        what, things = ("plane", "rows") if inner is not None else ("row", "numbers")
        return f"{sizes[0]} {things} in {what} 1 and {sizes[other]} in {what} {other + 1}"
    if inner is not None:
        wrong = next((r for r in rows if len({len(v) for v in r if isinstance(v, list)}) > 1), None)
        return _unequal(wrong) if wrong is not None else "others"
    return "others"
