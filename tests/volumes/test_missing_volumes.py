"""Masks and NaN of volumes: block by block the bits of one block, and what memory gives."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sep
from separable import volumes
from separable.errors import ArgumentError, ArgumentTypeError, FileError

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")

SHAPE = (26, 22, 34)
RNG = np.random.default_rng(0)
IMAGE = (RNG.random(SHAPE) * 200).astype(np.float32)
MASK = RNG.random(SHAPE) > 0.3
MASK[4:20, 4:19, 6:30] = False
KERNELS = {
    "gaussian": sep.kernels.gaussian(1.5, ndim=3),
    "slope": sep.kernels.gaussian(1, order=(1, 0, 0)),
    "dense": RNG.normal(size=(3, 3, 3)),
    "box": np.ones((5, 5, 5)) / 125,
    "zeros": np.zeros((3, 3, 3)),
}


@pytest.fixture(autouse=True)
def _in_turn():
    with dask.config.set(scheduler="synchronous"):
        yield


def lazy(image: Any, chunks: Any = (7, 22, 11)) -> Any:
    return da.from_array(image, chunks=chunks)


def cuts(n: int) -> Any:
    return st.integers(-(-n // 4), n)


@settings(max_examples=8)
@given(
    st.sampled_from(sorted(KERNELS)),
    st.sampled_from(["reflect", "mirror", "nearest", "wrap", "constant"]),
    st.sampled_from([0.0, 2.5, np.nan]),
    st.tuples(*map(cuts, SHAPE)),
    st.tuples(*map(cuts, SHAPE)),
)
def test_any_chunks_equal_one_block_bit_by_bit_and_memory_to_rounding(
    name: str, mode: str, cval: float, chunks: Any, others: Any
) -> None:
    kernel, options = KERNELS[name], {"mode": mode, "cval": cval}
    image = np.where(MASK, IMAGE, np.float32(np.nan))
    for said in ({"mask": lazy(MASK, others)}, {"nan": "ignore"}):
        source = IMAGE if "mask" in said else image
        if "mask" in said and np.isnan(cval) and mode == "constant":
            continue  # NaN outside spreads in both; by which passes is not said
        found = sep.convolve(lazy(source, chunks), kernel, **said, **options)
        assert found.chunks == lazy(source, chunks).chunks
        found = found.compute()
        one = sep.convolve(lazy(source, -1), kernel, **said, **options).compute()
        assert found.tobytes() == one.tobytes()
        memory = {"mask": MASK} if "mask" in said else said
        exact = sep.convolve(source, kernel, **memory, **options)
        scale = max(1.0, float(np.abs(kernel if name == "dense" else 1).sum()))
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-4 * scale)


def saved(tmp_path: Path, name: str, array: Any, chunks: Any = None) -> Path:
    if name.endswith(".npy"):
        np.save(tmp_path / name, array)
    else:
        zarr = pytest.importorskip("zarr")
        zarr.create_array(str(tmp_path / name), data=np.asarray(array), chunks=chunks)
    return tmp_path / name


def read(path: Path) -> Any:
    return sep.files.read_image(path)[0]


@pytest.mark.parametrize("mode", ["reflect", "wrap", "constant"])
@pytest.mark.parametrize("name", ["gaussian", "slope"])
def test_files_are_bit_identical_to_dask_arrays(
    tmp_path: Path, mode: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from separable.volumes import slab_schedule
    from separable.volumes.slab_planner import Stage

    monkeypatch.setattr(
        slab_schedule, "best_stage", lambda whole, a, b, *_: Stage(whole, 0, (6, 8, 34), a, b)
    )
    source = saved(tmp_path, "in.zarr", IMAGE, (6, 8, 10))
    mask = saved(tmp_path, "mask.zarr", MASK, (9, 7, 34))
    told: list[float] = []
    done = volumes.filter(
        source, tmp_path / "out.zarr", KERNELS[name], mask=mask, mode=mode, fill=-1,
        progress=told.append,
    )  # fmt: skip
    assert done.slabs == 15
    assert sum(told) == pytest.approx(1.0)
    options = {"mask": MASK, "mode": mode, "fill": -1}
    found = read(tmp_path / "out.zarr")
    assert (
        found.tobytes() == sep.convolve(lazy(IMAGE), KERNELS[name], **options).compute().tobytes()
    )
    np.testing.assert_allclose(found, sep.convolve(IMAGE, KERNELS[name], **options), atol=1e-4)
    assert (found == -1).any()
    assert sorted(os.listdir(tmp_path)) == ["in.zarr", "mask.zarr", "out.zarr"]


def test_whole_numbers_round_once_and_take_a_fill(tmp_path: Path) -> None:
    grey = IMAGE.astype(np.uint8)
    source, mask = saved(tmp_path, "in.npy", grey), saved(tmp_path, "mask.npy", MASK * 7.5)
    volumes.filter(source, tmp_path / "out.npy", KERNELS["gaussian"], mask=mask, fill=9)
    exact = sep.convolve(grey, KERNELS["gaussian"], mask=MASK, fill=9)
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), exact)
    with pytest.raises(ArgumentError, match=r"`fill` must be a whole number 0 \.\. 255"):
        volumes.filter(source, tmp_path / "b.npy", KERNELS["gaussian"], mask=mask)
    with pytest.raises(ArgumentError, match=r"`fill` must be a whole number 0 \.\. 255"):
        sep.convolve(lazy(grey), KERNELS["gaussian"], mask=MASK)


def test_a_mask_of_the_filtered_axes_serves_the_others(tmp_path: Path) -> None:
    kernel = sep.kernels.gaussian(1)
    flat = MASK[0]
    exact = sep.convolve(IMAGE, kernel, axes=(1, 2), mask=flat)
    source = saved(tmp_path, "in.npy", IMAGE)
    for number, mask in enumerate((flat, flat[None], saved(tmp_path, "mask.npy", flat))):
        target = tmp_path / f"{number}.npy"
        volumes.filter(source, target, kernel, axes=(1, 2), mask=mask)
        np.testing.assert_allclose(read(target), exact, atol=1e-4)
    for mask in (flat, lazy(flat, 5)):
        found = sep.convolve(lazy(IMAGE), kernel, axes=(1, 2), mask=mask).compute()
        np.testing.assert_allclose(found, exact, atol=1e-4)


def test_a_mask_and_nan_together(tmp_path: Path) -> None:
    image = IMAGE.copy()
    image[:, 3] = np.nan
    exact = sep.convolve(image, KERNELS["gaussian"], mask=MASK, nan="ignore")
    found = sep.convolve(lazy(image), KERNELS["gaussian"], mask=MASK, nan="ignore").compute()
    np.testing.assert_allclose(found, exact, atol=1e-4)
    source = saved(tmp_path, "in.npy", image)
    target = str(tmp_path / "out.npy")
    sep.convolve(str(source), KERNELS["gaussian"], output=target, mask=MASK, nan="ignore")
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), found)


def test_nan_of_whole_numbers_and_a_fill_alone_change_nothing() -> None:
    grey = IMAGE.astype(np.uint8)
    plain = sep.convolve(lazy(grey), KERNELS["gaussian"]).compute()
    for said in ({"nan": "ignore"}, {"fill": 3}):
        found = sep.convolve(lazy(grey), KERNELS["gaussian"], **said).compute()
        np.testing.assert_array_equal(found, plain)


def test_missing_samples_are_part_of_the_request(
    tmp_path: Path,
) -> None:
    source, mask = saved(tmp_path, "in.npy", IMAGE), saved(tmp_path, "mask.npy", MASK)
    target = tmp_path / "out.npy"
    said = {"mask": mask, "nan": "ignore"}
    with volumes.Run(source, target, KERNELS["gaussian"], **said) as run:
        run.journal.record(0, 0)  # as if a slab were done and the run killed
    for others, text in (
        ({}, "mask was"),
        ({"mask": MASK}, "mask was"),
        ({**said, "fill": 5}, "fill was None, is 5"),
        ({"mask": mask}, "nan was ignore, is None"),
    ):
        with pytest.raises(FileError, match=text):
            volumes.filter(source, target, KERNELS["gaussian"], **others)
    with volumes.Run(source, target, KERNELS["gaussian"], **said) as run:
        assert run.resumed == 1


@pytest.mark.parametrize(
    ("mask", "kind", "said"),
    [
        (np.ones((3, 4, 5)), ArgumentError, "`mask` must have the image's shape (26, 22, 34)"),
        (np.ones(SHAPE, complex), ArgumentTypeError, "`mask` must hold numbers or bool"),
        ("nowhere.npy", FileError, "cannot read nowhere.npy: there is no such file"),
    ],
)
def test_masks_that_do_not_fit(tmp_path: Path, mask: Any, kind: Any, said: str) -> None:
    source = saved(tmp_path, "in.npy", IMAGE)
    calls = [lambda: volumes.filter(source, tmp_path / "o.npy", KERNELS["gaussian"], mask=mask)]
    if not isinstance(mask, str):
        calls.append(lambda: sep.convolve(lazy(IMAGE), KERNELS["gaussian"], mask=mask))
    for call in calls:
        with pytest.raises(kind) as caught:
            call()
        assert said in str(caught.value)
    assert os.listdir(tmp_path) == ["in.npy"]


def test_what_cannot_be_done_with_missing_samples(tmp_path: Path) -> None:
    source = saved(tmp_path, "in.npy", IMAGE)
    plan = sep.plan(KERNELS["gaussian"], SHAPE, "float32")
    with pytest.raises(ArgumentError, match=r"a plan is for samples that are all valid; got mask"):
        volumes.filter(source, tmp_path / "o.npy", plan, mask=MASK)
    with pytest.raises(ArgumentError, match='`nan` must be "propagate"'):
        sep.convolve(lazy(IMAGE), KERNELS["gaussian"], nan="skip")
    with pytest.raises(ArgumentError, match="depend"):
        sep.convolve(lazy(IMAGE), KERNELS["gaussian"], mask=MASK, method="fft")
    large = RNG.normal(size=(27, 27, 27))  # no terms of one sign, and too many weights
    with pytest.raises(ArgumentError, match="block by block: the kernel has 19683 weights"):
        sep.convolve(lazy(IMAGE), large, mask=MASK)
    mask = saved(tmp_path, "m.npy", MASK)
    with pytest.raises(FileError, match="it is the input, or lies in it"):
        volumes.filter(source, mask, KERNELS["gaussian"], mask=mask, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["in.npy", "m.npy"]
