"""Pooling and copies against PyTorch: windows over 1 to 3 axes, adaptive sizes, padding, shuffles."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from step_oracle import Surrounded, near, on_all_threads, threads_restored
from torch.nn import functional

from separable.errors import ArgumentError
from separable.nn.fused.steps.copies import (
    Copies,
    channel_shuffle,
    padding,
    pixel_shuffle,
    pixel_unshuffle,
    run_copy,
    upsampling,
)
from separable.nn.fused.steps.pooling import (
    Pooling,
    adaptive_windows,
    run_average,
    run_pooling,
    slabs_of,
    sliding_windows,
)

CHANNELS = st.sampled_from([1, 3, 16, 17, 40, 64, 130])
MAXIMA = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
MEANS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
ADAPTIVE = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
ONE = sliding_windows(1, 1, 1)


def last(x: torch.Tensor) -> torch.Tensor:
    """Return ``(n, channels, *space)`` as a dense array ``(n, *space, channels)``."""
    return x.movedim(1, -1).contiguous()


def pooled(sizes: Pooling, source: Surrounded, ndim: int, beside: int) -> torch.Tensor:
    shape = (sizes.images, *sizes.out_size[3 - ndim :], sizes.channels)
    return on_all_threads(lambda t: run_pooling(sizes, source.tensor, t.tensor), shape, beside)


@st.composite
def windows(draw):
    ndim = draw(st.integers(1, 3))

    def each(low, high):
        return draw(st.lists(st.integers(low, high), min_size=ndim, max_size=ndim))

    kernel, stride, size = each(1, 4), each(1, 3), each(1, 11)
    pad = [draw(st.integers(0, k // 2)) for k in kernel]
    return ndim, kernel, stride, pad, size, draw(st.booleans())


@given(windows(), st.integers(1, 2), CHANNELS, st.sampled_from([1, 1, 2]), st.sampled_from([0, 5]))
def test_max_pool(case, images, channels, dilation, beside) -> None:
    ndim, kernel, stride, pad, size, ceil_mode = case
    x = torch.randn(images, channels, *size)
    x[torch.rand(x.shape) < 0.01] = math.nan
    try:
        exact = last(MAXIMA[ndim](x, kernel, stride, pad, dilation, ceil_mode=ceil_mode))
    except RuntimeError:
        assume(False)
    made = [
        sliding_windows(n, k, s, p, dilation, ceil_mode=ceil_mode)
        for n, k, s, p in zip(size, kernel, stride, pad, strict=True)
    ]
    source = Surrounded(last(x), beside)
    steps = source.step, source.step
    sizes = Pooling(images, channels, (*[ONE] * (3 - ndim), *made), "max", *steps)
    found = pooled(sizes, source, ndim, beside)
    torch.testing.assert_close(found, exact, rtol=0, atol=0, equal_nan=True)


@given(
    windows(), st.integers(1, 2), CHANNELS, st.booleans(), st.sampled_from([0, 5]), st.booleans()
)
def test_avg_pool(case, images, channels, count_include_pad, beside, divides) -> None:
    ndim, kernel, stride, pad, size, ceil_mode = case
    divisor = 5 if divides and ndim > 1 else 0
    x = torch.randn(images, channels, *size)
    rest = (divisor or None,) if ndim > 1 else ()
    try:
        exact = MEANS[ndim](x.double(), kernel, stride, pad, ceil_mode, count_include_pad, *rest)
    except RuntimeError:
        assume(False)
    made = [
        sliding_windows(n, k, s, p, ceil_mode=ceil_mode, count_include_pad=count_include_pad)
        for n, k, s, p in zip(size, kernel, stride, pad, strict=True)
    ]
    source = Surrounded(last(x), beside)
    steps = source.step, source.step
    sizes = Pooling(images, channels, (*[ONE] * (3 - ndim), *made), "mean", *steps, divisor)
    near(pooled(sizes, source, ndim, beside), last(exact))


@given(st.data(), st.integers(1, 3), CHANNELS)
def test_adaptive_average(data, ndim, channels) -> None:
    each = st.lists(st.integers(1, 12), min_size=ndim, max_size=ndim)
    size, out = data.draw(each), data.draw(each)
    x = torch.randn(2, channels, *size)
    made = [adaptive_windows(n, m) for n, m in zip(size, out, strict=True)]
    sizes = Pooling(2, channels, (*[ONE] * (3 - ndim), *made), "mean")
    near(pooled(sizes, Surrounded(last(x)), ndim, 0), last(ADAPTIVE[ndim](x.double(), out)))


@settings(max_examples=30)
@given(st.integers(1, 3), st.sampled_from([1, 3, 49, 784, 3136]), CHANNELS, st.sampled_from([0, 7]))
def test_global_average(images, positions, channels, beside) -> None:
    x = torch.randn(images, positions, channels) + 3
    source = Surrounded(x, beside)
    found = []
    with threads_restored():
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            made = run_average(source.tensor, images, positions, channels, source.step)
            found.append(made)
    assert all(torch.equal(found[0], f) for f in found)
    near(found[0], x.double().mean(1), 3e-7)
    alone = run_average(source.tensor, 1, positions, channels, source.step)
    assert torch.equal(alone[0], found[0][0])


@pytest.mark.parametrize("channels", [8, 300])
def test_long_averages_lose_nothing(channels: int) -> None:
    x = torch.rand(1, 112 * 112, channels) + 1000
    assert (slabs_of(1, 112 * 112, channels) > 1) == (channels == 8)
    near(run_average(x, 1, 112 * 112, channels), x.double().mean(1), 1.3e-7)


def copied(sizes: Copies, x: torch.Tensor) -> torch.Tensor:
    """Return a copy of an image ``(n, channels, *space)`` in the same layout, run with its channels last."""
    source = Surrounded(last(x))
    found = on_all_threads(lambda t: run_copy(sizes, source.tensor, t.tensor), sizes.out_shape)
    space = found.shape[6 - x.dim() : 4]
    assert all(n == 1 for n in found.shape[1 : 6 - x.dim()])
    return found.reshape(found.shape[0], *space, found.shape[-1]).movedim(-1, 1)


@given(
    st.integers(1, 3), CHANNELS, st.data(),
    st.sampled_from(["constant", "reflect", "replicate", "circular"]),
)  # fmt: skip
def test_padding(ndim, channels, data, mode) -> None:
    size = data.draw(st.lists(st.integers(3, 9), min_size=ndim, max_size=ndim))
    low = -1 if mode == "constant" else 0
    ends = [(data.draw(st.integers(low, 2)), data.draw(st.integers(low, 2))) for _ in size]
    x = torch.randn(2, channels, *size)
    fill = 1.5 if mode == "constant" else 0.0
    flat = [n for pair in reversed(ends) for n in pair]
    exact = functional.pad(x, flat, mode, fill if mode == "constant" else None)
    missing = 3 - ndim
    sizes = padding(2, [1] * missing + size, channels, [(0, 0)] * missing + ends, mode, fill)
    assert torch.equal(copied(sizes, x), exact)


@given(CHANNELS, st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(1, 4))
def test_upsampling(channels, tall, wide, by_y, by_x) -> None:
    x = torch.randn(2, channels, tall, wide)
    out = [tall * by_y, wide * by_x]
    exact = functional.interpolate(x, out, mode="nearest")
    assert torch.equal(copied(upsampling(2, (1, tall, wide), channels, (1, *out)), x), exact)


@given(st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 3, 16, 29]), st.integers(1, 9))
def test_channel_shuffle(groups, each, width) -> None:
    x = torch.randn(2, groups * each, 5, width)
    sizes = channel_shuffle(2, (1, 5, width), groups * each, groups)
    assert torch.equal(copied(sizes, x), functional.channel_shuffle(x, groups))


@given(st.integers(1, 3), st.sampled_from([1, 3, 17]), st.integers(1, 4), st.integers(1, 5))
def test_pixel_shuffles(factor, channels, tall, wide) -> None:
    x = torch.randn(2, channels * factor**2, tall, wide)
    made = functional.pixel_shuffle(x, factor)
    sizes = pixel_shuffle(2, (1, tall, wide), x.shape[1], factor)
    assert torch.equal(copied(sizes, x), made)
    back = pixel_unshuffle(2, (1, tall * factor, wide * factor), channels, factor)
    assert torch.equal(copied(back, made), x)


def test_bad_copies() -> None:
    with pytest.raises(ArgumentError, match=r"multiples of the input's; got \(1, 5, 8\)"):
        upsampling(1, (1, 4, 4), 3, (1, 5, 8))
    with pytest.raises(ArgumentError, match=r"`mode` must be constant.*got 'mirror'"):
        padding(1, (1, 4, 4), 3, [(0, 0)] * 3, "mirror")
