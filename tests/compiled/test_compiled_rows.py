"""Filters along whole rows give the bits of filters that transpose, and stay within their arrays."""

import numpy as np
import pytest
from compiled_oracle import MODES, awkward, border, reference, samples, scale
from test_compiled_memory import Guarded

from separable.engine.compiled import thread_pool as pool
from separable.engine.compiled.row_tiling import MOST_TAPS, RowSchedule
from separable.engine.compiled.term_sums import Correlation
from separable.engine.compiled.tiling import TermSchedule

pytestmark = pytest.mark.widths

RNG = np.random.default_rng(7)
SHAPES = [(1, 1), (1, 40), (40, 1), (7, 9), (64, 64), (65, 131), (9, 600), (33, 50, 3), (3, 31, 33)]
TAPS = {
    "even": [np.array([1.0, 2.0, 1.0]), np.array([0.5, 3.0, 3.0, 0.5])],
    "odd": [np.array([-1.0, 0.0, 1.0]), np.array([-2.0, 1.0, -1.0, 2.0])],
    "general": [np.array([1.0, 5.0, 2.0]), np.array([3.0, 1.0])],
}


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)


def correlation(shape, taps, axes, mode, left=None):
    """Return a correlation with one term, and what the oracle needs of it."""
    lefts = [t.size // 2 if left is None else min(left, t.size - 1) for t in taps]
    borders = [border(shape[a], t.size, k, mode) for a, t, k in zip(axes, taps, lefts, strict=True)]
    return Correlation([taps], axes, lefts, borders, 1.5, "float32", shape), borders


def schedule_of(one):
    return next(iter(one._schedules.values()))


@pytest.mark.parametrize("kind", TAPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_give_the_bits_of_transposed_tiles(shape, kind, monkeypatch):
    axes = (1, 2) if shape[-1] == 33 and len(shape) == 3 else (0, 1)
    for dtype in ("float32", "uint8", "int16"):
        image = samples(RNG, shape, dtype)
        for along_x in TAPS[kind]:
            for along_y in (TAPS["even"][0], TAPS["odd"][1], None):
                if along_y is None and shape == (40, 1):  # vectors run across rows so short
                    continue
                taps = [along_x] if along_y is None else [along_y, along_x]
                own = axes[-1:] if along_y is None else axes
                mode = MODES[RNG.integers(len(MODES))]
                left = int(RNG.integers(along_x.size))
                by_rows, borders = correlation(shape, taps, own, mode, left)
                results = [
                    by_rows(image, np.full(shape, 77, dtype), threads=n).copy() for n in (1, 2, 3)
                ]
                assert type(schedule_of(by_rows)) is RowSchedule
                with monkeypatch.context() as patch:
                    patch.setattr(RowSchedule, "suits", staticmethod(lambda *_: False))
                    transposed, _ = correlation(shape, taps, own, mode, left)
                    expected = transposed(image, np.empty(shape, dtype))
                    assert type(schedule_of(transposed)) is TermSchedule
                for result in results:
                    assert np.array_equal(result, expected)
                if dtype == "float32":
                    exact = reference(image, [taps], own, None, borders, 1.5)
                    error = np.abs(results[0] - exact).max()
                    assert error <= 1e-6 * scale(image, [taps], 1.5)


@pytest.mark.parametrize(
    "how", ["offset", "fortran", "reversed", "reversed rows", "strided", "padded"]
)
def test_awkward_images(how):
    taps = [TAPS["even"][0], TAPS["odd"][0]]
    image = samples(RNG, (37, 70), "float32")
    one, borders = correlation(image.shape, taps, (0, 1), "reflect")
    result = one(awkward(image, how), np.empty_like(image), threads=2)
    exact = reference(image, [taps], (0, 1), None, borders, 1.5)
    assert np.abs(result - exact).max() <= 1e-6 * scale(image, [taps], 1.5)


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (64, 64), (33, 130), (17, 33, 3), (5, 333)])
def test_guard_pages(shape, dtype, at_end):
    image, out = (Guarded(shape, dtype, at_end).array for _ in range(2))
    image[...] = samples(RNG, shape, dtype)
    for mode in MODES:
        for count in range(2, MOST_TAPS + 1):
            one, _ = correlation(shape, [np.ones(count)] * 2, (0, 1), mode)
            one(image, out, threads=2)
            assert type(schedule_of(one)) is RowSchedule
    del image, out


def test_what_is_not_filtered_along_rows():
    """Many taps, results of several lines of memory, and sums of terms are transposed."""
    image = samples(RNG, (200, 210), "float32")
    out = np.empty_like(image)
    long, _ = correlation(image.shape, [np.ones(3), np.ones(MOST_TAPS + 1)], (0, 1), "wrap")
    long(image, out)
    spread, _ = correlation(image.shape, [np.ones(3)] * 2, (0, 1), "wrap")
    spread(image, np.empty((200, 420), np.float32)[:, ::2])
    for one in (long, spread):
        assert type(schedule_of(one)) is TermSchedule
    terms = [[np.ones(3)] * 2, [np.array([1.0, 2.0, 1.0])] * 2]
    borders = [border(n, 3, 1, "wrap") for n in image.shape]
    several = Correlation(terms, (0, 1), (1, 1), borders, 0.0, "float32", image.shape)
    several(image, out)
    assert type(schedule_of(several)) is TermSchedule
