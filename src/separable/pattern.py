"""Patterns: texts that name a factorisation, and their parser. No arrays are involved.

A pattern is written like an einsum: the kernel's axes in memory order, an arrow, the factors::

    yx -> y,x                spatial, 2-D
    zyx -> z,y,x             spatial, 3-D
    lyx -> l,yx              spatial-spectral
    ocyx -> oc,cyx           depthwise separable (c is a batch letter)
    ocyx -> oR,RyxS,Sc       Tucker-2 (R and S are bonds)
    (Yy)(Xx) -> YX,yx        Kronecker product (groups: one kernel axis split into two)

* A letter in one factor is an axis of that factor.
* A letter of the kernel in every factor is a *batch* letter: the factorisation is done
  independently for each of its values.
* A capital that appears only on the right is a *bond* and is summed over. If none is written, one
  bond joins all factors; its size is the rank.
* A group ``(Yy)`` is one kernel axis split into two; the outer (first) letter varies slowly.
* The short form ``y,x`` stands for ``yx -> y,x``: the kernel's axes in order of first appearance.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from separable.errors import ArgumentTypeError, PatternError
from separable.value import Value

__all__ = ["Pattern", "filter_pattern", "kronecker_pattern", "parse"]

ARROW = "->"
NO_ARROW = (
    "the pattern has no arrow `->`: write the kernel's axes, an arrow and the factors, for example "
    "`yx -> y,x`; or the factors alone, `y,x`"
)
SPARE_BONDS = "RSTUVWABDEFGHIJKLMNOPQXYZ"  # names for the bond that was not written


@dataclass(frozen=True, eq=False)
class Pattern(Value):
    """Factorisation of a kernel: the axes of the kernel and of each factor.

    Attributes
    ----------
    axes : tuple of str
        Axes of the kernel in memory order, one string each; a group has several letters, the slow
        one first.
    factors : tuple of str
        Letters of each factor as written (without a bond if none is written).

    Examples
    --------
    >>> p = parse("ocyx -> oc,cyx")
    >>> p.batch, p.bonds, p.operands
    ('c', 'R', ('Roc', 'Rcyx'))
    >>> parse("(Yy)(Xx)->YX,yx").axes
    ('Yy', 'Xx')
    """

    axes: tuple[str, ...]
    factors: tuple[str, ...]

    def __str__(self) -> str:
        left = "".join(axis if len(axis) == 1 else f"({axis})" for axis in self.axes)
        return f"{left} {ARROW} {','.join(self.factors)}"

    @property
    def letters(self) -> str:
        """All letters of the kernel, in memory order."""
        return "".join(self.axes)

    @property
    def ndim(self) -> int:
        """Number of axes that a kernel must have."""
        return len(self.axes)

    @cached_property
    def batch(self) -> str:
        """Letters of the kernel that appear in every factor, in memory order."""
        return "".join(a for a in self.letters if all(a in f for f in self.factors))

    @cached_property
    def written_bonds(self) -> str:
        """Letters that appear only on the right, in order of appearance."""
        right = dict.fromkeys("".join(self.factors))
        return "".join(a for a in right if a not in self.letters)

    @cached_property
    def bonds(self) -> str:
        """Letters that are summed over: those written, or the one that joins all factors."""
        if self.written_bonds:
            return self.written_bonds
        return next(a for a in SPARE_BONDS if a not in self.letters)

    @cached_property
    def operands(self) -> tuple[str, ...]:
        """Letters of the array of each factor: as written, or with the unwritten bond in front."""
        if self.written_bonds:
            return self.factors
        return tuple(self.bonds + f for f in self.factors)

    @property
    def has_one_bond(self) -> bool:
        """True if a single bond joins all factors, so that the kernel is a sum of terms."""
        return len(self.bonds) == 1 and all(self.bonds in f for f in self.operands)

    @property
    def has_groups(self) -> bool:
        """True if some axis of the kernel is a group, as in a Kronecker product."""
        return any(len(axis) > 1 for axis in self.axes)

    @property
    def einsum(self) -> str:
        """Subscripts with which `numpy.einsum` multiplies the factors."""
        return f"{','.join(self.operands)}{ARROW}{self.letters}"

    def own(self, factor: int) -> str:
        """Return the letters that belong only to one factor: neither batch letters nor bonds."""
        return "".join(a for a in self.factors[factor] if a not in self.batch and a in self.letters)

    def sizes(
        self, shape: tuple[int, ...], given: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Return the size of every kernel letter for a kernel of this shape.

        Parameters
        ----------
        shape : tuple of int
            Shape of the kernel.
        given : mapping of letter to int, optional
            Sizes of group letters; one letter of each group may be omitted.

        Raises
        ------
        PatternError
            If the number of axes differs, a group's sizes are missing or do not divide its axis.

        Examples
        --------
        >>> parse("(Yy)(Xx) -> YX,yx").sizes((6, 6), {"y": 3, "X": 3})
        {'Y': 2, 'y': 3, 'X': 3, 'x': 2}
        """
        given = dict(given or {})
        if len(shape) != self.ndim:
            raise PatternError(
                f"pattern `{self}` needs a kernel of {self.ndim} axes; "
                f"got kernel shape {shape}, {len(shape)} axes"
            )
        unknown = sorted(set(given) - set(self.letters))
        if unknown:
            raise PatternError(f"`sizes` names {unknown}, which are in no axis of `{self}`")
        found: dict[str, int] = {}
        for axis, n in zip(self.axes, shape, strict=True):
            found.update(_split(axis, n, given, self, shape))
        return found


def _split(
    axis: str, n: int, given: Mapping[str, int], pattern: Pattern, shape: tuple[int, ...]
) -> dict[str, int]:
    """Split the size `n` of one kernel axis among the letters of its group."""
    known = {a: int(given[a]) for a in axis if a in given}
    missing = [a for a in axis if a not in given]
    product = 1
    for size in known.values():
        product *= size
    if len(axis) == 1 and not known:
        return {axis: n}
    if len(missing) > 1:
        divisor = next((d for d in range(2, n) if n % d == 0), n)
        raise PatternError(
            f"group `({axis})` of `{pattern}` has an axis of {n} to share among its letters; "
            f"give all but one of their sizes, for instance sizes={{{missing[-1]!r}: {divisor}}}"
        )
    if product <= 0 or (missing and n % product) or (not missing and n != product):
        raise PatternError(
            f"group `({axis})` of `{pattern}`: the sizes {known} do not divide its axis of {n}; "
            f"kernel shape {shape}"
        )
    if missing:
        known[missing[0]] = n // product
    return {a: known[a] for a in axis}


# Step 1: read the text; Step 2: check what each letter does; Step 3: check that the bonds join up.


def parse(text: str, shape: tuple[int, ...] | None = None) -> Pattern:
    """Read a pattern.

    Parameters
    ----------
    text : str
        Such as ``"ocyx -> oc,cyx"``, or the short form ``"y,x"``. Spaces are ignored.
    shape : tuple of int, optional
        Shape of the kernel, only shown in messages.

    Returns
    -------
    Pattern

    Raises
    ------
    PatternError
        If the text is not a pattern. The message has a caret under the wrong letter and, if there is
        one, the pattern that was probably meant.

    Examples
    --------
    >>> str(parse("y,x"))
    'yx -> y,x'
    >>> parse("ocyx -> ox,cky")
    Traceback (most recent call last):
        ...
    separable.errors.PatternError: axis `k` is not in the kernel and appears in only one factor
      ocyx -> ox,cky
                  ^
    Did you mean "ocyx -> ox,cy"?
    """
    if not isinstance(text, str):
        raise ArgumentTypeError(f"`pattern` must be a string such as 'yx -> y,x'; got {text!r}")
    source = _Source(text, shape)
    if ARROW in text:
        left, _, right = text.partition(ARROW)
        if ARROW in right:
            raise source.error("a pattern has one arrow", text.rindex(ARROW))
        axes = _read_axes(source, left)
        factors = _read_factors(source, right, len(left) + len(ARROW))
    else:
        _check_short_form(source)
        factors = _read_factors(source, text, 0)
        axes = _axes_of_short_form(source, factors)
    pattern = Pattern(axes, factors)
    _check_letters(source, pattern)
    _check_bonds(source, pattern)
    return pattern


@dataclass(frozen=True)
class _Source:
    """Text that is being read, for messages that point at a position in it."""

    text: str
    shape: tuple[int, ...] | None

    def error(self, message: str, at: int, meant: str | None = None) -> PatternError:
        lines = [message, f"  {self.text}", f"  {' ' * at}^"]
        last = []
        if self.shape is not None:
            last.append(f"kernel shape {self.shape}.")
        if meant:
            last.append(f'Did you mean "{meant}"?')
        return PatternError("\n".join([*lines, " ".join(last)] if last else lines))

    def right(self, letter: str) -> int:
        """Return the position at which `letter` last appears to the right of the arrow."""
        return self.text.rindex(letter)


def _read_axes(source: _Source, left: str) -> tuple[str, ...]:
    axes: list[str] = []
    group: str | None = None
    opened = 0
    seen: set[str] = set()
    for at, char in enumerate(left):
        if char.isspace():
            continue
        if char == "(" and group is None:
            group, opened = "", at
        elif char == ")" and group:
            axes.append(group)
            group = None
        elif not (char.isalpha() and char.isascii()):
            right = source.text.partition(ARROW)[2]
            swapped = _if_valid(f"{right} {ARROW} {left}") if char == "," else None
            raise source.error(
                f"`{char}` is not allowed here: expected a letter or a group", at, swapped
            )
        elif char in seen:
            raise source.error(f"axis `{char}` appears twice in the kernel", at)
        else:
            seen.add(char)
            if group is None:
                axes.append(char)
            else:
                group += char
    if group is not None:
        raise source.error("this group is not closed", opened)
    if not axes:
        raise source.error("the kernel has no axes", 0, "yx -> y,x")
    return tuple(axes)


def _read_factors(source: _Source, right: str, start: int) -> tuple[str, ...]:
    factors = [""]
    for at, char in enumerate(right, start):
        if char.isspace():
            continue
        if char == ",":
            if not factors[-1]:
                raise source.error("a factor is empty", at)
            factors.append("")
        elif not (char.isalpha() and char.isascii()):
            raise source.error(f"`{char}` is not allowed here: expected a letter or a comma", at)
        elif char in factors[-1]:
            raise source.error(f"axis `{char}` appears twice in one factor", at)
        else:
            factors[-1] += char
    if not factors[-1]:
        raise source.error("a factor is empty", max(0, len(source.text) - 1))
    if len(factors) == 1:
        raise source.error("a pattern needs two factors or more, separated by commas", start)
    return tuple(factors)


def _check_short_form(source: _Source) -> None:
    """Refuse a text without an arrow that is not a list of factors either, and say what is expected."""
    text = source.text
    other = re.search(r"[^\sA-Za-z,]+", text)  # another arrow, or a group
    before, _, after = text.strip().partition(" ")
    meant = None
    if other and "(" not in other[0]:
        meant = _if_valid(f"{text[: other.start()]} {ARROW} {text[other.end() :]}")
    elif after:
        meant = _if_valid(f"{before} {ARROW} {after}")
    elif not other and "," not in text:
        meant = _if_valid(f"{text} {ARROW} {','.join(text.strip())}")
    if other or meant or "," not in text:
        raise source.error(NO_ARROW, other.start() if other else 0, meant)


def _if_valid(text: str) -> str | None:
    """Return a pattern in its usual spelling, or None if the text is not one."""
    try:
        return str(parse(text))
    except PatternError:
        return None


def _axes_of_short_form(source: _Source, factors: tuple[str, ...]) -> tuple[str, ...]:
    letters = "".join(factors)
    for letter in letters:
        if letters.count(letter) > 1:
            full = f"{''.join(dict.fromkeys(letters))} {ARROW} {','.join(factors)}"
            first = f"{factors[0]} {ARROW} {','.join(factors[1:])}"
            raise source.error(
                f"axis `{letter}` appears twice: write the kernel's axes before an arrow",
                source.right(letter),
                _if_valid(full) or _if_valid(first),
            )
    return tuple(letters)


def _check_letters(source: _Source, pattern: Pattern) -> None:
    """Check that every letter is an axis of one factor, a batch letter or a bond."""
    for letter in pattern.letters:
        count = sum(letter in f for f in pattern.factors)
        if count == 0:
            at = source.text.index(letter)
            raise source.error(f"axis `{letter}` of the kernel is not in any factor", at)
        if 1 < count < len(pattern.factors):
            raise source.error(
                f"axis `{letter}` appears in {count} of {len(pattern.factors)} factors: "
                "a batch letter appears in all of them, an axis in one",
                source.right(letter),
            )
    for letter in pattern.written_bonds:
        if sum(letter in f for f in pattern.factors) == 1:
            raise source.error(
                f"axis `{letter}` is not in the kernel and appears in only one factor",
                source.right(letter),
                _without(pattern, letter),
            )
        if letter.islower():
            raise source.error(
                f"`{letter}` is not in the kernel: a bond is written as a capital",
                source.right(letter),
            )


def _without(pattern: Pattern, letter: str) -> str | None:
    """Return the pattern without this letter, or None if that is not a valid pattern."""
    factors = tuple(f.replace(letter, "") for f in pattern.factors)
    return _if_valid(str(Pattern(pattern.axes, factors)))


def _check_bonds(source: _Source, pattern: Pattern) -> None:
    """Check that the written bonds are one bond for all factors, or form a tree.

    Successive singular value decompositions can factorise a tree; a ring of bonds has no best
    approximation in general (de Silva and Lim, 2008, doi:10.1137/06066518X).
    """
    for k, factor in enumerate(pattern.factors):
        if not pattern.written_bonds and not pattern.own(k):
            raise source.error(
                f"factor `{factor}` has no axis of its own", source.right(factor[-1])
            )
    if not pattern.written_bonds or pattern.has_one_bond:
        return
    joined = list(range(len(pattern.factors)))
    for bond in pattern.written_bonds:
        ends = [k for k, f in enumerate(pattern.factors) if bond in f]
        if len(ends) != 2:
            raise source.error(
                f"bond `{bond}` joins {len(ends)} factors: expected two, or one bond for all",
                source.right(bond),
            )
        first, second = joined[ends[0]], joined[ends[1]]
        if first == second:
            raise source.error(
                f"bond `{bond}` closes a ring: the bonds must form a tree", source.right(bond)
            )
        joined = [first if j == second else j for j in joined]
    if len(set(joined)) > 1:
        loose = next(k for k in range(len(joined)) if joined[k] != joined[0])
        raise source.error(
            f"factor `{pattern.factors[loose]}` shares no bond with the first one",
            source.right(pattern.factors[loose][-1]),
        )


def filter_pattern(ndim: int) -> str:
    """Return the pattern that separates all axes of a filter kernel.

    Examples
    --------
    >>> filter_pattern(3)
    'zyx -> z,y,x'
    """
    letters = "tzyx"[-ndim:] if ndim <= 4 else string.ascii_lowercase[:ndim]
    return f"{letters} -> {','.join(letters)}"


def kronecker_pattern(ndim: int) -> str:
    """Return the pattern of Kronecker products of a filter kernel of at most three axes.

    Examples
    --------
    >>> kronecker_pattern(2)
    '(Yy)(Xx) -> YX,yx'
    """
    outer, inner = "ZYX"[-ndim:], "zyx"[-ndim:]
    axes = "".join(f"({a}{b})" for a, b in zip(outer, inner, strict=True))
    return f"{axes} -> {outer},{inner}"
