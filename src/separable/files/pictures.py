"""The picture formats PNG, JPEG and BMP, read and written with Pillow."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.errors import FileError
from separable.files.diagnostics import DEFLATE_RATIO, check_memory, check_packed
from separable.files.file_format import Format, metadata_kept
from separable.files.grid_options import picture_on_grid
from separable.files.image_info import Alpha, Array, ImageInfo
from separable.files.statements import answers_of

__all__ = [
    "BMP",
    "JPEG",
    "NOT_IN_PICTURES",
    "PNG",
    "as_light",
    "count_pictures",
    "light_notes",
    "picture_refuser",
    "read_picture",
]

JPEG_QUALITY = 95
ORIENTATION = 0x0112  # EXIF tag: how a picture is to be turned
# Modes of Pillow that are read as they are, with their data type and number of samples.
MODES = {
    "1": ("bool", 1), "L": ("uint8", 1), "LA": ("uint8", 2), "RGB": ("uint8", 3),
    "RGBA": ("uint8", 4), "I;16": ("uint16", 1), "I": ("int32", 1),
}  # fmt: skip
# PNG chunks that say how bright and of what colour the numbers are; Pillow does not write them.
LIGHT_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
ANIMATION = ("duration", "loop", "default_image")  # of frames, in milliseconds
KEPT = ("dpi", "icc_profile", "exif", "comment", "xmp", "text", "light")  # of `ImageInfo.options`


def count_pictures(path: Path) -> int:
    """Return the number of pictures or frames in a file, as `Format.count` does."""
    from PIL import Image  # start-up time

    with _no_pixel_limit(), Image.open(path) as picture:
        return int(getattr(picture, "n_frames", 1))


def read_picture(
    path: Path, number: int = 1, *, ratio: int = DEFLATE_RATIO
) -> tuple[Array, ImageInfo]:
    """Read a picture as `Format.read_one` does; `ratio` is the largest number of samples per stored byte."""
    from PIL import Image  # start-up time

    _refuse_deep_colour(path)
    with _no_pixel_limit(), Image.open(path) as picture:
        notes: list[str] = []
        if number > 1:
            picture.seek(number - 1)
        # Step 1: check the claims of the header before anything is decoded.
        name, samples = MODES.get(picture.mode, ("uint8", 1 if picture.mode == "P" else 3))
        shape, dtype = (picture.height, picture.width, samples), np.dtype(name)
        check_memory(path, shape, dtype)
        check_packed(path, math.prod(shape) * dtype.itemsize, ratio=ratio)
        # Step 2: decode, in a mode whose numbers mean light and opacity.
        mode = _mode(picture, path, notes)
        array = np.asarray(_in_mode(picture, mode))
        if array.dtype == bool:  # Pillow's bytes are 0 and 255, and those of NumPy 0 and 1
            array = array.view(np.uint8) != 0
        # Step 3: turn it upright.
        orientation = int(picture.getexif().get(ORIENTATION, 1))
        if orientation in range(2, 9):
            array = _upright(array, orientation)
            notes.append("the picture was turned upright, as its metadata say")
        kept = _metadata(picture, path)
    if picture.mode in ("CMYK", "YCCK"):
        kept.pop("icc_profile", None)  # the profile describes the inks
    alpha = Alpha(array.shape[2] - 1) if array.ndim == 3 and array.shape[2] in (2, 4) else None
    return array, ImageInfo("YXS"[: array.ndim], kept, notes=tuple(notes), alpha=alpha)


def _mode(picture: Any, path: Path, notes: list[str]) -> str:
    """Return the mode to read a picture in, and note what is converted."""
    mode = str(picture.mode)
    transparent = "transparency" in picture.info
    if mode == "P":
        grey = all(r == g == b for r, g, b in _palette(picture, path))
        kinds = ("grey values", "grey values with alpha", "colours", "colours with alpha")
        kind = 2 * (not grey) + transparent
        notes.append(f"the palette was converted to {kinds[kind]}")
        return ("L", "LA", "RGB", "RGBA")[kind]
    if transparent and mode in ("1", "L", "RGB"):
        notes.append("the transparent colour was converted to alpha")
        return "RGBA" if mode == "RGB" else "LA"
    if transparent and mode in ("I;16", "I"):
        raise FileError(
            f"cannot read {path}: a transparent grey value of 16 bits is not supported. Convert it "
            "to TIFF with alpha"
        )
    if mode in ("CMYK", "YCCK"):
        notes.append("the inks (CMYK) were converted to RGB, without their colour profile")
    return mode if mode in MODES else "RGB"


def _palette(picture: Any, path: Path) -> list[tuple[int, ...]]:
    """Return the colours of a palette that pixels refer to."""
    colours = picture.getpalette("RGB") or []
    triples = [tuple(colours[i : i + 3]) for i in range(0, len(colours), 3)]
    highest = int(picture.getextrema()[1])
    if highest >= len(triples):
        raise FileError(
            f"cannot read {path}: its palette has {len(triples)} colours, and a pixel refers to "
            f"number {highest}. Export it again"
        )
    return triples[: highest + 1]


def _in_mode(picture: Any, mode: str) -> Any:
    """Return a picture in another mode; a transparent colour becomes alpha."""
    from PIL import Image  # start-up time

    if picture.mode == mode:
        return picture
    if mode in ("L", "LA"):  # through colours, because transparency is lost on the direct way
        wide = picture.convert("RGBA")
        red, alpha = wide.getchannel("R"), wide.getchannel("A")
        return red if mode == "L" else Image.merge("LA", (red, alpha))
    return picture.convert(mode)


def _upright(array: Array, orientation: int) -> Array:
    """Return a picture turned by its EXIF orientation, 2 .. 8."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _metadata(picture: Any, path: Path) -> dict[str, Any]:
    """Return the metadata that a picture of the same format is written with."""
    info = picture.info
    kept = {k: info[k] for k in ("dpi", "icc_profile", "comment") if info.get(k)}
    exif = picture.getexif()
    if len(exif):
        exif[ORIENTATION] = 1
        kept["exif"] = exif.tobytes()
    xmp = info.get("xmp")
    if xmp and b"Orientation" not in (xmp if isinstance(xmp, bytes) else str(xmp).encode()):
        kept["xmp"] = xmp
    texts = {k: str(v) for k, v in getattr(picture, "text", {}).items() if "xmp" not in k.lower()}
    if texts:
        kept["text"] = texts
    if getattr(picture, "is_animated", False):
        kept["animation"] = {k: info[k] for k in ANIMATION if k in info}
    chunks = _light_chunks(path) if picture.format == "PNG" else ()
    if chunks:
        kept["light"] = chunks
    return kept


def _light_chunks(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    """Return the chunks of a PNG that say what its numbers look like."""
    found = []
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND") or size > 1 << 24:
                break
            data = file.read(size)
            file.seek(4, 1)  # checksum
            aspect = name == b"pHYs" and data[8:] == b"\0"  # of a pixel, without a unit
            if name in LIGHT_CHUNKS or aspect:
                found.append((name, data))
    return tuple(found)


def _refuse_deep_colour(path: Path) -> None:
    """Refuse 16-bit colours, which Pillow would silently cut to 8 bits."""
    with path.open("rb") as file:
        head = file.read(26)
    if head.startswith(b"\x89PNG") and len(head) == 26 and head[24] == 16 and head[25] != 0:
        raise FileError(
            f"cannot read {path}: a PNG with 16-bit colours would lose half of them here. "
            "Convert it to TIFF"
        )


@contextlib.contextmanager
def _no_pixel_limit() -> Iterator[None]:
    """Lift the pixel limit of Pillow, which large photographs exceed; memory is checked instead."""
    from PIL import Image  # start-up time

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def light_notes(array: Array, info: ImageInfo) -> tuple[str, ...]:
    """Return notes on what `as_light` converts."""
    notes = []
    if info.options.get("inks") and array.ndim == 3 and array.shape[2] == 4:
        notes.append("the inks (CMYK) were converted to RGB, without their colour profile")
    if info.options.get("white_is_zero") and array.ndim == 2:
        notes.append("0 was white: the numbers were inverted")
    if info.options.get("orientation", 1) in range(2, 9):
        notes.append("the picture was turned upright, as its metadata say")
    return tuple(notes)


def as_light(array: Array, info: ImageInfo) -> Array:
    """Return samples as pictures have them, from those of other formats: inks, 0 as white, not upright."""
    full = 1 if array.dtype.kind == "b" else np.iinfo(array.dtype).max
    if info.options.get("inks") and array.ndim == 3 and array.shape[2] == 4:
        inks = array.astype(np.int64)
        light = (full - inks[..., :3]) * (full - inks[..., 3:])
        array = np.asarray((light + full // 2) // full, array.dtype)
    if info.options.get("white_is_zero") and array.ndim == 2:
        array = np.asarray(~array if full == 1 else full - array)
    turned = info.options.get("orientation", 1)
    return _upright(array, turned) if turned in range(2, 9) else array


def _writer(
    kind: str, quality: int | None = None
) -> Callable[[BinaryIO, Array, ImageInfo, Path], tuple[str, ...]]:
    def write(file: BinaryIO, array: Array, info: ImageInfo, path: Path) -> tuple[str, ...]:
        _saved_as(array, info).save(file, kind, **_save_options(kind, info, quality))
        return light_notes(array, info)

    return write


def _saved_as(array: Array, info: ImageInfo) -> Any:
    from PIL import Image  # start-up time

    native = as_light(array.astype(array.dtype.newbyteorder("="), copy=False), info)
    return Image.fromarray(np.ascontiguousarray(native))


def _save_options(kind: str, info: ImageInfo, quality: int | None = None) -> dict[str, Any]:
    """Return the options of Pillow that keep the metadata of a picture."""
    from PIL import PngImagePlugin  # start-up time

    options = {k: v for k, v in info.options.items() if k in KEPT}
    texts, light = options.pop("text", {}), options.pop("light", ())
    if kind == "PNG":
        chunks = options["pnginfo"] = PngImagePlugin.PngInfo()
        for name, data in light:
            chunks.add(name, data)
        for key, text in texts.items():
            chunks.add_itxt(key, text)
        options.pop("comment", None)
    if kind == "BMP":
        options = {k: v for k, v in options.items() if k == "dpi"}
    if quality is not None:
        options["quality"] = quality
    return options


def _several_writer(
    kind: str, quality: int | None = None
) -> Callable[[BinaryIO, Sequence[tuple[Array, ImageInfo]], Path], tuple[str, ...]]:
    """Return a function that writes the frames of an animation (PNG), or several photographs (JPEG)."""

    def write(
        file: BinaryIO, images: Sequence[tuple[Array, ImageInfo]], path: Path
    ) -> tuple[str, ...]:
        pictures = [_saved_as(array, info) for array, info in images]
        first = images[0][1]
        if kind == "PNG":
            sizes = {picture.size for picture in pictures}
            if len(sizes) > 1:
                raise FileError(
                    f"cannot write {path}: the pictures of an animation have one size; got "
                    f"{', '.join(f'{w}x{h}' for w, h in sorted(sizes))}. Write .tif"
                )
            pictures = _in_one_mode(pictures)
        more: dict[str, Any] = {}
        known = [info.options.get("animation", {}) for _, info in images]
        if kind == "PNG" and len(images) > 1:
            more = {k: v for k, v in known[0].items() if k != "duration"}
            times = [one.get("duration", 0) for one in known]
            more["duration"] = times[bool(more.get("default_image")) :]
        options = {**_save_options(kind, first, quality), **more}
        kind_of_file = "MPO" if kind == "JPEG" and len(images) > 1 else kind
        pictures[0].save(file, kind_of_file, save_all=True, append_images=pictures[1:], **options)
        notes = (note for array, info in images for note in light_notes(array, info))
        return tuple(dict.fromkeys(notes))

    return write


def _in_one_mode(pictures: list[Any]) -> list[Any]:
    """Return frames in one mode: with alpha or colours if one of them has."""
    modes = {picture.mode for picture in pictures}
    if len(modes) == 1:
        return pictures
    colour = any(mode.startswith("RGB") for mode in modes)
    alpha = any(mode.endswith("A") for mode in modes)
    common = ("RGB" if colour else "L") + ("A" if alpha else "")
    return [picture.convert(common) for picture in pictures]


def picture_refuser(
    name: str, grey: tuple[str, ...], samples: tuple[int, ...]
) -> Callable[[tuple[int, ...], np.dtype[Any]], str]:
    """Return the function `Format.refuse` of a picture format.

    Parameters
    ----------
    name : str
        Name of the format.
    grey : tuple of str
        Data types that it holds without colours; with colours it holds uint8.
    samples : tuple of int
        Numbers of samples per pixel that it holds beside one.
    """

    def refuse(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
        if 0 in shape:
            return f"an empty image of shape {shape} is not a {name} picture. Write .npy"
        if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in samples)):
            last = " or ".join(map(str, samples))
            return (
                f"a {name} picture has shape (y, x) or (y, x, {last}); got {shape}. "
                "Write .tif or .npy"
            )
        held = grey if len(shape) == 2 else ("uint8",)
        if dtype.newbyteorder("=").name not in held:
            colour = "" if len(shape) == 2 else " in colour"
            return (
                f"{name} holds {' or '.join(held)}{colour}; got {dtype.name}. "
                "Write .tif or .npy, or make it uint8 (--dtype uint8)"
            )
        return ""

    return refuse


NOT_IN_PICTURES = (
    "missing value, missing value outside the type, valid range, scale and offset, spacing, "
    "spacing in several units, contradicting spacing, position and direction, georeference, "
    "axis names, coordinates, resolution levels, groups, incomplete series, tilted slices"
)

PNG = Format(
    name="PNG",
    suffixes=(".png",),
    signatures=(b"\x89PNG",),
    read=read_picture,
    write=_writer("PNG"),
    count=count_pictures,
    read_one=read_picture,
    write_several=_several_writer("PNG"),
    refuse=picture_refuser("PNG", ("uint8", "uint16", "bool"), (2, 3, 4)),
    keeps=metadata_kept("axes", "inks", "white_is_zero"),
    on_grid=picture_on_grid,
    statements=answers_of(
        kept={
            "colour samples": "",
            "colour profile": "ICC profile, gAMA, cHRM and sRGB",
            "print resolution": "",
            "other metadata": "EXIF, XMP and texts",
            "several images": "all frames of an animation are filtered, with their durations; --image N "
            "takes one",
        },
        converted={
            "palette": "to grey values if all its colours are grey, else to RGB",
            "transparent colour": "tRNS becomes alpha",
            "rotation": "the picture is turned upright",
            "sample depth": "2 and 4 bits become 8; 1 bit is read as bool; colours of 16 bits are refused",
        },
        obeyed={"alpha": "colours are weighted by it (normalised convolution)"},
        cannot_occur="several bands, planar colour, white is zero, CMYK, CIELab, YCbCr, "
        "unknown colour space, premultiplied alpha," + NOT_IN_PICTURES,
    ),
)
JPEG = Format(
    name="JPEG",
    suffixes=(".jpg", ".jpeg"),
    signatures=(b"\xff\xd8\xff",),
    read=read_picture,
    write=_writer("JPEG", quality=JPEG_QUALITY),
    count=count_pictures,
    read_one=read_picture,
    write_several=_several_writer("JPEG", quality=JPEG_QUALITY),
    refuse=picture_refuser("JPEG", ("uint8",), (3,)),
    keeps=metadata_kept("axes", "inks", "white_is_zero"),
    on_grid=picture_on_grid,
    statements=answers_of(
        kept={
            "colour samples": "",
            "colour profile": "ICC profile, except that of inks",
            "print resolution": "",
            "other metadata": "EXIF, XMP and the comment",
            "several images": "all pictures of an MPO file are filtered; --image N takes one",
        },
        converted={
            "CMYK": "to RGB",
            "YCbCr": "to RGB, and back when it is written",
            "rotation": "the picture is turned upright",
        },
        refused={"sample depth": "12 bits"},
        cannot_occur="several bands, planar colour, palette, white is zero, CIELab, "
        "unknown colour space, alpha, premultiplied alpha, transparent colour," + NOT_IN_PICTURES,
    ),
)
BMP = Format(
    name="BMP",
    suffixes=(".bmp",),
    signatures=(b"BM",),
    read=read_picture,
    write=_writer("BMP"),
    refuse=picture_refuser("BMP", ("uint8", "bool"), (3,)),
    keeps=metadata_kept("axes", "inks", "white_is_zero"),
    on_grid=picture_on_grid,
    statements=answers_of(
        kept={"colour samples": "", "print resolution": ""},
        converted={
            "palette": "to grey values if all its colours are grey, else to RGB",
            "sample depth": "4 and 5 bits become 8; 1 bit is read as bool",
        },
        obeyed={"alpha": "as in PNG; the result is written as PNG or TIFF, not as BMP"},
        cannot_occur="several bands, planar colour, white is zero, CMYK, CIELab, YCbCr, "
        "unknown colour space, colour profile, premultiplied alpha, transparent colour, rotation, "
        "several images, other metadata," + NOT_IN_PICTURES,
    ),
)
