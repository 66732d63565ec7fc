"""Levels that are written with the finest one: any order and size of regions, little memory, and what is read again."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separable.files import level_writer
from separable.files.level_writer import LevelWriter, block_means

RNG = np.random.default_rng(3)


class Level:
    """An array that counts the samples that are read from it."""

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.values = np.zeros(shape, dtype)
        self.dtype, self.read = self.values.dtype, 0

    def __getitem__(self, region: Any) -> Any:
        self.read += self.values[region].size
        return self.values[region].copy()

    def __setitem__(self, region: Any, values: Any) -> None:
        self.values[region] = values


def wanted(image: Any, count: int) -> list[Any]:
    """Return all levels, computed in memory in float64."""
    levels = [image]
    for _ in range(count - 1):
        fine = levels[-1]
        found = fine.astype(np.result_type(fine, float))
        for axis in range(fine.ndim):
            moved = np.moveaxis(found, axis, 0)
            if len(moved) == 1:
                continue
            last = moved[-1:] if len(moved) % 2 else moved[:0]
            pairs = np.concatenate([moved, last])
            found = np.moveaxis((pairs[::2] + pairs[1::2]) / 2, 0, axis)
        levels.append((np.rint(found) if fine.dtype.kind in "iu" else found).astype(fine.dtype))
    return levels


def written(image: Any, cuts: list[list[int]], chunk: int, order: Any, count: int = 3) -> Any:
    """Write an image region by region; return the levels and the writer."""
    shapes = [level.shape for level in wanted(image, count)]
    levels = [Level(shape, image.dtype) for shape in shapes]
    chunks = [tuple(min(chunk, n) for n in shape) for shape in shapes]
    writer = LevelWriter(levels.__getitem__, shapes, chunks=chunks)
    regions = list(
        itertools.product(*([slice(a, b) for a, b in itertools.pairwise(c)] for c in cuts))
    )
    for k in order(len(regions)):
        levels[0][regions[k]] = image[regions[k]]
        writer.add(regions[k], image[regions[k]])
    return levels, writer


@st.composite
def cut_images(draw: Any) -> Any:
    shape = tuple(draw(st.integers(1, 21)) for _ in range(draw(st.integers(1, 3))))
    dtype = draw(st.sampled_from(["uint8", "float32", "int16", "float64", "complex64"]))
    image = (RNG.random(shape) * 99).astype(dtype)
    cuts = [sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=3))}) for n in shape]
    order = draw(st.permutations(range(np.prod([len(c) - 1 for c in cuts]))))
    return image, cuts, draw(st.integers(1, 9)), order, draw(st.sampled_from([0, 64, 1 << 20]))


@settings(deadline=None, max_examples=40)
@given(cut_images())
def test_levels_are_the_same_for_all_regions(case: Any) -> None:
    image, cuts, chunk, order, memory = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(level_writer, "MOST_BYTES", memory)
        levels, writer = written(image, cuts, chunk, lambda n: order)
        writer.finish()
    for found, level in zip(levels, wanted(image, 3), strict=True):
        np.testing.assert_allclose(found.values, level, rtol=1e-6)
    again, writer = written(image, [[0, n] for n in image.shape], 100, range)
    writer.finish()
    for found, other in zip(levels, again, strict=True):
        np.testing.assert_array_equal(found.values, other.values)


def test_nothing_is_read_again_where_regions_are_even() -> None:
    image = RNG.random((32, 24)).astype("float32")
    levels, writer = written(image, [[0, 8, 16, 32], [0, 24]], 8, range)
    writer.finish()
    assert [level.read for level in levels] == [0, 0, 0]
    np.testing.assert_allclose(levels[2].values, wanted(image, 3)[2], rtol=1e-6)


def test_what_is_missing_is_read() -> None:
    image = RNG.random((32, 24)).astype("float32")
    levels, writer = written(image, [[0, 7, 32], [0, 24]], 8, range)
    writer.finish()
    assert 0 < levels[0].read < image.size
    # What another process has written is not computed.
    shapes = [level.values.shape for level in levels]
    other = LevelWriter(levels.__getitem__, shapes, chunks=[(8, 8)] * 3)
    other.know([(1, i, j) for i in range(2) for j in range(2)] + [(2, 0, 0)])
    before = levels[0].read
    other.finish()
    assert levels[0].read == before


def test_the_memory_of_waiting_chunks_is_bounded() -> None:
    image = RNG.random((64, 256)).astype("float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(level_writer, "MOST_BYTES", 4096)
        levels, writer = written(image, [[0, *range(8, 65, 8)], [0, 256]], 16, range)
        held = [c.values.nbytes for c in writer._waiting.values() if c.values is not None]
        assert sum(held) <= 4096
        writer.finish()
    assert levels[0].read == 0
    np.testing.assert_allclose(levels[2].values, wanted(image, 3)[2], rtol=1e-6)


def test_means_of_infinite_and_large_values() -> None:
    edge = np.array([[1, 2, np.inf]], np.float32)
    assert np.isinf(block_means(edge, (1, 2), (1, 2))[0, 1])
    large = np.array([2**53 - 1, 2**53 - 3])
    assert block_means(large, (2,), (1,))[0] == 2**53 - 2
