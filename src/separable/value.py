"""Values: compared by content, hashed once, copied and pickled without computed properties."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from hashlib import blake2b
from typing import Any, ClassVar

import numpy as np

__all__ = ["Value", "freeze", "key_of"]

KEY = "_value_key"  # entry of the `__dict__` of a value: the key that is compared


class Value:
    """Base class of frozen dataclasses (``eq=False``) that are equal if all their compared fields are equal.

    Arrays are equal if their types, shapes and bits are equal, and so are numbers: NaN equals NaN
    and 0.0 differs from -0.0. Values of different classes are never equal. The key that is compared is
    computed once per object and is not pickled, nor is any property that is computed from the
    fields (`functools.cached_property`).

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, eq=False)
    ... class Taps(Value):
    ...     ARRAYS = ("weights",)
    ...     left: int
    ...     weights: np.ndarray
    >>> Taps(1, np.ones(3)) == Taps(1, np.ones(3)), Taps(1, np.ones(3)) == Taps(1, np.ones(4))
    (True, False)
    >>> len({Taps(1, np.ones(3)), Taps(1, np.ones(3))})
    1
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ()
    """Fields that are or contain arrays: the arrays are made read-only."""

    def __post_init__(self) -> None:
        for name in self.ARRAYS:
            freeze(getattr(self, name))

    def _key(self) -> Any:
        found = self.__dict__.get(KEY)
        if found is None:
            compared = (f.name for f in fields(self) if f.compare)  # type: ignore[arg-type]
            found = tuple(key_of(getattr(self, name)) for name in compared)
            found = self.__dict__[KEY] = (found, hash(found))
        return found

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        own, theirs = self._key(), other._key()
        return bool(own[1] == theirs[1] and own[0] == theirs[0])

    def __hash__(self) -> int:
        found = self.__dict__.get(KEY)
        own: int = (self._key() if found is None else found)[1]
        return own

    def __dask_tokenize__(self) -> Any:
        """Return the key by which Dask names tasks: equal values have equal names in every process."""
        return type(self).__qualname__, self._key()[0]

    def __getstate__(self) -> dict[str, Any]:
        own = vars(self)
        return {f.name: own[f.name] for f in fields(self)}  # type: ignore[arg-type]

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.__post_init__()


def freeze(value: Any) -> None:
    """Make arrays read-only, because the key of a value is computed only once."""
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    elif isinstance(value, (Mapping, tuple, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            freeze(part)


def key_of(value: Any) -> Any:
    """Return something hashable that is equal for equal values.

    Parameters
    ----------
    value : Any
        Number, array, mapping or sequence of those, or anything hashable.

    Examples
    --------
    >>> key_of(np.zeros(2)) == key_of(np.zeros(2)), key_of(np.zeros(2)) == key_of(np.zeros(2, "f4"))
    (True, False)
    >>> key_of(float("nan")) == key_of(float("nan")), key_of({"y": 3, "x": 5}) == key_of({"x": 5, "y": 3})
    (True, True)
    """
    if isinstance(value, np.ndarray):
        # The byte order is ignored: NumPy's own pickles do not keep it.
        native = np.ascontiguousarray(value, value.dtype.newbyteorder("="))
        # A digest replaces the content, so that a key is small however large the array is.
        digest = blake2b(native.data, digest_size=32).digest()
        return native.dtype.str, value.shape, digest
    if isinstance(value, np.generic):
        return key_of(np.asarray(value))
    if isinstance(value, float):
        return _key_of_float(value)
    if isinstance(value, complex):
        return "complex", _key_of_float(value.real), _key_of_float(value.imag)
    if isinstance(value, Mapping):
        return tuple(sorted(((key_of(k), key_of(v)) for k, v in value.items()), key=_by_name))
    if isinstance(value, (tuple, list)):
        return tuple(map(key_of, value))
    return value


def _by_name(item: tuple[Any, Any]) -> str:
    return repr(item[0])


def _key_of_float(value: float) -> Any:
    """Return a number itself, or its text for NaN, which differs from itself, and -0.0, which equals 0.0."""
    special = math.isnan(value) or (value == 0.0 and math.copysign(1.0, value) < 0.0)
    return repr(value) if special else value
