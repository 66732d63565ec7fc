"""Filters by each compiled method: near SciPy in float64, and bit-identical for 1, 2, 3 and 8 threads.

`make test-widths` and `tools/test-aarch64` run this file too, for each width of vectors.
"""

import os

import numpy as np
import pytest

import separable as sep
from separable.engine.compiled.jit import vector_bits

pytestmark = pytest.mark.widths

SHAPES = [(301, 403), (31, 43, 70)]
DTYPES = ["float64", "float32", "float16", "uint8", "uint16", "int16"]
BOUNDS = {"float64": 1e-13, "float32": 1e-6, "float16": 1e-3}  # times the largest possible result
TOLERANCES = {"recursive": 0.01}


def kernel_for(method, ndim):
    """Return a kernel that a method is made for, with weights whose magnitudes add up to 1."""
    if method == "box":
        return sep.kernels.box((7, 4, 5)[:ndim])
    if method == "recursive":
        return sep.kernels.gaussian((4.0, 6.0, 3.0)[:ndim])
    if method == "fused":
        return sep.kernels.gaussian((1.0, 2.0, 0.7)[:ndim])
    if method == "dense":
        weights = np.random.default_rng(1).normal(size=(4, 5))
        return weights / np.abs(weights).sum()
    smooth, second, ramp = np.array([1, 2, 1]), np.array([1, -2, 1]), np.arange(1, 5)
    terms = [(second, smooth, ramp), (second, second, ramp[::-1]), (smooth, smooth, ramp)]
    pattern = {2: "yx -> y,x", 3: "zyx -> z,y,x"}[ndim]
    return sep.Factors.from_terms(pattern, [(t[0] / 240, *t[1:])[:ndim] for t in terms])


def image_of(shape, dtype):
    """Return samples over the whole range of an integer type, or of about unit size."""
    rng = np.random.default_rng(2)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["fused", "nested", "dense", "box", "recursive"])
def test_every_method(method, dtype, shape):
    kernel, image = kernel_for(method, len(shape)), image_of(shape, dtype)
    tol = TOLERANCES.get(method)
    weights = kernel.dense() if isinstance(kernel, sep.Factors) else kernel
    options = {"mode": "mirror", "axes": tuple(range(len(shape)))[-weights.ndim :]}
    first, *others = (
        sep.correlate(image, kernel, method=method, tol=tol, threads=threads, **options)
        for threads in (1, 2, 3, 8)
    )
    for other in others:
        assert other.tobytes() == first.tobytes()

    exact = sep.correlate(image.astype(float), kernel, method="passes", **options)
    largest = np.abs(weights).sum() * np.abs(image.astype(float)).max()
    bound = (BOUNDS.get(dtype, 1e-6) + (tol or 0)) * largest
    if first.dtype.kind in "iu":
        info = np.iinfo(dtype)
        exact, bound = np.clip(exact, info.min, info.max), bound + 0.5
    assert np.abs(first - exact).max() <= bound


def test_the_width_asked_for_is_used():
    asked = os.environ.get("SEPARABLE_VECTOR_BITS", "")
    assert vector_bits() == int(asked or vector_bits())
