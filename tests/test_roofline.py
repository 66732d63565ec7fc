"""The roofline picture: its roof, its points, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import separable as sep
from separable.errors import ArgumentError, ArgumentTypeError, MachineError
from separable.machine import Primitives
from separable.plot import Roof, roofs

RATES = Primitives(fma=1e-11, copy=2e-10, stream_copy=1e-10)
pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("agg")
    yield
    pyplot.close("all")


def test_the_roof_is_the_smaller_rate() -> None:
    roof = roofs(RATES, threads=2)
    assert roof == Roof(pytest.approx(2e11), pytest.approx(4e10), 2)
    assert roof.ridge == pytest.approx(5.0)
    assert roof.rate(1.0) == pytest.approx(4e10)
    assert roof.rate(100.0) == pytest.approx(2e11)


def test_a_plan_has_a_point_for_each_method_that_can_run() -> None:
    plan = sep.plan(sep.kernels.disk(5), (256, 256), "float32", threads=1)
    ax = sep.plot.roofline(plan, primitives=RATES)
    able = [c for c in plan.candidates if not c.refused and c.multiplications]
    points = {
        (round(x, 6), round(y, 6))
        for line in ax.lines[2:]
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    size = 256 * 256
    assert points == {
        (
            round(c.multiplications * size / c.bytes, 6),
            round(c.multiplications * size / c.seconds / 1e9, 6),
        )
        for c in able
    }
    roof = np.array(ax.lines[0].get_ydata())
    assert roof.max() == pytest.approx(100.0)
    assert any("chosen" in text.get_text() for text in ax.texts)
    ax.figure.canvas.draw()


def test_measured_times_are_drawn_instead_of_predicted_ones() -> None:
    plan = sep.plan(np.ones((3, 3)), (64, 64), "float32", threads=1)
    measured = plan.measure(np.ones((64, 64), "float32"), repeats=1)
    ax = sep.plot.roofline(measured, primitives=RATES)
    drawn = sorted(y for line in ax.lines[2:] for y in line.get_ydata())
    expected = sorted(
        c.multiplications * 4096 / s / 1e9
        for c, s in zip(measured.candidates, measured.seconds, strict=True)
        if c.multiplications
    )
    assert drawn == pytest.approx(expected)


def test_layers_are_told_apart() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(
        torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 16, 1), torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3),
    )  # fmt: skip
    found = sep.nn.ledger(net, (1, 8, 32, 32), backward=False)
    ax = sep.plot.roofline(found, primitives=RATES)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["dense", "depthwise", "pointwise"]
    layer = found["0"]
    (depthwise,) = (line for line in ax.lines if line.get_label() == "depthwise")
    assert depthwise.get_xdata() == pytest.approx([layer.cost.multiplications_per_byte])
    seconds = found.seconds("torch")["0"].seconds["torch"]
    assert depthwise.get_ydata() == pytest.approx([layer.cost.multiplications / seconds / 1e9])
    both = sep.plot.roofline([found, found], primitives=RATES)
    assert len(both.lines) == 5


def test_what_is_refused() -> None:
    plan = sep.plan(np.zeros((3, 3)), (64, 64), "float32", threads=1)
    with pytest.raises(ArgumentTypeError, match="plans, measurements or ledgers; got int"):
        sep.plot.roofline(3)
    with pytest.raises(ArgumentError, match="nothing to draw"):
        sep.plot.roofline([])
    with pytest.raises(MachineError, match="rates of this computer are not known"):
        sep.plot.roofline(sep.plan(np.ones((3, 3)), (64, 64)), primitives=Primitives())
    with pytest.raises(ArgumentError, match="`threads` must be >= 1"):
        roofs(RATES, threads=0)
    assert plan.problem.threads == 1
