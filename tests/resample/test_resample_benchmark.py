"""The benchmark of resampling compares calls with the same results."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.compiled
def test_every_row_compares_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    seen = 0
    for row in importlib.import_module("resampling").rows(8):
        if row.theirs is None:
            continue
        seen += 1
        ours, theirs = np.asarray(row.ours(), float), np.asarray(row.theirs(), float)
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= row.error, row.name
    assert seen >= 1  # SciPy is always there
