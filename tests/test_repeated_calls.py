"""Repeated calls find their plan again, and never one that belongs to other arguments."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage

import separable as sep
import toy_borders
from separable import machine, ndimage, repeated_calls

RNG = np.random.default_rng(20)
IMAGE = RNG.normal(size=(16, 18))
TAPS = np.array([[1.0, 2.0, 1.0], [0.0, 1.0, 0.0], [3.0, 0.0, 1.0]])

CALLS: dict[str, Callable[..., Any]] = {
    "gaussian_filter": lambda f, image, **k: f.gaussian_filter(image, 1.5, **k),
    "gaussian_filter per axis": lambda f, image, **k: f.gaussian_filter(image, (1.0, 2.0), **k),
    "gaussian_filter1d": lambda f, image, **k: f.gaussian_filter1d(image, 1.5, 0, **k),
    "uniform_filter": lambda f, image, **k: f.uniform_filter(image, 5, **k),
    "uniform_filter1d": lambda f, image, **k: f.uniform_filter1d(image, 5, **k),
    "sobel": lambda f, image, **k: f.sobel(image, 0, **k),
    "prewitt": lambda f, image, **k: f.prewitt(image, **k),
    "laplace": lambda f, image, **k: f.laplace(image, **k),
    "gaussian_laplace": lambda f, image, **k: f.gaussian_laplace(image, 1.5, **k),
    "gaussian_gradient_magnitude": lambda f, image, **k: f.gaussian_gradient_magnitude(
        image, 1.5, **k
    ),
    "correlate": lambda f, image, **k: f.correlate(image, TAPS, **k),
    "convolve": lambda f, image, **k: f.convolve(image, TAPS, **k),
    "correlate1d": lambda f, image, **k: f.correlate1d(image, TAPS[0], **k),
    "convolve1d": lambda f, image, **k: f.convolve1d(image, TAPS[2], **k),
}
every_call = pytest.mark.parametrize("name", CALLS)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the filters that are found again."""
    times: list[Any] = []

    class Counting(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            held = super().get(key, default)
            if held is not None:
                times.append(held.filter)
            return held

    monkeypatch.setattr(repeated_calls, "_held", Counting())
    return times


def scipys(name: str, image: np.ndarray, **options: Any) -> np.ndarray:
    return np.asarray(CALLS[name](scipy.ndimage, np.asarray(image, np.float64), **options))


@every_call
def test_every_function_finds_its_plan_again(name: str, found: list[Any]) -> None:
    first, other = IMAGE.copy(), RNG.normal(size=IMAGE.shape)
    results = [CALLS[name](ndimage, image) for image in (first, other, first)]
    assert len(found) == 2
    assert np.array_equal(results[0], results[2])
    assert results[0] is not results[2]
    np.testing.assert_allclose(results[1], scipys(name, other), atol=1e-12)


@every_call
@pytest.mark.parametrize("dtype", ["float32", "uint8", ">f8", "float16", "bool"])
def test_every_layout_and_type(name: str, dtype: str, found: list[Any]) -> None:
    """A plan is found again for other strides, and gives the same bits as the first call did."""
    image = (RNG.random(IMAGE.shape) * 200).astype(dtype)
    first = CALLS[name](ndimage, image)
    transposed = np.asfortranarray(image)
    spread = np.repeat(np.repeat(image, 2, 0), 3, 1)[::2, ::3]
    backwards = image[::-1, ::-1].copy()[::-1, ::-1]
    for same in (transposed, spread, backwards, image):
        assert np.array_equal(CALLS[name](ndimage, same), first)
    assert len(found) == 4


@every_call
def test_output_arrays(name: str, found: list[Any]) -> None:
    expected = CALLS[name](ndimage, IMAGE)
    for _ in range(3):
        out = np.full(IMAGE.shape, np.nan)
        assert CALLS[name](ndimage, IMAGE, output=out) is out
        assert np.array_equal(out, expected)
    assert len(found) == 2
    for part in (slice(None), slice(None, None, -1)):  # the image itself, and its rows backwards
        image = IMAGE.copy()
        CALLS[name](ndimage, image, output=image[part])
        assert np.array_equal(image[part], expected)
    frozen = np.zeros(IMAGE.shape)
    frozen.flags.writeable = False
    for wrong in (frozen, np.zeros((16, 19))):
        with pytest.raises(sep.errors.OutputError):
            CALLS[name](ndimage, IMAGE, output=wrong)


def test_a_kernel_that_changes_between_calls(found: list[Any]) -> None:
    taps = TAPS.copy()
    before = ndimage.correlate(IMAGE, taps)
    taps[1, 1] = 7.0
    changed = ndimage.correlate(IMAGE, taps)
    assert np.allclose(changed, scipy.ndimage.correlate(IMAGE, taps))
    assert not np.allclose(changed, before)
    assert not found
    assert np.array_equal(sep.correlate(IMAGE, taps), changed)
    taps[1, 1] = 1.0
    assert np.array_equal(ndimage.correlate(IMAGE, taps), before)
    assert np.array_equal(sep.correlate(IMAGE, taps), before)
    flipped = ndimage.correlate(IMAGE, taps.T)  # the same bytes in another order
    assert np.allclose(flipped, scipy.ndimage.correlate(IMAGE, taps.T))
    whole = ndimage.correlate(IMAGE, taps.view(np.int64))  # the same bytes as another type
    assert not np.allclose(whole, before)


@pytest.mark.parametrize("filtered", [sep.convolve, sep.correlate])
def test_convolve_with_kernels_of_the_catalogue(filtered: Any, found: list[Any]) -> None:
    smooth, box = sep.kernels.gaussian(1), sep.kernels.box(3)
    first = filtered(IMAGE, smooth)
    assert np.array_equal(filtered(IMAGE, sep.kernels.gaussian(1)), first)
    assert len(found) == 1
    assert not np.allclose(filtered(IMAGE, box), first)
    assert filtered(IMAGE, smooth, output="float32").dtype == np.float32
    assert len(found) == 1
    out = np.empty_like(IMAGE)
    for _ in range(2):
        assert filtered(IMAGE, smooth, output=out) is out
        assert np.array_equal(out, first)


def test_equal_values_of_other_types_and_signs(
    monkeypatch: pytest.MonkeyPatch, found: list[Any]
) -> None:
    """An order of 1.0 is refused although 1 was accepted, and -0.0 is not 0.0."""
    ndimage.gaussian_filter(IMAGE, 1, 1)
    ndimage.gaussian_filter(IMAGE, (1, 1), (1, 1))
    for order in (1.0, (1.0, 1)):
        with pytest.raises(sep.errors.ArgumentTypeError):
            ndimage.gaussian_filter(IMAGE, 1, order)  # type: ignore[arg-type]
    assert not found
    planned = []
    hold = repeated_calls._hold
    monkeypatch.setattr(repeated_calls, "_hold", lambda *a: (planned.append(cval), hold(*a)))
    for cval in (0.0, 0.0, -0.0, -0.0, 0.0, 0, 0, np.float32(0), np.float32(-0.0)):
        ndimage.sobel(IMAGE, mode="constant", cval=cval)
    assert repr(planned) == repr([0.0, -0.0, 0.0, 0, np.float32(0), np.float32(-0.0)])


def test_nan_and_masks_are_looked_at_in_every_call() -> None:
    holes = IMAGE.copy()
    holes[3, 4] = np.nan
    for _ in range(2):
        assert np.isfinite(ndimage.sobel(IMAGE, nan="ignore")).all()
        assert np.isfinite(ndimage.sobel(holes, nan="ignore")).all()
        assert np.isnan(ndimage.sobel(holes)).sum() in (6, 9)  # the middle column has weights 0
        masked = np.ma.masked_invalid(holes)
        assert np.isfinite(ndimage.sobel(masked)).all()
        with pytest.raises(sep.errors.ArgumentError):
            ndimage.sobel(holes, nan="raise")


@pytest.mark.parametrize("method", ["recursive", "fft"])
def test_a_plan_that_would_spread_nan_looks_at_every_image(method: str, found: list[Any]) -> None:
    image = RNG.normal(size=(100, 100))
    holes = image.copy()
    holes[50, 50] = np.nan
    kernel = sep.kernels.gaussian(4)
    for filtered in (image, holes, image, holes):
        result = sep.convolve(filtered, kernel, tol=0.01, method=method)
        spoilt = kernel.shape[0] * kernel.shape[1] if filtered is holes else 0
        assert np.isnan(result).sum() == spoilt
    assert len(found) == 3


class Marked(np.ndarray):
    """An array of another class."""


def test_arrays_of_other_classes(found: list[Any]) -> None:
    expected = ndimage.sobel(IMAGE)
    for _ in range(2):
        assert np.array_equal(ndimage.sobel(IMAGE.view(Marked)), expected)
        assert np.array_equal(ndimage.sobel(IMAGE.tolist()), expected)
        out = np.zeros(IMAGE.shape).view(Marked)
        ndimage.sobel(IMAGE, output=out)
        assert np.array_equal(out, expected)
    assert not found


def test_the_number_of_threads(monkeypatch: pytest.MonkeyPatch, found: list[Any]) -> None:
    """Each way to set it leads to a plan of that number at once."""
    big = RNG.normal(size=(300, 300))

    def threads() -> int:
        ndimage.sobel(big)
        ndimage.sobel(big)
        return int(found[-1].problem.threads)

    try:
        for count in (1, 3, 2):
            sep.set_num_threads(count)
            assert threads() == count
    finally:
        sep.set_num_threads(None)
    monkeypatch.setenv("SEPARABLE_NUM_THREADS", "5")
    assert threads() == 5
    monkeypatch.setenv("SEPARABLE_NUM_THREADS", "4")
    assert threads() == 4
    monkeypatch.delenv("SEPARABLE_NUM_THREADS")
    assert threads() == sep.get_num_threads()


class OtherEdge(toy_borders.FarEdge):
    """A border of the same name with another meaning."""

    def extension(self, n: int, before: int, after: int) -> np.ndarray:
        return np.concatenate([np.zeros(before, int), np.arange(n), np.full(after, n - 1)])


def test_registered_borders() -> None:
    """The same name is another border after it was registered anew, and none after it was removed."""
    results = []
    for toy in (toy_borders.FarEdge(), OtherEdge()):
        sep.borders.register_border(toy)
        try:
            results += [ndimage.gaussian_filter(IMAGE, 1, mode=toy.name) for _ in range(2)]
        finally:
            sep.borders.unregister_border(toy.name)
        with pytest.raises(sep.errors.ModeError):
            ndimage.gaussian_filter(IMAGE, 1, mode=toy.name)
    assert np.array_equal(results[0], results[1])
    assert not np.allclose(results[1], results[2])
    assert np.array_equal(results[3], ndimage.gaussian_filter(IMAGE, 1, mode="nearest"))


def test_a_changed_profile_makes_new_plans(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: list[Any]
) -> None:
    ndimage.sobel(IMAGE)
    ndimage.sobel(IMAGE)
    assert len(found) == 1
    values = machine.shipped().to_dict()
    values["name"] = "another computer"
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(values))
    monkeypatch.setattr("separable.machine.this_machine.cache_path", lambda: path)
    machine.forget()
    try:
        ndimage.sobel(IMAGE)
        assert len(found) == 1
    finally:
        monkeypatch.undo()
        machine.forget()


def test_warnings_are_given_at_every_call() -> None:
    image = IMAGE + 1j
    for _ in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ndimage.sobel(image, output=float)
        assert [w.filename for w in caught] == [__file__]


def test_functions_remain_functions() -> None:
    assert pickle.loads(pickle.dumps(ndimage.sobel)) is ndimage.sobel
    assert copy.deepcopy(ndimage.sobel) is ndimage.sobel
    assert np.array_equal(ndimage.sobel(input=IMAGE), ndimage.sobel(IMAGE))
    with pytest.raises(TypeError):
        ndimage.sobel()  # type: ignore[call-arg]


def test_the_number_of_kept_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_calls, "_held", {})
    monkeypatch.setattr(repeated_calls, "MOST_CALLS", 5)
    for width in range(3, 23):
        ndimage.sobel(np.zeros((3, width)))
    assert [key[1][1] for key in repeated_calls._held] == list(range(18, 23))  # type: ignore[index]
