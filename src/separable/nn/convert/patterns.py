"""Patterns that a layer may have, and the adaptation of image patterns to other layers."""

from __future__ import annotations

from separable.errors import PatternError
from separable.lowering.conv_spec import ConvSpec
from separable.lowering.scheme import Scheme
from separable.pattern import Pattern, parse

__all__ = ["AUTO", "adapted", "candidates", "if_it_fits", "scheme_of"]

AUTO = "auto"
SPACE = "zyx"

_SPATIAL = {2: "ocyx -> ox,cy", 3: "oczyx -> oxS,SyR,Rcz"}


def adapted(pattern: str | Pattern, ndim: int) -> Pattern:
    """Return a pattern for weights with `ndim` spatial axes.

    A pattern that keeps the spatial axes together (``ocyx -> oc,cyx``) says the same for one, two
    or three of them. One that separates them (``ocyx -> ox,cy``) does not.

    Raises
    ------
    PatternError
        If the pattern has other spatial axes and separates them.

    Examples
    --------
    >>> str(adapted("ocyx -> oc,cyx", 3)), str(adapted("ocyx -> oR,RyxS,Sc", 1))
    ('oczyx -> oc,czyx', 'ocx -> oR,RxS,Sc')
    """
    parsed = parse(pattern) if isinstance(pattern, str) else pattern
    spatial = [axis for axis in parsed.axes if "o" not in axis and "c" not in axis]
    if len(spatial) == ndim:
        return parsed
    block = "".join(spatial)
    together = all(block in f or not set(block) & set(f) for f in parsed.factors)
    channels = parsed.axes[: parsed.ndim - len(spatial)]
    if not together or not block or any(len(axis) > 1 for axis in spatial):
        axes = "one axis" if ndim == 1 else f"{ndim} axes"
        raise PatternError(f"`{parsed}` separates {len(spatial)} spatial axes; this has {axes}")
    space = SPACE[-ndim:]
    factors = tuple(f.replace(block, space) for f in parsed.factors)
    return Pattern((*channels, *space), factors)


def candidates(spec: ConvSpec) -> tuple[Pattern, ...]:
    """Return the patterns that "auto" tries: depthwise first, pointwise first, spatial, Tucker-2.

    A kernel of one tap separates into two pointwise steps with fewer channels between them. Filters
    that read one channel, as those of a depthwise layer, have factors of their own along each
    spatial axis.

    Examples
    --------
    >>> spec = ConvSpec.make("layer", 2, in_channels=4, out_channels=8, kernel_size=3)
    >>> [str(p) for p in candidates(spec)]
    ['ocyx -> oc,cyx', 'ocyx -> oc,oyx', 'ocyx -> ox,cy', 'ocyx -> oR,RyxS,Sc']
    >>> spec = ConvSpec.make("layer", 2, in_channels=8, out_channels=8, kernel_size=3, groups=8)
    >>> [str(p) for p in candidates(spec)]
    ['cyx -> cy,cx']
    """
    space = SPACE[-spec.ndim :]
    if max(spec.kernel_size) == 1:
        return () if spec.is_depthwise else (parse(f"oc{space} -> o{space},c"),)
    own = _of_filters(spec)
    if spec.is_depthwise:
        return own
    found = [f"oc{space} -> oc,c{space}", f"oc{space} -> oc,o{space}"]
    if spec.ndim in _SPATIAL and sum(k > 1 for k in spec.kernel_size) == spec.ndim:
        found.append(_SPATIAL[spec.ndim])
    return (*(parse(p) for p in [*found, f"oc{space} -> oR,R{space}S,Sc"]), *own)


def _of_filters(spec: ConvSpec) -> tuple[Pattern, ...]:
    """Return the patterns of filters of one channel: one factor per spatial axis for each filter."""
    long = [a for a, k in zip(SPACE[-spec.ndim :], spec.kernel_size, strict=True) if k > 1]
    if spec.in_channels != spec.groups or len(long) < 2:
        return ()
    channel = "c" if spec.is_depthwise and spec.out_channels == spec.in_channels else "o"
    space = SPACE[-spec.ndim :]
    first, last = space[0], space[1:]
    found = [f"{channel}{space} -> {channel}{first},{channel}{last}"]
    if spec.ndim == 3:
        found.append(f"{channel}zyx -> {channel}z,{channel}y,{channel}x")
    return tuple(parse(p) for p in found)


def scheme_of(pattern: Pattern, spec: ConvSpec) -> Scheme:
    """Fit a pattern to a layer, at rank 1.

    Raises
    ------
    PatternError
        If it does not fit, or leaves one factor all there is.
    """
    if spec.is_depthwise and {"o", "c"} <= set(pattern.letters):
        raise PatternError("depthwise already")
    if spec.is_depthwise and "o" not in pattern.letters and spec.out_channels > spec.groups:
        pattern = _of_outputs(pattern)
    scheme = Scheme.make("FactoredConv", pattern, spec, rank=1)
    busy = sum(
        any(scheme.size(a) > 1 for a in scheme.pattern.own(k))
        for k in range(len(scheme.pattern.factors))
    )
    if busy < 2:
        raise PatternError("nothing to separate")
    return scheme


def if_it_fits(pattern: Pattern, spec: ConvSpec) -> Scheme | None:
    """Return the scheme of a pattern for a layer, or None if it does not fit."""
    try:
        return scheme_of(pattern, spec)
    except PatternError:
        return None


def _of_outputs(pattern: Pattern) -> Pattern:
    """Return a pattern of one filter per channel for layers with several filters per channel."""

    def renamed(text: str) -> str:
        return text.replace("c", "o")

    if "c" not in pattern.letters:  # yx -> y,x
        return Pattern(("o", *pattern.axes), tuple(f"o{f}" for f in pattern.factors))
    return Pattern(tuple(map(renamed, pattern.axes)), tuple(map(renamed, pattern.factors)))
