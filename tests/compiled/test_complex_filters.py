"""Complex images and kernels run compiled: as pairs of real numbers, by real and imaginary weights."""

import numpy as np
import pytest
import scipy.ndimage
from compiled_oracle import MODES, awkward
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sep
from separable import ndimage
from separable.testing import assert_same_filter, with_each_method
from separable.volumes.halo import block_filter

RNG = np.random.default_rng(15)


def complex_samples(shape, dtype="complex128"):
    return (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(dtype)


def _range(dtype):
    return (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else ()


KERNELS = {
    "real": np.outer([1.0, 2.0, 3.0], [1.0, -1.0, 2.0, 4.0]),
    "complex product": np.multiply.outer(complex_samples(5), complex_samples(4)),
    "real times complex": np.multiply.outer([1.0, 2.0, 3.0], complex_samples(4)),
    "complex, full rank": complex_samples((3, 4)),
    "imaginary": 1j * np.outer([1.0, 2.0, 1.0], [1.0, 0.0, -1.0]),
    "imaginary box": 1j * np.ones((3, 5)),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("kind", "cval"),
    [
        ("complex64", 1.5 - 0.5j),
        ("complex128", 1.5 - 0.5j),
        ("complex128", 1 + 1j),
        ("complex128", 2.0),
        ("float32", 2.0),
        ("uint8", 2.0),
        ("int64", 0.0),
    ],
)
def test_every_method_gives_the_same(name, kind, cval):
    kernel = KERNELS[name]
    image = (RNG.random((19, 37)) * 100).astype(kind)
    if image.dtype.kind == "c":
        image = complex_samples(image.shape, kind)
    limit = 2e-6 if kind in ("complex64", "float32", "uint8") else 2e-13
    for mode in ("constant", "mirror"):
        options = {"mode": mode, "cval": cval}
        exact = sep.correlate(image.astype("c16"), kernel, method="reference", **options)
        plan = sep.plan(kernel, image.shape, kind, operation="correlate", **options)
        ran = []
        for method, got in with_each_method(
            lambda m, o=options: sep.correlate(image, kernel, method=m, **o), plan
        ):
            ran.append(method)
            assert got.dtype.kind == ("c" if "c" in kind + kernel.dtype.kind else image.dtype.kind)
            if got.dtype.kind in "iu":  # rounded, and saturated
                exact = np.clip(np.rint(exact.real), *_range(got.dtype))
            assert_same_filter(got, exact, [np.abs(image).max() + abs(cval)], kernel, limit)
        assert {"fused", "nested", "dense", "passes"} <= set(ran)


@pytest.mark.parametrize("how", ["fortran", "reversed", "reversed rows", "strided", "padded"])
@pytest.mark.parametrize("name", ["real", "complex product", "complex, full rank"])
@pytest.mark.parametrize("shape", [(20, 33), (5, 6, 40), (40, 9, 2)])
def test_layouts(how, name, shape):
    image, kernel = complex_samples(shape), KERNELS[name]
    axes = (0, 1)
    expected = sep.correlate(image, kernel, axes=axes, method="reference")
    out = np.full(shape, np.nan + 0j)
    for method in ("fused", "dense", "nested"):
        result = sep.correlate(awkward(image, how), kernel, axes=axes, method=method, output=out)
        assert result is out
        np.testing.assert_allclose(out, expected, atol=1e-12)
    strided = np.zeros((*shape[:-1], 2 * shape[-1]), complex)
    sep.correlate(image, kernel, axes=axes, method="fused", output=strided[..., ::2])
    np.testing.assert_allclose(strided[..., ::2], expected, atol=1e-12)
    assert not strided[..., 1::2].any()


@pytest.mark.parametrize("kind", ["complex64", "complex128"])
def test_a_real_kernel_filters_both_parts_as_real_images(kind):
    image = complex_samples((300, 400), kind)
    for filtered in (
        lambda x: ndimage.gaussian_filter(x, 2),
        lambda x: ndimage.uniform_filter(x, 9),
        lambda x: ndimage.sobel(x),
        lambda x: ndimage.gaussian_filter1d(x, 3, axis=0),
        lambda x: ndimage.gaussian_filter1d(x, 3, axis=1),
    ):
        both = filtered(image)
        assert both.dtype == image.dtype
        # The fastest method of one part may be another one than that of both.
        close = {"rtol": 0, "atol": 2e-6 if kind == "complex64" else 1e-14}
        for whole, part in ((both.real, image.real), (both.imag, image.imag)):
            alone = filtered(np.ascontiguousarray(part))
            np.testing.assert_allclose(whole, alone, **close)


def test_the_planner_chooses_compiled_methods():
    for kernel in KERNELS.values():
        for kind in ("complex64", "complex128"):
            plan = sep.plan(kernel, (500, 500), kind)
            assert plan.chosen.method in ("fused", "nested", "dense", "box")
    line = ndimage.gaussian_filter(complex_samples(1 << 17), 5.0)
    assert line.dtype == np.complex128


def test_a_complex_constant_outside_a_real_image_is_refused_with_a_reason():
    options = {"mode": "constant", "cval": 1 + 2j, "output": "complex128"}
    plan = sep.plan(KERNELS["complex product"], (20, 30), "float64", **options)
    assert "the constant outside a real image is complex" in str(plan)
    image = RNG.random((20, 30))
    found = sep.convolve(image, KERNELS["complex product"], **options)
    exact = sep.convolve(
        image.astype(complex), KERNELS["complex product"], method="reference", **options
    )
    np.testing.assert_allclose(found, exact, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", [1.0, 1j])
def test_samples_that_are_not_finite_spread_as_in_scipy(value, part):
    image = complex_samples((24, 40))
    image[11, 20] = complex(value, 1.0) if part == 1.0 else complex(1.0, value)
    for kernel in (KERNELS["real"], complex_samples((3, 3))):
        ours = sep.correlate(image, kernel, method="dense")
        theirs = scipy.ndimage.correlate(image, np.conj(kernel), mode="reflect")
        for a, b in ((ours.real, theirs.real), (ours.imag, theirs.imag)):
            np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
            np.testing.assert_allclose(a[np.isfinite(a)], b[np.isfinite(b)], atol=1e-12)
    ours, theirs = (m.gaussian_filter(image, 1) for m in (ndimage, scipy.ndimage))
    np.testing.assert_array_equal(np.isnan(ours.real), np.isnan(theirs.real))
    np.testing.assert_array_equal(np.isnan(ours.imag), np.isnan(theirs.imag))


@pytest.mark.parametrize("name", ["real", "complex product", "complex, full rank"])
def test_threads_and_blocks_give_the_same_bits(name):
    for shape in ((300, 41), (60, 41, 20)):
        image = complex_samples(shape, "complex64")
        for method in ("fused", "nested", "dense"):
            plan = sep.plan(KERNELS[name], shape, image.dtype, axes=(0, 1), method=method)
            whole = plan(image)
            for threads in (1, 2, 3, 8):
                again = sep.convolve(
                    image, KERNELS[name], axes=(0, 1), method=method, threads=threads
                )
                np.testing.assert_array_equal(again, whole)
            own = block_filter(plan)
            for part in (np.s_[10:13, 5:9], np.s_[0:7, 30:41]):
                region = (*part, slice(5, 12))[: len(shape)]
                block = own.block(region)
                inner = tuple(map(slice, block.starts, block.stops))
                np.testing.assert_array_equal(own.run(image[inner], block), whole[region])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from(["complex64", "complex128"]),
    st.sampled_from(MODES),
    st.booleans(),
)
def test_any_shape_agrees_with_scipy(shape, kind, mode, real):
    image = complex_samples(tuple(shape), kind)
    weights = complex_samples((3,) * len(shape))
    weights = weights.real.copy() if real else weights
    theirs = scipy.ndimage.correlate(image.astype("c16"), weights, mode=mode, cval=1 - 2j)
    ours = ndimage.correlate(image, weights, mode=mode, cval=1 - 2j)
    limit = 1e-6 if kind == "complex64" else 1e-13
    assert_same_filter(ours, theirs, [np.abs(image).max() + 3], weights, 2 * limit)
