"""Kernels compiled ahead for three generations of GPUs, and the bytes that they move."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from tests.gpu.compiled_kernels import Case, check_compiled, launched_kernels
from tests.gpu.gpu_launches import (
    FILTERS,
    LARGE,
    WORKS,
    all_launches,
    depthwise_launches,
    layer_launches,
)

from separable.errors import ArgumentError
from separable.gpu import PROFILES
from separable.gpu.ahead import CAPABILITIES, compile_ahead, described


def module_of(made: Any) -> str:
    """Return the module of a launch's kernel."""
    return str(getattr(made.kernel, "fn", made.kernel).__module__)


def test_a_kernel_of_each_module_compiles_without_spills_and_uses_tensor_cores() -> None:
    """One or two kernels of each kind of work, so that each release of Triton is tried; the long tests have all."""
    layers, large = layer_launches(WORKS[1]), depthwise_launches(LARGE[0])
    made = [*layers[:2], depthwise_launches(WORKS[1])[0], large[0], large[-1]]
    made += [FILTERS[name].launch() for name in ("plane", "volume")]
    cases: list[Case] = [
        (m.name, m, CAPABILITIES[number % len(CAPABILITIES)]) for number, m in enumerate(made)
    ]
    assert [name for name, *_ in cases] == [
        "fused_layer", "layer_gradients", "depthwise_layer", "toeplitz_layer", "rank_passes", "filter_passes",
        "filter_passes",
    ]  # fmt: skip
    every = {module_of(m) for _, m in all_launches(90)}
    assert {module_of(m) for m in made} == every
    check_compiled(cases)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_long_tests_compile_every_kernel(capability: int) -> None:
    launched = {made.name for _, made in all_launches(capability)}
    assert launched == launched_kernels()


@pytest.mark.long
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_all_kernels_compile_without_spills_and_use_tensor_cores(capability: int) -> None:
    check_compiled([(name, made, capability) for name, made in all_launches(capability)])


def test_the_interpreter_is_refused() -> None:
    with pytest.raises(ArgumentError, match="a process without TRITON_INTERPRET=1"):
        compile_ahead(described(layer_launches(WORKS[1])[0]), 90)


# Bytes


@pytest.mark.parametrize("work", WORKS, ids=lambda w: w.name)
def test_the_fused_layer_moves_little_more_than_input_weights_and_output(work: Any) -> None:
    """The floor is one read and one write; tiles read the samples that they share with others once more each."""
    made = layer_launches(work)[0]
    weights = work.channels * (work.kernel ** len(work.size) + work.outputs)
    floor = (work.x.numel() + work.out.numel() + weights) * work.x.element_size()
    # Three axes share more samples between tiles; those that the caches still hold are counted here too.
    assert floor <= made.moved_bytes <= (1.6 if len(work.size) < 3 else 1.75) * floor


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
