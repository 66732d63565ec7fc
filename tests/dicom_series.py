"""Write DICOM series with pydicom alone, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

__all__ = ["SLOPE_AND_INTERCEPT", "read_by_itk", "write_series"]

SLOPE_AND_INTERCEPT = 2, -1024
Change = Callable[[Any, int], None]


def write_series(
    folder: Path,
    array: np.ndarray,
    place: tuple[Sequence[float], Sequence[float], np.ndarray],
    change: Change | None = None,
    order: Iterable[int] | None = None,
) -> str:
    """Write the slices of a CT, file names in another order than slices; return the series' identifier.

    `place` is the spacing along x, y and z, the origin, and the directions as columns; `change` may
    change the header of each slice; `order` are the slices in the order of their files.
    """
    pydicom = pytest.importorskip("pydicom")
    spacing, origin, turn = place
    folder.mkdir(exist_ok=True)
    uid = pydicom.uid.generate_uid()
    for number, at in enumerate(order or range(len(array) - 1, -1, -1)):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        one = pydicom.dataset.FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        one.SOPClassUID = meta.MediaStorageSOPClassUID
        one.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        one.SeriesInstanceUID, one.StudyInstanceUID, one.Modality = uid, "1.2.3", "CT"
        one.PatientName, one.SeriesDescription = "Doe^Jane", "thorax"
        one.ImageType, one.WindowCenter, one.WindowWidth = ["ORIGINAL", "PRIMARY", "AXIAL"], 40, 400
        one.AcquisitionNumber = 100 + int(at)
        one.Rows, one.Columns = array.shape[1:3]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.PixelSpacing, one.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        one.ImageOrientationPatient = [*turn[:, 0], *turn[:, 1]]
        one.ImagePositionPatient = list(np.array(origin) + turn[:, 2] * spacing[2] * int(at))
        one.RescaleSlope, one.RescaleIntercept = SLOPE_AND_INTERCEPT
        one.InstanceNumber = number + 1
        one.PixelData = array[at].astype("<u2").tobytes()
        one["PixelData"].VR = "OW"
        if change is not None:
            change(one, int(at))
        one.save_as(folder / f"{uid[-6:]}{number:03d}.dcm", enforce_file_format=True)
    return str(uid)


def read_by_itk(path: Path) -> tuple[np.ndarray, Any]:
    """Return what SimpleITK reads from a DICOM file or a folder with one series, and its image."""
    sitk = pytest.importorskip("SimpleITK")
    if not path.is_dir():
        image = sitk.ReadImage(str(path))
    else:
        reader = sitk.ImageSeriesReader()
        (uid,) = reader.GetGDCMSeriesIDs(str(path))
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path), uid))
        image = reader.Execute()
    return np.asarray(sitk.GetArrayFromImage(image)), image
