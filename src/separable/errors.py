"""The exceptions of `separable`.

Every message says what was expected, what was given and how to fix it::

    SeparableError
    ├── PatternError      (ValueError)                a pattern that cannot be read or does not fit
    ├── KernelError       (ValueError)                a kernel that is empty, not finite, too large
    ├── RankError         (ValueError)                a rank that is not possible for the kernel
    ├── ArgumentError     (ValueError)                another value out of its range: tol, sigma ...
    ├── ArgumentTypeError (TypeError)                 an argument of the wrong type
    ├── ModeError         (ValueError, RuntimeError)  an unknown border mode
    ├── OutputError       (ValueError, RuntimeError)  an output of the wrong shape or type
    ├── DTypeError        (TypeError, RuntimeError)   a data type that no filter supports
    ├── MachineError      (ValueError)                a machine profile that cannot be read
    ├── FileError         (OSError)                   a file that cannot be read or written
    └── ClusterError      (OSError)                   a cluster that cannot be reached, or fails

Errors of values are also a `ValueError`, errors of types a `TypeError`. If SciPy raises `RuntimeError`
for the same mistake, ours is one too, so that a program written for `scipy.ndimage` catches it.
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
    """Base class of all exceptions of `separable`."""


class PatternError(SeparableError, ValueError):
    """A pattern cannot be read, or does not fit the kernel it is used with."""


class KernelError(SeparableError, ValueError):
    """A kernel cannot be used: it is empty, not finite, or has more axes than the image."""


class RankError(SeparableError, ValueError):
    """A requested rank is not possible for this kernel."""


class ArgumentError(SeparableError, ValueError):
    """An argument is out of its range."""


class ArgumentTypeError(SeparableError, TypeError):
    """An argument has the wrong type."""


class ModeError(SeparableError, ValueError, RuntimeError):
    """A border mode is unknown."""


class OutputError(SeparableError, ValueError, RuntimeError):
    """An output array has the wrong shape or type, or cannot be written."""


class DTypeError(SeparableError, TypeError, RuntimeError):
    """Data has a type that no filter supports."""


class MachineError(SeparableError, ValueError):
    """A machine profile cannot be read."""


class FileError(SeparableError, OSError):
    """A file cannot be read or written."""


class ClusterError(SeparableError, OSError):
    """A cluster cannot be reached, has no workers, or its workers fail."""
