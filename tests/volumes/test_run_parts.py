"""Independent processes share one run: every order of parts, killed parts, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import features, files, volumes
from separable.errors import ArgumentError, FileError, SeparableError
from separable.features.feature_files import FeatureRun
from separable.features.feature_values import HessianEigenvalues
from separable.volumes.run_parts import Part, read_part

zarr = pytest.importorskip("zarr")

VOLUME = np.random.default_rng(6).random((40, 30, 20)).astype("float32")
KERNEL = sep.kernels.gaussian(1.0, ndim=3)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.zarr"
    target = files.create_target(path, VOLUME.shape, VOLUME.dtype, chunks=(8, 8, 8))
    target.write(tuple(slice(0, n) for n in VOLUME.shape), VOLUME)
    target.finish()
    return path


def run_part(source: Path, target: Path, part: str, **options: Any) -> bool:
    with volumes.Run(source, target, KERNEL, part=part, **options) as run:
        run()
        return run.finished


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_the_last_part_completes_the_target(
    source: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    target = tmp_path / "out.zarr"
    for number in order:
        assert not target.exists()
        assert run_part(source, target, f"{number}/3") == (number == order[-1])
    found, _ = files.read_image(target)
    whole = tmp_path / "whole.zarr"
    volumes.filter(source, whole, KERNEL)
    assert np.array_equal(found, files.read_image(whole)[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.zarr", "out.zarr", "whole.zarr"]


def test_more_parts_than_slabs(source: Path, tmp_path: Path) -> None:
    done = [run_part(source, tmp_path / "out.zarr", f"{k}/30") for k in range(1, 31)]
    assert done == [False] * 29 + [True]
    np.testing.assert_allclose(
        files.read_image(tmp_path / "out.zarr")[0], sep.correlate(VOLUME, KERNEL), atol=1e-6
    )


def test_a_killed_part_runs_again(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.zarr"

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), volumes.Run(source, target, KERNEL, part="1/2") as run:
        run(stop)
    assert not run_part(source, target, "2/2")
    assert run_part(source, target, "1/2")
    np.testing.assert_allclose(
        files.read_image(target)[0], sep.correlate(VOLUME, KERNEL), atol=1e-6
    )


def test_two_processes_do_not_compute_one_part(source: Path, tmp_path: Path) -> None:
    with (
        volumes.Run(source, tmp_path / "out.zarr", KERNEL, part="1/2"),
        pytest.raises(FileError, match="another process is writing it"),
    ):
        run_part(source, tmp_path / "out.zarr", "1/2")


def test_other_requests_are_refused(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.zarr"
    run_part(source, target, "1/2")
    with pytest.raises(FileError, match="parts was 2, is 3"):
        run_part(source, target, "1/3")
    with pytest.raises(FileError, match="mode was reflect,reflect,reflect, is wrap,wrap,wrap"):
        run_part(source, target, "2/2", mode="wrap")
    assert run_part(source, target, "2/2")


@pytest.mark.parametrize(
    "part", ["", "3", "0/2", "3/2", "1/2/3", "a/b", "-1/2", "1/0", (1,), "9" * 30]
)
def test_bad_parts_are_explained(source: Path, tmp_path: Path, part: Any) -> None:
    with pytest.raises(ArgumentError, match="such as 3/64"):
        run_part(source, tmp_path / "out.zarr", part)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("out.npy", {}, "only Zarr stores each chunk"),
        ("out.zarr", {"rescale": (1, 99)}, "cannot be combined with `rescale`"),
        ("out.zarr", {"overwrite": True}, "cannot be combined with `overwrite`"),
    ],
)
def test_what_needs_one_process_is_refused(
    source: Path, tmp_path: Path, target: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SeparableError, match=message):
        run_part(source, tmp_path / target, "1/2", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["in.zarr"]


def test_features_in_parts(source: Path, tmp_path: Path) -> None:
    targets = {f"h_{k}": tmp_path / f"{k}.zarr" for k in (1, 2, 3)}
    for number in (2, 1):
        with FeatureRun(source, targets, {"h": HessianEigenvalues(1.0)}, part=(number, 2)) as run:
            run()
    for k, values in enumerate(features.hessian_eigenvalues(VOLUME, 1.0)):
        np.testing.assert_allclose(files.read_image(targets[f"h_{k + 1}"])[0], values, atol=1e-6)


def level_arrays(path: Path) -> list[Any]:
    store = zarr.open(str(path), mode="r")
    return [np.asarray(store[str(number)]) for number in range(3)]


BANK = {"small": sep.kernels.gaussian(0.7, ndim=3), "large": sep.kernels.gaussian(1.5, ndim=3)}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_a_bank_with_levels_in_parts(source: Path, tmp_path: Path, order: Any) -> None:
    alone = {name: tmp_path / f"{name}-alone.ome.zarr" for name in BANK}
    for name, target in alone.items():
        volumes.filter(source, target, BANK[name], levels=3)
    together = {tmp_path / f"{name}.ome.zarr": kernel for name, kernel in BANK.items()}
    kinds = []
    for number in order:
        runs = [(target, kernel, {"levels": 3}) for target, kernel in together.items()]
        with volumes.BankRun(source, runs, part=f"{number}/3") as run:
            run()
            kinds.append((len(run.groups), run.finished))
    assert kinds == [(1, False), (1, False), (1, True)]
    for target, other in zip(together, alone.values(), strict=True):
        for level, wanted in zip(level_arrays(target), level_arrays(other), strict=True):
            np.testing.assert_array_equal(level, wanted)
    assert not list(tmp_path.glob("*.partial*"))


def test_a_killed_part_of_a_bank_runs_again(source: Path, tmp_path: Path) -> None:
    targets = {tmp_path / f"{name}.zarr": kernel for name, kernel in BANK.items()}

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        volumes.bank(source, targets, part="1/2", progress=stop)
    volumes.bank(source, targets, part="2/2")
    assert not any(target.exists() for target in targets)
    volumes.bank(source, targets, part="1/2")
    for target, kernel in targets.items():
        np.testing.assert_allclose(
            files.read_image(target)[0], sep.correlate(VOLUME, kernel), atol=1e-6
        )


@pytest.mark.parametrize("parts", [1, 2])
def test_features_with_levels(source: Path, tmp_path: Path, parts: int) -> None:
    targets = {f"h_{k}": tmp_path / f"{k}.ome.zarr" for k in (1, 2, 3)}
    for number in range(1, parts + 1):
        part = None if parts == 1 else (number, parts)
        with FeatureRun(
            source, targets, {"h": HessianEigenvalues(1.0)}, part=part, levels=3
        ) as run:
            run()
    values = features.hessian_eigenvalues(VOLUME, 1.0)
    for k, target in enumerate(targets.values()):
        fine, half, _ = level_arrays(target)
        np.testing.assert_allclose(fine, values[k], atol=1e-6)
        np.testing.assert_allclose(
            half, values[k].reshape(20, 2, 15, 2, 10, 2).mean((1, 3, 5)), atol=1e-6
        )


def test_parts_cover_all_slabs_once() -> None:
    for count, steps in itertools.product((1, 2, 3, 7, 64), (1, 2, 5, 64, 65)):
        owners = [
            [k for k in range(1, count + 1) if Part(k, count).has(s, steps)] for s in range(steps)
        ]
        assert all(len(found) == 1 for found in owners)
        assert owners == sorted(owners)
    assert repr(read_part(" 3 / 64 ")) == "Part 3/64"


@pytest.mark.parametrize("part", [None, 2])
def test_levels_of_a_filtered_volume(source: Path, tmp_path: Path, part: int | None) -> None:
    target = tmp_path / "out.ome.zarr"
    if part is None:
        volumes.filter(source, target, KERNEL, levels=3, memory="64GiB")
    else:
        for number in (1, 2):
            run_part(source, target, f"{number}/{part}", levels=3)
    fine, _ = files.read_image(target)
    np.testing.assert_allclose(fine, sep.correlate(VOLUME, KERNEL), atol=1e-6)
    store = zarr.open(str(target), mode="r")
    expected = fine.astype("float64")
    for number, shape in enumerate([(40, 30, 20), (20, 15, 10), (10, 8, 5)]):
        level = np.asarray(store[str(number)])
        assert level.shape == shape
        np.testing.assert_allclose(level, expected, atol=1e-6)
        widths = [(0, n % 2) for n in expected.shape]
        wide = np.pad(expected, widths, mode="edge")  # the mean of one sample is that sample
        half = [n // 2 for n in wide.shape]
        expected = wide.reshape(half[0], 2, half[1], 2, half[2], 2).mean((1, 3, 5))
    scales = dict(store.attrs)["ome"]["multiscales"][0]["datasets"][2]["coordinateTransformations"]
    assert scales[0]["scale"] == [4, 4, 4]
    assert scales[1]["translation"] == [1.5, 1.5, 1.5]


@pytest.mark.parametrize(
    ("name", "levels", "message"),
    [
        ("out.zarr", 2, "need an OME-Zarr target"),
        ("out.npy", 2, "need an OME-Zarr target"),
        ("out.ome.zarr", 0, "must be a number, 1 .. 7"),
        ("out.ome.zarr", 8, "must be a number, 1 .. 7"),
        ("out.ome.zarr", "two", "must be a number"),
    ],
)
def test_bad_levels_are_explained(
    source: Path, tmp_path: Path, name: str, levels: Any, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        volumes.filter(source, tmp_path / name, KERNEL, levels=levels)
