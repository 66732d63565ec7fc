"""Memory of images and results: strides, byte order, overlap, threads, forks."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.ndimage
from exact import CASES, assert_close, double, expected, image_of

import separable as sep
from separable import ndimage

LINEAR = [name for name, case in CASES.items() if not case.parts]


def layouts(image):
    """The same image, lying differently in memory."""
    rows, columns = image.shape
    wide = np.zeros((2 * rows, 3 * columns), image.dtype)
    wide[::2, ::3] = image
    fixed = image.copy()
    fixed.flags.writeable = False
    packed = np.zeros(rows * columns * image.itemsize + 1, np.uint8)
    odd = packed[1:].view(image.dtype).reshape(rows, columns)
    odd[...] = image
    return {
        "read-only": fixed,
        "Fortran": np.asfortranarray(image),
        "strided": wide[::2, ::3],
        "reversed": np.ascontiguousarray(image[::-1, ::-1])[::-1, ::-1],
        "transposed": np.ascontiguousarray(image.T).T,
        "byte-swapped": image.astype(image.dtype.newbyteorder(">")),
        "unaligned": odd,
        "a list": image.tolist() if image.dtype in ("float64", "int64", "complex128") else image,
    }


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int64", "complex128"])
@pytest.mark.parametrize("name", CASES)
def test_layouts_of_the_image(name, dtype):
    case, image = CASES[name], image_of(dtype, (9, 10))
    exact = case.call(ndimage, image)
    for layout, same in layouts(image).items():
        before = np.array(same)
        result = case.call(ndimage, same)
        assert result.dtype == np.dtype(dtype), layout
        assert result.dtype.isnative, layout
        np.testing.assert_array_equal(result, exact, layout)
        np.testing.assert_array_equal(np.asarray(same), before, layout)


@pytest.mark.parametrize("dtype", ["float64", "uint8", "complex128"])
@pytest.mark.parametrize("name", CASES)
def test_in_place_and_overlapping(name, dtype):
    case, image = CASES[name], image_of(dtype, (9, 10))
    exact = case.call(ndimage, image)
    own = image.copy()
    assert case.call(ndimage, own, output=own) is own
    np.testing.assert_array_equal(own, exact)
    for shift in (-1, 1):
        block = np.zeros((11, 12), dtype)
        source, target = block[1:-1, 1:-1], block[1 + shift : 10 + shift, 1:-1]
        source[...] = image
        assert case.call(ndimage, source, output=target) is target
        np.testing.assert_array_equal(target, exact)
    turned = np.zeros((10, 10), dtype)
    turned[:9] = image
    square = turned[:9, :9]
    exact = case.call(ndimage, square.copy())
    case.call(ndimage, square, output=square.T)
    np.testing.assert_array_equal(square.T, exact)


@pytest.mark.parametrize("name", CASES)
def test_outputs_of_another_type(name):
    case = CASES[name]
    for source, target in (
        ("uint8", "float64"), ("uint8", "int16"), ("uint16", "int32"), ("float64", "uint8"),
        ("float32", "float64"), ("float64", "float32"), ("float32", "int64"), ("bool", "float32"),
        ("int32", "float16"), ("float64", "complex64"), ("complex64", "complex128"),
        ("float64", ">f4"), ("uint8", ">i2"),
    ):  # fmt: skip
        image = image_of(source, (9, 10))
        if target == "float16":
            image //= 2**20
        largest = case.norm * max(1.0, float(np.abs(image.astype(complex)).max()))
        exact = expected(case, image)
        where = np.zeros((9, 20), target)[:, ::2]
        assert case.call(ndimage, image, output=where) is where
        close = where.astype(where.dtype.newbyteorder("="))
        own_precision = np.float32 if source in ("float32", "complex64") else np.float64
        if target in ("float64", "complex128", "int64") and own_precision is np.float32:
            assert_close(close, exact, largest, (source, target), close.dtype)
        assert_close(close, exact, largest, (source, target), close.dtype)
        for given in (target, np.dtype(target)):
            result = case.call(ndimage, image, output=given)
            assert result.dtype == where.dtype
            np.testing.assert_array_equal(result, where)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("name", CASES)
def test_images_without_pixels(name, shape):
    case = CASES[name]
    for dtype in ("float64", "uint8", "complex64"):
        result = case.call(ndimage, np.zeros(shape, dtype))
        assert result.shape == shape
        assert result.dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "uint8", "complex128"])
def test_images_without_axes(dtype):
    image = np.array(5, dtype)
    for name, arguments in {
        "correlate": (2,), "convolve": (2,), "gaussian_filter": (1,), "uniform_filter": (),
        "laplace": (), "gaussian_laplace": (1,), "gaussian_gradient_magnitude": (1,),
    }.items():  # fmt: skip
        ours = getattr(ndimage, name)(image, *arguments)
        theirs = getattr(scipy.ndimage, name)(double(image), *arguments)
        assert ours.dtype == image.dtype
        assert_close(ours, theirs, 10)
        where = np.zeros((), dtype)
        assert getattr(ndimage, name)(image, *arguments, output=where) is where
        assert where == ours
    for name in ("correlate1d", "gaussian_filter1d", "uniform_filter1d", "sobel", "prewitt"):
        arguments = ([1, 2],) if name == "correlate1d" else (1,) if name.endswith("1d") else ()
        with pytest.raises(IndexError):
            getattr(ndimage, name)(image, *arguments)


def test_many_threads_at_once():
    images = [image_of(t, s) for t in ("float64", "uint8") for s in ((300, 300), (37, 41))]
    jobs = [(name, image) for name in CASES for image in images] * 2
    exact = {(n, id(i)): CASES[n].call(ndimage, i) for n, i in jobs[: len(jobs) // 2]}

    def job(pair):
        name, image = pair
        return CASES[name].call(ndimage, image)

    with ThreadPoolExecutor(8) as pool:
        for (name, image), result in zip(jobs, pool.map(job, jobs), strict=True):
            np.testing.assert_array_equal(result, exact[name, id(image)], name)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork():
    image = image_of("float32", (400, 300))  # large enough for several threads
    exact = ndimage.gaussian_filter(image, 2.0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)  # a child that hangs is ended
            same = ndimage.gaussian_filter(image, 2.0)
            other = sep.convolve(image, np.ones((3, 3)), threads=3)
            code = 0 if np.array_equal(same, exact) and other.shape == image.shape else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0
    np.testing.assert_array_equal(ndimage.gaussian_filter(image, 2.0), exact)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_the_number_of_threads_changes_nothing(threads):
    image = image_of("float64", (301, 299))
    kernel = np.random.default_rng(0).normal(size=(5, 4))
    for method in ("direct", "passes", "fft", "overlap"):
        one = sep.correlate(image, kernel, method=method, threads=1, mode="nearest")
        many = sep.correlate(image, kernel, method=method, threads=threads, mode="nearest")
        np.testing.assert_array_equal(one, many, method)
