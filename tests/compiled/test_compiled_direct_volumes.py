"""Direct correlation with dense kernels over three axes against the definition."""

import numpy as np
import pytest
import scipy.ndimage
from compiled_oracle import MODES, awkward, border, correlate_dense, rounded, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compiled_memory import Guarded

import separable as sep
from separable.engine.compiled import tiling
from separable.testing import with_each_method

pytestmark = pytest.mark.widths

HOW = ["plain", "offset", "fortran", "reversed", "strided", "padded"]
LIMITS = {"float32": 1e-6, "float64": 1e-13}


def reference(image, kernel, axes, borders, cval):
    x = np.moveaxis(image.astype(float), axes, (0, 1, 2))
    padded = x[np.ix_(*(np.maximum(b, 0) for b in borders))]
    for axis, b in enumerate(borders):
        np.moveaxis(padded, axis, 0)[b < 0] = cval
    n, m, p = x.shape[:3]
    total = sum(
        k * padded[a : a + n, b : b + m, c : c + p] for (a, b, c), k in np.ndenumerate(kernel)
    )
    return np.moveaxis(total, (0, 1, 2), axes)


def check(image, kernel, axes, lefts, mode, cval, work, threads=1, out=None):
    borders = [
        border(image.shape[a], k, left, mode)
        for a, k, left in zip(axes, kernel.shape, lefts, strict=True)
    ]
    out = np.full(image.shape, np.nan, work) if out is None else out
    correlate_dense(image, out, kernel, axes, lefts, borders, cval, work, threads)
    expected = reference(image, kernel, axes, borders, cval)
    most = max(np.abs(image.astype(float)).max(), abs(cval)) * np.abs(kernel).sum()
    if out.dtype.kind in "iu":
        assert np.abs(out - rounded(expected, out.dtype).astype(float)).max() <= 1
    else:
        assert np.abs(out - expected).max() <= LIMITS[work] * most
    return out


@pytest.mark.parametrize("work", ["float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("taps", [(1, 1, 1), (3, 3, 3), (2, 3, 4), (5, 1, 2), (1, 4, 5), (7, 7, 7)])
def test_kernels(taps, mode, work):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=taps)
    for shape in ((1, 1, 1), (2, 5, 3), (9, 20, 70), (4, 70, 150)):
        image = rng.normal(size=shape).astype(work)
        check(image, kernel, (0, 1, 2), tuple(n // 2 for n in taps), mode, 1.5, work)
        check(image, kernel, (0, 1, 2), (0, taps[1] - 1, taps[2] // 2), mode, 1.5, work, 2)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("how_out", HOW)
def test_layouts(how, how_out):
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(3, 2, 5))
    for shape, axes in (
        ((7, 17, 33), (0, 1, 2)),
        ((6, 10, 14, 3), (0, 1, 2)),
        ((3, 6, 10, 14), (1, 2, 3)),
        ((5, 4, 9, 20), (0, 2, 3)),
        ((5, 6, 7, 40), (0, 1, 2)),
    ):
        image = awkward(rng.normal(size=shape), how)
        out = awkward(np.full(shape, np.nan), how_out)
        check(image, kernel, axes, (1, 0, 2), "mirror", 0, "float64", 2, out)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int64"])
def test_dtypes_and_bits(monkeypatch, dtype):
    rng = np.random.default_rng(2)
    kernel = rng.random((3, 5, 5)) / 75
    image = samples(rng, (12, 90, 200), dtype)
    work = "float64" if dtype == "int64" else "float32"
    if dtype == "int64":
        image >>= 20
    args = ((0, 1, 2), (1, 2, 2), "reflect", 0, work)
    first = check(image, kernel, *args, 1, np.zeros_like(image))
    for threads, band, tile in ((2, 16, 32), (3, 64, 256), (8, 32, 64)):
        monkeypatch.setattr(tiling, "PLANE_ROWS", band)
        monkeypatch.setattr(tiling, "TILE_COLUMNS", tile)
        again = check(image, kernel, *args, threads, np.zeros_like(image))
        assert np.array_equal(first, again)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 9, 16), (3, 33, 130), (4, 5, 6, 3)])
def test_nothing_outside_the_arrays_is_read(shape, at_end):
    image, out = (Guarded(shape, "float32", at_end).array for _ in range(2))
    image[...] = np.random.default_rng(6).normal(size=shape)
    kernel = np.ones((3, 4, 7))
    for mode in MODES:
        borders = [border(n, k, k // 2, mode) for n, k in zip(shape[:3], kernel.shape, strict=True)]
        correlate_dense(image, out, kernel, (0, 1, 2), (1, 2, 3), borders, 1.0, threads=2)
    del image, out


def test_a_sample_that_is_not_finite_stays_within_the_kernel():
    image = np.random.default_rng(3).normal(size=(20, 30, 40)).astype("f4")
    kernel = np.random.default_rng(4).normal(size=(3, 5, 3))
    image[10, 15, 20] = np.nan
    found = sep.correlate(image, kernel, method="dense")
    assert np.isnan(found).sum() == 45
    assert np.isnan(found[9:12, 13:18, 19:22]).all()


def test_the_planner_chooses_dense_kernels_of_full_rank():
    rng = np.random.default_rng(5)
    for size in (3, 5, 7):
        plan = sep.plan(rng.normal(size=(size,) * 3), (64, 128, 128), "float32")
        assert plan.chosen.method == "dense"
    assert sep.plan(np.ones((9, 9, 9)), (64, 128, 128), "float32").chosen.method != "dense"


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.sampled_from(MODES),
    st.sampled_from(["float32", "float64", "uint8"]),
)
def test_every_method_agrees_with_scipy(shape, taps, mode, dtype):
    rng = np.random.default_rng(sum(shape) + sum(taps))
    image, kernel = samples(rng, shape, dtype), rng.normal(size=taps)
    exact = scipy.ndimage.correlate(image.astype("f8"), kernel, mode=mode, cval=2)
    limit = 1e-6 if dtype == "float32" else 1e-12
    most = max(2, np.abs(image.astype("f8")).max()) * np.abs(kernel).sum()
    options = {"mode": mode, "cval": 2}
    plan = sep.plan(kernel, shape, dtype, **options)
    for method, got in with_each_method(
        lambda m: sep.correlate(image, kernel, method=m, **options), plan
    ):
        if dtype == "uint8":
            assert np.abs(got - rounded(exact, dtype).astype(float)).max() <= 1, method
        else:
            assert np.abs(got - exact).max() <= limit * most, method
