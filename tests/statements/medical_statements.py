"""Cases of MetaImage, NRRD and DICOM: written by SimpleITK, pynrrd and pydicom, and read by SimpleITK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from statement_cases import Run, case
from volume_statements import ITK, VOLUME, box, close, of, valid_box

sitk = pytest.importorskip("SimpleITK")
pydicom = pytest.importorskip("pydicom")
nrrd = pytest.importorskip("nrrd")

TURN = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
SPACING, ORIGIN = (1.0, 2.0, 4.0), (10.0, -20.0, 30.0)  # x, y, z


def same_place(found: Any) -> None:
    np.testing.assert_allclose(found.GetSpacing(), SPACING, rtol=1e-6)
    np.testing.assert_allclose(found.GetOrigin(), ORIGIN, rtol=1e-6)
    np.testing.assert_allclose(found.GetDirection(), TURN.ravel(), atol=1e-6)


@of(ITK, "spacing", "position and direction", "other metadata")
def oblique(run: Run, suffix: str) -> None:
    image = sitk.GetImageFromArray(VOLUME.astype("f4"))
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(TURN.ravel())
    image.SetMetaData("Scanner", "one")
    source = run.folder / f"in{suffix}"
    sitk.WriteImage(image, str(source))
    found = sitk.ReadImage(str(run(source, "gaussian:4mm")))
    wanted = ndimage.gaussian_filter(VOLUME.astype(float), (1, 2, 4), truncate=4)
    close(sitk.GetArrayFromImage(found), wanted)
    same_place(found)
    before = sitk.ReadImage(str(source))
    for key in ("Scanner", "Modality"):
        if before.HasMetaDataKey(key):
            assert found.GetMetaData(key) == before.GetMetaData(key)


@of(ITK, "several bands")
def vectors(run: Run, suffix: str) -> None:
    values = np.stack([VOLUME, 2 * VOLUME], axis=-1)
    source = run.folder / f"in{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(source))
    found = sitk.ReadImage(str(run(source)))
    assert found.GetNumberOfComponentsPerPixel() == 2
    close(sitk.GetArrayFromImage(found), box(values, (0, 1, 2)))


@case("NRRD", "colour samples", "axis names")
def colours(run: Run) -> None:
    values = np.stack([VOLUME % 256] * 3).astype("u1")
    own = {"kinds": ["RGB-color", "domain", "domain", "domain"], "labels": ["rgb", "a", "b", "c"]}
    own["encoding"] = "raw"
    nrrd.write(str(run.folder / "in.nrrd"), values, own)
    found, header = nrrd.read(str(run(run.folder / "in.nrrd")))
    close(found, box(values, (1, 2, 3)))
    assert (header["kinds"], header["labels"]) == (own["kinds"], own["labels"])


@case("MetaImage", "contradicting spacing", "several images")
def wrong_metaimage(run: Run) -> None:
    head = "ObjectType = Image\nNDims = 2\nDimSize = 3 2\nElementType = MET_UCHAR\n{}\n"
    for line, message in (
        ("ElementSpacing = 0 1\nElementDataFile = LOCAL", "its spacing must be > 0"),
        ("TransformMatrix = 1 0 1 0\nElementDataFile = LOCAL", "its TransformMatrix is singular"),
        ("ElementDataFile = LIST", "its slices are in several files"),
    ):
        (run.folder / "in.mha").write_bytes(head.format(line).encode() + bytes(6))
        run.refused(run.folder / "in.mha", message)


@case("NRRD", "contradicting spacing", "several images")
def wrong_nrrd(run: Run) -> None:
    head = (
        "NRRD0005\ntype: uchar\ndimension: 2\nsizes: 3 2\nencoding: raw\nspace dimension: 2\n{}\n\n"
    )
    for line, message in (
        ("space directions: (1,0) (1,0)", "its space directions are singular"),
        ("space directions: (0,0) (0,1)", "its spacing must be > 0"),
        ("data file: a%03d.raw 1 3 1", "its slices are in several files"),
    ):
        (run.folder / "in.nrrd").write_bytes(head.format(line).encode() + bytes(6))
        run.refused(run.folder / "in.nrrd", message)


# DICOM


def series(run: Run, array: np.ndarray, change: Any = None, name: str = "in.dicom") -> Path:
    folder = run.folder / name
    folder.mkdir(exist_ok=True)
    uid = pydicom.uid.generate_uid()
    for number in range(len(array)):
        at = len(array) - 1 - number  # file names in the other order
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one = pydicom.dataset.FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        one.SOPClassUID, one.SOPInstanceUID = (
            meta.MediaStorageSOPClassUID,
            meta.MediaStorageSOPInstanceUID,
        )
        one.SeriesInstanceUID, one.StudyInstanceUID, one.Modality = uid, "1.2.3", "CT"
        one.Rows, one.Columns = array.shape[1:]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.PixelSpacing, one.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        one.ImageOrientationPatient = [*TURN[:, 0], *TURN[:, 1]]
        one.ImagePositionPatient = list(np.array(ORIGIN) + TURN[:, 2] * SPACING[2] * at)
        one.RescaleSlope, one.RescaleIntercept, one.InstanceNumber = 2, -1024, number + 1
        one.PixelData = array[at].astype("<u2").tobytes()
        if change is not None:
            change(one, at)
        one.save_as(folder / f"{uid[-6:]}{number:03d}.dcm", enforce_file_format=True)
    return folder


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


@case("DICOM", "colour samples", "YCbCr")
def colour_frames(run: Run) -> None:
    from pydicom.data import get_testdata_file

    source = get_testdata_file("examples_ybr_color.dcm", download=False)
    if source is None:
        pytest.skip("this version of pydicom does not ship examples_ybr_color.dcm")
    theirs = sitk.GetArrayFromImage(sitk.ReadImage(source))
    found = np.load(run(Path(source), "box:3", ".npy", axes="1,2") if not run.way.python else
                    run(Path(source), "box:3", ".npy"))  # fmt: skip
    axes = (1, 2) if not run.way.python else (0, 1, 2)
    assert np.abs(found - box(theirs, axes)).max() <= 0.51


@case("DICOM", "palette")
def palette(run: Run) -> None:
    def indices(one: Any, at: int) -> None:
        one.PhotometricInterpretation = "PALETTE COLOR"

    run.refused(series(run, VOLUME, indices), "its pixels are indices into a palette")


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
