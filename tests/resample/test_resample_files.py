"""File to file: spacing and position in every format, slabs, missing samples, and messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separable.cli import run
from separable.errors import ArgumentError, FileError
from separable.files import ImageInfo, read_image, write_image
from separable.files.grid_change import info_on_grid
from separable.files.image_grids import GridChange
from separable.resample import resample, resize
from separable.volumes.resampled_files import FileGrid, resample_file

RNG = np.random.default_rng(11)
VOLUME = RNG.random((12, 20, 16)).astype(np.float32)
AFFINE = np.array(
    [[0.0, 0.0, 2.5, -30.0], [0.0, 1.5, 0.0, 7.0], [-3.0, 0.0, 0.0, 11.0], [0, 0, 0, 1]]
)  # x runs downwards, z to the right


def positions(affine: np.ndarray, indices: Any) -> np.ndarray:
    """Return the coordinates of some indices (x, y, z)."""
    return (affine @ np.array([*indices, 1.0]))[:3]


def test_nifti_keeps_its_forms_and_codes(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel")
    image = nib.Nifti1Image(np.transpose(VOLUME), AFFINE)
    image.header.set_qform(AFFINE, code=1)
    image.header.set_sform(AFFINE, code=4)
    image.header.set_xyzt_units("mm")
    for suffix in (".nii", ".nii.gz"):
        nib.save(image, tmp_path / f"in{suffix}")
        done = resample_file(
            tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", FileGrid(spacing=1.0, unit="mm")
        )
        found = nib.load(tmp_path / f"out{suffix}")
        assert found.shape == done.shape == (48, 30, 30)
        np.testing.assert_allclose(found.header.get_zooms(), 1.0, atol=1e-6)
        assert int(found.header["sform_code"]) == 4
        assert int(found.header["qform_code"]) == 1
        for affine in (found.affine, found.header.get_qform()):
            # The outer edge of the first voxel stays.
            old = positions(AFFINE, (-0.5, -0.5, -0.5))
            np.testing.assert_allclose(positions(affine, (-0.5,) * 3), old, atol=1e-4)
            np.testing.assert_allclose(
                positions(affine, (47.5, 29.5, 29.5)), positions(AFFINE, (15.5, 19.5, 11.5)),
                atol=1e-4,
            )  # fmt: skip
        expected = resample(np.transpose(VOLUME), (3.0, 1.5, 2.5), 1.0)
        np.testing.assert_allclose(np.asarray(found.dataobj), expected, atol=1e-6)


@pytest.mark.parametrize("align", ["edges", "centres"])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_positions_agree_with_simpleitk(tmp_path: Path, suffix: str, align: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    if suffix == ".nrrd":
        pytest.importorskip("nrrd")
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing((0.8, 1.6, 3.0))
    image.SetOrigin((-12.0, 5.0, 40.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / f"in{suffix}"))
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    resample_file(
        source, target, FileGrid(spacing=(2.0, 1.0, 1.0), unit="mm"), align=align, antialias=False,
        interpolation="linear", mode="nearest",
    )  # fmt: skip
    found = sitk.ReadImage(str(target))
    np.testing.assert_allclose(found.GetSpacing(), (1.0, 1.0, 2.0))
    assert found.GetDirection() == image.GetDirection()
    first = [(1.0 / 0.8 - 1) / 2, (1.0 / 1.6 - 1) / 2, (2.0 / 3.0 - 1) / 2]
    first = first if align == "edges" else [0.0] * 3
    expected = image.TransformContinuousIndexToPhysicalPoint(first)
    np.testing.assert_allclose(found.GetOrigin(), expected, atol=1e-9)
    # ITK computes the same values at the positions that the file says.
    theirs = sitk.Resample(image, found, sitk.Transform(), sitk.sitkLinear, 0.0)
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(found)[inside], sitk.GetArrayFromImage(theirs)[inside], atol=1e-5
    )


def test_ome_zarr_has_scale_translation_and_levels(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    from separable.files import create_target
    from separable.files.chunked_io import write_whole

    levels = [
        {"shape": (12, 20, 16), "scale": [3.0, 1.0, 1.0], "translation": [5.0, 0.0, 2.0]},
        {"shape": (12, 10, 8), "scale": [3.0, 2.0, 2.0], "translation": [5.0, 0.5, 2.5]},
    ]
    ome = {"scale": [3.0, 1.0, 1.0], "translation": [5.0, 0.0, 2.0], "levels": levels}
    info = ImageInfo("ZYX", {"ome_zarr": ome}, spacing=(3.0, 1.0, 1.0), unit="um")
    path = tmp_path / "in.ome.zarr"
    write_whole(create_target(path, VOLUME.shape, VOLUME.dtype, info=info), VOLUME)
    done = resample_file(path, tmp_path / "out.ome.zarr", FileGrid(scale=(3, 0.5, 0.5)))
    assert done.shape == (36, 10, 8)
    group = zarr.open(tmp_path / "out.ome.zarr", mode="r")
    image = group.attrs["ome"]["multiscales"][0]
    steps = [d["coordinateTransformations"] for d in image["datasets"]]
    assert steps[0][0]["scale"] == pytest.approx([1.0, 2.0, 2.0])
    assert steps[0][1]["translation"] == pytest.approx([4.0, 0.5, 2.5])
    assert steps[1][0]["scale"] == pytest.approx([1.0, 4.0, 4.0])
    assert steps[1][1]["translation"] == pytest.approx([4.0, 1.5, 3.5])
    assert group["1"].shape == (36, 5, 4)
    np.testing.assert_allclose(group["0"][...], resize(VOLUME, (36, 10, 8)), atol=1e-6)


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".h5", ".zarr", ".hdr", ".nrrd", ".nii"])
def test_spacing_is_that_of_the_new_samples(tmp_path: Path, suffix: str) -> None:
    picture = RNG.random((24, 30)).astype(np.float32)
    info = ImageInfo("YX", spacing=(2.0, 0.5), unit="um")
    try:
        write_image(tmp_path / f"in{suffix}", picture, info)
    except FileError as error:
        pytest.skip(str(error))
    stored, before = read_image(tmp_path / f"in{suffix}")
    by_letter = dict(zip(before.axes, before.spacing or (), strict=False))
    done = resample_file(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", FileGrid(scale=0.5))
    result, after = read_image(tmp_path / f"out{suffix}")
    assert result.shape == done.shape == tuple(n // 2 for n in stored.shape)
    for letter, step in zip(after.axes, after.spacing or (), strict=False):
        if by_letter.get(letter):
            assert step == pytest.approx(2 * by_letter[letter], rel=1e-5)
    assert after.unit == before.unit


def test_geotiff_and_envi_move_their_tie_points(tmp_path: Path) -> None:
    change = GridChange((8, 10), (4, 5), (2.0, 2.0), (0.5, 0.5))
    tags = [
        (33550, 12, 3, (10.0, 20.0, 0.0), True),
        (33922, 12, 6, (0.0, 0.0, 0.0, 500.0, 900.0, 0.0), True),
    ]
    info = ImageInfo("YX", {"geotiff": tags}, format="TIFF", spacing=(20.0, 10.0), unit="m")
    moved = {t[0]: t[3] for t in info_on_grid(info, change).options["geotiff"]}
    assert moved[33550] == (20.0, 40.0, 0.0)
    assert moved[33922] == (0.0, 0.0, 0.0, 500.0, 900.0, 0.0)  # the outer corner stays
    centred = GridChange((8, 10), (4, 5), (2.0, 2.0), (0.0, 0.0))
    moved = {t[0]: t[3] for t in info_on_grid(info, centred).options["geotiff"]}
    # The new first pixel is twice as large around the same centre: its corner lies half an old pixel before.
    assert moved[33922][:2] == (0.25, 0.25)
    fields = ["UTM", "1", "1", "500", "900", "10", "20", "32", "North"]
    envi = ImageInfo("YX", {"envi": {"map info": fields, "x start": "3"}}, format="ENVI")
    found = info_on_grid(envi, change)
    assert found.options["envi"]["map info"][1:3] == ["1", "1"]
    assert found.options["envi"]["map info"][5:7] == ["20", "40"]
    assert "x start" in found.notes[0]


def test_coordinates_are_interpolated(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5py")
    pytest.importorskip("netCDF4")
    data = xarray.DataArray(
        VOLUME[:, :, 0], dims=("lat", "lon"), name="t",
        coords={"lat": np.linspace(10, 32, 12), "lon": np.linspace(0, 38, 20)},
    )  # fmt: skip
    data.to_netcdf(tmp_path / "in.nc", engine="netcdf4")
    resample_file(tmp_path / "in.nc", tmp_path / "out.nc", FileGrid(shape=(6, 40)))
    with xarray.open_dataset(tmp_path / "out.nc", engine="netcdf4") as found:
        assert found["t"].shape == (6, 40)
        np.testing.assert_allclose(found["lat"], 11 + 4 * np.arange(6))
        np.testing.assert_allclose(found["lon"], -0.5 + np.arange(40))


def test_slabs_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from separable.volumes import grid_runs

    np.save(tmp_path / "in.npy", VOLUME)
    grid = FileGrid(shape=(30, 11, 40))
    one = resample_file(tmp_path / "in.npy", tmp_path / "a.npy", grid, interpolation="cubic")
    assert one.slabs == 1
    monkeypatch.setattr(grid_runs, "SLAB", 18_000)
    many = resample_file(tmp_path / "in.npy", tmp_path / "b.npy", grid, interpolation="cubic")
    assert many.slabs > 3
    a, b = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, resize(VOLUME, (30, 11, 40), interpolation="cubic"))
    with pytest.raises(ArgumentError, match="`memory` must be at least"):
        resample_file(tmp_path / "in.npy", tmp_path / "c.npy", grid, memory="1MiB")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "b.npy", "in.npy"]


def test_declared_missing_samples_do_not_count(tmp_path: Path) -> None:
    pytest.importorskip("spectral")
    image = np.full((8, 8), 100, np.int16)
    image[:, :3] = -9999
    write_image(tmp_path / "in.hdr", image, ImageInfo("YX", nodata=(-9999,)))
    done = resample_file(
        tmp_path / "in.hdr", tmp_path / "out.hdr", FileGrid(scale=0.5), interpolation="area"
    )
    found, info = read_image(tmp_path / "out.hdr")
    assert found[0].tolist() == [-9999, 100, 100, 100]
    assert info.nodata == (-9999,)
    assert any("missing" in note for note in done.notes)


def test_colours_are_weighted_by_their_opacity(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 4), np.uint8)
    picture[:, :2] = (200, 100, 50, 255)
    picture[:, 2:] = (0, 255, 0, 0)  # not visible
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "in.png")
    resample_file(
        tmp_path / "in.png", tmp_path / "out.png", FileGrid(shape=(1, 1)), interpolation="area"
    )
    found = np.asarray(Image.open(tmp_path / "out.png"))
    assert found.tolist() == [[[200, 100, 50, 128]]]


# The command line


def test_the_command_prints_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nrrd")
    info = ImageInfo("ZYX", spacing=(3.0, 0.5, 0.5), unit="mm")
    write_image(tmp_path / "in.nrrd", VOLUME, info)
    source, target = str(tmp_path / "in.nrrd"), str(tmp_path / "out.nrrd")
    assert run(["resample", source, target, "--spacing", "1mm"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Resampled 12x20x16 -> 36x10x8; spacing 1x1x1mm; linear" in said
    assert f"Wrote {target}: 36x10x8 float32." in said
    assert run(["resample", source, target, "--spacing", "2x2x2um"]) == 2
    assert "exists" in capsys.readouterr().err
    assert run(["resample", source, str(tmp_path / "p.npy"), "--spacing", "1000x500x500um"]) == 0
    assert "NPY does not keep" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of --spacing, --shape and --scale; got none"),
        (["--scale", "2", "--shape", "3"], "got --shape and --scale"),
        (["--scale", "0"], "`--scale` must be > 0"),
        (["--scale", "a"], "`--scale` must be numbers"),
        (["--spacing", "-1mm"], "--spacing"),
        (["--spacing", "1px"], "`--spacing` must be lengths"),
        (["--spacing", "1"], "in.npy has none along axis 0, 1"),
        (["--shape", "0x3"], "`--shape` must be 1"),
        (["--shape", "4x4x4"], "`--shape` must be one value, or one for each of the 2"),
        (["--scale", "2", "-i", "majority"], "labels must be whole numbers"),
        (["--scale", "0.001"], "`--scale` must leave at least one sample along each axis"),
        (["--scale", "2", "-i", "sharp"], "`--interpolation` must be one of"),
        (["--scale", "2", "--antialias", "maybe"], "`--antialias` must be one of"),
        (["--scale", "2", "--align", "left"], "`--align` must be"),
        (["--scale", "2", "--mode", "odd"], "`--mode` must be one of"),
        (["--scale", "2", "--memory", "1MiB"], "`--memory` must be at least"),
        (["--scale", "2", "--dtype", "text"], "--dtype"),
    ],
)
def test_wrong_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    np.save(tmp_path / "in.npy", np.zeros((4, 5)))
    code = run(["resample", str(tmp_path / "in.npy"), str(tmp_path / "out.npy"), *options])
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.npy").exists()


def test_files_read_as_a_whole_take_no_memory_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in.png", np.zeros((4, 5), np.uint8))
    names = [str(tmp_path / name) for name in ("in.png", "out.png")]
    assert run(["resample", *names, "--scale", "2", "--memory", "64GiB"]) == 2
    assert "in memory as a whole" in " ".join(capsys.readouterr().err.split())
    assert run(["resample", names[0], names[0], "--scale", "2", "--force"]) == 2
    assert "it is the input" in " ".join(capsys.readouterr().err.split())
