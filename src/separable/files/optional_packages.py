"""Packages that only some formats need."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from separable.distribution import install_command
from separable.errors import FileError

__all__ = ["need"]


def need(name: str, path: Path) -> Any:
    """Import a package of the extra `volumes`, or say how to get it."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        raise FileError(
            f"cannot open {path}: it needs the package {name}. Install it: "
            f"{install_command('volumes')}"
        ) from None
    if name == "zarr" and int(module.__version__.partition(".")[0]) < 3:
        raise FileError(
            f"cannot open {path}: expected zarr 3 or later; got {module.__version__}. "
            "Install it, on Python 3.11 or later: pip install 'zarr>=3'"
        )
    return module
