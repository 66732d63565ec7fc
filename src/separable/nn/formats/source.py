"""Source: a network that was read from a file, as `convert` takes it, and the way back."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from separable.nn.convert import Report

__all__ = ["Batch", "Source"]

Batch = tuple[Tensor, ...]


class Source(abc.ABC):
    """A network that was read.

    Attributes
    ----------
    title : str
        What it is called in messages.
    suffix : str
        Of the file that it is written to.
    module : torch.nn.Module
        What is converted.
    normalisation : tuple of (mean, std) or None
        What its pictures are to be normalised by, if the network says.
    """

    suffix: str
    title: str
    module: nn.Module
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @abc.abstractmethod
    def input_shapes(self) -> list[tuple[int, ...]] | None:
        """Return the shapes of the inputs with their batch, if the network says."""

    @abc.abstractmethod
    def serialised(self, converted: nn.Module) -> bytes:
        """Return the contents of the file of the converted network."""

    def shapes_to_count(self, given: list[tuple[int, ...]] | None) -> Any:
        """Return what `convert` takes as ``input_shape``."""
        shapes = self.input_shapes() if given is None else given
        return shapes or None

    def calibration(self, batches: Iterable[Batch]) -> Iterable[Any]:
        """Return the batches as `convert` takes them."""
        return batches

    def completed(
        self, report: Report, converted: nn.Module, data: Iterable[Batch] | None
    ) -> Report:
        """Return the report with what only the file knows."""
        return report
