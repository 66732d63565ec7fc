"""Answers of the formats of volumes to the statements of `separable.files.STATEMENTS`."""

from __future__ import annotations

from collections.abc import Mapping

from separable.files.statements import STATEMENTS, Answer, answers_of

__all__ = [
    "DICOM_ANSWERS",
    "ENVI_ANSWERS",
    "HDF5_ANSWERS",
    "METAIMAGE_ANSWERS",
    "NETCDF_ANSWERS",
    "NIFTI_ANSWERS",
    "NRRD_ANSWERS",
    "ZARR_ANSWERS",
]


def _complete(**kinds: Mapping[str, str]) -> dict[str, Answer]:
    """Return answers to all statements: those that are not named cannot occur."""
    named = {name for table in kinds.values() for name in table}
    others = ", ".join(name for name in STATEMENTS if name not in named)
    return answers_of(**kinds, cannot_occur=others)


NIFTI_ANSWERS = _complete(
    kept={
        "several bands": "along the fifth axis, which is not filtered",
        "missing value": "NaN of float images is missing, and so is NaN of the result",
        "spacing": "",
        "position and direction": "both affines with their codes",
        "other metadata": "intent, extensions, description, byte order",
    },
    converted={"scale and offset": "slope and intercept, in float32 (float64 from 32 bits on)"},
    obeyed={
        "contradicting spacing": "the affine decides, else the qform, else the voxel sizes; a note "
        "says which, and the result contradicts itself no more"
    },
    refused={"colour samples": "RGB24 and RGBA32; save each colour as a volume"},
)
ENVI_ANSWERS = _complete(
    kept={
        "several bands": "",
        "planar colour": "as interleave",
        "missing value": "as data ignore value",
        "spacing": "as map info",
        "georeference": "map info and coordinate system string, word for word",
        "palette": "names and colours of classes; a note says that means of their numbers have no meaning",
        "coordinates": "wavelengths and their widths",
        "other metadata": "every field of the header",
    },
    converted={
        "scale and offset": "where a band has an offset or a gain of its own; one gain for all stays in the "
        "header"
    },
    refused={"missing value outside the type": "unless --nodata says otherwise"},
)
_LABELLED = {
    "missing value": "`_FillValue` and `missing_value`",
    "spacing": "evenly spaced coordinates in a unit of length, or attributes",
    "axis names": "",
    "georeference": "the grid mapping",
    "coordinates": "all variables that the array refers to",
    "groups": "the groups above the array, with their attributes",
    "other metadata": "attributes",
}
_UNPACKED = {"scale and offset": "scale_factor and add_offset, in float32 or float64"}
_LABELLED_REFUSED = {
    "missing value outside the type": "unless --nodata says otherwise",
    "several images": "if several arrays are images: name one; a note names those that are left out",
}
_LABELLED_OBEYED = {
    "valid range": "valid_range, valid_min and valid_max: samples outside are missing, and a note says so; "
    "the result declares no range, because that of the source is not true of it"
}
HDF5_ANSWERS = _complete(
    kept={
        **_LABELLED,
        "colour samples": "of the HDF5 image specification (IMAGE_TRUECOLOR)",
        "planar colour": "of the HDF5 image specification (INTERLACE_PLANE)",
        "white is zero": "of the HDF5 image specification (IMAGE_WHITE_IS_ZERO)",
        "position and direction": "an attribute `affine`",
    },
    converted=_UNPACKED,
    refused={**_LABELLED_REFUSED, "palette": "of the HDF5 image specification (IMAGE_INDEXED)"},
    obeyed=_LABELLED_OBEYED,
)
NETCDF_ANSWERS = _complete(
    kept=_LABELLED, converted=_UNPACKED, refused=_LABELLED_REFUSED, obeyed=_LABELLED_OBEYED
)
ZARR_ANSWERS = _complete(
    kept={
        **_LABELLED,
        "missing value": "`_FillValue`, and the fill value of Zarr 2 with named dimensions, as in xarray",
        "position and direction": "translation of OME-Zarr, or an attribute `affine`",
        "resolution levels": "computed again from the finest level",
    },
    converted={
        **_UNPACKED,
        "spacing in several units": "to the unit of the last spatial axis of OME-Zarr",
    },
    refused={
        **_LABELLED_REFUSED,
        "contradicting spacing": "a scale of OME-Zarr that is not > 0, or has another number of axes",
    },
    obeyed=_LABELLED_OBEYED,
)
METAIMAGE_ANSWERS = _complete(
    kept={
        "several bands": "as channels",
        "spacing": "",
        "position and direction": "",
        "other metadata": "fields that do not describe the numbers",
    },
    converted={
        "scale and offset": "ElementToIntensityFunctionSlope and -Offset, in float32 or float64"
    },
    refused={
        "contradicting spacing": "a spacing of 0, or a singular direction",
        "several images": "slices in several files",
    },
)
NRRD_ANSWERS = _complete(
    kept={
        "colour samples": "as kind RGB-color",
        "several bands": "as kind list or vector",
        "spacing": "",
        "position and direction": "written as left-posterior-superior",
        "axis names": "as labels",
        "planar colour": "in the order of the axes",
        "other metadata": "key/value pairs, content, centerings, measurement frame",
    },
    converted={"spacing in several units": "units and space units: to mm"},
    obeyed={"alpha": "kind RGBA-color: colours are weighted by it"},
    refused={
        "unknown colour space": "kind HSV-color",
        "contradicting spacing": "singular space directions",
        "several images": "slices in several files",
    },
)
DICOM_ANSWERS = _complete(
    kept={
        "colour samples": "three of 8 bits; 16 bits are read",
        "white is zero": "MONOCHROME1; a note says so",
        "spacing": "",
        "position and direction": "of each slice; slices are sorted by it",
        "missing value": "PixelPaddingValue and its range",
        "colour profile": "",
        "other metadata": "patient, study and further fields, those of a slice with their slice; "
        "identifiers are new, the image type is DERIVED; private fields and overlays are left out",
    },
    converted={
        "scale and offset": "RescaleSlope and RescaleIntercept of each slice, or the modality LUT; results have their own: "
        "whole numbers in the range of 16 bits are exact, others are rounded to 65,536 steps",
        "YCbCr": "to RGB",
        "palette": "to RGB",
        "planar colour": "to contiguous samples",
    },
    obeyed={
        "sample depth": "BitsStored: bits of overlays are left out; 1 bit is refused",
        "contradicting spacing": "positions decide, not the thickness of slices",
    },
    refused={
        "several images": "if a folder holds several series: name one; also mosaics of slices",
        "incomplete series": "the message names the position",
        "tilted slices": "the message says the angle",
    },
)
