"""Every descriptor has one owner: none is closed twice, none stays open, for every format.

After each close the number is given to a guard, ``/dev/null``; a second close of the number would
hit that guard, as in a program with threads it hits a file of another thread.
"""

from __future__ import annotations

import copy
import errno
import gc
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from separable import files, system, volumes
from separable.cli.outputs import write_together
from separable.errors import FileError
from separable.files import Format, chunked_io, registered_formats
from separable.files.atomic_write import new_beside
from separable.system import descriptors

KERNEL = np.ones((3, 3, 3)) / 27
VOLUME = np.random.default_rng(0).integers(0, 200, (9, 10, 11)).astype(np.float32)
FOLDER = Path("/dev/fd")
BY_PARTS = [f for f in registered_formats() if f.create is not None]
READ_BY_PARTS = [f for f in registered_formats() if f.open is not None and f.create is not None]
WRITTEN = [f for f in registered_formats() if f.write is not None or f.create is not None]

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the system lists no descriptors")


def name_of(format: Format) -> str:
    return format.name


def numbers() -> set[int]:
    """The descriptors that are open, but for the one that lists them."""
    found = {int(name) for name in os.listdir(FOLDER)}
    return {n for n in found if is_open(n)}


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Open what packages keep open for the whole process: zarr has an event loop.

    Objects of earlier tests and of imported packages are frozen: with them, the two collections around each test take
    seconds.
    """
    for format in WRITTEN:
        path = tmp_path_factory.mktemp("ready") / f"a{format.suffixes[0]}"
        files.write_image(path, array_for(format))
        files.read_image(path)
    gc.collect()
    gc.freeze()


@pytest.fixture
def watched(ready: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Watch what is closed; what was wrong is in the list, and must be nothing at the end."""
    close, lock = os.close, threading.Lock()
    guards: dict[int, os.stat_result] = {}
    wrong: list[str] = []

    def watched_close(number: int) -> None:
        with lock:
            if number in guards or not is_open(number):
                wrong.append(f"{number} was closed again")
            close(number)
            guard = os.open(os.devnull, os.O_RDONLY)
            guards[guard] = os.fstat(guard)

    gc.collect()
    before = numbers()
    monkeypatch.setattr(os, "close", watched_close)
    yield wrong
    monkeypatch.undo()
    gc.collect()
    for number, seen in guards.items():
        if not is_open(number) or os.fstat(number).st_rdev != seen.st_rdev:
            wrong.append(f"{number}, somebody else's, was closed")
    opened = numbers() - before - set(guards)
    for number in guards:
        if is_open(number):
            close(number)
    assert wrong == []
    assert opened == set()


def array_for(format: Format) -> np.ndarray:
    """An array that the format holds, as whole numbers of one plane where it holds no volumes."""
    if not format.refuse(VOLUME.shape, VOLUME.dtype):
        return VOLUME
    grey = VOLUME[0].astype(np.uint8)
    colour = np.stack([grey] * 3, axis=-1)
    return grey if not format.refuse(grey.shape, grey.dtype) else colour


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.npy"
    np.save(path, VOLUME)
    return path


def fail(error: BaseException, after: int = 0) -> Callable[..., None]:
    """A function that raises when it has been called so often."""
    calls = [0]

    def failing(*arguments: object, **options: object) -> None:
        calls[0] += 1
        if calls[0] > after:
            raise error

    return failing


ERRORS = [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]


@pytest.mark.parametrize("format", WRITTEN, ids=name_of)
def test_whole_files(format: Format, tmp_path: Path, watched: list[str]) -> None:
    array = array_for(format)
    path = tmp_path / f"a{format.suffixes[0]}"
    files.write_image(path, array)
    files.write_image(path, array, overwrite=True)
    read, _ = files.read_image(path)
    assert read.shape == array.shape
    with pytest.raises(FileError):
        files.write_image(path, array)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("place", ["fsync", "take_name"])
@pytest.mark.parametrize("format", WRITTEN, ids=name_of)
def test_whole_files_that_fail(
    format: Format, place: str, error: BaseException, tmp_path: Path, watched: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if place == "fsync" and format.folder:
        pytest.skip(f"{format.name} is flushed by its package")
    with monkeypatch.context() as patched:
        if place == "fsync":
            patched.setattr(os, "fsync", fail(error))
        else:
            patched.setattr("separable.files.atomic_write.take_name", fail(error))
            patched.setattr(chunked_io, "take_name", fail(error))
        kind = FileError if isinstance(error, Exception) else type(error)
        with pytest.raises(kind):
            files.write_image(tmp_path / f"a{format.suffixes[0]}", array_for(format))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", READ_BY_PARTS, ids=name_of)
def test_files_that_are_damaged(format: Format, tmp_path: Path, watched: list[str]) -> None:
    """Cut off at every tenth: whatever opens, and whatever reads it, closes it."""
    path = tmp_path / f"a{format.suffixes[0]}"
    files.write_image(path, array_for(format))
    damaged = path if path.is_file() else next(p for p in sorted(path.rglob("*")) if p.is_file())
    content = damaged.read_bytes()
    for tenth in range(10):
        damaged.write_bytes(content[: len(content) * tenth // 10])
        for read in (lambda: files.read_image(path), lambda: read_parts(path)):
            try:
                read()
            except FileError:  # noqa: PERF203 - each is read
                continue


def read_parts(path: Path) -> None:
    with files.open_source(path) as source:
        source.read((slice(0, 2),))


@pytest.mark.parametrize("format", BY_PARTS, ids=name_of)
@pytest.mark.parametrize("chunks", [None, (4, 5, 11)])
def test_filters_from_file_to_file(
    format: Format, chunks: tuple[int, ...] | None, source: Path, tmp_path: Path, watched: list[str]
) -> None:
    options = {} if chunks is None else {"chunks": chunks}
    target = tmp_path / f"out{format.suffixes[0]}"
    volumes.filter(source, target, KERNEL, **options)
    volumes.filter(source, target, KERNEL, overwrite=True, **options)
    with pytest.raises(FileError, match="exists"):
        volumes.filter(source, target, KERNEL, **options)
    volumes.filter(target, tmp_path / "again.npy", KERNEL)  # the format as a source, too


FULL = OSError(errno.ENOSPC, "No space left on device")
PLACES = [
    ("reading", KeyboardInterrupt()), ("writing", FULL), ("writing", KeyboardInterrupt()),
    ("flushing", FULL), ("progress", KeyboardInterrupt()), ("finishing", FULL),
    ("creating", KeyboardInterrupt()),
]  # fmt: skip


@pytest.mark.parametrize(("place", "error"), PLACES, ids=str)
@pytest.mark.parametrize("format", BY_PARTS, ids=name_of)
def test_filters_that_fail_and_go_on(
    format: Format, place: str, error: BaseException, source: Path, tmp_path: Path,
    watched: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    target = tmp_path / f"out{format.suffixes[0]}"
    progress = None
    with monkeypatch.context() as patched:
        if place == "reading":
            patched.setattr(chunked_io.Source, "read", fail(error))
        elif place == "writing":
            patched.setattr(chunked_io.Target, "write", fail(error))
        elif place == "flushing":
            patched.setattr("separable.volumes.slab_pipeline.bring_to_disk", fail(error))
        elif place == "progress":
            progress = fail(error)
        elif place == "finishing":
            patched.setattr(chunked_io, "take_name", fail(error))
        elif place == "creating":
            patched.setattr("separable.volumes.filter_file.create_target", fail(error))
        with pytest.raises((OSError, type(error))):
            volumes.filter(source, target, KERNEL, progress=progress)
    assert not target.exists()
    volumes.filter(source, target, KERNEL)
    found, _ = files.read_image(target)
    assert found.shape in (VOLUME.shape, VOLUME.shape[1:] + VOLUME.shape[:1])
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name or p.name[0] == "."]


def test_several_stages(source: Path, tmp_path: Path, watched: list[str]) -> None:
    """A run whose halo does not fit has files between its stages."""
    from separable.volumes import filter_file

    with filter_file.Run(source, tmp_path / "out.npy", KERNEL) as run:
        middle = filter_file.stage_path(run.name, 0)
        stage = run.schedule.stages[0]
        two = copy.copy(run.schedule)
        object.__setattr__(two, "stages", (stage, stage))
        run.schedule = two
        run()
    assert not middle.exists()


def test_files_written_together(tmp_path: Path, watched: list[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    write_together([(a, b"1"), (b, b"2")], overwrite=False)
    write_together([(a, b"3"), (b, b"4")], overwrite=True)
    with pytest.raises(FileError):
        write_together([(tmp_path / "c", b"5"), (b, b"6")], overwrite=False)
    assert (a.read_bytes(), b.read_bytes()) == (b"3", b"4")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


# The owner itself


def test_a_handle_is_closed_once(tmp_path: Path, watched: list[str]) -> None:
    handle = system.Handle(tmp_path / "a", write=True, create=True)
    handle.write(b"abc", 2)
    handle.close()
    handle.close()
    with handle:
        pass
    handle.remove()  # is not ours any more
    assert (tmp_path / "a").read_bytes() == b"\0\0abc"
    for use in (lambda: handle.size, handle.flush, lambda: handle.read(bytearray(1), 0)):
        with pytest.raises(FileError, match=r"cannot use .*a: it has been closed\. Open it again"):
            use()
    assert handle.closed


def test_a_handle_hides_no_error(tmp_path: Path) -> None:
    handle = system.Handle(tmp_path / "a", new=True)
    os.close(handle._number)  # as a bug elsewhere would
    with pytest.raises(OSError, match="Bad file descriptor"):
        handle.close()
    handle.close()  # it has none any more


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_handle_is_not_copied(how: Callable[[object], object], tmp_path: Path) -> None:
    with (
        system.Handle(tmp_path / "a", new=True) as handle,
        pytest.raises(TypeError, match="an open file cannot be copied or pickled"),
    ):
        how(handle)


def test_a_forgotten_handle_is_closed_with_a_warning(tmp_path: Path, watched: list[str]) -> None:
    handle = system.Handle(tmp_path / "a", new=True)
    with pytest.warns(ResourceWarning, match="a was not closed"):
        handle.__del__()
    assert handle._number == -1


def test_a_handle_waits_for_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: list[str]
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    handle = system.Handle(path)
    reading, go_on = threading.Event(), threading.Event()
    before = descriptors.read_at

    def slowly(number: int, *arguments: object) -> int:
        reading.set()
        assert go_on.wait(600)
        return before(number, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("separable.system.handles.read_at", slowly)
    part = bytearray(4)
    reader = threading.Thread(target=handle.read, args=(part, 3))
    reader.start()
    assert reading.wait(600)
    handle.close()
    number = handle._number
    assert is_open(number)  # and so nobody else's
    go_on.set()
    reader.join()
    assert part == b"3456"
    assert handle._number == -1
    with pytest.raises(FileError, match="it has been closed"):
        handle.read(part, 0)


def test_a_locked_file_is_the_one_that_bears_the_name(tmp_path: Path) -> None:
    """A process that waited for the lock of a file that was then deleted must not write into it."""
    path = tmp_path / "journal"
    first = system.Handle.locked(path)
    with pytest.raises(BlockingIOError):
        system.Handle.locked(path)
    before = descriptors.open_descriptor
    deleted = []

    def opened(*arguments: object) -> int:
        number = before(*arguments)  # type: ignore[arg-type]
        if not deleted:
            deleted.append(True)
            first.remove()  # between opening and locking
        return number

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("separable.system.handles.open_descriptor", opened)
        second = system.Handle.locked(path)
    second.append(b"mine")
    assert path.read_bytes() == b"mine"
    second.remove()
    assert not path.exists()


def test_undoing_a_run_keeps_the_partial_file_of_the_next(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is undone only once: afterwards another run may have begun."""
    target = tmp_path / "out.npy"
    begun: list[volumes.Run] = []
    before = system.Handle.close

    def closed(handle: system.Handle) -> None:
        was_journal = handle.path.name.endswith(".journal") and not handle.closed
        before(handle)
        if was_journal and not begun:
            begun.append(None)  # type: ignore[arg-type]
            begun[0] = volumes.Run(source, target, KERNEL)

    with monkeypatch.context() as patched:
        patched.setattr(system.Handle, "close", closed)
        patched.setattr(volumes.Run, "_schedule", _refusing(volumes.Run._schedule, begun))
        with pytest.raises(FileError, match="cannot begin"):
            volumes.Run(source, target, KERNEL)
    with begun[0] as run:
        run()
    assert files.read_image(target)[0].shape == VOLUME.shape


def _refusing(before: Callable[..., object], begun: list[object]) -> Callable[..., object]:
    def schedule(*arguments: object) -> object:
        if not begun:
            raise FileError("cannot begin")
        return before(*arguments)

    return schedule


def test_new_files_have_the_permissions_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    first = new_beside(tmp_path / "a", ".part")
    assert first.stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "b").touch(0o600)
    assert new_beside(tmp_path / "b", ".part").stat().st_mode & 0o777 == 0o600


def test_permissions_are_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.umask` is of the whole process: threads that looked it up could leave it at 0."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(os, "umask", fail(AssertionError("other threads see this")))
            for number, format in enumerate(WRITTEN):
                files.write_image(tmp_path / f"{number}{format.suffixes[0]}", array_for(format))
            write_together([(tmp_path / "a.txt", b"1")], overwrite=False)
        written = [p for p in tmp_path.iterdir() if p.is_file()]
        assert {p.stat().st_mode & 0o777 for p in written} == {0o640}
    finally:
        os.umask(before)


@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.long)])
def test_threads_that_filter_and_threads_that_open_files(tmp_path: Path, seconds: int) -> None:
    """Once in 8 s 4 results were wrong, and 16 files of other threads lost; now nothing is."""
    program = Path(__file__).parents[1] / "volumes" / "threads_and_files.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", program, str(seconds)],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert set(seen) == {"right", "kept"}, seen
    assert seen["right"] >= 6
