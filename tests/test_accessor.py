"""Named axes: `DataArray.separable` and `separable.convolve` on a `DataArray`."""

from __future__ import annotations

import datetime
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import separable as sep
from separable import kernels, ndimage
from separable.errors import ArgumentError, ArgumentTypeError, OutputError

xr = pytest.importorskip("xarray")
import separable.xarray_accessor  # noqa: E402

RNG = np.random.default_rng(5)
DATA = RNG.normal(size=(9, 12, 14))
STEPS = {"z": 3.0, "y": 0.5, "x": 1.0}


def volume(data=DATA, falling=()):
    coords = {
        dim: (100 + step * np.arange(n))[:: -1 if dim in falling else 1]
        for (dim, step), n in zip(STEPS.items(), data.shape, strict=True)
        if dim != "x"
    }
    coords["label"] = ("z", [f"slice {k}" for k in range(data.shape[0])])
    return xr.DataArray(data, dims=tuple(STEPS), coords=coords, name="t1", attrs={"units": "K"})


def same_frame(found, given):
    assert found.dims == given.dims
    assert found.name == given.name
    assert found.attrs == given.attrs
    assert list(found.coords) == list(given.coords)
    for name in given.coords:
        np.testing.assert_array_equal(found.coords[name], given.coords[name])


def test_lengths_are_in_the_units_of_the_coordinates_and_the_frame_is_kept():
    given_ = volume()
    found = given_.separable.gaussian(2.0)
    same_frame(found, given_)
    expected = ndimage.gaussian_filter(DATA, 2.0, spacing=(3, 0.5, 1))
    np.testing.assert_allclose(found.values, expected, atol=1e-13)
    np.testing.assert_array_equal(given_.values, DATA)
    some = given_.separable.gaussian({"y": 2.0, "z": 4.0}).values
    expected = ndimage.gaussian_filter(DATA, (4, 2), axes=(0, 1), spacing=(3, 0.5))
    np.testing.assert_allclose(some, expected, atol=1e-13)
    order = given_.separable.gaussian((2.0, 4.0), ("y", "z"), order={"y": 1}).values
    expected = ndimage.gaussian_filter(DATA, (4, 2), (0, 1), axes=(0, 1), spacing=(3, 0.5))
    np.testing.assert_allclose(order, expected, atol=1e-12)


def test_samples_override_coordinates():
    found = volume().separable.gaussian(1.5, units="samples").values
    np.testing.assert_allclose(found, ndimage.gaussian_filter(DATA, 1.5), atol=1e-13)


@pytest.mark.parametrize("falling", ["z", "y", "zy"])
@pytest.mark.parametrize(
    ("name", "dims", "parameters"),
    [
        ("gaussian", None, {"sigma": 2.0, "order": {"z": 1}}),
        ("gaussian", "y", {"sigma": 2.0, "order": 3}),
        ("sobel", ("z", "y"), {"axis": "z"}),
        ("central_difference", ("z", "y", "x"), {"axis": "y"}),
        ("log", None, {"sigma": 2.0}),
        ("box", None, {"size": {"z": 9.0, "y": 1.5}}),
        ("gabor", ("y", "x"), {"wavelength": 4.0, "theta": 0.7, "phase": 0.5}),
        ("motion", ("y", "x"), {"length": 4.0, "angle": 0.5}),
    ],
)
def test_a_coordinate_that_falls_gives_the_same_field(falling, name, dims, parameters):
    """Values belong to places: how they are stored changes nothing."""
    rising = volume().separable.filter(name, dims, **parameters)
    flips = {dim: slice(None, None, -1) for dim in falling}
    stored = volume().isel(flips)
    found = stored.separable.filter(name, dims, **parameters).isel(flips)
    np.testing.assert_allclose(found.values, rising.values, atol=1e-12)
    if name == "gaussian":
        magnitude = stored.separable.gradient_magnitude(2.0).isel(flips)
        np.testing.assert_allclose(magnitude, volume().separable.gradient_magnitude(2.0))


def test_derivatives_are_per_unit_and_signed():
    for falling in ((), ("z",)):
        array = volume(falling=falling)
        ramp = array.copy(data=np.zeros(DATA.shape)) + 2.5 * array.z
        for found in (
            ramp.separable.derivative("z"),
            ramp.separable.derivative("z", 3.0),
            ramp.separable.filter("sobel", axis="z") / 32,
        ):
            middle = float(found.isel(z=4, y=6, x=6))
            assert middle == pytest.approx(2.5, rel=5e-3)
    assert float(ramp.separable.derivative("z", units="samples")[4, 6, 6]) == pytest.approx(-7.5)


def test_gradient_and_laplacian():
    array = volume()
    options = {"spacing": (3, 0.5, 1)}
    found = array.separable.gradient_magnitude(2.0)
    same_frame(found, array)
    expected = ndimage.gaussian_gradient_magnitude(DATA, 2.0, **options)
    np.testing.assert_allclose(found.values, expected, rtol=1e-12)
    masked = array.separable.gradient_magnitude(2.0, mask=np.ones(DATA.shape))
    np.testing.assert_allclose(masked.values, expected, rtol=1e-9)
    found = array.separable.laplacian_of_gaussian(2.0).values
    np.testing.assert_allclose(found, ndimage.gaussian_laplace(DATA, 2.0, **options), atol=1e-12)
    one = array.separable.laplacian_of_gaussian(2.0, "y").values
    expected = ndimage.gaussian_filter1d(DATA, 2.0, 1, 2, spacing=0.5)
    np.testing.assert_allclose(one, expected, atol=1e-12)


@given(st.integers(2, 40), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.booleans())
def test_even_coordinates_of_any_type_are_taken(count, step, start, single):
    x = (start + step * np.arange(count)).astype(np.float32 if single else np.float64)
    if single and np.unique(x).size < count:
        return
    array = xr.DataArray(np.zeros(count), {"x": x}, "x")
    from separable.xarray_accessor.spacing import step_of

    rounding = 2 * float(np.finfo(x.dtype).eps * np.abs(x).max())
    assert step_of(array, "x").size == pytest.approx(step, rel=1e-6, abs=rounding)


def times(step="30min", count=60):
    start = np.datetime64("2026-03-01")
    stamps = start + np.arange(count) * np.timedelta64(30, "m")
    return xr.DataArray(
        RNG.normal(size=(count, 8)), {"time": stamps, "x": 2.0 * np.arange(8)}, ("time", "x")
    )


@pytest.mark.parametrize(
    "three", ["3h", np.timedelta64(3, "h"), datetime.timedelta(hours=3), "180 min"]
)
def test_durations_along_times(three):
    array = times()
    found = array.separable.gaussian({"time": three}).values
    expected = ndimage.gaussian_filter(array.values, 6.0, axes=0)
    np.testing.assert_allclose(found, expected, atol=1e-13)
    both = array.separable.gaussian({"time": three, "x": 3.0}).values
    expected = ndimage.gaussian_filter(array.values, (6.0, 1.5))
    np.testing.assert_allclose(both, expected, atol=1e-13)
    slope = array.separable.derivative("time").values[5] * 1800  # per second
    np.testing.assert_allclose(slope, (array.values[6] - array.values[4]) / 2)


MESSAGES = [
    (lambda: times().separable.gaussian(2.0, ("time", "x")), ArgumentTypeError,
     "`sigma` along `time`, whose coordinate is a time, must be a duration such as \"3h\" or "
     "numpy.timedelta64(3, 'h'); got 2.0. Give a dict with one length a dim, or count samples "
     'with units="samples"'),
    (lambda: times().separable.gaussian({"time": "soon"}), ArgumentError,
     '`sigma` along `time` must be a duration such as "3h"; got \'soon\''),
    (lambda: volume().separable.gaussian("3h", "y"), ArgumentTypeError,
     "`sigma` along `y`, whose coordinate is not a time, must be a number; got '3h'"),
    (lambda: volume().separable.gaussian(1, "t"), ArgumentError,
     "`dims` must be some of z, y, x; got 't'"),
    (lambda: volume().separable.gaussian({"y": 1, "q": 2}), ArgumentError,
     "`dims` must be some of z, y, x; got 'q'"),
    (lambda: volume().separable.gaussian({"y": 1}, ("y", "x")), ArgumentError,
     "`sigma` must have a value for each of y, x; got nothing for 'x'"),
    (lambda: volume().separable.gaussian(1, ("y", "y")), ArgumentError,
     "`dims` must be different from each other; got ('y', 'y')"),
    (lambda: volume().separable.gaussian(1, units="mm"), ArgumentError,
     '`units` must be "coordinates" or "samples"; got \'mm\''),
    (lambda: volume().separable.gaussian(-1), ArgumentError,
     "`sigma` must be > 0 for every axis; got (-1, -1, -1)"),
    (lambda: volume().separable.filter("sobell"), ArgumentError,
     "unknown kernel `sobell`. Did you mean `sobel`?"),
    (lambda: volume().separable.filter("sobel", axs="y"), ArgumentTypeError,
     "unknown parameter `axs`. Did you mean `axis`? Kernel `sobel` takes `axis`, `size`"),
    (lambda: volume().separable.filter("disk", ("y", "x")), ArgumentTypeError,
     "kernel `disk` needs `radius`; it takes `radius`"),
    (lambda: volume().isel(z=[0, 1, 3]).separable.gaussian(1, "z"), ArgumentError,
     "the coordinate of `z` must be evenly spaced; its mean step is 4.5, and the one after index "
     "0 is 3: a difference of 1.5, 0.33 of it. Interpolate to even steps (DataArray.interp), or count "
     'samples with units="samples"'),
    (lambda: volume().isel(z=[4]).separable.gaussian(1, "z"), ArgumentError,
     "the coordinate of `z` must have two values or more to tell its step; got 1. Count samples "
     'with units="samples", or leave `z` out of dims'),
    (lambda: volume().assign_coords(y=list("abcdefghijkl")).separable.gaussian(1, "y"),
     ArgumentError, "the coordinate of `y` must hold numbers or times to measure lengths with; "
     'got <U1. Count samples with units="samples", or leave `y` out of dims'),
    (lambda: sep.convolve(volume(), [1, 2], axes="t"), ArgumentError,
     "`axes` must be numbers, or dims of z, y, x; got 't'"),
    (lambda: volume().separable.convolve([1, 2], "x", axes=1), ArgumentTypeError,
     "unexpected keyword argument `axes`: dims are named by `dims`, and the options are mode, "
     "cval, origin, output, output_region, stride, tol, method, threads, mask, nan, fill, nodata"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), MESSAGES)
def test_messages(call, kind, message):
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_months_are_not_even():
    months = np.arange("2026-01", "2027-01", dtype="datetime64[M]").astype("datetime64[ns]")
    array = xr.DataArray(np.zeros(12), {"time": months}, "time")
    with pytest.raises(ArgumentError, match=r"`time` must be evenly spaced; its mean step is 2\.6"):
        array.separable.gaussian("30 days")


def test_convolve_takes_a_dataarray_and_names():
    array = volume()
    kernel = RNG.normal(size=(3, 5))
    expected = sep.convolve(DATA, kernel, axes=(1, 0), mode="wrap")
    for found in (
        sep.convolve(array, kernel, axes=("y", "z"), mode="wrap"),
        sep.convolve(array, kernel, axes=(1, 0), mode="wrap"),
        array.separable.convolve(kernel, ("y", "z"), mode="wrap"),
    ):
        same_frame(found, array)
        np.testing.assert_array_equal(found.values, expected)
    found = array.separable.correlate(kernels.sobel(), ("y", "z"))
    np.testing.assert_array_equal(found, sep.correlate(DATA, kernels.sobel(), axes=(1, 0)))
    whole = sep.convolve(array, np.ones((3, 3, 3)), output="float32")
    assert whole.dtype == np.float32


def test_outputs():
    array, out = volume(), np.zeros(DATA.shape)
    assert np.shares_memory(sep.convolve(array, [1.0, 2.0], axes="x", output=out).data, out)
    into = xr.zeros_like(array)
    assert sep.convolve(array, [1.0, 2.0], axes="x", output=into) is into
    np.testing.assert_array_equal(into.values, out)
    with pytest.raises(OutputError, match="must have the dims"):
        sep.convolve(array, [1.0], axes="x", output=into.transpose("y", "z", "x"))


def test_masks_are_brought_to_the_order_of_dims():
    array = volume()
    mask = array > 0
    expected = sep.correlate(DATA, np.ones((3, 3)), axes=(1, 2), mask=DATA > 0, fill=0.0)
    for given_mask in (mask, mask.transpose("x", "z", "y"), mask.values):
        found = array.separable.correlate(np.ones((3, 3)), ("y", "x"), mask=given_mask, fill=0.0)
        np.testing.assert_allclose(found.values, expected, atol=1e-12)
    with pytest.raises(ArgumentError, match="`mask` must have the coordinates of the image"):
        array.separable.gaussian(1.0, mask=mask.assign_coords(y=np.arange(12.0)))


def test_how_to_store_the_old_numbers_is_forgotten():
    array = volume((100 * DATA).astype(np.int16))
    array.encoding = {"dtype": "int16", "scale_factor": 0.01}
    found = array.separable.gaussian(2.0, output=float)
    assert found.dtype == float
    assert found.encoding == {}


def test_arrays_of_dask_stay_lazy():
    pytest.importorskip("dask.array")
    array = volume().chunk({"z": 4, "y": 5})
    for lazy, eager in [
        (array.separable.gaussian(2.0), volume().separable.gaussian(2.0)),
        (array.separable.gradient_magnitude(2.0), volume().separable.gradient_magnitude(2.0)),
        (sep.convolve(array, [1, 2, 3], axes="y"), sep.convolve(volume(), [1, 2, 3], axes="y")),
    ]:
        assert lazy.chunks is not None
        same_frame(lazy, eager)
        np.testing.assert_allclose(lazy.compute().values, eager.values, rtol=1e-12, atol=1e-13)


def test_importing_it_registers_once_and_quietly():
    import importlib

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.import_module("separable.xarray_accessor")
    assert isinstance(xr.DataArray([1.0]).separable, separable.xarray_accessor.SeparableAccessor)
