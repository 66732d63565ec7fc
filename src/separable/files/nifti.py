"""NIfTI-1 and NIfTI-2, read with nibabel; axes are x, y, z, time in memory order, as in nibabel."""

from __future__ import annotations

import contextlib
import gzip
import logging
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.axis_names import short_unit
from separable.files.cf_conventions import linear
from separable.files.chunked_io import Region, Source, Target
from separable.files.diagnostics import check_memory, check_packed, import_package
from separable.files.file_format import CreateRequest, Format, metadata_kept
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.grid_options import nifti_on_grid
from separable.files.image_info import Array, ImageInfo
from separable.files.nifti_geometry import geometry_of
from separable.files.volume_answers import NIFTI_ANSWERS

__all__ = ["NIFTI", "NIFTI_GZ", "axes_in_file", "header_for", "info_of", "quiet", "scaled"]

HELD = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
        "float32", "float64", "complex64", "complex128")  # fmt: skip
KEEPS = metadata_kept("axes", "spacing", "affine", "nifti")
PLACES = "XYZT"  # letters of the first four axes; further axes have no fixed meaning


def _load(path: Path) -> Any:
    """Return the nibabel image of a file without reading its data."""
    nib = import_package("nibabel", path)
    with quiet():
        image = nib.load(path)
    if not isinstance(image, nib.Nifti1Image):
        raise FileError(
            f"cannot read {path}: expected NIfTI; got {type(image).__name__}. Convert it"
        )
    if min(image.shape, default=0) < 1:
        raise ValueError(f"its header says the shape {image.shape}")
    if image.dataobj.dtype.kind not in "biufc":
        raise FileError(
            f"cannot read {path}: expected numbers; got colours, {image.dataobj.dtype}. "
            "Save each colour as a volume"
        )
    return image


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the log messages of nibabel about repaired headers."""
    log = logging.getLogger("nibabel.global")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


def _open_nifti(path: Path, inside: str = "") -> Source:
    image = _load(path)
    proxy = image.dataobj
    shape = tuple(int(n) for n in proxy.shape)
    info, order = info_of(image), tuple(range(len(shape)))[::-1]
    raw = Raw.open(path, proxy.dtype, shape, int(proxy.offset), order)
    return scaled(raw_source(path, "", raw, info), proxy)


def _open_packed(path: Path, inside: str = "") -> Source:
    """Open a compressed file. Sequential reads are fast; others decompress from the beginning."""
    from nibabel.fileslice import fileslice  # optional

    image = _load(path)
    proxy = image.dataobj
    _check_packed(path, proxy)
    shape, dtype = tuple(int(n) for n in proxy.shape), proxy.dtype.newbyteorder("=")
    info, lock, offset = info_of(image), threading.Lock(), int(proxy.offset)
    file = gzip.GzipFile(path)

    def fetch(region: Region) -> Array:
        part: Any = fileslice(file, region, shape, proxy.dtype, offset, order="F", lock=lock)
        return np.asarray(part).astype(dtype, copy=False)

    return scaled(Source(path, shape, dtype, None, info, fetch, file.close), proxy)


def _check_packed(path: Path, proxy: Any) -> None:
    needed = int(proxy.offset) + math.prod(int(n) for n in proxy.shape) * proxy.dtype.itemsize
    check_packed(path, needed)


def _read_packed(path: Path) -> tuple[Array, ImageInfo]:
    """Read the data that the header announces, and on to the end, where the checksum is."""
    image = _load(path)
    proxy = image.dataobj
    _check_packed(path, proxy)
    shape = tuple(int(n) for n in proxy.shape)
    check_memory(path, shape, proxy.dtype)
    out = np.empty(shape, proxy.dtype, order="F")
    view = out.reshape(-1, order="F").view(np.uint8).data
    with gzip.open(path) as file:
        file.seek(int(proxy.offset))
        while view:
            count = file.readinto(view[: 16 << 20])
            if not count:
                raise EOFError("the file ends before its data")
            view = view[count:]
        more = file.read(1)
    if not proxy.dtype.isnative:
        out = out.byteswap(inplace=True).view(proxy.dtype.newbyteorder("="))
    info = info_of(image)
    if more:
        note = f"{path.name} has more data than its header says; the rest was not read"
        info = ImageInfo(**{**vars(info), "notes": (*info.notes, note)})
    scale = _scale(proxy)
    return (out if scale is None else scale(out)), info


def scaled(source: Source, proxy: Any) -> Source:
    """Return a source of the meant numbers, by slope and intercept."""
    scale = _scale(proxy)
    if scale is None:
        return source
    fetch = source.fetch
    source.dtype = scale(np.zeros(1, source.dtype)).dtype
    source.fetch = lambda region: scale(fetch(region))
    return source


def _scale(proxy: Any) -> Any:
    """Return the function from stored values to real values (slope and intercept), or None."""
    slope, inter = float(proxy.slope), float(proxy.inter)
    if (slope, inter) == (1.0, 0.0):
        return None
    small = proxy.dtype.itemsize <= 2 or proxy.dtype == np.float32
    dtype = np.result_type(
        np.float32 if small else np.float64, *([np.complex64] if proxy.dtype.kind == "c" else [])
    )

    def scale(values: Array) -> Array:
        return np.asarray(np.multiply(values, dtype.type(slope), dtype=dtype) + dtype.type(inter))

    return scale


def info_of(image: Any) -> ImageInfo:
    """Return the metadata of a nibabel image."""
    header = image.header
    ndim = len(image.shape)
    letters = (PLACES + "QQQ")[:ndim]
    if ndim >= 5:
        letters = "XYZTC" + "Q" * (ndim - 5)
    space, _ = header.get_xyzt_units()
    unit = short_unit({"unknown": "mm", "meter": "m", "micron": "um"}.get(space, space))
    geometry = geometry_of(image)
    slope, inter = float(image.dataobj.slope), float(image.dataobj.inter)
    notes = [geometry.note] if geometry.note else []
    if (slope, inter) != (1.0, 0.0):
        notes.append(
            f"numbers are {linear(slope, inter)}, by the slope and intercept of the header"
        )
    kept = header.copy()
    geometry.repair(kept)
    spacing = tuple(
        geometry.steps["XYZ".index(letter)] if letter in "XYZ" else None for letter in letters
    )
    return ImageInfo(
        letters,
        {"nifti": kept},
        spacing=spacing if any(spacing) else None,
        unit=unit,
        affine=geometry.affine,
        notes=tuple(notes),
        nodata=(math.nan,) if image.dataobj.dtype.kind in "fc" else (),
    )


# Writing


def axes_in_file(axes: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the array axes in NIfTI order, and the NIfTI shape with 1 for missing axes.

    The order of unknown axes is kept.
    """
    ndim = len(shape)
    rank = {**{letter: i for i, letter in enumerate("XYZT")}, "C": 4, "S": 4, "L": 4}
    places = [rank.get(letter, -1) for letter in axes]
    if len(axes) != ndim or -1 in places or len(set(places)) != ndim:
        return tuple(range(ndim)), shape
    order = tuple(int(i) for i in np.argsort(places))
    full = [1] * (max(places) + 1)
    for axis, place in enumerate(places):
        full[place] = shape[axis]
    return order, tuple(full)


def header_for(info: ImageInfo, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> Any:
    """Return the NIfTI header of the image, or a new one with its spacing and affine."""
    nib = import_package("nibabel", path)
    order, full = axes_in_file(info.axes, shape)
    kept = info.options.get("nifti")
    header_class = nib.Nifti2Header if max(full) > 32767 else nib.Nifti1Header
    if kept is not None:
        wide = isinstance(kept, nib.Nifti2Header) or header_class is nib.Nifti2Header
        header = (nib.Nifti2Header if wide else nib.Nifti1Header).from_header(kept, check=False)
        header.extensions[:] = kept.extensions[:]
    else:
        header = header_class()
    header.set_data_shape(full)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header["cal_max"] = header["cal_min"] = 0  # display range of the old data
    header["magic"] = header.single_magic
    header.set_data_offset(0)  # write_to computes it
    if kept is None:
        _place(header, info, order, full)
    return header


def _place(header: Any, info: ImageInfo, order: tuple[int, ...], full: tuple[int, ...]) -> None:
    spacing = info.spacing if len(info.spacing or ()) == len(order) else None
    steps = {}
    if spacing is not None:
        letters = info.axes if len(info.axes) == len(order) else "XYZTCQQ"[: len(order)]
        steps = {n: s for n, s in zip(letters, spacing, strict=True) if s}
    zooms = [float(steps.get(letter, 1.0)) for letter in "XYZ"]
    known = {"mm": "mm", "m": "meter", "um": "micron", "nm": "micron", "cm": "mm"}
    factor = {"nm": 1e-3, "cm": 10.0}.get(info.unit, 1.0)
    zooms = [z * factor for z in zooms]
    header.set_zooms([*zooms, 1.0, 1.0, 1.0, 1.0][: len(full)])
    header.set_xyzt_units(known.get(info.unit, "unknown"))
    if info.affine is not None:
        header.set_sform(info.affine, code="aligned")
    elif steps:
        header.set_sform(np.diag([*zooms, 1.0]), code="aligned")


def _create_nifti(request: CreateRequest) -> Target:
    order, full = axes_in_file(request.info.axes, request.shape)
    if request.resume:
        header = _draft_header(request)
        found = tuple(int(n) for n in header.get_data_shape())
        request.check_draft(request.shape if found == full else found, header.get_data_dtype())
        offset = int(header.get_data_offset())
    else:
        header = header_for(request.info, request.shape, request.dtype, request.path)
        with request.draft.open("wb") as file, quiet():
            header.write_to(file)
        offset = int(header["vox_offset"])
    dtype = request.dtype.newbyteorder(header.endianness)
    raw = Raw.open(request.draft, dtype, request.shape, offset, order[::-1], write=True)
    return raw_target(request, raw)


def _draft_header(request: CreateRequest) -> Any:
    nib = import_package("nibabel", request.path)
    with request.draft.open("rb") as file, quiet():
        size = int.from_bytes(file.read(4), "little")
        file.seek(0)
        wide = size in (540, 0x1C020000)  # in either byte order
        return (nib.Nifti2Header if wide else nib.Nifti1Header).from_fileobj(file)


def _write_packed(file: Any, array: Array, info: ImageInfo, path: Path) -> None:
    order, _ = axes_in_file(info.axes, array.shape)
    header = header_for(info, array.shape, array.dtype, path)
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0, filename="") as packed:
        header.write_to(packed)
        packed.write(bytes(int(header["vox_offset"]) - packed.tell()))
        ordered = array.transpose(order[::-1])  # the slowest axis of the file first
        for part in ordered if ordered.ndim > 1 else [ordered]:
            packed.write(
                np.ascontiguousarray(part, array.dtype.newbyteorder(header.endianness)).data
            )


def _refuse_nifti(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if not 1 <= len(shape) <= 7 or 0 in shape:
        return f"a NIfTI image has one to seven axes and is not empty; got shape {shape}"
    if dtype.newbyteorder("=").name not in HELD:
        other = "uint8" if dtype.kind == "b" else "float32"
        return f"NIfTI does not hold {dtype.name}. Make it {other} (--dtype {other})"
    return ""


NIFTI = Format(
    name="NIfTI",
    suffixes=(".nii",),
    signatures=(b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c"),
    refuse=_refuse_nifti,
    open=_open_nifti,
    create=_create_nifti,
    package="nibabel",
    keeps=KEEPS,
    options={"nifti": "the NIfTI header"},
    on_grid=nifti_on_grid,
    statements=NIFTI_ANSWERS,
)
NIFTI_GZ = Format(
    name="NIfTI (gzip)",
    suffixes=(".nii.gz",),
    signatures=(b"\x1f\x8b",),
    read=_read_packed,
    write=_write_packed,
    refuse=_refuse_nifti,
    open=_open_packed,
    compresses=NIFTI,
    package="nibabel",
    keeps=KEEPS,
    options={"nifti": "the NIfTI header"},
    on_grid=nifti_on_grid,
    statements=NIFTI_ANSWERS,
)
