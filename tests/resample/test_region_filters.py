"""`output_region` and `stride`: the outputs of the whole filter that they name, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import signal

import separable as sep
from separable import ndimage
from separable.borders import registered_borders
from separable.errors import ArgumentError, ModeError, OutputError
from separable.resample import plan_region

RNG = np.random.default_rng(2)
IMAGE = RNG.normal(size=(23, 31))
KERNELS = {
    "separable": sep.kernels.gaussian(1.3),
    "of two terms": sep.kernels.laplacian_of_gaussian(1.2) if hasattr(sep.kernels, "laplacian_of_gaussian") else np.array([[0, 1.0, 0], [1, -4, 1], [0, 1, 0]]),
    "dense": RNG.normal(size=(5, 4)),
    "complex": RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4)),
}  # fmt: skip


def whole(image: np.ndarray, kernel: Any, region: str, **options: Any) -> np.ndarray:
    """Return the outputs of a region from a filter of an image whose border is written out."""
    dense = kernel.dense() if isinstance(kernel, sep.Factors) else np.asarray(kernel)
    same = sep.convolve(image, kernel, **options)
    if region == "same":
        return same
    if region == "valid":
        return signal.convolve(image, dense, mode="valid", method="direct")
    padded = np.pad(image, [(n - 1, n - 1) for n in dense.shape], mode="symmetric")
    return signal.convolve(padded, dense, mode="valid", method="direct")


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("region", ["same", "valid", "full"])
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
def test_outputs_are_those_of_the_whole_filter(name: str, region: str, stride: Any) -> None:
    kernel = KERNELS[name]
    steps = (stride, stride) if isinstance(stride, int) else stride
    expected = whole(IMAGE, kernel, region)[:: steps[0], :: steps[1]]
    found = sep.convolve(IMAGE, kernel, output_region=region, stride=stride)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("border", registered_borders(), ids=str)
def test_every_border_and_constants_that_are_carried(border: Any) -> None:
    for kernel in (KERNELS["separable"].dense() * 2, KERNELS["dense"]):
        options = {"mode": border, "cval": 3.0, "origin": (1, -1)}
        expected = sep.correlate(IMAGE, kernel, **options)[::2, ::3]
        found = sep.correlate(IMAGE, kernel, stride=(2, 3), **options)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_types_axes_and_outputs() -> None:
    photo = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    kernel = np.full((3, 3), 1 / 9)
    expected = sep.convolve(photo, kernel, axes=(0, 1))
    found = sep.convolve(photo, kernel, axes=(0, 1), stride=2)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected[::2, ::2]).max() <= 0
    assert sep.convolve(np.zeros((15, 15)), kernel, output_region="valid").shape == (13, 13)
    assert sep.convolve(np.zeros((15, 15)), kernel, output_region="full").shape == (17, 17)
    out = np.empty((18, 28, 3), np.float32)
    options: dict[str, Any] = {"axes": (0, 1), "output_region": "valid"}
    assert sep.convolve(photo, kernel, output=out, **options) is out
    np.testing.assert_allclose(
        out, sep.convolve(photo, kernel, axes=(0, 1), output="float32")[1:-1, 1:-1], rtol=1e-6
    )
    single = sep.convolve(IMAGE.astype(np.float32), sep.kernels.gaussian(2), stride=2)
    np.testing.assert_allclose(
        single, sep.convolve(IMAGE, sep.kernels.gaussian(2))[::2, ::2], atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output_region": "inner"}, ArgumentError, "`output_region` must be"),
        ({"stride": 0}, ArgumentError, "`stride` must be 1"),
        ({"stride": (2, 2, 2)}, ArgumentError, "`stride` must be one value"),
        ({"stride": 1.5}, ArgumentError, "`stride` must be a whole number"),
        ({"stride": 2, "output": np.zeros((3, 3))}, OutputError, r"must have shape \(12, 16\)"),
        ({"mode": "valid"}, ModeError, "give `output_region` valid"),
    ],
)
def test_messages(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sep.convolve(IMAGE, np.ones((3, 3)), **options)


def test_kernels_that_are_too_large() -> None:
    with pytest.raises(ArgumentError, match="needs an image as large as the kernel"):
        sep.convolve(IMAGE, np.ones((3, 40)), output_region="valid")


def test_plans_count_what_is_computed() -> None:
    made = plan_region(np.ones((3, 5)), (20, 30), output_region="valid", stride=(2, 1))
    assert made.shape == (9, 26)
    # Rows first, because they shrink more: 9x30 sums of 3, then 9x26 sums of 5.
    assert made.multiplications == 9 * 30 * 3 + 9 * 26 * 5
    dense = plan_region(KERNELS["dense"], IMAGE.shape, stride=3)
    assert dense.multiplications == 8 * 11 * 20
    assert "8x11 outputs of 23x31 (same), every 3rd along axes 0 and 1" in str(dense)
    np.testing.assert_array_equal(dense(IMAGE), sep.convolve(IMAGE, KERNELS["dense"], stride=3))
    with pytest.raises(ArgumentError, match="this plan is for shape"):
        dense(IMAGE[1:])


@pytest.mark.parametrize("region", [{"output_region": "valid"}, {"stride": (2, 3)}, {"stride": 2}])
def test_functions_of_ndimage(region: dict[str, Any]) -> None:
    dense, taps = KERNELS["dense"], np.array([1.0, 2.0, -1.0])
    calls: dict[str, tuple[Any, Any]] = {
        "correlate": (dense, {}),
        "convolve": (dense, {"origin": (1, -1)}),
        "gaussian_filter": (1.2, {"order": (0, 1)}),
        "uniform_filter": ((3, 5), {}),
    }
    valid = RNG.random(IMAGE.shape) > 0.2
    for name, (first, options) in calls.items():
        function = getattr(ndimage, name)
        for missing in ({}, {"mask": valid}):
            whole = function(IMAGE, first, mode="wrap", **options, **missing)
            found = function(IMAGE, first, mode="wrap", **options, **missing, **region)
            steps = np.broadcast_to(region.get("stride", 1), 2)
            if "stride" in region:
                expected = whole[:: steps[0], :: steps[1]]
            else:  # where borders do not count, the result depends on no border mode
                other = function(IMAGE, first, mode="reflect", **options, **missing, **region)
                np.testing.assert_allclose(found, other, atol=1e-12)
                continue
            np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=name)
    if np.ndim(region.get("stride", 1)) == 0:
        for line in (ndimage.correlate1d, ndimage.convolve1d):
            found = line(IMAGE, taps, axis=0, **region)
            first = 0 if "stride" in region else 1
            expected = line(IMAGE, taps, axis=0)[first : 23 - first : region.get("stride", 1)]
            np.testing.assert_allclose(found, expected, atol=1e-12)
            out = np.empty(found.shape, np.float32)
            assert line(IMAGE, taps, axis=0, output=out, **region) is out


def test_dense_kernels_that_separate_run_as_passes() -> None:
    """Terms of the singular value decomposition are exact to rounding: 12 times as fast for 17x17 weights."""
    rng = np.random.default_rng(2)
    image = rng.normal(size=(40, 50))
    gaussian = sep.kernels.gaussian(2.0)
    for kernel, method in (
        (gaussian.dense(), "separable"),
        (sep.factorize(gaussian.dense(), "yx -> y,x"), "separable"),
        (sep.kernels.laplacian_of_gaussian(1.5).dense(), "separable"),  # two terms
        (rng.normal(size=(9, 9)), "dense"),  # nine terms would take more multiplications
    ):
        for options in (
            {"output_region": "valid", "stride": 2},
            {"stride": (3, 2), "mode": "wrap"},
        ):
            planned = plan_region(kernel, image.shape, **options)
            assert planned.to_dict()["method"] == method
            assert planned.multiplications <= np.prod(planned.shape) * np.prod(kernel.shape)
            every = sep.convolve(image, kernel, mode=options.get("mode", "reflect"))
            found = sep.convolve(image, kernel, **options)
            places = [one.places for one in planned.axes]
            np.testing.assert_allclose(found, every[np.ix_(*places)], atol=1e-12)
