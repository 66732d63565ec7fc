"""Fused layers on PyTorch's threads: found, shared out, the same bits as on the engine's own."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from separable import nn
from separable.nn.fused import openmp

OPENMP = "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()


def layer() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    made = nn.SeparableConv2d(40, 72, 3, padding=1).eval()
    image = torch.randn(2, 40, 61, 53).to(memory_format=torch.channels_last)
    return made, image


@pytest.mark.skipif(not (sys.platform.startswith("linux") and OPENMP), reason="no OpenMP here")
def test_the_function_of_this_pytorch_is_found() -> None:
    assert openmp.gomp_parallel_address() != 0
    assert openmp.gomp_parallel_address() == openmp.gomp_parallel_address()


def test_without_openmp_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.__config__, "parallel_info", lambda: "ATen parallel backend: native")
    assert openmp.gomp_parallel_address.__wrapped__() == 0


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_the_bits_are_those_of_the_own_pool(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, image = layer()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            lent = [made(image).clone() for _ in range(20)]
            monkeypatch.setattr(openmp, "gomp_parallel_address", lambda: 0)
            own = copy.deepcopy(made)(image)  # without the calls that it repeats
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found, own) for found in lent)
    with torch.inference_mode():
        close = torch.nn.functional.conv2d(
            image, made.to_dense().weight, made.to_dense().bias, padding=1
        )
    torch.testing.assert_close(own, close, rtol=1e-4, atol=1e-5)


FORKED = """
import os, torch, warnings
from separable import nn
warnings.simplefilter("ignore")
torch.set_num_threads(2)
layer = nn.SeparableConv2d(40, 72, 3, padding=1).eval()
image = torch.randn(2, 40, 61, 53).to(memory_format=torch.channels_last)
with torch.inference_mode():
    expected = layer(image)
    child = os.fork()
    if not child:
        found = layer(image)
        torch.set_num_threads(1)  # PyTorch's own operators hang here on more
        os._exit(0 if torch.equal(found, expected) else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
@pytest.mark.compiled  # in a forked process PyTorch's own operators hang on several threads
def test_a_forked_process_has_threads_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout.strip() == "0"
