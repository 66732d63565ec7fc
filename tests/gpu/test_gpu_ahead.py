"""Kernels compiled ahead for three generations of GPUs, and the bytes that they move."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from tests.gpu.gpu_launches import LARGE, WORKS, all_launches, depthwise_launches, layer_launches

from separable.errors import ArgumentError
from separable.gpu import PROFILES
from separable.gpu.ahead import CAPABILITIES, compile_ahead, described
from separable.gpu.device_profile import for_capability

CODE = """
import dataclasses, json, sys
from separable.gpu.ahead import compile_ahead
for name, made, capability in json.load(sys.stdin):
    found = dataclasses.asdict(compile_ahead(made, capability))
    print(json.dumps([name, found]), flush=True)
"""
WITH_PRODUCTS = {
    "fused_layer", "layer_gradients", "pointwise_weight_sums", "toeplitz_layer", "toeplitz_weight_sums",
    "rank_passes",
}  # fmt: skip
TENSOR_CORES = {
    80: {"mma.sync"},
    90: {"mma.sync", "wgmma.mma_async"},
    100: {"mma.sync", "tcgen05.mma"},
}


def compiled(cases: list[tuple[str, Any, int]]) -> list[tuple[str, dict[str, Any]]]:
    """Compile in a process of its own, because this one has Triton's interpreter in place of the compiler."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    given = json.dumps([(name, described(made), capability) for name, made, capability in cases])
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=given,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]  # type: ignore[misc]


def check(found: list[tuple[str, dict[str, Any]]]) -> None:
    """Require that kernels keep all values in registers, fit the shared memory and use tensor cores."""
    wrong = []
    for name, built in found:
        device = for_capability(divmod(built["capability"], 10))
        if built["spilled_bytes"] or built["shared_bytes"] > device.shared_bytes:
            wrong.append((name, built))
        if (built["name"] in WITH_PRODUCTS) != bool(built["tensor_cores"]):
            wrong.append((name, built))
        if not set(built["tensor_cores"]) <= TENSOR_CORES[built["capability"]]:
            wrong.append((name, built))
    assert wrong == []


def test_kernels_compile_without_spills_and_use_tensor_cores() -> None:
    """One kernel of each kind of work; the long tests have all of them."""
    made = [*layer_launches(WORKS[1])[:2], depthwise_launches(LARGE[0])[0]]
    capabilities = (90, 80, 100)
    found = compiled([(m.name, m, c) for m, c in zip(made, capabilities, strict=True)])
    assert [name for name, _ in found] == ["fused_layer", "layer_gradients", "toeplitz_layer"]
    check(found)


@pytest.mark.long
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_all_kernels_compile_without_spills_and_use_tensor_cores(capability: int) -> None:
    cases = [(name, made, capability) for name, made in all_launches()]
    found = compiled(cases)
    assert len(found) == len(cases) >= 30
    check(found)


def test_the_interpreter_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a process without TRITON_INTERPRET=1"):
        compile_ahead(described(layer_launches(WORKS[1])[0]), 90)


# Bytes


@pytest.mark.parametrize("work", WORKS, ids=lambda w: w.name)
def test_the_fused_layer_moves_little_more_than_input_weights_and_output(work: Any) -> None:
    """The floor is one read and one write; tiles read the samples that they share with others once more each."""
    made = layer_launches(work)[0]
    item, positions = work.x.element_size(), work.images * math.prod(work.size)
    weights = work.channels * (work.kernel ** len(work.size) + work.outputs)
    floor = (positions * (work.channels + work.outputs) + weights) * item
    # Three axes share more samples between tiles; those that the caches still hold are counted here too.
    assert floor <= made.moved_bytes <= (1.6 if len(work.size) == 2 else 2.8) * floor


def test_bytes_of_the_ledger_are_those_of_separate_steps() -> None:
    """The ledger counts each step's input and output: the fused kernel saves both of the middle."""
    from separable import nn

    work = WORKS[1]
    layer = nn.SeparableConv2d(work.channels, work.outputs, 3, bias=False)
    ledger = nn.ledger(layer, torch.zeros(1, work.channels, *work.size))
    by_steps = ledger.total.bytes
    middle = math.prod(work.size) * work.channels * 4
    ends = math.prod(work.size) * (work.channels + work.outputs) * 4
    weights = work.channels * (9 + work.outputs) * 4
    assert by_steps == ends + 2 * middle + weights
    made = layer_launches(work)[0]
    per_image = made.moved_bytes / work.images * 4 / work.x.element_size()
    assert per_image < by_steps - middle


def test_profiles_hold_the_limits_of_their_generation() -> None:
    for device in PROFILES.values():
        assert device.shared_bytes < device.shared_bytes_all
        assert device.resident_blocks(4, 128, 0) == 4
        assert device.resident_blocks(4, 64, 64 << 10) == device.shared_bytes_all // (65 << 10)
        assert device.resident_blocks(4, 64, device.shared_bytes + 1) == 0
        assert type(device).from_dict(json.loads(json.dumps(device.to_dict()))) == device
