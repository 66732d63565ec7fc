"""Files: what is read and written, and every way in which that fails."""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from separable.errors import FileError
from separable.files import ImageInfo, check_target, is_image_path, read_image, write_image

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 17), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
SUFFIXES = (
    ".png .jpg .jpeg .bmp .gif .tif .tiff .npy .zarr .nii .nii.gz .h5 .hdf5 .he5 .hdf .ims "
    ".nc .nc4 .cdf .hdr .bsq .bil .bip .img .mha .mhd .nrrd .nhdr .dcm .dicom"
)


def png_bytes(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG whose header may say anything."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(bytes(100))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


# What comes back


@pytest.mark.parametrize(
    ("name", "array", "axes"),
    [
        ("a.png", GREY, "YX"),
        ("a.png", GREY.astype(np.uint16) * 257, "YX"),
        ("a.png", GREY > 99, "YX"),
        ("a.png", COLOUR, "YXS"),
        ("a.png", np.dstack([COLOUR, GREY]), "YXS"),
        ("a.png", np.dstack([GREY, GREY]), "YXS"),
        ("a.bmp", GREY, "YX"),
        ("a.bmp", COLOUR, "YXS"),
        ("a.tif", GREY, "YX"),
        ("a.tiff", COLOUR, "YXS"),
        ("a.TIF", RNG.random((5, 6, 7)), "ZYX"),
        ("a.tif", RNG.random((5, 6)).astype(np.float16), "YX"),
        ("a.tif", RNG.integers(-9, 9, (5, 6)), "YX"),
        ("a.tif", RNG.random((5, 6)) + 1j, "YX"),
        ("a.tif", GREY > 99, "YX"),
        ("a.tif", RNG.random((2, 3, 4, 5, 6)).astype(np.float32), "TZCYX"),
        ("a.npy", RNG.random(7), ""),
        ("a.npy", np.zeros((0, 3)), ""),
        ("a.npy", np.asfortranarray(RNG.random((3, 4))).astype(">f4"), ""),
    ],
)
def test_written_images_are_read_back(
    tmp_path: Path, name: str, array: np.ndarray, axes: str
) -> None:
    write_image(tmp_path / name, array, ImageInfo(axes))
    again, info = read_image(tmp_path / name)
    np.testing.assert_array_equal(again, array)
    assert again.dtype == array.dtype.newbyteorder("=")
    assert info.axes == axes
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_jpeg_is_close_and_keeps_its_resolution(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    write_image(tmp_path / "a.jpg", smooth, ImageInfo("YX", {"dpi": (300, 300)}))
    again, info = read_image(tmp_path / "a.jpg")
    assert np.max(np.abs(again.astype(int) - smooth)) <= 3
    assert info.options["dpi"] == (300, 300)
    assert info.format == "JPEG"


def test_photographs_come_upright(tmp_path: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(COLOUR)
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by a quarter
    picture.save(tmp_path / "a.jpg", exif=exif)
    array, _ = read_image(tmp_path / "a.jpg")
    assert array.shape == (17, 12, 3)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(COLOUR).convert("CMYK").save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg")[0].shape == (12, 17, 3)


def test_tiff_keeps_resolution_and_imagej_spacing(tmp_path: Path) -> None:
    volume = RNG.integers(0, 999, (4, 5, 6), dtype=np.uint16)
    meta = {"axes": "ZYX", "spacing": 2.5, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", volume, imagej=True, metadata=meta, resolution=(4, 5))
    array, info = read_image(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", array, info)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata["spacing"] == 2.5
        assert file.series[0].axes == "ZYX"
        assert file.pages[0].tags["XResolution"].value == (4, 1)
    write_image(tmp_path / "c.tif", array.astype(float), info)  # a type that ImageJ has not
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif")[0], array)


def test_several_images_in_a_file_are_reported(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY)
        file.write(GREY[:5])
    array, info = read_image(tmp_path / "a.tif")
    assert array.shape == GREY.shape
    assert info.notes == ("this is image 1 of 2; choose with --image N (image=N)",)


def test_space_leaves_out_colour_channels_and_time() -> None:
    assert ImageInfo("TZCYX").space(5) == (1, 3, 4)
    assert ImageInfo("QYXS").space(4) == (0, 1, 2)
    assert ImageInfo("YX").space(3) == (0, 1, 2)


def test_image_paths_are_recognised_by_their_suffix() -> None:
    assert is_image_path("a/b.TIFF")
    assert not is_image_path("gaussian:2.5")
    assert not is_image_path("sobel")


# What cannot be read


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "z.tif", "p.tif", "a.npy"])
def test_truncated_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    volume = RNG.integers(0, 999, (6, 20, 30), dtype=np.uint16)
    if name == "z.tif":
        tifffile.imwrite(path, volume, compression="zlib")
    elif name == "p.tif":
        tifffile.imwrite(path, volume, metadata=None)
    else:
        write_image(path, volume if name[-3:] in ("tif", "npy") else COLOUR)
    whole, expected = path.read_bytes(), read_image(path)[0]
    for kept in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:kept])
        try:
            found = read_image(path)[0]
        except FileError:
            continue
        np.testing.assert_array_equal(found, expected)  # only what holds no pixels was cut


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"", "cannot read {}: the file is empty. Fetch or export it again"),
        (
            "a.png",
            b"RIFF....WEBP",
            "cannot read {}: it does not begin like a PNG file. It is damaged, or of another type",
        ),
        (
            "a.png",
            b"\xff\xd8\xff\xe0....",
            "cannot read {}: expected PNG by its name; got JPEG. Rename it to a.jpg",
        ),
        (
            "a.webp",
            b"RIFF",
            "cannot read {}: its suffix must be one of {}; got '.webp'",
        ),
        (
            "image",
            b"x",
            "cannot read {}: its suffix must be one of {}; got a name without one",
        ),
        (
            "a.png",
            png_bytes(4, 3, 16, 2),
            "cannot read {}: a PNG with 16-bit colours would lose half of them here. "
            "Convert it to TIFF",
        ),
    ],
)
def test_files_of_another_kind(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        read_image(path)
    assert str(caught.value) == message.format(path, SUFFIXES)


def test_missing_folder_and_device(tmp_path: Path) -> None:
    write_image(tmp_path / "photo.png", GREY)
    with pytest.raises(FileError, match=r"there is no such file\. Did you mean .*photo\.png\?"):
        read_image(tmp_path / "phot.png")
    with pytest.raises(FileError, match="it is a folder"):
        read_image(tmp_path)
    with pytest.raises(FileError, match="there is no such file"):
        read_image(tmp_path / "none" / "a.png")
    with pytest.raises(FileError, match="file name too long"):
        read_image(tmp_path / ("a" * 300 + ".png"))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileError, match="it is a device"):
        read_image(tmp_path / "pipe.png")


def test_no_permission_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.npy", GREY)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read anything
    with pytest.raises(FileError, match=r"permission denied\. Ask its owner, or copy it"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("side", [100_000, 1_000_000])
def test_a_header_that_claims_too_much(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(side, side))
    with pytest.raises(FileError, match="cannot read"):
        read_image(tmp_path / "a.png")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (side, side)}
    )
    (tmp_path / "a.npy").write_bytes(header.getvalue())
    with pytest.raises(FileError, match="cannot read"):
        read_image(tmp_path / "a.npy")


def test_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.tif", np.zeros((64, 64)))
    monkeypatch.setattr(os, "sysconf", lambda name: 128)
    with pytest.raises(FileError, match=r"its header says 64x64 float64, 0\.0 GiB"):
        read_image(tmp_path / "a.tif")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match="it holds Python objects; expected numbers"):
        read_image(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array(["x"]))
    with pytest.raises(FileError, match="expected numbers; got <U1"):
        read_image(tmp_path / "b.npy")


def test_a_codec_that_is_missing_is_named(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    from PIL import Image

    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("the codec is there")
    Image.fromarray(GREY).save(tmp_path / "a.tif", compression="tiff_lzw")
    with pytest.raises(FileError, match="compression LZW needs another package"):
        read_image(tmp_path / "a.tif")


# What cannot be written


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "a.png",
            np.zeros((4, 4), np.float32),
            "cannot write {}: PNG holds uint8 or uint16 or bool; got float32. "
            "Write .tif or .npy, or make it uint8 (--dtype uint8)",
        ),
        (
            "a.png",
            np.zeros((4, 4, 3), np.uint16),
            "cannot write {}: PNG holds uint8 in colour; got uint16. "
            "Write .tif or .npy, or make it uint8 (--dtype uint8)",
        ),
        (
            "a.jpg",
            np.zeros((4, 4, 4), np.uint8),
            "cannot write {}: a JPEG picture has shape (y, x) or (y, x, 3); got (4, 4, 4). "
            "Write .tif or .npy",
        ),
        (
            "a.bmp",
            np.zeros((0, 4), np.uint8),
            "cannot write {}: an empty image of shape (0, 4) is not a BMP picture. Write .npy",
        ),
        (
            "a.tif",
            np.zeros(4),
            "cannot write {}: a TIFF image has two axes or more and is not empty; got shape (4,). "
            "Write .npy",
        ),
        (
            "a.webp",
            np.zeros((4, 4)),
            "cannot write {}: its suffix must be one of {}; got '.webp'",
        ),
    ],
)
def test_what_a_format_cannot_hold(
    tmp_path: Path, name: str, array: np.ndarray, message: str
) -> None:
    with pytest.raises(FileError) as caught:
        write_image(tmp_path / name, array)
    assert str(caught.value) == message.format(tmp_path / name, SUFFIXES)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_without_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    write_image(path, GREY)
    with pytest.raises(FileError, match=r"a\.npy exists\. Choose another name, or overwrite it"):
        write_image(path, COLOUR)
    np.testing.assert_array_equal(read_image(path)[0], GREY)
    path.chmod(0o640)
    write_image(path, COLOUR, overwrite=True)
    np.testing.assert_array_equal(read_image(path)[0], COLOUR)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_image(tmp_path / "a.npy", GREY)
    assert (tmp_path / "a.npy").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write_image(tmp_path / "a.npy", GREY)
    (tmp_path / "link.npy").symlink_to(tmp_path / "a.npy")
    write_image(tmp_path / "link.npy", COLOUR, overwrite=True)
    assert (tmp_path / "link.npy").is_symlink()
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy")[0], COLOUR)


def test_targets_that_are_not_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d.npy").mkdir()
    with pytest.raises(FileError, match="it is a folder"):
        write_image(tmp_path / "d.npy", GREY, overwrite=True)
    os.mkfifo(tmp_path / "p.npy")
    with pytest.raises(FileError, match="it is a device"):
        write_image(tmp_path / "p.npy", GREY, overwrite=True)
    with pytest.raises(FileError, match=r"there is no folder .*none\. Create it first"):
        check_target(tmp_path / "none" / "a.npy", (1,), "uint8")
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    with pytest.raises(FileError, match="cannot write"):
        write_image(tmp_path / "loop.npy", GREY)
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may write anywhere
    with pytest.raises(FileError, match="no permission to write in the folder"):
        write_image(tmp_path / "a.npy", GREY)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["fsync", "chmod", "link"])
def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, place: str
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(os, place, fail)
    if place == "link" and isinstance(error, OSError):  # a file system without links
        write_image(tmp_path / "a.npy", GREY)
        np.testing.assert_array_equal(read_image(tmp_path / "a.npy")[0], GREY)
        return
    expected = FileError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write_image(tmp_path / "a.npy", GREY)
    assert list(tmp_path.iterdir()) == []
    if expected is FileError:
        assert str(caught.value).endswith("a.npy: no space left on device")


def test_a_file_that_comes_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npy"
    before = os.fsync

    def meanwhile(handle: int) -> None:
        before(handle)
        path.write_bytes(b"theirs")

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(FileError, match="was created meanwhile"):
        write_image(path, GREY)
    assert path.read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_pictures_written_here_are_read_elsewhere(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", COLOUR)
    np.testing.assert_array_equal(iio.imread(tmp_path / "a.png"), COLOUR)
    write_image(tmp_path / "a.tif", COLOUR, ImageInfo("YXS"))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].photometric.name == "RGB"
