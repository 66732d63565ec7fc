"""Long lines cut into segments: the very numbers that the line gives in one piece."""

import numpy as np
import pytest
from compiled_oracle import MODES, border, samples
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as peer

import separable as sep
from separable.engine.compiled import long_signals
from separable.engine.compiled.term_sums import Correlation

SHAPES = {0: [(32_768,), (33_001,), (40_000, 1), (33_001, 3)], 1: [(1, 32_999), (3, 33_333, 2)]}
CASES = [(axis, shape) for axis, shapes in SHAPES.items() for shape in shapes]


def both(image, dtype, taps, axis, left, mode, cval=0.0, work="float32", threads=1):
    """The line in one piece, and in segments, each into an array full of rubbish."""
    places = border(image.shape[axis], len(taps), left, mode)
    results = []
    for kind in (Correlation, long_signals.SegmentedCorrelation):
        out = np.empty(image.shape, dtype)
        out.view(np.uint8)[...] = 0xFF
        held = kind([[taps]], (axis,), (left,), [places], cval, work, image.shape)
        results.append(held(image, out, threads))
    return results


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("axis", "shape"), CASES)
def test_segments_are_invisible(axis, shape, mode):
    rng = np.random.default_rng(0)
    assert long_signals.pays(shape, axis, 17)
    image = samples(rng, shape, "float32")
    for taps, left in [(17, 8), (2, 0), (2, 1), (20, 3), (31, 30)]:
        whole, cut = both(image, "float32", rng.normal(size=taps), axis, left, mode, 0.7)
        np.testing.assert_array_equal(whole, cut)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float64"])
@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_types_and_threads(dtype, mode):
    image = samples(np.random.default_rng(1), (50_001,), dtype)
    taps = np.hanning(11) / 5
    work = "float64" if dtype in ("uint32", "float64") else "float32"
    for threads in (1, 2):
        whole, cut = both(image, dtype, taps, 0, 5, mode, 3.25, work, threads)
        np.testing.assert_array_equal(whole, cut)


def test_strides_of_both_signs():
    long = samples(np.random.default_rng(2), (140_000,), "float32")
    for line in (long[::4], long[::-4], long[3::3]):
        whole, cut = both(line, "float32", np.ones(9), 0, 4, "wrap")
        np.testing.assert_array_equal(whole, cut)


@given(st.integers(0, 32_767), st.sampled_from([np.nan, np.inf]))
def test_nan_stays_within_the_support(place, value):
    line = np.ones(32_768, np.float32)
    line[place] = value
    _, cut = both(line, "float32", np.ones(5), 0, 2, "nearest")
    touched = np.flatnonzero(~np.isfinite(cut))
    np.testing.assert_array_equal(touched, np.arange(max(0, place - 2), min(32_768, place + 3)))


def test_short_or_many_lines_stay_whole():
    assert not long_signals.pays((32_767,), 0, 17)
    assert not long_signals.pays((32_768,), 0, 1)
    assert not long_signals.pays((32_768, 9), 0, 17)
    assert not long_signals.pays((32_768,), 0, 65)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_against_scipy(mode):
    line = np.random.default_rng(3).normal(size=100_003)
    found = sep.ndimage.gaussian_filter1d(line, 4, mode=mode, cval=2.0)
    np.testing.assert_allclose(
        found, peer.gaussian_filter1d(line, 4, mode=mode, cval=2.0), atol=1e-13
    )


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_axes_of_one_sample(mode):
    """A kernel along an axis of one sample is a factor, not a sweep."""
    column = np.random.default_rng(4).normal(size=(500, 1))
    found = sep.ndimage.gaussian_filter(column, (2, 3), mode=mode)
    np.testing.assert_allclose(found, peer.gaussian_filter(column, (2, 3), mode=mode), atol=1e-14)
    plan = sep.plan(sep.kernels.gaussian(2, ndim=2), column.shape, "float64", mode=mode)
    kernel = sep.kernels.gaussian(2, ndim=2).dense()
    np.testing.assert_allclose(plan(column), peer.convolve(column, kernel, mode=mode), atol=1e-14)
