"""Few taps: rows filtered where they lie give the bits of the sweep with strips."""

import numpy as np
import pytest
from compiled_oracle import MODES, border, reference, rounded, scale

from separable.engine.compiled import tiling
from separable.engine.compiled.row_tiling import RowSchedule
from separable.engine.compiled.simd import lanes
from separable.engine.compiled.term_sums import Correlation

pytestmark = pytest.mark.widths

KINDS = {
    "even": ([1.0, 2, 1], [0.25, 0.5, 0.25]),
    "odd": ([1.0, 2, 1], [-1.0, 0, 1]),
    "general": ([0.5, -0.25, 0.125, 1], [3.0, 1, 4, 1, 5]),
    "one tap": ([2.0], [-1.0, 0, 1]),
    "seven": ([1.0, 6, 15, 20, 15, 6, 1], [1.0, 2, 3, 4, 3, 2, 1]),
}


def both(monkeypatch, image, taps, mode="reflect", out=None, axes=(0, 1), threads=1):
    """Return the results with and without strips; fail if the first form is not used."""
    results = []
    # Small results are filtered in another way; this one is for results that leave the caches.
    monkeypatch.setattr(RowSchedule, "suits", staticmethod(lambda *_: False))
    for most in (7, 0):
        monkeypatch.setattr(tiling, "SHORT_TAPS", most)
        lefts = [len(t) // 2 for t in taps]
        borders = [
            border(image.shape[a], len(t), left, mode)
            for a, t, left in zip(axes, taps, lefts, strict=True)
        ]
        work = np.float64 if image.dtype == np.float64 else np.float32
        filtered = Correlation([taps], axes, lefts, borders, 1.5, work, image.shape)
        target = np.full_like(image, 77) if out is None else out()
        filtered(image, target, threads)
        (schedule,) = filtered._schedules.values()
        # One vector on either side of an output must hold all samples that its taps along x read.
        channels = int(np.prod(image.shape[axes[1] + 1 :]))
        fits = most and max(lefts[1], len(taps[1]) - 1 - lefts[1]) * channels <= lanes(work)
        assert bool(schedule._get("filter_short")) == bool(fits)
        results.append(target)
    exact = reference(image, [taps], axes, lefts, borders, 1.5)
    return results, exact, scale(image, [taps], 1.5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_are_those_of_strips(monkeypatch, dtype, kind, mode):
    width = 8 * lanes("float32") + 37
    image = np.random.default_rng(1).normal(size=(61, width)).astype(dtype)
    (short, strips), exact, most = both(monkeypatch, image, KINDS[kind], mode)
    np.testing.assert_array_equal(short, strips)
    assert np.abs(short - exact).max() < 1e-6 * most


@pytest.mark.parametrize("rows", [9, 16, 25, 300])
@pytest.mark.parametrize("more", [0, 1, 15, 16, 600])
def test_sizes(monkeypatch, rows, more):
    image = np.random.default_rng(2).normal(size=(rows, 8 * lanes("float32") + more))
    (short, strips), _, _ = both(monkeypatch, image.astype("float32"), KINDS["general"])
    np.testing.assert_array_equal(short, strips)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_channels(monkeypatch, channels):
    image = np.random.default_rng(3).normal(size=(40, 90, channels)).astype("float32")
    (short, strips), _, _ = both(monkeypatch, image, KINDS["odd"])
    np.testing.assert_array_equal(short, strips)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("skip", [0, 1, 3, 5])
def test_large_results_at_any_address_past_the_caches(monkeypatch, skip, threads):
    # From 8 MiB on stores bypass the caches, first up to an aligned address.
    rows, columns = 1100, 2048
    image = np.random.default_rng(4).normal(size=(rows, columns)).astype("float32")

    def out():
        memory = np.full(rows * columns + 16, 77, np.float32)
        return memory[skip : skip + rows * columns].reshape(rows, columns)

    (short, strips), _, _ = both(monkeypatch, image, KINDS["seven"], out=out, threads=threads)
    np.testing.assert_array_equal(short, strips)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_results_of_other_types(monkeypatch, dtype):
    image = (np.random.default_rng(5).normal(size=(50, 200)) * 90).astype("float32")
    (short, strips), exact, _ = both(
        monkeypatch, image, KINDS["even"], out=lambda: np.zeros((50, 200), dtype)
    )
    np.testing.assert_array_equal(short, strips)
    off = np.abs(short.astype(float) - rounded(exact, dtype).astype(float)).max()
    assert off <= (1 if np.dtype(dtype).kind in "iu" else 1e-3)


def test_parts_of_larger_images_and_batches(monkeypatch):
    memory = np.random.default_rng(6).normal(size=(3, 45, 311)).astype("float32")
    image = memory[:, 2:43, 5:300]
    (short, strips), _, _ = both(monkeypatch, image, KINDS["general"], "wrap", axes=(1, 2))
    np.testing.assert_array_equal(short, strips)


def test_nan_stays_within_the_taps(monkeypatch):
    image = np.zeros((64, 300), np.float32)
    image[30, 150] = np.nan
    (short, strips), _, _ = both(monkeypatch, image, KINDS["even"])
    np.testing.assert_array_equal(np.isnan(short), np.isnan(strips))
    assert np.isnan(short).sum() == 9
