"""The pinned versions of the tests are those that users get."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRITON_OF_TORCH = {"2.13.0": "3.7.1"}
"""Triton that the CUDA build of a release of PyTorch requires, from "Requires-Dist" of its wheel for Linux."""


def pins() -> dict[str, str]:
    """Return the pinned version of each package."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(re.fullmatch(r"([\w-]+)==([\w.]+)", n).groups() for n in lines if n and n[0] != "#")  # type: ignore[union-attr, misc]


def test_the_pinned_triton_is_the_one_that_the_pinned_torch_requires() -> None:
    """Any other one is not what users run, and cannot be installed beside PyTorch's CUDA build."""
    torch = pins()["torch"]
    assert torch in TRITON_OF_TORCH, (
        f"look up which Triton the CUDA build of torch {torch} requires and add it here"
    )
    assert pins()["triton"] == TRITON_OF_TORCH[torch]


def test_the_record_agrees_with_an_installed_cuda_build() -> None:
    try:
        version, required = metadata.version("torch"), metadata.requires("torch") or []
    except metadata.PackageNotFoundError:
        pytest.skip("needs torch, which is not installed")
    found = [r for r in required if re.match(r"triton\b", r)]
    if not found:
        pytest.skip("this build of torch requires no Triton")
    pinned = TRITON_OF_TORCH.get(version.partition("+")[0])
    assert pinned is None or any(re.match(rf"triton=={re.escape(pinned)}\b", r) for r in found)


def test_the_oldest_triton_is_the_one_that_is_required() -> None:
    from separable.gpu.kernel_support import MINIMUM_TRITON

    required = re.search(
        r'"triton>=([\d.]+);', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert required
    assert tuple(map(int, required[1].split("."))) == MINIMUM_TRITON
