"""Box filters by running sums: exact, without drift, and as cheap for any width."""

import numpy as np
import pytest
from compiled_oracle import (
    MODES,
    STORED,
    awkward,
    border,
    box,
    recursive,
    reference,
    rounded,
    samples,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from test_compiled_memory import Guarded

from separable.engine.compiled import thread_pool as pool
from separable.engine.compiled.recursive_filter import fit

pytestmark = pytest.mark.widths


def boxed(
    image,
    axes,
    widths,
    lefts,
    mode,
    cval=0.0,
    scales=None,
    work="float64",
    dtype=None,
    threads=1,
    out=None,
):
    """Filter into an array full of rubbish."""
    borders = [
        border(image.shape[a], w, left, mode)
        for a, w, left in zip(axes, widths, lefts, strict=True)
    ]
    if out is None:
        out = np.empty(image.shape, dtype or image.dtype)
        out.view(np.uint8)[...] = 0xFF
    result = box(image, out, axes, widths, lefts, borders, cval, scales, work, threads)
    assert result is out
    return out


def expected(image, axes, widths, lefts, mode, cval=0.0, scales=None):
    borders = [
        border(image.shape[a], w, left, mode)
        for a, w, left in zip(axes, widths, lefts, strict=True)
    ]
    factors = [1.0] * len(axes) if scales is None else scales
    terms = [[np.full(w, s) for w, s in zip(widths, factors, strict=True)]]
    return reference(image, terms, axes, lefts, borders, cval)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [1, 2, 3, 16, 51, 130, 401])
@pytest.mark.parametrize("shape", [(1,), (5,), (300,), (1, 1), (33, 70), (200, 333), (20, 18, 40)])
def test_shapes_and_widths(shape, width, mode):
    image = samples(np.random.default_rng(width), shape, "float64")
    axes = tuple(range(image.ndim))
    widths = tuple(width + k for k in axes)
    lefts = tuple(w // 2 for w in widths)
    found = boxed(image, axes, widths, lefts, mode, 1.5)
    wanted = expected(image, axes, widths, lefts, mode, 1.5)
    assert np.max(np.abs(found - wanted)) <= 1e-12 * np.prod(widths)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("width", [2, 3, 8, 51])
def test_as_scipy(width, mode):
    image = np.random.default_rng(0).normal(size=(61, 47))
    for axis in (0, 1):
        name = {"wrap": "grid-wrap", "constant": "grid-constant"}.get(mode, mode)
        wanted = ndimage.uniform_filter1d(image, width, axis, mode=name, cval=-2.0)
        found = boxed(image, (axis,), (width,), (width // 2,), mode, -2.0, (1 / width,))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("target", STORED)
def test_dtypes(dtype, target):
    image = samples(np.random.default_rng(1), (70, 90), dtype)
    scales = (1 / 7, 1 / 4)
    found = boxed(image, (0, 1), (7, 4), (3, 1), "reflect", 0.0, scales, "float64", target)
    wanted = expected(image.astype(float), (0, 1), (7, 4), (3, 1), "reflect", 0.0, scales)
    if np.dtype(target).kind == "f":
        limit = 8 * np.finfo(target).eps * np.abs(wanted).max() + 1e-300
        if np.abs(wanted).max() < float(np.finfo(target).max):
            assert np.max(np.abs(found - wanted)) <= limit
    else:
        info = np.iinfo(target)
        off = np.abs(found.astype(float) - np.clip(wanted, info.min, info.max))
        assert off.max() <= 0.5 + 1e-6 + 8 * np.finfo(float).eps * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_integers_are_exact_in_float32(dtype):
    image = samples(np.random.default_rng(2), (150, 300), dtype) // 16
    found = boxed(image, (0, 1), (15, 60), (7, 29), "mirror", 0, None, "float32", "int32")
    wanted = expected(image, (0, 1), (15, 60), (7, 29), "mirror")
    assert np.array_equal(found, rounded(wanted, "int32"))


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
@pytest.mark.parametrize(
    "shape", [(700, 900), (64, 80, 90), (300, 200, 3), (100_000,), (9, 8, 7, 60)]
)
def test_threads_change_nothing(shape, dtype):
    image = samples(np.random.default_rng(3), shape, dtype)
    axes = (0, 1, 2) if shape == (64, 80, 90) else tuple(range(min(2, len(shape))))
    one, two, three = (
        boxed(
            image,
            axes,
            (9,) * len(axes),
            (4,) * len(axes),
            "wrap",
            0,
            None,
            "float64",
            "float64",
            t,
        )
        for t in (1, 2, 3)
    )
    assert one.tobytes() == two.tobytes() == three.tobytes()


def test_a_large_output_at_any_alignment():
    image = samples(np.random.default_rng(4), (2600, 2600), "float32")
    wanted = expected(image, (0, 1), (5, 6), (2, 3), "nearest")
    raw = np.empty(image.size + 16, np.float32)
    for lead in (0, 1, 4, 15):
        out = raw[lead : lead + image.size].reshape(image.shape)
        for axes in ((0, 1), (0,), (1,)):
            out[...] = np.nan
            widths, lefts = (5, 6)[: len(axes)], (2, 3)[: len(axes)]
            boxed(image, axes, widths, lefts, "nearest", work="float32", threads=3, out=out)
            if axes != (0, 1):
                wanted_here = expected(image, axes, widths, lefts, "nearest")
            else:
                wanted_here = wanted
            assert np.max(np.abs(out - wanted_here)) < 1e-5 * 30


@pytest.mark.parametrize(
    "how", ["offset", "fortran", "reversed", "reversed rows", "strided", "padded"]
)
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_awkward_memory(how, dtype):
    image = awkward(samples(np.random.default_rng(5), (90, 77), dtype), how)
    wanted = expected(image, (0, 1), (5, 12), (2, 6), "reflect", 0.0, (0.2, 1 / 12))
    for out_how in ("plain", how):
        out = awkward(np.zeros(image.shape, "float64"), out_how)
        boxed(
            image,
            (0, 1),
            (5, 12),
            (2, 6),
            "reflect",
            0.0,
            (0.2, 1 / 12),
            "float64",
            threads=2,
            out=out,
        )
        np.testing.assert_allclose(out, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2), (0, 1, 2, 3)]
)
@pytest.mark.parametrize("shape", [(4, 18, 19, 3), (3, 12, 5, 40), (3, 4, 30, 5)])
@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_axes(shape, axes, dtype):
    image = samples(np.random.default_rng(6), shape, dtype)
    widths = tuple(3 + a for a in axes)
    lefts = tuple(a for a in axes)
    found = boxed(image, axes, widths, lefts, "constant", 2.0, None, "float64", "float64", 2)
    wanted = expected(image, axes, widths, lefts, "constant", 2.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threads", [1, 3])
def test_long_rows_in_place(mode, threads):
    # The third axis is filtered in place along rows of more than one tile, which see each other at the border.
    image = samples(np.random.default_rng(8), (2, 700, 2, 3), "float64")
    found = boxed(image, (1, 2, 3), (40, 2, 2), (19, 1, 0), mode, 2.0, threads=threads)
    wanted = expected(image, (1, 2, 3), (40, 2, 2), (19, 1, 0), mode, 2.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threads", [1, 3])
def test_long_columns_in_place(mode, threads):
    image = samples(np.random.default_rng(9), (400, 4, 20), "float64")
    found = boxed(image, (0, 1, 2), (20, 2, 2), (9, 1, 0), mode, 2.0, threads=threads)
    wanted = expected(image, (0, 1, 2), (20, 2, 2), (9, 1, 0), mode, 2.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("bad", [1e7, np.nan, np.inf])
@pytest.mark.parametrize("axis", [0, 1])
def test_one_bad_sample_spoils_only_its_windows(bad, axis):
    image = np.random.default_rng(7).random((200, 210), np.float32)
    clean = boxed(image, (0, 1), (11, 11), (5, 5), "reflect", 0.0, (1 / 11, 1 / 11), "float32")
    spoilt = image.copy()
    spoilt[100, 90] = bad
    found = boxed(spoilt, (0, 1), (11, 11), (5, 5), "reflect", 0.0, (1 / 11, 1 / 11), "float32")
    touched = np.zeros(image.shape, bool)
    touched[95:106, 85:96] = True
    assert np.array_equal(found[~touched], clean[~touched])
    assert not np.any(np.isclose(found[touched], clean[touched]))
    step = image.copy()
    where = (slice(0, 77),) if axis == 0 else (slice(None), slice(0, 77))
    step[where] += 1e7
    found = boxed(step, (0, 1), (11, 11), (5, 5), "reflect", 0.0, (1 / 11, 1 / 11), "float32")
    beyond = (slice(82, None),) if axis == 0 else (slice(None), slice(82, None))
    assert np.array_equal(found[beyond], clean[beyond])


def test_no_drift_over_a_long_line():
    image = np.full(3_000_000, 0.1, np.float32)
    found = boxed(image, (0,), (1001,), (500,), "reflect", 0.0, (1 / 1001,), "float32", threads=2)
    assert np.ptp(found) <= 2e-6
    assert abs(float(found[-1]) - 0.1) < 1e-6


def check_anything(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4)))
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1, max_size=3))))
    widths = tuple(data.draw(st.integers(1, 70)) for _ in axes)
    lefts = tuple(data.draw(st.integers(0, w - 1)) for w in widths)
    mode = data.draw(st.sampled_from(MODES))
    image = samples(np.random.default_rng(len(shape)), shape, "int16")
    found = boxed(
        image,
        axes,
        widths,
        lefts,
        mode,
        3,
        None,
        "float64",
        "float64",
        data.draw(st.integers(1, 3)),
    )
    assert np.array_equal(found, expected(image, axes, widths, lefts, mode, 3))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_anything(data):
    check_anything(data)


@pytest.mark.long
@given(st.data())
def test_anything_long(data):
    check_anything(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lefts": (3,)}, "`lefts` of axis 0"),
        ({"axes": (2,)}, "`axes` must lie"),
        ({"borders": [[0, 1, 2]]}, "must have 7 entries"),
        ({"borders": [[9, 0, 1, 2, 3, 4, 4]]}, "must lie within"),
        ({"borders": [[0, 1, 2, 3, 4, 4, 4]]}, "from entry 1 on"),
        ({"out": np.empty(4)}, "`out` must have shape"),
        ({"scales": (1, 2)}, "must describe 1 axes"),
    ],
)
def test_refusals(change, message):
    given_ = {
        "image": np.zeros(5),
        "out": np.empty(5),
        "axes": (0,),
        "widths": (3,),
        "lefts": (1,),
        "borders": [[0, 0, 1, 2, 3, 4, 4]],
    }
    with pytest.raises(ValueError, match=message):
        box(**{**given_, **change})
    with pytest.raises(TypeError, match="complex"):
        box(**{**given_, "image": np.zeros(5, complex)})
    with pytest.raises(TypeError, match="`work`"):
        box(**given_, work=np.float16)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (64, 64), (33, 130), (20, 18, 40), (17, 33, 3)])
def test_guard_pages(shape, dtype, at_end):
    image = Guarded(shape, dtype, at_end).array
    out = Guarded(shape, dtype, at_end).array
    image[...] = samples(np.random.default_rng(0), shape, dtype)
    axes = (0, 1, 2) if shape[-1] == 40 else (0, 1)
    one, _ = fit(np.exp(-0.5 * (np.arange(-12, 13) / 3) ** 2))
    for mode in MODES:
        for width in (1, 4, 17, 70):
            boxed(
                image,
                axes,
                [width] * len(axes),
                [width // 2] * len(axes),
                mode,
                1.0,
                threads=2,
                out=out,
            )
        borders = [border(shape[a], 25, 12, mode) for a in axes]
        recursive(image, out, axes, [one] * len(axes), [12] * len(axes), borders, 1.0, threads=2)
    del image, out
