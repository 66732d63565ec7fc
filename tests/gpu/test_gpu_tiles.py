"""Choice of tiles by the cost model: what fits into the registers, and what is predicted to be faster."""

from __future__ import annotations

import math
import random

import pytest
from tests.gpu.gpu_launches import WORKS, layer_launches

from separable.gpu import PROFILES
from separable.gpu.device_profile import for_capability
from separable.gpu.gradient_tiles import (
    MOST_REGISTERS,
    GradientPass,
    gradient_registers,
    gradient_tiles,
)
from separable.gpu.layer_sizes import LayerSizes
from separable.gpu.rank_terms import rank_registers, rank_tiles
from separable.gpu.tuned_tiles import assumed_device, device_of


def drawn(seed: int) -> LayerSizes:
    draw = random.Random(seed)
    axes, channels = draw.choice((1, 2, 3)), draw.choice((1, 3, 16, 96, 512))
    size, kernel = [draw.choice((1, 5, 14, 64)) for _ in range(axes)], draw.choice((1, 3, 5))
    window = (draw.choice((1, 2)),) * axes, (kernel // 2,) * (2 * axes), (1,) * axes
    outputs = draw.choice((1, 24, 64, 128, 256, 257, 1000))
    return LayerSizes.of((2, channels, *size), (channels, 1, *[kernel] * axes), outputs, window)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("precision", ["tf32", "tf32x3", "bfloat16"])
def test_gradients_of_any_layer_have_a_tile_that_fits(name: str, precision: str) -> None:
    device = PROFILES[name]
    for seed in range(40):
        sizes, item = drawn(seed), 2 if precision == "bfloat16" else 4
        made = GradientPass(precision, item, last=seed % 2 == 0, clamps=seed % 3 == 0)
        tiles = gradient_tiles(device, sizes, made)
        assert tiles
        for tile in tiles:
            assert math.prod(tile.shape) >= 16  # what a product of tensor cores needs
            # Where none keeps the margin, the smallest tile is left, which still fits.
            most = MOST_REGISTERS[device.capability[0]] if len(tiles) > 1 else 200
            assert gradient_registers(sizes, tile, made) <= most
            assert tile.outputs >= sizes.outputs or not tile.sums_all


def test_gradients_that_split_values_have_smaller_tiles() -> None:
    sizes, device = drawn(0), PROFILES["h100"]
    plain, split = (
        gradient_tiles(device, sizes, GradientPass(p, 4, False, True)) for p in ("tf32", "tf32x3")
    )
    assert set(split) < set(plain)


def test_passes_that_split_values_have_smaller_tiles() -> None:
    sizes = LayerSizes.of((16, 64, 56, 56), (64, 1, 13, 13), 0, ((1, 1), (6,) * 4, (1, 1)))
    for device in PROFILES.values():
        plain, split = (
            {t for t, _ in rank_tiles(device, sizes, 2, p, 4)} for p in ("tf32", "tf32x3")
        )
        assert split < plain
        assert all(rank_registers(t, "tf32x3") <= 200 for t in split)


def test_tiles_are_chosen_for_the_described_device() -> None:
    made = {}
    for capability in ((8, 0), (9, 0), (10, 0)):
        with assumed_device(for_capability(capability)):
            assert device_of(WORKS[1].x.device) == for_capability(capability)
            made[capability] = [m.constants for m in layer_launches(WORKS[1])]
    assert device_of(WORKS[1].x.device) == for_capability((9, 0))
    assert made[9, 0] != made[10, 0]
