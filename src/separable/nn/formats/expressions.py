"""Symbolic sizes of an exported program, checked before SymPy evaluates them as Python code."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection

__all__ = ["SYMBOL", "check_expression"]

LONGEST, DEEPEST, MOST_NODES = 1 << 16, 64, 4096
LARGEST = 1 << 65  # integers; sizes have 64 bits
LARGEST_POWER = 64  # the product of nested exponents
SYMBOL = re.compile(r"(?:s|u|i|f|zf|uf|zuf)\d{1,9}")
NUMBER = re.compile(r"[+-]?\d{1,40}(?:\.\d{0,40})?(?:[eE][+-]?\d{1,3})?")
ASSUMPTION = re.compile(r"[a-z_]{1,30}")
OPAQUE = re.compile(r"OpaqueUnaryFn_[a-z0-9_]{1,20}")
CONSTANTS = frozenset(("true", "false", "True", "False", "oo"))

# Functions that `sympy.srepr` and `str` write for sizes: arithmetic, comparisons and logic.
ARITHMETIC = frozenset((
    "Add", "Mul", "Mod", "Abs", "Max", "Min", "floor", "ceiling", "FloorDiv", "ModularIndexing",
    "PythonMod", "CleanDiv", "CeilDiv", "CeilToInt", "FloorToInt", "TruncToFloat", "TruncToInt",
    "RoundToInt", "RoundDecimal", "ToFloat", "IntTrueDiv", "FloatTrueDiv", "Identity", "Where",
    "IsNonOverlappingAndDenseIndicator",
))  # fmt: skip
COMPARISONS = frozenset((
    "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan",
    "StrictGreaterThan", "GreaterThan", "And", "Or", "Not",
))  # fmt: skip
POWERS = frozenset(("Pow", "PowByNatural", "FloatPow", "LShift", "RShift"))
BINARY = (
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr,
)  # fmt: skip
UNARY = (ast.UAdd, ast.USub, ast.Invert)
COMPARE = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def check_expression(text: str, symbols: Collection[str]) -> None:
    """Raise an error for a text that is more than arithmetic over declared symbols.

    Parameters
    ----------
    text : str
        Text such as ``Add(Symbol('s0', integer=True), Integer(1))`` or ``s0 + 1``.
    symbols : collection of str
        The symbols that the program declares.

    Raises
    ------
    ValueError
        If it is anything else, or would take long to evaluate.

    Examples
    --------
    >>> check_expression("2*s0 + 1", {"s0"})
    >>> check_expression("__import__('os').getcwd()", {"s0"})
    Traceback (most recent call last):
        ...
    ValueError: a size is given as "__import__('os').getcwd()"; expected arithmetic over s0
    """
    if not isinstance(text, str) or len(text) > LONGEST or not text.isascii():
        raise ValueError(f"a size is given as {str(text)[:60]!r}; expected a short expression")
    try:
        tree = ast.parse(text, mode="eval")
        if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
            raise ValueError
        _Checker(frozenset(symbols)).visit(tree.body, DEEPEST, LARGEST_POWER)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        known = ", ".join(sorted(symbols)[:8]) or "no symbols"
        raise ValueError(
            f'a size is given as "{text[:60]}"; expected arithmetic over {known}'
        ) from None


class _Checker:
    """Visitor of an expression that raises `ValueError` for anything unknown."""

    def __init__(self, symbols: frozenset[str]) -> None:
        self.symbols = symbols

    def visit(self, node: ast.expr, depth: int, power: int) -> None:
        if depth == 0:
            raise ValueError
        below = depth - 1
        match node:
            case ast.Constant(value=bool()):
                return
            case ast.Constant(value=int(value)) if abs(value) < LARGEST:
                return
            case ast.Constant(value=float()):
                return
            case ast.Name(id=name) if name in CONSTANTS or self._known(name):
                return
            case ast.UnaryOp(op=op, operand=operand) if isinstance(op, UNARY):
                self.visit(operand, below, power)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                self._power(left, right, below, power)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, BINARY):
                self.visit(left, below, power)
                self.visit(right, below, power)
            case ast.Compare(left=left, ops=ops, comparators=others) if all(
                isinstance(op, COMPARE) for op in ops
            ):
                for part in (left, *others):
                    self.visit(part, below, power)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                self._call(name, args, keywords, below, power)
            case _:
                raise ValueError

    def _known(self, name: str) -> bool:
        return name in self.symbols and SYMBOL.fullmatch(name) is not None

    def _call(
        self, name: str, args: list[ast.expr], keywords: list[ast.keyword], depth: int, power: int
    ) -> None:
        if name == "Symbol":
            self._symbol(args, keywords)
        elif name in ("Integer", "Rational"):
            if keywords or not all(_is_integer(a) for a in args):
                raise ValueError
        elif name == "Float":
            _check_float(args, keywords)
        elif name in POWERS and len(args) == 2:
            _no_keywords(keywords)
            self._power(args[0], args[1], depth, power)
        elif name in ARITHMETIC or name in COMPARISONS or OPAQUE.fullmatch(name):
            _no_keywords(keywords)
            for arg in args:
                self.visit(arg, depth, power)
        else:
            raise ValueError

    def _symbol(self, args: list[ast.expr], keywords: list[ast.keyword]) -> None:
        match args:
            case [ast.Constant(value=str(name))] if self._known(name):
                pass
            case _:
                raise ValueError
        for word in keywords:
            is_flag = isinstance(word.value, ast.Constant) and isinstance(word.value.value, bool)
            if word.arg is None or not ASSUMPTION.fullmatch(word.arg) or not is_flag:
                raise ValueError

    def _power(self, base: ast.expr, exponent: ast.expr, depth: int, power: int) -> None:
        """Bound exponents, also of powers of powers: 9**9**9 would fill the memory."""
        number = _integer(exponent)
        if number is None:  # a power of 2 or the like, with a symbol above
            self.visit(base, depth, 1)
            self.visit(exponent, depth, 1)
            if power == 1:
                raise ValueError
            return
        if abs(number) > power:
            raise ValueError
        self.visit(base, depth, power // max(1, abs(number)))


def _no_keywords(keywords: list[ast.keyword]) -> None:
    if keywords:
        raise ValueError


def _integer(node: ast.expr) -> int | None:
    """Return the value of ``3``, ``-3`` or ``Integer(-3)``."""
    match node:
        case ast.Call(func=ast.Name(id="Integer"), args=[inner], keywords=[]):
            return _integer(inner)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
    return None


def _is_integer(node: ast.expr) -> bool:
    value = _integer(node)
    return value is not None and abs(value) < LARGEST


def _check_float(args: list[ast.expr], keywords: list[ast.keyword]) -> None:
    match args:
        case [ast.Constant(value=str(text))] if NUMBER.fullmatch(text):
            pass
        case _:
            raise ValueError
    for word in keywords:
        value = _integer(word.value)
        if word.arg not in ("precision", "dps") or value is None or not 0 < value <= 128:
            raise ValueError
