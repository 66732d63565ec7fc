"""Banks from file to file: each slab is read once, and every result is that of its filter alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import volumes
from separable.errors import ArgumentError, FileError
from separable.files import ImageInfo, chunked_io, read_image, write_image
from separable.files.chunked_io import Source, Target
from separable.volumes import slab_schedule
from separable.volumes.slab_planner import Stage

RNG = np.random.default_rng(31)
VOLUME = RNG.random((40, 18, 20), np.float32)
KERNELS = {
    "log1": sep.kernels.laplacian_of_gaussian(1, ndim=3),
    "log2": sep.kernels.laplacian_of_gaussian(2, ndim=3),
    "box": np.ones((3, 5, 1)),
    "dense": RNG.random((3, 3, 3)),
}
MODES = ["reflect", "mirror", "nearest", "wrap", "constant"]


@pytest.fixture
def slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs of six planes and columns of eleven rows."""
    monkeypatch.setattr(
        slab_schedule, "best_stage",
        lambda whole, source, target, *_: Stage(whole, 0, (6, 11, 20), source, target),
    )  # fmt: skip


def paths(folder: Path, suffix: str = ".npy") -> dict[Any, Any]:
    return {folder / f"{name}{suffix}": kernel for name, kernel in KERNELS.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("slabs")
def test_every_result_is_bit_identical(tmp_path: Path, mode: str) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    options = {"mode": mode, "cval": 0.7, "operation": "correlate"}
    (schedule,) = volumes.bank(tmp_path / "in.npy", paths(tmp_path), **options)
    assert schedule.slabs == 14
    for path, kernel in paths(tmp_path).items():
        volumes.filter(
            tmp_path / "in.npy", tmp_path / "alone.npy", kernel, overwrite=True, **options
        )
        np.testing.assert_array_equal(np.load(path), np.load(tmp_path / "alone.npy"))
    assert not list(tmp_path.glob("*partial*"))


@pytest.mark.usefixtures("slabs")
def test_the_source_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    monkeypatch.setattr(
        slab_schedule, "best_stage",
        lambda whole, source, target, *_: Stage(whole, 0, (6, 18, 20), source, target),
    )  # fmt: skip
    read = [0]
    original = Source.read

    def counted(source: Source, region: Any) -> np.ndarray:
        found = original(source, region)
        read[0] += found.size
        return found

    monkeypatch.setattr(chunked_io.Source, "read", counted)
    volumes.bank(tmp_path / "in.npy", paths(tmp_path))
    assert read[0] == VOLUME.size


@pytest.mark.usefixtures("slabs")
def test_a_file_that_declares_nan_and_holds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NIfTI of floats: the plain filter runs, for large kernels too, after one look for all kernels."""
    from separable.volumes import absent_nan

    looks: list[Any] = []
    original = absent_nan._has_nan
    monkeypatch.setattr(absent_nan, "_has_nan", lambda s: looks.append(s) or original(s))
    write_image(tmp_path / "in.nii", VOLUME, ImageInfo("XYZ"))
    large = sep.kernels.laplacian_of_gaussian(4, ndim=3)
    kernels = {tmp_path / "a.nii": large, tmp_path / "b.nii": KERNELS["log1"]}
    volumes.bank(tmp_path / "in.nii", kernels)
    assert len(looks) == 1
    for path, kernel in kernels.items():
        wanted = sep.convolve(VOLUME, kernel)
        np.testing.assert_allclose(read_image(path)[0], wanted, atol=1e-5)
    holes = VOLUME.copy()
    holes[39, 2, 3] = np.nan
    write_image(tmp_path / "holes.nii", holes, ImageInfo("XYZ"))
    volumes.bank(tmp_path / "holes.nii", {tmp_path / "c.nii": KERNELS["log1"]})
    wanted = sep.convolve(holes, KERNELS["log1"], nan="ignore")
    np.testing.assert_allclose(read_image(tmp_path / "c.nii")[0], wanted, atol=1e-5)


@pytest.mark.usefixtures("slabs")
@pytest.mark.parametrize("option", ["nan", "mask"])
def test_missing_samples(tmp_path: Path, option: str) -> None:
    image, valid = VOLUME.copy(), RNG.random(VOLUME.shape) < 0.8
    options: dict[str, Any] = {"mask": valid} if option == "mask" else {"nan": "ignore"}
    if option == "nan":
        image[~valid] = np.nan
    np.save(tmp_path / "in.npy", image)
    targets = {tmp_path / f"{name}.npy": KERNELS[name] for name in ("dense", "box")}
    volumes.bank(tmp_path / "in.npy", targets, **options)
    for path, kernel in targets.items():
        wanted = sep.convolve(image, kernel, **options)
        np.testing.assert_allclose(np.load(path), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("slabs")
def test_an_interrupted_bank_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    original = Target.write
    count = [0]

    def failing(target: Target, region: Any, array: np.ndarray) -> None:
        count[0] += 1
        if count[0] == 21:
            raise OSError(28, "No space left on device")
        original(target, region, array)

    with monkeypatch.context() as patched:
        patched.setattr(Target, "write", failing)
        with pytest.raises((FileError, OSError)):
            volumes.bank(tmp_path / "in.npy", paths(tmp_path))
    assert len(list(tmp_path.glob("*.partial"))) == len(KERNELS)
    with volumes.BankRun(
        tmp_path / "in.npy", [(p, k, {}) for p, k in paths(tmp_path).items()]
    ) as run:
        assert 0 < run.resumed < 14 * len(KERNELS)
        done: list[float] = []
        run(done.append)
    assert sum(done) == pytest.approx(1)
    for path, kernel in paths(tmp_path).items():
        volumes.filter(tmp_path / "in.npy", tmp_path / "alone.npy", kernel, overwrite=True)
        np.testing.assert_array_equal(np.load(path), np.load(tmp_path / "alone.npy"))


def test_little_memory_runs_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from separable.volumes import bank_files

    def too_little(*_: Any) -> Any:
        raise ArgumentError("`memory` must be at least 9 GiB")

    monkeypatch.setattr(bank_files, "make_schedule", too_little)
    np.save(tmp_path / "in.npy", VOLUME)
    schedules = volumes.bank(tmp_path / "in.npy", paths(tmp_path))
    assert len(schedules) == len(KERNELS)
    wanted = sep.convolve(VOLUME, KERNELS["dense"])
    np.testing.assert_allclose(np.load(tmp_path / "dense.npy"), wanted, rtol=1e-5)


def test_wrong_input(tmp_path: Path) -> None:
    write_image(tmp_path / "in.npy", VOLUME)
    with pytest.raises(ArgumentError, match="at least one kernel"):
        volumes.bank(tmp_path / "in.npy", {})
    with pytest.raises(FileError, match="it is the input"):
        volumes.bank(tmp_path / "in.npy", {tmp_path / "in.npy": KERNELS["box"]}, overwrite=True)
    both = {tmp_path / "a.npy": KERNELS["box"], tmp_path / "b.png": KERNELS["box"]}
    with pytest.raises(FileError, match=r"b\.png"):
        volumes.bank(tmp_path / "in.npy", both)
    assert {p.name for p in tmp_path.iterdir()} == {"in.npy"}  # nothing is left behind
