"""PackedLayer: a layer with packed weights, ready to run on inputs of any shape."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from separable.engine.availability import available
from separable.engine.tensor_memory import dense_strides, empty_strided
from separable.errors import ArgumentError
from separable.nn.fused.direct_nchw import STREAM_BYTES, Convolution, DirectConvolutions
from separable.nn.fused.kernel_plan import KernelPlan, kernels
from separable.nn.fused.layer_tiling import (
    Geometry,
    LayerPlan,
    Sizes,
    layer_plan,
    pointwise_plan,
    three,
)
from separable.nn.fused.layout_transpose import last_strides, to_first, to_last
from separable.nn.fused.openmp import Job, ready, run
from separable.process_cache import ProcessBound, ProcessCache

__all__ = ["PackedLayer", "PackedPointwise", "Settings", "cached_layer", "check_input", "is_served"]

Settings = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int, int]
"""Stride, padding before and after each axis, dilation, and the activations after both steps."""

SHAPES_KEPT = 64
LEAST_POSITIONS = 64
"""Fewest positions of an image with its channels first for which a pointwise layer reads them as they lie."""
DIRECT_FROM_COLUMNS = {1: ((16, 1), (1 << 30, 48)), 2: ((16, 1), (32, 64)), 3: ((8, 1),)}
"""Pairs (channels, columns) per number of spatial axes: layers of at most that many channels run inputs of at
least that many columns directly, channels first (measured)."""


available()  # checked at import, so that torch.compile, which traces the next function, finds a constant


def is_served(x: Tensor, *others: Tensor | None) -> bool:
    """Return True if the kernels take these tensors: on the CPU, float32 or bfloat16.

    They take none where the compiled engine cannot be used.
    """
    if not available():
        return False
    dtype = x.dtype
    if not x.is_cpu or (dtype is not torch.float32 and dtype is not torch.bfloat16):
        return False
    return all(t is None or (t.is_cpu and t.dtype is dtype) for t in others)


def check_input(owner: str, x: Tensor, weight: Sequence[int], channels: int) -> None:
    """Raise an error if the channels do not fit the weights: compiled code checks no bounds."""
    if x.shape[1] != channels:
        raise ArgumentError(
            f"{owner}: expected an input of {channels} channels (n, channels, *space); got an input of "
            f"shape {tuple(x.shape)} and weights of shape {tuple(weight)}"
        )


def checked_residual(owner: str, residual: Tensor | None, shape: Sequence[int]) -> Tensor | None:
    """Return a residual with its channels last in memory; raise an error if it has not the output's shape."""
    if residual is None:
        return None
    if tuple(residual.shape) != tuple(shape) or residual.dtype is not torch.float32:
        raise ArgumentError(
            f"{owner}: expected a float32 residual of the output's shape {tuple(shape)}; got "
            f"{residual.dtype} of shape {tuple(residual.shape)}"
        )
    return to_last(residual)


def _with_residual(addresses: tuple[int, ...], residual: Tensor | None) -> tuple[int, ...]:
    """Return the addresses of the weights; that of a residual takes the place of the last biases."""
    return addresses if residual is None else (*addresses[:3], residual.data_ptr())


def _least_columns(ndim: int, channels: int) -> int:
    """Return the fewest columns for which channels-first inputs are run directly, 0 for never."""
    return next((least for most, least in DIRECT_FROM_COLUMNS[ndim] if channels <= most), 0)


class _ShapePlan(ProcessBound):
    """Plan and output layout for one shape of input."""

    def __init__(self, plan: LayerPlan, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.plan = plan
        ndim = len(shape) - 2
        g = plan.geometry
        self.strides = last_strides(shape)
        self.out_shape = (shape[0], g.outputs or g.depth, *g.out_size[3 - ndim :])
        self.out_strides = last_strides(self.out_shape)
        self.is_empty = 0 in self.out_shape
        self.dtype = dtype


def channels_are_last(x: Tensor) -> bool:
    """Return True if a result computed from `x` has its channels last in memory."""
    return x.stride(1) == 1 and not x.is_contiguous() and x.stride() == last_strides(x.shape)


class PackedLayer(ProcessBound):
    """Depthwise step, with or without a pointwise one, with packed weights.

    Parameters
    ----------
    depthwise : Tensor, shape (channels * multiplier, 1, *kernel)
    between_bias : Tensor or None
    pointwise : Tensor, shape (outputs, channels * multiplier, ...), or None
    bias : Tensor or None
    channels : int
    settings : Settings
    spread : tuple of three int
        See `Geometry`.
    """

    def __init__(
        self,
        depthwise: Tensor,
        between_bias: Tensor | None,
        pointwise: Tensor | None,
        bias: Tensor | None,
        channels: int,
        settings: Settings,
        spread: Sizes = (1, 1, 1),
    ) -> None:
        compiled = kernels()
        panel, lanes = compiled.panel, compiled.lanes
        self.channels, self.settings, self._spread = channels, settings, spread
        self.kernel = three(depthwise.shape[2:], 1)
        self.inner = depthwise.shape[0]
        self._weight = tuple(depthwise.shape)
        self.outputs = 0 if pointwise is None else pointwise.shape[0]
        self._held = [
            pack_depthwise(depthwise, channels, lanes),
            pack_depthwise_bias(between_bias, channels, self.inner, lanes),
        ]
        if pointwise is not None:
            self._held += pack_pointwise_step(pointwise, bias, channels, panel, lanes)
        addresses = tuple(t.data_ptr() for t in self._held)
        self.addresses = addresses if pointwise is not None else (*addresses, 0, 0)
        self._shapes = ProcessCache(SHAPES_KEPT)
        self._direct: DirectConvolutions | None = None
        self._least = _least_columns(depthwise.dim() - 2, self.inner)
        whole = settings[0][-1] == 1 and spread == (1, 1, 1)
        if self._least and whole and depthwise.dtype is torch.float32:
            tensors = (depthwise, between_bias, pointwise, bias)
            self._direct = DirectConvolutions(tensors if self.outputs else tensors[:2])
            self._steps = self._direct_steps()

    def _direct_steps(self) -> tuple[Convolution, ...]:
        """Return the convolutions for an input with its channels first."""
        stride, padding, dilation, between, act = self.settings
        one, none = (1, 1, 1), (0, 0, 0)
        steps = [Convolution(
            self.channels, self.inner, self.channels, self.kernel, three(stride, 1), three(dilation, 1),
            three(padding[0::2], 0), three(padding[1::2], 0), between,
        )]  # fmt: skip
        if self.outputs:
            steps.append(Convolution(self.inner, self.outputs, 1, one, one, one, none, none, act))
        return tuple(steps)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Run the layer on a batch; the output has the layout of the input.

        A residual is a float32 tensor of the output's shape that is added before the last activation, for
        layers with a pointwise step.
        """
        if self._direct is not None and residual is None and self._is_direct(x):
            made = self._direct(x, self._steps)
            if made is not None:
                return made
        threads = torch.get_num_threads()
        found = self._shape_plan(x, threads, residual is not None)
        added = checked_residual("depthwise", residual, found.out_shape)
        last = x.stride() == found.strides
        if not last:
            given, x = x, to_last(x)
        out = empty_strided(found.out_shape, found.out_strides, found.dtype)
        if not found.is_empty:
            source: Any = (x.data_ptr(), *_with_residual(self.addresses, added))
            run(found.plan, source, out.data_ptr(), threads)
        return out if last or channels_are_last(given) else to_first(out)

    def takes_first(self, x: Tensor) -> bool:
        """Return True if an input with its channels first is run as it lies, and so is its result."""
        if self._direct is None or not self._is_direct(x):
            return False
        return self._direct.plan(x, self._steps, torch.get_num_threads()) is not None

    def _is_direct(self, x: Tensor) -> bool:
        """Return True if an input with its channels first is run as it lies."""
        enough = x.shape[-1] >= self._least and x.shape[1] == self.channels
        return enough and x.dtype is torch.float32 and x.is_contiguous()

    def _shape_plan(self, x: Tensor, threads: int, residual: bool) -> _ShapePlan:
        key = (x.shape, threads, x.dtype, residual)
        found: _ShapePlan | None = self._shapes.get(key)
        if found is None:
            found = self._shapes.get_or_build(key, lambda: self._for_shape(x, threads, residual))
        return found

    def ready(self, x: Tensor) -> tuple[Job, tuple[int, ...], tuple[int, ...]] | None:
        """Return a job for inputs of the form of `x`, and the shape and strides of its results.

        The result is None if such inputs or results change their layout or are empty.
        """
        threads = torch.get_num_threads()
        plan: KernelPlan | None = None
        if self._direct is not None and self._is_direct(x):
            direct = self._direct.plan(x, self._steps, threads)
            if direct is not None:
                shape, constants = direct.out_shape(x, self._steps), self._direct.addresses
                strides, plan = dense_strides(shape), direct
        if plan is None:
            found = self._shape_plan(x, threads, residual=False)
            if x.stride() != found.strides:
                return None
            shape, strides, plan, constants = (
                found.out_shape,
                found.out_strides,
                found.plan,
                self.addresses,
            )
        if 0 in shape:
            return None

        def otherwise(source: int, target: int) -> None:
            run(plan, (source, *constants), target, threads)

        return ready(plan, constants, threads, otherwise), shape, strides

    def geometry(self, shape: Sequence[int], itemsize: int, residual: bool = False) -> Geometry:
        """Return the sizes of the layer for an input of a shape ``(n, channels, *space)``, with or without a residual."""
        stride, padding, dilation, between, act = self.settings
        return Geometry(
            shape[0], self.channels, three(shape[2:], 1), self.kernel, three(stride, 1),
            three(dilation, 1), three(padding[0::2], 0), three(padding[1::2], 0),
            self.inner // self.channels, self.outputs, between, act, itemsize, self._spread, residual,
        )  # fmt: skip

    def _for_shape(self, x: Tensor, threads: int, residual: bool) -> _ShapePlan:
        check_input("depthwise", x, self._weight, self.channels)
        if residual and (not self.outputs or x.dtype is not torch.float32):
            raise ArgumentError(
                "depthwise: a residual needs a pointwise step and an input of float32; got an input of "
                f"{x.dtype} and {self.outputs} outputs of a pointwise step"
            )
        geometry = self.geometry(x.shape, x.element_size(), residual)
        if min(geometry.out_size) < 1:
            raise ArgumentError(
                f"depthwise: the kernel is larger than the padded input; got an input of shape "
                f"{tuple(x.shape)} and weights of shape {self._weight}"
            )
        return _ShapePlan(layer_plan(geometry, threads), x.shape, x.dtype)


class PackedPointwise(ProcessBound):
    """Convolution of kernel size 1 with packed weights, for float32.

    Parameters
    ----------
    weight : Tensor, shape (outputs, channels, ...)
    bias : Tensor or None
    act : int
        The activation after it, by its place in `ACTIVATIONS`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, act: int) -> None:
        compiled = kernels()
        self.outputs, self.channels = weight.shape[:2]
        self._act, self._tensors = act, (weight.detach(), bias)
        panel, lanes = compiled.panel, compiled.lanes
        self._held = pack_pointwise_step(weight, bias, self.channels, panel, lanes)
        self.addresses = (0, 0, *(t.data_ptr() for t in self._held))

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Run the layer on a batch; the output has the layout of the input.

        A residual is a tensor of the output's shape that is added before the activation.
        """
        if x.shape[1] != self.channels:
            check_input("pointwise", x, (self.outputs, self.channels), self.channels)
        if residual is None and self.takes_first(x):
            return self._by_first(x)
        last = x.stride() == last_strides(x.shape)
        given, x = x, x if last else to_last(x)
        shape = (x.shape[0], self.outputs, *x.shape[2:])
        out = empty_strided(shape, last_strides(shape), torch.float32)
        added = checked_residual("pointwise", residual, shape)
        if out.numel():
            threads = torch.get_num_threads()
            geometry = self.geometry(out.numel() // self.outputs, residual=added is not None)
            plan = pointwise_plan(geometry, threads)
            source: Any = (x.data_ptr(), *_with_residual(self.addresses, added))
            run(plan, source, out.data_ptr(), threads)
        return out if last or channels_are_last(given) else to_first(out)

    def takes_first(self, x: Tensor) -> bool:
        """Return True if an input with its channels first is run as it lies, and so is its result."""
        if x.dim() < 3 or x.dtype is not torch.float32 or not x.is_contiguous():
            return False
        positions = math.prod(x.shape[2:])
        large = x.shape[0] * self.outputs * positions * 4 > STREAM_BYTES
        if positions < LEAST_POSITIONS or self.channels == 1 or large:
            return False
        return self._first_plan(x) is not None

    @cached_property
    def _first(self) -> tuple[DirectConvolutions, tuple[Convolution, ...]]:
        """The layer for inputs with their channels first, whose positions form one row."""
        one, none = (1, 1, 1), (0, 0, 0)
        step = Convolution(self.channels, self.outputs, 1, one, one, one, none, none, self._act)
        return DirectConvolutions(self._tensors), (step,)

    def _first_plan(self, x: Tensor) -> KernelPlan | None:
        direct, steps = self._first
        return direct.plan(x.flatten(2), steps, torch.get_num_threads())

    def _by_first(self, x: Tensor) -> Tensor:
        """Run the layer on an input with its channels first."""
        shape = (x.shape[0], self.outputs, *x.shape[2:])
        out = empty_strided(shape, dense_strides(shape), torch.float32)
        if out.numel():
            source: Any = (x.data_ptr(), *self._first[0].addresses)
            run(self._first_plan(x), source, out.data_ptr(), torch.get_num_threads())
        return out

    def geometry(self, positions: int, residual: bool = False) -> Geometry:
        """Return the sizes of the layer for a number of positions, which form one row."""
        return Geometry(
            1, self.channels, (1, 1, positions), (1, 1, 1), (1, 1, 1), (1, 1, 1), (0, 0, 0),
            (0, 0, 0), 1, self.outputs, 0, self._act, residual=residual,
        )  # fmt: skip


_prepared: dict[Any, tuple[tuple[Any, ...], tuple[int, ...], PackedLayer]] = {}


def cached_layer(
    tensors: tuple[Tensor, Tensor | None, Tensor | None, Tensor | None],
    channels: int,
    settings: Settings,
) -> PackedLayer:
    """Return the layer with these weights, packed again only if one of them has changed.

    A change is seen by the tensor's version, as autograd does it: what is written through ``.data``
    is seen if it moves the memory.
    """
    if any(t is not None and t.is_inference() for t in tensors):
        return PackedLayer(*tensors, channels, settings)
    key = (*map(id, tensors), channels, settings)
    state = tuple(0 if t is None else t._version for t in tensors)
    state += tuple(0 if t is None else t.data_ptr() for t in tensors)
    found = _prepared.get(key)
    if found is not None:
        same = all(r is None or r() is t for r, t in zip(found[0], tensors, strict=True))
        if same and found[1] == state:
            return found[2]
    made = PackedLayer(*tensors, channels, settings)
    references = tuple(
        None if t is None else weakref.ref(t, lambda _: _prepared.pop(key, None)) for t in tensors
    )
    _prepared[key] = (references, state, made)
    return made


# Weights in the order in which the kernels read them.


def pack_pointwise_step(
    weight: Tensor, bias: Tensor | None, channels: int, panel: int, lanes: int
) -> tuple[Tensor, Tensor]:
    """Pack the weights and biases of a pointwise step; the biases lie behind the weights in memory.

    So a kernel that adds a residual finds the biases by the address of the weights.
    """
    weights, biases = (
        pack_pointwise(weight, channels, panel, lanes),
        pack_bias(bias, weight.shape[0], panel),
    )
    packed = torch.cat([weights, biases])
    return packed[: weights.numel()], packed[weights.numel() :]


def pack_depthwise(weight: Tensor, channels: int, lanes: int) -> Tensor:
    """Pack weights ``(channels * multiplier, 1, *taps)`` as ``(multiplier, blocks, taps, lanes)``."""
    outputs = weight.shape[0]
    flat = weight.detach().reshape(channels, outputs // channels, -1).float()
    padded = functional.pad(flat.permute(1, 2, 0), (0, -channels % lanes))
    multiplier, taps, width = padded.shape
    return padded.reshape(multiplier, taps, width // lanes, lanes).transpose(1, 2).contiguous()


def pack_depthwise_bias(bias: Tensor | None, channels: int, outputs: int, lanes: int) -> Tensor:
    """Pack the biases of the depthwise step, or zeros, as ``(multiplier, blocks * lanes)``."""
    multiplier = outputs // channels
    if bias is None:
        return torch.zeros(multiplier, -(-channels // lanes) * lanes, dtype=torch.float32)
    flat = bias.detach().float().reshape(channels, multiplier).T
    return functional.pad(flat, (0, -channels % lanes)).contiguous()


def pack_pointwise(weight: Tensor, channels: int, panel: int, lanes: int) -> Tensor:
    """Pack weights as panels ``(depth, panel)``; the last one has as few vectors as it needs.

    `weight` is ``(outputs, channels * multiplier, ...)``; the rows of a panel have the multiplier outside.
    """
    outputs = weight.shape[0]
    matrix = weight.detach().float().reshape(outputs, channels, -1)
    depth = matrix.shape[1] * matrix.shape[2]
    across = matrix.permute(2, 1, 0).reshape(depth, outputs)
    full = outputs // panel * panel
    packed = [across[:, :full].reshape(depth, -1, panel).transpose(0, 1).reshape(-1)]
    if outputs > full:
        rest = across[:, full:]
        packed.append(functional.pad(rest, (0, -rest.shape[1] % lanes)).reshape(-1))
    return torch.cat(packed).contiguous()


def pack_bias(bias: Tensor | None, outputs: int, panel: int) -> Tensor:
    """Pack the biases of the pointwise step, or zeros, as whole panels."""
    if bias is None:
        return torch.zeros(-(-outputs // panel) * panel, dtype=torch.float32)
    return functional.pad(bias.detach().float(), (0, -outputs % panel)).contiguous()
