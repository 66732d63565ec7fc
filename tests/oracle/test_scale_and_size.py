"""Neither the size of a kernel nor its scale changes how exact a filter is.

Float32 results of every method that is exact are within 1e-6 of the float64 result, relative to
``sum|kernel| * max|input|``, and within the bound that the plan prints. A kernel times 2**k gives
the result times 2**k, for every k for which the kernel is finite.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sep
from separable import ndimage
from separable.engine import METHODS
from separable.engine.lazy_kernel import Kernel, ldexp
from separable.volumes import chunkwise
from separable.volumes.halo import block_filter

pytestmark = pytest.mark.apart

RNG = np.random.default_rng(7)
PROMISE = 1e-6


FLAT = (0.1, 1.2567)
MANY_FLAT = (0.1, 0.7, 0.9, 1.3, 1.2567)


def _images(shape, flat=FLAT):
    """Images on which roundings of a sum have one sign, and on which they have not."""
    yield RNG.normal(size=shape)
    yield RNG.random(shape)
    yield np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    for value in flat:
        yield np.full(shape, value)


def _flat(*shape):
    return np.full(shape, 1 / np.prod(shape))


# What is summed: flat kernels round worst, for equal products round alike.
LONG = {
    "flat 9": _flat(9, 9),
    "flat 31": _flat(31, 31),
    "flat 64": _flat(64, 64),
    "noise 31": RNG.normal(size=(31, 31)),
    "noise 25x11": RNG.random((25, 11)),
    "rank 3": RNG.normal(size=(31, 3)) @ RNG.normal(size=(3, 31)),
    "rank 9": np.abs(RNG.normal(size=(17, 9))) @ np.abs(RNG.normal(size=(9, 17))),
    "line 17": _flat(17),
    "line 129": _flat(129),
    "line 3001": _flat(3001),
    "slope 501": RNG.random(501),
    "odd 201": np.linspace(-1, 1, 201),
    "gaussian 100": sep.kernels.gaussian1d(100),
    "flat 3-D": _flat(33, 33, 33),
    "noise 3-D": RNG.normal(size=(5, 5, 5)),
    "log 3-D": sep.kernels.laplacian_of_gaussian(1, ndim=3).dense(),
    "noise 4-D": RNG.normal(size=(3, 3, 3, 3)),
}
SHAPES = {1: (12_000,), 2: (80, 90), 3: (34, 36, 35), 4: (8, 9, 12, 15)}


def check_number_of_taps(name, flat):
    kernel = LONG[name]
    shape = SHAPES[kernel.ndim]
    plan = sep.plan(kernel, shape, "float32")
    exact = sep.plan(kernel, shape, "float64", method="fft")
    ran = set()
    for values in _images(shape, flat):
        image = values.astype(np.float32)
        wanted = exact(image.astype(np.float64))
        largest = np.sum(np.abs(kernel)) * np.max(np.abs(image))
        for c in plan.candidates:
            if c.refused:
                continue
            error = np.max(np.abs(replace(plan, chosen=c)(image) - wanted)) / largest
            assert error <= PROMISE, (c.name, c.method)
            assert error <= c.bound, (c.name, c.method)
            ran.add(c.method)
    assert len(ran) >= 3


@pytest.mark.parametrize("name", LONG)
def test_float32_results_do_not_depend_on_the_number_of_taps(name):
    check_number_of_taps(name, FLAT)


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_nor_on_the_values_of_flat_images(name):
    check_number_of_taps(name, MANY_FLAT)


def test_every_method_has_a_long_sum():
    listed = set()
    for kernel in LONG.values():
        plan = sep.plan(kernel, SHAPES[kernel.ndim], "float32")
        listed |= {c.method for c in plan.candidates if not c.refused}
    # recursions are not exact, SciPy's passes and the reference run only when asked for
    others = {"recursive", "passes", "reference"}
    assert listed >= {m.name for m in METHODS.values() if not m.unavailable()} - others


@pytest.mark.parametrize("method", ["passes", "correlate", "reference"])
def test_methods_that_have_to_be_asked_for(method):
    kernel = LONG["flat 31"]
    for values in _images(SHAPES[2]):
        image = values.astype(np.float32)
        plan = sep.plan(kernel, image.shape, "float32", method=method)
        wanted = sep.plan(kernel, image.shape, method="fft")(image.astype(np.float64))
        error = np.max(np.abs(plan(image) - wanted)) / np.max(np.abs(image))
        assert error <= min(PROMISE, plan.bound)


@pytest.mark.compiled
@pytest.mark.parametrize("sigma", [2, 30, 400])
def test_recursions_in_single_precision(sigma):
    taps = sep.kernels.gaussian1d(sigma)
    for values in _images((20_000,)):
        image = values.astype(np.float32)
        results = []
        for dtype in ("float32", "float64"):
            plan = sep.plan(taps, image.shape, dtype, tol=1e-2)
            (own,) = (c for c in plan.candidates if c.method == "recursive")
            results.append(replace(plan, chosen=own)(image.astype(dtype)))
            if dtype == "float32":
                rounding = own.bound - own.form.bound
        assert np.max(np.abs(results[0] - results[1])) <= rounding * np.max(np.abs(image))


def test_long_sums_of_banks_and_masks():
    kernels = {
        "flat": LONG["flat 31"],
        "bell": sep.kernels.gaussian(12).dense(),
        "rank": LONG["rank 9"],
    }
    for values in _images((90, 80)):
        image = values.astype(np.float32)
        wide = image.astype(np.float64)
        bands = sep.bank(kernels, image.shape, "float32")(image)
        for band, kernel in zip(bands, kernels.values(), strict=True):
            limit = PROMISE * np.sum(np.abs(kernel)) * np.max(np.abs(image))
            wanted = sep.plan(kernel, image.shape, method="fft")(wide)
            assert np.max(np.abs(band - wanted)) <= limit
        masked = sep.convolve(image, kernels["flat"], mask=np.ones(image.shape, bool))
        exact = sep.convolve(wide, kernels["flat"], mask=np.ones(image.shape, bool))
        assert np.max(np.abs(masked - exact)) <= 2 * PROMISE * np.max(np.abs(image))


# --- scale ------------------------------------------------------------------------------------------

KERNELS = {
    "separable": np.outer([1, 2, 1.0], [1, 3, 1, 0, 1]) / 30,
    "box": np.full((5, 7), 1 / 35),
    "bell": sep.kernels.gaussian(1.8, truncate=4.5).dense(),
    "noise": RNG.normal(size=(5, 4)),
    "rank 2": RNG.normal(size=(5, 2)) @ RNG.normal(size=(2, 6)),
    "line": RNG.normal(size=9),
    "box line": np.full(9, 1 / 9),
    "volume": RNG.normal(size=(3, 4, 3)),
    "complex": RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4)),
}
# Kernels whose weights are subnormal, too small for float32, small, large, and too large for float32.
EXPONENTS = (-1074, -340, 60, 1000)
ALL_EXPONENTS = (-1074, -1030, -700, -340, -140, -60, 60, 120, 340, 700, 1000)
TYPES = ["float32", "float64", "uint8", "int16", "complex64"]


def _reference(kernel, image, axes, exponent):
    """The result divided by 2**exponent, in double precision."""
    kind = np.complex128 if "c" in (image.dtype.kind, kernel.dtype.kind) else np.float64
    plan = sep.plan(kernel, image.shape, kind, axes=axes, method="reference")
    return plan(image.astype(kind))


def _agrees(got, wanted, exponent, out, limit):
    """Check that a result is ``wanted * 2**exponent`` in the type `out`, within `limit` before scaling."""
    if out.kind in "iu":
        info = np.iinfo(out)
        with np.errstate(over="ignore"):
            low, high = (ldexp(wanted + d, exponent) for d in (-limit, limit))
        low, high = (np.clip(np.rint(v), info.min, info.max) for v in (low, high))
        return bool(np.all((got >= low) & (got <= high)))
    # What the type cannot hold is infinite, and only that.
    real = got.real.dtype
    largest = np.finfo(real).max
    with np.errstate(over="ignore"):
        size = np.maximum(
            np.abs(ldexp(wanted, exponent).real), np.abs(ldexp(wanted, exponent).imag)
        )
    if np.isnan(got).any() or not np.isinf(got[size > 1.01 * float(largest)]).all():
        return False
    inside = size < 0.99 * float(largest)
    with np.errstate(over="ignore"):
        least = float(np.ldexp(float(np.finfo(real).smallest_subnormal), -exponent))
    wide = got.astype(np.complex128 if got.dtype.kind == "c" else np.float64)
    difference = np.abs(ldexp(wide, -exponent) - wanted)
    return bool(np.all(difference[inside] <= limit + least))


def _normal(kernel, exponent):
    """The kernel times 2**exponent as float64 has it, and the one it stands for at scale one."""
    scaled = ldexp(kernel, exponent)
    return scaled, ldexp(scaled, -exponent)


def check_every_method(name, dtype, exponents):
    kernel = KERNELS[name]
    axes = (2, 0, 1)[: kernel.ndim]
    image = (RNG.random((13, 15, 14)) * 200).astype(dtype)
    image = image * np.complex64(1 + 0.5j) if dtype == "complex64" else image
    outs = (dtype,) if "complex64" in (dtype, str(image.dtype)) else (dtype, "float64", "int16")
    for exponent in exponents if kernel.ndim < 3 else exponents[1::4]:
        scaled, normal = _normal(kernel, exponent)
        if not normal.any():
            continue
        wanted = _reference(normal, image, axes, exponent)
        largest = np.sum(np.abs(normal)) * np.max(np.abs(image))
        for output in outs:
            out = np.dtype(output)
            if kernel.dtype.kind == "c":
                out = np.promote_types(out, np.complex64)
            plan = sep.plan(scaled, image.shape, dtype, axes=axes, output=out, tol=1e-3)
            for c in plan.candidates:
                if not c.refused:
                    got = replace(plan, chosen=c)(image)
                    limit = (c.bound + PROMISE) * largest
                    assert _agrees(got, wanted, exponent, out, limit), (exponent, output, c.name)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_method_at_every_kind_of_scale(name, dtype):
    check_every_method(name, dtype, EXPONENTS)


@pytest.mark.long
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("dtype", TYPES)
def test_every_method_at_every_scale(name, dtype):
    check_every_method(name, dtype, ALL_EXPONENTS)


def test_kernels_a_power_of_two_apart_give_the_same_bits():
    image = RNG.normal(size=(40, 41)).astype(np.float32)
    for name in ("separable", "box", "bell", "noise", "rank 2"):
        results = []
        for exponent in (-100, 60, 90):
            plan = sep.plan(KERNELS[name] * 2.0**exponent, image.shape, "float32", tol=1e-3)
            assert plan.problem.exponent
            ran = [replace(plan, chosen=c)(image) for c in plan.candidates if not c.refused]
            results.append([np.ldexp(r, -exponent) for r in ran])
        for one, two, three in zip(*results, strict=True):
            np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(two, three)


@given(
    st.lists(st.integers(-900, 900), min_size=2, max_size=2), st.integers(-300, 300),
    st.sampled_from(["float32", "float64", "uint8"]), st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=40, deadline=None, derandomize=True)
def test_factors_of_any_scale(between, whole, dtype, seed):
    # The scales of the vectors differ by far more than that of their products.
    rng = np.random.default_rng(seed)
    vectors = [[rng.normal(size=5), rng.normal(size=4), rng.normal(size=3)] for _ in range(2)]
    plain = sep.Factors.from_terms("zyx -> z,y,x", vectors)
    shifts = (between[0], between[1] // 3, whole - between[0] - between[1] // 3)
    far = max(map(abs, shifts))
    if far > 1000:
        return
    moved = [[np.ldexp(v, s) for v, s in zip(t, shifts, strict=True)] for t in vectors]
    factors = sep.Factors.from_terms("zyx -> z,y,x", moved)
    image = (rng.random((9, 10, 11)) * 200).astype(dtype)
    wanted = _reference(plain.dense(), image, (0, 1, 2), whole)
    plan = sep.plan(factors, image.shape, dtype)
    limit = (plan.bound + PROMISE) * np.sum(np.abs(plain.dense())) * np.max(np.abs(image))
    assert _agrees(plan(image), wanted, whole, np.dtype(dtype), limit)


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 1000])
def test_scale_in_ndimage_banks_masks_blocks_and_tensors(exponent):
    torch = pytest.importorskip("torch")
    kernel, line = KERNELS["rank 2"], KERNELS["line"]
    scaled, normal = _normal(kernel, exponent)
    image = RNG.normal(size=(30, 33))
    wanted = _reference(normal, image, (0, 1), exponent)
    limit = 1e-12 * np.sum(np.abs(normal)) * np.max(np.abs(image))

    def same(got):
        assert _agrees(np.asarray(got), wanted, exponent, np.dtype(np.float64), limit)

    same(ndimage.convolve(image, scaled))
    same(ndimage.correlate(image, np.flip(scaled), origin=(0, -1)))
    same(sep.bank({"a": scaled, "b": kernel}, image.shape)(image)[0])
    same(sep.convolve(image, scaled, mask=np.ones(image.shape, bool)))
    same(sep.convolve(torch.from_numpy(image), scaled).numpy())
    same(sep.convolve(torch.from_numpy(image).requires_grad_(True), scaled).detach().numpy())
    plan = chunkwise(sep.plan(scaled, image.shape))
    whole = plan(image)
    same(whole)
    own = block_filter(plan)
    region = (slice(7, 20), slice(3, 33))
    block = own.block(region)
    samples = image[tuple(slice(a, b) for a, b in zip(block.starts, block.stops, strict=True))]
    np.testing.assert_array_equal(own.run(samples, block), whole[region])
    along = ndimage.correlate1d(image, np.ldexp(line, exponent), 0)
    assert np.isfinite(along).all()
    assert np.max(np.abs(along)) > 0


def test_large_and_small_samples():
    # Products with weights that are scaled for SciPy, and transforms, stay within the range.
    kernels = (
        sep.kernels.gaussian(0.5, ndim=3, truncate=6).dense(), RNG.normal(size=(5, 4, 3)) / 60,
        _flat(9, 9), np.outer([1e-18, 1, 2e-18], [1, 2, 1]), np.array([1, 3, 1 + 1e-16, 0, 1e-17]),
    )  # fmt: skip
    # Running sums and recursions add up many samples before they are scaled: docs/compatibility.md
    whole = {"box", "recursive"}
    for kernel in kernels:
        image = RNG.random((12,) * kernel.ndim) * 0.4
        wanted = _reference(kernel, image, tuple(range(kernel.ndim)), 0)
        for scale, dtype in (
            (1e288, "f8"),
            (1e307, "f8"),
            (1e-300, "f8"),
            (1e38, "f4"),
            (1e-30, "f4"),
        ):
            plan = sep.plan(kernel, image.shape, dtype)
            samples = (image * scale).astype(dtype)
            for c in plan.candidates:
                if c.refused or c.method in whole:
                    continue
                got = replace(plan, chosen=c)(samples).astype(float) / scale
                assert np.max(np.abs(got - wanted)) <= 2 * PROMISE * np.sum(np.abs(kernel))


def test_kernels_of_ordinary_scale_are_left_alone():
    for kernel in (
        *KERNELS.values(),
        np.array([[1, 2], [3, 4]]),
        np.zeros((3, 3)),
        np.ones(5) * 1e9,
    ):
        assert Kernel(kernel).normalised()[0].given is kernel
    factors = sep.kernels.gaussian(2)
    assert Kernel(factors).normalised()[0].given is factors
