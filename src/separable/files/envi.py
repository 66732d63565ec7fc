"""The ENVI format: a text header beside a data file; headers are read with Spectral Python."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.axis_names import short_unit
from separable.files.chunked_io import Region, Source, Target, draft_of
from separable.files.diagnostics import import_package
from separable.files.file_format import CreateRequest, Format
from separable.files.flat_binary import Raw, raw_source, raw_target
from separable.files.grid_options import envi_on_grid
from separable.files.image_info import Array, ImageInfo
from separable.files.nifti_pairs import NIFTI_PAIR, create_pair, is_binary_header
from separable.files.volume_answers import ENVI_ANSWERS
from separable.masked import valid_samples

__all__ = ["ENVI"]

ORDERS = {"bsq": (2, 0, 1), "bil": (0, 2, 1), "bip": (0, 1, 2)}  # of rows, columns, bands
DATA = (".img", ".dat", ".raw", ".bin", ".bsq", ".bil", ".bip", "")
SIZES = ("samples", "lines", "bands", "header offset", "data type", "interleave", "byte order")
GAINS, OFFSETS = "data gain values", "data offset values"
CLASSES = (
    "samples are numbers of classes (ENVI Classification): means of them have no meaning. To make such a map "
    "coarser use `separable resample -i majority`"
)
METRES = {"m": 1.0, "km": 1e3, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "nm": 1e-9}
CODES = {
    "uint8": 1, "int16": 2, "int32": 3, "float32": 4, "float64": 5, "complex64": 6,
    "complex128": 9, "uint16": 12, "uint32": 13, "int64": 14, "uint64": 15,
}  # fmt: skip


def _open_envi(path: Path, inside: str = "") -> Source:
    header_path, data = _pair(path)
    header = _header(path, header_path)
    if header.get("file compression", "0").strip() not in ("", "0"):
        raise FileError(f"cannot read {path}: its data file is compressed. Unpack it: gunzip")
    sides = tuple(int(header[k]) for k in ("lines", "samples", "bands"))
    if min(sides) < 1:
        raise ValueError(f"its header says {sides} lines, samples and bands")
    code = int(header["data type"])
    name = next((n for n, c in CODES.items() if c == code), None)
    if name is None:
        raise ValueError(f"its header says data type {code}")
    interleave = str(header.get("interleave", "bsq")).lower()
    if interleave not in ORDERS:
        raise ValueError(f"its header says interleave {interleave}")
    dtype = np.dtype(name).newbyteorder(">" if int(header.get("byte order", 0)) else "<")
    order: tuple[int, ...] = ORDERS[interleave]
    shape: tuple[int, ...] = sides
    if sides[2] == 1:  # a picture
        order, shape = (0, 1), sides[:2]
    info = _info(header, interleave, len(shape))
    info.options["envi_texts"] = _texts(header_path)
    raw = Raw.open(data, dtype, shape, int(header.get("header offset", 0)), order)
    return _calibrated(raw_source(path, "", raw, info))


def _calibrated(source: Source) -> Source:
    """Return a source of ``gain * stored + offset`` if the header has offsets or different gains.

    One gain for all bands stays in the header: every filter of the stored numbers has the same gain.
    Offsets are true of smoothed numbers only, and different gains of bands that are not mixed.
    """
    header, bands = source.info.options["envi"], source.shape[2] if source.ndim == 3 else 1
    offsets, gains = (_per_band(header, name, bands) for name in (OFFSETS, GAINS))
    offsets = np.zeros(bands) if offsets is None else offsets
    gains = np.ones(bands) if gains is None else gains
    if not offsets.any() and (gains == gains[0]).all():
        return source
    small = source.dtype.itemsize <= 2 or source.dtype == np.float32
    dtype = np.dtype(np.float32 if small else np.float64)
    info, fetch = source.info, source.fetch
    kept = {k: v for k, v in header.items() if k not in (GAINS, OFFSETS, "data ignore value")}
    texts = {k: v for k, v in info.options["envi_texts"].items() if k in kept}

    def read(region: Region) -> Array:
        stored = fetch(region)
        band = region[2] if stored.ndim == 3 else slice(0, 1)
        values = np.asarray(stored * gains[band] + offsets[band], dtype)
        if info.nodata:
            values[~valid_samples(stored, info.nodata)] = np.nan
        return values

    note = "numbers are gain * stored + offset, by the gains and offsets of its bands"
    source.info = replace(
        info, options={**info.options, "envi": kept, "envi_texts": texts},
        nodata=(math.nan,) if info.nodata else (), notes=(*info.notes, note),
    )  # fmt: skip
    source.fetch, source.dtype = read, dtype
    return source


def _per_band(header: dict[str, Any], name: str, bands: int) -> Array | None:
    """Return one number per band, or None if the header has none."""
    texts = header.get(name)
    if not texts:
        return None
    numbers = np.array([float(t) for t in texts])
    if len(numbers) != bands or not np.isfinite(numbers).all():
        raise ValueError(f"its header has {len(numbers)} {name} for {bands} bands")
    return numbers


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the header and the data file; `path` is one of them."""
    if path.suffix.lower() == ".hdr":
        stem = path.with_suffix("")
        found = [stem.with_name(stem.name + s) for d in DATA for s in (d, d.upper())]
        data = next((p for p in found if p.is_file()), None)
        if data is None:
            raise FileError(
                f"cannot read {path}: its data file is missing; expected "
                f"{stem.name} with one of {' '.join(DATA[:-1])}, or without. Put it beside it"
            )
        return path, data
    for header in (path.with_suffix(".hdr"), path.with_name(path.name + ".hdr")):
        if header.is_file():
            return header, path
    raise FileError(
        f"cannot read {path}: there is no header {path.with_suffix('.hdr').name}. Put it beside it"
    )


def _header(path: Path, header: Path) -> dict[str, Any]:
    envi = _envi(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names in capitals, which are kept in small letters
        found: dict[str, Any] = envi.read_envi_header(str(header))
    missing = [k for k in ("samples", "lines", "bands", "data type") if k not in found]
    if missing:
        raise FileError(
            f"cannot read {path}: its header does not say: {', '.join(missing)}. Export it again"
        )
    return found


def _texts(header: Path) -> dict[str, str]:
    """Return the text of each field of a header: lists lose their commas when they are parsed."""
    found: dict[str, str] = {}
    key = ""
    for line in header.read_text(errors="replace").splitlines()[1:]:
        if key and found[key].count("{") > found[key].count("}"):
            found[key] += "\n" + line
            continue
        name, equals, value = line.partition("=")
        if equals and not line.startswith(";"):
            key = " ".join(name.lower().split())
            found[key] = value.strip()
    return found


def _envi(path: Path) -> Any:
    import_package("spectral", path)
    import spectral.io.envi  # optional

    return spectral.io.envi


def _info(header: dict[str, Any], interleave: str, ndim: int) -> ImageInfo:
    kept = {k: v for k, v in header.items() if k not in SIZES}
    kept["interleave"] = interleave
    spacing, unit = _spacing(header)
    classes = str(header.get("file type", "")).lower() == "envi classification"
    return ImageInfo(
        "YXL"[:ndim], {"envi": kept}, spacing=spacing and spacing[:ndim], unit=unit,
        nodata=_nodata(header), notes=(CLASSES,) if classes else (),
    )  # fmt: skip


def _nodata(header: dict[str, Any]) -> tuple[Any, ...]:
    text = str(header.get("data ignore value", "")).strip()
    if not text:
        return ()
    try:
        return (int(text),) if text.lstrip("+-").isdigit() else (float(text),)
    except ValueError:
        raise ValueError(f"its header says data ignore value {text}") from None


def _spacing(header: dict[str, Any]) -> tuple[tuple[float | None, ...] | None, str]:
    """Return spacing and unit from `map info`; its 6th and 7th values are the pixel size, x first."""
    fields = header.get("map info")
    try:
        x, y = abs(float(fields[5])), abs(float(fields[6]))  # type: ignore[index]
    except (TypeError, ValueError, IndexError):
        return None, ""
    if not (0 < x < math.inf and 0 < y < math.inf):
        return None, ""
    named = [str(f).partition("=") for f in fields or ()]
    units = next((v.strip().lower() for k, _, v in named if k.strip().lower() == "units"), "")
    return (y, x, None), short_unit(units) or "m"


# Writing


def _is_pair(info: ImageInfo, path: Path) -> bool:
    """Return whether a header that is named .hdr becomes one of NIfTI: where the image was read from a pair."""
    return info.format == NIFTI_PAIR.name and path.suffix.lower() == ".hdr"


def _keeps(
    info: ImageInfo, shape: tuple[int, ...], dtype: np.dtype[Any], path: Path
) -> frozenset[str]:
    if _is_pair(info, path):
        return NIFTI_PAIR.keeps(info, shape, dtype, path)
    return frozenset(("axes", "spacing", "nodata"))


def _create_envi(request: CreateRequest) -> Target:
    if _is_pair(request.info, request.path):
        return create_pair(request)
    kept = dict(request.info.options.get("envi", {}))
    suffix = request.path.suffix.lower()
    interleave = suffix[1:] if suffix[1:] in ORDERS else str(kept.get("interleave", "bsq"))
    header_path = request.path.with_suffix(".hdr")
    data = _data_of(request) if suffix == ".hdr" else request.path
    if data.exists() and not request.overwrite:
        raise FileError(
            f"{data} exists. Choose another name, or overwrite it (overwrite=True, --force)"
        )
    order = _order(request.info.axes, len(request.shape), interleave)
    rows, columns, bands = _axes(request.info.axes, len(request.shape))
    header = {
        **kept,
        "lines": request.shape[rows],
        "samples": request.shape[columns],
        "bands": 1 if bands is None else request.shape[bands],
        "header offset": 0,
        "data type": CODES[request.dtype.name],
        "interleave": interleave,
        "byte order": 0,
    }
    header.pop("data ignore value", None)
    if request.info.nodata:
        header["data ignore value"] = request.info.nodata[0]
    for name in ("wavelength", "fwhm", "bbl", "band names"):
        if len(header.get(name, ())) != header["bands"]:
            header.pop(name, None)
    metres = METRES.get(request.info.unit)
    if (
        "map info" not in header
        and metres
        and len(request.info.spacing or ()) == len(request.shape)
    ):
        y, x = ((request.info.spacing or ())[axis] for axis in (rows, columns))
        if x and y:
            sides = [1, 1, 0, 0, x * metres, y * metres]
            header["map info"] = ["Arbitrary", *sides, 0, "units=Meters"]
    numbers, draft = draft_of(data), draft_of(header_path)
    if not request.resume:
        numbers.write_bytes(b"")
    if not request.joins:
        _write_header(request, draft, header)
    dtype = request.dtype.newbyteorder("<")
    try:
        raw = Raw.open(numbers, dtype, request.shape, 0, order, write=True)
    except BaseException:
        for made in () if request.resume else (numbers, draft):
            made.unlink(missing_ok=True)
        raise
    return raw_target(request, raw, parts=((numbers, data), (draft, header_path)))


def _write_header(request: CreateRequest, draft: Path, header: dict[str, Any]) -> None:
    """Write the header of a partial file; an existing one must be identical."""
    envi = _envi(request.path)
    text = draft.with_name(draft.name + ".text")
    envi.write_envi_header(str(text), header)
    _keep_texts(request, text, header)
    if draft.exists() and request.resume and draft.read_bytes() != text.read_bytes():
        text.unlink()
        raise FileError(
            f"cannot resume {request.path}: {draft.name} has another header. Delete it, or start "
            "without resuming"
        )
    text.replace(draft)


def _keep_texts(request: CreateRequest, path: Path, header: dict[str, Any]) -> None:
    """Replace fields of a written header that did not change by their text in the source."""
    kept, texts = (request.info.options.get(key, {}) for key in ("envi", "envi_texts"))
    same = [k for k in header if k in texts and k not in SIZES and kept.get(k) == header[k]]
    written = {**_texts(path), **{k: texts[k] for k in same}}
    lines = ["ENVI", *(f"{name} = {value}" for name, value in written.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _data_of(request: CreateRequest) -> Path:
    """Return the data file of a header: the existing one if it is replaced."""
    if request.path.exists() and request.overwrite:
        try:
            return _pair(request.path)[1]
        except FileError:  # it has no data file
            pass
    return request.path.with_suffix(".img")


def _axes(axes: str, ndim: int) -> tuple[int, int, int | None]:
    """Return the axes of rows, columns and bands: by their letters, else in this order."""
    if len(axes) == ndim and axes.count("Y") == axes.count("X") == 1:
        rows, columns = axes.index("Y"), axes.index("X")
        return rows, columns, (3 - rows - columns if ndim == 3 else None)
    return 0, 1, (2 if ndim == 3 else None)


def _order(axes: str, ndim: int, interleave: str) -> tuple[int, ...]:
    places = _axes(axes, ndim)
    found = (places[i] for i in ORDERS[interleave])
    return tuple(p for p in found if p is not None)


def _refuse_envi(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if len(shape) not in (2, 3) or 0 in shape:
        return f"an ENVI cube has rows, columns and bands; got shape {shape}. Write .zarr or .npy"
    name = dtype.newbyteorder("=").name
    if name not in CODES:
        other = "uint8" if dtype.kind == "b" else "int16" if name == "int8" else "float32"
        return f"ENVI does not hold {name}. Make it {other} (--dtype {other})"
    return ""


def _other_format(path: Path) -> str:
    """Return the format of a binary header: half of a pair of NIfTI or Analyze."""
    return "NIfTI pair" if path.suffix.lower() == ".hdr" and is_binary_header(path) else ""


ENVI = Format(
    name="ENVI",
    suffixes=(".hdr", ".bsq", ".bil", ".bip"),
    refuse=_refuse_envi,
    open=_open_envi,
    create=_create_envi,
    package="spectral",
    keeps=_keeps,
    options={"envi": "the ENVI header"},
    other_format=_other_format,
    on_grid=envi_on_grid,
    statements=ENVI_ANSWERS,
)
