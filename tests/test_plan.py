"""Plans: what is listed, what is chosen, what is said, and what is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable import errors
from separable.engine import METHODS
from separable.kernels import disk, gabor, gaussian, laplacian_of_gaussian, sobel
from separable.machine import Machine
from separable.plan import Plan

RNG = np.random.default_rng(5)


def by_name(p: Plan) -> dict[str, Any]:
    return {c.name: c for c in p.candidates}


def rates(**methods: float) -> Machine:
    """A machine on which each call of a method takes so long, whatever the work."""
    listed = {
        m: {"float64": {"call": methods.get(m, 1.0)}} for m in ("dense", "fused", "fft", "overlap")
    }  # fmt: skip
    return Machine("made up", 1, listed)


def test_every_candidate_is_listed() -> None:
    p = sep.plan(laplacian_of_gaussian(2).dense(), (100, 100))
    assert list(by_name(p)) == ["direct", "separable", "low-rank", "fft", "overlap"]
    turned = (
        np.exp(-((np.mgrid[-9:10, -9:10] / 3).sum(axis=0) ** 2)) * gaussian(3, radius=9).dense()
    )
    assert "truncated" in by_name(sep.plan(turned, (100, 100)))
    volume = sep.plan(laplacian_of_gaussian(1.0, ndim=3).dense(), (30, 30, 30))
    assert "nested" in by_name(volume)
    cylinder = np.multiply.outer(np.ones(4), disk(2))
    assert "partial" in by_name(sep.plan(cylinder, (30, 30, 30)))


@pytest.mark.compiled
@pytest.mark.parametrize("fast", ["dense", "fused", "fft", "overlap"])
def test_the_choice_follows_the_machine(fast: str) -> None:
    p = sep.plan(RNG.random((5, 5)), (50, 50), machine=rates(**{fast: 1e-6}), threads=1)
    assert p.chosen.method == fast
    assert p.machine == "measured on made up"
    assert p.chosen.seconds == min(c.seconds for c in p.candidates if not c.refused)


@pytest.mark.parametrize(
    ("kernel", "rank", "multiplications"),
    [
        (sobel().dense(), 1, 6),
        (gaussian(2).dense(), 1, 34),
        (laplacian_of_gaussian(2).dense(), 2, 68),
        (gabor(6.0, 0.7).dense(), 2, None),
        (disk(5), 4, 88),
        (disk(10), 7, 294),
    ],
)
def test_rank_and_multiplications(kernel: Any, rank: int, multiplications: int | None) -> None:
    p = sep.plan(kernel, (200, 200))
    passes = by_name(p)["separable" if rank == 1 else "low-rank"]
    assert passes.rank == rank
    if multiplications is not None:
        assert passes.multiplications == multiplications
    assert by_name(p)["direct"].multiplications == np.count_nonzero(kernel)


def test_a_tolerance_bounds_the_output() -> None:
    kernel = np.exp(-0.5 * (np.mgrid[-20:21, -20:21][0] - np.mgrid[-20:21, -20:21][1]) ** 2 / 4)
    kernel *= gaussian(8, radius=20).dense() * 300
    image = RNG.random((120, 130)) - 0.4
    exact = sep.convolve(image, kernel, method="reference")
    scale = np.sum(np.abs(kernel)) * np.max(np.abs(image))
    ranks = []
    for tol in (0.1, 1e-2, 1e-3, 1e-6):
        p = sep.plan(kernel, image.shape, tol=tol, method="truncated")
        assert p.bound <= tol * 1.0001
        assert np.max(np.abs(p(image) - exact)) <= tol * scale
        ranks.append(p.chosen.rank)
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[-1] < by_name(p)["low-rank"].rank


def test_the_bound_holds_and_one_term_fewer_would_break_it() -> None:
    kernel = RNG.random((9, 9)) * np.exp(-np.arange(9))
    p = sep.plan(kernel, (50, 50), tol=0.02, method="truncated")
    terms = sep.factorize(kernel, "yx -> y,x").terms
    fewer = sum(np.outer(*t) for t in terms[: p.chosen.rank - 1])
    assert np.abs(kernel - fewer).sum() / kernel.sum() > 0.02


def test_exact_means_to_rounding() -> None:
    """float32 images need no terms below half a unit in the last place of float32."""
    kernel = np.outer(np.ones(5), np.ones(5)) + 1e-12 * RNG.random((5, 5))
    assert by_name(sep.plan(kernel, (64, 64), "float32"))["separable"].refused == ""
    assert by_name(sep.plan(kernel, (64, 64), "float64"))["separable"].refused != ""
    image = RNG.random((64, 64))
    exact = sep.convolve(image, kernel, method="reference")
    got = sep.convolve(image.astype("f4"), kernel, method="separable")
    assert np.max(np.abs(got - exact)) <= 1e-6 * kernel.sum()


def test_many_terms_are_refused_where_rounding_would_add_up() -> None:
    p = sep.plan(RNG.random((24, 24, 24)) - 0.5, (30, 30, 30), "float32")
    assert "could add up to" in by_name(p)["low-rank"].refused
    assert p.chosen.method in ("fft", "overlap", "direct")


def test_factors_are_taken_as_they_are() -> None:
    f = sep.factorize(np.outer([1, 2, 1], [1, 0, -1]), "yx -> y,x")
    image = RNG.random((20, 20))
    assert np.allclose(sep.convolve(image, f), sep.convolve(image, f.dense()))
    apart = sep.factorize(np.multiply.outer([1.0, 2], disk(2)), "lyx -> l,yx")
    cube = RNG.random((5, 20, 20))
    p = sep.plan(apart, cube.shape)
    assert by_name(p)["separable"].passes == 2
    assert np.allclose(p(cube), sep.convolve(cube, apart.dense(), method="reference"))


def test_redundant_factors_are_reduced() -> None:
    ones = [np.ones(3), np.ones(3)]
    f = sep.Factors.from_terms("yx -> y,x", [ones] * 7)
    assert by_name(sep.plan(f, (20, 20)))["separable"].multiplications == 6


def test_planning_needs_no_data_and_huge_shapes_are_fine() -> None:
    p = sep.plan(gaussian(3, ndim=3), (10**6, 10**6, 10**6), "uint16")
    assert p.chosen.name == "separable"
    assert math.isfinite(p.chosen.seconds)


@pytest.mark.parametrize(
    "make",
    [
        lambda: sep.plan(disk(6), (60, 70), "uint8", tol=0.05, mode=["wrap", "constant"], cval=3),
        lambda: sep.plan(sobel(), (60, 70, 3), "float32", axes=(0, 1), operation="correlate"),
        lambda: sep.plan(
            RNG.random((3, 4)) * 1j, (9, 9), "complex64", cval=1 + 2j, mode="constant"
        ),
        lambda: sep.plan([1.0, 2.0], (9,), origin=-1, method="direct", threads=3, output="int16"),
        lambda: sep.plan([[1.0]], (9, 9), mode="constant", cval=np.nan),
        lambda: sep.plan(laplacian_of_gaussian(1.0, ndim=3).dense(), (9, 9, 9)),
    ],
)
def test_round_trip_through_json(make: Callable[[], Plan]) -> None:
    p = make()
    text = json.dumps(p.to_dict(), allow_nan=False)
    again = Plan.from_dict(json.loads(text))
    assert json.dumps(again.to_dict(), allow_nan=False) == text
    assert str(again) == str(p)
    assert again.problem == p.problem or "nan" in text
    image = (RNG.random(p.problem.shape) * 50).astype(p.problem.dtype)
    assert np.array_equal(again(image), p(image), equal_nan=True)


def test_measure_runs_every_candidate() -> None:
    p = sep.plan(laplacian_of_gaussian(2).dense(), (100, 100), "float32")
    m = p.measure(RNG.random((100, 100)).astype("f4"))
    assert [c.name for c in m.candidates] == ["direct", "low-rank", "fft", "overlap"]
    assert all(s > 0 for s in m.seconds)
    assert max(m.differences) < 1e-5
    assert m.regret >= 1
    lines = str(m).splitlines()
    assert lines[1].split() == ["method", "predicted", "measured", "ratio", "difference"]
    assert lines[-1] == f"The chosen method took {m.regret:.2f} times as long as the fastest one."


def test_method_by_name() -> None:
    image = RNG.random((30, 30))
    kernel = laplacian_of_gaussian(1).dense()
    for method in ("direct", "low-rank", "passes", "fft", "overlap", "reference"):
        p = sep.plan(kernel, image.shape, method=method)
        assert method in (p.chosen.name, p.chosen.method)
        assert "as requested" in str(p)


@pytest.mark.parametrize("shape", [(30,), (30, 30), (9, 9, 9)])
def test_low_rank_by_name_accepts_one_term(shape: tuple[int, ...]) -> None:
    kernel = sep.kernels.gaussian(1).dense() if len(shape) == 2 else np.ones((3,) * len(shape))
    image = RNG.random(shape)
    p = sep.plan(kernel, shape, method="low-rank")
    assert p.chosen.name == "separable"
    assert p.with_method("low-rank") == p.chosen
    assert Plan.from_dict(p.to_dict()) == p
    np.testing.assert_array_equal(p(image), sep.convolve(image, kernel, method="separable"))


def test_low_rank_by_name_says_why_it_cannot_run() -> None:
    with pytest.raises(
        errors.ArgumentError, match=r"cannot run this filter: a kernel of .* needs more than"
    ):
        sep.plan(RNG.random((34, 33, 33)), (50, 50, 50), method="low-rank")


def test_plans_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    from separable import filtering

    made: list[int] = []
    plan = filtering.plan
    monkeypatch.setattr(filtering, "plan", lambda *a, **k: made.append(1) or plan(*a, **k))
    image, kernel = RNG.random((11, 13)), RNG.random((3, 3))
    for _ in range(3):
        sep.convolve(image, kernel)
        sep.convolve(image + 1, kernel.copy())
    assert len(made) == 1
    sep.convolve(image, kernel, mode="wrap")
    sep.convolve(image, kernel + 1)
    sep.convolve(image.astype("f4"), kernel)
    sep.correlate(image, kernel)
    sep.convolve(image, kernel, cval=1.0)
    assert len(made) == 6


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"tol": -0.1}, errors.ArgumentError, "`tol` must be finite and >= 0; got -0.1"),
    ({"tol": math.nan}, errors.ArgumentError, "`tol` must be finite and >= 0; got nan"),
    ({"tol": "0.1"}, errors.ArgumentTypeError, "`tol` must be a number; got '0.1'"),
    ({"mode": "bogus"}, errors.ModeError, "`mode` must be one of constant, grid-constant"),
    ({"mode": ["wrap"]}, errors.ArgumentError, "one for each of the 2 filtered axes; got 1"),
    ({"origin": 2}, errors.ArgumentError, "lies below one of the kernel's 3 samples; got 2"),
    ({"origin": (0, 0, 0)}, errors.ArgumentError, "`origin` must be one value, or one for each of the 2 filtered axes"),
    ({"origin": 0.5}, errors.ArgumentTypeError, "`origin` must be an integer; got 0.5"),
    ({"axes": (0, 0)}, errors.ArgumentError, "`axes` must be different from each other; got (0, 0)"),
    ({"axes": (0, 5)}, errors.ArgumentError, "`axes` must be -2 .. 1 for this image; got (0, 5)"),
    ({"axes": 0}, errors.KernelError, "`axes` must name one axis for each of the kernel's 2; got 0"),
    ({"axes": (0, 1.5)}, errors.ArgumentTypeError, "`axes` must be integers; got (0, 1.5)"),
    ({"method": "magic"}, errors.ArgumentError, "`method` must be one of auto, direct, fft, low-rank"),
    ({"method": "low-rnk"}, errors.ArgumentError, '; got \'low-rnk\'. Did you mean "low-rank"?'),
    ({"method": "fussed"}, errors.ArgumentError, 'Did you mean "fused"?'),
    ({"method": "box"}, errors.ArgumentError, "; got 'box', which is for boxes: kernels of one term"),
    ({"method": "partial"}, errors.ArgumentError, "; got 'partial', which is for kernels of three axes or more"),
    ({"method": "separable"}, errors.ArgumentError, "cannot run this filter: rank 3: one term alone"),
    ({"operation": "add"}, errors.ArgumentError, "`operation` must be one of convolve, correlate"),
    ({"threads": 0}, errors.ArgumentError, "`threads` must be >= 1; got 0"),
    ({"threads": 1.5}, errors.ArgumentTypeError, "`threads` must be an integer; got 1.5"),
    ({"cval": "x"}, errors.ArgumentTypeError, "`cval` must be a number; got 'x'"),
    ({"dtype": "U3"}, errors.DTypeError, "`dtype` must be bool, an integer"),
    ({"output": "longdouble"}, errors.DTypeError, "`output` must be bool, an integer"),
    ({"shape": (-4, 4)}, errors.ArgumentError, "`shape` must be sizes >= 0; got (-4, 4)"),
    ({"shape": (9,)}, errors.KernelError, "the kernel has more axes than the image: 2, the image 1"),
    ({"shape": (9, 9, 9)}, errors.KernelError, "say which ones to filter, for instance axes=(0, 1)"),
    ({"kernel": np.zeros((0, 3))}, errors.KernelError, "`kernel` must have at least one element"),
    ({"kernel": [[math.nan]]}, errors.KernelError, "`kernel` must be finite; got 1 NaN or infinite"),
    ({"kernel": 3.0}, errors.KernelError, "`kernel` must have at least one element on one axis"),
    ({"kernel": [["a"]]}, errors.DTypeError, "`kernel` must hold numbers; got dtype"),
    ({"kernel": "lgo:2"}, errors.ArgumentError, "Did you mean `log`"),
    ({"kernel": "1 2; 3"}, errors.KernelError, "2 numbers in row 1 and 1 in row 2"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "message"), BAD)
def test_bad_arguments(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"kernel": np.arange(9.0).reshape(3, 3) ** 3, "shape": (9, 9)}
    with pytest.raises(kind) as caught:
        sep.plan(**{**arguments, **change})
    assert message in str(caught.value)
    assert isinstance(caught.value, (ValueError, TypeError))


def test_factors_that_are_not_a_filter() -> None:
    layer = sep.factorize(RNG.random((4, 3, 3, 3)), "ocyx -> oc,cyx")
    with pytest.raises(
        errors.KernelError, match=r"describe no filter.*Give their dense\(\) kernel"
    ):
        sep.plan(layer, (9, 9, 9, 9))


def test_the_first_line_names_axes_and_taps() -> None:
    one = str(sep.plan([1.0, 2.0, 1.0], (9, 8), axes=1, threads=1))
    assert one.startswith("convolve 3 taps on 9x8 float64, axis 1, reflect, exact, 1 thread\n")
    two = str(sep.plan(np.ones((3, 3)), (9, 8, 7), axes=(0, 2), threads=1))
    assert two.startswith("convolve 3x3 on 9x8x7 float64, axes 0,2, reflect")
    assert str(sep.plan([2.0], (9,))).startswith("convolve 1 tap on 9 ")


def test_remarks_on_slower_methods() -> None:
    machine = rates(dense=1.0, fused=1.001, fft=1.02, overlap=1.5)
    lines = str(sep.plan(RNG.random((5, 5)), (50, 50), machine=machine, threads=1)).splitlines()
    remarks = {line[3:].split()[0]: re.split("  +", line)[-1] for line in lines[3:7]}
    assert remarks == {
        "direct": "chosen", "low-rank": "as fast", "fft": "2 % slower", "overlap": "1.5x slower",
    }  # fmt: skip


def test_every_method_has_a_title_and_reasons() -> None:
    for name, method in METHODS.items():
        assert method.name == name
        assert method.title
