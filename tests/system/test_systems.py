"""The branches for each system: what is there is used, what is not is done otherwise."""

from __future__ import annotations

import ast
import errno
import mmap
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separable import files, system, volumes
from separable.errors import FileError
from separable.files import atomic_write
from separable.files.format_registry import outer_file
from separable.system import descriptors, handles, memory, processors

SOURCES = Path(system.__file__).parents[1]
KERNEL = np.ones((3, 3, 3)) / 27


def test_every_format_without_what_only_unix_has(tmp_path: Path) -> None:
    """Read, write, filter, cut off and go on, where none of the calls of Unix is there."""
    program = Path(__file__).with_name("without_unix.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = dict(line.split(": ") for line in done.stdout.splitlines())
    assert set(told) == {f.name for f in files.registered_formats()}
    assert told["NPY"] == told["TIFF"] == "right"
    assert set(told.values()) <= {"right", "not installed"}


# What only some systems have is in one package

NAMES = (
    "preadv pread pwrite pwritev readv writev posix_fallocate posix_fadvise posix_spawn sysconf "
    "sysconf_names pathconf confstr sched_getaffinity sched_setaffinity sched_yield getpriority "
    "register_at_fork fork forkpty wait waitid wait3 wait4 WNOHANG statvfs fstatvfs getloadavg uname "
    "getuid geteuid getgid getegid getgroups setuid setgid setsid getpgid setpgid killpg nice "
    "fchmod fchown chown lchown chflags chroot mkfifo mknod openpty pipe2 sendfile splice "
    "copy_file_range getrandom memfd_create pidfd_open getxattr setxattr listxattr sync fdatasync "
    "O_BINARY O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC O_DSYNC O_DIRECT O_TMPFILE O_PATH "
    "O_NOATIME environb fwalk fchdir set_blocking startfile link symlink umask "
    "MAP_PRIVATE MAP_ANONYMOUS MAP_ANON MAP_SHARED MAP_POPULATE PROT_READ PROT_WRITE PROT_EXEC "
    "MADV_HUGEPAGE MADV_DONTNEED MADV_WILLNEED MADV_SEQUENTIAL MADV_FREE madvise "
    "SIGKILL SIGHUP SIGALRM SIGUSR1 SIGUSR2 SIGPIPE SIGCHLD alarm setitimer pthread_kill "
    "AF_UNIX SO_REUSEPORT clock_gettime CLOCK_THREAD_CPUTIME_ID malloc_trim renameat2"
)
UNIX = frozenset(NAMES.split())
MODULES = "fcntl resource termios pwd grp pty syslog posix msvcrt winreg _winapi nt"
OF_ONE_SYSTEM = frozenset(MODULES.split())
COMMON = frozenset(
    ("wait", "sync", "link", "symlink", "alarm", "nice", "uname", "madvise")
)  # of others, too


def uses(tree: ast.AST) -> set[str]:
    """The names of one system that a module uses, as attributes, texts or imports."""
    found: set[str] = set()
    documented = {id(d) for n in ast.walk(tree) if (d := _docstring(n)) is not None}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in UNIX:
            if node.attr not in COMMON or ast.unparse(node.value) == "os":
                found.add(node.attr)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names} & OF_ONE_SYSTEM
        elif isinstance(node, ast.ImportFrom) and node.module in OF_ONE_SYSTEM | {"os", "mmap"}:
            found |= ({node.module} & OF_ONE_SYSTEM) | ({a.name for a in node.names} & UNIX)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            said = node.value in UNIX - COMMON or node.value in OF_ONE_SYSTEM
            if id(node) not in documented and (said or re.match(r"/(proc|sys|dev)/", node.value)):
                found.add(node.value)
        elif isinstance(node, ast.Call) and ast.unparse(node) == "ctypes.CDLL(None)":
            found.add("the symbols of the process itself")
    return found


def _docstring(node: ast.AST) -> ast.Constant | None:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    body = node.body if isinstance(node, kinds) else []
    first = body[0].value if body and isinstance(body[0], ast.Expr) else None
    return first if isinstance(first, ast.Constant) else None


@pytest.mark.parametrize(
    "code",
    ["import os\nos.preadv(1, [], 0)", "from os import pread", "import fcntl", "import os\nos.wait()", "open('/proc/cpuinfo')",
     "getattr(os, 'sysconf')", "import mmap\nmmap.MAP_PRIVATE", "from resource import getrusage"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert uses(ast.parse(code))


def test_no_other_package_uses_names_that_some_systems_lack() -> None:
    found = {}
    for path in sorted(SOURCES.rglob("*.py")):
        if path.parent.name != "system" and (used := uses(ast.parse(path.read_text("utf-8")))):
            found[str(path.relative_to(SOURCES))] = used
    assert found == {}


# Reading and writing by place

BRANCHES: dict[str, tuple[str, ...]] = {
    "preadv and pwrite": (),
    "pread": ("preadv",),
    "neither": ("preadv", "pread", "pwrite"),
}


@pytest.fixture(params=BRANCHES)
def branch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in BRANCHES[request.param]:
        monkeypatch.delattr(os, name, raising=False)
    return str(request.param)


def test_places_in_a_file(branch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "ONE_READ", 1000)
    values = np.random.default_rng(0).integers(0, 255, 10_000, dtype=np.uint8)
    with system.Handle(tmp_path / "a", new=True) as file:
        file.write(values[5000:], 5000)
        file.write(values[:5000], 0)
        out = np.zeros(7000, np.uint8)
        file.read(out, 2000)
        assert np.array_equal(out, values[2000:9000])
        assert file.size == 10_000
        with pytest.raises(EOFError, match="ends before its data"):
            file.read(out, 5000)


def test_threads_share_a_handle(branch: str, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with system.Handle(tmp_path / "a", new=True) as file, ThreadPoolExecutor(4) as pool:

        def job(i: int) -> bool:
            file.write(bytes([i]) * 1000, 1000 * i)
            part = bytearray(1000)
            file.read(part, 1000 * i)
            return part == bytes([i]) * 1000

        assert all(pool.map(job, range(200)))


def test_parts_that_are_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors.write_at
    monkeypatch.setattr(
        handles, "write_at", lambda n, view, place, lock: before(n, view[:7], place, lock)
    )
    write = os.write
    with system.Handle(tmp_path / "a", append=True, create=True) as file:
        file.write(b"x" * 100, 0)
        monkeypatch.setattr(os, "write", lambda number, text: write(number, bytes(text)[:3]))
        file.append(b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"x" * 100 + b"0123456789"


# Room on the disk


@pytest.mark.parametrize("call", ["missing", "refused by the file system"])
def test_free_disk_space_is_checked(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    if call == "missing":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", refused, raising=False)
    free = shutil.disk_usage(tmp_path).free
    with system.Handle(tmp_path / "a", new=True) as file:
        file.allocate(1000)
        file.allocate(10)  # it stays as long
        assert file.size == 1000
        with pytest.raises(OSError, match=r"[Nn]o space") as caught:
            file.allocate(free * 4)
        assert caught.value.errno == errno.ENOSPC
        assert file.size == 1000
    with pytest.raises(FileError, match=r"no space left on device\. Free some space"):
        files.create_target(tmp_path / "b.npy", (free,), "f4")
    assert os.listdir(tmp_path) == ["a"]


def test_other_errors_of_allocation_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with (
        system.Handle(tmp_path / "a", new=True) as file,
        pytest.raises(OSError, match="No space left"),
    ):
        file.allocate(10)


# Locks


def test_locks_of_unix(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with system.Handle.locked(tmp_path / "a"):
        with pytest.raises(BlockingIOError):
            system.Handle.locked(tmp_path / "a")
        with system.Handle.locked(tmp_path / "b"):
            pass
    system.Handle.locked(tmp_path / "a").close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (None, None),
        (errno.EACCES, BlockingIOError),
        (errno.EDEADLK, BlockingIOError),
        (errno.ENOLCK, OSError),  # two runs could write one file
    ],
)
def test_locks_of_windows(
    code: int | None,
    expected: type[OSError] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[int, int, int]] = []

    def locking(number: int, kind: int, count: int) -> None:
        calls.append((os.lseek(number, 0, os.SEEK_CUR), kind, count))
        if code is not None:
            raise OSError(code, "locked")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    fake: Any = types.ModuleType("msvcrt")
    fake.locking, fake.LK_NBLCK = locking, 2
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    if expected is None:
        system.Handle.locked(tmp_path / "a").close()
    else:
        with pytest.raises(expected) as caught:
            system.Handle.locked(tmp_path / "a")
        assert type(caught.value) is expected
    assert calls == [(descriptors.LOCK_PLACE, 2, 1)]


def test_an_error_other_than_a_lock_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(descriptors, "_lock", broken)
    np.save(tmp_path / "in.npy", np.zeros((4, 5, 6)))
    with pytest.raises(FileError, match=r"cannot write .*out\.npy: input/output error"):
        volumes.filter(tmp_path / "in.npy", tmp_path / "out.npy", KERNEL)


# Names and folders


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to this computer are answered as by Windows."""
    for module in (descriptors, handles, memory, processors):
        monkeypatch.setattr(module, "is_windows", lambda: True)


def test_flushing(tmp_path: Path, windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"1")
    opened: list[int] = []
    before = descriptors.open_descriptor

    def watched(path: Any, flags: int) -> int:
        opened.append(flags)
        return before(path, flags)

    monkeypatch.setattr(descriptors, "open_descriptor", watched)
    system.flush_path(tmp_path)  # cannot be opened there
    system.flush_path(tmp_path / "a")
    assert opened == [os.O_RDWR]
    monkeypatch.setattr(descriptors, "is_windows", lambda: False)
    system.flush_path(tmp_path)
    assert opened[1:] == [os.O_RDONLY]


def test_bytes_are_not_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[int] = []
    before = os.open
    monkeypatch.setattr(os, "O_BINARY", 1 << 30, raising=False)
    monkeypatch.setattr(
        os, "open", lambda p, f, mode: flags.append(f) or before(p, f & ~(1 << 30), mode)
    )
    system.Handle(tmp_path / "a", new=True).close()
    assert flags[0] & (1 << 30)


def test_an_open_file_is_closed_before_it_is_deleted_on_windows(
    tmp_path: Path, windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = system.Handle.locked(tmp_path / "a")
    unlink = Path.unlink

    def checked(path: Path, missing_ok: bool = False) -> None:
        assert handle.closed
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", checked)
    handle.remove()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("flags", [True, False])
@pytest.mark.parametrize("taken", [True, False])
def test_a_new_name(
    links: bool, flags: bool, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*names: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    if not flags:
        monkeypatch.setattr(descriptors, "_rename_by_flags", lambda *arguments: False)
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"1")
    if taken:
        new.write_bytes(b"2")
        with pytest.raises(FileExistsError):
            system.rename_new(old, new)
        assert (old.read_bytes(), new.read_bytes()) == (b"1", b"2")
    else:
        system.rename_new(old, new)
        assert (old.exists(), new.read_bytes()) == (False, b"1")


@pytest.mark.parametrize("can", [True, False])
def test_a_folder_is_replaced(can: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not can:
        monkeypatch.setattr(atomic_write, "exchange", lambda one, other: False)
    new, old = tmp_path / "a.zarr.partial", tmp_path / "a.zarr"
    for folder, text in ((new, "new"), (old, "old")):
        folder.mkdir()
        (folder / "x").write_text(text)
    with pytest.raises(FileError, match="was created meanwhile"):
        atomic_write.take_name(new, old, overwrite=False)
    atomic_write.take_name(new, old, overwrite=True)
    assert (old / "x").read_text() == "new"
    assert os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_folder_that_cannot_be_replaced_stays(
    error: BaseException, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_write, "exchange", lambda one, other: False)
    new, old = tmp_path / "a.zarr.partial", tmp_path / "a.zarr"
    for folder, text in ((new, "new"), (old, "old")):
        folder.mkdir()
        (folder / "x").write_text(text)
    before, calls = os.rename, [0]

    def failing(*names: Any) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise error
        before(*names)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(type(error)):
        atomic_write.take_name(new, old, overwrite=True)
    assert (old / "x").read_text() == "old"
    assert (new / "x").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "a.zarr.partial"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not know how")
def test_folders_change_places(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not system.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot")
    assert os.listdir(tmp_path / "a") == ["b"]
    with pytest.raises(FileNotFoundError):
        system.exchange(tmp_path / "a", tmp_path / "none")


@pytest.mark.parametrize(
    "suffix", [f.suffixes[0] for f in files.registered_formats() if f.create is not None]
)
def test_names_on_the_way_are_ones_that_windows_takes(suffix: str, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((6, 7, 8), "f4"))
    seen: set[str] = set()

    def look(_: float) -> None:
        seen.update(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))

    volumes.filter(
        tmp_path / "in.npy", tmp_path / f"out{suffix}", KERNEL, chunks=(3, 7, 8), progress=look
    )
    assert any(name.endswith(".partial.journal") for name in seen)
    seen.add(atomic_write.new_beside(tmp_path / "a", ".part").name)
    for name in seen:
        for part in Path(name).parts:
            assert not re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', part), name


def test_a_drive_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``C:/in.npy`` names nothing inside of a file C."""
    assert str(outer_file("C:/data/in.npy")) == "C:/data/in.npy"
    assert str(outer_file("C:/data/in.h5:/raw/x")) == "C:/data/in.h5"
    monkeypatch.chdir(tmp_path)
    Path("C:").mkdir()
    np.save("C:/in.npy", np.zeros((4, 5, 6), "f4"))
    volumes.filter("C:/in.npy", "C:/out.npy", KERNEL)
    assert Path("C:/out.npy").exists()


# Memory and processes


def nothing(path: Path, most: int = -1) -> list[str]:
    return []


def test_memory_of_linux() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("not Linux")
    before = system.peak_memory()
    assert 1 << 20 < system.resident_memory() <= before
    held = np.ones(64 << 20, np.uint8)
    assert system.peak_memory() >= before
    assert system.resident_memory() > held.nbytes
    assert system.physical_memory() > held.nbytes


@pytest.mark.parametrize(("name", "unit"), [("Darwin", 1), ("FreeBSD", 1024)])
def test_memory_of_other_unix(name: str, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(memory, "lines_of", nothing)
    monkeypatch.setattr(memory.platform, "system", lambda: name)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert most <= system.resident_memory() <= system.peak_memory() < 2 * most + (1 << 20)


class Windows:
    """The functions of Windows that are called, with the answers that a test wants."""

    def __init__(self) -> None:
        self.closed: list[int] = []
        self.GetCurrentProcess = lambda: -1  # as a function of a library, which takes attributes

    def GlobalMemoryStatusEx(self, status: Any) -> int:
        found = status._obj
        assert found.length == 64  # as Windows demands
        found.physical = 8 << 30
        return 1

    def K32GetProcessMemoryInfo(self, process: Any, counters: Any, size: int) -> int:
        found = counters._obj
        assert size == 72
        found.resident, found.peak = 5 << 20, 7 << 20
        return 1

    def OpenProcess(self, rights: int, inherit: bool, number: int) -> int:
        return 77 if number == 42 else 0

    def CloseHandle(self, handle: int) -> int:
        self.closed.append(handle)
        return 1


def test_memory_and_processes_of_windows(windows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Windows()
    for module in (memory, processors):
        monkeypatch.setattr(module, "windows_library", lambda name: library)
    monkeypatch.setattr(memory, "lines_of", nothing)
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert system.physical_memory() == 8 << 30
    assert system.resident_memory() == 5 << 20
    assert system.peak_memory() == 7 << 20
    assert [system.process_exists(n) for n in (42, 43)] == [True, False]
    assert library.closed == [77]


def test_a_system_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "lines_of", nothing)
    monkeypatch.setattr(processors, "lines_of", nothing)
    monkeypatch.setattr(os, "sysconf", lambda name: -1, raising=False)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(processors.platform, "processor", lambda: "")
    monkeypatch.setattr(processors.platform, "machine", lambda: "")
    assert system.physical_memory() == system.resident_memory() == system.peak_memory() == 0
    assert system.loaded_libraries() == ()
    assert system.processor_name() == "unknown processor"
    assert system.processor_vendor() == ""
    assert system.processor_features() == frozenset()
    monkeypatch.delattr(os, "sched_yield", raising=False)
    assert system.yield_function() == ""


def test_processes() -> None:
    assert system.process_exists(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not system.process_exists(ended.pid)
    assert system.processor_name()
    system.return_free_memory()


@pytest.mark.parametrize(
    ("text", "vendor", "features"),
    [
        (
            "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nflags\t\t: fma avx2\n",
            "AMD",
            "fma avx2",
        ),
        ("vendor_id\t: GenuineIntel\nmodel name\t: Xeon\nflags\t\t: avx512f\n", "Intel", "avx512f"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd0c\nFeatures\t: fp asimd\n", "", "fp asimd"),
    ],
)
def test_the_processor(monkeypatch: Any, text: str, vendor: str, features: str) -> None:
    monkeypatch.setattr(processors, "lines_of", lambda path, most=-1: text.splitlines())
    monkeypatch.setattr(processors.platform, "processor", lambda: pytest.fail("starts a process"))
    monkeypatch.setattr(processors.platform, "machine", lambda: "aarch64")
    assert system.processor_vendor() == vendor
    assert system.processor_name() in ("AMD EPYC", "Xeon", "aarch64 0x41 0xd0c")
    assert system.processor_features() == frozenset(features.split())


def test_the_last_level_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "sysctl", lambda name: b"")
    assert system.last_level_cache(tmp_path) == 0
    for index, size in enumerate(("32K", "1024K", "32M")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(f"{size}\n")
    assert system.last_level_cache(tmp_path) == 32 << 20
    (folder / "size").write_text("unknown\n")
    assert system.last_level_cache(tmp_path) == 1 << 20


def test_a_process_in_a_group_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.group_of_its_own() == {"start_new_session": True}
    monkeypatch.setattr(processors, "is_windows", lambda: True)
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    assert system.group_of_its_own() == {"creationflags": 512}


def test_calls_in_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Callable[[], None]] = []
    monkeypatch.setattr(
        os,
        "register_at_fork",
        lambda *, after_in_child: called.append(after_in_child),
        raising=False,
    )
    system.after_fork(test_processes)
    assert called == [test_processes]
    monkeypatch.delattr(os, "register_at_fork")
    system.after_fork(test_processes)  # nothing is forked there
    system.hold_while_forking(test_processes, test_processes)


def test_huge_pages_are_asked_for() -> None:
    with mmap.mmap(-1, 1 << 22) as found:
        place = np.frombuffer(found, np.uint8).__array_interface__["data"][0]
        system.ask_huge_pages(place // mmap.PAGESIZE * mmap.PAGESIZE, 1 << 21)
        system.ask_huge_pages(0, 0)  # of nothing


def test_small_files_of_the_system(tmp_path: Path) -> None:
    from separable.system.asking import lines_of

    (tmp_path / "a").write_bytes(b"1\n\xff\n")
    assert lines_of(tmp_path / "a") == ["1", "\ufffd"]
    assert lines_of(tmp_path / "none") == lines_of(tmp_path) == []
