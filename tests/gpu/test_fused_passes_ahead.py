"""The kernel of all passes compiled ahead of time for three generations of GPUs, in a process of its own."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import pytest

import separable as sep
from separable import kernels

torch = pytest.importorskip("torch", reason="needs torch, which is not installed")
pytest.importorskip("triton", reason="needs triton, which is not installed")

from separable.gpu import interpreting  # noqa: E402
from separable.gpu.ahead import CAPABILITIES, described  # noqa: E402
from separable.gpu.kernel_launch import recorded  # noqa: E402


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tensors of this computer stand for those of a GPU; the compiler runs in another process."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")


CODE = """
import json, sys
from separable.gpu.ahead import compile_ahead
for line in sys.stdin:
    made, capability = json.loads(line)
    done = compile_ahead(made, capability)
    print(json.dumps([done.registers, done.spilled_bytes, done.shared_bytes]), flush=True)
"""
GAUSSIAN = kernels.gaussian(2)  # of 17 taps along each axis


SIX = [
    "gaussian:2",
    *(f"gaussian:2,order={y}x{x}" for y, x in ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0))),
]
PLANE, VOLUME = (1024, 1024), (64, 128, 128)


def launch_of(shape: tuple[int, ...], kernel: Any, dtype: Any, **options: Any) -> Any:
    """The launch of a filter or a bank of a large image, which is not run."""
    image = torch.empty(shape, dtype=dtype)
    with interpreting(), recorded(run=False) as made:
        if isinstance(kernel, list):
            sep.bank(kernel, shape, str(dtype).removeprefix("torch."), **options)(image)
        else:
            sep.convolve(image, kernel, method="triton", **options)
    (only,) = made
    return only


CASES = {
    "plane": (PLANE, GAUSSIAN, torch.float32, {}),
    "plane, constant": (PLANE, GAUSSIAN, torch.float32, {"mode": "constant", "cval": 1.5}),
    "plane, float16": (PLANE, GAUSSIAN, torch.float16, {}),
    "plane, bfloat16": (PLANE, GAUSSIAN, torch.bfloat16, {}),
    "plane, uint8": (PLANE, GAUSSIAN, torch.uint8, {}),
    "plane, float64": (PLANE, GAUSSIAN, torch.float64, {}),
    "batch, channels inside": ((4, 256, 256, 16), GAUSSIAN, torch.float32, {"axes": (1, 2)}),
    "sum of two products": (PLANE, kernels.laplacian_of_gaussian(1.5), torch.float32, {}),
    "one axis": (PLANE, kernels.gaussian1d(4), torch.float32, {"axes": 0}),
    "six derivatives": (PLANE, SIX, torch.float32, {}),
    "volume": (VOLUME, kernels.gaussian(2, ndim=3), torch.float32, {}),
    "volume, three sums": (VOLUME, kernels.laplacian_of_gaussian(1, ndim=3), torch.float32, {}),
}
SHORT = (("plane", 90), ("volume", 100))


def check_compiled(cases: list[tuple[str, int]]) -> None:
    lines = []
    for name, capability in cases:
        shape, kernel, dtype, options = CASES[name]
        lines.append(
            json.dumps([described(launch_of(shape, kernel, dtype, **options)), capability])
        )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_DEFAULT_FP_FUSION"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", CODE], input="\n".join(lines), capture_output=True, text=True,
        env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for (name, capability), line in zip(cases, done.stdout.splitlines(), strict=True):
        registers, spilled, shared = json.loads(line)
        case = f"{name} for sm_{capability}: {registers} registers"
        assert spilled == 0, case
        assert 16 < registers <= 255, case
        # Everything between the passes is in registers: no shared memory, so that no limit of it binds.
        assert shared == 0, case


def test_kernels_compile_without_spilled_registers() -> None:
    check_compiled(list(SHORT))


@pytest.mark.long
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_all_kernels_compile_without_spilled_registers(capability: int) -> None:
    check_compiled([(name, capability) for name in CASES])


@pytest.mark.parametrize("name", CASES)
def test_each_byte_of_the_image_is_read_once_and_each_result_written_once(name: str) -> None:
    shape, kernel, dtype, options = CASES[name]
    made = launch_of(shape, kernel, dtype, **options)
    bands, itemsize = (
        len(kernel) if isinstance(kernel, list) else 1,
        torch.empty((), dtype=dtype).element_size(),
    )
    size = math.prod(shape) * itemsize
    assert (made.read_bytes, made.written_bytes) == (size, size * bands)
    # The tiles cover every output exactly once.
    n, c = made.arguments, made.constants
    width = c["LANES"] * c["PHASES"]
    assert (n["tiles_x"] - 1) * width < n["n_x"] * n["inner"] <= n["tiles_x"] * width
    assert (n["tiles_y"] - 1) * n["rows"] < n["n_y"] <= n["tiles_y"] * n["rows"]
    assert (n["tiles_z"] - 1) * c["DEPTH"] < n["n_z"] <= n["tiles_z"] * c["DEPTH"]
    batch = math.prod(shape) // (n["n_x"] * n["inner"] * n["n_y"] * n["n_z"])
    assert made.grid == (n["tiles_x"] * n["tiles_y"] * n["tiles_z"] * batch,)
