"""Answers of the page about volumes, curves over the kernel size, and audits."""

from __future__ import annotations

import base64
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import separable as sep
from separable.plan import sweep_sizes
from separable.plan.size_sweep import SIZES

pytest.importorskip("starlette")
pytest.importorskip("PIL")
from PIL import Image

from separable.explore import curve_answers, network_answers, stack_answers
from separable.explore.kernel_answers import Chosen
from separable.explore.limits import InputError
from separable.explore.picture_answers import Scale, compare, scale_of
from separable.machine import Machine, Primitives


def chosen(text: str) -> Chosen:
    kernel = sep.kernels.parse(text, 3)
    dense = kernel if isinstance(kernel, np.ndarray) else kernel.dense()
    return Chosen(text, np.asarray(dense), "correlate")


def levels(picture: dict[str, Any]) -> np.ndarray:
    """The values of a picture, to one of its 255 steps."""
    content = base64.b64decode(picture["png"].partition(",")[2])
    grey = np.asarray(Image.open(io.BytesIO(content)), float)
    return picture["low"] + grey * (picture["high"] - picture["low"]) / 255


@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant"])
@pytest.mark.parametrize("text", ["gaussian:1.2,radius=3", "sobel"])
def test_a_slice_is_filtered_as_in_the_whole_volume(mode: str, text: str) -> None:
    volume = stack_answers.sample_volume("head")[:24, ::2, ::2]
    kernel = chosen(text)
    exact = ndimage.correlate(volume.astype(float), kernel.values, mode=mode)
    for at in (0, 11, 23):
        found = stack_answers.slices(kernel, volume, at, mode)
        scale = found["dense"]
        expected = np.clip(exact[at], scale["low"], scale["high"])
        step = (scale["high"] - scale["low"]) / 255
        for name in ("x", "dense"):
            np.testing.assert_allclose(levels(found[name]), expected, atol=0.51 * step)
        assert found["difference"] < 1e-5 * np.abs(kernel.values).sum() * 255
        assert found["slice"] == at
        np.testing.assert_allclose(levels(found["source"]), volume[at], atol=0.5)
    assert scale["signed"] == (text == "sobel")


def test_343_and_21_are_counted_on_the_volume() -> None:
    volume = stack_answers.sample_volume("head")
    found = stack_answers.slices(chosen("gaussian:1.2,radius=3"), volume, None, "reflect")
    assert (found["all"], found["separable"], found["taps"]) == (343, 21, [7, 7, 7])
    assert found["sentence"].endswith("343 dense, 21 in 3 passes: 16.3 times fewer")
    assert found["voxels"] == 64 * 128 * 128
    assert found["slice"] == 32
    small = volume[::4, ::4, ::4]
    rows = stack_answers.volume_times(chosen("gaussian:1.2,radius=3"), small, "reflect")["rows"]
    assert [r["total"] for r in rows[:2]] == [343 * small.size, 21 * small.size]
    assert all(r["seconds"] > 0 for r in rows)


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("ball:2", 0, "separable kernel with three axes"),
        ("box:3", 64, r"`slice` must be a whole number, 0 \.\. 63; got 64"),
        ("box:3", "1", "`slice` must be a whole number"),
        ("box:3", True, "`slice` must be a whole number"),
    ],
)
def test_slices_that_cannot_be_shown(text: str, at: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stack_answers.slices(chosen(text), stack_answers.sample_volume("beads"), at, "reflect")


def files(folder: Path) -> dict[str, tuple[bytes, np.ndarray]]:
    """The same volume of shape (z, y, x) in every format that is accepted."""
    nib = pytest.importorskip("nibabel")
    tifffile = pytest.importorskip("tifffile")
    volume = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(np.int16)
    nib.Nifti1Image(volume.transpose(2, 1, 0)[:, ::-1], np.eye(4)).to_filename(folder / "a.nii")
    several = np.stack([volume.transpose(2, 1, 0)[:, ::-1]] * 2, axis=-1)
    nib.Nifti1Image(several, np.eye(4)).to_filename(folder / "b.nii")
    tifffile.imwrite(folder / "a.tif", volume, photometric="minisblack")
    np.save(folder / "a.npy", volume)
    found = {n: (folder / n).read_bytes() for n in ("a.nii", "b.nii", "a.tif", "a.npy")}
    found["a.nii.gz"] = gzip.compress(found["a.nii"])
    return {name: (content, volume) for name, content in found.items()}


def test_volumes_are_read_from_nifti_tiff_and_numpy(tmp_path: Path) -> None:
    for name, (content, volume) in files(tmp_path).items():
        read, note = stack_answers.decode_volume(content)
        assert note == "", name
        np.testing.assert_array_equal(read, volume, err_msg=name)
        for cut in (60, len(content) // 2):
            with pytest.raises(InputError, match=r"expected a volume|damaged|holds"):
                stack_answers.decode_volume(content[:cut])


def test_large_volumes_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((6, 40, 30), np.uint8))
    monkeypatch.setattr(stack_answers, "VOXELS", 4000)
    volume, note = stack_answers.decode_volume(file.getvalue())
    assert volume.shape == (6, 20, 30)
    assert note == "Every 1 x 2 x 1th sample of 6 x 40 x 30 is shown."
    monkeypatch.setattr(stack_answers, "CLAIMED", 4000)
    with pytest.raises(InputError, match="7,200 samples; at most 4,000"):
        stack_answers.decode_volume(file.getvalue())


@pytest.mark.parametrize(
    "array", [np.ones((3, 3)), np.full((2, 2, 2), np.nan), np.ones((2, 2, 2), complex)]
)
def test_arrays_that_are_no_volume(array: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, array)
    with pytest.raises(InputError, match="volume"):
        stack_answers.decode_volume(file.getvalue())


def test_other_files_are_no_volume() -> None:
    for content in (b"", b"GIF89a", b"\x1f\x8b nothing", b"\x93NUMPY nonsense", b"II*\0 nothing"):
        with pytest.raises(InputError, match="expected a volume"):
            stack_answers.decode_volume(content)


def test_curves_are_those_of_the_library_and_can_be_measured() -> None:
    asked = {"ndim": 2, "rank": 2, "shape": [256, 256], "dtype": "float32"}
    found = curve_answers.sweep(asked)
    expected = sweep_sizes((256, 256), "float32", rank=2, sizes=[n for n in SIZES if n <= 101])
    assert found["multiplications"] == expected.to_dict()["multiplications"]
    assert found["multiplications"]["dense"][0] == 9
    measured = curve_answers.sweep({**asked, "shape": [32, 32], "measure": True})["measured"]
    assert [n for n, _ in measured["passes"]] == [3, 5, 9, 15, 31]
    assert all(t > 0 for way in measured.values() for _, t in way)
    assert curve_answers.sweep({"ndim": 3})["shape"] == [64, 256, 256]
    large = curve_answers.sweep({**asked, "shape": [4096, 4096], "measure": True})
    assert large["note"].startswith("Not measured")


@pytest.mark.parametrize(
    "wrong", [{"ndim": 4}, {"rank": 0}, {"rank": 1.5}, {"dtype": "O"}, {"shape": [0, 4]}]
)
def test_curves_that_cannot_be_drawn(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must"):
        curve_answers.sweep({"ndim": 2, "rank": 1, "dtype": "float32", **wrong})


def test_the_roof_follows_from_memory_and_arithmetic() -> None:
    known = Machine("one", 1, {}, primitives=Primitives(fma=1e-11, copy=2e-10, stream_copy=1e-10))
    assert curve_answers.roof(4, known) == pytest.approx({"multiplications": 4e11, "bytes": 2e10})
    assert curve_answers.roof(4, Machine("two", 1, {})) is None


def test_photographs_stay_photographs() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    sharpen = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    for weights, signed in (
        (np.ones((3, 3)), False),
        (sharpen, False),
        (sep.kernels.laplace().dense(), True),
    ):
        assert scale_of(np.asarray(weights), image, image.astype(float)).signed == signed
    blurred = compare(Chosen("disk", sep.kernels.disk(7), "correlate"), image, 2, "reflect")
    assert not blurred["exact"]["signed"]
    assert blurred["exact"]["high"] == 255 * sep.kernels.disk(7).sum()
    for key in ("low", "high", "signed"):  # one scale for the two results
        assert blurred["exact"][key] == blurred["approximate"][key]
    assert Scale(-2.0, 2.0, True).picture(np.zeros((2, 2)))["low"] == -2


def test_one_channel_and_one_filter_lead_to_passes_in_space() -> None:
    asked = {"input": [15, 15], "channels": 1, "filters": 1, "kernel": 3, "multiplier": 1}
    found = network_answers.layer(asked)
    assert found["spatial"] == {"passes": [585, 507], "multiplications": 1092}
    assert found["dense"]["multiplications"] == 1521
    assert network_answers.layer({**asked, "channels": 2})["spatial"] is None


def test_audits_are_shown_and_read() -> None:
    pytest.importorskip("torch")
    found = network_answers.audited("filters")
    exact = {r["name"]: r["exact"]["multiplications"] for r in found["rows"]}
    assert exact == {"blur": 18, "edges": 6, "focus": 72}
    assert len(found["findings"]) == 3
    with pytest.raises(InputError, match="choose one of"):
        network_answers.audited("nothing")
    import torch

    audit = sep.nn.audit(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3)), repeats=0)
    read = network_answers.audit_of(audit.to_json().encode())
    assert [r["weights"] for r in read["rows"]] == ["3x2x3x3"]
    for bad in (b"", b"[]", b"{}", json.dumps({"model": "x", "layers": [{}]}).encode()):
        with pytest.raises(InputError, match="expected an audit as JSON"):
            network_answers.audit_of(bad)
