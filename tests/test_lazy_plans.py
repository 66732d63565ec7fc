"""Plans evaluate the candidates that can win; the others when a plan is printed or compared."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable.engine.lazy_kernel import LARGEST_KEPT, Kernel, folded
from separable.kernels import ball, disk, gabor, gaussian, laplacian_of_gaussian
from separable.plan.candidate_choice import fastest
from separable.plan.candidate_list import CandidateList
from separable.plan.kernel_terms import KernelTerms, terms_of

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
    assert "low-rank " in str(p)
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


RNG = np.random.default_rng(7)
EVEN, ODD, CENTRE = RNG.normal(size=20), RNG.normal(size=20), np.ones(1)
EVENS = [np.r_[EVEN, CENTRE * c, EVEN[::-1]] for c in (1.0, 2.0)]  # 41 samples
ODDS = [np.r_[ODD, CENTRE * 0, -ODD[::-1]] * c for c in (1.0, 0.0)]
LARGE_SUMS = {
    "even": [(EVENS[0], EVENS[1], EVENS[0]), (EVENS[1], EVENS[0], EVENS[0])],
    "even and odd": [(EVENS[0], ODDS[0], EVENS[0]), (EVENS[1], ODDS[0], EVENS[1])],
    "of both kinds": [(EVENS[0], ODDS[0], EVENS[0]), (EVENS[1], EVENS[0], EVENS[1])],
    "neither": [tuple(RNG.normal(size=(3, 41))), (EVENS[0], ODDS[0], RNG.normal(size=41))],
    "even number of samples": [tuple(np.r_[v[:21], v[20::-1]] for v in t) for t in (EVENS * 2, ODDS * 2)],
    "complex": [(EVENS[0] * 1j, EVENS[1], EVENS[0]), (EVENS[1], EVENS[0], ODDS[0])],
    "zeros": [(EVENS[0] * 0, EVENS[1], EVENS[0]), (ODDS[1], EVENS[0], EVENS[0])],
}  # fmt: skip


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", LARGE_SUMS)
def test_sums_over_large_kernels_are_those_of_the_dense_kernel(name: str, flip: bool) -> None:
    terms = [t[:3] for t in LARGE_SUMS[name]]
    factors = sep.Factors.from_terms("zyx -> z,y,x", terms)
    kernel = Kernel(factors, flip)
    assert kernel.is_product
    dense = sum(
        np.einsum("z,y,x->zyx", *(np.asarray(v, np.result_type(v, float)) for v in t))
        for t in terms
    )
    assert kernel.norm == pytest.approx(float(np.abs(dense).sum()), rel=1e-12)
    assert kernel.nonzeros == np.count_nonzero(dense)


def test_one_half_stands_for_an_even_or_odd_axis() -> None:
    terms = [(EVENS[0], ODDS[0], EVENS[0]), (EVENS[1], ODDS[0], RNG.normal(size=41))]
    half, counts = folded(sep.Factors.from_terms("zyx -> z,y,x", terms))
    assert half.shape == (21, 21, 41)
    assert [c[:2].tolist() for c in counts] == [[1, 2], [1, 2], [1, 1]]


def test_unsigned_vectors_are_not_taken_for_odd_ones() -> None:
    ones = np.ones(1, np.uint8)
    half, _ = folded(sep.Factors.from_terms("yx -> y,x", [(np.array([1, 255], np.uint8), ones)]))
    assert half.shape == (2, 1)


def test_errors_of_fewer_terms_of_a_large_kernel_are_those_of_the_dense_kernel() -> None:
    kernel = laplacian_of_gaussian(6.0, ndim=3)
    factors = sep.Factors.from_terms(
        "zyx -> z,y,x", [(t[0] * w, *t[1:]) for t, w in zip(kernel.terms, (9, 3, 1), strict=True)]
    )
    dense = factors.dense()
    p = sep.plan(factors, (80, 80, 80), tol=0.5, operation="correlate")
    truncated = next(c for c in p.candidates if c.name == "truncated")
    assert not truncated.refused
    kept = sep.Factors.from_terms("zyx -> z,y,x", truncated.form.terms).dense()
    error = np.abs(kept - dense).sum() / np.abs(dense).sum()
    assert error <= truncated.bound <= error + 1e-12
