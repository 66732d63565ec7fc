"""Alpha: properties of filters that weight colours by their opacity, and real pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

import separable as sep
from separable import files, volumes
from separable.errors import ArgumentError
from separable.masked import Opacity, filter_with_opacity

RNG = np.random.default_rng(12)
KERNELS = {
    "box": np.ones((3, 3)) / 9,
    "gaussian": sep.kernels.gaussian(1.0, ndim=2),
    "sharpen": sep.kernels.sharpen(1.0, ndim=2),
    "sobel": sep.kernels.sobel(),
    "sums": np.ones((3, 3)),
    "zero": np.zeros((3, 3)),
}
EVERY = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
RGBA = Opacity(2, 3)
PICTURES = arrays.arrays(np.uint8, (9, 8, 4))


def filtered(
    picture: np.ndarray, kernel: object, opacity: Opacity = RGBA, **options: object
) -> np.ndarray:
    return filter_with_opacity(
        picture, opacity, kernel, operation="correlate", axes=(0, 1), **options
    )


def plain(picture: np.ndarray, kernel: object, **options: object) -> np.ndarray:
    return sep.correlate(picture, kernel, axes=(0, 1), **options)


@EVERY
@pytest.mark.parametrize("mode", ["reflect", "constant", "wrap"])
@settings(max_examples=8)
@given(picture=PICTURES)
def test_an_opaque_picture_is_filtered_as_without_alpha(
    kernel: object, mode: str, picture: np.ndarray
) -> None:
    picture[..., 3] = 255
    found = filtered(picture, kernel, mode=mode, cval=7)
    expected = plain(picture[..., :3], kernel, mode=mode, cval=7)
    assert np.abs(found[..., :3].astype(int) - expected).max() <= 1  # another rounding of ties
    assert (found[..., 3] == 255).all()


@EVERY
@settings(max_examples=8)
@given(picture=PICTURES, other=PICTURES)
def test_what_is_transparent_has_no_influence(
    kernel: object, picture: np.ndarray, other: np.ndarray
) -> None:
    picture[2:5, 3:7, 3] = 0
    hidden = np.where(picture[..., 3:] == 0, other, picture)
    hidden[..., 3] = picture[..., 3]
    np.testing.assert_array_equal(filtered(picture, kernel), filtered(hidden, kernel))


@given(alpha=arrays.arrays(np.uint8, (9, 8)), colour=st.integers(0, 255))
def test_one_colour_stays_one_colour(alpha: np.ndarray, colour: int) -> None:
    picture = np.dstack([np.full((9, 8, 3), colour, np.uint8), alpha])
    found = filtered(picture, KERNELS["gaussian"])
    seen = found[..., 3] > 0
    assert (found[seen][:, :3] == colour).all()
    edges = filtered(picture, KERNELS["sobel"])
    assert not edges[..., :3].any()  # no edge where only the opacity changes
    np.testing.assert_array_equal(edges[..., 3], alpha)


@EVERY
def test_the_definition(kernel: object) -> None:
    """The formula of `separable.masked.opacity`, with SciPy in double precision."""
    picture = RNG.random((20, 21, 2))
    dense = kernel.dense() if isinstance(kernel, sep.Factors) else np.asarray(kernel)

    def star(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return ndimage.correlate(values, weights, mode="reflect")

    colour, alpha = picture[..., 0], picture[..., 1]
    mean = star(alpha * colour, abs(dense)) / np.maximum(star(alpha, abs(dense)), 1e-300)
    expected = star(alpha * colour, dense) + mean * star(1 - alpha, dense)
    total = dense.sum()
    opacity = alpha if abs(total) < 1e-9 else np.clip(star(alpha, dense) / total, 0, 1)
    found = filtered(picture, kernel, Opacity(2, 1))
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-12)
    np.testing.assert_allclose(found[..., 1], opacity, atol=1e-12)
    multiplied = np.dstack([colour * alpha, alpha])
    again = filtered(multiplied, kernel, Opacity(2, 1, premultiplied=True))
    np.testing.assert_allclose(again[..., 0], expected * opacity, atol=1e-12)


def _cut_in_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    from separable.volumes import slab_schedule
    from separable.volumes.slab_planner import Stage

    monkeypatch.setattr(
        slab_schedule, "best_stage",
        lambda whole, source, target, *_: Stage(whole, 0, (6, 11, 2), source, target),
    )  # fmt: skip


@EVERY
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_slabs_give_the_same(
    tmp_path: Path, kernel: object, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cut_in_slabs(monkeypatch)
    picture = RNG.integers(0, 256, (20, 22, 4)).astype(dtype)
    if dtype == "float32":
        picture /= 255
    picture[4:9, 5:15, 3] = 0
    info = files.ImageInfo("YXS", alpha=files.Alpha(3))
    files.write_image(tmp_path / "in.tif", picture, info)
    volumes.filter(tmp_path / "in.tif", tmp_path / "out.tif", kernel, operation="correlate")
    done = files.filter_image(picture, info, kernel, operation="correlate")
    found, read = files.read_image(tmp_path / "out.tif")
    assert read.alpha == files.Alpha(3)
    np.testing.assert_allclose(found, done.image, atol=1 if dtype == "uint8" else 1e-6)


def over_valid(picture: np.ndarray, kernel: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The definition of `separable.masked.opacity` with a mask, with SciPy in double precision."""

    def star(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return ndimage.correlate(values, weights, mode="reflect")

    colour, alpha, total = picture[..., 0], picture[..., 1], kernel.sum()
    own, size = alpha * valid, abs(kernel)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nan_to_num(star(own * colour, size) / star(own, size))
        middle = np.nan_to_num(star(own, size) / star(valid.astype(float), size))
    result = star(own * colour, kernel) + mean * star(1 - own, kernel)
    opacity = alpha
    if abs(total) > 1e-9:
        opacity = np.clip((star(own, kernel) + middle * star(1.0 - valid, kernel)) / total, 0, 1)
    return np.dstack([np.where(star(own, size) > 1e-12, result, 0), opacity])


@pytest.mark.parametrize("name", ["box", "sharpen", "sobel"])
def test_alpha_and_a_mask_multiply(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole and in slabs, by a mask, by NaN and by a declared value."""
    kernel = KERNELS[name]
    dense = kernel.dense() if isinstance(kernel, sep.Factors) else np.asarray(kernel)
    picture = RNG.random((20, 22, 2))
    valid = RNG.random((20, 22)) < 0.7
    valid[3:12, 4:15] = False  # so large that some results have no valid pixel
    hidden = np.where(valid[..., None] | np.array([False, True]), picture, np.nan)
    expected = over_valid(picture, dense, valid)
    info = files.ImageInfo("YXS", alpha=files.Alpha(1))
    options = {"operation": "correlate", "axes": (0, 1)}
    shown = np.broadcast_to(valid[..., None], picture.shape)
    for image, more in (
        (picture, {"mask": valid}), (picture, {"mask": shown}), (hidden, {"nan": "ignore"}),
        (np.where(np.isnan(hidden), -9, hidden), {"nodata": -9}),
    ):  # fmt: skip
        done = files.filter_image(image, info, kernel, **options, **more)
        np.testing.assert_allclose(done.image, expected, atol=1e-12)
        assert "missing pixels left out" in done.info.notes[0]
    _cut_in_slabs(monkeypatch)
    files.write_image(tmp_path / "in.tif", picture, info)
    np.save(tmp_path / "mask.npy", valid)
    volumes.filter(
        tmp_path / "in.tif", tmp_path / "out.tif", kernel, mask=tmp_path / "mask.npy", **options
    )
    np.testing.assert_allclose(files.read_image(tmp_path / "out.tif")[0], expected, atol=1e-12)
    files.write_image(tmp_path / "hidden.tif", hidden, info)
    volumes.filter(tmp_path / "hidden.tif", tmp_path / "out2.tif", kernel, nan="ignore", **options)
    np.testing.assert_allclose(files.read_image(tmp_path / "out2.tif")[0], expected, atol=1e-12)


@pytest.mark.parametrize("parts", [False, True])
def test_a_magnitude_of_masked_pixels(tmp_path: Path, parts: bool) -> None:
    """Whole numbers need no fill: results without a valid pixel are transparent."""
    from separable.cli import run

    picture = RNG.integers(0, 256, (20, 22, 4)).astype(np.uint8)
    valid = np.ones((20, 22), bool)
    valid[5:15, 6:16] = False
    files.write_image(tmp_path / "in.tif", picture, files.ImageInfo("YXS", alpha=files.Alpha(3)))
    np.save(tmp_path / "mask.npy", valid)
    for kernel in (["-k", "sobel", "--magnitude"], ["-k", "box:3"]):
        words = [str(tmp_path / "in.tif"), str(tmp_path / "out.tif"), *kernel, "--force"]
        words += ["--mask", str(tmp_path / "mask.npy"), *(["--memory", "64GiB"] if parts else [])]
        assert run(["filter", *words]) == 0
        found = files.read_image(tmp_path / "out.tif")[0]
        assert not found[7:13, 8:14, :3].any()
        kept = picture[7:13, 8:14, 3] if "sobel" in kernel else 0
        np.testing.assert_array_equal(found[7:13, 8:14, 3], kept)


def test_a_screenshot_keeps_its_pixels_visible(tmp_path: Path) -> None:
    """Files of scikit-image, from Python in one call."""
    data = pytest.importorskip("skimage.data")
    logo = data.logo()  # RGBA
    files.write_image(tmp_path / "in.png", logo, files.ImageInfo("YXS", alpha=files.Alpha(3)))
    for kernel in ("sobel", "gaussian"):
        sep.correlate(tmp_path / "in.png", KERNELS[kernel], output=tmp_path / f"{kernel}.png")
        found, info = files.read_image(tmp_path / f"{kernel}.png")
        assert info.alpha == files.Alpha(3)
        assert abs(found[..., 3].mean() - logo[..., 3].mean()) < 1


def test_wrong_input() -> None:
    picture = np.zeros((4, 5, 4), np.uint8)
    info = files.ImageInfo("YXS", alpha=files.Alpha(3))
    with pytest.raises(ArgumentError, match="must be real for a picture with alpha"):
        filtered(picture, np.ones((3, 3)) * 1j)
    with pytest.raises(ArgumentError, match="`mask` must have"):
        files.filter_image(picture, info, np.ones((3, 3)), mask=np.ones((2, 2)))
