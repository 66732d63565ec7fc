"""NIfTI headers whose statements about the voxel size contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import separable as sep
from separable.cli.main import app
from separable.errors import FileError
from separable.files import read_image, write_image

nib = pytest.importorskip("nibabel")

VOLUME = np.random.default_rng(3).random((6, 7, 8)).astype(np.float32)


def nifti(
    path: Path, sform: Any = None, sizes: Any = (1, 1, 1), qform_code: int = 0, offset: int = 352
) -> None:
    """Write a header by its fields, as no program checks them."""
    header = nib.Nifti1Header()
    header.set_data_shape(VOLUME.shape)
    header.set_data_dtype(np.float32)
    header["pixdim"][1:4] = sizes
    header["qform_code"] = qform_code
    header["xyzt_units"] = 2
    if sform is not None:
        header["sform_code"] = 1
        header["srow_x"], header["srow_y"], header["srow_z"] = np.array(sform, float)[:3]
    header["vox_offset"], header["magic"] = offset, b"n+1"
    path.write_bytes(header.binaryblock + bytes(4) + VOLUME.tobytes(order="F"))


SFORM = np.diag([2.0, 3, 4, 1])
TURNED = SFORM.copy()
TURNED[:2, :2] = [[0, -3], [2, 0]]


@pytest.mark.parametrize(
    ("sform", "sizes", "spacing", "note"),
    [
        (SFORM, (2, 3, 4), (2, 3, 4), ""),
        (SFORM, (1, 1, 1), (2, 3, 4), "its voxel sizes 1x1x1 contradict its affine"),
        (SFORM, (0, 0, 0), (2, 3, 4), "its voxel sizes 0x0x0 contradict its affine"),
        (TURNED, (1, 1, 0), (2, 3, 4), "those of the affine, 2x3x4, are used"),
        (np.zeros((4, 4)), (2, 3, 4), (2, 3, 4), "its voxel sizes 2x3x4 are used"),
        (None, (0, 3, 4), (None, 3, 4), "its voxel sizes 0x3x4 are not all > 0"),
    ],
)
def test_the_affine_decides(
    tmp_path: Path, sform: Any, sizes: Any, spacing: Any, note: str
) -> None:
    nifti(tmp_path / "a.nii", sform, sizes)
    array, info = read_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(array, VOLUME)
    assert info.spacing == tuple(None if s is None else float(s) for s in spacing)
    assert (note in info.notes[0]) if note else info.notes == ()
    write_image(tmp_path / "b.nii", array, info)
    again = nib.load(tmp_path / "b.nii")
    if None not in spacing:  # the result contradicts itself no more, for nibabel either
        np.testing.assert_allclose(again.header.get_zooms(), spacing, rtol=1e-6)
        np.testing.assert_allclose(nib.affines.voxel_sizes(again.affine), spacing, rtol=1e-6)
        assert read_image(tmp_path / "b.nii")[1].notes == ()


def test_a_good_qform_replaces_a_singular_sform(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", np.diag([2, 3, np.nan, 1.0]), (2, 3, 4), qform_code=1)
    info = read_image(tmp_path / "a.nii")[1]
    assert info.spacing == (2.0, 3.0, 4.0)
    assert info.notes == ("its affine (sform) is singular or not finite; its qform is used",)


def test_nothing_to_go_by_is_refused(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", np.zeros((4, 4)), (0, 2, 2))
    with pytest.raises(
        FileError, match=r"singular or not finite; its voxel sizes are 0x2x2\. Correct"
    ):
        read_image(tmp_path / "a.nii")


def test_a_filter_in_millimetres_uses_the_affine_and_says_so(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", SFORM, (1, 1, 1))
    arguments = [
        "filter",
        str(tmp_path / "a.nii"),
        str(tmp_path / "b.nii"),
        "-k",
        "gaussian:fwhm=6mm",
    ]
    done = CliRunner().invoke(app, arguments)
    assert "contradict its affine" in done.output
    wanted = sep.convolve(VOLUME, sep.kernels.gaussian(fwhm=6, spacing=(2, 3, 4)))
    np.testing.assert_allclose(np.asarray(nib.load(tmp_path / "b.nii").dataobj), wanted, rtol=1e-5)
    nifti(tmp_path / "c.nii", None, (0, 3, 4))
    failed = CliRunner().invoke(
        app, ["filter", str(tmp_path / "c.nii"), str(tmp_path / "d.nii"), "-k", "gaussian:2mm"]
    )
    assert "has no value for axis 0. Give --spacing" in str(failed.exception)
