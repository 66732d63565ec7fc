"""Recursive Gaussians: the measured error bounds what the filter does, at every border."""

import numpy as np
import pytest
from compiled_oracle import MODES, STORED, awkward, border, recursive, reference, samples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from separable.engine.compiled import recursive_filter
from separable.engine.compiled import thread_pool as pool
from separable.engine.compiled.recursive_filter import ORDERS, fit, fit_within

pytestmark = pytest.mark.widths

SIGMAS = (0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)


def gaussian(sigma, odd=False, truncate=4.0):
    reach = max(1, int(truncate * sigma + 0.5))
    k = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (k / sigma) ** 2)
    bell /= bell.sum()
    return bell * k / sigma**2 if odd else bell


def filtered(
    image,
    taps,
    axes,
    mode,
    cval=0.0,
    order=5,
    work="float64",
    dtype=None,
    threads=1,
    out=None,
    shift=0,
):
    """Filter along each axis with the same taps, into an array full of rubbish."""
    one, error = fit(taps, order)
    left = len(taps) // 2 + shift
    borders = [border(image.shape[a], len(taps), left, mode) for a in axes]
    if out is None:
        out = np.empty(image.shape, dtype or image.dtype)
        out.view(np.uint8)[...] = 0xFF
    n = len(axes)
    result = recursive(image, out, axes, [one] * n, [left] * n, borders, cval, work, threads)
    assert result is out
    wanted = reference(image, [[taps] * n], axes, [left] * n, borders, cval)
    size = max(np.abs(image.astype(float)).max(), abs(cval))
    size *= np.abs(taps).sum() ** n
    return out, wanted, ((1 + error) ** n - 1) * size, size


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    monkeypatch.setattr(pool, "poison", True)


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_accuracy_of_the_fit(sigma, odd):
    limits = {4: (6e-4, 4e-3), 5: (1.6e-4, 1.3e-3), 6: (1.3e-4, 1e-3)}
    for order in ORDERS:
        taps = gaussian(sigma, odd)
        one, error = fit(taps, order)
        assert 0 < error <= limits[order][odd]
        assert one.order == order
        assert one.reach == len(taps) // 2
        assert np.all(np.abs(one.poles) < 1)
        half = one.response(4 * one.reach + 60)
        measured = np.abs(half - np.pad(taps[one.reach :], (0, len(half) - one.reach - 1)))
        assert (measured[0] + 2 * measured[1:].sum()) / np.abs(taps).sum() <= error * (1 + 1e-9)
        if odd:
            moment = 2 * np.arange(len(half)) @ half
            assert moment == pytest.approx(np.arange(-one.reach, one.reach + 1) @ taps, rel=1e-6)
        else:
            assert half[0] + 2 * half[1:].sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("sigma", [1.0, 7.0])
def test_a_longer_gaussian_is_met_better(sigma):
    errors = [fit(gaussian(sigma, truncate=8), order)[1] for order in ORDERS]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 1e-5


def test_the_fit_follows_scale_and_sign():
    taps = gaussian(4)
    _, error = fit(taps)
    for factor in (-3.0, 1e-200, 1e30):
        one, same = fit(factor * taps)
        assert same == pytest.approx(error, rel=1e-6)
        assert one.gain == pytest.approx(factor)


@pytest.mark.parametrize(
    "taps",
    [
        np.ones(9),
        [1.0],
        [1.0, 2.0],
        gaussian(3)[1:],
        np.arange(9.0),
        np.zeros(9),
        [0, 0, 1, 0, 0],
        [1, 2, np.nan, 2, 1],
        np.hanning(41) ** 0.3,
        [-1, 0, 1],
        [1, -2, 1],
        gaussian(3)[None],
        1 / (1 + np.arange(-20, 21) ** 2),
    ],
)
def test_kernels_that_are_not_gaussian(taps):
    found = fit(taps)
    assert found is None or found[1] <= recursive_filter.MOST_ERROR


def test_the_cheapest_that_does():
    taps = gaussian(30)
    assert [fit_within(taps, limit)[0].order for limit in (1e-3, 2e-4, 1.25e-4)] == [4, 5, 6]
    assert fit_within(taps, 1e-5) is None
    with pytest.raises(ValueError, match="`order` must be one of"):
        fit(taps, 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_error_bounds_the_difference(sigma, order, mode):
    rng = np.random.default_rng(0)
    for odd in (False, True):
        taps = gaussian(sigma, odd)
        for shape in ((1,), (7,), (300,), (40, 33), (1, 50), (9, 8, 21)):
            image = rng.choice([-1.0, 1.0], shape) if order == 4 else rng.uniform(-1, 1, shape)
            axes = tuple(range(image.ndim))
            found, wanted, bound, size = filtered(image, taps, axes, mode, 0.7, order)
            assert np.max(np.abs(found - wanted)) <= bound + 1e-12 * size


@pytest.mark.parametrize("mode", MODES)
def test_as_scipy(mode):
    image = np.random.default_rng(1).normal(size=(130, 77))
    name = {"wrap": "grid-wrap", "constant": "grid-constant"}.get(mode, mode)
    wanted = ndimage.gaussian_filter(image, 6.0, mode=name, cval=0.5)
    found, _, bound, _ = filtered(image, gaussian(6), (0, 1), mode, 0.5)
    assert np.max(np.abs(found - wanted)) <= bound


def test_an_origin():
    image = np.random.default_rng(2).normal(size=(60, 70))
    for shift in (-20, -3, 5, 20):
        found, wanted, bound, _ = filtered(image, gaussian(5), (0, 1), "reflect", shift=shift)
        assert np.max(np.abs(found - wanted)) <= bound


@pytest.mark.parametrize("work", ["float32", "float64"])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_flat_image_stays_flat(sigma, work):
    image = np.full((400, 50), 3.0, work)
    found, *_ = filtered(image, gaussian(sigma), (0, 1), "reflect", work=work)
    assert np.max(np.abs(found / 3 - 1)) <= (1e-5 if work == "float32" else 1e-12)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_float32_is_enough(sigma, order):
    image = np.random.default_rng(3).uniform(0, 1, (3000, 16)).astype(np.float32)
    for odd in (False, True):
        taps = gaussian(sigma, odd)
        single, *_ = filtered(image, taps, (0,), "mirror", order=order, work="float32")
        double, _, _, size = filtered(image, taps, (0,), "mirror", order=order, dtype="float64")
        assert np.max(np.abs(single - double)) <= 1e-5 * size


@pytest.mark.parametrize("dtype", STORED)
def test_dtypes(dtype):
    image = samples(np.random.default_rng(4), (90, 80), dtype)
    found, wanted, bound, size = filtered(image, gaussian(3), (0, 1), "reflect", dtype="float64")
    assert np.max(np.abs(found - wanted)) <= bound + 1e-12 * size
    found, wanted, bound, size = filtered(image, gaussian(3), (0, 1), "reflect")
    rounding = 0.5 if np.dtype(dtype).kind in "iu" else float(np.finfo(dtype).eps) * size
    assert np.max(np.abs(found.astype(float) - wanted)) <= bound + rounding + 1e-9 * size


@pytest.mark.parametrize(
    "shape", [(700, 900), (64, 80, 90), (300, 200, 3), (200_000,), (3, 80_000)]
)
def test_threads_change_nothing(shape):
    image = samples(np.random.default_rng(5), shape, "float32")
    axes = tuple(range(min(3, len(shape)))) if shape[-1] != 3 else (0, 1)
    one, two, three = (
        filtered(image, gaussian(4), axes, "wrap", work="float32", threads=t)[0] for t in (1, 2, 3)
    )
    assert one.tobytes() == two.tobytes() == three.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_long_lines_in_pieces(mode, monkeypatch):
    image = np.random.default_rng(6).uniform(-1, 1, 100_003)
    pieces, wanted, bound, _ = filtered(image, gaussian(60), (0,), mode, 0.5)
    assert np.max(np.abs(pieces - wanted)) <= bound + 1e-9
    monkeypatch.setattr(recursive_filter, "PIECE", 1 << 30)
    whole, *_ = filtered(image, gaussian(60), (0,), mode, 0.5)
    assert np.max(np.abs(pieces - whole)) <= 1e-8


@pytest.mark.parametrize(
    "axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2), (0, 1, 2, 3)]
)
@pytest.mark.parametrize("shape", [(4, 18, 19, 3), (3, 12, 5, 40), (3, 4, 30, 5)])
def test_axes(shape, axes):
    for dtype in ("float64", "uint8"):
        image = samples(np.random.default_rng(7), shape, dtype)
        found, wanted, bound, size = filtered(
            image, gaussian(1.2), axes, "wrap", dtype="float64", threads=2
        )
        assert np.max(np.abs(found - wanted)) <= bound + 1e-12 * size
        found, wanted, bound, size = filtered(image, gaussian(1.2), axes, "wrap", threads=2)
        assert np.max(np.abs(found - wanted)) <= bound + 0.5 * (dtype == "uint8") + 1e-12 * size


@pytest.mark.parametrize(
    "how", ["offset", "fortran", "reversed", "reversed rows", "strided", "padded"]
)
def test_awkward_memory(how):
    image = awkward(samples(np.random.default_rng(8), (90, 77), "float32"), how)
    for out_how in ("plain", how):
        out = awkward(np.zeros(image.shape, "float64"), out_how)
        _, wanted, bound, size = filtered(image, gaussian(2), (0, 1), "reflect", threads=2, out=out)
        assert np.max(np.abs(out - wanted)) <= bound + 1e-12 * size


def test_a_step_is_forgotten():
    image = np.random.default_rng(9).random((4000, 20), np.float32)
    clean, *_ = filtered(image, gaussian(8), (0,), "reflect", work="float32")
    step = image.copy()
    step[:2000] += 1e7
    found, *_ = filtered(step, gaussian(8), (0,), "reflect", work="float32")
    beyond = 2000 + 25 * 8
    assert np.max(np.abs(found[beyond:] - clean[beyond:])) <= 1e-6


def test_denormals_are_flushed_only_inside():
    image = np.zeros((5000, 20), np.float32)
    image[0] = 1
    found, *_ = filtered(image, gaussian(8), (0,), "reflect", work="float32")
    tiny = np.finfo(np.float32).tiny
    assert np.all((found == 0) | (np.abs(found) >= tiny))
    assert np.float32(tiny) * np.float32(0.5) != 0


def check_anything(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=4)))
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1, max_size=3))))
    taps = gaussian(data.draw(st.floats(0.5, 20)), data.draw(st.booleans()))
    mode, order = data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from(ORDERS))
    image = np.random.default_rng(len(shape)).uniform(-1, 1, shape)
    threads = data.draw(st.integers(1, 3))
    found, wanted, bound, size = filtered(image, taps, axes, mode, 0.9, order, threads=threads)
    assert np.max(np.abs(found - wanted)) <= bound + 1e-12 * size


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_anything(data):
    check_anything(data)


@pytest.mark.long
@given(st.data())
def test_anything_long(data):
    check_anything(data)


def test_refusals():
    one, _ = fit(gaussian(1))
    places = border(9, 9, 4, "reflect")
    image, out = np.zeros(9), np.empty(9)
    with pytest.raises(ValueError, match="must describe 1 axes"):
        recursive(image, out, (0,), [one], [4, 4], [places])
    with pytest.raises(ValueError, match="must have 17 entries"):
        recursive(image, out, (0,), [one], [4], [places[1:]])
    with pytest.raises(ValueError, match="must be different"):
        recursive(image, out, (0, 0), [one] * 2, [4] * 2, [places] * 2)
    with pytest.raises(ValueError, match="`out` must have shape"):
        recursive(image, np.empty(8), (0,), [one], [4], [places])
