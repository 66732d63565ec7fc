"""One test per line of the table of differences from SciPy and scikit-image in `docs/resampling.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from separable.resample import resample as resample_array
from separable.resample import rescale, resize

transform: Any = pytest.importorskip("skimage.transform")

RNG = np.random.default_rng(3)
STRIPES = np.tile([0.0, 1.0], (32, 16))


def test_axes_that_shrink_are_smoothed() -> None:
    coarse = {"order": 1, "mode": "reflect", "grid_mode": True}
    # Every fourth place falls between a black and a white stripe: the mean is exact by accident at a ratio of 4.
    assert np.ptp(ndimage.zoom(STRIPES, (1, 11 / 32), **coarse)) > 0.5
    theirs = transform.resize(STRIPES, (32, 11), order=1, mode="reflect", anti_aliasing=True)
    ours = resize(STRIPES, (32, 11), mode="mirror")
    np.testing.assert_allclose(ours, theirs, atol=1e-10)
    assert np.ptp(ours) < 0.2
    assert np.ptp(resize(STRIPES, (32, 11), antialias=False)) > 0.5


def test_labels_keep_their_values() -> None:
    labels = RNG.integers(0, 3, (32, 32)).astype(float) * 100
    theirs = transform.resize(labels, (9, 9), order=0, anti_aliasing=True)
    assert not np.isin(theirs, labels).all()
    assert np.isin(resize(labels, (9, 9), interpolation=0), labels).all()


def test_integers_are_rounded_once_and_saturated() -> None:
    step = np.zeros((1, 16), np.uint8)
    step[:, 8:] = 255
    options = {"order": 3, "mode": "mirror", "grid_mode": True}
    exact = ndimage.zoom(step.astype(float), (1, 4), **options)
    assert exact.min() < -1
    pair = np.array([[0, 5, 0, 5]], np.uint8)
    halves = ndimage.zoom(pair, (1, 0.5), order=1, mode="reflect", grid_mode=True)
    assert halves.tolist() == [[3, 3]]  # 2.5 each
    assert resize(pair, (1, 2), antialias=False).tolist() == [[2, 2]]
    ours = resize(step, (1, 64), interpolation=3, mode="mirror")
    np.testing.assert_array_equal(ours, np.clip(np.rint(exact), 0, 255))
    scaled = transform.resize(step, (1, 64), order=1, anti_aliasing=False)
    assert scaled.max() <= 1
    kept = transform.resize(
        step, (1, 64), order=1, anti_aliasing=False, preserve_range=True, mode="reflect"
    )
    np.testing.assert_allclose(resize(step, (1, 64), output=float, mode="mirror"), kept, atol=1e-10)


def test_overshoot_stays() -> None:
    step = np.repeat([[0.0, 1.0]], 8, axis=1)
    clipped = transform.resize(step, (1, 64), order=3, mode="reflect", anti_aliasing=False)
    assert clipped.min() >= 0
    free = transform.resize(step, (1, 64), order=3, mode="reflect", anti_aliasing=False, clip=False)
    ours = resize(step, (1, 64), interpolation=3, mode="mirror")
    assert ours.min() < -0.05
    np.testing.assert_allclose(ours, free, atol=1e-10)


def test_nan_stays_near_its_sample() -> None:
    image = RNG.random((200, 8))
    image[100, 4] = np.nan
    theirs = ndimage.zoom(image, (2, 1), order=3, mode="reflect", grid_mode=True)
    assert np.isnan(theirs[:, 4]).all()
    ours = resize(image, (400, 8), interpolation=3)
    assert np.isnan(ours[200, 4])
    assert not np.isnan(ours[:100, 4]).any()
    assert not np.isnan(resize(image, (400, 8), interpolation=3, nan="ignore")).any()


@pytest.mark.parametrize(("samples", "factor"), [(5, 0.5), (7, 0.5), (9, 1.5), (10, 0.33)])
def test_numbers_of_samples(samples: int, factor: float) -> None:
    line = np.zeros(samples)
    theirs = transform.rescale(line, factor, anti_aliasing=False).shape
    assert rescale(line, factor).shape == theirs == (int(np.rint(samples * factor)),)
    assert ndimage.zoom(line, factor).shape == (round(samples * factor),)


def test_the_new_spacing_is_exact() -> None:
    line = 2.0 * np.arange(11)
    found = resample_array(line, 2.0, 3.0, antialias=False)  # samples lie at 0.5 + 3 i
    np.testing.assert_allclose(found[1:-1], 0.5 + 3 * np.arange(len(found))[1:-1])
    # 22 long at spacing 3 are 7 samples; a library that fits 7 samples to the edges has 22/7.
    fitted = transform.resize(line, (7,), order=1, anti_aliasing=False, mode="edge")
    assert np.diff(fitted)[3] == pytest.approx(22 / 7)
    assert np.diff(found)[3] == pytest.approx(3.0)


def test_colours_stay_apart() -> None:
    photo = RNG.random((12, 16, 3))
    theirs = transform.rescale(
        photo, 0.5, channel_axis=-1, order=1, mode="reflect", anti_aliasing=True
    )
    np.testing.assert_allclose(rescale(photo, 0.5, axes=(0, 1), mode="mirror"), theirs, atol=1e-10)


def test_the_table_has_a_line_for_each_test() -> None:
    page = Path(__file__).parents[2] / "docs" / "resampling.md"
    table = page.read_text(encoding="utf-8").split("What else differs")[1].split("\n\n")[1]
    lines = [line for line in table.splitlines() if line.startswith("| ")][2:]
    tests = [name for name in globals() if name.startswith("test_")]
    assert len(lines) == len(tests) - 1
