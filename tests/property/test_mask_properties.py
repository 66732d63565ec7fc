"""Properties of filters of images with missing samples, for random configurations."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import separable as sep
from separable.borders import canonical, mode_names
from separable.testing import assert_same_filter, kernels, reference_valid
from toy_borders import EdgeOnce, FarEdge

MODES = (*mode_names(), FarEdge(), EdgeOnce())


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    """An image with holes, a kernel over some of its axes (of one sign or several)."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(1, 8), min_size=ndim, max_size=ndim)))
    axes = draw(st.permutations(range(ndim)))[: draw(st.integers(1, ndim))]
    kernel = draw(kernels(ndim=len(axes), max_size=5))
    if draw(st.booleans()):
        kernel = np.abs(kernel)
    if draw(st.booleans()):
        kernel = np.where(np.abs(kernel) < np.max(np.abs(kernel)) / 3, 0, kernel)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {
        "image": rng.normal(size=shape),
        "kernel": kernel,
        "mask": rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])),
        "axes": tuple(axes),
        "mode": tuple(draw(st.sampled_from(MODES)) for _ in axes),
        "cval": draw(st.sampled_from([0.0, -3.0])),
        "origin": tuple(draw(st.integers(-((n - 1) // 2), (n - 1) // 2)) for n in kernel.shape),
    }


def parts(f: dict[str, Any]) -> tuple[Any, Any, Any, dict[str, Any]]:
    rest = {k: v for k, v in f.items() if k not in ("image", "kernel", "mask")}
    return f["image"], f["kernel"], f["mask"], rest


def near(a: Any, b: Any, f: dict[str, Any], rtol: float = 1e-12) -> None:
    assert np.array_equal(np.isnan(a), np.isnan(b))
    assert_same_filter(np.nan_to_num(a), np.nan_to_num(b), [4, f["image"].max()], f["kernel"], rtol)


@given(filters())
def test_the_definition(f: dict[str, Any]) -> None:
    image, kernel, mask, rest = parts(f)
    exact = reference_valid(image, kernel, mask, **rest)
    near(sep.correlate(image, kernel, mask=mask, **rest), exact, f)
    single = sep.correlate(image.astype("f4"), kernel, mask=mask, **rest)
    # A kernel's largest number may exceed float32, as any result of it.
    near(single, exact, f, 1e-5)


@given(filters(), st.integers(0, 2**32))
def test_values_under_the_mask_have_no_influence(f: dict[str, Any], seed: int) -> None:
    image, kernel, mask, rest = parts(f)
    rubbish = np.random.default_rng(seed).choice([np.nan, np.inf, -np.inf, 1e300, -0.0], mask.shape)
    a = sep.correlate(image, kernel, mask=mask, **rest)
    b = sep.correlate(np.where(mask, image, rubbish), kernel, mask=mask, **rest)
    assert np.array_equal(a, b, equal_nan=True)


@given(filters())
def test_all_valid_is_the_plain_filter(f: dict[str, Any]) -> None:
    image, kernel, mask, rest = parts(f)
    a = sep.correlate(image, kernel, mask=np.ones_like(mask), **rest)
    assert np.array_equal(a, sep.correlate(image, kernel, **rest))


@given(filters(), st.sampled_from([1.0, -0.5, 3.0]), st.sampled_from([0.0, 1.0, -2.0]))
def test_affine_in_the_image(f: dict[str, Any], a: float, b: float) -> None:
    image, kernel, mask, rest = parts(f)
    one = sep.correlate(image, kernel, mask=mask, **rest)
    moved = {**rest, "cval": a * rest["cval"] + b}
    other = sep.correlate(a * image + b, kernel, mask=mask, **moved)
    near(other / 8, (a * one + b * np.sum(kernel)) / 8, f)


@given(filters(), st.sampled_from([1.0, -7.0]))
def test_constant_images(f: dict[str, Any], value: float) -> None:
    image, kernel, mask, rest = parts(f)
    rest["cval"] = value
    got = sep.correlate(np.full(image.shape, value), kernel, mask=mask, **rest)
    there = ~np.isnan(got)
    near(got[there] / 8, np.full(there.sum(), value * np.sum(kernel)) / 8, f)


@given(filters())
def test_smoothing_stays_within_the_valid_samples(f: dict[str, Any]) -> None:
    image, kernel, mask, rest = parts(f)
    kernel = np.abs(kernel) / (np.sum(np.abs(kernel)) or 1.0)
    values = [
        *image[mask],
        *([rest["cval"]] if any(canonical(m).fills for m in rest["mode"]) else []),
    ]
    got = sep.correlate(image, kernel, mask=mask, **rest)
    got = got[~np.isnan(got)]
    if kernel.any() and got.size:
        assert got.min() >= min(values) - 1e-12
        assert got.max() <= max(values) + 1e-12
