"""Values that have run: a plan for every method, type and number of axes, banks, filters of blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import separable as sep
from separable.engine import METHODS
from separable.plan import Plan
from separable.volumes.halo import BlockFilter, block_filter, chunkwise
from separable.volumes.missing_samples import valid_filter

TYPES = ("float32", "float64", "uint8", "complex64")
AXES = (1, 2, 3)
SHAPES = {1: (90,), 2: (37, 44), 3: (14, 19, 23)}


@dataclass
class Case:
    """A callable value, an image that it takes, and the bytes that it makes of it."""

    name: str
    value: Any
    image: Any
    expected: bytes = b""

    def run(self) -> bytes:
        return np.asarray(self.value(self.image)).tobytes()


@dataclass
class Blocks:
    """A filter of blocks, run on all blocks of an image."""

    filter: BlockFilter

    def __call__(self, image: Any) -> Any:
        out = np.empty(image.shape, self.filter.problem.out)
        for start in range(0, image.shape[0], 9):
            region = (slice(start, min(start + 9, image.shape[0])), *map(slice, image.shape[1:]))
            block = self.filter.block(region)
            along = np.arange(block.starts[0], block.stops[0]) % image.shape[0]
            out[region] = self.filter.run(image[along], block)
        return out


def image_of(shape: tuple[int, ...], dtype: str) -> Any:
    rng = np.random.default_rng(7)
    values = rng.random(shape) * (1 if dtype == "bool" else 90)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.random(shape)
    return values.round().astype(dtype) if np.dtype(dtype).kind in "biu" else values.astype(dtype)


def kernels(ndim: int) -> Iterator[tuple[Any, float | None]]:
    """Yield kernels of every kind that a method may want, each with a tolerance."""
    rng = np.random.default_rng(3)
    yield rng.random((3,) * ndim) - 0.3, None
    yield np.ones((17,) * ndim) / 17**ndim, None
    yield sep.kernels.gaussian1d(3) if ndim == 1 else sep.kernels.gaussian(3, ndim=ndim), 0.01
    if ndim > 1:
        yield sep.kernels.laplacian_of_gaussian(1.0, ndim=ndim), None
    yield np.kron(rng.random((2,) * ndim), rng.random((3,) * ndim) - 0.3), None


def plans(dtype: str, ndim: int) -> dict[str, Plan]:
    """Return a plan for each method that runs some kernel on such an image."""
    found: dict[str, Plan] = {}
    for kernel, tol in kernels(ndim):
        plan = sep.plan(kernel, SHAPES[ndim], dtype, tol=tol, method="auto", threads=2)
        for candidate in plan.candidates:
            form = candidate.form
            if form is None or candidate.refused:
                continue
            for name, method in METHODS.items():
                fits = method.separated == form.separated
                if name not in found and fits and not method.refuse(plan.problem, form):
                    own = replace(candidate, method=name, form=replace(form))
                    found[name] = replace(plan, chosen=own)
    return found


def methods() -> list[Case]:
    """Return a plan for each method, type of image and number of axes, none of them run yet."""
    return [
        Case(f"{name} {dtype} {ndim}-D", plan, image_of(SHAPES[ndim], dtype))
        for dtype in TYPES
        for ndim in AXES
        for name, plan in plans(dtype, ndim).items()
    ]


def banks() -> list[Case]:
    """Return banks whose kernels share passes, in one, two and three dimensions."""
    found = []
    for dtype in ("float32", "float64", "uint8", "complex64"):
        for ndim in AXES:
            if ndim == 1:
                kernels: Any = {"a": [1, 2, 1], "b": [-1, 0, 1], "c": np.ones(9)}
            else:
                kernels = ["gaussian:2", "log:2", "sobel", "disk:3" if ndim == 2 else "ball:3"]
            value = sep.bank(kernels, SHAPES[ndim], dtype, output="float32", threads=2)
            if np.dtype(dtype).kind == "c":
                value = sep.bank(kernels, SHAPES[ndim], dtype, threads=2)
            found.append(Case(f"bank {dtype} {ndim}-D", value, image_of(SHAPES[ndim], dtype)))
    return found


def blocks() -> list[Case]:
    """Return filters of blocks, also with missing samples."""
    found = []
    for mode in ("reflect", "wrap"):
        for kernel in (sep.kernels.gaussian(1.5), sep.kernels.laplacian_of_gaussian(1.5)):
            image = image_of(SHAPES[2], "float32")
            plan = sep.plan(kernel, image.shape, image.dtype, mode=mode, threads=2)
            found.append(Case(f"blocks {mode}", Blocks(block_filter(chunkwise(plan))), image))
            own = valid_filter(plan, kernel, {"nan": "ignore"})[1]
            holes = image.copy()
            holes[5:9, 7:30] = np.nan
            found.append(Case(f"valid blocks {mode}", Blocks(own), holes))
    return found


def cases() -> list[Case]:
    """Return all cases, none of them run yet."""
    return [*methods(), *banks(), *blocks()]


def some() -> list[Case]:
    """Return a case of each kind, run."""
    chosen = [c for c in methods() if c.name.endswith("float32 2-D")]
    chosen += [banks()[1], blocks()[0], blocks()[1]]
    return ran(chosen)


def ran(chosen: list[Case]) -> list[Case]:
    """Run cases and keep what they made."""
    for case in chosen:
        case.expected = case.run()
    return chosen


def different(chosen: list[Case]) -> list[str]:
    """Run cases again; return the names of those that make other bytes."""
    return [case.name for case in chosen if case.run() != case.expected]
