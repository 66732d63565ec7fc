"""`separable filter` by parts: what it prints, what it refuses with status 2, what it leaves behind."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable.cli import run
from separable.files import ImageInfo, read_image, write_image
from separable.volumes.halo import chunkwise

zarr = pytest.importorskip("zarr")

VOLUME = np.random.default_rng(0).random((24, 30, 40), dtype=np.float32)
INFO = ImageInfo("ZYX", spacing=(2.0, 1.0, 1.0), unit="mm")
Caller = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Caller:
    """Run `separable filter` in this process: its status, stdout and stderr without line breaks."""
    monkeypatch.setenv("COLUMNS", "80")

    def called(*arguments: object) -> tuple[int, str, str]:
        code = run(["filter", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return called


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_image(tmp_path / "in.zarr", VOLUME, INFO)
    return tmp_path / "in.zarr"


def smooth(**options: Any) -> Any:
    kernel = sep.kernels.gaussian(2, spacing=(2.0, 1.0, 1.0))
    return chunkwise(sep.plan(kernel, VOLUME.shape, VOLUME.dtype, **options))(VOLUME)


def bytes_below(path: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_a_store_is_filtered_in_the_units_of_its_metadata(
    call: Caller, source: Path, tmp_path: Path
) -> None:
    before = bytes_below(source)
    code, out, err = call(
        source, tmp_path / "out.zarr", "--kernel", "gaussian:2mm", "--chunks", "auto",
        "--memory", "64GiB", "--explain",
    )  # fmt: skip
    assert (code, err) == (0, "")
    for text in (
        "1 slab of 24x30x40; everything is read once.",
        "64 GiB allowed.",
        "* separable 1 3",
        "Spacing: 2x1x1 mm (of",
        "Method: separable; 112 KiB in",
        "out.zarr: 24x30x40 float32.",
    ):
        assert text in out
    result, info = read_image(tmp_path / "out.zarr")
    assert result.tobytes() == smooth().tobytes()
    assert (info.spacing, info.unit) == (INFO.spacing, INFO.unit)
    assert bytes_below(source) == before
    assert sorted(os.listdir(tmp_path)) == ["in.zarr", "out.zarr"]


@pytest.mark.parametrize("parts", [True, False])
def test_what_a_format_cannot_keep_is_said(
    call: Caller, source: Path, tmp_path: Path, parts: bool
) -> None:
    if not parts:
        source = tmp_path / "in.nii"
        write_image(source, VOLUME, INFO)
    code, out, _ = call(source, tmp_path / "out.npy", "-k", "gaussian:2mm")
    assert code == 0
    assert "Note: NPY does not keep: the axes" in out
    assert "1.0) mm" in out or "2.0) mm" in out


def test_a_mask_by_parts(call: Caller, source: Path, tmp_path: Path) -> None:
    mask = np.random.default_rng(1).random(VOLUME.shape) > 0.5
    np.save(tmp_path / "mask.npy", mask)
    arguments = ("-k", "gaussian:2mm", "--mask", tmp_path / "mask.npy", "--fill", "-1")
    code, _, err = call(source, tmp_path / "out.npy", *arguments, "--memory", "64GiB")
    assert (code, err) == (0, "")
    kernel = sep.kernels.gaussian(2, spacing=(2.0, 1.0, 1.0))
    exact = sep.correlate(VOLUME, kernel, mask=mask, fill=-1)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), exact, atol=1e-6)


def damaged(source: Path) -> None:
    chunk = next(p for p in sorted(source.rglob("*")) if p.is_file() and p.name.isdigit())
    chunk.write_bytes(chunk.read_bytes()[:20])


def strange(source: Path) -> None:
    meta = json.loads((source / "zarr.json").read_text())
    meta["codecs"][-1] = {"name": "imagecodecs_lerc", "configuration": {}}
    (source / "zarr.json").write_text(json.dumps(meta))


def truncated(source: Path) -> None:
    meta = (source / "zarr.json").read_text()
    (source / "zarr.json").write_text(meta[: len(meta) // 2])


@pytest.mark.parametrize(
    ("spoil", "arguments", "said"),
    [
        (damaged, (), "truncated or damaged"),
        (truncated, (), "cannot read"),
        (strange, (), "its codec imagecodecs_lerc is not installed. Install it: pip install"),
        (None, ("--memory", "1MiB"), "`--memory` must be at least "),
        (None, ("--memory", "two"), "`--memory` must be a number of bytes such as 2GiB"),
        (None, ("--chunks", "a,b,c"), "`--chunks` must be auto or sizes such as 64,64,64"),
        (None, ("--spacing", "0x1x1mm"), "`--spacing` must be > 0 for every axis"),
        (
            None,
            ("--mask", "{folder}/small.npy"),
            "`--mask` must have the image's shape (24, 30, 40)",
        ),
        (None, ("--mask", "{folder}/none.npy"), "there is no such file"),
        (None, ("--method", "fft"), "depend on how a volume is cut"),
    ],
)
def test_mistakes_end_with_status_2_and_leave_the_input_alone(
    call: Caller, source: Path, tmp_path: Path, spoil: Any, arguments: Any, said: str
) -> None:
    np.save(tmp_path / "small.npy", np.ones((3, 4, 5)))
    if spoil is not None:
        spoil(source)
    before = bytes_below(source)
    given = [a.format(folder=tmp_path) for a in arguments]
    code, out, err = call(source, tmp_path / "out.zarr", "-k", "gaussian:2", *given)
    assert code == 2
    assert err.startswith("Error: ")
    assert said in err
    assert "Wrote" not in out
    assert bytes_below(source) == before
    left = set(os.listdir(tmp_path)) - {"in.zarr", "small.npy"}
    assert left <= {"out.zarr.partial", "out.zarr.partial.journal"}
    assert bool(left) == (spoil is damaged)


def test_a_truncated_file(call: Caller, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    os.truncate(tmp_path / "in.npy", 5000)
    code, _, err = call(
        tmp_path / "in.npy", tmp_path / "out.npy", "-k", "box:3", "--memory", "64GiB"
    )
    assert code == 2
    assert "it is truncated" in err
    assert os.listdir(tmp_path) == ["in.npy"]


FULL = """
import resource, signal, sys
from separable.cli import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("name", "kept"), [("out.zarr", True), ("out.npy", False), ("out.nii", False)]
)
def test_a_full_disk(source: Path, tmp_path: Path, name: str, kept: bool) -> None:
    """Files cannot grow beyond 20 kB: a plain one fails at the start, a store with a chunk."""
    target = tmp_path / name
    arguments = [sys.executable, "-c", FULL, "filter", str(source), str(target), "-k", "box:3"]
    before = bytes_below(source)
    told = subprocess.run(arguments, capture_output=True, text=True)
    assert told.returncode == 2
    assert f"Error: cannot write {target}: file too large" in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr
    assert bytes_below(source) == before
    assert not target.exists()
    assert (tmp_path / f"{name}.partial").exists() == kept
    if kept:
        assert "What was written is kept as out.zarr.partial" in told.stderr


def test_a_cluster_that_cannot_be_reached(
    call: Caller, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    address = "tcp://127.0.0.1:9"
    code, _, err = call(source, tmp_path / "out.zarr", "-k", "gaussian:2", "--scheduler", address)
    assert code == 2
    assert f"cannot reach a Dask scheduler at {address} within 5 s" in err
    assert os.listdir(tmp_path) == ["in.zarr"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_on_a_cluster(call: Caller, source: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0",
        silence_logs="CRITICAL",
    ) as cluster:  # fmt: skip
        address = cluster.scheduler_address
        code, out, err = call(
            source, tmp_path / "out.zarr", "-k", "gaussian:2mm", "--scheduler", address,
            "--chunks", "12,10,40", "--mode", "wrap",
        )  # fmt: skip
    assert (code, err) == (0, "")
    assert f"On {address}, 2 workers with 2 threads." in out
    assert read_image(tmp_path / "out.zarr")[0].tobytes() == smooth(mode="wrap").tobytes()


SLOWLY = """
import itertools, os, signal, sys, time
import separable.volumes.slab_schedule as schedule
from separable.cli import run
from separable.files.chunked_io import Target
from separable.volumes.slab_planner import Stage
schedule.best_stage = lambda whole, a, b, *_: Stage(whole, 0, (1, 30, 40), a, b)
write, written = Target.write, itertools.count(1)
interrupted_at = int(sys.argv.pop(1))
def slowly(self, region, part):
    if next(written) == interrupted_at:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.02)
    write(self, region, part)
Target.write = slowly
sys.exit(run(sys.argv[1:]))
"""


def test_an_interrupted_command_says_what_is_kept_and_resumes(call: Caller, tmp_path: Path) -> None:
    source, target = tmp_path / "in.npy", tmp_path / "out.npy"
    np.save(source, VOLUME)
    arguments = ["filter", str(source), str(target), "-k", "gaussian:2", "--memory", "1024MiB"]
    ended = subprocess.run(
        [sys.executable, "-c", SLOWLY, "5", *arguments], capture_output=True, text=True, check=False
    )
    err = ended.stderr
    assert ended.returncode == 130
    assert " ".join(err.split()) == (
        "Error: interrupted; what was written is kept as out.npy.partial, and the same command "
        "resumes it"
    )
    assert not target.exists()
    code, out, _ = call(*arguments[1:-1], "64GiB")
    assert code == 0
    assert "Resuming out.npy.partial: " in out
    kernel = sep.kernels.gaussian(2, ndim=3)
    exact = chunkwise(sep.plan(kernel, VOLUME.shape, "float32"))(VOLUME)
    assert np.load(target).tobytes() == exact.tobytes()


def test_a_terminal_shows_bytes_and_the_time_left(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", VOLUME)
    mine, theirs = pty.openpty()
    arguments = ["filter", "in.npy", "out.npy", "-k", "gaussian:2", "--memory", "1024MiB"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, "0", *arguments],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(mine, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(mine)
    assert process.wait(timeout=600) == 0
    text = shown.decode(errors="replace")
    assert "Filtering" in text
    assert "/112.5 KiB" in text or "/115.2 kB" in text  # bytes done of all
    assert "/s" in text
    assert "0:0" in text or "00:0" in text
