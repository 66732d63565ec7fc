"""Pattern and convolution -> steps: which convolutions, with which arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separable.errors import ArgumentError, ArgumentTypeError, PatternError, RankError
from separable.lowering import SamePadding, Step, lower, read_weights, weights_of
from separable.lowering.conv_spec import ConvSpec
from separable.lowering.scheme import Scheme
from separable.pattern import parse


def make(pattern: str, rank: Any = 1, sizes: Any = None, **arguments: Any) -> Scheme:
    ndim = sum("o" not in a and "c" not in a for a in parse(pattern).axes)
    wanted = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1, **arguments}
    spec = ConvSpec.make("Layer", ndim, **wanted)
    return Scheme.make("Layer", pattern, spec, rank=rank, sizes=sizes)


def short(step: Step) -> tuple[Any, ...]:
    """Channels in and out, groups, kernel, stride, padding in front of each axis."""
    pads = tuple(p if isinstance(p, SamePadding) else p[0] for p in step.padding)
    return step.in_channels, step.out_channels, step.groups, step.kernel_size, step.stride, pads


TABLE = {
    "depthwise separable, 1-D": (
        make("ocx -> oc,cx", 2, stride=2),
        [(4, 8, 4, (3,), (2,), (1,)), (8, 6, 1, (1,), (1,), (0,))],
    ),
    "depthwise separable, 2-D": (
        make("ocyx -> oc,cyx", stride=(2, 1)),
        [(4, 4, 4, (3, 3), (2, 1), (1, 1)), (4, 6, 1, (1, 1), (1, 1), (0, 0))],
    ),
    "depthwise separable, 3-D": (
        make("oczyx -> oc,czyx", padding=(0, 1, 2)),
        [(4, 4, 4, (3, 3, 3), (1,) * 3, (0, 1, 2)), (4, 6, 1, (1,) * 3, (1,) * 3, (0,) * 3)],
    ),
    "pointwise first": (
        make("ocyx -> oc,oyx", 2, stride=2),
        [(4, 12, 1, (1, 1), (1, 1), (0, 0)), (12, 6, 6, (3, 3), (2, 2), (1, 1))],
    ),
    "Jaderberg": (
        make("ocyx -> ox,cy", 5, stride=(2, 3), padding=(1, 2)),
        [(4, 5, 1, (3, 1), (2, 1), (1, 0)), (5, 6, 1, (1, 3), (1, 3), (0, 2))],
    ),
    "Tucker-2": (
        make("ocyx -> oR,RyxS,Sc", {"R": 3, "S": 2}, stride=2),
        [
            (4, 2, 1, (1, 1), (1, 1), (0, 0)),
            (2, 3, 1, (3, 3), (2, 2), (1, 1)),
            (3, 6, 1, (1, 1), (1, 1), (0, 0)),
        ],
    ),
    "tensor train": (
        make("ocyx -> oR,RyS,SxT,Tc", {"R": 3, "S": 2, "T": 5}),
        [
            (4, 5, 1, (1, 1), (1, 1), (0, 0)),
            (5, 2, 1, (1, 3), (1, 1), (0, 1)),
            (2, 3, 1, (3, 1), (1, 1), (1, 0)),
            (3, 6, 1, (1, 1), (1, 1), (0, 0)),
        ],
    ),
    "canonical polyadic": (
        make("ocyx -> o,c,y,x", 7),
        [
            (4, 7, 1, (1, 1), (1, 1), (0, 0)),
            (7, 7, 7, (3, 1), (1, 1), (1, 0)),
            (7, 7, 7, (1, 3), (1, 1), (0, 1)),
            (7, 6, 1, (1, 1), (1, 1), (0, 0)),
        ],
    ),
    "spatial, one channel": (
        make("yx -> y,x", 2, in_channels=1, out_channels=1),
        [(1, 2, 1, (3, 1), (1, 1), (1, 0)), (2, 1, 1, (1, 3), (1, 1), (0, 1))],
    ),
    "spatial, each channel its own": (
        make("yx -> y,x", 2, in_channels=4, out_channels=4, groups=4),
        [(4, 8, 4, (3, 1), (1, 1), (1, 0)), (8, 4, 4, (1, 3), (1, 1), (0, 1))],
    ),
    "spatial-spectral": (
        make("lyx -> l,yx", in_channels=1, out_channels=1),
        [(1, 1, 1, (3, 1, 1), (1,) * 3, (1, 0, 0)), (1, 1, 1, (1, 3, 3), (1,) * 3, (0, 1, 1))],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_each_pattern_of_the_literature_becomes_its_convolutions(name: str) -> None:
    scheme, expected = TABLE[name]
    _, steps = lower(scheme)
    assert [short(s) for s in steps] == expected
    assert [s.bias for s in steps] == [False] * (len(steps) - 1) + [True]
    assert all(s.plain and s.shared == 1 for s in steps)


def test_the_inner_size_of_a_kronecker_product_is_the_dilation_of_the_outer_factor() -> None:
    scheme = make(
        "(Yy)(Xx) -> YX,yx", sizes={"y": 3, "X": 2}, kernel_size=6, in_channels=1, out_channels=1,
        dilation=2, padding=4,
    )  # fmt: skip
    first, second = lower(scheme)[1]
    assert (first.kernel_size, first.dilation, first.padding) == ((2, 2), (6, 6), ((4, 4), (4, 4)))
    assert (second.kernel_size, second.dilation, second.padding) == ((3, 3), (2, 2), ((0, 0),) * 2)


def test_the_first_step_on_an_axis_takes_what_of_the_stride_divides_the_others_reach() -> None:
    scheme = make("oc(Xx) -> oX,cx", sizes={"x": 4}, kernel_size=8, stride=6)
    first, second = lower(scheme)[1]
    assert (first.kernel_size, first.stride, first.dilation) == ((4,), (2,), (1,))
    assert (second.kernel_size, second.stride, second.dilation) == ((2,), (3,), (2,))
    assert (first.positions, second.positions) == (3, 1)


def test_strides_of_later_steps_count_in_the_multiplications() -> None:
    steps = lower(make("ocyx -> oc,oyx", stride=2))[1]
    assert [s.multiplications for s in steps] == [4 * 6 * 4, 6 * 9]


def test_a_single_channel_does_not_turn_the_order_round() -> None:
    for pattern, first in [("ocyx -> oc,cyx", 1), ("ocyx -> oc,oyx", 0), ("ocyx -> ox,cy", 1)]:
        assert lower(make(pattern, in_channels=1, out_channels=1))[1][0].factor == first


def test_a_factor_without_channels_shares_its_weights() -> None:
    first, second = lower(make("ocyx -> oc,yx", 2))[1]
    assert (short(first)[:3], first.shared, first.outputs) == ((1, 2, 1), 4, 8)
    assert first.multiplications == 4 * 2 * 9
    assert (short(second)[:3], second.plain) == ((8, 6, 1), True)


def test_ragged_multipliers_gather_channels_and_ragged_sums_scatter_them() -> None:
    depthwise, pointwise = lower(make("ocyx -> oc,cyx", [0, 2, 1, 3]))[1]
    assert depthwise.gather == (1, 1, 2, 3, 3, 3)
    assert short(depthwise)[:3] == (6, 6, 6)
    assert short(pointwise)[:3] == (6, 6, 1)
    pointwise, depthwise = lower(make("ocyx -> oc,oyx", [0, 2, 1, 3, 1, 1]))[1]
    assert short(pointwise)[:3] == (4, 8, 1)
    assert (depthwise.scatter, depthwise.outputs) == ((1, 1, 2, 3, 3, 3, 4, 5), 6)
    assert depthwise.fan_in == pytest.approx(9 * 8 / 6)


def test_no_convolution_has_uneven_groups_so_ranks_are_raised_the_lowest_first() -> None:
    scheme = make("ocyx -> oc,cyx", [0, 2, 1, 3], groups=2)
    raised, steps = lower(scheme)
    assert raised.ranks["R"].tolist() == [[2, 2], [1, 3]]
    assert short(steps[1])[:3] == (8, 6, 2)
    raised, _ = lower(make("ocyx -> ox,cy", [1, 3], groups=2))
    assert raised.ranks["R"].tolist() == [3, 3]
    even = make("ocyx -> oc,cyx", [1, 2, 2, 1], groups=2)
    assert lower(even)[0] is even


def test_the_cores_of_a_tucker_decomposition_have_one_size_in_all_groups() -> None:
    scheme = make("ocyx -> oR,RyxS,Sc", {"R": [1, 2], "S": 1}, groups=2)
    assert scheme.ranks["R"].tolist() == [2, 2]


@pytest.mark.parametrize("name", [*TABLE, "shared", "ragged", "grouped"])
def test_weights_of_steps_are_read_back_as_the_arrays_they_came_from(name: str) -> None:
    others = {
        "shared": make("ocyx -> oc,yx", 3),
        "ragged": make("ocyx -> oc,cyx", [0, 2, 1, 3]),
        "grouped": make("ocyx -> oc,cyx", [0, 2, 1, 3], groups=2),
    }
    scheme, steps = lower(others[name] if name in others else TABLE[name][0])
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=[scheme.size(a) for a in operand]) for operand in scheme.operands]
    weights = weights_of(scheme, steps, arrays)
    assert [w.shape for w in weights] == [s.weight_shape for s in steps]
    back = read_weights(scheme, steps, weights)
    for array, again in zip(arrays, back, strict=True):
        kept = again != 0
        assert np.array_equal(again[kept], array[kept])
        if name not in ("ragged", "grouped"):
            assert kept.all()
    assert sum(w.size for w in weights) == sum(int((a != 0).sum()) for a in back)


@given(st.integers(1, 40), st.integers(0, 12), st.integers(1, 5))
def test_same_pads_as_little_as_gives_every_output(size: int, reach: int, stride: int) -> None:
    before, behind = SamePadding(reach, stride).amounts(size)
    outputs = -(-size // stride)
    needed = (outputs - 1) * stride + reach + 1
    assert before + behind == max(needed - size, 0)
    assert behind - before in (0, 1)


@pytest.mark.parametrize(
    ("pattern", "arguments", "error", "message"),
    [
        (
            "ocyx -> oy,cy,xy", {}, PatternError,
            "Layer: `y` stands in every factor of `ocyx -> oy,cy,xy`: each of its taps would be a "
            "layer of its own. Only channels can be batch letters of a layer",
        ),
        (
            "coyx -> oc,cyx", {}, PatternError,
            "Layer: the channels `o`, `c` come first and each once in a layer's pattern, then the "
            "spatial axes; got `coyx -> oc,cyx`",
        ),
        (
            "ogyx -> oy,gx", {}, PatternError,
            "Layer: `g` stands for the groups of channels, which `groups` says; got "
            "`ogyx -> oy,gx`",
        ),
        (
            "yx -> y,x", {}, PatternError,
            "Layer: `yx -> y,x` describes one filter for each group of channels; got "
            "in_channels=4, out_channels=6, groups=1. Give groups=in_channels, or a pattern of "
            "weights `ocyx`",
        ),
        (
            "oyx -> oy,ox", {}, PatternError,
            "Layer: `oyx -> oy,ox` describes filters of one channel for each group of channels; "
            "got in_channels=4, out_channels=6, groups=1. Give groups=in_channels, or a pattern "
            "of weights `ocyx`",
        ),
        (
            "ocyx -> oc,cyx", {"rank": [1, 2]}, RankError,
            "Layer: `rank` of bond R must be one integer, or one for each of 4 batch values (c) of "
            "`ocyx -> oc,cyx`; got 2",
        ),
        (
            "ocyx -> oc,cyx", {"rank": {"S": 1}}, RankError,
            "Layer: `rank` must name the bonds R of `ocyx -> oc,cyx`; got {'S': 1}",
        ),
        (
            "ocyx -> oc,cyx", {"rank": 0}, RankError,
            "Layer: `rank` must be >= 1 (or 0 for some batch values); got 0",
        ),
        (
            "ocyx -> oc,cyx", {"rank": 1.5}, ArgumentTypeError,
            "Layer: `rank` must be integers; got 1.5 for bond R",
        ),
        (
            "ocyx -> oc,cyx", {"stride": (1, 2, 3)}, ArgumentError,
            "Layer: `stride` must have one integer for each of 2 axes; got (1, 2, 3)",
        ),
        (
            "ocyx -> oc,cyx", {"padding": "full"}, ArgumentError,
            "Layer: `padding` must be 'same', 'valid' or integers; got 'full'",
        ),
        (
            "ocyx -> oc,cyx", {"kernel_size": 0}, ArgumentError,
            "Layer: `kernel_size` must be >= 1; got 0",
        ),
        (
            "ocyx -> oc,cyx", {"dilation": "2"}, ArgumentTypeError,
            "Layer: `dilation` must be an integer or one for each of 2 axes; got '2'",
        ),
        (
            "ocyx -> oc,cyx", {"in_channels": 4.0}, ArgumentTypeError,
            "Layer: `in_channels` must be an integer; got 4.0",
        ),
        (
            "ocyx -> oc,cyx", {"groups": 4}, ArgumentError,
            "Layer: `groups` must divide both numbers of channels; got groups=4, in_channels=4, "
            "out_channels=6",
        ),
        (
            "ocyx -> oc,cyx", {"padding_mode": "mirror"}, ArgumentError,
            "Layer: `padding_mode` must be one of zeros, reflect, replicate, circular; got "
            "'mirror'",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(
    pattern: str, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        lower(make(pattern, **arguments))
    assert str(caught.value) == message


def test_a_factor_with_taps_that_are_not_evenly_spaced_is_refused() -> None:
    scheme = make("oc(Xax) -> oXx,ca", kernel_size=8, sizes={"X": 2, "a": 2})
    with pytest.raises(PatternError, match="its taps are not evenly spaced"):
        lower(scheme)


def test_a_pattern_with_other_axes_than_the_layer_is_refused() -> None:
    spec = ConvSpec.make("Layer", 1, in_channels=2, out_channels=2, kernel_size=3)
    with pytest.raises(PatternError, match="`ocyx -> oc,cyx` has 2 spatial axes"):
        Scheme.make("Layer", "ocyx -> oc,cyx", spec, rank=1)


def test_fans_are_those_of_the_sums_that_are_made() -> None:
    depthwise, pointwise = lower(make("ocyx -> oc,cyx", 2))[1]
    assert (depthwise.fan_in, pointwise.fan_in) == (9, 4 * 2)
    assert (depthwise.fan_out, pointwise.fan_out) == (9 * 2, 6)
    assert math.prod(depthwise.weight_shape) == 4 * 2 * 9
