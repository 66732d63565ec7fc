"""One test per column of the table of conventions in `docs/resampling.md`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as scipy_ndimage

from separable.resample import downsample, pyramid, resize

RNG = np.random.default_rng(7)
PICTURE = RNG.random((37, 52))
SIZES = ((74, 104), (50, 71), (21, 33), (12, 52))


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("order", range(6))
def test_scipy_zoom_with_grid_mode(shape: tuple[int, int], order: int) -> None:
    zoom = [m / n for m, n in zip(shape, PICTURE.shape, strict=True)]
    for mode in ("reflect", "mirror", "grid-wrap"):
        expected = scipy_ndimage.zoom(PICTURE, zoom, order=order, mode=mode, grid_mode=True)
        found = resize(PICTURE, shape, interpolation=order, antialias=False, mode=mode)
        np.testing.assert_allclose(found, expected, atol=1e-10, err_msg=mode)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])  # the nearest of two samples depends on rounding
def test_scipy_zoom_without_grid_mode(shape: tuple[int, int], order: int) -> None:
    zoom = [m / n for m, n in zip(shape, PICTURE.shape, strict=True)]
    expected = scipy_ndimage.zoom(PICTURE, zoom, order=order, mode="mirror")
    found = resize(
        PICTURE, shape, interpolation=order, antialias=False, align="centres", mode="mirror"
    )
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"mode": "bilinear", "align_corners": False}, {"interpolation": "linear"}),
        (
            {"mode": "bilinear", "align_corners": True},
            {"interpolation": "linear", "align": "centres"},
        ),
        ({"mode": "bicubic", "align_corners": False}, {"interpolation": "cubic-sharp"}),
        (
            {"mode": "bicubic", "align_corners": True},
            {"interpolation": "cubic-sharp", "align": "centres"},
        ),
        ({"mode": "nearest-exact"}, {"interpolation": "nearest"}),
    ],
)
def test_pytorch_interpolate(
    shape: tuple[int, int], theirs: dict[str, Any], ours: dict[str, Any]
) -> None:
    torch = pytest.importorskip("torch")
    if "nearest" in theirs["mode"] and shape == (50, 71):
        pytest.skip("two samples are equally near, and rounding decides in PyTorch")
    tensor = torch.from_numpy(PICTURE)[None, None]
    expected = torch.nn.functional.interpolate(tensor, shape, **theirs)[0, 0].numpy()
    found = resize(PICTURE, shape, antialias=False, mode="nearest", **ours)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_pytorch_interpolate_with_antialias_inside_the_image() -> None:
    torch = pytest.importorskip("torch")
    picture = RNG.random((80, 90))
    tensor = torch.from_numpy(picture)[None, None]
    for theirs, ours in (("bilinear", "linear"), ("bicubic", "cubic")):
        expected = torch.nn.functional.interpolate(
            tensor, (20, 30), mode=theirs, align_corners=False, antialias=True
        )[0, 0].numpy()
        found = resize(picture, (20, 30), interpolation=ours, antialias="stretch")
        inside = (slice(3, -3), slice(3, -3))  # PyTorch leaves out what lies outside
        np.testing.assert_allclose(found[inside], expected[inside], atol=1e-12)


def test_pytorch_average_pooling() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(PICTURE[:36, :51].copy())[None, None]
    expected = torch.nn.functional.avg_pool2d(tensor, (4, 3))[0, 0].numpy()
    found = resize(PICTURE[:36, :51], (9, 17), interpolation="area")
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("shape", SIZES)
def test_opencv_resize(shape: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    ours = {"INTER_LINEAR": "linear", "INTER_CUBIC": "cubic-sharp", "INTER_LANCZOS4": "lanczos4"}
    if shape[0] < PICTURE.shape[0]:  # where OpenCV enlarges, its area is another method
        ours["INTER_AREA"] = "area"
    for name, kind in ours.items():
        expected = cv2.resize(PICTURE, shape[::-1], interpolation=getattr(cv2, name))
        found = resize(PICTURE, shape, interpolation=kind, antialias=False, mode="nearest")
        # OpenCV computes its weights in float32, those of Lanczos from a table.
        atol = 2e-2 if kind == "lanczos4" else 3e-6
        np.testing.assert_allclose(found, expected, atol=atol, err_msg=name)


def test_opencv_pyrdown() -> None:
    cv2 = pytest.importorskip("cv2")
    for shape in ((40, 52), (41, 53)):
        picture = RNG.random(shape).astype(np.float32)
        levels = pyramid(picture, 3, method="gaussian")
        for fine, coarse in itertools.pairwise(levels):
            np.testing.assert_allclose(coarse, cv2.pyrDown(fine), atol=1e-6)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_scikit_image_resize(shape: tuple[int, int], order: int) -> None:
    transform = pytest.importorskip("skimage.transform")
    for antialias in (False, True):
        expected = transform.resize(
            PICTURE, shape, order=order, mode="reflect", anti_aliasing=antialias, clip=False
        )
        if antialias and order == 0:  # scikit-image smooths before it takes the nearest sample
            continue
        found = resize(PICTURE, shape, interpolation=order, antialias=antialias, mode="mirror")
        # Its `reflect` is our `mirror`.
        np.testing.assert_allclose(found, expected, atol=1e-10)


def test_scikit_image_local_mean() -> None:
    measure = pytest.importorskip("skimage.measure")
    expected = measure.block_reduce(PICTURE[:36, :52], (3, 4), np.mean)
    np.testing.assert_allclose(downsample(PICTURE[:36, :52], (3, 4)), expected, atol=1e-12)
