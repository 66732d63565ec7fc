"""The first filter of a new installation compiles only what it needs, and each helper once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from separable.engine.compiled.simd import lanes

CODE = """
    import json
    import numpy as np
    import separable as sep
    from separable.engine.compiled import numba_api
    from numba.core import codegen, event

    counted = []

    class Listener(event.Listener):
        def on_start(self, event):
            counted[-1].append(event.data["dispatcher"].py_func.__name__)

        def on_end(self, event):
            pass

    event.register("numba:compile", Listener())
    coded = []
    finish = codegen.JITCodeLibrary._finalize_specific

    def finalize(self):
        coded[-1].append(self.name)
        finish(self)

    codegen.JITCodeLibrary._finalize_specific = finalize
    for dtype in ("float32", "float64"):
        counted.append([])
        coded.append([])
        sep.ndimage.gaussian_filter(np.ones((300, 300), dtype), 2.0)
    print(json.dumps([counted, coded]))
"""


@pytest.mark.apart
def test_the_first_filter_compiles_little(tmp_path: Path) -> None:
    environment = {**os.environ, "SEPARABLE_CACHE_DIR": str(tmp_path), "SEPARABLE_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (first, second), (coded, coded_second) = json.loads(done.stdout)
    assert {"load_tile", "filter_columns", "filter_rows", "band_of_two", "sweep_ahead"} <= set(
        first
    )
    assert {"load_tile", "filter_columns", "filter_rows"} <= set(second)
    # Nothing of what another filter needs: planes, bands of one axis, dense kernels, other taps.
    assert not {
        "sweep_items",
        "stream_planes",
        "finish_planes",
        "band_of_one",
        "band_direct",
    } & set(first)
    assert not {"correlate_odd", "correlate_general", "filter_direct"} & set(first)
    # Vectors of 128 bits store four at a time, which are two helpers more.
    assert len(first) <= (41 if lanes("float32") == 4 else 39), sorted(first)
    assert len(second) <= 22, sorted(second)
    # The schedule does not depend on the type of the image.
    assert not {"sweep_ahead", "band_of_two", "run_alone"} & set(second)
    # A helper is turned into machine code with its callers only, but for a few that are faster so.
    stages = {"load_tile", "filter_columns", "filter_rows"}
    tuned = {"_gather", "_gather_strided", "_scatter", "_prefetch_lines", "_load_rows"}
    assert set(coded) <= stages | tuned | {"nrt", "band_of_two", "sweep_ahead", "run_alone"}
    assert set(coded_second) <= stages | tuned
