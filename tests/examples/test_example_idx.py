"""Reading MNIST's files: what is written comes back, and what is damaged is said to be."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import digits
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from idx import read_idx, read_mnist

from separable.errors import FileError

pytestmark = pytest.mark.docs


def idx(array: np.ndarray) -> bytes:
    """The bytes of an idx file, written from its description."""
    lengths = b"".join(struct.pack(">I", n) for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, train: int = 96, test: int = 20) -> dict[str, np.ndarray]:
    """A folder in which the four files have the four spellings that are about."""
    rng = np.random.default_rng(0)
    made = {}
    for part, count in (("train", train), ("t10k", test)):
        labels = rng.integers(0, 10, count)
        images = rng.integers(0, 60, (count, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[:, 2 + 2 * label : 4 + 2 * label] += 150
        made |= {f"{part} images": images, f"{part} labels": labels}
    (folder / "train-images-idx3-ubyte").write_bytes(idx(made["train images"]))
    (folder / "train-labels.idx1-ubyte").write_bytes(idx(made["train labels"]))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(made["t10k images"])))
    (folder / "t10k-labels.idx1-ubyte.gz").write_bytes(gzip.compress(idx(made["t10k labels"])))
    return made


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = write_mnist(tmp_path)
    for part, name in (("train", "train"), ("test", "t10k")):
        images, labels = read_mnist(tmp_path, part)
        np.testing.assert_array_equal(images, made[f"{name} images"])
        np.testing.assert_array_equal(labels, made[f"{name} labels"])
        assert images.dtype == np.uint8


@given(
    array=arrays.arrays(np.uint8, arrays.array_shapes(max_dims=4, max_side=4)),
    zipped=st.booleans(),
    data=st.data(),
)
def test_whole_files_are_read_and_cut_ones_refused(
    array: np.ndarray, zipped: bool, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    content = gzip.compress(idx(array)) if zipped else idx(array)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_idx(path), array)
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(FileError):
        read_idx(path)


WHOLE = idx(np.arange(12).reshape(3, 4))
DAMAGED = {
    "empty": (b"", "is no idx file of unsigned bytes: .* got an empty file"),
    "png": (b"\x89PNG\r\n", "expected it to begin with 00 00 08 .* got 89 50 4e 47"),
    "floats": (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "is no idx file of unsigned bytes"),
    "no axes": (b"\0\0\x08\0", "the number of axes; got 00 00 08 00"),
    "cut in the lengths": (WHOLE[:9], "is cut short: it ends within the lengths of its axes"),
    "cut in the values": (WHOLE[:-1], "is damaged: 3x4 values are 12 bytes; got 11"),
    "too long": (WHOLE + b"\0", "is damaged: 3x4 values are 12 bytes; got 13"),
    "cut gzip": (gzip.compress(WHOLE)[:-9], "cannot be read: Compressed file ended"),
    "not gzip": (b"\x1f\x8b" + WHOLE, "cannot be read: "),
    "wrong sum": (gzip.compress(WHOLE)[:-8] + b"\0" * 8, "cannot be read: CRC check failed"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    content, message = DAMAGED[kind]
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(FileError, match=re.escape(str(path)) + " " + ".*" + message):
        read_idx(path)


def test_a_damaged_stream_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (50, 50)))))
    content[len(content) // 2 :: 7] = b"\xff" * len(content[len(content) // 2 :: 7])
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(FileError, match="cannot be read"):
        read_idx(path)


def test_files_must_be_there_and_fit(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"there is no folder .*nowhere"):
        read_mnist(tmp_path / "nowhere", "train")
    with pytest.raises(FileError, match=r"holds none of train-images-idx3-ubyte, .*ubyte\.gz"):
        read_mnist(tmp_path, "train")
    write_mnist(tmp_path)
    labels = tmp_path / "train-labels.idx1-ubyte"
    labels.write_bytes(idx(np.zeros(95)))
    with pytest.raises(FileError, match=r"got \(96, 28, 28\) and \(95,\)"):
        read_mnist(tmp_path, "train")
    labels.write_bytes(idx(np.full(96, 11)))
    with pytest.raises(FileError, match=r"must be 0 \.\.\. 9; got 11"):
        read_mnist(tmp_path, "train")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((0, 28, 28))))
    labels.write_bytes(idx(np.zeros(0)))
    with pytest.raises(FileError, match="does not fit together"):
        read_mnist(tmp_path, "train")


def test_the_script_trains_on_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mnist(tmp_path)
    assert digits.main(["--mnist", str(tmp_path), "--quick", "--seeds", "1"]) == 0
    assert f"MNIST in {tmp_path}" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("damage", ["no folder", "empty folder", "cut file"])
def test_the_script_refuses_a_bad_folder(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if damage == "cut file":
        write_mnist(tmp_path)
        path = tmp_path / "t10k-labels.idx1-ubyte.gz"
        path.write_bytes(path.read_bytes()[:-10])
    folder = tmp_path / "nowhere" if damage == "no folder" else tmp_path
    assert digits.main(["--mnist", str(folder), "--quick"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("Error: ")
    assert str(tmp_path) in told.err
    assert "Traceback" not in told.err
