"""Kronecker products within a tolerance, against a search that tries every split and every number of terms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sep
from kronecker_chains import products_of
from separable.cli import run
from separable.engine import Kernel
from separable.engine.availability import available
from separable.errors import PatternError
from separable.factorize.group_sizes import splits
from separable.pattern import parse
from separable.plan.kronecker_search import kronecker_within
from separable.plan.kronecker_terms import MOST_TERMS, kronecker_terms

RNG = np.random.default_rng(20)
needs_engine = pytest.mark.skipif(not available(), reason="the passes are compiled")


def near_product(coarse: tuple[int, ...], fine: tuple[int, ...], noise: float, seed: int) -> Any:
    """Return a kernel that is a Kronecker product up to some noise."""
    rng = np.random.default_rng(seed)
    kernel = np.kron(rng.random(coarse) + 0.1, rng.random(fine) + 0.1)
    return kernel + noise * rng.standard_normal(kernel.shape)


def divisors(n: int) -> list[int]:
    """Return the divisors of a number."""
    return [d for d in range(1, n + 1) if n % d == 0]


def every_sum(kernel: Any) -> Any:
    """Yield the block sizes, the number of terms and the relative 1-norm error of every truncated sum.

    The rearrangement of Van Loan and Pitsianis is written out block by block, and each sum by `numpy.kron`.
    """
    for sizes in itertools.product(*map(divisors, kernel.shape)):
        if not any(1 < k < n for k, n in zip(sizes, kernel.shape, strict=True)):
            continue
        outer = tuple(n // k for n, k in zip(kernel.shape, sizes, strict=True))
        blocks = []
        for at in np.ndindex(outer):
            place = tuple(slice(i * k, (i + 1) * k) for i, k in zip(at, sizes, strict=True))
            blocks.append(kernel[place].ravel())
        u, s, vt = np.linalg.svd(np.array(blocks), full_matrices=False)
        total = np.zeros(kernel.shape)
        for rank in range(min(MOST_TERMS, s.size)):
            coarse = (s[rank] * u[:, rank]).reshape(outer)
            total = total + np.kron(coarse, vt[rank].reshape(sizes))
            error = np.abs(kernel - total).sum() / np.abs(kernel).sum()
            yield sizes, rank + 1, float(error)


def written_out(found: Any, shape: tuple[int, ...]) -> Any:
    """Return the kernel that the passes are, by adding up all products of their taps."""
    total = np.zeros(shape)
    for chain in found.chains:
        for place, value in products_of(chain, len(shape)).items():
            total[place] += value
    return total


@settings(max_examples=60)
@given(
    shape=st.lists(st.sampled_from([2, 3, 4, 6, 8]), min_size=1, max_size=3),
    noise=st.sampled_from([0.0, 0.003, 0.03]),
    tol=st.sampled_from([0.003, 0.02, 0.1, 0.3]),
    zeros=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_no_split_within_the_tolerance_has_fewer_multiplications(
    shape: list[int], noise: float, tol: float, zeros: bool, seed: int
) -> None:
    shape = shape if np.prod(shape) <= 144 else shape[:2]
    fine = tuple(int(np.random.default_rng(seed).choice(divisors(n))) for n in shape)
    coarse = tuple(n // k for n, k in zip(shape, fine, strict=True))
    kernel = near_product(coarse, fine, noise, seed)
    if zeros:
        kernel[..., 0] = 0.0
    found = kronecker_within(Kernel(kernel), tol)
    able = [
        rank * (int(np.prod(sizes)) + kernel.size // int(np.prod(sizes)))
        for sizes, rank, error in every_sum(kernel)
        if error <= tol - 1e-9
    ]
    able = [count for count in able if count <= np.count_nonzero(kernel) and count < kernel.size]
    if able:
        assert found is not None
        assert found.multiplications <= min(able)
    if found is not None:
        error = np.abs(kernel - written_out(found, kernel.shape)).sum() / np.abs(kernel).sum()
        assert error <= found.bound + 1e-12
        assert found.bound <= tol
        assert found.multiplications < kernel.size


def test_dense_parts_have_the_count_of_the_full_search() -> None:
    """The count is that of the best split and rank if no part is nearly a product of vectors."""
    for seed, tol in itertools.product(range(6), (0.02, 0.05)):
        kernel = near_product((4, 3), (3, 4), 0.01, seed)
        found = kronecker_within(Kernel(kernel), tol)
        counts = [
            rank * (int(np.prod(sizes)) + kernel.size // int(np.prod(sizes)))
            for sizes, rank, error in every_sum(kernel)
            if error <= tol
        ]
        best = min((c for c in counts if c < kernel.size), default=None)
        if found is None or any(len(chain) > 2 for chain in found.chains):
            assert best is None or found is not None
            continue
        assert found.multiplications == best


def test_parts_that_are_nearly_vectors_run_along_single_axes() -> None:
    hat = np.outer([1.0, 2, 3, 2, 1], [1.0, 2, 3, 2, 1])
    kernel = np.kron(hat, RNG.random((4, 4))) + 0.01 * RNG.random((20, 20))
    found = kronecker_within(Kernel(kernel), 0.05)
    assert found is not None
    assert found.multiplications == 16 + 5 + 5
    assert [p.axes for p in found.chains[0]] == [(0, 1), (0,), (1,)]


def test_a_tolerance_of_nothing_finds_only_exact_products() -> None:
    kernel = near_product((3, 3), (5, 5), 0.01, 0)
    assert kronecker_within(Kernel(kernel), 0.0) is None
    exact = np.kron(RNG.random((3, 3)), RNG.random((5, 5)))
    found, same = kronecker_within(Kernel(exact), 0.1), kronecker_terms(Kernel(exact))
    assert found is not None
    assert same is not None
    assert found.multiplications <= same.multiplications == 34


@pytest.mark.parametrize("kind", ["complex", "factors", "large"])
def test_kernels_that_are_not_searched(kind: str) -> None:
    kernels = {
        "complex": near_product((3, 3), (3, 3), 0.001, 0) * 1j,
        "factors": sep.kernels.gaussian(3),
        "large": np.ones((130, 130)) + np.eye(130),
    }
    assert kronecker_within(Kernel(kernels[kind]), 0.01) is None


def machine() -> Any:
    """Return the same rates everywhere."""
    from separable.machine import shipped_profiles

    return shipped_profiles()[0]


@needs_engine
def test_a_plan_with_a_tolerance_lists_the_products_with_their_error() -> None:
    rng = np.random.default_rng(1)
    kernel = np.kron(rng.random((5, 5)) - 0.5, rng.random((4, 4)) - 0.5)
    kernel = kernel + 0.002 * rng.standard_normal(kernel.shape)
    assert (
        sep.plan(kernel, (500, 500), "float32", machine=machine()).with_method("kronecker") is None
    )
    plan = sep.plan(kernel, (500, 500), "float32", tol=0.05, machine=machine())
    found = plan.with_method("kronecker")
    assert found is not None
    assert (found.multiplications, found.passes, found.rank) == (41, 2, 1)
    assert 1e-4 < found.bound <= 0.05
    text = " ".join(str(sep.plan(kernel, (500, 500), tol=0.05, method="kronecker")).split())
    assert "Passes: 4x4, then 5x5 with taps 4 samples apart." in text
    assert (
        f"the error is at most {100 * found.form.bound:.2g} % of sum|kernel| x max|input|" in text
    )


@needs_engine
@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_results_are_within_the_tolerance(mode: str) -> None:
    kernel = near_product((4, 5), (5, 4), 0.01, 3)
    image = RNG.random((90, 80))
    for operation in (sep.convolve, sep.correlate):
        exact = operation(image, kernel, mode=mode, method="reference")
        plan = sep.plan(kernel, image.shape, mode=mode, tol=0.05, method="kronecker")
        assert plan.chosen.name == "kronecker"
        found = operation(image, kernel, mode=mode, tol=0.05, method="kronecker")
        difference = np.abs(found - exact).max()
        assert 0 < difference <= plan.bound * np.abs(kernel).sum() * image.max()


# Sizes of groups


def test_factorize_finds_the_sizes_of_groups() -> None:
    kernel = near_product((4, 3), (3, 4), 0.002, 0)
    found = sep.factorize(kernel, "(Yy)(Xx) -> YX,yx", tol=0.05)
    assert (found.sizes["y"], found.sizes["x"], found.rank) == (3, 4, 1)
    assert found.error <= 0.05
    counts = []
    for sizes in itertools.product(divisors(12), divisors(12)):
        one = sep.factorize(
            kernel, "(Yy)(Xx) -> YX,yx", tol=0.05, sizes=dict(zip("yx", sizes, strict=True))
        )
        if one.sizes["y"] * one.sizes["x"] not in (1, 144):
            counts.append(one.parameters)
    assert found.parameters == min(counts)


def test_ways_to_divide_axes() -> None:
    assert list(splits(parse("(Xx) -> X,x"), (6,))) == [{"X": 2, "x": 3}, {"X": 3, "x": 2}]
    assert list(splits(parse("(Xx) -> X,x"), (5,))) == [{"X": 1, "x": 5}, {"X": 5, "x": 1}]
    assert len(list(splits(parse("(Yy)(Xx) -> YX,yx"), (4, 6)))) == 3 * 4 - 2 * 2


def test_without_a_tolerance_the_sizes_are_asked_for() -> None:
    with pytest.raises(PatternError, match="give all but one of their sizes"):
        sep.factorize(np.ones((4, 4)), "(Yy)(Xx) -> YX,yx")
    with pytest.raises(PatternError, match="which is too many to try; give the sizes"):
        sep.factorize(np.ones((720, 720)), "(Yy)(Xx) -> YX,yx", tol=0.1)


def test_the_command_tells_of_cheaper_products(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    kernel = near_product((4, 3), (3, 4), 0.002, 0)
    path = tmp_path / "kernel.npy"
    np.save(path, kernel)

    def printed(*options: str) -> str:
        assert run(["kernel", str(path), *options]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert "Cheaper within this error" not in printed()
    text = printed("--tol", "0.01")
    assert (
        "Cheaper within this error: one Kronecker product of a coarse kernel and one of 3x4, 24 "
        "multiplications in 2 passes, with an error of 0.0" in text
    )
    text = printed("--tol", "0.01", "--pattern", "(Yy)(Xx)->YX,yx")
    assert "Sizes of the groups: Y=4, y=3, X=3, x=4." in text
    assert "24 in 2 passes" in text
