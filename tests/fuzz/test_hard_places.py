"""The command line where nothing can be read or written: names, folders, links, devices, full disks.

As in `test_damaged_files`, the guard against errors that nobody expected is turned off.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from separable import volumes
from separable.cli import main, run
from separable.cli.main import DEBUG
from separable.errors import FileError
from separable.files import open_source, read_image, registered_formats, write_image
from separable.files.chunked_io import draft_of

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

VOLUME = np.random.default_rng(0).random((5, 6, 7), np.float32)
PICTURE = np.random.default_rng(0).integers(0, 255, (160, 170), dtype=np.uint8)
Caller = Callable[..., tuple[int, str]]
WRITTEN = [f for f in registered_formats() if f.write is not None or f.create is not None]
BY_PARTS = [f for f in registered_formats() if f.create is not None]


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Caller:
    """Run a command in the folder of the test: its status, and the one message on stderr."""
    monkeypatch.setenv(DEBUG, "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> tuple[int, str]:
        code = run([str(a) for a in arguments])
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert (code, err.count("\n")) in ((0, 0), (2, 1)), (code, err)
        return code, err.removeprefix("Error: ").rstrip("\n")

    return called


def filtered(call: Caller, source: object, target: object, *more: object) -> tuple[int, str]:
    return call("filter", source, target, "-k", "box:3", "--method", "direct", *more)


# Claims of size


def store(path: Path, version: int, shape: Any = (5, 6, 7), chunks: Any = (4, 4, 4)) -> Path:
    """A Zarr store of a small volume whose metadata say something else."""
    zarr.create_array(str(path), data=VOLUME, chunks=(4, 4, 4), zarr_format=version)
    file = path / (".zarray" if version == 2 else "zarr.json")
    meta = json.loads(file.read_text())
    meta["shape"] = shape
    if version == 2:
        meta["chunks"] = chunks
    else:
        meta["chunk_grid"]["configuration"]["chunk_shape"] = chunks
    file.write_text(json.dumps(meta))
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("chunks", [[0, 0, 0], [0, 4, 4], [-1, 4, 4], [], [4], [1 << 62] * 3])
@pytest.mark.parametrize("target", ["out.npy", "out.zarr"])
def test_chunks_that_cannot_be(call: Caller, version: int, chunks: Any, target: str) -> None:
    store(Path("in.zarr"), version, chunks=chunks)
    code, said = filtered(call, "in.zarr", target)
    assert code == 2
    assert said.startswith("cannot read in.zarr: it is ")
    assert os.listdir() == ["in.zarr"]
    for fails in (read_image, open_source):
        with pytest.raises(FileError, match=r"cannot read in\.zarr"):
            fails("in.zarr")
    with pytest.raises(FileError, match=r"cannot read in\.zarr"):
        volumes.filter("in.zarr", target, np.ones((3, 3, 3)))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("first", [0, -1, 1 << 33, 1 << 40, 1 << 62, 10**30])
@pytest.mark.parametrize("target", ["out.npy", "out.zarr", "out.tif"])
def test_endless_claims_are_blamed_on_the_input(
    call: Caller, version: int, first: int, target: str
) -> None:
    store(Path("in.zarr"), version, shape=[first, 6, 7])
    code, said = filtered(call, "in.zarr", target)
    assert code == 2
    assert said.startswith(("cannot read in.zarr: ", "cannot filter in.zarr: ", "in.zarr is empty"))
    assert os.listdir() == ["in.zarr"]


def test_a_result_that_no_disk_holds_is_blamed_on_the_input(call: Caller) -> None:
    """Few chunks, all of them huge."""
    store(Path("in.zarr"), 3, shape=[1 << 20] * 3, chunks=[512, 512, 512])
    free = shutil.disk_usage(".").free
    if 1000 * free >= (1 << 62):
        pytest.skip("the disk is large enough")
    code, said = filtered(call, "in.zarr", "out.zarr")
    assert code == 2
    assert said.startswith("cannot filter in.zarr: its header says 1048576x1048576x1048576, so ")
    assert os.listdir() == ["in.zarr"]


def claiming(kind: str) -> Path:
    """A file of a few hundred bytes whose header claims about a gibibyte."""
    path = Path(f"in.{kind}")
    if kind == "png":
        head = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
        parts = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b"")]
        chunks = (
            struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
            for k, d in parts
        )
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        return path
    write_image(path, PICTURE)
    data = path.read_bytes()
    if kind == "tif":  # its width
        data = data.replace(
            struct.pack("<HHII", 256, 4, 1, 170), struct.pack("<HHII", 256, 4, 1, 7 << 20)
        )
    elif kind == "bmp":
        data = data[:18] + struct.pack("<II", 30000, 30000) + data[26:]
    elif kind == "jpg":
        at = data.index(b"\xff\xc0") + 5
        data = data[:at] + struct.pack(">HH", 65000, 65000) + data[at + 4 :]
    elif kind == "npy":
        data = data.replace(b"(160, 170)", b"(99999, 9999)"[:10].ljust(10)).replace(
            b"(99999, 99", b"(9999,9**9"
        )
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["png", "tif", "bmp", "jpg"])
def test_headers_that_claim_a_gibibyte_take_no_memory(call: Caller, kind: str) -> None:
    path = claiming(kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, said = filtered(call, path, "out.npy")
    assert code == 2
    assert said.startswith(f"cannot read {path}: ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10


@pytest.mark.parametrize(
    "command", [("kernel",), ("plan", "--shape", "64x64", "-k"), ("report", "-o", "out.html")]
)
def test_a_file_that_is_too_large_for_a_kernel(call: Caller, command: tuple[str, ...]) -> None:
    zarr.create_array("psf.zarr", shape=(1 << 13, 1 << 12), chunks=(64, 64), dtype="f4")
    code, said = call(*command, "psf.zarr")
    assert code == 2
    assert said.startswith("psf.zarr cannot be used as a kernel: its header says 8192x4096")


@pytest.mark.parametrize(("tag", "value"), [(282, (0, 0)), (283, (1, 0)), (296, 65280)])
def test_a_resolution_that_makes_no_sense_is_none(call: Caller, tag: int, value: Any) -> None:
    with tifffile.TiffWriter("in.tif") as file:
        file.write(VOLUME, resolution=(2, 2), resolutionunit=3)
    with tifffile.TiffFile("in.tif", mode="r+") as file:
        file.pages.first.tags[tag].overwrite(value)
    assert filtered(call, "in.tif", "out.tif") == (0, "")
    np.testing.assert_array_equal(tifffile.imread("out.tif").shape, VOLUME.shape)


# Real processes


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from separable.__main__ import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print(next(line for line in status if line.startswith("VmHWM")), file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("kind", ["chunks", "shape", "png", "tif"])
def test_in_a_real_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "chunks":
        path = store(Path("in.zarr"), 3, chunks=[0, 4, 4])
    elif kind == "shape":
        path = store(Path("in.zarr"), 2, shape=[1 << 40, 6, 7])
    else:
        path = claiming(kind)
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in Path().rglob("*") if p.is_file()}
    told = subprocess.run(
        [sys.executable, "-c", LIMITED, "filter", path, "out.npy", "-k", "box:3"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    said, peak = [line for line in told.stderr.splitlines() if line]
    assert told.returncode == 2
    assert said.startswith(f"Error: cannot {'filter' if kind == 'shape' else 'read'} {path}: ")
    assert int(peak.split()[1]) < 500_000  # KiB; the interpreter and what it imports take most
    assert before == {
        p: hashlib.sha256(p.read_bytes()).digest() for p in Path().rglob("*") if p.is_file()
    }


# Names


@pytest.mark.parametrize("format", WRITTEN, ids=lambda f: f.name)
@pytest.mark.parametrize("length", [255, 244, 215])
def test_names_as_long_as_the_system_allows(call: Caller, format: Any, length: int) -> None:
    suffix = format.suffixes[0]
    name = "o" * (length - len(suffix)) + suffix
    np.save("in.npy", VOLUME)
    write_image("in.png", np.stack([PICTURE] * 3, axis=-1))
    source = "in.npy" if format.refuse(VOLUME.shape, VOLUME.dtype) == "" else "in.png"
    before = set(os.listdir())
    assert filtered(call, source, name) == (0, "")
    pairs = [(".hdr", ".img"), (".img", ".hdr"), (".mhd", ".raw")]
    assert set(os.listdir()) - before in [{name}, *({name, name.replace(*p)} for p in pairs)]
    assert filtered(call, source, "x" + name[: 255 - len(suffix)] + suffix)[0] == (
        2 if length > 254 else 0
    )


@pytest.mark.parametrize("format", WRITTEN, ids=lambda f: f.name)
def test_names_longer_than_that(call: Caller, format: Any) -> None:
    np.save("in.npy", VOLUME)
    write_image("in.png", np.stack([PICTURE] * 3, axis=-1))
    for source in ("in.npy", "in.png"):
        code, said = filtered(call, source, "o" * 300 + format.suffixes[0])
        assert code == 2
        assert said.startswith("cannot write oooo")
        assert filtered(call, "o" * 300 + format.suffixes[0], "out.npy")[0] == 2
    assert sorted(os.listdir()) == ["in.npy", "in.png"]


def test_a_long_name_resumes_the_same_partial_file() -> None:
    one, other = (draft_of(Path("é" * 120 + text)) for text in ("a.zarr", "b.zarr"))
    assert one != other
    assert len(os.fsencode(one.name)) <= 223
    assert draft_of(Path("é" * 120 + "a.zarr")) == one


@pytest.mark.parametrize(
    "name", ["two\nlines", "caf\udce9", "\x1b[31mred", "\u202eright", "[bold]x", "%s{0}", "tab\t"]
)
def test_strange_names(call: Caller, name: str) -> None:
    np.save("in.npy", VOLUME)
    code, said = filtered(call, f"{name}.npy", "out.npy")
    assert code == 2
    assert said.startswith("cannot read ")
    assert all(c.isprintable() for c in said)
    code, said = filtered(call, "in.npy", f"none/{name}.npy")
    assert code == 2
    assert "there is no folder" in said
    for more in ((), ("--memory", "64GiB", "--force")):
        assert filtered(call, "in.npy", f"{name}.npy", *more) == (0, "")
    assert filtered(call, f"{name}.npy", "out.npy") == (0, "")
    assert sorted(os.listdir()) == sorted(["in.npy", "out.npy", f"{name}.npy"])


# Places


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """A folder with everything that stands in the way of an output."""
    np.save(tmp_path / "in.npy", VOLUME)
    zarr.create_array(str(tmp_path / "in.zarr"), data=VOLUME, chunks=(4, 4, 4))
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "file").write_text("x")
    for name, to in (
        ("loop.npy", "loop.npy"), ("loop.zarr", "loop.zarr"), ("nowhere.npy", "none/x.npy"),
        ("same.npy", "in.npy"), ("same.zarr", "in.zarr"), ("full.npy", "/dev/full"),
        ("null.zarr", "/dev/null"),
    ):  # fmt: skip
        (tmp_path / name).symlink_to(to)
    os.mkfifo(tmp_path / "pipe.npy")
    os.mkfifo(tmp_path / "pipe.zarr")
    yield tmp_path
    for path in (tmp_path, tmp_path / "in.zarr"):
        path.chmod(0o755)


OUTPUTS = {
    "none/out.npy": "there is no folder", "none/out.zarr": "there is no folder",
    "file/out.npy": "there is no folder", "folder.npy": "it is a folder",
    "loop.npy": "loop", "loop.zarr": "loop", "nowhere.npy": "there is no folder",
    "pipe.npy": "it is a device", "pipe.zarr": "it is a device", "full.npy": "it is a device",
    "null.zarr": "it is a device", "": "its suffix", "..": "its suffix", "/": "its suffix",
    "in.zarr/out.npy": "", "in.zarr/more/out.zarr": "", "/proc/out.npy": "", "/proc/out.zarr": "",
    "/proc/self/out.tif": "",
}  # fmt: skip


@pytest.mark.parametrize("more", [(), ("--force",), ("--force", "--memory", "64GiB")])
@pytest.mark.parametrize("source", ["in.npy", "in.zarr"])
def test_outputs_that_cannot_be_written(
    call: Caller, places: Path, source: str, more: tuple[str, ...]
) -> None:
    before = sorted(str(p) for p in places.rglob("*"))
    for target, reason in OUTPUTS.items():
        code, said = filtered(call, source, target, *more)
        assert code == 2, target
        assert said.startswith("cannot write "), said
        assert reason in said or "it is the input" in said
        assert sorted(str(p) for p in places.rglob("*")) == before, target
    np.testing.assert_array_equal(np.load(places / "in.npy"), VOLUME)
    np.testing.assert_array_equal(read_image(places / "in.zarr")[0], VOLUME)


@pytest.mark.parametrize("target", ["in.zarr", "same.zarr", "in.zarr/.", "./in.zarr"])
def test_a_store_is_not_overwritten_by_its_own_result(
    call: Caller, places: Path, target: str
) -> None:
    for more in ((), ("--force",), ("--force", "--memory", "64GiB")):
        code, said = filtered(call, "in.zarr", target, *more)
        assert (code, "it is the input, or lies in it" in said) == (2, True)
    np.testing.assert_array_equal(read_image("in.zarr")[0], VOLUME)


INPUTS = {
    "none.npy": "there is no such file", "none/in.npy": "there is no such file",
    "loop.npy": "it is a link to loop.npy", "loop.zarr": "it is a link to loop.zarr",
    "nowhere.npy": "it is a link to none/x.npy, where there is no file",
    "pipe.npy": "it is a device", "pipe.zarr": "it is a device", "full.npy": "it is a device",
    "folder.npy": "it is a folder", "": "it is a folder", "/": "it is a folder",
    "file/in.npy": "there is no such file", "in.npy/in.npy": "there is no such file",
    "in.zarr/none": "the store is one array and has no none. Name the store itself",
}  # fmt: skip


def test_inputs_that_cannot_be_read(call: Caller, places: Path) -> None:
    before = sorted(str(p) for p in places.rglob("*"))
    for source, reason in INPUTS.items():
        for code, said in (
            filtered(call, source, "out.npy"),
            filtered(call, source, "out.npy", "--memory", "64GiB"),
            call("kernel", "--file", source),
            filtered(call, "in.npy", "out.npy", "--mask", source),
        ):
            assert code == 2
            assert said.startswith("cannot read "), said
            assert reason in said, said
    assert sorted(str(p) for p in places.rglob("*")) == before
    assert filtered(call, "in.zarr/../in.zarr", "out.npy") == (0, "")


@pytest.mark.parametrize("version", [2, 3])
def test_a_pipe_in_the_place_of_a_chunk_is_not_waited_for(call: Caller, version: int) -> None:
    zarr.create_array("in.zarr", data=VOLUME, chunks=(4, 4, 4), zarr_format=version)
    chunk = Path("in.zarr") / ("c/0/0/1" if version == 3 else "0.0.1")
    chunk.unlink()
    os.mkfifo(chunk)
    code, said = filtered(call, "in.zarr", "out.npy")
    assert code == 2
    assert "is a device, not a file" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everywhere")
def test_permissions_that_are_lost(call: Caller, places: Path) -> None:
    (places / "in.npy").chmod(0)
    assert "permission denied" in filtered(call, "in.npy", "out.npy")[1]
    (places / "in.npy").chmod(0o644)
    places.chmod(0o555)
    for target in ("out.npy", "out.zarr", "out.tif"):
        code, said = filtered(call, "in.npy", target)
        assert (code, "no permission to write in the folder" in said) == (2, True)


@pytest.mark.parametrize(
    "target", ["none/out.html", "file/out.html", "/proc/out.html", "o" * 300 + ".html"]
)
def test_reports_that_cannot_be_written(call: Caller, places: Path, target: str) -> None:
    pytest.importorskip("starlette")
    code, said = call("report", "gaussian:1", "-o", target)
    assert code == 2
    assert said.startswith("cannot write ")


# Full disks


@pytest.fixture
def full() -> Iterator[Callable[[], None]]:
    """From now on no file of this process may grow beyond 8 kB, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "suffix",
    [s for f in WRITTEN for s in f.suffixes[:1]] + [".ome.tif", ".ome.zarr", ".bil"],
)
@pytest.mark.parametrize("more", [(), ("--memory", "64GiB")])
def test_a_full_disk_under_every_format(
    call: Caller, full: Callable[[], None], suffix: str, more: tuple[str, ...]
) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (360, 370, 3), dtype=np.uint8)
    np.save("in.npy", colours if suffix in (".png", ".jpg", ".bmp") else colours[..., 0])
    before = Path("in.npy").read_bytes()
    if suffix in (".png", ".jpg", ".bmp", ".gif", ".nii.gz") and more:
        return  # not written by parts
    full()
    code, said = filtered(call, "in.npy", f"out{suffix}", "--axes", "0,1", *more)
    assert code == 2
    assert said.startswith("cannot write ")
    assert f"out{suffix}: file too large" in said
    assert Path("in.npy").read_bytes() == before
    left = set(os.listdir()) - {"in.npy"}
    assert left <= {f"out{suffix}.partial", f"out{suffix}.partial.journal"}
    assert bool(left) == ("is kept as" in said)


def test_a_full_disk_under_a_report(call: Caller, full: Callable[[], None]) -> None:
    pytest.importorskip("starlette")
    full()
    code, said = call("report", "gaussian:1", "-o", "out.html")
    assert code == 2
    assert said == "cannot write out.html: file too large. Free some space, or write elsewhere"
    assert os.listdir() == []


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS]
)
@pytest.mark.parametrize("format", WRITTEN, ids=lambda f: f.name)
def test_every_disk_error_is_reported(
    call: Caller, monkeypatch: pytest.MonkeyPatch, number: int, format: Any
) -> None:
    """Renaming a file may fail, for instance at a quota on some systems."""
    np.save("in.npy", VOLUME)
    write_image("in.png", np.stack([PICTURE] * 3, axis=-1))
    source = "in.npy" if format.refuse(VOLUME.shape, VOLUME.dtype) == "" else "in.png"

    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for module in ("chunked_io", "atomic_write"):
        monkeypatch.setattr(f"separable.files.{module}.take_name", fails)
    code, said = filtered(call, source, f"out{format.suffixes[0]}")
    assert code == 2
    assert said.startswith("cannot write ")
    assert f"out{format.suffixes[0]}: {os.strerror(number).lower()}" in said
    assert not Path(f"out{format.suffixes[0]}").exists()


# The last line of defence


def test_unexpected_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError("integer division or\nmodulo by zero")

    monkeypatch.setattr(sys.modules["separable.cli.kernel_command"], "_show", fails)
    monkeypatch.delenv(DEBUG, raising=False)
    assert run(["kernel", "sobel"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "Error: unexpected ZeroDivisionError: integer division or modulo by zero. This is a bug "
        "in separable: please report it together with the "
        f"traceback that {DEBUG}=1 prints for the same command\n"
    )
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(ZeroDivisionError):
        run(["kernel", "sobel"])
    assert main.DEBUG == DEBUG


def test_warnings_of_other_packages_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import warnings, sys, separable.cli.kernel_command as k\n"
        "from separable.cli import run\n"
        "def show(*_):\n"
        "    warnings.warn_explicit('theirs', UserWarning, '/x/nibabel/a.py', 1)\n"
        "    warnings.warn_explicit('ours, in\\ntwo lines', UserWarning, '/x/separable/a.py', 1)\n"
        "k._show = show\n"
        "sys.exit(run(['kernel', 'sobel']))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "Warning: ours, in two lines\n")
