"""Gradients: Sobel and Scharr masks of several sizes, magnitude and direction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.optimize import least_squares

import separable as sep
from separable.errors import ArgumentError
from separable.filter_bank.magnitude import gradient_specs
from separable.kernels import derivative_kernels, parse_spec

RNG = np.random.default_rng(8)
IMAGE = RNG.random((30, 34))


@pytest.mark.parametrize("size", [3, 5, 7, 9, 31])
def test_sobel_masks_are_those_of_opencv(size: int) -> None:
    cv2 = pytest.importorskip("cv2")
    slope, smoothing = (v.ravel() for v in cv2.getDerivKernels(1, 0, size, ktype=cv2.CV_64F))
    np.testing.assert_array_equal(sep.kernels.sobel(size=size).dense(), np.outer(smoothing, slope))


def direction_errors(slope: np.ndarray, smoothing: np.ndarray) -> np.ndarray:
    """Return the weighted error of the direction in radians over all frequencies (taps from the centre)."""
    k = (np.arange(64) + 0.5) / 64 * np.pi
    kx, ky = np.meshgrid(k, k)
    weight = (np.cos(kx / 2) * np.cos(ky / 2)) ** 2  # squared with the errors

    def derivative(t: np.ndarray) -> np.ndarray:
        return sum(v * np.sin((i + 1) * t) for i, v in enumerate(slope))

    def smooth(t: np.ndarray) -> np.ndarray:
        return smoothing[0] + 2 * sum(v * np.cos((i + 1) * t) for i, v in enumerate(smoothing[1:]))

    gx, gy = derivative(kx) * smooth(ky), derivative(ky) * smooth(kx)
    errors = weight * np.arctan2(gx * ky - gy * kx, gx * kx + gy * ky)
    return (errors / np.sqrt((weight**2).sum())).ravel()


def degrees(errors: np.ndarray) -> float:
    return float(np.degrees(np.sqrt((errors**2).sum())))


@pytest.mark.parametrize(("size", "error"), [(5, 0.04), (7, 0.005)])
def test_scharr_masks_minimise_the_error_of_the_direction(size: int, error: float) -> None:
    slope, smoothing = (np.array(v) for v in derivative_kernels.SCHARR[size])
    half = size // 2
    places = np.arange(1, half + 1)

    def taps(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        beyond, sides = free[: half - 1], free[half - 1 :]
        return np.r_[1 - (places[1:] * beyond).sum(), beyond], np.r_[16 - 2 * sides.sum(), sides]

    start = np.r_[slope[1:] * 1.1, smoothing[1:] * 0.95]
    best = least_squares(lambda v: direction_errors(*taps(v)), start, xtol=1e-14, ftol=1e-14)
    for found, expected in zip(taps(best.x), (slope, smoothing), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    assert degrees(direction_errors(slope, smoothing)) < 1.001 * degrees(best.fun)
    assert (places * slope).sum() == pytest.approx(1)
    assert smoothing[0] + 2 * smoothing[1:].sum() == pytest.approx(16)
    assert degrees(direction_errors(slope, smoothing)) < error
    assert degrees(direction_errors(np.array([1.0]), np.array([10.0, 3]))) == pytest.approx(
        0.6, abs=0.01
    )
    assert degrees(direction_errors(np.array([1.0]), np.array([2.0, 1]))) == pytest.approx(
        2.1, abs=0.03
    )


@pytest.mark.parametrize("size", [3, 5, 7])
def test_every_scharr_mask_answers_a_slope_alike(size: int) -> None:
    ramp = np.arange(20.0) + np.zeros((20, 1))
    found = sep.correlate(ramp, sep.kernels.scharr(size=size))
    assert found[10, 10] == pytest.approx(32, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "size"), [("sobel:size=5", 5), ("sobel:0,7", 7), ("scharr:axis=0,size=5", 5)]
)
def test_sizes_can_be_typed(text: str, size: int) -> None:
    assert parse_spec(text).shape == (size, size)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sobel:size=4", "`size` must be odd, 3 .. 31"),
        ("sobel:size=33", "got 33"),
        ("scharr:size=9", "`size` must be 3, 5 or 7 for the Scharr mask; got 9"),
    ],
)
def test_wrong_sizes(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_spec(text)


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_the_magnitude_of_sobel_is_that_of_scipy(mode: str) -> None:
    expected = [ndimage.sobel(IMAGE, axis, mode=mode) for axis in (0, 1)]
    found = sep.gradient(IMAGE, "sobel", mode=mode)
    np.testing.assert_allclose(found.components, expected, atol=1e-12)
    np.testing.assert_allclose(found.magnitude, np.hypot(*expected))
    np.testing.assert_allclose(found.direction, np.arctan2(*expected))
    volume = RNG.random((6, 7, 8))
    smooth = sep.gradient(volume, "gaussian:1.5").magnitude
    np.testing.assert_allclose(smooth, ndimage.gaussian_gradient_magnitude(volume, 1.5), rtol=1e-6)
    vectors = sep.gradient(volume, "gaussian:1.5").unit_vectors
    np.testing.assert_allclose((vectors**2).sum(0), 1)


@given(
    st.floats(-3, 3),
    st.sampled_from(["sobel", "scharr:size=7", "gaussian:1", "central_difference"]),
)
def test_the_direction_of_a_plane_is_its_slope(angle: float, kernel: str) -> None:
    y, x = np.mgrid[:15, :15]
    plane = np.cos(angle) * x + np.sin(angle) * y
    assert sep.gradient(plane, kernel).direction[7, 7] == pytest.approx(angle, abs=1e-6)


def test_gradients_have_units_and_leave_out_missing_samples() -> None:
    steep = sep.gradient(IMAGE, "central_difference", spacing=(2.0, 0.5))
    plain = sep.gradient(IMAGE, "central_difference")
    np.testing.assert_allclose(steep.components[0], plain.components[0] / 2)
    np.testing.assert_allclose(steep.components[1], plain.components[1] * 2)
    holes = IMAGE.copy()
    holes[9, 9] = np.nan
    assert np.isnan(sep.gradient(holes, "sobel").magnitude).any()
    assert np.isfinite(sep.gradient(holes, "sobel", nan="ignore").magnitude).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("box:3", "a gradient needs a derivative: sobel, scharr"),
        ("sobel:axis=0", "Leave the axis out"),
        ("sobel:0", "Leave the axis out"),
        ("gaussian:2,order=1", "Leave the order out"),
        ("sobbel", "Did you mean `sobel`"),
    ],
)
def test_what_has_no_gradient(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        gradient_specs(text, 2)
    with pytest.raises(ArgumentError, match="Take `unit_vectors`"):
        _ = sep.gradient(RNG.random((4, 5, 6)), "sobel").direction
