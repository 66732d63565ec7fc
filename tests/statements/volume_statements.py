"""Cases of formats of volumes: written by nibabel, SimpleITK, spectral, xarray, h5py and zarr, and read by another of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from statement_cases import Run, case

h5py = pytest.importorskip("h5py")
nib = pytest.importorskip("nibabel")
envi = pytest.importorskip("spectral.io.envi")
xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")
for _needed in ("netCDF4", "SimpleITK", "nrrd", "pydicom", "rasterio"):
    pytest.importorskip(_needed)

RNG = np.random.default_rng(21)
VOLUME = RNG.integers(100, 900, (9, 10, 11)).astype(np.int16)
HOLES = RNG.random(VOLUME.shape) < 0.2
HOLES[:5, :5, :5] = True
NIFTI = {"NIfTI": ".nii", "NIfTI (gzip)": ".nii.gz", "NIfTI pair": ".img"}
ITK = {"MetaImage": ".mha", "NRRD": ".nrrd"}
LABELLED = {"HDF5": ".h5", "netCDF": ".nc", "Zarr": ".zarr"}


def of(suffixes: dict[str, str], *statements: str) -> Any:
    """Register a case for several formats; it is called with the suffix."""

    def register(function: Callable[[Run, str], None]) -> Any:
        for format, suffix in suffixes.items():

            def one(run: Run, suffix: str = suffix) -> None:
                function(run, suffix)

            one.__name__ = function.__name__
            case(format, *statements)(one)
        return function

    return register


def box(image: np.ndarray, axes: tuple[int, ...] | None = None) -> np.ndarray:
    axes = tuple(range(image.ndim)) if axes is None else axes
    return ndimage.uniform_filter(image.astype(float), 3, mode="reflect", axes=axes)


def valid_box(image: np.ndarray, valid: np.ndarray, fill: float) -> np.ndarray:
    weight = box(valid)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 1e-6, box(np.where(valid, image, 0)) / weight, fill)


def close(found: Any, wanted: np.ndarray) -> None:
    """Compare with the result in float64; integers are rounded, in either direction from a half."""
    limit = 0.5 if np.asarray(found).dtype.kind in "iu" else 0.0
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=limit + 1e-4)


# NIfTI


def nifti(run: Run, suffix: str, array: np.ndarray, affine: Any = None, **fields: Any) -> Path:
    kind = nib.Nifti1Pair if suffix == ".img" else nib.Nifti1Image
    image = kind(array, np.diag([2.0, 3, 4, 1]) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(run.folder / f"in{suffix}")
    return run.folder / f"in{suffix}"


@of(NIFTI, "spacing", "position and direction", "other metadata")
def nifti_header(run: Run, suffix: str) -> None:
    turned = np.array([[0, -3.0, 0, 5], [2, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    source = nifti(run, suffix, VOLUME.astype("f4"), turned, intent_code=3, descrip=b"made")
    found = nib.load(run(source, "gaussian:6mm"))
    sigma = (3.0, 2.0, 1.5)
    wanted = ndimage.gaussian_filter(VOLUME.astype(float), sigma, truncate=4)
    np.testing.assert_allclose(np.asarray(found.dataobj), wanted, rtol=1e-5)
    np.testing.assert_array_equal(found.affine, turned)
    before = nib.load(source).header
    for field in ("sform_code", "qform_code", "intent_code", "descrip", "xyzt_units"):
        assert found.header[field] == before[field]


@of(NIFTI, "missing value")
def nan_in_nifti(run: Run, suffix: str) -> None:
    source = nifti(run, suffix, np.where(HOLES, np.nan, VOLUME).astype("f4"))
    found = np.asarray(nib.load(run(source)).dataobj)
    close(found, valid_box(VOLUME, ~HOLES, np.nan))
    assert "NaN are missing" in run.text


@of(NIFTI, "scale and offset")
def slope_of_nifti(run: Run, suffix: str) -> None:
    source = run.folder / f"in{suffix}"
    kind = nib.Nifti1Pair if suffix == ".img" else nib.Nifti1Image
    image = kind(VOLUME, np.eye(4))
    image.header.set_slope_inter(0.5, 7)
    image.to_filename(source)
    close(nib.load(run(source)).get_fdata(), box(0.5 * VOLUME + 7))


@of(NIFTI, "contradicting spacing")
def wrong_pixdim(run: Run, suffix: str) -> None:
    source = nifti(run, suffix, VOLUME.astype("f4"))
    header = source.with_suffix(".hdr") if suffix == ".img" else source
    import gzip

    opened = gzip.open if suffix.endswith("gz") else open
    with opened(header, "rb") as file:
        content = bytearray(file.read())
    content[80:92] = np.array([1, 1, 1], "<f4").tobytes()  # pixdim[1:4]
    with opened(header, "wb") as file:
        file.write(bytes(content))
    found = nib.load(run(source, "gaussian:6mm"))
    wanted = ndimage.gaussian_filter(VOLUME.astype(float), (3, 2, 1.5), truncate=4)
    np.testing.assert_allclose(np.asarray(found.dataobj), wanted, rtol=1e-5)
    np.testing.assert_allclose(found.header.get_zooms(), (2, 3, 4))
    assert "contradict its affine" in run.text


@of(NIFTI, "several bands")
def fifth_axis(run: Run, suffix: str) -> None:
    vectors = RNG.random((5, 6, 7, 1, 3)).astype("f4")
    found = nib.load(run(nifti(run, suffix, vectors)))
    close(np.asarray(found.dataobj), box(vectors, (0, 1, 2)))


@of(NIFTI, "colour samples")
def rgb_in_nifti(run: Run, suffix: str) -> None:
    run.refused(
        nifti(run, suffix, np.zeros((5, 6, 7), [(c, "u1") for c in "RGB"])), "colours|it says|shape"
    )


# ENVI

PLACE = ["UTM", 1, 1, 500000, 4000000, 30, 20, 33, "North", "WGS-84", "units=Meters"]


def cube(run: Run, array: np.ndarray, **fields: Any) -> Path:
    metadata = {name.replace("_", " "): value for name, value in fields.items()}
    metadata["map info"] = PLACE
    envi.save_image(str(run.folder / "in.hdr"), array, metadata=metadata, interleave="bsq")
    return run.folder / "in.hdr"


def gdal(path: Path) -> Any:
    import rasterio

    return rasterio.open(path.with_suffix(".img"))


@case(
    "ENVI",
    "several bands",
    "planar colour",
    "spacing",
    "georeference",
    "coordinates",
    "other metadata",
)
def whole_header(run: Run) -> None:
    source = cube(run, VOLUME, wavelength=[400 + i for i in range(11)], sensor="x, y")
    result = run(source, "gaussian:60m", dtype="float32")
    wanted = ndimage.gaussian_filter(VOLUME.astype(float), (3, 2), truncate=4, axes=(0, 1))
    with gdal(source) as before, gdal(result) as after:
        close(after.read(), np.moveaxis(wanted, 2, 0))
        assert (after.crs, after.transform) == (before.crs, before.transform)
        old, new = before.tags(ns="ENVI"), after.tags(ns="ENVI")
        assert {k: v for k, v in old.items() if k != "data_type"} == {
            k: v for k, v in new.items() if k != "data_type"
        }
        assert new["interleave"] == "bsq"


@case("ENVI", "missing value")
def ignore_value(run: Run) -> None:
    stored = np.where(HOLES, -9999, VOLUME).astype(np.int16)
    with gdal(run(cube(run, stored[:, :, :1], data_ignore_value=-9999))) as found:
        close(found.read(1), np.squeeze(valid_box(VOLUME[:, :, 0], ~HOLES[:, :, 0], -9999)))
        assert found.nodata == -9999


@case("ENVI", "missing value outside the type")
def impossible_value(run: Run) -> None:
    source = cube(run, VOLUME.astype("uint8"), data_ignore_value=-9999)
    run.refused(source, "declares the missing value -9999, which uint8 cannot hold")


@case("ENVI", "scale and offset")
def gains(run: Run) -> None:
    more = {"data_gain_values": [0.5] * 11, "data_offset_values": [-3] * 11}
    with gdal(run(cube(run, VOLUME, **more))) as found:
        close(found.read(), np.moveaxis(box(0.5 * VOLUME - 3, (0, 1)), 2, 0))
        assert "data_offset_values" not in found.tags(ns="ENVI")


# HDF5, netCDF and Zarr


def field(values: np.ndarray, **attributes: Any) -> Any:
    coords = {
        "time": np.arange(len(values)),
        "y": ("y", 2.0 * np.arange(values.shape[1]), {"units": "mm"}),
        "x": ("x", 0.5 * np.arange(values.shape[2]), {"units": "mm"}),
        "area": (("y", "x"), RNG.random(values.shape[1:])),
    }
    return xr.Dataset(
        {"temp": (("time", "y", "x"), values, {"units": "K", **attributes})}, coords, {"title": "t"}
    )


def put(run: Run, suffix: str, data: Any, group: str | None = None, **encoding: Any) -> Path:
    path, own = run.folder / f"in{suffix}", {"temp": encoding} if encoding else {}
    if suffix == ".zarr":
        data.to_zarr(path, zarr_format=2, group=group, encoding=own, consolidated=False)
    else:
        data.to_netcdf(path, engine="netcdf4", group=group, encoding=own)
    return path


def get(path: Path, group: str | None = None, **options: Any) -> Any:
    if path.suffix == ".zarr":
        return xr.open_zarr(path, group=group, consolidated=False, **options)
    return xr.open_dataset(path, engine="netcdf4", group=group, **options)


@of(LABELLED, "spacing", "axis names", "coordinates", "other metadata")
def labelled(run: Run, suffix: str) -> None:
    source = put(run, suffix, field(VOLUME.astype("f4")))
    result = run(source, "gaussian:2mm")
    with get(source) as before, get(result) as after:
        wanted = ndimage.gaussian_filter(VOLUME.astype(float), (1, 4), truncate=4, axes=(1, 2))
        close(after.temp.values, wanted)
        assert (after.temp.dims, after.temp.attrs, after.attrs) == (
            before.temp.dims, before.temp.attrs, before.attrs
        )  # fmt: skip
        for name in before.coords:
            xr.testing.assert_identical(after[name].variable.load(), before[name].variable.load())


@of(LABELLED, "groups")
def grouped(run: Run, suffix: str) -> None:
    result = run(put(run, suffix, field(VOLUME.astype("f4")), group="a/b"))
    with get(result, "a/b") as found:
        close(found.temp.values, box(VOLUME, (1, 2)))
        assert "area" in found.coords


@of(LABELLED, "missing value")
def fill_value(run: Run, suffix: str) -> None:
    stored = np.where(HOLES, -9, VOLUME).astype(np.int16)
    source = put(run, suffix, field(stored, _FillValue=np.int16(-9)))
    with get(run(source), mask_and_scale=False) as found:
        for at, plane in enumerate(found.temp.values):
            close(plane, valid_box(VOLUME[at], ~HOLES[at], -9))
        assert found.temp.attrs["_FillValue"] == -9


@of(LABELLED, "scale and offset")
def packed(run: Run, suffix: str) -> None:
    real = np.where(HOLES, np.nan, VOLUME / 10)
    source = put(
        run, suffix, field(real), dtype="int16", scale_factor=0.1, add_offset=5.0, _FillValue=-1
    )
    with get(run(source)) as found:
        for at, plane in enumerate(found.temp.values):
            close(plane, valid_box(VOLUME[at] / 10, ~HOLES[at], np.nan))


@of(LABELLED, "valid range")
def outside_the_valid_range(run: Run, suffix: str) -> None:
    stored = np.where(HOLES, 1000, VOLUME).astype(np.int16)
    valid = ~HOLES
    for attributes, dtype, mark in (
        ({"valid_max": np.int16(900)}, "int16", 901),  # which declares no missing value
        ({"valid_range": np.array([0, 900], "i2"), "missing_value": np.int16(-5)}, "int16", -5),
        ({"valid_range": np.array([0, 900], "f4")}, "float32", np.nan),
    ):
        shutil.rmtree(run.folder / f"in{suffix}", ignore_errors=True)
        with get(run(put(run, suffix, field(stored.astype(dtype), **attributes))),
                 mask_and_scale=False) as found:  # fmt: skip
            for at, plane in enumerate(found.temp.values):
                close(plane, valid_box(VOLUME[at], valid[at], mark))
            declared = found.temp.attrs.get("_FillValue", found.temp.attrs.get("missing_value"))
            np.testing.assert_equal(declared, mark)
            assert not {"valid_max", "valid_range"} & set(found.temp.attrs)
        assert "are missing, by valid_range; the result declares no range" in run.text


@of(LABELLED, "valid range")
def range_of_packed_numbers(run: Run, suffix: str) -> None:
    stored = np.where(HOLES, 1000, VOLUME).astype(np.int16)
    packing = {"scale_factor": 0.5, "add_offset": 3.0}
    for limits in ({"valid_max": np.int16(900)}, {"valid_max": 453.0}):  # packed, and meant
        shutil.rmtree(run.folder / f"in{suffix}", ignore_errors=True)
        source = put(run, suffix, field(stored, **packing, **limits))
        with get(run(source)) as found:
            for at, plane in enumerate(found.temp.values):
                close(plane, valid_box(0.5 * VOLUME[at] + 3, ~HOLES[at], np.nan))
    shutil.rmtree(run.folder / f"in{suffix}", ignore_errors=True)
    wrong = field(stored, valid_range=np.array([9, 2], "i2"))
    run.refused(put(run, suffix, wrong), "valid range must be two numbers, the smaller one first")


@of(LABELLED, "missing value outside the type")
def impossible_fill(run: Run, suffix: str) -> None:
    if suffix == ".zarr":
        path = run.folder / "in.zarr"
        zarr.create_array(
            str(path), data=VOLUME.astype("u1"), attributes={"_FillValue": -9}, chunks=(3, 10, 11)
        )
    else:
        path = run.folder / f"in{suffix}"
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=VOLUME.astype("u1")).attrs["missing_value"] = -9
    run.refused(path, "declares the missing value -9, which uint8 cannot hold")


@of(LABELLED, "several images")
def two_variables(run: Run, suffix: str) -> None:
    data = field(VOLUME.astype("f4"))
    data["wind"] = data.temp * 2
    run.refused(put(run, suffix, data), "2 (datasets|arrays): .*temp.*wind. Name one")


@case("Zarr", "contradicting spacing")
def wrong_scale(run: Run) -> None:
    for scale, message in (
        ([0, 1, 1], "its OME-Zarr scale must be > 0; got"),
        ([1, 1], "must be 3 numbers"),
    ):
        path = run.folder / f"in{len(scale)}.zarr"
        steps = [{"type": "scale", "scale": scale}]
        image = {"axes": [{"name": n, "type": "space"} for n in "zyx"],
                 "datasets": [{"path": "0", "coordinateTransformations": steps}]}  # fmt: skip
        ome = {"version": "0.5", "multiscales": [image]}
        top = zarr.create_group(str(path), attributes={"ome": ome})
        top.create_array("0", data=VOLUME, chunks=(3, 5, 5))
        run.refused(path, message)


@case("ENVI", "palette")
def classes(run: Run) -> None:
    names = ["water", "wood", "town"]
    envi.save_classification(
        str(run.folder / "in.hdr"), VOLUME[0] % 3, class_names=names, class_colors=[(0, 0, 9)] * 3
    )
    found = envi.open(str(run(run.folder / "in.hdr")))
    close(found.read_band(0), box(VOLUME[0] % 3))
    assert found.metadata["class names"] == names
    assert "means of them have no meaning" in run.text


@case("Zarr", "resolution levels", "spacing in several units")
def pyramid(run: Run) -> None:
    axes = [
        {"name": n, "type": "space", "unit": u}
        for n, u in (("z", "millimeter"), ("y", "micrometer"), ("x", "micrometer"))
    ]
    levels = [
        {
            "path": str(i),
            "coordinateTransformations": [{"type": "scale", "scale": [0.002, 2.0**i, 2.0**i]}],
        }
        for i in range(2)
    ]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    top = zarr.create_group(str(run.folder / "in.zarr"), attributes={"ome": ome})
    image = VOLUME[:, :, :10].astype("f4")
    top.create_array("0", data=image, chunks=(3, 5, 5))
    top.create_array("1", data=image[:, ::2, ::2], chunks=(3, 5, 5))
    made = zarr.open_group(str(run(run.folder / "in.zarr", "gaussian:2um")), mode="r")
    fine = ndimage.gaussian_filter(image.astype(float), (1, 2, 2), truncate=4)
    close(made["0"][...], fine)
    close(made["1"][...], fine.reshape(9, 5, 2, 5, 2).mean(axis=(2, 4)))
    image = made.attrs["ome"]["multiscales"][0]
    assert [a["unit"] for a in image["axes"]] == ["micrometer"] * 3
    assert [d["coordinateTransformations"][0]["scale"] for d in image["datasets"]] == [
        [2, 1, 1],
        [2, 2, 2],
    ]
