"""DICOM, read and written with pydicom: a file, or a folder with the slices of one series."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.anatomy import info_with_frame
from separable.files.cf_conventions import linear
from separable.files.chunked_io import Region, Source
from separable.files.diagnostics import import_package, reason_of
from separable.files.dicom_headers import DicomHeaders
from separable.files.dicom_results import create_dicom, dicom_keeps, refuse_dicom
from separable.files.dicom_slices import (
    FEW,
    Slice,
    affine_of_slices,
    is_dicom,
    series_in,
    slices_of,
    sorted_slices,
)
from separable.files.file_format import Format
from separable.files.image_info import Array, ImageInfo
from separable.files.volume_answers import DICOM_ANSWERS

__all__ = ["DICOM"]

PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
FLOAT_PADDING = ("FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue",
                 "FloatPixelPaddingRangeLimit", "DoubleFloatPixelPaddingRangeLimit")  # fmt: skip
TABLE = "ModalityLUTSequence"  # of meant numbers, in place of slope and intercept


def _is_series(folder: Path) -> bool:
    """Return whether one of the first files of a folder is a DICOM file."""
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file())[:FEW]
    except OSError:  # reported by the function that reads it
        return False
    return any(is_dicom(p) for p in files)


def _open_dicom(path: Path, inside: str = "") -> Source:
    pydicom = import_package("pydicom", path)
    if path.is_dir():
        headers = series_in(path, inside)
    else:
        headers = [pydicom.dcmread(path, stop_before_pixels=True)]
        if "Rows" not in headers[0]:
            raise FileError(f"cannot read {path}: it holds no image")
    first = headers[0]
    slices = [one for header in headers for one in slices_of(header)]
    _check_kind(path, headers)
    if len(slices) > 1:
        placed = all(s.position is not None for s in slices)
        slices = sorted_slices(path, slices) if placed or path.is_dir() else slices
    return _source(path / inside if inside else path, first, slices)


def _check_kind(path: Path, headers: list[Any]) -> None:
    """Refuse files whose numbers have different meanings."""
    kinds = {
        (h.get("SamplesPerPixel", 1), str(h.get("PhotometricInterpretation", "")),
         h.get("BitsAllocated"), h.get("PixelRepresentation"), TABLE in h)
        for h in headers
    }  # fmt: skip
    if len(kinds) > 1:
        raise FileError(
            f"cannot read {path}: its files differ in the type of their pixels: "
            f"{', '.join(str(k) for k in sorted(kinds, key=str))}. Put one type into a folder of its own"
        )
    if "MOSAIC" in (headers[0].get("ImageType") or ()):
        raise FileError(
            f"cannot read {path}: it is a mosaic: the slices of a volume lie side by side in one picture, whose "
            "edges a filter would mix. Convert it to a volume, for instance with dcm2niix"
        )
    if headers[0].get("BitsAllocated") not in (
        (32, 64) if _has_floats(headers[0]) else (8, 16, 32)
    ):
        raise FileError(
            f"cannot read {path}: expected 8, 16 or 32 bits per pixel; got "
            f"{headers[0].get('BitsAllocated')}. Convert it to NIfTI or NRRD, for instance with dcmqi if it "
            "is a segmentation"
        )


def _source(name: Path, first: Any, slices: list[Slice]) -> Source:
    palette = _has_palette(first)
    colour = palette or int(first.get("SamplesPerPixel", 1)) > 1
    if palette:
        dtype, padding = np.dtype(np.uint8), None
    elif colour:
        dtype, padding = np.dtype(f"u{int(first.BitsAllocated) // 8}"), None
    else:
        dtype, padding = _meant_type(first, slices)
    plane = (slices[0].rows, slices[0].columns)
    shape: tuple[int, ...] = plane if len(slices) == 1 else (len(slices), *plane)
    axes = "YX" if len(slices) == 1 else f"{_frame_axis(first, slices)}YX"
    if colour:
        shape, axes = (*shape, 3 if palette else int(first.SamplesPerPixel)), axes + "S"
    info = _info(first, slices, axes, padding)
    cache: dict[Path, Array] = {}

    def fetch(region: Region) -> Array:
        if len(slices) == 1:
            return _plane(slices[0], dtype, padding, cache)[region]
        chosen = range(*region[0].indices(len(slices)))
        out = np.empty((len(chosen), *shape[1:]), dtype)[(slice(None), *region[1:])]
        for number, at in enumerate(chosen):
            out[number] = _plane(slices[at], dtype, padding, cache)[region[1:]]
        return out

    chunks = (1, *shape[1:]) if len(slices) > 1 else shape
    return Source(name, shape, dtype, chunks, info, fetch)


def _frame_axis(first: Any, slices: list[Slice]) -> str:
    """Return Z, or T for frames that lie nowhere: those of a film."""
    in_space = slices[0].position is not None or "SpacingBetweenSlices" in first
    return "Z" if in_space else "T"


def _meant_type(first: Any, slices: list[Slice]) -> tuple[np.dtype[Any], Any]:
    """Return the type of rescaled values, and the value of padding or None."""
    bits, signed = int(first.get("BitsStored", 16)), int(first.get("PixelRepresentation", 0))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    padding = first.get("PixelPaddingValue")
    if _has_floats(first):
        dtype = np.dtype(f"f{int(first.BitsAllocated) // 8}")
        return dtype, math.nan if any(key in first for key in FLOAT_PADDING) else None
    if TABLE in first:
        wide = int(first[TABLE][0].LUTDescriptor[2]) > 8
        if padding is not None:  # it may have the number of valid samples in the table
            return np.dtype(np.float32), math.nan
        return np.dtype(np.uint16 if wide else np.uint8), None
    whole = all(float(v).is_integer() for s in slices for v in (s.slope, s.intercept))
    if not whole:
        dtype = np.dtype(np.float32 if bits <= 16 else np.float64)
        return dtype, None if padding is None else math.nan
    ends = [s.slope * v + s.intercept for s in slices for v in (low, high)]
    dtype = np.result_type(np.min_scalar_type(int(min(ends))), np.min_scalar_type(int(max(ends))))
    if padding is None:
        return dtype, None
    values = {s.slope * int(padding) + s.intercept for s in slices}
    return dtype, int(values.pop()) if len(values) == 1 else int(min(ends))


def _plane(one: Slice, dtype: np.dtype[Any], padding: Any, cache: dict[Path, Array]) -> Array:
    """Return the rescaled pixels of one slice; padding has one value."""
    import pydicom  # optional

    frames = cache.get(one.path)
    if frames is None:
        header = pydicom.dcmread(one.path)
        try:
            frames = np.asarray(header.pixel_array)
        except Exception as error:
            raise FileError(
                f"cannot read {one.path}: its region of pixels cannot be decoded ({reason_of(error)}). For "
                "JPEG install: pip install pylibjpeg[all]"
            ) from None
        frames = frames if int(header.get("NumberOfFrames", 1) or 1) > 1 else frames[None]
        cache.clear()  # one file at a time
        if len(frames) > 1:
            cache[one.path] = frames
        one_header = header
    else:
        one_header = pydicom.dcmread(one.path, stop_before_pixels=True)
    stored = frames[one.frame]
    if stored.dtype.kind == "f" and dtype.kind != "f":
        raise FileError(
            f"cannot read {one.path}: its pixels are floats, and its header describes whole numbers. Export "
            "it again"
        )
    if _has_palette(one_header):
        return _colours(stored, one_header)
    if stored.ndim == 3:
        return np.asarray(stored, dtype)
    if TABLE in one_header:
        from pydicom.pixels import apply_modality_lut  # optional

        values = np.asarray(apply_modality_lut(stored, one_header)).astype(dtype)
    else:
        wide = np.float64 if dtype.kind == "f" else np.int64
        values = (stored.astype(wide) * wide(one.slope) + wide(one.intercept)).astype(dtype)
    if padding is not None:
        floats = stored.dtype.kind == "f"
        ends = [one_header.get(k) for k in (FLOAT_PADDING if floats else PADDING)]
        known = [float(e) for e in ends if e is not None]
        if known:
            values[(stored >= min(known)) & (stored <= max(known))] = padding
    return np.asarray(values)


def _has_floats(header: Any) -> bool:
    """Return whether the pixels are floats, which have no bits stored and no sign."""
    return "PixelRepresentation" not in header and header.get("BitsAllocated") in (32, 64)


def _has_palette(header: Any) -> bool:
    return str(header.get("PhotometricInterpretation", "")) == "PALETTE COLOR"


def _colours(stored: Array, header: Any) -> Array:
    """Return the colours of indices into a palette, in 8 bits."""
    from pydicom.pixels import apply_color_lut  # optional

    colours = np.asarray(apply_color_lut(stored, header))[..., :3]
    bits = int(header.RedPaletteColorLookupTableDescriptor[2])
    return np.asarray(
        colours >> (bits - 8) if colours.dtype.itemsize > 1 and bits > 8 else colours, np.uint8
    )


def _info(first: Any, slices: list[Slice], axes: str, padding: Any) -> ImageInfo:
    thickness = first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0
    affine = affine_of_slices(slices, float(thickness) or 1.0)
    notes = []
    if str(first.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        notes.append("small numbers are white (MONOCHROME1); other formats show them black")
    if _has_palette(first):
        notes.append("the palette was converted to colours")
    if str(first.get("PhotometricInterpretation", "")).startswith("YBR"):
        notes.append("the colours were converted from YCbCr to RGB")
    if TABLE in first:
        notes.append("numbers are those of the table in the header (modality LUT)")
    elif any((s.slope, s.intercept) != (1.0, 0.0) for s in slices):
        same = len({(s.slope, s.intercept) for s in slices}) == 1
        how = linear(slices[0].slope, slices[0].intercept) if same else "rescaled"
        notes.append(f"numbers are {how}, by the rescale fields")
    options: dict[str, Any] = {
        "dicom": DicomHeaders(
            str(first.get("SeriesInstanceUID", "")), tuple(one.path for one in slices)
        )
    }
    if str(first.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        options["white_is_zero"] = True
    more: dict[str, Any] = {
        "notes": tuple(notes), "nodata": () if padding is None else (padding,)
    }  # fmt: skip
    if affine is not None:
        return info_with_frame(axes, affine, options, **more)
    spacing = first.get("PixelSpacing") or first.get("ImagerPixelSpacing")
    if spacing is None or len(slices) > 1:
        return ImageInfo(axes, options, **more)
    steps = {"Y": float(spacing[0]), "X": float(spacing[1])}
    return ImageInfo(axes, options, spacing=tuple(steps.get(a) for a in axes), unit="mm", **more)


DICOM = Format(
    name="DICOM",
    suffixes=(".dcm", ".dicom"),
    refuse=refuse_dicom,
    open=_open_dicom,
    create=create_dicom,
    folders=(".dicom",),
    is_series=_is_series,
    package="pydicom",
    keeps=dicom_keeps,
    options={"dicom": "the DICOM header (patient, study, series)"},
    statements=DICOM_ANSWERS,
)
