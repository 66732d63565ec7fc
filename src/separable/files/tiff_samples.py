"""The meaning of the samples of a TIFF image: colours, palettes, inks, alpha, and how they lie in the file.

A page says with its photometric code what its samples are. `meaning_of` reads that, `Meaning.convert` turns
stored samples into those that are filtered, and `layout_settings` returns the options with which tifffile
writes them again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.image_info import Alpha, Array, ImageInfo

__all__ = ["Meaning", "layout_settings", "meaning_of", "samples_last"]

WHITE, BLACK, RGB, PALETTE, MASK, INKS, YCBCR = range(7)  # photometric codes
CIELAB = 8
COLOURS = {
    WHITE: 1,
    BLACK: 1,
    RGB: 3,
    PALETTE: 1,
    MASK: 1,
    YCBCR: 3,
    CIELAB: 3,
}  # samples that each needs
REFUSED = {
    9: "ICCLab", 10: "ITULab", 32803: "CFA, a mosaic of a camera", 32844: "LogL",
    32845: "LogLuv", 34892: "LinearRaw, of a camera", 51177: "a depth map", 52527: "a mask of regions",
}  # fmt: skip
JPEG_CODES = (6, 7, 33007, 34892)  # compressions whose decoder returns RGB for YCbCr
UNKNOWN, PREMULTIPLIED, STRAIGHT = range(3)  # codes of extra samples
SMOOTH = 1 << 13  # of 65535: the largest step of a table that shows intensities in false colours
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, in ITU-R BT.601


@dataclass(frozen=True)
class Meaning:
    """The samples of an image, as they are filtered.

    Attributes
    ----------
    dtype : dtype
        Data type after `convert`.
    samples : int
        Number of samples per pixel after `convert`; 0 if there is no axis for them.
    convert : callable, optional
        ``(stored) -> meant``, for arrays that hold all samples of their pixels on the last axis.
    options : dict
        Entries of `ImageInfo.options`, from which the file is written again.
    alpha : Alpha, optional
    notes : tuple of str
    """

    dtype: np.dtype[Any]
    samples: int
    convert: Callable[[Array], Array] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    alpha: Alpha | None = None
    notes: tuple[str, ...] = ()


def samples_last(axes: str) -> tuple[int, ...] | None:
    """Return the order of axes that puts the samples last, or None if they are or there are none.

    Examples
    --------
    >>> samples_last("QSYX"), samples_last("YXS")
    ((0, 2, 3, 1), None)
    """
    if "S" not in axes or axes.endswith("S"):
        return None
    at = axes.index("S")
    return (*(i for i in range(len(axes)) if i != at), at)


def meaning_of(path: Path, page: Any, dtype: np.dtype[Any], intensities: bool = False) -> Meaning:
    """Return what the samples of a page mean.

    Parameters
    ----------
    path : Path
        Name of the file, for messages.
    page : tifffile.TiffPage
    dtype : dtype
        Type of the stored samples.
    intensities : bool
        Whether a palette colours intensities, as ImageJ's do.

    Raises
    ------
    FileError
        If the colour space is unknown or not supported, statements contradict each other, or a
        palette is too short.
    """
    code = BLACK if page.photometric is None else int(page.photometric)
    _check_colours(path, page, code)
    count = int(page.samplesperpixel)
    samples = count if count > 1 else 0
    if code == PALETTE:
        return _palette(path, page, dtype, intensities)
    if code == YCBCR and int(page.compression) not in JPEG_CODES:
        return _luminance(path, page, dtype)
    if code == CIELAB:
        return _lightness(path, page, dtype)
    options: dict[str, Any] = {}
    notes: list[str] = []
    if code == WHITE:
        options["white_is_zero"] = True
    if code == INKS:
        options["inks"] = True
    extra = tuple(int(e) for e in page.extrasamples)
    if samples:
        options["samples"] = {
            "colour": code in (RGB, YCBCR), "extra": extra, "planar": int(page.planarconfig) == 2
        }  # fmt: skip
    alpha = None
    seen = [i for i, e in enumerate(extra) if e in (PREMULTIPLIED, STRAIGHT)]
    if seen:
        alpha = Alpha(count - len(extra) + seen[0], extra[seen[0]] == PREMULTIPLIED)
    if code == YCBCR:
        notes.append("the colours were converted from YCbCr to RGB")
    convert = _widened(page, dtype, code, notes)
    return Meaning(dtype, samples, convert, options, alpha, tuple(notes))


def _check_colours(path: Path, page: Any, code: int) -> None:
    """Refuse unknown colour spaces, and statements about samples that contradict each other."""
    count, extra = int(page.samplesperpixel), len(page.extrasamples)
    if code in REFUSED:
        raise FileError(
            f"cannot read {path}: its colour space is {REFUSED[code]}, whose numbers cannot be "
            "filtered. Convert it to RGB or grey values"
        )
    if code not in COLOURS and code != INKS:
        raise FileError(
            f"cannot read {path}: its colour space (photometric {code}) is unknown. Convert it to RGB "
            "or grey values"
        )
    needed = COLOURS.get(code, 1)
    if count - extra < needed or extra >= count:
        raise FileError(
            f"cannot read {path}: its header contradicts itself: photometric {code} needs {needed} "
            f"samples per pixel beside {extra} extra ones; it says {count}. Export it again"
        )
    if code == PALETTE and count > 1:
        raise FileError(
            f"cannot read {path}: it has a palette and {count} samples per pixel; expected 1. Convert it "
            "to RGB"
        )


def _widened(
    page: Any, dtype: np.dtype[Any], code: int, notes: list[str]
) -> Callable[[Array], Array] | None:
    """Return the conversion of 2 or 4 bits to the range of 8, or None."""
    bits = int(page.bitspersample)
    if dtype != np.uint8 or not 1 < bits < 8 or code == INKS:
        return None
    factor = np.uint8(255 // (2**bits - 1))
    notes.append(f"samples of {bits} bits were scaled to 8 bits")
    return lambda stored: np.asarray(stored * factor, np.uint8)


# Palettes


def _palette(path: Path, page: Any, dtype: np.dtype[Any], intensities: bool) -> Meaning:
    table = page.colormap
    bits = int(page.bitspersample)
    if dtype.kind != "u" or table is None or np.ndim(table) != 2 or len(table) != 3:
        raise FileError(
            f"cannot read {path}: its header says palette and has no table of three colours for "
            f"samples of {dtype}. Export it again"
        )
    table = np.asarray(table, np.uint16)
    if table.shape[1] < 2**bits:
        raise FileError(
            f"cannot read {path}: its palette has {table.shape[1]} colours; samples of {bits} bits "
            f"need {2**bits}. Export it again"
        )
    grey = bool((table == table[0]).all())
    if intensities or grey or _is_smooth(table):
        kind = "grey" if grey else "false-colour"
        note = f"filtered the intensities and kept the {kind} table"
        return Meaning(dtype, 0, None, {"colormap": _full(table, dtype)}, None, (note,))
    eight = table.max() < 256  # some programs write 8-bit tables
    colours = np.ascontiguousarray((table if eight else table >> 8).T.astype(np.uint8))
    note = "the palette was converted to colours"
    options = {"samples": {"colour": True, "extra": (), "planar": False}}
    return Meaning(np.dtype(np.uint8), 3, lambda stored: colours[stored], options, None, (note,))


def _is_smooth(table: Array) -> bool:
    """Return whether neighbouring entries have similar colours, so that entries mean intensities."""
    steps = np.abs(np.diff(table.astype(np.int64), axis=1))
    return bool(steps.max(initial=0) <= SMOOTH and np.ptp(table, axis=1).max() > 0)


def _full(table: Array, dtype: np.dtype[Any]) -> Array:
    """Return a table with one entry per value of the type; the last one is repeated."""
    missing = 2 ** (8 * dtype.itemsize) - table.shape[1]
    return np.pad(table, ((0, 0), (0, max(0, missing))), mode="edge")


# Luminance and colour differences


def _luminance(path: Path, page: Any, dtype: np.dtype[Any]) -> Meaning:
    """Return the conversion from YCbCr to RGB (TIFF 6.0, section 21)."""
    sampling = tuple(int(n) for n in (_tag(page, 530) or (2, 2)))
    if dtype != np.uint8 or int(page.samplesperpixel) != 3 or sampling != (1, 1):
        raise FileError(
            f"cannot read {path}: its colour space is YCbCr with subsampling {sampling} and "
            f"{page.samplesperpixel} samples of {dtype}; expected (1, 1) and 3 of uint8. Convert it to RGB"
        )
    red, green, blue = _fractions(_tag(page, 529)) or LUMA
    range_ = _fractions(_tag(page, 532)) or (0, 255, 128, 255, 128, 255)
    low, high = np.array(range_[::2], float), np.array(range_[1::2], float)
    full = np.array([255.0, 127.0, 127.0])
    if not (green > 0 and np.all(high > low)):
        raise FileError(
            f"cannot read {path}: its YCbCr coefficients {red:g}, {green:g}, {blue:g} and range "
            f"{range_} contradict each other. Convert it to RGB"
        )

    def convert(stored: Array) -> Array:
        y, cb, cr = np.moveaxis((stored - low) * (full / (high - low)), -1, 0)
        r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
        g = (y - blue * b - red * r) / green
        return np.asarray(np.rint(np.clip(np.stack([r, g, b], -1), 0, 255)), np.uint8)

    options = {"samples": {"colour": True, "extra": (), "planar": int(page.planarconfig) == 2}}
    note = "the colours were converted from YCbCr to RGB"
    return Meaning(dtype, 3, convert, options, None, (note,))


def _lightness(path: Path, page: Any, dtype: np.dtype[Any]) -> Meaning:
    """Return the conversion from CIELab of 8 bits to sRGB, by LittleCMS (white point D50)."""
    if dtype != np.uint8 or int(page.samplesperpixel) != 3:
        raise FileError(
            f"cannot read {path}: its colour space is CIELab with {page.samplesperpixel} samples of {dtype}; "
            "expected 3 of uint8. Convert it to RGB"
        )

    def convert(stored: Array) -> Array:
        from PIL import Image, ImageCms  # start-up time

        colours: Any = ImageCms
        ends = (colours.createProfile("LAB"), colours.createProfile("sRGB"))
        transform = colours.buildTransform(*ends, "LAB", "RGB")
        size = (stored.shape[-2], stored.size // (3 * stored.shape[-2]))
        picture = Image.frombytes("LAB", size, np.ascontiguousarray(stored).tobytes(), "raw", "LAB")
        found = colours.applyTransform(picture, transform)
        return np.asarray(found, np.uint8).reshape(stored.shape)

    options = {"samples": {"colour": True, "extra": (), "planar": int(page.planarconfig) == 2}}
    note = "the colours were converted from CIELab to sRGB"
    return Meaning(dtype, 3, convert, options, None, (note,))


def _tag(page: Any, code: int) -> Any:
    return page.tags[code].value if code in page.tags else None


def _fractions(values: Any) -> tuple[float, ...]:
    """Return the values of rational numbers, which tifffile gives as pairs in one tuple."""
    if not values:
        return ()
    pairs = np.reshape(np.array(values, float), (-1, 2))
    return tuple(np.divide(pairs[:, 0], np.where(pairs[:, 1] == 0, 1, pairs[:, 1])).tolist())


# Writing


def layout_settings(info: ImageInfo, samples: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the options of tifffile that say what the samples are and how they lie in the file.

    Parameters
    ----------
    info : ImageInfo
    samples : int
        Samples per pixel; 0 if there is no axis for them.
    dtype : dtype

    Examples
    --------
    >>> layout_settings(ImageInfo("YXS"), 3, np.dtype("float32"))
    {'photometric': 'rgb', 'planarconfig': 'contig'}
    >>> layout_settings(ImageInfo("YX", {"white_is_zero": True}), 0, np.dtype("uint8"))
    {'photometric': 'miniswhite'}
    """
    options = info.options
    if samples < 2:
        table = options.get("colormap")
        entries = 0 if table is None else table.shape[1]
        if dtype.name in ("uint8", "uint16") and entries == 2 ** (8 * dtype.itemsize):
            return {"photometric": "palette", "colormap": table}
        return {"photometric": "miniswhite" if options.get("white_is_zero") else "minisblack"}
    kept = options.get("samples", {})
    extra = list(kept.get("extra", ()))
    inks = bool(options.get("inks")) and samples - len(extra) >= 1
    colour = kept.get("colour", info.alpha is not None or samples in (3, 4)) and samples >= 3
    own = 3 if colour else samples - len(extra) if inks else 1
    if len(extra) != samples - own:
        extra = [UNKNOWN] * (samples - own)
        if info.alpha is not None:
            extra[info.alpha.index - own] = 1 if info.alpha.premultiplied else 2
        elif colour and samples == 4 and not kept:
            extra = [STRAIGHT]  # four samples that nobody describes are RGBA
    white = bool(options.get("white_is_zero"))
    grey = "miniswhite" if white else "minisblack"
    settings: dict[str, Any] = {
        "photometric": "separated" if inks else "rgb" if colour else grey,
        "planarconfig": "separate" if kept.get("planar") else "contig",
    }
    if extra:
        settings["extrasamples"] = extra
    return settings
