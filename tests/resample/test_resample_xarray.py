"""Resampling of xarray objects: spacing from the coordinates, and coordinates of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from separable.errors import ArgumentError, ArgumentTypeError, OutputError
from separable.resample import downsample, pyramid, rescale, resize
from separable.resample import resample as resample_array

xr: Any = pytest.importorskip("xarray")
import separable.xarray_accessor  # noqa: E402, F401

RNG = np.random.default_rng(4)
DATA = RNG.random((3, 12, 20))
TIMES = np.arange("2026-01-01", "2026-01-04", 1, "datetime64[D]").astype("datetime64[ns]")


def volume() -> Any:
    return xr.DataArray(
        DATA, dims=("time", "z", "x"), name="t", attrs={"units": "K"},
        coords={
            "time": TIMES, "z": 100.0 - 3 * np.arange(12), "x": 0.5 * np.arange(20),
            "depth": ("z", 2.0 * np.arange(12)), "label": ("x", list("abcdefghijklmnopqrst")),
            "place": (("z", "x"), np.zeros((12, 20))), "station": 7,
        },
    )  # fmt: skip


def test_spacing_comes_from_the_coordinates_and_goes_into_them() -> None:
    found = resample_array(volume(), None, 1.0)
    expected = resample_array(DATA, (3.0, 0.5), 1.0, axes=(1, 2))
    np.testing.assert_array_equal(found.values, expected)
    assert (found.dims, found.name, found.attrs) == (("time", "z", "x"), "t", {"units": "K"})
    # The outer edges stay: at 100 + 3/2 along z, which falls, and at -0.25 along x.
    np.testing.assert_allclose(found.z, 101.0 - np.arange(36))
    np.testing.assert_allclose(found.x, 0.25 + np.arange(10))
    np.testing.assert_allclose(found["depth"], 2 * (100 - found.z.values) / 3)
    np.testing.assert_array_equal(found.time, TIMES)
    assert found["station"] == 7
    assert "label" not in found.coords  # letters have no value in between
    assert "place" not in found.coords


@pytest.mark.parametrize("align", ["edges", "centres"])
def test_values_agree_with_interpolation_at_the_new_coordinates(align: str) -> None:
    found = resize(volume(), (30, 33), antialias=False, align=align, mode="nearest")
    places = {
        "z": np.clip(found.z, 100 - 33, 100), "x": np.clip(found.x, 0, 9.5),
    }  # fmt: skip
    expected = volume().interp({k: ("n", v.values) for k, v in places.items() if k == "z"})
    expected = expected.transpose("time", "n", "x").interp({"x": ("m", places["x"].values)})
    np.testing.assert_allclose(
        found.values, expected.transpose("time", "n", "m").values, atol=1e-12
    )


def test_times_are_interpolated_to_the_nanosecond() -> None:
    found = volume().separable.resample("12h", "time", align="centres")
    assert (
        found.time.values.tolist()
        == np.arange(TIMES[0], TIMES[2] + 1, np.timedelta64(12, "h")).tolist()
    )
    np.testing.assert_allclose(found.values[::2], DATA, atol=1e-12)
    np.testing.assert_allclose(found.values[1], (DATA[0] + DATA[1]) / 2, atol=1e-12)


def test_methods_of_the_accessor_and_names_of_dims() -> None:
    data = volume()
    np.testing.assert_array_equal(
        data.separable.resample({"x": 1.0}).values, resample_array(DATA, 0.5, 1.0, axes=2)
    )
    np.testing.assert_array_equal(
        data.separable.rescale(0.5).values, rescale(DATA, 0.5, axes=(1, 2))
    )
    np.testing.assert_array_equal(data.separable.resize({"z": 5}).values, resize(DATA, 5, axes=1))
    np.testing.assert_array_equal(resize(data, 7, axes="x").values, resize(DATA, 7, axes=2))
    coarse = downsample(data, 4)
    np.testing.assert_array_equal(coarse.values, downsample(DATA, 4, axes=(1, 2)))
    np.testing.assert_allclose(coarse.x, data.x.values.reshape(5, 4).mean(axis=1))
    np.testing.assert_allclose(downsample(data, 2, method="gaussian").x, data.x[::2])
    levels = pyramid(data, 3)
    np.testing.assert_allclose(levels[2].x, coarse.x)


def test_dask_stays_lazy_and_masks_are_aligned() -> None:
    pytest.importorskip("dask.array")
    data = volume()
    lazy = resample_array(data.chunk({"z": 5, "x": 7}), None, 1.0)
    assert lazy.chunks is not None
    xr.testing.assert_allclose(lazy.compute(), resample_array(data, None, 1.0))
    valid = data > 0.2
    found = resize(data, (6, 10), mask=valid.transpose("x", "z", "time"))
    np.testing.assert_allclose(found.values, resize(DATA, (6, 10), axes=(1, 2), mask=DATA > 0.2))


def test_messages() -> None:
    data = volume()
    uneven = data.assign_coords(z=np.arange(12.0) ** 2)
    with pytest.raises(ArgumentError, match="the coordinate of `z` must be evenly spaced"):
        resample_array(uneven, None, 1.0)
    np.testing.assert_allclose(resize(uneven, 24, axes="z").z[[0, 1]], [-0.25, 0.25])
    with pytest.raises(ArgumentError, match="`spacing_in` must be the distance"):
        resample_array(DATA, None, 1.0)
    with pytest.raises(ArgumentError, match="depthwise"):
        resize(data, 3, axes="depthwise")
    with pytest.raises(OutputError, match="must be a type for a DataArray"):
        resize(data, 3, output=np.zeros((3, 3, 3)))
    with pytest.raises(ArgumentTypeError, match="must be a duration"):
        data.separable.resample({"time": 3600.0})
