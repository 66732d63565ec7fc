"""Features equal those of scikit-image where its definition is that of the documentation; differences are tested too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage

from separable import features

feature = pytest.importorskip("skimage.feature")
filters = pytest.importorskip("skimage.filters")

DTYPES = ("float32", "float64")
INSIDE = 12  # samples from the border from which no derivative reads a border


def image_of(ndim: int, dtype: str, seed: int = 0) -> Any:
    shape = (61, 50) if ndim == 2 else (33, 40, 36)
    rng = np.random.default_rng(seed)
    return scipy.ndimage.gaussian_filter(rng.standard_normal(shape), 1.0).astype(dtype) * 10


def inside(values: Any, ndim: int, margin: int = INSIDE) -> Any:
    return np.asarray(values)[(..., *(slice(margin, -margin),) * ndim)]


def close(ours: Any, theirs: Any, scale: float | None = None) -> None:
    scale = float(np.abs(theirs).max()) if scale is None else scale
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("gaussian", [True, False])
def test_hessian_matrix(ndim: int, dtype: str, gaussian: bool) -> None:
    image = image_of(ndim, dtype)
    ours = features.hessian_matrix(image, 1.3, use_gaussian_derivatives=gaussian)
    theirs = feature.hessian_matrix(image, 1.3, use_gaussian_derivatives=gaussian)
    assert len(ours) == len(theirs)
    assert {h.dtype for h in ours} == {np.dtype(dtype)}
    close(inside(ours, ndim), inside(theirs, ndim))


def test_hessian_matrix_counts_from_the_last_axis() -> None:
    image = image_of(2, "float64")
    ours = features.hessian_matrix(image, 1.3, order="xy", use_gaussian_derivatives=True)
    theirs = feature.hessian_matrix(image, 1.3, order="xy", use_gaussian_derivatives=True)
    close(inside(ours, 2), inside(theirs, 2))


@pytest.mark.parametrize("gaussian", [True, False])
def test_hessian_is_equal_up_to_the_border_where_the_image_repeats(gaussian: bool) -> None:
    if not gaussian:
        pytest.skip("np.gradient knows no periodic images")
    image = image_of(2, "float64")
    ours = features.hessian_matrix(image, 1.3, mode="wrap", use_gaussian_derivatives=True)
    theirs = feature.hessian_matrix(image, 1.3, mode="wrap", use_gaussian_derivatives=True)
    close(ours, theirs)


def test_at_a_reflecting_border_ours_is_the_hessian_of_the_reflected_image() -> None:
    image = image_of(2, "float64")
    wide = np.pad(image, 20, mode="symmetric")
    ours = features.hessian_matrix(image, 1.3, mode="reflect", use_gaussian_derivatives=True)
    truth = feature.hessian_matrix(wide, 1.3, mode="reflect", use_gaussian_derivatives=True)
    theirs = feature.hessian_matrix(image, 1.3, mode="reflect", use_gaussian_derivatives=True)
    close(ours, inside(truth, 2, 20))
    # scikit-image extends the gradient, which changes its sign at a reflection, without that sign.
    assert np.abs(theirs[0] - inside(truth[0], 2, 20)).max() > 0.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("black", [True, False])
@pytest.mark.parametrize("name", ["frangi", "sato", "meijering"])
def test_ridges(name: str, ndim: int, dtype: str, black: bool) -> None:
    image = image_of(ndim, dtype)
    sigmas = [1.2, 2.0] if ndim == 2 else [1.2]
    ours = getattr(features, name)(image, sigmas, black_ridges=black, mode="wrap")
    theirs = getattr(filters, name)(image, sigmas, black_ridges=black, mode="wrap")
    assert ours.dtype == dtype
    if name == "sato":  # the root of a product that may be 0 doubles the relative errors
        ours, theirs = ours**2, theirs**2
    if name == "frangi":
        theirs = without_clipped(image, theirs, 1.0 if black else -1.0, sigmas)
    close(ours, theirs, max(1.0, float(theirs.max())))


def without_clipped(image: Any, theirs: Any, sign: float, sigmas: list[float]) -> Any:
    """Return scikit-image's vesselness with 0 where it clipped a negative eigenvalue at 1e-10 and l1 is so small that
    the result is not 0."""
    ridge = np.zeros(image.shape, bool)
    for sigma in sigmas:
        found = sign * feature.hessian_matrix_eigvals(
            feature.hessian_matrix(image, sigma, mode="wrap", use_gaussian_derivatives=True)
        )
        found = np.take_along_axis(found, np.abs(found).argsort(0), 0)
        ridge |= (found[1:] > 0).all(0)
    assert np.mean(theirs[~ridge] > 1e-5) < 1e-3
    return np.where(ridge, theirs, 0)


@pytest.mark.parametrize("gamma", [None, 0.7])
def test_frangi_constants(gamma: float | None) -> None:
    image, options = image_of(2, "float64"), {"alpha": 0.3, "beta": 0.8, "gamma": gamma}
    ours = features.frangi(image, [1.5], mode="wrap", **options)
    close(ours, filters.frangi(image, [1.5], mode="wrap", **options), 1.0)


def test_frangi_does_not_depend_on_the_unit_of_the_image() -> None:
    image = image_of(2, "float64")
    reference = features.frangi(image, [1.5])
    for factor in (1e-30, 1e30):
        close(features.frangi(image * factor, [1.5]), reference, 1.0)
        single = (image * factor).astype("float32")
        np.testing.assert_allclose(features.frangi(single, [1.5]), reference, atol=1e-4)
    # scikit-image clips eigenvalues at 1e-10.
    theirs = filters.frangi(image * 1e-12, [1.5])
    assert np.abs(theirs - reference).max() > 0.1


@pytest.mark.parametrize("name", ["frangi", "sato", "meijering"])
@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_image_has_no_ridges(name: str, value: int) -> None:
    image = np.full((20, 30), value, "uint8")
    found = getattr(features, name)(image, [1.0, 2.0])
    assert np.abs(found).max() <= 1e-3
    assert found.dtype == np.float32


@pytest.mark.parametrize("mode", ["reflect", "nearest", "constant", "wrap", "mirror"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_structure_tensor(ndim: int, mode: str) -> None:
    image = image_of(ndim, "float64")
    ours = features.structure_tensor(image, 1.5, mode=mode)
    theirs = feature.structure_tensor(image, 1.5, mode=mode)
    # skimage calls SciPy's gaussian_filter with the same mode: equal up to the border.
    close(ours, theirs)
    close(features.structure_tensor_eigenvalues(ours), feature.structure_tensor_eigenvalues(theirs))
    close(
        features.structure_tensor_eigvals_of(image, 1.5, mode=mode),
        feature.structure_tensor_eigenvalues(theirs),
    )


def test_structure_tensor_of_integers_and_single_floats() -> None:
    image = (image_of(2, "float64") * 10 + 128).astype("uint8")
    ours = features.structure_tensor(image, 1.0)
    theirs = feature.structure_tensor(image.astype("float64"), 1.0)
    assert ours[0].dtype == np.float32
    close(ours, theirs)


@pytest.mark.parametrize("ndim", [2, 3])
def test_determinant(ndim: int) -> None:
    image = image_of(ndim, "float64")
    ours = features.hessian_matrix_det(image, 1.5)
    close(
        inside(ours, ndim), inside(feature.hessian_matrix_det(image, 1.5, approximate=False), ndim)
    )


def test_blob_responses_are_the_scale_space_of_blob_log() -> None:
    image, sigmas = image_of(2, "float64"), [1.0, 2.0, 3.0]
    ours = features.blob_response(image, sigmas)
    theirs = [-scipy.ndimage.gaussian_laplace(image, s) * s**2 for s in sigmas]
    close(ours, np.stack(theirs))
    difference = features.blob_response(image, [2.0], "dog", ratio=1.6)[0]
    narrow, broad = (scipy.ndimage.gaussian_filter(image, s) for s in (2.0, 3.2))
    close(difference, (narrow - broad) / 0.6)


def test_gradient_magnitude_is_scipys() -> None:
    image = image_of(3, "float64")
    theirs = scipy.ndimage.gaussian_gradient_magnitude(image, 1.5)
    close(features.gradient_magnitude(image, 1.5), theirs)
