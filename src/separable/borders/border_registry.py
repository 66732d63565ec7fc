"""The registry of border modes: from the names that users type to `Border` objects."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterable

import numpy as np

from separable.borders.border_modes import (
    CONSTANT,
    MIRROR,
    NEAREST,
    OUTSIDE,
    REFLECT,
    WRAP,
    Border,
    Mode,
    Modes,
)
from separable.errors import ArgumentError, ArgumentTypeError, ModeError

__all__ = [
    "cache_key",
    "canonical",
    "canonical_modes",
    "mode_names",
    "register_border",
    "registered_borders",
    "registry_version",
    "unregister_border",
]

_BUILT_IN = (REFLECT, MIRROR, NEAREST, WRAP, CONSTANT)
OUTPUT_REGIONS = ("same", "valid", "full")  # which other libraries call modes
_borders: dict[str, Border] = {}  # by names and aliases, in the order of registration
_version = 0  # the number of changes of `_borders`


def register_border(border: Border) -> Border:
    """Add a border mode, so that `mode` takes its name wherever this package takes one.

    Parameters
    ----------
    border : Border
        The mode. It is tried on short lines first.

    Returns
    -------
    Border
        The same.

    Raises
    ------
    ArgumentTypeError
        If `border` is not a `Border`.
    ArgumentError
        If a name is missing, taken or cannot be typed, `help` or `picture` is missing, or `extension`
        does not return a valid index map.

    Examples
    --------
    >>> class FarEdge(Border):
    ...     name, help = "far-edge", "the last sample on the left, the first one on the right"
    ...     picture = "d d d d | a b c d | a a a a"
    ...     def extension(self, n, before, after):
    ...         return np.r_[np.full(before, n - 1), np.arange(n), np.zeros(after, int)]
    >>> border = register_border(FarEdge())
    >>> import separable as sep
    >>> sep.correlate([1.0, 0, 0, 5], [1, 1, 1], mode="far-edge")
    array([6., 1., 5., 6.])
    >>> unregister_border(border)
    """
    if not isinstance(border, Border):
        raise ArgumentTypeError(f"`border` must be a Border; got {border!r}")
    for fact in ("name", "help", "picture"):
        if not isinstance(getattr(border, fact, None), str):
            raise ArgumentError(
                f"a border mode must have a `{fact}`; {type(border).__name__} has none"
            )
    names = (border.name, *border.aliases)
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            raise ArgumentError(
                f"the name of a border mode must be lower-case letters, digits, - and _; got {name!r}"
            )
        if name in _borders:
            raise ArgumentError(f"there is a border mode {name!r} already; unregister it first")
    for n in (1, 4):
        _check_extension(border, n)
    global _version
    _borders.update(dict.fromkeys(names, border))
    _version += 1
    return border


def unregister_border(border: Mode) -> None:
    """Remove a border mode that `register_border` added.

    Parameters
    ----------
    border : Border or str
        The mode, or its name or an alias. All its names are removed.

    Raises
    ------
    ArgumentError
        If it is not registered, or is one of the package.

    Examples
    --------
    >>> class Edge(Border):
    ...     name, help, picture = "edge", "the sample at the edge", "a a | a b c d | d d"
    ...     def extension(self, n, before, after):
    ...         return np.arange(-before, n + after).clip(0, n - 1)
    >>> unregister_border(register_border(Edge()))
    >>> "edge" in mode_names()
    False
    """
    global _version
    known = _borders.get(border if isinstance(border, str) else border.name)
    if known is None or not (isinstance(border, str) or border == known):
        raise ArgumentError(f"`border` must be a registered border mode; got {border!r}")
    if known in _BUILT_IN:
        raise ArgumentError(f"the border mode {known.name!r} of the package cannot be removed")
    for name in (known.name, *known.aliases):
        del _borders[name]
    _version += 1


def _check_extension(border: Border, n: int) -> None:
    """Try an index map on a line of `n` samples, with more positions outside than inside."""
    before, after = 2 * n + 1, 3 * n + 2
    found = np.asarray(border.extension(n, before, after))
    least = OUTSIDE if border.fills else 0
    if (
        found.shape != (before + n + after,)
        or found.dtype.kind not in "iu"
        or found[before : before + n].tolist() != list(range(n))
        or not least <= found.min() <= found.max() < n
    ):
        raise ArgumentError(
            f"`extension({n}, {before}, {after})` of the border mode {border.name!r} must return "
            f"{before + n + after} integers within {least} .. {n - 1}, of which those from {before} on "
            f"are {', '.join(map(str, range(n)))}; got {found.tolist()}"
        )


for _border in _BUILT_IN:
    register_border(_border)


def registered_borders() -> tuple[Border, ...]:
    """Return all border modes, the built-in ones first.

    Examples
    --------
    >>> [border.name for border in registered_borders()]
    ['reflect', 'mirror', 'nearest', 'wrap', 'constant']
    """
    return tuple(dict.fromkeys(_borders.values()))


def registry_version() -> int:
    """Return a number that changes with every registration: a part of the key of a cache.

    Examples
    --------
    >>> registry_version() >= len(registered_borders())
    True
    """
    return _version


def cache_key(mode: Modes) -> Hashable:
    """Return a value that differs if modes do and is hashed quickly: the names of registered modes.

    It is valid as long as `registry_version` stays the same.

    Examples
    --------
    >>> cache_key((WRAP, NEAREST)), cache_key("reflect")
    (('wrap', 'nearest'), 'reflect')
    """
    if isinstance(mode, (tuple, list)):
        return tuple(map(cache_key, mode))
    if isinstance(mode, Border) and _borders.get(mode.name) is mode:
        return mode.name
    return mode


def mode_names() -> tuple[str, ...]:
    """Return every name that `mode` takes, aliases included, in alphabetical order.

    Examples
    --------
    >>> mode_names()[:3]
    ('constant', 'grid-constant', 'grid-mirror')
    """
    return tuple(sorted(_borders))


def canonical(mode: Mode) -> Border:
    """Return the border mode with this name; a `Border` is returned unchanged.

    Parameters
    ----------
    mode : str or Border
        A name, an alias, or the mode itself.

    Raises
    ------
    ModeError
        If there is no such mode; the message lists all names and suggests the nearest one.

    Examples
    --------
    >>> canonical("grid-wrap")
    <Border wrap>
    """
    if isinstance(mode, Border):
        return mode
    if isinstance(mode, str) and mode in _borders:
        return _borders[mode]
    near = difflib.get_close_matches(str(mode), _borders, n=1)
    hint = f'. Did you mean "{near[0]}"?' if near else ""
    if isinstance(mode, str) and mode in OUTPUT_REGIONS:
        hint = f". To choose the region of the result give `output_region` {mode}"
    raise ModeError(f"`mode` must be one of {', '.join(mode_names())}; got {mode!r}{hint}")


def canonical_modes(mode: Modes, ndim: int) -> tuple[Border, ...]:
    """Return one border mode for each of `ndim` filtered axes.

    Parameters
    ----------
    mode : str, Border, or sequence of str or Border
        One mode for all axes, or one per axis.
    ndim : int
        The number of filtered axes.

    Raises
    ------
    ModeError
        If there is no such mode.
    ArgumentError
        If a sequence has another length.

    Examples
    --------
    >>> canonical_modes("wrap", 2), canonical_modes(["wrap", "nearest"], 2)
    ((<Border wrap>, <Border wrap>), (<Border wrap>, <Border nearest>))
    """
    if isinstance(mode, (str, Border)) or not isinstance(mode, Iterable):
        return (canonical(mode),) * ndim
    modes = tuple(canonical(m) for m in mode)
    if len(modes) != ndim:
        raise ArgumentError(
            f"`mode` must be one name, or one for each of the {ndim} filtered axes; "
            f"got {len(modes)}: {list(mode)}"
        )
    return modes
