"""A format that is registered at run time works everywhere without any other edit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from numpy.typing import NDArray

import separable as sep
from separable import files, volumes
from separable.cli.main import run
from separable.errors import ArgumentError, FileError
from separable.files.chunked_io import Region

HEADER = "text image"
HEIGHTS = np.arange(30.0).reshape(5, 6)


def read_text(path: Path) -> tuple[NDArray[Any], files.ImageInfo]:
    """Read a title line with the spacing, then one line of numbers per row."""
    title, *rows = path.read_text().splitlines()
    word, _, spacing = title.partition(", spacing ")
    if word != HEADER:
        raise ValueError(f"its first line is {title!r}")
    array = np.array([row.split() for row in rows], float)
    y, x = map(float, spacing.split())
    return array, files.ImageInfo("YX", spacing=(y, x), unit="mm")


def write_text(file: BinaryIO, array: NDArray[Any], info: files.ImageInfo, path: Path) -> None:
    """Write what `read_text` reads."""
    y, x = info.spacing or (1.0, 1.0)
    file.write(f"{HEADER}, spacing {y} {x}\n".encode())
    np.savetxt(file, array)


def refuse_text(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return why an array is not two-dimensional or not real."""
    if len(shape) != 2 or dtype.kind == "c":
        return f"a text image is (y, x) and real; got shape {shape} of {dtype}. Write .npy"
    return ""


TEXT = files.Format(
    name="text image",
    suffixes=(".timg",),
    signatures=(HEADER[:8].encode(),),
    read=read_text,
    write=write_text,
    refuse=refuse_text,
    keeps=files.metadata_kept("axes", "spacing"),
)


def open_tiles(path: Path, inside: str) -> files.Source:
    """Open an image of raw float64 numbers behind two lines that say its shape."""
    with path.open("rb") as file:
        shape = tuple(int(file.readline()) for _ in range(2))
        offset = file.tell()
    array = np.memmap(path, np.float64, "r", offset, shape)
    return files.Source(path, shape, array.dtype, None, files.ImageInfo("YX"), array.__getitem__)


def create_tiles(request: files.CreateRequest) -> files.Target:
    """Create or continue such a file."""
    head = "".join(f"{n}\n" for n in request.shape).encode()
    if not request.resume:
        size = 8 * int(np.prod(request.shape))
        request.draft.write_bytes(head + bytes(size))
    array = np.memmap(request.draft, np.float64, "r+", len(head), request.shape)

    def store(region: Region, values: NDArray[Any]) -> None:
        array[region] = values

    return files.Target(
        request.path, request.draft, request.shape, request.dtype, None, store,
        flush=lambda since=0: array.flush(), info=request.info,
    )  # fmt: skip


TILES = files.Format(
    name="raw tiles",
    suffixes=(".tiles",),
    open=open_tiles,
    create=create_tiles,
    refuse=lambda shape, dtype: "" if dtype == np.float64 else "raw tiles hold float64",
    keeps=files.metadata_kept("axes"),
)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for format in (TEXT, TILES):
        files.register_format(format)
    yield
    for format in (TEXT, TILES):
        files.unregister_format(format)


def test_it_is_written_and_read_with_its_metadata(tmp_path: Path) -> None:
    info = files.ImageInfo("YX", spacing=(2.0, 0.5), unit="mm")
    path = tmp_path / "a.timg"
    assert files.write_image(path, HEIGHTS, info) == ()
    array, found = files.read_image(path)
    np.testing.assert_array_equal(array, HEIGHTS)
    assert (found.axes, found.spacing, found.format) == ("YX", (2.0, 0.5), "text image")
    assert [p.name for p in tmp_path.iterdir()] == ["a.timg"]


def test_the_command_line_filters_it_in_its_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = files.ImageInfo("YX", spacing=(2.0, 0.5), unit="mm")
    source, target = tmp_path / "a.timg", tmp_path / "b.timg"
    files.write_image(source, HEIGHTS, info)
    assert run(["filter", str(source), str(target), "-k", "gaussian:2mm"]) == 0
    assert "2x0.5 mm" in capsys.readouterr().out
    kernel = sep.kernels.gaussian(2.0, ndim=2, spacing=(2.0, 0.5))
    np.testing.assert_allclose(files.read_image(target)[0], sep.correlate(HEIGHTS, kernel))


def test_a_file_of_it_is_a_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write_image(tmp_path / "psf.timg", np.outer([1, 2, 1], [1.0, 2, 1]))
    assert run(["kernel", "--file", str(tmp_path / "psf.timg")]) == 0
    assert "Separable" in capsys.readouterr().out


def test_damage_and_unsuitable_arrays_are_file_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.timg"
    path.write_text(f"{HEADER}, spacing 1 1\n1 2\n3\n")
    with pytest.raises(FileError, match=r"a\.timg: it is truncated or damaged"):
        files.read_image(path)
    path.write_bytes(b"\x89PNG and more")
    with pytest.raises(FileError, match=r"expected text image by its name; got PNG"):
        files.read_image(path)
    with pytest.raises(FileError, match=r"a text image is \(y, x\) and real"):
        files.write_image(tmp_path / "b.timg", np.zeros(3))
    with pytest.raises(FileError, match="text image is read whole"):
        files.open_source(path)
    assert not (tmp_path / "b.timg").exists()


def test_a_format_in_regions_is_filtered_within_a_memory_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.random.default_rng(0).random((300, 200))
    source, target = tmp_path / "a.tiles", tmp_path / "b.tiles"
    files.write_image(source, image)
    np.testing.assert_array_equal(files.read_image(source)[0], image)
    volumes.filter(source, target, sep.kernels.gaussian(2.0, ndim=2), axes=(0, 1))
    plan = sep.plan(sep.kernels.gaussian(2.0, ndim=2), image.shape, image.dtype)
    expected = volumes.chunkwise(plan)(image)
    np.testing.assert_array_equal(files.read_image(target)[0], expected)
    command = ["filter", str(source), str(tmp_path / "c.tiles"), "-k", "box:3", "--memory", "64GiB"]
    assert run(command) == 0
    assert "c.tiles: 300x200 float64" in capsys.readouterr().out


def test_names_and_suffixes_are_unique() -> None:
    for format in (TEXT, TILES):
        with pytest.raises(ArgumentError, match="already"):
            files.register_format(format)
    with pytest.raises(ArgumentError, match="must have `read` or `open`"):
        files.Format(name="nothing", suffixes=(".nothing",))
    with pytest.raises(ArgumentError, match="must be in small letters with a dot"):
        files.Format(name="capitals", suffixes=("TXT",), read=read_text)
