"""The NRRD format (.nrrd, .nhdr): headers are read with pynrrd, numbers at their offset in the file."""

from __future__ import annotations

import bz2
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.anatomy import MILLIMETRES, file_axes, frame_of, info_with_frame, lps_affine
from separable.files.chunked_io import Source, Target, draft_of
from separable.files.diagnostics import check_memory, check_packed, import_package
from separable.files.file_format import CreateRequest, Format, metadata_kept
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.image_info import Alpha, Array, ImageInfo
from separable.files.volume_answers import NRRD_ANSWERS
from separable.kernels.units import unit_of

__all__ = ["NRRD"]

TYPES = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long",
              "signed long long int", "int64", "int64_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "float32": ("float",),
    "float64": ("double",),
}  # fmt: skip
BY_TEXT = {text: name for name, texts in TYPES.items() for text in texts}
# Signs that turn the coordinates of a space into left, posterior, superior; others are taken as they are, as in ITK.
SPACES = {
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
LAYOUT = ("type", "dimension", "sizes", "encoding", "endian", "data file", "datafile", "line skip",
          "lineskip", "byte skip", "byteskip", "min", "max", "number")  # fmt: skip
GEOMETRY = ("space", "space dimension", "space directions", "space origin", "spacings")
# Fields of the old numbers or of the old grid that are left out, and a note says so.
LEFT_OUT = ("old min", "oldmin", "old max", "oldmax", "block size", "blocksize", "axis mins",
            "axismins", "axis maxs", "axismaxs")  # fmt: skip
COLOURS = ("rgb-color", "rgba-color", "xyz-color", "3-color", "4-color")
PER_AXIS = ("labels", "units", "centerings", "thicknesses")


class _Described:
    """The data of a NRRD file as its header describes them."""

    def __init__(self, path: Path) -> None:
        nrrd = import_package("nrrd", path)
        with path.open("rb") as file:
            self.header: dict[str, Any] = dict(nrrd.read_header(file))
            end = file.tell()
        self.path = path
        header = self.header
        sizes = [int(n) for n in header["sizes"]]
        if len(sizes) != int(header["dimension"]) or min(sizes) < 1:
            raise ValueError(f"its header says sizes {sizes} for {header['dimension']} dimensions")
        name = BY_TEXT.get(str(header["type"]).lower())
        if name is None:
            raise ValueError(f"its header says type {header['type']}")
        big = str(header.get("endian", "little")).lower() == "big"
        self.dtype = np.dtype(name).newbyteorder(">" if big else "<")
        self.shape = tuple(sizes[::-1])  # the first axis of the file is the fastest
        self.encoding = str(header["encoding"]).lower()
        self.data, self.offset = self._data(end)
        self.info = self._info()

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_raw(self) -> bool:
        return self.encoding == "raw"

    def _data(self, end: int) -> tuple[Path, int]:
        """Return the file of the numbers, and the offset of the first."""
        name = self._field("data file", "datafile")
        data = self.path
        if name is not None:
            name = str(name)
            if name.upper().startswith("LIST") or "%" in name:
                raise FileError(
                    f"cannot read {self.path}: its slices are in several files. Store it as one "
                    ".nrrd file"
                )
            if Path(name).name != name.removeprefix("./") or name in ("", ".", ".."):
                raise FileError(
                    f"cannot read {self.path}: its data file {name} lies in another folder. Put it "
                    "beside the header and correct `data file`"
                )
            data, end = self.path.with_name(Path(name).name), 0
            if not data.is_file():
                raise FileError(f"cannot read {self.path}: its data file {name} is missing")
        lines = int(self._field("line skip", "lineskip") or 0)
        skip = int(self._field("byte skip", "byteskip") or 0)
        if lines < 0 or skip < -1:
            raise ValueError(f"its header says line skip {lines} and byte skip {skip}")
        if lines:
            with data.open("rb") as file:
                file.seek(end)
                for _ in range(lines):
                    file.readline()
                end = file.tell()
        if skip == -1:
            return data, data.stat().st_size - self.nbytes
        return data, end + (skip if self.is_raw else 0)

    def _field(self, *names: str) -> Any:
        return next((self.header[n] for n in names if n in self.header), None)

    def _info(self) -> ImageInfo:
        header, ndim = self.header, len(self.shape)
        directions = header.get("space directions")
        kinds = [str(k).lower() for k in header.get("kinds", ())] or ["???"] * ndim
        if len(kinds) != ndim or (directions is not None and len(directions) != ndim):
            raise ValueError(f"its header has {len(kinds)} kinds for {ndim} axes")
        rows = [None if d is None or np.isnan(d).any() else np.asarray(d, float)
                for d in (directions if directions is not None else [None] * ndim)]  # fmt: skip
        if "hsv-color" in kinds:
            raise FileError(
                f"cannot read {self.path}: its colours are hues (kind HSV-color), whose numbers cannot be "
                "filtered. Convert them to RGB"
            )
        letters = _letters(kinds, rows, directions is not None)
        alpha = Alpha(3) if "rgba-color" in kinds else None
        steps = [float(s) for s in np.ravel(header.get("spacings", [np.nan] * ndim))]
        factors = self._factors(letters)
        vectors: list[Array] = []
        spacing: list[float] = []
        for axis, letter in enumerate(letters):
            if letter in "XYZ":
                step = steps[axis] if 0 < abs(steps[axis]) < math.inf else 1.0
                count = len(vectors)
                row = rows[axis]
                vector = step * np.eye(3)[count] if row is None else row
                vectors.append(vector * factors[count])
                spacing.append(float(np.linalg.norm(vectors[-1])))
        kept = {k: v for k, v in header.items() if k not in (*LAYOUT, *GEOMETRY, *LEFT_OUT)}
        lost = sorted(set(header) & set(LEFT_OUT))
        notes = (f"the fields {', '.join(lost)} of the header are not kept",) if lost else ()
        axes = "".join(letters)[::-1]
        if not vectors or (directions is None and np.isnan(steps).all()):
            return ImageInfo(axes, {"nrrd": kept}, alpha=alpha, notes=notes)
        placed = self._placed(axes, vectors, spacing, kept)
        return replace(placed, alpha=alpha, notes=notes)

    def _factors(self, letters: list[str]) -> list[float]:
        """Return the millimetres per unit of each spatial axis; an unknown unit counts as mm, as in ITK."""
        header = self.header
        if header.get("space directions") is not None:
            units = [str(u) for u in header.get("space units", ())]
            # The units are those of the coordinates: they are one for all axes, or cannot be obeyed.
            units = units[:1] * 3 if len(set(units)) == 1 else []
        else:
            named = [str(u) for u in header.get("units", ())]
            units = [u for u, a in zip(named, letters, strict=False) if a in "XYZ"]
        known = [unit_of(u) for u in units]
        return [MILLIMETRES.get(u, 1.0) if u else 1.0 for u in known] + [1.0] * 16

    def _placed(
        self, axes: str, vectors: list[Array], spacing: list[float], kept: dict[str, Any]
    ) -> ImageInfo:
        if min(spacing) <= 0 or not np.isfinite(spacing).all():
            raise FileError(
                f"cannot read {self.path}: its spacing must be > 0; got "
                f"{' '.join(f'{s:g}' for s in spacing)}. Correct `space directions`"
            )
        count = min(3, len(vectors))
        matrix = np.stack([v[:count] for v in vectors[:count]], axis=1)
        lengths = np.linalg.norm(matrix, axis=0)
        if abs(np.linalg.det(matrix / np.where(lengths > 0, lengths, 1))) < 1e-6:
            raise FileError(
                f"cannot read {self.path}: its space directions are singular. Correct them"
            )
        origin = np.ravel(self.header.get("space origin", np.zeros(count))).astype(float)
        origin = np.where(np.isfinite(origin), origin, 0.0)[:count]
        origin = origin * self._factors(list(axes[::-1]))[:count]
        for name in ("space units", "units"):  # the result is in mm
            if name in kept:
                kept[name] = ["mm" if unit_of(str(u)) else u for u in kept[name]]
        affine = lps_affine(origin, lengths, matrix / lengths)
        signs = SPACES.get(str(self.header.get("space", "")).lower(), (1, 1, 1))
        if "measurement frame" in kept:  # its vectors are in the space of the source
            frame = np.asarray(kept["measurement frame"], float)
            kept["measurement frame"] = frame * np.array(signs[: frame.shape[-1]])
        return info_with_frame(axes, np.diag([*signs, 1.0]) @ affine, {"nrrd": kept})


def _letters(kinds: list[str], rows: list[Any], has_directions: bool) -> list[str]:
    """Return the letter of each axis of the file, from the fastest."""
    letters, places = [], iter("XYZQQQQQQQQQQQQQ")
    for kind, row in zip(kinds, rows, strict=True):
        spatial = row is not None if has_directions else kind in ("domain", "space", "???", "none")
        if spatial:
            letters.append(next(places))
        elif kind == "time":
            letters.append("T")
        else:
            letters.append("S" if kind in COLOURS else "C")
    return letters


def _open_nrrd(path: Path, inside: str = "") -> Source:
    found = _Described(path)
    if not found.is_raw:
        raise FileError(
            f"cannot read {path} by parts: its encoding is {found.encoding}. Store it with encoding raw"
        )
    raw = Raw.open(found.data, found.dtype, found.shape, found.offset)
    return raw_source(path, "", raw, found.info)


def _read_nrrd(path: Path) -> tuple[Array, ImageInfo]:
    found = _Described(path)
    check_memory(path, found.shape, found.dtype)
    if found.is_raw:
        with _open_nrrd(path) as source:
            return source.read((slice(None),) * source.ndim), found.info
    with found.data.open("rb") as file:
        file.seek(found.offset)
        packed = file.read()
    content: Any
    if found.encoding in ("gzip", "gz"):
        check_packed(found.data, found.nbytes)
        content = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(packed, found.nbytes)
    elif found.encoding in ("bzip2", "bz2"):
        content = bz2.BZ2Decompressor().decompress(packed, found.nbytes)
    elif found.encoding in ("ascii", "text", "txt"):
        numbers = np.array(packed.split()[: math.prod(found.shape)], np.float64)
        content = numbers.astype(found.dtype).tobytes()
    else:
        raise FileError(
            f"cannot read {path}: its encoding {found.encoding} is not known. Store it with encoding raw"
        )
    if len(content) < found.nbytes:
        raise EOFError("the file ends before its data")
    array = np.frombuffer(content, found.dtype, math.prod(found.shape)).reshape(found.shape)
    return array.astype(found.dtype.newbyteorder("=")), found.info


# Writing


def _text(request: CreateRequest, data: str = "") -> bytes:
    nrrd = import_package("nrrd", request.path)
    ndim, info = len(request.shape), request.info
    axes, order = file_axes(info.axes, ndim)
    letters = [axes[axis] for axis in order[::-1]]
    kept = dict(info.options.get("nrrd", {}))
    fields: dict[str, str] = {
        "type": TYPES[request.dtype.name][0], "dimension": str(ndim),
    }  # fmt: skip
    placed = set("XYZ") <= set(letters) and (info.affine is not None or info.spacing is not None)
    if placed:
        frame = frame_of(info, ndim)
        steps = dict(zip("XYZ", frame.affine[:3, :3].T, strict=True))
        rows = [steps.get(letter) for letter in letters]
        fields["space"] = "left-posterior-superior"
        fields["sizes"] = " ".join(str(request.shape[axis]) for axis in order[::-1])
        fields["space directions"] = nrrd.format_optional_matrix(
            np.array([np.full(3, np.nan) if r is None else r for r in rows])
        )
    else:
        fields["sizes"] = " ".join(str(request.shape[axis]) for axis in order[::-1])
        if info.spacing is not None or info.affine is not None:
            frame = frame_of(info, ndim)
            steps_of = dict(zip("XYZ", frame.spacing, strict=True))
            fields["spacings"] = " ".join(f"{steps_of.get(n, math.nan):.17g}" for n in letters)
    kinds = [str(k) for k in kept.pop("kinds", ())]
    usual = {"X": "domain", "Y": "domain", "Z": "domain", "T": "time", "S": "RGB-color"}
    if len(kinds) != ndim:
        kinds = [usual.get(n, "list" if n in "CL" else "???") for n in letters]
        sizes = [request.shape[axis] for axis in order[::-1]]
        kinds = [_colour_kind(info, n) if k == "RGB-color" else k
                 for k, n in zip(kinds, sizes, strict=True)]  # fmt: skip
    fields["kinds"] = " ".join(kinds)
    fields["endian"] = "little"
    fields["encoding"] = "raw"
    if placed:
        fields["space origin"] = nrrd.format_optional_vector(frame_of(info, ndim).origin)
    if data:
        fields["data file"] = data
    lines = ["NRRD0005", *(f"{k}: {v}" for k, v in fields.items()), *_kept_lines(nrrd, kept, ndim)]
    return ("\n".join(lines) + "\n\n").encode("utf-8")


def _colour_kind(info: ImageInfo, samples: int) -> str:
    if samples == 4 and info.alpha is not None and info.alpha.index == 3:
        return "RGBA-color"
    return "RGB-color" if samples == 3 else "list"


def _kept_lines(nrrd: Any, kept: dict[str, Any], ndim: int) -> list[str]:
    """Return the lines of the other fields of the source, and of its own key/value pairs."""
    lines = []
    for key, value in kept.items():
        if key in PER_AXIS:
            texts = [f'"{v}"' if key in ("labels", "units") else str(v) for v in value]
            if len(texts) == ndim:
                lines.append(f"{key}: " + " ".join(texts))
        elif key == "space units":
            lines.append(f"{key}: " + " ".join(f'"{v}"' for v in value))
        elif key == "measurement frame":
            lines.append(f"{key}: {nrrd.format_optional_matrix(np.asarray(value))}")
        elif key in ("sample units", "content", "old content"):
            lines.append(f"{key}: {value}")
        elif isinstance(value, str):
            lines.append(f"{key}:={value}".replace("\n", "\\n"))
    return lines


def _create_nrrd(request: CreateRequest) -> Target:
    _, order = file_axes(request.info.axes, len(request.shape))
    dtype = request.dtype.newbyteorder("<")
    detached = request.path.suffix.lower() == ".nhdr"
    data = request.path.with_suffix(".raw")
    if detached and data.exists() and not request.overwrite:
        raise FileError(
            f"{data} exists. Choose another name, or overwrite it (overwrite=True, --force)"
        )
    text = _text(request, data.name if detached else "")
    header = draft_of(request.path) if detached else request.draft
    numbers = draft_of(data) if detached else request.draft
    if not request.resume:
        numbers.write_bytes(b"" if detached else text)
    if detached and not header.exists():
        header.write_bytes(text)
    with header.open("rb") as file:
        if file.read(len(text)) != text:
            raise FileError(
                f"cannot resume {request.path}: {header.name} has another header. Delete it, or "
                "start without resuming"
            )
    try:
        start = 0 if detached else len(text)
        raw = Raw.open(numbers, dtype, request.shape, start, order, write=True)
    except BaseException:
        for made in () if request.resume else (numbers, header):
            made.unlink(missing_ok=True)
        raise
    parts = ((numbers, data), (header, request.path)) if detached else ()
    return raw_target(request, raw, parts=parts)


def _refuse_nrrd(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if not 1 <= len(shape) <= 16 or 0 in shape:
        return f"a NRRD file has one to 16 axes and is not empty; got shape {shape}. Write .npy"
    if dtype.newbyteorder("=").name not in TYPES:
        other = "uint8" if dtype.kind == "b" else "float32"
        return f"NRRD does not hold {dtype.name}. Make it {other} (--dtype {other})"
    return ""


NRRD = Format(
    name="NRRD",
    suffixes=(".nrrd", ".nhdr"),
    signatures=(b"NRRD00",),
    read=_read_nrrd,
    refuse=_refuse_nrrd,
    open=_open_nrrd,
    create=_create_nrrd,
    package="nrrd",
    keeps=metadata_kept("axes", "spacing", "affine", "nrrd"),
    options={"nrrd": "the fields of the NRRD header"},
    statements=NRRD_ANSWERS,
)
