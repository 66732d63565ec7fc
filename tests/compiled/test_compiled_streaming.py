"""Outputs large enough to be stored past the caches, with awkward alignments."""

import numpy as np
import pytest
from compiled_oracle import border, correlate_terms

from separable.engine.compiled import tiling

SHAPES = [
    (64, 128),
    (64, 100),
    (200, 1, 20),
    (65, 3, 32),
    (10, 20, 64),
    (10, 33, 16),
    (7, 16, 3, 16),
]


@pytest.mark.parametrize("work", ["float32", "float64"])
@pytest.mark.parametrize("skip", [0, 1, 3, 4, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_same_as_ordinary_stores(shape, skip, work, monkeypatch):
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape).astype(work)
    size = image.size
    for axes in ((0,), (1,), (0, 1)) + (((0, 1, 2),) if len(shape) > 2 else ()):
        terms = [[rng.normal(size=3)] * len(axes)]
        borders = [border(shape[a], 3, 1, "reflect") for a in axes]
        results = []
        for limit in (1 << 60, 1):
            monkeypatch.setattr(tiling, "STREAM_BYTES", limit)
            raw = np.full(size + 64 + skip, np.nan, work)
            out = raw[skip : skip + size].reshape(shape)
            correlate_terms(image, out, terms, axes, [1] * len(axes), borders, 0, work, 2)
            assert np.isnan(raw[:skip]).all()
            assert np.isnan(raw[skip + size :]).all()
            results.append(out)
        assert np.array_equal(*results)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
@pytest.mark.parametrize("shape", [(70, 700), (40, 513), (33, 150, 3), (5, 40, 600), (300, 40)])
@pytest.mark.parametrize("axes", [(0, 1), (1,), (0,)])
def test_same_as_loads_in_their_turn(shape, axes, dtype, monkeypatch):
    """Tiles loaded while the one before is filtered; only large images would do so."""
    rng = np.random.default_rng(0)
    image = (rng.random(shape) * 255).astype(dtype)
    work = "float64" if dtype == "float64" else "float32"
    terms = [[rng.random(9) / 5 for _ in axes] for _ in range(2)]
    for mode, threads in [("reflect", 1), ("constant", 2)]:
        borders = [border(shape[a], 9, 4, mode) for a in axes]
        results = []
        for limit, tiles in ((1 << 60, 4), (0, 0)):
            monkeypatch.setattr(tiling, "OVERLAP_BYTES", limit)
            monkeypatch.setattr(tiling, "OVERLAP_TILES", tiles)
            monkeypatch.setattr(
                tiling.TermSchedule, "_is_crowded", lambda _, limit=limit: not limit
            )
            out = np.zeros(shape, dtype)
            correlate_terms(image, out, terms, axes, [4] * len(axes), borders, 2.5, work, threads)
            results.append(out)
        assert results[0].any()
        np.testing.assert_array_equal(*results)
