"""Files by parts that are cut short, damaged, or claim what they do not hold."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import struct
import sys
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile

from separable.errors import FileError
from separable.files import open_source, read_image, write_image

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

RNG = np.random.default_rng(3)
VOLUME = RNG.integers(0, 900, (8, 9, 10)).astype(np.uint16)


def everything(path: Path) -> np.ndarray:
    with open_source(path) as source:
        return source.read(())


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.h5", "p.h5", "z.tif", "a.tif", "a.bil"])
@pytest.mark.parametrize("read", [lambda p: read_image(p)[0], everything])
def test_truncated_files(tmp_path: Path, name: str, read) -> None:
    path = tmp_path / name
    if name == "p.h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=VOLUME, chunks=(4, 4, 4), compression="gzip")
    elif name == "z.tif":
        tifffile.imwrite(path, VOLUME, compression="zlib", metadata={"axes": "ZYX"})
    else:
        write_image(path, VOLUME)
    whole, expected = path.read_bytes(), read(path)
    refused = 0
    for kept in np.linspace(0, len(whole) - 1, 30).astype(int):
        path.write_bytes(whole[:kept])
        try:
            found = read(path)
        except FileError:
            refused += 1
            continue
        np.testing.assert_array_equal(found, expected)  # only what holds no numbers was cut
    assert refused > 20


@pytest.mark.parametrize("name", ["a.nii", "a.h5", "a.tif", "a.npy"])
def test_damaged_headers(tmp_path: Path, name: str) -> None:
    """Whatever byte of a header is wrong: an answer or a `FileError`, and never much memory."""
    path = tmp_path / name
    write_image(path, VOLUME)
    whole = bytearray(path.read_bytes())
    for place in range(0, 352, 3):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        path.write_bytes(broken)
        with contextlib.suppress(FileError):
            everything(path)


def test_a_nifti_header_that_claims_ten_terabytes(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype("float32")
    header.set_data_shape((16000, 16000, 10000))
    for name, opener in (("a.nii", open), ("a.nii.gz", gzip.open)):
        with opener(tmp_path / name, "wb") as file:
            header.write_to(file)
            file.write(bytes(1000))
        for read in (read_image, open_source):
            with pytest.raises(FileError, match=r"truncated; its header says 10240000000352 bytes"):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.hdr", "a.tif"])
def test_headers_that_claim_ten_terabytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.npy":
        head = {"descr": "<f4", "fortran_order": False, "shape": (16000, 16000, 10000)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, head)
            file.write(bytes(1000))
    elif name == "a.hdr":
        write_image(path, VOLUME)
        path.write_text(re.sub("bands = 10", "bands = 10000000000000", path.read_text()))
    else:
        write_image(path, VOLUME[0])
        whole = path.read_bytes().replace(struct.pack("<HHII", 257, 4, 1, 9),
                                          struct.pack("<HHII", 257, 4, 1, 1 << 31))  # fmt: skip
        path.write_bytes(whole)
    for read in (read_image, open_source):
        with pytest.raises(FileError, match="cannot read"):
            read(path)


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_stores_that_claim_ten_terabytes_hold_little(tmp_path: Path, suffix: str) -> None:
    """Chunks that were never written are a fair way to store zeros: parts are read, no more."""
    path, shape = tmp_path / f"a.{suffix}", (1 << 14, 1 << 14, 10000)
    if suffix == "zarr":
        zarr.create_array(str(path), shape=shape, chunks=(64, 64, 64), dtype="f4")
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", shape, "f4", chunks=(64, 64, 64))
    with open_source(path) as source:
        assert not source.read((slice(0, 8), slice(0, 8), slice(9000, 9008))).any()
        with pytest.raises(FileError, match=r"does not fit into memory\. Read smaller regions"):
            source.read(())
    with pytest.raises(FileError, match=r"its header says 16384x16384x10000 float32, 10000\.0 GiB"):
        read_image(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(path, VOLUME)
    whole = gzip.decompress(path.read_bytes())
    with gzip.open(path, "wb") as file:
        file.write(whole)
        for _ in range(64):
            file.write(bytes(1 << 20))
    found, info = read_image(path)
    np.testing.assert_array_equal(found, VOLUME)
    assert info.notes == ("a.nii.gz has more data than its header says; the rest was not read",)
    np.testing.assert_array_equal(everything(path), VOLUME)


def test_a_sum_that_is_wrong_is_met(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(path, VOLUME)
    whole = bytearray(path.read_bytes())
    whole[-6] ^= 1
    path.write_bytes(whole)
    with pytest.raises(FileError, match="CRC check failed"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.h5", "a.tif", "a.npy", "a.hdr", "a.bil"])
def test_empty_and_foreign_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    for read in (read_image, open_source):
        with pytest.raises(FileError, match="cannot read"):
            read(tmp_path / name)
    (tmp_path / name).write_bytes(b"neither fish nor flesh" * 50)
    for read in (read_image, open_source):
        with pytest.raises(FileError, match="cannot read"):
            read(tmp_path / name)


def test_a_wrong_suffix_is_reported(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii", VOLUME)
    (tmp_path / "a.nii").rename(tmp_path / "a.h5")
    with pytest.raises(
        FileError, match=r"expected HDF5 by its name; got NIfTI\. Rename it to a\.nii"
    ):
        open_source(tmp_path / "a.h5")
    write_image(tmp_path / "b.nii.gz", VOLUME)
    (tmp_path / "b.nii.gz").rename(tmp_path / "b.nii")
    with pytest.raises(FileError, match=r"got NIfTI \(gzip\)\. Rename it to b\.nii\.gz"):
        open_source(tmp_path / "b.nii")
    (tmp_path / "a.h5").rename(tmp_path / "c.nii.gz")
    with pytest.raises(FileError, match=r"got NIfTI\. Rename it to c\.nii$"):
        read_image(tmp_path / "c.nii.gz")


# Zarr


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("how", ["cut", "noise"])
def test_a_bad_chunk_is_named(tmp_path: Path, version: int, packed: bool, how: str) -> None:
    options = {} if packed else {"compressors": None}
    zarr.create_array(
        str(tmp_path / "a.zarr"), data=VOLUME, chunks=(4, 4, 4), zarr_format=version, **options
    )
    key = "c/1/0/2" if version == 3 else "1.0.2"
    chunk = tmp_path / "a.zarr" / key
    data = chunk.read_bytes()
    chunk.write_bytes(data[: len(data) // 2] if how == "cut" else b"noise" * 9)
    with open_source(tmp_path / "a.zarr") as source:
        np.testing.assert_array_equal(source.read((slice(0, 4),)), VOLUME[:4])
        with pytest.raises(FileError) as caught:
            source.read(())
    assert f"cannot read {tmp_path / 'a.zarr'}: its chunk {key}, [4:8, 0:4, 8:10], is " in str(
        caught.value
    )
    with pytest.raises(FileError, match=re.escape(f"its chunk {key}")):
        read_image(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("version", "codec", "message"),
    [
        (2, "imagecodecs_jpegxl", "its codec imagecodecs_jpegxl is not installed. "
         "Install it: pip install imagecodecs"),
        (2, "mine", "its codec mine is not installed. Install the package that contains it, or "
         "store the array with another codec"),
        (3, "imagecodecs_lerc", "its codec imagecodecs_lerc is not installed. "
         "Install it: pip install imagecodecs"),
    ],
)  # fmt: skip
def test_a_codec_that_is_not_installed_is_named(
    tmp_path: Path, version: int, codec: str, message: str
) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=VOLUME, chunks=(4, 4, 4), zarr_format=version)
    where = tmp_path / "a.zarr" / (".zarray" if version == 2 else "zarr.json")
    meta = json.loads(where.read_text())
    if version == 2:
        meta["compressor"] = {"id": codec}
    else:
        meta["codecs"][-1] = {"name": codec, "configuration": {}}
    where.write_text(json.dumps(meta))
    for read in (read_image, open_source):
        with pytest.raises(FileError) as caught:
            read(tmp_path / "a.zarr")
        assert str(caught.value) == f"cannot read {tmp_path / 'a.zarr'}: {message}"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"zarr_format": 3}', '{"zarr_format": 9}'])
@pytest.mark.parametrize("name", ["zarr.json", ".zarray"])
def test_damaged_metadata(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / name).write_text(text)
    with pytest.raises(FileError, match="cannot read"):
        open_source(tmp_path / "a.zarr")


def test_folders_that_are_not_stores(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(FileError, match=r"a folder without zarr\.json, \.zarray, \.zgroup"):
        open_source(tmp_path / "a.zarr")
    (tmp_path / "b").mkdir()
    with pytest.raises(FileError, match=r"it is a folder\. Name a file in it"):
        open_source(tmp_path / "b")
    (tmp_path / "c.zarr").write_bytes(b"PK")
    with pytest.raises(FileError, match="expected a folder, as Zarr has it; got a file"):
        open_source(tmp_path / "c.zarr")
    (tmp_path / "d.h5").mkdir()
    with pytest.raises(FileError, match="it is a folder"):
        open_source(tmp_path / "d.h5")
    with pytest.raises(FileError, match=r"there is no such file\. Did you mean .*a\.zarr"):
        open_source(tmp_path / "aa.zarr")


def test_groups_of_several_arrays(tmp_path: Path) -> None:
    top = zarr.create_group(str(tmp_path / "a.zarr"))
    with pytest.raises(FileError, match="a Zarr group without arrays"):
        open_source(tmp_path / "a.zarr")
    top.create_array("raw", data=VOLUME)
    np.testing.assert_array_equal(everything(tmp_path / "a.zarr"), VOLUME)
    top.create_group("labels").create_array("cells", data=VOLUME + 1)
    with pytest.raises(FileError, match=r"a Zarr group of 2 arrays: labels/cells raw\. Name one"):
        open_source(tmp_path / "a.zarr")
    np.testing.assert_array_equal(everything(tmp_path / "a.zarr/labels/cells"), VOLUME + 1)
    np.testing.assert_array_equal(everything(tmp_path / "a.zarr/labels"), VOLUME + 1)
    with pytest.raises(FileError, match=r"has no labels/cell\. Did you mean .*labels/cells\?"):
        open_source(tmp_path / "a.zarr/labels/cell")
    with pytest.raises(FileError, match="a store is written whole"):
        write_image(tmp_path / "a.zarr/new", VOLUME)
    moved = tmp_path / "plain"
    (tmp_path / "a.zarr").rename(moved)  # a store of another name, which its contents tell
    np.testing.assert_array_equal(everything(moved / "labels"), VOLUME + 1)


def test_zarr_of_text_is_refused(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(3,), dtype="datetime64[s]", zarr_format=2)
    with pytest.raises(FileError, match="expected numbers; got datetime64"):
        open_source(tmp_path / "a.zarr")


# HDF5


def test_datasets_are_found_or_suggested(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["names"] = [b"a", b"b"]
        file["record"] = np.zeros(3, [("x", "f4"), ("y", "i4")])
        file["number"] = 3.0
    with pytest.raises(FileError, match="it holds no dataset of numbers"):
        open_source(path)
    with h5py.File(path, "a") as file:
        file["scan/raw"] = VOLUME
        file["link"] = h5py.SoftLink("/scan/raw")
    np.testing.assert_array_equal(everything(path), VOLUME)
    np.testing.assert_array_equal(everything(Path(f"{path}:/link")), VOLUME)
    with h5py.File(path, "a") as file:
        file["scan/mask"] = VOLUME > 3
    assert everything(Path(f"{path}:scan/mask")).dtype == bool
    for inside, message in (
        ("", r"it holds 2 datasets: /scan/mask /scan/raw\. Name one, as .*a\.h5:/scan/mask"),
        (":/scan/row", r"there is no such dataset\. Did you mean .*:/scan/raw\?"),
        (":/scan", r"it is a group\. It holds: /scan/mask /scan/raw"),
        (":/names", r"expected an array of numbers; got object of shape \(2,\)"),
        (":/record", r"expected an array of numbers; got \[\('x', '<f4'\)"),
        (":/number", r"expected an array of numbers; got float64 of shape \(\)"),
    ):
        with pytest.raises(FileError, match=message):
            open_source(f"{path}{inside}")


def test_numbers_in_other_files_are_not_fetched(tmp_path: Path) -> None:
    """A file that someone sends must not make us read another one."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = VOLUME
    (tmp_path / "secret.raw").write_bytes(VOLUME.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("secret.h5", "/x")
        file["group/link"] = h5py.ExternalLink("secret.h5", "/")
        external = [(str(tmp_path / "secret.raw"), 0, VOLUME.nbytes)]
        file.create_dataset("raw", VOLUME.shape, VOLUME.dtype, external=external)
        layout = h5py.VirtualLayout(VOLUME.shape, VOLUME.dtype)
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", VOLUME.shape)
        file.create_virtual_dataset("virtual", layout)
    for inside, message in (
        ("/link", "/link is a link to another file, secret.h5. Name that file"),
        ("/group/link/x", "/group/link is a link to another file, secret.h5. Name that file"),
        ("/raw", "its data is in other files"),
        ("/virtual", "its data is in other files"),
    ):
        with pytest.raises(FileError, match=re.escape(message)):
            open_source(f"{tmp_path / 'a.h5'}:{inside}")


def test_a_link_to_a_link_is_followed_no_further(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = VOLUME
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["out"] = h5py.ExternalLink("secret.h5", "/x")
        file["soft"] = h5py.SoftLink("/out")
    with pytest.raises(FileError, match="a link to another file"):
        open_source(f"{tmp_path / 'a.h5'}:/soft")


def test_a_bad_chunk_of_hdf5_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", data=VOLUME, chunks=(4, 4, 4), compression="gzip")
        place = made.id.get_chunk_info_by_coord((4, 0, 8))
    with (tmp_path / "a.h5").open("r+b") as file:
        file.seek(place.byte_offset)
        file.write(b"\xff" * place.size)
    with open_source(tmp_path / "a.h5") as source:
        np.testing.assert_array_equal(source.read((slice(0, 4),)), VOLUME[:4])
        with pytest.raises(FileError, match=re.escape("its chunk (1, 0, 2), [4:8, 0:4, 8:10], is")):
            source.read(())


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((4, 4, 4))
        made.set_filter(400, h5py.h5z.FLAG_OPTIONAL, (2, 2, 2, 64))
        space = h5py.h5s.create_simple(VOLUME.shape)
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT16, space, made)
    if h5py.h5z.filter_avail(400):
        pytest.skip("the codec is there")
    with pytest.raises(FileError, match=r"\(400\) is not installed\. .* pip install hdf5plugin"):
        open_source(tmp_path / "a.h5")


# NIfTI and ENVI


def test_what_nifti_does_not_hold(tmp_path: Path) -> None:
    for array, message in (
        (VOLUME > 3, "NIfTI does not hold bool. Make it uint8 (--dtype uint8)"),
        (VOLUME.astype(np.float16), "NIfTI does not hold float16. Make it float32"),
        (np.zeros((1,) * 8), "a NIfTI image has one to seven axes and is not empty"),
    ):
        with pytest.raises(FileError, match=re.escape(message)):
            write_image(tmp_path / "a.nii", array)
    with pytest.raises(FileError, match=r"ENVI does not hold int8\. Make it int16"):
        write_image(tmp_path / "a.hdr", VOLUME.astype(np.int8))
    assert list(tmp_path.iterdir()) == []


def test_colours_in_nifti_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(FileError, match=r"expected numbers; got colours, .* Save each colour"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENVI\nlines = 8\n", "its header does not say: samples, bands, data type"),
        ("ENVI\nlines = 8\nsamples = 9\nbands = 10\ndata type = 7\n", "data type 7"),
        ("ENVI\nlines = x\nsamples = 9\nbands = 10\ndata type = 2\n", "truncated or damaged"),
        ("ENVI\nlines = -8\nsamples = 9\nbands = 10\ndata type = 2\n", "truncated or damaged"),
        ("ENVI\nlines = 8\nsamples = 9\nbands = 10\ndata type = 12\ninterleave = bbq\n",
         "interleave bbq"),
        ("ENVI\nlines = 8\nsamples = 9\nbands = 10\ndata type = 12\nfile compression = 1\n",
         "its data file is compressed"),
        ("ENVI\nlines = 8\nsamples = 9\nbands = 99\ndata type = 12\n", "it is truncated"),
        ("ENVI\nwavelength = {1, 2\n", "truncated or damaged"),
        ("\x5c\x01\0\0", "truncated or damaged"),  # a pair of NIfTI or Analyze
    ],
)  # fmt: skip
def test_damaged_envi(tmp_path: Path, text: str, message: str) -> None:
    write_image(tmp_path / "a.hdr", VOLUME)
    (tmp_path / "a.hdr").write_bytes(text.encode("latin1"))
    with pytest.raises(FileError, match=message):
        read_image(tmp_path / "a.hdr")


@pytest.mark.parametrize(
    ("name", "package"),
    [("a.nii", "nibabel"), ("a.zarr", "zarr"), ("a.h5", "h5py"), ("a.hdr", "spectral")],
)
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / name, VOLUME)
    monkeypatch.setitem(sys.modules, package, None)
    expected = rf"needs the package {package}\. Install it: pip install \"separable-convolution\[volumes\]\""
    for attempt in (
        lambda: read_image(tmp_path / name),
        lambda: open_source(tmp_path / name),
        lambda: write_image(tmp_path / name, VOLUME, overwrite=True),
    ):
        with pytest.raises(FileError, match=expected):
            attempt()


def test_an_old_zarr_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr, "__version__", "2.18.3")
    with pytest.raises(
        FileError, match=r"expected zarr 3 or later; got 2\.18\.3\. .* Python 3\.11"
    ):
        write_image(tmp_path / "a.zarr", VOLUME)
