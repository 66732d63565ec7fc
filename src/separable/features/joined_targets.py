"""Several files that are written together, region by region."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.files.chunked_io import Target

__all__ = ["JoinedTargets"]

Array = NDArray[Any]


@dataclass
class JoinedTargets:
    """Several targets that are written together; their samples are fields of structured samples."""

    targets: tuple[Target, ...]
    dtype: np.dtype[Any]

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Chunk sizes of all targets."""
        return self.targets[0].chunks

    @property
    def path(self) -> Path:
        """Name of the first target, for messages."""
        return self.targets[0].path

    @property
    def draft(self) -> Path:
        """Partial file of the first target, for messages."""
        return self.targets[0].draft

    @property
    def resumed(self) -> bool:
        """True if all partial files of an earlier run are there."""
        return all(target.resumed for target in self.targets)

    def write(self, region: Any, array: Array) -> None:
        """Write a region of each target."""
        for name, target in zip(self.dtype.names or (), self.targets, strict=True):
            target.write(region, np.ascontiguousarray(array[name]))

    def flush(self, since: int = 0) -> None:
        """Flush all targets to the disk."""
        for target in self.targets:
            target.flush(since)

    @property
    def complete_levels(self) -> list[list[list[int]]]:
        """Chunks of coarser levels that this process has written, for each target."""
        return [target.complete_levels for target in self.targets]

    def know_levels(self, written: Iterable[list[list[list[int]]]]) -> None:
        """Take chunks of coarser levels for complete that other processes have written."""
        for part in written:
            for chunks, target in zip(part, self.targets, strict=False):
                target.know_levels([chunks])

    def finish(self) -> None:
        """Give all targets their final names; the first one last, because the journal is beside it."""
        for target in reversed(self.targets):
            target.finish()

    def abandon(self) -> None:
        """Close all partial files."""
        for target in self.targets:
            target.abandon()
