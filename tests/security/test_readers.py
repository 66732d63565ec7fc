"""Every reader of every registry gets files that carry code: none of it runs.

A reader that is added to a registry without a row here fails `test_every_reader_has_a_row`.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from separable.errors import ArgumentError, FileError, SeparableError
from separable.explore import questions
from separable.files import open_source, read_image, registered_formats, write_image
from separable.kernels import parse_spec
from separable.machine import Machine

MARKER = "ran"
IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)


class Evil:
    """A pickle of it writes a file; so does its text where it is evaluated."""

    def __init__(self, folder: Path) -> None:
        self.text = f"__import__('pathlib').Path({str(folder / MARKER)!r}).touch()"

    def __reduce__(self) -> Any:
        return exec, (self.text,)

    @property
    def pickled(self) -> bytes:
        return pickle.dumps(self)


Case = tuple[Path, str]  # a file, and what the refusal says; "" where it may be read as well
Maker = Callable[[Path, Evil], list[Case]]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# Images


def _pictures(suffix: str, signature: bytes) -> Maker:
    def make(folder: Path, evil: Evil) -> list[Case]:
        write_image(folder / f"a{suffix}", IMAGE)
        good = (folder / f"a{suffix}").read_bytes()
        return [
            (written(folder / f"b{suffix}", good + evil.pickled), ""),
            (written(folder / f"c{suffix}", evil.pickled), "does not begin like"),
            (written(folder / f"d{suffix}", signature + evil.pickled), "cannot read"),
        ]

    return make


LAUGHS = "".join(
    f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' if i else '<!ENTITY l0 "ha">' for i in range(12)
)


def _tiff(folder: Path, evil: Evil) -> list[Case]:
    import tifffile

    (folder / "in").mkdir()
    tifffile.imwrite(folder / "secret.tif", IMAGE)
    (folder / "in" / "sym.tif").symlink_to(folder / "secret.tif")
    ome = (
        '<?xml version="1.0"?>{doctype}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        '2016-06"><Image ID="Image:0" Name="{name}"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        'Type="uint8" SizeX="8" SizeY="6" SizeZ="2" SizeC="1" SizeT="1"><TiffData IFD="0" '
        'FirstZ="1" PlaneCount="1"><UUID FileName="{file}">urn:uuid:1</UUID></TiffData></Pixels>'
        "</Image></OME>"
    )
    texts = {
        "laughs": (ome.format(doctype=f"<!DOCTYPE x [{LAUGHS}]>", name="&l11;", file="a"),
                   "declares entities"),
        "entity": (ome.format(doctype='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
                              name="&e;", file="a"), "declares entities"),
        "above": (ome.format(doctype="", name="a", file="../secret.tif"), "outside its folder"),
        "escaped": (ome.format(doctype="", name="a", file="..&#47;secret.tif"),
                    "outside its folder"),
        "absolute": (ome.format(doctype="", name="a", file=folder / "secret.tif"),
                     "outside its folder"),
        "link": (ome.format(doctype="", name="a", file="sym.tif"), "outside its folder"),
        "json": (json.dumps({"shape": evil.text}), ""),
        "python": ("shape=(" + evil.text + ",)", ""),
    }  # fmt: skip
    cases = []
    for name, (text, said) in texts.items():
        path = folder / "in" / f"{name}.tif"
        tifffile.imwrite(path, IMAGE, description=text, metadata=None)
        cases.append((path, said))
    return cases


def _npy(folder: Path, evil: Evil) -> list[Case]:
    file = io.BytesIO()
    np.save(file, np.array([evil, evil], dtype=object), allow_pickle=True)
    cases = [(written(folder / "objects.npy", file.getvalue()), "holds Python objects")]
    for i, text in enumerate((
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({evil.text},), }}",
        evil.text,
        f"{{'descr': {evil.text}, 'fortran_order': False, 'shape': (3,), }}",
        "(" * 3000,
    )):  # fmt: skip
        content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(64)
        cases.append((written(folder / f"header{i}.npy", content), "cannot read"))
    return cases


def _nifti(suffix: str) -> Maker:
    def make(folder: Path, evil: Evil) -> list[Case]:
        nib = pytest.importorskip("nibabel")
        cases = []
        for code in (0, 2, 16, 32, 38):  # among them "pypickle" and "eval"
            for content in (evil.pickled, evil.text.encode()):
                image = nib.Nifti1Image(IMAGE[None], np.eye(4))
                image.header.extensions.append(nib.nifti1.Nifti1Extension(code, content))
                path = folder / f"{code}{len(content)}{suffix}"
                nib.save(image, folder / "a.nii")
                plain = (folder / "a.nii").read_bytes()
                written(path, gzip.compress(plain) if suffix.endswith("gz") else plain)
                cases.append((path, ""))
        return cases

    return make


def _zarr(folder: Path, evil: Evil) -> list[Case]:
    zarr = pytest.importorskip("zarr")
    cases = []

    def store(name: str, version: int, edit: Callable[[dict[str, Any]], Any]) -> Path:
        path = folder / f"{name}.zarr"
        chunks = {"chunks": IMAGE.shape, "compressors": None, "overwrite": True}
        node = zarr.create_array(
            str(path), shape=IMAGE.shape, dtype="uint8", zarr_format=version, **chunks
        )
        node[:] = IMAGE
        meta = path / (".zarray" if version == 2 else "zarr.json")
        text = json.loads(meta.read_text())
        edit(text)
        meta.write_text(json.dumps(text))
        for chunk in path.rglob("*"):
            if chunk.is_file() and not chunk.name.startswith((".z", "zarr.json")):
                chunk.write_bytes(evil.pickled)
        return path

    said = "more than numbers"
    for codec in ("pickle", "json2", "vlen-bytes", "categorize"):
        of = {"id": codec, "dtype": "|u1", "astype": "|u1", "labels": [], "value": 1}
        cases.append((store(f"filter {codec}", 2, lambda t, of=of: t.update(filters=[of])), said))
        cases.append(
            (store(f"compressor {codec}", 2, lambda t, of=of: t.update(compressor=of)), said)
        )
    for codec in ("pickle", "numcodecs.pickle", "vlen-bytes"):
        of = {"name": codec, "configuration": {}}
        path = store(f"codec {codec}", 3, lambda t, of=of: t["codecs"].append(of))
        cases.append((path, "codec"))
        shard = {"name": "sharding_indexed", "configuration": {
            "chunk_shape": [6, 8], "codecs": [of], "index_codecs": [{"name": "bytes"}]}}  # fmt: skip
        path = store(f"shard {codec}", 3, lambda t, of=shard: t.update(codecs=[of]))
        cases.append((path, "codec"))
    objects = {"dtype": "|O", "filters": [{"id": "pickle"}]}
    cases.append((store("objects", 2, lambda t: t.update(objects)), said))
    both = store("both", 2, lambda t: t)  # a harmless description beside the one that is used
    other = store("other", 3, lambda t: t["codecs"].append({"name": "numcodecs.pickle"}))
    (both / "zarr.json").write_bytes((other / "zarr.json").read_bytes())
    cases.append((both, "codec"))
    return cases


def _hdf5(folder: Path, evil: Evil) -> list[Case]:
    h5py = pytest.importorskip("h5py")
    (folder / "secret.bin").write_bytes(IMAGE.tobytes())
    with h5py.File(folder / "objects.h5", "w") as file:
        objects = file.create_dataset("data", (1,), h5py.vlen_dtype(np.uint8))
        objects[0] = np.frombuffer(evil.pickled, np.uint8)
    with h5py.File(folder / "opaque.h5", "w") as file:
        file["data"] = np.void(evil.pickled)
    with h5py.File(folder / "external.h5", "w") as file:
        outside = [(str(folder / "secret.bin"), 0, IMAGE.size)]
        file.create_dataset("data", IMAGE.shape, "uint8", external=outside)
    with h5py.File(folder / "attributes.h5", "w") as file:
        data = file.create_dataset("data", data=IMAGE)
        data.attrs["pickle"] = np.void(evil.pickled)
        data.attrs["axistags"] = evil.text
        data.attrs["affine"] = evil.text
    with h5py.File(folder / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout(shape=IMAGE.shape, dtype="uint8")
        layout[:] = h5py.VirtualSource(str(folder / "attributes.h5"), "data", shape=IMAGE.shape)
        file.create_virtual_dataset("data", layout)
    with h5py.File(folder / "link.h5", "w") as file:
        file["data"] = h5py.ExternalLink(str(folder / "attributes.h5"), "/data")
    return [
        (folder / "objects.h5", "no dataset of numbers"),
        (folder / "opaque.h5", "no dataset of numbers"),
        (folder / "external.h5", "is in other files"),
        (folder / "virtual.h5", "is in other files"),
        (folder / "link.h5", "no dataset of numbers"),
        (Path(f"{folder}/link.h5:/data"), "link to another file"),
        (folder / "attributes.h5", ""),
    ]


def _netcdf(folder: Path, evil: Evil) -> list[Case]:
    h5py = pytest.importorskip("h5py")
    from scipy.io import netcdf_file

    cases = []
    for path, said in _hdf5(folder, evil):
        if path.is_file():
            path.rename(path.with_suffix(".nc"))
            cases.append((path.with_suffix(".nc"), said))
    with h5py.File(folder / "beside.nc", "w") as file:  # a coordinate whose values are elsewhere
        outside = [(str(folder / "secret.bin"), 0, 6)]
        file.create_dataset("y", (6,), "uint8", external=outside).make_scale("y")
        file.create_dataset("data", data=IMAGE).dims[0].attach_scale(file["y"])
        file["data"].attrs["coordinates"] = evil.text
    with netcdf_file(folder / "classic.nc", "w") as file:
        file.createDimension("x", 8)
        file.createVariable("data", "f4", ("x",))[:] = np.arange(8)
        file.variables["data"].coordinates = evil.text
    return [*cases, (folder / "beside.nc", ""), (folder / "classic.nc", "")]


def _envi(folder: Path, evil: Evil) -> list[Case]:
    pytest.importorskip("spectral")
    head = "ENVI\nlines = 6\nsamples = {}\nbands = 1\ndata type = 1\ninterleave = bsq\n{}\n"
    cases = []
    for i, (samples, more, said) in enumerate((
        (evil.text, "", "cannot read"),
        ("8", f"header offset = {evil.text}", "cannot read"),
        ("8", f"map info = {{{evil.text}, 1, 1, 0, 0, {evil.text}, 1}}", ""),
        ("8", "header offset = -100", "cannot read"),
    )):  # fmt: skip
        (folder / f"{i}.img").write_bytes(IMAGE.tobytes())
        cases.append((written(folder / f"{i}.hdr", head.format(samples, more).encode()), said))
    return cases


def _pair(folder: Path, evil: Evil) -> list[Case]:
    nib = pytest.importorskip("nibabel")
    cases = []
    for code in (0, 38):
        image = nib.Nifti1Pair(IMAGE[None], np.eye(4))
        image.header.extensions.append(nib.nifti1.Nifti1Extension(code, evil.pickled))
        nib.save(image, folder / f"{code}.img")
        cases += [(folder / f"{code}.img", ""), (folder / f"{code}.hdr", "")]
    return cases


def _metaimage(folder: Path, evil: Evil) -> list[Case]:
    head = "ObjectType = Image\nNDims = 2\nDimSize = 8 6\nElementType = MET_UCHAR\n{}\n"
    cases = []
    (folder / "in").mkdir()
    (folder / "secret.raw").write_bytes(IMAGE.tobytes())
    for i, (line, said) in enumerate((
        (f"Comment = {evil.text}\nElementDataFile = LOCAL", ""),
        ("ElementDataFile = ../secret.raw", "lies in another folder"),
        (f"ElementDataFile = {folder / 'secret.raw'}", "lies in another folder"),
        (f"ElementSpacing = {evil.text} 1\nElementDataFile = LOCAL", "cannot read"),
        ("ElementDataFile = LIST", "in several files"),
    )):  # fmt: skip
        content = head.format(line).encode() + IMAGE.tobytes()
        cases.append((written(folder / "in" / f"{i}.mha", content), said))
    return cases


def _nrrd(folder: Path, evil: Evil) -> list[Case]:
    pytest.importorskip("nrrd")
    head = "NRRD0005\ntype: uchar\ndimension: 2\nsizes: 8 6\nencoding: raw\n{}\n\n"
    cases = []
    (folder / "in").mkdir()
    (folder / "secret.raw").write_bytes(IMAGE.tobytes())
    for i, (line, said) in enumerate((
        (f"key:={evil.text}", ""),
        ("data file: ../secret.raw", "lies in another folder"),
        (f"data file: {folder / 'secret.raw'}", "lies in another folder"),
        (f"spacings: {evil.text} 1", "cannot read"),
        ("data file: a%03d.raw 1 3 1", "in several files"),
    )):  # fmt: skip
        content = head.format(line).encode() + IMAGE.tobytes()
        cases.append((written(folder / "in" / f"{i}.nrrd", content), said))
    return cases


def _dicom(folder: Path, evil: Evil) -> list[Case]:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    header = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    header.PatientComments = evil.text
    header.add_new((0x0011, 0x1001), "OB", evil.pickled + bytes(len(evil.pickled) % 2))
    header.save_as(folder / "a.dcm")
    return [
        (folder / "a.dcm", ""),
        (written(folder / "b.dcm", bytes(128) + b"DICM" + evil.pickled), "cannot read"),
    ]


IMAGES: dict[str, Maker] = {
    "PNG": _pictures(".png", b"\x89PNG\r\n\x1a\n"),
    "GIF": _pictures(".gif", b"GIF89a"),
    "JPEG": _pictures(".jpg", b"\xff\xd8\xff"),
    "BMP": _pictures(".bmp", b"BM"),
    "TIFF": _tiff,
    "NPY": _npy,
    "Zarr": _zarr,
    "NIfTI": _nifti(".nii"),
    "NIfTI (gzip)": _nifti(".nii.gz"),
    "HDF5": _hdf5,
    "netCDF": _netcdf,
    "NIfTI pair": _pair,
    "MetaImage": _metaimage,
    "NRRD": _nrrd,
    "DICOM": _dicom,
    "ENVI": _envi,
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pickles = pytest.importorskip("numcodecs.pickles") if name == "Zarr" else None
    if pickles is not None:  # as it is in releases before the switch
        monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    (chosen,) = (f for f in registered_formats() if f.name == name)
    for path, said in IMAGES[name](tmp_path, Evil(tmp_path)):
        readers = [read_image, *([_by_parts] if chosen.open else [])]
        for read in readers:
            try:
                read(path)
                refused = ""
            except FileError as error:
                refused = str(error)
            assert not (tmp_path / MARKER).exists(), f"{path.name} ran code"
            assert said in refused, f"{path.name}: {refused!r}"


def _by_parts(path: Path) -> Any:
    with open_source(path) as source:
        return source.read(tuple(slice(0, n) for n in source.shape))


# Networks


def _onnx(folder: Path, evil: Evil) -> list[Case]:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    (folder / "in").mkdir()
    (folder / "w.bin").write_bytes(bytes(4))
    (folder / "in" / "good.bin").write_bytes(bytes(4))
    (folder / "in" / "link.bin").symlink_to(folder / "w.bin")

    def tensor(name: str, *entries: tuple[str, str]) -> Any:
        found = kind(name=name, data_type=kind.FLOAT, dims=[1], data_location=kind.EXTERNAL)
        for key, value in entries:
            found.external_data.add(key=key, value=value)
        return found

    def model(nodes: list[Any], stored: list[Any], functions: list[Any] | None = None) -> bytes:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes, "g", [value("x", kind.FLOAT, [1])], [value("y", kind.FLOAT, [1])], stored
        )
        domains = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
        made = helper.make_model(
            graph, opset_imports=domains, functions=functions or [], ir_version=9
        )
        return bytes(made.SerializeToString())

    add = helper.make_node("Add", ["x", "w"], ["y"])
    constant = helper.make_node("Constant", [], ["c"], value=tensor("v", ("location", "../w.bin")))
    sum_ = helper.make_node("Add", ["a", "c"], ["b"])
    function = helper.make_function(
        "mine", "F", ["a"], ["b"], [constant, sum_], [helper.make_opsetid("", 17)]
    )
    compiled = helper.make_node("EPContext", ["x"], ["y"], "n", domain="com.microsoft",
                                ep_cache_context="../evil.so", embed_mode=0)  # fmt: skip
    good, bad = ("location", "good.bin"), ("location", "../w.bin")
    cases = {
        "above": (model([add], [tensor("w", bad)]), "outside the model's folder"),
        "link": (model([add], [tensor("w", ("location", "link.bin"))]), "outside the model's"),
        "twice": (model([add], [tensor("w", good, bad)]), "once at most"),
        "key": (model([add], [tensor("w", good, ("__class__", "x"))]), "once at most"),
        "function": (
            model([helper.make_node("F", ["x"], ["y"], domain="mine")], [], [function]),
            "outside the model's folder",
        ),
        "compiled": (model([compiled], []), "compiled code"),
        "pickle": (evil.pickled, "damaged"),
    }
    return [
        (written(folder / "in" / f"{name}.onnx", content), said)
        for name, (content, said) in cases.items()
    ]


def _program(folder: Path, evil: Evil) -> list[Case]:
    """Its members one by one are in `test_exported_programs`."""
    torch = pytest.importorskip("torch")
    path = folder / "m.pt2"
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(path))
    script = (written(folder / "script.pt2", path.read_bytes()), "cannot read")
    torch.save(evil, path)
    return [script, (path, "cannot read"), (written(folder / "p.pt2", evil.pickled), "damaged")]


def _safetensors(folder: Path, evil: Evil) -> list[Case]:
    pytest.importorskip("safetensors")
    header = json.dumps({"w": {"dtype": evil.text, "shape": [1], "data_offsets": [0, 4]}}).encode()
    claim = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}})
    return [
        (written(folder / "a.safetensors", evil.pickled), "damaged"),
        (written(folder / "b.safetensors", len(header).to_bytes(8, "little") + header + bytes(4)),
         "damaged"),
        (written(folder / "c.safetensors",
                 len(claim).to_bytes(8, "little") + claim.encode() + bytes(4)), "damaged"),
    ]  # fmt: skip


def _weights(suffix: str) -> Maker:
    def make(folder: Path, evil: Evil) -> list[Case]:
        torch = pytest.importorskip("torch")
        path = folder / f"a{suffix}"
        cases = []
        for i, (value, new) in enumerate(((evil, True), ({"w": evil}, True), (evil, False))):
            torch.save(value, path, _use_new_zipfile_serialization=new)
            cases.append((written(folder / f"{i}{suffix}", path.read_bytes()), "would run code"))
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(path))
        cases.append((path, "TorchScript"))
        cases.append((written(folder / f"p{suffix}", evil.pickled), "would run code"))
        with tarfile.open(folder / f"t{suffix}", "w") as archive:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                info = tarfile.TarInfo(name)
                info.size = len(evil.pickled)
                archive.addfile(info, io.BytesIO(evil.pickled))
        cases.append((folder / f"t{suffix}", "tar archive"))
        with zipfile.ZipFile(folder / f"b{suffix}", "w", zipfile.ZIP_DEFLATED) as bomb:
            bomb.writestr("a/data.pkl", b"")
            bomb.writestr("a/data/0", bytes(80 << 20))
        cases.append((folder / f"b{suffix}", "unpack to"))
        return cases

    return make


NETWORKS: dict[str, Maker] = {
    ".onnx": _onnx,
    ".pt2": _program,
    ".safetensors": _safetensors,
    ".pt": _weights(".pt"),
    ".pth": _weights(".pth"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TorchScript
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_runs_nothing(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torch")
    from separable.nn.formats import open_network

    factory = "unet" if name in (".pt", ".pth", ".safetensors") else None
    for path, said in NETWORKS[name](tmp_path, Evil(tmp_path)):
        with pytest.raises(FileError) as error:
            open_network(str(path), factory)
        assert not (tmp_path / MARKER).exists(), f"{path.name} ran code"
        assert said in str(error.value), path.name


# Everything else that is read


@pytest.mark.parametrize("name", questions.UPLOADS)
def test_an_upload_runs_nothing(tmp_path: Path, name: str) -> None:
    evil = Evil(tmp_path)
    objects = io.BytesIO()
    np.save(objects, np.array([evil], dtype=object), allow_pickle=True)
    for content in (evil.pickled, evil.text.encode(), objects.getvalue(), b"\x93NUMPY" + b"(" * 99,
                    json.dumps({"layers": evil.text}).encode(), b"II*\0" + evil.pickled,
                    gzip.compress(evil.pickled), bytes(344) + b"n+1\0" + evil.pickled):  # fmt: skip
        with pytest.raises(SeparableError):
            questions.answer(name, content, {})
        assert not (tmp_path / MARKER).exists()


def _data_npz(folder: Path, evil: Evil) -> Path:
    path = folder / "a.npz"
    np.savez(path, np.array([evil], dtype=object), allow_pickle=True)
    return path


def _data_npy(folder: Path, evil: Evil) -> Path:
    np.save(folder / "a.npy", np.array([evil], dtype=object), allow_pickle=True)
    return folder / "a.npy"


@pytest.mark.parametrize("make", [_data_npz, _data_npy])
def test_data_for_a_network_runs_nothing(
    tmp_path: Path, make: Callable[[Path, Evil], Path]
) -> None:
    from separable.cli.batches import _stored

    with pytest.raises(FileError, match="holds objects"):
        _stored(make(tmp_path, Evil(tmp_path)))
    assert not (tmp_path / MARKER).exists()


def test_texts_run_nothing(tmp_path: Path) -> None:
    """Names of kernels, profiles of machines, plans of converted networks."""
    evil = Evil(tmp_path)
    for text in (evil.text, f"gaussian:{evil.text}", f"gabor:8,theta={evil.text}"):
        with pytest.raises(SeparableError):
            parse_spec(text)
    with pytest.raises((SeparableError, ValueError, TypeError)):
        Machine.from_dict({"rates": evil.text, "__class__": evil.text})
    torch = pytest.importorskip("torch")
    from separable import nn

    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3))
    plan = {"format": evil.text, "version": 1, "layers": {evil.text: {}}}
    for given in (json.dumps(plan), evil.text, plan):
        with pytest.raises(ArgumentError):
            nn.rebuild(model, given)
    assert not (tmp_path / MARKER).exists()


def test_every_reader_has_a_row() -> None:
    """A format that is added needs files that carry code."""
    assert set(IMAGES) == {f.name for f in registered_formats()}
    uploads = ("kernel", "image", "report", "audit", "volume")
    assert set(questions.UPLOADS) == {f"upload {kind}" for kind in uploads}
    pytest.importorskip("torch")
    from separable.nn.formats import SUFFIXES

    assert set(NETWORKS) == set(SUFFIXES)
