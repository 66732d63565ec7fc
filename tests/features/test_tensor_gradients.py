"""Gradients of features of tensors: the values of arrays, and the slopes that differences measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from separable import features
from separable.features.pointwise import WORKS

torch: Any = pytest.importorskip("torch")

RNG = np.random.default_rng(5)
PLANE = RNG.standard_normal((9, 8))
VOLUME = RNG.standard_normal((6, 7, 5))

Call = Callable[..., Any]
CALLS: dict[str, Call] = {
    "gradient_magnitude": lambda x, **o: features.gradient_magnitude(x, 0.8, **o),
    "hessian_matrix": lambda x, **o: stacked(features.hessian_matrix(x, 1.0, **o)),
    "hessian_eigenvalues": lambda x, **o: features.hessian_eigenvalues(x, 0.8, **o),
    "hessian_matrix_det": lambda x, **o: features.hessian_matrix_det(x, 0.7, **o),
    "structure_tensor": lambda x, **o: stacked(features.structure_tensor(x, 0.5, **o)),
    "structure_tensor_eigvals_of": lambda x, **o: features.structure_tensor_eigvals_of(x, 0.5, **o),
    "coherence": lambda x, **o: features.coherence(x, 0.5, **o),
    "frangi": lambda x, **o: features.frangi(x, [0.7, 0.9], **o),
    "frangi with gamma": lambda x, **o: features.frangi(x, [0.8], gamma=0.5, **o),
    "sato": lambda x, **o: features.sato(x, [0.7, 0.9], black_ridges=False, **o),
    "meijering": lambda x, **o: features.meijering(x, [0.7, 0.9], **o),
    "log": lambda x, **o: features.blob_response(x, [0.7, 1.0], **o),
    "dog": lambda x, **o: features.blob_response(x, [0.7, 1.0], "dog", **o),
    "doh": lambda x, **o: features.blob_response(x, [0.7], "doh", **o),
    "local_mean": lambda x, **o: features.local_mean(x, 3, **o),
    "local_variance": lambda x, **o: features.local_variance(x, sigma=0.7, **o),
    "textures": lambda x, **o: features.texture_features(x, [0.8], **o).values,
}


def stacked(parts: Any) -> Any:
    return torch.stack(list(parts)) if isinstance(parts[0], torch.Tensor) else np.stack(parts)


def test_every_work_is_there_for_tensors() -> None:
    from separable.features.tensor_gradients import TENSOR_WORKS

    assert TENSOR_WORKS.keys() == WORKS.keys()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("image", [PLANE, VOLUME], ids=["2-D", "3-D"])
def test_values_are_those_of_arrays(name: str, image: Any) -> None:
    for options in ({"mode": "constant", "cval": 2.0}, {"mode": "wrap", "spacing": 0.9}):
        expected = CALLS[name](image, **options)
        found = CALLS[name](torch.from_numpy(image).requires_grad_(), **options)
        assert found.requires_grad
        np.testing.assert_allclose(
            found.detach().numpy(), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max()
        )


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("image", [PLANE[:5, :4], VOLUME[:3, :4, :3]], ids=["2-D", "3-D"])
def test_gradients_are_the_slopes(name: str, image: Any) -> None:
    """Along one random direction, by central differences, of a weighted sum of all results."""
    start = torch.from_numpy(image.copy()).requires_grad_()
    found = CALLS[name](start)
    weights = torch.from_numpy(RNG.random(tuple(found.shape)))
    (found * weights).sum().backward()
    direction, step = RNG.standard_normal(image.shape), 1e-6
    ends = [(CALLS[name](image + k * step * direction) * weights.numpy()).sum() for k in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    along = float((start.grad.numpy() * direction).sum())
    assert abs(along - slope) <= 1e-5 * max(1.0, float(start.grad.abs().max())), name


@pytest.mark.parametrize("name", CALLS)
def test_flat_and_partly_missing_images_have_finite_gradients(name: str) -> None:
    flat = torch.ones(7, 8, dtype=torch.float64).requires_grad_()
    CALLS[name](flat).sum().backward()
    assert torch.isfinite(flat.grad).all()
    valid = np.ones(PLANE.shape, bool)
    valid[2, 3] = valid[7, 1] = False
    image = torch.from_numpy(np.where(valid, PLANE, np.nan)).requires_grad_()
    expected = CALLS[name](image.detach().numpy(), nan="ignore")
    found = CALLS[name](image, nan="ignore")
    np.testing.assert_allclose(
        found.detach().numpy(), expected, rtol=1e-8, atol=1e-8 * np.nanmax(np.abs(expected))
    )
    masked = CALLS[name](torch.from_numpy(PLANE).requires_grad_(), mask=torch.from_numpy(valid))
    np.testing.assert_allclose(masked.detach().numpy(), found.detach().numpy(), rtol=1e-9)
    torch.nan_to_num(found).sum().backward()
    assert torch.isfinite(image.grad).all()
    assert (image.grad[~torch.from_numpy(valid)] == 0).all()


def test_eigenvalues_and_eigenvectors_of_elements() -> None:
    image = torch.from_numpy(VOLUME).requires_grad_()
    elements = features.hessian_matrix(image, 0.8)
    values = features.hessian_matrix_eigvals(elements)
    expected, vectors = features.hessian_eigenvectors(
        image, 0.8, "constant", use_gaussian_derivatives=False
    )
    torch.testing.assert_close(values, expected)
    h = torch.stack(
        [torch.stack([elements[k] for k in row]) for row in ((0, 1, 2), (1, 3, 4), (2, 4, 5))]
    )
    product = torch.einsum("ij...,kj...->ki...", h, vectors)
    torch.testing.assert_close(product, values[:, None] * vectors)
    values.sum().backward()
    assert torch.isfinite(image.grad).all()


def test_other_axes_types_and_no_gradient() -> None:
    batch = torch.from_numpy(np.stack([PLANE, 2 * PLANE])).float().requires_grad_()
    found = features.hessian_eigenvalues(batch, 0.8, axes=(1, 2))
    expected = features.hessian_eigenvalues(PLANE.astype("f4"), 0.8)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[:, 0].detach().numpy(), expected, atol=1e-5)
    half = features.gradient_magnitude(torch.from_numpy(PLANE).bfloat16().requires_grad_())
    assert half.dtype == torch.float32
    half.sum().backward()
    with torch.no_grad():
        assert not features.sato(batch, [1.0], axes=(1, 2)).requires_grad
    turned = features.gradient_magnitude(batch, (0.7, 1.2), axes=(2, 1))
    same = features.gradient_magnitude(batch, (1.2, 0.7), axes=(1, 2))
    torch.testing.assert_close(turned, same)
    filled = features.local_mean(batch, 1, axes=(1, 2), mask=PLANE > 0, fill=-5.0)
    assert bool((filled[:, PLANE <= 0] == -5).all())


def test_a_network_learns_through_a_vesselness() -> None:
    """Gradient ascent makes a bright line out of noise where it is asked for."""
    image = torch.from_numpy(0.1 * RNG.standard_normal((15, 15))).requires_grad_()
    first = None
    for _ in range(6):
        image.grad = None
        score = features.sato(image, [1.0], black_ridges=False)[:, 7].mean()
        score.backward()
        first = score.item() if first is None else first
        with torch.no_grad():
            image += image.grad / image.grad.norm()
    assert score.item() > first + 0.3
