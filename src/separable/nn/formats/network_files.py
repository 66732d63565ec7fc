"""open_network: the network of a file or a name, as a Source."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from separable.errors import ArgumentError, FileError
from separable.nn.formats.exported import read_exported
from separable.nn.formats.network_source import Source
from separable.nn.formats.onnx_source import read_onnx
from separable.nn.formats.weight_files import read_named, read_weights

__all__ = ["SUFFIXES", "open_network"]


_READERS: dict[str, Callable[[Path, str | None], Source]] = {
    ".onnx": lambda path, _factory: read_onnx(path),
    ".pt2": lambda path, _factory: read_exported(path),
    ".safetensors": read_weights,
    ".pt": read_weights,
    ".pth": read_weights,
}
SUFFIXES = tuple(_READERS)


def open_network(text: str, factory: str | None = None) -> Source:
    """Read a network.

    Parameters
    ----------
    text : str
        A file: ``.onnx``, ``.pt2`` (`torch.export`), ``.safetensors``, or ``.pt`` and ``.pth`` that
        hold tensors only; or a name: ``timm:NAME``, ``torchvision:NAME``, or one of
        `separable.nn.models`.
    factory : str, optional
        Function that builds the network for a file of weights: ``package.module:function``, whose
        module is imported and executed, or a name. Only this argument executes code, never the
        file.

    Raises
    ------
    ArgumentError
        If nothing goes by that name, or a factory is missing or one too many.
    FileError
        If the file is missing, damaged, or refers to others outside its folder.

    Examples
    --------
    >>> source = open_network("mobilenet_v1")
    >>> source.input_shapes(), source.suffix
    ([(1, 3, 224, 224)], '.safetensors')
    """
    path = Path(text)
    suffix = path.suffix.lower()
    is_file = suffix in _READERS or path.exists() or len(path.parts) > 1
    if not is_file:
        _refuse_factory(text, factory, "a name says what is built")
        return read_named(text)
    if not path.exists():
        raise FileError(f"cannot read {path}: no such file{_nearest(path)}")
    if suffix not in _READERS or not path.is_file():
        raise FileError(f"cannot read {path}: expected a file that ends in {', '.join(SUFFIXES)}")
    if suffix in (".onnx", ".pt2"):
        _refuse_factory(text, factory, "the file holds the network itself")
    return _READERS[suffix](path, factory)


def _refuse_factory(text: str, factory: str | None, why: str) -> None:
    if factory is not None:
        raise ArgumentError(f"`--factory` {factory} is of no use with {text}: {why}. Leave it out")


def _nearest(path: Path) -> str:
    folder = path.parent
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f". Did you mean {folder / close[0]}?" if close else ""
