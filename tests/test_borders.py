"""Borders against numpy.pad and SciPy, and what each says about itself against brute force."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as scipy_ndimage

import separable as sep
from separable import errors
from separable.borders import (
    CONSTANT,
    MIRROR,
    OUTSIDE,
    WRAP,
    Border,
    canonical,
    canonical_modes,
    carried,
    extend,
    mode_names,
    registered_borders,
    runs_of,
)
from toy_borders import EdgeOnce, FarEdge

NUMPY_NAMES = {
    "reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap",
}  # fmt: skip
BORDERS = (*registered_borders(), FarEdge(), EdgeOnce())


@pytest.mark.parametrize("mode", sorted(NUMPY_NAMES))
@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("widths", [(0, 0), (1, 0), (2, 5), (17, 23)])
def test_extension_is_numpy_pad(mode: str, n: int, widths: tuple[int, int]) -> None:
    values = np.arange(n)
    expected = np.pad(values, widths, mode=NUMPY_NAMES[mode])
    assert np.array_equal(values[canonical(mode).extension(n, *widths)], expected)


@pytest.mark.parametrize("mode", mode_names())
def test_extension_is_what_scipy_reads(mode: str) -> None:
    values = np.array([3.0, 1.0, 4.0])
    for shift in range(-4, 5):
        taps = np.zeros(9)
        taps[4 + shift] = 1
        expected = scipy_ndimage.correlate1d(values, taps, mode=mode, cval=7.0)
        got = extend(values, [0], [(4, 4)], [canonical(mode)], 7.0, np.dtype(float))
        assert np.array_equal(got[4 + shift : 7 + shift], expected)


def test_constant_is_marked() -> None:
    assert CONSTANT.extension(3, 2, 1).tolist() == [-1, -1, 0, 1, 2, -1]


def test_extend_keeps_other_axes_and_fills_corners() -> None:
    image = np.arange(6.0).reshape(2, 3)
    got = extend(image, [0, 1], [(1, 1), (2, 0)], [CONSTANT] * 2, 9.0, np.dtype(np.float32))
    assert got.dtype == np.float32
    assert np.array_equal(got, np.pad(image, [(1, 1), (2, 0)], constant_values=9))


@pytest.mark.parametrize("border", BORDERS, ids=str)
def test_samples_are_a_part_of_the_extension(border: Border) -> None:
    whole = border.extension(5, 20, 20)
    for start in range(-20, 25):
        for stop in range(start + 1, 25):
            assert np.array_equal(border.samples(5, start, stop), whole[start + 20 : stop + 20])


def lines(draw: Any) -> dict[str, int]:
    n = draw(st.integers(1, 30))
    start = draw(st.integers(0, n - 1))
    stop = draw(st.integers(start + 1, n))
    return {
        "n": n, "start": start, "stop": stop, "before": draw(st.integers(0, 40)),
        "after": draw(st.integers(0, 40)), "least": draw(st.integers(1, 33)),
    }  # fmt: skip


class Default(Border):
    """A built-in border with nothing but its extension: the methods of the base class."""

    name = help = picture = "default"

    def __init__(self, border: Border) -> None:
        vars(self).update(border=border, fills=border.fills)

    def extension(self, n: int, before: int, after: int) -> np.ndarray:
        return self.border.extension(n, before, after)


@pytest.mark.parametrize("border", [*BORDERS, *map(Default, registered_borders())], ids=repr)
@given(st.composite(lines)())
def test_a_block_holds_what_its_outputs_read(border: Border, line: dict[str, int]) -> None:
    n, start, stop = line["n"], line["start"], line["stop"]
    before, after = line["before"], line["after"]
    first, last, inner = border.block(n, start - before, stop + after, line["least"])
    assert first <= start < stop <= last
    assert last - first >= min(n, line["least"])
    samples = border.samples(n, first, last)
    assert OUTSIDE not in samples  # a constant may not fit the type of the image
    block = inner.extension(last - first, before, after)  # as the engine sees it
    read = np.where(block == OUTSIDE, OUTSIDE, samples[block])[start - first : stop - first + before + after]  # fmt: skip
    assert np.array_equal(read, border.samples(n, start - before, stop + after))
    if isinstance(border, Default):  # the built-in modes override `block` only to be faster
        same = border.border.block(n, start - before, stop + after, line["least"])
        assert same[:2] == (first, last)


def test_a_block_is_no_longer_than_it_needs_to_be() -> None:
    for border in BORDERS:
        assert border.block(1000, 400, 420, 2)[:2] == (400, 420)
        first, last, _ = border.block(1000, -8, 12, 2)
        assert last - first <= 20


@pytest.mark.parametrize("border", BORDERS, ids=str)
def test_passes_commute_where_that_is_said(border: Border) -> None:
    image = np.random.default_rng(0).normal(size=23)
    one, other = np.array([1, 2, 1]) / 4, np.array([-1, 3, 5, 3, -1]) / 9

    def twice(*kernels: np.ndarray) -> Any:
        result = image
        for kernel in kernels:
            result = sep.correlate(result, kernel, mode=border)
        return result

    difference = np.abs(twice(one, other) - twice(other, one)).max()
    assert (difference < 1e-14) == border.commutes


@pytest.mark.parametrize("border", BORDERS, ids=str)
def test_a_border_is_a_value(border: Border) -> None:
    for other in (copy.copy(border), pickle.loads(pickle.dumps(border))):
        assert other == border
        assert hash(other) == hash(border)
        assert other.__dask_tokenize__() == border.__dask_tokenize__()
    assert len({*BORDERS, *map(copy.deepcopy, BORDERS)}) == len(BORDERS)
    assert border != border.name
    assert str(border) == border.name
    assert "\n" not in border.help
    assert "| a b c d |" in border.picture
    with pytest.raises(AttributeError):
        border.name = "other"  # type: ignore[misc]


def test_pictures_show_the_extension() -> None:
    for border in BORDERS:
        left, _, right = (part.split() for part in border.picture.split(" | "))
        samples = border.extension(4, len(left), len(right)).tolist()
        assert [*left, *"abcd", *right] == ["abcdk"[sample] for sample in samples]


def test_runs() -> None:
    assert runs_of(WRAP.samples(4, -1, 9)) == [(3, 4), (0, 4), (0, 4), (0, 1)]
    assert runs_of(np.array([7])) == [(7, 8)]


def test_unknown_mode_suggests() -> None:
    with pytest.raises(errors.ModeError, match=r"got 'reflct'. Did you mean \"reflect\"\?"):
        canonical("reflct")
    with pytest.raises(RuntimeError):  # as SciPy
        canonical("bogus")
    with pytest.raises(errors.ModeError):
        canonical_modes(3, 2)  # type: ignore[arg-type]


def test_modes_one_an_axis() -> None:
    assert canonical_modes(["grid-wrap", MIRROR], 2) == (WRAP, MIRROR)
    assert canonical_modes(WRAP, 2) == (WRAP, WRAP)
    with pytest.raises(errors.ArgumentError, match="one for each of the 3 filtered axes; got 2"):
        canonical_modes(["wrap", "mirror"], 3)


def test_carried() -> None:
    assert carried(2.0, np.array([1.0, 2.0, 1.0])) == 8.0
    assert carried(0.0, np.array([np.inf])) == 0.0
    assert np.isnan(carried(np.nan, np.array([1.0, -1.0])))
    assert np.isnan(carried(np.inf, np.array([1.0, -1.0])))
    assert carried(1j, np.array([2.0])) == 2j
