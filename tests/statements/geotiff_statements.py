"""Cases of GeoTIFF: written and read back by GDAL, through rasterio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from statement_cases import Run, case

RNG = np.random.default_rng(6)
HEIGHTS = RNG.integers(0, 2000, (40, 50)).astype(np.int16)


def box(image: np.ndarray) -> np.ndarray:
    return ndimage.uniform_filter(image.astype(float), 3, mode="reflect")


def written(run: Run, values: np.ndarray, name: str = "in.tif", **profile: Any) -> Path:
    """Write bands with GDAL, 30 m apart in UTM zone 32."""
    rasterio = pytest.importorskip("rasterio")
    bands = values if values.ndim == 3 else values[None]
    place = rasterio.Affine(30, 0, 500000, 0, -20, 5400000)
    options = {"crs": "EPSG:32632", "transform": place, **profile}
    path = run.folder / name
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype=bands.dtype, **options,
    ) as file:  # fmt: skip
        file.write(bands)
        file.update_tags(1, STATISTICS_MEAN="999", survey="winter")
    return path


def read(path: Path) -> tuple[np.ndarray, Any, dict[str, Any]]:
    """Return the first band, the file (closed) and the tags of the band."""
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(path) as file:
        return file.read(1), file, file.tags(1)


@case("TIFF", "georeference")
def georeference(run: Run) -> None:
    source = written(run, HEIGHTS)
    _, before, _ = read(source)
    for options in ({}, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}):
        source = written(run, HEIGHTS, **options)
        result = run(source)
        values, after, tags = read(result)
        np.testing.assert_array_equal(values, np.rint(box(HEIGHTS)))
        assert (after.crs, after.transform) == (before.crs, before.transform)
        assert tags == {"survey": "winter"}  # statistics would be untrue
    metres = run(source, "gaussian:60m", dtype="float32")
    expected = ndimage.gaussian_filter(HEIGHTS.astype(float), (3, 2), truncate=4)
    np.testing.assert_allclose(read(metres)[0], expected, rtol=2e-3)
    rotated = pytest.importorskip("rasterio").Affine(30, 5, 500000, 4, -20, 5400000)
    source = written(run, HEIGHTS, transform=rotated)
    assert read(run(source))[1].transform == rotated
    run(source, target=".npy")
    assert "NPY does not keep" in run.text
    assert "the georeference" in run.text


@case("TIFF", "missing value")
def missing_value(run: Run) -> None:
    for dtype, nodata in (
        ("int16", -9999),
        ("float32", -3.4028234663852886e38),
        ("float32", np.nan),
    ):
        heights = HEIGHTS.astype(dtype)
        heights[5:12, 8:20] = nodata
        source = written(run, heights, nodata=nodata)
        result = run(source)
        values, file, _ = read(result)
        assert file.nodata == nodata or np.isnan(file.nodata) == np.isnan(nodata)
        valid = (heights != nodata) & (heights == heights)
        weight = box(valid)
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = box(np.where(valid, heights, 0)) / weight
        covered = weight > 1e-9
        np.testing.assert_allclose(values[covered], expected[covered], atol=0.51)
        assert ((values == nodata) | np.isnan(values) == ~covered).all()


@case("TIFF", "missing value outside the type")
def missing_value_outside_the_type(run: Run) -> None:
    source = written(run, HEIGHTS.astype(np.uint8))
    text = source.read_bytes()
    assert b"-9999" not in text
    import tifffile

    place = [(42113, 2, 0, "-9999", True)]
    tifffile.imwrite(source, HEIGHTS.astype(np.uint8), extratags=place, photometric="minisblack")
    run.refused(source, "-9999.*uint8")
    tifffile.imwrite(
        source, HEIGHTS, extratags=[(42113, 2, 0, "no data", True)], photometric="minisblack"
    )
    run.refused(source, "GDAL_NODATA. is 'no data'; expected a number")


@case("TIFF", "scale and offset")
def scale_and_offset(run: Run) -> None:
    rasterio = pytest.importorskip("rasterio")
    source = written(run, np.stack([HEIGHTS, HEIGHTS[::-1]]), interleave="pixel")
    with rasterio.open(source, "r+") as file:
        file.scales, file.offsets = (0.5, 0.25), (-10.0, 100.0)
    result = run(source)
    with rasterio.open(result) as file:
        found = file.read()
        assert (file.scales, file.offsets) == ((1, 1), (0, 0))
    np.testing.assert_allclose(found[0], box(HEIGHTS * 0.5 - 10), rtol=1e-5)
    np.testing.assert_allclose(found[1], box(HEIGHTS[::-1] * 0.25 + 100), rtol=1e-5)
    assert "scale and offset of the bands were applied" in run.text


@case("TIFF", "missing value")
def internal_mask(run: Run) -> None:
    """A mask beside the image becomes missing values, or the opacity of whole numbers."""
    rasterio = pytest.importorskip("rasterio")
    valid = np.ones(HEIGHTS.shape, bool)
    valid[:20, 10:40] = False
    colours = np.stack([HEIGHTS % 256] * 3).astype("u1")
    for values, options in (
        (HEIGHTS.astype("f4"), {}),
        (HEIGHTS, {"nodata": -1}),
        (colours, {}),
        (colours, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}),
        (HEIGHTS, {}),
        (HEIGHTS.astype("u2"), {}),
    ):
        source = written(run, np.where(valid, values, 0).astype(values.dtype), **options)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(source, "r+") as file:
            file.write_mask(valid)
        with rasterio.open(run(source)) as file:
            found, shown = file.read(), file.dataset_mask() > 127
            expected = values if values.ndim == 3 else values[None]
            for band, whole in zip(found, expected, strict=False):
                weight = box(valid)
                with np.errstate(divide="ignore", invalid="ignore"):
                    wanted = box(np.where(valid, whole, 0)) / weight
                seen = weight > 0.01
                np.testing.assert_allclose(band[seen], wanted[seen], atol=0.51, rtol=1e-5)
            clear = np.abs(box(valid) - 0.5) > 0.01
            if values.dtype in ("i2", "f4"):
                np.testing.assert_array_equal(shown, box(valid) > 0.01)
            else:
                assert len(found) == len(expected) + 1  # and the opacity
                np.testing.assert_array_equal(shown[clear], (box(valid) > 0.5)[clear])
        assert "internal mask" in run.text
