"""Allocation of ranks against all choices there are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from separable.nn.convert.rank_allocation import STEPS, Point, allocate, allocate_in_time

POINTS = st.lists(
    st.tuples(st.integers(1, 60), st.floats(0.001, 1)), min_size=1, max_size=5
).map(lambda pairs: [Point(100.0, 0.0), *(Point(float(c), e) for c, e in pairs)])  # fmt: skip


def smallest_error(layers: dict[str, list[Point]], budget: float) -> float:
    """Return the smallest sum of errors of all choices within a budget."""
    choices = itertools.product(*layers.values())
    return min(sum(p.error for p in c) for c in choices if sum(p.cost for p in c) <= budget)


@given(st.lists(POINTS, min_size=1, max_size=4), st.floats(0, 1))
def test_choices_are_within_the_budget_and_nearly_the_best(
    points: list[list[Point]], share: float
) -> None:
    layers = {str(at): found for at, found in enumerate(points)}
    least = sum(min(p.cost for p in found) for found in points)
    budget = least + share * (100 * len(points) - least)
    chosen = allocate(layers, budget).chosen
    assert list(chosen) == list(layers)
    assert sum(p.cost for p in chosen.values()) <= budget * (1 + 1e-12)
    # Costs are rounded up by less than a step each.
    rounded = budget - len(points) * (budget - least) / STEPS
    if rounded >= least:
        error = sum(p.error for p in chosen.values())
        assert error <= smallest_error(layers, rounded) / 0.999 + 1e-12


def test_a_point_above_the_hull_uses_what_is_left_over() -> None:
    layers = {"a": [Point(1, 1.0), Point(5, 0.5), Point(9, 0.0)], "b": [Point(1, 0.1), Point(2, 0)]}
    assert [p.cost for p in allocate(layers, 7).chosen.values()] == [5, 2]
    concave = {
        "a": [Point(1, 1.0), Point(5, 0.9), Point(9, 0.0)],
        "b": [Point(1, 0.1), Point(7, 0)],
    }
    assert [p.cost for p in allocate(concave, 7).chosen.values()] == [5, 1]
    assert sum(p.error for p in allocate(concave, 7).chosen.values()) == pytest.approx(1.0)


TIMED = st.lists(
    st.tuples(st.integers(1, 60), st.floats(0.001, 1), st.integers(1, 150)), min_size=1, max_size=5
)


@given(st.lists(TIMED, min_size=1, max_size=3), st.floats(0, 1), st.integers(1, 300))
def test_choices_in_time_keep_the_budget_and_are_never_slower(
    drawn: list[list[tuple[int, float, int]]], share: float, limit: int
) -> None:
    layers = {
        str(at): [
            Point(100.0, 0.0),
            *(Point(float(c), e, 0, k) for k, (c, e, _) in enumerate(found)),
        ]
        for at, found in enumerate(drawn)
    }
    seconds = {str(at): [100.0, *(float(t) for *_, t in found)] for at, found in enumerate(drawn)}
    least = sum(min(p.cost for p in found) for found in layers.values())
    budget = least + share * (100 * len(layers) - least)

    def taken(chosen: dict[str, Point]) -> float:
        return sum(seconds[n][layers[n].index(p)] for n, p in chosen.items())

    plain = dict(allocate(layers, budget).chosen)
    chosen = dict(allocate_in_time(layers, seconds, budget, limit).chosen)
    assert sum(p.cost for p in chosen.values()) <= budget * (1 + 1e-12)
    if taken(plain) <= limit:
        assert chosen == plain
    else:
        assert taken(chosen) <= taken(plain)


def test_a_slow_point_with_few_multiplications_is_avoided() -> None:
    slow = [Point(9, 0.0), Point(2, 0.01, 0), Point(3, 0.1, 1)]
    layers = {"a": slow, "b": [Point(9, 0.0), Point(4, 0.1)]}
    seconds = {"a": [9.0, 12.0, 3.0], "b": [9.0, 4.0]}
    assert allocate_in_time(layers, seconds, 12, 22).chosen["a"].curve == 0
    assert allocate_in_time(layers, seconds, 12, 13).chosen["a"].curve == 1
