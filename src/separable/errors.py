"""Exceptions of `separable`.

Every message says what was expected, what was given and what to do about it::

    SeparableError
    ├── PatternError      (ValueError)                a pattern that cannot be read or does not fit
    ├── KernelError       (ValueError)                a kernel that is empty, not finite, too large
    ├── RankError         (ValueError)                a rank that no factorisation has
    ├── ArgumentError     (ValueError)                another value out of its range: tol, sigma ...
    ├── ArgumentTypeError (TypeError)                 an argument of the wrong type
    ├── ModeError         (ValueError, RuntimeError)  an unknown border mode
    ├── OutputError       (ValueError, RuntimeError)  an output of the wrong shape or type
    ├── DTypeError        (TypeError, RuntimeError)   a type of data that no filter accepts
    ├── MachineError      (ValueError)                a machine profile that cannot be read
    ├── FileError         (OSError)                   a file that cannot be read or written
    └── ClusterError      (OSError)                   a cluster that cannot be reached, or fails

A wrong value is a `ValueError`, a wrong type a `TypeError`. If SciPy raises `RuntimeError` for the
same mistake, our exception is a `RuntimeError` too, so that a program written for `scipy.ndimage`
catches it.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "ClusterError",
    "DTypeError",
    "FileError",
    "KernelError",
    "MachineError",
    "ModeError",
    "OutputError",
    "PatternError",
    "RankError",
    "SeparableError",
]


class SeparableError(Exception):
    """Base class of all exceptions that `separable` raises on purpose."""


class PatternError(SeparableError, ValueError):
    """A pattern cannot be read, or does not fit the kernel."""


class KernelError(SeparableError, ValueError):
    """A kernel cannot be used: it is empty, not finite, or has more axes than the image."""


class RankError(SeparableError, ValueError):
    """No factorisation of this kernel has the given rank."""


class ArgumentError(SeparableError, ValueError):
    """An argument is out of its range."""


class ArgumentTypeError(SeparableError, TypeError):
    """An argument has the wrong type."""


class ModeError(SeparableError, ValueError, RuntimeError):
    """A border mode is unknown."""


class OutputError(SeparableError, ValueError, RuntimeError):
    """An output array has the wrong shape or type, or cannot be written."""


class DTypeError(SeparableError, TypeError, RuntimeError):
    """Data has a type that no filter accepts."""


class MachineError(SeparableError, ValueError):
    """A machine profile cannot be read."""


class FileError(SeparableError, OSError):
    """A file cannot be read or written."""


class ClusterError(SeparableError, OSError):
    """A cluster cannot be reached, has no workers, or its workers fail."""
