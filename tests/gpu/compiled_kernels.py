"""Kernels compiled ahead for GPUs that are not there, in a process without Triton's interpreter."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from separable.gpu import triton_kernels
from separable.gpu.ahead import described
from separable.gpu.device_profile import for_capability
from separable.gpu.kernel_launch import Launch

CODE = """
import dataclasses, json, sys
from separable.gpu.ahead import compile_ahead
for line in sys.stdin:
    name, made, capability = json.loads(line)
    found = dataclasses.asdict(compile_ahead(made, capability))
    print(json.dumps([name, found]), flush=True)
"""
WITH_PRODUCTS = {
    "fused_layer", "layer_gradients", "pointwise_weight_sums", "toeplitz_layer", "toeplitz_weight_sums",
    "rank_passes",
}  # fmt: skip
"""Kernels that multiply matrices, by tensor cores."""
IN_REGISTERS = {"filter_passes"}
"""Kernels that keep all values in registers and use no shared memory."""
TENSOR_CORES = {
    80: {"mma.sync"},
    90: {"mma.sync", "wgmma.mma_async"},
    100: {"mma.sync", "tcgen05.mma"},
}
TRADED_BYTES, TRADED_REGISTERS = 16, 128
"""Stack per thread that passes if the assembler uses so few registers: of 255 it then leaves some unused, to let more
blocks run at the same time, and no choice of tiles prevents it."""
Case = tuple[str, Launch, int]
"""Name, launch and capability."""


def compiled(cases: Iterable[Case]) -> list[tuple[str, dict[str, Any]]]:
    """Compile in a process of its own, because this one has Triton's interpreter in place of the compiler."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    lines = [json.dumps([name, described(made), capability]) for name, made, capability in cases]
    done = subprocess.run(
        [sys.executable, "-c", CODE], input="\n".join(lines), capture_output=True, text=True,
        env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[tuple[str, dict[str, Any]]] = [
        tuple(json.loads(line)) for line in done.stdout.splitlines()
    ]
    assert len(found) == len(lines)
    return found


def faults(name: str, built: dict[str, Any]) -> list[str]:
    """Return what is wrong with a compiled kernel."""
    device = for_capability(divmod(built["capability"], 10))
    cores, found = set(built["tensor_cores"]), []
    traded = TRADED_BYTES if built["registers"] <= TRADED_REGISTERS else 0
    if built["spilled_bytes"] > traded:
        found.append(f"{built['spilled_bytes']} bytes of registers are spilled")
    if built["shared_bytes"] > (0 if built["name"] in IN_REGISTERS else device.shared_bytes):
        found.append(f"{built['shared_bytes']} bytes of shared memory")
    if (built["name"] in WITH_PRODUCTS) != bool(cores):
        found.append(f"tensor cores: {sorted(cores) or 'none'}")
    if not cores <= TENSOR_CORES[built["capability"]]:
        found.append(f"tensor cores of another generation: {sorted(cores)}")
    return [f"{name} for sm_{built['capability']}: {what}" for what in found]


def check_compiled(cases: list[Case]) -> None:
    """Require that no kernel runs out of registers or shared memory, and that products use tensor cores."""
    assert [what for name, built in compiled(cases) for what in faults(name, built)] == []


def launched_kernels() -> set[str]:
    """Return the names of all kernels that are launched: those that no other kernel of the package calls."""
    defined: set[str] = set()
    called: set[str] = set()
    for path in Path(triton_kernels.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", [])]
            if isinstance(node, ast.FunctionDef) and decorators:
                assert decorators == ["kernel"], f"{path.name}: {node.name} has {decorators}"
                defined.add(node.name)
                calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
                called |= {f.id for f in calls if isinstance(f, ast.Name)}
    return defined - called
