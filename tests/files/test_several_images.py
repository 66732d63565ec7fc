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


def stack(path: Path, count: int = 3) -> list[np.ndarray]:
    """Write images of different sizes and types into one file."""
    images = [
        RNG.integers(0, 200, (20 + number, 30)).astype(("uint8", "uint16", "float32")[number % 3])
        for number in range(count)
    ]
    write_images(path, [(image, ImageInfo("YX")) for image in images])
    return images


def test_all_images_are_filtered_by_parts(tmp_path: Path) -> None:
    images = stack(tmp_path / "in.tif")
    seen: list[float] = []
    volumes.filter(
        tmp_path / "in.tif", tmp_path / "out.tif", np.ones((3, 3)) / 9, progress=seen.append,
        memory="64GiB",
    )  # fmt: skip
    assert count_images(tmp_path / "out.tif") == 3
    assert sum(seen) == pytest.approx(1)
    for number, image in enumerate(images, 1):
        found, _ = read_image(tmp_path / "out.tif", image=number)
        np.testing.assert_array_equal(found, sep.convolve(image, np.ones((3, 3)) / 9))
        assert found.dtype == image.dtype
    assert {p.name for p in tmp_path.iterdir()} == {"in.tif", "out.tif"}
    with pytest.raises(FileError, match="exists"):
        volumes.filter(tmp_path / "in.tif", tmp_path / "out.tif", np.ones((3, 3)))
    with pytest.raises(ArgumentError, match="a plan is for one image"):
        volumes.filter(
            tmp_path / "in.tif", tmp_path / "x.tif", sep.plan(np.ones((3, 3)), (20, 30), "uint8")
        )
    with pytest.raises(FileError, match=r"NPY holds one. Choose one \(--image N, image=N\)"):
        volumes.filter(tmp_path / "in.tif", tmp_path / "x.npy", np.ones((3, 3)), image="all")
    assert {p.name for p in tmp_path.iterdir()} == {"in.tif", "out.tif"}


def test_an_interrupted_run_goes_on_with_the_next_image(tmp_path: Path) -> None:
    images = stack(tmp_path / "in.tif")
    kernel, wrong = np.ones((3, 3)) / 9, np.ones((3, 3)) / 8
    with volumes.JoinedImages(
        tmp_path / "in.tif", tmp_path / "out.tif", (1, 2, 3), {"kernel": kernel}
    ) as joined:
        assert list(joined.waiting()) == [1, 2, 3]
        with joined.run(1, kernel) as run:
            run()
        joined.record(1, run)
    kept = tmp_path / "out.tif.partial.image1.tif"
    before = kept.stat().st_mtime_ns
    with pytest.raises(FileError, match="was left by another request: kernel was"):
        volumes.filter(tmp_path / "in.tif", tmp_path / "out.tif", wrong)
    with volumes.JoinedImages(
        tmp_path / "in.tif", tmp_path / "out.tif", (1, 2, 3), {"kernel": kernel}
    ) as joined:
        assert list(joined.waiting()) == [2, 3]
        assert kept.stat().st_mtime_ns == before
        for number in joined.waiting():
            with joined.run(number, kernel) as run:
                run()
            joined.record(number, run)
        joined.finish()
    for number, image in enumerate(images, 1):
        found, _ = read_image(tmp_path / "out.tif", image=number)
        np.testing.assert_array_equal(found, sep.convolve(image, kernel))
    assert {p.name for p in tmp_path.iterdir()} == {"in.tif", "out.tif"}


def test_overwriting_discards_an_earlier_run(tmp_path: Path) -> None:
    images = stack(tmp_path / "in.tif")
    with volumes.JoinedImages(
        tmp_path / "in.tif", tmp_path / "out.tif", (1, 2, 3), {"kernel": "box:3"}
    ) as joined:
        with joined.run(1, "box:3") as run:
            run()
        joined.record(1, run)
    volumes.filter(tmp_path / "in.tif", tmp_path / "out.tif", np.ones((5, 5)) / 25, overwrite=True)
    found, _ = read_image(tmp_path / "out.tif", image=1)
    np.testing.assert_array_equal(found, sep.convolve(images[0], np.ones((5, 5)) / 25))
    assert {p.name for p in tmp_path.iterdir()} == {"in.tif", "out.tif"}


def test_a_failure_at_the_first_image_leaves_nothing(tmp_path: Path) -> None:
    stack(tmp_path / "in.tif")
    with pytest.raises(ArgumentError, match="`memory` must be at least"):
        volumes.filter(tmp_path / "in.tif", tmp_path / "out.tif", np.ones((3, 3)), memory="1MiB")
    assert {p.name for p in tmp_path.iterdir()} == {"in.tif"}


def test_spacing_of_some_images_is_kept(tmp_path: Path) -> None:
    images = [
        (RNG.integers(0, 255, (12, 14)).astype(np.uint8), info)
        for info in (ImageInfo("YX"), ImageInfo("YX", spacing=(2.0, 3.0), unit="um"))
    ]
    write_images(tmp_path / "in.tif", images)
    volumes.filter(tmp_path / "in.tif", tmp_path / "out.tif", np.ones((3, 3)) / 9)
    for name in ("in.tif", "out.tif"):
        assert read_image(tmp_path / name, image=1)[1].spacing is None
        assert read_image(tmp_path / name, image=2)[1].spacing == (2.0, 3.0)
