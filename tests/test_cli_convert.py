"""`separable convert`: what it writes, and its mistakes, after which nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from separable import nn
from separable.cli import outputs, run
from separable.cli.batches import Folder
from separable.errors import FileError

FACTORY = """
from torch import nn
def make():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3))
def linear():
    return nn.Sequential(nn.Linear(3, 4))
"""


def dense() -> torch.nn.Sequential:
    conv = torch.nn.Conv2d
    return torch.nn.Sequential(conv(3, 16, 3, padding=1), torch.nn.ReLU(), conv(16, 32, 3))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_here.py").write_text(FACTORY)
    save_file(dense().state_dict(), "w.safetensors")
    save_file(torch.nn.Sequential(torch.nn.Linear(3, 4)).state_dict(), "linear.safetensors")
    for name in ("empty", "nan", "wrong"):
        (tmp_path / name).mkdir()
    (tmp_path / "pictures").mkdir()
    generator = np.random.default_rng(0)
    for at in range(20):
        pixels = generator.integers(0, 256, (8, 8) if at == 3 else (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(f"pictures/{at:02}.png")
    np.save("nan/a.npy", np.full((2, 3, 8, 8), np.nan, "f"))
    np.save("wrong/a.npy", np.zeros((2, 5, 8, 8), "f"))
    return tmp_path


def test_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["convert", "w.safetensors", "--factory", "made_here:make", "--budget", "0.4", "--input-shape", "1x3x16x16", "--repeats", "0", "--report", "html", "-o", "out"])  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "Wrote out.safetensors" in printed.out
    again = nn.rebuild(dense(), (folder / "out.json").read_text())
    again.load_state_dict(load_file("out.safetensors"))
    count, before = (
        sum(x.cost.multiplications for x in nn.ledger(m, (1, 3, 16, 16)).layers)
        for m in (again, dense())
    )
    assert count <= 0.4 * before
    assert json.loads((folder / "out.json").read_text())["layers"]
    assert "<table" in (folder / "out.html").read_text()


def test_a_report_for_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["convert", "w.safetensors", "--factory", "made_here:make", "--budget", "0.4", "--input-shape", "1x3x8x8", "--repeats", "0", "--report", "json", "-o", "out"])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    assert "layers" in json.loads((folder / "out.json").read_text())  # the patterns, as ever
    found = json.loads((folder / "out.report.json").read_text())
    assert found["multiplications"] <= 0.4 * found["multiplications_before"]
    page = pytest.importorskip("separable.explore.network_answers")
    shown = page.report_of((folder / "out.report.json").read_bytes())
    assert len(shown["curve"]) == len(found["tradeoff"])


GOOD = "w.safetensors --factory made_here:make --input-shape 1x3x8x8"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{GOOD} --budget 0.001", "the smallest that can is"),
        (f"{GOOD} --data empty", "it is empty"),
        (f"{GOOD} --data nan", "NaN"),
        (f"{GOOD} --data wrong", "has shape (2, 5, 8, 8)"),
        (
            f"{GOOD} --data none",
            "`--data` must be a folder of pictures, .npy or .npz files, or one",
        ),
        (
            f"{GOOD} --data made_here.py",
            "made_here.py is not a picture, .npy or .npz file; give one",
        ),
        (f"{GOOD} --data pictures --mean 0.5,0.5", "one number, or one for each of 3 channels"),
        (f"{GOOD} --data pictures --std 0", "`--std` must be > 0; got '0'"),
        (f"{GOOD} --data pictures --mean a", "`--mean` must be numbers such as 0.485"),
        (
            "w.safetensors --factory made_here:make --input-shape 1x3x9x8 --data pictures",
            "is a picture of shape 3x8x8; the network expects 3x9x8. Pictures are not resized",
        ),
        (f"{GOOD} --include nowhere", "'nowhere'"),
        ("w.safetensors", "--factory"),
        ("w.safetensors --factory made_here:none", "AttributeError"),
        ("w.safetensors --factory made_here:linear", "not of the network"),
        ("linear.safetensors --factory made_here:linear", "no convolution to convert"),
        ("mobilenet_v9", "Did you mean `mobilenet_v2`?"),
        ("there_is_none.onnx", "no such file"),
    ],
)
def test_mistakes(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert run(["convert", *arguments.split(), "--repeats", "0", "-o", "out"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(folder.glob("out*"))
    assert not list(folder.glob(".separable*"))


def test_a_pickle_is_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(dense(), "whole.pt")
    assert run(["convert", "whole.pt", "--factory", "made_here:make", "-o", "out"]) == 2
    assert "would run code" in capsys.readouterr().err


def test_torch_is_imported_only_if_needed() -> None:
    code = "import sys, separable.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def convert(arguments: str) -> int:
    return run(["convert", *f"{GOOD} --repeats 0 -o out {arguments}".split()])


def written(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name.startswith(("out", ".sep"))}


# Data.


def test_pictures_are_scaled_normalised_and_put_together(folder: Path) -> None:
    found = list(Folder(folder / "pictures", [(1, 3, 8, 8)], ((0.5, 0.25, 0.0), (0.5, 1.0, 2.0))))
    assert [tuple(t.shape) for (t,) in found] == [(16, 3, 8, 8), (4, 3, 8, 8)]
    for at in (0, 3, 17):  # the fourth is grey
        pixels = np.asarray(Image.open(folder / "pictures" / f"{at:02}.png").convert("RGB"))
        wanted = (pixels / 255 - [0.5, 0.25, 0.0]) / [0.5, 1.0, 2.0]
        image = found[at // 16][0][at % 16].numpy().transpose(1, 2, 0)
        np.testing.assert_allclose(image, wanted, atol=1e-6)


def test_pictures_and_their_normalisation_reach_the_fit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("separable.cli.convert_command.EVERY", 1e9)  # the machine may be slow
    found = {}
    for said in ("", " --mean 0.5 --std 0.1", " --mean 0.5,0.4,0.3 --std 0.1,0.2,0.3"):
        assert convert(f"--rank 1 --data pictures --force{said}") == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert "fitted to 2 batches of data" in " ".join(printed.out.split())
        found[said] = (folder / "out.safetensors").read_bytes()
    assert len(set(found.values())) == 3


@pytest.mark.parametrize("data", ["x.npy", "x.npz", "pictures/00.png"])
def test_one_file_is_data(folder: Path, capsys: pytest.CaptureFixture[str], data: str) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3, 8, 8))
    np.save("x.npy", x)
    np.savez("x.npz", x)
    parts = [t for (t,) in Folder(Path(data), [(1, 3, 8, 8)])]
    if "x" in data[:1]:
        assert [len(t) for t in parts] == [16, 16, 8]
        np.testing.assert_array_equal(torch.cat(parts).numpy(), x.astype(np.float32))
    assert convert(f"--rank 1 --data {data}") == 0
    assert f"fitted to {len(parts)} batch" in " ".join(capsys.readouterr().out.split())


def test_arrays_of_the_very_shape_are_not_cut(folder: Path) -> None:
    np.savez("two.npz", np.zeros((40, 3), "f"), np.zeros((40, 5), "f"))
    for shapes, sizes in (
        ([(40, 3), (40, 5)], [40]),
        ([(1, 3), (1, 5)], [16, 16, 8]),
        (None, [40]),
    ):
        found = list(Folder(Path("two.npz"), shapes))
        assert [tuple(map(len, batch)) for batch in found] == [(n, n) for n in sizes]


# What is written.


def test_nothing_is_overwritten_without_force(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert("--rank 2") == 0
    first = written(folder)
    assert sorted(first) == ["out.json", "out.md", "out.safetensors"]
    capsys.readouterr()
    assert convert("--rank 1") == 2
    assert (
        "out.safetensors exists already. Choose another `--output`, or" in capsys.readouterr().err
    )
    assert written(folder) == first
    assert convert("--rank 1 --force") == 0
    second = written(folder)
    assert sorted(second) == sorted(first)
    assert all(second[name] != first[name] for name in first)


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("old", [False, True])
def test_an_error_in_writing_leaves_what_was_there(
    folder: Path, failing: int, old: bool, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Whichever of the three renames fails; drafts and copies are gone too."""
    if old:
        assert convert("--rank 2") == 0
    before = written(folder)
    taken: list[str] = []
    take_name = outputs.take_name

    def full(draft: Path, target: Path, overwrite: bool) -> None:
        if len(taken) == failing:
            raise OSError(28, "No space left on device")
        take_name(draft, target, overwrite)
        taken.append(target.name)

    monkeypatch.setattr(outputs, "take_name", full)
    capsys.readouterr()
    assert convert("--rank 1 --force") == 2
    assert "No space left on device. Existing files are unchanged" in capsys.readouterr().err
    assert taken == ["out.md", "out.json"][:failing]  # the network comes last
    assert written(folder) == before
    assert bool(before) == old


def test_a_file_that_came_to_exist_meanwhile_is_kept(folder: Path) -> None:
    (folder / "out.b").write_text("old")
    contents = [(folder / "out.a", b"1"), (folder / "out.b", b"2"), (folder / "out.c", b"3")]
    with pytest.raises(FileError, match=r"out\.b was created meanwhile"):
        outputs.write_together(contents, overwrite=False)
    assert written(folder) == {"out.b": b"old"}


# What is said.


def test_random_weights_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "unet --rank 1 --repeats 0 --input-shape 1x1x32x32 -o out"
    assert run(["convert", *asked.split()]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Note: unet was built with random weights, so what was converted has learned" in printed
    assert "separable convert FILE.safetensors --factory unet." in printed
    assert "(random weights)" in (folder / "out.md").read_text()
    assert run(["convert", "out.safetensors", "--factory", "unet", "-o", "again"]) == 2
    assert "not of the network that unet builds" in capsys.readouterr().err


def test_trained_weights_have_no_note(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert("--rank 1") == 0
    assert "random" not in capsys.readouterr().out
    assert "random" not in (folder / "out.md").read_text()


@pytest.mark.parametrize("data", ["", " --data pictures"])
def test_progress_is_shown_on_a_terminal(
    folder: Path, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert convert(f"--rank 1 --force{data}") == 0
    printed = capsys.readouterr()
    assert ("Fit of" if data else "Factors of") in printed.err
    assert "Fit of" not in printed.out
    assert "Factors of" not in printed.out
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    monkeypatch.setattr("separable.cli.convert_command.EVERY", 1e9)
    assert convert(f"--rank 1 --force{data}") == 0
    assert capsys.readouterr().err == ""


def test_progress_is_printed_for_a_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("separable.cli.convert_command.EVERY", 0.0)
    assert convert("--rank 1 --data pictures") == 0
    lines = capsys.readouterr().err.splitlines()
    assert "0 s: fit of 0, 0 of 2" in lines
    assert any(line.endswith("s: errors on the data, 1 of 2") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "warned"),
    [("--rank 1", True), ("--rank 1 --data pictures", False), ("", False)],
)
def test_a_conversion_without_data_warns_where_accuracy_is_lost(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, warned: bool
) -> None:
    assert convert(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert ("Below 0.7 the accuracy of a trained network usually collapses" in printed) == warned
    assert ("with --data." in printed) == warned
