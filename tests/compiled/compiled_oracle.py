"""The slow, obvious answer, and helpers that build borders and awkward arrays."""

import numpy as np
import pytest

from separable.engine.compiled.box_filter import box_lines
from separable.engine.compiled.recursive_filter import recursive_lines
from separable.engine.compiled.simd import ELEMENTS, HAS_HALF
from separable.engine.compiled.term_sums import Correlation, DenseCorrelation

MODES = ("reflect", "mirror", "nearest", "wrap", "constant")
# Every type that samples are stored in. Through the public functions float16 works everywhere.
needs_half = pytest.mark.skipif(not HAS_HALF, reason="no float16 instructions on this processor")
STORED = [pytest.param(n, marks=needs_half) if n == "float16" else n for n in ELEMENTS]
_PAD = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}


def border(size, taps, left, mode):
    """Return the index map of an axis, -1 for the constant value."""
    places = np.arange(-left, size + taps - 1 - left)
    if mode == "constant":
        return np.where((places < 0) | (places >= size), -1, places)
    pad = (left, taps - 1 - left)
    if size == 1:
        return np.zeros(taps, np.int64)
    return np.pad(np.arange(size), pad, mode=_PAD[mode])


def reference(image, terms, axes, lefts, borders, cval=0.0):
    """Correlate in float64, one tap at a time."""
    total = np.zeros(image.shape)
    for term in terms:
        x, outside = image.astype(np.float64), float(cval)
        for taps, axis, places in zip(term, axes, borders, strict=True):
            taps = np.asarray(taps, float)
            size = x.shape[axis]
            longer = np.moveaxis(np.take(x, np.maximum(places, 0), axis), axis, -1).copy()
            longer[..., np.asarray(places) < 0] = outside
            y = sum(t * longer[..., j : j + size] for j, t in enumerate(taps))
            x, outside = np.moveaxis(y, -1, axis), outside * taps.sum()
        total = total + x
    return total


def scale(image, terms, cval):
    """Return the largest value that any sum of products could reach."""
    finite = np.abs(image.astype(float))
    most = max(finite.max(initial=0), abs(cval))
    return most * sum(np.prod([np.abs(t).sum() for t in term]) for term in terms) + 1e-300


def rounded(values, dtype):
    """Round half to even and saturate, once."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(np.rint(values), info.min, info.max).astype(dtype)


def samples(rng, shape, dtype):
    """Return random samples over much of the range of a dtype."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def awkward(array, how):
    """Return an equal array laid out in memory in an awkward way."""
    if how == "offset":
        raw = np.zeros(array.nbytes + 1, np.uint8)
        view = raw[1:].view(np.uint8)[: array.nbytes]
        result = np.ndarray(array.shape, array.dtype, buffer=view)
    elif how == "fortran":
        result = np.asfortranarray(array)
    elif how == "reversed":
        result = np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    elif how == "reversed rows":
        result = np.ascontiguousarray(array[::-1])[::-1]
    elif how == "strided":
        result = np.zeros(tuple(2 * s for s in array.shape), array.dtype)
        result = result[tuple(slice(None, None, 2) for _ in array.shape)]
    elif how == "padded":
        wide = np.zeros((*array.shape[:-1], array.shape[-1] + 5), array.dtype)
        result = wide[..., 2:-3]
    else:
        result = array.copy()
    result[...] = array
    assert np.array_equal(result, array, equal_nan=array.dtype.kind == "f")
    return result


def taps(rng, count, kind):
    """Return general, even or odd taps."""
    values = rng.normal(size=count)
    if kind == "even":
        return values + values[::-1]
    if kind == "odd":
        return values - values[::-1]
    return values


# --- the compiled filters, each as one call --------------------------------------------------------


def correlate_terms(image, out, terms, axes, lefts, borders, cval=0.0, work=np.float32, threads=1):
    return Correlation(terms, axes, lefts, borders, cval, work, image.shape)(image, out, threads)


def correlate_dense(image, out, kernel, axes, lefts, borders, cval=0.0, work=np.float32, threads=1):
    made = DenseCorrelation(kernel, axes, lefts, borders, cval, work, image.shape)
    return made(image, out, threads)


def box(
    image, out, axes, widths, lefts, borders, cval=0.0, scales=None, work=np.float32, threads=1
):
    made = box_lines(image.shape, axes, widths, lefts, borders, cval, scales, work)
    return made(image, out, threads)


def recursive(image, out, axes, coefficients, lefts, borders, cval=0.0, work=np.float32, threads=1):
    made = recursive_lines(image.shape, axes, coefficients, lefts, borders, cval, work)
    return made(image, out, threads)
