"""Several images in one file, from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import separable as sep
from separable import volumes
from separable.errors import ArgumentError, FileError
from separable.files import ImageInfo, count_images, read_image, write_images

RNG = np.random.default_rng(17)


def test_several_images_from_python(tmp_path: Path) -> None:
    grey, wide = RNG.integers(0, 255, (2, 12, 14)).astype(np.uint8), np.zeros((5, 6), np.float32)
    images = [(a, ImageInfo("YX")) for a in (*grey, wide)]
    write_images(tmp_path / "in.tif", images)
    assert count_images(tmp_path / "in.tif") == 3
    sep.correlate(tmp_path / "in.tif", np.ones((3, 3)) / 9, output=tmp_path / "out.tif")
    for number, (array, _) in enumerate(images, 1):
        found, info = read_image(tmp_path / "out.tif", image=number)
        np.testing.assert_array_equal(found, sep.correlate(array, np.ones((3, 3)) / 9))
        assert info.notes == ()
    volumes.filter(tmp_path / "in.tif", tmp_path / "two.npy", np.ones((3, 3)) / 9, image=2)
    np.testing.assert_array_equal(
        np.load(tmp_path / "two.npy"), sep.convolve(grey[1], np.ones((3, 3)) / 9)
    )
    for call in (
        lambda: read_image(tmp_path / "in.tif", image=4),
        lambda: volumes.filter(tmp_path / "in.tif", tmp_path / "x.npy", np.ones((3, 3)), image=0),
    ):
        with pytest.raises(ArgumentError, match=r"`image` must be 1 \.\. 3"):
            call()
    with pytest.raises(FileError, match="NPY holds one"):
        write_images(tmp_path / "x.npy", images)
