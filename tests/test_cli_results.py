"""`separable filter --abs`, `--magnitude` and `--rescale`, and the note on results that vanish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import separable as sep
from separable import files, volumes
from separable.cli.main import run
from separable.filter_bank import Magnitude

IMAGE = np.random.default_rng(11).integers(0, 256, (40, 30), dtype=np.uint8)
WAYS = pytest.mark.parametrize("parts", [False, True], ids=["whole", "by parts"])


@pytest.fixture
def slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into slabs of a few rows, as if the memory were small."""
    from separable.volumes import slab_schedule
    from separable.volumes.slab_planner import Stage

    def few_rows(whole, source, target, *_):  # type: ignore[no-untyped-def]
        return Stage(whole, 0, (7, *whole.problem.shape[1:]), source, target)

    monkeypatch.setattr(slab_schedule, "best_stage", few_rows)


def filtered(tmp_path: Path, parts: bool, *options: str, name: str = "in.npy") -> np.ndarray:
    if not (tmp_path / name).exists():
        files.write_image(tmp_path / name, IMAGE)
    memory = ["--memory", "64GiB"] if parts else []
    target = tmp_path / f"out{Path(name).suffix}"
    command = ["filter", str(tmp_path / name), str(target), "--force", *options, *memory]
    assert run(command) == 0
    assert {p.name for p in tmp_path.iterdir()} <= {name, target.name}
    return files.read_image(target)[0]


def rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


@WAYS
def test_absolute_values(
    tmp_path: Path, slabs: None, parts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = filtered(tmp_path, parts, "-k", "sobel:axis=0", "--abs")
    np.testing.assert_array_equal(found, rounded(np.abs(ndimage.sobel(IMAGE.astype(float), 0))))
    assert "cannot represent negative values" not in capsys.readouterr().out


@WAYS
@pytest.mark.parametrize("kernel", ["sobel", "gaussian:1.5", "scharr:size=5"])
def test_magnitudes(
    tmp_path: Path, slabs: None, parts: bool, kernel: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = filtered(tmp_path, parts, "-k", kernel, "--magnitude", "--dtype", "float32")
    expected = sep.gradient(IMAGE.astype(float), kernel).magnitude
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
    assert f"Filtered with the gradient magnitude of {kernel} (" in capsys.readouterr().out


@WAYS
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_rescaling_to_the_range(tmp_path: Path, slabs: None, parts: bool, dtype: str) -> None:
    exact = ndimage.sobel(IMAGE.astype(float), 1)
    first, last = (0, 1) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)

    def stretched(low: float, high: float) -> np.ndarray:
        scaled = np.clip((exact - low) / (high - low), 0, 1) * (float(last) - first) + first
        return scaled if dtype == "float32" else np.rint(scaled)

    whole = filtered(tmp_path, parts, "-k", "sobel", "--rescale", "minmax", "--dtype", dtype)
    tolerance = {"uint8": 1, "int16": 1, "float32": 1e-5}[dtype]
    np.testing.assert_allclose(whole, stretched(exact.min(), exact.max()), atol=tolerance)
    some = filtered(tmp_path, parts, "-k", "sobel", "--rescale", "5,95", "--dtype", dtype)
    expected = stretched(*np.percentile(exact, (5, 95)))
    np.testing.assert_allclose(some, expected, atol=0.005 * (float(last) - first))


@WAYS
def test_alpha_is_neither_combined_nor_rescaled(tmp_path: Path, slabs: None, parts: bool) -> None:
    alpha = np.random.default_rng(1).integers(1, 256, (40, 30, 1), dtype=np.uint8)
    picture = np.concatenate([np.stack([IMAGE, IMAGE.T[::-1].T, IMAGE // 2], -1), alpha], -1)
    info = files.ImageInfo("YXS", alpha=files.Alpha(3))
    files.write_image(tmp_path / "in.tif", picture, info)
    for options in (("--magnitude",), ("--abs",), ("--rescale", "minmax")):
        found = filtered(tmp_path, parts, "-k", "sobel", *options, name="in.tif")
        np.testing.assert_array_equal(found[..., 3], alpha[..., 0])
        assert found[..., :3].any()


def test_from_python_the_same(tmp_path: Path, slabs: None) -> None:
    files.write_image(tmp_path / "in.npy", IMAGE)
    kernels = Magnitude(tuple(sep.kernels.sobel(axis) for axis in (0, 1)))
    done = files.filter_image(IMAGE, files.ImageInfo("YX"), kernels, rescale=(0, 100))
    volumes.filter(tmp_path / "in.npy", tmp_path / "out.npy", kernels, rescale=(0, 100))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), done.image)
    assert done.image.max() == 255
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.npy", "out.npy"]


@WAYS
def test_a_result_that_is_cut_off_is_noted(
    tmp_path: Path, slabs: None, parts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "in.npy", np.full((40, 30), 100, np.uint8))
    assert (filtered(tmp_path, parts, "-k", "1 2 1; 2 4 2; 1 2 1") == 255).all()
    assert "Note: more than half of the results are 255, the largest value" in (
        " ".join(capsys.readouterr().out.split())
    )
    filtered(tmp_path, parts, "-k", "1 2 1; 2 4 2; 1 2 1", "--dtype", "uint16")
    np.save(tmp_path / "in.npy", np.full((40, 30), 255, np.uint8))
    filtered(tmp_path, parts, "-k", "gaussian:2")
    assert "more than half" not in capsys.readouterr().out


@WAYS
def test_a_vanished_result_is_noted(
    tmp_path: Path, slabs: None, parts: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((40, 30), np.uint8)
    mask[20, 15] = 1
    np.save(tmp_path / "in.npy", mask)
    assert not filtered(tmp_path, parts, "-k", "gaussian:2").any()
    words = "Note: all results were rounded to 0, because they are smaller than 0.5 and uint8 holds"
    assert words in capsys.readouterr().out
    assert filtered(tmp_path, parts, "-k", "gaussian:2", "--rescale", "minmax").max() == 255
    filtered(tmp_path, parts, "-k", "gaussian:2", "--dtype", "float32")
    np.save(tmp_path / "in.npy", 0 * mask)
    filtered(tmp_path, parts, "-k", "gaussian:2")
    np.save(tmp_path / "in.npy", 0 * mask + 9)
    filtered(tmp_path, parts, "-k", "sobel")  # 0 everywhere, exactly
    assert "rounded to 0" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-k", "sobel", "--abs", "--magnitude"], "give `--abs` or `--magnitude`, not both"),
        (["-k", "1 0 -1", "--magnitude"], "`--magnitude` needs a named derivative"),
        (["-k", "box:3", "--magnitude"], "a gradient needs a derivative"),
        (["-k", "box:3", "--rescale", "all"], "must be minmax or two percentiles such as 1,99"),
        (["-k", "box:3", "--rescale", "99,1"], "0 <= low < high <= 100; got 99 and 1"),
    ],
)
@WAYS
def test_one_message_each(
    tmp_path: Path, parts: bool, options: list[str], message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    np.save(tmp_path / "in.npy", IMAGE)
    memory = ["--memory", "64GiB"] if parts else []
    assert (
        run(["filter", str(tmp_path / "in.npy"), str(tmp_path / "o.npy"), *options, *memory]) == 2
    )
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]
