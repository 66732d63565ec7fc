"""Dims that are filtered by default, border modes by dim, and datasets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import separable as sep
from separable.errors import ArgumentError

xr = pytest.importorskip("xarray")
import separable.xarray_accessor  # noqa: E402

RNG = np.random.default_rng(4)
KERNEL = np.outer([1, 2, 1], [1, 2, 1]) / 16


@pytest.mark.parametrize(
    ("dims", "filtered"),
    [
        (("time", "lat", "lon"), (1, 2)),
        (("band", "y", "x"), (1, 2)),
        (("channel", "z", "y", "x"), (1, 2, 3)),
        (("y", "x", "wavelength"), (0, 1)),
        (("dim_0", "dim_1"), (0, 1)),
        (("time",), (0,)),
        (("time", "station", "level"), (1, 2)),
    ],
)
def test_spatial_dims_are_filtered_by_default(dims: Any, filtered: Any) -> None:
    values = RNG.random((5, 6, 7, 8)[: len(dims)])
    array = xr.DataArray(values, dims=dims)
    wanted = sep.ndimage.gaussian_filter(values, 1.0, axes=filtered)
    np.testing.assert_allclose(array.separable.gaussian(1.0).values, wanted, atol=1e-12)
    widths = {dims[a]: 1.0 for a in range(len(dims))}  # a dict names others
    everywhere = sep.ndimage.gaussian_filter(values, 1.0)
    np.testing.assert_allclose(array.separable.gaussian(widths).values, everywhere, atol=1e-12)


def test_attributes_of_coordinates_tell_space_from_time() -> None:
    values = RNG.random((4, 5, 6))
    coords = {
        "a": ("a", np.arange(4.0), {"axis": "T"}),
        "b": ("b", np.arange(5.0), {"units": "degrees_north"}),
        "c": np.array(["2000-01-01"], "M8[ns]") + np.arange(6) * np.timedelta64(1, "D"),
    }
    array = xr.DataArray(values, coords, ("a", "b", "c"))
    wanted = sep.ndimage.gaussian_filter(values, 1.0, axes=(1,))
    np.testing.assert_allclose(array.separable.gaussian(1.0).values, wanted, atol=1e-12)


def test_no_spatial_dim_is_a_message() -> None:
    array = xr.DataArray(np.zeros((3, 4)), dims=("time", "band"))
    with pytest.raises(
        ArgumentError, match=r"none of the dims time, band is spatial: name the ones"
    ):
        array.separable.gaussian(1.0)


def test_a_kernel_of_as_many_axes_as_dims_or_spatial_dims() -> None:
    values = RNG.random((3, 6, 7))
    array = xr.DataArray(values, dims=("time", "y", "x"))
    wanted = sep.convolve(values, KERNEL, axes=(1, 2))
    for found in (array.separable.convolve(KERNEL), sep.convolve(array, KERNEL)):
        np.testing.assert_array_equal(found.values, wanted)
    cube = RNG.random((3, 3, 3))
    np.testing.assert_array_equal(array.separable.convolve(cube).values, sep.convolve(values, cube))


@pytest.mark.parametrize("lazy", [False, True])
def test_border_modes_by_dim(lazy: bool) -> None:
    values = RNG.random((3, 6, 7))
    array = xr.DataArray(values, dims=("time", "y", "x"))
    if lazy:
        pytest.importorskip("dask.array")
        array = array.chunk(y=3)
    modes = {"x": "wrap", "y": "nearest"}
    wanted = sep.convolve(values, KERNEL, axes=(1, 2), mode=("nearest", "wrap"))
    for found in (
        array.separable.convolve(KERNEL, ("y", "x"), mode=modes),
        sep.convolve(array, KERNEL, mode=modes),
    ):
        np.testing.assert_allclose(found.values, wanted, atol=1e-14)
    partly = array.separable.gaussian(1.0, mode={"x": "wrap"}).values
    theirs = sep.ndimage.gaussian_filter(values, 1.0, axes=(1, 2), mode=("reflect", "wrap"))
    np.testing.assert_allclose(partly, theirs, atol=1e-12)
    slopes = array.separable.gradient_magnitude(1.0, mode={"x": "wrap"}).values
    theirs = sep.ndimage.gaussian_gradient_magnitude(
        values, 1.0, axes=(1, 2), mode=("reflect", "wrap")
    )
    np.testing.assert_allclose(slopes, theirs, atol=1e-12)
    with pytest.raises(ArgumentError, match="`mode`"):
        array.separable.gaussian(1.0, mode={"time": "wrap"})


def field() -> Any:
    return xr.Dataset(
        {
            "t": (("time", "y", "x"), RNG.random((2, 6, 7)), {"units": "K"}),
            "count": (("y", "x"), RNG.integers(0, 9, (6, 7))),
            "mean": ("time", [1.0, 2.0]),
            "name": (("y", "x"), np.full((6, 7), "a")),
            "crs": ((), 0),
        },
        {"x": 0.5 * np.arange(7)}, {"title": "test"},
    )  # fmt: skip


METHODS = [
    ("gaussian", (1.0,), {}),
    ("laplacian_of_gaussian", (1.0,), {}),
    ("gradient_magnitude", (1.0,), {}),
    ("derivative", ("x",), {}),
    ("filter", ("sobel",), {"axis": "x"}),
    ("convolve", (KERNEL,), {"mode": {"x": "wrap"}}),
    ("correlate", (KERNEL,), {"method": "direct"}),
]


@pytest.mark.parametrize(("method", "arguments", "options"), METHODS)
def test_datasets_filter_each_variable_that_has_the_dims(
    method: str, arguments: Any, options: Any
) -> None:
    data = field()
    found = getattr(data.separable, method)(*arguments, **options)
    assert (found.attrs, list(found)) == (data.attrs, list(data))
    for name in ("mean", "name", "crs"):
        xr.testing.assert_identical(found[name], data[name])
    for name in ("t", "count"):
        wanted = getattr(data[name].separable, method)(*arguments, **options)
        xr.testing.assert_identical(found[name], wanted)


def test_dims_choose_the_variables() -> None:
    data = field()
    along = data.separable.gaussian(1.0, "time")
    assert not along.t.equals(data.t)
    assert not along["mean"].equals(data["mean"])
    xr.testing.assert_identical(along["count"], data["count"])
    whole = sep.convolve(data, KERNEL, mode="wrap")
    xr.testing.assert_identical(whole.t, sep.convolve(data.t, KERNEL, mode="wrap"))
    with pytest.raises(ArgumentError, match=r"`dims` must be some of .*; got 'q'"):
        data.separable.gaussian(1.0, "q")
    with pytest.raises(
        ArgumentError, match="no variable of the dataset has the dims y, x and numbers"
    ):
        data[["mean"]].assign_coords(y=np.arange(6), x=np.arange(7)).separable.gaussian(
            1.0, ("y", "x")
        )
