"""Every function against SciPy: modes, types, shapes, constants outside."""

import numpy as np
import pytest
import scipy.ndimage
from exact import CASES, MODES, TYPES, assert_close, expected, image_of

from separable import ndimage

SHAPES = ((13, 11), (2, 3), (1, 1), (1, 6))  # most kernels are larger than the last three


def check_every_mode(name, dtype, shapes):
    case = CASES[name]
    for shape in shapes:
        image = image_of(dtype, shape)
        largest = case.norm * max(1.0, float(np.abs(image.astype(complex)).max()))
        for mode in MODES:
            result = case.call(ndimage, image, mode=mode)
            assert_close(result, expected(case, image, mode), largest, (shape, mode), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", CASES)
def test_every_mode(name, dtype):
    check_every_mode(name, dtype, SHAPES[:1])


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "complex64"])
@pytest.mark.parametrize("name", CASES)
def test_every_mode_of_small_images(name, dtype):
    check_every_mode(name, dtype, SHAPES[1:])


@pytest.mark.long
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", CASES)
def test_every_mode_and_shape(name, dtype):
    check_every_mode(name, dtype, SHAPES)


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int16", "complex128"])
@pytest.mark.parametrize("name", CASES)
def test_a_constant_outside(name, dtype):
    case = CASES[name]
    for shape in ((13, 11), (2, 3)):
        image = image_of(dtype, shape)
        for cval in (2.5, -100.0):
            largest = case.norm * max(abs(cval), float(np.abs(image.astype(complex)).max()))
            for mode in ("constant", "grid-constant", "nearest"):
                result = case.call(ndimage, image, mode=mode, cval=cval)
                exact = expected(case, image, mode, cval)
                assert_close(result, exact, largest, (shape, mode, cval), dtype)


@pytest.mark.parametrize("name", ["correlate", "gaussian_filter", "uniform_filter", "laplace"])
def test_a_complex_constant_outside_a_complex_image(name):
    case = CASES[name]
    image = image_of("complex128", (9, 8))
    cval = 3.0 - 2.0j
    result = case.call(ndimage, image, mode="constant", cval=cval)
    real = expected(case, image.real, "constant", cval.real)
    imag = expected(case, image.imag, "constant", cval.imag)
    assert_close(result, real + 1j * imag, case.norm * 4)


@pytest.mark.parametrize("dtype", ["float64", "complex128", "complex64"])
@pytest.mark.parametrize("function", ["correlate", "convolve", "correlate1d", "convolve1d"])
def test_complex_weights(function, dtype):
    rng = np.random.default_rng(5)
    size = 4 if function.endswith("1d") else (3, 4)
    image = image_of(dtype, (9, 8))
    for weights in (
        rng.normal(size=size) + 1j * rng.normal(size=size),
        np.ones(size) * 1j,  # of rank 1
        rng.normal(size=size),
    ):
        for mode in MODES:
            for cval in (0.0, 1.5):
                ours = getattr(ndimage, function)(image, weights, mode=mode, cval=cval)
                theirs = getattr(scipy.ndimage, function)(
                    image.astype(complex), weights, mode=mode, cval=cval
                )
                if weights.dtype.kind != "c" and dtype == "float64":
                    theirs = theirs.real
                largest = 3 * np.abs(weights).sum() * np.abs(image).max()
                assert_close(ours, theirs, largest, (mode, cval))


@pytest.mark.parametrize("shape", [(9,), (5, 6, 7), (3, 4, 5, 4), (2, 3, 2, 3, 2)])
@pytest.mark.parametrize("mode", MODES)
def test_other_numbers_of_axes(shape, mode):
    image = image_of("float64", shape)
    largest = float(np.abs(image).max())
    sizes = (4, 3, 2, 5, 1)[: len(shape)]
    weights = np.random.default_rng(3).normal(size=(3, 2, 2, 1, 2)[: len(shape)])
    for name, arguments, norm in (
        ("correlate", (weights,), np.abs(weights).sum()),
        ("convolve", (weights,), np.abs(weights).sum()),
        ("gaussian_filter", (0.8,), 1),
        ("gaussian_laplace", (0.8,), 3 * len(shape)),
        ("gaussian_gradient_magnitude", (0.8,), len(shape)),
        ("laplace", (), 4 * len(shape)),
        ("sobel", (0,), 2 * 4 ** len(shape)),
        ("prewitt", (-1,), 2 * 3 ** len(shape)),
        ("uniform_filter", (sizes,), 1),
    ):
        ours = getattr(ndimage, name)(image, *arguments, mode=mode)
        theirs = getattr(scipy.ndimage, name)(image, *arguments, mode=mode)
        assert_close(ours, theirs, norm * largest, name)


@pytest.mark.parametrize("mode", MODES)
def test_kernels_many_times_larger_than_the_image(mode):
    image = image_of("float64", (3, 4))
    largest = float(np.abs(image).max())
    for sigma in (5.0, 20.0):
        ours = ndimage.gaussian_filter(image, sigma, mode=mode)
        assert_close(ours, scipy.ndimage.gaussian_filter(image, sigma, mode=mode), largest)
    for size in (17, 40):
        ours = ndimage.uniform_filter(image, size, mode=mode, origin=-3)
        theirs = scipy.ndimage.uniform_filter(image, size, mode=mode, origin=-3)
        assert_close(ours, theirs, largest, size)
    weights = np.random.default_rng(0).normal(size=(19, 14))
    ours = ndimage.correlate(image, weights, mode=mode)
    theirs = scipy.ndimage.correlate(image, weights, mode=mode)
    assert_close(ours, theirs, largest * np.abs(weights).sum())


def test_kernels_too_large_to_hold_run_axis_by_axis():
    image = image_of("float32", (12, 10, 14))
    exact = scipy.ndimage.gaussian_filter(image.astype(float), 14.0)
    assert_close(ndimage.gaussian_filter(image, 14.0), exact, float(np.abs(image).max()))
    grey = image_of("uint8", (12, 10, 14))
    exact = scipy.ndimage.gaussian_filter(grey.astype(float), 14.0)
    assert_close(ndimage.gaussian_filter(grey, 14.0), exact, 255)
    exact = scipy.ndimage.gaussian_laplace(image.astype(float), 14.0)
    assert_close(ndimage.gaussian_laplace(image, 14.0), exact, float(np.abs(image).max()))
    ones = np.full((4, 5, 6), 3.0)
    result = ndimage.gaussian_filter(ones, 14.0, mode="constant", cval=3.0)
    assert_close(result, ones, 3.0)
