"""Launches of kernels as values: started, recorded, or kept for compilation ahead of time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from separable.gpu.kernel_support import LaunchError, is_interpreting, warn_of_fallback

__all__ = ["Launch", "launch", "or_fallback", "recorded"]

Result = TypeVar("Result")
MOST_BLOCKS = 2**31 - 1
MOST_BLOCKS_OTHER = 65535
"""Limits of CUDA on the first and on the other sizes of a grid."""

_failed: dict[Any, str] = {}
"""Why launches failed: compiling again at every call would take seconds each time."""


@dataclass(frozen=True, eq=False)
class Launch:
    """One launch of a kernel.

    Attributes
    ----------
    kernel : object
        The Triton kernel.
    grid : tuple of int
        Number of programs along one to three axes.
    arguments : mapping
        Tensors, numbers and None by the kernel's parameter names.
    constants : mapping
        Constants of the compilation by name.
    warps, stages : int
        Warps of a block, and stages of the pipeline of loads.
    read_bytes, written_bytes : int
        Bytes that the launch moves from and to memory if every byte of a tile is fetched once per tile that needs it.
    """

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)
    warps: int = 4
    stages: int = 2
    read_bytes: int = 0
    written_bytes: int = 0

    @property
    def name(self) -> str:
        """Name of the kernel."""
        return str(self.kernel.__name__)

    @property
    def programs(self) -> int:
        """Number of programs."""
        count = 1
        for n in self.grid:
            count *= n
        return count

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written."""
        return self.read_bytes + self.written_bytes


@dataclass(frozen=True, eq=False)
class _Record:
    """A list of launches, and whether they are also started."""

    launches: list[Launch]
    runs: bool


_records: ContextVar[_Record | None] = ContextVar("separable_gpu_records", default=None)


@contextlib.contextmanager
def recorded(*, run: bool = True) -> Iterator[list[Launch]]:
    """Record all launches of this thread; with ``run=False`` nothing is started, so that sizes may be those of a GPU.

    Examples
    --------
    >>> with recorded() as launches:
    ...     pass
    >>> launches
    []
    """
    record = _Record([], run)
    token = _records.set(record)
    try:
        yield record.launches
    finally:
        _records.reset(token)


def launch(made: Launch) -> None:
    """Start a kernel on the device of its first tensor.

    Launches on a GPU are asynchronous: an error of the device is raised by a later call, as for PyTorch's operators.
    """
    record = _records.get()
    if record is not None:
        record.launches.append(made)
        if not record.runs:
            return
    if 0 in made.grid:
        return
    _check_grid(made)
    if _failed and _identity(made) in _failed:
        raise LaunchError(_failed[_identity(made)])
    first = next(a for a in made.arguments.values() if hasattr(a, "data_ptr"))
    with _on(first.device):
        try:
            _start(made)
        except _errors_of_memory():
            raise
        except Exception as error:
            if is_interpreting():  # a fault of the kernel itself
                raise
            # Compilers of other releases raise errors of any type: what they refuse, PyTorch runs.
            _failed[_identity(made)] = _described(made, error)
            raise LaunchError(_failed[_identity(made)]) from error


def _start(made: Launch) -> None:
    """Compile a kernel if that was not done yet, and start it."""
    options = {"num_warps": made.warps, "num_stages": made.stages, "enable_fp_fusion": True}
    made.kernel[made.grid](**made.arguments, **made.constants, **options)


def _identity(made: Launch) -> tuple[Any, ...]:
    """Return what decides whether a launch can be compiled: the kernel, its constants, types and options."""
    types = tuple(str(getattr(v, "dtype", type(v))) for v in made.arguments.values())
    constants = tuple(sorted((name, str(v)) for name, v in made.constants.items()))
    return made.kernel, types, constants, made.warps, made.stages


def _described(made: Launch, error: Exception) -> str:
    """Return what failed in one line; Triton's messages end with the reason and begin with lines of code."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = lines[-1].strip()[:200] if lines else "no message"
    return f"{made.name}: {type(error).__name__}: {text}"


def _errors_of_memory() -> tuple[type[BaseException], ...]:
    import torch

    return torch.cuda.OutOfMemoryError, MemoryError


def _check_grid(made: Launch) -> None:
    limits = (MOST_BLOCKS, MOST_BLOCKS_OTHER, MOST_BLOCKS_OTHER)
    if any(n > most for n, most in zip(made.grid, limits, strict=False)):
        raise LaunchError(f"{made.name}: a grid of {made.grid} programs is larger than CUDA allows")


def _on(device: Any) -> Any:
    """Return a context in which a device is the current one."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    import torch

    return torch.cuda.device(device)


def or_fallback(what: str, run: Callable[[], Result], fallback: Callable[[], Result]) -> Result:
    """Return the result of kernels, or that of PyTorch if memory runs out or a kernel cannot be compiled.

    Errors of the interpreter are raised, because they are faults of a kernel. After an asynchronous error of the device,
    PyTorch raises it too: the device cannot be used any more.

    Parameters
    ----------
    what : str
        Name of the operation for the warning.
    run, fallback : callable
        Called without arguments.
    """
    errors: tuple[type[BaseException], ...] = (LaunchError, *_errors_of_memory())
    try:
        return run()
    except errors as error:
        warn_of_fallback(what, error)
    return fallback()
