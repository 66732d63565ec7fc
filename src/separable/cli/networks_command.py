"""`separable cost NETWORK`: what a network of the literature costs, beside its dense twin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from separable.cli.console import output, put
from separable.cost.cost_text import quantity, ratio, size_text, table
from separable.distribution import install_command
from separable.errors import ArgumentError

if TYPE_CHECKING:
    from separable.cost import Cost
    from separable.nn.ledger import Ledger

__all__ = ["network_command", "network_names"]

DEPTHWISE = "ocyx -> oc,cyx"


def network_command(
    context: typer.Context,
    width: Annotated[
        float | None, typer.Option(help="The width multiplier, as 0.5.", show_default=False)
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The sizes of the image, or of what the network takes first; the usual ones if not "
            "given.",
            show_default=False,
        ),
    ] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="With dense convolutions for the separable ones.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 1,
    training: Annotated[
        bool, typer.Option("--training", help="In training mode; else in evaluation.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="Print every layer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ledger as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the ledger as CSV.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the ledger as Markdown.")
    ] = False,
) -> None:
    """Count a network beside its dense twin; a network of timm beside itself, separated.

    No weights are made: only shapes go through the network.
    """
    name = str(context.info_name)
    options = {"width": width, "dense": dense or None}
    given = {key: value for key, value in options.items() if value is not None}
    model = _create(name, given)
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
    if layers:
        console.print()
        console.print(found.table(width=console.width), soft_wrap=True)


def network_names() -> tuple[str, ...] | None:
    """Return the names of the networks; None where PyTorch is missing."""
    try:
        from separable.nn.models import names
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
    try:
        from separable.nn.models import create
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            f"`cost {name}` needs PyTorch, which is not installed: {install_command('torch')}"
        ) from missing
    return create(name, device="meta", **options)


def _count(model: Any, resolution: int | None, batch: int, training: bool) -> Ledger:
    from separable.nn.ledger import ledger
    from separable.nn.models import sample_shape

    model.train(training)
    if hasattr(model, "example"):
        return ledger(model, list(model.example(batch, resolution)))
    channels, *space = sample_shape(model)
    sizes = space if resolution is None else [resolution] * len(space)
    return ledger(model, (batch, channels, *sizes))


def _show(model: Any, found: Ledger, resolution: int | None, batch: int) -> None:
    """Print the counts beside those of the twin, or of what the network would be separated."""
    total, backward = found.total, found.backward
    if hasattr(model, "twin"):
        import torch

        with torch.device("meta"):
            twin = model.twin()
        other = _count(twin, resolution, batch, found.training)
        names = ("dense", "separable") if model.dense else ("separable", "dense")
        beside, behind = other.total, other.backward
        rows = _rows(total, beside)
        rows.append(_row("training step, multiply-adds", total + backward, beside + behind))
    else:
        names = ("as it is", "separated")
        separated = found.what_if(DEPTHWISE).separated
        assert separated is not None
        rows = _rows(total, separated)
    console = output()
    console.print(table(("", *names, "ratio"), rows), soft_wrap=True)
    if found.uncounted:
        put(console, "Not counted: " + "; ".join(map(str, found.uncounted)) + ".")


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
    """How many times the larger is the smaller."""
    return ratio(max(first, second), min(first, second))


def _mode(training: bool) -> str:
    return "in training" if training else "in evaluation"
