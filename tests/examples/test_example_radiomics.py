"""The filtered images of radiomics, beside SimpleITK's and PyWavelets'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import radiomics

pytestmark = pytest.mark.docs

pywt = pytest.importorskip("pywt")
sitk = pytest.importorskip("SimpleITK")


@pytest.fixture(scope="module")
def volume() -> Any:
    return radiomics.opened(None)


def test_it_writes_every_band_where_the_volume_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], volume: Any
) -> None:
    assert radiomics.main(["--out", str(tmp_path), "--sigma", "2", "4"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "multiplications a voxel instead of" in printed.out
    written = sorted(path.name for path in tmp_path.iterdir())
    assert len(written) == 2 + 8
    for name in written:
        image = nibabel.load(tmp_path / name)
        np.testing.assert_array_equal(image.affine, volume.affine)
        band = name.removesuffix(".nii.gz")
        (line,) = [row for row in printed.out.splitlines() if row.startswith(f"{band} ")]
        assert float(line.split()[3]) == pytest.approx(image.get_fdata().max(), abs=0.01)


def test_laplacians_are_within_two_hundredths_of_itk(volume: Any) -> None:
    """ITK approximates the Gaussian by a recursion; ours is exact for sampled, truncated ones."""
    values = volume.get_fdata(dtype=np.float32)
    spacing = tuple(float(s) for s in volume.header.get_zooms())
    theirs = sitk.GetImageFromArray(values.T.copy())
    theirs.SetSpacing(spacing)
    sigmas = [2.0, 3.0, 4.0, 5.0]  # a voxel is 2 mm
    bands = radiomics.laplacians(values.shape, spacing, sigmas)(values)
    for sigma, band in zip(sigmas, bands, strict=True):
        filtered = sitk.LaplacianRecursiveGaussian(theirs, sigma, True)  # normalised across scale
        wanted = sitk.GetArrayFromImage(filtered).T
        assert np.abs(band - wanted).max() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["coif1", "haar"])
def test_wavelet_bands_are_those_of_pywavelets(volume: Any, name: str) -> None:
    values = volume.get_fdata(dtype=np.float32)[:32, :40, :24]  # even lengths, which swtn wants
    bank = radiomics.wavelets(values.shape, name)
    bands = dict(zip(bank.names, bank(values), strict=True))
    (wanted,) = pywt.swtn(values.astype(np.float64), name, level=1)
    for letters, band in wanted.items():
        ours = bands["wavelet-" + letters.replace("a", "L").replace("d", "H")]
        assert np.abs(ours - band).max() < 1e-5 * np.abs(values).max()


def test_what_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for asked, told in (
        (["--sigma", "-1"], "`sigma` must be > 0"),
        (["--wavelet", "db99"], "must be one of PyWavelets' discrete wavelets"),
        ([str(tmp_path / "none.nii")], "none.nii"),
    ):
        assert radiomics.main([*asked, "--out", str(tmp_path / "out")]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
