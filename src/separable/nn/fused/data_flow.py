"""Check that a network takes the same path for an input of another shape as for the example it was fused with.

Layers are fused along the path that the data took in one run. A network whose path depends on the sizes of its input
would compute something else with fused layers, without an error. So the first input of each new shape is sent through
a copy of the original network without values (PyTorch's device "meta"), and the path is compared.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from separable.errors import ArgumentError
from separable.nn.fused.tracing import Call, chains, record
from separable.process_cache import ProcessCache

__all__ = ["DataFlow", "cut_at_open_flow", "names_of_chains"]

SHAPES_KEPT = 256

Group = tuple[str, ...]
"""Names of leaves that were fused into one module, in their order."""


class DataFlow:
    """Path of the data through a network, for inputs of any shape.

    Parameters
    ----------
    model : torch.nn.Module
        The original network; its structure is copied, not its values.
    """

    def __init__(self, model: nn.Module, is_leaf: Any) -> None:
        tensors = itertools.chain(model.parameters(), model.buffers())
        memo = {id(t): _without_values(t) for t in tensors}
        self._model, self._is_leaf = copy.deepcopy(model, memo), is_leaf
        for module in self._model.modules():  # hooks are for values
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        self.groups: list[Group] = []
        self._known = ProcessCache(SHAPES_KEPT)  # not pickled: a network does not grow by running

    def chains(self, inputs: Sequence[Any]) -> list[list[Call]]:
        """Return the chains of calls for inputs of these shapes."""
        given = tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, tuple(inputs))
        calls, _ = record(self._model, given, self._is_leaf)
        return chains(calls)

    def check(self, inputs: Sequence[Any]) -> None:
        """Raise an error if the fused layers do not follow each other for inputs of these shapes."""
        key = tuple([x.shape if isinstance(x, Tensor) else None for x in inputs])
        self._known.get_or_build(key, lambda: self._is_same(inputs, key))

    def _is_same(self, inputs: Sequence[Any], key: Any) -> bool:
        """Compare the path; callers come one at a time, because the copy is given hooks while it runs."""
        try:
            found = names_of_chains(self.chains(inputs))
        except Exception:  # the input does not fit the network, which says so itself
            return False
        called = {name for names in found for name in names}
        for group in self.groups:
            if called.intersection(group) and not any(_contains(names, group) for names in found):
                raise ArgumentError(
                    f"fuse: for inputs of shape {tuple(map(tuple, filter(None, key)))} the data takes another path "
                    f"through the network than for the example: {', '.join(group)} do not follow each other; "
                    "fuse the network again, with an example of this shape"
                )
        return True


def _without_values(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def _contains(names: Sequence[str], group: Group) -> bool:
    return any(names[i : i + len(group)] == group for i in range(len(names) - len(group) + 1))


def names_of_chains(found: Sequence[Sequence[Call]]) -> list[Group]:
    """Return the names of the leaves of each chain."""
    return [tuple(c.name for c in chain) for chain in found]


def cut_at_open_flow(network: nn.Module, found: Sequence[Sequence[Call]]) -> list[list[Call]]:
    """Cut chains wherever the next leaf is not the next one by construction.

    That is for networks whose path depends on values: there the path is fixed only inside `torch.nn.Sequential` and
    the layers of this library.
    """
    made: list[list[Call]] = []
    for chain in found:
        current = [chain[0]]
        for call in chain[1:]:
            if _follows(network, current[-1].name, call.name):
                current.append(call)
            else:
                made.append(current)
                current = [call]
        made.append(current)
    return made


def _follows(network: nn.Module, first: str, second: str) -> bool:
    """Return whether a leaf follows another one in the same container, whatever the values are."""
    (parent, _, a), (other, _, b) = first.rpartition("."), second.rpartition(".")
    if parent != other:
        return False
    container = network.get_submodule(parent) if parent else network
    if type(container) is not nn.Sequential and not type(container).__module__.startswith(
        "separable.nn."
    ):
        return False
    names = [n for n, m in container.named_children() if not isinstance(m, nn.Identity)]
    return a in names and b in names and names.index(b) == names.index(a) + 1
