"""NRRD, MetaImage, DICOM and pairs of files, written and read by SimpleITK, nibabel and pydicom."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

import separable as sep
from dicom_series import write_series
from separable import volumes
from separable.cli.main import app
from separable.errors import FileError
from separable.files import ImageInfo, open_source, read_image, write_image

sitk = pytest.importorskip("SimpleITK")
nib = pytest.importorskip("nibabel")
pydicom = pytest.importorskip("pydicom")
pytest.importorskip("nrrd")

RNG = np.random.default_rng(9)
TURN = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
SPACING, ORIGIN = (0.5, 0.7, 2.5), (10.0, -20.0, 30.0)  # x, y, z
SHAPE = (6, 7, 8)
KERNEL = sep.kernels.gaussian(1, ndim=3)
SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")


def volume_of(dtype: str) -> np.ndarray:
    return (RNG.random(SHAPE) * 100).astype(dtype)


def by_itk(array: np.ndarray, path: Path, *, compressed: bool = False) -> Any:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(TURN.ravel())
    sitk.WriteImage(image, str(path), compressed)
    return image


def check_itk(path: Path, array: np.ndarray, exact: bool = True) -> None:
    found = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(found)
    if exact:
        np.testing.assert_array_equal(values, array)
    else:
        np.testing.assert_allclose(values, array, rtol=1e-5, atol=1e-5 * np.abs(array).max())
    np.testing.assert_allclose(found.GetSpacing(), SPACING, rtol=1e-5)
    np.testing.assert_allclose(found.GetOrigin(), ORIGIN, rtol=1e-5)
    np.testing.assert_allclose(found.GetDirection(), TURN.ravel(), atol=1e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_itk_files_come_back_with_position_and_direction(
    tmp_path: Path, suffix: str, dtype: str
) -> None:
    array = volume_of(dtype)
    for compressed in (False, True):
        by_itk(array, tmp_path / f"a{suffix}", compressed=compressed)
        found, info = read_image(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(found, array)
        assert (info.axes, info.unit) == ("ZYX", "mm")
        np.testing.assert_allclose(info.spacing, SPACING[::-1])
        for other in (*SUFFIXES, ".nii", ".img"):
            write_image(tmp_path / f"b{other}", found, info, overwrite=True)
            check_itk(tmp_path / f"b{other}", array)
    by_itk(array, tmp_path / "c.nii")
    theirs = nib.load(tmp_path / "c.nii").affine
    np.testing.assert_allclose(info.affine, theirs, atol=1e-4)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".img"])
def test_filtered_in_parts_and_on_the_command_line(tmp_path: Path, suffix: str) -> None:
    array = volume_of("float32")
    by_itk(array, tmp_path / f"a{suffix}")
    done = volumes.filter(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", KERNEL, nodata="none")
    assert done.slabs >= 1
    wanted = sep.convolve(array, KERNEL)
    check_itk(tmp_path / f"b{suffix}", wanted, exact=False)
    run = CliRunner().invoke(
        app,
        [
            "filter",
            str(tmp_path / f"a{suffix}"),
            str(tmp_path / f"c{suffix}"),
            "-k",
            "gaussian:2mm",
        ],
    )
    assert run.exit_code == 0, run.output
    smooth = sep.kernels.gaussian(2, spacing=SPACING[::-1])
    check_itk(tmp_path / f"c{suffix}", sep.convolve(array, smooth), exact=False)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_two_axes_and_vectors(tmp_path: Path, suffix: str) -> None:
    flat = sitk.GetImageFromArray(volume_of("uint8")[0])
    flat.SetSpacing((0.5, 0.25))
    sitk.WriteImage(flat, str(tmp_path / f"a{suffix}"))
    array, info = read_image(tmp_path / f"a{suffix}")
    assert (info.axes, info.spacing) == ("YX", (0.25, 0.5))
    write_image(tmp_path / f"b{suffix}", array, info)
    again = sitk.ReadImage(str(tmp_path / f"b{suffix}"))
    assert (again.GetSpacing(), again.GetSize()) == ((0.5, 0.25), flat.GetSize())
    vectors = RNG.integers(0, 99, (4, 5, 6, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(vectors, isVector=True), str(tmp_path / f"v{suffix}"))
    found, info = read_image(tmp_path / f"v{suffix}")
    np.testing.assert_array_equal(found, vectors)
    assert info.space(4) == (0, 1, 2)
    write_image(tmp_path / f"w{suffix}", found, info)
    again = sitk.ReadImage(str(tmp_path / f"w{suffix}"))
    assert again.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_array_equal(sitk.GetArrayFromImage(again), vectors)


def test_fields_of_nrrd_survive(tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd")
    own = {"space": "right-anterior-superior", "space directions": np.diag([2.0, 3, 4]),
           "space origin": [1.0, 2, 3], "modality": "DWMRI", "kinds": ["domain"] * 3,
           "space units": ["mm"] * 3}  # fmt: skip
    nrrd.write(str(tmp_path / "a.nrrd"), np.arange(24, dtype="int16").reshape(2, 3, 4), own)
    array, info = read_image(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(
        info.affine, [[2, 0, 0, 1], [0, 3, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]]
    )
    write_image(tmp_path / "b.nrrd", array, info)
    values, header = nrrd.read(str(tmp_path / "b.nrrd"))
    np.testing.assert_array_equal(values, np.arange(24).reshape(2, 3, 4))
    assert (header["modality"], list(header["space units"])) == ("DWMRI", ["mm"] * 3)
    np.testing.assert_array_equal(np.abs(header["space directions"]), np.diag([2.0, 3, 4]))


def test_pairs_of_nifti_and_analyze(tmp_path: Path) -> None:
    array = volume_of("int16")
    affine = np.diag([2.0, 3, 4, 1])
    nib.Nifti1Pair(array, affine).to_filename(tmp_path / "a.img")
    nib.AnalyzeImage(array, None).to_filename(tmp_path / "b.img")
    for name in ("a.img", "a.hdr", "b.hdr"):
        found, info = read_image(tmp_path / name)
        np.testing.assert_array_equal(found, array)
        assert (info.axes, info.format) == ("XYZ", "NIfTI pair")
    found, info = read_image(tmp_path / "a.hdr")
    write_image(tmp_path / "c.img", found, info)
    again = nib.load(tmp_path / "c.hdr")
    assert type(again) is nib.Nifti1Pair
    np.testing.assert_array_equal(np.asarray(again.dataobj), array)
    np.testing.assert_array_equal(again.affine, affine)
    with pytest.raises(FileError, match=r"c\.hdr exists|c\.img exists"):
        write_image(tmp_path / "c.img", found, info)
    (tmp_path / "a.img").unlink()
    with pytest.raises(FileError, match=r"there is no a\.img beside it"):
        read_image(tmp_path / "a.hdr")


# DICOM


def series(folder: Path, array: np.ndarray, change: Callable[..., None] | None = None) -> None:
    """Write the slices of a CT in a random order of file names."""
    order = RNG.permutation(len(array)).tolist()
    write_series(folder, array, (SPACING, ORIGIN, TURN), change, order)


def test_a_series_is_sorted_and_rescaled_as_itk_does(tmp_path: Path) -> None:
    stored = RNG.integers(0, 3000, SHAPE).astype(np.uint16)
    series(tmp_path / "ct", stored)
    found, info = read_image(tmp_path / "ct")
    np.testing.assert_array_equal(found, stored.astype(int) * 2 - 1024)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(reader.Execute()), found)
    with open_source(tmp_path / "ct") as source:
        part = (slice(2, 4), slice(1, 5), slice(3, 4))
        np.testing.assert_array_equal(source.read(part), found[part])
    for suffix in (".mha", ".nrrd", ".nii"):
        write_image(tmp_path / f"a{suffix}", found, info)
        check_itk(tmp_path / f"a{suffix}", found)
    done = CliRunner().invoke(
        app,
        [
            "filter",
            str(tmp_path / "ct"),
            str(tmp_path / "b.nrrd"),
            "-k",
            "gaussian:1mm",
            "--memory",
            "64GiB",
        ],
    )
    assert "numbers are 2 * stored - 1024, by the rescale fields" in done.output
    smooth = sep.kernels.gaussian(1, spacing=SPACING[::-1])
    check_itk(tmp_path / "b.nrrd", np.rint(sep.convolve(found.astype(float), smooth)))


def _tilt(one: Any, at: int) -> None:
    one.ImagePositionPatient = list(
        np.array(one.ImagePositionPatient, float) + TURN[:, 1] * 0.4 * at
    )


def _smaller(one: Any, at: int) -> None:
    if at == 2:
        one.Rows, one.PixelData = 3, one.PixelData[: 3 * SHAPE[2] * 2]


def _turned(one: Any, at: int) -> None:
    if at == 2:
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]


def _nowhere(one: Any, at: int) -> None:
    del one.ImagePositionPatient


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_tilt, r"its slices are shifted against each other by 9\.09 degrees \(gantry tilt\)"),
        (_smaller, r"its slices differ in size: \d+\.dcm has \dx8 pixels, \d+\.dcm \dx8"),
        (_turned, "its slices differ in direction"),
        (_nowhere, "does not say where its slice lies"),
    ],
)
def test_series_that_are_no_volume(tmp_path: Path, change: Any, message: str) -> None:
    series(tmp_path / "ct", RNG.integers(0, 3000, SHAPE), change)
    with pytest.raises(FileError, match=message):
        read_image(tmp_path / "ct")


def test_missing_and_doubled_slices_and_several_series(tmp_path: Path) -> None:
    stored = RNG.integers(0, 3000, SHAPE).astype(np.uint16)
    series(tmp_path / "ct", stored)
    heights = {p: pydicom.dcmread(p).pixel_array for p in sorted((tmp_path / "ct").iterdir())}
    third = next(p for p, pixels in heights.items() if np.array_equal(pixels, stored[3]))
    shutil.copytree(tmp_path / "ct", tmp_path / "two")
    shutil.copy(third, tmp_path / "two" / "again.dcm")
    with pytest.raises(FileError, match=rf"two slices lie at .*: .*again\.dcm|{third.name}.*"):
        read_image(tmp_path / "two")
    series(tmp_path / "other", stored)
    for path in list((tmp_path / "other").iterdir()):
        shutil.copy(path, tmp_path / "ct" / f"o{path.name}")
    with pytest.raises(
        FileError, match=r"it holds 2 series: .* \(6 files, thorax\).* Name one, as"
    ):
        read_image(tmp_path / "ct")
    uid = str(pydicom.dcmread(third).SeriesInstanceUID)
    np.testing.assert_array_equal(
        read_image(tmp_path / "ct" / uid)[0], stored.astype(int) * 2 - 1024
    )
    with pytest.raises(FileError, match="there is no such series"):
        read_image(tmp_path / "ct" / "1.2.9")
    for path in (tmp_path / "ct").glob("o*"):
        path.unlink()
    third.unlink()
    with pytest.raises(FileError, match=r"a slice is missing between .* the usual step is 2\.5 mm"):
        read_image(tmp_path / "ct")


def test_padding_is_missing(tmp_path: Path) -> None:
    def pad(one: Any, at: int) -> None:
        one.PixelPaddingValue = 0

    stored = RNG.integers(1, 3000, SHAPE).astype(np.uint16)
    stored[:, 0] = 0
    series(tmp_path / "ct", stored, pad)
    found, info = read_image(tmp_path / "ct")
    assert info.nodata == (-1024,)
    volumes.filter(
        tmp_path / "ct", tmp_path / "a.npy", sep.kernels.box(3, ndim=3), output="float64"
    )
    wanted = sep.convolve(
        np.where(stored == 0, np.nan, found.astype(float)), sep.kernels.box(3, ndim=3), nan="ignore"
    )
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), wanted)


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "examples_ybr_color.dcm"],
)
def test_files_of_pydicom_are_read_as_by_itk(name: str) -> None:
    from pydicom.data import get_testdata_file

    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this version of pydicom does not ship {name}")
    found, info = read_image(path)
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(path))
    np.testing.assert_array_equal(found, np.squeeze(theirs))
    assert info.axes == {2: "YX", 4: "TYXS"}[found.ndim]


# Headers that are wrong

MHA = "ObjectType = Image\nNDims = 2\nDimSize = 3 2\nElementType = MET_UCHAR\n{}ElementDataFile = {}\n"
NRRD_TEXT = "NRRD0005\ntype: uchar\ndimension: 2\nsizes: 3 2\nencoding: raw\n{}\n\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.mha", MHA.format("ElementSpacing = 0 1\n", "LOCAL"), "its spacing must be > 0; got 0 1"),
        ("a.mha", MHA.format("TransformMatrix = 1 0 1 0\n", "LOCAL"), "its TransformMatrix is singular"),
        ("a.mha", MHA.format("", "b.raw"), "its data file b.raw is missing"),
        ("a.mha", MHA.format("BinaryData = False\n", "LOCAL"), "its numbers are text"),
        ("a.mha", MHA.replace("3 2", "3 -2").format("", "LOCAL"), "DimSize = 3 -2"),
        ("a.mha", "ObjectType = Image\nNDims = 2\n", "its header has no line ElementDataFile"),
        ("a.mha", MHA.replace("3 2", "300 200").format("", "LOCAL"), "it is truncated"),
        ("a.nrrd", NRRD_TEXT.format("spacings: 0 0"), None),
        ("a.nrrd", NRRD_TEXT.replace("3 2", "3 200").format("endian: little"), "it is truncated"),
        ("a.nrrd", NRRD_TEXT.replace("raw", "hex").format("endian: little"), "its encoding"),
        ("a.nrrd", NRRD_TEXT.format("byte skip: -7"), "line skip 0 and byte skip -7"),
    ],
)  # fmt: skip
def test_damaged_headers(tmp_path: Path, name: str, text: str, message: str | None) -> None:
    (tmp_path / name).write_bytes(text.encode() + bytes(6))
    if message is None:  # a spacing of 0 says nothing
        assert read_image(tmp_path / name)[0].shape == (2, 3)
        return
    with pytest.raises(FileError, match=message):
        read_image(tmp_path / name)


def test_what_the_formats_do_not_hold(tmp_path: Path) -> None:
    for suffix, name in ((".mha", "MetaImage"), (".nrrd", "NRRD")):
        with pytest.raises(FileError, match=rf"{name} does not hold bool\. Make it uint8"):
            write_image(tmp_path / f"a{suffix}", np.ones((2, 2), bool), ImageInfo())
