"""Data flow between the modules of a network, recorded from one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Call", "chains", "record"]


@dataclass
class Call:
    """One call of a leaf, i.e. of a module that is treated as a whole.

    Attributes
    ----------
    name : str
    module : torch.nn.Module
    taken, made : int
        Numbers of the memory of its input and of its output.
    readers : set of int
        The calls that read its output, -1 for operators outside of leaves.
    shape : tuple of int
        Shape of its input.
    """

    name: str
    module: nn.Module
    taken: int
    made: int = -1
    readers: set[int] = field(default_factory=set)
    shape: tuple[int, ...] = ()


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that records which call reads whose memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.inside: list[int] = []
        self._writers: dict[int, int] = {}
        self._alive: list[Any] = []

    def number(self, x: Tensor) -> int:
        """Return the number of a tensor's memory, which is kept alive."""
        storage = x.untyped_storage()
        self._alive.append(storage)
        return int(storage._cdata)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        at = self.inside[-1] if self.inside else -1
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor):
                self.read(self.number(x), at)
        return func(*args, **(kwargs or {}))

    def read(self, memory: int, at: int) -> None:
        """Record that a call, or -1, reads some memory."""
        writer = self._writers.get(memory)
        if writer is not None and writer != at:
            self.calls[writer].readers.add(at)

    def enter(self, name: str, module: nn.Module, x: Tensor) -> None:
        """Record that a leaf begins."""
        self.inside.append(len(self.calls))
        self.calls.append(Call(name, module, self.number(x), shape=tuple(x.shape)))

    def leave(self, out: Any) -> None:
        """Record the outputs of a leaf as memory that it wrote."""
        at = self.inside.pop()
        if not isinstance(out, Tensor):
            return
        call = self.calls[at]
        call.made = self.number(out)
        if call.made == call.taken:  # in place, or unchanged: it reads its own memory
            self.read(call.made, at)
        self._writers[call.made] = at


def record(
    model: nn.Module, inputs: tuple[Any, ...], is_leaf: Callable[[nn.Module], bool]
) -> tuple[list[Call], Any]:
    """Run a model and return the calls of its leaves, and its output."""
    watch = _Watch()
    handles = []
    leaves = [n for n, m in model.named_modules() if is_leaf(m)]
    outer = [n for n in leaves if not any(n.startswith(f"{o}.") for o in leaves if o)]
    for name in outer:
        module = model.get_submodule(name)

        def before(module: nn.Module, args: Any, name: str = name) -> None:
            watch.enter(name, module, args[0])

        def after(module: nn.Module, args: Any, out: Any) -> None:
            watch.leave(out)

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        with torch.no_grad(), watch:
            out = model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    for x in tree_leaves(out):
        if isinstance(x, Tensor):
            watch.read(watch.number(x), -1)
    return watch.calls, out


def chains(calls: list[Call]) -> list[list[Call]]:
    """Cut the calls into chains in which each call is the only reader of the one before it.

    Modules that are called more than once stand by themselves.
    """
    times: dict[int, int] = {}
    for call in calls:
        times[id(call.module)] = times.get(id(call.module), 0) + 1
    made: list[list[Call]] = []
    taken: set[int] = set()
    for start in range(len(calls)):
        if start in taken:
            continue
        chain, at = [calls[start]], start
        taken.add(start)
        while len(calls[at].readers) == 1:
            (following,) = calls[at].readers
            if following < 0 or following in taken or calls[following].taken != calls[at].made:
                break
            if times[id(calls[at].module)] > 1 or times[id(calls[following].module)] > 1:
                break
            chain.append(calls[following])
            taken.add(following)
            at = following
        made.append(chain)
    return made
