"""Pictures: what they show is what was computed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import separable as sep
from separable.errors import ArgumentError, ArgumentTypeError, KernelError, PatternError

torch = pytest.importorskip("torch")
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Pictures are closed after each test."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.use("agg")
    yield
    pyplot.close("all")


def texts(ax: Any) -> list[str]:
    return [t.get_text() for t in ax.texts]


def drawn(ax: Any) -> None:
    """Every picture can be drawn to the end."""
    ax.figure.canvas.draw()


def test_a_small_kernel_shows_its_numbers() -> None:
    ax = sep.plot.kernel(SOBEL)
    assert texts(ax) == ["-1", "0", "1", "-2", "0", "2", "-1", "0", "1"]
    (shown,) = ax.images
    np.testing.assert_array_equal(shown.get_array(), SOBEL)
    assert shown.get_clim() == (-2, 2)  # white is zero
    drawn(ax)


def test_a_vector_is_bars_and_a_volume_its_planes() -> None:
    bars = sep.plot.kernel([1, 2, 1])
    assert [p.get_height() for p in bars.patches] == [1, 2, 1]
    volume = np.arange(5 * 2 * 3).reshape(5, 2, 3)
    (sheet,) = sep.plot.kernel(volume).images
    shown = np.asarray(sheet.get_array())
    assert shown.shape == (4, 9)  # five planes in two rows of three
    np.testing.assert_array_equal(shown[2:, 3:6], volume[4])
    np.testing.assert_array_equal(shown[2:, 6:], 0)


def test_the_spectrum_has_a_bar_for_each_term() -> None:
    disk = sep.kernels.disk(5)
    found = sep.spectrum(disk, "yx -> y,x")
    ax = sep.plot.spectrum(disk)
    heights = np.array([p.get_height() for p in ax.patches[: found.rank]])
    np.testing.assert_allclose(heights, found.values[: found.rank] / found.values[0])
    np.testing.assert_allclose(ax.lines[0].get_ydata()[: found.rank], found.errors[: found.rank])
    assert np.isnan(ax.lines[0].get_ydata()[found.rank])  # exact: no mark on a log scale
    assert sep.plot.spectrum(found).get_title() == ax.get_title()
    drawn(ax)


@pytest.mark.parametrize(
    ("kernel", "pattern"),
    [
        (np.ones((3, 5)), "yx -> y,x"),
        (np.ones((3, 5, 7)), "zyx -> z,y,x"),
        (np.random.default_rng(0).random((3, 5, 7)), "zyx -> z,yx"),
        (np.zeros((3, 3)), "yx -> y,x"),
    ],
)
def test_factors_are_drawn_term_by_term(kernel: np.ndarray, pattern: str) -> None:
    factors = sep.factorize(kernel, pattern)
    ax = sep.plot.factors(factors) if factors.rank else None
    if ax is None:
        with pytest.raises(KernelError, match="zeros"):
            sep.plot.factors(factors)
        return
    strips = len(factors.pattern.factors)
    whole = strips == 2 and kernel.ndim == 2
    assert len(ax.images) == min(factors.rank, 6) * (strips + whole)
    drawn(ax)


def test_factors_that_are_not_a_sum_of_terms_are_refused() -> None:
    weights = np.random.default_rng(0).random((4, 3, 3, 3))
    with pytest.raises(PatternError, match="not a plain sum of terms"):
        sep.plot.factors(sep.factorize(weights, "ocyx -> oc,cyx"))
    with pytest.raises(ArgumentError, match="`terms` must be >= 1; got 0"):
        sep.plot.factors(sep.factorize(SOBEL, "yx -> y,x"), terms=0)


def test_a_plan_has_a_bar_for_each_candidate_and_measured_times_beside() -> None:
    made = sep.plan(sep.kernels.disk(5), shape=(64, 64), dtype="float32")
    ax = sep.plot.plan(made)
    shown = [c for c in made.candidates if c.form is not None]
    assert len(ax.patches) == len(shown)
    assert min(p.get_width() for p in ax.patches) <= made.chosen.seconds * 1e3
    measured = made.measure(np.ones((64, 64), np.float32), repeats=1)
    ax = sep.plot.plan(measured)
    times = sorted(ax.lines[-1].get_xdata())
    np.testing.assert_allclose(times, sorted(s * 1e3 for s in measured.seconds))
    assert ax.get_xlabel() == "time (ms): bars predicted, diamonds measured"
    drawn(ax)


def test_a_ledger_shows_all_multiplications() -> None:
    layers = [torch.nn.Conv2d(3, 8, 3), *(torch.nn.Conv2d(8, 8, 3) for _ in range(3))]
    found = sep.nn.ledger(torch.nn.Sequential(*layers), (1, 3, 16, 16))
    ax = sep.plot.ledger(found, layers=2)
    shown = sum(p.get_width() for p in ax.patches) * 1e6
    assert shown == pytest.approx(found.total.multiplications)
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "2 others"
    both = sep.plot.ledger(found.what_if("ocyx -> oc,cyx"))
    widths = [p.get_width() * 1e6 for p in both.patches]
    assert sum(widths[4:]) == pytest.approx(
        found.what_if("ocyx -> oc,cyx").separated.multiplications
    )
    drawn(both)


def test_the_tradeoff_is_the_reports() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.Conv2d(16, 16, 3))
    _, report = sep.nn.convert(net, budget=0.5, input_shape=(1, 8, 16, 16))
    ax = sep.plot.tradeoff(report)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), report.tradeoff[:, 1])


def test_bad_input_is_named() -> None:
    with pytest.raises(KernelError, match=r"one to three axes.*got shape \(0,\)"):
        sep.plot.kernel([])
    with pytest.raises(KernelError, match="complex128"):
        sep.plot.kernel([1j])
    with pytest.raises(ArgumentTypeError, match="`ax` must be Matplotlib Axes; got str"):
        sep.plot.kernel(SOBEL, ax="here")


def test_axes_given_are_drawn_on() -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert sep.plot.kernel(SOBEL, ax=ax) is ax


def test_matplotlib_comes_with_the_first_picture_only() -> None:
    code = "import sys, separable as sep; sep.plot.kernel; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
