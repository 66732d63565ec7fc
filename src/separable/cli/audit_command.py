"""`separable audit`: find the separable convolutions of a network file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from separable.cli.batches import Folder
from separable.cli.console import output
from separable.cli.convert_command import need_torch, network_of, progress_bar, quiet_torch
from separable.cli.networks_command import input_shapes
from separable.cli.outputs import check_output, write_together
from separable.errors import ArgumentError, FileError

if TYPE_CHECKING:
    from separable.nn.audit import Audit
    from separable.nn.formats import Source

__all__ = ["audit_command"]

REPORTS = {".md": "to_markdown", ".html": "to_html", ".json": "to_json"}


def audit_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="Network: an .onnx, .pt2 (torch.export) or .safetensors file, timm:NAME, or a name "
            "such as mobilenet_v1.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Also write the audit to this file: .md, .html or .json.",
            readable=False,
            show_default=False,
        ),
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(
            help="Factory that builds the model for a weights file: package.module:function, which "
            "imports that module and runs its code; timm:NAME; or a name such as mobilenet_v1.",
            show_default=False,
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="Input shape with the batch axis, for example 1x3x224x224; several inputs: "
            "1x3x8,1x5.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Real input, whose outputs the errors refer to: a folder of pictures, .npy or .npz "
            "batches, or one such file; the first batch is used.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    tol: Annotated[
        float,
        typer.Option(help="Relative error of the weights up to which a form is called close."),
    ] = 0.05,
    include: Annotated[
        list[str] | None, typer.Option(help="Layer to examine; may be repeated.", metavar="LAYER")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Layer not to examine; may be repeated.", metavar="LAYER"),
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Timing repetitions per layer; 0 disables timing.")
    ] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print the audit as JSON.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")] = False,
) -> None:
    """Find the convolutions of a network that are separable, and what they would save.

    For each convolution the audit says whether it is exactly separable, by which pattern and with
    which rank, and how large the error is with a half and a quarter of the multiplications.
    Nothing is converted.
    """
    # Step 1: check that the request can be carried out and written.
    if target is not None:
        _check_target(target, force)
    shapes = None if input_shape is None else input_shapes(input_shape)
    need_torch("audit")
    with quiet_torch():
        network = network_of(source, factory)
        # Step 2: examine the layers.
        counted, note = _example(network, shapes, data)
        found, why = _audited(
            network, counted, tol=tol, repeats=repeats, include=include or None,
            exclude=exclude or (),
        )  # fmt: skip

    # Step 3: report.
    console = output()
    if as_json:
        print(found.to_json())
    else:
        from separable.nn.audit.audit_text import audit_text  # PyTorch is optional

        text = audit_text(found, console.width, f"separable convert {source} --tol 1e-5 -o OUTPUT")
        console.print(text, soft_wrap=True)
        if note:
            console.print(f"Note: not counted for an input, because {note}.", soft_wrap=True)
        if why:
            console.print(
                f"Note: errors are those of weights, because the model was not run: {why}.",
                soft_wrap=True,
            )
    if target is not None:
        text = getattr(found, REPORTS[target.suffix.lower()])()
        _write(target, text, force)
        if not as_json:
            console.print(f"Wrote {target}.", soft_wrap=True)


def _example(
    network: Source, shapes: list[tuple[int, ...]] | None, data: Path | None
) -> tuple[Any, str]:
    """Return the input to count for, or None and the reason why there is none."""
    if data is not None:
        known = network.input_shapes() if shapes is None else shapes
        batches = network.calibration(Folder(data, known, network.normalisation))
        return list(next(iter(batches))), ""
    try:
        return network.shapes_to_count(shapes), ""
    except ArgumentError as problem:
        if shapes is not None:
            raise
        return None, str(problem)


def _audited(network: Source, counted: Any, **options: Any) -> tuple[Audit, str]:
    """Return the audit of a network, and why its layers were not run; empty if they were."""
    from separable.nn.audit import Audit, AuditedLayer, audit, audit_traced  # PyTorch is optional
    from separable.nn.convert.layer_refs import find_layers

    left = tuple(
        AuditedLayer(x.name, "", x.kind, x.weight_shape, reason=x.reason)
        for x in network.left_out()
    )
    if not find_layers(network.module):
        if not left:
            raise ArgumentError(f"{network.title} has no convolution to examine")
        return Audit(network.title, (), options["tol"], left), ""
    inputs = network.convolution_inputs()
    with progress_bar() as progress:
        options["progress"] = progress
        if inputs is None and counted is not None:
            found = audit(network.module, counted, **options)
            why = ""
        else:
            samples, why = ({}, "") if counted is None else network.layer_inputs(counted)
            found = audit_traced(network.module, counted, inputs, samples, **options)
            if samples:
                is_data = any(hasattr(v, "numel") and v.dim() for v in counted)
                found = replace(found, ran_on="the data" if is_data else "random numbers")
    return replace(found, model=network.title or found.model, layers=(*found.layers, *left)), why


def _check_target(target: Path, force: bool) -> None:
    """Refuse, before any work, what cannot be written."""
    if target.suffix.lower() not in REPORTS:
        raise ArgumentError(
            f"`--output` must end in {', '.join(REPORTS)}; got {target}. The suffix says the format"
        )
    check_output(target, force)


def _write(target: Path, text: str, force: bool) -> None:
    try:
        write_together(((target, text.encode()),), force)
    except OSError as problem:
        raise FileError(
            f"cannot write {target}: {problem.strerror or problem}. Choose another `--output`"
        ) from None
