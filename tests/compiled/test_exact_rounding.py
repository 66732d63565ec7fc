"""8- and 16-bit results equal the rounded exact sums, whatever the dtype in which they are summed."""

import itertools
from functools import reduce

import numpy as np
import pytest
from compiled_oracle import MODES, awkward, border, box, correlate_dense, correlate_terms, samples
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from separable.engine.compiled import rounding_bounds, thread_pool
from separable.engine.compiled.exact_rounding import SNAP
from separable.engine.compiled.rounding_bounds import Bounds
from separable.engine.compiled.term_sums import Correlation, DenseCorrelation
from separable.run import store

pytestmark = pytest.mark.apart

TYPES = ("uint8", "int8", "uint16", "int16")
KERNELS = ("gaussian", "random", "sobel", "sixths", "signed")
FUZZY = 1e-12
"""Sums whose distance to a half is this close to the limit of what counts as a half are not compared."""


def gaussian(sigma, radius):
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-x * x / (2 * sigma * sigma))
    return weights / weights.sum()


def taps_of(rng, count, kind):
    """Return taps of a kernel of a kind whose results stay, in part, within the range of the type."""
    if kind == "gaussian":
        return gaussian(0.3 + count / 6, count // 2)[:count]
    if kind == "sobel":
        return np.convolve(np.ones(count - 1), [1, -1]) * 0.375 if count > 1 else np.ones(1)
    if kind == "sixths":
        return rng.integers(0, 4, count) / 6 + 1 / 6
    values = rng.normal(size=count) if kind == "signed" else rng.random(count)
    return values / np.abs(values).sum()


def exact_sums(image, terms, axes, borders, cval=0.0):
    """Correlate in extended precision (64 bits): sums of 16-bit samples are known to 1e-14."""
    total = np.zeros(image.shape, np.longdouble)
    for term in terms:
        x, outside = image.astype(np.longdouble), np.longdouble(cval)
        for taps, axis, places in zip(term, axes, borders, strict=True):
            size = x.shape[axis]
            longer = np.moveaxis(np.take(x, np.maximum(places, 0), axis), axis, -1).copy()
            longer[..., np.asarray(places) < 0] = outside
            weights = np.asarray(taps, np.longdouble)
            y = sum(w * longer[..., j : j + size] for j, w in enumerate(weights))
            x, outside = np.moveaxis(y, -1, axis), outside * weights.sum()
        total = total + x
    return total


def assert_exact(out, sums, snap=SNAP):
    """Check that results are the sums rounded half to even and saturated, where near halves count as halves."""
    half = np.rint(2 * sums) / 2
    near = np.abs(sums - half)
    info = np.iinfo(out.dtype)
    whole = np.rint(np.where(near <= snap, half, sums))
    expected = np.clip(whole, info.min, info.max).astype(out.dtype)
    wrong = (out != expected) & (np.abs(near - snap) > FUZZY)
    assert not wrong.any(), (np.argwhere(wrong)[:3], out[wrong][:3], sums[wrong][:3])


@given(st.data())
def test_every_result_is_rounded_once(data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dims = draw(st.sampled_from((1, 2, 2, 3)))
    shape = tuple(draw(st.integers(1, {1: 300, 2: 60, 3: 24}[dims])) for _ in range(dims))
    shape += draw(st.sampled_from(((), (), (3,))))
    axes = tuple(range(dims))
    counts = [
        draw(st.sampled_from((1, 2, 3, 5, 9, 17, 40) if dims < 3 else (1, 3, 5))) for _ in axes
    ]
    kind = draw(st.sampled_from(KERNELS))
    terms = [
        [taps_of(rng, k, kind) for k in counts] for _ in range(draw(st.sampled_from((1, 1, 2))))
    ]
    if dims == 1:
        counts = [counts[0]]
    lefts = [draw(st.integers(0, len(t) - 1)) for t in terms[0]]
    modes = [draw(st.sampled_from(MODES)) for _ in axes]
    borders = [
        border(n, len(t), left, m)
        for n, t, left, m in zip(shape, terms[0], lefts, modes, strict=False)
    ]
    cval = draw(st.sampled_from((0.0, 7.0, 0.1)))
    dtype = draw(st.sampled_from(TYPES))
    image = awkward(
        samples(rng, shape, dtype), draw(st.sampled_from(("plain", "strided", "fortran")))
    )
    out = np.empty(shape, dtype)
    work = draw(st.sampled_from(("float32", "float64")))
    correlate_terms(
        image, out, terms, axes, lefts, borders, cval, work, draw(st.sampled_from((1, 2)))
    )
    assert_exact(out, exact_sums(image, terms, axes, borders, cval))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(3, 3), (2, 5), (9, 4), (30, 3), (3, 3, 3), (2, 4, 5), (5, 1, 9)])
@pytest.mark.parametrize("mode", ["mirror", "constant"])
def test_dense_kernels(dtype, size, mode):
    rng = np.random.default_rng(size[0])
    kernel = rng.normal(size=size)
    kernel /= np.abs(kernel).sum() / 2  # some results saturate
    shape = (90, 300) if len(size) == 2 else (20, 70, 150)
    image, axes = samples(rng, shape, dtype), range(len(size))
    lefts = [n // 2 for n in size]
    borders = [border(n, k, left, mode) for n, k, left in zip(shape, size, lefts, strict=True)]
    out = np.empty_like(image)
    correlate_dense(image, out, kernel, axes, lefts, borders, 0.1, "float64", 2)
    longer = image[np.ix_(*(np.maximum(b, 0) for b in borders))].astype(np.longdouble)
    for axis, places in enumerate(borders):
        np.moveaxis(longer, axis, 0)[np.asarray(places) < 0] = np.longdouble(0.1)
    sums = sum(
        np.longdouble(weight)
        * longer[tuple(slice(i, i + n) for i, n in zip(at, shape, strict=True))]
        for at, weight in np.ndenumerate(kernel)
    )
    assert_exact(out, sums)


def test_dense_volumes_are_summed_again_where_that_takes_less_time():
    """Both ways to a correctly rounded volume are taken by the kernels above."""
    image = np.zeros((20, 70, 150), "uint8")
    found = set()
    for size, weight in (((3, 3, 3), 1 / 27), ((3, 3, 3), 2.0**-5), ((5, 1, 9), 1e3 / 3)):
        lefts = [n // 2 for n in size]
        borders = [
            border(n, k, left, "mirror")
            for n, k, left in zip(image.shape, size, lefts, strict=True)
        ]
        made = DenseCorrelation(
            np.full(size, weight), (0, 1, 2), lefts, borders, 0.0, "float64", image.shape
        )
        exact = made._prepare(image, np.empty_like(image), 1).exact
        found.add((exact.sums_again, exact.limit < rounding_bounds.NEVER))
    assert found == {(True, True), (False, False), (False, True)}


@pytest.mark.parametrize("dtype", TYPES)
def test_in_place_and_along_four_axes(dtype):
    rng = np.random.default_rng(4)
    image = samples(rng, (9, 8, 33, 40), dtype)
    for axes in ((0, 1, 2, 3), (1, 2, 3), (2, 3), (0,)):
        taps = [gaussian(0.8, 2) for _ in axes]
        borders = [border(image.shape[a], 5, 2, "reflect") for a in axes]
        sums = exact_sums(image, [taps], axes, borders)
        out = np.empty_like(image)
        correlate_terms(image, out, [taps], axes, [2] * len(axes), borders, 0.0, "float64", 2)
        assert_exact(out, sums)
        here = image.copy()
        correlate_terms(here, here, [taps], axes, [2] * len(axes), borders, 0.0, "float64", 2)
        assert_exact(here, sums)


def prepared(image, out, terms, axes, lefts, borders):
    made = Correlation(terms, axes, lefts, borders, 0.0, "float32", image.shape)
    return made, made._prepare(image, out, 1)


def test_float32_alone_rounds_wrongly():
    """The check finds results that float32 passes would round to the wrong integer."""
    rng = np.random.default_rng(5)
    image = samples(rng, (1024, 1024), "uint8")
    taps = gaussian(2.0, 8)
    borders = [border(n, 17, 8, "reflect") for n in image.shape]
    out, unchecked = np.empty_like(image), np.empty_like(image)
    made, schedule = prepared(image, out, [[taps, taps]], (0, 1), (8, 8), borders)
    assert schedule.dtypes.work == np.float32
    made._run(schedule, image, out, 1)
    schedule.record["half_limit"] = schedule._add_table(np.full(1, 2, np.float32))
    schedule._complete(1)
    made._run(schedule, image, unchecked, 1)
    wide = ndimage.correlate1d(ndimage.correlate1d(image.astype(float), taps, 0), taps, 1)
    expected = np.rint(wide).astype(np.uint8)
    assert (unchecked != expected).sum() > 0
    assert (out != expected).sum() == 0


FILLED_SHAPES = [
    ((5, 23, 3001), (0, 1)),
    ((5, 23, 3001), (0,)),
    ((9, 21, 1501), (0, 1, 2)),
    ((21, 16001), (0, 1)),
    ((21, 16001), (0,)),
    ((21, 16001), (1,)),
    ((21, 4001, 3), (0, 1)),
]


@pytest.mark.parametrize(("shape", "axes"), FILLED_SHAPES)
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("filling", ["NaN", "infinity", "one half"])
def test_unused_lanes_hide_no_sum(shape, axes, dense, filling, monkeypatch):
    """Blocks are wider than what is left at an edge: whatever their other lanes hold, close sums are found."""
    if dense and len(axes) == 1:
        return
    rng, take = np.random.default_rng(12), thread_pool.take_scratch
    bits = {"NaN": 0xFFFFFFFF, "infinity": 0x7F800000, "one half": 0x3F000000}[filling]

    def take_filled(size):
        scratch = take(size)
        words = scratch.body[: scratch.body.size // 4 * 4].view(np.uint32)
        words[:] = bits
        return scratch

    monkeypatch.setattr(thread_pool, "take_scratch", take_filled)
    image, taps = samples(rng, shape, "uint8"), gaussian(1.1, 4)
    borders = [border(shape[a], 9, 4, "constant") for a in axes]
    lefts, out = [4] * len(axes), np.zeros_like(image)
    if dense:
        kernel = reduce(np.multiply.outer, [taps] * len(axes))
        correlate_dense(image, out, kernel, axes, lefts, borders, 2.5, "float32", 2)
    else:
        correlate_terms(image, out, [[taps] * len(axes)], axes, lefts, borders, 2.5, "float32", 2)
    sums = exact_sums(image, [[taps] * len(axes)], axes, borders, 2.5)
    # Few of the sums are so close to a half that float32 alone rounds them wrongly, but there are some.
    assert (np.abs(sums - np.floor(sums) - 0.5) < 1e-4).sum() > 10
    assert_exact(out, sums)


def test_ties_are_even_in_every_method():
    """A mean of 36 is a half for every 36th sum; no order of summation decides how it is rounded."""
    rng = np.random.default_rng(6)
    image = samples(rng, (200, 300), "uint8")
    sixth = np.full(6, 1 / 6)
    borders = [border(n, 6, 3, "reflect") for n in image.shape]
    longer = image[np.ix_(*borders)].astype(np.int64)
    sums = sum(longer[i : i + 200, j : j + 300] for i, j in np.ndindex(6, 6))
    down, rest = np.divmod(sums, 36)
    expected = down + ((rest > 18) | ((rest == 18) & (down % 2 == 1)))
    assert (rest == 18).sum() > 1000
    results = [np.empty_like(image) for _ in range(4)]
    correlate_terms(image, results[0], [[sixth, sixth]], (0, 1), (3, 3), borders)
    correlate_dense(image, results[1], np.outer(sixth, sixth), (0, 1), (3, 3), borders)
    box(image, results[2], (0, 1), (6, 6), (3, 3), borders, scales=(1 / 6, 1 / 6), work="float64")
    store(sums * (1 / 6) * (1 / 6), results[3], 1)
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_whole_kernels_need_no_check():
    """Sums of whole multiples of a power of two are exact in float32: nothing is compared or done again."""
    image = samples(np.random.default_rng(7), (64, 64), "uint16")
    borders = [border(64, 3, 1, "reflect")] * 2
    binomial, ramp = np.array([1, 2, 1]) / 4, np.array([-1, 0, 1]) / 2
    for terms in ([[binomial, binomial]], [[ramp, binomial]]):
        _, schedule = prepared(image, np.empty_like(image), terms, (0, 1), (1, 1), borders)
        assert schedule.dtypes.work == np.float32
        assert schedule.exact.limit == rounding_bounds.NEVER


@pytest.mark.parametrize(("dims", "counts"), [
    (1, (3,)), (1, (40,)), (1, (400,)), (2, (17, 17)), (2, (24, 70)), (2, (1, 9)), (3, (5, 3, 7)),
])  # fmt: skip
@pytest.mark.parametrize("terms", [1, 3, 9])
@pytest.mark.parametrize("kind", ["gaussian", "signed", "random"])
def test_bounds(dims, counts, terms, kind):
    """The difference between float32 sums and exact ones is within the bound, and not far below it."""
    rng = np.random.default_rng(8)
    image = samples(rng, {1: (3000,), 2: (50, 300), 3: (20, 30, 40)}[dims], "uint16")
    each = [[taps_of(rng, k, kind) for k in counts] for _ in range(terms)]
    lefts = [len(t) // 2 for t in each[0]]
    axes = tuple(range(dims))
    borders = [
        border(n, len(t), left, "constant")
        for n, t, left in zip(image.shape, each[0], lefts, strict=True)
    ]
    out = np.empty(image.shape, np.float32)
    made = Correlation(each, axes, lefts, borders, 0.1, "float32", image.shape)
    schedule = made._prepare(image, out, 1)
    made._run(schedule, image, out, 1)
    outside = abs(float(np.float32(0.1)) - 0.1)
    (found,) = schedule._sums(np.dtype(np.float32)).bounds(
        np.dtype(np.float32), Bounds(65535.0, outside, 2.0**-27)
    )
    worst = float(np.abs(out - exact_sums(image, each, axes, borders, 0.1)).max())
    assert found.error / 1000 < worst <= found.error


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_results_do_not_depend_on_blocks(dtype):
    rng = np.random.default_rng(9)
    image = samples(rng, (300, 700), dtype)
    taps = gaussian(1.5, 6)
    whole = np.empty_like(image)
    borders = [border(n, 13, 6, "nearest") for n in image.shape]
    correlate_terms(image, whole, [[taps, taps]], (0, 1), (6, 6), borders, threads=2)
    for top, left, rows, columns in ((0, 0, 120, 333), (100, 250, 37, 61), (250, 600, 50, 100)):
        part = np.ascontiguousarray(image[top : top + rows, left : left + columns])
        out = np.empty_like(part)
        borders = [border(n, 13, 6, "nearest") for n in part.shape]
        correlate_terms(part, out, [[taps, taps]], (0, 1), (6, 6), borders)
        inside = (slice(6, rows - 6), slice(6, columns - 6))
        np.testing.assert_array_equal(
            out[inside], whole[top : top + rows, left : left + columns][inside]
        )


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_thousand_million_samples(dtype):
    """Every one of 10^9 random samples equals the rounded float64 result, ambiguous halves apart."""
    rng = np.random.default_rng(10)
    side, seen, ambiguous = 2048, 0, 0
    kernels = [gaussian(0.8, 3), gaussian(2.0, 8), taps_of(rng, 5, "signed")]
    for taps in itertools.cycle(kernels):
        image = samples(rng, (side, side), dtype)
        borders = [border(side, taps.size, taps.size // 2, "reflect")] * 2
        out = np.empty_like(image)
        correlate_terms(
            image, out, [[taps, taps]], (0, 1), (taps.size // 2,) * 2, borders, threads=2
        )
        wide = ndimage.correlate1d(image.astype(float), taps, 0)
        wide = ndimage.correlate1d(wide, taps, 1, output=wide)
        info = np.iinfo(dtype)
        wrong = out != np.clip(np.rint(wide), info.min, info.max)
        unclear = np.abs(np.abs(wide[wrong] - np.rint(wide[wrong])) - 0.5) <= 1e-9
        assert unclear.all()
        ambiguous += unclear.size
        seen += image.size
        if seen >= 10**9 // 2:
            break
    assert ambiguous < 10
