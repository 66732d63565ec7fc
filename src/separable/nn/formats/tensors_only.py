"""Files of `torch.save` with tensors and plain values, and nothing that executes code."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.nn.formats.archives import Archive, ArchiveError

__all__ = ["check_unpickler", "is_plain", "load_tensors"]

SAFE = (2, 10)  # CVE-2025-32434 before 2.6, CVE-2026-24747 before 2.10
PLAIN = (int, float, bool, complex, str, type(None), torch.dtype, torch.device, torch.Size)
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257


def _version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def check_unpickler(title: str) -> None:
    """Raise an error if PyTorch's restricted unpickler is too old to be safe.

    Raises
    ------
    ArgumentError
        Before PyTorch 2.10: a file could run code there all the same.
    """
    if _version() < SAFE:
        raise ArgumentError(
            f"{title} holds pickled tensors, which PyTorch reads safely from 2.10 on; got "
            f"{torch.__version__}. Install torch>=2.10, or save the weights as safetensors"
        )


def load_tensors(content: Path | bytes, title: str) -> Any:
    """Read a file of `torch.save`; only functions that create tensors are called.

    Parameters
    ----------
    content : Path or bytes
    title : str
        Name of the file, for messages.

    Raises
    ------
    ArchiveError
        If it is an archive that unpacks to too much, or holds more than `torch.save` puts there.
    ArgumentError
        If PyTorch is too old to do this safely.
    Exception
        Whatever PyTorch raises for other files, among them those that would run code.
    """
    check_unpickler(title)
    file = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
    with file:
        if zipfile.is_zipfile(file):
            with Archive(file) as archive:
                if any(name.endswith("constants.pkl") or "/code/" in name for name in archive):
                    raise ArchiveError(f"{title} is a TorchScript archive, which holds code")
        else:
            file.seek(0)
            if file.read(TAR_MAGIC_AT + len(TAR_MAGIC)).endswith(TAR_MAGIC):
                raise ArchiveError(f"{title} is a tar archive, of a PyTorch before 0.4")
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def is_plain(value: Any) -> bool:
    """Return True if a value consists of tensors, numbers, texts and plain containers."""
    if type(value) in (Tensor, nn.Parameter):
        return True
    if type(value) in (tuple, list):
        return all(is_plain(v) for v in value)
    if type(value) in (dict, OrderedDict):
        return all(isinstance(k, str | int) and is_plain(v) for k, v in value.items())
    return isinstance(value, PLAIN)
