"""Plans, factors, banks and what they consist of are equal, and hash alike, where their content is."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import separable as sep
from separable import value as values_module
from separable.errors import SeparableError
from separable.pattern import parse
from separable.plan.candidate_list import CandidateList
from separable.value import KEY, Value, key_of

DTYPES = ("float32", "float64", "uint8", "int64", "complex64", ">f4")


@st.composite
def arrays(draw: st.DrawFn, max_axes: int = 3) -> Any:
    """Kernels of any type, with negative zeros."""
    ndim = draw(st.integers(1, max_axes))
    shape = tuple(draw(st.integers(1, 4)) for _ in range(ndim))
    kind = draw(st.sampled_from(DTYPES))
    count = math.prod(shape)
    numbers = st.sampled_from([-0.0, 0.0, 1.0, -2.0, 0.1, 3.0, 1e-30])
    values = np.array(draw(st.lists(numbers, min_size=count, max_size=count))).reshape(shape)
    if np.dtype(kind).kind == "u":
        values = np.abs(values)
    if np.dtype(kind).kind == "c":
        values = values - 1j * np.flip(values)
    return values.astype(kind)


@st.composite
def factored(draw: st.DrawFn) -> sep.Factors:
    kernel = draw(arrays())
    pattern = {1: "x", 2: "yx -> y,x", 3: "zyx -> z,y,x"}[kernel.ndim]
    if kernel.ndim == 1:
        kernel, pattern = np.outer(kernel, kernel), "yx -> y,x"
    return sep.factorize(kernel, pattern, **draw(st.sampled_from([{}, {"rank": 1}])))


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of a plan."""
    kernel = draw(st.one_of(arrays(), factored()))
    ndim = len(kernel.shape)
    numbers = st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, 2 - 1j])
    return {
        "kernel": kernel,
        "shape": tuple(draw(st.integers(1, 9)) for _ in range(ndim)),
        "dtype": draw(st.sampled_from(DTYPES)),
        "mode": draw(st.sampled_from(["reflect", "mirror", "nearest", "wrap", "constant"])),
        "cval": draw(numbers),
        "tol": draw(st.sampled_from([None, 0.0, 0.02])),
        "operation": draw(st.sampled_from(["convolve", "correlate"])),
        "threads": draw(st.integers(1, 3)),
    }


def check_equal(one: Any, other: Any) -> None:
    assert one is not other
    assert one == other
    assert (one != other) is False
    assert hash(one) == hash(other)
    assert {one: "found"}[other] == "found"
    assert len({one, other}) == 1


def check_round_trips(value: Any) -> None:
    check_equal(value, copy.deepcopy(value))
    check_equal(value, copy.copy(value))
    check_equal(value, pickle.loads(pickle.dumps(value)))


@given(arguments())
def test_plans_of_the_same_arguments_are_equal(asked: dict[str, Any]) -> None:
    kernel = asked.pop("kernel")
    plan = sep.plan(kernel, **asked)
    check_equal(plan, sep.plan(copy.deepcopy(kernel), **copy.deepcopy(asked)))
    check_round_trips(plan)
    check_equal(plan, sep.Plan.from_dict(json.loads(json.dumps(plan.to_dict(), allow_nan=False))))
    for part in (plan.request, plan.problem, plan.chosen, plan.chosen.form):
        check_round_trips(part)


OTHERS = {
    "shape": (8, 9),
    "dtype": "float32",
    "axes": (1, 0),
    "mode": "wrap",
    "cval": -0.0,
    "origin": (0, 1),
    "output": "float32",
    "tol": 0.5,
    "method": "direct",
    "operation": "correlate",
    "threads": 3,
    "machine": sep.Machine("another", 1, {}),
    "device": "h100",
}


def some_kernel() -> Any:
    return np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.5], [0.0, 1.0, 0.5]])


def test_all_arguments_of_a_plan_are_tried() -> None:
    import inspect

    regions = {"output_region", "stride"}  # make a plan of another class
    assert set(OTHERS) == set(inspect.signature(sep.plan).parameters) - {"kernel"} - regions


@pytest.mark.parametrize("name", OTHERS)
def test_another_argument_makes_another_plan_and_bank(name: str) -> None:
    usual: dict[str, Any] = {"shape": (9, 9), "dtype": "float64", "threads": 2}
    given = {**usual, name: OTHERS[name]}
    one, other = sep.plan(some_kernel(), **usual), sep.plan(some_kernel(), **given)
    assert one != other
    assert len({one, other}) == 2
    if name not in ("tol", "method", "device"):
        first, second = sep.bank([some_kernel()], **usual), sep.bank([some_kernel()], **given)
        assert first != second
        assert first == sep.bank([some_kernel()], **usual)


def test_another_kernel_makes_another_plan() -> None:
    """Also one that differs in a bit, in its type or by being factored."""
    kernel = some_kernel()
    last = kernel.copy()
    last[2, 2] = np.nextafter(last[2, 2], 1)
    negative = kernel.copy()
    negative[2, 0] = -0.0
    listed = [
        kernel, last, negative, kernel.astype("float32"), kernel[:2],
        sep.factorize(kernel, "y,x"), sep.factorize(kernel, "y,x", rank=1),
    ]  # fmt: skip
    assert len({sep.plan(k, (9, 9)) for k in listed}) == len(listed)


@given(factored())
def test_factors_are_equal_by_content(factors: sep.Factors) -> None:
    before = pickle.dumps(factors)
    factors.dense()
    check_round_trips(factors)
    assert pickle.dumps(factors) == before
    arrays = tuple(a.copy() for a in factors.arrays)
    check_equal(
        factors, replace(factors, arrays=arrays, sizes=dict(reversed(factors.sizes.items())))
    )
    for field in fields(factors):
        value = getattr(factors, field.name)
        if field.name == "arrays":
            other: Any = tuple(np.pad(a, 1) for a in value)
        elif field.name == "pattern":
            other = parse("ab -> a,b")
        elif field.name in ("error", "bound"):
            other = value + 1
        else:
            other = {**value, "q": np.array(1)}
        assert replace(factors, **{field.name: other}) != factors, field.name


def test_banks_are_equal_by_content() -> None:
    def made(**options: Any) -> Any:
        return sep.bank({"a": "gaussian:1", "b": "log:1"}, (20, 30), "float32", **options)

    check_equal(made(), made())
    bank = made()
    bank(np.ones((20, 30), "float32"))
    check_round_trips(bank)
    check_round_trips(bank.groups[0])
    assert bank != made(mode="wrap")
    assert bank != sep.bank({"a": "gaussian:1", "c": "log:1"}, (20, 30), "float32")
    assert bank != sep.bank({"a": "gaussian:1", "b": "log:1.1"}, (20, 30), "float32")
    assert bank != sep.bank({"b": "log:1", "a": "gaussian:1"}, (20, 30), "float32")


def values() -> list[Any]:
    """One of each public value."""
    plan = sep.plan(some_kernel(), (9, 9))
    return [
        plan, plan.request, plan.problem, plan.chosen, plan.chosen.form, plan.chosen.form.cached,
        *(root for c in plan.candidates if c.form for root in c.form.roots[:1]),
        plan.measure(np.ones((9, 9)), repeats=1), sep.bank(["gaussian:1", "log:1"], (9, 9)),
        sep.factorize(some_kernel(), "y,x"), sep.spectrum(some_kernel(), "y,x"), parse("y,x"),
        sep.machine.current(),
    ]  # fmt: skip


@pytest.mark.parametrize("value", values(), ids=lambda v: type(v).__name__)
def test_values_differ_from_all_else_without_an_error(value: Any) -> None:
    for foreign in (None, 1, "text", (), np.ones(3), object(), float("nan"), [value]):
        if isinstance(foreign, np.ndarray):
            assert value.__eq__(foreign) is NotImplemented
        else:
            assert value != foreign
            assert foreign != value
    if isinstance(value, Value):
        check_round_trips(value)


def test_measurements_with_nan_are_equal() -> None:
    plan = sep.plan(np.ones((3, 3)), (9, 9))
    found = plan.measure(np.ones((9, 9)), repeats=1)
    nothing = replace(found, differences=(math.nan,) * len(found.differences))
    check_round_trips(nothing)


HASHED = """
import pickle, sys
plan, factors = pickle.load(sys.stdin.buffer)
import numpy as np, separable as sep
kernel = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.5], [0.0, 1.0, 0.5]])
own = sep.plan(kernel, (9, 9), threads=2)
assert plan == own and hash(plan) == hash(own) and {own: 1}[plan] == 1
assert factors == sep.factorize(kernel, "y,x") and hash(factors) == hash(sep.factorize(kernel, "y,x"))
"""


def test_a_hash_is_not_sent_to_a_process_with_other_hashes_of_strings() -> None:
    plan = sep.plan(some_kernel(), (9, 9), threads=2)
    factors = sep.factorize(some_kernel(), "y,x")
    hash(plan), hash(factors)
    assert KEY in vars(plan)
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", HASHED], input=pickle.dumps((plan, factors)), check=True,
            env={**__import__("os").environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip


def test_values_cannot_change_under_their_hash() -> None:
    kernel = some_kernel()
    plan = sep.plan(kernel, (9, 9))
    same, before = copy.deepcopy(plan), plan(np.eye(9))
    kernel[...] = 0  # the caller's own
    assert plan == same
    assert np.array_equal(plan.request.kernel, some_kernel())
    assert np.array_equal(plan(np.eye(9)), before)
    factors = sep.factorize(some_kernel(), "y,x")
    for value in (plan.request.kernel, plan.chosen.form.kernel, same.request.kernel):
        with pytest.raises(ValueError, match="read-only"):
            value[0] = 1
    for array in (*factors.arrays, *pickle.loads(pickle.dumps(factors)).arrays):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def arrays_in(value: Any) -> Iterator[Any]:
    """Yield all arrays in the fields of a value, and of the values among them."""
    if isinstance(value, CandidateList):
        value = value.complete()
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Value):
        for field in fields(value):
            yield from arrays_in(getattr(value, field.name))
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(part)


def test_all_arrays_of_values_are_read_only() -> None:
    for value in values():
        for one in (value, copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert not any(array.flags.writeable for array in arrays_in(one)), type(one)
    assert len(list(arrays_in(values()[0]))) > 5


def test_content_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time costs nothing, however large the arrays are."""
    digests: list[int] = []
    counted = values_module.blake2b
    monkeypatch.setattr(
        values_module, "blake2b", lambda data, **how: digests.append(1) or counted(data, **how)
    )
    factors = sep.Factors.from_terms("yx -> y,x", [[np.ones(3000), np.ones(2)]])
    same = sep.Factors.from_terms("yx -> y,x", [[np.ones(3000), np.ones(2)]])
    assert hash(factors) == hash(same)
    each = len(digests)
    assert each > 0
    for _ in range(10):
        hash(factors)
        assert factors == same
    assert len(digests) == each


@given(st.recursive(
    st.one_of(st.floats(), st.complex_numbers(), st.integers(), st.text(max_size=3), st.none(), arrays()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)),
    max_leaves=5,
))  # fmt: skip
@settings(max_examples=100)
def test_keys_are_equal_for_copies(value: Any) -> None:
    key = key_of(value)
    assert hash(key) == hash(key_of(copy.deepcopy(value)))
    assert key == key_of(pickle.loads(pickle.dumps(value)))


def test_errors_of_plans_still_name_the_mistake() -> None:
    with pytest.raises(SeparableError):
        sep.plan(np.ones((3, 3)), (9,))


TOKENS = """
import numpy as np, separable as sep
from dask.base import tokenize
from separable.volumes.halo import block_filter
values = [
    sep.plan(np.ones((5, 5)), (20, 20), method="direct", threads=1),
    sep.bank(["gaussian:1", "log:1"], (20, 20), threads=1), sep.kernels.gaussian(1.5),
]
values.append(block_filter(values[0]))
"""


def test_dask_knows_equal_values_again() -> None:
    """Names of tasks depend neither on the process nor on what has run."""
    pytest.importorskip("dask")
    code = TOKENS + "print([tokenize(v) for v in values])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names: dict[str, Any] = {}
    exec(TOKENS, names)
    tokenize, listed = names["tokenize"], names["values"]
    for value in listed[:2]:
        value(np.ones((20, 20)))
        hash(value)
    assert str([tokenize(v) for v in listed]) == done.stdout.strip()
    assert [tokenize(copy.deepcopy(v)) for v in listed] == [tokenize(v) for v in listed]
    assert len({tokenize(v) for v in listed}) == len(listed)
    assert tokenize(sep.plan(np.ones((5, 5)), (20, 21))) != tokenize(listed[0])
