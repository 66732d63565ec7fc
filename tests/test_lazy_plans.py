"""Plans evaluate the candidates that can win; the others when a plan is printed or compared."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable.engine.lazy_kernel import LARGEST_KEPT
from separable.kernels import ball, disk, gabor, gaussian, laplacian_of_gaussian
from separable.plan.candidate_list import CandidateList
from separable.plan.kernel_terms import KernelTerms, terms_of
from separable.plan.planned_filter import fastest

RNG = np.random.default_rng(8)
KERNELS: dict[str, Any] = {
    "gaussian": gaussian(2),
    "log": laplacian_of_gaussian(2),
    "dense log": laplacian_of_gaussian(2).dense(),
    "gabor": gabor(6.0, 0.7).dense(),
    "disk": disk(6),
    "full rank": RNG.random((31, 31)),
    "box": np.ones((21, 21)),
    "complex": RNG.random((3, 4)) * 1j,
    "zeros": np.zeros((3, 3)),
    "ball": ball(3),
    "log of three axes": laplacian_of_gaussian(1.0, ndim=3),
    "cylinder": np.multiply.outer(np.ones(4), disk(2)),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("tol", [None, 0.01])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_choice_is_that_of_the_whole_list(name: str, tol: float | None, dtype: str) -> None:
    kernel = KERNELS[name]
    ndim = len(kernel.shape)
    for side in (20, 200) if ndim == 2 else (12, 40):
        p = sep.plan(kernel, (side,) * ndim, dtype, tol=tol)
        best = fastest(c for c in p.candidates if not c.refused)
        assert p.chosen is best


def test_decompositions_that_cannot_win_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    passes = KernelTerms.passes

    def watched(self: KernelTerms, *arguments: Any, shared: bool) -> Any:
        made.append(shared)
        return passes(self, *arguments, shared=shared)

    monkeypatch.setattr(KernelTerms, "passes", watched)
    p = sep.plan(RNG.random((31, 31)), (300, 300), "float32")
    assert p.chosen.name != "low-rank"
    assert made == []
    assert "low-rank 31" in str(p)
    assert made == [False]


def test_a_kernel_is_decomposed_once_for_all_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    from separable.plan import kernel_terms

    found: list[int] = []
    factorize = kernel_terms.factorize
    monkeypatch.setattr(
        kernel_terms, "factorize", lambda *a, **k: found.append(1) or factorize(*a, **k)
    )
    kernel = RNG.random((5, 7))
    for side in range(20, 30):
        sep.plan(kernel, (side, side), "float32").candidates  # noqa: B018
        sep.plan(kernel.copy(), (side, side + 1), "float64")
    assert len(found) == 1
    sep.plan(kernel, (20, 20), operation="correlate")
    assert len(found) == 2


def test_large_kernels_are_not_kept() -> None:
    small = sep.plan(np.ones((5, 5)), (9, 9)).request.weights
    large = sep.plan(np.ones((1, LARGEST_KEPT + 1)), (9, 9)).request.weights
    assert terms_of(small) is terms_of(copy.deepcopy(small))
    assert terms_of(large) is not terms_of(large)


def test_copies_and_pickles_are_complete_lists() -> None:
    p = sep.plan(disk(5), (100, 100), "float32")
    for other in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p), copy.copy(p)):
        assert other == p
        assert hash(other) == hash(p)
        assert str(other) == str(p)
        assert other.chosen is next(c for c in other.candidates if c.name == p.chosen.name)


def test_a_list_is_completed_once_by_many_threads() -> None:
    p = sep.plan(disk(9), (100, 100), "float32")
    found: list[tuple[Any, ...]] = []
    threads = [threading.Thread(target=lambda: found.append(p.candidates)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(a is b for other in found for a, b in zip(other, found[0], strict=True))


def test_a_list_of_nothing_that_may_run() -> None:
    assert CandidateList.of(()).fastest() is None
    assert CandidateList.of(()) == CandidateList.of(())
    assert CandidateList.of(()) != ()


def test_a_repeated_call_is_one_with_the_same_arguments() -> None:
    """Arguments that are equal but not the same are told apart."""
    image = RNG.random((16, 17))
    gaussian_filter = sep.ndimage.gaussian_filter
    first = gaussian_filter(image, 2)
    assert np.array_equal(gaussian_filter(image, 2), first)
    assert np.array_equal(gaussian_filter(image, 2.0), first)
    with pytest.raises(sep.errors.ArgumentTypeError):
        gaussian_filter(image, 1, 1.5)
    gaussian_filter(image, 1, 1)
    with pytest.raises(sep.errors.ArgumentTypeError):
        gaussian_filter(image, 1, 1.0)  # type: ignore[arg-type]
    holes = image.copy()
    holes[3, 4] = np.nan
    assert np.isfinite(gaussian_filter(image, 2, nan="ignore")).all()
    assert np.isfinite(gaussian_filter(holes, 2, nan="ignore")).all()
    assert np.isnan(gaussian_filter(holes, 2)).any()
