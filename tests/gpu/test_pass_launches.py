"""Bytes and tiles of the launches of filters."""

from __future__ import annotations

import math

import pytest
import torch
from tests.gpu.gpu_launches import FILTERS


@pytest.mark.parametrize("name", FILTERS)
def test_each_byte_of_the_image_is_read_once_and_each_result_written_once(name: str) -> None:
    work = FILTERS[name]
    made = work.launch()
    size = math.prod(work.shape) * torch.empty((), dtype=work.dtype).element_size()
    assert (made.read_bytes, made.written_bytes) == (size, size * work.bands)
    # The tiles cover every output exactly once.
    n, c = made.arguments, made.constants
    width = c["LANES"] * c["PHASES"]
    assert (n["tiles_x"] - 1) * width < n["n_x"] * n["inner"] <= n["tiles_x"] * width
    assert (n["tiles_y"] - 1) * n["rows"] < n["n_y"] <= n["tiles_y"] * n["rows"]
    assert (n["tiles_z"] - 1) * c["DEPTH"] < n["n_z"] <= n["tiles_z"] * c["DEPTH"]
    batch = math.prod(work.shape) // (n["n_x"] * n["inner"] * n["n_y"] * n["n_z"])
    assert made.grid == (n["tiles_x"] * n["tiles_y"] * n["tiles_z"] * batch,)
