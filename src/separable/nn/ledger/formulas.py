"""Operation and Count: one operation that PyTorch ran, and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["FORMULAS", "Count", "Formula", "Operation", "formula", "tensors"]


class Count(NamedTuple):
    """Arithmetic of one operation."""

    macs: int = 0
    multiplications: int = 0  # multiplications that are not MACs
    additions: int = 0  # additions that are not part of a MAC
    others: int = 0


@dataclass(frozen=True)
class Operation:
    """One operation that PyTorch ran.

    Attributes
    ----------
    function : torch._ops.OpOverload
    args, kwargs
        Arguments of the operation.
    result : Any
        Its result.
    """

    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any

    @cached_property
    def name(self) -> str:
        """PyTorch's name without in-place marks and overloads: ``add``."""
        name: str = self.function._schema.name.partition("::")[2]
        return name.rstrip("_") if not name.startswith("__") else name

    @property
    def overload(self) -> str:
        """Name of the overload."""
        return str(self.function._schema.overload_name)

    @cached_property
    def inputs(self) -> list[Tensor]:
        """All tensors among the arguments, each once."""
        return tensors((list(self.args), dict(self.kwargs)))

    @cached_property
    def outputs(self) -> list[Tensor]:
        """All tensors returned."""
        return tensors(self.result)

    @property
    def size(self) -> int:
        """Number of elements of the first tensor returned."""
        return self.outputs[0].numel() if self.outputs else 0

    @cached_property
    def _named(self) -> dict[str, Any]:
        named = dict(self.kwargs)
        for at, argument in enumerate(self.function._schema.arguments):
            if at < len(self.args):
                named[argument.name] = self.args[at]
            elif argument.name not in named:
                named[argument.name] = argument.default_value
        return named

    def __getitem__(self, name: str) -> Any:
        return self._named[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument that not every overload has, or a default."""
        return self._named.get(name, default)


Formula = Callable[[Operation], Count]
FORMULAS: dict[str, Formula] = {}


def formula(*names: str) -> Callable[[Formula], Formula]:
    """Register the formula of the operations with these names."""

    def register(function: Formula) -> Formula:
        FORMULAS.update(dict.fromkeys(names, function))
        return function

    return register


def tensors(values: Any) -> list[Tensor]:
    """Return the tensors in nested lists, tuples and dicts, each once."""
    leaves: Iterable[Any] = tree_leaves(values)
    return list({id(t): t for t in leaves if isinstance(t, torch.Tensor)}.values())
