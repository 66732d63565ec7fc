"""Slabs and columns: every sample written once, read once where that is said, the bits of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_blocks import problems

import separable as sep
from separable.borders import WRAP
from separable.errors import ArgumentError, SeparableError
from separable.volumes import chunkwise, slab_pipeline
from separable.volumes.halo import block_filter
from separable.volumes.slab_pipeline import Band, run_stage
from separable.volumes.slab_planner import Stage
from separable.volumes.slab_schedule import amount, make_schedule, read_amount, restored
from toy_borders import FarEdge

GATHERED = {WRAP, FarEdge()}  # what lies outside is read for that alone


class Memory:
    """A source, or a target, that counts what is read or written."""

    def __init__(self, array: np.ndarray, chunks: Any) -> None:
        self.array, self.chunks = array, chunks
        self.shape, self.dtype = array.shape, array.dtype
        self.count = np.zeros(array.shape, int)
        self.draft = Path("no such draft")

    def read(self, region: Any) -> np.ndarray:
        self.count[region] += 1
        return self.array[region].copy()

    def write(self, region: Any, part: np.ndarray) -> None:
        for at, chunk, n in zip(region, self.chunks or (1,) * len(region), self.shape, strict=True):
            assert at.start % chunk == 0
            assert at.stop % chunk == 0 or at.stop == n
        self.count[region] += 1
        self.array[region] = part

    def flush(self, since: int = 0) -> None:
        pass


class Journal:
    def __init__(self, done: Any = ()) -> None:
        self.done = set(done)

    def record(self, stage: int, step: int) -> None:
        self.done.add((stage, step))


@given(problems(most_axes=3), st.data())
def test_slabs_of_any_sides_give_the_whole(drawn: Any, data: Any) -> None:
    kernel, options, image = drawn
    try:
        plan = chunkwise(sep.plan(kernel, image.shape, image.dtype, **options))
    except SeparableError:
        assume(False)
    whole = plan(image)
    shape = image.shape
    chunks = st.none() | st.tuples(*(st.integers(1, n) for n in shape))
    source_chunks, target_chunks = data.draw(chunks), data.draw(chunks)
    units = target_chunks or (1,) * image.ndim
    sides = tuple(
        min(n, u * data.draw(st.integers(1, -(-n // u)))) for n, u in zip(shape, units, strict=True)
    )
    stage = Stage(
        block_filter(plan),
        data.draw(st.integers(0, image.ndim - 1)),
        sides,
        source_chunks,
        target_chunks,
    )
    assume(len(stage.steps) <= 60)
    done = data.draw(st.sets(st.integers(0, len(stage.steps) - 1), max_size=3))
    source = Memory(image, source_chunks)
    target = Memory(np.zeros(shape, plan.problem.out), target_chunks)
    for index in done:  # by an earlier run
        region = stage.steps[index].region
        target.write(region, whole[region])
    told: list[float] = []
    before, slab_pipeline.PIECE = (
        slab_pipeline.PIECE,
        data.draw(st.sampled_from((64, 4096, 1 << 20))),
    )
    try:
        journal = Journal((0, i) for i in done)
        bands = [Band(stage.filter, target, journal)]  # type: ignore[arg-type]
        run_stage(stage, 0, source, bands, told.append)  # type: ignore[arg-type]
    finally:
        slab_pipeline.PIECE = before
    assert target.array.tobytes() == whole.tobytes()
    assert (target.count == 1).all()
    assert sum(told) == pytest.approx(1.0)
    assert len(journal.done) == len(stage.steps)
    if stage.columns == 1 and not done and not GATHERED & set(options["mode"]):
        assert source.count.max() <= 1


def _filter(sigma: float, shape: tuple[int, ...], dtype: str = "float32", **options: Any) -> Any:
    kernel = sep.kernels.gaussian(sigma, ndim=len(shape))
    return block_filter(sep.plan(kernel, shape, dtype, method="separable", threads=1, **options))


@pytest.mark.compiled
def test_everything_is_read_once_where_planes_fit() -> None:
    made = make_schedule(_filter(2, (256, 512, 512)), (64,) * 3, (64,) * 3, 2 << 30, 170 << 20)
    assert str(made).endswith(
        "4 slabs of 64x512x512 along axis 0, halo 8 + 8 kept in memory; everything is read once.\n"
        f"Memory: {amount(made.memory)} predicted, 2 GiB allowed."
    )
    assert made.memory < 1 << 30


def test_columns_are_said_to_read_halos_again() -> None:
    made = make_schedule(_filter(2, (256, 512, 512)), (64,) * 3, (64,) * 3, 400 << 20, 170 << 20)
    (stage,) = made.stages
    assert stage.columns > 1
    assert stage.reread > 1
    assert (
        f"the volume is read {stage.reread:.2f} times because of halos along axes 1 and 2"
        in str(made)
    )
    assert made.memory <= 400 << 20


@pytest.mark.compiled
def test_passes_follow_each_other_where_no_halo_fits() -> None:
    whole = _filter(12, (256, 256, 256))
    made = make_schedule(whole, None, None, 360 << 20, 170 << 20)
    assert len(made.stages) > 1
    assert "Stage 1 of " in str(made)
    again = restored(whole, None, None, made.to_list(), 360 << 20, 170 << 20)
    assert again.to_list() == made.to_list()
    with pytest.raises(ArgumentError, match="the partial file was planned for more memory"):
        restored(whole, None, None, made.to_list(), 230 << 20, 170 << 20)


def test_too_little_memory_says_how_much_it_takes() -> None:
    whole = _filter(2, (256, 512, 512))
    with pytest.raises(ArgumentError) as caught:
        make_schedule(whole, (64,) * 3, (64,) * 3, 230 << 20, 170 << 20)
    said = str(caught.value)
    assert said.startswith("`memory` must be at least ")
    assert said.endswith("got 230 MiB")
    least = int(said.split("at least ")[1].split(" MiB")[0])
    assert make_schedule(whole, (64,) * 3, (64,) * 3, least << 20, 170 << 20).memory <= least << 20


@pytest.mark.parametrize("text", ["", "2 cups", "-1GiB", "0", "GiB", "nan"])
def test_amounts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="`memory` must be a number of bytes such as 2GiB"):
        read_amount("memory", text)
