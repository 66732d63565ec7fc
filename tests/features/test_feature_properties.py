"""Properties of features: symmetries, borders, axes, spacing, missing samples, the way without the engine, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage

from separable import features
from separable.borders import registered_borders
from separable.engine import availability
from separable.errors import SeparableError

BORDERS = [border.name for border in registered_borders()]
SCALARS = {
    "frangi": lambda im, **o: features.frangi(im, [1.0, 1.6], **o),
    "sato": lambda im, **o: features.sato(im, [1.0, 1.6], **o),
    "meijering": lambda im, **o: features.meijering(im, [1.0, 1.6], **o),
    "coherence": features.coherence,
    "gradient_magnitude": features.gradient_magnitude,
    "local_variance": lambda im, **o: features.local_variance(im, 3, **o),
    "local_mean": lambda im, **o: features.local_mean(im, sigma=1.0, **o),
    "log": lambda im, **o: features.blob_response(im, [1.5], **o)[0],
    "dog": lambda im, **o: features.blob_response(im, [1.5], "dog", **o)[0],
    "doh": lambda im, **o: features.blob_response(im, [1.5], "doh", **o)[0],
    "hessian": lambda im, **o: features.hessian_eigenvalues(im, 1.2, **o)[0],
    "structure_tensor": lambda im, **o: features.structure_tensor_eigvals_of(im, 1.2, **o)[0],
}


def noise(*shape: int, dtype: str = "float64") -> Any:
    return np.random.default_rng(3).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("shape", [(23, 31), (14, 17, 21)])
def test_rotations_commute(name: str, shape: tuple[int, ...]) -> None:
    image = noise(*shape)
    for mode in ("reflect", "wrap") if len(shape) == 2 else ("reflect",):
        found = SCALARS[name](np.rot90(image), mode=mode)
        np.testing.assert_allclose(found, np.rot90(SCALARS[name](image, mode=mode)), atol=1e-10)


@pytest.mark.parametrize("mode", BORDERS)
@pytest.mark.parametrize("name", ["frangi", "structure_tensor", "local_variance", "hessian"])
def test_every_border_equals_an_extended_image(name: str, mode: str) -> None:
    image = noise(25, 20)
    found = SCALARS[name](image, mode=mode, cval=0.7)
    if name == "structure_tensor":  # its products are extended, not the image
        d = [scipy.ndimage.correlate(image, k, mode=mode, cval=0.7) for k in SOBEL]
        smooth = [
            scipy.ndimage.gaussian_filter(d[i] * d[j], 1.2, mode=mode, cval=0.7)
            for i, j in ((0, 0), (0, 1), (1, 1))
        ]
        expected = features.structure_tensor_eigenvalues(smooth)[0]
        np.testing.assert_allclose(found, expected, atol=1e-9)
        return
    border = next(b for b in registered_borders() if b.name == mode)
    rows, columns = (border.extension(n, 24, 24) for n in image.shape)
    wide = np.where((rows >= 0)[:, None] & (columns >= 0), image[rows][:, columns], 0.7)
    if name == "frangi":
        found, wide_found = (
            features.frangi(x, [1.0, 1.6], gamma=1.0, mode=m, cval=0.7)
            for x, m in ((image, mode), (wide, "nearest"))
        )
    else:
        wide_found = SCALARS[name](wide, mode="nearest")
    np.testing.assert_allclose(found, wide_found[24:-24, 24:-24], atol=1e-9)


SOBEL = (np.outer([-1, 0, 1], [1, 2, 1]), np.outer([1, 2, 1], [-1, 0, 1]))


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        *((name, (9, 20, 37), "float32") for name in SCALARS),
        *((name, (40, 33), "float64") for name in SCALARS),
        *((name, (3, 2), "float64") for name in SCALARS),
        *((name, (2, 5, 40), "float64") for name in SCALARS),
        *(("frangi", (20, 21), dtype) for dtype in ("uint8", ">f4", "int32", "float16", "bool")),
        *(("structure_tensor", (20, 21), dtype) for dtype in ("uint8", ">f4", "int32", "bool")),
    ],
)
def test_numpy_computes_the_same_without_the_engine(
    name: str, shape: tuple[int, ...], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = (noise(*shape) * 40 + 100).astype(dtype)
    found = SCALARS[name](image)
    monkeypatch.setattr(availability, "_reason", "a test")
    slow = SCALARS[name](image)
    assert found.dtype == slow.dtype == np.result_type(np.dtype(dtype).newbyteorder("="), "f4")
    scale = max(1.0, float(np.abs(slow).max()))
    tolerance = 1e-4 if found.dtype == np.float32 else 1e-9
    np.testing.assert_allclose(found, slow, atol=tolerance * scale)


@pytest.mark.parametrize("threads", [1, 2])
def test_many_tiles_are_one_image(threads: int) -> None:
    image = noise(150, 2300, dtype="float32")
    whole = features.hessian_eigenvalues(image, 1.0, threads=threads)
    part = features.hessian_eigenvalues(image[40:110, 900:1400], 1.0, threads=1)
    assert np.array_equal(whole[:, 50:100, 910:1390], part[:, 10:60, 10:490])


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["frangi", "hessian", "structure_tensor", "local_variance"])
@pytest.mark.parametrize("shape", [(70, 83), (13, 37, 41)])
def test_scratch_memory_has_no_influence(
    name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from separable.engine.compiled import thread_pool

    image = noise(*shape, dtype="float32")
    found = SCALARS[name](image)
    monkeypatch.setattr(thread_pool, "poison", True)
    assert np.array_equal(SCALARS[name](image), found)


def test_other_axes_are_independent_images() -> None:
    image = noise(3, 20, 30, 2)
    found = features.frangi(image, [1.0], gamma=1.0, axes=(1, 2))
    for i in range(3):
        for k in range(2):
            single = features.frangi(image[i, :, :, k], [1.0], gamma=1.0)
            assert np.array_equal(found[i, :, :, k], single)


@pytest.mark.parametrize("name", SCALARS)
def test_spacing_makes_a_stretched_image_equal(name: str) -> None:
    if name in ("local_variance", "structure_tensor", "dog", "local_mean"):
        pytest.skip("depends on sizes in samples or converges slowly")
    y, x = (np.arange(n) - n // 2 for n in (41, 61))
    fine = np.exp(-((y[:, None] / 6) ** 2) - ((x / 9) ** 2))
    coarse = fine[:, ::2][:, 3:-3]
    options = {"gamma": 0.01} if name == "frangi" else {}
    if name in ("frangi", "sato"):
        run = getattr(features, name)
        left = run(fine, [3.0], black_ridges=False, **options)
        right = run(coarse, [3.0], spacing=(1, 2), black_ridges=False, **options)
    elif name == "meijering":
        left = features.meijering(fine, [3.0], black_ridges=False)
        right = features.meijering(coarse, [3.0], spacing=(1, 2), black_ridges=False)
    elif name == "coherence":
        left = features.coherence(fine, 3.0, inner_sigma=3.0)
        right = features.coherence(coarse, 3.0, inner_sigma=3.0, spacing=(1, 2))
    elif name in ("log", "doh"):
        left = features.blob_response(fine, [3.0], name)[0]
        right = features.blob_response(coarse, [3.0], name, spacing=(1, 2))[0]
    else:
        run = {"gradient_magnitude": features.gradient_magnitude}.get(
            name, lambda *a, **o: features.hessian_eigenvalues(*a, **o)[0]
        )
        left, right = run(fine, 3.0), run(coarse, 3.0, spacing=(1, 2))
    middle = left[:, ::2][10:-10, 10:-10]
    scale = float(np.abs(middle).max())
    np.testing.assert_allclose(right[10:-10, 7:-7], middle, atol=0.02 * scale)


@pytest.mark.parametrize("name", ["frangi", "hessian", "local_variance", "structure_tensor", "log"])
@pytest.mark.parametrize("given", ["mask", "masked array", "nan"])
def test_missing_samples_have_no_influence(name: str, given: str) -> None:
    image = noise(24, 26)
    valid = np.random.default_rng(5).random(image.shape) > 0.1
    results = []
    for value in (0.0, 1e6):
        wrong = np.where(valid, image, value)
        if given == "mask":
            results.append(SCALARS[name](wrong, mask=valid))
        elif given == "masked array":
            results.append(SCALARS[name](np.ma.array(wrong, mask=~valid)))
        else:
            results.append(SCALARS[name](np.where(valid, image, np.nan), nan="ignore"))
    assert np.array_equal(*results)
    assert np.isfinite(results[0]).all()
    full = SCALARS[name](image, mask=np.ones(image.shape))
    np.testing.assert_allclose(full, SCALARS[name](image), atol=1e-9)


def test_fill_where_nothing_is_valid() -> None:
    image, valid = noise(60, 60), np.ones((60, 60))
    valid[:, 20:] = 0
    found = features.hessian_eigenvalues(image, 1.0, mask=valid, fill=-5.0)
    assert (found[:, :, 40:] == -5).all()
    assert (found[:, :, :15] != -5).all()


def test_local_variance_of_far_values() -> None:
    image = noise(40, 40) + 1e6
    expected = scipy.ndimage.uniform_filter((image - 1e6) ** 2, 5)
    expected -= scipy.ndimage.uniform_filter(image - 1e6, 5) ** 2
    np.testing.assert_allclose(features.local_variance(image, 5), expected, atol=1e-3)
    single = features.local_variance((noise(40, 40) + 1000).astype("f4"), 5)
    np.testing.assert_allclose(single, expected, atol=1e-3)


def test_texture_features_are_the_single_features() -> None:
    image = noise(16, 18, 20)
    found = features.texture_features(image, [1.0, 2.0])
    assert len(found.names) == 2 * (4 + 3 + 3) == len(set(found.names))
    smooth = scipy.ndimage.gaussian_filter(image, 2.0)
    np.testing.assert_allclose(found["gaussian at 2"], smooth, atol=1e-12)
    laplace = scipy.ndimage.gaussian_laplace(image, 2.0)
    np.testing.assert_allclose(found["laplacian at 2"], laplace, atol=1e-12)
    slope = scipy.ndimage.gaussian_gradient_magnitude(image, 2.0)
    np.testing.assert_allclose(found["gradient at 2"], slope, atol=1e-12)
    narrow = scipy.ndimage.gaussian_filter(image, 1.32)
    np.testing.assert_allclose(found["difference at 2"], smooth - narrow, atol=1e-12)
    tensor = features.structure_tensor_eigvals_of(image, 1.0, mode="reflect", inner_sigma=2.0)
    np.testing.assert_allclose(found["structure_tensor_1 at 2"], tensor[0], atol=1e-12)


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 2.0]])
def test_an_empty_image_has_empty_features(sigmas: list[float]) -> None:
    assert features.frangi(np.zeros((0, 5)), sigmas).shape == (0, 5)


BAD: list[tuple[Any, str]] = [
    (lambda im: features.frangi(im, [0]), "`sigmas` must be > 0"),
    (lambda im: features.frangi(im, [-1.0]), "`sigmas` must be > 0"),
    (lambda im: features.frangi(im, []), "at least one scale"),
    (lambda im: features.frangi(im, "12"), "must be numbers"),
    (lambda im: features.frangi(im, [0.2]), "at least 0.6 samples"),
    (lambda im: features.frangi(im, [1.0], spacing=4.0), "which is 0.25 samples 4 apart"),
    (lambda im: features.frangi(im, [1.0], gamma=0), "`gamma` must be > 0"),
    (lambda im: features.frangi(im, [1.0], sigma=2), "unknown option `sigma`"),
    (lambda im: features.frangi(im[0], [1.0]), "needs 2 or 3 axes; got 1"),
    (lambda im: features.frangi(im * 1j, [1.0]), "must be real"),
    (lambda im: features.hessian_matrix(im, (1, 2, 3)), "one for each of 2 axes"),
    (lambda im: features.hessian_matrix(im, 0), "must be > 0"),
    (lambda im: features.hessian_matrix(im, order="yx"), '"rc" or "xy"'),
    (lambda im: features.hessian_matrix_eigvals([im, im]), "upper triangle"),
    (lambda im: features.hessian_matrix_eigvals([im, im[1:], im]), "must have one shape"),
    (lambda im: features.hessian_matrix_det(im, approximate=True), "must be False"),
    (lambda im: features.blob_response(im, [1], "hog"), "one of log, dog, doh"),
    (lambda im: features.blob_response(im, [1], "dog", ratio=1), "must be > 1"),
    (lambda im: features.local_mean(im), "either `size`"),
    (lambda im: features.local_mean(im, 4), "must be odd"),
    (lambda im: features.texture_features(im, [1], ["entropy"]), "got 'entropy'"),
    (lambda im: features.frangi(im, [1], mode="refelct"), "mode"),
    (lambda im: features.frangi(im, [1], mask=np.ones(3)), "mask"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_explained(call: Any, message: str) -> None:
    with pytest.raises(SeparableError) as caught:
        call(noise(20, 20))
    assert message in str(caught.value)


@pytest.mark.parametrize("axes", [(1, 2), (2, 1), (0, 2)])
def test_each_independent_image_has_its_own_part_of_a_mask(axes: tuple[int, int]) -> None:
    images = np.random.default_rng(2).random((3, 11, 9))
    valid = np.random.default_rng(3).random(images.shape) > 0.2
    left = next(axis for axis in range(3) if axis not in axes)
    calls = {
        "sato": lambda x, **o: features.sato(x, [1.0], **o),
        "frangi": lambda x, **o: features.frangi(x, [1.0], gamma=0.1, **o),
        "variance": lambda x, **o: features.local_variance(x, (3, 5), **o),
    }
    for name, call in calls.items():
        found = call(images, axes=axes, mask=valid)
        for k in range(images.shape[left]):
            one, known = (np.take(a, k, left) for a in (images, valid))
            order = (1, 0) if axes[0] > axes[1] else (0, 1)
            alone = call(one.transpose(order), mask=known.transpose(order)).transpose(order)
            np.testing.assert_allclose(np.take(found, k, left), alone, atol=1e-12, err_msg=name)
    common = features.local_mean(images, (3, 5), axes=axes, mask=valid.take(0, left))
    spread = np.broadcast_to(np.expand_dims(valid.take(0, left), left), images.shape)
    np.testing.assert_array_equal(
        common, features.local_mean(images, (3, 5), axes=axes, mask=spread)
    )
