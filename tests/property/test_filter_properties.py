"""The algebra of filters, over random configurations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import separable as sep
from separable.borders import mode_names
from separable.engine.availability import available
from separable.testing import kernels, with_each_method
from toy_borders import EdgeOnce, FarEdge

MODES = (*mode_names(), FarEdge(), EdgeOnce())


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    """An image, a kernel over some of its axes, and how to run it."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=ndim, max_size=ndim)))
    axes = draw(st.permutations(range(ndim)))[: draw(st.integers(1, ndim))]
    kernel = draw(kernels(ndim=len(axes)))
    sizes = kernel.shape
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {
        "image": rng.normal(size=shape),
        "kernel": kernel,
        "axes": tuple(axes),
        "mode": tuple(draw(st.sampled_from(MODES)) for _ in axes),
        "cval": draw(st.sampled_from([0.0, 1.5, -3.0])),
        "origin": tuple(draw(st.integers(-((n - 1) // 2), (n - 1) // 2)) for n in sizes),
    }


def scale_of(f: dict[str, Any]) -> float:
    largest = max(float(np.max(np.abs(f["image"]))), abs(f["cval"]))
    return float(np.sum(np.abs(f["kernel"]))) * largest


def check(f: dict[str, Any]) -> None:
    image, kernel = f.pop("image"), f.pop("kernel")
    scale = scale_of({"image": image, "kernel": kernel, **f})
    exact = sep.correlate(image, kernel, method="reference", **f)
    ran = []
    plan = sep.plan(kernel, image.shape, image.dtype, operation="correlate", **f)
    runs = with_each_method(lambda m: sep.correlate(image, kernel, method=m, **f), plan)
    for method, got in runs:
        assert np.max(np.abs(got - exact), initial=0) <= 1e-13 * scale, method
        single = sep.correlate(image.astype("f4"), kernel, method=method, **f)
        assert np.max(np.abs(single - exact), initial=0) <= 1e-6 * scale, method
        ran.append(method)
    assert {"passes", "correlate", "fft", "overlap"} <= set(ran)
    assert "fused" in ran or not available()


@given(filters())
def test_every_method_gives_the_same_result(f: dict[str, Any]) -> None:
    check(f)


@pytest.mark.long
@given(filters())
def test_every_method_gives_the_same_result_long(f: dict[str, Any]) -> None:
    check(f)


@given(filters(), st.integers(0, 2**32))
def test_linear_in_the_image(f: dict[str, Any], seed: int) -> None:
    image, kernel = f.pop("image"), f.pop("kernel")
    f["cval"] = 0.0
    other = np.random.default_rng(seed).normal(size=image.shape)
    together = sep.convolve(2 * image - 3 * other, kernel, **f)
    apart = 2 * sep.convolve(image, kernel, **f) - 3 * sep.convolve(other, kernel, **f)
    assert np.allclose(together, apart, rtol=0, atol=1e-12 * 10 * np.sum(np.abs(kernel)))


@given(filters())
def test_convolution_is_correlation_with_the_flipped_kernel(f: dict[str, Any]) -> None:
    image, kernel = f.pop("image"), f.pop("kernel")
    odd = kernel[tuple(slice(None, n - 1 + n % 2) for n in kernel.shape)]
    f["origin"] = 0
    got = sep.convolve(image, odd, **f)
    assert np.allclose(got, sep.correlate(image, np.flip(odd), **f), rtol=0, atol=0)


@given(filters())
def test_the_order_of_axes_does_not_matter(f: dict[str, Any]) -> None:
    image, kernel = f.pop("image"), f.pop("kernel")
    order = np.argsort(f["axes"])
    sorted_f = {
        **f,
        "axes": tuple(np.array(f["axes"])[order]),
        "mode": tuple(f["mode"][i] for i in order),
        "origin": tuple(f["origin"][i] for i in order),
    }
    scale = scale_of({"image": image, "kernel": kernel, **f})
    a = sep.correlate(image, kernel, **f)
    b = sep.correlate(image, np.transpose(kernel, order), **sorted_f)
    assert np.max(np.abs(a - b), initial=0) <= 1e-13 * scale


@given(filters(), st.sampled_from([0.3, 0.05, 1e-3]))
def test_the_tolerance_holds(f: dict[str, Any], tol: float) -> None:
    image, kernel = f.pop("image"), f.pop("kernel")
    scale = scale_of({"image": image, "kernel": kernel, **f})
    exact = sep.correlate(image, kernel, method="reference", **f)
    p = sep.plan(kernel, image.shape, operation="correlate", tol=tol, **f)
    for candidate in p.candidates:
        if not candidate.refused:
            assert candidate.bound <= tol * (1 + 1e-9)
            got = sep.correlate(image, kernel, tol=tol, method=candidate.name, **f)
            assert np.max(np.abs(got - exact), initial=0) <= tol * scale * (1 + 1e-9)


@given(filters())
def test_a_scaled_kernel_has_the_same_plan(f: dict[str, Any]) -> None:
    image, kernel = f.pop("image"), f.pop("kernel")
    plans = [
        sep.plan(kernel * s, image.shape, operation="correlate", **f)
        for s in (1.0, 2.0**-40, 2.0**40)
    ]
    listed = [[(c.name, c.rank, c.multiplications) for c in p.candidates] for p in plans]
    assert listed[0] == listed[1] == listed[2]
