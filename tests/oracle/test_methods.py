"""The choice of method changes the time, not the result."""

import numpy as np
import pytest
from exact import MODES, assert_close, image_of

import separable as sep
from separable.testing import methods_for

pytestmark = pytest.mark.apart

RNG = np.random.default_rng(4)
METHODS = (*methods_for(sep.plan(RNG.normal(size=(3, 4)), (6, 7))), "reference")
KERNELS = {
    "rank 1": np.outer([1.0, 2.0, 1.0], [-1.0, 0.0, 1.0, 2.0]),
    "rank 2": np.outer([1, 2, 1], [1, 0, 3]) + np.outer([0, 1, 5], [2, 1, 1]),
    "full rank": RNG.normal(size=(4, 5)),
    "one tap": np.array([[0.0, 0.0], [0.0, 3.0]]),
    "zeros": np.zeros((3, 2)),
    "larger than the image": RNG.normal(size=(15, 20)),
    "complex": RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4)),
    "complex rank 1": np.outer([1, 2j, 1 + 1j], [1j, 2]),
}


@pytest.mark.parametrize("operation", [sep.correlate, sep.convolve])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "complex128"])
def test_every_method_gives_the_same(kernel, dtype, operation):
    image = image_of(dtype, (11, 9))
    largest = max(1.0, np.abs(kernel).sum() * float(np.abs(image.astype(complex)).max()))
    exact_image = image.astype(complex if dtype == "complex128" else float)
    for mode, cval in [*((mode, 0.0) for mode in MODES[:5]), ("constant", 2.0), ("nearest", 2.0)]:
        options = {"mode": mode, "cval": cval}
        exact = operation(exact_image, kernel, method="reference", **options)
        plan = sep.plan(kernel, image.shape, dtype, operation=operation.__name__, **options)
        for method in methods_for(plan):
            result = operation(image, kernel, method=method, **options)
            kind = np.result_type(dtype, "complex64") if kernel.dtype.kind == "c" else dtype
            if dtype == "uint8" and kernel.dtype.kind == "c":
                kind = "complex64"
            assert_close(result, exact, 3 * largest, (mode, cval, method), kind)


@pytest.mark.parametrize("candidate", ["low-rank", "nested", "partial", "separable"])
def test_candidates_by_name(candidate):
    image = image_of("float64", (9, 8, 7))
    smooth, second = np.array([1.0, 2.0, 1.0]), np.array([1.0, -2.0, 1.0])
    kernels = {
        "low-rank": sum(_outer(*t) for t in ((second, smooth, smooth), (smooth, second, smooth))),
        "separable": _outer(smooth, second, [1, 2, 3]),
        "partial": _outer([1, 3], RNG.normal(size=(3, 3))),
    }
    kernel = kernels.get(candidate)
    if kernel is None:
        terms = [[second if k == along else smooth for k in range(3)] for along in range(3)]
        kernel = sep.Factors.from_terms("zyx -> z,y,x", terms)
    for mode in MODES[:5]:
        for cval in (0.0, -1.5):
            options = {"mode": mode, "cval": cval}
            exact = sep.correlate(image, kernel, method="reference", **options)
            result = sep.correlate(image, kernel, method=candidate, **options)
            assert_close(result, exact, 400.0, (mode, cval))


@pytest.mark.parametrize("method", METHODS)
def test_some_axes_in_any_order(method):
    image = image_of("float64", (6, 7, 8))
    kernel = RNG.normal(size=(3, 4))
    for axes in ((0, 2), (2, 0), (1, 0), (-1, -2)):
        options = {"mode": ("wrap", "nearest"), "origin": (1, -2), "axes": axes}
        ours = sep.correlate(image, kernel, method=method, **options)
        moved = np.moveaxis(image, axes, (-2, -1))
        options["axes"] = (1, 2)
        exact = np.moveaxis(
            sep.correlate(moved, kernel, method="reference", **options), (-2, -1), axes
        )
        assert_close(ours, exact, np.abs(kernel).sum() * np.abs(image).max(), axes)


def _outer(first, *others):
    product = np.asarray(first, float)
    for other in others:
        product = np.multiply.outer(product, other)
    return product


@pytest.mark.parametrize("shape", [(3, 4, 2), (2, 3, 2, 3), (3, 3, 3, 4), (2, 2, 2, 2, 2)])
def test_kernels_of_full_rank_over_many_axes(shape):
    """Terms that share a first pass hand their ratio to a factor that is still to come."""
    rng = np.random.default_rng(sum(shape))
    kernel, image = rng.normal(size=shape), rng.normal(size=(5, 4, 3, 4, 3)[: len(shape)])
    terms = [[rng.integers(-2, 3, n) for n in shape] for _ in range(4)]
    terms += [[terms[0][0] * 3, terms[1][1] * 2, *t[2:]] for t in terms]
    letters = "tzyx"[-len(shape) :] if len(shape) < 5 else "abcde"
    factored = sep.Factors.from_terms(f"{letters} -> {','.join(letters)}", terms)
    for weights in (kernel, factored.dense(), factored):
        options = {"mode": "mirror"}
        exact = sep.correlate(image, weights, method="reference", **options)
        norm = float(np.abs(getattr(weights, "dense", lambda w=weights: w)()).sum())
        for candidate in sep.plan(weights, image.shape).candidates:
            if not candidate.refused:
                result = sep.correlate(image, weights, method=candidate.name, **options)
                assert_close(result, exact, 30 * norm * np.abs(image).max(), candidate.name)
