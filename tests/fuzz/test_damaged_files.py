"""The command line and damaged files of every format: status 0 or 2, one message, no harm done.

The guard of the command line against errors that nobody expected is turned off here, so that such an
error fails the test with the place where it arose.
"""

from __future__ import annotations

import resource
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from separable.cli import run
from separable.cli.main import DEBUG
from separable.files import registered_formats

pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

from damage import SAMPLES, damage, digest

SECONDS, MEBIBYTES = 10, 400  # of the processor, and what the peak may grow by
COMMANDS: dict[str, Callable[[Path, Path], tuple[Any, ...]]] = {
    "whole": lambda file, out: ("filter", file, out / "out.npy", "-k", "box:3"),
    "by parts": lambda file, out: (
        "filter", file, out / "out.zarr", "-k", "box:3", "--memory", "64GiB"
    ),
    "same format": lambda file, out: (
        "filter", file, out / f"out{''.join(file.suffixes)}", "-k", "box:3"
    ),
    "with units": lambda file, out: (
        "filter", file, out / "out.tif", "-k", "gaussian:1mm", "--spacing", "1mm"
    ),
    "mask": lambda file, out: (
        "filter", out / "valid.npy", out / "out.npy", "-k", "box:3", "--mask", file
    ),
    "kernel": lambda file, out: ("kernel", "--file", file),
    "plan": lambda file, out: ("plan", "-k", file, "--shape", "64x64x64"),
    "filter with it": lambda file, out: (
        "filter", out / "valid.npy", out / "out.npy", "-k", file, "--memory", "64GiB"
    ),
    "report": lambda file, out: ("report", file, "-o", out / "out.html"),
}  # fmt: skip
# What is wrong with the arguments, or with two files that do not fit, names no file.
ABOUT_ARGUMENTS = (
    "`--mask` must have",
    "`--mask` must hold",
    "axes, the image",
    "`--memory` must be",
    "`--shape`",
    "`--axes`",
)


@pytest.fixture(autouse=True)
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, "1")
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for each sample, which may be more than one file."""
    folder = tmp_path_factory.mktemp("originals")
    for number, (name, write) in enumerate(SAMPLES.items()):
        (folder / str(number)).mkdir()
        write(folder / str(number) / name)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def copied(originals: Path, name: str, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(originals / str(list(SAMPLES).index(name)), folder)
    return folder / name


def called(arguments: tuple[Any, ...], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command as its users do: status and stderr."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("default")  # as outside of tests: they are shown
        code = run([str(a) for a in arguments])
    return code, capsys.readouterr().err


def check_answer(code: int, err: str, file: Path, out: Path) -> None:
    """Check the promises of every command about what it says and leaves behind."""
    left = {p.name for p in out.iterdir()} - {"valid.npy"}
    if code == 0:
        assert err == ""
        assert all(name.startswith("out.") and "partial" not in name for name in left)
        return
    assert code == 2, (code, err)
    assert err.startswith("Error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    # The type of the output may not hold what is in a file that could be read.
    refused = "cannot write" in err and (". Write ." in err or "Make it" in err)
    if not refused and not any(text in err for text in ABOUT_ARGUMENTS):
        assert str(file.parent) in err, err
    # What was written of a volume is kept, to go on when the damaged part is there again.
    kept = "its chunk " in err or "its region " in err or "kept as" in err
    assert all(kept and ".partial" in name for name in left), (left, err)


def check(name: str, command: str, seed: int, originals: Path, folder: Path, capsys: Any) -> None:
    file, out = copied(originals, name, folder / "in"), folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    np.save(out / "valid.npy", np.random.default_rng(0).random((5, 6, 7), np.float32))
    done = damage(file, seed)
    before = digest(file.parent)
    arguments = COMMANDS[command](file, out)
    if arguments[0] == "filter":
        arguments = (*arguments, "--method", "direct")  # for which nothing is compiled
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        code, err = called(arguments, capsys)
        check_answer(code, err, file, out)
        assert digest(file.parent) == before
    except BaseException as error:
        error.add_note(f"{command}: {done}")
        raise
    assert time.process_time() - start < SECONDS, done
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEBIBYTES << 10, done


def test_there_are_samples_of_every_format() -> None:
    suffixes = {s for f in registered_formats() for s in f.suffixes}
    assert suffixes == {s for s in suffixes if any(name.endswith(s) for name in SAMPLES)}


@pytest.mark.parametrize("name", list(SAMPLES))
@pytest.mark.parametrize("command", ["whole", "kernel"])
def test_undamaged_files_are_read(
    name: str, command: str, originals: Path, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = copied(originals, name, scratch / "in")
    assert called(COMMANDS[command](file, scratch), capsys) == (0, "")


@pytest.mark.parametrize("name", list(SAMPLES))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from(list(COMMANDS)), seed=st.integers(0, 1 << 40))
def test_damaged_files(
    name: str, command: str, seed: int, originals: Path, scratch: Path, capsys: Any
) -> None:
    check(name, command, seed, originals, scratch, capsys)


@pytest.mark.long
@pytest.mark.parametrize("name", list(SAMPLES))
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from(list(COMMANDS)), seed=st.integers(0, 1 << 40))
def test_many_damaged_files(
    name: str, command: str, seed: int, originals: Path, scratch: Path, capsys: Any
) -> None:
    check(name, command, seed, originals, scratch, capsys)
