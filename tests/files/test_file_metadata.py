"""Metadata of files, written and read again and from one format to another."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile
from nibabel.testing import data_path

from separable.errors import FileError
from separable.files import ImageInfo, open_source, read_image, write_image
from separable.files.axis_names import SHORT_UNITS, long_unit, short_unit

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

RNG = np.random.default_rng(2)
VOLUME = RNG.integers(0, 900, (5, 7, 9)).astype(np.uint16)
INFO = ImageInfo("ZYX", spacing=(2.0, 0.5, 0.25), unit="um")
SHIPPED = Path(data_path)


# NIfTI


@pytest.mark.parametrize("name", ["example4d.nii.gz", "anatomical.nii"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_comes_back_whole(tmp_path: Path, name: str, suffix: str) -> None:
    """The volumes that nibabel ships: codes, affines, units, intents and extensions."""
    array, info = read_image(SHIPPED / name)
    theirs = nib.load(SHIPPED / name)
    np.testing.assert_allclose(array, np.asarray(theirs.dataobj), rtol=1e-6)
    np.testing.assert_array_equal(info.affine, theirs.affine)
    assert info.axes == "XYZT"[: array.ndim]
    assert info.spacing is not None
    np.testing.assert_allclose(info.spacing[:3], theirs.header.get_zooms()[:3])
    assert info.unit == "mm"
    write_image(tmp_path / f"out{suffix}", array, info)
    again = nib.load(tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(np.asarray(again.dataobj), array)
    for field in theirs.header:
        if field not in ("scl_slope", "scl_inter", "cal_max", "cal_min", "datatype", "bitpix",
                         "vox_offset"):  # fmt: skip
            used = slice(array.ndim + 1) if field == "pixdim" else ...
            np.testing.assert_array_equal(
                again.header[field][used], theirs.header[field][used], field
            )
    assert again.header.extensions == theirs.header.extensions
    assert again.header.endianness == theirs.header.endianness
    np.testing.assert_array_equal(again.affine, theirs.affine)
    assert read_image(tmp_path / f"out{suffix}")[1].space(array.ndim) == (0, 1, 2)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("dtype", "scaled"), [("int16", "float32"), ("int32", "float64")])
def test_scaled_whole_numbers_are_read_as_they_are_meant(
    tmp_path: Path, suffix: str, dtype: str, scaled: str
) -> None:
    image = nib.Nifti1Image(VOLUME.astype(dtype), np.diag([1, 2, 3, 1]))
    image.header.set_slope_inter(0.25, -100)
    data = image.header.copy()
    data.set_data_shape(VOLUME.shape)
    data.set_data_dtype(dtype)
    data["magic"] = b"n+1"
    path = tmp_path / f"a{suffix}"
    with (gzip.open if suffix == ".nii.gz" else open)(path, "wb") as file:
        data.write_to(file)
        file.write(VOLUME.astype(dtype).tobytes(order="F"))
    expected = VOLUME * 0.25 - 100
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), expected)
    array, info = read_image(path)
    assert array.dtype == scaled
    np.testing.assert_array_equal(array, expected)
    with open_source(path) as source:
        assert source.dtype == scaled
        np.testing.assert_array_equal(source.read((slice(2, 4),)), expected[2:4])
    write_image(tmp_path / f"b{suffix}", array, info)
    np.testing.assert_array_equal(read_image(tmp_path / f"b{suffix}")[0], expected)


def test_a_volume_of_known_axes_is_turned_for_nifti(tmp_path: Path) -> None:
    assert write_image(tmp_path / "a.nii", VOLUME, INFO) == ()
    theirs = nib.load(tmp_path / "a.nii")
    assert theirs.shape == (9, 7, 5)
    np.testing.assert_allclose(theirs.header.get_zooms(), (0.25, 0.5, 2.0))
    assert theirs.header.get_xyzt_units()[0] == "micron"
    np.testing.assert_array_equal(np.asarray(theirs.dataobj), VOLUME.transpose())
    np.testing.assert_array_equal(np.diag(theirs.affine), (0.25, 0.5, 2.0, 1))
    channels = np.stack([VOLUME, VOLUME + 1])
    write_image(tmp_path / "c.nii.gz", channels, ImageInfo("CZYX"))
    found, info = read_image(tmp_path / "c.nii.gz")
    assert (found.shape, info.axes) == ((9, 7, 5, 1, 2), "XYZTC")
    np.testing.assert_array_equal(found[:, :, :, 0, 1], channels[1].transpose())
    assert info.space(5) == (0, 1, 2)


def test_a_volume_of_unknown_axes_is_taken_as_it_is(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii", VOLUME)
    assert nib.load(tmp_path / "a.nii").shape == VOLUME.shape


def test_long_sides_make_it_nifti_2(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii", np.ones((40000, 2), np.uint8))
    assert isinstance(nib.load(tmp_path / "a.nii"), nib.Nifti2Image)
    assert read_image(tmp_path / "a.nii")[0].shape == (40000, 2)


# OME-TIFF and ImageJ


def test_ome_tiff_comes_back(tmp_path: Path) -> None:
    cube = RNG.random((2, 3, 4, 5, 6)).astype(np.float32)
    metadata = {
        "axes": "TCZYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "\u00b5m",
        "PhysicalSizeY": 0.2, "PhysicalSizeYUnit": "\u00b5m", "PhysicalSizeZ": 1.5,
        "PhysicalSizeZUnit": "\u00b5m", "Channel": {"Name": ["red", "green", "blue"]},
        "TimeIncrement": 0.5, "TimeIncrementUnit": "s", "Name": "cells",
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", cube, metadata=metadata)
    array, info = read_image(tmp_path / "a.ome.tif")
    assert (info.axes, info.unit) == ("TCZYX", "um")
    assert info.spacing == (None, None, 1.5, 0.2, 0.1)
    assert info.space(5) == (2, 3, 4)
    write_image(tmp_path / "b.tif", array * 2, info)  # OME by its origin
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.is_ome
        text = file.ome_metadata
    for expected in ('Name="red"', 'Name="blue"', 'Name="cells"', 'TimeIncrement="0.5"',
                     'PhysicalSizeZ="1.5"', 'PhysicalSizeZUnit="\u00b5m"'):  # fmt: skip
        assert expected in text
    again, told = read_image(tmp_path / "b.tif")
    np.testing.assert_array_equal(again, array * 2)
    assert replace(told, options={}) == replace(info, options={})
    assert told.options["ome"] == info.options["ome"]


def test_a_name_makes_it_ome_tiff(tmp_path: Path) -> None:
    write_image(tmp_path / "a.ome.tiff", VOLUME, replace(INFO, unit="nm"))
    with tifffile.TiffFile(tmp_path / "a.ome.tiff") as file:
        assert file.is_ome
    info = read_image(tmp_path / "a.ome.tiff")[1]
    assert (info.spacing, info.unit) == (INFO.spacing, "nm")


def test_imagej_says_the_spacing(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", VOLUME, imagej=True, resolution=(4, 2),
        metadata={"axes": "ZYX", "spacing": 2.5, "unit": "micron"},
    )  # fmt: skip
    array, info = read_image(tmp_path / "a.tif")
    assert (info.spacing, info.unit, info.axes) == ((2.5, 0.5, 0.25), "um", "ZYX")
    write_image(tmp_path / "b.tif", array, info)
    again = read_image(tmp_path / "b.tif")[1]
    assert (again.spacing, again.unit, again.axes) == ((2.5, 0.5, 0.25), "um", "ZYX")


def test_what_tiff_alone_cannot_say_is_said_by_imagej_or_ome(tmp_path: Path) -> None:
    for array in (VOLUME, VOLUME.astype(float)):
        assert write_image(tmp_path / "a.tif", array, INFO, overwrite=True) == ()
        info = read_image(tmp_path / "a.tif")[1]
        assert (info.axes, info.spacing, info.unit) == ("ZYX", INFO.spacing, "um")
        assert ("imagej" in info.options) == (array is VOLUME)
        assert ("ome" in info.options) == (array is not VOLUME)
    assert write_image(tmp_path / "b.tif", VOLUME.astype(np.int64), INFO) == (
        "TIFF does not keep: the spacing (2.0, 0.5, 0.25) um",
    )
    assert read_image(tmp_path / "b.tif")[1].spacing is None


def test_tiff_has_its_rows_last(tmp_path: Path) -> None:
    cube = RNG.random((6, 5, 4)).astype(np.float32)
    write_image(tmp_path / "a.tif", cube, ImageInfo("YXL"))
    found, info = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, cube.transpose(2, 0, 1))
    assert info.axes[1:] == "YX"
    write_image(tmp_path / "b.tif", cube, ImageInfo("XYZ", spacing=(1.0, 2.0, 3.0), unit="mm"))
    found, info = read_image(tmp_path / "b.tif")
    np.testing.assert_array_equal(found, cube.transpose())
    assert (info.axes, info.spacing) == ("ZYX", (3.0, 2.0, 1.0))


def test_a_resolution_per_centimetre_is_a_spacing(tmp_path: Path) -> None:
    for unit, expected in ((3, (50.0, 25.0)), (2, None), (1, None)):
        tifffile.imwrite(tmp_path / "a.tif", VOLUME[0], resolution=(400, 200), resolutionunit=unit)
        assert read_image(tmp_path / "a.tif")[1].spacing == expected


# Zarr


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_comes_back(tmp_path: Path, version: int) -> None:
    axes = [
        {"name": "c", "type": "channel"},
        {"name": "z", "type": "space", "unit": "micrometer"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    levels = [
        {
            "path": f"s{i}",
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 2.0, 0.5 * 2**i, 0.5 * 2**i]},
                {"type": "translation", "translation": [0.0, 10.0, 0.0, 0.0]},
            ],
        }
        for i in range(2)
    ]
    image = {"name": "cells", "axes": axes, "datasets": levels}
    omero = {"channels": [{"label": "dapi"}, {"label": "actin"}]}
    ome = {"multiscales": [image], "omero": omero}
    if version == 2:
        image["version"] = "0.4"
    else:
        ome = {"ome": {"version": "0.5", **ome}}
    array = RNG.random((2, 5, 8, 8)).astype(np.float32)
    top = zarr.create_group(str(tmp_path / "in.zarr"), zarr_format=version, attributes=ome)
    top.create_array("s0", data=array, chunks=(1, 4, 4, 4))
    top.create_array("s1", data=array[:, :, ::2, ::2], chunks=(1, 4, 4, 4))
    found, info = read_image(tmp_path / "in.zarr")
    np.testing.assert_array_equal(found, array)
    assert (info.axes, info.unit, info.spacing) == ("CZYX", "um", (None, 2.0, 0.5, 0.5))
    assert info.notes == ()
    small, coarse = read_image(tmp_path / "in.zarr" / "s1")
    assert coarse.notes == ("took s1, one of 2 levels of resolution",)
    assert small.shape == (2, 5, 4, 4)
    assert coarse.spacing == (None, 2.0, 1.0, 1.0)
    write_image(tmp_path / "out.zarr", found, info)  # OME by its origin
    made = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    assert made.metadata.zarr_format == version
    said = dict(made.attrs) if version == 2 else made.attrs["ome"]
    assert said["omero"] == omero
    assert (said["multiscales"][0] if version == 2 else said)["version"] == (
        "0.4" if version == 2 else "0.5"
    )
    assert said["multiscales"][0]["axes"] == axes
    assert said["multiscales"][0]["datasets"] == [
        {"path": str(i), "coordinateTransformations": level["coordinateTransformations"]}
        for i, level in enumerate(levels)
    ]
    means = array.reshape(2, 5, 4, 2, 4, 2).astype(float).mean(axis=(3, 5))
    np.testing.assert_allclose(made["1"][...], means, rtol=1e-6)
    assert replace(read_image(tmp_path / "out.zarr")[1], options={}) == replace(
        info, options={}, notes=()
    )


def test_a_scale_of_the_whole_image_counts(tmp_path: Path) -> None:
    image = {
        "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
        "datasets": [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2, 3]}]}
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [10, 100]}],
    }
    top = zarr.create_group(str(tmp_path / "a.zarr"), attributes={"ome": {"multiscales": [image]}})
    top.create_array("0", data=VOLUME[0])
    assert read_image(tmp_path / "a.zarr")[1].spacing == (20.0, 300.0)


@pytest.mark.parametrize("version", [2, 3])
def test_plain_zarr_keeps_names_and_attributes(tmp_path: Path, version: int) -> None:
    info = ImageInfo(
        "TYX", {"zarr_format": version, "attributes": {"who": "me"}},
        spacing=(None, 0.5, 0.25), unit="mm", affine=np.eye(4), names=("time", "y", "x"),
    )  # fmt: skip
    write_image(tmp_path / "a.zarr", VOLUME, info)
    found, again = read_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found, VOLUME)
    assert (again.axes, again.names) == ("TYX", ("time", "y", "x"))
    assert (again.spacing, again.unit) == ((None, 0.5, 0.25), "mm")
    np.testing.assert_array_equal(again.affine, np.eye(4))
    assert again.options["attributes"] == {"who": "me"}
    assert again.space(3) == (1, 2)
    node = zarr.open_array(str(tmp_path / "a.zarr"), mode="r")
    assert node.metadata.zarr_format == version
    names = node.attrs["_ARRAY_DIMENSIONS"] if version == 2 else node.metadata.dimension_names
    assert tuple(names) == ("time", "y", "x")


def test_xarray_reads_the_names(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    made = xarray.DataArray(VOLUME, dims=("time", "y", "x"), name="scan").to_dataset()
    made.to_zarr(tmp_path / "a.zarr", consolidated=False)
    found, info = read_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found, VOLUME)
    assert info.names == ("time", "y", "x")


# HDF5


def test_hdf5_keeps_attributes_and_labels(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("vol", data=VOLUME)
        made.attrs["element_size_um"] = [2.0, 0.5, 0.25]
        made.attrs["who"] = "me"
        made.attrs["matrix"] = np.eye(3)
        for dimension, label in zip(made.dims, "zyx", strict=True):
            dimension.label = label
    array, info = read_image(tmp_path / "a.h5")
    assert (info.axes, info.spacing, info.unit) == ("ZYX", (2.0, 0.5, 0.25), "um")
    write_image(tmp_path / "b.h5", array, info)
    with h5py.File(tmp_path / "b.h5") as file:
        again = file["vol"]
        assert again.attrs["who"] == "me"
        np.testing.assert_array_equal(again.attrs["matrix"], np.eye(3))
        np.testing.assert_array_equal(again.attrs["element_size_um"], [2.0, 0.5, 0.25])
        assert [d.label for d in again.dims] == ["z", "y", "x"]
    write_image(tmp_path / "c.h5:/deep/down", array, replace(info, unit="mm"))
    found = read_image(tmp_path / "c.h5")[1]
    assert (found.spacing, found.unit) == (info.spacing, "mm")
    assert found.options["hdf5"]["dataset"] == "/deep/down"


def test_ilastik_says_the_axes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", data=np.zeros((2, 3, 4, 5), np.uint8), chunks=True)
        made.attrs["axistags"] = (
            '{"axes": [{"key": "z"}, {"key": "y"}, {"key": "x"}, {"key": "c"}]}'
        )
        made.attrs["element_size_um"] = [3.0, 1.0, 2.0]
    info = read_image(tmp_path / "a.h5")[1]
    assert (info.axes, info.spacing) == ("ZYXC", (3.0, 1.0, 2.0, None))
    assert info.space(4) == (0, 1, 2)


# ENVI


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize("order", [0, 1])
def test_envi_as_spectral_writes_it(tmp_path: Path, interleave: str, order: int) -> None:
    import spectral.io.envi as envi

    cube = RNG.integers(-900, 900, (6, 5, 4)).astype(np.int16)
    waves = ["400.0", "500.0", "600.0", "700.0"]
    envi.save_image(
        str(tmp_path / "a.hdr"), cube, interleave=interleave, byteorder=order, dtype=np.int16,
        metadata={
            "wavelength": waves, "wavelength units": "nm", "description": "a field",
            "map info": ["UTM", "1", "1", "500000", "4000000", "20.0", "10.0", "11", "North",
                         "WGS-84", "units=Meters"],
        },
    )  # fmt: skip
    array, info = read_image(tmp_path / "a.hdr")
    np.testing.assert_array_equal(array, cube)
    assert array.dtype == np.int16
    assert (info.axes, info.spacing, info.unit) == ("YXL", (10.0, 20.0, None), "m")
    assert info.space(3) == (0, 1)
    write_image(tmp_path / "b.hdr", array, info)
    theirs = envi.open(str(tmp_path / "b.hdr"))
    np.testing.assert_array_equal(np.asarray(theirs.open_memmap()), cube)
    assert theirs.metadata["wavelength"] == waves
    assert theirs.metadata["interleave"] == interleave
    assert theirs.metadata["map info"][:3] == ["UTM", "1", "1"]
    assert theirs.metadata["description"] == "a field"
    with open_source(tmp_path / "b.hdr") as source:
        np.testing.assert_array_equal(source.read((slice(1, 3), slice(2, 4))), cube[1:3, 2:4])
    fewer = read_image(tmp_path / "b.hdr")[1]
    write_image(tmp_path / "c.bip", array[:, :, :2], fewer)
    assert "wavelength" not in read_image(tmp_path / "c.bip")[1].options["envi"]


def test_envi_finds_its_other_half(tmp_path: Path) -> None:
    write_image(tmp_path / "a.hdr", VOLUME)
    for name in ("a.dat", "a.RAW", "a"):
        (tmp_path / "a.img").rename(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / "a.hdr")[0], VOLUME)
        write_image(tmp_path / "a.hdr", VOLUME, overwrite=True)  # in place of that half
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"a.hdr", name})
        (tmp_path / name).rename(tmp_path / "a.img")
    (tmp_path / "a.img").rename(tmp_path / "a.xyz")
    with pytest.raises(FileError, match="its data file is missing"):
        read_image(tmp_path / "a.hdr")
    (tmp_path / "b.bil").write_bytes(bytes(90))
    with pytest.raises(FileError, match=r"there is no header b\.hdr"):
        read_image(tmp_path / "b.bil")
    write_image(tmp_path / "c.img.hdr", VOLUME)
    assert (tmp_path / "c.img.img").exists()


def test_envi_half_of_a_pair_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"mine")
    with pytest.raises(FileError, match=r"a\.img exists"):
        write_image(tmp_path / "a.hdr", VOLUME)
    assert os.listdir(tmp_path) == ["a.img"]


# From one format to another

EVERY = ["a.nii", "a.nii.gz", "a.zarr", "a.ome.zarr", "a.h5", "a.tif", "a.ome.tif"]


@pytest.mark.parametrize("first", EVERY)
@pytest.mark.parametrize("second", EVERY)
def test_spacing_goes_from_format_to_format(tmp_path: Path, first: str, second: str) -> None:
    (tmp_path / "to").mkdir()
    write_image(tmp_path / first, VOLUME, INFO)
    array, info = read_image(tmp_path / first)
    write_image(tmp_path / "to" / second, array, info)
    again, told = read_image(tmp_path / "to" / second)
    steps = dict(zip(told.axes, told.spacing or (), strict=True))
    assert told.unit == "um"
    assert steps == {"Z": 2.0, "Y": 0.5, "X": 0.25}
    back = again.transpose([told.axes.index(letter) for letter in "ZYX"])
    np.testing.assert_array_equal(back, VOLUME)


def test_lost_metadata_are_reported(tmp_path: Path) -> None:
    array, info = read_image(SHIPPED / "anatomical.nii")
    notes = write_image(tmp_path / "a.npy", array, info)
    assert len(notes) == 1
    assert notes[0].startswith("NPY does not keep: the axes XYZ, the spacing (")
    assert notes[0].endswith(" mm, the affine, the NIfTI header")
    notes = write_image(tmp_path / "a.zarr", array, info)
    assert notes == ("Zarr does not keep: the NIfTI header",)
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr")[1].affine, info.affine)
    assert write_image(tmp_path / "a.npy", array, overwrite=True) == ()


def test_units_go_there_and_back() -> None:
    for unit in ("nm", "um", "mm", "cm", "m", "km", "A", "pm"):
        assert short_unit(long_unit(unit)) == unit
    assert short_unit("\u00b5m") == short_unit("micron") == short_unit("\\u00B5m") == "um"
    assert short_unit("parsec") == "parsec"
    assert all(short_unit(v) == v for v in SHORT_UNITS.values())
