"""Cost of a convolution that is separated by a pattern: one convolution per factor.

`separable.lowering` decides the order of the factors and the sizes of each step, for the layers of
`separable.nn` and for the counts here alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_lowercase

from separable.cost.count import Cost, mac_cost
from separable.cost.geometry import Convolution, Padding, outputs_along
from separable.errors import ArgumentError, PatternError
from separable.lowering import ConvSpec, Scheme, StepShape, step_shapes
from separable.pattern import Pattern, parse

__all__ = ["factor_costs", "factored", "separate"]

Rank = int | Mapping[str, int]


def factored(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    filters: int,
    pattern: str,
    *,
    rank: Rank = 1,
    sizes: Mapping[str, int] | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    bias: bool = False,
    itemsize: int = 4,
) -> Cost:
    """Count a convolution layer that a pattern separates; the sum of `factor_costs`.

    Parameters
    ----------
    input_shape, kernel_shape, filters, stride, padding, dilation, bias, itemsize
        See `conv`; stride, dilation and padding belong to the factor that has the axis.
    pattern : str
        Pattern of the weights ``(o, c, space)``, for instance ``"ocyx -> oc,cyx"``.
    rank : int or mapping of bond to int
        Size of each bond; 1 by default, as in the usual depthwise separable layer.
    sizes : mapping of letter to int, optional
        Sizes of the letters of groups ``(Yy)``.

    Raises
    ------
    PatternError
        If the pattern cannot be read, or is not one of a convolution's weights.
    ArgumentError, ArgumentTypeError
        If a number is out of its range or does not fit the others.

    Examples
    --------
    >>> factored((12, 12, 3), (5, 5), 256, "ocyx -> oc,cyx").multiplications
    53952
    >>> factored((15, 15, 1), (3, 3), 1, "ocyx -> ocy,ocx").multiplications
    1092
    """
    found = factor_costs(
        input_shape, kernel_shape, filters, pattern, rank=rank, sizes=sizes, stride=stride,
        padding=padding, dilation=dilation, bias=bias, itemsize=itemsize,
    )  # fmt: skip
    return sum(found.values(), Cost())


def factor_costs(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    filters: int,
    pattern: str,
    *,
    rank: Rank = 1,
    sizes: Mapping[str, int] | None = None,
    stride: int | Sequence[int] = 1,
    padding: Padding = "valid",
    dilation: int | Sequence[int] = 1,
    bias: bool = False,
    itemsize: int = 4,
) -> dict[str, Cost]:
    """Count each factor of a separated convolution layer.

    Parameters
    ----------
    input_shape, kernel_shape, filters, pattern, rank, sizes
        See `factored`.
    stride, padding, dilation, bias, itemsize
        See `factored`.

    Returns
    -------
    dict of str to Cost
        Cost of each factor, by its letters, in running order: the order with the fewest
        multiplications.

    Raises
    ------
    PatternError, ArgumentError, ArgumentTypeError
        See `factored`.

    Examples
    --------
    >>> found = factor_costs((12, 12, 3), (5, 5), 256, "ocyx -> oc,cyx")
    >>> {letters: cost.multiplications for letters, cost in found.items()}
    {'cyx': 4800, 'oc': 49152}
    """
    layer = Convolution.of(
        input_shape, kernel_shape, filters, stride=stride, padding=padding, dilation=dilation,
        bias=bias, itemsize=itemsize,
    )  # fmt: skip
    return separate(layer, parse(pattern), rank, sizes)


def separate(
    layer: Convolution, pattern: Pattern, rank: Rank = 1, sizes: Mapping[str, int] | None = None
) -> dict[str, Cost]:
    """Count each factor of a convolution separated by a pattern, in running order.

    A pattern describes the weights of one group of channels, those of transposed convolutions too.

    Raises
    ------
    PatternError
        If the pattern is not one of this convolution's weights.
    ArgumentError
        If `rank` is not positive.

    Examples
    --------
    >>> from separable.pattern import parse
    >>> layer = Convolution((12, 12), 3, 256, (5, 5))
    >>> [cost.multiplications for cost in separate(layer, parse("ocyx -> oc,oyx")).values()]
    [110592, 409600]
    """
    scheme = _scheme(layer, pattern, rank, sizes)
    # For `lowering`, a pattern of one factor has no bond; here its rank counts as that many kernels.
    terms = 1 if scheme.bonds else _ranks(pattern, rank)[pattern.bonds]
    found: dict[str, Cost] = {}
    space = layer.space
    for step in step_shapes(scheme):
        outputs = tuple(_outputs(layer, step, axis, size) for axis, size in enumerate(space))
        positions = math.prod(space if layer.transposed else outputs)
        macs = layer.batch * positions * step.multiplications * terms
        moved = math.prod(space) * step.channels_in + math.prod(outputs) * step.channels_out
        found[pattern.factors[step.factor]] = mac_cost(
            macs, step.weights * terms, layer.batch * moved, layer.itemsize
        )
        space = outputs
    if layer.bias:
        last = next(reversed(found))
        found[last] = _with_bias(found[last], layer)
    return found


def _outputs(layer: Convolution, step: StepShape, axis: int, size: int) -> int:
    """Return the size of a spatial axis after a step."""
    pads = layer.padding[axis] if step.pads[axis] else (0, 0)
    if layer.transposed and step.pads[axis]:
        reach = step.dilation[axis] * (step.kernel_size[axis] - 1)
        extra = layer.output_padding[axis] - sum(pads)
        return (size - 1) * step.stride[axis] + reach + extra + 1
    return outputs_along(size, step.kernel_size[axis], step.stride[axis], step.dilation[axis], pads)


def _scheme(
    layer: Convolution, pattern: Pattern, rank: Rank, sizes: Mapping[str, int] | None
) -> Scheme:
    """Check a pattern of a layer's weights ``(o, c, space)`` and fit it to the layer."""
    shape = (layer.filters // layer.groups, layer.channels // layer.groups, *layer.kernel)
    if pattern.ndim != len(shape):
        raise PatternError(
            f"pattern `{pattern}` describes a kernel with {pattern.ndim} axes; the weights of a "
            f"convolution in {layer.ndim}-D have {len(shape)}: {shape}. "
            'Start with the channels, for instance "ocyx -> oc,cyx"'
        )
    for axis in pattern.axes[2:]:
        shared = [a for a in axis if sum(a in f for f in pattern.factors) > 1]
        if shared:
            raise PatternError(
                f"spatial letter `{shared[0]}` occurs in several factors of `{pattern}`: no "
                "convolution computes that. Leave it to one factor"
            )
    known = pattern.sizes(shape, sizes)
    ranks = _ranks(pattern, rank)
    renamed = _with_channel_letters(pattern)
    letters = dict(zip(pattern.letters, renamed.letters, strict=True))
    spec = ConvSpec(
        layer.channels, layer.filters, layer.kernel, layer.stride, (0,) * layer.ndim,
        layer.dilation, layer.groups, layer.bias, "zeros", layer.transposed,
        layer.output_padding if layer.transposed else (),
    )  # fmt: skip
    return Scheme.make(
        "layer", renamed, spec, rank=dict(zip(renamed.bonds, ranks.values(), strict=True)),
        sizes={letters[a]: n for a, n in known.items()},
    )  # fmt: skip


def _ranks(pattern: Pattern, rank: Rank) -> dict[str, int]:
    """Return the rank of each bond; 1 for bonds that are not named."""
    ranks = rank if isinstance(rank, Mapping) else dict.fromkeys(pattern.bonds, rank)
    known = {bond: ranks.get(bond, 1) for bond in pattern.bonds}
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in known.values()):
        raise ArgumentError(f"`rank` must be a whole number >= 1; got {rank!r}")
    unknown = sorted(set(ranks) - set(pattern.bonds))
    if unknown:
        raise ArgumentError(f"`rank` names {unknown}; the bonds of `{pattern}` are {pattern.bonds}")
    return known


def _with_channel_letters(pattern: Pattern) -> Pattern:
    """Exchange letters so that `o` labels the filters, `c` the channels, and `g` nothing.

    `cost` reads the role of a letter from its place alone; `lowering` knows these three by name.
    """
    if "o" not in pattern.axes[0]:
        pattern = _exchanged(pattern, "o", pattern.axes[0][-1])
    if "c" not in pattern.axes[1]:
        pattern = _exchanged(pattern, "c", pattern.axes[1][-1])
    if "g" in pattern.letters:
        used = "ocg" + pattern.letters
        pattern = _exchanged(pattern, "g", next(a for a in ascii_lowercase if a not in used))
    return pattern


def _exchanged(pattern: Pattern, one: str, other: str) -> Pattern:
    table = str.maketrans(one + other, other + one)
    return Pattern(
        tuple(axis.translate(table) for axis in pattern.axes),
        tuple(factor.translate(table) for factor in pattern.factors),
    )


def _with_bias(cost: Cost, layer: Convolution) -> Cost:
    outputs = layer.batch * math.prod(layer.outputs) * layer.filters
    return replace(
        cost,
        parameters=cost.parameters + layer.filters,
        weight_bytes=cost.weight_bytes + layer.filters * layer.itemsize,
        additions=cost.additions + outputs,
    )
