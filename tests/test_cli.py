"""The command line: what it prints, what it does to files, and how it fails."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import separable as sep
from separable.cli import app, run
from separable.cli.drawing import number
from separable.errors import MachineError
from separable.files import ImageInfo, read_image, write_image
from separable.kernels import gaussian, sobel
from separable.machine import Machine, cache_path, current

RNG = np.random.default_rng(0)
COMMAND = [sys.executable, "-m", "separable"]
Caller = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Run a command line in this process: its status, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def called(*arguments: object) -> tuple[int, str, str]:
        code = run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_image(tmp_path / "photo.png", RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    return tmp_path / "photo.png"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    values = RNG.integers(0, 4000, (9, 16, 20), dtype=np.uint16)
    write_image(tmp_path / "volume.tif", values, ImageInfo("ZYX"))
    return tmp_path / "volume.tif"


def flat(text: str) -> str:
    """Without line breaks, which depend on the names of folders."""
    return " ".join(text.split())


# filter


def test_filter_a_photograph(call: Caller, photo: Path, tmp_path: Path) -> None:
    code, out, err = call("filter", photo, tmp_path / "out.png", "--kernel", "gaussian:2")
    assert (code, err) == (0, "")
    image, result = read_image(photo)[0], read_image(tmp_path / "out.png")[0]
    np.testing.assert_array_equal(result, sep.correlate(image, gaussian(2), axes=(0, 1)))
    assert (
        "Filtered with gaussian:2 (17x17, not flipped) along axes 0, 1 (axis 2 is colour); border "
        "mode reflect." in flat(out)
    )
    assert f"Wrote {tmp_path / 'out.png'}: 40x50x3 uint8." in flat(out)


def test_filter_keeps_signs_when_asked(call: Caller, photo: Path, tmp_path: Path) -> None:
    note = "Note: uint8 cannot represent negative values; they were clipped to 0."
    assert note in call("filter", photo, tmp_path / "a.png", "-k", "sobel")[1]
    code, out, _ = call("filter", photo, tmp_path / "a.tif", "-k", "sobel", "--dtype", "float32")
    assert code == 0
    assert note not in out
    result = read_image(tmp_path / "a.tif")[0]
    assert result.dtype == np.float32
    expected = sep.correlate(read_image(photo)[0], sobel(), axes=(0, 1), output="float32")
    np.testing.assert_array_equal(result, expected)


def test_filter_with_a_file_convolves(call: Caller, photo: Path, tmp_path: Path) -> None:
    kernel = np.arange(9.0).reshape(3, 3)
    np.save(tmp_path / "k.npy", kernel)
    arguments = ["-k", tmp_path / "k.npy", "--dtype", "float64"]
    code, out, _ = call("filter", photo, tmp_path / "a.npy", *arguments)
    assert code == 0
    assert "k.npy (3x3, flipped) along axes 0, 1" in flat(out)
    image = read_image(photo)[0].astype(float)
    expected = sep.convolve(image, kernel, axes=(0, 1))
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, rtol=1e-12)
    arguments += ["--operation", "correlate", "--force"]
    assert "not flipped" in flat(call("filter", photo, tmp_path / "a.npy", *arguments)[1])
    expected = sep.correlate(image, kernel, axes=(0, 1))
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), expected, rtol=1e-12)


def test_filter_a_volume(call: Caller, volume: Path, tmp_path: Path) -> None:
    code, out, _ = call("filter", volume, tmp_path / "a.tif", "-k", "gaussian:1")
    assert code == 0
    assert "along axes 0, 1, 2; border mode" in flat(out)
    image = read_image(volume)[0]
    result, info = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(result, sep.correlate(image, gaussian(1, ndim=3)))
    assert info.axes == "ZYX"
    options = ["-k", "disk:3", "--axes", "-2,-1", "--mode", "wrap,constant", "--cval", "7"]
    assert call("filter", volume, tmp_path / "b.tif", *options)[0] == 0
    disk = sep.kernels.disk(3)
    expected = sep.correlate(image, disk, axes=(1, 2), mode=("wrap", "constant"), cval=7)
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif")[0], expected)
    assert call("filter", volume, tmp_path / "c.tif", "-k", "box:5", "--axes", "0")[0] == 0
    expected = sep.correlate(image, np.full(5, 0.2), axes=0)
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif")[0], expected)


def test_filter_leaves_time_alone(call: Caller, tmp_path: Path) -> None:
    film = RNG.random((3, 12, 14)).astype(np.float32)
    tifffile.imwrite(
        tmp_path / "film.tif", film, photometric="minisblack", metadata={"axes": "TYX"}
    )
    out = call("filter", tmp_path / "film.tif", tmp_path / "a.tif", "-k", "box:3")[1]
    assert "along axes 1, 2 (axis 0 is time)" in flat(out)


@pytest.mark.parametrize("options", [[], ["--memory", "64GiB"]])
def test_filter_names_a_file_without_axes_to_filter(
    call: Caller, tmp_path: Path, options: list[str]
) -> None:
    tifffile.imwrite(
        tmp_path / "steps.tif", np.zeros((4, 5), np.float32), photometric="minisblack",
        metadata={"axes": "TC"},
    )  # fmt: skip
    np.save(tmp_path / "number.npy", np.float32(3))
    for name, message in (
        ("steps.tif", "steps.tif has no spatial axis, its axes are TC: say which ones to filter"),
        ("number.npy", "number.npy holds a single number: expected an image"),
    ):
        code, _, err = call("filter", tmp_path / name, tmp_path / "o.npy", "-k", "box:3", *options)
        assert code == 2
        assert message in flat(err)


def test_filter_explains(call: Caller, photo: Path, tmp_path: Path) -> None:
    options = ["-k", "disk:4", "--tol", "0.2", "--method", "direct", "--explain"]
    out = call("filter", photo, tmp_path / "a.png", *options)[1]
    assert "Chosen: direct, as requested" in out
    assert re.search(r"Method: direct, [\d.]+ .?s \(predicted [\d.]+ .?s\)\. Start-up", out)


def test_filter_in_place_with_force(call: Caller, photo: Path) -> None:
    before = read_image(photo)[0]
    assert call("filter", photo, photo, "-k", "box:3", "--force")[0] == 0
    expected = sep.correlate(before, sep.kernels.box(3), axes=(0, 1))
    np.testing.assert_array_equal(read_image(photo)[0], expected)


# Mistakes

CATALOGUE = "ball, binomial, box, central_difference, difference_of_gaussians, disk"
PLAN = ("plan", "--shape", "64x64", "--kernel")
FILTER = ("filter", "{photo}", "{tmp}/out.png", "--kernel")
MISTAKES = [
    (("nope",), "no such command 'nope'. See `separable --help`"),
    (("filter", "{photo}"), "missing argument 'OUTPUT'. See `separable filter --help`"),
    (("plan", "--shape", "4x4"), "missing option '--kernel' / '-k'. See `separable plan --help`"),
    ((*PLAN, "sobel", "--foo"), "no such option: --foo"),
    (
        (*PLAN, "sobel", "--tol", "x"),
        "invalid value for '--tol': expected a number; got 'x'. See `separable plan --help`",
    ),
    ((*PLAN, "sobel", "--tol", "-1"), "`--tol` must be finite and >= 0; got -1.0"),
    ((*PLAN, "gaussian:-2"), "`sigma` must be > 0 for every axis; got -2.0"),
    ((*PLAN, "gaussian:0"), "`sigma` must be > 0 for every axis; got 0.0"),
    ((*PLAN, "gausian:2"), "unknown kernel `gausian`. Did you mean `gaussian`?"),
    ((*PLAN, "xyz"), f"unknown kernel `xyz`: there are {CATALOGUE}"),
    ((*PLAN, "sobel", "--mode", "mirrored"), "`--mode` must be one of constant,"),
    ((*PLAN, "sobel", "--method", "magic"), "`--method` must be one of auto, direct, fft,"),
    (
        (*PLAN, "sobel", "--operation", "divide"),
        "`--operation` must be one of convolve, correlate; got 'divide'",
    ),
    ((*PLAN, "sobel", "--dtype", "floaty"), "`--dtype` must name a type of numbers; got 'floaty'"),
    ((*PLAN, "sobel", "--axes", "0,7"), "`--axes` must be -2 .. 1 for this image; got (0, 7)"),
    (
        (*PLAN, "sobel", "--axes", "x"),
        "`--axes` must be whole numbers such as 0,1; got 'x'",
    ),
    (
        ("plan", "-k", "sobel", "-s", "512"),
        "kernel `sobel` has 2 axes or more; got ndim=1.",
    ),
    (
        ("plan", "-k", "sobel", "-s", "512by512"),
        "`--shape` must be whole numbers such as 512x512; got '512by512'",
    ),
    (
        ("plan", "-k", "sobel", "-s", "0x4"),
        "`--shape` must be >= 1 along every axis; got '0x4'",
    ),
    (("plan", "-k", "k.npy", "-s", "4x4"), "cannot read k.npy: there is no such file"),
    (("kernel", "disk:-1"), "`radius` must be"),
    (("kernel", "disk"), "kernel `disk` needs `radius`; got 'disk'."),
    (
        ("kernel", "sobel", "--file", "k.npy"),
        "give a name or `--file`, not both; got 'sobel' and 'k.npy'",
    ),
    (("kernel", "--file", "{cube}", "--ndim", "2"), "{cube} has 3 axes; got --ndim 2"),
    (
        (*FILTER, "{cube}", "--axes", "0,1"),
        "`--axes` must name one axis for each of the kernel's 3",
    ),
    (
        ("filter", "{volume}", "{tmp}/out.tif", "-k", "disk:3"),
        "kernel `disk:3` has 2 axes; got 3 to filter. Name 2 of them, for instance --axes 1,2",
    ),
    (
        ("filter", "{volume}", "{tmp}/out.tif", "-k", "{photo}2.npy"),
        "cannot read {photo}2.npy: there is no such file",
    ),
    (
        ("filter", "{volume}", "{tmp}/out.tif", "-k", "{square}"),
        "{square} has 2 axes, the image 3: say which ones to filter, for instance --axes 1,2",
    ),
    ((*FILTER, "ball:3"), "kernel `ball` has 3 axes; got ndim=2. The one of 2 axes is `disk`"),
    (
        ("filter", "{square}", "{tmp}/out.npy", "-k", "{cube}"),
        "the kernel has more axes than the image: 3, the image 2",
    ),
    (
        ("filter", "{tmp}/none.png", "{tmp}/out.png", "-k", "sobel"),
        "cannot read {tmp}/none.png: there is no such file",
    ),
    (
        ("filter", "{tmp}/cut.png", "{tmp}/out.png", "-k", "sobel"),
        "cannot read {tmp}/cut.png: it is truncated or damaged (",
    ),
    (
        ("filter", "{photo}", "{tmp}/out.doc", "-k", "sobel"),
        "cannot write {tmp}/out.doc: its suffix must be one of .png",
    ),
    (
        ("filter", "{photo}", "{volume}", "-k", "sobel"),
        "{volume} exists. Choose another name, or overwrite it (overwrite=True, --force)",
    ),
    (
        ("filter", "{photo}", "{tmp}/none/out.png", "-k", "sobel"),
        "cannot write {tmp}/none/out.png: there is no folder {tmp}/none. Create it first",
    ),
    (
        (*FILTER, "sobel", "--dtype", "float32"),
        "cannot write {tmp}/out.png: PNG holds uint8 in colour; got float32. "
        "Write .tif or .npy, or make it uint8 (--dtype uint8)",
    ),
    ((*FILTER, "sobel", "--dtype", "many"), "`--dtype` must name a type of numbers; got 'many'"),
    (("filter", "{zero}", "{tmp}/out.npy", "-k", "sobel"), "{zero} holds a single number"),
    (("kernel", "{zero}"), "`kernel` must have at least one element on one axis; got shape ()"),
    (("kernel", "{nan}"), "`kernel` must be finite; got 9 NaN or infinite of 9 elements"),
    ((*FILTER, "{complex}"), "cannot write {tmp}/out.png: PNG holds uint8 in colour; got complex"),
    (
        (*FILTER, "sobel", "--mode", "wrap,wrap,wrap"),
        "`--mode` must be one name, or one for each of the 2 filtered axes",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda v: str(v)[:50])
def test_a_mistake_is_one_message(
    call: Caller, photo: Path, volume: Path, tmp_path: Path,
    arguments: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    np.save(tmp_path / "cube.npy", np.ones((3, 3, 3)))
    np.save(tmp_path / "square.npy", np.ones((3, 3)))
    np.save(tmp_path / "zero.npy", 3.0)
    np.save(tmp_path / "nan.npy", np.full((3, 3), np.nan))
    np.save(tmp_path / "complex.npy", np.full((3, 3), 1j))
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:200])
    names = {n: tmp_path / f"{n}.npy" for n in ("cube", "square", "zero", "nan", "complex")}
    names |= {"photo": photo, "volume": volume, "tmp": tmp_path}
    before = sorted(tmp_path.iterdir())
    code, out, err = call(*(a.format(**names) for a in arguments))
    assert code == 2
    assert out == ""
    assert err.startswith("Error: " + message.format(**names))
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_mistake_in_a_real_process(photo: Path, tmp_path: Path) -> None:
    arguments = ["filter", str(photo), str(tmp_path / "out.png"), "-k", "gaussian:-1"]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "Error: `sigma` must be > 0 for every axis; got -1.0\n"
    assert not (tmp_path / "out.png").exists()


def test_no_permission(
    call: Caller, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may write anywhere
    code, _, err = call("filter", photo, tmp_path / "out.png", "-k", "sobel")
    assert code == 2
    folder = tmp_path.resolve()
    assert err == (
        f"Error: cannot write {tmp_path}/out.png: no permission to write in the folder {folder}\n"
    )


def test_too_little_memory(
    call: Caller, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise MemoryError

    for name in ("run", "PreparedRun"):
        monkeypatch.setattr(sys.modules["separable.plan.planned_filter"], name, refuse)
    code, _, err = call("filter", photo, tmp_path / "out.png", "-k", "sobel")
    assert (code, err) == (
        2,
        f"Error: cannot filter {photo}: not enough memory. Filter it in slabs, for instance with "
        "--memory 2GiB, or cut it into parts\n",
    )


# Ends of processes


SAYS_WHEN_IT_RUNS = """
import sys
from separable.__main__ import main
from separable.plan import Plan
before = Plan.__call__
def call(self, *arguments, **options):
    print("running", flush=True)
    while True:  # until the signal, on a machine however fast
        before(self, *arguments, **options)
Plan.__call__ = call
main()
"""


def started(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A command that has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() in ("running\n", "writing\n")
    return process


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "Error: interrupted; nothing was written\n"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_ended_while_it_runs(
    tmp_path: Path, number: signal.Signals, code: int, message: str
) -> None:
    np.save(tmp_path / "in.npy", RNG.random((500, 500)).astype(np.float32))
    arguments = ("filter", tmp_path / "in.npy", tmp_path / "out.npy")
    process = started(SAYS_WHEN_IT_RUNS, *arguments, "-k", "disk:9", "--method", "direct")
    assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert (process.returncode, out, err) == (code, "", message)
    assert [p.name for p in tmp_path.iterdir()] == ["in.npy"]


WRITES_FOR_EVER = """
import time
import separable.files.atomic_write as atomic
def wait(handle):
    print("writing", flush=True)
    while True:  # until the signal
        time.sleep(0.05)
atomic.os.fsync = wait
from separable.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_while_it_writes(photo: Path, tmp_path: Path, number: signal.Signals) -> None:
    target = tmp_path / "results" / "out.png"
    target.parent.mkdir()
    process = started(WRITES_FOR_EVER, "filter", photo, target, "-k", "box:3")
    process.send_signal(number)
    process.communicate(timeout=600)
    left = [p.name for p in target.parent.iterdir()]
    if number == signal.SIGKILL:  # nobody can clean up then, but the target is not there
        assert all(name.startswith(".separable-") for name in left)
    else:
        assert left == []


def test_a_broken_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [*COMMAND, "kernel", "ball:20"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=600) in (0, 1)
    process.stderr.close()


def test_a_terminal_that_knows_only_ascii() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*COMMAND, "kernel", "log:2"], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stderr == ""
    assert "?" not in done.stdout
    assert "::" in done.stdout


TAKES_LONG = """
from separable.cli import filter_command
filter_command.LONG = 0  # every filter takes longer
from separable.__main__ import main
main()
"""


def in_a_terminal(*arguments: str, script: str = "") -> str:
    """Return what a command prints to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [*([sys.executable, "-c", script] if script else COMMAND), *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        printed += part
    os.close(ours)
    assert process.wait(timeout=600) == 0
    return printed.decode()


def test_colours_and_progress_in_a_terminal(tmp_path: Path) -> None:
    assert "\x1b[" in in_a_terminal("kernel", "disk:9")
    np.save(tmp_path / "in.npy", RNG.random((140, 140)).astype(np.float32))
    arguments = ("filter", str(tmp_path / "in.npy"), str(tmp_path / "out.npy"), "-k", "disk:9")
    printed = in_a_terminal(*arguments, "--method", "correlate", script=TAKES_LONG)
    assert "Filtering" in printed
    printed = in_a_terminal(*arguments, "--method", "fft", "--force")
    assert "Filtering" not in printed


# The other commands


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"separable {sep.__version__}\n"
    assert run(["--version", "kernel"]) == 0
    assert capsys.readouterr().out == done.stdout


def test_help() -> None:
    runner = CliRunner()
    for arguments in ([], ["--help"], *([c, "-h"] for c in ("kernel", "plan", "filter"))):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 0
        assert result.output.startswith("Usage: ")
        assert max(map(len, result.output.splitlines())) <= 80


def test_plan_as_json_is_the_plan(call: Caller) -> None:
    code, out, _ = call("plan", "-k", "gaussian:2", "-s", "64x64x3", "--axes", "0,1", "--json")
    assert code == 0
    made = sep.Plan.from_dict(json.loads(out))
    direct = sep.plan(gaussian(2), (64, 64, 3), axes=(0, 1), operation="correlate")
    assert str(made) == str(direct)


def test_plan_of_a_file_convolves(call: Caller, tmp_path: Path) -> None:
    np.save(tmp_path / "k.npy", np.ones((3, 3)))
    assert call("plan", "-k", tmp_path / "k.npy", "-s", "64x64")[1].startswith("convolve 3x3")


def test_machine_measures_and_keeps(
    call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Machine("a quick one", 1, {"direct": {"float32": {"dense tap": 2.5e-9, "call": 0.0}}})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("separable.calibrate.measure", lambda progress: made)
    current.cache_clear()
    try:
        code, out, err = call("machine")
        assert (code, err) == (0, "")
        assert f"Kept in {cache_path()}; every plan uses it from now on." in out
        assert "Time of one operation on 1 thread, per data type of the image:" in out
        assert current().name == "a quick one"
        assert "Rates: measured on this computer (a quick one)." in call("machine", "--show")[1]
    finally:
        cache_path().unlink()
        current.cache_clear()


def test_machine_that_cannot_be_kept(
    call: Caller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("separable.calibrate.measure", lambda progress: Machine("m", 1, {}))
    code, _, err = call("machine")
    assert code == 2
    assert err.startswith("Error: cannot keep the profile in")


def test_errors_of_the_library_are_messages(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise MachineError("no rates")

    monkeypatch.setattr("separable.cli.machine_command.current", refuse)
    assert call("machine", "--show") == (2, "", "Error: no rates\n")


def test_kernels_of_every_kind_are_shown(call: Caller, tmp_path: Path) -> None:
    for values, text in (
        (np.zeros((3, 3)), "The kernel is zero everywhere."),
        (np.eye(4), "the sum of 4 separable terms (rank 4)"),
        (np.full((3, 3), 1j), "Separable:"),
        (np.ones((2, 2, 2, 2, 2)), "The middle slice, (1, 1, 1):"),
        (RNG.random((99, 70)) - 0.5, "... exact with 70"),
        (np.ones(3), "one axis: a single pass, nothing to separate."),
    ):
        np.save(tmp_path / "k.npy", values)
        code, out, err = call("kernel", "--file", tmp_path / "k.npy")
        assert (code, err) == (0, "")
        assert text in out
        assert "inf" not in out
        assert max(map(len, out.splitlines()[1:])) <= 80


def test_numbers_are_short() -> None:
    assert [number(v) for v in (1, np.int64(-2), True, 0.5, 1 / 3, -1e-9)] == [
        "1", "-2", "1", "0.5", "0.3333", "-1e-09",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "completed"),
    [("separable ke", "kernel"), ("separable filter --ker", "--kernel")],
)
def test_shells_complete_commands_and_options(words: str, completed: str) -> None:
    environment = {
        **os.environ, "_SEPARABLE_COMPLETE": "complete_bash",
        "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "separable"], env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.split() == [completed]
