"""Outputs large enough to be stored past the caches, with awkward alignments."""

import numpy as np
import pytest
from compiled_oracle import border

from separable.engine.compiled import schedule
from separable.engine.compiled.fused import correlate_terms

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
            monkeypatch.setattr(schedule, "STREAM_BYTES", limit)
            raw = np.full(size + 64 + skip, np.nan, work)
            out = raw[skip : skip + size].reshape(shape)
            correlate_terms(image, out, terms, axes, [1] * len(axes), borders, 0, work, 2)
            assert np.isnan(raw[:skip]).all()
            assert np.isnan(raw[skip + size :]).all()
            results.append(out)
        assert np.array_equal(*results)
