"""Cases of GIF: written by Pillow, and read back by imageio and OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
from picture_statements import COLOUR, GREY, box, close, opened, over_alpha, seen, visible
from PIL import Image
from statement_cases import Run, case

FEW = (COLOUR // 64) * 64  # at most 64 colours


def indexed(colours: np.ndarray) -> Image.Image:
    """Return a picture with an exact palette."""
    return Image.fromarray(colours).quantize(
        256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    )


def frames_of(path: Path) -> list[np.ndarray]:
    """Read all frames in colours, each as a viewer shows it."""
    return list(imageio.imread(path, index=None, mode="RGB", plugin="pillow"))


@case("GIF", "palette")
def palette(run: Run) -> None:
    source = run.folder / "in.gif"
    Image.fromarray(GREY).save(source)
    np.testing.assert_array_equal(np.asarray(opened(run(source)).convert("L")), box(GREY))
    assert "the palette was converted to grey values" in run.text
    plain = np.zeros((20, 26, 3), np.uint8)
    plain[:, 13:] = (200, 40, 90)
    indexed(plain).save(source)
    result = run(source, "box:1x3")
    np.testing.assert_array_equal(seen(result), box(np.asarray(opened(source).convert("RGB")))[:20])
    assert "the palette was converted to colours" in run.text
    assert "were reduced" not in run.text  # four colours fit into a palette
    indexed(FEW).save(source)
    expected = box(np.asarray(opened(source).convert("RGB")))
    found = np.asarray(opened(run(source)).convert("RGB"))
    assert np.abs(found.astype(int) - expected).mean() < 12
    assert "GIF holds 256 colours per frame" in run.text
    np.testing.assert_array_equal(seen(run(source, target=".png")), expected)


@case("GIF", "transparent colour")
def transparent(run: Run) -> None:
    picture = indexed(FEW)
    source = run.folder / "in.gif"
    picture.save(source, transparency=int(np.asarray(picture)[0, 0]))
    before = np.asarray(opened(source).convert("RGBA"))
    assert 0 < (before[..., 3] == 0).sum() < before[..., 3].size
    visible(seen(run(source, target=".png")), over_alpha(before))
    expected = over_alpha(before)[..., 3]
    alpha = np.asarray(opened(run(source)).convert("RGBA"))[..., 3]
    clear = np.abs(expected - 127.5) > 1
    np.testing.assert_array_equal((alpha > 127)[clear], (expected > 127)[clear])
    assert "alpha was rounded" in run.text


@case("GIF", "several images", "other metadata")
def animation(run: Run) -> None:
    frames = [np.roll(GREY, 3 * number, 0) for number in range(3)]
    first, *others = map(Image.fromarray, frames)
    source = run.folder / "in.gif"
    first.save(source, save_all=True, append_images=others, duration=[70, 80, 90], loop=3,
               comment=b"a comment")  # fmt: skip
    result = run(source)
    for found, frame in zip(frames_of(result), frames, strict=True):
        np.testing.assert_array_equal(found[..., 0], box(frame))
    with Image.open(result) as found:
        assert (found.info["loop"], found.info["comment"]) == (3, b"a comment")
        times = []
        for number in range(3):
            found.seek(number)
            times.append(found.info["duration"])
    assert times == [70, 80, 90]
    assert "filtered all 3 images of the file" in run.text
    assert cv2.imread(str(result)) is not None
    np.testing.assert_array_equal(seen(run(source, image=2, target=".png")), box(frames[1]))
    assert "filtered image 2 of 3; choose with --image N" in run.text
    with Image.open(run(source, target=".png")) as found:
        assert getattr(found, "n_frames", 1) == 3
    run.refused(source, r"`-?-?image` must be 1 \.\. 3, all or auto, for .*; got 4", image=4)


@case("GIF", "several images")
def moving_hole(run: Run) -> None:
    """Holes of a frame do not show the frame before."""
    frames = []
    for number in range(3):
        frame = np.zeros((20, 26, 4), np.uint8)
        frame[2:8, 3 + 6 * number : 9 + 6 * number] = (200, 10 * number, 30, 255)
        frames.append(Image.fromarray(frame))
    source = run.folder / "in.gif"
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=50, disposal=2)
    with Image.open(run(source)) as found:
        for number in range(3):
            found.seek(number)
            shown = np.argwhere(np.asarray(found.convert("RGBA"))[..., 3])
            close(shown.min(0), np.array([2, 3 + 6 * number]))
            close(shown.max(0), np.array([7, 8 + 6 * number]))
