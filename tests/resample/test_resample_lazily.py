"""Tensors with gradients, and Dask arrays in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from separable.errors import OutputError
from separable.resample import downsample, pyramid, resize

RNG = np.random.default_rng(5)
CASES = [
    {"interpolation": "linear"},
    {"interpolation": 3, "mode": "wrap"},
    {"interpolation": "cubic", "antialias": "stretch", "mode": "constant", "cval": 2.0},
    {"interpolation": "area", "align": "centres"},
    {"interpolation": "lanczos3", "mode": "nearest"},
]


@pytest.mark.parametrize("how", CASES)
@pytest.mark.parametrize("shape", [(9, 20), (31, 7)])
def test_tensors_have_the_values_of_arrays_and_their_gradients(how: Any, shape: Any) -> None:
    torch = pytest.importorskip("torch")
    image = torch.from_numpy(RNG.random((2, 15, 13))).requires_grad_()

    def call(x: Any) -> Any:
        return resize(x, shape, axes=(1, 2), **how)

    expected = resize(image.detach().numpy(), shape, axes=(1, 2), **how)
    np.testing.assert_allclose(call(image).detach().numpy(), expected, atol=1e-12)
    assert torch.autograd.gradcheck(call, (image[:, :6, :5].detach().clone().requires_grad_(),))
    # <A x, g> = <x, A' g> for the linear part
    back = torch.autograd.grad(call(image), image, torch.ones(2, *shape, dtype=torch.float64))[0]
    moved = call(image.detach() + 1) - call(image.detach())
    assert float(back.sum()) == pytest.approx(float(moved.sum()), rel=1e-9)


def test_tensors_of_other_types() -> None:
    torch = pytest.importorskip("torch")
    from torch.func import vmap

    from separable.borders import canonical
    from separable.resample.axis_grids import band_of, grid_of_shape
    from separable.resample.interpolations import interpolation_of
    from separable.tensors.tensor_resampling import _selected

    photo = torch.from_numpy(RNG.integers(0, 256, (20, 30), dtype=np.uint8))
    found = resize(photo, (11, 17))
    np.testing.assert_array_equal(found.numpy(), resize(photo.numpy(), (11, 17)))
    assert resize(photo.to(torch.bfloat16), (5, 5)).dtype == torch.bfloat16
    assert downsample(photo.double(), 2, output=torch.float32).dtype == torch.float32
    assert [tuple(t.shape) for t in pyramid(photo, 3)] == [(20, 30), (10, 15), (5, 8)]
    batch = torch.from_numpy(RNG.random((3, 8, 9)))
    whole = resize(batch, (4, 5), axes=(1, 2))
    np.testing.assert_allclose(vmap(lambda x: resize(x, (4, 5)))(batch), whole)
    twin = torch.complex(batch, batch.flip(0))
    np.testing.assert_allclose(
        resize(twin, (4, 5), axes=(1, 2)).numpy(), resize(twin.numpy(), (4, 5), axes=(1, 2))
    )
    # Other devices run selections of PyTorch; here on the CPU.
    band = band_of(
        grid_of_shape(9, 14, "edges"), interpolation_of(3), "none", canonical("constant"),
        np.dtype(float),
    )  # fmt: skip
    found = _selected(batch, {2: band}, 1.5)
    expected = resize(batch.numpy(), 14, axes=2, interpolation=3, mode="constant", cval=1.5)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    labels = torch.from_numpy(RNG.integers(0, 5, (9, 12)))
    expected = resize(labels.numpy(), (4, 5), interpolation="majority")
    np.testing.assert_array_equal(
        resize(labels, (4, 5), interpolation="majority").numpy(), expected
    )
    for dtype in (np.complex64, np.complex128):
        outside = {"mode": "constant", "cval": 2.0, "axes": (1, 2)}
        found = resize(twin.to(torch.from_numpy(np.zeros(1, dtype)).dtype), (9, 9), **outside)
        expected = resize(twin.numpy(), (9, 9), **outside)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    with pytest.raises(OutputError, match="must have shape"):
        resize(batch, 3, output=torch.zeros(2))


@pytest.mark.parametrize("how", CASES)
def test_missing_samples_of_tensors_and_their_gradients(how: Any) -> None:
    torch = pytest.importorskip("torch")
    image = RNG.random((15, 13))
    valid = RNG.random(image.shape) > 0.3
    valid[:6, :6] = False
    for kind, dtype in ((np.float64, 1e-12), (np.complex128, 1e-12), (np.float32, 1e-6)):
        values = image.astype(kind) * (1 + 2j if kind is np.complex128 else 1)
        expected = resize(values, (30, 9), mask=valid, fill=-1.0, **how)
        for mask in (valid, torch.from_numpy(valid)):
            found = resize(torch.from_numpy(values), (30, 9), mask=mask, fill=-1.0, **how)
            np.testing.assert_allclose(found.numpy(), expected, atol=10 * dtype)
    bad = torch.from_numpy(np.where(valid, image, np.nan)).requires_grad_()
    found = resize(bad, (30, 9), nan="ignore", fill=-1.0, **how)
    np.testing.assert_allclose(
        found.detach().numpy(), resize(image, (30, 9), mask=valid, fill=-1.0, **how), atol=1e-11
    )
    (gradient,) = torch.autograd.grad(found.sum(), bad)
    assert not gradient[torch.from_numpy(~valid)].any()
    small = torch.from_numpy(image[4:10, 4:9].copy()).requires_grad_()
    own = {"mask": valid[4:10, 4:9], "fill": 0.0, **how}
    assert torch.autograd.gradcheck(lambda x: resize(x, (9, 4), **own), (small,))


@pytest.mark.parametrize("how", CASES)
@pytest.mark.parametrize("chunks", [(5, 7), (20, 4), (13, 30)])
def test_dask_arrays_give_the_same_bits_for_any_chunks(how: Any, chunks: Any) -> None:
    array = pytest.importorskip("dask.array")
    image = RNG.random((20, 30)).astype(np.float32)
    lazy = array.from_array(image, chunks=chunks)
    for shape in ((33, 17), (8, 60)):
        found = resize(lazy, shape, **how)
        assert found.shape == shape
        np.testing.assert_array_equal(found.compute(scheduler="sync"), resize(image, shape, **how))


def test_dask_arrays_with_missing_samples_and_levels() -> None:
    array = pytest.importorskip("dask.array")
    image = RNG.random((24, 24))
    image[RNG.random(image.shape) < 0.2] = np.nan
    lazy = array.from_array(image, chunks=7)
    found = resize(lazy, (12, 40), nan="ignore").compute(scheduler="sync")
    np.testing.assert_allclose(found, resize(image, (12, 40), nan="ignore"), atol=1e-12)
    levels = pyramid(array.from_array(np.nan_to_num(image), chunks=8), 3)
    assert levels[2].chunks == ((2, 2, 2), (2, 2, 2))
    with pytest.raises(OutputError, match="must name a type for a Dask array"):
        resize(lazy, 3, output=np.zeros((3, 3)))
