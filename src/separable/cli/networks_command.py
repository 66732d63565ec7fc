"""`separable cost NETWORK`: cost of a network and of its dense twin."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from separable.cli.console import output, put
from separable.cli.options import integers
from separable.cost.cost_text import quantity, ratio, size_text, table
from separable.distribution import install_command
from separable.errors import ArgumentError

if TYPE_CHECKING:
    from separable.cost import Cost
    from separable.nn.ledger import Ledger

__all__ = ["input_shapes", "is_network_file", "network_command", "network_names"]

DEPTHWISE = ("ocyx -> oc,cyx", "ocx -> oc,cx", "oczyx -> oc,czyx")
LEGEND = (
    "One forward pass. Multiply-adds count convolutions and matrix products; moved: bytes read "
    "and written; ratio: the larger over the smaller count."
)


def network_command(
    context: typer.Context,
    width: Annotated[
        float | None, typer.Option(help="Width multiplier, for example 0.5.", show_default=False)
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of the input image in pixels, or length of its input. Default: the usual one.",
            show_default=False,
        ),
    ] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="Replace the separable convolutions by dense ones.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Batch size.")] = 1,
    training: Annotated[
        bool, typer.Option("--training", help="Count in training mode. Default: evaluation mode.")
    ] = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Print a row per layer, or per module that contains deeper ones."
        ),
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Depth of the rows in the model: 1 prints a row per top-level module. Implies "
            "--layers. Default: the greatest one with no more than 60 rows.",
            show_default=False,
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="Input shape of a file with the batch axis, for example 1x3x224x224; several "
            "inputs: 1x3x8,1x5; for an input without axes its value: 1x512,16000.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ledger as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the ledger as CSV.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the ledger as Markdown.")
    ] = False,
) -> None:
    """Count a network and its dense twin; for a file or another library, its separable version.

    Weights are neither downloaded nor run: only shapes are propagated.
    """
    name = str(context.info_name)
    options = {"width": width, "dense": dense or None}
    chosen_options = {key: value for key, value in options.items() if value is not None}
    if is_network_file(name):
        others = {"resolution": resolution, "training": training or None, **chosen_options}
        model, found = _count_file(name, input_shape, batch, others)
    else:
        _refuse_shape(name, input_shape)
        model = _create(name, chosen_options)
        found = _count(model, resolution, batch, training)
    if as_json or as_csv or as_markdown:
        text = json.dumps(found.to_dict()) if as_json else ""
        print(text or (found.to_csv() if as_csv else found.to_markdown()).rstrip("\n"))
        return
    console = output()
    console.print(
        f"{name}: {', '.join(found.inputs)}, {_mode(training)}", style="bold", soft_wrap=True
    )
    _show(model, found, resolution, batch)
    if layers or depth is not None:
        from separable.nn.ledger.ledger_text import ledger_text  # PyTorch is optional

        text = ledger_text(found, console.width, depth, option="--depth {}")
        console.print()
        console.print(text, soft_wrap=True)


def is_network_file(name: str) -> bool:
    """Return True for the name of a file that holds a network."""
    return Path(name).suffix.lower() in (".onnx", ".pt2")


def input_shapes(text: str) -> list[tuple[int, ...]]:
    """Read shapes such as ``1x3x224x224,1x5``.

    Raises
    ------
    ArgumentError
        If they are not sizes of at least 1.
    """
    found = [integers("--input-shape", part, "x") for part in text.split(",")]
    if any(n < 1 for shape in found for n in shape):
        raise ArgumentError(f"`--input-shape` must be sizes >= 1; got {text!r}")
    return found


def _refuse_shape(name: str, input_shape: str | None) -> None:
    if input_shape is not None:
        raise ArgumentError(
            f"`--input-shape` is for files; `{name}` knows its input, whose size `--resolution` "
            "changes"
        )


def _count_file(
    name: str, input_shape: str | None, batch: int, others: dict[str, Any]
) -> tuple[Any, Ledger]:
    """Count the network in a file.

    Raises
    ------
    ArgumentError
        If PyTorch is missing, the file is damaged, or its input is unknown.
    """
    given = next((key for key, value in others.items() if value is not None), None)
    if given is not None:
        raise ArgumentError(f"`{Path(name).name}` has no option `--{given}`: it is a file")
    _need_torch(name)
    from separable.nn.formats import open_network  # PyTorch is optional
    from separable.nn.ledger import ledger  # PyTorch is optional

    source = open_network(name)
    given_shapes = None if input_shape is None else input_shapes(input_shape)
    if batch > 1 and (source.batch is not None or given_shapes is not None):
        raise ArgumentError(
            f"`--batch` {batch}: {source.title} was exported for a fixed batch, or --input-shape "
            "has it already. Leave --batch out"
        )
    if batch > 1:
        known = source.input_shapes()
        given_shapes = None if known is None else [(batch, *s[1:]) if s else s for s in known]
    shapes = source.shapes_to_count(given_shapes)
    if shapes is None:
        raise ArgumentError(
            f"the multiplications of {source.title} depend on the size of its input: give "
            f"--input-shape, {source.input_hint()}"
        )
    return source.module, source.counted(ledger(source.module, shapes, backward=False))


def network_names() -> tuple[str, ...] | None:
    """Return the names of the networks; None if PyTorch is missing."""
    try:
        from separable.nn.models import names  # PyTorch is optional
    except ModuleNotFoundError:
        return None
    return names()


def _create(name: str, options: dict[str, Any]) -> Any:
    """Build a network without memory for its weights.

    Raises
    ------
    ArgumentError
        If PyTorch is missing or there is no such network.
    """
    _need_torch(name)
    from separable.nn.models import create  # PyTorch is optional

    return create(name, device="meta", **options)


def _need_torch(name: str) -> None:
    try:
        import separable.nn.models  # noqa: F401
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            f"`cost {name}` needs PyTorch, which is not installed: {install_command('torch')}"
        ) from missing


def _count(model: Any, resolution: int | None, batch: int, training: bool) -> Ledger:
    from separable.nn.ledger import ledger  # PyTorch is optional
    from separable.nn.models import sample_shape  # PyTorch is optional

    model.train(training)
    if hasattr(model, "example"):
        return ledger(model, list(model.example(batch, resolution)))
    channels, *space = sample_shape(model)
    sizes = space if resolution is None else [resolution] * len(space)
    return ledger(model, (batch, channels, *sizes))


def _show(model: Any, network_ledger: Ledger, resolution: int | None, batch: int) -> None:
    """Print the counts of a network and of its dense twin or separable version."""
    total, backward = network_ledger.total, network_ledger.backward
    if hasattr(model, "twin"):
        import torch  # optional

        with torch.device("meta"):
            twin = model.twin()
        other = _count(twin, resolution, batch, network_ledger.training)
        names: tuple[str, ...] = ("dense", "separable") if model.dense else ("separable", "dense")
        other_total, other_backward = other.total, other.backward
        rows = _rows(total, other_total)
        rows.append(
            _row("training step, multiply-adds", total + backward, other_total + other_backward)
        )
    else:
        separated = _separated(network_ledger)
        names = ("original", "separated")
        rows = _rows(total, total if separated is None else separated)
        if separated is None:
            names, rows = names[:1], [row[:2] for row in rows]
    console = output()
    heads = ("", *names, "ratio") if len(names) > 1 else ("", *names)
    console.print(table(heads, rows), soft_wrap=True)
    put(console, LEGEND)
    if network_ledger.uncounted:
        put(console, "Not counted: " + "; ".join(map(str, network_ledger.uncounted)) + ".")


def _separated(network_ledger: Ledger) -> Cost | None:
    """Return the cost with depthwise separable convolutions, or None if there is none to separate."""
    for pattern in DEPTHWISE:
        with contextlib.suppress(ArgumentError):  # the convolutions have another number of axes
            return network_ledger.what_if(pattern).separated
    return None


def _rows(first: Cost, second: Cost) -> list[tuple[str, ...]]:
    counts = (
        ("multiplications", first.multiplications, second.multiplications),
        ("other additions", first.additions, second.additions),
        ("parameters", first.parameters, second.parameters),
    )
    sizes = (
        ("activations moved", first.activation_bytes, second.activation_bytes),
        ("weights moved", first.weight_bytes, second.weight_bytes),
    )
    intensity = (first.multiplications_per_byte, second.multiplications_per_byte)
    return [
        _row("multiply-adds", first, second),
        *((name, quantity(a), quantity(b), _times(a, b)) for name, a, b in counts),
        *((name, size_text(a), size_text(b), _times(a, b)) for name, a, b in sizes),
        ("multiplications per byte", *(f"{i:.2f}" for i in intensity), _times(*intensity)),
    ]


def _row(name: str, first: Cost, second: Cost) -> tuple[str, ...]:
    return name, quantity(first.macs), quantity(second.macs), _times(first.macs, second.macs)


def _times(first: float, second: float) -> str:
    """Return how many times the larger number is the smaller."""
    return ratio(max(first, second), min(first, second))


def _mode(training: bool) -> str:
    return "training mode" if training else "evaluation mode"
