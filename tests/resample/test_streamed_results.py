"""Results of 24 MiB and more are stored past the caches: the same numbers as small results, for every kind of pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from separable import resample

band_schedule: Any = pytest.importorskip("separable.resample.compiled.band_schedule")

RNG = np.random.default_rng(8)
PASSES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "few taps between rows": ((6, 20, 256), (9, 20, 256), 0),
    "windows between rows": ((12, 320), (31, 320), 0),
    "along rows": ((24, 64), (24, 160), 1),
    "along rows of a volume": ((3, 5, 48), (3, 5, 128), 2),
    "outer axis of a volume": ((40, 3, 128), (16, 3, 128), 0),
}


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return an array of NaN that begins at a cache line."""
    raw = np.empty(math.prod(shape) * dtype.itemsize + 64, np.uint8)
    first = -raw.ctypes.data % 64
    out = raw[first : first + raw.size - 64].view(dtype).reshape(shape)
    out[...] = np.nan
    return out


@pytest.mark.compiled
@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("interpolation", ["linear", "lanczos3", "spline3"])
def test_streamed_results_are_those_of_ordinary_stores(
    name: str, dtype: str, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, axis = PASSES[name]
    image = RNG.random(before).astype(dtype)
    made: list[int] = []
    original = band_schedule.BandSchedule._set_stages

    def stream(threshold: int) -> Any:
        monkeypatch.setattr(band_schedule, "STREAM_BYTES", threshold)
        out = aligned(after, image.dtype)
        resample.resize(
            image, after[axis], axes=axis, interpolation=interpolation, output=out, threads=2
        )
        return out

    def noted(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        made.append(self)

    monkeypatch.setattr(band_schedule.BandSchedule, "_set_stages", noted)
    streamed = stream(0)
    marked = [int(one.record["stream"]) for one in made]
    expected = stream(1 << 40)
    np.testing.assert_array_equal(streamed, expected)
    assert np.isfinite(streamed).all()
    halves = [one.halves for one in made[: len(marked)]]
    widest = made[0].record["lanes"] * image.itemsize == band_schedule.LINE_BYTES
    if not made[0].along or widest:  # vectors along rows are whole cache lines with AVX-512 only
        assert any(marked) or any(halves), name
    assert not any(int(one.record["stream"]) for one in made[len(marked) :])


@pytest.mark.compiled
def test_rows_that_are_no_whole_cache_lines_are_stored_as_usual(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = RNG.random((12, 333)).astype("float32")
    expected = resample.resize(image, 31, axes=0, interpolation="lanczos3")
    monkeypatch.setattr(band_schedule, "STREAM_BYTES", 0)
    found = resample.resize(image, 31, axes=0, interpolation="lanczos3")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.compiled
def test_a_result_of_24_mebibytes_streams_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    streamed: list[bool] = []
    original = band_schedule.BandSchedule._can_stream

    def noted(self: Any, target: Any, axes: list[int]) -> bool:
        streamed.append(original(self, target, axes))
        return streamed[-1]

    monkeypatch.setattr(band_schedule.BandSchedule, "_can_stream", noted)
    image = RNG.random((512, 4096)).astype("float32")
    found = resample.resize(image, 1536, axes=0, mode="nearest")
    assert streamed == [True]
    assert found.nbytes == band_schedule.STREAM_BYTES
    np.testing.assert_array_equal(found[1::3], image)  # the centres of thirds are the samples
    middle = resample.resize(image[100:108], 24, axes=0, mode="nearest")
    np.testing.assert_array_equal(found[303:321], middle[3:21])
