"""Each word of the vector vocabulary, lane by lane, against NumPy."""

import ctypes

import numpy as np
import pytest
from compiled_oracle import STORED

from separable.engine.compiled import dtype_conversion, simd, transpose, vector_blocks
from separable.engine.compiled.jit import address, stage
from separable.engine.compiled.numba_api import types

WORK = ["float32", "float64"]


def call(function, *arguments):
    """Call a stage on arrays (as typed pointers) and integers."""
    kinds, values = [], []
    for a in arguments:
        if isinstance(a, np.ndarray):
            kinds.append(simd.pointer(a.dtype.name))
            values.append(ctypes.c_void_p(a.ctypes.data))
        else:
            kinds.append(types.int64)
            values.append(ctypes.c_int64(a))
    place = address(function, tuple(kinds))
    proto = ctypes.CFUNCTYPE(None, *[type(v) for v in values])
    proto(place)(*values)


def aligned(values, dtype):
    values = np.asarray(values)
    raw = np.zeros(values.size * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    out = raw[start : start + values.size * np.dtype(dtype).itemsize].view(dtype)
    out[:] = values.ravel().astype(dtype)
    return out.reshape(values.shape)


@stage
def _arithmetic(a, b, c, out, n):
    x, y, z = simd.load(a), simd.load_any(b), simd.load(c)
    simd.store(out, simd.add(x, y))
    simd.store_any(simd.offset_pointer(out, n), simd.sub(x, y))
    simd.store_stream(simd.offset_pointer(out, 2 * n), simd.mul(x, y))
    simd.store(simd.offset_pointer(out, 3 * n), simd.low(x, y))
    simd.store(simd.offset_pointer(out, 4 * n), simd.high(x, y))
    simd.store(simd.offset_pointer(out, 5 * n), simd.fma(x, y, z))
    simd.store(
        simd.offset_pointer(out, 6 * n),
        simd.splat(out, simd.load_scalar(simd.offset_pointer(a, 1))),
    )
    simd.fence()


@pytest.mark.parametrize("work", WORK)
def test_arithmetic(work):
    n = simd.lanes(work)
    rng = np.random.default_rng(0)
    a, b, c = (aligned(rng.normal(size=n), work) for _ in range(3))
    out = aligned(np.full((7, n), np.nan), work)
    call(_arithmetic, a, b, c, out, n)
    np.testing.assert_array_equal(out[0], a + b)
    np.testing.assert_array_equal(out[1], a - b)
    np.testing.assert_array_equal(out[2], a * b)
    np.testing.assert_array_equal(out[3], np.minimum(a, b))
    np.testing.assert_array_equal(out[4], np.maximum(a, b))
    np.testing.assert_array_equal(out[6], np.full(n, a[1]))
    if simd.HAS_FMA and work == "float32":
        exact = (a.astype(float) * b + c).astype(work)
        np.testing.assert_allclose(out[5], exact, rtol=1e-7)
    np.testing.assert_allclose(out[5], a * b + c, rtol=1e-5)


@stage
def _transpose(a, out, n):
    vector_blocks.store_block(out, n, transpose.transpose(vector_blocks.load_block(a, n)))


@pytest.mark.parametrize("work", WORK)
def test_transpose(work):
    n = simd.lanes(work)
    a = aligned(np.arange(n * n).reshape(n, n), work)
    out = aligned(np.full((n, n), np.nan), work)
    call(_transpose, a, out, n)
    np.testing.assert_array_equal(out, a.T)


@stage
def _widen(a, out):
    simd.store(out, dtype_conversion.load_as(a, out))


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("stored", STORED)
def test_widen(stored, work):
    n = simd.lanes(work)
    dtype = np.dtype(stored)
    if dtype.kind == "f":
        a = np.array([0, -1.5, 65504, np.inf, -np.inf, np.nan, 1e-7, 3.1] * 2, dtype)[:n].copy()
    else:
        info = np.iinfo(dtype)
        a = np.array([info.min, info.max, 0, 1, 77, info.max // 2] * 3, dtype)[:n].copy()
    shifted = np.zeros(a.nbytes + 1, np.uint8)
    shifted[1:] = a.view(np.uint8)
    out = aligned(np.full(n, np.nan), work)
    call(_widen, shifted[1:].view(dtype), out)
    np.testing.assert_array_equal(out, a.astype(work))


@stage
def _narrow(a, out, scalars, n):
    dtype_conversion.store_as(out, simd.load(a))
    for i in range(n):
        dtype_conversion.store_scalar_as(
            simd.offset_pointer(scalars, i),
            dtype_conversion.load_scalar_as(simd.offset_pointer(a, i), a),
        )


SPECIAL = [0.5, 1.5, 2.5, -0.5, -1.5, 254.5, 255.5, 300, -129, 1e10, -1e10, np.inf, -np.inf, np.nan]
SPECIAL += [32767.5, 65535.5, 65534.5, 2147483647, 2147483520, -2147483648, 4294967040, 4294967296]
SPECIAL += [3.3, 127.5, 128, 126.5, -127.5, -128.5, 65519.9, 65520.0, 1e-8, 6e-8]
SPECIAL += [1.00048828125, 1.00048828126, 1.000488281249999, 2049.0, 2051.0, 0.1]


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("stored", STORED)
def test_narrow(stored, work):
    n = simd.lanes(work)
    dtype = np.dtype(stored)
    rng = np.random.default_rng(3)
    values = np.array(SPECIAL + list(rng.normal(size=64) * 1000) + list(rng.normal(size=58)), work)
    values = values[: values.size // n * n]
    for row in values.reshape(-1, n):
        a = aligned(row, work)
        out, scalars = np.zeros(n, dtype), np.zeros(n, dtype)
        call(_narrow, a, out, scalars, n)
        if dtype.kind == "f":
            with np.errstate(all="ignore"):
                expected = a.astype(dtype)
        else:
            info = np.iinfo(dtype)
            rounded = np.nan_to_num(np.rint(a.astype(np.float64)), posinf=1e300, neginf=-1e300)
            # Python's integers, because float64 cannot hold the largest of 64 bits.
            whole = [min(max(int(v), info.min), info.max) for v in rounded]
            expected = np.array(whole, dtype)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(scalars, expected)


def test_taps_of_different_kinds_are_different_types() -> None:
    kinds = [simd.taps_pointer(kind, name) for kind in range(4) for name in ("float32", "float64")]
    assert len(set(kinds)) == 8
    assert simd.taps_pointer(1, "float32") == simd.taps_pointer(1, "float32")
    assert simd.taps_pointer(1, "float32") != simd.pointer("float32")
