"""Pairs of a header (.hdr) and a data file (.img): NIfTI, and Analyze 7.5, which is read only.

The same suffixes belong to ENVI, whose header is text: the first bytes of the header decide.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.chunked_io import Source, Target, draft_of
from separable.files.diagnostics import import_package
from separable.files.file_format import CreateRequest, Format
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.image_info import ImageInfo
from separable.files.nifti import NIFTI, axes_in_file, header_for, info_of, quiet, scaled

__all__ = ["NIFTI_PAIR", "create_pair", "header_beside", "is_binary_header"]

SIZES = (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # 348 and 540


def header_beside(path: Path) -> Path:
    """Return the header of a pair, of which `path` is one file."""
    upper = path.suffix.isupper()
    return path if path.suffix.lower() == ".hdr" else path.with_suffix(".HDR" if upper else ".hdr")


def is_binary_header(path: Path) -> bool:
    """Return whether a file begins like a header of NIfTI or Analyze."""
    try:
        with path.open("rb") as file:
            return file.read(4) in SIZES
    except OSError:
        return False


def _other_format(path: Path) -> str:
    """Return ENVI if the header beside a data file is not binary."""
    header = header_beside(path)
    return "ENVI" if os.path.isfile(header) and not is_binary_header(header) else ""


def _open_pair(path: Path, inside: str = "") -> Source:
    nib = import_package("nibabel", path)
    header = header_beside(path)
    data = path if path != header else path.with_suffix(".IMG" if path.suffix.isupper() else ".img")
    for needed in (header, data):
        if not needed.is_file():
            raise FileError(f"cannot read {path}: there is no {needed.name} beside it")
    with quiet():
        image = nib.load(header)
    if not isinstance(image, nib.AnalyzeImage):  # NIfTI and SPM are derived from it
        raise FileError(
            f"cannot read {path}: expected NIfTI or Analyze; got {type(image).__name__}"
        )
    proxy = image.dataobj
    shape = tuple(int(n) for n in proxy.shape)
    if min(shape, default=0) < 1 or proxy.dtype.kind not in "biufc":
        raise ValueError(f"its header says the shape {shape} of {proxy.dtype}")
    info = info_of(image) if isinstance(image, nib.Nifti1Pair) else _analyze_info(image)
    raw = Raw.open(data, proxy.dtype, shape, int(proxy.offset), tuple(range(len(shape)))[::-1])
    return scaled(raw_source(path, "", raw, info), proxy)


def _analyze_info(image: Any) -> ImageInfo:
    """Return the metadata of an Analyze file, which does not say which side is left."""
    zooms = [abs(float(z)) for z in image.header.get_zooms()]
    letters = "XYZTQQQ"[: len(image.shape)]
    spacing = tuple(
        z if letter in "XYZ" and 0 < z < math.inf else None
        for z, letter in zip(zooms, letters, strict=True)
    )
    note = "Analyze does not say which side is left; x is taken to fall from right to left, as in nibabel"
    return ImageInfo(
        letters, spacing=spacing if any(spacing) else None, unit="mm",
        affine=np.array(image.affine, float), notes=(note,),
    )  # fmt: skip


def create_pair(request: CreateRequest) -> Target:
    """Create a pair of files, of which `request.path` names one, as `Format.create` does."""
    nib = import_package("nibabel", request.path)
    header_path = request.path.with_suffix(".hdr")
    named = request.path.suffix.lower() == ".hdr"  # the header is named, and not the data
    data = request.path.with_suffix(".img") if named else request.path
    if named and data.exists() and not request.overwrite:
        raise FileError(
            f"{data} exists. Choose another name, or overwrite it (overwrite=True, --force)"
        )
    numbers = draft_of(data) if named else request.draft
    if header_path.exists() and not request.overwrite:
        raise FileError(
            f"{header_path} exists. Choose another name, or overwrite it (overwrite=True, --force)"
        )
    single = header_for(request.info, request.shape, request.dtype, request.path)
    wide = isinstance(single, nib.Nifti2Header)
    kind = nib.nifti2.Nifti2PairHeader if wide else nib.nifti1.Nifti1PairHeader
    header = kind.from_header(single, check=False)
    header.extensions[:] = single.extensions[:]
    header["magic"] = header.pair_magic
    header["vox_offset"] = 0
    draft = draft_of(header_path)
    if not request.resume:
        numbers.write_bytes(b"")
    if not draft.exists():
        with draft.open("wb") as file, quiet():
            header.write_to(file)
    order, _ = axes_in_file(request.info.axes, request.shape)
    dtype = request.dtype.newbyteorder(header.endianness)
    try:
        raw = Raw.open(numbers, dtype, request.shape, 0, order[::-1], write=True)
    except BaseException:
        for made in () if request.resume else (numbers, draft):
            made.unlink(missing_ok=True)
        raise
    return raw_target(request, raw, parts=((numbers, data), (draft, header_path)))


NIFTI_PAIR = Format(
    name="NIfTI pair",
    suffixes=(".img",),
    refuse=NIFTI.refuse,
    open=_open_pair,
    create=create_pair,
    package="nibabel",
    keeps=NIFTI.keeps,
    options=NIFTI.options,
    on_grid=NIFTI.on_grid,
    other_format=_other_format,
    statements=NIFTI.statements,
)
