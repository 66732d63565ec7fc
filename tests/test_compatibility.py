"""docs/compatibility.md, a test a line: test_NN stands for line NN."""

import inspect
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy
import scipy.ndimage as theirs

import separable as sep
from separable import ndimage as ours
from separable.errors import ArgumentError, KernelError, OutputError, SeparableError

DOCUMENT = Path(__file__).parents[1] / "docs" / "compatibility.md"
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(9, 10))
VOLUME = RNG.normal(size=(6, 7, 8))
GREY = RNG.integers(0, 256, (40, 50), np.uint8)
NAMES = (
    "convolve", "convolve1d", "correlate", "correlate1d", "gaussian_filter", "gaussian_filter1d",
    "gaussian_gradient_magnitude", "gaussian_laplace", "generic_gradient_magnitude",
    "generic_laplace", "laplace", "prewitt", "shift", "sobel", "spline_filter", "spline_filter1d",
    "uniform_filter", "uniform_filter1d", "zoom",
)  # fmt: skip


def close(a, b, scale=1.0, relative=1e-13):
    assert a.shape == b.shape
    assert float(np.max(np.abs(a - b))) <= relative * scale


def test_every_line_has_its_test_and_every_test_its_line():
    lines = [int(n) for n in re.findall(r"^(\d+)\. ", DOCUMENT.read_text(), re.MULTILINE)]
    tests = [int(n) for n in re.findall(r"^def test_(\d+)_", Path(__file__).read_text(), re.M)]
    assert lines == list(range(1, len(lines) + 1))
    assert tests == lines


# The same


@pytest.mark.skipif(
    tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 17), reason="SciPy 1.17's signatures"
)
def test_01_names_and_signatures():
    assert tuple(ours.__all__) == NAMES
    named = re.findall(r"`(\w+)`", DOCUMENT.read_text().split("\n1. ")[1].split("Parameters")[0])
    assert sorted(named) == sorted(NAMES)
    for name in NAMES:
        mine, its = (inspect.signature(getattr(m, name)).parameters for m in (ours, theirs))
        more = [n for n in mine if n not in its]
        assert set(more) <= {"spacing", "mask", "nan", "fill", "output_region", "stride"}
        assert all(mine[n].kind is inspect.Parameter.KEYWORD_ONLY for n in more)
        assert [(p.name, p.kind, p.default) for n, p in mine.items() if n not in more] == [
            (p.name, p.kind, p.default) for p in its.values()
        ]


def test_02_double_precision():
    for image in (IMAGE, IMAGE + 1j * IMAGE[::-1]):
        largest = np.abs(image).max()
        kernel = RNG.normal(size=(4, 5))
        close(ours.convolve(image, kernel), theirs.convolve(image, kernel), largest * 30)
        close(ours.gaussian_filter(image, 2), theirs.gaussian_filter(image, 2), largest)
        close(ours.sobel(image), theirs.sobel(image), 8 * largest)


def test_03_single_precision():
    single = IMAGE.astype("float32")
    exact = theirs.gaussian_laplace(single.astype(float), 1.5)
    result = ours.gaussian_laplace(single, 1.5)
    assert result.dtype == np.float32
    close(result, exact, np.abs(IMAGE).max(), 1e-6)


def test_04_types_of_results():
    for name in ("float32", "uint8", "bool", "complex64", ">f4", ">i2"):
        result = ours.gaussian_filter(np.ones((3, 3), name), 1)
        assert result.dtype == np.dtype(name).newbyteorder("=")
    assert ours.correlate(np.ones((3, 3), "float32"), [[1j]]).dtype == np.complex64
    assert ours.correlate(IMAGE, [[1j]]).dtype == np.complex128
    assert ours.laplace(np.ones(3, "uint8"), output="int16").dtype == np.int16


def test_05_complex_weights():
    assert ours.correlate([1.0], [1j])[0] == theirs.correlate([1.0], [1j])[0] == -1j
    assert ours.correlate1d([1.0], [1j])[0] == theirs.correlate1d([1.0], [1j])[0] == -1j
    assert ours.convolve([1.0], [1j])[0] == theirs.convolve([1.0], [1j])[0] == 1j
    assert ours.convolve1d([1.0], [1j])[0] == theirs.convolve1d([1.0], [1j])[0] == 1j


@pytest.mark.needs_scipy("1.16")
def test_06_weights_have_the_order_of_the_image():
    kernel = RNG.normal(size=(3, 4))
    forth = ours.correlate(VOLUME, kernel, axes=(0, 2))
    back = ours.correlate(VOLUME, kernel, axes=(2, 0))
    np.testing.assert_array_equal(forth, back)
    close(back, theirs.correlate(VOLUME, kernel, axes=(2, 0)), 100)


def test_07_axes_left_alone():
    np.testing.assert_array_equal(ours.gaussian_filter(IMAGE, 1e-15), IMAGE)
    np.testing.assert_array_equal(ours.uniform_filter(IMAGE, (1, 0)), IMAGE)
    close(ours.gaussian_filter(IMAGE, (0, 1)), theirs.gaussian_filter1d(IMAGE, 1), 3)
    close(ours.gaussian_laplace(IMAGE, 0), theirs.gaussian_laplace(IMAGE, 0), 6)
    close(ours.gaussian_laplace(IMAGE, 0), 2 * IMAGE, 6)
    close(ours.gaussian_gradient_magnitude(IMAGE, 0), np.sqrt(2) * np.abs(IMAGE), 6)


def test_08_classes_of_errors():
    for wrong, kind, words in (
        (lambda m: m.correlate(IMAGE, [1, 2]), RuntimeError, r"`weights`.*\(2,\)"),
        (lambda m: m.gaussian_filter(IMAGE, 1, mode="no"), RuntimeError, "`mode`.*'no'"),
        (lambda m: m.gaussian_filter(IMAGE, (1, 2, 3)), RuntimeError, r"`sigma`.*\(1, 2, 3\)"),
        (lambda m: m.gaussian_filter(IMAGE, 1, axes=(0, 0)), ValueError, r"`axes`.*\(0, 0\)"),
        (lambda m: m.correlate1d(IMAGE, [1, 2], origin=4), ValueError, "`origin`.*4"),
        (lambda m: m.sobel(IMAGE, axis=2), IndexError, "`axis`.*2"),
        (lambda m: m.gaussian_filter(IMAGE, 1, order=0.5), TypeError, "`order`.*0.5"),
        (lambda m: m.laplace(IMAGE, np.zeros(2)), RuntimeError, r"`output`.*\(2,\)"),
    ):
        with pytest.raises(kind):
            wrong(theirs)
        with pytest.raises(kind, match=words) as caught:
            wrong(ours)
        assert isinstance(caught.value, SeparableError)


def test_09_memory():
    exact = ours.gaussian_filter(IMAGE, 1)
    own = IMAGE.copy()
    assert ours.gaussian_filter(own, 1, output=own) is own
    np.testing.assert_array_equal(own, exact)
    fixed = IMAGE.copy()
    fixed.flags.writeable = False
    for same in (fixed, np.asfortranarray(IMAGE), np.repeat(IMAGE, 2, 0)[::2], IMAGE.astype(">f8")):
        np.testing.assert_array_equal(ours.gaussian_filter(same, 1), exact)
    assert ours.gaussian_filter(np.zeros((0, 3)), 1).shape == (0, 3)
    assert ours.gaussian_filter(np.array(5.0), 1) == 5


# Whole numbers


def test_10_rounding():
    flat = np.full((30, 30), 100, np.uint8)
    assert (ours.gaussian_filter(flat, 2) == 100).all()
    exact = theirs.gaussian_filter(GREY.astype(float), 2)
    result = ours.gaussian_filter(GREY, 2)
    assert np.abs(result - exact).max() <= 0.5 + 1e-4
    assert np.mean(result.astype(float)) == pytest.approx(np.mean(exact), abs=0.05)
    assert np.mean(exact) - np.mean(theirs.gaussian_filter(GREY, 2).astype(float)) > 0.7
    assert ours.correlate1d(np.array([1, 3, 5], np.uint8), [0.5]).tolist() == [0, 2, 2]


def test_11_saturation():
    step = np.array([[200, 200, 10, 10]] * 3, np.uint8)
    assert ours.sobel(step).tolist() == [[0, 0, 0, 0]] * 3
    assert theirs.sobel(step).any()
    assert ours.sobel(step[:, ::-1]).tolist() == [[0, 255, 255, 0]] * 3
    assert ours.correlate(np.array([100], np.int8), [-3]).tolist() == [-128]
    bad = np.array([np.inf, -np.inf, np.nan])
    for kind in ("uint8", "int16", "int64", "uint64"):
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        for result in (ours.correlate(bad, [1], kind), ours.gaussian_filter(bad, 0, output=kind)):
            assert result.tolist() == [high, low, 0]


def test_12_terms_are_added_before_rounding():
    for name, arguments in (("laplace", ()), ("gaussian_laplace", (1.0,))):
        exact = getattr(theirs, name)(GREY.astype(float), *arguments)
        result = getattr(ours, name)(GREY, *arguments)
        assert np.abs(result - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-3
    third = np.full((3, 3), 1, np.uint8)
    result = ours.generic_laplace(third, lambda x, *_: x * 0.4)
    assert (result == 1).all()  # 0.8, not 0 + 0


def test_13_squares():
    exact = theirs.gaussian_gradient_magnitude(GREY.astype(float), 1)
    result = ours.gaussian_gradient_magnitude(GREY, 1)
    assert exact.max() > 16
    assert np.abs(result - exact).max() <= 0.5 + 1e-4
    assert np.abs(theirs.gaussian_gradient_magnitude(GREY, 1) - exact).max() > 5
    exact = theirs.generic_gradient_magnitude(GREY.astype(float), theirs.sobel)
    result = ours.generic_gradient_magnitude(GREY, ours.sobel)
    assert np.abs(result - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-4


def test_14_one_conversion():
    image = IMAGE * 100
    exact = theirs.gaussian_filter(image, 1)
    result = ours.gaussian_filter(image, 1, output=np.int16)
    np.testing.assert_array_equal(result, np.rint(exact))
    assert (theirs.gaussian_filter(image, 1, output=np.int16) != np.rint(exact)).any()


def test_15_bool():
    image = IMAGE > 0
    exact = theirs.uniform_filter(image.astype(float), 3)
    result = ours.uniform_filter(image, 3)
    assert result.dtype == bool
    np.testing.assert_array_equal(result, exact > 0.5)


def test_16_copies():
    for copied in (ours.gaussian_filter, ours.laplace):
        arguments = (1,) if copied is ours.gaussian_filter else ()
        large = np.array([[2**62 + 1, -5, 300]])
        result = copied(large, *arguments, axes=())
        assert result is not large
        np.testing.assert_array_equal(result, large)
        result = copied(large, *arguments, output=np.uint8, axes=())
        assert result.tolist() == [[255, 0, 255]]
        assert copied(np.array([2.5, -1, 7.5]), *arguments, output="uint8", axes=()).tolist() == [
            2, 0, 8,
        ]  # fmt: skip
    large = np.array([2**53 - 1, -(2**53) + 1])
    np.testing.assert_array_equal(ours.correlate1d(large, [0, 1, 0]), large)


# Borders


def test_17_constant_outside():
    flat = np.full((5, 6), 10.0)
    assert not ours.sobel(flat, mode="constant", cval=10).any()
    assert theirs.sobel(flat, mode="constant", cval=10).any()
    kernel = np.outer([1, 2, 1], [-1, 0, 1])
    exact = theirs.correlate(IMAGE, kernel, mode="constant", cval=10)
    close(ours.sobel(IMAGE, mode="constant", cval=10), exact, 80)
    result = ours.gaussian_filter(flat, 2, mode="constant", cval=10)
    close(result, flat, 10)


def test_18_modes_of_dense_kernels():
    kernel = RNG.normal(size=(3, 5))
    modes = ("wrap", "nearest")
    padded = np.pad(np.pad(IMAGE, ((3, 3), (0, 0)), "wrap"), ((0, 0), (3, 3)), "edge")
    exact = theirs.correlate(padded, kernel)[3:-3, 3:-3]
    close(ours.correlate(IMAGE, kernel, mode=modes), exact, 60)
    close(ours.correlate(IMAGE.T, kernel.T, mode=modes, axes=(1, 0)), exact.T, 60)
    with pytest.raises(RuntimeError):
        theirs.correlate(IMAGE, kernel, mode=modes)


def test_19_modes_of_sums():
    modes = ("wrap", "nearest")
    terms = [theirs.gaussian_filter(IMAGE, 1, order, mode=modes) for order in ((2, 0), (0, 2))]
    close(ours.gaussian_laplace(IMAGE, 1, mode=modes), sum(terms), 10)
    assert np.abs(theirs.gaussian_laplace(IMAGE, 1, mode=modes) - sum(terms)).max() > 0.01
    terms = [theirs.gaussian_filter(IMAGE, 1, order, mode=modes) for order in ((1, 0), (0, 1))]
    exact = np.hypot(*terms)
    close(ours.gaussian_gradient_magnitude(IMAGE, 1, mode=modes), exact, 10)
    its = theirs.gaussian_gradient_magnitude(IMAGE, 1, mode=modes)
    assert np.abs(its - exact).max() > 0.01


# Axes


@pytest.mark.needs_scipy("1.16")
def test_20_axes_of_gradients():
    exact = np.stack([theirs.gaussian_gradient_magnitude(plane, 1) for plane in VOLUME])
    close(ours.gaussian_gradient_magnitude(VOLUME, 1, axes=(1, 2)), exact, 10)
    assert np.abs(theirs.gaussian_gradient_magnitude(VOLUME, 1, axes=(1, 2)) - exact).max() > 0.1
    exact = np.stack([theirs.gaussian_gradient_magnitude(plane, (1, 2)) for plane in VOLUME])
    close(ours.gaussian_gradient_magnitude(VOLUME, (2, 1), axes=(2, 1)), exact, 10)


@pytest.mark.needs_scipy("1.16")
def test_21_sequences_belong_to_axes():
    kernel = RNG.normal(size=(3, 5))
    exact = theirs.correlate(IMAGE, kernel, origin=(1, -2))
    close(ours.correlate(IMAGE, kernel, origin=(-2, 1), axes=(1, 0)), exact, 60)
    close(theirs.correlate(IMAGE, kernel, origin=(1, -2), axes=(1, 0)), exact, 60)
    exact = theirs.gaussian_laplace(IMAGE, (1, 2))
    close(ours.gaussian_laplace(IMAGE, (2, 1), axes=(1, 0)), exact, 10)
    close(theirs.gaussian_laplace(IMAGE, (1, 2), axes=(1, 0)), exact, 10)


@pytest.mark.needs_scipy("1.16")
def test_22_radii():
    exact = theirs.gaussian_laplace(VOLUME, 1, radius=(2, 9, 5), axes=(0, 2))
    for radius in ((2, 9, 5), (2, 5)):
        close(ours.gaussian_laplace(VOLUME, 1, radius=radius, axes=(0, 2)), exact, 10)


# Kernels


def test_23_small_weights():
    kernel, line = RNG.normal(size=(3, 4)), np.array([1.0, -2.0, 5.0])
    for scale in (1e-20, 1e20):
        close(ours.correlate(IMAGE, kernel * scale) / scale, theirs.correlate(IMAGE, kernel), 40)
        close(ours.convolve1d(IMAGE, line * scale) / scale, theirs.convolve1d(IMAGE, line), 30)
    assert not theirs.correlate(IMAGE, kernel * 1e-20).any()
    wrong = theirs.convolve1d(IMAGE, line * 1e-20) / 1e-20 - theirs.convolve1d(IMAGE, line)
    assert np.abs(wrong).max() > 1


def test_24_weights_that_are_not_finite():
    for bad in (np.nan, np.inf):
        with pytest.raises(KernelError, match="must be finite"):
            ours.correlate1d(IMAGE, [1, bad])


def test_25_sigma():
    for bad in (-1, np.nan, np.inf, (1, -1)):
        with pytest.raises(ArgumentError, match="`sigma`"):
            ours.gaussian_filter(IMAGE, bad)
    with pytest.raises(ArgumentError, match="`sigma`"):
        ours.gaussian_filter1d(IMAGE, 0)
    np.testing.assert_array_equal(theirs.gaussian_filter(IMAGE, -1), IMAGE)


# Numbers that are not finite


def test_26_support():
    image = RNG.normal(size=(40, 50))
    image[20, 20] = np.nan
    assert np.isnan(ours.uniform_filter(image, 5)).sum() == 25
    assert np.isnan(theirs.uniform_filter(image, 5)).sum() > 25
    kernel = RNG.normal(size=(7, 6))
    for method in ("auto", "direct", "passes", "fft", "overlap"):
        assert np.isnan(sep.correlate(image, kernel, method=method)).sum() == 42


def test_27_zeros_within_the_box():
    image = np.zeros((9, 9))
    image[4, 4] = np.nan
    spoilt = np.isnan(ours.sobel(image))  # by whatever method is fastest: at most the box
    assert spoilt[3:6, [3, 5]].all()
    assert spoilt.sum() == spoilt[3:6, 3:6].sum()
    by_passes = np.isnan(sep.correlate(image, sep.kernels.sobel(), method="passes"))
    assert by_passes[3:6, 3:6].all()
    assert by_passes.sum() == 9


# Types and memory


def test_28_types():
    half = IMAGE.astype(np.float16)
    exact = theirs.gaussian_filter(half.astype(float), 1)
    assert ours.gaussian_filter(half, 1).dtype == np.float16
    close(ours.gaussian_filter(half, 1), exact, 3, 1e-3)
    close(ours.gaussian_filter(half, 1, output=float), exact, 3, 1e-6)
    assert ours.gaussian_filter(IMAGE, 1, output=complex).dtype == np.complex128
    assert ours.gaussian_filter(IMAGE, 1, output="bool").dtype == bool
    for given in (np.float16, complex, "bool"):
        with pytest.raises(RuntimeError):
            theirs.gaussian_filter(IMAGE, 1, output=given)
    for refused in (np.longdouble, object):
        for module in (ours, theirs):
            with pytest.raises(RuntimeError):
                module.gaussian_filter(IMAGE.astype(refused), 1)


def test_29_complex_results():
    image = IMAGE + 1j
    for wrong in (
        lambda m: m.gaussian_filter(image, 1, output="float64"),
        lambda m: m.generic_gradient_magnitude(image, m.sobel, output=np.zeros(image.shape)),
    ):
        with pytest.raises(RuntimeError):
            wrong(theirs)
        with pytest.raises(OutputError, match="complex dtype"):
            wrong(ours)


def test_30_sums_in_place():
    for name, arguments in (
        ("laplace", ()), ("gaussian_laplace", (1,)), ("gaussian_gradient_magnitude", (1,)),
        ("generic_laplace", (theirs.sobel,)), ("generic_gradient_magnitude", (theirs.sobel,)),
    ):  # fmt: skip
        exact = getattr(theirs, name)(IMAGE, *arguments)
        own = IMAGE.copy()
        getattr(ours, name)(own, *arguments, output=own)
        close(own, exact, 100)
        own = IMAGE.copy()
        getattr(theirs, name)(own, *arguments, output=own)
        assert np.abs(own - exact).max() > 0.1
        block = np.zeros((10, 10))
        block[:9] = IMAGE
        getattr(ours, name)(block[:9], *arguments, output=block[1:])
        close(block[1:], exact, 100)


def test_31_functions_of_the_user():
    seen = []

    def record(input, axis, output, mode, cval):
        seen.append((axis, output.dtype, output.shape))
        return input if axis else None

    result = ours.generic_laplace(GREY, record, output=np.uint8)
    assert seen == [(0, np.float64, GREY.shape), (1, np.float64, GREY.shape)]
    np.testing.assert_array_equal(result, GREY)
    seen.clear()
    ours.generic_gradient_magnitude(IMAGE + 1j, record, axes=0)
    assert seen == [(0, np.complex128, IMAGE.shape)]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_32_threads_and_forks():
    exact, results = ours.gaussian_filter(VOLUME, 1), []
    threads = [
        threading.Thread(target=lambda: results.append(ours.gaussian_filter(VOLUME, 1)))
        for _ in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 8
    assert all(np.array_equal(r, exact) for r in results)
    if not hasattr(os, "fork"):
        return
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if np.array_equal(ours.gaussian_filter(VOLUME, 1), exact) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


# Not here


def test_33_linear_filters_only():
    for name in ("median_filter", "rotate", "binary_erosion", "label"):
        assert hasattr(theirs, name)
        assert not hasattr(ours, name)


def test_34_other_arrays():
    class Foreign:
        def __array__(self, dtype=None, copy=None):
            return IMAGE.astype(dtype or float)

    result = ours.gaussian_filter(Foreign(), 1)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, ours.gaussian_filter(IMAGE, 1))


# Missing samples

VALID = RNG.random(IMAGE.shape) > 0.3


def test_35_masks_by_keyword():
    spoilt = np.where(VALID, IMAGE, np.nan)
    for name in (n for n in NAMES if "spline" not in n):
        parameters = inspect.signature(getattr(ours, name)).parameters
        assert parameters["mask"].kind is inspect.Parameter.KEYWORD_ONLY
    a = ours.gaussian_filter(IMAGE, 1, mask=VALID)
    np.testing.assert_array_equal(ours.gaussian_filter(spoilt, 1, mask=VALID), a)
    np.testing.assert_array_equal(ours.gaussian_filter(spoilt, 1, nan="ignore"), a)


def test_36_the_definition():
    zeroed = np.where(VALID, IMAGE, 0)
    weight = theirs.gaussian_filter(VALID.astype(float), 1)
    smooth = ours.gaussian_filter(IMAGE, 1, mask=VALID)
    close(smooth, theirs.gaussian_filter(zeroed, 1) / weight, 10)
    slope = np.array([1, 0, -2])
    known = theirs.correlate1d(VALID.astype(float), abs(slope))
    mean = theirs.correlate1d(zeroed, abs(slope)) / np.where(known, known, np.nan)
    expected = theirs.correlate1d(zeroed, slope) + mean * theirs.correlate1d(1.0 - VALID, slope)
    given = ours.correlate1d(IMAGE, slope, mask=VALID)
    assert not np.isnan(given).all()
    np.testing.assert_allclose(given, expected, atol=1e-12)
    moved = ours.correlate1d(3 * IMAGE + 2, slope, mask=VALID)
    np.testing.assert_allclose(moved, 3 * given - 2, atol=1e-12)


def test_37_nothing_valid():
    none = np.zeros(GREY.shape)
    assert np.isnan(ours.sobel(GREY, output=float, mask=none)).all()
    assert (ours.sobel(GREY, mask=none, fill=7) == 7).all()
    with pytest.raises(ArgumentError, match=r"`fill` must be a whole number 0 \.\. 255"):
        ours.sobel(GREY, mask=none)


def test_38_sums_over_the_axes():
    each = [ours.correlate1d(IMAGE, [1, -2, 1], axis, mask=VALID) for axis in (0, 1)]
    np.testing.assert_allclose(ours.laplace(IMAGE, mask=VALID), sum(each), atol=1e-12)
    both = [ours.sobel(IMAGE, axis, mask=VALID) for axis in (0, 1)]
    length = ours.generic_gradient_magnitude(IMAGE, ours.sobel, mask=VALID)
    np.testing.assert_allclose(length, np.hypot(*both), atol=1e-12)
    with pytest.raises(SeparableError, match="`derivative` must take the keywords mask, nan"):
        ours.generic_gradient_magnitude(IMAGE, theirs.sobel, mask=VALID)


def test_39_outside():
    ones = np.array([1.0, 1.0, np.nan])
    options = {"mode": "constant", "nan": "ignore"}
    assert ours.correlate1d(ones, [1, 1, 1], cval=4, **options).tolist() == [6, 3, 7.5]
    assert ours.correlate1d(ones, [1, 1, 1], cval=np.nan, **options).tolist() == [3, 3, 3]
    masked = np.ma.masked_array(IMAGE, ~VALID)
    result = ours.gaussian_filter(masked, 1)
    assert type(result) is np.ndarray
    np.testing.assert_array_equal(result, ours.gaussian_filter(IMAGE, 1, mask=VALID))


@pytest.mark.parametrize(
    "mode",
    [
        "reflect",
        "mirror",
        "nearest",
        "wrap",
        "constant",
        "grid-mirror",
        "grid-wrap",
        "grid-constant",
    ],
)
def test_40_interpolation(mode):
    inexact = ("nearest", "grid-constant", "reflect", "grid-mirror")  # in SciPy
    allowed = 1e-5 if mode in inexact else 1e-10
    for order in range(6):
        options = {"order": order, "mode": mode, "cval": 2.0}
        for step in ((0.3, -1.7), 4.5, (-25.25, 40.4)):
            expected = theirs.shift(IMAGE, step, **options)
            close(ours.shift(IMAGE, step, **options), expected, np.abs(IMAGE).max(), allowed)
            single = ours.shift(IMAGE.astype(np.float32), step, **options)
            exact = ours.shift(IMAGE.astype(np.float32).astype(float), step, **options)
            close(single, exact, np.abs(IMAGE).max(), 1e-6)
        for factor in ((1.5, 0.6), 2.3):
            expected = theirs.zoom(IMAGE, factor, **options)
            close(ours.zoom(IMAGE, factor, **options), expected, np.abs(IMAGE).max(), allowed)
        if order > 1:
            expected = theirs.spline_filter(VOLUME, order, mode=mode)
            found = ours.spline_filter(VOLUME, order, mode=mode)
            close(found, expected, np.abs(expected).max(), max(allowed, 1e-12))
            if mode != "grid-constant":  # the coefficients give the samples back
                back = ours.shift(found, 0.0, order=order, mode=mode, prefilter=False)
                close(back, VOLUME, np.abs(expected).max(), 1e-12)


def test_41_nan_in_interpolation():
    line = np.ones(200)
    line[60] = np.nan
    assert np.isnan(theirs.zoom(line, 2, mode="mirror")).sum() > 250
    assert np.isnan(ours.zoom(line, 2, mode="mirror")).sum() < 130
    assert not np.isnan(ours.zoom(line, 2, order=1, mode="mirror")[130:]).any()


def test_42_coefficients_are_rounded_once():
    once = np.rint(theirs.spline_filter(GREY, 3))
    np.testing.assert_array_equal(ours.spline_filter(GREY, 3, output=np.int16), once)
    assert (theirs.spline_filter(GREY, 3, output=np.int16) != once).any()


def test_43_zoom_of_one():
    assert (ours.zoom(np.full((3, 3), 300), 1, output=np.uint8) == 255).all()
    np.testing.assert_array_equal(ours.zoom(IMAGE, 1), IMAGE)
