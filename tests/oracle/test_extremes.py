"""NaN and infinity in images, very small and very large kernels, numbers near the limits."""

import numpy as np
import pytest
import scipy.ndimage
from exact import CASES, MODES, assert_close, dense_kernel, expected, image_of

import separable as sep
from separable import ndimage

LINEAR = [name for name, case in CASES.items() if not case.parts]
METHODS = ("auto", "direct", "passes", "fft", "overlap")


def touched(kernel, shape, at):
    """The outputs within the box around the kernel's non-zero weights, for one input pixel."""
    inside = np.ones(shape, bool)
    for axis, n in enumerate(kernel.shape):
        used = np.flatnonzero(np.any(kernel != 0, axis=tuple(set(range(kernel.ndim)) - {axis})))
        position = np.arange(shape[axis])
        reached = (position >= at[axis] - (used[-1] - n // 2)) & (
            position <= at[axis] - (used[0] - n // 2)
        )
        inside &= np.expand_dims(reached, tuple(set(range(len(shape))) - {axis}))
    return inside


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", CASES)
def test_one_bad_pixel_stays_within_the_kernel(name, value):
    case, at = CASES[name], (14, 17)
    for dtype in ("float64", "float32"):
        image = image_of(dtype, (31, 33))
        bad = image.copy()
        bad[at] = value
        image[at] = 0
        box = np.zeros(image.shape, bool)
        for call in case.parts or (case.call,):
            box |= touched(dense_kernel(call, 2, case.reach), image.shape, at)
        assert 0 < box.sum() < image.size / 2
        result, exact = case.call(ndimage, bad, mode="constant"), expected(case, image, "constant")
        where = ~box
        assert np.isfinite(result[where]).all()
        largest = case.norm * np.abs(image).max()
        assert_close(result[where], exact[where], largest, dtype)
        assert not np.isfinite(result[box]).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_method_spreads_nan_or_infinity(method):
    image = image_of("float64", (40, 50))
    kernel = np.random.default_rng(0).normal(size=(9, 8))
    exact = sep.correlate(image, kernel, mode="wrap")
    for value in (np.nan, np.inf):
        bad = image.copy()
        bad[0, 20] = value
        result = sep.correlate(bad, kernel, mode="wrap", method=method)
        spoilt = ~np.isfinite(result)
        assert spoilt.sum() == kernel.size
        assert_close(result[~spoilt], exact[~spoilt], np.abs(kernel).sum() * np.abs(image).max())


def test_a_nan_in_the_dense_kernel_falls_where_scipy_puts_it():
    image = image_of("float64", (12, 12))
    image[5, 5] = np.nan
    kernel = np.random.default_rng(0).normal(size=(3, 4))
    for mode in MODES:
        ours = ndimage.correlate(image, kernel, mode=mode)
        theirs = scipy.ndimage.correlate(image, kernel, mode=mode)
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))


@pytest.mark.parametrize("cval", [np.nan, np.inf, -np.inf])
def test_a_constant_outside_that_is_not_finite(cval):
    image = image_of("float64", (20, 22))
    for kernel in (np.ones((3, 5)), np.random.default_rng(1).normal(size=(4, 3))):
        theirs = scipy.ndimage.correlate(image, kernel, mode="constant", cval=cval)
        for method in METHODS[:3]:
            ours = sep.correlate(image, kernel, mode="constant", cval=cval, method=method)
            finite = np.isfinite(theirs)
            np.testing.assert_array_equal(np.isfinite(ours), finite, method)
            np.testing.assert_allclose(ours[finite], theirs[finite], rtol=0, atol=1e-11)


KERNELS = {
    "full rank": np.random.default_rng(3).normal(size=(3, 4)),
    "rank 1": np.outer([1.0, 2.0, 3.0], [5.0, -1.0, 2.0]),
    "symmetric": np.outer([1.0, 2.0, 1.0], [1.0, 2.0, 1.0]),
    "nearly symmetric": np.outer([1.0, 2.0, 1.5], [1.0, -2.0, 1.25]),
    "rank 2": np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]),
}
LINES = {
    "any": np.array([1.0, -2.0, 0.5]),
    "symmetric": np.array([1.0, 3.0, 1.0]),
    "odd": np.array([-1.0, 0.0, 1.0]),
    "even length": np.array([1.0, -1.0]),
}


@pytest.mark.parametrize("exponent", [-290, -150, -20, -15, -9, 9, 20, 150, 290])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
def test_a_scaled_kernel_scales_the_result(kernel, exponent):
    image = image_of("float64", (9, 10))
    scale = 10.0**exponent
    largest = np.abs(kernel).sum() * np.abs(image).max()
    for weights in (kernel, kernel * (1 + 0.5j)):
        exact = sep.correlate(image, weights, method="reference")
        for method in METHODS:
            result = sep.correlate(image, weights * scale, method=method)
            assert_close(result / scale, exact, 2 * largest, method)
    result = ndimage.convolve(image, kernel * scale, mode="constant", cval=2.0)
    exact = scipy.ndimage.convolve(image, kernel, mode="constant", cval=2.0)
    assert_close(result / scale, exact, 2 * largest)


@pytest.mark.parametrize("exponent", [-290, -20, -15, 20, 290])
@pytest.mark.parametrize("line", LINES.values(), ids=list(LINES))
def test_a_scaled_vector_scales_the_result(line, exponent):
    image = image_of("float64", (9, 10))
    scale, largest = 10.0**exponent, np.abs(line).sum() * np.abs(image).max()
    for name in ("correlate1d", "convolve1d"):
        exact = getattr(scipy.ndimage, name)(image, line, 0)
        result = getattr(ndimage, name)(image, line * scale, 0)
        assert_close(result / scale, exact, largest, name)


def test_weights_far_apart_all_count():
    image = np.zeros((9, 9))
    image[4, 4] = 1e30
    kernel = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1e-25]])
    for method in ("direct", "reference"):
        result = sep.correlate(image, kernel, method=method)
        np.testing.assert_allclose(result[3, 3], 1e5, err_msg=method)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e290])
def test_images_near_the_limits_of_double_precision(scale):
    image = image_of("float64", (9, 10))
    for name in LINEAR:
        case = CASES[name]
        result = case.call(ndimage, image * scale) / scale
        assert_close(result, expected(case, image), case.norm * np.abs(image).max(), name)


def test_small_weights_beside_a_large_image_in_single_precision():
    line = np.array([1e-17, 0.25, 0.5, 0.25, 3e-17])
    for scale in (1e-30, 1.0, 1e30):
        image = image_of("float32", (9, 10)) * np.float32(scale)
        for kernel in (np.outer(line, line), np.outer(line, [1.0, 2.0, 3.0])):
            exact = sep.correlate(image.astype(float), kernel, method="reference") / scale
            for method in METHODS:
                result = sep.correlate(image, kernel, method=method).astype(float) / scale
                assert_close(result.astype("float32"), exact, 20.0, (scale, method))


@pytest.mark.parametrize("line", [(-1e-16, 5e-16, 3e-16), (1e-16, 0, 2e-16), (1, 2, 1 + 1e-15)])
def test_taps_that_scipy_takes_for_symmetric(line):
    image = image_of("float64", (9, 10))
    exact = sep.correlate(image, [line], method="reference")
    result = ndimage.correlate1d(image, line)
    assert_close(result / 1e-16, exact / 1e-16, np.abs(line).sum() / 1e-16 * np.abs(image).max())


def test_a_complex_constant_outside_a_real_image():
    image, line = image_of("float64", (9, 10)), np.array([1.0, 2.0, 4.0])
    for kernel in (np.outer(line, line), np.outer(line, line) * 1j):
        options = {"mode": "constant", "cval": 1 - 2j}
        exact = sep.correlate(image, kernel, method="reference", **options)
        for method in METHODS:
            result = sep.correlate(image, kernel, method=method, **options)
            assert_close(result, exact, 200.0, method)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_in_double_precision_for_images_in_single(scale):
    image = image_of("float32", (9, 10))
    result = ndimage.gaussian_gradient_magnitude(image * np.float32(scale), 1.0)
    exact = scipy.ndimage.gaussian_gradient_magnitude(image.astype(float), 1.0)
    assert_close((result.astype(float) / scale).astype(np.float32), exact, np.abs(image).max())


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "uint32"])
def test_whole_numbers_near_the_limits(dtype):
    info = np.iinfo(dtype)
    for value in (info.min, info.max):
        flat = np.full((6, 7), value, dtype)
        np.testing.assert_array_equal(ndimage.gaussian_filter(flat, 1.0), flat)
        np.testing.assert_array_equal(ndimage.gaussian_filter(flat, 0), flat)
        np.testing.assert_array_equal(ndimage.correlate(flat, [[0, 2, 0]])[0, 0], value)
    double = ndimage.correlate(np.full((6, 7), info.max, dtype), [[0, -2, 0]])
    assert (double == info.min).all()
