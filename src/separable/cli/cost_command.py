"""`separable cost`: multiplications and memory traffic of layers, dense and separable."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from separable import cost
from separable.cli.console import output, put
from separable.cli.networks_command import is_network_file, network_command, network_names
from separable.cli.option_groups import with_option_groups
from separable.cli.options import integers
from separable.cost import Convolution, Cost
from separable.cost.cost_text import ratio, size_text, table
from separable.cost.factored_layers_cost import separate
from separable.cost.geometry import describe
from separable.errors import ArgumentError
from separable.pattern import parse

__all__ = ["NETWORK", "cost_app"]

NETWORK = "NETWORK"
LIKE_FOR_LIKE = "like for like"  # in JSON: alike
ONE_PER_AXIS = "one pass per axis"
LEGEND = (
    "moved: bytes read and written, for inputs, outputs and weights in float32; mult/byte: "
    "multiplications per byte moved."
)
OPTIONS = {
    "input_shape": "--in",
    "kernel_shape": "--kernel",
    "filters": "--filters",
    "stride": "--stride",
    "padding": "--padding",
    "dilation": "--dilation",
    "groups": "--groups",
    "heads": "--heads",
    "rank": "--multiplier",
}


class _Costs(TyperGroup):
    """Command group that accepts the name of any network as a command."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is not None:
            return found
        known = network_names()
        elsewhere = cmd_name.startswith(("timm:", "torchvision:")) or is_network_file(cmd_name)
        if known is not None and cmd_name not in known and not elsewhere:
            layers = [name for name in self.list_commands(ctx) if name != NETWORK]
            raise ArgumentError(
                f"no layer or network {cmd_name!r}; there are {', '.join([*layers, *known])}, "
                "timm:NAME and torchvision:NAME where those are installed, and .onnx and .pt2 files"
            )
        return super().get_command(ctx, NETWORK)


cost_app = typer.Typer(
    cls=_Costs,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    help="Compare the cost of a dense and a separable layer or network.\n\n"
    "NETWORK is mobilenet_v1, xception, efficientnet_b0 to efficientnet_b7, unet or another "
    "network of the library (a wrong name prints the list), timm:NAME, torchvision:NAME, or an .onnx "
    "or .pt2 file. Counts are for one forward pass of one image; biases "
    "are not multiplications.",
)

Input = Annotated[
    str,
    typer.Option(
        "--in", help="Input size: space, then channels, for example 12x12x3.", show_default=False
    ),
]
KernelSize = Annotated[
    str, typer.Option("--kernel", "-k", help="Kernel size, for example 5x5.", show_default=False)
]
Filters = Annotated[int, typer.Option(help="Number of output channels.", show_default=False)]
Stride = Annotated[str, typer.Option(help="Stride: one number, or one per axis, for example 2x1.")]
Padding = Annotated[
    str, typer.Option(help="Padding: valid (none), same, or numbers, for example 1 or 1x0.")
]
Dilation = Annotated[str, typer.Option(help="Dilation: one number, or one per axis.")]
Json = Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")]


@dataclass(frozen=True)
class LayerOptions:
    """Options of a convolution layer, as they were typed: those of `cost conv` and `cost separable`."""

    input_shape: Input
    kernel: KernelSize
    filters: Filters
    stride: Stride = "1"
    padding: Padding = "valid"
    dilation: Dilation = "1"

    def layer(self, **others: Any) -> Convolution:
        """Return the layer; `others` are further arguments of `Convolution.of`."""
        numbers = {"--stride": self.stride, "--dilation": self.dilation}
        stride, dilation = (_one_or_each(name, text) for name, text in numbers.items())
        words = self.padding in ("same", "valid")
        padding = self.padding if words else _one_or_each("--padding", self.padding)
        return Convolution.of(
            integers("--in", self.input_shape, "x"), integers("--kernel", self.kernel, "x"),
            self.filters, stride=stride, padding=padding, dilation=dilation, **others,
        )  # fmt: skip


@cost_app.command("conv", short_help="Count a convolution layer and its separable version.")
@with_option_groups
def conv_command(
    options: LayerOptions,
    groups: Annotated[int, typer.Option(help="Number of channel groups.")] = 1,
    transposed: Annotated[
        bool, typer.Option("--transposed", help="Count the transposed layer.")
    ] = False,
    depth: Annotated[
        int,
        typer.Option(
            min=1,
            max=2,
            help="1: the layers; 2: also their steps, such as depthwise and pointwise.",
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Count a convolution layer and its separable versions.

    A dense layer is compared with a depthwise separable one. A layer that filters each channel on its own, also one
    of a single channel, is compared with one pass along each axis.
    """
    with _options_named():
        layer = options.layer(groups=groups, transposed=transposed)
        rows, parts = {_kind(layer): layer.cost}, {}
        if layer.groups == 1 and not layer.transposed:
            steps = separate(layer, parse(_pattern(layer, None)))
            parts = dict(zip(("depthwise", "pointwise"), steps.values(), strict=True))
            rows |= parts if depth > 1 else {}
            rows["separable"] = sum(parts.values(), Cost())
        passes = _passes(layer)
        rows |= passes if depth > 1 else {}
        if passes:
            rows[ONE_PER_AXIS] = sum(passes.values(), Cost())
    _show(layer, rows, as_json)
    if as_json:
        return
    if parts:
        _show_ratio(rows, layer, 1)
    if passes:
        _show_passes(layer, passes)


@cost_app.command("separable", short_help="Count a separable layer factor by factor.")
@with_option_groups
def separable_command(
    options: LayerOptions,
    multiplier: Annotated[
        int, typer.Option(help="Depth multiplier; for other patterns, the rank.")
    ] = 1,
    pattern: Annotated[
        str | None,
        typer.Option(
            help='Pattern, for example "ocyx -> oc,oyx". Default: depthwise separable.',
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count a separable layer factor by factor, and the dense layer."""
    with _options_named():
        layer = options.layer()
        parsed = parse(_pattern(layer, pattern))
        parts = separate(layer, parsed, multiplier)
    words = dict(zip(parts, ("depthwise", "pointwise"), strict=False)) if pattern is None else {}
    rows = {words.get(name, name): part for name, part in parts.items()}
    rows |= {"separable": sum(parts.values(), Cost()), "dense": layer.cost}
    _show(layer, rows, as_json, None if pattern is None else str(parsed))
    if not as_json:
        _show_ratio(rows, layer, multiplier if pattern is None else None)


@cost_app.command("attention", short_help="Count self-attention and a separable layer.")
def attention_command(
    input_shape: Input,
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel", "-k", help="Kernel size of the convolution to compare with (default 3)."
        ),
    ] = None,
    heads: Annotated[int, typer.Option(help="Number of attention heads.")] = 1,
    as_json: Json = False,
) -> None:
    """Count self-attention over all positions, and a separable layer with as many channels.

    For N positions and C channels, "like for like" counts one product and one projection,
    N^2 C + N C^2, because the separable layer has one depthwise and one pointwise step,
    N C K^2 + N C^2 (K instead of K^2 along one axis). "exact" counts both products, all four projections and the softmax.
    """
    with _options_named():
        *space, channels = sizes = integers("--in", input_shape, "x")
        taps = (3,) * len(space) if kernel is None else integers("--kernel", kernel, "x")
        layer = Convolution.of(sizes, taps, channels, padding="same")
        positions, window = math.prod(space), math.prod(taps)
        rows = {
            "attention, exact": cost.attention(positions, channels, heads),
            f"attention, {LIKE_FOR_LIKE}": cost.attention(
                positions, channels, heads, counted="alike"
            ),
            f"separable {describe(taps)}": cost.separable(sizes, taps, channels, padding="same"),
        }
    if as_json:
        rows = {name.replace(LIKE_FOR_LIKE, "alike"): found for name, found in rows.items()}
    _show(layer, rows, as_json)
    if as_json:
        return
    _, alike, beside = rows.values()
    times = ratio(alike.multiplications, beside.multiplications)
    amount = "as many" if times == ratio(1, 1) else f"{times} times as many"
    power = f"^{len(space)}" if len(space) > 1 else ""
    weights = f"K{power}" if len(set(taps)) == 1 else "the kernel's number of weights"
    put(
        output(),
        f"Counted like for like, attention over N = {positions} positions needs {amount} "
        f"multiplications as the separable layer; both need the same where N = {weights} = {window}.",
    )


cost_app.command(
    NETWORK, short_help="Count a network and its dense twin, or an .onnx or .pt2 file."
)(network_command)


def _passes(layer: Convolution) -> dict[str, Cost]:
    """Return the cost of one pass along each axis, for a layer that does not mix channels; else nothing."""
    alone = layer.channels == layer.groups and not layer.transposed
    if not alone or sum(k > 1 for k in layer.kernel) < 2:
        return {}
    space = "tzyx"[-layer.ndim :]
    pattern = f"oc{space} -> {','.join('oc' + a for a in space)}"
    names = {}
    for axis, size in zip(space, layer.kernel, strict=True):
        names[f"oc{axis}"] = "pass " + describe([size if a == axis else 1 for a in space])
    return {names[factor]: part for factor, part in separate(layer, parse(pattern)).items()}


def _show_passes(layer: Convolution, passes: Mapping[str, Cost]) -> None:
    """Print the ratio of the multiplications of a layer and of one pass along each axis."""
    counts = [part.multiplications for part in passes.values()]
    dense, apart = layer.cost.multiplications, sum(counts)
    times = f"{ratio(dense, apart)} times fewer"
    if dense < apart:
        times = f"{ratio(apart, dense)} times more"
    steps = " and then ".join(name.removeprefix("pass ") for name in passes)
    text = (
        f"{ONE_PER_AXIS.capitalize()} ({steps}): {' + '.join(f'{n:,}' for n in counts)} = {apart:,}, "
        f"{times} multiplications than {_kind(layer)}"
    )
    if all(pads == (0, 0) for pads in layer.padding):
        text += ". Each pass runs on the smaller output of the one before"
    put(output(), text + ".")


def _one_or_each(name: str, text: str) -> int | tuple[int, ...]:
    try:
        numbers = integers(name, text, "x")
    except ArgumentError:
        words = "'same', 'valid' or whole" if name == "--padding" else "whole"
        raise ArgumentError(
            f"`{name}` must be {words} numbers such as 1 or 2x1; got {text!r}"
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def _pattern(layer: Convolution, text: str | None) -> str:
    """Return the pattern asked for, or that of a depthwise separable layer."""
    space = "tzyx"[-layer.ndim :]
    return text or f"oc{space} -> oc,c{space}"


def _kind(layer: Convolution) -> str:
    if layer.transposed:
        return "transposed"
    if layer.groups == 1:
        return "dense"
    return "depthwise" if layer.groups == layer.channels else f"{layer.groups} groups"


@contextlib.contextmanager
def _options_named() -> Iterator[None]:
    """Name options and sizes in error messages as they are typed (`--in` for `input_shape`, 5x5 for (5, 5))."""
    try:
        yield
    except ArgumentError as mistake:
        text = str(mistake)
        for name, option in OPTIONS.items():
            text = text.replace(f"`{name}`", f"`{option}`")
        text = text.replace("padding='same'", "--padding same")
        text = re.sub(r"\((\d+(?:, \d+)*),?\)", lambda sizes: sizes[1].replace(", ", "x"), text)
        raise type(mistake)(text) from None


def _show(
    layer: Convolution, rows: Mapping[str, Cost], as_json: bool, pattern: str | None = None
) -> None:
    result = (*layer.outputs, layer.filters)
    if as_json:
        print(json.dumps({"output": result, **{k: v.to_dict() for k, v in rows.items()}}))
        return
    console = output()
    sizes = f"{describe((*layer.space, layer.channels))} to {describe(result)}"
    what = f", {pattern}" if pattern else ""
    console.print(f"{sizes}, kernel {describe(layer.kernel)}{what}", style="bold")
    lines = [
        (
            name,
            f"{found.multiplications:,}",
            f"{found.parameters:,}",
            size_text(found.bytes),
            f"{found.multiplications_per_byte:.2f}",
        )
        for name, found in rows.items()
    ]
    columns = ("", "multiplications", "parameters", "moved", "mult/byte")
    console.print(table(columns, lines), soft_wrap=True)
    put(console, LEGEND)


def _show_ratio(rows: Mapping[str, Cost], layer: Convolution, multiplier: int | None) -> None:
    """Print the ratio of the multiplications, and the formula that gives it."""
    dense, apart = rows["dense"].multiplications, rows["separable"].multiplications
    times, taps, filters = dense / apart, math.prod(layer.kernel), layer.filters
    word = (
        f"{ratio(dense, apart)} times fewer" if times >= 1 else f"{ratio(apart, dense)} times more"
    )
    text = f"Separable: {word} multiplications than dense"
    law = f"{filters} x {taps} / ({multiplier} x ({taps} + {filters}))"
    expected = filters * taps / ((multiplier or 1) * (taps + filters))
    if multiplier is not None and math.isclose(expected, times, rel_tol=1e-12):
        text += f", C_out K^{layer.ndim} / (M (K^{layer.ndim} + C_out)) = {law}"
        text += ". C_out: output channels; K: kernel size; M: depth multiplier"
    put(output(), text + ".")
