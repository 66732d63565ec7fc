"""Operator that stands for a call of a fused module in recorded graphs.

Some fused modules run a kernel that PyTorch's operators could express only as several steps. While a network is recorded they
call ``separable_recorded::fused_module``, so that the graph keeps them whole: a program takes them up, or the module itself runs.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from separable.nn.fused.fused_split import FusedSplit
from separable.nn.fused.spatial_pair import FusedPair

__all__ = ["is_kept_whole", "kept_whole", "module_of"]

_modules: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()
"""Modules by their ``id``: graphs hold the number, and live no longer than the network."""

_library: Any = torch.library
_recorded = _library.Library("separable_recorded", "FRAGMENT")  # for graphs only, not for users
_recorded.define("fused_module(Tensor input, int module) -> Tensor")


def module_of(number: int) -> nn.Module:
    """Return the module that a recorded call stands for."""
    return _modules[number]


def _forward(x: Tensor, number: int) -> Tensor:
    module = module_of(number)
    made: Tensor = type(module).forward(module, x)
    return made


_recorded.impl("fused_module", _forward, "CompositeExplicitAutograd")
_library.register_fake("separable_recorded::fused_module", _forward, lib=_recorded)


def is_kept_whole(module: nn.Module) -> bool:
    """Return whether a module runs a kernel that PyTorch's operators do not express."""
    return isinstance(module, FusedSplit | FusedPair)


@contextlib.contextmanager
def kept_whole(network: nn.Module) -> Iterator[None]:
    """Let the modules of a network that are kept whole call the operator."""
    whole = [m for m in network.modules() if is_kept_whole(m) and "forward" not in m.__dict__]
    for module in whole:
        _modules[id(module)] = module

        def call(x: Tensor, number: int = id(module)) -> Tensor:
            made: Tensor = torch.ops.separable_recorded.fused_module(x, number)
            return made

        module.__dict__["forward"] = call
    try:
        yield
    finally:
        for module in whole:
            del module.__dict__["forward"]
