"""Fused sweeps against a slow reference and SciPy."""

import itertools

import numpy as np
import pytest
from compiled_oracle import (
    MODES,
    awkward,
    border,
    correlate_terms,
    needs_half,
    reference,
    rounded,
    samples,
    scale,
    taps,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from separable.engine.compiled import tiling
from separable.engine.compiled.simd import ELEMENTS

pytestmark = pytest.mark.widths

TOLERANCE = {"float32": 1e-6, "float64": 1e-13}


def check(image, terms, axes, lefts, modes, cval=0.0, work="float64", threads=1, out=None):
    """Run the engine and compare it with the reference; return what it gave."""
    counts = [len(t) for t in terms[0]]
    borders = [
        border(image.shape[a], k, left, m)
        for a, k, left, m in zip(axes, counts, lefts, modes, strict=True)
    ]
    if out is None:
        out = np.full(image.shape, np.nan, work)
    given_back = correlate_terms(image, out, terms, axes, lefts, borders, cval, work, threads)
    assert given_back is out
    expected = reference(image, terms, axes, lefts, borders, cval)
    error = np.abs(out.astype(float) - expected).max(initial=0)
    allowed = TOLERANCE[work] * scale(image, terms, cval)
    if out.dtype.kind != "f":
        info = np.iinfo(out.dtype)
        near = np.clip(expected, info.min, info.max)
        error, allowed = np.abs(out - near).max(initial=0), allowed + 0.5
    elif out.dtype.itemsize < np.dtype(work).itemsize:
        allowed = np.abs(expected).max(initial=0) * np.finfo(out.dtype).eps + allowed
    assert error <= allowed, (error, allowed)
    return out


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("work", ["float32", "float64"])
def test_scipy(mode, work):
    rng = np.random.default_rng(1)
    image = rng.normal(size=(61, 83)).astype(work)
    down, along = rng.normal(size=7), rng.normal(size=9)
    borders = [border(61, 7, 3, mode), border(83, 9, 4, mode)]
    out = np.full_like(image, np.nan)
    correlate_terms(image, out, [[down, along]], (0, 1), (3, 4), borders, 0.0, work)
    wide = image.astype(float)
    expected = ndimage.correlate1d(wide, down, 0, mode=mode)
    expected = ndimage.correlate1d(expected, along, 1, mode=mode)
    allowed = TOLERANCE[work] * scale(image, [[down, along]], 0)
    assert np.abs(out - expected).max() <= allowed


@pytest.mark.parametrize("work", ["float32", "float64"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["general", "even", "odd"])
@pytest.mark.parametrize("counts", [(1, 1), (2, 3), (5, 4), (17, 17), (30, 13), (1, 9), (9, 1)])
def test_taps(counts, kind, mode, work):
    rng = np.random.default_rng(2)
    image = rng.normal(size=(45, 70)).astype(work)
    terms = [[taps(rng, k, kind) for k in counts]]
    lefts = [k // 2 for k in counts]
    check(image, terms, (0, 1), lefts, (mode, mode), 1.5, work)
    check(image, terms, (0, 1), [0, counts[1] - 1], (mode, mode), -3.0, work)


SHAPES = [
    (1, 1),
    (1, 2),
    (2, 1),
    (3, 5),
    (1, 40),
    (40, 1),
    (16, 16),
    (17, 33),
    (65, 15),
    (130, 600),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape, mode):
    rng = np.random.default_rng(3)
    image = rng.normal(size=shape)
    for counts in ((3, 3), (8, 21), (101, 60)):
        check(image, [[rng.normal(size=k) for k in counts]], (0, 1), (2, 1), (mode,) * 2, 2.0)


def test_hundreds_of_taps():
    rng = np.random.default_rng(4)
    image = rng.normal(size=(90, 200))
    terms = [[taps(rng, 501, "even"), taps(rng, 700, "general")]]
    for mode in MODES:
        check(image, terms, (0, 1), (250, 350), (mode, mode), 1.0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [2, 3, 9])
def test_sums_of_terms(count, mode):
    rng = np.random.default_rng(5)
    image = rng.normal(size=(70, 110))
    kind = ["general", "even", "odd"]
    terms = [[taps(rng, 11, kind[t % 3]), taps(rng, 8, kind[(t + 1) % 3])] for t in range(count)]
    check(image, terms, (0, 1), (5, 4), (mode, mode), -2.0)
    volume = rng.normal(size=(20, 21, 40))
    terms = [[*term, taps(rng, 5, kind[t % 3])] for t, term in enumerate(terms)]
    check(volume, terms, (0, 1, 2), (5, 4, 1), (mode,) * 3, -2.0)


PAIRS = [
    pytest.param(a, b, marks=[needs_half] if "float16" in (a, b) else [])
    for a, b in itertools.product(ELEMENTS, repeat=2)
]


@pytest.mark.parametrize(("dtype", "out_dtype"), PAIRS)
def test_dtypes(dtype, out_dtype):
    rng = np.random.default_rng(6)
    image = samples(rng, (35, 50), dtype)
    weights = [np.abs(taps(rng, 5, "even")), np.abs(taps(rng, 3, "general"))]
    terms = [[w / w.sum() for w in weights]]
    wide = ("float64", "int32", "uint32", "int64", "uint64")
    work = "float64" if dtype in wide else "float32"
    out = np.zeros(image.shape, out_dtype)
    with np.errstate(over="ignore"):
        if out_dtype == "float16" and image.dtype.kind in "iu" and image.itemsize > 2:
            image //= np.iinfo(dtype).max // 20_000
        check(image, terms, (0, 1), (2, 1), ("reflect", "wrap"), 0, work, out=out)


def test_rounding_is_half_to_even_once():
    image = np.array([[1, 2, 5, 6, 255, 254, 0, 1]], np.uint8)
    out = np.zeros_like(image)
    half = [[np.array([0.5]), np.array([1.0])]]
    borders = [np.arange(1), np.arange(8)]
    correlate_terms(image, out, half, (0, 1), (0, 0), borders)
    np.testing.assert_array_equal(out, rounded(image * 0.5, np.uint8))


HOW = ["plain", "offset", "fortran", "reversed", "reversed rows", "strided", "padded"]


@pytest.mark.parametrize("how_out", HOW)
@pytest.mark.parametrize("how", HOW)
def test_layouts(how, how_out):
    rng = np.random.default_rng(7)
    for shape, axes in (((37, 53), (0, 1)), ((9, 20, 34), (0, 1, 2)), ((20, 34, 3), (0, 1))):
        image = awkward(rng.normal(size=shape), how)
        image.flags.writeable = False
        out = awkward(np.full(shape, np.nan), how_out)
        term = [rng.normal(size=k) for k in (5, 4, 3)[: len(axes)]]
        check(image, [term], axes, (2, 1, 1)[: len(axes)], ("mirror",) * len(axes), out=out)


AXES = [(0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3), (0, 3), (0, 2), (0, 1, 2), (1, 2, 3)]
AXES += [(0, 1, 3), (0, 2, 3), (0, 1, 2, 3)]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("shape", [(5, 6, 7, 8), (4, 18, 19, 3), (3, 12, 5, 40), (1, 9, 1, 64)])
def test_axes(shape, axes):
    rng = np.random.default_rng(8)
    image = rng.normal(size=shape)
    counts = (3, 4, 5, 6)[: len(axes)]
    terms = [[rng.normal(size=k) for k in counts] for _ in range(2)]
    for mode in MODES:
        check(image, terms, axes, [1] * len(axes), [mode] * len(axes), 1.25)


def test_one_dimension_and_five():
    rng = np.random.default_rng(9)
    for n in (1, 7, 100, 5000):
        check(rng.normal(size=n), [[rng.normal(size=6)]], (0,), (2,), ("reflect",))
    check(
        rng.normal(size=(3, 4, 5, 6, 7)), [[rng.normal(size=3)] * 5], (0, 1, 2, 3, 4), (1,) * 5,
        ("wrap",) * 5,
    )  # fmt: skip


@pytest.mark.parametrize("work", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(300, 700), (40, 50, 60), (64, 30, 3), (33, 40, 64)])
def test_threads_and_tiles_give_the_same_bits(shape, work, monkeypatch):
    rng = np.random.default_rng(10)
    image = rng.normal(size=shape).astype(work)
    axes = (0, 1, 2) if shape == (40, 50, 60) else (0, 1)
    terms = [[taps(rng, 9, "even"), taps(rng, 6, "general"), taps(rng, 5, "odd")][: len(axes)]]
    modes = ("reflect",) * len(axes)
    first = check(image, terms, axes, (4, 3, 2)[: len(axes)], modes, 0, work)
    for threads in (1, 2, 3, 8):
        for band, tile, ring in ((16, 32, 1 << 16), (32, 64, 1 << 18), (128, 1024, 1 << 26)):
            monkeypatch.setattr(tiling, "BAND_ROWS", band)
            monkeypatch.setattr(tiling, "PLANE_ROWS", band)
            monkeypatch.setattr(tiling, "TILE_COLUMNS", tile)
            monkeypatch.setattr(tiling, "PLANE_COLUMNS", tile)
            monkeypatch.setattr(tiling, "SLAB_PLANES", 8 * threads)
            monkeypatch.setattr(tiling, "SLIDE_COLUMNS", 2 * tile)
            monkeypatch.setattr(tiling, "RING_BYTES", ring)
            monkeypatch.setattr(tiling, "STREAM_BYTES", 1 if threads == 2 else 1 << 40)
            again = check(
                image, terms, axes, (4, 3, 2)[: len(axes)], modes, 0, work, threads=threads
            )
            assert np.array_equal(first, again)


def test_not_a_number_stays_within_the_support():
    rng = np.random.default_rng(11)
    for place in ((0, 0), (30, 41), (59, 79), (17, 0)):
        image = rng.normal(size=(60, 80))
        image[place] = np.nan
        out = np.zeros_like(image)
        w = taps(rng, 7, "even")
        borders = [border(60, 7, 3, "constant"), border(80, 7, 3, "constant")]
        correlate_terms(image, out, [[w, w]], (0, 1), (3, 3), borders, 0.0, np.float64)
        rows, columns = np.ogrid[:60, :80]
        inside = (abs(rows - place[0]) <= 3) & (abs(columns - place[1]) <= 3)
        np.testing.assert_array_equal(np.isnan(out), inside)


def check_anything(data):
    draw = data.draw
    ndim = draw(st.integers(1, 4))
    most = {1: 3000, 2: 150, 3: 40, 4: 14}[ndim]
    shape = tuple(draw(st.integers(1, most)) for _ in range(ndim))
    number = draw(st.integers(1, min(3, ndim)))
    axes = tuple(sorted(draw(st.permutations(range(ndim)))[:number]))
    counts = [draw(st.integers(1, 40)) for _ in axes]
    lefts = [draw(st.integers(0, k - 1)) for k in counts]
    modes = [draw(st.sampled_from(MODES)) for _ in axes]
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    kinds = [draw(st.sampled_from(["general", "even", "odd"])) for _ in axes]
    count = draw(st.integers(1, 3))
    terms = [
        [taps(rng, k, how) for k, how in zip(counts, kinds, strict=True)] for _ in range(count)
    ]
    dtype = draw(st.sampled_from(["float32", "float64", "uint8", "int16"]))
    image = awkward(samples(rng, shape, dtype), draw(st.sampled_from(HOW)))
    work = draw(st.sampled_from(["float32", "float64"]))
    out = awkward(
        np.zeros(shape, draw(st.sampled_from([work, "uint8"]))), draw(st.sampled_from(HOW))
    )
    threads = draw(st.integers(1, 3))
    check(image, terms, axes, lefts, modes, draw(st.sampled_from([0.0, 2.5])), work, threads, out)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_anything(data):
    check_anything(data)


@pytest.mark.long
@given(st.data())
def test_anything_long(data):
    check_anything(data)
