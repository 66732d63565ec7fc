"""Arrays inside memory full of NaN, and runs on several numbers of threads, for tests of light steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from guarded_memory import guarded
from torch import Tensor

AROUND = 67
"""NaN values before and behind an array: an odd number, so that no vector is aligned."""
THREADS = (1, 2, 3, 5)


@contextmanager
def threads_restored() -> Iterator[None]:
    count = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(count)


class Surrounded:
    """A tensor whose last axis is part of wider rows, in memory that is NaN everywhere else."""

    def __init__(self, values: Tensor, beside: int = 0) -> None:
        self.shape, self.width = values.shape, values.shape[-1] + beside
        rows = values.numel() // values.shape[-1] if values.numel() else 0
        self.memory = torch.full((rows * self.width + 2 * AROUND,), float("nan"))
        self.rows = self.memory[AROUND : AROUND + rows * self.width].view(rows, self.width)
        self.tensor = self.rows[:, : values.shape[-1]]
        self.tensor.copy_(values.reshape(rows, values.shape[-1]))
        self.step = 4 * self.width

    @property
    def values(self) -> Tensor:
        return self.tensor.reshape(self.shape).clone()

    def is_untouched_around(self) -> bool:
        """Return True if all memory beside the tensor is NaN as before."""
        beside = self.rows[:, self.shape[-1] :]
        return bool(
            self.memory[:AROUND].isnan().all()
            and self.memory[-AROUND:].isnan().all()
            and beside.isnan().all()
        )


def on_all_threads(
    function: Callable[[Surrounded], None], shape: tuple[int, ...], beside: int = 0
) -> Tensor:
    """Run a step into memory full of NaN on 1, 2, 3 and 5 threads; return the result, which is always the same."""
    found = []
    with threads_restored():
        for threads in THREADS:
            torch.set_num_threads(threads)
            target = Surrounded(torch.full(shape, float("nan")), beside)
            function(target)
            assert target.is_untouched_around()
            found.append(target.values)
    for other in found[1:]:
        assert torch.equal(found[0].view(torch.int32), other.view(torch.int32))
    return found[0]


def near(found: Tensor, exact: Tensor, tolerance: float = 1e-6) -> None:
    assert found.shape == exact.shape
    if exact.numel():
        error = (found.double() - exact.double()).abs() / (1 + exact.double().abs())
        assert float(error.max()) <= tolerance


def beside_guard_page(values: Tensor, at_end: bool) -> Tensor:
    """Return a copy of a tensor that ends (or begins) at a page of memory that cannot be touched."""
    return guarded(values.numel(), at_end).view(values.shape).copy_(values)
