"""Small valid files of every format, and ways to damage them, for the tests of the command line."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import nrrd
import numpy as np
import pytest
import scipy.io
import tifffile
from pydicom.data import get_testdata_file

from separable.errors import FileError
from separable.files import ImageInfo, registered_formats, write_image

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

__all__ = ["SAMPLES", "damage", "digest"]

RNG = np.random.default_rng(5)
VOLUME = RNG.integers(0, 200, (5, 6, 7)).astype(np.uint8)
PLANE, COLOURS = VOLUME[0], np.moveaxis(VOLUME[:3], 0, -1)
KERNEL = RNG.random((3, 3))
INFO = ImageInfo("ZYX", spacing=(2.0, 1.0, 1.0), unit="mm")
Writer = Callable[[Path], Any]


def zarr_of(version: int, **options: Any) -> Writer:
    return lambda path: zarr.create_array(
        str(path), data=VOLUME, chunks=(4, 4, 4), zarr_format=version, **options
    )


def hdf5_of(**options: Any) -> Writer:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            made = file.create_dataset("group/data", data=VOLUME, **options)
            made.attrs["element_size_um"] = (2.0, 1.0, 1.0)
            made.attrs["text"] = "words"

    return write


def nifti_of(kind: Any) -> Writer:
    def write(path: Path) -> None:
        image = kind(VOLUME.astype(np.int16), np.diag([1.0, 1, 2, 1]))
        image.header.set_slope_inter(0.5, 3)
        image.to_filename(path)

    return write


def tiff_of(array: Any = VOLUME, **options: Any) -> Writer:
    return lambda path: tifffile.imwrite(path, array, **options)


def npy_of(array: Any) -> Writer:
    return lambda path: np.save(path, array)


def classic_netcdf(path: Path) -> None:
    with scipy.io.netcdf_file(path, "w") as file:
        for name, size in zip("zyx", VOLUME.shape, strict=True):
            file.createDimension(name, size)
            file.createVariable(name, "f4", (name,))[:] = np.arange(size)
            file.variables[name].units = "mm"
        made = file.createVariable("data", "i2", tuple("zyx"))
        made[:] = VOLUME
        made.scale_factor, made.add_offset, made.valid_max = 0.5, 1.0, np.int16(250)


def labelled_netcdf(path: Path) -> None:
    with h5py.File(path, "w") as file:
        made = file.create_dataset("model/data", data=VOLUME.astype("i2"), chunks=(4, 4, 4))
        made.attrs.update(
            scale_factor=0.5, valid_range=np.array([0, 250], "i2"), _FillValue=np.int16(-7)
        )
        for axis, name in enumerate("zyx"):
            scale = file.create_dataset(name, data=np.arange(VOLUME.shape[axis], dtype="f4"))
            scale.make_scale(name)
            scale.attrs["units"] = "mm"
            made.dims[axis].attach_scale(scale)


def nrrd_of(**fields: Any) -> Writer:
    place = {"space": "left-posterior-superior", "space directions": np.diag([1.0, 1, 2])}
    return lambda path: nrrd.write(str(path), VOLUME.T, {**place, **fields}, index_order="F")


def packed_metaimage(path: Path) -> None:
    packed = zlib.compress(VOLUME.tobytes())
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\n"
        f"CompressedDataSize = {len(packed)}\nElementSpacing = 1 1 2\nDimSize = 7 6 5\n"
        "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(head.encode() + packed)


# What the library does not write itself, or not by default. A format may have several.
SAMPLES: dict[str, Writer] = {
    "fortran.npy": npy_of(np.asfortranarray(VOLUME.astype(">f4"))),
    "complex.npy": npy_of(PLANE.astype(np.complex128)),
    "kernel.npy": npy_of(KERNEL),
    "pages.tif": tiff_of(compression="zlib", metadata={"axes": "ZYX"}),
    "tiles.tif": tiff_of(np.tile(PLANE, (5, 5)), tile=(16, 16), compression="zlib"),
    "big.tif": tiff_of(VOLUME.astype(np.float32), bigtiff=True),
    "imagej.tif": tiff_of(imagej=True, metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"}),
    "volume.ome.tif": tiff_of(metadata={"axes": "ZYX", "PhysicalSizeX": 0.5}),
    "two.zarr": zarr_of(2),
    "raw.zarr": zarr_of(2, compressors=None),
    "three.zarr": zarr_of(3),
    "shards.zarr": zarr_of(3, shards=(4, 8, 8)),
    "packed.h5": hdf5_of(chunks=(4, 4, 4), compression="gzip", shuffle=True),
    "plain.h5": hdf5_of(),
    "one.nii": nifti_of(nib.Nifti1Image),
    "two.nii": nifti_of(nib.Nifti2Image),
    "one.nii.gz": nifti_of(nib.Nifti1Image),
    "cube.bil": lambda path: write_image(path, VOLUME),
    "two.ome.zarr": lambda path: write_image(
        path, VOLUME, ImageInfo("ZYX", {"zarr_format": 2}, spacing=(2.0, 1.0, 1.0), unit="um")
    ),
    "three.ome.zarr": lambda path: write_image(path, VOLUME, INFO),
    "packed.nc": lambda path: write_image(path, VOLUME, ImageInfo("ZYX")),
    "classic.nc": classic_netcdf,
    "labelled.nc": labelled_netcdf,
    "packed.nrrd": nrrd_of(encoding="gzip"),
    "text.nrrd": nrrd_of(encoding="ascii"),
    "packed.mha": packed_metaimage,
    "pair.img": nifti_of(nib.Nifti1Pair),
    "series.dicom": lambda path: write_image(path, VOLUME, INFO),
    "frames.dcm": lambda path: write_image(path, VOLUME.astype(np.float32) / 3, INFO),
    "slice.dcm": lambda path: shutil.copy(get_testdata_file("MR_small.dcm", download=False), path),
    "grey.png": lambda path: write_image(path, PLANE.astype(np.uint16)),
}


def _by_registry(suffix: str) -> Writer:
    """Write the first of some images that a format holds."""

    def write(path: Path) -> None:
        for array in (VOLUME, PLANE, COLOURS):
            try:
                write_image(path, array)
            except FileError:
                continue
            return
        raise AssertionError(f"no image could be written as {path.name}")

    return write


for _format in registered_formats():
    for _suffix in _format.suffixes:
        SAMPLES.setdefault(f"usual{_suffix}", _by_registry(_suffix))


def digest(path: Path) -> dict[str, Any]:
    """Everything that can be changed in a file or folder."""
    found = {}
    for each in [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]:
        if each.is_symlink():
            found[str(each)] = os.readlink(each)
        elif each.is_file():
            found[str(each)] = each.read_bytes()
        else:
            found[str(each)] = "folder" if each.is_dir() else "other"
    return found


# Damage. Everything is drawn from one generator, so that a seed says it all.

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 32767, 65535, 1 << 24, (1 << 31) - 1, (1 << 32) - 1,
           1 << 40, (1 << 63) - 1, (1 << 64) - 1, 10**25)  # fmt: skip
# Of sides and chunks: what is neither refused at once nor read within seconds is left out.
SIDES = tuple(n for n in NUMBERS if not 256 < n < 1 << 24)
JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1 << 31, 1 << 62, 10**30, -(1 << 62), 0.5, -1.5, 1e300,
    float("nan"), float("inf"), "", "x", "NaN", "<f4", ">u2", "<U7", "|O", "|V8", "float16",
    "bytes", "a" * 5000, [], [0], [-1], [1 << 62] * 3, [0, 0, 0], [1, 1, 1], ["x"], [[]], {},
    {"x": 1}, {"name": "x"}, {"id": "x"}, {"name": "bytes", "configuration": {"endian": "x"}},
    {"name": "regular", "configuration": {"chunk_shape": [0, 0, 0]}}, "../../x", "/etc/passwd",
)  # fmt: skip


STARTS = (".nii", ".tif", ".tiff", ".h5", ".bmp", ".jpg", ".nc", ".dcm", ".hdr")  # binary headers


def damage(path: Path, seed: int) -> str:
    """Damage a file, or a file of a folder; return in words what was done."""
    draw = random.Random(seed)
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    if path.suffix in (".hdr", ".bil", ".bip", ".bsq") and draw.random() < 0.8:
        files = [path.with_suffix(".hdr")]  # most of the damage is done in the header
    if path.suffix in (".img", ".mhd", ".nhdr") and draw.random() < 0.8:
        files = [path.with_suffix(".hdr") if path.suffix == ".img" else path]
    file = draw.choice(files)
    if path.is_dir() and any(map(_is_json, files)) and draw.random() < 0.7:
        file = draw.choice([f for f in files if _is_json(f)])
    kinds = [_bytes] * 4 + [_place] * 1
    if _is_json(file):
        kinds = [_json] * 12 + kinds
    elif file.suffix in (".hdr", ".mhd", ".nhdr") and path.suffix != ".img":
        kinds = [_words] * 12 + kinds
    elif file.suffix in (".mha", ".nrrd"):
        kinds = [_beginning] * 12 + kinds
    elif file.suffix == ".npy":
        kinds = [_header] * 6 + kinds
    elif file.suffix == ".gz":
        kinds = [_packed] * 8 + kinds
    elif file.suffix == ".png":
        kinds = [_chunk] * 8 + kinds
    elif file.suffix in STARTS:
        kinds += [_start] * 8
    told = []
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        if file.is_file() and not file.is_symlink():
            kind = draw.choice(kinds)
            told.append(f"{kind.__name__}: {kind(file, draw)}")
    return f"{file.relative_to(path.parent)}: {'; '.join(told)}"


def _is_json(file: Path) -> bool:
    return file.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup")


def _number(draw: random.Random, numbers: tuple[int, ...] = NUMBERS) -> int:
    return draw.choice(numbers) * draw.choice((1, 1, -1)) + draw.choice((0, 0, 1, -1))


def _changed(data: bytes, draw: random.Random, most: int | None = None) -> tuple[bytes, str]:
    """Change a few bytes, of the first ones if it is said how many."""
    made = bytearray(data)
    if not made:
        return b"\0", "a byte"
    at = draw.randrange(min(len(made), most or len(made)))
    kind = draw.randrange(8)
    if kind == 0:
        del made[at:]
        return bytes(made), f"cut at {at}"
    if kind == 1:
        made[at] ^= 1 << draw.randrange(8)
    elif kind == 2:
        made[at] = draw.choice((0, 0xFF, 0x7F, 0x80, draw.randrange(256)))
    elif kind in (3, 4):
        size = draw.choice((2, 4, 8))
        value = _number(draw) % (1 << 8 * size)
        at = at // size * size if draw.random() < 0.7 else at
        made[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))
    elif kind == 5:
        made[at : at + 4] = struct.pack("<f", draw.choice((0.0, -1.0, float("nan"), 3e38)))
    elif kind == 6:
        del made[at : at + draw.choice((1, 2, 4, 64))]
    else:
        made[at:at] = draw.randbytes(draw.choice((1, 2, 4, 64)))
    return bytes(made), f"kind {kind} at {at}"


def _bytes(file: Path, draw: random.Random) -> str:
    data, told = _changed(file.read_bytes(), draw)
    file.write_bytes(data)
    return told


def _start(file: Path, draw: random.Random) -> str:
    data, told = _changed(file.read_bytes(), draw, 400)
    file.write_bytes(data)
    return told


def _place(file: Path, draw: random.Random) -> str:
    """Put something else in the place of a file."""
    kind = draw.choice(("nothing", "folder", "loop", "empty", "noise", "fifo", "dangling"))
    size = file.stat().st_size
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "dangling":
        file.symlink_to("nowhere")
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "noise":
        file.write_bytes(draw.randbytes(size))
    elif kind == "fifo":
        os.mkfifo(file)
    return kind


def _packed(file: Path, draw: random.Random) -> str:
    try:
        inner = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error):
        return _bytes(file, draw)
    data, told = _changed(inner, draw, 400)
    file.write_bytes(gzip.compress(data, 1))
    return told


def _chunk(file: Path, draw: random.Random) -> str:
    """Change the content of a PNG chunk and correct its checksum."""
    data = file.read_bytes()
    places, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        places.append((at, size))
        at += 12 + size
    if not places:
        return _bytes(file, draw)
    at, size = draw.choice(places)
    content, told = _changed(data[at + 4 : at + 8 + size], draw)
    content = content.ljust(4, b"x")
    made = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    file.write_bytes(data[:at] + made + data[at + 12 + size :])
    return told


def _header(file: Path, draw: random.Random) -> str:
    """Change a word or number of an NPY header, whose length is kept right."""
    data = file.read_bytes()
    if len(data) < 12:
        return _bytes(file, draw)
    wide = data[6] >= 2
    start = 12 if wide else 10
    size = int.from_bytes(data[8:start], "little")
    text, told = _text(data[start : start + size].decode("latin1"), draw)
    made = text.encode("latin1", "replace")
    if not wide:
        made = made[:65535]
    file.write_bytes(
        data[:8] + len(made).to_bytes(start - 8, "little") + made + data[start + size :]
    )
    return told


def _words(file: Path, draw: random.Random) -> str:
    text, told = _text(file.read_text("latin1"), draw)
    file.write_text(text, "latin1", errors="replace")
    return told


def _beginning(file: Path, draw: random.Random) -> str:
    """Replace a number or a word of the text before binary data."""
    data = file.read_bytes()
    ends = [at + len(mark) for mark in (b"\n\n", b"LOCAL\n") if (at := data.find(mark)) >= 0]
    end = min(ends, default=min(len(data), 300))
    text, told = _text(data[:end].decode("latin1"), draw)
    file.write_bytes(text.encode("latin1", "replace") + data[end:])
    return told


def _text(text: str, draw: random.Random) -> tuple[str, str]:
    """Replace a number or a word of a text."""
    found = list(re.finditer(r"-?[0-9]+(?:\.[0-9]+)?|'[^']*'|[A-Za-z_]{3,}|[{}()\[\],:=]", text))
    if not found:
        return text + "0", "a zero"
    numbers = [m for m in found if m.group()[0] in "-0123456789"]
    one = draw.choice(numbers if numbers and draw.random() < 0.7 else found)
    value = str(draw.choice((_number(draw), draw.choice(JUNK), "'|O'", "(", "{", "")))
    return text[: one.start()] + value + text[one.end() :], f"{one.group()} -> {value[:40]}"


def _json(file: Path, draw: random.Random) -> str:
    try:
        meta = json.loads(file.read_bytes())
    except ValueError:
        return _bytes(file, draw)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    if isinstance(meta, dict | list):
        walk(meta)
    if not places or draw.random() < 0.02:
        meta = draw.choice(JUNK)
        told = f"all -> {meta!r:.40}"
    else:
        node, key = draw.choice(places)
        told = f"{key}: {node[key]!r:.40}"
        if draw.random() < 0.15:
            del node[key]
        elif isinstance(node[key], int) and draw.random() < 0.5:
            node[key] = _number(draw, SIDES)
        elif draw.random() < 0.1:
            node[key] = [node[key]] * 3
        else:
            node[key] = draw.choice(JUNK)
        told += f" -> {node[key]!r:.40}" if not isinstance(node, list) and key in node else ""
    file.write_text(json.dumps(meta))
    return told
