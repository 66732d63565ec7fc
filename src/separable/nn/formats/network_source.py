"""Source: a network read from a file for `convert`, and written back afterwards."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from separable.errors import ArgumentError
from separable.nn.convert import ConvertedLayer, Report
from separable.nn.ledger import Ledger

__all__ = ["Batch", "Source"]

Batch = tuple[Tensor, ...]


class Source(abc.ABC):
    """Network that was read from a file.

    Attributes
    ----------
    title : str
        Name of the network, for messages.
    suffix : str
        Suffix of the file that it is written to.
    module : torch.nn.Module
        The module to convert.
    normalisation : tuple of (mean, std) or None
        Normalisation of input images, if the network declares it.
    batch : int or None
        Batch size of every call, if the network was exported with a fixed one.
    note : str
        Remark for the report that does not prevent a conversion; may be empty.
    """

    suffix: str
    title: str
    module: nn.Module
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    batch: int | None = None
    note: str = ""

    @abc.abstractmethod
    def input_shapes(self) -> list[tuple[int, ...]] | None:
        """Return the shapes of the inputs with their batch, if the network says."""

    def input_hint(self) -> str:
        """Return what to give as `--input-shape`, for messages."""
        return "for instance 1x3x224x224"

    def check_layers(self) -> None:  # noqa: B027
        """Raise an error if the file says that no layer can be converted."""

    @abc.abstractmethod
    def serialised(self, converted: nn.Module) -> bytes:
        """Return the contents of a file with the converted network."""

    def shapes_to_count(
        self, input_shape: list[tuple[int, ...]] | None, needed: bool = True
    ) -> Any:
        """Return the argument ``input_shape`` of `convert`.

        Parameters
        ----------
        input_shape : list of tuple of int or None
            The shapes that the user gave.
        needed : bool
            If False, nothing depends on the counts, and None stands for sizes that are unknown.
        """
        shapes = self.input_shapes() if input_shape is None else input_shape
        return shapes or None

    def counted(self, found: Ledger) -> Ledger:
        """Return the ledger of the module with what only the file knows added."""
        return found

    def calibration(self, batches: Iterable[Batch]) -> Iterable[Any]:
        """Return the batches in the form that the network takes."""
        return batches if self.batch is None else _Cut(batches, self.batch, self.title)

    def convolution_inputs(self) -> dict[str, list[Hashable]] | None:
        """Return the names of the inputs of each convolution, for a network that is not run to see them."""
        return None

    def layer_inputs(self, inputs: Any) -> tuple[dict[str, Tensor], str]:
        """Return the input of each convolution in one run, and why there are none if the run fails.

        Parameters
        ----------
        inputs : list of shape or tensor
            Result of `shapes_to_count`; shapes stand for made-up values.
        """
        return {}, ""

    def left_out(self) -> tuple[ConvertedLayer, ...]:
        """Return the convolutions of the file that are not modules, with the reasons."""
        return ()

    def completed(self, report: Report, converted: nn.Module) -> Report:
        """Return the report with what only the file knows added."""
        return report

    def timed(self, report: Report, content: bytes, shapes: Any, repeats: int) -> Report:
        """Return the report with a comparison in the runtime of the file, if it has one.

        Parameters
        ----------
        report : Report
        content : bytes
            The converted file.
        shapes : list of tuple of int, or None
            Result of `shapes_to_count`.
        repeats : int
            Number of timed calls; 0 measures nothing.
        """
        return report


class _Cut:
    """Batches of the size with which a network was exported; an incomplete one is left out.

    Raises
    ------
    ArgumentError
        If there are fewer samples than one call takes.
    """

    def __init__(self, batches: Iterable[Batch], size: int, title: str) -> None:
        self.batches = batches
        self.size = size
        self.title = title

    def __iter__(self) -> Iterator[Batch]:
        waiting: Batch = ()
        calls = 0
        for batch in self.batches:
            if len({tensor.shape[:1] for tensor in batch}) != 1 or not batch[0].dim():
                raise ArgumentError(
                    f"`--data`: {self.title} was exported for {_samples(self.size)} a call, and "
                    f"a batch of {', '.join('x'.join(map(str, t.shape)) for t in batch)} cannot be "
                    "cut. Export it for a batch of any size"
                )
            fits = [old.shape[1:] for old in waiting] == [new.shape[1:] for new in batch]
            if fits:
                batch = tuple(torch.cat(pair) for pair in zip(waiting, batch, strict=True))
            whole = len(batch[0]) // self.size * self.size
            for at in range(0, whole, self.size):
                calls += 1
                yield tuple(tensor[at : at + self.size] for tensor in batch)
            waiting = tuple(tensor[whole:] for tensor in batch)
        if not calls:
            raise ArgumentError(
                f"`--data` has fewer samples than {self.title} takes in one call: it was exported "
                f"for {_samples(self.size)}. Give more, or export it for a batch of any size"
            )


def _samples(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"
