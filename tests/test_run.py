"""Buffers, strides, rounding, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import errors
from separable.kernels import box, gaussian
from separable.testing import methods_for

RNG = np.random.default_rng(11)
KERNEL = np.outer([1.0, 2.0, 3.0], [1.0, -1.0, 0.5])
METHOD_NAMES = (*methods_for(sep.plan(KERNEL, (20, 25))), "reference")


def strided() -> dict[str, Any]:
    base = RNG.random((40, 50))
    read_only = base[:20, :25].copy()
    read_only.flags.writeable = False
    return {
        "every other": base[::2, ::2],
        "backwards": base[19::-1, 24::-1],
        "transposed": np.ascontiguousarray(base[:20, :25].T).T,
        "read-only": read_only,
        "swapped bytes": base[:20, :25].astype(">f8"),
        "a broadcast row": np.broadcast_to(base[:1, :25], (20, 25)),
        "off by one byte": np.frombuffer(
            b"x" + base[:20, :25].tobytes(), dtype=np.uint8
        )[1:].view(np.float64).reshape(20, 25),
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(strided()))
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_any_strides(name: str, method: str) -> None:
    image = strided()[name]
    before = image.copy()
    expected = sep.convolve(np.ascontiguousarray(image, dtype=float), KERNEL, method=method)
    assert np.array_equal(sep.convolve(image, KERNEL, method=method), expected)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_out_in_place_and_overlapping(method: str, dtype: str) -> None:
    image = (RNG.random((30, 31)) * 100).astype(dtype)
    kernel = np.abs(KERNEL) / 20
    expected = sep.convolve(image, kernel, method=method)
    out = np.full_like(image, 77)
    assert sep.convolve(image, kernel, method=method, output=out) is out
    assert np.array_equal(out, expected)
    own = image.copy()
    sep.convolve(own, kernel, method=method, output=own)
    assert np.array_equal(own, expected)
    room = np.zeros((32, 31), dtype)
    room[:30] = image
    sep.convolve(room[:30], kernel, method=method, output=room[2:])
    assert np.array_equal(room[2:], expected)
    holes = np.zeros((60, 62), dtype)
    sep.convolve(image, kernel, method=method, output=holes[::2, ::-2])
    assert np.array_equal(holes[::2, ::-2], expected)
    assert not holes[1::2].any()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_zero_size(shape: tuple[int, int], method: str) -> None:
    got = sep.convolve(np.zeros(shape, "f4"), KERNEL, method=method)
    assert (got.shape, got.dtype) == (shape, np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_tiny_images(shape: tuple[int, int], mode: str) -> None:
    image = RNG.random(shape)
    exact = sep.convolve(image, KERNEL, mode=mode, cval=2, method="reference")
    for method in METHOD_NAMES:
        got = sep.convolve(image, KERNEL, mode=mode, cval=2, method=method)
        assert np.allclose(got, exact, atol=1e-13), method


def test_whole_numbers_are_rounded_once_and_saturated() -> None:
    image = np.array([[0, 255, 255, 0, 10]], np.uint8)
    assert sep.convolve(image, [[1.0, 1.0, 1.0]]).tolist() == [[255, 255, 255, 255, 20]]
    assert sep.convolve(image, [[-1.0]]).tolist() == [[0, 0, 0, 0, 0]]
    halves = np.arange(6, dtype=np.uint8).reshape(1, 6)
    assert sep.convolve(halves, [[0.5]]).tolist() == [[0, 0, 1, 2, 2, 2]]  # half to even
    flat = np.full((20, 20), 100, np.uint8)
    assert (sep.convolve(flat, gaussian(2)) == 100).all()
    assert (sep.convolve(flat, box(5)) == 100).all()


@pytest.mark.parametrize("dtype", ["int64", "uint64", "int32", "int8", "bool"])
def test_saturation_at_the_ends_of_every_type(dtype: str) -> None:
    kind = np.dtype(dtype)
    top = True if kind.kind == "b" else np.iinfo(kind).max
    bottom = False if kind.kind == "b" else np.iinfo(kind).min
    image = np.array([top, bottom, 0], kind)
    assert sep.convolve(image, [4.0])[0] == top
    assert sep.convolve(image, [4.0])[1] == bottom
    assert sep.convolve(image, [-4.0])[0] == bottom


def test_not_a_number_becomes_zero_in_whole_numbers() -> None:
    image = np.array([1.0, np.nan, 300.0, -np.inf])
    assert sep.convolve(image, [1.0], output=np.uint8).tolist() == [1, 0, 255, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_non_finite_stays_within_the_support(bad: float, method: str) -> None:
    image = RNG.random((30, 40))
    image[12, 0] = bad
    clean = image.copy()
    clean[12, 0] = 0.5
    expected = sep.convolve(clean, KERNEL, method="reference")
    got = sep.convolve(image, KERNEL, method=method)
    touched = np.zeros(image.shape, bool)
    touched[11:14, 0:2] = True
    assert np.allclose(got[~touched], expected[~touched], atol=1e-12)
    assert not np.isfinite(got[touched]).any()


@pytest.mark.parametrize("cval", [np.nan, np.inf])
def test_non_finite_outside(cval: float) -> None:
    image = RNG.random((9, 9))
    got = sep.convolve(image, KERNEL, mode="constant", cval=cval)
    assert np.isfinite(got[1:-1, 1:-1]).all()
    assert not np.isfinite(got[0]).any()
    assert not np.isfinite(got[:, -1]).any()
    p = sep.plan(KERNEL, (9, 9), mode="constant", cval=cval)
    assert {c.name: c.refused for c in p.candidates}["fft"] == "cval is not finite"


def test_a_planned_fft_steps_aside_for_a_nan() -> None:
    image = RNG.random((256, 256))
    kernel = RNG.random((25, 25))
    p = sep.plan(kernel, image.shape, method="fft")
    image[100, 100] = np.nan
    assert np.isnan(p(image)).sum() == 25 * 25


def test_what_run_refuses() -> None:
    p = sep.plan(KERNEL, (8, 8), "float32")
    with pytest.raises(
        errors.ArgumentError, match=r"for shape \(8, 8\), float32; got shape \(8, 9\)"
    ):
        p(np.zeros((8, 9), "f4"))
    with pytest.raises(errors.ArgumentError, match=r"got shape .*float64"):
        p(np.zeros((8, 8)))
    with pytest.raises(errors.OutputError, match=r"`out` must have shape \(8, 8\); got \(8, 7\)"):
        p(np.zeros((8, 8), "f4"), np.zeros((8, 7), "f4"))
    with pytest.raises(errors.OutputError, match="`out` must have dtype float32, as planned"):
        p(np.zeros((8, 8), "f4"), np.zeros((8, 8)))
    locked = np.zeros((8, 8), "f4")
    locked.flags.writeable = False
    with pytest.raises(errors.OutputError, match="read-only"):
        p(np.zeros((8, 8), "f4"), locked)
    with pytest.raises(errors.OutputError, match="output shape not correct"):
        sep.convolve(np.zeros((8, 8)), KERNEL, output=np.zeros((7, 8)))


@pytest.mark.parametrize("dtype", ["U3", "object", "datetime64[s]", "longdouble"])
def test_types_that_no_filter_takes(dtype: str) -> None:
    with pytest.raises(errors.DTypeError, match="`image` must be bool, an integer"):
        sep.convolve(np.zeros((3, 3), dtype), KERNEL)
    with pytest.raises(errors.DTypeError, match="`output` must"):
        sep.convolve(np.zeros((3, 3)), KERNEL, output=dtype)
    with pytest.raises(errors.DTypeError, match="must name a type of numbers"):
        sep.convolve(np.zeros((3, 3)), KERNEL, output="no such type")
