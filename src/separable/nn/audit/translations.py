"""Sums of translations: filters that a program writes with shifted copies of an image.

Each value is known as a weighted sum of translations of another one, as far as shifts, padding, slices,
scaling and additions go. The last value of such a chain is a filter, with the weights as its kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from separable.nn.audit.audit_data import Finding
from separable.nn.audit.impulse_probe import Filter, transform_finding

__all__ = ["Stencil", "Translations"]

MOST_TAPS = 2048  # longer sums are not followed
Number = Callable[[Tensor], int]
Offset = tuple[int, ...]
_ATEN = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Stencil:
    """Weighted sum of translations of a value.

    Attributes
    ----------
    base : int
        Number of the value.
    taps : mapping of tuple of int to float
        Weight of each translation: ``value[i]`` is the sum of ``weight * base[i + offset]``.
    operands : frozenset of int
        Numbers of the values from which it was computed.
    """

    base: int
    taps: Mapping[Offset, float]
    operands: frozenset[int] = frozenset()

    def moved(self, axis: int, by: int) -> Stencil:
        """Return the stencil with all offsets along an axis changed."""
        taps = {(*o[:axis], o[axis] + by, *o[axis + 1 :]): w for o, w in self.taps.items()}
        return Stencil(self.base, taps, self.operands)

    def scaled(self, factor: float) -> Stencil:
        """Return the stencil with all weights multiplied."""
        return Stencil(self.base, {o: factor * w for o, w in self.taps.items()}, self.operands)


class Translations:
    """Tracker of sums of translations in a running program."""

    def __init__(self) -> None:
        self._known: dict[int, Stencil] = {}
        self._used: set[int] = set()
        self._where: dict[int, tuple[str, str]] = {}

    def before(self, func: Any, args: Any, kwargs: Any, number: Number) -> Stencil | None:
        """Return the stencil of an operation's result, before it runs; None if it has none."""
        handler = _HANDLERS.get(func.overloadpacket)
        if handler is None or not args or not isinstance(args[0], Tensor):
            return None
        x = args[0]
        if x.dim() < 2 or not x.is_floating_point():
            return None
        others = [v for v in args[1:2] if isinstance(v, Tensor) and v.dim() > 0]
        if any(v.shape != x.shape for v in others):
            return None
        parts = [self._of(v, number) for v in (x, *others)]
        made = handler(parts, x, args[1:], kwargs)
        if made is None or len(made.taps) > MOST_TAPS:
            return None
        return Stencil(made.base, made.taps, frozenset(number(v) for v in (x, *others)))

    def after(self, made: Stencil, number: int, place: tuple[str, str]) -> None:
        """Note the number that the result got, and the module and line that computed it."""
        self._used |= made.operands - {number}
        if number not in self._known:
            self._known[number] = made
            self._where[number] = place

    def findings(self, skipped: Sequence[str]) -> list[Finding]:
        """Return the findings for the last values of chains, except in modules that are skipped."""
        found: dict[str, Finding] = {}
        for number, stencil in self._known.items():
            name, where = self._where[number]
            if number in self._used or len(stencil.taps) < 4 or name in skipped:
                continue
            kernel = _kernel(stencil)
            if kernel is None:
                continue
            title = " ".join(t for t in ("The sum of translations in", name, where) if t)
            finding = transform_finding(title, Filter(kernel[None], False, len(stencil.taps)))
            if finding is not None:
                found.setdefault(finding.text, finding)
        return list(found.values())

    def _of(self, tensor: Tensor, number: Number) -> Stencil:
        at = number(tensor)
        return self._known.get(at) or Stencil(at, {(0,) * tensor.dim(): 1.0})


def _kernel(stencil: Stencil) -> Any:
    """Return the weights as an array over the axes along which the offsets differ, or None."""
    offsets = np.array(list(stencil.taps))
    varying = np.flatnonzero(np.ptp(offsets, axis=0))
    if not 2 <= len(varying) <= 3:
        return None
    at = offsets[:, varying] - offsets[:, varying].min(axis=0)
    kernel = np.zeros(at.max(axis=0) + 1)
    kernel[tuple(at.T)] = list(stencil.taps.values())
    return kernel


# The operations.


def _roll(parts: list[Stencil], x: Tensor, args: Any, kwargs: Any) -> Stencil | None:
    shifts, dims = args[0], args[1] if len(args) > 1 else kwargs.get("dims", ())
    if not dims:
        return None
    made = parts[0]
    for shift, axis in zip(shifts, dims, strict=True):
        made = made.moved(axis % x.dim(), -int(shift))
    return made


def _pad(parts: list[Stencil], x: Tensor, args: Any, kwargs: Any) -> Stencil | None:
    made = parts[0]
    for at, before in enumerate(args[0][::2]):
        made = made.moved(x.dim() - 1 - at, -int(before))
    return made


def _slice(parts: list[Stencil], x: Tensor, args: Any, kwargs: Any) -> Stencil | None:
    axis, start, step = (args[0] if args else 0), (args[1] if len(args) > 1 else 0), 1
    if len(args) > 3:
        step = args[3]
    size = x.shape[axis]
    begin = 0 if start is None else min(start + size if start < 0 else start, size)
    return parts[0].moved(axis % x.dim(), int(begin)) if step == 1 else None


def _scalar(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value) if value.dim() == 0 and not value.is_complex() else None
    return float(value) if isinstance(value, (int, float)) else None


def _mul(parts: list[Stencil], x: Tensor, args: Any, kwargs: Any) -> Stencil | None:
    factor = _scalar(args[0])
    return None if factor is None else parts[0].scaled(factor)


def _div(parts: list[Stencil], x: Tensor, args: Any, kwargs: Any) -> Stencil | None:
    factor = _scalar(args[0])
    return None if not factor or kwargs.get("rounding_mode") else parts[0].scaled(1 / factor)


def _add(parts: list[Stencil], x: Tensor, args: Any, kwargs: Any) -> Stencil | None:
    return _sum(parts, float(kwargs.get("alpha", 1)), args)


def _sub(parts: list[Stencil], x: Tensor, args: Any, kwargs: Any) -> Stencil | None:
    return _sum(parts, -float(kwargs.get("alpha", 1)), args)


def _sum(parts: list[Stencil], factor: float, args: Any) -> Stencil | None:
    if len(parts) == 1:  # a constant is added
        return parts[0] if _scalar(args[0]) is not None else None
    first, second = parts
    if first.base != second.base:
        return None
    taps = dict(first.taps)
    for offset, weight in second.taps.items():
        taps[offset] = taps.get(offset, 0.0) + factor * weight
    return Stencil(first.base, taps)


def _negative(parts: list[Stencil], x: Tensor, args: Any, kwargs: Any) -> Stencil | None:
    return parts[0].scaled(-1.0)


_HANDLERS: dict[Any, Callable[[list[Stencil], Tensor, Any, Any], Stencil | None]] = {
    _ATEN.roll: _roll,
    _ATEN.constant_pad_nd: _pad,
    _ATEN.reflection_pad1d: _pad,
    _ATEN.reflection_pad2d: _pad,
    _ATEN.reflection_pad3d: _pad,
    _ATEN.replication_pad1d: _pad,
    _ATEN.replication_pad2d: _pad,
    _ATEN.replication_pad3d: _pad,
    _ATEN.slice: _slice,
    _ATEN.mul: _mul,
    _ATEN.mul_: _mul,
    _ATEN.div: _div,
    _ATEN.div_: _div,
    _ATEN.add: _add,
    _ATEN.add_: _add,
    _ATEN.sub: _sub,
    _ATEN.sub_: _sub,
    _ATEN.neg: _negative,
}
