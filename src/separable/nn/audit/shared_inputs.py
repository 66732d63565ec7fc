"""Banks: several convolutions of one input, which passes they could share, and what that saves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.factorize import factorize
from separable.nn.audit.audit_data import Finding
from separable.nn.audit.kernel_forms import rounding
from separable.nn.audit.observed_calls import ObservedConv
from separable.nn.convert.trace import dense_multiplications
from separable.pattern import Pattern

__all__ = ["bank_findings"]

Array = NDArray[Any]
LARGEST = 4  # lines are tried as multiples of 1 / 1 .. 1 / LARGEST of their smallest element
MOST_TERMS = 3  # a kernel of higher rank is not worth separate passes


@dataclass(frozen=True, eq=False)
class _Member:
    """Convolution of a bank, with the 1-D factors of its kernels.

    Attributes
    ----------
    convolution : ObservedConv
    terms : list of tuple of ndarray
        Terms of all its kernels that differ, one vector per axis.
    """

    convolution: ObservedConv
    terms: list[tuple[Array, ...]]


def bank_findings(convolutions: Sequence[ObservedConv]) -> list[Finding]:
    """Return a finding for each input that several separable filters read.

    Filters are those that read one channel each: depthwise layers and layers of one channel.
    """
    groups: dict[Any, list[ObservedConv]] = {}
    for found in convolutions:
        spec = found.spec
        if found.reason or spec.in_channels != spec.groups or len(set(found.values)) != 1:
            continue
        if sum(k > 1 for k in spec.kernel_size) < 2 or max(spec.stride) > 1:
            continue
        key = (found.values[0], spec.ndim, spec.in_channels, len(found.values))
        groups.setdefault(key, []).append(found)
    made = []
    for members in groups.values():
        if len(members) > 1:
            finding = _finding(members)
            if finding is not None:
                made.append(finding)
    return made


def _finding(convolutions: Sequence[ObservedConv]) -> Finding | None:
    members = [m for c in convolutions if (m := _member(c)) is not None]
    if len(members) < 2:
        return None
    alone = sum(len(_normalised(v)) for m in members for term in m.terms for v in term)
    together, shared = _passes(members)
    common = _common_passes(members)
    if common and common[0] <= together:
        together, shared = common
    dense = sum(_dense_taps(m.convolution) for m in members)
    before = sum(dense_multiplications(m.convolution.spec, m.convolution.shapes) for m in members)
    if together >= dense:
        return None
    names = tuple(m.convolution.title for m in members)
    saved = f", {alone - together} of them saved by sharing" if together < alone else ""
    text = (
        f"{_joined(names)} filter the same input one after the other. Their kernels have "
        f"{_ranks(members)}: as 1-D passes they need {together} multiplications per output "
        f"position together{saved}, instead of {dense}.{shared} `separable.bank` runs them as one, "
        f"on arrays and tensors; so does one layer with the kernels as its filters and the pattern "
        f"'{_pattern(members)}'."
    )
    return Finding("bank", names, text, int(before), round(before * together / dense))


def _member(convolution: ObservedConv) -> _Member | None:
    """Return the distinct kernels of a convolution as terms, or None if one is not separable."""
    weight = convolution.weight.astype(np.float64)
    kernels = weight.reshape(-1, *convolution.spec.kernel_size)
    distinct: list[Array] = []
    tolerance = rounding(convolution.dtype)
    for kernel in kernels:
        if not kernel.any():
            continue
        if not any(np.abs(kernel - k).max() <= tolerance * np.abs(k).max() for k in distinct):
            distinct.append(kernel)
    letters = "zyx"[-convolution.spec.ndim :]
    pattern = Pattern(tuple(letters), tuple(letters))
    terms = []
    for kernel in distinct:
        factors = factorize(kernel, pattern, tol=tolerance)
        count = factors.arrays[0].shape[0]
        if count > MOST_TERMS or count * sum(kernel.shape) >= kernel.size:
            return None
        terms += [tuple(a[r] for a in factors.arrays) for r in range(count)]
    return _Member(convolution, terms) if terms else None


def _passes(members: Sequence[_Member]) -> tuple[int, str]:
    """Return the multiplications per output position if equal first passes run once, and a sentence.

    The axis that is filtered first is the one for which the fewest multiplications remain.
    """
    terms = [term for m in members for term in m.terms]
    letters = "zyx"[-len(terms[0]) :]
    best: tuple[int, str] | None = None
    for axis, letter in enumerate(letters):
        distinct: list[Array] = []
        for term in terms:
            line = _normalised(term[axis])
            if not any(_equal(d, line) for d in distinct):
                distinct.append(line)
        count = sum(map(len, distinct))
        count += sum(len(_normalised(v)) for term in terms for j, v in enumerate(term) if j != axis)
        said = ""
        if len(distinct) < len(terms):
            said = f" {len(terms)} terms need {len(distinct)} passes along {letter}."
        if best is None or count < best[0]:
            best = count, said
    assert best is not None
    return best


def _common_passes(members: Sequence[_Member]) -> tuple[int, str] | None:
    """Return the same for kernels with a common divisor, such as the smoothing in a Sobel pair.

    Convolution of lines is multiplication of polynomials, so that a pass that all kernels contain
    is the greatest common divisor of their lines. It is computed exactly, for whole numbers only.
    """
    terms = [term for m in members for term in m.terms]
    if any(len(m.terms) > 1 for m in members) or len(terms) < 2:
        return None
    count, words = 0, []
    for axis, letter in enumerate("zyx"[-len(terms[0]) :]):
        lines = [_whole(_normalised(term[axis])) for term in terms]
        if any(line is None for line in lines):
            return None
        divisor = lines[0]
        for line in lines[1:]:
            divisor = _divisor(divisor, line)  # type: ignore[arg-type]
        assert divisor is not None
        shorter = len(divisor) - 1
        count += sum(len(line) - shorter for line in lines if line is not None)
        if shorter:
            count += len(divisor)
            words.append(f"[{' '.join(str(v) for v in _primitive(divisor))}] along {letter}")
    if not words:
        return None
    return count, f" All of them contain {' and '.join(words)}, a pass that can run once for all."


def _whole(line: Array) -> list[Fraction] | None:
    """Return a line scaled to small whole numbers, or None if it is not a multiple of such."""
    for unit in range(1, LARGEST + 1):
        scaled = line / np.abs(line[np.abs(line) > 1e-6]).min() * unit
        if np.abs(scaled - scaled.round()).max() <= 1e-3 and np.abs(scaled).max() < 1e4:
            return [Fraction(int(v)) for v in scaled.round()]
    return None


def _divisor(first: list[Fraction], second: list[Fraction]) -> list[Fraction]:
    """Return the greatest common divisor of two polynomials, by Euclid's algorithm."""
    while any(second):
        rest = list(first)
        while len(rest) >= len(second):
            factor = rest[0] / second[0]
            rest = [v - factor * (second[i] if i < len(second) else 0) for i, v in enumerate(rest)][
                1:
            ]
        while rest and not rest[0]:
            rest = rest[1:]
        first, second = second, rest
    return first


def _primitive(line: list[Fraction]) -> list[int]:
    """Return a line scaled to whole numbers without a common factor."""
    scale = math.lcm(*(v.denominator for v in line))
    whole = [int(v * scale) for v in line]
    sign = 1 if whole[0] > 0 else -1
    return [sign * v // math.gcd(*whole) for v in whole]


def _normalised(line: Array) -> Array:
    """Scale a line to norm 1 with a positive largest element, and cut zeros at its ends."""
    used = np.flatnonzero(np.abs(line) > 1e-9 * np.abs(line).max())
    cut = line[used[0] : used[-1] + 1]
    scaled: Array = cut / (np.linalg.norm(cut) * np.sign(cut[np.argmax(np.abs(cut))]))
    return scaled


def _equal(first: Array, second: Array) -> bool:
    return first.shape == second.shape and bool(
        min(np.abs(first - second).max(), np.abs(first + second).max()) <= 1e-5
    )


def _dense_taps(convolution: ObservedConv) -> int:
    kernels = convolution.weight.reshape(-1, *convolution.spec.kernel_size)
    return int(len(np.unique(kernels.round(12), axis=0)) * np.prod(convolution.spec.kernel_size))


def _ranks(members: Sequence[_Member]) -> str:
    counts = sorted({len(m.terms) for m in members})
    if len(counts) == 1:
        return f"rank {counts[0]}"
    return f"ranks {counts[0]} to {counts[-1]}"


def _pattern(members: Sequence[_Member]) -> str:
    letters = "zyx"[-members[0].convolution.spec.ndim :]
    return f"o{letters} -> {','.join('o' + a for a in letters)}"


def _joined(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{names[0]}, {names[1]} and {len(names) - 2} more convolutions"
    return f"{', '.join(names[:-1])} and {names[-1]}"
