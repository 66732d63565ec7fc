"""Borders against numpy.pad and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as scipy_ndimage

from separable import errors
from separable.borders import MODES, canonical, canonical_modes, carried, extend, extension

NUMPY_NAMES = {
    "reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap",
}  # fmt: skip


@pytest.mark.parametrize("mode", sorted(NUMPY_NAMES))
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("widths", [(0, 0), (1, 0), (2, 5), (17, 23)])
def test_extension_is_numpy_pad(mode: str, n: int, widths: tuple[int, int]) -> None:
    values = np.arange(n)
    expected = np.pad(values, widths, mode=NUMPY_NAMES[mode])
    assert np.array_equal(values[extension(n, *widths, mode)], expected)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_extension_is_what_scipy_reads(mode: str) -> None:
    values = np.array([3.0, 1.0, 4.0])
    for shift in range(-4, 5):
        taps = np.zeros(9)
        taps[4 + shift] = 1
        expected = scipy_ndimage.correlate1d(values, taps, mode=mode, cval=7.0)
        got = extend(values, [0], [(4, 4)], [canonical(mode)], 7.0, np.dtype(float))
        assert np.array_equal(got[4 + shift : 7 + shift], expected)


def test_constant_is_marked() -> None:
    assert extension(3, 2, 1, "constant").tolist() == [-1, -1, 0, 1, 2, -1]


def test_extend_keeps_other_axes_and_fills_corners() -> None:
    image = np.arange(6.0).reshape(2, 3)
    got = extend(image, [0, 1], [(1, 1), (2, 0)], ["constant"] * 2, 9.0, np.dtype(np.float32))
    assert got.dtype == np.float32
    assert np.array_equal(got, np.pad(image, [(1, 1), (2, 0)], constant_values=9))


def test_unknown_mode_suggests() -> None:
    with pytest.raises(errors.ModeError, match=r"got 'reflct'. Did you mean \"reflect\"\?"):
        canonical("reflct")
    with pytest.raises(RuntimeError):  # as SciPy
        canonical("bogus")
    with pytest.raises(errors.ModeError):
        canonical_modes(3, 2)  # type: ignore[arg-type]


def test_modes_one_an_axis() -> None:
    assert canonical_modes(["grid-wrap", "mirror"], 2) == ("wrap", "mirror")
    with pytest.raises(errors.ArgumentError, match="one for each of the 3 filtered axes; got 2"):
        canonical_modes(["wrap", "mirror"], 3)


def test_carried() -> None:
    assert carried(2.0, np.array([1.0, 2.0, 1.0])) == 8.0
    assert carried(0.0, np.array([np.inf])) == 0.0
    assert np.isnan(carried(np.nan, np.array([1.0, -1.0])))
    assert np.isnan(carried(np.inf, np.array([1.0, -1.0])))
    assert carried(1j, np.array([2.0])) == 2j
