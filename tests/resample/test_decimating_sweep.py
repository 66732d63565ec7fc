"""The decimating sweep: bit-identical to separate passes, and equal to matrices in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sep
from separable import resample
from separable.borders import registered_borders
from separable.engine.availability import available
from separable.resample import band_passes
from separable.resample.band_matrix import Band, extended_band
from separable.resample.band_passes import decimates, pass_order, run_bands

RNG = np.random.default_rng(7)
BORDERS = registered_borders()
pytestmark = [
    pytest.mark.apart,
    pytest.mark.skipif(not available(), reason="needs the compiled engine"),
]


def band_of(length: int, stride: int, taps: int, border: Any, first: int = 0) -> Band:
    count = max(1, (length - first + stride - 1) // stride)
    firsts = first + stride * np.arange(count) - taps // 2
    weights = np.broadcast_to(RNG.normal(size=taps) / taps, (count, taps))
    found = extended_band(firsts, weights, length, border)
    return Band(found.starts, found.weights, found.samples, length, 1 / stride)


def by_matrices(image: Any, bands: dict[int, Band], cval: float) -> Any:
    """Return the product of dense matrices with an image, in float64."""
    found = image.astype(float)
    for axis, band in bands.items():
        moved = np.moveaxis(found, axis, 0)
        outside = (band.weight_outside * cval).reshape(-1, *(1,) * (moved.ndim - 1))
        found = np.moveaxis(np.tensordot(band.dense(), moved, 1) + outside, 0, axis)
    return found


def in_passes(image: Any, bands: dict[int, Band], out: Any, cval: float) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(band_passes, "decimates", lambda *_: False)
        return run_bands(image, bands, out, cval=cval)


@st.composite
def problems(draw: Any) -> tuple[Any, dict[int, Band], Any, float]:
    axes = draw(st.integers(2, 3))
    stride = draw(st.sampled_from([1, 2, 2, 2, 3, 8]))
    channels = draw(st.sampled_from([1, 1, 3])) if stride == 2 else 1
    batch = draw(st.lists(st.integers(1, 3), max_size=1))
    sides = [draw(st.integers(1, 40)) for _ in range(axes - 1)] + [draw(st.integers(1, 300))]
    trailing = [channels] if channels > 1 else []
    shape = (*batch, *sides, *trailing)
    source = draw(st.sampled_from(["float32", "float32", "float64", "uint8"]))
    target = draw(st.sampled_from([source, source, "float32"]))
    image = (RNG.random(shape) * 200).astype(source)
    border = st.sampled_from(list(BORDERS))
    bands = {}
    for k, side in enumerate(sides):
        taps = draw(st.sampled_from([1, 2, 5, 17, 40]))
        bands[len(batch) + k] = band_of(side, stride, taps, draw(border), draw(st.integers(0, 2)))
    out = np.empty([bands[a].size if a in bands else n for a, n in enumerate(shape)], target)
    return image, bands, out, draw(st.sampled_from([0.0, 3.5]))


def check_sweep(problem: Any) -> None:
    image, bands, out, cval = problem
    order = pass_order(bands)
    assert len(order) < 2 or order == sorted(order)
    run_bands(image, bands, out, cval=cval, threads=2)
    np.testing.assert_array_equal(out, in_passes(image, bands, np.empty_like(out), cval))
    wanted = by_matrices(image, bands, cval)
    if out.dtype.kind == "f":
        scale = 200.0 * np.prod([np.abs(b.weights).sum(axis=1).max() for b in bands.values()])
        np.testing.assert_allclose(out, wanted, rtol=0, atol=1e-6 * scale)
    else:
        limits = np.iinfo(out.dtype)
        wanted = np.clip(wanted, limits.min, limits.max)
        assert np.abs(out - wanted).max() <= 0.5 + 1e-3


@settings(max_examples=20)
@given(problems())
def test_a_sweep_equals_passes_and_matrices(problem: Any) -> None:
    check_sweep(problem)


@pytest.mark.long
@given(problems())
def test_many_sweeps_equal_passes_and_matrices(problem: Any) -> None:
    check_sweep(problem)


def test_what_a_sweep_takes() -> None:
    border = next(iter(BORDERS))
    halves = band_of(40, 2, 5, border)
    assert decimates({0: halves, 1: halves}, [0, 1], (40, 40))
    assert decimates({0: halves, 1: halves}, [0, 1], (40, 40, 4))
    assert not decimates({0: halves, 1: halves}, [0, 1], (40, 40, 5))
    assert not decimates({0: halves, 1: halves}, [1, 0], (40, 40))
    thirds = resample.resize(np.eye(10), (7, 7))  # places of all fractions: passes
    assert thirds.shape == (7, 7)
    uneven = Band(np.array([0, 1, 3]), np.ones((3, 2)), np.arange(5), 5)
    assert uneven.stride == 0
    assert not decimates({0: uneven, 1: uneven}, [0, 1], (5, 5))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_means_of_blocks(dtype: str, factor: int) -> None:
    image = (RNG.random((factor * 13, factor * 40)) * 250).astype(dtype)
    blocks = image.reshape(13, factor, 40, factor).astype(float).mean(axis=(1, 3))
    found = resample.downsample(image, factor)
    assert found.dtype == image.dtype
    if image.dtype.kind == "u" and factor != 3:
        np.testing.assert_array_equal(found, np.rint(blocks))
    else:
        np.testing.assert_allclose(found, blocks, atol=0.5 if image.dtype.kind == "u" else 1e-4)


def test_values_beside_an_odd_edge_stay_finite_or_infinite() -> None:
    image = np.ones((5, 5), np.float32)
    image[:, 4] = np.inf
    found = resample.downsample(image)
    assert np.isinf(found[:, 2]).all()
    assert (found[:, :2] == 1).all()


def test_nan_stays_within_the_kernel() -> None:
    image = np.ones((64, 200), np.float32)
    image[31, 101] = np.nan
    found = sep.convolve(image, sep.kernels.binomial(5, ndim=2), stride=2)
    rows, columns = np.nonzero(np.isnan(found))
    assert set(rows) == {15, 16}
    assert set(columns) == {50, 51}
