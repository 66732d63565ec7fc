"""Planning: conclusions from a kernel, and what it does not read."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import separable as sep
from cpu_limit import cpu_limit, least_cpu_seconds
from separable import kernels, ndimage
from separable.engine.gaussian_fit import PART, Coefficients, fit, fit_within
from separable.engine.lazy_kernel import SMALL, Kernel
from separable.errors import ArgumentError, SeparableError
from separable.factorize import factorize, factorize_few
from separable.factorize.nested import TooManyTermsError, decompose
from separable.kernels.kernel_arguments import MOST_TAPS
from separable.pattern import filter_pattern

RNG = np.random.default_rng(5)


# --- recognition ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [5, 15, 25, 101, 4001])
@pytest.mark.parametrize("noise", [0.0, 1e-16, 1e-15, 1e-13, 1e-9])
def test_equal_taps_are_not_a_gaussian_whatever_their_noise(count, noise):
    half = 1 + noise * RNG.normal(size=count // 2 + 1)
    half[1:] -= noise * np.arange(1, len(half)) / len(half)  # so that they fall
    taps = np.concatenate([half[:0:-1], half]) / count
    assert fit(taps) is None


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("width", [0.3, 1.0, 2.0, 3.0, 1e3, 1e8])
def test_a_gaussian_is_recognised_where_its_taps_show_it(order, width):
    k = np.arange(-60, 61)
    taps = np.exp(-0.5 * (k / (60 * width)) ** 2) * (k if order else 1)
    found = fit(taps, 6)
    assert (found is not None) == (width < 0.5)


@pytest.mark.parametrize("shape", [(25, 25), (15, 25), (21, 21), (35, 35), (15, 15, 15), (27,) * 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32"])
@pytest.mark.parametrize("method", ["auto", "direct", "separable", "fft"])
def test_means_over_boxes_plan_at_once(shape, dtype, method):
    with cpu_limit(20):
        try:
            plan = sep.plan(
                np.full(shape, 1 / np.prod(shape)),
                (128,) * len(shape),
                dtype,
                tol=0.05,
                method=method,
            )
        except ArgumentError:
            return  # rounding makes some of them a sum of two terms
    assert "recursive" not in [c.name for c in plan.candidates]


def test_long_gaussians_are_fitted_in_parts_to_the_same_numbers(monkeypatch):
    taps = np.exp(-0.5 * (np.arange(-4000, 4001) / 900) ** 2)
    whole, error = fit_within(taps, 1e-2)
    monkeypatch.setattr("separable.engine.gaussian_fit.PART", 1 << 8)
    parts, again = fit_within(taps, 1e-2)
    assert error == pytest.approx(again, rel=1e-9)
    np.testing.assert_allclose(parts.factors, whole.factors, rtol=1e-7)
    assert isinstance(parts, Coefficients)
    assert PART < 1 << 20


def test_a_long_gaussian_takes_a_few_times_its_taps():
    taps = np.exp(-0.5 * (np.arange(-200_000, 200_001) / 6e4) ** 2)
    tracemalloc.start()
    try:
        assert fit_within(taps, 1e-2) is not None
        assert tracemalloc.get_traced_memory()[1] < 16 * taps.nbytes
    finally:
        tracemalloc.stop()


# --- factors are multiplied out when they are needed ------------------------------------------------


def _never(self):
    raise AssertionError("the kernel was multiplied out")


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "uint16", "complex64"])
@pytest.mark.parametrize("tol", [None, 1e-3])
def test_large_factors_are_planned_without_their_kernel(monkeypatch, dtype, tol):
    factors = kernels.gaussian(30, ndim=3)
    monkeypatch.setattr(sep.Factors, "dense", _never)
    tracemalloc.start()
    try:
        plan = sep.plan(factors, (64, 64, 64), dtype, tol=tol)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert plan.chosen.method in ("fused", "recursive", "passes")


def test_a_large_gaussian_in_three_dimensions_plans_in_milliseconds():
    factors = kernels.gaussian(30, ndim=3)
    assert least_cpu_seconds(lambda: sep.plan(factors, (128, 128, 128), "float32")) < 0.5


@pytest.mark.parametrize(
    "factors",
    [
        kernels.gaussian(9, ndim=3),
        kernels.laplacian_of_gaussian(6, ndim=3),
        kernels.gaussian(40, order=1),
        kernels.sharpen(40),
        sep.Factors.from_terms("yx -> y,x", [(np.zeros(300), np.ones(301))]),
        sep.Factors.from_terms("zyx -> zy,x", [(RNG.normal(size=(40, 41)), RNG.normal(size=50))]),
    ],
)
@pytest.mark.parametrize("operation", ["convolve", "correlate"])
def test_plans_of_large_factors_are_those_of_their_dense_kernel(factors, operation, monkeypatch):
    assert factors.rank == 0 or np.prod(factors.shape) > SMALL
    shape = (20,) * len(factors.shape)
    lazy = sep.plan(factors, shape, "float32", tol=0.01, operation=operation)
    monkeypatch.setattr("separable.engine.lazy_kernel.SMALL", 1 << 60)
    full = sep.plan(factors, shape, "float32", tol=0.01, operation=operation)
    for a, b in zip(lazy.candidates, full.candidates, strict=True):
        assert (a.name, a.method, a.rank, a.passes, a.refused) == (
            b.name, b.method, b.rank, b.passes, b.refused,
        )  # fmt: skip
        assert a.multiplications == b.multiplications
        assert a.bound == pytest.approx(b.bound, rel=1e-6)
    image = RNG.normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(lazy(image), full(image))


def test_norms_and_counts_of_factors_are_those_of_the_dense_kernel():
    for factors in (kernels.gaussian(9, ndim=3), kernels.laplacian_of_gaussian(6, ndim=3)):
        lazy, full = Kernel(factors), Kernel(factors.dense())
        assert lazy.is_product
        assert not full.is_product
        assert lazy.norm == pytest.approx(full.norm, rel=1e-12)
        assert lazy.nonzeros == full.nonzeros


# --- large kernels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 3, 20])
@pytest.mark.parametrize("kind", [float, complex])
def test_few_terms_are_as_exact_as_all(rank, kind):
    first, second = (RNG.normal(size=(n, rank)).astype(kind) for n in (150, 130))
    if kind is complex:
        first *= 1 + 0.5j
    kernel = first @ second.T
    few, whole = (f(kernel, "yx -> y,x") for f in (lambda k, p: factorize_few(k, p, 24), factorize))
    assert few.rank == whole.rank == rank
    assert few.error < 4e-15
    assert factorize_few(kernel, "yx -> y,x", rank - 1) is None if rank > 1 else True


def test_noise_has_not_few_terms():
    noise = RNG.normal(size=(90, 80))
    assert factorize_few(noise, "yx -> y,x", 20) is None
    leading = factorize_few(noise, "yx -> y,x", 20, tol=0.1)
    assert leading.rank == 20
    best = factorize(noise, "yx -> y,x", rank=20)
    assert leading.error < 1.05 * best.error
    with pytest.raises(TooManyTermsError):
        decompose(RNG.normal(size=(6, 7, 8)), 1e-12, 30)
    assert factorize_few(RNG.normal(size=(6, 7, 8)), filter_pattern(3), 30) is None
    assert factorize_few(np.ones((6, 7, 8)), filter_pattern(3), 30).rank == 1


LARGE = {
    "noise": lambda: RNG.normal(size=(1200, 900)),
    "rank 2": lambda: RNG.normal(size=(1200, 2)) @ RNG.normal(size=(2, 900)),
    "mean": lambda: np.full((1500, 1501), 1 / 1500 / 1501),
    "noise 3-D": lambda: RNG.normal(size=(41, 42, 43)),
    "mean 3-D": lambda: np.full((61, 62, 63), 1 / 61 / 62 / 63),
    "noise 4-D": lambda: RNG.normal(size=(14, 15, 15, 15)),
}


@pytest.mark.apart
@pytest.mark.parametrize("name", LARGE)
def test_large_kernels_plan_in_seconds(name):
    kernel = LARGE[name]()
    with cpu_limit(30):
        plan = sep.plan(kernel, (64,) * kernel.ndim, "float32", tol=0.05)
    named = {c.name: c for c in plan.candidates}
    if name.startswith("noise"):
        assert "that needs more than" in named["separable"].refused
        assert plan.chosen.name in ("fft", "overlap")
    elif name == "rank 2":
        assert named["low-rank"].rank == 2
        assert named["low-rank"].bound < 1e-5
    else:
        assert plan.chosen.rank in (1, 2)


def test_a_large_kernel_within_a_tolerance_keeps_a_few_terms():
    grid = np.hypot(*np.mgrid[-400:401, -400:401])
    bells = np.exp(-grid / 150)
    plan = sep.plan(bells, (64, 64), "float32", tol=0.02)
    truncated = next(c for c in plan.candidates if c.name == "truncated")
    assert not truncated.refused
    assert truncated.bound <= 0.02 + 1e-4
    image = RNG.normal(size=(64, 64)).astype(np.float32)
    wanted = sep.plan(bells, (64, 64), "float32", method="fft")(image)
    got = sep.plan(bells, (64, 64), "float32", tol=0.02, method="truncated")(image)
    assert np.max(np.abs(got - wanted)) <= 0.02 * bells.sum() * np.max(np.abs(image))


# --- lengths ----------------------------------------------------------------------------------------

LENGTHS = ("sigma", "truncate", "radius", "size", "spacing", "order", "origin")
FILTERS = {
    ndimage.gaussian_filter: {"sigma": 1.0},
    ndimage.gaussian_filter1d: {"sigma": 1.0},
    ndimage.gaussian_laplace: {"sigma": 1.0},
    ndimage.gaussian_gradient_magnitude: {"sigma": 1.0},
    ndimage.uniform_filter: {"size": 3},
    ndimage.uniform_filter1d: {"size": 3},
}
BAD = (np.nan, np.inf, -np.inf, 1e7, 1e300, 10**12, 10**400)


def _takes(function, name):
    import inspect

    given = inspect.signature(function).parameters
    open_ended = any(p.kind == p.VAR_KEYWORD for p in given.values())
    return name in given or (open_ended and name in ("truncate", "radius"))


@pytest.mark.parametrize(
    "value", BAD, ids=lambda v: str(v)[:6] if isinstance(v, float) else f"{v.bit_length()}b"
)
@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("function", FILTERS, ids=lambda f: f.__name__)
def test_lengths_that_make_no_kernel_are_refused_by_name(function, name, value):
    if not _takes(function, name):
        return
    if (
        name == "spacing"
        and value != 10**400
        and 1 < value < np.inf
        and "sigma" in FILTERS[function]
    ):
        return  # samples far apart: nothing to smooth, which is right
    with cpu_limit(10), pytest.raises(SeparableError) as caught:
        function(np.zeros((8, 9), np.float32), **{**FILTERS[function], name: value})
    other = "size" if name == "spacing" else name
    assert f"`{name}`" in str(caught.value) or f"`{other}`" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ndimage.gaussian_filter(x, 1, truncate=np.nan), "`truncate` must be finite; got nan"),
        (lambda x: ndimage.gaussian_filter(x, 1, truncate=np.inf), "`truncate` must be finite; got inf"),
        (
            lambda x: ndimage.gaussian_filter(x, 1e7),
            f"the kernel must have at most {MOST_TAPS} taps along each axis; got 80000000 from "
            "`sigma` 10000000.0, 1e+07 samples. Give a smaller one, or `radius`",
        ),
        (
            lambda x: ndimage.gaussian_filter1d(x, 2, truncate=1e7),
            f"the kernel must have at most {MOST_TAPS} taps along each axis; got 40000000 from "
            "`sigma` 2 and `truncate` 10000000.0, 2 samples. Give a smaller one, or `radius`",
        ),
        (
            lambda x: ndimage.gaussian_filter(x, 1, radius=10**7),
            f"the kernel must have at most {MOST_TAPS} taps along each axis; got 20000001 from "
            "`radius` 10000000",
        ),
        (lambda x: ndimage.uniform_filter(x, np.nan), "`size` must be finite; got nan"),
        (
            lambda x: ndimage.uniform_filter(x, 1e7),
            f"the kernel must have at most {MOST_TAPS} taps along each axis; got 10000000 from "
            "`size` 10000000.0",
        ),
        (lambda x: ndimage.gaussian_filter(x, 1, order=10**6), "`order` must be at most 1000; got 1000000"),
        (
            lambda x: ndimage.sobel(x, cval=10**400),
            "`cval` must be within the range of a float64; got an integer of 1329 bits",
        ),
        (
            lambda x: kernels.gaussian(2, truncate=1e7),
            f"`truncate` makes a kernel of 4e+07 samples along one axis, more than {MOST_TAPS}; "
            "got 10000000.0",
        ),
        (
            lambda x: kernels.binomial1d(10**6),
            "`size` makes a kernel of 1e+06, more than 65536 elements; got 1000000",
        ),
        (
            lambda x: kernels.motion(1e7),
            f"`length` makes a kernel of 1e+07 samples along one axis, more than {MOST_TAPS}; "
            "got 10000000.0",
        ),
    ],
)  # fmt: skip
def test_messages_name_what_was_given_and_how_large_it_is(call, message):
    with pytest.raises(ArgumentError) as caught:
        call(np.zeros((8, 9)))
    assert str(caught.value) == message


SPECS = (
    "gaussian:{}", "gaussian:2,truncate={}", "gaussian:2,radius={}", "gaussian:2,order={}", "box:{}",
    "binomial:{}", "disk:{}", "ball:{}", "gabor:{}", "gabor:4,sigma={}", "gabor:4,radius={}",
    "motion:{}", "pillbox:{}", "log:{}", "dog:{},9", "dog:1,{}", "sharpen:{}", "gaussian:{}mm",
    "box:{}mm",
)  # fmt: skip


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "1e7", "1e300", "1" + "0" * 400, "1" + "0" * 5000]
)
@pytest.mark.parametrize("spec", SPECS)
def test_texts_of_absurd_kernels_are_refused(spec, value):
    measured = {"spacing": 1.0, "unit": "mm"} if "mm" in spec else {}
    for ndim in (None, 1):
        with cpu_limit(10), pytest.raises(SeparableError):
            kernels.parse_spec(spec.format(value), ndim, **measured)
