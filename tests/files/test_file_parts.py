"""Files read and written by parts: every format, any region, cut off and resumed."""

from __future__ import annotations

import itertools
import os
import pickle
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from separable.errors import FileError
from separable.files import ImageInfo, create_target, open_source, read_image, write_image
from separable.files.chunked_io import boxes
from separable.files.flat_binary import Raw

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

RNG = np.random.default_rng(1)
VOLUME = RNG.integers(-900, 900, (11, 13, 17)).astype(np.int16)
INFO = ImageInfo("ZYX", spacing=(2.0, 0.5, 0.25), unit="um")
NAMES = [
    "a.npy", "a.zarr", "a.ome.zarr", "a.h5", "a.nii", "a.tif", "a.ome.tif", "a.hdr", "a.bsq",
    "a.bil", "a.bip",
]  # fmt: skip


def as_found(source_axes: str, array: np.ndarray) -> np.ndarray:
    """The array in the order of axes in which a format gives it."""
    if len(source_axes) != 3:
        return array
    return array.transpose(["ZYX".index({"L": "Z"}.get(a, a)) for a in source_axes])


def write_by_parts(path: Path, array: np.ndarray, info: ImageInfo, sides: tuple[int, ...]) -> None:
    target = create_target(path, array.shape, array.dtype, chunks=sides, info=info)
    for region in boxes(array.shape, sides):
        target.write(region, array[region])
    target.finish()


@pytest.mark.parametrize("name", NAMES)
def test_parts_written_are_the_parts_read(tmp_path: Path, name: str) -> None:
    write_by_parts(tmp_path / name, VOLUME, INFO, (4, 5, 6))
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]
    with open_source(tmp_path / name) as source:
        expected = as_found(source.info.axes, VOLUME)
        assert source.shape == expected.shape
        assert source.dtype == VOLUME.dtype
        assert source.nbytes == VOLUME.nbytes
        for region in itertools.product(*([slice(0, 3), slice(2, 9), slice(5, None)],) * 3):
            np.testing.assert_array_equal(source.read(region), expected[region])
        np.testing.assert_array_equal(source.read((slice(1, 2),)), expected[1:2])
        np.testing.assert_array_equal(source.read(()), expected)
    np.testing.assert_array_equal(read_image(tmp_path / name)[0], expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "complex64"])
def test_types_come_back(tmp_path: Path, name: str, dtype: str) -> None:
    array = (RNG.random((5, 6, 7)) * 200).astype(dtype)
    write_image(tmp_path / name, array, INFO)
    found, info = read_image(tmp_path / name)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, as_found(info.axes, array))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_cut_off_resumes(tmp_path: Path, name: str) -> None:
    path, sides = tmp_path / name, (4, 5, 6)
    regions = list(boxes(VOLUME.shape, sides))
    first = create_target(path, VOLUME.shape, VOLUME.dtype, chunks=sides, info=INFO)
    assert not first.resumed
    for region in regions[::2]:
        first.write(region, VOLUME[region])
    first.abandon()
    del first
    assert not path.exists()
    with pytest.raises(FileError, match="no such file"):
        open_source(path)
    second = create_target(path, VOLUME.shape, VOLUME.dtype, chunks=sides, info=INFO, resume=True)
    assert second.resumed
    for region in regions[1::2]:
        second.write(region, VOLUME[region])
    second.finish()
    found, info = read_image(path)
    np.testing.assert_array_equal(found, as_found(info.axes, VOLUME))
    straight = tmp_path / "straight"
    straight.mkdir()
    write_by_parts(straight / name, VOLUME, INFO, sides)
    _, undisturbed = read_image(straight / name)
    assert (info.axes, info.spacing, info.unit) == (
        undisturbed.axes, undisturbed.spacing, undisturbed.unit,
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_partial_file_of_something_else_is_refused(tmp_path: Path, name: str) -> None:
    create_target(tmp_path / name, (4, 5, 6), "uint8").abandon()
    with pytest.raises(FileError, match="resume") as caught:
        create_target(tmp_path / name, (4, 5, 7), "uint8", resume=True)
    assert "Delete it, or start without resuming" in str(caught.value)
    other = create_target(tmp_path / name, (4, 5, 7), "uint8")  # starts anew
    assert not other.resumed
    other.abandon(keep=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_sources_and_targets_travel_to_other_processes(tmp_path: Path, name: str) -> None:
    target = create_target(tmp_path / name, VOLUME.shape, VOLUME.dtype, chunks=(4, 5, 6), info=INFO)
    there = pickle.loads(pickle.dumps(target))
    for count, region in enumerate(boxes(VOLUME.shape, (4, 5, 6))):
        (there if count % 2 else target).write(region, VOLUME[region])
    there.flush()
    there.abandon()  # which only closes it: whoever created it finishes it
    target.finish()
    with open_source(tmp_path / name) as source:
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again.read(()), as_found(again.info.axes, VOLUME))
        again.close()
    with pytest.raises(FileError, match="it was finished or abandoned"):
        pickle.loads(pickle.dumps(target))


@pytest.mark.parametrize("name", NAMES)
def test_threads_read_and_write_at_once(tmp_path: Path, name: str) -> None:
    array = RNG.integers(0, 999, (40, 48, 56)).astype(np.uint16)
    target = create_target(tmp_path / name, array.shape, array.dtype, chunks=(8, 8, 56), info=INFO)
    regions = list(boxes(array.shape, (8, 8, 56)))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda r: target.write(r, array[r]), regions))
    target.finish()
    with open_source(tmp_path / name) as source, ThreadPoolExecutor(4) as pool:
        expected = as_found(source.info.axes, array)
        cuts = list(boxes(source.shape, (9, 56, 7)))
        for region, part in zip(cuts, pool.map(source.read, cuts), strict=True):
            np.testing.assert_array_equal(part, expected[region])


@pytest.mark.parametrize("name", NAMES)
def test_an_existing_file_is_kept_until_the_end(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, VOLUME, INFO)
    with pytest.raises(FileError, match=r"exists\. Choose another name"):
        create_target(tmp_path / name, VOLUME.shape, VOLUME.dtype, info=INFO)
    target = create_target(tmp_path / name, VOLUME.shape, "float32", info=INFO, overwrite=True)
    target.write((), VOLUME / 2)
    assert read_image(tmp_path / name)[0].dtype == VOLUME.dtype
    target.finish()
    found, info = read_image(tmp_path / name)
    np.testing.assert_array_equal(found, as_found(info.axes, (VOLUME / 2).astype("float32")))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_comes_meanwhile_is_kept(tmp_path: Path, name: str) -> None:
    target = create_target(tmp_path / name, (3, 4, 5), "uint8")
    target.write((), np.ones((3, 4, 5)))
    aside = tmp_path / "aside"
    aside.mkdir()
    write_image(aside / name, np.zeros((3, 4, 5), np.uint8))
    for found in aside.iterdir():
        found.rename(tmp_path / found.name)
    with pytest.raises(FileError, match="was created meanwhile"):
        target.finish()
    assert not read_image(tmp_path / name)[0].any()
    assert target.draft.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_keeps_the_partial_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = create_target(tmp_path / name, VOLUME.shape, VOLUME.dtype, chunks=(4, 5, 6), info=INFO)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    target.store = full
    with pytest.raises(FileError) as caught:
        target.write((slice(0, 4), slice(0, 5), slice(0, 6)), VOLUME[:4, :5, :6])
    assert str(caught.value) == (
        f"cannot write {tmp_path / name}: no space left on device. Free some space and resume. "
        f"What was written is kept as {target.draft.name}"
    )
    target.abandon()
    assert target.draft.exists()
    assert not (tmp_path / name).exists()


def test_a_disk_that_is_too_small_is_met_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="Free some space, or write elsewhere"):
        create_target(tmp_path / "a.npy", (1 << 44,), "uint8")  # 16 TiB
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_under_zarr(tmp_path: Path) -> None:
    """A real limit: the process may write no file above 64 KiB."""
    code = (
        "import resource, signal, numpy as np\n"
        "from separable.errors import FileError\n"
        "from separable.files import create_target\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"t = create_target({str(tmp_path / 'a.zarr')!r}, (4, 65536), 'f8', chunks=(1, 65536))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "try:\n"
        "    t.write((slice(0, 1),), np.random.default_rng(0).random((1, 65536)))\n"
        "except FileError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "file too large. What was written is kept as a.zarr.partial" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr.partial"]


def test_parts_of_another_shape_are_refused(tmp_path: Path) -> None:
    target = create_target(tmp_path / "a.npy", (4, 5), "uint8")
    with pytest.raises(
        ValueError, match=r"the region \[0:2, 0:5\] has shape \(2, 5\); got \(2, 4\)"
    ):
        target.write((slice(0, 2),), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="slices with step 1"):
        target.write((slice(0, 4, 2),), np.zeros((2, 5)))
    target.abandon()


# Numbers in a file


@st.composite
def pieces(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[slice, ...]]]:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    order = tuple(draw(st.permutations(range(len(shape)))))
    regions = []
    for _ in range(4):
        ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
        regions.append(tuple(slice(a, b) for a, b in ends))
    return shape, order, regions


@settings(max_examples=60, deadline=None)
@given(pieces(), st.sampled_from(["<i2", ">f4", "<f8", ">c8", "u1"]), st.sampled_from([0, 1, 400]))
def test_any_region_in_any_order(tmp_path_factory, case, dtype: str, run: int) -> None:
    """With runs and windows as small as they come, so that both ways are gone."""
    shape, order, regions = case
    path = tmp_path_factory.mktemp("raw") / "numbers"
    path.write_bytes(b"head!")
    array = (np.arange(np.prod(shape)).reshape(shape) % 97).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("separable.files.flat_binary.RUN_BYTES", run)
        patch.setattr("separable.files.flat_binary.WINDOW_BYTES", 64)
        raw = Raw.open(path, np.dtype(dtype), shape, 5, order, write=True)
        expected = np.zeros(shape, dtype)
        for region in regions:
            raw.write(region, array[region])
            expected[region] = array[region]
        raw.flush()
        for region in [*regions, ()]:
            part = raw.read(region)
            assert part.dtype == array.dtype.newbyteorder("=")
            np.testing.assert_array_equal(part, expected[region])
        raw.close()
    found = np.frombuffer(path.read_bytes()[5:], dtype)
    np.testing.assert_array_equal(found, expected.transpose(order).ravel())
    assert path.read_bytes()[:5] == b"head!"


def test_thin_parts_take_little_memory(tmp_path: Path) -> None:
    """A window keeps the pages of the file in this process while it is open."""
    target = create_target(tmp_path / "a.npy", (1500, 256, 256), "float32")  # 375 MiB
    target.finish()
    code = (
        "from separable.files import open_source\n"
        "from separable.system import peak_memory\n"
        f"with open_source({str(tmp_path / 'a.npy')!r}) as source:\n"
        "    before = peak_memory()\n"
        "    for at in range(0, 256, 64):\n"
        "        source.read((slice(None), slice(None), slice(at, at + 4)))\n"
        "    print(peak_memory() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 << 20  # two parts of 6 MiB and a window of 32


# How the formats lay them out


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_is_written_as_its_pattern(tmp_path: Path, version: int) -> None:
    codec = (
        zarr.codecs.ZstdCodec(level=7)
        if version == 3
        else __import__("numcodecs").Blosc(cname="lz4", clevel=3)
    )
    zarr.create_array(
        str(tmp_path / "in.zarr"), data=VOLUME, chunks=(3, 4, 5), zarr_format=version,
        compressors=codec, attributes={"who": "me"},
    )  # fmt: skip
    with open_source(tmp_path / "in.zarr") as source:
        assert source.chunks == (3, 4, 5)
        target = create_target(tmp_path / "out.zarr", VOLUME.shape, "float32", like=source)
        assert target.chunks == (3, 4, 5)
        for region in boxes(VOLUME.shape, target.chunks):
            target.write(region, source.read(region))
        target.finish()
    made = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")
    assert made.metadata.zarr_format == version
    assert made.compressors == (codec,)
    assert made.attrs["who"] == "me"
    np.testing.assert_array_equal(made[:], VOLUME)


def test_shards_are_the_parts_to_write(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "in.zarr"), data=VOLUME, chunks=(2, 4, 4), shards=(4, 8, 8))
    with open_source(tmp_path / "in.zarr") as source:
        assert source.chunks == (4, 8, 8)
        kept = create_target(tmp_path / "a.zarr", VOLUME.shape, "float32", like=source)
        asked = create_target(
            tmp_path / "b.zarr", VOLUME.shape, "int16", like=source, chunks=(6, 8, 12)
        )
        plain = create_target(
            tmp_path / "c.zarr", VOLUME.shape, "int16", like=source, chunks=(5, 5, 5)
        )
    assert (kept.chunks, asked.chunks, plain.chunks) == ((4, 8, 8), (6, 8, 12), (5, 5, 5))
    inner = [zarr.open_array(str(t.draft), mode="r").chunks for t in (kept, asked, plain)]
    assert inner == [(2, 4, 4), (2, 4, 4), (5, 5, 5)]
    asked.write((), VOLUME)
    asked.finish()
    np.testing.assert_array_equal(read_image(tmp_path / "b.zarr")[0], VOLUME)


def test_hdf5_is_packed_at_the_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset(
            "raw/x", data=VOLUME, chunks=(4, 4, 4), compression="gzip", compression_opts=7,
            shuffle=True,
        )  # fmt: skip
    with open_source(tmp_path / "in.h5") as source:
        assert source.chunks == (4, 4, 4)
        target = create_target(tmp_path / "out.h5", VOLUME.shape, VOLUME.dtype, like=source)
        assert target.chunks is None
        target.write((), source.read(()))
        target.finish()
    with h5py.File(tmp_path / "out.h5") as file:
        made = file["raw/x"]
        assert (made.chunks, made.compression, made.compression_opts, made.shuffle) == (
            (4, 4, 4), "gzip", 7, True,
        )  # fmt: skip
        np.testing.assert_array_equal(made[:], VOLUME)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.h5", "out.h5"]


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"tile": (16, 16)}])
def test_tiff_pages_and_tiles(tmp_path: Path, options: dict) -> None:
    volume = RNG.integers(0, 999, (5, 40, 50), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", volume, metadata={"axes": "ZYX"}, **options)
    with open_source(tmp_path / "a.tif") as source:
        assert source.chunks is not None
        assert source.info.axes == "ZYX"
        region = (slice(1, 4), slice(7, 33), slice(10, 20))
        np.testing.assert_array_equal(source.read(region), volume[region])
        np.testing.assert_array_equal(source.read(()), volume)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_and_nifti_in_either_byte_order(tmp_path: Path, order: str) -> None:
    import nibabel as nib

    volume = VOLUME.astype(order + "i2")
    tifffile.imwrite(tmp_path / "a.tif", volume, byteorder=order)
    header = nib.Nifti1Header(endianness=order)
    nib.save(nib.Nifti1Image(volume, np.eye(4), header), tmp_path / "a.nii")
    for name in ("a.tif", "a.nii"):
        with open_source(tmp_path / name) as source:
            assert source.dtype.isnative
            np.testing.assert_array_equal(source.read((slice(2, 5),)), volume[2:5])


def test_a_packed_nifti_is_read_by_parts_too(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz", VOLUME, INFO)
    with open_source(tmp_path / "a.nii.gz") as source:
        expected = as_found(source.info.axes, VOLUME)
        for region in ((slice(2, 4),), (slice(None), slice(None), slice(7, 9)), ()):
            np.testing.assert_array_equal(source.read(region), expected[region])
    with pytest.raises(FileError, match=r"NIfTI \(gzip\) is written whole. Write .zarr or .npy"):
        create_target(tmp_path / "b.nii.gz", VOLUME.shape, VOLUME.dtype)


def test_pictures_are_read_whole(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(FileError, match=r"PNG is read whole. Convert it to .zarr or .npy"):
        open_source(tmp_path / "a.png")


def test_links_are_followed(tmp_path: Path) -> None:
    for name in ("a.npy", "a.zarr", "a.h5"):
        write_image(tmp_path / name, VOLUME)
        link = tmp_path / f"link{name[1:]}"
        link.symlink_to(tmp_path / name)
        with open_source(link) as source:
            np.testing.assert_array_equal(source.read(()), VOLUME)
        target = create_target(link, VOLUME.shape, VOLUME.dtype, overwrite=True)
        target.write((), VOLUME + 1)
        target.finish()
        assert link.is_symlink()
        np.testing.assert_array_equal(read_image(tmp_path / name)[0], VOLUME + 1)
        assert os.listdir(tmp_path).count(f"{name}.partial") == 0


def test_the_limit_of_open_files_is_not_met(tmp_path: Path) -> None:
    write_image(tmp_path / "a.npy", VOLUME)
    write_image(tmp_path / "a.nii", VOLUME)
    write_image(tmp_path / "a.h5", VOLUME)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(20):
        for name in ("a.npy", "a.nii", "a.h5"):
            read_image(tmp_path / name)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
