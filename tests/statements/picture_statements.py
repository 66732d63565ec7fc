"""Cases of PNG, JPEG and BMP: written by Pillow, read back by OpenCV."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image, ImageCms, PngImagePlugin
from scipy import ndimage
from statement_cases import Run, case

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (21, 26), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (21, 26, 3), dtype=np.uint8)
FORMATS = {"PNG": ".png", "JPEG": ".jpg", "BMP": ".bmp"}


def box(image: np.ndarray) -> np.ndarray:
    """Return the mean of 3x3 samples, rounded as the library promises."""
    wide = ndimage.uniform_filter(image.astype(float), (3, 3, 1)[: image.ndim], mode="reflect")
    return np.rint(np.clip(wide, 0, 255)).astype(np.uint8)


def seen(path: Path) -> np.ndarray:
    """Read a picture with OpenCV, with its colours in the order R, G, B, A."""
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None
    if found.ndim == 3:
        found = found[..., [2, 1, 0, 3][: found.shape[2]]]
    return found


def opened(path: Path) -> Image.Image:
    """Return a picture that Pillow has read and closed."""
    with Image.open(path) as picture:
        picture.load()
        return picture


def close(found: np.ndarray, expected: np.ndarray, levels: float = 1) -> None:
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= levels


@case("PNG", "colour samples")
@case("BMP", "colour samples")
def colour_samples(run: Run) -> None:
    for suffix in (".png", ".bmp"):
        source = run.folder / f"in{suffix}"
        Image.fromarray(COLOUR).save(source)
        np.testing.assert_array_equal(seen(run(source)), box(COLOUR))


@case("PNG", "colour samples")
def shipped_pictures(run: Run) -> None:
    """Pictures in the wheel of scikit-image."""
    folder = Path(skimage.data.__file__).parent
    for name in ("horse.png", "chessboard_GRAY.png", "color.png"):
        image = seen(folder / name)
        if image.ndim == 3 and image.shape[2] == 4:
            visible(seen(run(folder / name)), over_alpha(image))
        else:
            np.testing.assert_array_equal(seen(run(folder / name)), box(image))


def smooth_colours() -> np.ndarray:
    """A picture that JPEG stores nearly as it is."""
    y, x = np.mgrid[:64, :48]
    return np.stack([2 * y + 20, 3 * x + 30, 200 - y - x], -1).astype(np.uint8)


@case("JPEG", "colour samples", "YCbCr")
def jpeg_colours(run: Run) -> None:
    source = run.folder / "in.jpg"
    Image.fromarray(smooth_colours()).save(source, quality=100, subsampling=0)
    close(seen(run(source)), box(smooth_colours()), 4)


@case("JPEG", "CMYK")
def jpeg_inks(run: Run) -> None:
    source = run.folder / "in.jpg"
    picture = Image.fromarray(smooth_colours()).convert("CMYK")
    picture.save(source, quality=100)
    close(seen(run(source)), box(np.asarray(opened(source).convert("RGB"))), 4)
    assert "inks (CMYK) were converted to RGB" in run.text


@case("PNG", "palette")
@case("BMP", "palette")
def palette(run: Run) -> None:
    for suffix in (".png", ".bmp"):
        source = run.folder / f"in{suffix}"
        picture = Image.fromarray(COLOUR).quantize(32)
        picture.save(source)
        np.testing.assert_array_equal(seen(run(source)), box(np.asarray(picture.convert("RGB"))))
        assert "the palette was converted to colours" in run.text
        ramp = Image.fromarray(GREY // 8)
        ramp.putpalette([v for i in range(32) for v in (255 - 8 * i,) * 3])
        ramp.save(run.folder / f"ramp{suffix}")
        np.testing.assert_array_equal(
            seen(run(run.folder / f"ramp{suffix}")), box(255 - 8 * (GREY // 8))
        )
        assert "the palette was converted to grey values" in run.text


def over_alpha(image: np.ndarray) -> np.ndarray:
    """Filter premultiplied colours with SciPy, the definition of `separable.masked.opacity`."""
    alpha = image[..., -1:] / 255.0
    wide = [ndimage.uniform_filter(v, (3, 3, 1)) for v in (image[..., :-1] * alpha, alpha)]
    with np.errstate(invalid="ignore", divide="ignore"):
        colours = np.nan_to_num(wide[0] / wide[1])
    return np.concatenate([colours, 255 * wide[1]], -1)


def with_hole() -> np.ndarray:
    """A picture whose right half is transparent, with colours below that nobody should see."""
    alpha = np.where(np.arange(26) < 13, 255, 0) * np.ones((21, 1))
    alpha[5:9, 5:20] = 100
    return np.dstack([COLOUR, alpha.astype(np.uint8)])


def visible(found: np.ndarray, expected: np.ndarray) -> None:
    close(found[..., -1], expected[..., -1])
    shown = found[..., -1] > 0
    close(found[shown], expected[shown])


@case("PNG", "alpha")
@case("BMP", "alpha")
def alpha(run: Run) -> None:
    source = run.folder / "in.png"
    Image.fromarray(with_hole()).save(source)
    visible(seen(run(source)), over_alpha(with_hole()))
    assert "colours were weighted by alpha" in run.text
    edges = seen(run(source, "sobel:axis=0", dtype="uint8"))
    np.testing.assert_array_equal(edges[..., 3], with_hole()[..., 3])
    assert "alpha is unchanged" in run.text
    full = np.dstack([COLOUR, np.full_like(GREY, 255)])
    Image.fromarray(full).save(run.folder / "full.png")
    again = seen(run(run.folder / "full.png", mode="constant"))
    assert (again[..., 3] == 255).all()  # borders do not fade


@case("BMP", "alpha")
def bmp_alpha(run: Run) -> None:
    source = run.folder / "in.bmp"
    pixels = with_hole()[..., [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 26, -21, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    head += masks + b"BGRs" + bytes(48)
    start = 14 + len(head)
    source.write_bytes(
        b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + head + pixels
    )
    visible(seen(run(source, target=".png")), over_alpha(with_hole()))
    run.refused(source, "BMP picture has shape")


@case("PNG", "transparent colour")
def transparent_colour(run: Run) -> None:
    colours = (COLOUR // 32) * 32
    colours[4:12, 3:15] = (10, 20, 30)
    source = run.folder / "in.png"
    Image.fromarray(colours).save(source, transparency=(10, 20, 30))
    expected = np.asarray(opened(source).convert("RGBA"))
    visible(seen(run(source)), over_alpha(expected))
    assert "the transparent colour was converted to alpha" in run.text
    grey = np.where(GREY < 99, 7, GREY)
    Image.fromarray(grey).save(source, transparency=7)
    pair = np.dstack([grey, np.where(grey == 7, 0, 255)])
    visible(seen(run(source))[..., [0, 3]], over_alpha(pair))
    indexed = Image.fromarray(COLOUR).quantize(16)
    indexed.save(source, transparency=3)
    visible(seen(run(source)), over_alpha(np.asarray(opened(source).convert("RGBA"))))


@case("PNG", "rotation")
@case("JPEG", "rotation")
def rotation(run: Run) -> None:
    turned = smooth_colours()[::-1, ::-1]
    exif = Image.Exif()
    exif[0x0112] = 3
    for suffix in (".png", ".jpg"):
        source = run.folder / f"in{suffix}"
        Image.fromarray(np.ascontiguousarray(turned)).save(source, exif=exif, quality=100)
        result = run(source)
        close(seen(result), box(smooth_colours()), 4)
        assert opened(result).getexif().get(0x0112, 1) == 1
        assert "turned upright" in run.text


def deep_jpeg() -> bytes:
    """A JPEG whose header says 12 bits per sample."""
    packed = io.BytesIO()
    Image.fromarray(GREY).save(packed, "JPEG")
    data = bytearray(packed.getvalue())
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


@case("JPEG", "sample depth")
def twelve_bits(run: Run) -> None:
    (run.folder / "in.jpg").write_bytes(deep_jpeg())
    run.refused(run.folder / "in.jpg", r"cannot read .*in\.jpg")


def png(bits: int, pixels: np.ndarray) -> bytes:
    """A grey PNG of 1, 2 or 4 bits, written by hand."""

    def chunk(name: bytes, data: bytes) -> bytes:
        sum_ = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", sum_)

    rows, columns = pixels.shape
    digits = (pixels[..., None] >> np.arange(bits)[::-1]) & 1
    lines = np.packbits(digits.reshape(rows, -1).astype(np.uint8), axis=1)
    body = b"".join(b"\0" + line.tobytes() for line in lines)
    head = struct.pack(">IIBBBBB", columns, rows, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@case("PNG", "sample depth")
def deep_colours(run: Run) -> None:
    shipped = Path(skimage.data.__file__).parent / "chessboard_RGB.png"
    run.refused(shipped, "a PNG with 16-bit colours would lose half of them here")


@case("PNG", "sample depth")
@case("BMP", "sample depth")
def sample_depth(run: Run) -> None:
    for bits in (2, 4):
        few = GREY >> (8 - bits)
        (run.folder / "in.png").write_bytes(png(bits, few))
        np.testing.assert_array_equal(
            seen(run(run.folder / "in.png")), box(few * (255 // (2**bits - 1)))
        )
    for suffix in (".png", ".bmp"):
        source = run.folder / f"bits{suffix}"
        Image.fromarray(GREY > 127).save(source)
        found = seen(run(source, dtype="uint8"))
        np.testing.assert_array_equal(found, box((GREY > 127).astype(np.uint8)))


@case("PNG", "several images")
@case("JPEG", "several images")
def several_images(run: Run) -> None:
    frames = [smooth_colours(), 255 - smooth_colours(), smooth_colours()[::-1].copy()]
    first, *others = map(Image.fromarray, frames)
    first.save(
        run.folder / "in.png", save_all=True, append_images=others, duration=[70, 80, 90], loop=3
    )
    first.save(run.folder / "in.jpg", "MPO", save_all=True, append_images=others, quality=100)
    for suffix in (".png", ".jpg"):
        source = run.folder / f"in{suffix}"
        with Image.open(run(source)) as found:
            assert getattr(found, "n_frames", 1) == 3
            times = []
            for number, frame in enumerate(frames):
                found.seek(number)
                close(np.asarray(found.convert("RGB")), box(frame), 5)
                times.append(found.info.get("duration"))
            if suffix == ".png":
                assert (times, found.info["loop"]) == ([70, 80, 90], 3)
        assert "filtered all 3 images of the file" in run.text
        close(seen(run(source, image=2, target=".bmp")), box(frames[1]), 5)
        assert "filtered image 2 of 3; choose with --image N" in run.text
        close(seen(run(source, target=".bmp")), box(frames[0]), 5)
        assert "filtered image 1 of 3" in run.text
        run.refused(source, r"`-?-?image` must be 1 \.\. 3, all or auto, for .*; got 4", image=4)


@case("PNG", "colour profile")
@case("JPEG", "colour profile")
def colour_profile(run: Run) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for suffix in (".png", ".jpg"):
        source = run.folder / f"in{suffix}"
        Image.fromarray(COLOUR).save(source, icc_profile=profile)
        assert profile[40:400] in run(source).read_bytes() or suffix == ".png"
        assert opened(run(source)).info["icc_profile"] == profile
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", struct.pack(">I", 100000))
    Image.fromarray(COLOUR).save(run.folder / "light.png", pnginfo=chunks)
    assert opened(run(run.folder / "light.png")).info["gamma"] == 1.0


@case("PNG", "print resolution")
@case("JPEG", "print resolution")
@case("BMP", "print resolution")
def print_resolution(run: Run) -> None:
    for suffix in FORMATS.values():
        source = run.folder / f"in{suffix}"
        Image.fromarray(COLOUR).save(source, dpi=(300, 150))
        np.testing.assert_allclose(opened(run(source)).info["dpi"], (300, 150), atol=0.1)


@case("PNG", "other metadata")
@case("JPEG", "other metadata")
def other_metadata(run: Run) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "a title")
    Image.fromarray(COLOUR).save(run.folder / "in.png", exif=exif, pnginfo=texts)
    Image.fromarray(COLOUR).save(run.folder / "in.jpg", exif=exif, comment=b"a comment")
    for suffix in (".png", ".jpg"):
        assert opened(run(run.folder / f"in{suffix}")).getexif()[0x010F] == "a camera"
    picture = opened(run(run.folder / "in.png"))
    assert picture.text["Title"] == "a title"  # type: ignore[attr-defined]
    assert opened(run(run.folder / "in.jpg")).info["comment"] == b"a comment"
