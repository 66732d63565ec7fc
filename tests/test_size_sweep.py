"""Predictions against kernel size: counts, crossings, the printed table and the picture."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import separable as sep
from separable.cli import run
from separable.errors import ArgumentError
from separable.plan import SizeSweep, sweep_sizes


def test_counts_are_those_of_introductions() -> None:
    found = sweep_sizes((256, 256), sizes=(3, 7, 31))
    assert found.multiplications["dense"] == (9, 49, 961)
    assert found.multiplications["passes"] == (6, 14, 62)
    cube = sweep_sizes((64, 64, 64), sizes=(7,))
    assert (cube.multiplications["dense"], cube.multiplications["passes"]) == ((343,), (21,))
    three = sweep_sizes((256, 256), rank=3, sizes=(2, 7))
    assert three.multiplications["passes"] == (8, 42)  # a 2x2 kernel has two terms at most


def test_the_times_are_those_of_plans() -> None:
    found = sweep_sizes((256, 300), "uint8", sizes=(9,))
    made = sep.plan(sep.Factors.from_terms("yx -> y,x", [_vectors(9)]), (256, 300), "uint8")
    times = {c.name: c.seconds for c in made.candidates if not c.refused}
    assert found.seconds["dense"] == (times["direct"],)
    assert found.seconds["FFT"] == (min(times["fft"], times["overlap"]),)


def _vectors(size: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(0.5, 1.5, size) for _ in range(2)]


def test_a_crossing_holds_for_all_larger_sizes() -> None:
    times = {"dense": (1.0, 5.0, 9.0), "passes": (2.0, 2.0, math.inf), "FFT": (1.0, 3.0, 3.0)}
    sweep = SizeSweep((9, 9), np.dtype("f4"), 1, (3, 5, 7), times, times, "of nobody")
    assert sweep.crossing() == 7
    assert sweep.crossing("dense", "passes") is None  # passes cannot run at 7
    assert sweep.crossing("dense", "FFT") == 5
    assert sweep.crossing("FFT", "dense") is None


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "-k", "disk:5", "-s", "64x512x512", "--axes", "1,2", "--sweep"]) == 0
    text = capsys.readouterr().out
    assert "kernels of 4 separable terms on 512x512 float64" in text
    assert max(map(len, text.splitlines())) <= 80
    assert run(["plan", "-k", "sobel", "-s", "512x512", "--sweep", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rank"] == 1
    assert found["multiplications"]["passes"][0] == 6


def test_it_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    found = sweep_sizes((512, 512), sizes=(3, 9, 31))
    ax = sep.plot.crossing(found)
    assert [line.get_label() for line in ax.get_lines()][:3] == ["dense", "passes", "FFT"]
    assert (
        sep.plot.crossing(found, what="multiplications").get_ylabel().startswith("multiplications")
    )
    with pytest.raises(ArgumentError, match='`what` must be "seconds"'):
        sep.plot.crossing(found, what="bytes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "must be >= 1"),
        ({"sizes": ()}, "must be >= 1"),
        ({"shape": (9,)}, "2 to 4 axes"),
    ],
)
def test_mistakes(arguments: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        sweep_sizes(**{"shape": (64, 64), **arguments})
