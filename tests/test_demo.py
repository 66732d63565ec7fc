"""The demonstration: what it finds on small images, what it writes, what it needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from separable.cli import run
from separable.demo import demonstration, run_demo
from separable.errors import FileError
from separable.files import read_image

pytest.importorskip("skimage")
pytest.importorskip("nibabel")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "pictures"


def test_the_demonstration(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demonstration, "PATIENCE", 0.0)
    results = run_demo(folder, step=8)
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if str(folder) not in line]  # as long as its path
    assert max(map(len, lines)) <= 80
    assert [(r.title, r.size, r.factors.rank) for r in results[:4]] == [
        ("Sobel", "3x3", 1),
        ("Gaussian", "25x25", 1),
        ("Laplacian of Gaussian", "31x31", 2),
        ("Disk", "21x21", 7),
    ]
    assert [(r.title, r.size) for r in results[4:]] == [
        ("Gaussian", "7x7x7"),
        ("Laplacian of Gaussian", "9x9x9"),
        ("Ball", "7x7x7"),
    ]
    for result in results:
        assert result.difference <= 1e-6 * np.abs(result.kernel).sum() * 1200
        assert repr(result.factors) in text
        assert str(result.plan) in text
    for name in ("demo.png", "demo-volume.png"):
        picture, _ = read_image(folder / name)
        assert picture.shape[1:] == (1600, 3)
        assert picture.std() > 20
        assert f"Wrote {folder / name}." in text


def test_a_missing_package_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        demonstration, "find_spec", lambda name: None if name != "nibabel" else object()
    )
    assert run(["demo", "--output", str(tmp_path / "new")]) == 2
    assert capsys.readouterr() == (
        "",
        "Error: the demonstration needs scikit-image and matplotlib. "
        'Install the extra: pip install "separable-convolution[demo]"\n',
    )
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot create the folder .*file.*--output"):
        run_demo(tmp_path / "file" / "deep", step=64)
    with pytest.raises(FileError, match="cannot create the folder"):
        run_demo(tmp_path / "file", step=64)
