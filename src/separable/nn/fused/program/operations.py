"""Operations of programs: what one operator of a network becomes.

A `NetworkOperation` knows the nodes that it reads, takes up an activation or an addition that follows it, and plans its kernel
for one number of threads. Which operators of PyTorch become which operation is said in `operation_table`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, fx

from separable.nn.fused.kernel_plan import SOURCE, TARGET, KernelPlan
from separable.nn.fused.program.network_trace import constant_of
from separable.nn.fused.program.program import Place, ProgramStep
from separable.process_cache import ProcessBound

__all__ = [
    "ROWS",
    "Choices",
    "Graph",
    "NetworkOperation",
    "Planned",
    "arguments",
    "has_rows",
    "shape_of",
]


@dataclass(frozen=True)
class Planned:
    """A planned kernel: its record and the addresses of its constants by word of the record."""

    plan: KernelPlan
    constants: dict[int, int]


@dataclass(frozen=True)
class Choices:
    """Settings that the operations of a network depend on besides its graph.

    Attributes
    ----------
    threads : int
        Number of threads to plan for.
    exact : bool
        Whether each output of a convolution is computed on its own.
    by_torch : frozenset of str
        Names of nodes that PyTorch runs in any case.
    """

    threads: int
    exact: bool = False
    by_torch: frozenset[str] = frozenset()


class Graph:
    """A traced network with the constants that its operations pack.

    Parameters
    ----------
    module : torch.fx.GraphModule
    packed : dict
        Packed weights by the constants that they were made of; shared by all shapes of input.
    choices : Choices
    """

    def __init__(self, module: fx.GraphModule, packed: dict[Any, Any], choices: Choices) -> None:
        self.module, self.choices, self._packed = module, choices, packed

    def constant(self, node: Any) -> Tensor | None:
        """Return the constant tensor that a node stands for, or None."""
        found: Tensor | None = constant_of(self.module, node)
        return found

    def pack(
        self, build: Callable[..., Any], tensors: tuple[Tensor | None, ...], *more: Any
    ) -> Any:
        """Return packed weights, built once for the same tensors."""
        key = (build, *((0, 0) if t is None else (t.data_ptr(), t.shape) for t in tensors), *more)
        if key not in self._packed:
            self._packed[key] = (
                tensors,
                build(*tensors, *more),
            )  # the tensors keep their addresses
        return self._packed[key][1]


def arguments(node: fx.Node) -> Any:
    """Return the arguments of an operator; their types are known from its schema only."""
    return node.args


ROWS = "rows"
"""Key of a node's ``meta``: true if its value has its channels along the last axis, as rows of them."""


def has_rows(node: fx.Node) -> bool:
    """Return whether a node's value has its channels along the last axis, not along the second one."""
    return bool(node.meta.get(ROWS, False))


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value as programs see it: (samples, channels, *space), or (rows, channels)."""
    shape = tuple(node.meta["val"].shape)
    return (math.prod(shape[:-1]), shape[-1]) if has_rows(node) else shape


@dataclass(frozen=True)
class NetworkOperation(ProcessBound):
    """Computation that takes the place of one or more operators.

    Attributes
    ----------
    node : torch.fx.Node
        The operator whose result this computes.
    inputs : tuple of torch.fx.Node
        Values that it reads, in the order of `words`.
    """

    node: fx.Node
    inputs: tuple[fx.Node, ...]
    words: ClassVar[tuple[int, ...]] = (SOURCE,)
    """Words of the record that hold the addresses of the inputs."""
    tensors: tuple[Tensor | None, ...] = ()
    """Constants: weights and biases."""

    def with_activation(self, node: fx.Node, act: str) -> NetworkOperation | None:
        """Return the operation with an activation behind it, computing another node; None if it cannot take it up."""
        return None

    def with_addition(self, node: fx.Node, other: fx.Node) -> NetworkOperation | None:
        """Return the operation with a value added to its result, computing another node; None if it cannot add it."""
        return None

    def with_expansion(self, before: NetworkOperation) -> NetworkOperation | None:
        """Return the operation joined with the one that makes its only input; None if they are faster apart."""
        return None

    def planned(self, threads: int) -> Planned:
        """Return the kernel."""
        raise NotImplementedError

    def steps(
        self, threads: int, place_of: Callable[[fx.Node], Place], target: Place
    ) -> list[ProgramStep]:
        """Return the steps that compute the result.

        Parameters
        ----------
        threads : int
        place_of : callable
            Returns where the value of an input is.
        target : Place
            Where the result goes.
        """
        planned = self.planned(threads)
        reads = {word: place_of(n) for word, n in zip(self.words, self.inputs, strict=False)}
        return [ProgramStep(planned.plan, planned.constants, reads, {TARGET: target})]
