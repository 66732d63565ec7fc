"""Means of blocks of 2x2 samples have code of their own: the bits of the general sweep, for all types and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from separable import resample
from separable.resample import band_passes

pytestmark = [pytest.mark.compiled, pytest.mark.apart]
schedule: Any = pytest.importorskip("separable.resample.compiled.decimation_schedule")

RNG = np.random.default_rng(6)
SHAPES = [(2, 2), (1, 5), (7, 9), (64, 258), (65, 1031), (3, 40, 131)]


def image_of(shape: tuple[int, ...], dtype: str) -> Any:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        image = RNG.normal(size=shape).astype(kind)
        image.flat[0] = np.finfo(kind).max
        image.flat[image.size // 2] = np.nan
        image.flat[-1] = -np.inf
        return image
    ends = np.iinfo(kind)
    image = RNG.integers(ends.min, ends.max, shape, kind, endpoint=True)
    image.flat[: image.size // 3] //= 64  # small sums: many of them are halves
    return image


@pytest.mark.parametrize("dtype", schedule.MEAN_TYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stream_bytes", [0, 1 << 40])
def test_bits_are_those_of_the_general_sweep(
    dtype: str, shape: tuple[int, ...], stream_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(shape, dtype)
    monkeypatch.setattr(schedule, "STREAM_BYTES", stream_bytes)
    found = []
    for own in (True, False):
        if not own:
            monkeypatch.setattr(schedule.DecimationSchedule, "_are_means", lambda *_: False)
        monkeypatch.setattr(band_passes, "_schedules", band_passes.ProcessCache(limit=4))
        found.append(resample.downsample(image, axes=(-2, -1)))
        made = next(iter(band_passes._schedules.values()))[0]
        assert made.means == own
        made.run(image, found[-1])
    assert found[0].tobytes() == found[1].tobytes()
    if np.dtype(dtype).kind in "iu" and not (shape[-1] % 2 or shape[-2] % 2):
        pairs = image.reshape(*shape[:-2], shape[-2] // 2, 2, shape[-1] // 2, 2).astype(float)
        np.testing.assert_array_equal(found[0], np.rint(pairs.mean(axis=(-3, -1))))


def test_every_sum_of_four_bytes_is_rounded_half_to_even() -> None:
    for low, high in ((0, 255), (-128, 127)):
        values = np.arange(low, high + 1)
        blocks = np.zeros((512, 512), np.uint8 if low == 0 else np.int8)
        blocks[::2, ::2] = values[:, None]
        blocks[1::2, 1::2] = values[None]
        wanted = np.rint((values[:, None] + values[None]) / 4)
        np.testing.assert_array_equal(resample.downsample(blocks), wanted)


def test_other_weights_layouts_and_threads_take_the_general_way_or_the_same_bits() -> None:
    image = image_of((66, 514), "float32")
    image[~np.isfinite(image)] = 0
    expected = resample.downsample(image)
    for threads in (1, 2, 5):
        np.testing.assert_array_equal(resample.downsample(image, threads=threads), expected)
    np.testing.assert_array_equal(resample.downsample(image.T).T, expected)
    columns = np.asfortranarray(image)  # summed along the first axis last
    np.testing.assert_allclose(resample.downsample(columns), expected, atol=1e-6)
    np.testing.assert_array_equal(
        resample.downsample(image[:, ::2]), resample.downsample(image[:, ::2].copy())
    )
    wide = resample.downsample(image, output="float64")
    np.testing.assert_allclose(wide, expected, rtol=1e-6, atol=1e30)
    large = np.zeros((4, 6), ">u2")
    large[:2] = 7
    np.testing.assert_array_equal(resample.downsample(large), [[7, 7, 7], [0, 0, 0]])
