"""`separable convert`: convert the convolutions of a network file to separable layers."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from separable.cli.batches import Folder, Normalisation
from separable.cli.console import output, put
from separable.cli.networks_command import input_shapes
from separable.cli.outputs import check_output, write_together
from separable.distribution import install_command
from separable.errors import ArgumentError, FileError

if TYPE_CHECKING:
    from separable.nn.convert import Report
    from separable.nn.formats import Source

__all__ = ["convert_command", "need_torch", "network_of", "progress_bar", "quiet_torch"]

Progress = Callable[[str, int, int], None]
REPORTS = {"md": "to_markdown", "html": "to_html", "json": "to_json"}
EVERY = 10.0  # seconds between lines in a log
LOSSLESS = 1e-5  # relative error of weights that are only rounded
COLLAPSE = 0.7  # fraction of the multiplications below which accuracy is usually lost without data
DEFAULT_PATTERN = "ocyx -> oc,cyx"


@dataclass(frozen=True)
class _Outputs:
    """The three output files, written together or not at all."""

    network: Path
    blueprint: Path
    report: Path

    @classmethod
    def beside(cls, output: Path, suffix: str, report: str) -> _Outputs:
        """Derive the file names from `--output`; its suffix, if any, must be that of the network."""
        known = (".onnx", ".pt2", ".safetensors", ".pt", ".pth", ".json", ".md", ".html")
        if output.suffix.lower() in known:
            if output.suffix.lower() != suffix:
                raise ArgumentError(
                    f"`--output` {output}: this network is written as {suffix}. Give the name "
                    f"{output.with_suffix(suffix)}, or one without a suffix"
                )
            output = output.with_suffix("")
        end = ".report.json" if report == "json" else f".{report}"  # .json holds the patterns
        names = [output.with_name(output.name + e) for e in (suffix, ".json", end)]
        return cls(*names)

    def check(self, force: bool) -> None:
        """Refuse, before any work, what cannot be written."""
        for path in (self.network, self.blueprint, self.report):
            check_output(path, force)

    def write(self, network: bytes, blueprint: str, report: str, force: bool) -> None:
        """Write all files or none; the network takes its name last."""
        contents = (
            (self.report, report.encode()),
            (self.blueprint, blueprint.encode()),
            (self.network, network),
        )
        try:
            write_together(contents, force)
        except PermissionError:
            raise FileError(
                f"cannot write to {self.network.parent}: permission denied. Choose another "
                "`--output`"
            ) from None
        except OSError as problem:
            raise FileError(
                f"cannot write to {self.network.parent}: {problem.strerror or problem}. Existing "
                "files are unchanged"
            ) from None


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NETWORK",
            help="Network: an .onnx, .pt2 (torch.export) or .safetensors file, timm:NAME, "
            "torchvision:NAME, or a name such as mobilenet_v1.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Output path; writes the network, a .json and a report.",
            readable=False,
        ),
    ],
    factory: Annotated[
        str | None,
        typer.Option(
            help="Factory that builds the model for a weights file: package.module:function, which "
            "imports that module and runs its code; timm:NAME; or a name such as mobilenet_v1.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Fraction of the multiplications to keep, for example 0.3; or of the time: "
            "'0.5 time', '2x faster'.",
            show_default=False,
        ),
    ] = None,
    faster: Annotated[
        float | None,
        typer.Option(
            help="Times as fast as before in --runtime; 2 is --budget '2x faster'.",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="What will run the network: torch, fused or onnxruntime. If not given, onnxruntime "
            "for .onnx files, else torch.",
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            help=f"Pattern, for example '{DEFAULT_PATTERN}' (the default), or auto, the default with "
            "--budget or --tol.",
            show_default=False,
        ),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Rank of every layer.", show_default=False)
    ] = None,
    tol: Annotated[
        float | None,
        typer.Option(
            help="Largest relative error of each layer; with --metric the largest loss of the score.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Score that decides on layers and ranks: package.module:function, which imports "
            "that module and runs its code. The function takes the network and returns one number, "
            "higher is better.",
            show_default=False,
        ),
    ] = None,
    evaluations: Annotated[int, typer.Option(help="Largest number of calls of --metric.")] = 60,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Calibration data: a folder of pictures, .npy or .npz batches, or one such file.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="Input shape with the batch axis, for example 1x3x224x224; several inputs: "
            "1x3x8,1x5; for an input without axes its value: 1x512,16000.",
            show_default=False,
        ),
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Layer to convert; may be repeated.", metavar="LAYER")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Layer to leave unchanged; may be repeated.", metavar="LAYER"),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="Mean per channel that pictures are normalised with, for values 0..1.",
            show_default=False,
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation per channel that pictures are normalised with.",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Timing repetitions per layer; 0 disables timing.")
    ] = 5,
    report: Annotated[
        str,
        typer.Option(
            help="Format of the report: md, html, or json, which `separable explore` displays."
        ),
    ] = "md",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")] = False,
) -> None:
    """Convert the convolutions of a trained network to separable layers, and report the cost.

    Three files are written, all or none: the network in its own format (weights as .safetensors),
    a .json with the pattern and ranks of each layer, and the report.
    """
    # Step 1: check that the request can be carried out and written.
    if report not in REPORTS:
        raise ArgumentError(f"`--report` must be md, html or json; got {report!r}")
    shapes = None if input_shape is None else input_shapes(input_shape)
    wanted = _budget(budget, faster)
    normalisation = _normalisation(mean, std)
    need_torch("convert")
    with quiet_torch():
        network = network_of(source, factory)
        outputs = _Outputs.beside(target, network.suffix, report)
        outputs.check(force)
        options = {
            "pattern": pattern or ("auto" if wanted or tol else DEFAULT_PATTERN),
            "rank": rank, "tol": tol, "budget": wanted, "repeats": repeats,
            "include": include or None, "exclude": exclude or (), "runtime": runtime,
            "metric": None if metric is None else _function(metric), "evaluations": evaluations,
        }  # fmt: skip
        folder = _folder(data, network, shapes, normalisation)

        # Step 2: convert; write all or nothing.
        converted, found, content = _convert(network, shapes, folder, options)
        from separable.nn import blueprint  # PyTorch is optional

        text = getattr(found, REPORTS[report])()
        outputs.write(content, blueprint(converted), text, force)

    # Step 3: report.
    _say(found, outputs, network.note, fitted=folder is not None)


def _function(metric: str) -> Callable[[Any], Any]:
    """Import the function that `--metric` names."""
    from separable.nn.formats import imported_function  # PyTorch is optional

    return imported_function(metric, "--metric", "a function of the network that returns its score")


def _budget(budget: str | None, faster: float | None) -> str | None:
    """Return the budget that `--budget` or `--faster` asks for."""
    if faster is None:
        return budget
    if budget is not None:
        raise ArgumentError("give one of `--budget` and `--faster`; got both")
    if not (faster > 1 and faster < float("inf")):
        raise ArgumentError(f"`--faster` must be a factor above 1, for example 2; got {faster:g}")
    return f"{faster:.12g}x faster"


def need_torch(command: str) -> None:
    """Raise an error that says how to install PyTorch, if it is missing."""
    try:
        import separable.nn  # noqa: F401
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            f"`{command}` needs PyTorch, which is not installed: {install_command('convert')}"
        ) from missing


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Hide the future and deprecation warnings of PyTorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def network_of(source: str, factory: str | None) -> Source:
    """Read a network file, or build a network by its name."""
    from separable.nn.formats import open_network  # PyTorch is optional

    return open_network(source, factory)


def _folder(
    data: Path | None,
    network: Source,
    shapes: list[tuple[int, ...]] | None,
    normalisation: Normalisation | None,
) -> Folder | None:
    if data is None:
        return None
    known = network.input_shapes() if shapes is None else shapes
    return Folder(data, known, normalisation or network.normalisation)


def _convert(
    network: Source,
    shapes: list[tuple[int, ...]] | None,
    folder: Folder | None,
    options: dict[str, Any],
) -> tuple[Any, Report, bytes]:
    from separable.nn import convert  # PyTorch is optional

    network.check_layers()
    if options["runtime"] is None and network.suffix == ".onnx":
        options["runtime"] = "onnxruntime"
    needs = options["budget"] is not None or options["metric"] is not None
    counted = network.shapes_to_count(shapes, needs and folder is None)
    if needs and counted is None and folder is None:
        named = "--metric" if options["budget"] is None else "--budget"
        raise ArgumentError(
            f"`{named}` needs the multiplications of {network.title}, which depend on its "
            f"input: say --input-shape, {network.input_hint()}, or give --data"
        )
    calibration = None if folder is None else network.calibration(folder)
    with progress_bar() as progress:
        converted, report = convert(
            network.module, data=calibration, input_shape=counted, progress=progress, **options
        )
    content = network.serialised(converted)
    found = network.timed(
        network.completed(report, converted), content, counted, options["repeats"]
    )
    return converted, found, content


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress | None]:
    """Show the progress layer by layer on stderr: a bar in a terminal, else a line every 10 s."""
    if not sys.stderr.isatty():
        yield _logged()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Reading", total=None)

        def tell(what: str, done: int, count: int) -> None:
            bar.update(
                task, description=what.capitalize(), completed=done, total=count, refresh=done == 0
            )

        yield tell


def _logged() -> Progress:
    """Return a function that prints the progress for a log, every 10 s after the first 10 s."""
    begin = said = time.monotonic()

    def tell(what: str, done: int, count: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= EVERY:
            said = now
            print(f"{int(now - begin)} s: {what}, {done} of {count}", file=sys.stderr, flush=True)

    return tell


def _say(report: Report, outputs: _Outputs, note: str, *, fitted: bool) -> None:
    console = output()
    console.print(report.table(width=console.width), soft_wrap=True)
    sizes = outputs.network.stat().st_size
    console.print(
        f"Wrote {outputs.network} ({sizes:,} bytes), {outputs.blueprint.name} and "
        f"{outputs.report.name}.",
        soft_wrap=True,
    )
    if note:
        console.print(f"Note: {note}.", soft_wrap=True)
    elif not fitted and _share(report) < COLLAPSE:
        put(
            console,
            f"Warning: converted without data to {_share(report):.2f} of the multiplications. Below "
            f"{COLLAPSE} the accuracy of a trained network usually collapses unless the factors are "
            "fitted to its inputs: give a few tens of unlabelled ones with --data.",
        )


def _share(report: Report) -> float:
    """Return the multiplications relative to those before, of the network or of its layers."""
    now, before = report.multiplications, report.multiplications_before
    if now is None or before is None:
        now = sum(x.multiplications for x in report.layers)
        before = sum(x.multiplications_before for x in report.layers)
    return now / before if before and _lossy(report) else 1.0


def _lossy(report: Report) -> bool:
    return any(x.weight_error > LOSSLESS for x in report.converted)


def _normalisation(mean: str | None, std: str | None) -> Normalisation | None:
    if mean is None and std is None:
        return None
    found = _numbers("--mean", mean or "0"), _numbers("--std", std or "1")
    if any(v <= 0 for v in found[1]):
        raise ArgumentError(f"`--std` must be > 0; got {std!r}")
    return found


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentError(
            f"`{name}` must be numbers such as 0.485,0.456,0.406; got {text!r}"
        ) from None
