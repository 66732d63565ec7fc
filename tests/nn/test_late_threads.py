"""A thread that comes late to the steps of a program touches no memory of the others."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch

from separable.nn import models
from separable.nn.fused.fuse import fuse_without_choice
from separable.nn.fused.program.executor import Execution, Executor, RunSegment

pytestmark = [pytest.mark.compiled, pytest.mark.apart]


def executions(name: str, size: int) -> tuple[Execution, torch.Tensor]:
    """The execution of a network of the registry on two threads, and its input."""
    net = models.create(name).eval()
    x = torch.rand(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fused, _ = fuse_without_choice(net, x)
        found = [
            module.__dict__["forward"]
            for module in fused.modules()
            if isinstance(module.__dict__.get("forward"), Executor)
        ]
        with torch.no_grad():
            return found[0].execution(x), x
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "resnet18"])
def test_it_leaves_the_scratch_memory_of_others_alone(name: str) -> None:
    execution, x = executions(name, 64)
    values = dict(zip(execution._inputs, (x,), strict=True))
    seen = 0
    with torch.no_grad():
        for part in execution.parts:
            part.run(values)
            if not isinstance(part, RunSegment) or part.program.threads < 2:
                continue
            program, stride = part.program, part.program.scratch_size
            memory = np.zeros(program.shared_size + 2 * stride + 128, np.uint8)
            start = int(memory.ctypes.data)
            start += -start % 128
            head = np.zeros(4096 // 8, np.int64)
            tensors = [values[node] for node, _ in part._reads]
            tensors += [torch.empty_strided(s, t) for _, s, t, _ in part._writes]
            program.fill(head, [t.data_ptr() for t in tensors], 0, start)
            counters = np.array([0] * 7 + [2])  # of two threads
            run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(program.function)
            run(head.ctypes.data, counters.ctypes.data, 0)  # the first thread does all the work
            at = start - int(memory.ctypes.data) + program.shared_size
            mine = memory[at : at + stride]
            mine[:] = 0xA5
            run(head.ctypes.data, counters.ctypes.data, 1)  # the second thread finds none left
            assert (mine == 0xA5).all()
            seen += len(program.steps)
    assert seen > 5
