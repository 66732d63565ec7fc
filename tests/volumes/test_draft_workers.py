"""One draft, many processes: workers join, are killed and come back; the result is the same."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable.errors import FileError
from separable.files import create_target, open_source, read_image
from separable.files.chunked_io import draft_of
from separable.files.zarr_drafts import WRITING
from separable.system import handles
from separable.volumes import cluster
from separable.volumes.checkpoint import bring_to_disk, now, open_journal
from separable.volumes.filter_file import Run
from separable.volumes.slab_planner import Stage

zarr = pytest.importorskip("zarr")

SHAPE, CHUNKS, SLAB = (8, 24, 24), (4, 6, 6), (4, 12, 12)
KERNEL = np.random.default_rng(1).random((3, 3, 3))
IMAGE = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
KINDS = {
    "zarr 3": ("out.zarr", {"chunks": CHUNKS}),
    "zarr 2": ("out.zarr", {"chunks": CHUNKS, "zarr_format": 2}),
    "shards": ("out.zarr", {"chunks": (2, 3, 3), "shards": CHUNKS}),
    "OME-Zarr": ("out.ome.zarr", {"chunks": CHUNKS}),
}


def temporary(store: Path) -> list[str]:
    """Names of temporary chunks and folders anywhere in a store."""
    return [
        str(p) for p in store.rglob("*") if ".partial" in p.name or p.name.startswith(".separable")
    ]


def work(connection: Connection) -> None:
    """Join the drafts and filter the slabs that are sent."""
    job: Any = None
    with contextlib.suppress(EOFError, OSError):  # the test has ended
        while True:
            slab, arguments = connection.recv()
            try:
                if arguments is not None:
                    job = cluster._opened(*arguments)
                    joined = arguments
                else:
                    if slab[0] % 2:  # it comes back
                        job = cluster._opened(*joined)
                    cluster._filter_slab(job, *slab[1:])
                connection.send((slab, None))
            except Exception as error:
                connection.send((slab, error))


class Workers:
    """Processes that share the slabs of a run; some are killed and others join in their place."""

    def __init__(self, context: Any, count: int) -> None:
        self.context = context
        self.living: dict[Connection, Any] = {}
        self.busy: dict[Connection, Any] = {}  # with which slab, or None: it opens the files
        self.killed = 0
        for _ in range(count):
            self.start()

    def start(self) -> Connection:
        mine, theirs = self.context.Pipe()
        process = self.context.Process(target=work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self.living[mine] = process
        return mine

    def run(self, slabs: list[Any], arguments: tuple[Any, ...], kills: list[float]) -> list[int]:
        """Return the slabs in the order in which they were done.

        Each number of `kills` says after how many slabs, and in the part after the point how many
        times 8 ms later, a worker is killed.
        """
        left, done, kills = slabs[::-1], list[int](), kills[::-1]
        for connection in self.living:
            self.send(connection, None, arguments)
        while len(done) < len(slabs) or self.busy:
            while kills and self.busy and len(done) >= int(kills[-1]):
                time.sleep(kills.pop() % 1 * 0.008)  # so that all parts of the work are hit
                self.kill()
            for connection in wait(list(self.busy), timeout=600):
                try:
                    slab, error = connection.recv()
                except (EOFError, ConnectionResetError):  # it was killed
                    left += [slab for slab in [self.bury(connection)] if slab is not None]
                    self.send(self.start(), None, arguments)
                    continue
                del self.busy[connection]
                if error is not None:
                    raise error
                done += [slab[0]] if slab is not None else []
                if left:
                    self.send(connection, left.pop(), None)
        return done

    def send(self, connection: Connection, slab: Any, arguments: Any) -> None:
        self.busy[connection] = slab
        with contextlib.suppress(BrokenPipeError):  # it was killed, which is met when it is read
            connection.send((slab, arguments))

    def kill(self) -> None:
        connection = min(self.busy, key=lambda c: (self.busy[c] is None, self.living[c].pid))
        with contextlib.suppress(ProcessLookupError):  # killed before
            os.kill(self.living[connection].pid, signal.SIGKILL)
            self.killed += 1

    def bury(self, connection: Connection) -> Any:
        """Return the slab that a dead worker was at."""
        self.living.pop(connection).join()
        connection.close()
        return self.busy.pop(connection, None)

    def close(self) -> None:
        for connection, process in self.living.items():
            connection.close()
            process.join()


@pytest.fixture(scope="module")
def context() -> Any:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__, "separable.volumes.cluster", "zarr", "scipy.ndimage"])
    return made


def filter_with(workers: Workers, source: Path, target: Path, kills: list[float]) -> None:
    """Filter a file by the slabs of a cluster, on these workers."""
    with Run(source, target, KERNEL, method="direct", mode="wrap") as run:
        whole = run.schedule.stages[0].filter
        stage = Stage(whole, 0, SLAB, run.source.chunks, run.target.chunks)
        run.schedule = replace(run.schedule, stages=(stage,))
        slabs = [(i, step.region, step.block) for i, step in enumerate(stage.steps)]
        arguments = (whole.with_threads(1), source, run.target.__reduce__())
        for index in workers.run(slabs, arguments, kills):
            run.journal.record(0, index)
        run()


def runs(context: Any, folder: Path, count: int) -> None:
    exact = sep.convolve(IMAGE, KERNEL, method="direct", mode="wrap")
    random = np.random.default_rng(count)
    workers = Workers(context, 4)
    try:
        for number in range(count):
            name, layout = list(KINDS.values())[number % len(KINDS)]
            source, target = folder / f"{number}-in.zarr", folder / f"{number}-{name}"
            zarr.create_array(str(source), shape=SHAPE, dtype="float32", **layout)[:] = IMAGE
            filter_with(workers, source, target, [random.random() * 7])
            np.testing.assert_array_equal(read_image(target)[0], exact)
            assert temporary(target) == []
    finally:
        workers.close()
    assert workers.killed >= 0.8 * count
    assert not [p for p in folder.iterdir() if ".partial" in p.name]


def test_workers_join_and_are_killed(context: Any, tmp_path: Path) -> None:
    runs(context, tmp_path, int(os.environ.get("N", "12")))


@pytest.mark.long
def test_workers_join_and_are_killed_often(context: Any, tmp_path: Path) -> None:
    runs(context, tmp_path, 300)


# What the drafts promise, one by one

PART = (slice(0, 4), slice(0, 12), slice(0, 12))
ONES = np.ones((4, 12, 12), np.float32)


def created(path: Path) -> Any:
    return create_target(path, SHAPE, "float32", chunks=CHUNKS)


def owners(draft: Path) -> list[Path]:
    return list(draft.glob(f"{WRITING}*/*"))


HALF_WAY = """
import os, pickle, signal, sys
from separable.files import zarr_drafts
target = pickle.loads(bytes.fromhex(sys.argv[1]))
def interrupted(*paths):
    print("writing", flush=True)
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
    return replace(*paths)
replace, os.replace = os.replace, interrupted
import numpy as np
target.write((slice(0, 4), slice(0, 6), slice(0, 6)), np.ones((4, 6, 6), "float32"))
"""


def half_way(target: Any, how: str) -> subprocess.Popen[str]:
    """A worker that has written a temporary chunk and not yet renamed it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HALF_WAY, pickle.dumps(target).hex(), how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_opening_a_partial_file_deletes_nothing_that_is_being_written(tmp_path: Path) -> None:
    target = created(tmp_path / "out.zarr")
    (killed, living) = (half_way(target, how) for how in ("killed", "living"))
    killed.communicate()
    assert len(owners(target.draft)) == 2
    for _ in range(3):
        joined = pickle.loads(pickle.dumps(target))
        joined.write((slice(4, 8), *PART[1:]), ONES)
        bring_to_disk(joined, 0)
        joined.abandon()
    assert len(owners(target.draft)) == 2  # a worker that joins removes nothing at all
    target.abandon()
    target = create_target(tmp_path / "out.zarr", SHAPE, "float32", chunks=CHUNKS, resume=True)
    assert target.resumed
    assert len(owners(target.draft)) == 1  # the first process removes what the killed one left
    _, error = living.communicate("")
    assert (living.returncode, error) == (0, None)
    target.write((slice(4, 8), *PART[1:]), ONES)
    target.finish()
    found = read_image(tmp_path / "out.zarr")[0]
    assert found[:4, :6, :6].all()
    assert found[4:, :12, :12].all()
    assert temporary(tmp_path / "out.zarr") == []


def test_leftovers_of_a_killed_worker_are_not_in_the_finished_store(tmp_path: Path) -> None:
    target = created(tmp_path / "out.zarr")
    half_way(target, "killed").communicate()
    assert owners(target.draft)
    target.finish()
    assert [p.name for p in (tmp_path / "out.zarr").rglob("*") if p.is_file()] == ["zarr.json"]
    assert temporary(tmp_path / "out.zarr") == []


@pytest.mark.parametrize("how", ["finished", "started again"])
def test_a_worker_of_an_earlier_run_cannot_write_into_a_later_one(tmp_path: Path, how: str) -> None:
    """One that was thought dead, say: its numbers may be those of another request."""
    target = created(tmp_path / "out.zarr")
    late = pickle.loads(pickle.dumps(target))
    late.write(PART, ONES)
    if how == "finished":
        target.finish()
    else:
        target.abandon()
        target = created(tmp_path / "out.zarr")
    with pytest.raises(FileError, match="cannot write"):
        late.write(PART, 2 * ONES)
    with pytest.raises(FileError, match="cannot write"):
        late.write((slice(4, 8), *PART[1:]), 2 * ONES)
    late.abandon()
    assert (tmp_path / "out.zarr.partial").exists() == (how != "finished")
    if how != "finished":
        target.finish()
    found = read_image(tmp_path / "out.zarr")[0]
    assert found.max() == (how == "finished")


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_flush_writes_names_and_chunks_to_the_disk(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, layout = KINDS[kind]
    like = tmp_path / "like.zarr"
    zarr.create_array(str(like), shape=SHAPE, dtype="float32", **layout)
    flushed: list[str] = []
    monkeypatch.setattr(
        "separable.files.zarr_drafts.flush_path", lambda path: flushed.append(str(path))
    )
    with open_source(like) as pattern:
        target = create_target(tmp_path / name, SHAPE, "float32", like=pattern)
    other = pickle.loads(pickle.dumps(target))
    other.write((slice(4, 8), *PART[1:]), ONES)
    since = now()
    target.write(PART, ONES)
    bring_to_disk(target, since)
    chunks = [p for p in target.draft.rglob("*") if p.is_file() and "json" not in p.name]
    chunks = [p for p in chunks if not p.name.startswith(".z") and WRITING not in str(p)]
    assert len(chunks) == 8
    assert len({p for p in flushed if Path(p).is_file()}) == 4
    assert {str(Path(p).parent) for p in flushed if Path(p).is_file()} <= set(flushed)
    for one in (target, other):
        one.abandon()


def test_vanished_files_are_skipped(tmp_path: Path) -> None:
    target = created(tmp_path / "out.zarr")
    other = pickle.loads(pickle.dumps(target))
    since = now()
    target.write(PART, ONES)
    other.write(PART, 0 * ONES)  # zarr deletes chunks of zeros
    assert not list((target.draft / "c").rglob("0/0/0"))
    bring_to_disk(target, since)
    bring_to_disk(other, since)
    other.abandon()
    target.finish()


def test_another_thread_waits_until_the_flush_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slab is recorded when it is on the disk, also if another slab's flush took it along."""
    target = created(tmp_path / "out.zarr")
    since = now()
    target.write(PART, ONES)

    def fails(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("separable.files.zarr_drafts.flush_path", fails)
    for _ in range(2):  # what failed is not forgotten
        with pytest.raises(FileError, match="input/output error"):
            bring_to_disk(target, since)
    monkeypatch.undo()
    bring_to_disk(target, since)
    target.abandon()


def test_a_forked_writer_has_its_own_folder(tmp_path: Path) -> None:
    target = created(tmp_path / "out.zarr")
    writer = target.release.__self__
    before = writer._folder()
    child = os.fork()
    if child == 0:
        os._exit(writer._folder() == before)
    assert os.waitpid(child, 0)[1] == 0
    assert writer._folder() == before
    target.abandon()
    assert all("lock" not in p.name for p in owners(target.draft))


def test_a_journal_that_another_run_deleted_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening a journal and locking it another run may finish and delete it."""
    target, path = tmp_path / "out.npy", tmp_path / "out.npy.partial.journal"
    locked, calls = handles.lock_exclusively, []

    def late(number: int) -> bool:
        calls.append(number)
        if len(calls) == 1:
            path.unlink()
        return locked(number)

    monkeypatch.setattr(handles, "lock_exclusively", late)
    journal = open_journal(target, {}, resume=True, force=False)
    assert len(calls) == 2
    with pytest.raises(FileError, match="another process is writing it"):
        open_journal(target, {}, resume=True, force=False)
    journal.close()


def test_without_locks_no_run_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(FileError, match="the file system has no locks"):
        open_journal(tmp_path / "out.npy", {}, resume=True, force=False)


@pytest.mark.parametrize("name", ["out.npy", "out.tif", "out.nii", "out.h5", "out.hdr", "out.zarr"])
def test_joining_changes_no_file(tmp_path: Path, name: str) -> None:
    target = create_target(tmp_path / name, (4, 6, 5), "float32")
    target.write((slice(0, 4), slice(0, 6), slice(0, 5)), np.ones((4, 6, 5), np.float32))
    target.flush()

    def state() -> dict[str, Any]:
        found = sorted(p for p in tmp_path.rglob("*") if p.is_file() and p.name != "lock")
        return {str(p): (p.read_bytes(), p.stat().st_ino) for p in found}

    before = state()
    joined = pickle.loads(pickle.dumps(target))
    joined.abandon()
    assert state() == before
    target.finish()
    with pytest.raises(FileError, match="its partial file is gone"):
        pickle.loads(pickle.dumps(target))
    assert not draft_of(tmp_path / name).exists()
