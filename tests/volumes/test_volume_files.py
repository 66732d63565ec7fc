"""From file to file: killed, resumed, refused, broken, and in little memory."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import volumes
from separable.errors import ArgumentError, FileError, SeparableError
from separable.files import read_image
from separable.files.chunked_io import Target
from separable.volumes import checkpoint
from separable.volumes.halo import chunkwise

zarr = pytest.importorskip("zarr")

KERNEL = sep.kernels.gaussian(1.5, ndim=3)
SHAPE = (48, 40, 56)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32)


def store(path: Path, image: np.ndarray, chunks: Any = (8, 16, 16), **options: Any) -> Path:
    array = zarr.create_array(
        str(path), shape=image.shape, chunks=chunks, dtype=image.dtype, **options
    )
    array[...] = image
    return path


def expected(image: np.ndarray, kernel: Any = KERNEL, **options: Any) -> np.ndarray:
    return chunkwise(sep.plan(kernel, image.shape, image.dtype, **options))(image)


def slabs(monkeypatch: pytest.MonkeyPatch, sides: tuple[int, ...], stages: int = 1) -> None:
    """Cut as if the memory were small; into as many stages as there can be where there are several."""
    from separable.volumes import slab_schedule
    from separable.volumes.slab_planner import Stage

    monkeypatch.setattr(
        slab_schedule,
        "best_stage",
        lambda whole, source, target, *_: Stage(whole, 0, sides, source, target),
    )
    if stages > 1:
        every = slab_schedule.groupings
        monkeypatch.setattr(slab_schedule, "groupings", lambda whole: list(every(whole))[-1:])


@pytest.mark.parametrize("name", ["out.zarr", "out.npy", "out.ome.zarr"])
@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant"])
def test_filtering_a_zarr_store_is_bit_identical_to_filtering_in_memory(
    tmp_path: Path, image: np.ndarray, name: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = store(tmp_path / "in.zarr", image)
    slabs(monkeypatch, (16, 32, 56))
    told: list[float] = []
    done = volumes.filter(
        source, tmp_path / name, KERNEL, mode=mode, cval=2.0, progress=told.append
    )
    assert done.slabs == 6
    assert sum(told) == pytest.approx(1.0)
    result, _ = read_image(tmp_path / name)
    assert result.tobytes() == expected(image, mode=mode, cval=2.0).tobytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["in.zarr", name])


def test_the_chunks_follow_the_source_or_what_was_asked_for(
    tmp_path: Path, image: np.ndarray
) -> None:
    source = store(tmp_path / "in.zarr", image)
    volumes.filter(source, tmp_path / "a.zarr", KERNEL)
    volumes.filter(source, tmp_path / "b.zarr", KERNEL, chunks=(12, 40, 28))
    assert zarr.open(str(tmp_path / "a.zarr")).chunks == (8, 16, 16)
    assert zarr.open(str(tmp_path / "b.zarr")).chunks == (12, 40, 28)


def test_convolve_takes_paths(tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "in.npy", image)
    target = str(tmp_path / "out.npy")
    assert sep.convolve(str(tmp_path / "in.npy"), KERNEL, output=target, tol=1e-3) == target
    assert np.load(target).tobytes() == expected(image, tol=1e-3).tobytes()
    with pytest.raises(ArgumentError, match="`output` must be the path of the file to write"):
        sep.convolve(str(tmp_path / "in.npy"), KERNEL)


@pytest.mark.compiled  # SciPy's passes are not run in stages
def test_stages_through_files_between(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from separable.volumes import slab_schedule

    every = slab_schedule.groupings
    monkeypatch.setattr(slab_schedule, "groupings", lambda whole: list(every(whole))[-1:])
    source = store(tmp_path / "in.zarr", image)
    done = volumes.filter(source, tmp_path / "out.npy", KERNEL, mode="constant", cval=0.7)
    assert [s.filter.problem.axes for s in done.stages] == [(1,), (2,), (0,)]
    result = np.load(tmp_path / "out.npy")
    assert result.tobytes() == expected(image, mode="constant", cval=0.7).tobytes()
    assert sorted(os.listdir(tmp_path)) == ["in.zarr", "out.npy"]


# Killed and resumed

CHILD = """
import sys, time
from pathlib import Path
import separable as sep
from separable import volumes
from separable.volumes import slab_schedule as schedule
from separable.volumes.checkpoint import journal_of
from separable.volumes.slab_planner import Stage
from separable.files.chunked_io import Target
source, target, stages, slow, enough = sys.argv[1:]
journal = journal_of(Path(target))
schedule.best_stage = lambda whole, a, b, *_: Stage(whole, 0, (8, 16, 56), a, b)
if int(stages) > 1:
    every = schedule.groupings
    schedule.groupings = lambda whole: list(every(whole))[-1:]
write = Target.write
def slowly(self, region, part):
    while len(journal.read_bytes().splitlines()) >= int(enough):  # it is killed, however late that is
        time.sleep(0.01)
    time.sleep(float(slow))
    write(self, region, part)
Target.write = slowly
print("ready", flush=True)
volumes.filter(source, target, sep.kernels.gaussian(1.5, ndim=3), mode="wrap")
"""


def _child(source: Path, target: Path, *numbers: float) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", CHILD, *map(str, (source, target, *numbers))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE)


@pytest.mark.parametrize(
    ("suffix", "stages", "kills"),
    [
        ("zarr", 1, 2),
        ("npy", 3, 2),
        pytest.param("zarr", 1, 6, marks=pytest.mark.long),
        pytest.param("npy", 3, 6, marks=pytest.mark.long),
    ],
)
def test_a_run_killed_at_any_time_resumes_to_the_same_bytes(
    tmp_path: Path,
    image: np.ndarray,
    suffix: str,
    stages: int,
    kills: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = store(tmp_path / "in.zarr", image)
    target = tmp_path / f"out.{suffix}"
    chance = random.Random(stages)
    left = []
    for _ in range(kills):
        lines = max(len(left[-1:] and left[-1]), 2)
        child = _child(source, target, stages, 0.02, lines + (3 if kills < 3 else 1))
        assert child.stdout is not None
        child.stdout.readline()
        journal = checkpoint.journal_of(target)
        end = time.monotonic() + 600
        while child.poll() is None and time.monotonic() < end:
            if journal.exists() and len(journal.read_bytes().splitlines()) > lines:
                break
            time.sleep(0.005)
        time.sleep(chance.random() * 0.1)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert not target.exists()
        assert checkpoint.draft_of(target).exists() or stages > 1
        left.append(journal.read_bytes().splitlines())
    assert all(len(a) < len(b) for a, b in itertools.pairwise(left))  # each went on
    child = _child(source, target, stages, 0.0, 1000)
    assert child.communicate(timeout=600)[0] == b"ready\n"
    assert child.returncode == 0
    result, _ = read_image(target)
    assert result.tobytes() == expected(image, mode="wrap").tobytes()
    undisturbed = tmp_path / f"whole.{suffix}"
    slabs(monkeypatch, (8, 16, 56), stages)
    volumes.filter(source, undisturbed, KERNEL, mode="wrap")
    assert _bytes(target) == _bytes(undisturbed)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["in.zarr", target.name, undisturbed.name]
    )


def _bytes(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def broken_off(tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source whose filtering was interrupted after two slabs; out.zarr is the target."""
    source = store(tmp_path / "in.zarr", image)
    slabs(monkeypatch, (8, 48, 64))
    _fail_after(monkeypatch, 24, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        volumes.filter(source, tmp_path / "out.zarr", KERNEL)
    assert (tmp_path / "out.zarr.partial").is_dir()
    assert not (tmp_path / "out.zarr").exists()
    monkeypatch.setattr(Target, "write", WRITE)
    return source


WRITE = Target.write


def _fail_after(monkeypatch: pytest.MonkeyPatch, count: int, error: BaseException) -> None:
    written = []

    def write(self: Target, region: Any, part: np.ndarray) -> None:
        written.append(region)
        if len(written) > count:
            if isinstance(error, OSError):
                self.store = lambda *_: (_ for _ in ()).throw(error)
            else:
                raise error
        WRITE(self, region, part)

    monkeypatch.setattr("separable.volumes.slab_pipeline.PIECE", 1 << 12)
    monkeypatch.setattr(Target, "write", write)


def test_an_interrupted_run_resumes(tmp_path: Path, broken_off: Path, image: np.ndarray) -> None:
    with volumes.Run(broken_off, tmp_path / "out.zarr", KERNEL) as run:
        before = run.resumed
        assert 0 < before < run.schedule.slabs
        told: list[float] = []
        run(told.append)
    assert told[0] == pytest.approx(before * 8 / 48)
    assert read_image(tmp_path / "out.zarr")[0].tobytes() == expected(image).tobytes()


def test_another_request_does_not_change_the_partial_file(tmp_path: Path, broken_off: Path) -> None:
    with pytest.raises(FileError) as caught:
        volumes.filter(broken_off, tmp_path / "out.zarr", KERNEL, mode="wrap")
    assert (
        "was left by another request: mode was reflect,reflect,reflect, is wrap,wrap,wrap. "
        in str(caught.value)
    )
    assert (
        "Delete it and out.zarr.partial.journal, or overwrite it (overwrite=True, --force)"
        in str(caught.value)
    )
    volumes.filter(broken_off, tmp_path / "out.zarr", KERNEL, mode="wrap", overwrite=True)


def test_without_resuming_a_run_starts_again(tmp_path: Path, broken_off: Path) -> None:
    with volumes.Run(broken_off, tmp_path / "out.zarr", KERNEL, resume=False) as run:
        assert run.resumed == 0


def test_a_source_that_changed_is_another_request(tmp_path: Path, broken_off: Path) -> None:
    shutil.rmtree(broken_off)
    store(broken_off, np.zeros((48, 40, 57), np.float32))
    with pytest.raises(FileError, match="its state was"):
        volumes.filter(broken_off, tmp_path / "out.zarr", KERNEL)


def test_a_torn_line_of_the_journal_does_not_count(
    tmp_path: Path, broken_off: Path, image: np.ndarray
) -> None:
    journal = tmp_path / "out.zarr.partial.journal"
    assert json.loads(journal.read_bytes().splitlines()[0])["request"]["mode"].startswith("reflect")
    with journal.open("ab") as file:
        file.write(b'{"done":[0,5')
    volumes.filter(broken_off, tmp_path / "out.zarr", KERNEL)
    assert read_image(tmp_path / "out.zarr")[0].tobytes() == expected(image).tobytes()


def test_two_runs_cannot_write_one_partial_file(tmp_path: Path, image: np.ndarray) -> None:
    source = store(tmp_path / "in.zarr", image)
    with (
        volumes.Run(source, tmp_path / "out.zarr", KERNEL),
        pytest.raises(FileError, match="another process is writing it"),
    ):
        volumes.Run(source, tmp_path / "out.zarr", KERNEL)


# What goes wrong


def test_a_full_disk_keeps_what_was_written(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = store(tmp_path / "in.zarr", image)
    slabs(monkeypatch, (8, 48, 64))
    _fail_after(monkeypatch, 24, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(FileError) as caught:
        volumes.filter(source, tmp_path / "out.zarr", KERNEL)
    assert str(caught.value) == (
        f"cannot write {tmp_path}/out.zarr: no space left on device. Free some space and resume. "
        "What was written is kept as out.zarr.partial"
    )
    assert not (tmp_path / "out.zarr").exists()
    monkeypatch.setattr(Target, "write", WRITE)
    volumes.filter(source, tmp_path / "out.zarr", KERNEL)
    assert read_image(tmp_path / "out.zarr")[0].tobytes() == expected(image).tobytes()


def test_an_unreadable_chunk_is_named_and_the_rest_is_kept(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = store(tmp_path / "in.zarr", image)
    slabs(monkeypatch, (8, 48, 64))
    chunk = source / "c" / "4" / "0" / "1"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:20])
    with pytest.raises(FileError, match=r"its chunk c/4/0/1, .*truncated or damaged"):
        volumes.filter(source, tmp_path / "out.zarr", KERNEL)
    assert chunk.read_bytes() == whole[:20]
    chunk.write_bytes(whole)
    with volumes.Run(source, tmp_path / "out.zarr", KERNEL) as run:
        assert run.resumed > 0
        run()
    assert read_image(tmp_path / "out.zarr")[0].tobytes() == expected(image).tobytes()


@pytest.mark.parametrize(
    ("target", "options", "kind", "said"),
    [
        ("in.npy", {"overwrite": True}, FileError, "it is the input, or lies in it"),
        ("there.npy", {}, FileError, "there.npy exists. Choose another name"),
        ("no/folder.npy", {}, FileError, "there is no folder"),
        ("out.npy", {"memory": "1MiB"}, ArgumentError, "`memory` must be at least "),
        ("out.npy", {"memory": "much"}, ArgumentError, "`memory` must be a number of bytes"),
        ("out.npy", {"chunks": "0,1"}, ArgumentError, "`chunks` must be auto or sizes"),
        ("out.npy", {"method": "fft"}, ArgumentError, "depend on how a volume is cut"),
        ("out.npy", {"mode": "wrapped"}, SeparableError, "`mode` must be one of"),
        ("out.png", {}, FileError, "cannot write"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_left(
    tmp_path: Path, image: np.ndarray, target: str, options: dict[str, Any], kind: Any, said: str
) -> None:
    np.save(tmp_path / "in.npy", image)
    np.save(tmp_path / "there.npy", image)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(kind) as caught:
        volumes.filter(tmp_path / "in.npy", tmp_path / target, KERNEL, **options)
    assert said in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_truncated_file_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "in.npy", image)
    os.truncate(tmp_path / "in.npy", 1000)
    with pytest.raises(FileError, match="truncated"):
        volumes.filter(tmp_path / "in.npy", tmp_path / "out.npy", KERNEL)
    assert os.listdir(tmp_path) == ["in.npy"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "in.npy", image)
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(FileError, match="no permission to write"):
        volumes.filter(tmp_path / "in.npy", tmp_path / "closed" / "out.npy", KERNEL)


# Memory

# Not `ru_maxrss`: a child inherits the peak of the process that started it.
PEAK = """
import sys
import separable as sep
from separable import volumes
done = volumes.filter(sys.argv[1], sys.argv[2], sep.kernels.gaussian(2, ndim=3), memory=sys.argv[3])
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks are counted differently")
@pytest.mark.parametrize(
    ("shape", "chunks", "limit"),
    [
        ((160, 384, 384), (32, 64, 64), 400),
        pytest.param((1024, 1024, 1024), (64, 128, 128), 512, marks=pytest.mark.long),
    ],
)
def test_the_peak_of_memory_stays_below_the_limit(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], limit: int
) -> None:
    array = zarr.create_array(
        str(tmp_path / "in.zarr"), shape=shape, chunks=chunks, dtype="float32"
    )
    chance = np.random.default_rng(0)
    for top in range(0, shape[0], chunks[0]):
        array[top : top + chunks[0]] = chance.random((chunks[0], *shape[1:]), dtype=np.float32)
    small = Path(tmp_path / "small.npy")  # compiled before what is measured
    np.save(small, np.zeros((8, 8, 8), np.float32))
    volumes.filter(small, tmp_path / "smooth.npy", sep.kernels.gaussian(2, ndim=3))
    arguments = [str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), f"{limit}MiB"]
    told = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, check=True)
    assert int(told.stdout) < limit << 20
    result = zarr.open(str(tmp_path / "out.zarr"))
    plan = chunkwise(sep.plan(sep.kernels.gaussian(2, ndim=3), shape, "float32"))
    for place in ((0, 0, 0), (shape[0] // 2, shape[1] // 3, 5), tuple(n - 40 for n in shape)):
        region = tuple(slice(a, a + 40) for a in place)
        part = volumes.filter_block(plan, array[volumes.needs(plan, region)], region)
        assert result[region].tobytes() == part.tobytes()
    for path in tmp_path.iterdir():  # gigabytes, which pytest would keep
        shutil.rmtree(path) if path.is_dir() else path.unlink()
