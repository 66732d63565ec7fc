"""The picture formats PNG, JPEG and BMP, read with imageio and Pillow."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.errors import FileError
from separable.files.diagnostics import check_memory, check_packed
from separable.files.file_format import Format, metadata_kept
from separable.files.image_info import Array, ImageInfo

__all__ = ["BMP", "JPEG", "PNG"]

JPEG_QUALITY = 95


def _read_picture(path: Path) -> tuple[Array, ImageInfo]:
    # Imported here for start-up time: imageio takes 0.1 s.
    import imageio.v3 as iio

    _refuse_deep_colour(path)
    file: Any  # of the Pillow plugin of imageio, which has further options
    with _no_pixel_limit(), iio.imopen(path, "r", plugin="pillow") as file:
        properties = file.properties(index=0)
        check_memory(path, properties.shape, properties.dtype)
        check_packed(path, math.prod(properties.shape) * properties.dtype.itemsize)
        meta = file.metadata(index=0)
        inks = meta.get("mode") == "CMYK"
        options: dict[str, Any] = {"mode": "RGB"} if inks else {}
        array = np.asarray(file.read(index=0, rotate=True, **options))
    kept = {k: meta[k] for k in ("dpi", "icc_profile") if meta.get(k)}
    if inks:
        kept.pop("icc_profile", None)  # the profile describes the inks
    return array, ImageInfo("YXS"[: array.ndim], kept)


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


def _writer(
    suffix: str, quality: int | None = None
) -> Callable[[BinaryIO, Array, ImageInfo, Path], None]:
    def write(file: BinaryIO, array: Array, info: ImageInfo, path: Path) -> None:
        import imageio.v3 as iio  # start-up time

        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        options = {k: v for k, v in info.options.items() if k in ("dpi", "icc_profile")}
        if quality is not None:
            options["quality"] = quality
        iio.imwrite(file, native, plugin="pillow", extension=suffix, **options)

    return write


def _refuser(
    name: str, grey: tuple[str, ...], samples: tuple[int, ...]
) -> Callable[[tuple[int, ...], np.dtype[Any]], str]:
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


PNG = Format(
    name="PNG",
    suffixes=(".png",),
    signatures=(b"\x89PNG",),
    read=_read_picture,
    write=_writer(".png"),
    refuse=_refuser("PNG", ("uint8", "uint16", "bool"), (2, 3, 4)),
    keeps=metadata_kept("axes"),
)
JPEG = Format(
    name="JPEG",
    suffixes=(".jpg", ".jpeg"),
    signatures=(b"\xff\xd8\xff",),
    read=_read_picture,
    write=_writer(".jpg", quality=JPEG_QUALITY),
    refuse=_refuser("JPEG", ("uint8",), (3,)),
    keeps=metadata_kept("axes"),
)
BMP = Format(
    name="BMP",
    suffixes=(".bmp",),
    signatures=(b"BM",),
    read=_read_picture,
    write=_writer(".bmp"),
    refuse=_refuser("BMP", ("uint8", "bool"), (3,)),
    keeps=metadata_kept("axes"),
)
