"""Operators run by PyTorch, with one warning, where Triton does not compile the kernels, is too old or is broken."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import separable as sep
from separable import nn
from separable.gpu import kernel_launch, kernel_support, tuned_tiles
from separable.gpu.kernel_launch import Launch
from separable.gpu.kernel_support import LaunchError
from separable.nn.fused import autograd as _autograd  # noqa: F401

pytestmark = pytest.mark.usefixtures("interpreted", "fresh")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what was warned of, and what failed."""
    monkeypatch.setattr(kernel_support, "_warned", set())
    monkeypatch.setattr(kernel_launch, "_failed", {})
    caches = kernel_support._why_no_triton, kernel_support._why_too_old
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def trained(layer: torch.nn.Module, x: Tensor) -> Tensor:
    layer(x).square().sum().backward()
    return torch.cat([p.grad.flatten() for p in layer.parameters()])


def with_normalisation(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return trained(nn.SeparableConv2d(3, 4, 3, intermediate=torch.nn.BatchNorm2d(3)), x)


def without(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return trained(nn.SeparableConv2d(3, 4, 3), x)


WINDOW = (1, 1), (1, 1, 1, 1), (1, 1)
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "depthwise": lambda x: torch.ops.separable.depthwise(x, torch.ones(3, 1, 3, 3), None, *WINDOW, "relu"),
    "layer and gradients": without,
    "normalisation": with_normalisation,
    "filter": lambda x: sep.convolve(x, "gaussian:0.5", axes=(2, 3)),
}  # fmt: skip


def by_torch(name: str, x: Tensor) -> Tensor:
    """Return the result of a call without GPU kernels."""
    if name == "filter":
        found: Tensor = sep.convolve(x, "gaussian:0.5", axes=(2, 3), method="torch")
        return found
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPARABLE_GPU", "torch")
        return CALLS[name](x)


@pytest.mark.parametrize("name", CALLS)
def test_a_triton_that_cannot_compile_the_kernels_is_tried_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a compiler raises: releases differ in what they refuse and in how they say so."""
    started = []

    def refuse(made: Launch) -> None:
        started.append((made.name, str(made.constants)))
        raise TypeError("at 55:12:\n    ring = ring + sums\n    ^\nunexpected keyword")

    monkeypatch.setattr(kernel_launch, "_start", refuse)
    monkeypatch.setattr(kernel_launch, "is_interpreting", lambda: False)
    x = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    wanted = by_torch(name, x)
    with pytest.warns(
        RuntimeWarning, match=r"the GPU kernel could not be run \(LaunchError: "
    ) as seen:
        found = CALLS[name](x)
    torch.testing.assert_close(found, wanted)
    texts = [str(w.message) for w in seen]
    assert len(set(texts)) == len(texts)  # one for each operation
    assert all("TypeError: unexpected keyword" in text for text in texts)
    count = len(started)
    assert count == len(set(started)) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(CALLS[name](x), wanted)
    assert len(started) == count


def test_an_old_triton_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_support, "_triton_version", lambda: "3.1.0")
    x = torch.randn(2, 3, 6, 7)
    wanted = by_torch("depthwise", x)
    with pytest.warns(RuntimeWarning, match="Triton 3.1.0 is too old: 3.[0-9] or later"):
        found = CALLS["depthwise"](x)
    torch.testing.assert_close(found, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without(x)
        sep.convolve(x, "gaussian:0.5", axes=(2, 3))


CODE = """
import torch, warnings
from separable.gpu import interpreting
from separable.nn.fused import packed_layer
from separable.nn.fused import operators
packed_layer.available = lambda: False
x, w = torch.randn(1, 2, 5, 5), torch.ones(2, 1, 3, 3)
with warnings.catch_warnings(record=True) as seen, interpreting():
    warnings.simplefilter("always")
    for _ in range(3):
        out = torch.ops.separable.depthwise(x, w, None, (1, 1), (1, 1, 1, 1), (1, 1), "none")
torch.testing.assert_close(out, torch.nn.functional.conv2d(x, w, padding=1, groups=2))
print(len(seen), seen[0].message)
"""


BROKEN = {
    "Triton cannot be imported: ImportError": {"__init__": "raise ImportError('libcuda.so.9: cannot open')"},
    "Triton 9.0 refuses sigmoid_of: a new language": {
        "__init__": "def jit(f): raise TypeError('a new language')\n__version__ = '9.0'", "language": "",
    },
}  # fmt: skip


@pytest.mark.parametrize("reason", BROKEN)
def test_a_triton_that_cannot_be_imported_is_named_once(reason: str, tmp_path: Path) -> None:
    package, about = tmp_path / "triton", tmp_path / "triton-9.0.0.dist-info"
    package.mkdir()
    about.mkdir()
    for name, text in BROKEN[reason].items():
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: triton\nVersion: 9.0.0\n")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "TRITON_INTERPRET": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("1 separable::depthwise: the GPU kernel could not be run")
    assert reason in done.stdout


def test_tiles_that_cannot_be_compiled_are_left_out_of_the_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Event:
        """CUDA event with the time of the tile that was run last."""

        def __init__(self, enable_timing: bool) -> None: ...
        def record(self) -> None: ...
        def synchronize(self) -> None: ...
        def elapsed_time(self, other: Any) -> float:
            return float(ran[-1])

    ran: list[int] = []

    def run(tile: int) -> None:
        if tile in (1, 3):
            raise LaunchError(f"tile {tile} is not compiled")
        ran.append(tile)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    assert tuned_tiles._fastest([3, 9, 1, 7, 8, 6, 2], run) == 6
    assert set(ran) == {9, 7, 8, 6}  # four are measured, however many fail before
    with pytest.raises(LaunchError, match="tile 3 is not compiled"):
        tuned_tiles._fastest([1, 3], run)
