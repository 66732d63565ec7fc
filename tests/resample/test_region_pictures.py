"""Regions and strides of files with an opacity, and of absolute values, magnitudes and stretched results.

The oracle is the same filter of all outputs, of which every n-th is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import volumes
from separable.cli import run
from separable.errors import ArgumentError
from separable.files import Alpha, ImageInfo, filter_image, read_image, write_image
from separable.filter_bank.magnitude import Magnitude
from separable.masked import Opacity
from separable.resample import plan_region
from separable.resample.region_opacity import run_with_opacity
from separable.volumes import grid_runs
from separable.volumes.region_files import filter_region_file

pytestmark = pytest.mark.apart

RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (23, 31, 4), dtype=np.uint8)
PICTURE[4:9, 5:14, 3] = 0
INFO = ImageInfo("YXS", alpha=Alpha(3))
SLOPE = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
KERNELS: dict[str, Any] = {
    "smooth": sep.kernels.gaussian(1.3),
    "two signs": sep.kernels.laplacian_of_gaussian(1.2).dense() + np.eye(11),
    "slope": SLOPE,
    "zeros": np.zeros((3, 3)),
}
STRIDES: list[Any] = [1, 2, (3, 7)]


def whole(kernel: Any, **options: Any) -> np.ndarray:
    return filter_image(PICTURE, INFO, kernel, **options).image


def steps(stride: Any) -> tuple[slice, slice]:
    first, second = (stride, stride) if isinstance(stride, int) else stride
    return slice(None, None, first), slice(None, None, second)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize(
    "options", [{}, {"mode": "constant", "cval": 40}, {"mode": "wrap", "operation": "correlate"}]
)
def test_colours_are_weighted_by_their_opacity(
    tmp_path: Path, name: str, stride: Any, options: dict[str, Any]
) -> None:
    kernel = KERNELS[name]
    write_image(tmp_path / "in.png", PICTURE, INFO)
    done = filter_region_file(
        tmp_path / "in.png", tmp_path / "out.png", kernel, stride=stride, **options
    )
    found, info = read_image(tmp_path / "out.png")
    expected = whole(kernel, **options)[steps(stride)]
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1  # sums in another order
    assert (found == expected).mean() > 0.99
    assert info.alpha == Alpha(3)
    assert any("weighted by alpha" in note for note in done.notes)


def test_valid_and_full_regions_and_missing_pixels() -> None:
    opacity, kernel = Opacity(2, 3), KERNELS["smooth"]
    taps = kernel.shape[0]
    valid = plan_region(kernel, PICTURE.shape, "uint8", axes=(0, 1), output_region="valid")
    found = run_with_opacity(valid, PICTURE, opacity, kernel)
    half = taps // 2
    inside = whole(kernel)[half:-half, half:-half].astype(int)
    assert np.abs(found - inside).max() <= 1
    full = plan_region(kernel, PICTURE.shape, "uint8", axes=(0, 1), output_region="full")
    wide = run_with_opacity(full, PICTURE, opacity, kernel)
    width = ((taps - 1,) * 2, (taps - 1,) * 2, (0, 0))
    padded = filter_image(np.pad(PICTURE, width, "symmetric"), INFO, kernel).image
    assert np.abs(wide.astype(int) - padded[half:-half, half:-half]).max() <= 1
    edge = plan_region(
        SLOPE, PICTURE.shape, "uint8", axes=(0, 1), output_region="full", mode="constant", cval=9
    )
    outside = run_with_opacity(edge, PICTURE, opacity, SLOPE)[..., 3]
    assert (outside[1:-1, 1:-1] == PICTURE[..., 3]).all()  # a slope keeps the opacity
    assert (outside[0] == 255).all()  # what lies outside is opaque
    known = RNG.random(PICTURE.shape[:2]) > 0.2
    expected = whole(kernel, mask=known)[::2, ::2].astype(int)
    planned = plan_region(kernel, PICTURE.shape, "uint8", axes=(0, 1), stride=2)
    from separable.masked import MissingOptions

    found = run_with_opacity(planned, PICTURE, opacity, kernel, MissingOptions(mask=known))
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_slabs_have_the_pixels_of_the_whole(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    write_image(tmp_path / f"in{suffix}", PICTURE, INFO)
    planar = np.ascontiguousarray(PICTURE.transpose(2, 0, 1))
    write_image(tmp_path / f"planes{suffix}", planar, ImageInfo("SYX", alpha=Alpha(3)))
    for name in ("in", "planes"):
        info = read_image(tmp_path / f"{name}{suffix}")[1]
        order = tuple("YXS".index(axis) for axis in info.axes)
        for kernel in (KERNELS["smooth"], Magnitude((SLOPE, SLOPE.T))):
            options = {
                "axes": tuple(order.index(a) for a in (0, 1)),
                "stride": 2,
                "overwrite": True,
            }
            target = tmp_path / f"out{suffix}"
            filter_region_file(tmp_path / f"{name}{suffix}", target, kernel, **options)
            one = read_image(target)[0]
            monkeypatch.setattr(grid_runs, "SLAB", 6000)
            done = filter_region_file(tmp_path / f"{name}{suffix}", target, kernel, **options)
            monkeypatch.undo()
            assert done.slabs > 1
            np.testing.assert_array_equal(read_image(target)[0], one)
            if info.alpha is not None:
                expected = whole(kernel)[::2, ::2].transpose(order).astype(int)
                assert np.abs(one - expected).max() <= 1


VOLUME = RNG.normal(size=(9, 14, 12)).astype("f4")
CALLS: dict[str, list[str]] = {
    "--abs": ["--kernel", "log:1.2", "--abs"],
    "--magnitude": ["--kernel", "sobel", "--magnitude"],
    "of a Gaussian": ["--kernel", "gaussian:1", "--magnitude", "--dtype", "float64"],
    "--rescale": ["--kernel", "log:0.7", "--rescale", "minmax", "--dtype", "uint8"],
    "of percentiles": [
        "--kernel",
        "sobel",
        "--magnitude",
        "--rescale",
        "5,95",
        "--dtype",
        "uint16",
    ],
    "of floats": ["--kernel", "gaussian:1", "--rescale", "1,99"],
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("suffix", ["npy", "nii.gz"])
def test_absolute_values_magnitudes_and_stretched_results(
    tmp_path: Path, name: str, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix == "nii.gz":
        pytest.importorskip("nibabel")
    source = str(tmp_path / f"in.{suffix}")
    info = ImageInfo("ZYX", spacing=(2.0, 1.0, 1.0), unit="mm")
    write_image(source, VOLUME, info)
    rest, unscaled = CALLS[name], "--rescale" not in CALLS[name]
    assert run(["filter", source, str(tmp_path / f"all.{suffix}"), *rest]) == 0
    capsys.readouterr()
    target = tmp_path / f"some.{suffix}"
    stride = ["--stride", "2"] if unscaled else ["--stride", "1", "--output-region", "valid"]
    assert run(["filter", source, str(target), *rest, *stride]) == 0
    said = " ".join(capsys.readouterr().out.split())
    every, found = read_image(tmp_path / f"all.{suffix}")[0], read_image(target)[0]
    assert found.dtype == every.dtype
    assert f"Wrote {target}: {'x'.join(map(str, found.shape))} {found.dtype}." in said
    if unscaled:
        np.testing.assert_allclose(found, every[::2, ::2, ::2], rtol=1e-5, atol=1e-5)
        return
    # Other outputs have other percentiles: the ends of the range are those of these outputs.
    ends = (0, np.iinfo(found.dtype).max) if found.dtype.kind == "u" else (0, 1)
    assert (found.min(), found.max()) == ends
    cut = tuple(
        slice((a - b) // 2, (a + b) // 2) for a, b in zip(every.shape, found.shape, strict=True)
    )
    assert np.corrcoef(found.ravel().astype(float), every[cut].ravel().astype(float))[0, 1] > 0.97


def test_missing_samples_of_magnitudes_become_the_fill_value(tmp_path: Path) -> None:
    image = np.abs(VOLUME[0] * 100).astype("int16")
    image[3:9, 2:9] = -1
    np.save(tmp_path / "in.npy", image)
    kernel = Magnitude((SLOPE, SLOPE.T))
    options: dict[str, Any] = {"nodata": -1, "fill": -7, "output": "int16"}
    filter_region_file(tmp_path / "in.npy", tmp_path / "out.npy", kernel, stride=2, **options)
    expected = filter_image(image, ImageInfo("YX"), kernel, **options).image
    found = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(found, expected[::2, ::2])
    assert (found == -7).any()
    volumes.filter(tmp_path / "in.npy", tmp_path / "all.npy", kernel, **options)
    np.testing.assert_array_equal(np.load(tmp_path / "all.npy"), expected)
    stretched = {"nodata": -1, "output": "int16", "rescale": (0, 100)}
    expected = filter_image(image, ImageInfo("YX"), kernel, **stretched).image
    volumes.filter(tmp_path / "in.npy", tmp_path / "range.npy", kernel, **stretched)
    np.testing.assert_array_equal(np.load(tmp_path / "range.npy"), expected)
    assert (expected == -1).sum() >= 9  # the missing samples beyond the reach of the kernel


def test_an_interrupted_stretched_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    kernel, options = sep.kernels.gaussian(1, ndim=3), {"stride": 2, "rescale": (0.0, 100.0)}
    monkeypatch.setattr(grid_runs, "SLAB", 4000)

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        filter_region_file(
            tmp_path / "in.npy", tmp_path / "out.npy", kernel, progress=stop, **options
        )
    done = filter_region_file(tmp_path / "in.npy", tmp_path / "out.npy", kernel, **options)
    assert done.resumed == 1 < done.slabs
    found = np.load(tmp_path / "out.npy")
    assert (found.min(), found.max()) == (0, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy", "out.npy"]
    with pytest.raises(ArgumentError, match="`rescale` must be two percentiles"):
        filter_region_file(
            tmp_path / "in.npy", tmp_path / "o.npy", kernel, stride=2, rescale=(9.0, 1.0)
        )
