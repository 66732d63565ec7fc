"""The GPU kernels run by Triton's interpreter on the CPU, in place of the compiled kernels of the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton", reason="needs triton, which is not installed")


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve tensors on the CPU by the kernels for GPUs; what other tests chose, warned of or saw fail is forgotten."""
    from separable.gpu import interpreting, kernel_launch, kernel_support, tuned_tiles
    from separable.nn.fused import packed_layer

    monkeypatch.setattr(packed_layer, "available", lambda: False)
    monkeypatch.setattr(kernel_support, "_warned", set())
    monkeypatch.setattr(kernel_launch, "_failed", {})
    monkeypatch.setattr(tuned_tiles, "_chosen", {})
    with interpreting():
        yield
