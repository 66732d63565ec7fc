"""The GPU kernels run by Triton's interpreter on the CPU, in place of the compiled kernels of the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton", reason="needs triton, which is not installed")


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve tensors on the CPU by the kernels for GPUs."""
    from separable.gpu import interpreting
    from separable.nn.fused import packed_layer

    monkeypatch.setattr(packed_layer, "available", lambda: False)
    with interpreting():
        yield
