"""Headers of DICOM results: those of the source, with new identifiers and without what is no longer true."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separable.distribution import VERSION
from separable.errors import FileError
from separable.files.diagnostics import import_package

__all__ = ["DicomHeaders", "header_of_result", "new_header"]

# Of the group that describes the pixels: the aspect ratio, the colour profile, the window, the kind of units, and whether they were ever compressed.
KEPT_OF_PIXELS = {0x00280034, 0x00282000, 0x00282002, 0x00280301, 0x00280A02, 0x00280A04, 0x00281050, 0x00281051, 0x00281054, 0x00281055,
                  0x00281056, 0x00282110, 0x00282112, 0x00282114}  # fmt: skip
DROPPED_GROUPS = {0x0002, 0x5200, 0x5400, 0x7FE0, 0xFFFA, 0x4FFE}
DROPPED = {0x00880200, 0x3004000C, 0x3004000E, 0x00209221, 0x00209222, 0x00200032, 0x00200037,
           0x00180088, 0x00201041, 0x00080018, 0x0020000E}  # fmt: skip
EMPTY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
         "ReferringPhysicianName", "StudyID", "AccessionNumber")  # fmt: skip


@dataclass(frozen=True)
class DicomHeaders:
    """The headers of the slices of an image, which are read again when a result is written.

    Attributes
    ----------
    series : str
        Identifier of the series.
    files : tuple of Path
        File of each slice, in the order of the image.
    """

    series: str
    files: tuple[Path, ...]

    def read(self) -> Iterator[Any]:
        """Yield the header of each file, without pixels.

        Raises
        ------
        FileError
            If a file is gone.
        """
        for path in dict.fromkeys(self.files):
            yield self._header(path)

    def of_slices(self, count: int) -> list[Any]:
        """Return one header per slice of a result: that of its slice, or what all slices agree on."""
        if len(set(self.files)) == count:
            return list(self.read())
        common = self.common()
        return [common] * count

    def common(self) -> Any:
        """Return the header that all files agree on."""
        headers = self.read()
        first = next(headers)
        for other in headers:
            for tag in list(first.keys()):
                if tag not in other or first[tag] != other[tag]:
                    del first[tag]
        return first

    def _header(self, path: Path) -> Any:
        pydicom = import_package("pydicom", path)
        if not path.exists():
            raise FileError(
                f"cannot copy the header of {path}: the file is gone. Write the result before it is "
                "deleted, or without the option `dicom` of its metadata"
            )
        return pydicom.dcmread(path, stop_before_pixels=True)


def header_of_result(source: Any, class_uid: str) -> Any:
    """Return a new header with the patient, the study and the further fields of a source.

    Left out are private fields, overlays, signatures, and all that describes the old pixels.

    Parameters
    ----------
    source : pydicom.Dataset
    class_uid : str
        SOP class of the result.
    """
    import pydicom  # optional

    made = pydicom.Dataset()
    for tag in source.keys():  # noqa: SIM118 - iterating a data set decodes its elements
        if _is_kept(tag):
            try:
                made.add(source[tag])
            except Exception:  # a damaged element
                continue
    kind = [str(v) for v in _list(source.get("ImageType"))[2:]]
    made.ImageType = ["DERIVED", "SECONDARY", *kind]
    described = str(source.get("SeriesDescription", "") or "")
    made.SeriesDescription = f"{described[:54]} (derived)".strip()
    origin = pydicom.Dataset()
    origin.ReferencedSOPClassUID = source.get("SOPClassUID", "")
    origin.ReferencedSOPInstanceUID = source.get("SOPInstanceUID", "")
    if origin.ReferencedSOPClassUID and origin.ReferencedSOPInstanceUID:
        made.SourceImageSequence = [origin]
    return _stamped(made, class_uid)


def new_header(class_uid: str) -> Any:
    """Return a header without a patient, for images of other formats."""
    import pydicom  # optional

    made = pydicom.Dataset()
    for name in EMPTY:
        setattr(made, name, "")
    made.Modality, made.SeriesNumber, made.ConversionType = "OT", 1, "WSD"
    made.ImageType = ["DERIVED", "SECONDARY"]
    return _stamped(made, class_uid)


def _stamped(made: Any, class_uid: str) -> Any:
    now = datetime.datetime.now()
    made.SOPClassUID = class_uid
    made.InstanceCreationDate, made.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    made.ContentDate, made.ContentTime = made.InstanceCreationDate, made.InstanceCreationTime
    made.DerivationDescription = f"filtered or converted by separable {VERSION}"
    return made


def _is_kept(tag: Any) -> bool:
    group = int(tag.group)
    if group % 2 or group in DROPPED_GROUPS or group & 0xFF00 in (0x5000, 0x6000):
        return False
    return int(tag) in KEPT_OF_PIXELS if group == 0x0028 else int(tag) not in DROPPED


def _list(value: Any) -> list[Any]:
    if value is None or isinstance(value, str):
        return [] if value is None else [value]
    return list(value)
