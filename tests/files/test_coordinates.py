"""Coordinates, attributes and groups of netCDF, HDF5 and Zarr: xarray opens results as it opened their sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import volumes
from separable.errors import FileError
from separable.files import open_source, read_image, write_image
from separable.files.level_writer import block_means

h5py = pytest.importorskip("h5py")
xr = pytest.importorskip("xarray")
pytest.importorskip("netCDF4")
zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*onsolidated"),
    pytest.mark.filterwarnings("ignore:numpy.ndarray size changed"),
]
RNG = np.random.default_rng(5)
KERNEL = sep.kernels.gaussian(1, ndim=2)
VALUES = (RNG.random((2, 9, 11)) * 30).astype(np.float32)


def dataset(text: bool = False) -> Any:
    coords = {
        "time": np.array(["2000-01-01", "2000-01-03"], "M8[ns]"),
        "lat": ("lat", np.linspace(40, 50, 9), {"units": "degrees_north"}),
        "lon": ("lon", np.linspace(0, 10, 11), {"units": "degrees_east"}),
        "area": (("lat", "lon"), RNG.random((9, 11))),
    }
    if text:
        coords["station"] = ("time", ["a", "bb"])
    found = xr.Dataset(
        {
            "temp": (("time", "lat", "lon"), VALUES, {"units": "K", "grid_mapping": "crs"}),
            "crs": ((), 0, {"grid_mapping_name": "latitude_longitude"}),
        },
        coords, {"title": "test", "history": "made"},
    )  # fmt: skip
    found.temp[0, 2, 3] = np.nan
    return found


def write(path: Path, data: Any, group: str | None = None) -> None:
    kind = path.suffixes[-1]
    encoding = {"temp": {"_FillValue": np.float32(-9)}} if "temp" in data else {}
    if kind == ".zarr":
        data.to_zarr(path, zarr_format=int(path.stem[-1]), group=group, encoding=encoding)
    else:
        data.to_netcdf(path, engine="netcdf4", group=group, encoding=encoding)


def opened(path: Path, group: str | None = None) -> Any:
    kind = path.suffixes[-1]
    if kind == ".zarr":
        return xr.open_zarr(path, group=group)
    return xr.open_dataset(path, engine="netcdf4", group=group)


def check(found: Any, source: Any) -> None:
    """Everything but the values of `temp` is as in the source; these are filtered over space."""
    for name in source.coords:
        xr.testing.assert_identical(found.coords[name].variable, source.coords[name].variable)
    assert set(found.coords) == set(source.coords)
    assert found.attrs == source.attrs
    assert found.temp.attrs == source.temp.attrs
    assert found.temp.dims == source.temp.dims
    if "crs" in source:
        xr.testing.assert_identical(found.crs.variable, source.crs.variable)
    wanted = sep.convolve(source.temp.values, KERNEL, axes=(1, 2), nan="ignore")
    np.testing.assert_allclose(found.temp.values, wanted, rtol=1e-5)


@pytest.mark.parametrize("source", ["a.nc", "a.h5", "a2.zarr", "a3.zarr"])
@pytest.mark.parametrize("target", ["b.nc", "b.h5", "b2.zarr", "b3.zarr"])
def test_xarray_opens_the_result_as_the_source(tmp_path: Path, source: str, target: str) -> None:
    same = source[1:] == target[1:]
    data = dataset(text=same and "zarr" not in source)
    write(tmp_path / source, data)
    if target == "b2.zarr" and source != "a2.zarr":  # the version of Zarr follows the source
        target = "b3.zarr"
    if target == "b3.zarr" and source == "a2.zarr":
        target = "b2.zarr"
    volumes.filter(tmp_path / source, tmp_path / target, KERNEL)
    with opened(tmp_path / source) as before, opened(tmp_path / target) as after:
        check(after, before)


@pytest.mark.parametrize("name", ["a.nc", "a3.zarr"])
def test_groups_survive(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, dataset(), group="run/one")
    array, info = read_image(tmp_path / name)
    assert info.options["place"].name == "run/one/temp"
    out = tmp_path / f"b{name}"
    write_image(out, array, info)
    with opened(tmp_path / name, "run/one") as before, opened(out, "run/one") as after:
        xr.testing.assert_identical(after.load(), before.load())


def test_compressed_variables_stay_compressed(tmp_path: Path) -> None:
    data = dataset(text=True)
    data.to_netcdf(
        tmp_path / "a.nc", engine="netcdf4", unlimited_dims=["time"],
        encoding={"temp": {"zlib": True, "complevel": 4, "chunksizes": (1, 5, 6)}},
    )  # fmt: skip
    volumes.filter(tmp_path / "a.nc", tmp_path / "b.nc", KERNEL)
    with opened(tmp_path / "a.nc") as before, opened(tmp_path / "b.nc") as after:
        check(after, before)
        assert after.temp.encoding["zlib"]
        assert after.temp.encoding["chunksizes"] == (1, 5, 6)
        assert after.encoding["unlimited_dims"] == before.encoding["unlimited_dims"]


@pytest.mark.parametrize("unlimited", [[], ["time"]])
def test_classic_netcdf_is_read(tmp_path: Path, unlimited: list[str]) -> None:
    data = dataset()
    encoding = {"temp": {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -1}}
    data.to_netcdf(
        tmp_path / "a.nc", format="NETCDF3_64BIT", engine="netcdf4", unlimited_dims=unlimited,
        encoding=encoding,
    )  # fmt: skip
    with opened(tmp_path / "a.nc") as before:
        theirs = before.temp.values
        array, info = read_image(tmp_path / "a.nc")
        np.testing.assert_allclose(array, theirs, rtol=1e-6)
        assert (info.axes, info.names) == ("TYX", ("time", "lat", "lon"))
        with open_source(tmp_path / "a.nc") as source:
            part = (slice(1, 2), slice(2, 7), slice(0, 4))
            np.testing.assert_array_equal(source.read(part), array[part])
        volumes.filter(tmp_path / "a.nc", tmp_path / "b.nc", KERNEL)
        with opened(tmp_path / "b.nc") as after:
            for name in before.coords:
                xr.testing.assert_identical(
                    after[name].variable.load(), before[name].variable.load()
                )
            np.testing.assert_allclose(
                after.temp.values,
                sep.convolve(theirs, KERNEL, axes=(1, 2), nan="ignore"),
                rtol=1e-5,
            )


def test_spacing_comes_from_even_coordinates_in_a_unit_of_length(tmp_path: Path) -> None:
    even = {
        "y": ("y", np.arange(9) * 2.0, {"units": "mm"}),
        "x": ("x", np.arange(11) * 0.5, {"units": "mm"}),
    }
    data = xr.Dataset({"v": (("y", "x"), VALUES[0])}, even)
    for name in ("a.nc", "a2.zarr", "a3.zarr"):
        write(tmp_path / name, data)
        found = read_image(tmp_path / name)[1]
        assert (found.spacing, found.unit) == ((2.0, 0.5), "mm")
    write(tmp_path / "b.nc", dataset())  # degrees
    assert read_image(tmp_path / "b.nc")[1].spacing is None


def test_several_variables_are_named(tmp_path: Path) -> None:
    data = dataset()
    data["wind"] = data.temp * 2
    write(tmp_path / "a.nc", data)
    write(tmp_path / "a3.zarr", data)
    for path in (tmp_path / "a.nc", tmp_path / "a3.zarr"):
        with pytest.raises(FileError, match=r"2 .*temp /?wind\. Name one"):
            read_image(path)
    one = read_image(f"{tmp_path / 'a.nc'}:/temp")[1]
    assert one.notes == ("only temp and its coordinates are part of the result, not wind",)
    assert read_image(tmp_path / "a3.zarr" / "temp")[1].notes == one.notes


def test_other_formats_become_netcdf(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel")
    nib.Nifti1Image(VALUES, np.diag([2.0, 3, 4, 1])).to_filename(tmp_path / "a.nii")
    array, info = read_image(tmp_path / "a.nii")
    write_image(tmp_path / "a.nc", array, info)
    with opened(tmp_path / "a.nc") as found:
        assert found.data.dims == ("x", "y", "z")
        np.testing.assert_array_equal(found.data.values, VALUES)
    kept = read_image(tmp_path / "a.nc")[1]
    np.testing.assert_array_equal(kept.affine, np.diag([2.0, 3, 4, 1]))
    assert kept.spacing == (2.0, 3.0, 4.0)


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.nc", dataset())
    array, info = read_image(tmp_path / "a.nc")
    (tmp_path / "a.nc").unlink()
    with pytest.raises(
        FileError, match=r"cannot copy the coordinates of .*a\.nc: the file is gone"
    ):
        write_image(tmp_path / "b.nc", array, info)
    assert list(tmp_path.iterdir()) == []


# Pyramids


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "shapes", [[(16, 20), (8, 10), (4, 5)], [(17, 21), (9, 11), (5, 6)], [(17, 21), (8, 10)]]
)
def test_all_levels_of_a_pyramid_are_filtered(tmp_path: Path, version: int, shapes: Any) -> None:
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    levels = [
        {
            "path": f"s{i}",
            "coordinateTransformations": [{"type": "scale", "scale": [2.0**i, 2.0**i]}],
        }
        for i in range(len(shapes))
    ]
    image = {"axes": axes, "datasets": levels, **({"version": "0.4"} if version == 2 else {})}
    meta = (
        {"multiscales": [image]}
        if version == 2
        else {"ome": {"version": "0.5", "multiscales": [image]}}
    )
    top = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=version, attributes=meta)
    fine = (RNG.random(shapes[0]) * 200).astype(np.uint8)
    for i, shape in enumerate(shapes):
        top.create_array(f"s{i}", shape=shape, dtype="uint8", chunks=(5, 5))
    top["s0"][...] = fine
    volumes.filter(tmp_path / "a.zarr", tmp_path / "b.zarr", KERNEL)
    made = zarr.open_group(str(tmp_path / "b.zarr"), mode="r")
    said = dict(made.attrs) if version == 2 else made.attrs["ome"]
    assert [d["coordinateTransformations"] for d in said["multiscales"][0]["datasets"]] == [
        d["coordinateTransformations"] for d in levels
    ]
    level = sep.convolve(fine, KERNEL)
    np.testing.assert_array_equal(made["0"][...], level)
    for i, shape in enumerate(shapes[1:], start=1):
        rows, columns = (
            np.minimum(np.arange(n) // 2, m - 1) for n, m in zip(level.shape, shape, strict=True)
        )
        wanted = np.zeros(shape)
        for r in range(shape[0]):
            for c in range(shape[1]):
                block = level[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].astype(float)
                wanted[r, c] = np.rint(block.mean())
        assert rows.max() < shape[0]
        assert columns.max() < shape[1]
        level = made[str(i)][...]
        np.testing.assert_array_equal(level, wanted)


def test_block_means_of_other_factors() -> None:
    array = RNG.random((7, 9))
    np.testing.assert_allclose(
        block_means(array, (3, 1), (3, 9)),
        np.stack([array[:3].mean(0), array[3:6].mean(0), array[6:].mean(0)]),
    )
    np.testing.assert_allclose(block_means(array, (7, 9), (1, 1)), array.mean().reshape(1, 1))
    np.testing.assert_array_equal(block_means(np.array([1, 2], "uint8"), (2,), (1,)), [2])
