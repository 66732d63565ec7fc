"""`output_region` and `stride` of tensors, Dask arrays, xarray objects and files, with missing samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import volumes
from separable.cli import run
from separable.errors import ArgumentError, FileError, OutputError
from separable.files import ImageInfo, read_image, write_image
from separable.resample import RegionPlan
from separable.volumes import grid_runs
from separable.volumes.region_files import filter_region_file

pytestmark = pytest.mark.apart

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(size=(23, 31))
VALID = RNG.random(IMAGE.shape) > 0.2
KERNELS = {
    "separable": sep.kernels.gaussian(1.3),
    "of two terms": sep.kernels.laplacian_of_gaussian(1.2),
    "dense": RNG.normal(size=(5, 4)),
}
REGIONS: list[dict[str, Any]] = [
    {"output_region": "same", "stride": 2},
    {"output_region": "valid", "stride": (3, 1)},
    {"output_region": "full", "stride": 7},
    {"output_region": "full"},
]
BORDERS: list[dict[str, Any]] = [
    {"mode": "reflect"},
    {"mode": "constant", "cval": 2.0},
    {"mode": "wrap"},
]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("region", REGIONS)
def test_tensors_and_their_gradients(name: str, region: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    kernel = KERNELS[name]
    for border in BORDERS:
        expected = sep.convolve(IMAGE, kernel, **region, **border)
        image = torch.tensor(IMAGE)
        found = sep.convolve(image, kernel, **region, **border)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
        image.requires_grad_()
        found = sep.convolve(image, kernel, **region, **border)
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-12)
        # The gradient of the sum is the sum of the weights in which a sample takes part.
        (gradient,) = torch.autograd.grad(found.sum(), image)
        moved = IMAGE.copy()
        moved[5, 7] += 1.0
        change = sep.convolve(moved, kernel, **region, **border).sum() - expected.sum()
        assert float(gradient[5, 7]) == pytest.approx(change, abs=1e-9)


def test_tensors_of_other_types_and_kernels_with_gradients() -> None:
    torch = pytest.importorskip("torch")
    photo = torch.from_numpy(RNG.integers(0, 256, (2, 20, 30), dtype=np.uint8))
    found = sep.convolve(photo, np.full((3, 3), 1 / 9), stride=2)
    assert found.dtype == torch.uint8
    expected = sep.convolve(photo.numpy(), np.full((3, 3), 1 / 9), axes=(1, 2), stride=2)
    np.testing.assert_array_equal(found.numpy(), expected)
    kernel = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    image = torch.tensor(IMAGE[:6, :7])
    assert torch.autograd.gradcheck(lambda k: sep.correlate(image, k, stride=2), (kernel,))
    out = torch.empty(3, 4, dtype=torch.float64)
    assert sep.correlate(image, kernel.detach(), stride=2, output=out) is out
    with pytest.raises(OutputError, match=r"must have shape \(3, 4\)"):
        sep.correlate(image, kernel.detach(), stride=2, output=image)
    with pytest.raises(ArgumentError, match="kernel with gradients takes no missing samples"):
        sep.correlate(image, kernel, stride=2, nan="ignore")


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("region", REGIONS)
def test_dask_arrays_in_any_chunks(name: str, region: dict[str, Any]) -> None:
    array = pytest.importorskip("dask.array")
    kernel = KERNELS[name]
    for border in BORDERS:
        expected = sep.convolve(IMAGE, kernel, **region, **border)
        lazy = sep.convolve(array.from_array(IMAGE, chunks=(7, 9)), kernel, **region, **border)
        assert lazy.shape == expected.shape
        found = lazy.compute(scheduler="sync")
        np.testing.assert_allclose(found, expected, atol=0 if name != "dense" else 1e-12)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("region", REGIONS)
def test_missing_samples(name: str, region: dict[str, Any]) -> None:
    kernel = KERNELS[name]
    bad = np.where(VALID, IMAGE, np.nan)
    for border in BORDERS:
        found = sep.convolve(bad, kernel, nan="ignore", **region, **border)
        if region["output_region"] == "same":
            whole = sep.convolve(bad, kernel, nan="ignore", **border)
            np.testing.assert_allclose(found, whole[::2, ::2], atol=1e-12)
        if region["output_region"] == "valid":  # inside, where no border counts
            whole = sep.convolve(bad, kernel, nan="ignore", **border)
            # `first` is the number of taps before the output
            planned = sep.plan(kernel, IMAGE.shape, **region)
            assert isinstance(planned, RegionPlan)
            places = np.ix_(*(one.places for one in planned.axes))
            np.testing.assert_allclose(found, whole[places], atol=1e-12)
        masked = np.ma.array(IMAGE, mask=~VALID)
        np.testing.assert_allclose(
            sep.convolve(masked, kernel, **region, **border), found, atol=1e-12
        )
        np.testing.assert_allclose(
            sep.convolve(IMAGE, kernel, mask=VALID, **region, **border), found, atol=1e-12
        )


def test_missing_samples_of_tensors_and_dask_arrays() -> None:
    torch = pytest.importorskip("torch")
    array = pytest.importorskip("dask.array")
    bad = np.where(VALID, IMAGE, np.nan)
    for kernel in KERNELS.values():
        expected = sep.convolve(bad, kernel, nan="ignore", stride=2)
        image = torch.tensor(bad, requires_grad=True)
        found = sep.convolve(image, kernel, nan="ignore", stride=2)
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-12)
        (gradient,) = torch.autograd.grad(found.sum(), image)
        assert not gradient[torch.tensor(~VALID)].any()
        lazy = array.from_array(IMAGE, chunks=(9, 8))
        for mask in (VALID, array.from_array(VALID, chunks=5)):
            late = sep.convolve(lazy, kernel, mask=mask, stride=2)
            np.testing.assert_allclose(late.compute(scheduler="sync"), expected, atol=1e-12)


def test_xarray_has_the_coordinates_of_the_outputs() -> None:
    xarray = pytest.importorskip("xarray")
    data = xarray.DataArray(
        IMAGE, {"y": 2.0 * np.arange(23), "x": 5 - 0.5 * np.arange(31), "row": ("y", np.arange(23))},
        ("y", "x"), name="depth",
    )  # fmt: skip
    found = sep.convolve(data, np.ones((3, 5)), output_region="valid", stride=(2, 3))
    np.testing.assert_allclose(
        found.values, sep.convolve(IMAGE, np.ones((3, 5)), output_region="valid", stride=(2, 3))
    )
    np.testing.assert_allclose(found.y, 2.0 * np.arange(1, 22, 2))
    np.testing.assert_allclose(found.x, 5 - 0.5 * np.arange(2, 29, 3))
    np.testing.assert_allclose(found["row"], np.arange(1, 22, 2))
    along = sep.convolve(data, [1, 1, 1], axes="x", stride=2)
    assert (along.name, along.shape) == ("depth", (23, 16))


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("region", REGIONS)
def test_blocks_of_a_plan(name: str, region: dict[str, Any]) -> None:
    for border in BORDERS:
        planned: Any = sep.plan(KERNELS[name], IMAGE.shape, **region, **border)
        whole = planned(IMAGE)
        rows, columns = whole.shape
        place = (slice(rows // 3, rows), slice(0, -(-columns // 2)))
        block = IMAGE
        for axis, index in enumerate(volumes.needs(planned, place)):
            block = block[(slice(None),) * axis + (index,)]
        found = volumes.filter_block(planned, block, place)
        np.testing.assert_allclose(found, whole[place], atol=1e-12)
        assert block.size < IMAGE.size or border["mode"] == "wrap"
        with pytest.raises(ArgumentError, match="`block` must have shape"):
            volumes.filter_block(planned, IMAGE[:3], place)
        with pytest.raises(ArgumentError, match="`region` must hold slices"):
            volumes.needs(planned, (slice(0, rows + 1), slice(0, 1)))


# Files


@pytest.mark.parametrize("suffix", [".npy", ".nii", ".tif"])
@pytest.mark.parametrize("region", REGIONS[:3])
def test_files_in_slabs_have_the_values_and_the_spacing(
    tmp_path: Path, suffix: str, region: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".nii":
        pytest.importorskip("nibabel")
    volume = RNG.random((21, 14, 12)).astype(np.float32)
    write_image(tmp_path / f"in{suffix}", volume, ImageInfo("ZYX"))
    stored, before = read_image(tmp_path / f"in{suffix}")
    kernel = sep.kernels.gaussian(0.8, ndim=3)
    options = {**region, "stride": 3}
    monkeypatch.setattr(grid_runs, "SLAB", 8_000)
    for border in ({"mode": "wrap"}, {"mode": "constant", "cval": 1.0}):
        done = filter_region_file(
            tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", kernel, overwrite=True,
            axes=tuple(range(3)), **options, **border,
        )  # fmt: skip
        found, after = read_image(tmp_path / f"out{suffix}")
        assert done.slabs > 1
        np.testing.assert_allclose(
            found, sep.convolve(stored, kernel, **options, **border), atol=1e-6
        )
    if suffix == ".nii":
        assert before.spacing is not None
        assert after.spacing == tuple(3 * s for s in before.spacing if s is not None)
        assert before.affine is not None
        assert after.affine is not None
        first = [one.first for one in done.planned.axes]
        moved = before.affine @ np.array([*(first[before.axes.index(c)] for c in "XYZ"), 1.0])
        np.testing.assert_allclose(after.affine[:3, 3], moved[:3], atol=1e-5)


def test_masks_and_declared_values_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_runs, "SLAB", 20_000)
    np.save(tmp_path / "in.npy", IMAGE)
    np.save(tmp_path / "mask.npy", VALID)
    kernel = KERNELS["of two terms"]
    expected = sep.convolve(IMAGE, kernel, mask=VALID, stride=(2, 3))
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"
    assert sep.convolve(source, kernel, mask=tmp_path / "mask.npy", stride=(2, 3), output=target)
    np.testing.assert_allclose(np.load(target), expected, atol=1e-12)
    pytest.importorskip("spectral")
    image = np.full((8, 8), 100, np.int16)
    image[:, :3] = -9999
    write_image(tmp_path / "in.hdr", image, ImageInfo("YX", nodata=(-9999,)))
    sep.convolve(tmp_path / "in.hdr", np.ones((3, 3)) / 9, stride=2, output=tmp_path / "out.hdr")
    found, info = read_image(tmp_path / "out.hdr")
    assert found[0].tolist() == [-9999, 100, 100, 100]
    assert info.nodata == (-9999,)


@pytest.mark.parametrize("command", ["filter", "resample"])
def test_interrupted_runs_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from separable.volumes.resampled_files import FileGrid, resample_file

    volume = RNG.random((40, 9, 8)).astype(np.float32)
    np.save(tmp_path / "in.npy", volume)
    monkeypatch.setattr(grid_runs, "SLAB", 9_000)
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"

    def start(progress: Any = None, **options: Any) -> Any:
        if command == "filter":
            kernel = sep.kernels.gaussian(0.7, ndim=3)
            return filter_region_file(
                source, target, kernel, stride=2, progress=progress, **options
            )
        return resample_file(source, target, FileGrid(scale=1.5), progress=progress, **options)

    told: list[float] = []

    def stop(fraction: float) -> None:
        told.append(fraction)
        if sum(told) > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(stop)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["in.npy", "out.npy.partial", "out.npy.partial.journal"]
    with pytest.raises(FileError, match="another request"):
        start(mode="wrap")
    again = start()
    assert 0 < again.resumed < again.slabs
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy", "out.npy"]
    found = np.load(target)
    whole = start(overwrite=True, resume=False)
    assert whole.resumed == 0
    np.testing.assert_array_equal(found, np.load(target))


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nrrd")
    write_image(tmp_path / "in.nrrd", IMAGE, ImageInfo("YX", spacing=(2.0, 1.0), unit="mm"))
    source, target = str(tmp_path / "in.nrrd"), str(tmp_path / "out.nrrd")
    words = [
        "filter",
        source,
        target,
        "-k",
        "gaussian:1px",
        "--output-region",
        "valid",
        "--stride",
        "2x3",
    ]
    assert run([*words, "--explain"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "Computed 8x8 outputs of 23x31 (valid), every 2nd along axis 0, every 3rd along axis 1"
        in said
    )
    assert "spacing 4x3mm" in said
    assert "pass axis samples weights result multiplications" in said
    assert f"Wrote {target}: 8x8 float64." in said
    found, info = read_image(tmp_path / "out.nrrd")
    assert info.spacing == (4.0, 3.0)
    kernel = sep.kernels.gaussian(1)
    expected = sep.correlate(IMAGE, kernel, output_region="valid", stride=(2, 3))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert run(["plan", "-k", "gaussian:1", "--shape", "64x64", "--stride", "2", "--json"]) == 0
    assert '"stride": [2, 2]' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output-region", "inner"], "`--output-region` must be"),
        (["--stride", "0"], "`--stride` must be 1"),
        (["--stride", "a"], "`--stride` must be whole numbers"),
        (
            ["--stride", "2", "--levels", "2"],
            "are not combined with --chunks, --scheduler, --part and",
        ),
        (["--stride", "2", "--abs", "--magnitude"], "give `--abs` or `--magnitude`, not both"),
        (["--stride", "2", "--rescale", "9"], "`--rescale` must be minmax or two percentiles"),
        (["--stride", "2", "--memory", "1MiB"], "`--memory` must be at least"),
        (["--mode", "valid"], "give `--output-region` valid"),
    ],
)
def test_wrong_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    np.save(tmp_path / "in.npy", IMAGE)
    words = [str(tmp_path / "in.npy"), str(tmp_path / "out.npy"), "-k", "gaussian:1"]
    assert run(["filter", *words, *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy"]
