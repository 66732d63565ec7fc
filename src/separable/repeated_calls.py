"""Calls with the same arguments as before, which find their plan without checking the arguments again.

Filtering a small image takes less time than checking the arguments. So the functions that users call are decorated
with `repeated`: their bodies check the arguments and return a `PlannedCall`, the decorator runs it and remembers its
plan. The next call with an array of the same shape and type and with equal arguments runs that plan at once.

A plan is found again only if everything it depends on is equal: the values and the types of all arguments (the bytes
of a kernel), the number of threads, the registered methods and border modes, and the rates of the computer.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

from separable import borders
from separable.engine import registry
from separable.engine.thread_count import recent_num_threads
from separable.factors import Factors
from separable.machine import current
from separable.system import after_fork

__all__ = ["Filter", "PlannedCall", "call_key", "repeated"]

Array = NDArray[Any]
Filter = Callable[..., Array]
P = ParamSpec("P")

COMPARED_AT_ONCE = frozenset((int, float, bool, str, complex, type(None), Factors))
KERNELS = frozenset(("weights", "kernel"))  # names of arguments that are compared by their bytes
LARGEST_KERNEL = 1 << 16  # bytes; comparing more takes too long
MOST_CALLS = 128
REAL = "biuf"  # kinds of types; complex images and kernels may cause a warning at each call
# Samples of the image decide what such a call does, not only its shape and type.
MISSING = frozenset(("mask", "nan", "nodata"))


@dataclass(frozen=True, eq=False)
class PlannedCall:
    """A filter of an image, ready to run.

    Attributes
    ----------
    filter : callable
        ``filter(image, out)`` filters any array of the image's shape and type, into `out` or into a new array.
    image : ndarray
        The image.
    out : ndarray or None
        The array to write into.
    """

    filter: Filter
    image: Array
    out: Array | None

    def run(self) -> Array:
        """Filter the image."""
        return self.filter(self.image, self.out)


@dataclass(frozen=True, eq=False, slots=True)
class _Held:
    """The filter of an earlier call; `text` shows its arguments if some are zeros, which have signs."""

    filter: Filter
    text: str | None


_lock = threading.Lock()
_held: dict[Hashable, _Held] = {}
_seen: tuple[Any, ...] = ()
_epoch = 0


def _after_fork() -> None:
    """Replace the lock, which another thread may have held when this process was forked."""
    global _lock
    _lock = threading.Lock()


after_fork(_after_fork)


def repeated(function: Callable[P, Array | PlannedCall]) -> Callable[P, Array]:
    """Run what a function has planned, and find the plan again for equal arguments.

    The function's first parameter is the image. Of the others `weights` or `kernel` may be an array, which is compared
    by its bytes, and `output` one to write into.

    Examples
    --------
    >>> import separable as sep
    >>> planned = []
    >>> @repeated
    ... def smooth(image, taps):
    ...     planned.append(taps)
    ...     return PlannedCall(sep.plan(taps, image.shape, image.dtype), image, None)
    >>> for image in (np.zeros(3), np.ones(3)):
    ...     print(smooth(image, (1, 2, 1)))
    [0. 0. 0.]
    [4. 4. 4.]
    >>> planned
    [(1, 2, 1)]
    """
    signature = inspect.signature(function)
    names = tuple(signature.parameters)[1:]

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Array:
        key, out = call_key(function, names, args, kwargs)
        if key is not None:
            held = _held.get(key)
            if held is not None and (held.text is None or held.text == repr(key[3])):
                return held.filter(args[0], out)
        planned = function(*args, **kwargs)
        if not isinstance(planned, PlannedCall):
            return planned
        if key is not None and planned.image is args[0] and planned.out is out:
            _hold(key, planned.filter)
        return planned.run()

    documented: Any = call  # for `help`: users get arrays
    documented.__signature__ = signature.replace(return_annotation="Array")
    documented.__annotations__ = {**call.__annotations__, "return": "Array"}
    return call


def call_key(
    function: Any, names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...] | None, Array | None]:
    """Return all that the plan of a call depends on, and the array to write into.

    Parameters
    ----------
    function : callable
        The function that is called.
    names : sequence of str
        Names of its parameters after the first one.
    args : tuple
        Its positional arguments; the first one is the image.
    kwargs : dict
        Its other arguments.

    Returns
    -------
    tuple or None
        None if the image is not a plain array of real numbers, or if some argument is not of a type whose values can
        be compared fast. Values of other types differ even where they are equal: 1.0 is not a valid `order`.
    ndarray or None

    Examples
    --------
    >>> image = np.zeros((3, 3))
    >>> a, b, c = (call_key(max, ("axis",), (image, axis), {})[0] for axis in (1, 1.0, [1]))
    >>> a == b, c
    (False, None)
    """
    if not args or type(args[0]) is not np.ndarray or args[0].dtype.kind == "c":
        return None, None
    image, values = args[0], args[1:]
    keywords: tuple[str, ...] = ()
    if kwargs:
        values, keywords = (*values, *kwargs.values()), tuple(kwargs)
    types, out = tuple(map(type, values)), None
    if not COMPARED_AT_ONCE.issuperset(types):
        own = (*names[: len(args) - 1], *keywords)
        found = tuple(map(_comparable, own, values))
        if None in found:
            return None, None
        if "output" in own and type(values[own.index("output")]) is np.ndarray:
            out = values[own.index("output")]
        values = found
    if not MISSING.isdisjoint(keywords):
        return None, None
    threads = recent_num_threads()
    return (
        function, image.shape, image.dtype, values, keywords, types, threads, _current_epoch()
    ), out  # fmt: skip


def _comparable(name: str, value: Any) -> Any:
    """Return a tuple that is equal for equal values of one type, or None."""
    kind = type(value)
    if kind in COMPARED_AT_ONCE or isinstance(value, (np.dtype, type)):
        return kind, value
    if kind is np.ndarray and name == "output":
        return kind, value.dtype, value.shape, value.flags.writeable
    if kind is np.ndarray and name in KERNELS and value.nbytes <= LARGEST_KERNEL:
        return (
            (kind, value.dtype, value.shape, value.tobytes()) if value.dtype.kind in REAL else None
        )
    if kind is tuple and COMPARED_AT_ONCE.issuperset(map(type, value)):
        return kind, value, tuple(map(type, value))
    if isinstance(value, np.generic) and value.dtype.kind in REAL:
        return kind, value
    return None


def _current_epoch() -> int:
    """Return a number that changes with the registered methods and borders, and with the machine profile."""
    global _seen, _epoch
    seen = registry.registry_version(), borders.registry_version(), current()
    if seen != _seen:
        with _lock:
            _seen, _epoch = seen, _epoch + 1
    return _epoch


def _hold(key: tuple[Any, ...], filter: Filter) -> None:
    """Keep the filter of a call."""
    text = repr(key[3]) if _has_zero(key[3]) else None
    with _lock:
        _held.pop(key, None)
        _held[key] = _Held(filter, text)
        while len(_held) > MOST_CALLS:
            del _held[next(iter(_held))]


def _has_zero(value: Any) -> bool:
    """Return whether some number is 0.0, which equals -0.0."""
    if isinstance(value, tuple):
        return any(map(_has_zero, value))
    if isinstance(value, complex):
        return value.real == 0 or value.imag == 0
    return isinstance(value, (float, np.floating)) and value == 0
