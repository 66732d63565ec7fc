"""`separable bank`: one file per kernel, whole and in slabs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import separable as sep
from separable.cli.bank_command import result_paths
from separable.cli.main import app, run
from separable.files import ImageInfo, read_image, write_image

RNG = np.random.default_rng(8)
VOLUME = RNG.random((12, 13, 14)).astype(np.float32)
KERNELS = ["log:1mm", "log:2mm", "gaussian:fwhm=6mm"]


def bank(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["bank", *map(str, arguments)])


def made() -> list[Any]:
    spacing = (2.0, 1.0, 1.0)
    return [
        sep.kernels.laplacian_of_gaussian(1, spacing=spacing),
        sep.kernels.laplacian_of_gaussian(2, spacing=spacing),
        sep.kernels.gaussian(fwhm=6, spacing=spacing),
    ]


@pytest.mark.parametrize("memory", [None, "64GiB"])
@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_every_result_is_that_of_the_filter_alone(
    tmp_path: Path, memory: str | None, mode: str
) -> None:
    nib = pytest.importorskip("nibabel")
    nib.Nifti1Image(VOLUME, np.diag([2.0, 1, 1, 1])).to_filename(tmp_path / "in.nii")
    options = [word for kernel in KERNELS for word in ("-k", kernel)]
    limit = [] if memory is None else ["--memory", memory]
    done = bank(tmp_path / "in.nii", tmp_path / "out", *options, "--mode", mode, *limit)
    assert done.exit_code == 0, done.output
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["in_gaussian_fwhm_6mm.nii", "in_log_1mm.nii", "in_log_2mm.nii"]
    for name, kernel in zip(("log_1mm", "log_2mm", "gaussian_fwhm_6mm"), made(), strict=True):
        found = nib.load(tmp_path / "out" / f"in_{name}.nii")
        wanted = sep.correlate(VOLUME, kernel, mode=mode)
        np.testing.assert_allclose(np.asarray(found.dataobj), wanted, atol=1e-5)
        np.testing.assert_array_equal(found.affine, np.diag([2.0, 1, 1, 1]))


def test_passes_are_shared_and_counted(tmp_path: Path) -> None:
    write_image(tmp_path / "in.npy", VOLUME)
    done = bank(
        tmp_path / "in.npy", tmp_path / "out", "-k", "gaussian:2", "-k", "gaussian:2,order=0x0x1"
    )
    assert "2 kernels along axes 0, 1, 2: " in done.output
    assert "multiplications per sample together" in done.output
    found = np.load(tmp_path / "out" / "in_gaussian_2_order_0x0x1.npy")
    wanted = sep.correlate(VOLUME, sep.kernels.gaussian(2, order=(0, 0, 1)))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_missing_samples_are_ignored_by_every_kernel(tmp_path: Path) -> None:
    image = VOLUME[0].copy()
    image[2:5, 3:6] = np.nan
    write_image(tmp_path / "in.npy", image)
    done = bank(
        tmp_path / "in.npy", tmp_path / "out", "-k", "box:3", "-k", "gaussian:1", "--nan", "ignore"
    )
    assert done.exit_code == 0, done.output
    found = np.load(tmp_path / "out" / "in_box_3.npy")
    np.testing.assert_allclose(
        found, sep.convolve(image, sep.kernels.box(3, ndim=2), nan="ignore"), rtol=1e-5
    )


def test_names_of_results() -> None:
    paths = result_paths(Path("a.ome.tif"), Path("o"), ["log:2", "log:2.", "d/psf.npy"], ".npy")
    assert [p.name for p in paths.values()] == ["a_log_2.npy", "a_log_2..npy", "a_psf.npy"]
    assert (
        result_paths(Path("a.ome.tif"), Path("o"), ["box:3"], None)["box:3"].name
        == "a_box_3.ome.tif"
    )
    assert result_paths(Path("a.dcm"), Path("o"), ["box:3"], None)["box:3"].name == "a_box_3.dcm"


def test_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image("in.npy", VOLUME[0], ImageInfo("YX"))
    Path("file").write_text("x")
    for arguments, message in (
        (
            ["in.npy", "out", "-k", "box:3", "-k", "box:3"],
            "`--kernel` must be different kernels; got box:3 twice",
        ),
        (
            ["in.npy", "file", "-k", "box:3"],
            "cannot write into file: expected a folder. Name another one",
        ),
        (
            ["in.npy", "result.npy", "-k", "box:3"],
            "cannot write into result.npy: expected a folder, because each result is a file of its own; "
            "got the name of a file. Name a folder, for example result",
        ),
        (
            ["in.npy", "no/out", "-k", "box:3"],
            "cannot create the folder no/out: no such file or directory",
        ),
        (["none.npy", "out", "-k", "box:3"], "cannot read none.npy: there is no such file"),
        (["in.npy", "out", "-k", "boxx:3"], "unknown kernel `boxx`. Did you mean `box`?"),
    ):
        assert run(["bank", *arguments]) == 2
        assert capsys.readouterr().err == f"Error: {message}\n"
    assert run(["bank", "in.npy", "out", "-k", "box:3"]) == 0
    capsys.readouterr()
    assert run(["bank", "in.npy", "out", "-k", "box:3"]) == 2
    assert "in_box_3.npy exists. Choose another name, or overwrite it" in capsys.readouterr().err
    assert run(["bank", "in.npy", "out", "-k", "box:3", "--force"]) == 0
    assert read_image("out/in_box_3.npy")[0].shape == VOLUME[0].shape
