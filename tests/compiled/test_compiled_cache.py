"""The cache of compiled code: nothing that happens to it stops a filter."""

from __future__ import annotations

import ast
import errno
import logging
import multiprocessing
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from separable.engine.compiled import code_cache
from separable.engine.compiled.code_cache import Cache
from separable.engine.compiled.jit import code_of
from separable.engine.compiled.numba_api import numba

ROOT = Path(__file__).parents[2]


def triple(x: float) -> float:
    return 3 * x


class Made:
    """A function compiled with a cache in a folder, as by a process of its own."""

    def __init__(self, folder: Path | None) -> None:
        self.misses = 0
        self.dispatcher = numba.njit(triple)
        self.dispatcher._cache = Cache(triple, lambda: folder, self._miss)

    def _miss(self) -> None:
        self.misses += 1

    def __call__(self, x: Any) -> Any:
        return self.dispatcher(x)


@pytest.fixture(autouse=True)
def told_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "_logged", False)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.nbc"))


def blanked(source: bytes) -> str:
    """Return the syntax tree of a source, its docstrings emptied."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.dump(tree)


@pytest.mark.parametrize("package", ["engine", "nn/fused"])
def test_only_comments_and_docstrings_are_left_out_of_the_version(package: str) -> None:
    for path in (ROOT / "src" / "separable" / package / "compiled").glob("*.py"):
        source = path.read_bytes()
        assert blanked(code_of(source)) == blanked(source), path


def test_a_comment_does_not_change_the_version_but_code_does() -> None:
    first = b'def f(x):\n    """Add."""\n    return x + 1\n'
    noted = b'# Note.\n\ndef f(x):\n    """Add\n\n    "one"."""\n    # Why.\n    return x + 1\n'
    assert code_of(first) == code_of(noted)
    assert code_of(first) != code_of(first.replace(b"1", b"2"))


def test_an_entry_is_compiled_once(tmp_path: Path) -> None:
    first, second = Made(tmp_path), Made(tmp_path)
    assert first(2.0) == 6.0
    assert second(2.0) == 6.0
    assert (first.misses, second.misses) == (1, 0)
    assert second(2) == 6  # another type is another entry
    assert second.misses == 1
    assert len(entries(tmp_path)) == 2
    assert [p.name for p in tmp_path.iterdir() if p not in entries(tmp_path)] == []


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda b: b[: len(b) // 2],
    "one byte less": lambda b: b[:-1],
    "one byte more": lambda b: b + b"\0",
    "a flipped bit in the code": lambda b: b[:-100] + bytes([b[-100] ^ 1]) + b[-99:],
    "a flipped bit in the head": lambda b: bytes([b[0] ^ 1]) + b[1:],
    "something else": lambda _: b"cnumba\nnothing\n" * 1000,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_entry_is_compiled_again(tmp_path: Path, how: str) -> None:
    Made(tmp_path)(2.0)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(DAMAGE[how](whole))
    again = Made(tmp_path)
    assert again(2.0) == 6.0
    assert again.misses == 1
    last = Made(tmp_path)
    assert last(2.0) == 6.0
    assert last.misses == 0


def test_an_entry_of_another_function_is_not_taken(tmp_path: Path) -> None:
    """Names are made of hashes, and an entry says whose it is: no number is shared by accident."""
    Made(tmp_path)(2.0)
    Made(tmp_path)(2)
    one, other = entries(tmp_path)
    shutil.copy(one, other)
    for value in (2.0, 2):
        made = Made(tmp_path)
        assert made(value) == 6
        assert type(made(value)) is type(value)


def test_a_pickle_that_cannot_be_rebuilt_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Made(tmp_path)(2.0)

    class Broken:
        @staticmethod
        def _rebuild(*_: Any) -> None:
            raise AttributeError("of another release")

    monkeypatch.setattr(code_cache, "CompileResult", Broken)
    made = Made(tmp_path)
    assert made(2.0) == 6.0
    assert made.misses == 1


@pytest.mark.parametrize("code", ["ENOSPC", "EFBIG", "EDQUOT", "EACCES", "EROFS", "EIO", "EMFILE"])
@pytest.mark.parametrize("name", ["open", "replace", "mkdir"])
def test_no_error_of_the_system_stops_a_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any, code: str, name: str
) -> None:
    number = getattr(errno, code)

    def fail(*args: Any, **_: Any) -> Any:
        if name == "open" and args[1:2] != ("xb",):
            return real(*args, **_)
        raise OSError(number, os.strerror(number))

    folder = tmp_path / "engine-0123456789abcdef"
    if name == "open":
        import builtins

        real = builtins.open
        monkeypatch.setattr(code_cache, "open", fail, raising=False)
        folder.mkdir()
    else:
        monkeypatch.setattr(os, name, fail)
        if hasattr(pathlib, "_NormalAccessor"):  # Python 3.10 has looked the function up already
            monkeypatch.setattr(pathlib._NormalAccessor, name, staticmethod(fail))
        if name == "replace":
            folder.mkdir()
    with caplog.at_level(logging.WARNING, "separable"):
        for value in (2.0, 2):
            assert Made(folder)(value) == 6
    monkeypatch.undo()
    (record,) = caplog.records  # one message, however often it happens
    assert os.strerror(number) in record.getMessage()
    assert "SEPARABLE_CACHE_DIR" in record.getMessage()
    assert not folder.exists() or list(folder.iterdir()) == []


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "engine-0123456789abcdef"
    made = Made(folder)
    assert made(2.0) == 6.0
    shutil.rmtree(folder)
    assert made(2) == 6
    assert len(entries(folder)) == 1


def test_where_there_is_no_folder_nothing_is_kept() -> None:
    assert Made(None)(2.0) == 6.0
    assert code_cache.state(None) == "none"


@pytest.mark.parametrize(
    "name", ["a b", "ünï", "per%cent", "new\nline", "quote'\"", "sur\udce4rogate", "x" * 200]
)
def test_strange_names_of_folders(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "engine-0123456789abcdef"
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system has no such names")
    Made(folder)(2.0)
    again = Made(folder)
    assert again(2.0) == 6.0
    assert again.misses == 0


def test_a_file_in_the_place_of_the_folder(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "taken").write_text("not a folder")
    with caplog.at_level(logging.WARNING, "separable"):
        assert Made(tmp_path / "taken" / "engine-0123456789abcdef")(2.0) == 6.0
    assert len(caplog.records) == 1


def _compile_at_once(folder: Path, start: Any, results: Any) -> None:
    start.wait(600)
    results.put([Made(folder)(value) for value in (2.0, 2, 2.0 + 0j)])


def test_processes_that_compile_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    workers = [
        context.Process(target=_compile_at_once, args=(tmp_path, start, results)) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    start.set()
    got = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join(600)
    assert got == [[6.0, 6, 6.0 + 0j]] * 4
    assert len(entries(tmp_path)) == 3
    after = Made(tmp_path)
    assert [after(v) for v in (2.0, 2, 2.0 + 0j)] == [6.0, 6, 6.0 + 0j]
    assert after.misses == 0


def test_old_versions_are_removed_but_none_that_may_be_in_use(tmp_path: Path) -> None:
    old = time.time() - 2 * code_cache.UNUSED_SECONDS
    for number in range(9):
        folder = tmp_path / f"engine-{number:016x}"
        folder.mkdir()
        (folder / "a.b-c.nbc").write_bytes(b"0")
        (folder / "a.b-1.py311.nbi").write_bytes(b"0")
        os.utime(folder, (old + number, old + number))
    fresh = tmp_path / "engine-00000000000000ff"
    fresh.mkdir()
    foreign = [tmp_path / "engine-mine", tmp_path / "fused-0000000000000000", tmp_path / "notes"]
    for folder in foreign:
        folder.mkdir()
        os.utime(folder, (old - 100, old - 100))
    kept_file = tmp_path / "engine-0000000000000001" / "mine.txt"
    kept_file.write_text("somebody's")
    os.utime(kept_file.parent, (old + 1, old + 1))
    current = tmp_path / "engine-00000000000000aa"
    assert Made(current)(2.0) == 6.0  # a new folder is made, and others go
    left = {p.name for p in tmp_path.iterdir()}
    assert {p.name for p in foreign} <= left
    assert kept_file.read_text() == "somebody's"
    numbers = {
        int(n[7:], 16) for n in left if code_cache.VERSION_FOLDER.fullmatch(n) and n[0] == "e"
    }
    # The new one, the one used a moment ago, two more of the newest, and the one with a foreign file.
    assert numbers == {0xAA, 0xFF, 8, 7, 1}


def test_a_used_version_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "_used", set())
    begun = time.time()
    os.utime(tmp_path, (1, 1))
    code_cache.mark_used(tmp_path)
    assert tmp_path.stat().st_mtime > begun - 60  # file systems round times


# --- real conditions, each in a process of its own -------------------------------------------------

SCRIPT = """
    import logging, sys, warnings
    import numpy as np
    {before}
    warnings.simplefilter("error")
    from separable.engine.compiled.masked_kernels import normalise
    from separable.engine.compiled.jit import cache_folder
    from separable.engine.compiled import code_cache
    values = np.array([1.0, 2.0])
    normalise(values, np.array([1.0, 0.5]), np.array([1.0, 1.0, 0.25, 0.0]), 0.0)
    assert values.tolist() == [1.0, 4.0], values
    misses = normalise.stats.cache_misses
    print(code_cache.state(cache_folder()), sum(misses.values()))
"""


def run(folder: Path | str, before: str = "", **variables: str) -> tuple[str, str]:
    """Compile a kernel of the engine in a new process; return what it printed on both streams."""
    environment = {**os.environ, "SEPARABLE_CACHE_DIR": str(folder), **variables}
    environment = {k: v for k, v in environment.items() if v != ""}
    code = textwrap.dedent(SCRIPT).format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def test_a_limit_of_file_size(tmp_path: Path) -> None:
    assert hasattr(resource, "RLIMIT_FSIZE")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    printed, said = run(tmp_path, limit)
    assert printed == "none 1"
    assert said.count("\n") == 1
    assert "File too large" in said
    assert not list(tmp_path.rglob("*.tmp"))


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """Mount something; skip the test where that is not permitted."""
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=4k", "none"):
        printed, said = run(tmp_path)
        assert printed.endswith(" 1")
        assert "No space left" in said


def test_a_cache_that_can_only_be_read_is_used(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    assert run(theirs) == ("writable 1", "")
    with mounted(ours, "--bind", str(theirs)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(ours)], check=True)
        assert run(ours) == ("read-only 0", "")
        # Something that is not in it is compiled each time, and that is said once.
        printed, said = run(ours, NUMBA_CPU_NAME="generic")
        assert printed in ("read-only 1", "none 1")  # "generic" vectors have a folder of their own
        assert "Read-only file system" in said


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a name or a home, as in a container, has no folder; no "~" is made here."""
    import pwd

    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "SEPARABLE_CACHE_DIR", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert code_cache.root() is None


def test_the_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEPARABLE_CACHE_DIR", "here")
    assert code_cache.root() == tmp_path / "here"
