"""Features of xarray objects: dims, coordinates and names of the results, and the variables of a `Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from separable import features
from separable.errors import ArgumentError, ArgumentTypeError

xr: Any = pytest.importorskip("xarray")
import separable.xarray_accessor  # noqa: E402, F401

RNG = np.random.default_rng(4)
DATA = RNG.random((2, 12, 20))


def movie() -> Any:
    return xr.DataArray(
        DATA, dims=("time", "y", "x"), name="light", attrs={"units": "lm"},
        coords={"y": 100.0 - 3 * np.arange(12), "x": 0.5 * np.arange(20), "place": (("y", "x"), DATA[0])},
    )  # fmt: skip


def test_spatial_dims_and_everything_beside_the_values_stays() -> None:
    found = features.gradient_magnitude(movie(), 1.0)
    np.testing.assert_array_equal(found.values, features.gradient_magnitude(DATA, 1.0, axes=(1, 2)))
    assert (found.dims, found.name, found.attrs) == (("time", "y", "x"), "light", {"units": "lm"})
    xr.testing.assert_identical(found.coords.to_dataset(), movie().coords.to_dataset())


def test_several_results_are_a_first_dim_and_lists_stay_lists() -> None:
    values, vectors = features.hessian_eigenvectors(movie(), 1.0)
    assert values.dims == ("feature", "time", "y", "x")
    assert vectors.dims == ("feature", "component", "time", "y", "x")
    np.testing.assert_array_equal(
        values.values, features.hessian_eigenvectors(DATA, 1.0, axes=(1, 2))[0]
    )
    elements = features.hessian_matrix(movie(), 1.0, {"x": "wrap"})
    expected = features.hessian_matrix(DATA, 1.0, ("reflect", "wrap"), axes=(1, 2))
    assert isinstance(elements, list)
    for one, other in zip(elements, expected, strict=True):
        np.testing.assert_array_equal(one.values, other)
    stack = features.texture_features(movie(), [1.0, 2.0])
    assert tuple(stack.values.feature.values) == stack.names
    np.testing.assert_array_equal(
        stack["laplacian at 2"], stack.values.sel(feature="laplacian at 2")
    )
    assert stack.table.shape == (DATA.size, len(stack.names))
    assert features.gradient_direction(movie(), 1.0).dims == ("time", "y", "x")


def test_spacing_of_the_coordinates_and_masks() -> None:
    image = movie()
    expected = features.frangi(DATA, [2.0, 4.0], axes=(1, 2), spacing=(3.0, 0.5))
    by_function = features.frangi(image, [2.0, 4.0], spacing="coordinates")
    np.testing.assert_array_equal(by_function.values, expected)
    by_method = image.separable.feature("frangi", [2.0, 4.0])
    xr.testing.assert_identical(by_function, by_method)
    samples = image.separable.feature(features.frangi, [2.0], units="samples", dims=("y", "x"))
    np.testing.assert_array_equal(samples.values, features.frangi(DATA, [2.0], axes=(1, 2)))
    valid = image > 0.2
    found = features.local_mean(image, 3, mask=valid.transpose("x", "y", "time"))
    np.testing.assert_array_equal(
        found.values, features.local_mean(DATA, 3, axes=(1, 2), mask=DATA > 0.2)
    )
    one_axis = features.local_mean(image, 3, axes="x")
    np.testing.assert_array_equal(one_axis.values, features.local_mean(DATA, 3, axes=2))
    variable = image.variable[0]
    np.testing.assert_array_equal(features.local_mean(variable, 3), features.local_mean(DATA[0], 3))


def test_dask_stays_lazy() -> None:
    pytest.importorskip("dask.array")
    lazy = features.hessian_eigenvalues(movie().chunk({"y": 5}), 1.0)
    assert lazy.chunks is not None
    np.testing.assert_allclose(
        lazy.values, features.hessian_eigenvalues(DATA, 1.0, axes=(1, 2)), atol=1e-12
    )


def test_variables_of_a_dataset() -> None:
    both = xr.Dataset(
        {"light": movie(), "dark": 2 * movie()[0].drop_vars("place"), "mean": ("time", [1.0, 2.0]),
         "name": (("y", "x"), np.full((12, 20), "a"))},
        attrs={"title": "night"},
    )  # fmt: skip
    found = features.gradient_magnitude(both, 1.0)
    assert list(found) == list(both)
    assert found.attrs == {"title": "night"}
    xr.testing.assert_identical(found["mean"], both["mean"])
    xr.testing.assert_identical(found["light"], features.gradient_magnitude(both["light"], 1.0))
    xr.testing.assert_identical(found["dark"], features.gradient_magnitude(both["dark"], 1.0))
    elements = features.hessian_matrix(both, 1.0)
    assert [type(one).__name__ for one in elements] == ["Dataset"] * 3
    xr.testing.assert_identical(elements[1]["dark"], features.hessian_matrix(both["dark"], 1.0)[1])
    stack = features.texture_features(both, [1.0])
    xr.testing.assert_identical(
        stack["gaussian at 1"]["dark"], stack.values["dark"].isel(feature=0)
    )
    with pytest.raises(ArgumentTypeError, match="one array"):
        stack.table  # noqa: B018
    by_method = both.separable.feature("sato", [2.0], dims=("y", "x"))
    xr.testing.assert_identical(by_method["light"], both["light"].separable.feature("sato", [2.0]))


def test_messages() -> None:
    image = movie()
    with pytest.raises(ArgumentError, match='`spacing` must be numbers or "coordinates"'):
        features.sato(image, [1.0], spacing="mm")
    uneven = image.assign_coords(y=np.arange(12.0) ** 2)
    with pytest.raises(ArgumentError, match="the coordinate of `y` must be evenly spaced"):
        uneven.separable.feature("sato", [1.0])
    with pytest.raises(ArgumentError, match="`name` must be one of blob_response, coherence"):
        image.separable.feature("vessels", [1.0])
    with pytest.raises(ArgumentError, match="`units` must be one of coordinates, samples"):
        image.separable.feature("sato", [1.0], units="mm")
    with pytest.raises(ArgumentError, match="depth"):
        features.sato(image, [1.0], axes=("y", "depth"))
    with pytest.raises(ArgumentError, match="no variable of the dataset has the dims y, x"):
        features.sato(xr.Dataset({"a": ("y", [1.0]), "b": ("x", [1.0])}), [1.0])
    with pytest.raises(ArgumentTypeError, match="unknown option `shape`"):
        features.sato(image, [1.0], shape=3)
