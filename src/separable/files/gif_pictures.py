"""The GIF format: pictures and animations with a palette of at most 256 colours per frame, by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from separable.files.file_format import Format, metadata_kept
from separable.files.grid_options import picture_on_grid
from separable.files.image_info import Alpha, Array, ImageInfo
from separable.files.pictures import (
    NOT_IN_PICTURES,
    as_light,
    count_pictures,
    light_notes,
    picture_refuser,
    read_picture,
)
from separable.files.statements import answers_of

__all__ = ["GIF"]

COLOURS = 256  # that a frame can have, the transparent one among them
LZW_RATIO = 3 * 4096  # largest number of samples per stored byte: an index becomes three samples
OPAQUE = 128  # the smallest opacity that is shown
RESTORED = 2  # code of GIF: the background is shown again before the next frame


def _read_gif(path: Path, number: int = 1) -> tuple[Array, ImageInfo]:
    array, info = read_picture(path, number, ratio=LZW_RATIO)
    # Pillow returns the second and later frames in colours, also where all of them are grey.
    colours = number > 1 and array.ndim == 3 and array.shape[2] > 2
    if colours and (array[..., :1] == array[..., 1:3]).all():
        opaque = array.shape[2] == 3
        array = np.ascontiguousarray(array[..., 0] if opaque else array[..., [0, 3]])
        info = replace(info, axes="YX" if opaque else "YXS", alpha=None if opaque else Alpha(1))
    return array, info


def _write_gif(file: BinaryIO, array: Array, info: ImageInfo, path: Path) -> tuple[str, ...]:
    return _write_frames(file, [(array, info)], path)


def _write_frames(
    file: BinaryIO, images: Sequence[tuple[Array, ImageInfo]], path: Path
) -> tuple[str, ...]:
    """Write the frames of an animation, and return notes on what a palette cannot hold."""
    made = [_indexed(as_light(array, info)) for array, info in images]
    frames = [frame for frame, _ in made]
    known = [info.options.get("animation", {}) for _, info in images]
    options: dict[str, Any] = {k: v for k, v in known[0].items() if k == "loop"}
    times = [one["duration"] for one in known if "duration" in one]
    if len(times) == len(images) > 1:
        options["duration"] = times
    if images[0][1].options.get("comment"):
        options["comment"] = images[0][1].options["comment"]
    if any("transparency" in frame.info for frame in frames):
        options["disposal"] = RESTORED  # else the frame before would be seen through holes
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], optimize=False, **options)
    notes = [note for array, info in images for note in light_notes(array, info)]
    return tuple(dict.fromkeys([*notes, *(note for _, told in made for note in told)]))


def _indexed(array: Array) -> tuple[Any, tuple[str, ...]]:
    """Return a picture with a palette: exact if it has few colours; and notes on what is lost."""
    from PIL import Image  # start-up time

    if array.ndim == 2:  # at most 256 grey values
        return Image.fromarray(np.asarray(array * 255 if array.dtype.kind == "b" else array)), ()
    notes: list[str] = []
    alpha = array[..., -1] if array.shape[2] in (2, 4) else None
    colours = np.repeat(array[..., :1], 3, -1) if array.shape[2] < 3 else array[..., :3]
    colours = np.ascontiguousarray(colours)
    hidden = np.zeros(colours.shape[:2], bool) if alpha is None else alpha < OPAQUE
    if alpha is not None and ((alpha > 0) & (alpha < 255)).any():
        notes.append(
            "pixels are opaque or transparent in GIF: alpha was rounded. PNG keeps it: write .png"
        )
    colours[hidden] = 0
    most = COLOURS - bool(hidden.any())
    codes = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, indices = np.unique(codes, return_inverse=True)
    if len(found) <= most:
        table = np.stack([found >> 16, found >> 8 & 255, found & 255], -1).astype(np.uint8)
        indices = indices.reshape(codes.shape).astype(np.uint8)
    else:
        notes.append(
            f"GIF holds {COLOURS} colours per frame: the colours were reduced. PNG keeps all of them: "
            "write .png"
        )
        few = Image.fromarray(colours).quantize(
            most, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
        table = np.reshape(few.getpalette("RGB") or [], (-1, 3)).astype(np.uint8)
        indices = np.array(few)
    frame = Image.fromarray(np.where(hidden, len(table), indices).astype(np.uint8), "P")
    if hidden.any():
        table = np.concatenate([table, np.zeros((1, 3), np.uint8)])
        frame.info["transparency"] = len(table) - 1
    frame.putpalette(table.tobytes(), "RGB")
    return frame, tuple(notes)


GIF = Format(
    name="GIF",
    suffixes=(".gif",),
    signatures=(b"GIF8",),
    read=_read_gif,
    write=_write_gif,
    count=count_pictures,
    read_one=_read_gif,
    write_several=_write_frames,
    refuse=picture_refuser("GIF", ("uint8", "bool"), (2, 3, 4)),
    keeps=metadata_kept("axes", "inks", "white_is_zero"),
    on_grid=picture_on_grid,
    statements=answers_of(
        kept={
            "other metadata": "the comment",
            "several images": "all frames of an animation are filtered, with their durations; --image N "
            "takes one",
        },
        converted={
            "palette": "to grey values if all its colours are grey, else to RGB; a result has a palette of its "
            "own for each frame, and a note says where its colours were reduced to 256",
            "transparent colour": "to alpha; in the result, pixels that are less than half opaque are "
            "transparent, and a note says so",
        },
        cannot_occur="colour samples, several bands, planar colour, white is zero, CMYK, CIELab, YCbCr, "
        "unknown colour space, colour profile, alpha, premultiplied alpha, rotation, sample depth, "
        "print resolution," + NOT_IN_PICTURES,
    ),
)
