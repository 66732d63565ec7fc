"""Exact text of a plan on a machine with invented rates, and the meaning of its columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import separable as sep
from separable.kernels import ball, disk, laplacian_of_gaussian
from separable.machine import Machine
from separable.plan import Plan

HERE = Path(__file__).parent

ROUND = Machine(
    "a machine of round numbers",
    2,
    {
        "dense": {"float32": {"dense tap": 2e-11, "element": 3e-10}},
        "correlate": {"float32": {"dense tap": 1e-9, "element": 2e-9}},
        "fused": {
            "float32": {"element": 3e-10, "axis element": 1e-10, "tap": 2e-11, "folded tap": 1e-11}
        },
        "box": {"float32": {"element": 3e-10, "line element": 2e-10}},
        "nested": {"float32": {"element": 6e-10, "tap": 5e-11, "folded tap": 2e-11}},
        "fft": {"float32": {"element log": 4e-10, "call": 1e-4}},
        "overlap": {"float32": {"element log": 3e-10, "tile": 5e-5}},
        "store": {"uint8": {"element": 1e-9}},
    },
)  # fmt: skip


def plans() -> dict[str, Plan]:
    common = {"machine": ROUND, "threads": 2}
    return {
        "separable": sep.plan(np.ones((7, 7)) / 49, (4096, 4096), "float32", **common),
        "log": sep.plan(laplacian_of_gaussian(3).dense(), (2048, 2048), "float32", **common),
        "disk_tol": sep.plan(
            disk(10) / 317, (512, 512, 3), "uint8", axes=(0, 1), tol=0.2, mode="constant",
            cval=128, **common,
        ),
        "ball": sep.plan(ball(3), (64, 256, 256), "float32", method="nested", **common),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["separable", "log", "disk_tol", "ball"])
def test_printed_plan(name: str, request: pytest.FixtureRequest) -> None:
    p = plans()[name]
    kept = HERE / f"plan_{name}.txt"
    if request.config.getoption("--rewrite-snapshots"):
        kept.write_text(str(p) + "\n")
    assert str(p) + "\n" == kept.read_text()
    assert max(map(len, str(p).splitlines())) <= 80


@pytest.mark.parametrize("name", ["separable", "log", "disk_tol", "ball"])
def test_the_table_says_what_the_plan_holds(name: str) -> None:
    p = plans()[name]
    text = str(p)
    for c in p.candidates:
        assert c.name in text
    assert text.count("chosen") == 1
    assert f"Chosen: {p.chosen.title}" in text.replace("\n", " ")
