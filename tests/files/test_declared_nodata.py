"""Missing values that files declare are missing, and results declare theirs: written and read by other programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

import separable as sep
from separable import volumes
from separable.cli.main import app
from separable.errors import ArgumentError, ArgumentTypeError, FileError
from separable.files import ImageInfo, read_image
from separable.files.declared_nodata import obey_nodata

h5py = pytest.importorskip("h5py")
nib = pytest.importorskip("nibabel")
spectral = pytest.importorskip("spectral.io.envi")
xr = pytest.importorskip("xarray")
zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

RNG = np.random.default_rng(18)
IMAGE = RNG.integers(100, 200, (14, 17)).astype(np.int16)
HOLES = RNG.random(IMAGE.shape) < 0.2
HOLES[2:8, 3:9] = True  # more than the kernel covers
DECLARED = -9999
STORED = np.where(HOLES, DECLARED, IMAGE).astype(np.int16)
KERNEL = np.outer([1, 2, 1], [1, 2, 1]) / 16


def smoothed(valid: np.ndarray, values: np.ndarray, fill: float) -> np.ndarray:
    """Normalised convolution by SciPy in float64."""
    weight = ndimage.correlate(valid.astype(float), KERNEL, mode="reflect")
    total = ndimage.correlate(np.where(valid, values, 0).astype(float), KERNEL, mode="reflect")
    with np.errstate(invalid="ignore"):
        return np.where(weight > 1e-9, total / weight, fill)


EXPECTED = np.rint(smoothed(~HOLES, IMAGE, DECLARED))


def _envi(path: Path) -> None:
    spectral.save_image(str(path), STORED[..., None], metadata={"data ignore value": DECLARED})


def _read_envi(path: Path) -> tuple[np.ndarray, Any]:
    found = spectral.open(str(path))
    return np.asarray(found.open_memmap())[..., 0], float(found.metadata["data ignore value"])


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=STORED).attrs["_FillValue"] = np.int16(DECLARED)


def _read_hdf5(path: Path) -> tuple[np.ndarray, Any]:
    with h5py.File(path) as file:
        return file["data"][...], file["data"].attrs["_FillValue"][0]


def _dataset(key: str) -> Any:
    return xr.Dataset({"data": (("y", "x"), STORED, {key: np.int16(DECLARED)})})


def _netcdf(path: Path) -> None:
    pytest.importorskip("netCDF4")
    _dataset("missing_value").to_netcdf(path, engine="netcdf4")


def _read_netcdf(path: Path) -> tuple[np.ndarray, Any]:
    with xr.open_dataset(path, engine="netcdf4", mask_and_scale=False) as found:
        return found.data.values, found.data.attrs["missing_value"]


def _zarr(version: int) -> Callable[[Path], None]:
    return lambda path: _dataset("_FillValue").to_zarr(path, zarr_format=version)


def _read_zarr(path: Path) -> tuple[np.ndarray, Any]:
    with xr.open_zarr(path, mask_and_scale=False) as found:
        return found.data.values, found.data.attrs["_FillValue"]


FORMATS: dict[str, tuple[str, Any, Any]] = {
    "ENVI": ("a.hdr", _envi, _read_envi),
    "HDF5": ("a.h5", _hdf5, _read_hdf5),
    "netCDF": ("a.nc", _netcdf, _read_netcdf),
    "Zarr 2": ("a.zarr", _zarr(2), _read_zarr),
    "Zarr 3": ("a.zarr", _zarr(3), _read_zarr),
}


@pytest.mark.filterwarnings("ignore:.*onsolidated")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("by_parts", [False, True], ids=["whole", "parts"])
def test_a_declared_value_is_missing_and_declared_again(
    tmp_path: Path, name: str, by_parts: bool
) -> None:
    file, write, read = FORMATS[name]
    source, target = tmp_path / file, tmp_path / f"out{Path(file).suffix}"
    write(source)
    assert read_image(source)[1].nodata == (DECLARED,)
    if by_parts:
        volumes.filter(source, target, KERNEL, operation="correlate")
        values, declared = read(target)
        np.testing.assert_array_equal(values, EXPECTED)
        assert declared == DECLARED
        return
    np.save(tmp_path / "kernel.npy", KERNEL)
    done = CliRunner().invoke(
        app, ["filter", str(source), str(target), "-k", str(tmp_path / "kernel.npy")]
    )
    assert done.exit_code == 0, done.output
    assert f"samples equal to -9999 are missing, as {source} declares" in done.output.replace(
        "\n", ""
    )
    values, declared = read(target)
    np.testing.assert_array_equal(values, EXPECTED)
    assert declared == DECLARED


@pytest.mark.filterwarnings("ignore:.*onsolidated")
@pytest.mark.parametrize("name", FORMATS)
def test_none_filters_all_samples_and_drops_the_declaration(tmp_path: Path, name: str) -> None:
    file, write, read = FORMATS[name]
    source, target = tmp_path / file, tmp_path / f"out{Path(file).suffix}"
    write(source)
    volumes.filter(source, target, KERNEL, operation="correlate", nodata="none")
    plain = ndimage.correlate(STORED.astype(float), KERNEL, mode="reflect")
    assert np.abs(read_image(target)[0] - plain).max() <= 0.5
    assert read_image(target)[1].nodata == ()
    with pytest.raises(KeyError):
        read(target)


def test_nan_of_nifti_is_missing(tmp_path: Path) -> None:
    volume = RNG.random((9, 10, 8)).astype(np.float32)
    valid = RNG.random(volume.shape) > 0.3
    nib.Nifti1Image(np.where(valid, volume, np.nan), np.eye(4)).to_filename(tmp_path / "a.nii")
    kernel = sep.kernels.box(3, ndim=3)
    wanted = sep.convolve(np.where(valid, volume, np.nan), kernel, nan="ignore")
    sep.convolve(tmp_path / "a.nii", kernel, output=tmp_path / "b.nii")
    done = CliRunner().invoke(
        app, ["filter", str(tmp_path / "a.nii"), str(tmp_path / "c.nii"), "-k", "box:3"]
    )
    assert f"{(~valid).sum()} samples equal to NaN are missing" in done.output
    for name in "bc":
        found = np.asarray(nib.load(tmp_path / f"{name}.nii").dataobj)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    sep.convolve(tmp_path / "a.nii", kernel, output=tmp_path / "d.nii", nodata="none")
    spread = np.asarray(nib.load(tmp_path / "d.nii").dataobj)
    assert np.isnan(spread).sum() > np.isnan(wanted).sum()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("fill", [0, 7])
def test_valid_results_never_look_missing(dtype: str, fill: int) -> None:
    """A slope of 0 in an image whose missing value is 0: the result is the next value."""
    image = np.full((6, 8), 9, dtype)
    image[0, 0] = fill
    slope = np.array([[1, 0, -1]])
    found = sep.convolve(image, slope + (fill == 7) * np.array([[0, 1, 0]]) * 7 / 9, nodata=fill)
    assert found.dtype == dtype
    assert not (found[3:] == fill).any()
    assert np.abs(found[3:].astype(float) - fill).max() <= 1


def test_a_given_value_is_missing_and_declared(tmp_path: Path) -> None:
    _envi(tmp_path / "a.hdr")
    text = (tmp_path / "a.hdr").read_text().replace("data ignore value = -9999\n", "")
    (tmp_path / "a.hdr").write_text(text)
    volumes.filter(
        tmp_path / "a.hdr", tmp_path / "b.hdr", KERNEL, operation="correlate", nodata=-9999
    )
    values, declared = _read_envi(tmp_path / "b.hdr")
    np.testing.assert_array_equal(values, EXPECTED)
    assert declared == DECLARED


def test_a_format_without_declarations_gets_nan_or_a_note(tmp_path: Path) -> None:
    _envi(tmp_path / "a.hdr")
    run = lambda *more: CliRunner().invoke(  # noqa: E731
        app,
        [
            "filter",
            str(tmp_path / "a.hdr"),
            str(tmp_path / "b.npy"),
            "-k",
            "box:3",
            "--force",
            *more,
        ],
    )
    assert "the missing value -9999" in run().output
    assert (np.load(tmp_path / "b.npy") == DECLARED).any()
    assert "the missing value" not in run("--dtype", "float32").output
    assert np.isnan(np.load(tmp_path / "b.npy")).any()


def test_packed_numbers_are_unpacked_after_the_missing_value(tmp_path: Path) -> None:
    pytest.importorskip("netCDF4")
    real = np.where(HOLES, np.nan, IMAGE / 10.0)
    packed = xr.Dataset({"data": (("y", "x"), real)})
    packed.to_netcdf(
        tmp_path / "a.nc", engine="netcdf4",
        encoding={"data": {"dtype": "int16", "scale_factor": 0.1, "add_offset": 5.0, "_FillValue": -1}},
    )  # fmt: skip
    volumes.filter(tmp_path / "a.nc", tmp_path / "b.nc", KERNEL, operation="correlate")
    with xr.open_dataset(tmp_path / "b.nc", engine="netcdf4") as found:
        np.testing.assert_allclose(
            found.data.values, smoothed(~HOLES, IMAGE / 10, np.nan), rtol=1e-9
        )
        assert "scale_factor" not in found.data.encoding
        assert math.isnan(found.data.encoding["_FillValue"])


def test_offsets_of_envi_bands_are_applied(tmp_path: Path) -> None:
    cube = np.stack([STORED, STORED + (STORED != DECLARED)], axis=2)
    more = {
        "data gain values": [2, 3],
        "data offset values": [1, -1],
        "data ignore value": DECLARED,
    }
    spectral.save_image(str(tmp_path / "a.hdr"), cube, metadata=more)
    found, info = read_image(tmp_path / "a.hdr")
    np.testing.assert_array_equal(found[..., 0], np.where(HOLES, np.nan, 2 * IMAGE + 1.0))
    np.testing.assert_array_equal(found[..., 1], np.where(HOLES, np.nan, 3 * (IMAGE + 1.0) - 1))
    assert math.isnan(info.nodata[0])
    assert "data gain values" not in info.options["envi"]


def test_messages(tmp_path: Path) -> None:
    info = ImageInfo(nodata=(-9999,))
    with pytest.raises(
        FileError, match="declares the missing value -9999, which uint8 cannot hold"
    ):
        obey_nodata({}, info, "a.hdr", np.dtype("uint8"), np.dtype("uint8"))
    with pytest.raises(ArgumentError, match=r"`nodata` must be a value that uint8 holds; got 0\.5"):
        sep.convolve(np.zeros(3, "uint8"), [1], nodata=0.5)
    with pytest.raises(ArgumentTypeError, match=r'`nodata` must be "auto"'):
        sep.convolve(np.zeros(3), [1], nodata="some")
    failed = CliRunner().invoke(app, ["filter", "a.npy", "b.npy", "-k", "box:3", "--nodata", "x"])
    assert "`--nodata` must be auto, none or a number such as -9999; got 'x'" in str(
        failed.exception
    )
    _envi(tmp_path / "a.hdr")
    text = (tmp_path / "a.hdr").read_text()
    (tmp_path / "a.hdr").write_text(text.replace("-9999", "nothing"))
    with pytest.raises(FileError, match="its header says data ignore value nothing"):
        read_image(tmp_path / "a.hdr")
