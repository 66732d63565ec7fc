"""A method that is registered at run time is used everywhere, without any other edit.

Two toy methods, both slow and right: the definition, for dense kernels. One claims nothing; the other
claims everything that a method may. What each may be used for follows from these claims alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import separable as sep
from separable import calibrate
from separable.cli import run as run_command
from separable.engine import (
    METHODS,
    Decomposition,
    Method,
    Problem,
    WorkEstimate,
    register_method,
    unregister_method,
)
from separable.engine.method import CalibrationCase
from separable.errors import ArgumentError, ArgumentTypeError
from separable.machine import Machine, shipped
from separable.masked.valid_weights import is_steady
from separable.plan import Plan
from separable.testing import methods_for, with_each_method
from separable.volumes import chunkwise, filter_block, needs
from separable.volumes.halo import block_filter
from separable.volumes.slab_planner import working_bytes

RNG = np.random.default_rng(11)
KERNEL = RNG.random((3, 5)) - 0.2
IMAGE = RNG.random((24, 31))


class Toy(Method):
    """The definition, at no cost."""

    name = "toy"
    title = "toy method"
    explanation = "adds shifted images, as a toy"
    runs_made: ClassVar[list[str]] = []

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        work = METHODS["reference"].estimate(problem, decomposition)
        return replace(work, counts={"toy step": 1.0})

    def seconds(self, machine: Machine, problem: Problem, counts: Mapping[str, float]) -> float:
        return 0.0

    def run(
        self,
        problem: Problem,
        decomposition: Decomposition,
        image: Any,
        target: Any,
        progress: Callable[[float], None],
    ) -> None:
        self.runs_made.append(self.name)
        METHODS["reference"].run(problem, decomposition, image, target, progress)


class SureToy(Toy):
    """The same with all claims."""

    name = "sure-toy"
    title = "sure toy method"
    chunk_invariant = True
    exact_beside_small_weights = True
    runs_on_tensors = True

    def scratch_bytes(self, problem: Problem, decomposition: Decomposition) -> int:
        return 12345

    def calibration_cases(self) -> Iterator[CalibrationCase]:
        yield CalibrationCase(self.name, "float32", (20, 20), ("general", 3, 3), (0, 1))


class SpreadingToy(Toy):
    """One that does not keep NaN where they are."""

    name = "spreading-toy"
    title = "spreading toy"
    spreads_nan = True


class RoughToy(Toy):
    """One with a large error bound."""

    name = "rough-toy"
    title = "rough toy"

    def estimate(self, problem: Problem, decomposition: Decomposition) -> WorkEstimate:
        return replace(super().estimate(problem, decomposition), rounding=1e-3)

    def run(
        self, problem: Problem, decomposition: Decomposition, image: Any, target: Any, progress: Any
    ) -> None:
        super().run(problem, decomposition, image, target, progress)
        target += 1e-4


class RefusingToy(Toy):
    """One that refuses everything."""

    name = "refusing-toy"
    title = "refusing toy"

    def refuse(self, problem: Problem, decomposition: Decomposition) -> str:
        return "it never does"


class MissingToy(Toy):
    """One whose library is not installed."""

    name = "missing-toy"
    title = "missing toy"

    def unavailable(self) -> str:
        return "its library cannot be found"


@pytest.fixture
def toy() -> Iterator[Any]:
    """Register methods; all are removed at the end."""
    names: list[str] = []

    def register(method: type[Method]) -> str:
        register_method(method())
        names.append(method.name)
        return method.name

    Toy.runs_made.clear()
    yield register
    for name in names:
        unregister_method(name)
    assert not set(names) & set(METHODS)


def exact(**options: Any) -> Any:
    return sep.convolve(IMAGE, KERNEL, method="reference", **options)


def test_it_is_listed_chosen_and_explained(toy: Any) -> None:
    before = sep.plan(KERNEL, IMAGE.shape)
    assert "toy" not in [c.name for c in before.candidates]
    toy(Toy)
    plan = sep.plan(KERNEL, IMAGE.shape)
    assert plan.chosen.name == plan.chosen.method == "toy"
    assert plan.chosen.title == "toy (toy method)"
    assert plan.chosen.explanation == "adds shifted images, as a toy"
    assert plan.chosen is next(c for c in plan.candidates if c.name == "toy")
    assert {c.name for c in before.candidates} < {c.name for c in plan.candidates}
    line = next(row for row in str(plan).splitlines() if "toy" in row.split())
    assert line.startswith("*")
    assert "Chosen: toy (toy method)" in str(plan)
    for shown in (str(plan), plan._repr_html_()):
        assert "Method: toy (toy method) adds shifted images, as a toy." in shown
    assert "toy method" in repr(plan)
    assert Plan.from_dict(plan.to_dict()) == plan
    assert plan.measure(IMAGE).differences[0] < 1e-12


def test_it_runs_where_it_is_chosen_or_named(toy: Any) -> None:
    expected = exact(mode="wrap")
    sep.convolve(IMAGE, KERNEL, mode="wrap")  # the plan of this call is not used again
    toy(Toy)
    for method in ("auto", "toy"):
        Toy.runs_made.clear()
        assert np.array_equal(sep.convolve(IMAGE, KERNEL, mode="wrap", method=method), expected)
        assert Toy.runs_made == ["toy"]
    assert sep.plan(KERNEL, IMAGE.shape, method="fft").chosen.name == "fft"


def test_it_goes_when_it_is_removed() -> None:
    register_method(Toy())
    sep.convolve(IMAGE, KERNEL)
    unregister_method("toy")
    Toy.runs_made.clear()
    sep.convolve(IMAGE, KERNEL)
    assert not Toy.runs_made
    with pytest.raises(ArgumentError, match="`method` must be one of"):
        sep.plan(KERNEL, IMAGE.shape, method="toy")


def test_it_is_run_by_whatever_runs_every_method(toy: Any) -> None:
    toy(Toy)
    toy(RefusingToy)
    toy(MissingToy)
    plan = sep.plan(KERNEL, IMAGE.shape)
    expected = exact()
    ran = {}
    for name, result in with_each_method(lambda m: sep.convolve(IMAGE, KERNEL, method=m), plan):
        ran[name] = float(np.max(np.abs(result - expected)))
    assert tuple(ran) == methods_for(plan)
    assert "toy" in ran
    assert max(ran.values()) < 1e-12

    def broken(method: str) -> Any:
        raise ArgumentError(f"{method} cannot run this filter: `method` must be one of a, b")

    with pytest.raises(ArgumentError, match="cannot run this filter"):
        list(with_each_method(broken, plan))


def test_who_asks_for_one_that_refuses_is_told_why(toy: Any) -> None:
    toy(RefusingToy)
    toy(MissingToy)
    plan = sep.plan(KERNEL, IMAGE.shape)
    assert "Rejected: refusing-toy (it never does)." in str(plan)
    assert "missing-toy" not in str(plan)
    for name, reason in (("refusing-toy", "it never does"), ("missing-toy", "cannot be found")):
        with pytest.raises(ArgumentError, match=reason):
            sep.plan(KERNEL, IMAGE.shape, method=name)


def test_blocks_follow_its_claim(toy: Any) -> None:
    toy(Toy)
    plan = sep.plan(KERNEL, IMAGE.shape)
    assert plan.chosen.name == "toy"
    assert METHODS[chunkwise(plan).chosen.method].chunk_invariant
    with pytest.raises(ArgumentError, match=r"toy \(toy method\) gives results that depend"):
        block_filter(plan)
    toy(SureToy)
    plan = sep.plan(KERNEL, IMAGE.shape, method="sure-toy")
    assert chunkwise(plan) is plan
    region = (slice(3, 9), slice(20, 31))
    part = filter_block(plan, IMAGE[needs(plan, region)], region)
    assert np.array_equal(part, plan(IMAGE)[region])
    assert working_bytes(block_filter(plan)) == 12345
    assert pickle.loads(pickle.dumps(block_filter(plan))).method == "sure-toy"


def test_dask_arrays_and_files_follow_its_claim(toy: Any, tmp_path: Path) -> None:
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(IMAGE, chunks=(10, 31))
    np.save(tmp_path / "in.npy", IMAGE)
    toy(Toy)
    assert np.allclose(sep.convolve(lazy, KERNEL).compute(), exact())
    sep.volumes.filter(tmp_path / "in.npy", tmp_path / "out.npy", KERNEL)
    assert not Toy.runs_made  # it does not claim that blocks give the same bits
    with pytest.raises(ArgumentError, match="depend on how a volume is cut"):
        sep.convolve(lazy, KERNEL, method="toy")
    toy(SureToy)
    for method in ("sure-toy", "auto"):
        Toy.runs_made.clear()
        options = {} if method == "auto" else {"method": method}
        assert np.array_equal(sep.convolve(lazy, KERNEL, **options).compute(), exact())
        assert set(Toy.runs_made) == {"sure-toy"}
        Toy.runs_made.clear()
        target = tmp_path / f"{method}.npy"
        sep.volumes.filter(tmp_path / "in.npy", target, KERNEL, **options)
        assert np.array_equal(np.load(target), exact())
        assert set(Toy.runs_made) == {"sure-toy"}


def test_nan_follow_its_claim(toy: Any) -> None:
    holes = IMAGE.copy()
    holes[4, 7] = np.nan
    expected = sep.convolve(holes, KERNEL, method="correlate")
    toy(SpreadingToy)
    sep.convolve(IMAGE, KERNEL)
    assert Toy.runs_made == ["spreading-toy"]
    Toy.runs_made.clear()
    assert np.allclose(sep.convolve(holes, KERNEL), expected, equal_nan=True)
    assert not Toy.runs_made  # with a NaN in the image the next one that does not spread it is run


def test_masks_follow_its_claim(toy: Any) -> None:
    holes = IMAGE.copy()
    holes[4, 7] = np.nan
    kernel = np.abs(KERNEL)
    expected = sep.convolve(holes, kernel, nan="ignore", method="correlate")
    exact_by_reference = sep.convolve(IMAGE, kernel, method="reference")
    toy(RoughToy)
    assert np.min(sep.convolve(IMAGE, kernel) - exact_by_reference) > 5e-5
    # Its error is too large beside small sums of weights.
    assert np.allclose(sep.convolve(holes, kernel, nan="ignore"), expected)
    toy(SureToy)
    Toy.runs_made.clear()
    assert np.allclose(sep.convolve(holes, kernel, nan="ignore"), expected)
    assert set(Toy.runs_made) == {"sure-toy"}
    listed = {c.name: c for c in sep.plan(KERNEL, IMAGE.shape).candidates}
    assert is_steady(listed["sure-toy"])
    assert not is_steady(listed["rough-toy"])


def test_tensors_follow_its_claim(toy: Any) -> None:
    torch = pytest.importorskip("torch")
    from separable.tensors.device.device_choice import method_names
    from separable.tensors.tensor_filter import _by_torch

    tensor = torch.from_numpy(IMAGE.copy())
    toy(Toy)
    result = sep.convolve(tensor, KERNEL, method="toy")
    assert np.allclose(result.numpy(), exact())
    assert Toy.runs_made == ["toy"]  # in the computer's memory the engine filters
    toy(SureToy)
    assert "toy" not in method_names()
    assert "sure-toy" in method_names()
    options = {
        "mode": "reflect", "cval": 0.0, "origin": 0, "tol": None, "operation": "convolve",
        "threads": None,
    }  # fmt: skip
    arguments = (tensor, KERNEL, None, (0, 1), None)
    by_torch = _by_torch(*arguments, {**options, "method": "sure-toy"})
    assert np.allclose(by_torch.numpy(), exact())
    with pytest.raises(ArgumentError, match=r"sure-toy that this kernel has, .* got 'toy'"):
        _by_torch(*arguments, {**options, "method": "toy"})


def test_the_command_line_and_the_page_offer_it(
    toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy(Toy)
    np.save(tmp_path / "in.npy", IMAGE.astype("float32"))
    arguments = [str(tmp_path / "in.npy"), str(tmp_path / "out.npy"), "--kernel", "gaussian:1"]
    assert run_command(["filter", *arguments, "--method", "toy"]) == 0
    assert Toy.runs_made == ["toy"]
    assert (
        run_command(["plan", "--kernel", "gaussian:1", "--shape", "24x31", "--method", "toy"]) == 0
    )
    assert "Chosen: toy (toy method), as requested" in capsys.readouterr().out
    from separable.explore.kernel_answers import Chosen
    from separable.explore.plan_answers import plan_rows

    rows = plan_rows(
        Chosen("mine", KERNEL, "convolve"), IMAGE.shape, "float64", "reflect", None, measure=True
    )
    (row,) = (r for r in rows["rows"] if r["name"] == "toy")
    assert row["chosen"]
    assert row["title"] == "toy (toy method)"
    assert rows["measured"]["toy"] > 0


def test_it_travels_inside_a_plan(toy: Any) -> None:
    toy(Toy)
    plan = sep.plan(KERNEL, IMAGE.shape)
    other = pickle.loads(pickle.dumps(plan))
    assert other == plan
    assert other.chosen is next(c for c in other.candidates if c.name == "toy")
    assert np.array_equal(other(IMAGE), exact())
    assert type(pickle.loads(pickle.dumps(METHODS["toy"]))) is Toy


def test_its_rates_need_no_edit(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(Toy)
    toy(SureToy)
    cases = [c for c in calibrate.cases() if c.method in ("toy", "sure-toy")]
    assert [c.method for c in cases] == ["sure-toy"]
    monkeypatch.setattr(calibrate, "cases", lambda: iter(cases))
    assert set(calibrate.measure().rates["sure-toy"]["float32"]) == {"toy step"}
    assert "toy" not in shipped().rates


@pytest.mark.parametrize(
    ("method", "error", "said"),
    [
        (object(), ArgumentTypeError, "must be an instance of separable.engine.Method"),
        (Method(), ArgumentError, "must have a name and a title"),
        (type("Again", (Toy,), {"name": "fft"})(), ArgumentError, "'fft' is taken"),
        (type("Auto", (Toy,), {"name": "auto"})(), ArgumentError, "'auto' is taken"),
        (type("Direct", (Toy,), {"name": "direct"})(), ArgumentError, "'direct' is taken"),
    ],
)
def test_names_are_checked(method: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        register_method(method)
    assert "toy" not in METHODS
