"""Filters along a last axis of a few samples fill the vectors with many rows."""

import numpy as np
import pytest
from compiled_oracle import MODES, awkward, border, correlate_terms, rounded, samples, scale, taps
from compiled_oracle import reference as exact_terms
from test_compiled_memory import Guarded

from separable import ndimage
from separable.engine.compiled.axis_layout import arrange
from separable.engine.compiled.long_signals import LongAndShortCorrelation, pays_for_both
from separable.engine.compiled.term_sums import Correlation

pytestmark = pytest.mark.widths

RNG = np.random.default_rng(11)


def test_the_short_axis_is_between_the_vectors():
    for shape in ((1000, 4), (1000, 15), (1000, 4, 3)):
        strides = tuple(4 * int(np.prod(shape[k + 1 :])) for k in range(len(shape)))
        layout = arrange(shape, strides, strides, (1,))
        assert layout.y.size == shape[1]
        assert layout.x.size == 1000
    assert arrange((1000, 16), (64, 4), (64, 4), (1,)).x.size == 16
    assert arrange((8, 4), (16, 4), (16, 4), (1,)).x.size == 4


@pytest.mark.parametrize("count", [1, 3, 4, 15])
@pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
def test_values(count, kind):
    for shape, axis in (((333, count), 1), ((7, 90, count), 2), ((130, count, 3), 1)):
        image = samples(RNG, shape, kind)
        for mode in MODES:
            for length in (2, 3, 17, 71):
                weights = [[taps(RNG, length, "general") / length]]
                borders = [border(count, length, length // 3, mode)]
                expected = exact_terms(image, weights, (axis,), (length // 3,), borders, 1.5)
                args = (weights, (axis,), (length // 3,), borders, 1.5)
                out = correlate_terms(image, np.zeros_like(image), *args, work="float64")
                if out.dtype.kind == "f":
                    limit = 1e-13 if kind == "float64" else 1e-6
                    assert np.abs(out - expected).max() <= limit * scale(image, weights, 1.5)
                else:
                    assert np.abs(out - rounded(expected, kind).astype(float)).max() <= 1


@pytest.mark.parametrize("how", ["plain", "offset", "fortran", "reversed", "strided", "padded"])
@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_bits_are_those_of_rows_filtered_as_columns(how, count):
    image = RNG.normal(size=(700, count)).astype("f4")
    for mode in ("reflect", "wrap", "constant"):
        columns = ndimage.gaussian_filter1d(np.ascontiguousarray(image.T), 1.2, axis=0, mode=mode)
        for threads in (1, 2, 3, 8):
            out = awkward(np.zeros_like(image), how)
            weights = [[np.ravel(ndimage.gaussian_filter1d(np.eye(1, 11, 5), 1.2, axis=1))]]
            borders = [border(count, 11, 5, mode)]
            correlate_terms(awkward(image, how), out, weights, (1,), (5,), borders, threads=threads)
            if threads == 1:
                first = out.copy()
            np.testing.assert_array_equal(out, first)
        rows = ndimage.gaussian_filter1d(awkward(image, how), 1.2, axis=1, mode=mode)
        np.testing.assert_array_equal(rows, columns.T)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("shape", [(64, 4), (33, 3), (257, 8), (129, 2)])
def test_nothing_outside_the_arrays_is_read(shape, at_end):
    image, out = (Guarded(shape, "float32", at_end).array for _ in range(2))
    image[...] = RNG.normal(size=shape)
    for mode in MODES:
        weights, borders = [[np.ones(9)]], [border(shape[1], 9, 4, mode)]
        correlate_terms(image, out, weights, (1,), (4,), borders, 1.0, threads=2)
    del image, out


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("mode", ["mirror", "wrap", "nearest"])
def test_long_and_short_axes_give_the_bits_of_one_sweep(count, mode):
    shape = (40_000, count)
    image = RNG.normal(size=shape).astype("f4")
    weights = [[taps(RNG, 13, "even"), taps(RNG, 5, "general")]]
    borders = [border(n, k, k // 2, mode) for n, k in zip(shape, (13, 5), strict=True)]
    assert pays_for_both(shape, (0, 1), weights, borders, "float32")
    args = (weights, (0, 1), (6, 2), borders, 0.0, "float32", shape)
    one = Correlation(*args)(image, np.empty_like(image))
    for threads in (1, 2, 3):
        two = LongAndShortCorrelation(*args)(image, np.empty_like(image), threads)
        np.testing.assert_array_equal(two, one)
    np.testing.assert_array_equal(LongAndShortCorrelation(*args)(image, image), one)


def test_a_constant_outside_and_large_images_stay_one_sweep():
    weights = [[np.ones(3), np.ones(3)]]
    for mode, shape in (("constant", (40_000, 4)), ("wrap", (1 << 22, 4)), ("wrap", (1000, 4))):
        borders = [border(n, 3, 1, mode) for n in shape]
        assert not pays_for_both(shape, (0, 1), weights, borders, "float32")
