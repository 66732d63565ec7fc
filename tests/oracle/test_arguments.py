"""Axes, origins, sizes, orders, sequences, truncation: against SciPy."""

import itertools
import re

import numpy as np
import pytest
import scipy.ndimage
from exact import MODES, assert_close, image_of

from separable import ndimage

VOLUME = image_of("float64", (6, 7, 8))
LARGEST = float(np.abs(VOLUME).max())
SOME_AXES = [(0,), (2,), (0, 1), (1, 2), (2, 0), (-1, 1), (0, 1, 2), (2, 0, 1), 1, -1, (), None]


@pytest.mark.parametrize("axes", SOME_AXES, ids=str)
@pytest.mark.parametrize(
    ("name", "arguments", "norm"),
    [
        ("gaussian_filter", (1.2,), 1),
        ("uniform_filter", (4,), 1),
        pytest.param("laplace", (), 12, marks=pytest.mark.needs_scipy("1.16")),
        pytest.param("gaussian_laplace", (0.9,), 6, marks=pytest.mark.needs_scipy("1.16")),
    ],
)
def test_axes(name, arguments, norm, axes):
    ours = getattr(ndimage, name)(VOLUME, *arguments, axes=axes)
    theirs = getattr(scipy.ndimage, name)(VOLUME, *arguments, axes=axes)
    assert_close(ours, theirs, norm * LARGEST)
    assert not np.shares_memory(ours, VOLUME)


@pytest.mark.parametrize("axes", [a for a in SOME_AXES if a is not None], ids=str)
def test_axes_of_a_gradient_are_those_of_each_slice(axes):
    given = (axes,) if isinstance(axes, int) else axes
    positive = sorted(a % 3 for a in given)
    others = [a for a in range(3) if a not in positive]
    moved = np.moveaxis(VOLUME, others, range(len(others)))
    ours = ndimage.gaussian_gradient_magnitude(VOLUME, 1.1, axes=axes)
    ours = np.moveaxis(ours, others, range(len(others)))
    for at in np.ndindex(*moved.shape[: len(others)]):
        exact = scipy.ndimage.gaussian_gradient_magnitude(moved[at], 1.1)
        assert_close(ours[at], exact, 3 * LARGEST)


@pytest.mark.needs_scipy("1.16")
@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (2, 0), (-1, -2), (1, 0)], ids=str)
@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_weights_have_the_order_of_the_image_and_origins_that_of_axes(name, axes):
    weights = np.random.default_rng(0).normal(size=(3, 4))
    for origin in (0, (1, -2), (-1, 1)):
        pair = origin if origin == 0 or axes[0] % 3 < axes[1] % 3 else origin[::-1]
        ours = getattr(ndimage, name)(VOLUME, weights, axes=axes, origin=pair)
        theirs = getattr(scipy.ndimage, name)(VOLUME, weights, axes=axes, origin=pair)
        assert_close(ours, theirs, LARGEST * np.abs(weights).sum())


@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_every_origin_of_odd_and_even_kernels(name):
    image = image_of("float64", (7, 6))
    for rows, columns in ((3, 4), (4, 3), (1, 2), (2, 1), (5, 8)):
        weights = np.random.default_rng(rows).normal(size=(rows, columns))
        for origin in itertools.product(*(range(-(n // 2), n) for n in weights.shape)):
            options = {"mode": "mirror", "origin": origin}
            try:
                theirs = getattr(scipy.ndimage, name)(image, weights, **options)
            except ValueError as error:
                with pytest.raises(ValueError, match=f"^{re.escape(str(error))}: `origin` must be"):
                    getattr(ndimage, name)(image, weights, **options)
                continue
            ours = getattr(ndimage, name)(image, weights, **options)
            assert_close(ours, theirs, 4 * np.abs(weights).sum(), (weights.shape, origin))


@pytest.mark.parametrize("name", ["correlate1d", "convolve1d", "uniform_filter1d"])
def test_every_origin_and_axis_in_one_dimension(name):
    for size, axis, mode in itertools.product((1, 2, 3, 6, 9), (0, 1, -1), ("wrap", "nearest")):
        weights = np.arange(1.0, size + 1)
        argument = size if name == "uniform_filter1d" else weights
        for origin in range(-size, size + 1):
            call = (argument, axis)
            options = {"mode": mode, "origin": origin}
            try:
                theirs = getattr(scipy.ndimage, name)(VOLUME, *call, **options)
            except ValueError:
                with pytest.raises(ValueError, match="origin"):
                    getattr(ndimage, name)(VOLUME, *call, **options)
                continue
            ours = getattr(ndimage, name)(VOLUME, *call, **options)
            assert_close(ours, theirs, LARGEST * weights.sum(), (size, axis, origin))


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, 5, 8, (0, 3), (4, 1), (2, 2)], ids=str)
def test_orders(order):
    image = image_of("float64", (20, 17))
    for sigma, options in itertools.product(
        (0.8, 2.0, (1.0, 3.0)), ({}, {"truncate": 2.5}, {"radius": 3}, {"radius": (0, 5)})
    ):
        ours = ndimage.gaussian_filter(image, sigma, order, **options)
        theirs = scipy.ndimage.gaussian_filter(image, sigma, order, **options)
        spot = np.zeros((61, 61))
        spot[30, 30] = 1
        norm = np.abs(scipy.ndimage.gaussian_filter(spot, sigma, order, **options)).sum()
        assert_close(ours, theirs, norm * np.abs(image).max(), (sigma, options))


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, 7])
def test_orders_in_one_dimension(order):
    image = image_of("float64", (9, 31))
    for sigma in (0.7, 1, 3.3):
        for options in ({}, {"truncate": 6.0}, {"radius": 0}, {"radius": 9}, {"axis": 0}):
            ours = ndimage.gaussian_filter1d(image, sigma, order=order, **options)
            theirs = scipy.ndimage.gaussian_filter1d(image, sigma, order=order, **options)
            norm = 20.0 ** (order / 2) * max(1.0, sigma**-order)
            assert_close(ours, theirs, norm * np.abs(image).max(), (sigma, options))


def test_sequences_of_modes():
    filters = {
        "gaussian_filter": (1.3,),
        "uniform_filter": (4,),
        "sobel": (1,),
        "prewitt": (-1,),
        "laplace": (),
    }
    for name, arguments in filters.items():
        for modes in itertools.product(MODES[:5], repeat=2):
            image = VOLUME[0]
            ours = getattr(ndimage, name)(image, *arguments, mode=modes)
            theirs = getattr(scipy.ndimage, name)(image, *arguments, mode=modes)
            assert_close(ours, theirs, 8 * LARGEST, (name, modes))
    ours = ndimage.gaussian_filter(VOLUME, 1, mode=["wrap", "mirror"], axes=(2, 0))
    theirs = scipy.ndimage.gaussian_filter(VOLUME, 1, mode=["wrap", "mirror"], axes=(2, 0))
    assert_close(ours, theirs, LARGEST)


@pytest.mark.parametrize("sigma", [0, 0.0, 1e-16, (0, 1.5), (1.5, 0), (2, 1e-15)], ids=str)
def test_axes_without_width_are_left_alone(sigma):
    image = image_of("float64", (8, 9))
    for name in ("gaussian_filter", "gaussian_laplace", "gaussian_gradient_magnitude"):
        ours = getattr(ndimage, name)(image, sigma)
        assert_close(
            ours, getattr(scipy.ndimage, name)(image, sigma), 4 * np.abs(image).max(), name
        )


@pytest.mark.parametrize("size", [1, 0, -2, 2.7, (1, 3), (4, 1), [2, 3]], ids=str)
def test_boxes_of_one_are_left_alone(size):
    image = image_of("float64", (8, 9))
    ours = ndimage.uniform_filter(image, size)
    assert_close(ours, scipy.ndimage.uniform_filter(image, size), np.abs(image).max())


@pytest.mark.needs_scipy("1.16")
@pytest.mark.parametrize("name", ["gaussian_laplace", "gaussian_gradient_magnitude"])
def test_options_that_go_to_the_gaussian(name):
    image = image_of("float64", (8, 9))
    for options in ({"truncate": 2.0}, {"radius": 2}, {"radius": (1, 4)}):
        ours = getattr(ndimage, name)(image, (1.2, 0.8), **options)
        theirs = getattr(scipy.ndimage, name)(image, (1.2, 0.8), **options)
        assert_close(ours, theirs, 4 * np.abs(image).max())
    for radius in (3, (2, 3, 4)):
        options = {"radius": radius, "axes": (0, 2)}
        theirs = scipy.ndimage.gaussian_laplace(VOLUME, 1.2, **options)
        assert_close(ndimage.gaussian_laplace(VOLUME, 1.2, **options), theirs, 6 * LARGEST)


@pytest.mark.needs_scipy("1.16")
def test_functions_of_the_user():
    def derivative(input, axis, output, mode, cval, step, scale=1.0):
        return scipy.ndimage.correlate1d(
            input, [-scale, *[0] * step, scale], axis, output, mode, cval, 0
        )

    for name in ("generic_laplace", "generic_gradient_magnitude"):
        for axes in (None, (0, 2), 1, ()):
            options = {
                "mode": "wrap", "extra_arguments": (3,), "extra_keywords": {"scale": 2.0},
                "axes": axes,
            }  # fmt: skip
            ours = getattr(ndimage, name)(VOLUME, derivative, **options)
            theirs = getattr(scipy.ndimage, name)(VOLUME, derivative, **options)
            assert_close(ours, theirs, 12 * LARGEST, (name, axes))
