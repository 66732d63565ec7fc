"""Cases of HDF5 that xarray does not write: the image specification, fill values, labels and affines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray
from scipy import ndimage
from statement_cases import Run, case
from volume_statements import LABELLED, VOLUME, box, close, field, get, of, put, zarr

COLOURS = np.moveaxis(VOLUME[:3] % 256, 0, -1).astype(np.uint8)


def image(run: Run, values: np.ndarray, name: str = "in.h5", **attributes: Any) -> Path:
    """Write an image as the HDF5 image specification says."""
    with h5py.File(run.folder / name, "w") as file:
        made = file.create_dataset("picture", data=values)
        made.attrs["CLASS"] = np.bytes_("IMAGE")
        for key, value in attributes.items():
            made.attrs[key] = np.bytes_(value) if isinstance(value, str) else value
        table = file.create_dataset("table", data=np.zeros((256, 3), "u1"))
        table.attrs["CLASS"] = np.bytes_("PALETTE")
    return run.folder / name


@case("HDF5", "colour samples", "planar colour")
def true_colour(run: Run) -> None:
    for mode, axis in (("INTERLACE_PIXEL", 2), ("INTERLACE_PLANE", 0)):
        values = np.moveaxis(COLOURS, 2, axis)
        source = image(
            run, values, f"{mode}.h5", IMAGE_SUBCLASS="IMAGE_TRUECOLOR", INTERLACE_MODE=mode
        )
        with h5py.File(run(source)) as file:
            found = file["picture"]
            close(found[()], box(values, tuple({0, 1, 2} - {axis})))
            assert found.attrs["CLASS"] == b"IMAGE"
            assert found.attrs["INTERLACE_MODE"] == mode.encode()


@case("HDF5", "palette")
def indexed(run: Run) -> None:
    source = image(run, COLOURS[..., 0], IMAGE_SUBCLASS="IMAGE_INDEXED")
    run.refused(source, r"its samples are indices into a palette \(IMAGE_INDEXED\)")


@case("HDF5", "white is zero")
def white_is_zero(run: Run) -> None:
    source = image(
        run, COLOURS[..., 0], IMAGE_SUBCLASS="IMAGE_GRAYSCALE", IMAGE_WHITE_IS_ZERO=np.uint8(1)
    )
    with h5py.File(run(source)) as file:
        close(file["picture"][()], box(COLOURS[..., 0]))
        assert file["picture"].attrs["IMAGE_WHITE_IS_ZERO"] == 1


@case("HDF5", "axis names", "coordinates", "other metadata")
def labels_beside_scales(run: Run) -> None:
    with h5py.File(run.folder / "in.h5", "w") as file:
        made = file.create_dataset("g/volume", data=VOLUME, chunks=(3, 5, 5), fillvalue=-5)
        file["height"] = np.arange(9) * 2.0
        file["height"].make_scale("height")
        made.dims[0].attach_scale(file["height"])
        for dimension, label in zip(made.dims, "zyx", strict=True):
            dimension.label = label
    with h5py.File(run(run.folder / "in.h5")) as file:
        found = file["g/volume"]
        close(found[()], box(VOLUME))
        assert [d.label for d in found.dims] == ["z", "y", "x"]
        assert found.dims[0].keys() == ["height"]
        assert (found.fillvalue, found.chunks) == (-5, (3, 5, 5))


@of({"HDF5": ".h5", "Zarr": ".zarr"}, "position and direction")
def affine(run: Run, suffix: str) -> None:
    matrix = np.array([[0, -3.0, 0, 5], [2, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    path = run.folder / f"in{suffix}"
    if suffix == ".zarr":
        zarr.create_array(str(path), data=VOLUME, attributes={"affine": matrix.tolist()})
        found = zarr.open(str(run(path)), mode="r").attrs["affine"]
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=VOLUME).attrs["affine"] = matrix
        with h5py.File(run(path)) as file:
            found = file["data"].attrs["affine"]
    np.testing.assert_array_equal(found, matrix)


@of(LABELLED, "georeference")
def grid_mapping(run: Run, suffix: str) -> None:
    data = field(VOLUME.astype("f4")).assign(crs=((), 0, {"crs_wkt": "PROJCS[...]"}))
    data.temp.attrs["grid_mapping"] = "crs"
    source = put(run, suffix, data)
    with get(run(source)) as found, get(source) as before:
        assert (
            found.temp.encoding.get("grid_mapping", found.temp.attrs.get("grid_mapping")) == "crs"
        )
        xarray.testing.assert_identical(
            found.drop_vars("temp").load(), before.drop_vars("temp").load()
        )


@case("netCDF", "spacing")
def packed_coordinates(run: Run) -> None:
    data = field(VOLUME.astype("f4"))
    places = {
        name: (name, 0.5 * np.arange(size) + 3, {"units": "km"})
        for name, size in zip(data.temp.dims[1:], VOLUME.shape[1:], strict=True)
    }
    data = data.drop_vars([n for n in data.coords if n in places]).assign_coords(places)
    packing = {"dtype": "i2", "scale_factor": 0.5, "add_offset": 3.0}
    data.to_netcdf(run.folder / "in.nc", encoding=dict.fromkeys(places, packing))
    with get(run(run.folder / "in.nc", "gaussian:1km")) as found:
        xarray.testing.assert_equal(found.drop_vars("temp"), data.drop_vars("temp"))
        wanted = ndimage.gaussian_filter(VOLUME.astype(float), 2, truncate=4, axes=(1, 2))
        close(found.temp.values, wanted)


@case("Zarr", "missing value")
def fill_value_of_plain_arrays(run: Run) -> None:
    """An array without named dimensions keeps its fill value, which marks nothing as missing."""
    for version in (2, 3):
        path = run.folder / f"v{version}.zarr"
        made = zarr.create_array(str(path), shape=VOLUME.shape, dtype="i2", chunks=(3, 10, 11),
                                 fill_value=7, zarr_format=version)  # fmt: skip
        made[...] = VOLUME
        found = zarr.open(str(run(path)), mode="r")
        close(found[...], box(VOLUME))
        assert (found.fill_value, dict(found.attrs)) == (7, {})
