"""Checkpoints that are always complete: written beside the old one, then renamed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

from separable.errors import FileError

__all__ = ["load", "save"]


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace a checkpoint atomically: a reader sees the old one or the new one.

    The bytes are flushed to the disk before the renaming, and the folder after it, so that this also
    holds after a power failure.
    """
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    with contextlib.suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load(path: Path, run: str) -> dict[str, Any] | None:
    """Return the checkpoint of a run, or None if there is none yet.

    Only tensors, numbers, texts, lists and dicts are read (``weights_only``): a checkpoint from an untrusted
    source runs no code.

    Raises
    ------
    FileError
        The file is damaged, or belongs to a run with other options.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        found = state["run"]
    except Exception as problem:  # torch raises a dozen types here
        raise FileError(
            f"the checkpoint {path} cannot be read ({type(problem).__name__}); "
            "delete it to begin this run anew"
        ) from problem
    if found != run:
        raise FileError(
            f'the checkpoint {path} is of "{found}", not of "{run}"; '
            "give the same options, or another folder to `--checkpoint`"
        )
    return state
