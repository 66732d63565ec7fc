"""The figures for multiplications that readers of introductions know, and what adds up."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from separable import cost, errors
from separable.cost import cost_text
from separable.lowering import ConvSpec, Scheme, lower, step_shapes


@pytest.mark.parametrize(
    ("kernel", "dense", "separable", "ratio"),
    [
        ((3, 3), 9, 6, 1.5),
        ((7, 7), 49, 14, 3.5),
        ((7, 7, 7), 343, 21, 16.3),
        ((10, 10, 10), 1000, 30, 33.3),
    ],
)
def test_multiplications_an_output(
    kernel: tuple[int, ...], dense: int, separable: int, ratio: float
) -> None:
    full, passes = cost.dense_filter(kernel), cost.separable_filter(kernel)
    assert (full.multiplications, passes.multiplications) == (dense, separable)
    assert round(full.multiplications / passes.multiplications, 1) == ratio
    side, axes = kernel[0], len(kernel)
    assert math.isclose(full.multiplications / passes.multiplications, side ** (axes - 1) / axes)


def test_layer_3x3_64_to_128() -> None:
    assert cost.conv((3, 3, 64), (3, 3), 128).multiplications == 73_728
    assert cost.separable((3, 3, 64), (3, 3), 128).multiplications == 8_768
    assert round(73_728 / 8_768, 2) == 8.41


@pytest.mark.parametrize(
    ("shape", "kernel", "filters", "dense", "separable", "ratio"),
    [
        ((12, 12, 3), (5, 5), 256, 1_228_800, 53_952, 22.8),
        ((15, 15, 3), (3, 3), 10, 45_630, 9_633, 4.74),
    ],
)
def test_layers(
    shape: tuple[int, ...], kernel: tuple[int, ...], filters: int, dense: int, separable: int,
    ratio: float,
) -> None:  # fmt: skip
    full = cost.conv(shape, kernel, filters).multiplications
    apart = cost.separable(shape, kernel, filters).multiplications
    assert (full, apart) == (dense, separable)
    assert float(f"{full / apart:.3g}") == ratio


def test_break_even_multiplier() -> None:
    """Cout K^N / (K^N + Cout): 8.7 for 3x3 with 256 filters, so M = 9 costs 3 % more than dense."""
    dense = cost.conv((3, 3, 1), (3, 3), 256).multiplications
    nine = cost.separable((3, 3, 1), (3, 3), 256, depth_multiplier=9).multiplications
    four = cost.separable((3, 3, 1), (3, 3), 256, depth_multiplier=4).multiplications
    assert round(nine / dense, 2) == 1.04 or round(nine / dense, 2) == 1.03
    assert round(dense / four, 1) == 2.2


def test_against_a_loop_over_outputs() -> None:
    """Count by brute force: every output, every weight it reads."""
    height, width, channels, filters, k, stride = 9, 8, 3, 5, 3, 2
    rows, columns = range(0, height - k + 1, stride), range(0, width - k + 1, stride)
    dense = depthwise = pointwise = 0
    for _ in rows:
        for _ in columns:
            dense += filters * channels * k * k
            depthwise += channels * k * k
            pointwise += channels * filters
    shape = (height, width, channels)
    assert cost.conv(shape, (k, k), filters, stride=stride).multiplications == dense
    found = cost.separable(shape, (k, k), filters, stride=stride)
    assert found.multiplications == depthwise + pointwise
    assert found.parameters == channels * k * k + channels * filters
    assert found.flops == 2 * found.macs == 2 * found.multiplications


def test_depth_multiplier_2_gives_8x8x6() -> None:
    """12x12x3 with 5x5 and depth multiplier 2: the depthwise output is 8x8x6."""
    parts = cost.factor_costs((12, 12, 3), (5, 5), 10, "ocyx -> oc,cyx", rank=2)
    between = (parts["cyx"].activation_bytes - 4 * 12 * 12 * 3) // 4
    assert between == 8 * 8 * 6
    assert parts["cyx"].multiplications == 8 * 8 * 6 * 25
    assert parts["oc"].multiplications == 8 * 8 * 6 * 10


def test_published_parts_of_the_worked_layers() -> None:
    """4,800 + 49,152 and 4,563 + 5,070 and 585 + 507: where slips stand in introductions."""

    def parts(shape: tuple[int, ...], kernel: tuple[int, ...], filters: int, p: str) -> list[int]:
        found = cost.factor_costs(shape, kernel, filters, p)
        return [c.multiplications for c in found.values()]

    assert parts((12, 12, 3), (5, 5), 256, "ocyx -> oc,cyx") == [4_800, 49_152]
    assert parts((15, 15, 3), (3, 3), 10, "ocyx -> oc,cyx") == [4_563, 5_070]
    assert parts((15, 15, 1), (3, 3), 1, "ocyx -> ocy,ocx") == [585, 507]
    assert cost.conv((15, 15, 1), (3, 3), 1).multiplications == 1_521
    assert round(1_521 / 1_092, 2) == 1.39
    assert cost.Convolution((12, 12), 3, 256, (5, 5)).outputs == (8, 8)


@given(
    side=st.integers(1, 6), axes=st.integers(1, 3), channels=st.integers(1, 9),
    filters=st.integers(1, 300), multiplier=st.integers(1, 9), more=st.integers(0, 5),
)  # fmt: skip
def test_dense_over_separable(
    side: int, axes: int, channels: int, filters: int, multiplier: int, more: int
) -> None:
    """Cout K^N / (M (K^N + Cout)), whatever the size of the image and the input's channels."""
    shape, kernel = (*[side + more] * axes, channels), (side,) * axes
    dense = cost.conv(shape, kernel, filters).multiplications
    apart = cost.separable(shape, kernel, filters, depth_multiplier=multiplier).multiplications
    taps = side**axes
    assert dense * multiplier * (taps + filters) == apart * filters * taps


def test_the_curve_for_3_output_channels_falls_to_a_third() -> None:
    """1/Cout + 1/K^2 for Cout = 3 and K = 2^5 .. 2^10: from 0.33431 towards 1/3."""
    ratios = [
        cost.separable((k, k, 1), (k, k), 3).multiplications
        / cost.conv((k, k, 1), (k, k), 3).multiplications
        for k in (2**n for n in range(5, 11))
    ]
    assert round(ratios[0], 5) == 0.33431
    assert ratios == sorted(ratios, reverse=True)
    assert all(1 / 3 < r < 0.3344 for r in ratios)
    assert math.isclose(ratios[-1], 1 / 3 + 2**-20, rel_tol=1e-12)


def test_8_to_9_times() -> None:
    """3x3 with 64 .. 1024 output channels: 7.9 to 8.9."""
    ratios = [
        cost.conv((3, 3, 8), (3, 3), n).multiplications
        / cost.separable((3, 3, 8), (3, 3), n).multiplications
        for n in (64, 128, 256, 512, 1024)
    ]
    assert [round(ratios[0], 1), round(ratios[-1], 1)] == [7.9, 8.9]
    assert ratios == sorted(ratios)


@pytest.mark.parametrize(("kernel", "exact"), [((3, 3), 8.7), ((5, 5), 22.8), ((3, 3, 3), 24.4)])
def test_break_even_multipliers(kernel: tuple[int, ...], exact: float) -> None:
    shape = (*kernel, 1)
    dense = cost.conv(shape, kernel, 256).multiplications
    one = cost.separable(shape, kernel, 256).multiplications
    assert round(dense / one, 1) == exact
    below, above = math.floor(exact), math.ceil(exact)
    assert cost.separable(shape, kernel, 256, depth_multiplier=below).multiplications < dense
    assert cost.separable(shape, kernel, 256, depth_multiplier=above).multiplications > dense


def test_volumes_pay_most() -> None:
    """3x3x3 with multiplier 4 is 6.1 times cheaper."""
    dense = cost.conv((3, 3, 3, 1), (3, 3, 3), 256).multiplications
    four = cost.separable((3, 3, 3, 1), (3, 3, 3), 256, depth_multiplier=4).multiplications
    assert round(dense / four, 1) == 6.1


def test_a_depthwise_layer_is_bound_by_memory() -> None:
    """It moves as many activations as the dense one, with Cout times fewer multiplications."""
    dense = cost.conv((56, 56, 64), (3, 3), 64, padding="same")
    depthwise = cost.conv((56, 56, 64), (3, 3), 64, padding="same", groups=64)
    assert depthwise.activation_bytes == dense.activation_bytes
    assert dense.multiplications == 64 * depthwise.multiplications
    assert 0.9 < depthwise.bytes / dense.bytes < 1
    assert depthwise.multiplications_per_byte < 1.125  # 9 for 8 bytes, and the weights
    assert dense.multiplications_per_byte > 60


@pytest.mark.parametrize("side", [3, 7, 14])
def test_attention_crosses_a_separable_layer_where_n_is_k_squared(side: int) -> None:
    """N C k^2 + N C^2 against N^2 C + N C^2."""
    channels, kernel = 32, (side, side)
    for height, width in itertools.product((side - 1, side, side + 1), repeat=2):
        positions = height * width
        attention = cost.attention(positions, channels, counted="alike").multiplications
        layer = cost.separable((height, width, channels), kernel, channels, padding="same")
        assert attention == positions**2 * channels + positions * channels**2
        assert (attention > layer.multiplications) == (positions > side**2)
        assert (attention == layer.multiplications) == (positions == side**2)


def test_attention_exact_against_loops() -> None:
    positions, channels, heads = 5, 6, 3
    macs = scores = 0
    for _ in range(4 * positions * channels):  # every element of q, k, v and the output
        macs += channels
    for _ in itertools.product(range(heads), range(positions), range(positions)):
        scores += 1
        macs += 2 * channels // heads  # q . k, and one share of v
    found = cost.attention(positions, channels, heads, bias=True)
    assert (found.macs, found.multiplications) == (macs, macs + 2 * scores)
    assert found.parameters == 4 * (channels**2 + channels)
    assert found.others == 2 * scores


# Geometry


def windows(size: int, k: int, stride: int, dilation: int, pads: tuple[int, int]) -> int:
    """Count outputs one by one."""
    padded = size + sum(pads)
    return sum(at + dilation * (k - 1) < padded for at in range(0, padded, stride))


@given(
    size=st.integers(1, 12), k=st.integers(1, 5), stride=st.integers(1, 4),
    dilation=st.integers(1, 3), pad=st.integers(0, 4), channels=st.integers(1, 3),
    filters=st.integers(1, 3), groups=st.integers(1, 3),
)  # fmt: skip
def test_outputs_one_by_one(
    size: int, k: int, stride: int, dilation: int, pad: int, channels: int, filters: int,
    groups: int,
) -> None:  # fmt: skip
    options = {"stride": stride, "dilation": dilation, "groups": groups, "bias": True}
    shape = (size, channels * groups)
    expected = windows(size, k, stride, dilation, (pad, pad))
    if expected == 0:
        with pytest.raises(errors.ArgumentError, match=r"`kernel_shape` .* must fit into"):
            cost.conv(shape, (k,), filters * groups, padding=pad, **options)
        return
    found = cost.conv(shape, (k,), filters * groups, padding=pad, **options)
    products = sum(k * channels for _ in range(expected) for _ in range(filters * groups))
    assert found.multiplications == found.macs == products
    assert found.additions == expected * filters * groups
    assert found.parameters == filters * groups * (k * channels + 1)
    same = cost.Convolution.of(shape, (k,), 1 * groups, padding="same", **options)
    assert same.outputs == (math.ceil(size / stride),)
    assert windows(size, k, stride, dilation, same.padding[0]) == math.ceil(size / stride)
    back = cost.Convolution.of(
        shape, (k,), groups, padding="same", transposed=True, stride=stride, dilation=dilation,
        groups=groups,
    )  # fmt: skip
    assert back.outputs == (size * stride,)
    assert back.multiplications == size * k * channels * groups


# Any pattern


def contracted(pattern: str, shape: tuple[int, ...], rank: int) -> int:
    """Multiply a convolution's weights, factor by factor, with data of one position, and count.

    An einsum of explicit loops: the data has the letters of the input's channels; a factor is
    applied where a kernel fits once, so that its letters of space are summed.
    """
    from separable.pattern import parse

    parsed = parse(pattern)
    sizes = {**parsed.sizes(shape), **dict.fromkeys(parsed.bonds, rank)}
    outputs, inputs = parsed.axes[0], parsed.axes[1]
    channels = [[a for a in f if a in outputs + inputs + parsed.bonds] for f in parsed.operands]
    space = [[a for a in f if a not in outputs + inputs + parsed.bonds] for f in parsed.operands]
    best = None
    for order in itertools.permutations(range(len(parsed.factors))):
        letters, total = set(inputs), 0
        for at, k in enumerate(order):
            later = set(outputs).union(*(channels[j] for j in order[at + 1 :]))
            letters |= set(channels[k])
            loops = [range(sizes[a]) for a in [*letters, *space[k]]]
            total += sum(1 for _ in itertools.product(*loops))
            letters &= later
        best = total if best is None else min(best, total)
    assert best is not None
    return best


PATTERNS = [
    "ocyx -> oc,cyx", "ocyx -> oc,oyx", "ocyx -> ox,cy", "ocyx -> oR,RyxS,Sc",
    "ocyx -> oR,RyS,SxT,Tc", "ocyx -> o,c,y,x", "ocyx -> ocy,ocx", "ocyx -> oc,yx",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_patterns_at_one_position(pattern: str, rank: int) -> None:
    """A 1x1 output of one-tap-wide steps: the order of factors is the cheapest one."""
    found = cost.factored((1, 1, 3), (1, 1), 4, pattern, rank=rank)
    assert found.multiplications == contracted(pattern, (4, 3, 1, 1), rank)
    shape = (2, 5, 3)
    wide = cost.factored(shape, (1, 1), 4, pattern, rank=rank)
    assert wide.multiplications == 10 * contracted(pattern, (4, 3, 1, 1), rank)


@pytest.mark.parametrize("pattern", [*PATTERNS[:6], "oc(Yy)(Xx) -> ocYX,ocyx"])
@pytest.mark.parametrize("rank", [1, 3])
def test_shapes_of_steps_agree_with_the_steps(pattern: str, rank: int) -> None:
    """`cost` counts shapes, `nn` builds modules of steps: both have the same sizes."""
    spec = ConvSpec.make(
        "layer", 2, in_channels=4, out_channels=6, kernel_size=(4, 6), stride=2, dilation=2
    )
    sizes = {"y": 2, "x": 3} if "Y" in pattern else None
    scheme = Scheme.make("layer", pattern, spec, rank=rank, sizes=sizes)
    shapes, (same, steps) = step_shapes(scheme), lower(scheme)
    assert same is scheme
    for shape, step in zip(shapes, steps, strict=True):
        assert (shape.weights, shape.blocks) == (math.prod(step.weight_shape), step.shared)
        assert (shape.groups, shape.channels_out) == (step.groups, step.outputs)
        assert shape.multiplications * shape.positions == step.multiplications
        for name in ("factor", "kernel_size", "stride", "dilation", "positions"):
            assert getattr(shape, name) == getattr(step, name)


def test_counting_a_layer_needs_no_pytorch() -> None:
    code = "import sys, separable.lowering, separable.cost; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_patterns_by_hand() -> None:
    def parts(pattern: str, rank: int, **options: int) -> dict[str, int]:
        found = cost.factor_costs((10, 12, 3), (3, 5), 4, pattern, rank=rank, **options)
        return {k: c.multiplications for k, c in found.items()}

    assert parts("ocyx -> oc,cyx", 2) == {"cyx": 64 * 2 * 3 * 15, "oc": 64 * 2 * 3 * 4}
    # Pointwise first runs at the input's size.
    assert parts("ocyx -> oc,oyx", 1) == {"oc": 120 * 3 * 4, "oyx": 64 * 4 * 15}
    # The first of two passes leaves 8 rows of 12.
    assert parts("ocyx -> ox,cy", 2) == {"cy": 96 * 2 * 3 * 3, "ox": 64 * 2 * 4 * 5}
    tucker = parts("ocyx -> oR,RyxS,Sc", 2)
    assert tucker == {"Sc": 120 * 2 * 3, "RyxS": 64 * 4 * 15, "oR": 64 * 2 * 4}
    strided = parts("ocyx -> ox,cy", 1, stride=2)
    assert strided == {"cy": 4 * 12 * 9, "ox": 4 * 4 * 4 * 5}


def test_ranks_bond_by_bond_and_groups_of_letters() -> None:
    ranks = {"R": 2, "S": 3}
    found = cost.factor_costs((5, 5, 8), (3, 3), 9, "ocyx -> oR,RyxS,Sc", rank=ranks)
    assert [c.parameters for c in found.values()] == [3 * 8, 2 * 9 * 3, 9 * 2]
    kronecker = cost.factor_costs(
        (12, 12, 2), (4, 4), 3, "oc(Yy)(Xx) -> ocYX,ocyx", sizes={"y": 2, "x": 2}
    )
    # As written: the outer 2x2, with holes, leaves 10x10, the inner one 9x9.
    assert sorted(c.multiplications for c in kronecker.values()) == [81 * 6 * 4, 100 * 6 * 4]


def test_a_bias_belongs_to_the_last_factor() -> None:
    without = cost.factor_costs((6, 6, 3), (3, 3), 4, "ocyx -> oc,cyx")
    found = cost.factor_costs((6, 6, 3), (3, 3), 4, "ocyx -> oc,cyx", bias=True)
    assert found["cyx"] == without["cyx"]
    change = found["oc"] - without["oc"]
    assert change == cost.Cost(parameters=4, weight_bytes=16, additions=16 * 4)


# Text


@given(st.integers(0, 10**18))
def test_quantities_are_right_within_half_a_digit(count: int) -> None:
    units = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
    number, _, unit = cost_text.quantity(count).partition(" ")
    assert math.isclose(float(number) * units[unit], count, rel_tol=0.006, abs_tol=1e-9)
    assert len(number) <= 4 or count >= 10**18 - 10**15
    sizes = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
    number, _, unit = cost_text.size_text(count).partition(" ")
    assert math.isclose(float(number) * sizes[unit], count, rel_tol=0.006, abs_tol=1e-9)


def test_tables_fold_words_and_never_numbers() -> None:
    printed = cost_text.table(("name", "n"), [("a" * 100, "1,000"), (), ("b", "2")], width=30)
    assert max(map(len, printed.splitlines())) <= 30
    assert "1,000" in printed
    assert printed.count("a") == 101  # and that of the heading
    assert cost_text.quantity(math.nan) == "-"


def test_costs_add_up() -> None:
    a, b = cost.dense_filter((3, 3), outputs=10), cost.dense_filter((5, 5), outputs=10)
    assert (a + b).multiplications == 340
    assert (a + b).weight_bytes == 4 * 34
    assert math.isnan(cost.Cost().multiplications_per_byte)
    with pytest.raises(TypeError):
        a + 1  # type: ignore[operator]


def test_errors() -> None:
    with pytest.raises(errors.ArgumentError, match="`kernel_shape` must be sizes >= 1; got"):
        cost.dense_filter((3, 0))
    with pytest.raises(errors.ArgumentError, match="must fit into the input"):
        cost.conv((3, 3, 1), (5, 5), 4)
    with pytest.raises(errors.ArgumentError, match=r"channels; .* for instance \(3, 3, 3\)"):
        cost.conv((3, 3), (3, 3), 4)
    with pytest.raises(errors.ArgumentError, match=r"size for each axis, for instance \(5, 5\)"):
        cost.conv((9, 9, 3), (5,), 4)


LAYER = ((9, 9, 4), (3, 3), 8)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"groups": 3}, errors.ArgumentError, "`groups` must divide the channels and the `filters`; got groups=3, 4 channels, filters=8"),
        ({"stride": 0}, errors.ArgumentError, "`stride` must be whole numbers >= 1 for each of 2 axes; got 0"),
        ({"stride": (1, 1, 1)}, errors.ArgumentError, "`stride` must be whole numbers >= 1 for each of 2 axes; got (1, 1, 1)"),
        ({"dilation": 1.5}, errors.ArgumentTypeError, "`dilation` must be whole numbers; got 1.5"),
        ({"padding": "full"}, errors.ArgumentError, "`padding` must be 'same', 'valid' or whole numbers; got 'full'"),
        ({"padding": -1}, errors.ArgumentError, "`padding` must be whole numbers >= 0 for each of 2 axes; got -1"),
        ({"dilation": 5}, errors.ArgumentError, "`kernel_shape` (3, 3) must fit into the input (9, 9) with dilation (5, 5). Pad it, for instance padding='same'"),
    ],
)  # fmt: skip
def test_messages_of_layers(
    options: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as caught:
        cost.conv(*LAYER, **options)  # type: ignore[arg-type]
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        ("yx -> y,x", {}, "pattern `yx -> y,x` describes a kernel with 2 axes; the weights of a convolution in 2-D have 4: (8, 4, 3, 3). Start with the channels, for instance \"ocyx -> oc,cyx\""),
        ("ocyx -> ox,cyx", {}, "spatial letter `x` occurs in several factors of `ocyx -> ox,cyx`: no convolution computes that. Leave it to one factor"),
        ("ocyx -> oc,cyx", {"rank": 0}, "`rank` must be a whole number >= 1; got 0"),
        ("ocyx -> oR,RyxS,Sc", {"rank": {"T": 2}}, "`rank` names ['T']; the bonds of `ocyx -> oR,RyxS,Sc` are RS"),
    ],
)  # fmt: skip
def test_messages_of_patterns(pattern: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the whole message is compared
        cost.factored(*LAYER, pattern, **options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_messages_of_others() -> None:
    with pytest.raises(errors.ArgumentError, match="`heads` must divide `channels`; got 3 and 8"):
        cost.attention(4, 8, 3)
    with pytest.raises(errors.ArgumentError, match="`positions` must be >= 1; got 0"):
        cost.attention(0, 8)
    with pytest.raises(errors.ArgumentError, match="`counted` must be 'exact' or 'alike'; got 'x'"):
        cost.attention(4, 8, counted="x")
    with pytest.raises(errors.ArgumentError, match="1 to 4 axes"):
        cost.separable((2,) * 6, (1,) * 5, 2)
