"""Files of weights for a network built by a function, and networks known by name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from separable.distribution import install_command
from separable.errors import ArgumentError, FileError
from separable.nn.convert import Report
from separable.nn.formats.archives import ArchiveError
from separable.nn.formats.network_source import Source
from separable.nn.formats.tensors_only import load_tensors
from separable.nn.models import create, sample_shape

__all__ = ["WeightsSource", "build", "imported_function", "read_named", "read_weights"]

SHOWN = 4  # number of names in a message
UNTRAINED = "random weights"


class WeightsSource(Source):
    """Network defined in Python, whose weights are written as safetensors."""

    suffix = ".safetensors"

    def __init__(self, title: str, module: nn.Module, note: str = "") -> None:
        self.title = title
        self.note = note
        self.module = module.eval()
        settings = getattr(module, "pretrained_cfg", None) or {}
        if "mean" in settings and "std" in settings:
            self.normalisation = tuple(settings["mean"]), tuple(settings["std"])

    def input_shapes(self) -> list[tuple[int, ...]] | None:
        """Return the shape that the network itself declares."""
        if hasattr(self.module, "example"):
            return [tuple(t.shape) for t in cast("Any", self.module).example(1)]
        try:
            return [(1, *sample_shape(self.module))]
        except ArgumentError:
            return None

    def serialised(self, converted: nn.Module) -> bytes:
        """Return the `state_dict` as safetensors."""
        from safetensors.torch import save  # optional dependency

        # The format has no shared memory: each tensor is written separately.
        state = converted.state_dict()
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
        return bytes(save(tensors))

    def completed(self, report: Report, converted: nn.Module) -> Report:
        """Add to the headline if nothing was trained."""
        return replace(report, model=f"{report.model} ({UNTRAINED})") if self.note else report


def read_named(name: str) -> Source:
    """Build a network by name: ours, or one of timm or torchvision with its trained weights.

    Raises
    ------
    ArgumentError
        If there is none, or its weights cannot be had.
    """
    is_trained = name.startswith(("timm:", "torchvision:"))
    options: dict[str, Any] = {"pretrained": True} if is_trained else {"seed": 0}
    note = "" if is_trained else _untrained(name)
    try:
        return WeightsSource(name, create(name, **options), note)
    except ArgumentError:
        raise
    except (OSError, RuntimeError, ValueError) as problem:
        raise ArgumentError(
            f"the weights of `{name}` cannot be had: {_line(problem)}. Save its state_dict as "
            f"safetensors where they can, and give that file with --factory {name}"
        ) from problem


def _untrained(name: str) -> str:
    return (
        f"{name} was built with {UNTRAINED}, so what was converted has learned nothing. For trained "
        f"ones give their file: separable convert FILE.safetensors --factory {name}"
    )


def read_weights(path: Path, factory: str | None) -> Source:
    """Read a `state_dict` into the network that a function builds.

    Parameters
    ----------
    path : Path
        ``.safetensors``, or ``.pt`` and ``.pth`` that hold tensors only.
    factory : str or None
        ``pkg.module:function``, ``timm:NAME``, or a name of `separable.nn.models`.

    Raises
    ------
    ArgumentError
        If there is no factory, or the weights are not those of its network.
    FileError
        If the file is damaged, or holds more than tensors.
    """
    if factory is None:
        raise ArgumentError(
            f"{path.name} holds weights and no network: say what builds it, with --factory "
            "package.module:function, timm:NAME or a name such as mobilenet_v1"
        )
    module = build(factory)
    state = _safetensors(path) if path.suffix.lower() == ".safetensors" else _tensors(path)
    _load(module, state, path, factory)
    return WeightsSource(path.name, module)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file  # optional dependency
    except ModuleNotFoundError as missing:
        raise ArgumentError(
            f"{path.name} needs safetensors, which is not installed: {install_command('convert')}"
        ) from missing
    try:
        return dict(load_file(path))
    except Exception as problem:  # the library raises many exceptions of its own
        raise FileError(
            f"cannot read {path}: no safetensors file, or a damaged one ({_line(problem)}). "
            "Fetch or export it again"
        ) from None


def _tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of `torch.save`; its pickle may create tensors and nothing else."""
    try:
        found = load_tensors(path, path.name)
    except ArgumentError:
        raise
    except ArchiveError as problem:
        raise FileError(f"cannot read {path}: {problem}. Save its state_dict()") from None
    except Exception as problem:  # pickle raises arbitrary exceptions for damaged files
        raise FileError(
            f"cannot read {path}: it is damaged or holds more than tensors, which would run code "
            f"({_line(problem)}). Save its state_dict() as safetensors"
        ) from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise FileError(
            f"cannot read {path}: expected a state_dict, tensors by their names; got "
            f"{type(found).__name__}. Save model.state_dict()"
        )
    return found


def build(factory: str) -> nn.Module:
    """Build the network that a factory names.

    Raises
    ------
    ArgumentError
        If there is no such factory, or it gives no module.
    """
    if ":" not in factory or factory.startswith(("timm:", "torchvision:")):
        return create(factory)
    wanted = "a function without arguments that returns a torch.nn.Module"
    function = imported_function(factory, "--factory", wanted)
    try:
        found = function()
    except Exception as problem:  # a function may raise anything
        raise _not_called(factory, "--factory", wanted, problem) from problem
    if not isinstance(found, nn.Module):
        raise ArgumentError(
            f"`--factory` {factory} must return a torch.nn.Module; got {type(found).__name__}"
        )
    return found


def imported_function(text: str, option: str, wanted: str) -> Callable[..., Any]:
    """Import the function ``package.module:function``, which runs the module's code.

    Parameters
    ----------
    text : str
    option : str
        Name of the option that the text was given for, for messages.
    wanted : str
        What the function does, for messages.

    Raises
    ------
    ArgumentError
        If the module cannot be imported or has no such function.
    """
    place, _, name = text.partition(":")
    try:
        function = _imported(place)
        for part in name.split("."):
            function = getattr(function, part)
        if not callable(function):
            raise TypeError(f"{name} is not a function but {type(function).__name__}")
    except Exception as problem:  # a module may raise anything while it is imported
        raise _not_called(text, option, wanted, problem) from problem
    found: Callable[..., Any] = function
    return found


def _not_called(text: str, option: str, wanted: str, problem: Exception) -> ArgumentError:
    return ArgumentError(
        f"`{option}` {text}: {type(problem).__name__}: {_line(problem)}. Expected "
        f"package.module:function, {wanted}"
    )


def _imported(place: str) -> Any:
    """Import a module, also from the current directory, as ``python -m`` does."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        return importlib.import_module(place)
    finally:
        sys.path.remove(here)


def _load(module: nn.Module, state: dict[str, Tensor], path: Path, factory: str) -> None:
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as problem:
        lines = [line.strip() for line in str(problem).splitlines()]
        raise ArgumentError(
            f"the weights in {path.name} are not of the network that {factory} builds: "
            f"{lines[1] if len(lines) > 1 else lines[0]}"
        ) from None
    for names, said in (
        (result.missing_keys, f"{path.name} lacks"),
        (result.unexpected_keys, "the network has no"),
    ):
        if names:
            shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            raise ArgumentError(
                f"the weights in {path.name} are not of the network that {factory} builds: "
                f"{said} {shown}"
            )


def _line(problem: BaseException) -> str:
    """Return the first line of a message, without its full stop."""
    text = str(problem).strip() or type(problem).__name__
    return text.splitlines()[0].rstrip(".")
