"""Exact output of the commands on a machine with invented rates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from separable.cli import run
from separable.machine import Machine

HERE = Path(__file__).parent

ROUND = Machine(
    "a machine of round numbers",
    2,
    {
        "dense": {"float64": {"dense tap": 5e-11, "element": 6e-10, "call": 0.0}},
        "fused": {"float64": {"element": 6e-10, "axis element": 2e-10, "folded tap": 2e-11}},
        "fft": {"float64": {"element log": 4e-10, "call": 1e-4}},
        "overlap": {"float64": {"element log": 3e-10, "tile": 5e-5}},
    },
)

COMMANDS = {
    "kernels": ["kernel"],
    "kernel_sobel": ["kernel", "sobel"],
    "kernel_log": ["kernel", "log:2"],
    "kernel_gaussian_3d": ["kernel", "gaussian:1", "--ndim", "3"],
    "kernel_gaussian_1d": ["kernel", "gaussian:1", "--ndim", "1"],
    "plan_gaussian": ["plan", "--kernel", "gaussian:2", "--shape", "4096x4096"],
    "plan_disk": ["plan", "-k", "disk:10", "-s", "512x512x3", "--axes", "0,1", "--tol", "0.2"],
    "machine": ["machine", "--show"],
}


# What show_config says of a made-up computer.
FOUND = {
    "separable": "1.2.3", "python": "3.12.0", "platform": "Linux x86_64",
    "packages": {"numpy": "2.0.0", "scipy": "1.14.0", "numba": "0.62.0", "torch": None},
    "engine": {"name": "compiled", "reason": "", "vector_bits": 256, "cpu": "haswell"},
    "threads": {"count": 2, "source": "SEPARABLE_NUM_THREADS"},
    "cache": {"folder": "/cache/engine-0", "state": "read-only", "bytes": 3 << 20},
    "machine": {
        "name": "a machine of round numbers", "source": "this computer", "path": "x",
        "origin": "measured on this computer (a machine of round numbers)",
    },
    "environment": {"SEPARABLE_NUM_THREADS": "2"},
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.compiled if n.startswith("plan") else ()) for n in COMMANDS],
)
def test_printed_text(
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.modules["separable.plan.planned_filter"], "current", lambda: ROUND)
    monkeypatch.setattr(sys.modules["separable.cli.machine_command"], "current", lambda: ROUND)
    monkeypatch.setattr(
        sys.modules["separable.cli.machine_command"], "configuration", lambda: FOUND
    )
    monkeypatch.setattr(sys.modules["separable.plan.plan_request"], "get_num_threads", lambda: 2)
    assert run(COMMANDS[name]) == 0
    text = capsys.readouterr().out
    kept = HERE / f"cli_{name}.txt"
    if request.config.getoption("--rewrite-snapshots"):
        kept.write_text(text, encoding="utf-8")
    assert text == kept.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 80
    assert all(line == line.rstrip() for line in text.splitlines())
