"""Features of files and Dask arrays have the results of arrays in memory; the command line."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from separable import features
from separable.cli.main import app, run
from separable.errors import ArgumentError, FileError
from separable.features.feature_files import FeatureRun, write_features
from separable.features.feature_values import (
    HessianEigenvalues,
    LocalVariance,
    StructureTensorEigenvalues,
)
from separable.features.ridge_values import Frangi, Meijering
from separable.files import read_image, write_image
from separable.volumes import slab_planner

SHAPE = (40, 37, 45)
VOLUME = np.random.default_rng(2).standard_normal(SHAPE).astype("float32")
FEATURES = {
    "frangi": Frangi((1.0, 1.5), False),
    "hessian": HessianEigenvalues(1.2),
    "tensor": StructureTensorEigenvalues(1.0),
    "meijering": Meijering((1.0,)),
    "variance": LocalVariance(3),
}
NAMES = [
    "frangi", "hessian_1", "hessian_2", "hessian_3", "tensor_1", "tensor_2", "tensor_3",
    "meijering", "variance",
]  # fmt: skip


def in_memory(image: Any, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["frangi"] = features.frangi(image, (1.0, 1.5), black_ridges=False, **options)
    for k, values in enumerate(features.hessian_eigenvalues(image, 1.2, **options)):
        found[f"hessian_{k + 1}"] = values
    for k, values in enumerate(features.structure_tensor_eigvals_of(image, 1.0, **options)):
        found[f"tensor_{k + 1}"] = values
    found["meijering"] = features.meijering(image, [1.0], **options)
    found["variance"] = features.local_variance(image, 3, **options)
    return found


def check(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == NAMES
    for name, values in found.items():
        scale = max(1.0, float(np.abs(wanted[name]).max()))
        np.testing.assert_allclose(values, wanted[name], atol=2e-6 * scale, err_msg=name)


def thin_slabs(monkeypatch: pytest.MonkeyPatch, planes: int) -> None:
    """Have all schedules cut volumes into slabs of so many planes."""
    from separable.features import feature_files

    def schedule(filters: Any, source: Any, target: Any, limit: int, base: int, slow: Any) -> Any:
        stage = slab_planner.Stage(filters, 0, (planes, *filters.problem.shape[1:]), source, target)
        return feature_files.Schedule((stage,), limit, base)

    monkeypatch.setattr(feature_files, "make_schedule", schedule)


@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant", "mirror", "nearest"])
def test_files_in_slabs(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    thin_slabs(monkeypatch, 9)
    np.save(tmp_path / "in.npy", VOLUME)
    targets = {name: tmp_path / f"{name}.npy" for name in NAMES}
    done = write_features(
        tmp_path / "in.npy", targets, FEATURES, mode=mode, cval=0.5, spacing=(1.3, 1, 1)
    )
    assert done.slabs == 5
    found = {name: np.load(path) for name, path in targets.items()}
    check(found, in_memory(VOLUME, mode=mode, cval=0.5, spacing=(1.3, 1, 1)))
    assert not list(tmp_path.glob("*.partial*"))


def test_an_interrupted_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thin_slabs(monkeypatch, 5)
    np.save(tmp_path / "in.npy", VOLUME)
    targets = {name: tmp_path / f"{name}.npy" for name in NAMES}
    told: list[float] = []

    def stop(fraction: float) -> None:
        told.append(fraction)
        if sum(told) > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "in.npy", targets, FEATURES, progress=stop)
    assert len(list(tmp_path.glob("*.partial"))) == len(NAMES)
    with pytest.raises(FileError, match="another request"):
        write_features(tmp_path / "in.npy", targets, FEATURES, mode="wrap")
    with FeatureRun(tmp_path / "in.npy", targets, FEATURES) as again:
        assert 0 < again.resumed < again.schedule.slabs
        again()
    check({n: np.load(p) for n, p in targets.items()}, in_memory(VOLUME, mode="reflect"))


@pytest.mark.parametrize("masked", [False, True])
def test_dask_arrays(masked: bool) -> None:
    array = pytest.importorskip("dask.array")
    image, options = VOLUME, {}
    if masked:
        valid = np.random.default_rng(4).random(SHAPE) > 0.1
        options = {"mask": valid}
    chunks = array.from_array(image, chunks=(16, 37, 20))
    lazy = in_memory(chunks, **options)
    assert all(type(v).__module__.startswith("dask") for v in lazy.values())
    assert lazy["frangi"].chunks == chunks.chunks
    assert lazy["frangi"].dtype == np.float32
    import dask

    with dask.config.set(scheduler="synchronous"):
        found = dict(zip(lazy, dask.compute(*lazy.values()), strict=True))
    check(found, in_memory(image, **options))


def test_masked_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thin_slabs(monkeypatch, 15)
    valid = np.random.default_rng(4).random(SHAPE) > 0.1
    np.save(tmp_path / "in.npy", np.where(valid, VOLUME, 1e6).astype("f4"))
    np.save(tmp_path / "mask.npy", valid)
    targets = {name: tmp_path / f"{name}.npy" for name in NAMES}
    write_features(tmp_path / "in.npy", targets, FEATURES, mask=tmp_path / "mask.npy")
    check(
        {n: np.load(p) for n, p in targets.items()}, in_memory(VOLUME, mask=valid, mode="reflect")
    )


def test_targets_must_be_named(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    with pytest.raises(ArgumentError, match="a file for each of hessian_1, hessian_2, hessian_3"):
        FeatureRun(
            tmp_path / "in.npy", {"hessian": tmp_path / "a.npy"}, {"hessian": FEATURES["hessian"]}
        )


# --- command line -------------------------------------------------------------------------------------------


def command(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["features", *map(str, arguments)])


def test_the_spacing_of_the_file_counts(tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel")
    nib.Nifti1Image(VOLUME, np.diag([2.0, 1, 1, 1])).to_filename(tmp_path / "in.nii")
    done = command(
        tmp_path / "in.nii", tmp_path / "out", "--frangi", "2mm,3mm", "--bright", "--hessian", "2mm",
        "--gaussian", "1px,0.2cm",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert done.output.startswith(
        "Features along axes 0, 1, 2, samples 2x1x1mm apart: frangi_2mm_3mm, hessian_2mm, "
        "gaussian_1px, gaussian_0.2cm.\n"
    )
    names = ["frangi_2mm_3mm", "gaussian_0.2cm", "gaussian_1px"]
    names += [f"hessian_2mm_{k}" for k in (1, 2, 3)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"in_{n}.nii" for n in names]
    assert f"Wrote {tmp_path / 'out' / 'in_frangi_2mm_3mm.nii'}: 40x37x45 float32." in done.output

    def read(name: str) -> Any:
        found = nib.load(tmp_path / "out" / f"in_{name}.nii")
        np.testing.assert_array_equal(found.affine, np.diag([2.0, 1, 1, 1]))
        return np.asarray(found.dataobj)

    wanted = features.frangi(VOLUME, [2.0, 3.0], black_ridges=False, spacing=(2, 1, 1))
    np.testing.assert_allclose(read("frangi_2mm_3mm"), wanted, atol=2e-6)
    wanted = features.hessian_eigenvalues(VOLUME, 2.0, spacing=(2, 1, 1))
    np.testing.assert_allclose(read("hessian_2mm_1"), wanted[0], atol=2e-6)


def test_pictures_are_read_whole(tmp_path: Path) -> None:
    import imageio.v3 as imageio

    picture = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
    imageio.imwrite(tmp_path / "in.png", picture)
    done = command(tmp_path / "in.png", tmp_path / "out", "--sato", "1,2", "--suffix", ".npy")
    assert done.exit_code == 0, done.output
    found = np.load(tmp_path / "out" / "in_sato_1_2.npy")
    np.testing.assert_allclose(found, features.sato(picture, [1.0, 2.0]), atol=1e-4)


BAD = [
    ([], "say which features to compute"),
    (["--frangi", "0"], "`--frangi` must be scales > 0; got '0'"),
    (["--frangi", "-1mm"], "`--frangi` must be scales > 0"),
    (["--hessian", "wide"], "`--hessian` must be scales such as 1mm,2mm; got 'wide'"),
    (["--hessian", "1mm"], "`--hessian` 1mm is in mm, and the spacing of the image is not known"),
    (["--hessian", "1x2"], "one for each of 3 axes; got '1x2'"),
    (["--hessian", "0.1"], "at least 0.6 samples"),
    (["--structure-tensor", "0.1px"], "at least 0.42 samples"),
    (["--frangi", "1", "--axes", "0"], "needs 2 or 3 axes; got 1"),
    (["--frangi", "1", "--mode", "around"], "mode"),
    (["--frangi", "1", "--memory", "1MB"], "memory"),
    (["--edges", "1"], "no such option"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_explained(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    assert run(["features", str(tmp_path / "in.npy"), str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_existing_results_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    (tmp_path / "out").mkdir()
    old = tmp_path / "out" / "in_gradient_2.npy"
    old.write_text("kept")
    words = ["features", str(tmp_path / "in.npy"), str(tmp_path / "out"), "--gradient", "2"]
    assert run(words) == 2
    assert old.read_text() == "kept"
    assert "in_gradient_2.npy exists" in capsys.readouterr().err
    assert run([*words, "--force"]) == 0
    assert np.load(old).shape == SHAPE


@pytest.mark.long
def test_the_benchmark_of_files_prints_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    seconds, processors, peak = importlib.import_module("feature_files").measure(
        (60, 50, 64), "1GiB", str(tmp_path)
    )
    assert min(seconds, processors, peak) > 0
    assert peak < 1


def test_pictures_get_results_in_a_format_that_holds_floats(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    write_image(tmp_path / "in.png", picture)
    words = ["features", str(tmp_path / "in.png"), str(tmp_path / "out"), "--sato", "2"]
    assert run(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Note: PNG holds no float32, so the results are TIFF files; --suffix chooses" in said
    found = read_image(tmp_path / "out" / "in_sato_2.tif")[0]
    np.testing.assert_allclose(found, features.sato(picture, [2.0]), rtol=1e-5, atol=1e-5)
    assert run([*words, "--suffix", ".npy"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "in_sato_2.npy"), found)


@pytest.mark.parametrize("option", ["--frangi", "--structure-tensor", "--gradient"])
def test_scales_below_the_sampling_name_their_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    np.save(tmp_path / "in.npy", np.zeros((9, 9), np.float32))
    assert run(["features", str(tmp_path / "in.npy"), str(tmp_path / "out"), option, "0.2"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith(f"Error: `{option}` must be at least 0.")
    assert said.endswith("got 0.2, which is 0.2 samples 1 apart. Take a larger scale")
    assert not (tmp_path / "out").exists()


def test_a_maximum_over_the_volume_is_said_to_take_a_second_reading(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", np.random.default_rng(0).random((9, 9, 9)).astype("f4"))
    words = ["features", str(tmp_path / "in.npy"), str(tmp_path / "out"), "--bright"]
    for option, read in (("--frangi", "twice, because a maximum"), ("--sato", "once.")):
        assert run([*words, option, "1"]) == 0
        assert f"everything is read {read}" in " ".join(capsys.readouterr().out.split())
