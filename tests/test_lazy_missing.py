"""Masks and missing samples of Dask arrays and tensors: the values of arrays in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import features, ndimage
from separable.errors import ArgumentError, OutputError

RNG = np.random.default_rng(8)
IMAGE = RNG.normal(size=(23, 31))
VALID = RNG.random(IMAGE.shape) > 0.2
BAD = np.where(VALID, IMAGE, np.nan)
BORDERS: list[dict[str, Any]] = [
    {"mode": "reflect"},
    {"mode": "constant", "cval": 1.5},
    {"mode": "wrap"},
]
DENSE = np.arange(-5.0, 7.0).reshape(3, 4)
FILTERS: dict[str, Callable[..., Any]] = {
    "gaussian_filter": lambda x, **k: ndimage.gaussian_filter(x, 1.2, **k),
    "of order 1": lambda x, **k: ndimage.gaussian_filter(x, 1.2, order=(0, 1), **k),
    "gaussian_filter1d": lambda x, **k: ndimage.gaussian_filter1d(x, 1.2, **k),
    "uniform_filter": lambda x, **k: ndimage.uniform_filter(x, 3, **k),
    "uniform_filter1d": lambda x, **k: ndimage.uniform_filter1d(x, 5, **k),
    "laplace": ndimage.laplace,
    "gaussian_laplace": lambda x, **k: ndimage.gaussian_laplace(x, 1.1, **k),
    "gradient": lambda x, **k: ndimage.gaussian_gradient_magnitude(x, 1.1, **k),
    "sobel": ndimage.sobel,
    "prewitt": lambda x, **k: ndimage.prewitt(x, axis=0, **k),
    "correlate": lambda x, **k: ndimage.correlate(x, DENSE, **k),
    "convolve": lambda x, **k: ndimage.convolve(x, DENSE, origin=(0, 1), **k),
    "correlate1d": lambda x, **k: ndimage.correlate1d(x, [1, 2, -1.0], axis=0, origin=-1, **k),
    "along no axis": lambda x, **k: ndimage.gaussian_filter(x, 0, **k),
}


@pytest.mark.parametrize("name", FILTERS)
def test_functions_of_ndimage_on_dask_arrays(name: str) -> None:
    array = pytest.importorskip("dask.array")
    function = FILTERS[name]
    lazy, bad = (array.from_array(x, chunks=(8, 10)) for x in (IMAGE, BAD))
    calls: list[Callable[..., Any]] = [
        lambda **border: function(lazy, mask=VALID, **border),
        lambda **border: function(lazy, mask=array.from_array(VALID, chunks=5), **border),
        lambda **border: function(bad, nan="ignore", **border),
        lambda **border: function(array.ma.masked_invalid(bad), **border),
    ]
    # Each border with two of the four ways to mark samples, each way with one border at least.
    for number, border in enumerate(BORDERS):
        expected = function(IMAGE, mask=VALID, **border)
        for call in (calls[number], calls[(number + 1) % 4]):
            found = call(**border)
            assert type(found).__module__.startswith("dask")
            np.testing.assert_allclose(found.compute(scheduler="sync"), expected, atol=1e-12)


def test_integers_need_a_fill_and_masks_must_fit() -> None:
    array = pytest.importorskip("dask.array")
    photo = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
    mask = np.ones((20, 30), bool)
    mask[:9, :9] = False
    lazy = array.from_array(photo, chunks=8)
    for function in (ndimage.laplace, ndimage.sobel):
        with pytest.raises(ArgumentError, match="`fill` must be a whole number"):
            function(lazy, mask=mask)
        found = function(lazy, mask=mask, fill=7).compute(scheduler="sync")
        np.testing.assert_array_equal(found, function(photo, mask=mask, fill=7))
        assert (found[:7, :7] == 7).all()
        with pytest.raises(ArgumentError, match="mask"):
            function(lazy, mask=mask[1:], fill=7)


@pytest.mark.parametrize(
    "kernel", [sep.kernels.gaussian(1.0), sep.kernels.laplacian_of_gaussian(1.0), DENSE]
)
def test_gradients_of_tensors_with_missing_samples(kernel: Any) -> None:
    torch = pytest.importorskip("torch")
    for border in BORDERS:
        expected = sep.convolve(BAD, kernel, nan="ignore", **border)
        image = torch.tensor(BAD, requires_grad=True)
        found = sep.convolve(image, kernel, nan="ignore", **border)
        np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-12)
        (gradient,) = torch.autograd.grad(found.sum(), image)
        assert torch.isfinite(gradient).all()
        assert not gradient[torch.tensor(~VALID)].any()
        small = torch.tensor(IMAGE[:6, :7], requires_grad=True)
        options = {"mask": VALID[:6, :7], "fill": 0.0, **border}
        assert torch.autograd.gradcheck(lambda x, o=options: sep.convolve(x, kernel, **o), (small,))


SPECS = [
    ["gaussian:1", "log:1", "gaussian:1,order=0x1", "gaussian:3"],
    ["box:5", "sobel", "disk:4"],
]


@pytest.mark.parametrize("specs", SPECS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_banks_of_dask_arrays_and_tensors(specs: list[str], dtype: str) -> None:
    array, torch = pytest.importorskip("dask.array"), pytest.importorskip("torch")
    image = (IMAGE * 20 + 100).astype(dtype)
    near = {"rtol": 1e-6, "atol": 1e-4 if dtype == "float32" else 1e-10}
    for border in BORDERS:
        filters = sep.bank(specs, image.shape, dtype, **border)
        expected = filters(image)
        lazy = filters(array.from_array(image, chunks=(8, 10)))
        assert lazy.chunks == ((1,) * len(specs), (8, 8, 7), (10, 10, 10, 1))
        np.testing.assert_allclose(lazy.compute(scheduler="sync").astype(float), expected, **near)
        np.testing.assert_array_equal(filters(torch.from_numpy(image)).numpy(), expected)
        if dtype != "uint8":
            late = torch.from_numpy(image).requires_grad_()
            bands = filters(late)
            np.testing.assert_allclose(bands.detach().numpy(), expected, **near)
            bands.sum().backward()
            assert late.grad is not None
    with pytest.raises(OutputError, match="must be left out"):
        filters(array.from_array(image, chunks=8), out=expected)
    with pytest.raises(ArgumentError, match="this bank is for shape"):
        filters(array.from_array(image[1:], chunks=8))


def test_banks_with_missing_samples() -> None:
    array, torch = pytest.importorskip("dask.array"), pytest.importorskip("torch")
    for specs in SPECS:
        filters = sep.bank(specs, IMAGE.shape)
        found = filters(IMAGE, mask=VALID)
        for band, spec in zip(found, specs, strict=True):
            kernel = sep.kernels.parse(spec, 2)
            np.testing.assert_allclose(band, sep.convolve(IMAGE, kernel, mask=VALID), atol=1e-12)
        np.testing.assert_allclose(filters(np.ma.array(IMAGE, mask=~VALID)), found, atol=1e-12)
        np.testing.assert_allclose(filters(BAD, nan="ignore"), found, atol=1e-12)
        lazy = filters(array.from_array(IMAGE, chunks=9), mask=VALID)
        np.testing.assert_allclose(lazy.compute(scheduler="sync"), found, atol=1e-12)
        tensor = torch.tensor(IMAGE, requires_grad=True)
        np.testing.assert_allclose(filters(tensor, mask=VALID).detach().numpy(), found, atol=1e-12)


VOLUME = RNG.normal(size=(12, 13, 14)).astype("float32")
FEATURES: dict[str, Callable[..., Any]] = {
    "frangi": lambda x, **k: features.frangi(x, [1.0, 2.0], **k),
    "hessian_eigenvalues": lambda x, **k: features.hessian_eigenvalues(x, 1.0, **k),
    "structure_tensor": lambda x, **k: features.structure_tensor_eigvals_of(x, 1.0, **k),
    "blob_response": lambda x, **k: features.blob_response(x, [1.0, 2.0], **k),
    "texture_features": lambda x, **k: features.texture_features(x, [1.0], **k).values,
    "eigenvectors": lambda x, **k: features.hessian_eigenvectors(x, 1.0, **k)[1],
}


@pytest.mark.apart
@pytest.mark.parametrize("name", FEATURES)
def test_features_of_tensors_and_dask_arrays(name: str) -> None:
    array, torch = pytest.importorskip("dask.array"), pytest.importorskip("torch")
    valid = np.random.default_rng(1).random(VOLUME.shape) > 0.1
    for options in ({}, {"mask": valid}):
        expected = FEATURES[name](VOLUME, **options)
        found = FEATURES[name](torch.from_numpy(VOLUME), **options)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), expected)
        lazy = FEATURES[name](array.from_array(VOLUME, chunks=(12, 7, 14)), **options)
        assert type(lazy).__module__.startswith("dask")
        if name != "eigenvectors":  # whose signs have no meaning
            scale = float(np.nanmax(np.abs(expected)))
            late = lazy.compute(scheduler="sync")
            np.testing.assert_allclose(late, expected, atol=1e-5 * max(1.0, scale))
