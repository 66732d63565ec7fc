"""Calls of layers that are repeated on inputs of the same form, without looking at everything again.

The first call of a layer looks at its modules, packs its weights, makes a plan and chooses threads. A later call compares
only what may have changed, which takes about two microseconds; a small layer takes no longer itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from separable.engine.tensor_memory import empty_strided
from separable.lowering.scheme import Scheme
from separable.nn.fused.kernel_use import (
    HOOKS,
    are_observed,
    autocast_in_float32,
    can_use_fused_kernel,
)
from separable.nn.fused.packed_layer import PackedLayer
from separable.process_cache import ProcessBound, ProcessCache

__all__ = ["RepeatedCalls", "RepeatingLayer"]

FORMS_KEPT = 64


class _RepeatedCall(ProcessBound):
    """A call of a layer, valid as long as the layer, its weights and the form of the input are the same."""

    def __init__(
        self,
        modules: Iterable[nn.Module],
        weights: Iterable[Tensor],
        x: Tensor,
        packed: PackedLayer,
    ) -> None:
        self._packed = packed  # keeps the packed weights alive
        self._dtype, self._threads = x.dtype, torch.get_num_threads()
        found = packed.ready(x)
        self.is_possible = found is not None
        if found is not None:
            self._job, self._out_shape, self._out_strides = found
        self._weights = [(t, t._version, t.data_ptr()) for t in weights]
        tables = [d for m in modules for d in (m._modules, m._parameters)]
        self._tables = [(d, key, value) for d in tables for key, value in d.items()]
        self._hooks = [getattr(m, name) for m in list(modules)[1:] for name in HOOKS]
        self._own = [m.__dict__ for m in list(modules)[1:]]

    def serves(self, x: Tensor) -> bool:
        """Return True if the call can be repeated on an input of its shape and strides."""
        if x.dtype is not self._dtype or not x.is_cpu or not can_use_fused_kernel(x):
            return False
        if torch.get_num_threads() != self._threads or any(self._hooks) or are_observed():
            return False
        for table, key, value in self._tables:
            if table.get(key) is not value:
                return False
        for own in self._own:
            if "forward" in own:
                return False
        records = torch.is_grad_enabled()
        if records and x.requires_grad:
            return False
        for tensor, version, address in self._weights:
            if tensor._version != version or tensor.data_ptr() != address:
                return False
            if records and tensor.requires_grad:
                return False
        return True

    def __call__(self, x: Tensor) -> Tensor:
        """Run the layer."""
        out = empty_strided(self._out_shape, self._out_strides, self._dtype)
        self._job(x.data_ptr(), out.data_ptr())
        return out


class RepeatedCalls:
    """Calls of one layer that can be repeated, by the form of the input.

    A copy and a pickle have no calls.
    """

    def __init__(self) -> None:
        self._calls = ProcessCache(FORMS_KEPT)

    def result(self, x: Tensor) -> Tensor | None:
        """Return the layer's result, or None if there was no such call or something has changed since."""
        if not self._calls or x.layout is not torch.strided:
            return None
        call: Any = self._calls.get((x.shape, x.stride()))
        return call(x) if call is not None and call.is_possible and call.serves(x) else None

    def keep(
        self,
        modules: Sequence[nn.Module],
        weights: Sequence[Tensor],
        x: Tensor,
        packed: PackedLayer,
    ) -> None:
        """Keep a call for later ones.

        Parameters
        ----------
        modules : sequence of torch.nn.Module
            The layer, and the modules of its steps.
        weights : sequence of Tensor
        x : Tensor
            The input.
        packed : PackedLayer
            What runs the layer.
        """
        key = (x.shape, x.stride())
        call: Any = self._calls.get(key)
        if call is not None:
            if not call.is_possible:
                return
            self._calls.clear()  # something has changed, so that the calls of other forms are void too
        if not any(t.is_inference() for t in weights):
            self._calls.get_or_build(key, lambda: _RepeatedCall(modules, weights, x, packed))


class RepeatingLayer(nn.Module):
    """Base of layers that compiled kernels run; it stands before the class that runs them otherwise."""

    _serves: bool
    scheme: Scheme

    def _build(self, *args: Any, **options: Any) -> None:
        super()._build(*args, **options)  # type: ignore[misc]
        self._repeated = RepeatedCalls()

    def forward(self, input: Tensor) -> Tensor:
        """Run the layer; see `FactoredConv.forward`."""
        if not torch.compiler.is_compiling() and type(input) is Tensor:
            found = self._repeated.result(input)
            if found is not None:
                return found
        made: Tensor = super().forward(input)
        return made

    def _fused(self, input: Tensor) -> Tensor | None:
        if not self._serves:
            return None
        dtype = autocast_in_float32(input, self.scheme.spec.ndim)
        if dtype is None:
            return self._by_kernels(input)
        with torch.autocast("cpu", enabled=False):
            made = self._by_kernels(input.float())
        return None if made is None else made.to(dtype)

    def _by_kernels(self, input: Tensor) -> Tensor | None:
        """Return the layer's result from compiled kernels or their operators, or None if PyTorch must run it."""
        raise NotImplementedError
