"""Forms, work and the methods, one against the other and against the definition."""

from __future__ import annotations

import itertools
import os
import threading
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import errors
from separable.engine import Decomposition, pass_decomposition, work_dtype
from separable.engine.availability import available
from separable.engine.thread_count import in_parallel, slabs
from separable.kernels import box, disk, gaussian, laplace, laplacian_of_gaussian
from separable.testing import methods_for, with_each_method

RNG = np.random.default_rng(7)


def multiplied_out(
    form: Decomposition, shape: tuple[int, ...], lefts: tuple[int, ...]
) -> np.ndarray:
    """The dense kernel that a tree of passes is, by running it on an impulse."""
    size = tuple(2 * n + 1 for n in shape)
    impulse = np.zeros(size)
    impulse[tuple(n for n in shape)] = 1
    total = np.zeros(size)

    def follow(passes: Any, source: np.ndarray) -> None:
        for p in passes:
            out = np.zeros(size)
            for j in itertools.product(*(range(n) for n in p.taps.shape)):
                shift = [0] * len(shape)
                for a, i, left in zip(p.axes, j, p.lefts, strict=True):
                    shift[a] = left - i
                out += p.taps[j] * np.roll(source, shift, axis=tuple(range(len(shape))))
            if p.then:
                follow(p.then, out)
            else:
                total[...] += out

    follow(form.roots, impulse)
    index = tuple(
        slice(n + left - k + 1, n + left + 1)
        for n, left, k in zip(shape, lefts, shape, strict=True)
    )
    return np.flip(total[index])


@pytest.mark.parametrize(
    ("kernel", "pattern"),
    [
        (RNG.random((4, 5)), "yx -> y,x"),
        (RNG.random((3, 4, 5)), "zyx -> z,y,x"),
        (np.multiply.outer(RNG.random(3), RNG.random((4, 5))), "zyx -> z,yx"),
        (np.multiply.outer(RNG.random((4, 5)), RNG.random(3)), "zyx -> zy,x"),
        (laplace(ndim=3).dense().astype(float), "zyx -> z,y,x"),
    ],
)
def test_a_tree_of_passes_is_the_kernel(kernel: np.ndarray, pattern: str) -> None:
    factors = sep.factorize(kernel, pattern)
    letters = factors.pattern.letters
    groups = tuple(tuple(letters.index(a) for a in f) for f in factors.pattern.factors)
    lefts = tuple(n // 2 for n in kernel.shape)
    for shared in (True, False):
        form = pass_decomposition(factors.terms, groups, kernel, lefts, shared=shared)
        got = multiplied_out(form, kernel.shape, lefts)
        assert np.allclose(got, kernel, atol=1e-13)


def test_nested_terms_share_their_first_passes() -> None:
    kernel = RNG.random((3, 5, 5))
    factors = sep.factorize(kernel, "zyx -> z,y,x")
    groups = ((0,), (1,), (2,))
    shared = pass_decomposition(factors.terms, groups, kernel, (1, 2, 2))
    flat = pass_decomposition(factors.terms, groups, kernel, (1, 2, 2), shared=False)
    assert shared.shares
    assert not flat.shares
    assert len(shared.passes) == 3 + 2 * factors.rank
    assert len(flat.passes) == 3 * factors.rank
    assert shared.multiplications < flat.multiplications


def test_a_laplacian_costs_one_pass_an_axis() -> None:
    p = sep.plan(laplace(ndim=3), (20, 20, 20))
    best = next(c for c in p.candidates if c.name == "low-rank")
    assert (best.passes, best.multiplications) == (3, 9)


def test_taps_are_trimmed_but_keep_the_output_sample() -> None:
    kernel = np.zeros((5, 5))
    kernel[0, 4] = 2.0
    form = pass_decomposition(
        [(np.eye(5)[0], 2 * np.eye(5)[4])], ((0,), (1,)), kernel, (2, 2)
    )  # fmt: skip
    assert [(p.taps.size, p.lefts) for p in form.passes] == [(3, (0,)), (3, (2,))]


@pytest.mark.parametrize(
    ("image", "out", "kernel", "expected"),
    [
        ("float32", "float32", np.ones((3, 3)), "float32"),
        ("float16", "float16", np.ones(3), "float32"),
        ("float32", "float64", np.ones(3), "float64"),
        ("uint8", "uint8", np.ones((9, 9)), "float64"),
        ("uint16", "uint16", np.ones((9, 9)) / 81, "float64"),
        ("uint16", "uint16", np.ones((9, 9)), "float64"),  # sums reach 5e6: 24 bits are too few
        ("uint8", "int32", np.ones(3), "float64"),
        ("int32", "int32", np.ones(3), "float64"),
        ("bool", "bool", np.ones(3), "float64"),
        ("uint8", "float32", np.ones(3), "float32"),
        ("complex64", "complex64", np.ones(3), "complex64"),
        ("float32", "complex64", np.ones(3) * 1j, "complex64"),
        ("float64", "complex128", np.ones(3) * 1j, "complex128"),
    ],
)
def test_intermediates(image: str, out: str, kernel: np.ndarray, expected: str) -> None:
    assert work_dtype(image, out, kernel) == np.dtype(expected)


METHOD_NAMES = (*methods_for(sep.plan(RNG.random((3, 4)), (20, 25))), "reference")
KERNELS = {
    "even sizes": RNG.random((4, 2)) - 0.3,
    "rank 1": np.outer(RNG.random(5), RNG.random(3)),
    "log": laplacian_of_gaussian(1.2).dense(),
    "disk": disk(4).astype(float),
    "wider than the image": RNG.random((41, 3)) - 0.5,
    "one element": np.array([[2.5]]),
    "a row": RNG.random((1, 7)),
    "zeros": np.zeros((3, 3)),
    "complex": RNG.random((3, 4)) + 1j * RNG.random((3, 4)),
}


@pytest.mark.parametrize("kernel", sorted(KERNELS))
@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_the_method_changes_the_time_not_the_result(kernel: str, mode: str) -> None:
    taps = KERNELS[kernel]
    image = RNG.random((17, 23))
    scale = np.sum(np.abs(taps)) or 1.0
    exact = sep.convolve(image, taps, mode=mode, cval=3.0, method="reference")
    ran = []

    def run(method: str) -> np.ndarray:
        return sep.convolve(image, taps, mode=mode, cval=3.0, method=method)

    for method, got in with_each_method(run, sep.plan(taps, image.shape, mode=mode, cval=3.0)):
        ran.append(method)
        assert got.dtype == exact.dtype
        assert np.max(np.abs(got - exact)) <= 3e-14 * scale * 3, method
        small = sep.convolve(image.astype("f4"), taps, mode=mode, cval=3.0, method=method)
        assert np.max(np.abs(small - exact)) <= 1e-6 * scale * 3, method
    assert {"passes", "correlate", "fft", "overlap"} <= set(ran)
    assert ("fused" in ran) == available()


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (2, 0), (-1, 1)])
def test_axes_in_any_order(method: str, axes: tuple[int, int]) -> None:
    image, kernel = RNG.random((9, 8, 7)), RNG.random((3, 4))
    exact = sep.correlate(image, kernel, axes=axes, method="reference", origin=(1, -1))
    got = sep.correlate(image, kernel, axes=axes, method=method, origin=(1, -1))
    assert np.allclose(got, exact, atol=1e-13)
    moved = sep.correlate(
        np.moveaxis(image, axes, (0, 1)), kernel, axes=(0, 1), method=method, origin=(1, -1)
    )
    assert np.allclose(np.moveaxis(moved, (0, 1), axes), exact, atol=1e-13)


@pytest.mark.parametrize("method", [m for m in METHOD_NAMES if m != "reference"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_give_the_same_bits(method: str, threads: int) -> None:
    image = RNG.random((300, 401)).astype("f4")
    kernel = laplacian_of_gaussian(2.0).dense()
    one = sep.convolve(image, kernel, method=method, threads=1)
    assert np.array_equal(one, sep.convolve(image, kernel, method=method, threads=threads))


def test_many_threads_of_the_caller() -> None:
    image = RNG.random((200, 300)).astype("f4")
    kernels = [gaussian(s) for s in (1, 2, 3)]
    expected = [sep.convolve(image, k) for k in kernels]
    wrong: list[int] = []

    def work(n: int) -> None:
        results = [sep.convolve(image, kernels[n % 3]) for _ in range(5)]
        wrong.extend(n for r in results if not np.array_equal(r, expected[n % 3]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_filters_too() -> None:
    image = RNG.random((400, 400))
    kernel = gaussian(2)
    expected = sep.convolve(image, kernel)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(sep.convolve(image, kernel), expected) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_errors_of_jobs_reach_the_caller() -> None:
    def job(part: int) -> None:
        if part == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_parallel(job, range(5), 2)
    assert slabs(0, 4) == []


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_progress_adds_up_to_one(method: str) -> None:
    image = RNG.random((300, 300))
    done: list[float] = []
    sep.plan(np.outer([1, 2, 1], [1, 3]), image.shape, method=method)(image, progress=done.append)
    assert abs(sum(done) - 1) < 1e-9


def test_tiny_and_huge_kernels() -> None:
    """SciPy drops weights below 2e-16 and takes small taps for symmetric ones; we do neither."""
    image = RNG.random((12, 13))
    kernel = np.outer([1.0, 2.0, -0.5], [0.3, 1.0, 0.7])
    dense = RNG.random((3, 3))
    for taps in (kernel, dense):
        exact = sep.convolve(image, taps, method="reference")
        for scale in (1e-300, 1e-20, 1e-9, 1e9, 1e200):
            for method in METHOD_NAMES:
                got = sep.convolve(image, taps * scale, method=method)
                assert np.allclose(got / scale, exact, rtol=0, atol=1e-13), (method, scale)


def test_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = gaussian(1)
    monkeypatch.setenv("SEPARABLE_NUM_THREADS", "5")
    assert sep.get_num_threads() == 5
    assert sep.plan(kernel, (9, 9)).problem.threads == 5
    sep.set_num_threads(3)
    try:
        assert sep.get_num_threads() == 3
        assert sep.plan(kernel, (9, 9), threads=2).problem.threads == 2
        image = RNG.random((300, 300))
        assert np.array_equal(sep.convolve(image, kernel), sep.convolve(image, kernel, threads=1))
        for bad in (0, -1):
            with pytest.raises(errors.ArgumentError, match="`threads` must be >= 1; got"):
                sep.set_num_threads(bad)
        for bad in (1.5, "2", True):
            with pytest.raises(errors.ArgumentTypeError, match="`threads` must be an integer"):
                sep.set_num_threads(bad)  # type: ignore[arg-type]
    finally:
        sep.set_num_threads(None)
    assert sep.get_num_threads() == 5
    monkeypatch.setenv("SEPARABLE_NUM_THREADS", "many")
    assert sep.get_num_threads() >= 1


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("shape", [(40, 50), (3, 4), (1, 1)])
def test_running_sums(mode: str, shape: tuple[int, int]) -> None:
    image = RNG.random(shape)
    for kernel in (box((9, 4)), box((9, 4)).dense(), np.ones((5, 31)) * 0.1):
        exact = sep.convolve(image, kernel, mode=mode, cval=3.0, method="reference")
        got = sep.convolve(image, kernel, mode=mode, cval=3.0, method="box")
        assert np.max(np.abs(got - exact)) <= 1e-13 * 3 * 16
    whole = (image * 255).astype(np.uint8)
    got = sep.convolve(whole, box(5), mode=mode, method="box")
    exact = sep.convolve(whole.astype(float), box(5), mode=mode, method="reference")
    assert np.max(np.abs(got - exact)) <= 0.5 + 1e-4


def test_running_sums_do_not_drift() -> None:
    image = RNG.random((4, 5000)).astype("f4")
    image[:, 100] = 1e7
    exact = sep.convolve(image.astype(float), box((1, 11)).dense(), method="reference")
    got = sep.convolve(image, box((1, 11)).dense(), method="box")
    assert np.max(np.abs(got - exact)[:, 120:]) < 1e-6


@pytest.mark.compiled
def test_box_and_recursion_are_for_kernels_of_their_kind() -> None:
    for method, kernel, tol in (("box", gaussian(3), None), ("recursive", box(31), 0.01)):
        with pytest.raises(errors.ArgumentError, match="`method` must be one of"):
            sep.plan(kernel, (50, 50), method=method, tol=tol)
    with pytest.raises(errors.ArgumentError, match="`method` must be one of"):
        sep.plan(gaussian(9), (50, 50), method="recursive")  # exact was asked for


@pytest.mark.compiled
@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
@pytest.mark.parametrize("tol", [1e-2, 1e-3])
@pytest.mark.parametrize("order", [0, 1])
def test_recursion_keeps_its_tolerance(mode: str, tol: float, order: int) -> None:
    image = RNG.random((90, 70)) - 0.3
    kernel = gaussian((7.0, 5.0), order=(0, order)).dense()
    exact = sep.correlate(image, kernel, mode=mode, cval=2.0, method="reference")
    p = sep.plan(kernel, image.shape, mode=mode, cval=2.0, operation="correlate", tol=tol)
    listed = {c.name: c for c in p.candidates}
    if order == 0 or tol == 1e-2:
        assert listed["recursive"].bound <= tol
        got = sep.correlate(image, kernel, mode=mode, cval=2.0, tol=tol, method="recursive")
        limit = listed["recursive"].bound * np.sum(np.abs(kernel)) * 2.0
        assert np.max(np.abs(got - exact)) <= limit


def test_a_recursion_steps_aside_for_a_nan() -> None:
    image = RNG.random((200, 200))
    image[100, 100] = np.nan
    kernel = gaussian(4)
    got = sep.convolve(image, kernel, tol=0.01, method="recursive")
    assert np.isnan(got).sum() == kernel.shape[0] * kernel.shape[1]


def test_box_from_a_plan_in_json() -> None:
    p = sep.plan(gaussian(9), (80, 80), tol=0.01, method="recursive")
    image = RNG.random((80, 80))
    assert np.array_equal(sep.Plan.from_dict(p.to_dict())(image), p(image))
