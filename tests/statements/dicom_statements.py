"""Cases of DICOM: written by pydicom, and results read by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medical_statements import ORIGIN, SPACING, TURN, same_place
from PIL import ImageCms
from scipy import ndimage
from statement_cases import Run, case
from volume_statements import VOLUME, box, valid_box

from dicom_series import read_by_itk, write_series

sitk = pytest.importorskip("SimpleITK")
pydicom = pytest.importorskip("pydicom")

HU = 2.0 * VOLUME - 1024
SQUARES = (np.arange(4096) ** 2 // 300).astype(np.uint16)
ONCE_ROUNDED = 0.51


def shipped(name: str) -> Path:
    from pydicom.data import get_testdata_file

    source = get_testdata_file(name, download=False)
    if source is None:
        pytest.skip(f"this version of pydicom does not ship {name}")
    return Path(source)


def series(run: Run, array: np.ndarray, change: Any = None, name: str = "in.dicom") -> Path:
    write_series(run.folder / name, array, (SPACING, ORIGIN, TURN), change)
    return run.folder / name


@case("DICOM", "spacing", "position and direction", "scale and offset")
def sorted_series(run: Run) -> None:
    result = run(series(run, VOLUME), "gaussian:4mm", ".nrrd", dtype="float32")
    found = sitk.ReadImage(str(result))
    wanted = ndimage.gaussian_filter(2.0 * VOLUME - 1024, (1, 2, 4), truncate=4)
    np.testing.assert_allclose(sitk.GetArrayFromImage(found), wanted, rtol=1e-4, atol=0.01)
    same_place(found)
    assert "numbers are 2 * stored - 1024" in run.text


@case("DICOM", "missing value")
def padding(run: Run) -> None:
    stored = VOLUME.copy()
    stored[:, :4] = 0

    def pad(one: Any, at: int) -> None:
        one.PixelPaddingValue = 0

    result = run(series(run, stored, pad), "box:3", ".npy", dtype="float32")
    found = np.load(result)
    # In memory the format of the result is not known: it has the declared value.
    fill = -1024 if run.way.python and not run.way.parts else np.nan
    wanted = valid_box(2.0 * stored - 1024, stored != 0, fill)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=0.01)


@case("DICOM", "missing value")
def padding_is_declared_again(run: Run) -> None:
    stored = VOLUME.copy()
    stored[:5] = 0  # so large that some results have no valid sample

    def pad(one: Any, at: int) -> None:
        one.PixelPaddingValue = 0

    for dtype in ("int32", "float32"):
        result = run(series(run, stored, pad, f"{dtype}.dicom"), "box:3", dtype=dtype)
        values, _ = read_by_itk(result)
        header = pydicom.dcmread(sorted(result.iterdir())[0])
        padding = header.PixelPaddingValue * header.RescaleSlope + header.RescaleIntercept
        wanted = valid_box(2.0 * stored - 1024, stored != 0, float(padding))
        np.testing.assert_allclose(values, wanted, atol=ONCE_ROUNDED)


@case("DICOM", "colour samples", "YCbCr")
def colour_frames(run: Run) -> None:
    source = shipped("examples_ybr_color.dcm")
    theirs, _ = read_by_itk(source)
    found, _ = read_by_itk(run(source, "box:3"))  # frames without a place are moments in time
    assert np.abs(found - box(theirs, (1, 2))).max() <= ONCE_ROUNDED
    assert "the colours were converted from YCbCr to RGB" in run.text


@case("DICOM", "palette")
def palette(run: Run) -> None:
    source = shipped("examples_palette.dcm")
    theirs, _ = read_by_itk(source)
    found, _ = read_by_itk(run(source, "box:3"))
    assert np.abs(found.astype(float) - box(theirs.squeeze(), (0, 1))).max() <= ONCE_ROUNDED
    assert "the palette was converted to colours" in run.text


@case("DICOM", "planar colour", "colour profile")
def planes_of_colours(run: Run) -> None:
    header = pydicom.dcmread(shipped("examples_rgb_color.dcm"))
    pixels = header.pixel_array
    header.PlanarConfiguration = 1
    header.PixelData = np.ascontiguousarray(np.moveaxis(pixels, 2, 0)).tobytes()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    header.ICCProfile = profile + b"\0" * (len(profile) % 2)
    header.save_as(run.folder / "in.dcm")
    result = run(run.folder / "in.dcm", "box:3")
    found, _ = read_by_itk(result)
    assert np.abs(found.squeeze() - box(pixels, (0, 1))).max() <= ONCE_ROUNDED
    assert pydicom.dcmread(result).ICCProfile == header.ICCProfile


@case("DICOM", "sample depth")
def bits_of_overlays(run: Run) -> None:
    def fewer(one: Any, at: int) -> None:
        one.BitsStored, one.HighBit, one.PixelRepresentation = 12, 11, 0
        one.PixelData = (VOLUME[at].astype("<u2") | 0xA000).tobytes()

    values, _ = read_by_itk(run(series(run, VOLUME, fewer), "box:3"))
    np.testing.assert_allclose(values, box(HU, (0, 1, 2)), atol=ONCE_ROUNDED)
    bits = shipped("liver_1frame.dcm")
    run.refused(bits, "expected 8, 16 or 32 bits per pixel; got 1")


@case("DICOM", "scale and offset")
def table_of_numbers(run: Run) -> None:
    def with_table(one: Any, at: int) -> None:
        one.BitsStored, one.HighBit, one.PixelRepresentation = 12, 11, 0
        del one.RescaleSlope, one.RescaleIntercept
        table = pydicom.Dataset()
        table.add_new("LUTDescriptor", "US", [4096, 0, 16])
        table.ModalityLUTType = "US"
        table.add_new("LUTData", "US", SQUARES.tolist())
        one.ModalityLUTSequence = [table]

    result = run(series(run, VOLUME, with_table), "box:3", ".nrrd", dtype="float32")
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(result)))
    np.testing.assert_allclose(found, box(SQUARES[VOLUME], (0, 1, 2)), rtol=1e-5, atol=0.01)
    assert "numbers are those of the table in the header" in run.text


@case("DICOM", "several images")
def mosaic(run: Run) -> None:
    header = pydicom.dcmread(shipped("MR_small.dcm"))
    header.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    header.save_as(run.folder / "in.dcm")
    run.refused(run.folder / "in.dcm", "it is a mosaic: the slices of a volume lie side by side")


@case("DICOM", "scale and offset", "missing value")
def floats(run: Run) -> None:
    """A parametric map, whose pixels are floats."""
    header = pydicom.dcmread(shipped("MR_small.dcm"))
    values = (VOLUME[0] / 1000.0).astype("<f4")
    values[:4, :4] = -1
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(header, name)
    header.FloatPixelData, header.BitsAllocated = values.tobytes(), 32
    header.FloatPixelPaddingValue = -1.0
    header.Rows, header.Columns = values.shape
    header.save_as(run.folder / "in.dcm")
    found = np.load(run(run.folder / "in.dcm", "box:3", ".npy"))
    np.testing.assert_allclose(found, valid_box(values, values >= 0, np.nan), rtol=1e-5)


@case("DICOM", "contradicting spacing")
def thickness_and_positions(run: Run) -> None:
    def thick(one: Any, at: int) -> None:
        one.SliceThickness, one.SpacingBetweenSlices = 9, 7

    result = run(series(run, VOLUME, thick), "gaussian:4mm", ".nrrd", dtype="float32")
    same_place(sitk.ReadImage(str(result)))


@case("DICOM", "white is zero")
def white_is_zero(run: Run) -> None:
    def white(one: Any, at: int) -> None:
        one.PhotometricInterpretation = "MONOCHROME1"

    result = run(series(run, VOLUME, white), "box:3")
    values, _ = read_by_itk(result)
    header = pydicom.dcmread(sorted(result.iterdir())[0])
    assert header.PhotometricInterpretation == "MONOCHROME1"
    # GDCM turns the stored numbers around.
    meant = 65535.0 - values + 2 * header.RescaleIntercept
    np.testing.assert_allclose(meant, box(HU, (0, 1, 2)), atol=ONCE_ROUNDED)


@case("DICOM", "spacing", "position and direction", "scale and offset", "other metadata")
def written_again(run: Run) -> None:
    """Folders and files with several frames, of exact and of rounded numbers."""
    source = series(run, VOLUME)
    wanted = ndimage.gaussian_filter(HU, (1, 2, 4), truncate=4)
    for target in (".dicom", ".dcm"):
        for dtype in ("int16", "float32"):
            result = run(source, "gaussian:4mm", target, dtype=dtype)
            values, image = read_by_itk(result)
            step = 0.0 if dtype == "int16" else np.ptp(wanted) / 65534
            np.testing.assert_allclose(values, wanted, atol=step or ONCE_ROUNDED)
            assert ("DICOM holds 16 bits" in run.text) == (dtype == "float32")
            same_place(image)
            check_headers(source, result)


def check_headers(source: Path, result: Path) -> None:
    """Check that all identifiers are new, and that patient, study and modality are the old ones."""
    before = [pydicom.dcmread(p) for p in source.iterdir()]
    after = [
        pydicom.dcmread(p) for p in (sorted(result.iterdir()) if result.is_dir() else [result])
    ]
    assert len(after) in (1, len(before))
    used = {one.SOPInstanceUID for one in before} | {one.SeriesInstanceUID for one in before}
    series_of = {one.SeriesInstanceUID for one in after}
    assert len({one.SOPInstanceUID for one in after}) == len(after)
    assert not used & ({one.SOPInstanceUID for one in after} | series_of)
    assert len(series_of) == 1
    for number, one in enumerate(after):
        assert (one.PatientName, one.StudyInstanceUID, one.Modality) == ("Doe^Jane", "1.2.3", "CT")
        assert list(one.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert (one.WindowCenter, one.SeriesDescription) == (40, "thorax (derived)")
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        if len(after) > 1:  # fields of single slices stay with their slice
            assert (one.InstanceNumber, one.AcquisitionNumber) == (number + 1, 100 + number)
            assert one.SOPClassUID == pydicom.uid.CTImageStorage
        else:
            assert "AcquisitionNumber" not in one
            assert one.SOPClassUID == pydicom.uid.LegacyConvertedEnhancedCTImageStorage


@case("DICOM", "several images")
def two_series(run: Run) -> None:
    series(run, VOLUME)
    run.refused(series(run, VOLUME), "it holds 2 series")


@case("DICOM", "incomplete series", "tilted slices")
def broken_series(run: Run) -> None:
    def tilt(one: Any, at: int) -> None:
        one.ImagePositionPatient = list(
            np.array(one.ImagePositionPatient, float) + TURN[:, 1] * 0.4 * at
        )

    def small(one: Any, at: int) -> None:
        if at == 2:
            one.Rows, one.PixelData = 3, one.PixelData[: 3 * VOLUME.shape[2] * 2]

    def gap(one: Any, at: int) -> None:
        if at > 4:
            one.ImagePositionPatient = list(
                np.array(one.ImagePositionPatient, float) + TURN[:, 2] * 4
            )

    def doubled(one: Any, at: int) -> None:
        if at == 4:
            one.ImagePositionPatient = list(
                np.array(one.ImagePositionPatient, float) - TURN[:, 2] * 4
            )

    for number, (change, message) in enumerate((
        (tilt, "gantry tilt"), (small, "differ in size"), (gap, "a slice is missing between"),
        (doubled, "two slices lie at"),
    )):  # fmt: skip
        run.refused(series(run, VOLUME, change, f"in{number}.dicom"), message)
