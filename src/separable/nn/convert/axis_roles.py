"""Roles of the letters of a layer's kernel (groups, outputs, inputs), and matrices over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.lowering.scheme import GROUP, OUT, Scheme

__all__ = ["Letters"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Letters:
    """View of a scheme's kernel as matrices ``(groups, outputs, inputs)``.

    An input is one of the values that a filter of a group multiplies: one channel at one tap. The
    second moments of a layer's input patches are matrices ``(groups, inputs, inputs)``.

    Attributes
    ----------
    scheme : Scheme

    Examples
    --------
    >>> from separable.lowering.conv_spec import ConvSpec
    >>> spec = ConvSpec.make("layer", 2, in_channels=4, out_channels=8, kernel_size=3, groups=2)
    >>> letters = Letters(Scheme.make("layer", "ocyx -> oc,cyx", spec, rank=1))
    >>> letters.group, letters.outputs, letters.inputs, letters.matrix_shape
    ('g', 'o', 'cyx', (2, 4, 18))
    """

    scheme: Scheme

    @cached_property
    def group(self) -> str:
        """Letter of the groups; in a pattern without outputs, that of the channels."""
        letters = self.scheme.pattern.letters
        if GROUP in letters:
            return GROUP
        return "" if OUT in letters else "".join(a for a in letters if a == "c")

    @cached_property
    def outputs(self) -> str:
        """Letters of the outputs of a group."""
        return "".join("".join(axis) for axis in self.scheme.pattern.axes if OUT in axis)

    @cached_property
    def inputs(self) -> str:
        """Letters of the values that a filter multiplies."""
        known = self.group + self.outputs
        return "".join(a for a in self.scheme.pattern.letters if a not in known)

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        """Number of groups, of outputs and of inputs."""
        return (self.count(self.group), self.count(self.outputs), self.count(self.inputs))

    def count(self, letters: str) -> int:
        """Return the number of values that letters have together."""
        return math.prod(self.scheme.size(a) for a in letters)

    def shape(self, letters: str) -> tuple[int, ...]:
        """Return the size of each letter."""
        return tuple(self.scheme.size(a) for a in letters)

    def matrix(self, kernel: Array) -> Array:
        """Return a view of a kernel, or of weights, as matrices."""
        return kernel.reshape(self.matrix_shape)

    def kernel(self, matrix: Array) -> Array:
        """Return matrices as a view with one axis per letter of the kernel."""
        return matrix.reshape(self.shape(self.scheme.pattern.letters))

    def marginal(self, moment: Array, kept: str, batch: str) -> Array:
        """Return the second moment of some letters, summed over the others.

        Parameters
        ----------
        moment : ndarray, shape (groups, inputs, inputs)
        kept : str
            Some of the input letters.
        batch : str
            Letters of which each value has a moment of its own; the group may be among them.

        Returns
        -------
        ndarray, shape (*batch, kept, kept)
            Moments with axes of size 1 for letters of `batch` that belong to the outputs.
        """
        sizes = self.shape(self.inputs)
        split = moment.reshape(len(moment), *sizes, *sizes)
        row = {a: 1 + i for i, a in enumerate(self.inputs)}
        column = {a: (26 + i if a in kept else row[a]) for i, a in enumerate(self.inputs)}
        lead = [0 if a == self.group else row[a] for a in batch if a not in self.outputs]
        operand = [0, *row.values(), *column.values()]
        target = [*lead, *(row[a] for a in kept), *(column[a] for a in kept)]
        found = np.einsum(split, operand, target)
        n = self.count(kept)
        dims = [1 if a in self.outputs else self.scheme.size(a) for a in batch]
        return np.ascontiguousarray(found.reshape(*dims, n, n))

    def permuted(self, moment: Array, first: str) -> Array:
        """Return moments with some input letters first: ``(g, first, rest, first, rest)``."""
        rest = "".join(a for a in self.inputs if a not in first)
        sizes = self.shape(self.inputs)
        order = [self.inputs.index(a) for a in first + rest]
        n = len(sizes)
        split = moment.reshape(len(moment), *sizes, *sizes)
        axes = [0, *(1 + i for i in order), *(1 + n + i for i in order)]
        lead, tail = self.count(first), self.count(rest)
        return np.ascontiguousarray(split.transpose(axes)).reshape(-1, lead, tail, lead, tail)
