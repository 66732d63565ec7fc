"""Every command obeys what files say, whether an image is read whole or by parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from separable.cli.main import run as command
from separable.files import ImageInfo, read_image, write_images

RNG = np.random.default_rng(29)


def test_the_bank_weights_colours_by_alpha(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours = RNG.integers(0, 256, (20, 24, 4), dtype=np.uint8)
    colours[..., 3] = np.where(np.arange(24) < 12, 255, 0)
    Image.fromarray(colours).save(tmp_path / "in.png")
    tifffile.imwrite(tmp_path / "in.tif", colours, photometric="rgb", extrasamples=["unassalpha"])
    for suffix, more in ((".png", []), (".tif", []), (".tif", ["--memory", "64GiB"])):
        source, kernels = str(tmp_path / f"in{suffix}"), ("gaussian:1", "sobel:axis=0")
        words = [source, str(tmp_path / "bank"), "--force", *more]
        for kernel in kernels:
            words += ["-k", kernel]
        assert command(["bank", *words]) == 0
        assert "colours were weighted by alpha" in capsys.readouterr().out
        for kernel in kernels:
            alone = tmp_path / f"alone{suffix}"
            assert command(["filter", source, str(alone), "-k", kernel, "--force"]) == 0
            name = f"in_{kernel.replace(':', '_').replace('=', '_')}{suffix}"
            found, wanted = read_image(tmp_path / "bank" / name)[0], read_image(alone)[0]
            np.testing.assert_array_equal(found, wanted)
        capsys.readouterr()


def test_results_that_vanish_are_noted_by_the_bank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[9, 9] = 1
    Image.fromarray(mask).save(tmp_path / "in.png")
    words = ["bank", str(tmp_path / "in.png"), str(tmp_path / "bank"), "-k", "gaussian:2"]
    assert command(words) == 0
    assert "all results were rounded to 0" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("task", ["features", "resample"])
def test_missing_values_are_obeyed_whole_and_by_parts(
    tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = RNG.normal(100, 9, (8, 9, 10)).astype("f4")
    volume[3, 4, 5] = np.nan
    results = []
    for suffix in (".nii", ".nii.gz"):
        source = tmp_path / f"in{suffix}"
        nib.save(nib.Nifti1Image(volume, np.eye(4)), source)
        if task == "features":
            assert command(["features", str(source), str(tmp_path), "--hessian", "1"]) == 0
            result = tmp_path / f"in_hessian_1_1{suffix}"
        else:
            result = tmp_path / f"out{suffix}"
            assert command(["resample", str(source), str(result), "--scale", "0.5"]) == 0
        assert "NaN are missing" in " ".join(capsys.readouterr().out.split())
        results.append(np.asarray(nib.load(result).dataobj))
    np.testing.assert_allclose(*results, rtol=1e-6, atol=1e-6)
    assert np.isfinite(results[0]).all()


def test_features_of_a_compressed_volume_take_a_mask(tmp_path: Path) -> None:
    volume = RNG.normal(100, 9, (8, 9, 10)).astype("f4")
    mask = (RNG.random(volume.shape) < 0.8).astype("u1")
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "mask.nii")
    results = []
    for suffix in (".nii", ".nii.gz"):
        nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / f"in{suffix}")
        words = [str(tmp_path / f"in{suffix}"), str(tmp_path), "--hessian", "1"]
        assert command(["features", *words, "--mask", str(tmp_path / "mask.nii")]) == 0
        results.append(np.asarray(nib.load(tmp_path / f"in_hessian_1_1{suffix}").dataobj))
    np.testing.assert_allclose(*results, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["in.tif", "in.gif"])
def test_the_choice_of_an_image_is_said(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [(RNG.integers(0, 9, (20, 22)).astype(np.uint8), ImageInfo("YX")) for _ in range(3)]
    write_images(tmp_path / name, images)
    source, out = str(tmp_path / name), tmp_path / "results"
    for words, result in (
        (["bank", source, str(out), "-k", "box:3", "--suffix", ".npy"], "in_box_3.npy"),
        (
            ["features", source, str(out), "--hessian", "1", "--suffix", ".npy"],
            "in_hessian_1_1.npy",
        ),
        (["resample", source, str(out / "small.npy"), "--scale", "0.5"], "small.npy"),
    ):
        found = []
        for choice in ([], ["--image", "1"], ["--image", "2"]):
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            assert command([*words, *choice]) == 0
            text = " ".join(capsys.readouterr().out.split())
            assert ("image 1 of 3; choose with --image N" in text) or choice
            found.append(np.load(out / result))
        np.testing.assert_array_equal(found[0], found[1])
        assert (found[1] != found[2]).any()
        assert command([*words, "--image", "4"]) == 2
        assert "must be 1 .. 3" in capsys.readouterr().err


def test_results_go_into_a_new_folder_beside_dicom_files(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    source = pydicom.data.get_testdata_file("CT_small.dcm", download=False)
    shutil.copy(source, tmp_path / "slice.dcm")
    np.save(tmp_path / "in.npy", RNG.random((8, 9)))
    words = ["bank", str(tmp_path / "in.npy"), str(tmp_path / "out"), "-k", "box:3"]
    assert command(words) == 0
    assert (tmp_path / "out" / "in_box_3.npy").exists()
