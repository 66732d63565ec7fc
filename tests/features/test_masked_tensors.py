"""Missing samples of tensors have the results of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import separable as sep

torch: Any = pytest.importorskip("torch")

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 16, 17)).astype("float32")
VALID = np.random.default_rng(1).random((2, 3, 16, 17)) > 0.2
KERNELS = [sep.kernels.gaussian(1.0), sep.kernels.laplacian_of_gaussian(1.0)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("as_tensor", [True, False])
def test_a_mask(kernel: Any, as_tensor: bool) -> None:
    wrong = torch.from_numpy(np.where(VALID, IMAGE, 1e6).astype("float32"))
    mask = torch.from_numpy(VALID) if as_tensor else VALID
    found = sep.convolve(wrong, kernel, mask=mask, mode="wrap")
    wanted = sep.convolve(IMAGE, kernel, axes=(2, 3), mask=VALID, mode="wrap")
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_nan_is_ignored(dtype: str) -> None:
    image = torch.from_numpy(np.where(VALID, IMAGE, np.nan)).to(getattr(torch, dtype))
    found = sep.correlate(image, KERNELS[0], nan="ignore")
    assert found.dtype == image.dtype
    wanted = sep.correlate(image.double().numpy(), KERNELS[0], axes=(2, 3), nan="ignore")
    np.testing.assert_allclose(
        found.double().numpy(), wanted, atol=1e-2 if dtype == "bfloat16" else 1e-5
    )


def test_a_tensor_to_write_into() -> None:
    image, out = torch.from_numpy(IMAGE), torch.empty(IMAGE.shape, dtype=torch.float64)
    assert sep.convolve(image, KERNELS[0], mask=VALID, output=out) is out
    wanted = sep.convolve(IMAGE, KERNELS[0], axes=(2, 3), mask=VALID, output="float64")
    np.testing.assert_allclose(out.numpy(), wanted, atol=1e-6)
