"""Resampling and regions of a `Dataset`: each variable as on its own, on common coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import resample
from separable.errors import ArgumentError, OutputError

xr: Any = pytest.importorskip("xarray")
import separable.xarray_accessor  # noqa: E402

RNG = np.random.default_rng(4)
FIELD = RNG.random((3, 12, 20))
KERNEL = np.array([[1.0, 2.0, 1.0], [0.0, 1.0, 3.0], [2.0, 0.0, 1.0]])


def weather() -> Any:
    return xr.Dataset(
        {
            "t": (("time", "y", "x"), FIELD, {"units": "K"}),
            "height": (("y", "x"), (FIELD[0] * 1000).astype("int16")),
            "weight": ("y", np.linspace(0, 1, 12)),
            "mean": ("time", [1.0, 2.0, 3.0]),
            "land": (("y", "x"), np.full((12, 20), "sea")),
        },
        {"y": 100.0 - 3 * np.arange(12), "x": 0.5 * np.arange(20), "station": 7},
        {"title": "weather"},
    )  # fmt: skip


def test_variables_are_resampled_along_the_dims_that_they_have() -> None:
    data = weather()
    found = resample.resize(data, (6, 30))
    for name in ("t", "height"):
        alone = resample.resize(data[name], (6, 30))
        np.testing.assert_array_equal(found[name].values, alone.values)
        assert (found[name].dtype, found[name].attrs) == (alone.dtype, alone.attrs)
        xr.testing.assert_allclose(found[name].coords.to_dataset(), alone.coords.to_dataset())
    np.testing.assert_array_equal(found["weight"].values, resample.resize(data["weight"].values, 6))
    xr.testing.assert_identical(found["mean"], data["mean"])
    assert "land" not in found  # letters have no value in between
    assert (found.attrs, found["station"].item()) == ({"title": "weather"}, 7)


def test_spacing_comes_from_the_coordinates() -> None:
    data = weather()
    found = resample.resample(data, None, 1.0)
    xr.testing.assert_allclose(found["t"], resample.resample(data["t"], None, 1.0))
    xr.testing.assert_identical(found, data.separable.resample(1.0))
    xr.testing.assert_identical(
        data.separable.resample({"x": 1.0}), resample.resample(data, None, 1.0, axes="x")
    )
    xr.testing.assert_identical(data.separable.rescale(0.5), resample.rescale(data, 0.5))
    xr.testing.assert_identical(data.separable.resize({"y": 5}), resample.resize(data, 5, axes="y"))


def test_pyramids_and_methods_of_downsample() -> None:
    data = weather()
    for method in ("area", "gaussian", "nearest"):
        levels = resample.pyramid(data, 3, method=method)
        assert levels[0] is data
        alone = resample.pyramid(data["t"], 3, method=method)
        for level, one in zip(levels, alone, strict=True):
            xr.testing.assert_allclose(level["t"], one)
    with pytest.raises(ArgumentError, match="`levels` must be at most"):
        resample.pyramid(data, 9)
    labels = resample.downsample(data[["height"]], 2, method="majority")
    np.testing.assert_array_equal(
        labels["height"], resample.downsample(data["height"].values, 2, method="majority")
    )


def test_dask_masks_and_types() -> None:
    data = weather()
    found = resample.resize(data[["t"]], (6, 10), mask=data["t"] > 0.2, output="float32")
    expected = resample.resize(FIELD, (6, 10), axes=(1, 2), mask=FIELD > 0.2, output="float32")
    np.testing.assert_array_equal(found["t"].values, expected)
    pytest.importorskip("dask.array")
    lazy = resample.resize(data.chunk({"x": 7}), (6, 10))
    assert lazy["t"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), resample.resize(data, (6, 10)))


@pytest.mark.parametrize("region", ["same", "valid", "full"])
@pytest.mark.parametrize("stride", [1, (2, 3)])
def test_regions_and_strides(region: str, stride: Any) -> None:
    data = weather()
    found = sep.convolve(data, KERNEL, output_region=region, stride=stride)
    for name in ("t", "height"):
        alone = sep.convolve(data[name], KERNEL, output_region=region, stride=stride)
        xr.testing.assert_allclose(found[name], alone)
    xr.testing.assert_identical(found["mean"], data["mean"])
    if region == "full":
        assert "weight" not in found  # it has no values outside
    elif stride == 1 and region == "same":
        xr.testing.assert_identical(found["weight"], data["weight"])
    else:
        places = np.searchsorted(-data.y, -found.y)
        np.testing.assert_array_equal(found["weight"], data["weight"][places])
        np.testing.assert_array_equal(found["land"], np.full(found["height"].shape, "sea"))


def test_regions_with_options_of_dims() -> None:
    data = weather()[["t", "weight"]]
    options = {"mode": {"x": "wrap"}, "origin": {"y": 1}}
    found = sep.correlate(data, KERNEL, axes=("y", "x"), stride=2, **options)
    xr.testing.assert_allclose(
        found["t"], sep.correlate(data["t"], KERNEL, axes=("y", "x"), stride=2, **options)
    )


def test_messages() -> None:
    data = weather()
    with pytest.raises(ArgumentError, match="depth"):
        resample.resize(data, 3, axes="depth")
    with pytest.raises(ArgumentError, match="no variable of the dataset has the dims time, y, x"):
        resample.resize(data[["weight", "mean", "land"]], 3, axes=("time", "y", "x"))
    with pytest.raises(OutputError, match="must be a type for a Dataset"):
        resample.resize(data, 3, output=np.zeros((3, 3)))
    with pytest.raises(ArgumentError, match="`shape` must have one value for each of the 2"):
        resample.resize(data, (3, 4, 5))
    uneven = data.assign_coords(y=np.arange(12.0) ** 2)
    with pytest.raises(ArgumentError, match="the coordinate of `y` must be evenly spaced"):
        resample.resample(uneven, None, 1.0)
