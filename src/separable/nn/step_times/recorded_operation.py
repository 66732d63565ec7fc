"""RecordedOperation: one operation of a network with the values that it reads and writes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from separable.cost import Convolution

__all__ = ["RecordedOperation"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class RecordedOperation:
    """One operation that a network ran, as far as its time depends on it.

    Attributes
    ----------
    layer : str
        Path of the module that ran it.
    name : str
        Name of the operation in PyTorch, for instance ``convolution``.
    macs : int
        Multiplications that are added to a sum.
    read_bytes, written_bytes, weight_bytes : int
        Bytes of activations read, of results written, and of weights read.
    reads, writes : tuple of int
        Numbers of the values; the same number means the same value.
    input_shapes, output_shapes : tuple of tuple of int
        Shapes of all tensors read, weights too, and of the tensors written.
    convolution : Convolution or None
        Sizes, if it is a convolution.
    window : int
        Number of values that each result of a pooling operation depends on.
    own_kernel : bool
        True if a layer of this library runs it by a compiled kernel where that is available.
    """

    layer: str
    name: str
    macs: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    weight_bytes: int = 0
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    input_shapes: tuple[Shape, ...] = ()
    output_shapes: tuple[Shape, ...] = ()
    convolution: Convolution | None = None
    window: int = 1
    own_kernel: bool = False

    @property
    def bytes(self) -> int:
        """All bytes moved."""
        return self.read_bytes + self.written_bytes + self.weight_bytes

    @property
    def outputs(self) -> int:
        """Number of elements of the first result."""
        return math.prod(self.output_shapes[0]) if self.output_shapes else 0

    @classmethod
    def of_convolution(cls, conv: Convolution, layer: str = "") -> RecordedOperation:
        """Return the operation that a convolution is.

        Examples
        --------
        >>> conv = Convolution.of((12, 12, 3), (5, 5), 256)
        >>> found = RecordedOperation.of_convolution(conv)
        >>> found.macs, found.output_shapes
        (1228800, ((1, 256, 8, 8),))
        """
        inputs = (conv.batch, conv.channels, *conv.space)
        outputs = (conv.batch, conv.filters, *conv.outputs)
        return cls(
            layer, "convolution", conv.multiplications,
            math.prod(inputs) * conv.itemsize, math.prod(outputs) * conv.itemsize,
            conv.weights * conv.itemsize, (0,), (1,), (inputs,), (outputs,), conv,
        )  # fmt: skip
