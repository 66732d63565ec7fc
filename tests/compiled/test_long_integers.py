"""64-bit integers run compiled, in float64: exact up to 2**53, and rounded and saturated once."""

import numpy as np
import pytest
from compiled_oracle import MODES, awkward

import separable as sep
from separable import ndimage
from separable.testing import with_each_method

RNG = np.random.default_rng(64)
KINDS = ("int64", "uint64")
WHOLE = np.outer([1.0, 2.0, 1.0], [1.0, 3.0, 0.0, 1.0])


def integers(shape, kind, bits):
    low = -(2**bits) if kind == "int64" else 0
    return RNG.integers(low, 2**bits, shape, dtype=kind, endpoint=True)


def exact(image, kernel, mode, kind):
    """Correlate with Python's integers, then saturate."""
    n, m = kernel.shape
    pads = ((n // 2, n - 1 - n // 2), (m // 2, m - 1 - m // 2))
    padded = np.pad(image.astype(object), pads, mode=mode)
    total = sum(
        int(k) * padded[i : i + image.shape[0], j : j + image.shape[1]]
        for (i, j), k in np.ndenumerate(kernel)
    )
    info = np.iinfo(kind)
    return np.vectorize(lambda v: min(max(v, info.min), info.max), otypes=[kind])(total)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["plain", "fortran", "strided", "offset"])
def test_sums_within_53_bits_are_exact(kind, how):
    image = integers((45, 70), kind, 47)
    for mode, other in (("reflect", "symmetric"), ("nearest", "edge"), ("wrap", "wrap")):
        expected = exact(image, WHOLE, other, kind)
        plan = sep.plan(WHOLE, image.shape, kind, operation="correlate", mode=mode)
        assert plan.chosen.method in ("fused", "dense")
        for method in ("fused", "nested", "dense", "passes"):
            out = awkward(np.zeros(image.shape, kind), how)
            sep.correlate(awkward(image, how), WHOLE, mode=mode, method=method, output=out)
            np.testing.assert_array_equal(out, expected, err_msg=f"{method} {mode}")


@pytest.mark.parametrize("kind", KINDS)
def test_results_saturate_and_large_samples_are_rounded_as_by_every_method(kind):
    image = _any(kind)
    info = np.iinfo(kind)
    kernel = np.full((3, 3), 1.0)
    expected = exact(image, kernel, "symmetric", kind)
    plan = sep.plan(kernel, image.shape, kind)
    for method, got in with_each_method(lambda m: sep.convolve(image, kernel, method=m), plan):
        difference = np.abs(got.astype(object) - expected.astype(object)).max()
        assert difference <= 2.0**-48 * 9 * 2.0**64, method
        ends = (expected == info.max) & (exact(image // 2, kernel, "symmetric", kind) == info.max)
        assert np.all(got[ends] == info.max), method
    assert (expected == info.max).any()


def _any(kind):
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max, (40, 50), dtype=kind, endpoint=True)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_modes_and_output_types(kind):
    image = integers((90, 130), kind, 40)
    for mode in MODES:
        for output in (kind, "float64", "float32", "uint8", "int32"):
            first = ndimage.gaussian_filter(image, 1.5, output=output, mode=mode, cval=3.0)
            double = ndimage.gaussian_filter(image.astype("f8"), 1.5, mode=mode, cval=3.0)
            kind_out = np.dtype(output)
            if kind_out.kind in "iu":
                info = np.iinfo(kind_out)
                double = np.clip(np.rint(double), float(info.min), float(info.max))
            np.testing.assert_allclose(
                first.astype("f8"), double, rtol=1e-6 if output == "float32" else 1e-14, atol=1
            )
    kernel = np.ones((3, 5)) / 15
    one = sep.convolve(image, kernel, threads=1)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(sep.convolve(image, kernel, threads=threads), one)


@pytest.mark.parametrize("kind", ["bool", "float32", "uint8", "float64"])
def test_results_of_type_bool_are_stored_by_the_compiled_engine(kind):
    image = (RNG.random((50, 60)) * 3).astype(kind)
    for kernel in (np.ones((3, 3)) / 9, -np.ones((3, 3)), np.ones((3, 3)) * 5, WHOLE - 2):
        exact_values = sep.correlate(image.astype("f8"), kernel, method="reference")
        plan = sep.plan(kernel, image.shape, kind, output=bool, operation="correlate")
        for method, got in with_each_method(
            lambda m, k=kernel: sep.correlate(image, k, output=bool, method=m), plan
        ):
            assert got.dtype == bool
            assert got.view(np.uint8).max() <= 1, method
            clear = np.abs(exact_values - 0.5) > 1e-5
            np.testing.assert_array_equal(got[clear], exact_values[clear] > 0.5, err_msg=method)
