"""MetaImage (.mha, .mhd) of ITK: a text header before the data, or beside it."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.anatomy import file_axes, frame_of, info_with_frame, lps_affine
from separable.files.cf_conventions import linear
from separable.files.chunked_io import Source, Target, draft_of
from separable.files.diagnostics import check_memory, check_packed
from separable.files.file_format import CreateRequest, Format, metadata_kept
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.image_info import Array, ImageInfo
from separable.files.volume_answers import METAIMAGE_ANSWERS

__all__ = ["METAIMAGE"]

TYPES = {
    "MET_CHAR": "int8", "MET_UCHAR": "uint8", "MET_SHORT": "int16", "MET_USHORT": "uint16",
    "MET_INT": "int32", "MET_UINT": "uint32", "MET_LONG": "int32", "MET_ULONG": "uint32",
    "MET_LONG_LONG": "int64", "MET_ULONG_LONG": "uint64", "MET_FLOAT": "float32",
    "MET_DOUBLE": "float64",
}  # fmt: skip
NAMES = {name: code for code, name in reversed(TYPES.items())}
LONGEST = 1 << 20  # bytes of a header
GEOMETRY = ("Offset", "Position", "Origin", "TransformMatrix", "Rotation", "Orientation",
            "ElementSpacing", "ElementSize", "CenterOfRotation")  # fmt: skip
LAYOUT = ("ObjectType", "NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "BinaryData",
          "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "CompressedDataSize",
          "HeaderSize", "ElementDataFile", "ElementMin", "ElementMax", "AnatomicalOrientation",
          "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")  # fmt: skip
SLOPE, INTERCEPT = "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset"


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a header, and the offset of the first byte after it."""
    found: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < LONGEST:
            line = file.readline(LONGEST)
            key, equals, value = line.decode("latin-1").partition("=")
            if not equals:
                break
            found[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                return found, file.tell()
    raise FileError(
        f"cannot read {path}: its header has no line ElementDataFile = ...; it is damaged, or not "
        "a MetaImage"
    )


def _numbers(header: dict[str, str], keys: tuple[str, ...], count: int, usual: float) -> Array:
    text = next((header[k] for k in keys if k in header), "")
    values = np.array([float(v) for v in text.split()]) if text else np.full(count, usual)
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"its header says {keys[0]} = {text}")
    return values


def _is_true(header: dict[str, str], *keys: str) -> bool:
    return any(header.get(k, "").lower() in ("true", "1") for k in keys)


class _Described:
    """The data of a MetaImage as its header describes them."""

    def __init__(self, path: Path) -> None:
        header, end = _header(path)
        self.path, self.header = path, header
        sizes = [int(n) for n in header["DimSize"].split()]
        if len(sizes) != int(header["NDims"]) or min(sizes) < 1:
            raise ValueError(f"its header says DimSize = {header['DimSize']}")
        code = header.get("ElementType", "").removesuffix("_ARRAY")
        if code not in TYPES:
            raise ValueError(f"its header says ElementType = {code}")
        if "BinaryData" in header and not _is_true(header, "BinaryData"):
            raise FileError(f"cannot read {path}: its numbers are text. Store it in binary form")
        big = _is_true(header, "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
        self.dtype = np.dtype(TYPES[code]).newbyteorder(">" if big else "<")
        channels = int(header.get("ElementNumberOfChannels", 1))
        axes = "XYZTQQQ"[: len(sizes)][::-1]
        self.shape = tuple(sizes[::-1])
        if channels > 1:
            axes, self.shape = axes + "C", (*self.shape, channels)
        self.compressed = _is_true(header, "CompressedData")
        self.data, self.offset = self._data(end)
        self.info = self._info(axes, len(sizes))

    @property
    def scaling(self) -> tuple[float, float] | None:
        """Slope and offset from stored to meant numbers, or None if they change nothing."""
        found = tuple(
            float(_numbers(self.header, (key,), 1, usual)[0])
            for key, usual in ((SLOPE, 1.0), (INTERCEPT, 0.0))
        )
        return None if found == (1.0, 0.0) else (found[0], found[1])

    @property
    def meant_dtype(self) -> np.dtype[Any]:
        if self.scaling is None:
            return self.dtype.newbyteorder("=")
        small = self.dtype.itemsize <= 2 or self.dtype.name == "float32"
        return np.dtype(np.float32 if small else np.float64)

    def meant(self, stored: Array) -> Array:
        """Return ``slope * stored + offset``."""
        if self.scaling is None:
            return stored
        slope, offset = self.scaling
        return np.asarray(stored * slope + offset, self.meant_dtype)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def _data(self, end: int) -> tuple[Path, int]:
        """Return the file of the numbers, and the offset of the first."""
        name = self.header["ElementDataFile"]
        if name.upper() == "LOCAL":
            return self.path, end
        if name.upper().startswith("LIST") or "%" in name:
            raise FileError(
                f"cannot read {self.path}: its slices are in several files. Store it as one .mha file"
            )
        if Path(name).name != name or name in ("", ".", ".."):
            raise FileError(
                f"cannot read {self.path}: its data file {name} lies in another folder. Put it "
                "beside the header and correct ElementDataFile"
            )
        data, skip = self.path.with_name(name), int(self.header.get("HeaderSize", 0))
        if not data.is_file():
            raise FileError(f"cannot read {self.path}: its data file {name} is missing")
        if skip < -1:
            raise ValueError(f"its header says HeaderSize = {skip}")
        return data, data.stat().st_size - self.nbytes if skip == -1 else skip

    def _info(self, axes: str, ndim: int) -> ImageInfo:
        count = min(3, ndim)
        header = self.header
        matrix = _numbers(header, ("TransformMatrix", "Rotation", "Orientation"), ndim**2, math.nan) \
            if any(k in header for k in ("TransformMatrix", "Rotation", "Orientation")) \
            else np.eye(ndim)  # fmt: skip
        steps = _numbers(header, ("ElementSpacing", "ElementSize"), ndim, 1.0)
        origin = _numbers(header, ("Offset", "Position", "Origin"), ndim, 0.0)
        if (steps[:count] <= 0).any():
            raise FileError(
                f"cannot read {self.path}: its spacing must be > 0; got "
                f"{' '.join(f'{s:g}' for s in steps)}. Correct ElementSpacing"
            )
        # Each row of the matrix is the direction of one axis.
        direction = matrix.reshape(ndim, ndim).T[:count, :count]
        if abs(np.linalg.det(direction)) < 1e-6:
            raise FileError(f"cannot read {self.path}: its TransformMatrix is singular. Correct it")
        affine = lps_affine(origin[:count], steps[:count], direction)
        kept = {k: v for k, v in header.items() if k not in (*GEOMETRY, *LAYOUT)}
        notes: tuple[str, ...] = ()
        if self.scaling is not None:
            notes = (f"numbers are {linear(*self.scaling)}, by ElementToIntensityFunction",)
        return info_with_frame(axes, affine, {"metaimage": kept}, notes=notes)


def _open_metaimage(path: Path, inside: str = "") -> Source:
    found = _Described(path)
    if found.compressed:
        raise FileError(
            f"cannot read {path} by parts: it is compressed. Store it without compression"
        )
    raw = Raw.open(found.data, found.dtype, found.shape, found.offset)
    source = raw_source(path, "", raw, found.info)
    return source if found.scaling is None else replace(
        source, dtype=found.meant_dtype, fetch=lambda region: found.meant(raw.read(region))
    )  # fmt: skip


def _read_metaimage(path: Path) -> tuple[Array, ImageInfo]:
    found = _Described(path)
    check_memory(path, found.shape, found.dtype)
    if not found.compressed:
        with _open_metaimage(path) as source:
            return source.read((slice(None),) * source.ndim), found.info
    check_packed(found.data, found.nbytes)
    with found.data.open("rb") as file:
        file.seek(found.offset)
        content = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(file.read(), found.nbytes)
    if len(content) < found.nbytes:
        raise EOFError("the file ends before its data")
    array = np.frombuffer(content, found.dtype).reshape(found.shape)
    return found.meant(array.astype(found.dtype.newbyteorder("="))), found.info


# Writing


def _text(request: CreateRequest, data: str) -> str:
    axes, order = file_axes(request.info.axes, len(request.shape))
    channels = 1
    if axes[order[-1]] in "SCL":
        channels, order = request.shape[order[-1]], order[:-1]
    sizes = [request.shape[axis] for axis in order[::-1]]
    count, ndim = min(3, len(sizes)), len(sizes)
    frame = frame_of(request.info, len(request.shape))
    direction, steps, origin = np.eye(ndim), np.ones(ndim), np.zeros(ndim)
    direction[:count, :count] = frame.direction[:count, :count]
    steps[:count], origin[:count] = frame.spacing[:count], frame.origin[:count]
    fields = {
        "ObjectType": "Image", "NDims": ndim, "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
        "TransformMatrix": _words(direction.T.ravel()), "Offset": _words(origin),
        "CenterOfRotation": _words(np.zeros(ndim)),
        **({"AnatomicalOrientation": "RAI"} if ndim == 3 else {}),
        "ElementSpacing": _words(steps), "DimSize": _words(sizes),
        **request.info.options.get("metaimage", {}),
        **({"ElementNumberOfChannels": channels} if channels > 1 else {}),
        "ElementType": NAMES[request.dtype.name], "ElementDataFile": data,
    }  # fmt: skip
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


def _words(values: Any) -> str:
    return " ".join(f"{v:.17g}" if isinstance(v, float) else str(v) for v in values)


def _create_metaimage(request: CreateRequest) -> Target:
    _, order = file_axes(request.info.axes, len(request.shape))
    dtype = request.dtype.newbyteorder("<")
    if request.path.suffix.lower() == ".mha":
        text = _text(request, "LOCAL").encode("latin-1", "replace")
        if not request.resume:
            request.draft.write_bytes(text)
        _check_header(request, request.draft, text)
        raw = Raw.open(request.draft, dtype, request.shape, len(text), order, write=True)
        return raw_target(request, raw)
    data = request.path.with_suffix(".raw")
    if data.exists() and not request.overwrite:
        raise FileError(
            f"{data} exists. Choose another name, or overwrite it (overwrite=True, --force)"
        )
    numbers, draft = draft_of(data), draft_of(request.path)
    text = _text(request, data.name).encode("latin-1", "replace")
    if not request.resume:
        numbers.write_bytes(b"")
    if not draft.exists():
        draft.write_bytes(text)
    _check_header(request, draft, text)
    try:
        raw = Raw.open(numbers, dtype, request.shape, 0, order, write=True)
    except BaseException:
        for made in () if request.resume else (numbers, draft):
            made.unlink(missing_ok=True)
        raise
    return raw_target(request, raw, parts=((numbers, data), (draft, request.path)))


def _check_header(request: CreateRequest, draft: Path, text: bytes) -> None:
    """Refuse to resume a partial file with another header."""
    with draft.open("rb") as file:
        if file.read(len(text)) != text:
            raise FileError(
                f"cannot resume {request.path}: {draft.name} has another header. Delete it, or "
                "start without resuming"
            )


def _refuse_metaimage(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if not 1 <= len(shape) <= 5 or 0 in shape:
        return f"a MetaImage has one to five axes and is not empty; got shape {shape}. Write .npy"
    if dtype.newbyteorder("=").name not in NAMES:
        other = "uint8" if dtype.kind == "b" else "float32"
        return f"MetaImage does not hold {dtype.name}. Make it {other} (--dtype {other})"
    return ""


METAIMAGE = Format(
    name="MetaImage",
    suffixes=(".mha", ".mhd"),
    signatures=(b"ObjectTy", b"NDims", b"Comment "),
    read=_read_metaimage,
    refuse=_refuse_metaimage,
    open=_open_metaimage,
    create=_create_metaimage,
    keeps=metadata_kept("axes", "spacing", "affine", "metaimage"),
    options={"metaimage": "the fields of the MetaImage header"},
    statements=METAIMAGE_ANSWERS,
)
