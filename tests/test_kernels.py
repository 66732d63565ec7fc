"""The catalogue: worked figures, agreement with SciPy, specs for the command line, messages."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
from scipy import ndimage

from separable import Factors, factorize, kernels, spectrum
from separable.errors import ArgumentError, ArgumentTypeError

RNG = np.random.default_rng(4)
IMAGE = RNG.normal(size=(30, 26))
VOLUME = RNG.normal(size=(11, 12, 13))


def correlate(array, kernel):
    return ndimage.correlate(array, kernel.dense())


def letters(ndim):
    return ",".join("tzyx"[-ndim:])


# Figures that every user tries first.


def test_the_worked_example_has_exact_whole_factors():
    factors = factorize([[3, 6, 9], [4, 8, 12], [5, 10, 15]], "yx -> y,x")
    assert [a.tolist() for a in factors.arrays] == [[[3, 4, 5]], [[1, 2, 3]]]


def test_sobel_is_121_times_101():
    assert [a.tolist() for a in kernels.sobel().arrays] == [[[1, 2, 1]], [[-1, 0, 1]]]
    found = factorize(kernels.sobel().dense(), "yx -> y,x")
    assert [a.tolist() for a in found.arrays] == [[[1, 2, 1]], [[-1, 0, 1]]]


@pytest.mark.parametrize("ndim", [2, 3, 4])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: kernels.gaussian(0.8, ndim=n),
        lambda n: kernels.gaussian((0.5, 1.0, 0.7, 1.2)[:n]),
        lambda n: kernels.gaussian(0.8, order=(1, 0, 2, 4)[:n]),
        lambda n: kernels.box(3, ndim=n),
        lambda n: kernels.box((2, 3, 1, 4)[:n]),
        lambda n: kernels.binomial(4, ndim=n),
        lambda n: kernels.sobel(ndim=n),
        lambda n: kernels.prewitt(0, ndim=n),
        lambda n: kernels.scharr(1, ndim=n),
    ],
)
def test_rank_1_in_any_dimension(make, ndim):
    born = make(ndim)
    dense = born.dense()
    assert dense.ndim == ndim
    assert (born.rank, born.error, born.bound) == (1, 0.0, 0.0)
    assert factorize(dense, letters(ndim)).rank == 1
    assert spectrum(dense, letters(ndim)).separable


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.5, 3.9, (1.0, 3.0)])
def test_laplacian_of_gaussian_has_rank_2(sigma):
    born = kernels.laplacian_of_gaussian(sigma)
    assert born.rank == spectrum(born.dense(), "y,x").rank == 2


@pytest.mark.parametrize("theta", [*np.linspace(0.1, 1.5, 8), math.pi / 4, 2.0, -0.3])
@pytest.mark.parametrize("phase", [0.0, -math.pi / 2, 0.7])
def test_real_gabor_has_rank_2_at_any_angle(theta, phase):
    born = kernels.gabor(6, theta=theta, phase=phase)
    assert isinstance(born, Factors)
    assert born.rank == spectrum(born.dense(), "y,x").rank == 2


@pytest.mark.parametrize(("radius", "rank"), [(5, 4), (10, 7), (20, 13), (40, 25)])
def test_the_rank_of_a_disk(radius, rank):
    report = spectrum(kernels.disk(radius), "y,x")
    assert report.rank == rank
    assert report.rank_for(0.01) == rank  # 1 % needs all of it
    assert report.errors[rank - 1] > 0.01
    assert factorize(kernels.disk(radius), "y,x", tol=0.01).rank == rank


def test_a_turned_gaussian_needs_7_terms_for_a_percent_and_10_for_a_thousandth():
    y, x = np.mgrid[-24:25, -24:25]
    u, v = (x + y) / np.sqrt(2), (y - x) / np.sqrt(2)
    kernel = np.exp(-0.5 * ((u / 6) ** 2 + (v / 2) ** 2))
    report = spectrum(kernel, "y,x")
    assert (report.rank_for(0.01), report.rank_for(0.001)) == (7, 10)
    for tol, terms in ((0.01, 7), (0.001, 10)):
        factors = factorize(kernel, "y,x", tol=tol)
        assert factors.rank == terms
        assert factors.error <= tol < factorize(kernel, "y,x", rank=terms - 1).error


def test_most_kernels_do_not_separate():
    report = spectrum(RNG.normal(size=(7, 7)), "y,x")
    assert not report.separable
    assert report.rank == 7
    assert 0.3 < report.errors[1] < 1
    assert "rank 7, not separable" in str(report)


# Gaussians, against SciPy's.


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.3, 11.0])
@pytest.mark.parametrize("truncate", [2.0, 4.0, 5.5])
def test_gaussian1d_is_scipys_mirrored(order, sigma, truncate):
    radius = int(truncate * sigma + 0.5)
    impulse = np.eye(1, 2 * radius + 1, radius)[0]
    response = ndimage.gaussian_filter1d(
        impulse, sigma, order=order, mode="constant", radius=radius
    )
    theirs = response[::-1]  # correlating an impulse gives the weights from right to left
    ours = kernels.gaussian1d(sigma, order=order, truncate=truncate)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-14, atol=1e-15 * np.abs(theirs).max())


def test_the_first_derivative_rises_to_the_right():
    half = kernels.gaussian1d(2, order=1)
    assert half[:8].max() < 0 < half[9:].min()
    ramp = np.arange(40.0)
    steepness = np.correlate(ramp, half, mode="valid")
    assert steepness == pytest.approx(np.ones_like(steepness), rel=1e-2)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, (1, 0), (0, 3), (2, 1)])
@pytest.mark.parametrize("sigma", [1.3, (2.0, 0.7)])
def test_correlating_is_gaussian_filter(order, sigma):
    ours = correlate(IMAGE, kernels.gaussian(sigma, order=order))
    np.testing.assert_allclose(ours, ndimage.gaussian_filter(IMAGE, sigma, order), atol=1e-13)


def test_correlating_a_volume_is_gaussian_filter():
    ours = correlate(VOLUME, kernels.gaussian((0.5, 1.0, 1.5), order=(0, 1, 2)))
    theirs = ndimage.gaussian_filter(VOLUME, (0.5, 1.0, 1.5), (0, 1, 2))
    np.testing.assert_allclose(ours, theirs, atol=1e-13)


def test_the_radius_of_a_gaussian():
    assert kernels.gaussian(2).shape == (17, 17)
    assert kernels.gaussian(2, truncate=3).shape == (13, 13)
    assert kernels.gaussian(2, radius=3).shape == (7, 7)
    assert kernels.gaussian(2, radius=(3, 0, 1)).shape == (7, 1, 3)
    assert kernels.gaussian((2, 1)).shape == (17, 9)
    assert kernels.gaussian(0.1).dense().tolist() == [[1.0]]


def test_factors_of_kernels_too_large_to_multiply_out():
    assert kernels.gaussian(100, ndim=3).shape == (801,) * 3
    assert kernels.box(5001, ndim=3).shape == (5001,) * 3


def test_smoothing_kernels_sum_to_1():
    for kernel in (kernels.gaussian(1.7), kernels.box(5), kernels.binomial(6)):
        for array in kernel.arrays:
            assert np.sum(array) == pytest.approx(1, abs=1e-15)


def test_box_is_uniform_filter():
    ours = correlate(VOLUME, kernels.box((3, 5, 1)))
    np.testing.assert_allclose(ours, ndimage.uniform_filter(VOLUME, (3, 5, 1)), atol=1e-14)
    assert kernels.box1d(4).tolist() == [0.25] * 4
    assert kernels.box(np.int64(3)).shape == (3, 3)


def test_binomial_is_pascals_triangle():
    assert (kernels.binomial1d(1) * 1).tolist() == [1]
    assert (kernels.binomial1d(2) * 2).tolist() == [1, 1]
    assert (kernels.binomial1d(7) * 64).tolist() == [1, 6, 15, 20, 15, 6, 1]
    twice = np.convolve(kernels.binomial1d(20), kernels.binomial1d(31))
    np.testing.assert_allclose(kernels.binomial1d(50), twice, rtol=1e-14)
    assert np.isfinite(kernels.binomial1d(900)).all()


def test_the_variance_of_a_binomial_is_a_quarter_per_step():
    taps, x = kernels.binomial1d(9), np.arange(9) - 4
    assert np.sum(taps * x**2) == 2.0


# Derivatives, against SciPy's.


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradients_are_scipys(axis):
    for ours, theirs in ((kernels.sobel, ndimage.sobel), (kernels.prewitt, ndimage.prewitt)):
        np.testing.assert_allclose(correlate(IMAGE, ours(axis)), theirs(IMAGE, axis), atol=1e-13)
        volume = correlate(VOLUME, ours(axis, ndim=3))
        np.testing.assert_allclose(volume, theirs(VOLUME, axis), atol=1e-12)


def test_scharr():
    assert kernels.scharr().dense().tolist() == [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]
    assert kernels.scharr(0).dense().tolist() == kernels.scharr().dense().T.tolist()


@pytest.mark.parametrize("make", [kernels.sobel, kernels.prewitt, kernels.scharr])
def test_gradients_are_whole_numbers_positive_where_the_image_rises(make):
    y, x = np.mgrid[0:7, 0:7]
    assert make().dtype == np.int64
    right, down = ndimage.correlate(x, make().dense()), ndimage.correlate(y, make(0).dense())
    assert right[3, 3] == down[3, 3] == np.abs(make().dense()).sum()
    assert ndimage.correlate(y, make().dense())[3, 3] == 0


@pytest.mark.parametrize("array", [IMAGE, VOLUME])
def test_laplace_is_scipys(array):
    born = kernels.laplace(ndim=array.ndim)
    assert born.rank == array.ndim
    assert born.dtype == np.int64
    np.testing.assert_allclose(correlate(array, born), ndimage.laplace(array), atol=1e-13)
    if array.ndim == 2:
        assert spectrum(born.dense(), "y,x").rank == 2


@pytest.mark.parametrize(
    ("array", "sigma"), [(IMAGE, 1.4), (IMAGE, (2.0, 0.8)), (VOLUME, (0.8, 1.1, 1.5))]
)
def test_laplacian_of_gaussian_is_scipys(array, sigma):
    born = kernels.laplacian_of_gaussian(sigma, ndim=array.ndim)
    theirs = ndimage.gaussian_laplace(array, sigma)
    np.testing.assert_allclose(correlate(array, born), theirs, atol=1e-13)
    assert born.rank == array.ndim


def test_laplacian_of_gaussian_of_a_size_wanted():
    assert kernels.laplacian_of_gaussian(4, radius=15).shape == (31, 31)


def test_even_kernels_are_their_own_mirror_image():
    for kernel in (kernels.laplace(), kernels.laplacian_of_gaussian(1.2), kernels.gabor(7, 0.4)):
        np.testing.assert_allclose(kernel.flipped().dense(), kernel.dense(), atol=1e-16)


# Bands.


@pytest.mark.parametrize(("array", "low", "high"), [(IMAGE, 0.8, 1.9), (VOLUME, (0.5, 1, 1), 1.6)])
def test_difference_of_gaussians_is_that_of_the_filters(array, low, high):
    born = kernels.difference_of_gaussians(low, high, ndim=array.ndim)
    theirs = ndimage.gaussian_filter(array, low) - ndimage.gaussian_filter(array, high)
    np.testing.assert_allclose(correlate(array, born), theirs, atol=1e-13)
    assert born.rank == 2


def test_difference_of_gaussians_defaults_to_the_one_closest_to_log():
    default, given = kernels.difference_of_gaussians(2), kernels.difference_of_gaussians(2, 3.2)
    np.testing.assert_array_equal(default.dense(), given.dense())


@pytest.mark.parametrize(("array", "amount"), [(IMAGE, 0.5), (VOLUME, 2.0)])
def test_sharpen_adds_what_the_gaussian_takes(array, amount):
    born = kernels.sharpen(1.2, amount, ndim=array.ndim)
    smooth = ndimage.gaussian_filter(array, 1.2)
    theirs = array + amount * (array - smooth)
    np.testing.assert_allclose(correlate(array, born), theirs, atol=1e-13)
    assert born.dense().sum() == pytest.approx(1)
    assert born.rank == 2


def gabor_formula(wavelength, theta, sigma, gamma, phase, ry, rx):
    y, x = np.mgrid[-ry : ry + 1, -rx : rx + 1]
    u = x * np.cos(theta) + y * np.sin(theta)
    v = y * np.cos(theta) - x * np.sin(theta)
    bell = np.exp(-(u**2 + gamma**2 * v**2) / (2 * sigma**2))
    return bell / bell.sum() * np.cos(2 * np.pi * u / wavelength + phase)


@pytest.mark.parametrize("theta", [0.0, 0.5, math.pi / 2, math.pi / 4, 2.6, math.pi, -1.0])
@pytest.mark.parametrize("gamma", [1.0, 0.5, 1.7])
@pytest.mark.parametrize("phase", [0.0, 0.9])
def test_gabor_is_its_formula(theta, gamma, phase):
    kernel = kernels.gabor(7, theta, sigma=3, gamma=gamma, phase=phase)
    dense = kernel.dense() if isinstance(kernel, Factors) else kernel
    ry, rx = (n // 2 for n in dense.shape)
    np.testing.assert_allclose(
        dense, gabor_formula(7, theta, 3, gamma, phase, ry, rx), atol=2e-17, rtol=1e-9
    )
    along_axis = min(abs(math.sin(theta)), abs(math.cos(theta))) < 1e-12
    if along_axis:
        assert isinstance(kernel, Factors)
        assert kernel.rank == 1
    elif gamma == 1.0:
        assert isinstance(kernel, Factors)
        assert kernel.rank == 2
    else:
        assert isinstance(kernel, np.ndarray)
        assert spectrum(kernel, "y,x").rank > 2


def test_the_size_of_a_gabor():
    assert kernels.gabor(8, radius=5).shape == (11, 11)
    assert kernels.gabor(8, sigma=2).shape == (17, 17)
    assert kernels.gabor(8, sigma=2, gamma=0.5).shape == (33, 17)  # long along the crests
    assert kernels.gabor(8, math.pi / 2, sigma=2, gamma=0.5).shape == (17, 33)


def test_the_default_bandwidth_of_a_gabor_is_an_octave():
    """Its response falls to a half at two frequencies of which one is twice the other."""
    row = kernels.gabor(16, truncate=8).dense().sum(axis=0)
    response = np.abs(np.fft.rfft(row, 4096))
    above = np.flatnonzero(response >= response.max() / 2)
    assert above[-1] / above[0] == pytest.approx(2, rel=0.03)


def test_an_odd_gabor_is_positive_to_the_right():
    row = kernels.gabor(8, phase=-math.pi / 2).dense()[18]
    assert row[18] == pytest.approx(0, abs=1e-17)
    assert row[19] > 0 > row[17]


# Shapes.


@pytest.mark.parametrize("radius", [0, 1, 2.5, 7, math.sqrt(8)])
def test_disk_and_ball_are_what_is_within_the_radius(radius):
    half = math.floor(radius)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    np.testing.assert_array_equal(kernels.disk(radius), y**2 + x**2 <= radius * radius)
    z, y, x = np.mgrid[-half : half + 1, -half : half + 1, -half : half + 1]
    np.testing.assert_array_equal(kernels.ball(radius), z**2 + y**2 + x**2 <= radius * radius)
    assert kernels.disk(radius).dtype == kernels.ball(radius).dtype == np.int64
    np.testing.assert_array_equal(kernels.ball(radius)[half], kernels.disk(radius))


@pytest.mark.parametrize("radius", [0.3, 0.5, 0.8, 1.0, 2.5, 3.3, 9.0])
def test_pillbox_weights_are_areas(radius):
    weights = kernels.pillbox(radius)
    half, fine = weights.shape[0] // 2, 100
    centres = (np.arange(weights.shape[0] * fine) + 0.5) / fine - half - 0.5
    inside = centres[:, None] ** 2 + centres**2 <= radius**2
    areas = inside.reshape(weights.shape[0], fine, weights.shape[1], fine).mean(axis=(1, 3))
    np.testing.assert_allclose(weights * math.pi * radius**2, areas, atol=2e-3)
    assert weights.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_array_equal(weights, weights.T)
    np.testing.assert_array_equal(weights, weights[::-1])
    assert weights.min() >= 0


def test_pillbox_by_hand():
    assert kernels.pillbox(0.4).tolist() == [[1.0]]
    inside = kernels.pillbox(3)
    assert inside[3, 3] == pytest.approx(1 / (9 * math.pi))
    # a circle of radius 0.6 leaves the centre pixel in four caps
    cap = 0.36 * math.acos(0.5 / 0.6) - 0.5 * math.sqrt(0.36 - 0.25)
    assert kernels.pillbox(0.6)[1, 2] == pytest.approx(cap / (0.36 * math.pi))


@pytest.mark.parametrize(
    ("length", "angle"), [(7, 0.0), (9, 0.4), (6.5, 1.1), (3, 2.5), (0.5, 0.3)]
)
def test_motion_weights_are_areas(length, angle):
    weights = kernels.motion(length, angle)
    half_y, half_x = (n // 2 for n in weights.shape)
    fine = 60
    y = (np.arange(weights.shape[0] * fine) + 0.5) / fine - half_y - 0.5
    x = (np.arange(weights.shape[1] * fine) + 0.5) / fine - half_x - 0.5
    along = x * np.cos(angle) + y[:, None] * np.sin(angle)
    across = y[:, None] * np.cos(angle) - x * np.sin(angle)
    inside = (np.abs(along) <= length / 2) & (np.abs(across) <= 0.5)
    areas = inside.reshape(weights.shape[0], fine, weights.shape[1], fine).mean(axis=(1, 3))
    np.testing.assert_allclose(weights * length, areas, atol=0.02)
    assert weights.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])
    assert max(weights[0].max(), weights[:, 0].max()) > 0  # no border of zeros


def test_motion_along_an_axis_is_a_box():
    np.testing.assert_allclose(kernels.motion(5), [[0.2] * 5], rtol=1e-15)
    np.testing.assert_allclose(kernels.motion(5, math.pi / 2), [[0.2]] * 5, rtol=1e-15)
    np.testing.assert_allclose(kernels.motion(4, math.pi), [[0.125, 0.25, 0.25, 0.25, 0.125]])
    assert kernels.motion(1).tolist() == [[1.0]]


def test_motion_turns_from_x_towards_y():
    falling = kernels.motion(9, math.pi / 4)
    assert falling[1, 1] > 0.05
    assert falling[1, -2] == 0


# Specs for the command line.


SPECS = [
    ("gaussian:2", {}, kernels.gaussian(2)),
    ("gaussian:2,order=1", {}, kernels.gaussian(2, order=1)),
    ("gaussian:2x1x1", {}, kernels.gaussian((2, 1, 1))),
    (" gaussian: sigma = 2 , radius=3x4 ", {}, kernels.gaussian(2, radius=(3, 4))),
    ("gaussian:2,1x0,3.5", {}, kernels.gaussian(2, order=(1, 0), truncate=3.5)),
    ("gaussian:1", {"ndim": 3}, kernels.gaussian(1, ndim=3)),
    ("gaussian:2,order=1", {"ndim": 1}, kernels.gaussian1d(2, order=1)),
    ("box:5", {}, kernels.box(5)),
    ("box:5x3", {"ndim": 2}, kernels.box((5, 3))),
    ("box:5", {"ndim": 1}, kernels.box1d(5)),
    ("binomial:4", {"ndim": 1}, kernels.binomial1d(4)),
    ("disk:15", {}, kernels.disk(15)),
    ("disk:2.5", {"ndim": 2}, kernels.disk(2.5)),
    ("ball:2", {}, kernels.ball(2)),
    ("pillbox:2.5", {}, kernels.pillbox(2.5)),
    ("motion:9,0.5", {}, kernels.motion(9, 0.5)),
    ("motion:9,angle=45deg", {}, kernels.motion(9, math.pi / 4)),
    ("gabor:8,theta=0.5", {}, kernels.gabor(8, 0.5)),
    ("gabor:8,30deg,gamma=0.5,phase=-90deg", {}, None),
    ("sobel", {}, kernels.sobel()),
    ("sobel:axis=0", {}, kernels.sobel(0)),
    ("sobel:0", {"ndim": 3}, kernels.sobel(0, ndim=3)),
    ("prewitt:", {}, kernels.prewitt()),
    ("scharr", {"ndim": 4}, kernels.scharr(ndim=4)),
    ("laplace", {"ndim": 3}, kernels.laplace(ndim=3)),
    ("log:1.5", {}, kernels.laplacian_of_gaussian(1.5)),
    ("laplacian_of_gaussian:4,radius=15", {}, kernels.laplacian_of_gaussian(4, radius=15)),
    ("dog:1,2", {}, kernels.difference_of_gaussians(1, 2)),
    ("sharpen", {}, kernels.sharpen()),
    ("sharpen:2,amount=0.5", {}, kernels.sharpen(2, 0.5)),
]


@pytest.mark.parametrize(("text", "options", "expected"), SPECS)
def test_specs(text, options, expected):
    if expected is None:
        expected = kernels.gabor(8, math.pi / 6, gamma=0.5, phase=-math.pi / 2)
    found = kernels.parse_spec(text, **options)
    assert isinstance(found, type(expected))
    if isinstance(found, Factors):
        assert found.pattern == expected.pattern
        assert found.rank == expected.rank
        found, expected = found.dense(), expected.dense()
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


BAD_SPECS = [
    ("gausian:2", {}, "unknown kernel `gausian`. Did you mean `gaussian`?"),
    (
        "qqq",
        {},
        "unknown kernel `qqq`: there are ball, binomial, box, central_difference, "
        "difference_of_gaussians, disk, dog, gabor, gaussian, laplace, laplacian_of_gaussian, laws, log, motion, pillbox, prewitt, scharr, "
        "sharpen, sobel, wavelet",
    ),
    (
        "gaussian",
        {},
        "kernel `gaussian` needs `sigma`; got 'gaussian'. Write it as gaussian:SIGMA; "
        "it takes `sigma`, `order`, `truncate`, `radius`, `fwhm`",
    ),
    (
        "gaussian:2,ordr=1",
        {},
        "unknown parameter `ordr`. Did you mean `order`? "
        "Kernel `gaussian` takes `sigma`, `order`, `truncate`, `radius`, `fwhm`",
    ),
    (
        "sobel:zzz=1",
        {},
        "unknown parameter `zzz`. Kernel `sobel` takes `axis`, `size`",
    ),
    ("laplace:3", {}, "kernel `laplace` takes no parameters; got one value more, '3'"),
    ("box:3,4", {}, "kernel `box` takes `size`; got one value more, '4'"),
    ("box:3,size=4", {}, "kernel `box` got `size` twice; the second is '4'"),
    (
        "box:3.5",
        {},
        "`size` of kernel `box` must be a whole number, or one per axis as 5x3x3; got '3.5'",
    ),
    (
        "gaussian:axb",
        {},
        "`sigma` of kernel `gaussian` must be a number, or one per axis as 2x1x1; got 'axb'",
    ),
    (
        "gaussian:2,",
        {},
        "`order` of kernel `gaussian` must be a whole number, or one per axis as 5x3x3; got ''",
    ),
    ("disk:r", {}, "`radius` of kernel `disk` must be a number; got 'r'"),
    ("sobel:x", {}, "`axis` of kernel `sobel` must be a whole number; got 'x'"),
    (
        "gabor:8,45dg",
        {},
        "`theta` of kernel `gabor` must be an angle in radians, or in degrees as 45deg; got '45dg'",
    ),
    ("gaussian:-1", {}, "`sigma` must be > 0 for every axis; got -1.0"),
    ("gaussian:nan", {}, "`sigma` must be finite; got nan"),
    (
        "gaussian:2x1x1",
        {"ndim": 2},
        "`sigma` must be one value, or one for each of 2 axes (from `ndim`); got (2.0, 1.0, 1.0)",
    ),
    ("disk:3", {"ndim": 3}, "kernel `disk` has 2 axes; got ndim=3. The one of 3 axes is `ball`"),
    ("ball:3", {"ndim": 2}, "kernel `ball` has 3 axes; got ndim=2. The one of 2 axes is `disk`"),
    ("motion:3", {"ndim": 1}, "kernel `motion` has 2 axes; got ndim=1"),
    (
        "sobel",
        {"ndim": 1},
        "kernel `sobel` has 2 axes or more; got ndim=1. On one axis there are binomial, box, "
        "gaussian; for a derivative write gaussian:SIGMA,order=1",
    ),
    (
        "box:3",
        {"ndim": 5},
        "`ndim` must be 2, 3 or 4; got 5. One-dimensional kernels are arrays: "
        "gaussian1d, box1d, binomial1d",
    ),
]


@pytest.mark.parametrize(("text", "options", "message"), BAD_SPECS)
def test_bad_specs(text, options, message):
    with pytest.raises(ArgumentError) as caught:
        kernels.parse_spec(text, **options)
    assert str(caught.value) == message


def test_a_spec_must_be_text():
    with pytest.raises(ArgumentTypeError) as caught:
        kernels.parse_spec(3)
    assert str(caught.value) == "`text` must be a string such as 'gaussian:2'; got 3"


def test_the_catalogue_names_every_kernel_of_two_axes_and_more():
    others = {"parse", "parse_spec", "register_kernel", "registered_kernels", "unregister_kernel"}
    functions = {n for n in kernels.__all__ if n.islower()} - others
    names = {kernel.name for kernel in kernels.registered_kernels()}
    assert names == {n for n in functions if not n.endswith(("1d", "_bands"))}
    for kernel in kernels.registered_kernels():
        assert kernel.description
        assert not kernel.description.startswith("Return")
        assert not kernel.description.endswith("."), kernel.name


def test_specs_accept_every_parameter_of_every_function():
    for name in (kernel.name for kernel in kernels.registered_kernels()):
        parameters = [
            p
            for p in inspect.signature(getattr(kernels, name)).parameters
            if p not in ("ndim", "spacing")
        ]
        with pytest.raises(ArgumentError) as caught:
            kernels.parse_spec(f"{name}:no_such_thing=1")
        listed = str(caught.value).partition(" takes ")[2].replace("`", "")
        expected = "no parameters" if not parameters else ", ".join(parameters)
        assert set(listed.split(", ")) == set(expected.split(", ")), name


# Bad arguments.


BAD = [
    (lambda: kernels.gaussian((2.0, -1.0)), "`sigma` must be > 0 for every axis; got (2.0, -1.0)"),
    (lambda: kernels.gaussian(0), "`sigma` must be > 0 for every axis; got 0"),
    (lambda: kernels.gaussian(np.float64("nan")), "`sigma` must be finite; got nan"),
    (lambda: kernels.gaussian((1, np.inf)), "`sigma` must be finite; got (1, inf)"),
    (lambda: kernels.gaussian(10**400), f"`sigma` must be finite; got {10**400}"),
    (lambda: kernels.gaussian(1, order=5), "`order` must be 0 .. 4 for every axis; got 5"),
    (
        lambda: kernels.gaussian(1, order=(0, -1)),
        "`order` must be 0 .. 4 for every axis; got (0, -1)",
    ),
    (lambda: kernels.gaussian(1, order=1.5), "`order` must be a whole number; got 1.5"),
    (lambda: kernels.gaussian(1, truncate=0), "`truncate` must be > 0; got 0"),
    (lambda: kernels.gaussian(1, truncate=math.nan), "`truncate` must be finite; got nan"),
    (lambda: kernels.gaussian(1, radius=-1), "`radius` must be >= 0 for every axis; got -1"),
    (
        lambda: kernels.gaussian((1, 2), order=(0, 1, 0)),
        "`order` must be one value, or one for each of 2 axes (from `sigma`); got (0, 1, 0)",
    ),
    (
        lambda: kernels.gaussian((1, 2), ndim=3),
        "`sigma` must be one value, or one for each of 3 axes (from `ndim`); got (1, 2)",
    ),
    (
        lambda: kernels.gaussian((2,)),
        "`len(sigma)` must be 2, 3 or 4; got 1. One-dimensional kernels are arrays: "
        "gaussian1d, box1d, binomial1d",
    ),
    (
        lambda: kernels.gaussian(1e9),
        "`sigma` makes a kernel of 8e+09, more than 67108864 elements; got 1000000000.0",
    ),
    (
        lambda: kernels.gaussian((1, 1), radius=(1, 10**9)),
        "`radius` makes a kernel of 2e+09, more than 67108864 elements; got 1000000000",
    ),
    (
        lambda: kernels.gaussian(1e-200, order=1),
        "`sigma` is too small for float64 at order 1; got 1e-200",
    ),
    (lambda: kernels.gaussian1d(-1), "`sigma` must be > 0; got -1"),
    (lambda: kernels.gaussian1d(1, order=5), "`order` must be 0 .. 4; got 5"),
    (lambda: kernels.gaussian1d(1, radius=-1), "`radius` must be >= 0; got -1"),
    (lambda: kernels.box(0), "`size` must be >= 1 for every axis; got 0"),
    (lambda: kernels.box((3, 0)), "`size` must be >= 1 for every axis; got (3, 0)"),
    (lambda: kernels.box(np.array([3, 0])), "`size` must be >= 1 for every axis; got (3, 0)"),
    (lambda: kernels.box(2.5), "`size` must be a whole number; got 2.5"),
    (lambda: kernels.box1d(0), "`size` must be >= 1; got 0"),
    (lambda: kernels.binomial1d(-3), "`size` must be >= 1; got -3"),
    (lambda: kernels.sobel(2), "`axis` must be -2 .. 1 for ndim=2; got 2"),
    (lambda: kernels.prewitt(-4, ndim=3), "`axis` must be -3 .. 2 for ndim=3; got -4"),
    (
        lambda: kernels.laplace(ndim=1),
        "`ndim` must be 2, 3 or 4; got 1. One-dimensional kernels are arrays: "
        "gaussian1d, box1d, binomial1d",
    ),
    (
        lambda: kernels.difference_of_gaussians(2, 1),
        "`sigma_high` must be > `sigma_low` for every axis; got 1 and 2",
    ),
    (
        lambda: kernels.difference_of_gaussians((1, 2), (3, 2)),
        "`sigma_high` must be > `sigma_low` for every axis; got (3, 2) and (1, 2)",
    ),
    (
        lambda: kernels.difference_of_gaussians(-1),
        "`sigma_low` must be > 0 for every axis; got -1",
    ),
    (lambda: kernels.sharpen(1, 0), "`amount` must be > 0; got 0"),
    (lambda: kernels.gabor(0), "`wavelength` must be > 0; got 0"),
    (lambda: kernels.gabor(8, math.nan), "`theta` must be finite; got nan"),
    (lambda: kernels.gabor(8, gamma=0), "`gamma` must be > 0; got 0"),
    (lambda: kernels.gabor(8, sigma=-2), "`sigma` must be > 0; got -2"),
    (lambda: kernels.gabor(8, radius=-2), "`radius` must be >= 0; got -2"),
    (lambda: kernels.disk(-1), "`radius` must be >= 0; got -1"),
    (lambda: kernels.ball(math.nan), "`radius` must be finite; got nan"),
    (
        lambda: kernels.ball(1000),
        "`radius` makes a kernel of 2001x2001x2001, more than 67108864 elements; got 1000",
    ),
    (lambda: kernels.pillbox(0), "`radius` must be > 0; got 0"),
    (lambda: kernels.motion(-3), "`length` must be > 0; got -3"),
    (lambda: kernels.motion(3, math.inf), "`angle` must be finite; got inf"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments(call, message):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value) == message


BAD_TYPES = [
    (lambda: kernels.gaussian("2"), "`sigma` must be a number; got '2'"),
    (lambda: kernels.gaussian((1, None)), "`sigma` must be a number; got (1, None)"),
    (lambda: kernels.box(True), "`size` must be a number; got True"),
    (lambda: kernels.sobel(axis=None), "`axis` must be a number; got None"),
    (lambda: kernels.disk([3]), "`radius` must be a number; got (3,)"),
    (lambda: kernels.gaussian1d((1, 2)), "`sigma` must be a number; got (1, 2)"),
]


@pytest.mark.parametrize(("call", "message"), BAD_TYPES)
def test_bad_types(call, message):
    with pytest.raises(ArgumentTypeError) as caught:
        call()
    assert str(caught.value) == message
