"""A region of the result from the samples that it needs: the bits of the whole, for any cut."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import separable as sep
from separable.borders import registered_borders
from separable.engine import METHODS
from separable.errors import ArgumentError, SeparableError
from separable.volumes import chunkwise, filter_block, needs
from separable.volumes.filter_stages import groupings
from separable.volumes.halo import BlockFilter, block_filter
from toy_borders import EdgeOnce, FarEdge

MODES = (*registered_borders(), FarEdge(), EdgeOnce())
INVARIANT = sorted(m.name for m in METHODS.values() if m.chunk_invariant)
SIZES = (1, 2, 3, 5, 8, 17, 33, 40)
# Every pair of types is compiled anew: few of them here, more in the long tests.
FEW = ("float32", ">f4")
MORE = (*FEW, "float64", "bool", "uint8", "uint16", "int16", "int32", "int64", "float16")


@st.composite
def problems(
    draw: Any, most_axes: int = 4, dtypes: Any = FEW, outputs: Any = (None,), most_terms: int = 3
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """A kernel of one to three terms, the options of a plan, an image."""
    ndim = draw(st.integers(1, most_axes))
    shape = tuple(draw(st.sampled_from(SIZES if ndim < 4 else SIZES[:6])) for _ in range(ndim))
    axes = draw(st.permutations(range(ndim)))[: draw(st.integers(1, ndim))]
    sizes = [draw(st.integers(1, 12 if len(axes) < 3 else 7)) for _ in axes]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kernel = sum(
        _product(rng, sizes, draw(st.booleans())) for _ in range(draw(st.integers(1, most_terms)))
    )
    origin = [draw(st.integers(-((n - 1) // 2), (n - 1) // 2)) for n in sizes]
    options = {
        "axes": axes,
        "mode": [draw(st.sampled_from(MODES)) for _ in axes],
        "cval": draw(st.sampled_from((0.0, 1.5, -3.25))),
        "origin": origin,
        "output": draw(st.sampled_from(outputs)),
        "operation": draw(st.sampled_from(("convolve", "correlate"))),
        "threads": draw(st.sampled_from((1, 2))),
    }
    values = rng.normal(size=shape) * 50
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    image = (np.abs(values) if dtype.kind == "u" else values).astype(dtype)
    return kernel, options, image


def _product(rng: np.random.Generator, sizes: list[int], even: bool) -> np.ndarray:
    product: Any = np.ones(())
    for n in sizes:
        taps = rng.normal(size=n)
        product = np.multiply.outer(product, taps + taps[::-1] if even else taps)
    return np.asarray(product)


def regions(data: Any, shape: tuple[int, ...]) -> tuple[slice, ...]:
    bounds = []
    for n in shape:
        start = data.draw(st.integers(0, n - 1))
        bounds.append(slice(start, data.draw(st.integers(start + 1, n))))
    return tuple(bounds)


def taken(image: np.ndarray, index: tuple[Any, ...]) -> np.ndarray:
    for axis, part in enumerate(index):
        image = np.take(image, np.arange(image.shape[axis])[part], axis=axis)
    return image


@given(problems(), st.data())
def test_a_region_is_bit_identical_to_the_whole_for_every_invariant_method(
    drawn: Any, data: Any
) -> None:
    _check_regions(drawn, data)


@pytest.mark.long
@settings(max_examples=1000)
@given(problems(dtypes=MORE, outputs=(None, "float32", "uint8")), st.data())
def test_a_region_is_bit_identical_to_the_whole_for_every_type(drawn: Any, data: Any) -> None:
    _check_regions(drawn, data)


def _check_regions(drawn: Any, data: Any) -> None:
    kernel, options, image = drawn
    try:
        plan = sep.plan(kernel, image.shape, image.dtype, **options)
    except SeparableError:
        assume(False)
    for candidate in plan.candidates:
        if candidate.form is None or candidate.refused:
            continue
        for name in INVARIANT:
            method = METHODS[name]
            if method.separated != candidate.form.separated or method.refuse(
                plan.problem, candidate.form
            ):
                continue
            form = replace(candidate.form)
            own = replace(plan, chosen=replace(candidate, method=name, form=form))
            whole = own(image)
            for _ in range(2):
                region = regions(data, image.shape)
                part = filter_block(own, taken(image, needs(own, region)), region)
                assert part.tobytes() == whole[region].tobytes(), (name, candidate.name, region)


@given(problems(most_axes=3, most_terms=1))
def test_stages_one_after_the_other_give_the_same_bits(drawn: Any) -> None:
    kernel, options, image = drawn
    try:
        plan = sep.plan(kernel, image.shape, image.dtype, method="separable", **options)
    except SeparableError:
        assume(False)
    whole = plan(image)
    for filters in groupings(block_filter(plan)):
        step = image
        for one in filters:
            region = tuple(slice(0, n) for n in image.shape)
            step = one.run(step, one.block(region)).copy()
        assert step.tobytes() == whole.tobytes(), [f.problem.axes for f in filters]


def test_a_long_line_is_cut_in_segments_and_into_blocks_alike() -> None:
    line = np.random.default_rng(0).random(70_000, dtype=np.float32)
    plan = sep.plan(sep.kernels.gaussian1d(3), line.shape, line.dtype, mode="wrap")
    whole = plan(line)
    for region in ((slice(0, 40_000),), (slice(39_999, 70_000),), (slice(123, 124),)):
        part = filter_block(plan, line[needs(plan, region)], region)
        assert part.tobytes() == whole[region].tobytes()


def test_wrap_takes_the_whole_axis_once_where_the_halo_is_longer() -> None:
    plan = sep.plan(np.ones(9) / 9, (4,), mode="wrap", method="separable")
    assert needs(plan, (slice(1, 2),)) == (slice(0, 4),)


@pytest.mark.compiled
def test_methods_that_depend_on_the_cut_are_not_taken() -> None:
    plan = sep.plan(np.ones((101, 101)), (4096, 4096), "float32")
    assert plan.chosen.method == "box"
    assert chunkwise(plan).chosen.method in INVARIANT
    with pytest.raises(ArgumentError, match=r"take chunkwise\(plan\)"):
        needs(plan, (slice(0, 1), slice(0, 1)))
    with pytest.raises(
        ArgumentError, match="'fft' gives results that depend on how a volume is cut"
    ):
        chunkwise(sep.plan(np.ones((5, 5)), (64, 64), method="fft"))


def test_a_filter_travels_without_what_was_prepared_here() -> None:
    image = np.random.default_rng(1).random((20, 30))
    plan = sep.plan(sep.kernels.gaussian(1), image.shape)
    whole = plan(image)
    own = block_filter(plan)
    region = (slice(3, 9), slice(0, 30))
    filter_block(own, image[needs(own, region)], region)
    other = pickle.loads(pickle.dumps(own))
    assert isinstance(other, BlockFilter)
    assert not other.form.cached
    assert (
        filter_block(other, image[needs(other, region)], region).tobytes()
        == whole[region].tobytes()
    )


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ((slice(0, 1),), "one slice for each of 2 axes; got 1"),
        ((slice(0, 0), slice(0, 1)), "none empty; got slice(0, 0, None) for axis 0"),
        ((slice(0, 21), slice(0, 1)), "within the axis"),
        ((slice(0, 4, 2), slice(0, 1)), "slices of step 1"),
    ],
)
def test_a_region_outside_is_refused(region: Any, said: str) -> None:
    plan = sep.plan(np.ones((3, 3)), (20, 30), method="direct")
    with pytest.raises(ArgumentError) as caught:
        needs(plan, region)
    assert said in str(caught.value)


def test_a_block_of_another_shape_is_refused() -> None:
    plan = sep.plan(np.ones((3, 3)), (20, 30), method="direct")
    with pytest.raises(
        ArgumentError, match=r"must have shape \(3, 2\), float64.*needs\(plan, region\)"
    ):
        filter_block(plan, np.zeros((3, 3)), (slice(1, 2), slice(0, 1)))
