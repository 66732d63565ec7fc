"""Caches of records that belong to one process: addresses of memory, of compiled code, of tables.

Such a record must never be copied or pickled, because its addresses are invalid in another process and
after the original was deleted. Objects therefore keep records in a `ProcessCache`, whose copies and pickles
are empty, and the record itself is a `ProcessBound`, which refuses to be copied or pickled. A value that
was copied or sent builds its records again when it first needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, NoReturn

from separable.system import after_fork

__all__ = ["ProcessBound", "ProcessCache"]

_MISSING = object()
_guard = threading.Lock()
_forks = 0  # number of forks between the first process and this one


def _after_fork() -> None:
    """Discard all locks in a forked child, where the threads that held them do not exist."""
    global _guard, _forks
    _guard, _forks = threading.Lock(), _forks + 1


after_fork(_after_fork)


class ProcessCache(dict[Hashable, Any]):
    """Cache of records of this process, each built when it is first needed.

    A copy, a deep copy and a pickle of a cache are empty caches of the same limit. A forked child keeps
    the entries, because its memory is a copy of its parent's at the same addresses; only the locks are new.
    Several threads may use one cache: a record is built once, and a hit takes no lock until the cache
    is full.

    Parameters
    ----------
    limit : int, optional
        Number of records that are kept; the least recently used one is discarded.

    Examples
    --------
    >>> import copy
    >>> cache = ProcessCache()
    >>> cache.get_or_build("table", lambda: [1, 2, 3])
    [1, 2, 3]
    >>> len(cache), len(copy.deepcopy(cache))
    (1, 0)
    """

    __slots__ = ("_forks", "_lock", "limit")

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        self._forks = -1  # a cache that is never used needs no lock
        self._lock: Any = None

    def get_or_build(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """Return the record with this key; build it if there is none.

        Parameters
        ----------
        key : hashable
            Name of the record.
        build : callable
            Called without arguments and only in one thread at a time. It may use this cache.
        """
        found = self.get(key, _MISSING)
        if found is _MISSING or (self.limit is not None and len(self) >= self.limit):
            return self._looked_up(key, build)
        return found

    def _looked_up(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """Return a record and mark it as the most recently used one."""
        with self._lock_of_this_process():
            found = self.pop(key, _MISSING)
            if found is _MISSING:
                found = build()
            self[key] = found
            while self.limit is not None and len(self) > self.limit:
                del self[next(iter(self))]
            return found

    def _lock_of_this_process(self) -> Any:
        if self._forks != _forks:
            with _guard:
                if self._forks != _forks:
                    self._lock, self._forks = threading.RLock(), _forks
        return self._lock

    def __reduce__(self) -> tuple[Any, ...]:
        return ProcessCache, (self.limit,)

    def __dask_tokenize__(self) -> Any:
        """Return the text by which Dask names tasks: it does not depend on the entries."""
        return "ProcessCache"


class ProcessBound:
    """Base of objects that hold addresses of this process: they refuse to be copied and pickled.

    Keep them in a `ProcessCache`.

    Examples
    --------
    >>> import pickle
    >>> pickle.dumps(ProcessBound())
    Traceback (most recent call last):
        ...
    TypeError: a ProcessBound holds addresses of this process and cannot be copied or pickled
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} holds addresses of this process and cannot be copied or pickled"
        )
