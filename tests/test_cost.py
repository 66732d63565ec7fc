"""The figures for multiplications that readers of introductions know, and what adds up."""

from __future__ import annotations

import math

import pytest

from separable import cost, errors


@pytest.mark.parametrize(
    ("kernel", "dense", "separable", "ratio"),
    [
        ((3, 3), 9, 6, 1.5),
        ((7, 7), 49, 14, 3.5),
        ((7, 7, 7), 343, 21, 16.3),
        ((10, 10, 10), 1000, 30, 33.3),
    ],
)
def test_multiplications_an_output(
    kernel: tuple[int, ...], dense: int, separable: int, ratio: float
) -> None:
    full, passes = cost.dense_filter(kernel), cost.separable_filter(kernel)
    assert (full.multiplications, passes.multiplications) == (dense, separable)
    assert round(full.multiplications / passes.multiplications, 1) == ratio
    side, axes = kernel[0], len(kernel)
    assert math.isclose(full.multiplications / passes.multiplications, side ** (axes - 1) / axes)


def test_layer_3x3_64_to_128() -> None:
    assert cost.conv((3, 3, 64), (3, 3), 128).multiplications == 73_728
    assert cost.separable((3, 3, 64), (3, 3), 128).multiplications == 8_768
    assert round(73_728 / 8_768, 2) == 8.41


@pytest.mark.parametrize(
    ("shape", "kernel", "filters", "dense", "separable", "ratio"),
    [
        ((12, 12, 3), (5, 5), 256, 1_228_800, 53_952, 22.8),
        ((15, 15, 3), (3, 3), 10, 45_630, 9_633, 4.74),
    ],
)
def test_layers(
    shape: tuple[int, ...], kernel: tuple[int, ...], filters: int, dense: int, separable: int,
    ratio: float,
) -> None:  # fmt: skip
    full = cost.conv(shape, kernel, filters).multiplications
    apart = cost.separable(shape, kernel, filters).multiplications
    assert (full, apart) == (dense, separable)
    assert float(f"{full / apart:.3g}") == ratio


def test_break_even_multiplier() -> None:
    """Cout K^N / (K^N + Cout): 8.7 for 3x3 with 256 filters, so M = 9 costs 3 % more than dense."""
    dense = cost.conv((3, 3, 1), (3, 3), 256).multiplications
    nine = cost.separable((3, 3, 1), (3, 3), 256, depth_multiplier=9).multiplications
    four = cost.separable((3, 3, 1), (3, 3), 256, depth_multiplier=4).multiplications
    assert round(nine / dense, 2) == 1.04 or round(nine / dense, 2) == 1.03
    assert round(dense / four, 1) == 2.2


def test_against_a_loop_over_outputs() -> None:
    """Count by brute force: every output, every weight it reads."""
    height, width, channels, filters, k, stride = 9, 8, 3, 5, 3, 2
    rows, columns = range(0, height - k + 1, stride), range(0, width - k + 1, stride)
    dense = depthwise = pointwise = 0
    for _ in rows:
        for _ in columns:
            dense += filters * channels * k * k
            depthwise += channels * k * k
            pointwise += channels * filters
    shape = (height, width, channels)
    assert cost.conv(shape, (k, k), filters, stride=stride).multiplications == dense
    found = cost.separable(shape, (k, k), filters, stride=stride)
    assert found.multiplications == depthwise + pointwise
    assert found.parameters == channels * k * k + channels * filters
    assert found.flops == 2 * found.macs == 2 * found.multiplications


def test_costs_add_up() -> None:
    a, b = cost.dense_filter((3, 3), outputs=10), cost.dense_filter((5, 5), outputs=10)
    assert (a + b).multiplications == 340
    assert (a + b).weight_bytes == 4 * 34
    assert math.isnan(cost.Cost().multiplications_per_byte)
    with pytest.raises(TypeError):
        a + 1  # type: ignore[operator]


def test_errors() -> None:
    with pytest.raises(errors.ArgumentError, match="`kernel_shape` must be sizes >= 1; got"):
        cost.dense_filter((3, 0))
    with pytest.raises(errors.ArgumentError, match="must fit into the input"):
        cost.conv((3, 3, 1), (5, 5), 4)
    with pytest.raises(
        errors.ArgumentError, match="one size for each kernel axis and the channels"
    ):
        cost.conv((3, 3), (3, 3), 4)
