"""Resampled arrays against dense matrices in float64, and properties that every grid has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separable.borders import canonical, registered_borders
from separable.resample import band_passes as passes
from separable.resample import (
    downsample,
    pyramid,
    registered_interpolations,
    resample,
    rescale,
    resize,
)
from separable.resample.axis_grids import ALIGNMENTS, ANTIALIAS, band_of, grid_of_shape
from separable.resample.band_matrix import Band
from separable.resample.band_passes import empty_like_layout, run_bands
from separable.resample.interpolations import interpolation_of

WEIGHTED = [one for one in registered_interpolations() if not one.votes]
RNG = np.random.default_rng(3)


def by_matrices(image: np.ndarray, bands: Mapping[int, Band], cval: float) -> np.ndarray:
    """Return the product with dense matrices in float64."""
    result = image.astype(np.float64)
    for axis, band in bands.items():
        moved = np.tensordot(band.dense(), np.moveaxis(result, axis, 0), 1)
        moved += (band.weight_outside * cval).reshape(-1, *[1] * (image.ndim - 1))
        result = np.moveaxis(moved, 0, axis)
    return result


@st.composite
def problems(draw: Any) -> dict[str, Any]:
    ndim = draw(st.integers(1, 4))
    side = st.integers(1, 40 if ndim < 3 else 12)
    shape, size = (tuple(draw(side) for _ in range(ndim)) for _ in range(2))
    dtype = draw(st.sampled_from(["float32", "float64", "uint8", "int16", "int32"]))
    axes = draw(st.sets(st.integers(0, ndim - 1), min_size=1))
    return {
        "shape": shape, "size": size, "dtype": dtype, "axes": sorted(axes),
        "fortran": draw(st.booleans()), "kind": draw(st.sampled_from(WEIGHTED)),
        "antialias": draw(st.sampled_from(ANTIALIAS)), "align": draw(st.sampled_from(ALIGNMENTS)),
        "mode": draw(st.sampled_from(registered_borders())), "threads": draw(st.integers(1, 3)),
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(problems())
def test_passes_are_products_with_banded_matrices(problem: dict[str, Any]) -> None:
    dtype = np.dtype(problem["dtype"])
    image = (np.random.default_rng(0).random(problem["shape"]) * 200).astype(dtype)
    image = np.asfortranarray(image) if problem["fortran"] else image
    bands = {
        a: band_of(
            grid_of_shape(image.shape[a], problem["size"][a], problem["align"]), problem["kind"],
            problem["antialias"], problem["mode"], np.dtype(float),
        )
        for a in problem["axes"]
    }  # fmt: skip
    shape = [bands[a].size if a in bands else n for a, n in enumerate(image.shape)]
    out = empty_like_layout(image, shape, dtype)
    run_bands(image, bands, out, cval=3.0, threads=problem["threads"])
    expected = by_matrices(image, bands, 3.0)
    if dtype.kind != "f":
        ends = np.iinfo(dtype)
        expected = np.clip(expected, ends.min, ends.max)
    allowed = {"float32": 200e-6 * 3, "float64": 1e-10}.get(dtype.name, 0.5001)
    np.testing.assert_allclose(out, expected, atol=allowed, rtol=0)


def test_slabs_and_sparse_matrices_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image = RNG.random((60, 50, 40)).astype(np.float32)
    whole = resize(image, (90, 30, 70), interpolation=3)
    monkeypatch.setattr(passes, "CACHE_BYTES", 1)
    monkeypatch.setattr(passes, "HALO_SHARE", 0)
    np.testing.assert_array_equal(resize(image, (90, 30, 70), interpolation=3), whole)
    monkeypatch.setattr(passes, "available", lambda: False)
    np.testing.assert_allclose(resize(image, (90, 30, 70), interpolation=3), whole, atol=2e-6)


@pytest.mark.parametrize("kind", WEIGHTED, ids=lambda one: one.name)
def test_float32_is_as_accurate_as_promised(kind: Any) -> None:
    image = RNG.random((70, 80))
    for shape in ((140, 33), (23, 200)):
        exact = resize(image, shape, interpolation=kind)
        found = resize(image.astype(np.float32), shape, interpolation=kind)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, atol=1e-6)


@pytest.mark.parametrize("kind", WEIGHTED, ids=lambda one: one.name)
def test_constants_stay_and_integers_are_rounded_once(kind: Any) -> None:
    for dtype, value in (("uint8", 200), ("int16", -7), ("float32", 0.3), ("uint16", 65535)):
        image = np.full((30, 20), value, dtype)
        found = resize(image, (47, 9), interpolation=kind)
        assert found.dtype == image.dtype
        np.testing.assert_allclose(found, value, rtol=2e-6 if dtype == "float32" else 0)


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, "cubic"])  # Lanczos is not
@pytest.mark.parametrize("align", ALIGNMENTS)
def test_linear_ramps_are_exact(kind: Any, align: str) -> None:
    ramp = np.arange(200.0)
    for size in (350, 77):
        found = resize(ramp, size, interpolation=kind, align=align)
        places = grid_of_shape(200, size, align).places
        inside = (places > 40) & (places < 159)  # away from the border and what it extends
        np.testing.assert_allclose(found[inside], places[inside], atol=1e-9)


@pytest.mark.parametrize("kind", ["linear", "cubic", 3, "area", "lanczos3"])
def test_rotations_and_transpositions_commute(kind: Any) -> None:
    image = RNG.random((36, 52))
    for shape in ((50, 31), (18, 26)):
        found = resize(image, shape, interpolation=kind)
        turned = resize(np.rot90(image), shape[::-1], interpolation=kind)
        np.testing.assert_allclose(turned, np.rot90(found), atol=1e-12)
        swapped = resize(image.T, shape[::-1], interpolation=kind)
        np.testing.assert_allclose(swapped, found.T, atol=1e-12)
        flipped = resize(image[::-1, ::-1], shape, interpolation=kind)
        np.testing.assert_allclose(flipped, found[::-1, ::-1], atol=1e-12)


def test_down_and_up_keep_the_mean() -> None:
    image = RNG.random((48, 60))
    small = downsample(image, (2, 3))
    assert small.mean() == pytest.approx(image.mean(), rel=1e-12)
    large = resize(small, image.shape, interpolation="area")
    assert large.mean() == pytest.approx(image.mean(), rel=1e-12)
    for level in pyramid(image[:32, :32], 4):
        assert level.mean() == pytest.approx(image[:32, :32].mean(), rel=1e-12)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_shapes_that_do_not_change_give_the_image(mode: str) -> None:
    image = RNG.random((7, 9))
    for kind in (0, 1, 2, 3, 4, 5, "cubic", "area"):
        np.testing.assert_allclose(
            resize(image, image.shape, interpolation=kind, mode=mode), image, atol=1e-12
        )


def test_results_do_not_depend_on_threads_or_layout() -> None:
    image = RNG.random((40, 30, 20)).astype(np.float32)
    expected = resize(image, (60, 20, 35), interpolation="cubic", threads=1)
    for other in (image.copy("F"), image[::-1][::-1], np.moveaxis(image.T.copy(), 0, -1)):
        if other.shape == image.shape:
            found = resize(other, (60, 20, 35), interpolation="cubic", threads=3)
            np.testing.assert_array_equal(found, expected)
    out = np.empty((35, 20, 60), np.float64).T
    assert resize(image, (60, 20, 35), interpolation="cubic", output=out) is out
    np.testing.assert_allclose(out, expected, atol=1e-6)


def test_complex_images_are_two_real_ones() -> None:
    image = RNG.random((20, 15)) + 1j * RNG.random((20, 15))
    found = resize(image, (31, 9), mode="constant", cval=1 + 2j)
    real = resize(image.real, (31, 9), mode="constant", cval=1)
    imag = resize(image.imag, (31, 9), mode="constant", cval=2)
    np.testing.assert_allclose(found, real + 1j * imag, atol=1e-14)


def test_nan_stays_within_the_weights() -> None:
    image = np.ones((50, 50))
    image[25, 25] = np.nan
    found = resize(image, (75, 75), interpolation="cubic")
    spoilt = np.isnan(found)
    assert 0 < spoilt.sum() <= 7 * 7


def test_missing_samples_do_not_count() -> None:
    image = RNG.random((40, 40))
    holes = RNG.random((40, 40)) < 0.2
    spoilt = np.where(holes, np.nan, image)
    for kind in ("linear", "area", "cubic"):
        found = resize(spoilt, (20, 20), interpolation=kind, antialias=False, nan="ignore")
        masked = np.ma.array(np.where(holes, 1e6, image), mask=holes)
        same = resize(masked, (20, 20), interpolation=kind, antialias=False)
        np.testing.assert_allclose(found, same, atol=1e-9)
        band = band_of(
            grid_of_shape(40, 20, "edges"), passes_kind(kind), "none", canonical("reflect"),
            np.dtype(float),
        )  # fmt: skip
        size, band = band.absolute().dense(), band.dense()
        known, share = np.where(holes, 0, image), (~holes).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (size @ known @ size.T) / (size @ share @ size.T)
        expected = band @ known @ band.T + mean * (band @ (1 - share) @ band.T)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    constant = resize(np.where(holes, np.nan, 5.0), (60, 60), nan="ignore", interpolation="cubic")
    np.testing.assert_allclose(constant[np.isfinite(constant)], 5, atol=1e-9)


def passes_kind(name: str) -> Any:
    return next(one for one in registered_interpolations() if one.name == name)


def test_results_without_valid_samples_are_filled() -> None:
    image = np.zeros((8, 8), np.int16)
    image[:4] = -999
    found = resize(image, (4, 4), interpolation="area", nodata=-999)
    assert (found[:2] == -999).all()
    assert (found[2:] == 0).all()
    mask = image != -999
    found = resize(image, (4, 4), interpolation="area", mask=mask, fill=7)
    assert (found[:2] == 7).all()


def test_majority_counts_labels() -> None:
    labels = RNG.integers(0, 5, (30, 42)).astype(np.uint16)
    found = resize(labels, (10, 14), interpolation="majority")
    blocks = labels.reshape(10, 3, 14, 3).transpose(0, 2, 1, 3).reshape(10, 14, 9)
    counts = (blocks[..., None] == np.arange(5)).sum(axis=2)
    np.testing.assert_array_equal(found, counts.argmax(axis=-1))
    np.testing.assert_array_equal(downsample(labels, 3, method="majority"), found)
    assert set(np.unique(resize(labels, (77, 91), interpolation="majority"))) <= set(range(5))


def test_spacing_is_exact_and_the_first_sample_moves_with_it() -> None:
    line = np.arange(40.0)
    found = resample(line, 3.0, 1.0, interpolation=3)
    assert found.shape == (120,)
    np.testing.assert_allclose(found[60] - found[59], 1 / 3, atol=1e-6)
    # Edges: new sample i lies at (i + 1/2) / 3 - 1/2 old samples.
    np.testing.assert_allclose(found[61], 20.0, atol=1e-6)
    centred = resample(line, 3.0, 1.5, align="centres", interpolation=1, antialias=False)
    np.testing.assert_allclose(centred, np.arange(79) / 2, atol=1e-12)


def test_factors_round_the_number_of_samples() -> None:
    assert rescale(np.zeros((5, 7)), (0.5, 1.5)).shape == (2, 10)
    np.testing.assert_array_equal(rescale(np.arange(6.0), 2), resize(np.arange(6.0), 12))


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
def test_kernels_read_and_write_only_what_is_theirs(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Scratch memory is full of NaN, and what lies before and behind the result stays as it is."""
    from separable.engine.compiled import thread_pool

    monkeypatch.setattr(thread_pool, "poison", True)
    for shape, size in (((37, 301), (19, 151)), ((300, 20), (450, 33)), ((9, 40, 5), (21, 20, 5))):
        image = (RNG.random(shape) * 200).astype(dtype)
        for kind in ("area", "linear", 3):
            bands = {
                a: band_of(
                    grid_of_shape(n, m, "edges"), interpolation_of(kind), "gaussian",
                    canonical("mirror"), np.dtype(float),
                )
                for a, (n, m) in enumerate(zip(shape, size, strict=True))
            }  # fmt: skip
            frame = np.full(math.prod(size) + 200, 77, dtype)
            inner = frame[100:-100].reshape(size)
            run_bands(image, bands, inner)
            expected = by_matrices(image, bands, 0.0)
            expected = np.clip(expected, 0, 255) if dtype == "uint8" else expected
            allowed = 0.5001 if dtype == "uint8" else 1e-6 * 200
            np.testing.assert_allclose(inner, expected, atol=allowed, rtol=0)
            inner[...] = 77
            assert (frame == 77).all()
