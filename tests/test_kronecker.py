"""Kronecker products and dilated kernels as filters: results, counts, plans and what runs elsewhere."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import separable as sep
from kronecker_chains import products_of
from separable.borders import registered_borders
from separable.cli import run
from separable.engine import Kernel
from separable.engine.availability import available
from separable.engine.spread_passes import SpreadPass, chain_text, spread_chains
from separable.plan.kronecker_terms import kronecker_terms
from separable.testing import assert_same_filter, reference

RNG = np.random.default_rng(20)
needs_engine = pytest.mark.skipif(not available(), reason="the passes are compiled")
CROSS = np.array([[0.0, 1, 0], [1, -2, 3], [0, 1, 0]])
DISK = (np.hypot(*np.mgrid[-2:3, -2:3]) <= 2).astype(float)


def grouped(coarse: Any, fine: Any) -> sep.Factors:
    """Return Kronecker factors of one term."""
    ndim = np.ndim(coarse)
    outer, inner = "ZYX"[-ndim:], "zyx"[-ndim:]
    axes = "".join(f"({a}{b})" for a, b in zip(outer, inner, strict=True))
    return sep.Factors.from_terms(f"{axes} -> {outer},{inner}", [(coarse, fine)])


def brute(image: Any, kernel: Any) -> Any:
    """Convolve by the definition with borders of zeros, one output at a time; odd and even sizes as in SciPy."""
    padded = np.pad(image, [(n, n) for n in kernel.shape])
    out = np.zeros(image.shape)
    flipped = np.flip(kernel)
    for at in np.ndindex(image.shape):
        window = tuple(
            slice(i + n - (n - 1) // 2, i + 2 * n - (n - 1) // 2)
            for i, n in zip(at, kernel.shape, strict=True)
        )
        out[at] = np.sum(padded[window] * flipped)
    return out


@needs_engine
@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        (CROSS, DISK),
        (DISK, CROSS),
        (np.ones((2, 4)), CROSS),
        (RNG.random((3, 1)), RNG.random((1, 2))),
    ],
)
def test_factors_with_groups_are_filters(coarse: Any, fine: Any) -> None:
    factors = grouped(coarse, fine)
    image = RNG.random((41, 37))
    expected = brute(image, np.kron(coarse, fine))
    for method in ("kronecker", "auto", "direct", "fft"):
        found = sep.convolve(image, factors, mode="constant", method=method)
        assert_same_filter(found, expected, image, factors.dense())


@needs_engine
@pytest.mark.parametrize("mode", registered_borders(), ids=str)
@pytest.mark.parametrize("operation", [sep.convolve, sep.correlate])
def test_every_border(mode: str, operation: Any) -> None:
    factors, image = grouped(CROSS, DISK), RNG.random((9, 23))
    options = {"mode": mode, "cval": 1.5, "origin": (1, -2)}
    expected = operation(image, factors, method="reference", **options)
    found = operation(image, factors, method="kronecker", **options)
    assert_same_filter(found, expected, image, factors.dense())


@needs_engine
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16", "complex64", "bool"])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_type(dtype: str, threads: int) -> None:
    kernel = np.kron(CROSS, DISK) / 50
    image = RNG.random((150, 130)) * 100 > 50 if dtype == "bool" else RNG.random((150, 130)) * 100
    image = (image * (1 + 0.5j) if dtype == "complex64" else image).astype(dtype)
    exact = sep.convolve(image, kernel, method="reference")
    found = sep.convolve(image, kernel, method="kronecker", threads=threads)
    assert found.dtype == exact.dtype
    if exact.dtype.kind in "iub":
        np.testing.assert_array_equal(found, exact)
    else:
        assert_same_filter(found, exact, image, kernel, rtol=1e-6)


@needs_engine
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((40,), (0,)),
        ((6, 40, 3), (0, 1)),
        ((7, 8, 40), (1, 2)),
        ((40, 300), (0,)),
        ((30, 3), (0,)),
        ((9, 40, 2), (1,)),
    ],
)
def test_every_layout(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    kernel = np.kron(CROSS, DISK) if len(axes) == 2 else np.kron([1.0, 0, 2, -1], [1.0, 3, 1])
    image = RNG.random(shape)
    for layout in (image, np.asfortranarray(image), np.flip(image)):
        exact = sep.correlate(layout, kernel, axes=axes, method="reference")
        found = sep.correlate(layout, kernel, axes=axes, method="kronecker")
        assert_same_filter(found, exact, image, kernel)


@needs_engine
def test_volumes() -> None:
    kernel = np.kron(RNG.random((2, 3, 2)), RNG.random((3, 2, 2)))
    image = RNG.random((15, 17, 19))
    exact = sep.correlate(image, kernel, method="reference")
    assert_same_filter(sep.correlate(image, kernel, method="kronecker"), exact, image, kernel)


@needs_engine
@given(st.data())
def test_the_passes_are_the_kernel(data: Any) -> None:
    """Products of any sizes, with zeros anywhere, one term or two."""
    ndim = data.draw(st.integers(1, 3))
    size = st.lists(st.integers(1, 3), min_size=ndim, max_size=ndim)
    numbers = st.integers(-2, 2)
    outer, inner = data.draw(size), data.draw(size)

    def part(shape: list[int]) -> Any:
        count = int(np.prod(shape))
        values = data.draw(st.lists(numbers, min_size=count, max_size=count))
        return np.array(values, float).reshape(shape)

    terms = [(part(outer), part(inner)) for _ in range(data.draw(st.integers(1, 2)))]
    letters = "ZYX"[-ndim:], "zyx"[-ndim:]
    axes = "".join(f"({a}{b})" for a, b in zip(*letters, strict=True))
    factors = sep.Factors.from_terms(f"{axes} -> {','.join(letters)}", terms)
    kernel = sum(np.kron(a, b) for a, b in terms)
    np.testing.assert_array_equal(factors.dense(), kernel)
    np.testing.assert_array_equal(factors.flipped().dense(), np.flip(kernel))
    chains = spread_chains(factors)
    assert _written_out(chains, kernel.shape) == pytest.approx(kernel)
    image = np.random.default_rng(0).random((7,) * ndim)
    exact = reference(image, kernel, mode="wrap")
    if chains:
        found = sep.correlate(image, factors, mode="wrap", method="kronecker")
        np.testing.assert_allclose(found, exact, atol=1e-12 * (1 + np.abs(kernel).sum()))


def _written_out(chains: Any, shape: tuple[int, ...]) -> Any:
    """Return the kernel that the passes are, by adding up all products of their taps."""
    total = np.zeros(shape)
    for chain in chains:
        for place, value in products_of(chain, len(shape)).items():
            if value or all(i < n for i, n in zip(place, shape, strict=True)):
                total[place] += value
    return total


@pytest.mark.parametrize(
    ("pattern", "sizes", "dilations"),
    [
        ("(Yy)(Xx) -> YX,yx", {"y": 2, "x": 3}, [(1, 1), (2, 3)]),
        ("(Yy)(Xx) -> Y,y,X,x", {"y": 2, "x": 3}, [(1,), (1,), (2,), (3,)]),
        ("(Yy)(Xx) -> YX,y,x", {"y": 2, "x": 3}, [(1,), (1,), (2, 3)]),
        ("(Yy)(Xx) -> yX,Yx", {"y": 2, "x": 3}, None),
        ("(Aby)x -> Ay,bx", {"A": 2, "y": 2}, None),
    ],
)
def test_patterns_with_groups(pattern: str, sizes: dict[str, int], dilations: Any) -> None:
    kernel = RNG.random((8, 6))
    factors = sep.factorize(kernel, pattern, sizes=sizes, rank=1)
    (chain,) = spread_chains(factors)
    np.testing.assert_allclose(_written_out([chain], kernel.shape), factors.dense(), atol=1e-12)
    if dilations:
        assert [p.dilation for p in chain] == dilations
    if available():
        image = RNG.random((20, 21))
        exact = sep.convolve(image, factors.dense(), method="reference")
        found = sep.convolve(image, factors, method="kronecker")
        assert_same_filter(found, exact, image, factors.dense())


# What the planner finds


@needs_engine
def test_a_plan_finds_the_coarse_and_fine_passes() -> None:
    kernel = np.kron(DISK, CROSS)
    plan = sep.plan(kernel, (500, 500), "float32", machine=_machine())
    found = plan.with_method("kronecker")
    assert found is not None
    dense = int(np.count_nonzero(kernel))
    assert (found.multiplications, found.passes, found.rank) == (9 + 25, 2, 1)
    direct = next(c for c in plan.candidates if c.name == "direct")
    assert direct.multiplications == dense
    assert found.seconds < direct.seconds
    text = " ".join(str(sep.plan(kernel, (500, 500), "float32", method="kronecker")).split())
    assert "kronecker 1 2 34" in text
    assert (
        "multiplications per output: 225 dense (65 of its weights are not zero), 34 in 2 passes"
        in text
    )
    assert "Passes: 3x3, then 5x5 with taps 3 samples apart." in text


def _machine() -> Any:
    from separable.machine import shipped_profiles

    return shipped_profiles()[0]


def test_dilated_kernels_are_found() -> None:
    dilated = np.zeros((9, 13))
    dilated[::4, ::3] = RNG.random((3, 5))
    found = kronecker_terms(Kernel(dilated))
    assert found is not None
    assert found.multiplications == 15
    assert [(p.dilation, p.taps.shape) for p in found.chains[0]] == [((4, 3), (3, 5))]
    np.testing.assert_allclose(_written_out(found.chains, dilated.shape), dilated)
    spline = np.zeros(17)
    spline[::4] = [1, 4, 6, 4, 1]
    apart = kronecker_terms(Kernel(np.outer(spline, spline)))
    assert apart is not None
    assert apart.multiplications == 10
    assert len(apart.chains[0]) == 2
    np.testing.assert_allclose(
        _written_out(apart.chains, (17, 17)), np.outer(spline, spline), atol=1e-12
    )


def test_two_terms_are_found() -> None:
    kernel = np.kron(CROSS, DISK) + np.kron(CROSS.T + np.eye(3), RNG.random((5, 5)))
    found = kronecker_terms(Kernel(kernel))
    assert found is not None
    assert len(found.chains) == 2
    np.testing.assert_allclose(_written_out(found.chains, kernel.shape), kernel, atol=1e-12)


@pytest.mark.parametrize(
    "kernel", [np.zeros((4, 4)), np.ones((3, 3)), RNG.random((6, 6)), np.eye(1)]
)
def test_nothing_is_found_where_nothing_is_saved(kernel: Any) -> None:
    found = kronecker_terms(Kernel(kernel))
    assert found is None or found.multiplications < kernel.size


def test_kernels_of_the_catalogue_are_left_to_their_factors() -> None:
    assert kronecker_terms(Kernel(sep.kernels.gaussian(2))) is None


def test_the_words_for_passes() -> None:
    row = SpreadPass((1,), np.ones(5), (4,), (0,))
    column = SpreadPass((0,), np.ones(3), (2,), (0,))
    wide = SpreadPass((0, 1), np.ones((3, 3)), (2, 4), (0, 0))
    assert str(row) == "5 along kernel axis 1 with taps 4 samples apart"
    assert str(wide) == "3x3 with taps 2x4 samples apart"
    assert chain_text([[column], [row]]).count("; plus ") == 1
    assert chain_text([[row], [row]]).endswith(", for each of 2 terms")


@needs_engine
def test_the_error_bound_holds() -> None:
    kernel = np.kron(RNG.random((5, 5)) - 0.4, RNG.random((5, 5)) - 0.4)
    image = RNG.random((200, 200)).astype("float32")
    plan = sep.plan(kernel, image.shape, "float32", method="kronecker")
    exact = sep.convolve(image.astype(float), kernel, method="reference")
    assert np.abs(plan(image) - exact).max() <= plan.bound * np.abs(kernel).sum() * image.max()


@needs_engine
def test_nan_stays_within_the_kernel() -> None:
    image = RNG.random((60, 60))
    image[30, 30] = np.nan
    found = sep.convolve(image, np.kron(DISK, DISK), method="kronecker")
    rows, columns = np.nonzero(np.isnan(found))
    assert np.abs(rows - 30).max() <= 12
    assert np.abs(columns - 30).max() <= 12


@needs_engine
def test_plans_can_be_sent_and_stored() -> None:
    image = RNG.random((30, 31))
    for kernel in (np.kron(DISK, CROSS), grouped(DISK, CROSS)):
        plan = sep.plan(kernel, image.shape, method="kronecker")
        expected = plan(image)
        assert plan.chosen.name == "kronecker"
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(plan))(image), expected)
        rebuilt = type(plan).from_dict(plan.to_dict())
        np.testing.assert_array_equal(rebuilt(image), expected)


def test_other_images_take_factors_with_groups() -> None:
    """Banks, masked images, tensors and Dask arrays run the same kernel by what they have."""
    factors, image = grouped(DISK, CROSS), RNG.random((40, 41))
    expected = sep.convolve(image, factors.dense(), method="reference")
    size = {"image": image, "kernel": factors.dense()}
    banked = sep.bank({"a": factors, "b": [[1.0, 2, 1]]}, image.shape)(image)
    assert_same_filter(banked["a"] if isinstance(banked, dict) else banked[0], expected, **size)
    masked = sep.convolve(image, factors, mask=np.ones(image.shape, bool))
    assert_same_filter(masked, expected, **size)


def test_a_tensor_takes_factors_with_groups() -> None:
    torch = pytest.importorskip("torch")
    factors, image = grouped(DISK, CROSS), RNG.random((40, 41))
    expected = sep.convolve(image, factors.dense(), method="reference")
    found = sep.convolve(torch.from_numpy(image), factors).numpy()
    assert_same_filter(found, expected, image, factors.dense())


def test_a_dask_array_takes_factors_with_groups() -> None:
    array = pytest.importorskip("dask.array")
    factors, image = grouped(DISK, CROSS), RNG.random((40, 41))
    expected = sep.convolve(image, factors.dense(), method="reference")
    found = np.asarray(sep.convolve(array.from_array(image, chunks=(20, 41)), factors))
    assert_same_filter(found, expected, image, factors.dense())


def test_without_the_engine_other_methods_run() -> None:
    plan = sep.plan(grouped(DISK, CROSS), (40, 41), method="reference")
    assert plan.chosen.name == "reference"


def test_the_command_takes_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    kernel, pattern = "[1 2 2 4; 3 4 6 8]", "(Yy)(Xx)->YX,yx"
    assert run(["kernel", kernel, "--pattern", pattern, "--sizes", "y=2,x=2"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Separable: the product of the factors of (Yy)(Xx) -> YX,yx." in printed
    assert "YX 1 2 yx 1 2 3 4" in printed
    assert "8 dense, 6 in 2 passes" in printed
    for sizes, message in (
        (["--sizes", "y:2"], "`--sizes` must be letters and sizes such as y=3,x=3; got 'y:2'"),
        (["--sizes", "y=2,x=3"], "do not divide its axis of 4"),
        ([], "for instance --sizes y=2, or --tol 1e-6 to find sizes"),
    ):
        assert run(["kernel", kernel, "--pattern", pattern, *sizes]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
