"""Images with missing samples: the definition, its properties, arguments, errors, outputs."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import scipy.ndimage

import separable as sep
from separable import ndimage
from separable.borders import registered_borders
from separable.errors import ArgumentError, ArgumentTypeError, DTypeError, SeparableError
from separable.testing import assert_same_filter, reference_valid

RNG = np.random.default_rng(5)
MODES = [border.name for border in registered_borders()]
DISK = (np.hypot(*np.mgrid[-3:4, -3:4]) <= 3).astype(float)
KERNELS = {
    "gaussian": sep.kernels.gaussian(1).dense(),
    "box": np.ones((5, 5)),
    "negative": -np.ones((3, 2)),
    "disk": DISK,
    "sobel": np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]),
    "log": sep.kernels.laplacian_of_gaussian(1).dense(),
    "random": RNG.normal(size=(4, 5)),
    "one": np.array([[0, 0, 0], [0, 0, 2], [0, 0, 0]]),
}


def holes(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Single samples and a hole larger than the kernels."""
    mask = np.random.default_rng(seed).random(shape) > 0.3
    mask[tuple(slice(4, n - 2) for n in shape)] = False
    return mask


def rubbish(image: Any, mask: Any) -> Any:
    """The image with NaN, infinity and large numbers where it is missing."""
    spoilt = image.copy()
    spoilt[~mask] = np.resize([np.nan, np.inf, -1e30], int((~mask).sum()))
    return spoilt


IMAGE = RNG.normal(size=(19, 17))
MASK = holes(IMAGE.shape)


# The definition


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", KERNELS)
def test_the_definition(name: str, mode: str) -> None:
    kernel = KERNELS[name]
    exact = reference_valid(IMAGE, kernel, MASK, mode=mode, cval=1.5, fill=7)
    assert (exact == 7).any(), "the hole is too small to see `fill`"
    options = {"mask": MASK, "mode": mode, "cval": 1.5, "fill": 7}
    spoilt = rubbish(IMAGE, MASK)
    got = sep.correlate(spoilt, kernel, **options)
    assert np.array_equal(got == 7, exact == 7)
    assert_same_filter(got, exact, [7], kernel, 1e-13)
    single = sep.correlate(spoilt.astype("f4"), kernel, **options)
    assert single.dtype == np.float32
    assert_same_filter(single, exact, [7], kernel, 1e-6)
    flipped = sep.convolve(
        spoilt, np.flip(kernel), **options, origin=[n % 2 - 1 for n in kernel.shape]
    )
    assert_same_filter(flipped, exact, [7], kernel, 1e-13)


@pytest.mark.parametrize(
    "method", ["direct", "separable", "low-rank", "fft", "overlap", "reference"]
)
def test_methods_agree(method: str) -> None:
    name = "sobel" if method == "separable" else "log"
    exact = reference_valid(IMAGE, KERNELS[name], MASK)
    got = sep.correlate(IMAGE, KERNELS[name], mask=MASK, method=method)
    assert np.array_equal(np.isnan(got), np.isnan(exact))
    # What a transform rounds is divided by the weight that is valid, down to 1/50 here.
    assert np.nanmax(np.abs(got - exact)) <= 1e-10


@pytest.mark.parametrize("axes", [(0, 1), (2, 0), (1,), (-1, -2)])
def test_axes_origins_and_modes(axes: tuple[int, ...]) -> None:
    volume = RNG.normal(size=(7, 8, 6))
    mask = RNG.random(volume.shape) > 0.5
    kernel = RNG.normal(size=(4, 3)[: len(axes)])
    options: dict[str, Any] = {"axes": axes, "mode": ["wrap", "constant"][: len(axes)]}
    options |= {"origin": [-1, 1][: len(axes)], "cval": -2.0}
    exact = reference_valid(volume, kernel, mask, **options, fill=0)
    got = sep.correlate(volume, kernel, mask=mask, **options, fill=0)
    assert_same_filter(got, exact, volume, kernel)


def test_complex_images_and_kernels() -> None:
    image = IMAGE + 1j * IMAGE[::-1]
    for kernel in (DISK, KERNELS["random"], KERNELS["random"] * 1j + 1):
        exact = reference_valid(image, kernel, MASK, fill=1j)
        assert_same_filter(sep.correlate(image, kernel, mask=MASK, fill=1j), exact, image, kernel)
        real = reference_valid(IMAGE, kernel, MASK, fill=0)
        got = sep.correlate(IMAGE, kernel, mask=MASK, fill=0)
        assert_same_filter(got, real, IMAGE, kernel)


def test_tiny_weights_are_weights_and_tiny_kernels_kernels() -> None:
    kernel = np.outer(*[np.exp(-0.5 * np.arange(-12, 13) ** 2)] * 2)  # down to 1e-62
    image = RNG.normal(size=(40, 40))
    mask = np.zeros(image.shape, bool)
    mask[20, 20] = True
    for k in (kernel, kernel * 1e-30, kernel * 1e30):
        for dtype in ("f4", "f8"):
            got = sep.correlate(image.astype(dtype), k, mask=mask, output="f8")
            near = np.hypot(0, 0) + np.maximum(*np.abs(np.mgrid[-20:20, -20:20])) <= 12
            assert np.array_equal(~np.isnan(got), near)
            expected = float(image.astype(dtype)[20, 20]) * float(k.sum())
            assert np.allclose(got[near], expected, rtol=1e-12 if dtype == "f8" else 1e-6)


def test_a_kernel_of_zeros_gives_zeros() -> None:
    assert not sep.correlate(rubbish(IMAGE, MASK), np.zeros((3, 3)), mask=MASK).any()


# What it has in common with the plain filter


@pytest.mark.parametrize("name", KERNELS)
def test_nothing_missing_is_the_plain_filter(name: str) -> None:
    image = RNG.normal(size=(33, 31)).astype("f4")
    plain = sep.correlate(image, KERNELS[name])
    ones = np.ones(image.shape, "u1")
    for options in ({"mask": ones}, {"mask": ones[:, :] * 255}, {"nan": "ignore"}):
        assert np.array_equal(sep.correlate(image, KERNELS[name], **options), plain)


@pytest.mark.parametrize("name", KERNELS)
def test_far_from_missing_samples_it_is_the_plain_filter(name: str) -> None:
    image = RNG.normal(size=(64, 50))
    mask = np.ones(image.shape, bool)
    mask[:10] = False
    plain = sep.correlate(image, KERNELS[name])
    got = sep.correlate(image, KERNELS[name], mask=mask)
    assert_same_filter(got[20:], plain[20:], image, KERNELS[name], 1e-15)


def test_a_mean_of_a_gradient_of_a_constant() -> None:
    image = np.where(MASK, 3.0, np.nan)
    assert np.allclose(np.nan_to_num(ndimage.gaussian_filter(image, 2, nan="ignore"), nan=3.0), 3)
    for result in (
        ndimage.sobel(image, nan="ignore", fill=0),
        ndimage.laplace(image, nan="ignore", fill=0),
        ndimage.gaussian_filter(image, 1, order=1, nan="ignore", fill=0),
        ndimage.gaussian_gradient_magnitude(image, 1, nan="ignore", fill=0),
    ):
        assert np.max(np.abs(result)) < 1e-13


# Whole numbers


def test_whole_numbers_are_rounded_once() -> None:
    grey = RNG.integers(0, 256, (30, 31), np.uint8)
    mask = holes(grey.shape, 3)
    for name, kernel in KERNELS.items():
        exact = reference_valid(grey, kernel / np.abs(kernel).sum(), mask)
        got = sep.correlate(grey, kernel / np.abs(kernel).sum(), mask=mask, fill=9)
        assert got.dtype == np.uint8
        assert np.all(got[np.isnan(exact)] == 9), name
        away = np.abs(np.clip(exact, 0, 255) - got)[~np.isnan(exact)]
        assert away.max() <= 0.5 + 1e-4, name


def test_whole_numbers_want_a_fill() -> None:
    grey = np.ones((3, 4), np.uint8)
    for fill in (np.nan, -1, 256, 0.5, np.inf):
        with pytest.raises(ArgumentError, match=r"`fill` must be a whole number 0 \.\. 255") as e:
            sep.convolve(grey, DISK, mask=np.ones((3, 4)), fill=fill)
        assert "give for instance fill=0, or output='float32'" in str(e.value)
    assert np.isnan(sep.convolve(grey, DISK, mask=grey * 0, output="f4")).all()
    assert (sep.convolve(grey, DISK, mask=grey * 0, fill=255) == 255).all()
    # Whole numbers are never NaN: to ignore NaN changes nothing and wants nothing.
    assert np.array_equal(sep.convolve(grey, DISK, nan="ignore"), sep.convolve(grey, DISK))
    large = sep.convolve(np.ones(3, np.int64), [1.0], mask=[1, 0, 1], fill=2**62 + 1)
    assert large.tolist() == [1, 2**62 + 1, 1]


# What is missing


def test_masks_of_the_filtered_axes_serve_all_channels() -> None:
    photo = RNG.integers(0, 256, (20, 21, 3), np.uint8)
    mask = holes(photo.shape[:2], 1)
    each = np.broadcast_to(mask[..., None], photo.shape)
    for kernel in (DISK, KERNELS["sobel"]):
        wanted = sep.convolve(photo, kernel, axes=(0, 1), mask=each, output="f8")
        for given in (mask, mask[..., None], mask.astype("f4") * 7):
            got = sep.convolve(photo, kernel, axes=(0, 1), mask=given, output="f8")
            assert np.array_equal(got, wanted, equal_nan=True)
    moved = np.ascontiguousarray(np.moveaxis(photo, 2, 0))
    got = sep.convolve(moved, DISK, axes=(1, 2), mask=mask, output="f8")
    wanted = sep.convolve(photo, DISK, axes=(0, 1), mask=mask, output="f8")
    assert np.array_equal(np.moveaxis(got, 0, 2), wanted, equal_nan=True)


def test_nan_is_missing_where_it_is_ignored() -> None:
    image = np.where(MASK, IMAGE, np.nan)
    wanted = sep.convolve(IMAGE, DISK, mask=MASK)
    assert np.array_equal(sep.convolve(image, DISK, nan="ignore"), wanted, equal_nan=True)
    other = holes(IMAGE.shape, 8)
    both = sep.convolve(image, DISK, mask=other, nan="ignore")
    assert np.array_equal(both, sep.convolve(IMAGE, DISK, mask=MASK & other), equal_nan=True)
    assert np.isnan(sep.convolve(image, DISK)).sum() > np.isnan(wanted).sum()


def test_valid_nan_spreads_unless_ignored() -> None:
    image = np.ones((9, 9))
    image[4, 4] = np.nan
    mask = np.ones((9, 9))
    mask[0, 0] = 0
    got = sep.convolve(image, np.ones((3, 3)), mask=mask)
    assert np.isnan(got).sum() == 9
    assert np.allclose(got[~np.isnan(got)], 9)


def test_a_masked_array_brings_its_mask_as_numpy_means_it() -> None:
    masked = np.ma.MaskedArray(rubbish(IMAGE, MASK), mask=~MASK)
    wanted = sep.convolve(IMAGE, DISK, mask=MASK)
    for got in (
        sep.convolve(masked, DISK),
        ndimage.convolve(masked, DISK),
        sep.convolve(masked, DISK, mask=np.ones(IMAGE.shape)),
    ):
        assert type(got) is np.ndarray
        assert np.array_equal(got, wanted, equal_nan=True)
    assert np.array_equal(sep.convolve(np.ma.MaskedArray(IMAGE), DISK), sep.convolve(IMAGE, DISK))


def test_outside_counts_unless_it_is_nan_and_ignored() -> None:
    ones = np.ones(4)
    ones[2] = np.nan
    plain = sep.convolve(ones, [1.0, 1, 1], nan="ignore", mode="constant", cval=4)
    assert plain.tolist() == [6, 3, 3, 7.5]
    alone = sep.convolve(ones, [1.0, 1, 1], nan="ignore", mode="constant", cval=np.nan)
    assert alone.tolist() == [3, 3, 3, 3]
    edge = sep.convolve(np.ones(4), [1.0, 1, 1], nan="ignore", mode="constant", cval=np.nan)
    assert edge.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((3, 4)), r"`mask` must have the image's shape (5, 4, 3) or, the same for all others, "
         "that of the filtered axes, (5, 4); got (3, 4). It is nonzero where the image is valid"),
        (np.ones(()), "got ()"),
        (np.ones((5, 4, 1, 1)), "got (5, 4, 1, 1)"),
    ],
)  # fmt: skip
def test_masks_of_another_shape(mask: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        sep.convolve(np.ones((5, 4, 3)), DISK, axes=(0, 1), mask=mask)
    with pytest.raises(ArgumentError, match=re.escape(message)):
        ndimage.uniform_filter(np.ones((5, 4, 3)), axes=(0, 1), mask=mask)


def test_other_arguments_that_are_wrong() -> None:
    ones = np.ones((5, 5))
    with pytest.raises(ArgumentError, match=r'must be "propagate" .* or "ignore" .*; got .omit'):
        sep.convolve(ones, DISK, nan="omit")
    with pytest.raises(ArgumentError, match="`nan` must be"):
        ndimage.sobel(ones, nan=True)
    with pytest.raises(ArgumentTypeError, match="`fill` must be a number; got 'none'"):
        sep.convolve(ones, DISK, mask=ones, fill="none")
    with pytest.raises(ArgumentError, match="`fill` must be real for a result of float64"):
        sep.convolve(ones, DISK, mask=ones, fill=1j)
    with pytest.raises(ArgumentTypeError, match="`mask` must hold numbers or bool"):
        sep.convolve(ones, DISK, mask=ones.astype(str))
    with pytest.raises(ArgumentTypeError, match="`mask` must be a plain array"):
        sep.convolve(ones, DISK, mask=np.ma.MaskedArray(ones))
    with pytest.raises(SeparableError, match="`mode` must be one of"):
        sep.convolve(ones, DISK, mask=ones, mode="mirrored")
    with pytest.raises(DTypeError):
        sep.convolve(ones.astype(object), DISK, mask=ones)


# Options


def test_output_may_be_the_image() -> None:
    image = rubbish(IMAGE, MASK)
    wanted = sep.convolve(image, DISK, mask=MASK, fill=0)
    given = image.copy()
    assert sep.convolve(given, DISK, mask=MASK, fill=0, output=given) is given
    assert np.array_equal(given, wanted)
    strided = np.full((38, 34), 5.0)[::2, ::-2]
    sep.convolve(np.asfortranarray(image), DISK, mask=MASK, fill=0, output=strided)
    assert_same_filter(strided, wanted, IMAGE, DISK)
    read_only = image.copy()
    read_only.flags.writeable = False
    assert np.array_equal(sep.convolve(read_only, DISK, mask=MASK, fill=0), wanted)
    assert np.array_equal(read_only, image, equal_nan=True), "the image is left as it was"
    assert sep.convolve(image[:0], DISK, mask=MASK[:0]).shape == (0, 17)


def test_threads_and_progress() -> None:
    image = RNG.normal(size=(400, 700)).astype("f4")
    mask = RNG.random(image.shape) > 0.2
    done: list[float] = []
    for kernel in (DISK, KERNELS["sobel"]):
        one = sep.convolve(image, kernel, mask=mask, fill=0, threads=1)
        two = sep.convolve(image, kernel, mask=mask, fill=0, threads=2)
        assert_same_filter(one, two, image, kernel, 1e-6)  # perhaps by another method
        done.clear()
        sep.filtering.filter_with(image, kernel, None, mask=mask, progress=done.append)
        assert np.isclose(sum(done), 1)


def test_the_tolerance_holds_for_valid_samples() -> None:
    image = RNG.normal(size=(90, 80))
    mask = RNG.random(image.shape) > 0.3
    mask[30:60, 30:60] = False
    for kernel in (sep.kernels.gaussian(5), sep.kernels.gaussian(4, order=(0, 1)), DISK):
        dense = kernel.dense() if isinstance(kernel, sep.Factors) else kernel
        exact = sep.correlate(image, kernel, mask=mask, fill=0)
        for tol in (0.1, 1e-3):
            got = sep.correlate(image, kernel, mask=mask, tol=tol, fill=0)
            assert_same_filter(got, exact, image, dense, tol)


# The filters of scipy.ndimage


def filters() -> dict[str, Any]:
    """Every function of `ndimage` with its arguments and the kernels it adds up."""
    g = {n: ndimage.smoothing_filters.gaussian_taps(1.0, n, 4) for n in (0, 1, 2)}
    second, smooth, slope = np.array([1, -2, 1]), np.array([1, 2, 1]), np.array([-1, 0, 1])
    only = np.ones(1)
    return {
        "correlate": ([KERNELS["random"]], [KERNELS["random"]]),
        "correlate1d": ([[1, 2, -4]], [np.outer(only, [1, 2, -4])]),
        "gaussian_filter": ([1], [np.outer(g[0], g[0])]),
        "gaussian_filter1d": ([1, 0, 1], [np.outer(g[1], only)]),
        "gaussian_laplace": ([1], [np.outer(g[2], g[0]), np.outer(g[0], g[2])]),
        "laplace": ([], [np.outer(second, only), np.outer(only, second)]),
        "sobel": ([0], [np.outer(slope, smooth)]),
        "prewitt": ([1], [np.outer([1, 1, 1], slope)]),
        "uniform_filter": ([3], [np.ones((3, 3)) / 9]),
        "uniform_filter1d": ([3, 0], [np.ones((3, 1)) / 3]),
    }


@pytest.mark.parametrize("mode", ["mirror", "constant"])
@pytest.mark.parametrize("name", filters())
def test_filters_are_sums_of_their_kernels(name: str, mode: str) -> None:
    arguments, kernels = filters()[name]
    exact = sum(reference_valid(IMAGE, k, MASK, mode=mode, cval=2) for k in kernels)
    options = {"mode": mode, "cval": 2, "mask": MASK}
    got = getattr(ndimage, name)(rubbish(IMAGE, MASK), *arguments, **options)
    assert np.array_equal(np.isnan(got), np.isnan(exact))
    assert np.nanmax(np.abs(got - exact)) <= 1e-12
    filled = getattr(ndimage, name)(IMAGE, *arguments, fill=3, **options)
    assert np.array_equal(np.isnan(exact), (filled == 3) & np.isnan(got))
    out = np.empty(IMAGE.shape, np.int16)
    getattr(ndimage, name)(
        IMAGE * 100, *arguments, output=out, fill=-9, mode=mode, cval=200, mask=MASK
    )
    assert np.all(out[np.isnan(exact)] == -9)
    assert np.max(np.abs(out - 100 * exact)[~np.isnan(exact)]) <= 0.5 + 1e-9


def test_magnitudes_and_users_functions() -> None:
    g = {n: ndimage.smoothing_filters.gaussian_taps(1.0, n, 4) for n in (0, 1, 2)}
    parts = [reference_valid(IMAGE, np.outer(g[1 - k], g[k]), MASK) for k in (0, 1)]
    length = np.hypot(*parts)
    got = ndimage.gaussian_gradient_magnitude(rubbish(IMAGE, MASK), 1, mask=MASK)
    assert np.allclose(got, length, rtol=0, atol=1e-13, equal_nan=True)
    assert np.array_equal(np.isnan(got), np.isnan(length))

    def slope(input, axis, output, mode, cval, **more):
        order = tuple(int(a == axis) for a in range(input.ndim))
        return ndimage.gaussian_filter(input, 1, order, output, mode, cval, **more)

    user = ndimage.generic_gradient_magnitude(IMAGE, slope, mask=MASK)
    assert np.allclose(user, got, rtol=0, atol=1e-13, equal_nan=True)
    filled = ndimage.generic_gradient_magnitude(IMAGE, ndimage.sobel, mask=MASK, fill=-1)
    both = [ndimage.sobel(IMAGE, a, mask=MASK) for a in (0, 1)]
    assert np.allclose(filled, np.nan_to_num(np.hypot(*both), nan=-1), rtol=0, atol=1e-13)

    def second(input, axis, output, mode, cval, mask=None, nan="propagate", fill=np.nan):
        return ndimage.correlate1d(
            input, [1, -2, 1], axis, output, mode, cval, mask=mask, nan=nan, fill=fill
        )

    summed = ndimage.generic_laplace(IMAGE, second, mask=MASK)
    laplace = ndimage.laplace(IMAGE, mask=MASK)
    assert np.allclose(summed, laplace, rtol=0, atol=1e-13, equal_nan=True)
    assert ndimage.generic_laplace(IMAGE, scipy.ndimage.sobel).shape == IMAGE.shape
    with pytest.raises(ArgumentTypeError, match="`derivative2` must take the keywords mask, nan"):
        ndimage.generic_laplace(IMAGE, scipy.ndimage.sobel, mask=MASK)


def test_axes_of_no_width_are_left_alone_and_missing_is_filled_in() -> None:
    for got in (
        ndimage.gaussian_filter(IMAGE, 0, mask=MASK),
        ndimage.uniform_filter(IMAGE, 1, mask=MASK),
        ndimage.laplace(IMAGE, axes=(), mask=MASK),
        ndimage.correlate(IMAGE, np.array(1.0), axes=(), mask=MASK),
    ):
        assert np.array_equal(got, np.where(MASK, IMAGE, np.nan), equal_nan=True)
    got = ndimage.gaussian_filter(IMAGE, (0, 1), mask=MASK)
    alone = ndimage.gaussian_filter1d(IMAGE, 1, 1, mask=MASK)
    assert np.array_equal(got, alone, equal_nan=True)
    volume = np.stack([IMAGE] * 2, -1)
    got = ndimage.gaussian_filter(volume, (1, 0), axes=(0, 1), mask=MASK)
    assert np.array_equal(
        got[..., 0], ndimage.gaussian_filter1d(IMAGE, 1, 0, mask=MASK), equal_nan=True
    )


def test_kernels_too_large_to_be_dense_run_axis_by_axis() -> None:
    image = RNG.normal(size=(9, 8, 7))
    mask = RNG.random(image.shape) > 0.9
    sigmas, radii = (6.0, 6.0, 6.0), 60  # 121^3 weights
    got = ndimage.gaussian_filter(image, sigmas, radius=radii, mode="constant", cval=1, mask=mask)
    taps = ndimage.smoothing_filters.gaussian_taps(6.0, 0, radii)

    def by_axes(values: Any, outside: float) -> Any:
        for axis in range(3):
            values = scipy.ndimage.correlate1d(values, taps, axis, mode="constant", cval=outside)
        return values

    exact = by_axes(np.where(mask, image, 0), 1) / by_axes(mask.astype(float), 1)
    assert np.allclose(got, exact, rtol=1e-12)
    laplace = ndimage.gaussian_laplace(np.full(image.shape, 5.0), sigmas, radius=radii, mask=mask)
    assert np.max(np.abs(laplace)) < 1e-6


@pytest.mark.parametrize("name", [n for n in ndimage.__all__ if "spline" not in n])
def test_every_filter_takes_the_keywords(name: str) -> None:
    parameters = inspect.signature(getattr(ndimage, name)).parameters
    for keyword, default in (("mask", None), ("nan", "propagate")):
        assert parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[keyword].default == default
    assert np.isnan(parameters["fill"].default)


def test_on_the_command_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from separable.cli.main import app

    monkeypatch.chdir(tmp_path)
    image = rubbish(IMAGE, MASK)
    np.save("in.npy", image)
    np.save("mask.npy", MASK.astype("u1") * 255)
    common = ["filter", "in.npy", "out.npy", "--force", "-k", "gaussian:1"]
    wanted = ndimage.gaussian_filter(IMAGE, 1, mask=MASK)
    assert CliRunner().invoke(app, [*common, "--mask", "mask.npy"]).exit_code == 0
    assert np.allclose(np.load("out.npy"), wanted, rtol=0, atol=1e-13, equal_nan=True)
    np.save("in.npy", np.where(MASK, IMAGE, np.nan))
    assert CliRunner().invoke(app, [*common, "--nan", "ignore", "--fill", "-5"]).exit_code == 0
    assert np.allclose(np.load("out.npy"), np.nan_to_num(wanted, nan=-5), rtol=0, atol=1e-13)
    failed = CliRunner().invoke(app, [*common, "--fill", "3"])
    assert isinstance(failed.exception, ArgumentError)
    assert "say which are missing with --mask FILE, --nan ignore or --nodata VALUE" in str(
        failed.exception
    )
