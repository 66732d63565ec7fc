"""Cases of TIFF: written by tifffile, Pillow and GDAL, read back by Pillow, OpenCV, SimpleITK and GDAL."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import skimage.data
import tifffile
from picture_statements import close, opened, over_alpha, seen, visible, with_hole
from PIL import Image
from scipy import ndimage
from statement_cases import Run, case

RNG = np.random.default_rng(4)
GREY = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def box(image: np.ndarray, last: bool = False) -> np.ndarray:
    """Return the mean of 3x3 samples; `last` if the last axis holds samples."""
    sides = (3, 3, 1) if last else (*(1,) * (image.ndim - 2), 3, 3)
    wide = ndimage.uniform_filter(image.astype(float), sides, mode="reflect")
    if image.dtype.kind == "f":
        return wide.astype(image.dtype)
    return np.rint(wide).astype(image.dtype)


def written(run: Run, array: np.ndarray, name: str = "in.tif", **options: Any) -> Path:
    tifffile.imwrite(run.folder / name, array, **options)
    return run.folder / name


def facts(path: Path) -> tuple[int, int, int, tuple[int, ...]]:
    """Return the number of pages, the photometric code, the planes, and the extra samples."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        extra = tuple(int(e) for e in page.extrasamples)
        return len(file.pages), int(page.photometric), int(page.planarconfig), extra


def tags_of(path: Path) -> dict[int, Any]:
    with tifffile.TiffFile(path) as file:
        return {tag.code: tag.value for tag in file.pages[0].tags}


def gdal(path: Path | str) -> np.ndarray:
    """Read all bands with GDAL, the bands last."""
    rasterio = pytest.importorskip("rasterio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pictures without a georeference
        with rasterio.open(path) as file:
            return np.asarray(file.read()).transpose(1, 2, 0)


def itk(path: Path) -> np.ndarray:
    return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


@case("TIFF", "colour samples")
def colour_samples(run: Run) -> None:
    for dtype in ("uint8", "uint16", "float32"):
        source = written(run, COLOUR.astype(dtype), photometric="rgb")
        result = run(source)
        np.testing.assert_allclose(seen(result), box(COLOUR.astype(dtype), last=True), rtol=1e-5)
        np.testing.assert_allclose(itk(result), box(COLOUR.astype(dtype), last=True), rtol=1e-5)
        assert facts(result)[:2] == (1, 2)


@case("TIFF", "colour samples", "several images")
def shipped_stacks(run: Run) -> None:
    """Stacks in the wheel of scikit-image: pages of grey values, and of colours in planes."""
    folder = Path(skimage.data.__file__).parent
    for name in ("multipage.tif", "multipage_rgb.tif"):
        source = folder / name
        result = run(source, "box:1x3x3")  # pages of unknown meaning are slices
        for page in ("GTIFF_DIR:1:", "GTIFF_DIR:2:"):
            before, after = gdal(f"{page}{source}"), gdal(f"{page}{result}")
            np.testing.assert_allclose(after, box(before, last=True), rtol=1e-12)


@case("TIFF", "several bands")
def several_bands(run: Run) -> None:
    for count, dtype in ((2, "float32"), (3, "int16"), (4, "uint8"), (7, "float64")):
        bands = RNG.integers(0, 200, (40, 50, count)).astype(dtype)
        source = written(run, bands, photometric="minisblack", planarconfig="contig")
        result = run(source)
        np.testing.assert_allclose(gdal(result), box(bands, last=True), rtol=1e-5)
        assert facts(result) == (1, 1, 1, (0,) * (count - 1))


@case("TIFF", "planar colour")
def planar_colour(run: Run) -> None:
    planes = np.ascontiguousarray(COLOUR.transpose(2, 0, 1))
    source = written(run, planes, photometric="rgb", planarconfig="separate")
    result = run(source)
    np.testing.assert_array_equal(seen(result), box(COLOUR, last=True))
    assert facts(result) == (1, 2, 2, ())
    packed = written(run, planes, "packed.tif", photometric="rgb", planarconfig="separate",
                     compression="zlib")  # fmt: skip
    np.testing.assert_array_equal(seen(run(packed)), box(COLOUR, last=True))
    if not run.way.parts:
        np.testing.assert_array_equal(seen(run(source, target=".png")), box(COLOUR, last=True))


def false_colours() -> np.ndarray:
    """A table like ImageJ's Fire: smooth, not grey."""
    ramp = np.linspace(0, 65535, 256)
    return np.stack([ramp, np.clip(2 * ramp - 65535, 0, None), ramp[::-1] / 2]).astype(np.uint16)


@case("TIFF", "palette")
def palette(run: Run) -> None:
    picture = Image.fromarray(COLOUR).quantize(40)
    picture.save(run.folder / "in.tif")
    result = run(run.folder / "in.tif")
    np.testing.assert_array_equal(seen(result), box(np.asarray(picture.convert("RGB")), last=True))
    assert "palette was converted to colours" in run.text
    sixteen = RNG.integers(0, 65536, (3, 65536), dtype=np.uint16)
    indices = RNG.integers(0, 65536, (40, 50), dtype=np.uint16)
    source = written(run, indices, photometric="palette", colormap=sixteen)
    expected = box((sixteen.T[indices] >> 8).astype(np.uint8), last=True)
    np.testing.assert_array_equal(seen(run(source)), expected)


@case("TIFF", "palette")
def intensities(run: Run) -> None:
    table = false_colours()
    labels = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    inverted = np.repeat(np.linspace(65535, 0, 256).astype(np.uint16)[None], 3, 0)
    kinds: list[tuple[dict[str, Any], str]] = [
        ({"colormap": table}, "false-colour"),
        ({"colormap": labels, "imagej": True}, "false-colour"),
        ({"colormap": inverted}, "grey"),
    ]
    for options, kind in kinds:
        source = written(run, GREY, photometric="palette", **options)
        result = run(source)
        with opened(result) as found:
            assert found.mode == "P"
            np.testing.assert_array_equal(np.asarray(found), box(GREY))
        with tifffile.TiffFile(result) as again:
            np.testing.assert_array_equal(again.pages[0].colormap, options["colormap"])
            assert again.is_imagej == ("imagej" in options)
        assert f"filtered the intensities and kept the {kind} table" in run.text
    run(source, dtype="float32")
    assert "TIFF does not keep: the colour table" in run.text


def patched(path: Path, code: int, value: int) -> None:
    """Overwrite the value of a tag, whatever tifffile thinks of it."""
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags[code]
        file.filehandle.seek(tag.valueoffset)
        file.filehandle.write(int(value).to_bytes(2, "little"))


@case("TIFF", "palette")
def short_palette(run: Run) -> None:
    source = written(run, GREY, photometric="palette", colormap=false_colours())
    with tifffile.TiffFile(source, mode="r+") as file:
        tag = file.pages[0].tags[320]
        file.filehandle.seek(tag.offset + 4)
        file.filehandle.write((3 * 100).to_bytes(4, "little"))
    run.refused(source, "its palette has 100 colours; samples of 8 bits need 256")
    source = written(run, GREY, photometric="minisblack")
    patched(source, 262, 3)
    run.refused(source, "its header says palette and has no table")


@case("TIFF", "white is zero")
def white_is_zero(run: Run) -> None:
    source = written(run, GREY, photometric="miniswhite")
    result = run(source)
    np.testing.assert_array_equal(seen(result), 255 - box(GREY))  # OpenCV shows light
    assert facts(result)[:2] == (1, 0)
    if not run.way.parts:
        close(seen(run(source, target=".png")), 255 - box(GREY), 0)


@case("TIFF", "CMYK")
def inks(run: Run) -> None:
    values = RNG.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    Image.fromarray(values, "CMYK").save(run.folder / "in.tif")
    source = run.folder / "in.tif"
    result = run(source)
    with opened(result) as found:
        assert found.mode == "CMYK"
        np.testing.assert_array_equal(np.asarray(found), box(values, last=True))
    if not run.way.parts:
        light = Image.fromarray(box(values, last=True), "CMYK").convert("RGB")
        close(seen(run(source, target=".png")), np.asarray(light), 1)
    run(source, target=".npy")
    assert "NPY does not keep: the axes YXS, that the samples are inks (CMYK)" in run.text


def srgb_of_lab(lab: np.ndarray) -> np.ndarray:
    """Return the sRGB colours of CIELab (D50), by the formulas of CIE 15 and IEC 61966-2-1."""
    stored = lab.astype(float)
    lightness, a, b = stored[..., 0] * 100 / 255, *(lab[..., i].astype(np.int8) for i in (1, 2))
    f = np.stack([(lightness + 16) / 116 + a / 500, (lightness + 16) / 116,
                  (lightness + 16) / 116 - b / 200], -1)  # fmt: skip
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    to_linear = [[3.1341, -1.6174, -0.4907], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    linear = np.clip(xyz @ np.array(to_linear).T, 0, 1)
    return 255 * np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@case("TIFF", "CIELab")
def lightness(run: Run) -> None:
    y, x = np.mgrid[:40, :50]
    lab = np.stack([60 + 3 * y, (x - 25) % 256, (20 - y) % 256], -1).astype(np.uint8)
    for options in ({}, {"compression": "zlib", "tile": (16, 16)}):
        source = written(run, lab, photometric="cielab", **options)
        close(seen(run(source)), box(srgb_of_lab(lab), last=True), 5)  # LittleCMS has a table
        assert "converted from CIELab to sRGB" in run.text
    source = written(run, lab.astype(np.uint16), photometric="cielab")
    run.refused(source, "CIELab with 3 samples of uint16; expected 3 of uint8. Convert it to RGB")


@case("TIFF", "unknown colour space")
def refused_colours(run: Run) -> None:
    for code, words in (
        (32803, "CFA, a mosaic"),
        (9, "ICCLab"),
        (999, "photometric 999. is unknown"),
    ):
        source = written(run, GREY, photometric="minisblack")
        patched(source, 262, code)
        run.refused(source, words)
    patched(source, 262, 2)
    run.refused(source, "contradicts itself: photometric 2 needs 3 samples")


@case("TIFF", "YCbCr")
def luminance(run: Run) -> None:
    values = np.asarray(Image.fromarray(COLOUR // 2 + 60).convert("YCbCr"))
    source = written(run, values, photometric="ycbcr", extratags=[(530, "H", 2, (1, 1), True)])
    close(seen(run(source)), box(seen(source), last=True), 2)
    assert "converted from YCbCr to RGB" in run.text
    patched(source, 530, 2)
    run.refused(source, r"YCbCr with subsampling \(2, 1\)")


@case("TIFF", "alpha")
def alpha(run: Run) -> None:
    image = np.pad(with_hole(), ((0, 19), (0, 24), (0, 0)), mode="edge")
    source = written(run, image, photometric="rgb", extrasamples=["unassalpha"])
    result = run(source)
    visible(np.asarray(opened(result)), over_alpha(image))
    assert "colours were weighted by alpha, and alpha was filtered too" in run.text
    assert facts(result)[3] == (2,)
    edges = np.asarray(opened(run(source, "sobel:axis=0")))
    np.testing.assert_array_equal(edges[..., 3], image[..., 3])
    assert "alpha is unchanged" in run.text
    bands = np.dstack([image[..., :3], image[..., 2:3], image[..., 3:]])  # one more beside alpha
    source = written(run, bands, photometric="rgb", extrasamples=["unspecified", "unassalpha"])
    result = run(source)
    visible(np.delete(tifffile.imread(result), 3, 2), over_alpha(image))


@case("TIFF", "premultiplied alpha")
def premultiplied(run: Run) -> None:
    image = np.pad(with_hole(), ((0, 19), (0, 24), (0, 0)), mode="edge").astype(np.float32)
    image[..., :3] *= image[..., 3:] / 255
    source = written(run, image / 255, photometric="rgb", extrasamples=["assocalpha"])
    result = run(source)
    np.testing.assert_allclose(itk(result), box(image / 255, last=True), atol=1e-6)
    assert facts(result)[3] == (1,)


@case("TIFF", "rotation", "colour profile", "other metadata")
def tags(run: Run) -> None:
    extra = [(274, "H", 1, 6, True), (34675, 7, 12, b"not a profile"[:12], True),
             (315, 2, 0, "an artist", True)]  # fmt: skip
    source = written(run, GREY, photometric="minisblack", extratags=extra, metadata=None,
                     description="what it shows")  # fmt: skip
    result = run(source)
    assert tags_of(result)[274] == 6
    with opened(result) as found:
        assert found.tag_v2[315] == "an artist"  # type: ignore[attr-defined]
        assert found.tag_v2[34675] == b"not a profil"  # type: ignore[attr-defined]
        assert found.tag_v2[270] == "what it shows"  # type: ignore[attr-defined]
    if not run.way.parts:
        np.testing.assert_array_equal(seen(run(source, target=".png")), np.rot90(box(GREY), -1))


@case("TIFF", "sample depth")
def sample_depth(run: Run) -> None:
    source = run.folder / "in.tif"
    Image.fromarray(GREY > 99).save(source)
    found = tifffile.imread(run(source, dtype="float32"))
    np.testing.assert_allclose(found, box((GREY > 99).astype(np.float32)), atol=1e-6)


@case("TIFF", "print resolution")
def print_resolution(run: Run) -> None:
    Image.fromarray(COLOUR).save(run.folder / "in.tif", dpi=(300, 150))
    found = opened(run(run.folder / "in.tif")).info["dpi"]
    np.testing.assert_allclose([float(v) for v in found], (300, 150))


@case("TIFF", "spacing", "spacing in several units", "contradicting spacing", "axis names")
def spacing(run: Run) -> None:
    volume = RNG.random((5, 20, 24)).astype(np.float32)
    sizes = {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5,
             "PhysicalSizeYUnit": "\u00b5m", "PhysicalSizeZ": 0.002, "PhysicalSizeZUnit": "mm"}  # fmt: skip
    source = written(run, volume, "in.ome.tif", metadata={"axes": "ZYX", **sizes},
                     resolution=(7, 7), resolutionunit=3)  # fmt: skip
    result = run(source, "gaussian:1um")
    expected = ndimage.gaussian_filter(volume, (0.5, 2, 2), truncate=4)
    np.testing.assert_allclose(tifffile.imread(result), expected, atol=2e-3)
    with tifffile.TiffFile(result) as found:
        pixels = tifffile.xml2dict(found.ome_metadata)["OME"]["Image"]["Pixels"]
    factor = {"nm": 1.0, "\u00b5m": 1e3, "mm": 1e6}
    meant = [pixels[f"PhysicalSize{a}"] * factor[pixels[f"PhysicalSize{a}Unit"]] for a in "XYZ"]
    np.testing.assert_allclose(meant, (500, 500, 2000))


@case("TIFF", "several images")
def several_images(run: Run) -> None:
    source = run.folder / "in.tif"
    with tifffile.TiffWriter(source) as file:
        file.write(GREY, metadata={"axes": "YX"})
        file.write(COLOUR, photometric="rgb")
        file.write(GREY[:9, :8], subfiletype=1)  # a thumbnail
    result = run(source)
    np.testing.assert_array_equal(gdal(f"GTIFF_DIR:1:{result}")[..., 0], box(GREY))
    assert "left out 1 thumbnails, overviews or masks" in run.text
    np.testing.assert_array_equal(gdal(f"GTIFF_DIR:2:{result}"), box(COLOUR, last=True))
    assert "filtered all 2 images of the file" in run.text
    np.testing.assert_array_equal(seen(run(source, image=2)), box(COLOUR, last=True))
    assert "filtered image 2 of 2" in run.text


@case("TIFF", "several images")
def positions(run: Run) -> None:
    """Positions of a microscope, each with its own name and spacing."""
    source = run.folder / "in.ome.tif"
    with tifffile.TiffWriter(source, ome=True) as file:
        for number in (1, 2):
            steps = {"PhysicalSizeX": number / 2, "PhysicalSizeY": 1.0}
            file.write(GREY + number, metadata={"Name": f"position {number}", **steps})
    for number in (1, 2):
        result = run(source, image=number)
        np.testing.assert_array_equal(seen(result), box(GREY + number))
        assert f'Name="position {number}"' in tifffile.tiffcomment(result)
    result = run(source)
    for number in (1, 2):
        found = tifffile.imread(result, series=number - 1)
        np.testing.assert_array_equal(found, box(GREY + number))
    text = tifffile.tiffcomment(result)
    assert re.findall(r'PhysicalSizeX="([\d.]+)"', text) == ["0.5", "1.0"]
    assert re.findall(r'<Image [^>]*Name="([^"]+)"', text) == ["position 1", "position 2"]


@case("TIFF", "resolution levels")
def resolution_levels(run: Run) -> None:
    with tifffile.TiffWriter(run.folder / "in.tif") as file:
        file.write(GREY, subifds=1, tile=(16, 16))
        file.write(GREY[::2, ::2], subfiletype=1, tile=(16, 16))
    np.testing.assert_array_equal(seen(run(run.folder / "in.tif")), box(GREY))
    assert "took the finest of 2 resolution levels" in run.text
