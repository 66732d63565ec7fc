"""Write DICOM: a folder with one file per slice (.dicom), or one file (.dcm) with one or several frames.

The result is first written as plain numbers in the partial file. At the end its range is known, from which
the slope and the intercept follow, and the slices are written one after the other.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.errors import FileError
from separable.files.anatomy import Frame, file_axes, frame_of
from separable.files.chunked_io import Region, Target, remove
from separable.files.diagnostics import import_package
from separable.files.dicom_encoding import Encoding, decimal, encoding_of
from separable.files.dicom_headers import DicomHeaders, header_of_result, new_header
from separable.files.dicom_slices import is_dicom
from separable.files.file_format import CreateRequest
from separable.files.flat_binary import Raw, raw_target
from separable.files.image_info import Array, ImageInfo
from separable.system import flush_path

__all__ = ["create_dicom", "dicom_keeps", "refuse_dicom"]

FOLDER = ".dicom"
LARGEST = (1 << 32) - 2  # bytes of the pixels of one file
STORAGE = "1.2.840.10008.5.1.4.1.1."
CAPTURE, MANY_BYTES, MANY_WORDS, MANY_COLOURS = (STORAGE + n for n in ("7", "7.2", "7.3", "7.4"))
# Classes of single slices and those of several frames that mean the same: CT, MR and PET. Files with
# several frames of other classes become secondary captures.
FRAMES_OF = {STORAGE + one: STORAGE + many for one, many in (
    ("2", "2.2"), ("4", "4.4"), ("128", "128.1"),
)}  # fmt: skip
SLICES_OF = {STORAGE + many: STORAGE + one for many, one in (
    ("2.1", "2"), ("2.2", "2"), ("4.1", "4"), ("4.4", "4"), ("130", "128"), ("128.1", "128"),
)}  # fmt: skip
SINGLE = {STORAGE + n for n in ("1", "1.1", "2", "4", "6.1", "7", "12.1", "12.2", "128")}
WIDE = {*FRAMES_OF, *FRAMES_OF.values(), *SLICES_OF}  # classes whose pixels have 16 bits


def create_dicom(request: CreateRequest) -> Target:
    """Create a target whose numbers become DICOM files when it is finished."""
    import_package("pydicom", request.path)
    writer = _Writer(request)
    if request.resume and _is_complete(request.draft):  # only its name is missing
        return Target(
            request.path, request.draft, request.shape, request.dtype, None, _refuse_more,
            info=request.info, resumed=True,
        )  # fmt: skip
    if not request.resume:
        request.draft.write_bytes(b"")
    raw = Raw.open(request.draft, request.dtype, request.shape, 0, writer.order, write=True)
    return raw_target(request, raw, complete=writer.pack)


def _is_complete(draft: Path) -> bool:
    """Return whether a partial file holds the DICOM files already, and no plain numbers."""
    return draft.is_dir() or is_dicom(draft)


def _refuse_more(region: Region, array: Array) -> None:
    raise FileError("the partial file is complete; delete it, or start without resuming")


class _Writer:
    """The files of one result.

    Parameters
    ----------
    request : CreateRequest

    Raises
    ------
    FileError
        If DICOM cannot hold the image; the message says what it holds.
    """

    def __init__(self, request: CreateRequest) -> None:
        self.request, self.path = request, request.path
        self.is_folder = request.path.name.lower().endswith(FOLDER)
        axes, self.order = file_axes(request.info.axes, len(request.shape))
        self.letters = "".join(axes[i] for i in self.order)
        self.shape = tuple(request.shape[i] for i in self.order)
        where = f"cannot write {self.path}: "
        if self.letters not in ("YX", "ZYX", "TYX", "YXS", "ZYXS", "TYXS"):
            raise FileError(
                f"{where}a DICOM image has the axes z or t, y, x and colours; got {self.letters}. Write "
                ".nrrd or .nii"
            )
        self.colour = self.letters.endswith("S")
        if self.colour and (self.shape[-1] != 3 or request.dtype != np.uint8):
            raise FileError(
                f"{where}DICOM holds three colours of uint8; got {self.shape[-1]} of {request.dtype}. "
                "Make it uint8 (--dtype uint8) without alpha, or write .tif"
            )
        self.count = self.shape[0] if self.letters[0] in "ZT" else 1
        self.plane = self.shape[-3 if self.colour else -2 :]
        self.headers: DicomHeaders | None = request.info.options.get("dicom")
        moving = self.letters.startswith("T")
        self.frame = None if moving else _known_frame(request.info, len(request.shape))
        self._check(where)

    def _check(self, where: str) -> None:
        if self.is_folder and self.count > 1 and (self.frame is None or not self._is_placed):
            raise FileError(
                f"{where}the slices of a series need a spacing, which the source does not say. Write .dcm, "
                "one file with several frames, or .nrrd"
            )
        one_file = math.prod(self.shape) * min(2, self.request.dtype.itemsize)
        if not self.is_folder and one_file > LARGEST:
            raise FileError(
                f"{where}one DICOM file holds at most 4 GiB. Write a folder with one file per slice: "
                f"{self.path.with_suffix(FOLDER).name}"
            )
        frame = self.frame
        if frame is None:
            return
        normal = np.cross(frame.direction[:, 0], frame.direction[:, 1])
        upright = abs(float(np.dot(frame.direction[:, 0], frame.direction[:, 1]))) < 1e-3
        if not upright or (
            self.count > 1 and abs(float(normal @ frame.direction[:, 2])) < 1 - 1e-5
        ):
            raise FileError(
                f"{where}its axes are not perpendicular, as those of DICOM are. Resample it, or write .nii"
            )

    @property
    def _is_placed(self) -> bool:
        info = self.request.info
        return info.affine is not None or len(info.spacing or ()) == len(self.request.shape)

    # Step by step: the range, the stored numbers, the files

    def pack(self) -> tuple[str, ...]:
        """Replace the plain numbers by DICOM files; return notes."""
        draft = self.request.draft
        packed = draft.with_name(draft.name + ".packed")
        remove(packed)
        raw = Raw.open(draft, self.request.dtype, self.shape, 0)
        try:
            encoding = self._encoding(raw)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pydicom, about values of the source
                if self.is_folder:
                    packed.mkdir()
                    self._write_slices(packed, raw, encoding)
                else:
                    self._write_frames(packed, raw, encoding)
        except BaseException:
            remove(packed)
            raise
        finally:
            raw.close()
        draft.unlink()
        os.rename(packed, draft)
        return (encoding.note,) if encoding.note else ()

    def _encoding(self, raw: Raw) -> Encoding:
        if self.colour:
            return Encoding(np.dtype(np.uint8))
        intercept = 0.0
        if self.headers is not None:
            intercept = float(next(self.headers.read()).get("RescaleIntercept", 0) or 0)
        info, dtype = self.request.info, self.request.dtype
        made = encoding_of(
            (p for _, p in self._ordered(raw)), dtype, info.nodata, intercept, self.path
        )
        wide = self._class(None if self.headers is None else self.headers.common()) in WIDE
        if made.dtype == np.uint8 and wide:
            made = Encoding(np.dtype(np.uint16), padding=made.padding, missing=made.missing)
        return made

    def _class(self, header: Any) -> str:
        """Return the SOP class: that of the source where it fits, else a secondary capture."""
        own = "" if header is None else str(header.get("SOPClassUID", ""))
        single = self.is_folder or self.count == 1
        one = SLICES_OF.get(own, own)
        if single:
            return one if one in SINGLE and not (self.colour and one in WIDE) else CAPTURE
        if own in SLICES_OF:  # of several frames already
            return own
        if own in FRAMES_OF and not self.colour:
            return FRAMES_OF[own]
        small = self.request.dtype == np.uint8
        return MANY_COLOURS if self.colour else MANY_BYTES if small else MANY_WORDS

    def _write_slices(self, folder: Path, raw: Raw, encoding: Encoding) -> None:
        series, study = _new_uid(), _new_uid()
        sources = (
            [None] * self.count if self.headers is None else self.headers.of_slices(self.count)
        )
        for number, (at, plane) in enumerate(self._ordered(raw), 1):
            made = self._header(sources[at], encoding, series, study)
            self._place(made, at)
            made.InstanceNumber = number
            path = folder / f"slice{number:05d}.dcm"
            with path.open("xb") as file:
                _write(file, made, iter((encoding.stored(plane),)), plane.size)
            flush_path(path)

    def _write_frames(self, path: Path, raw: Raw, encoding: Encoding) -> None:
        source = None if self.headers is None else self.headers.common()
        made = self._header(source, encoding, _new_uid(), _new_uid())
        made.InstanceNumber = 1
        if self.count == 1:
            self._place(made, 0)
        else:
            self._describe_frames(made)
        planes = (encoding.stored(plane) for _, plane in self._ordered(raw))
        with path.open("xb") as file:
            _write(file, made, planes, math.prod(self.shape))
        flush_path(path)

    def _ordered(self, raw: Raw) -> Iterator[tuple[int, Array]]:
        """Yield the slices with their numbers, along the normal of the planes as readers sort them."""
        for at in self._order:
            part = raw.read((slice(at, at + 1),) if len(self.shape) > len(self.plane) else ())
            yield at, part.reshape(self.plane)

    @property
    def _order(self) -> range:
        frame = self.frame
        if frame is not None and float(_normal(frame) @ frame.direction[:, 2]) < 0:
            return range(self.count - 1, -1, -1)
        return range(self.count)

    # Headers

    def _header(self, source: Any, encoding: Encoding, series: str, study: str) -> Any:
        """Return the header of one file, without the place of its slice."""
        kind = self._class(source)
        made = header_of_result(source, kind) if source is not None else new_header(kind)
        made.SeriesInstanceUID, made.SOPInstanceUID = series, _new_uid()
        if "StudyInstanceUID" not in made:
            made.StudyInstanceUID = study
        if self.frame is not None and "FrameOfReferenceUID" not in made:
            made.FrameOfReferenceUID, made.PositionReferenceIndicator = study, ""
        made.Rows, made.Columns = self.plane[:2]
        bits = 8 * encoding.dtype.itemsize
        made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
        made.PixelRepresentation = int(encoding.dtype.kind == "i")
        made.SamplesPerPixel = 3 if self.colour else 1
        if self.colour:
            made.PhotometricInterpretation, made.PlanarConfiguration = "RGB", 0
            return made
        white = self.request.info.options.get("white_is_zero")
        made.PhotometricInterpretation = "MONOCHROME1" if white else "MONOCHROME2"
        if kind in FRAMES_OF.values() or kind in SLICES_OF:
            shared = _item(
                RescaleSlope=encoding.slope, RescaleIntercept=encoding.intercept,
                RescaleType=str(made.get("RescaleType", "US")),
            )  # fmt: skip
            made.SharedFunctionalGroupsSequence = [_item(PixelValueTransformationSequence=[shared])]
        else:
            made.RescaleSlope, made.RescaleIntercept = _ds(encoding.slope), _ds(encoding.intercept)
        if encoding.padding is not None:
            made.PixelPaddingValue = encoding.padding
        return made

    def _place(self, made: Any, at: int) -> None:
        """Write where a single slice lies."""
        frame = self.frame
        if frame is None:
            made.pop("PixelSpacing", None)
            return
        made.PixelSpacing = [_ds(frame.spacing[1]), _ds(frame.spacing[0])]
        if "SliceThickness" not in made and self.count > 1:
            made.SliceThickness = _ds(frame.spacing[2])
        if self.count > 1:
            made.SpacingBetweenSlices = _ds(frame.spacing[2])
        if self.count > 1 or self.request.info.affine is not None:
            place = self._position(at)
            made.ImagePositionPatient = [_ds(v) for v in place]
            made.ImageOrientationPatient = [_ds(v) for v in frame.direction[:, :2].T.ravel()]
            made.SliceLocation = _ds(float(place @ _normal(frame)))

    def _describe_frames(self, made: Any) -> None:
        """Write the number of frames, and where each lies."""
        made.NumberOfFrames = self.count
        made.pop("SliceThickness", None)
        frame = self.frame
        if frame is None:
            return
        shared = made.get("SharedFunctionalGroupsSequence", [_item()])[0]
        shared.PixelMeasuresSequence = [_item(
            PixelSpacing=[_ds(frame.spacing[1]), _ds(frame.spacing[0])],
            SliceThickness=_ds(frame.spacing[2]), SpacingBetweenSlices=_ds(frame.spacing[2]),
        )]  # fmt: skip
        turned = [_ds(v) for v in frame.direction[:, :2].T.ravel()]
        shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=turned)]
        made.SharedFunctionalGroupsSequence = [shared]
        organization = _new_uid()
        made.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=organization)]
        made.DimensionIndexSequence = [
            _item(DimensionOrganizationUID=organization, DimensionIndexPointer=pointer,
                  FunctionalGroupPointer=0x00209111)
            for pointer in (0x00209056, 0x00209057)  # the stack, and the position in it
        ]  # fmt: skip
        made.PerFrameFunctionalGroupsSequence = [
            _item(
                FrameContentSequence=[_item(
                    StackID="1", InStackPositionNumber=number, DimensionIndexValues=[1, number]
                )],
                PlanePositionSequence=[_item(
                    ImagePositionPatient=[_ds(v) for v in self._position(at)]
                )],
            )
            for number, at in enumerate(self._order, 1)
        ]  # fmt: skip

    def _position(self, at: int) -> Any:
        assert self.frame is not None
        return self.frame.origin + at * self.frame.spacing[2] * self.frame.direction[:, 2]


def _known_frame(info: ImageInfo, ndim: int) -> Frame | None:
    """Return the place of an image in millimetres, or None if its metadata do not say the spacing."""
    if info.affine is None:
        spacing = info.spacing if len(info.spacing or ()) == ndim == len(info.axes) else None
        space = [s for s, letter in zip(spacing or (), info.axes, strict=False) if letter in "ZYX"]
        if not space or not all(space):
            return None
    return frame_of(info, ndim)


def _normal(frame: Frame) -> Any:
    return np.cross(frame.direction[:, 0], frame.direction[:, 1])


def _new_uid() -> str:
    import pydicom  # optional

    return str(pydicom.uid.generate_uid(prefix=None))


def _item(**fields: Any) -> Any:
    import pydicom  # optional

    made = pydicom.Dataset()
    for name, value in fields.items():
        setattr(made, name, _ds(value) if isinstance(value, float) else value)
    return made


def _ds(value: Any) -> Any:
    """Return a number as a decimal string of at most 16 characters."""
    from pydicom.valuerep import DSfloat  # optional

    return DSfloat(decimal(float(value)))


def _write(file: BinaryIO, made: Any, planes: Iterator[Array], samples: int) -> None:
    """Write a header, and the pixels plane by plane."""
    import pydicom  # optional

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.ImplementationClassUID = pydicom.uid.PYDICOM_IMPLEMENTATION_UID
    whole = pydicom.dataset.FileDataset(None, made, file_meta=meta, preamble=bytes(128))
    pydicom.dcmwrite(file, whole, enforce_file_format=True)
    wide = int(made.BitsAllocated) > 8
    size = samples * (2 if wide else 1)
    padded = size + size % 2
    file.write(b"\xe0\x7f\x10\x00" + (b"OW" if wide else b"OB") + b"\0\0")
    file.write(padded.to_bytes(4, "little"))
    for plane in planes:
        kind = plane.dtype.newbyteorder("<")
        file.write(np.ascontiguousarray(plane, kind).data)
    file.write(bytes(padded - size))


def dicom_keeps(
    info: ImageInfo, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path
) -> frozenset[str]:
    """Return what a DICOM result keeps of the metadata of an image."""
    found = {"axes", "dicom", "white_is_zero", "nodata"}
    if _known_frame(info, len(shape)) is not None:
        found |= {"spacing", "affine"}
    return frozenset(found)


def refuse_dicom(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return why DICOM cannot hold such an array; an empty string if it can."""
    if not 2 <= len(shape) <= 4 or 0 in shape:
        return (
            f"a DICOM image has the axes (z,) y, x and is not empty; got shape {shape}. Write .nrrd"
        )
    if max(shape) > 65535:
        return f"a DICOM image has at most 65535 rows and columns; got shape {shape}. Write .nrrd"
    if dtype.kind not in "iuf":
        other = "uint8" if dtype.kind == "b" else "float32"
        return f"DICOM does not hold {dtype.name}. Make it {other} (--dtype {other})"
    return ""
