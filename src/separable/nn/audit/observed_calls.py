"""Observation of a running program: its convolutions and Fourier transforms, wherever they are called.

A dispatch mode sees the operations below modules and functions alike, with the weights that they
really use. Values get numbers: equal operations on equal numbers give one number, so that two
convolutions of one image are recognised even where each pads it again.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from separable.lowering.conv_spec import ConvSpec
from separable.nn.audit.layer_outputs import cropped
from separable.nn.audit.translations import Translations
from separable.nn.dense_weights import as_array
from separable.nn.factored_conv import FactoredConv
from separable.nn.torch_convs import weights_in_order
from separable.process_cache import ProcessBound

__all__ = ["ObservedConv", "ObservedTransform", "Observer", "observed"]

Array = NDArray[Any]
Shape = tuple[int, ...]

_CONVOLUTION = torch.ops.aten.convolution.default
_R2C, _C2C, _C2R = (
    getattr(torch.ops.aten, f"_fft_{name}").default for name in ("r2c", "c2c", "c2r")
)
_LIBRARIES = tuple(
    str(Path(file).resolve().parent) for file in (torch.__file__, __file__) if file is not None
)
SMALLEST = 8  # smallest axis of a Fourier transform that is examined


@dataclass(eq=False)
class ObservedConv:
    """Convolution that a program runs, with the weights that it uses.

    Attributes
    ----------
    name, where, kind : str
        As in `AuditedLayer`.
    spec : ConvSpec
    weight : ndarray, shape ``spec.weight_shape``
    dtype : torch.dtype
    shapes : list of tuple of int
        Shape of the input in each call.
    values : list of int
        Number of the input value in each call: equal for equal inputs.
    reason : str
        Reason why it cannot be examined.
    inputs : Tensor or None
        Input of the first call, cropped; None if the program is not run.
    """

    name: str
    where: str
    kind: str
    spec: ConvSpec
    weight: Array
    dtype: torch.dtype
    shapes: list[Shape] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    reason: str = ""
    inputs: Tensor | None = None

    @property
    def title(self) -> str:
        """Name for messages."""
        return " ".join(t for t in (self.name, self.where) if t) or "(model)"


@dataclass(frozen=True)
class ObservedTransform:
    """Fourier transform over several axes of values that are a product of 1-D factors.

    Attributes
    ----------
    name, where : str
        As in `AuditedLayer`.
    size : tuple of int
        Size along each transformed axis.
    count : int
        Number of transforms.
    forward : bool
        False for an inverse transform.
    """

    name: str
    where: str
    size: Shape
    count: int
    forward: bool


class Observer(TorchDispatchMode, ProcessBound):  # type: ignore[no-untyped-call]
    """Recorder of the convolutions and Fourier transforms that run while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack: list[tuple[str, nn.Module]] = []
        self.convolutions: dict[Any, ObservedConv] = {}
        self.transforms: list[ObservedTransform] = []
        self.translations = Translations()
        self._kept: list[Tensor] = []  # weights, so that no other tensor gets their address
        self._numbers: Any = WeakIdKeyDictionary()
        self._known: dict[Any, int] = {}
        self._next = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note it."""
        kwargs = kwargs or {}
        if func is _CONVOLUTION:
            self._note_convolution(*args)
        if func in (_R2C, _C2C, _C2R):
            forward = bool(args[3]) if func is _C2C else func is _R2C
            self._note_transform(args[0], args[1], forward)
        stencil = self.translations.before(func, args, kwargs, self.number)
        output = func(*args, **kwargs)
        self._number_outputs(func, args, kwargs, output)
        if stencil is not None and isinstance(output, Tensor):
            name = self.stack[-1][0] if self.stack else ""
            place = (name, source_line() if len(stencil.taps) > 1 else "")
            self.translations.after(stencil, self.number(output), place)
        return output

    # Numbers of values.

    def number(self, tensor: Tensor) -> int:
        """Return the number of a value."""
        if tensor not in self._numbers:
            self._numbers[tensor] = self._fresh()
        found: int = self._numbers[tensor]
        return found

    def _fresh(self) -> int:
        self._next += 1
        return self._next

    def _number_outputs(self, func: Any, args: Any, kwargs: Any, output: Any) -> None:
        tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        if func._schema.is_mutable:
            for tensor in tensors:
                self._numbers[tensor] = self._fresh()
            return
        if torch.Tag.nondeterministic_seeded in func.tags or not tensors:
            return
        others = [
            self.number(v) if isinstance(v, Tensor) else repr(v)
            for v in tree_leaves((args, kwargs))
        ]
        for at, value in enumerate(v for v in tree_leaves(output) if isinstance(v, Tensor)):
            if not any(value is t for t in tensors):
                key = (func, at, *others)
                self._numbers[value] = self._known.setdefault(key, self._next + 1)
                self._next = max(self._next, self._numbers[value])

    # Operations of interest.

    def _note_convolution(self, x: Tensor, weight: Tensor, bias: Any, *arguments: Any) -> None:
        stride, padding, dilation, transposed, output_padding, groups = arguments
        name, module = self.stack[-1] if self.stack else ("", None)
        inside = next(((n, m) for n, m in self.stack if isinstance(m, FactoredConv)), None)
        if sum(k > 1 for k in weight.shape[2:]) > 1 and groups == x.shape[1]:
            inside = None  # a depthwise step, whose spatial axes may separate
        is_module = isinstance(module, nn.modules.conv._ConvNd)
        where = "" if is_module or inside else source_line()
        if inside is not None:
            name = inside[0]
        ndim = weight.dim() - 2
        own = (name, "inside") if inside else (
            name, where, (weight.data_ptr(), weight.stride(), weight._version),
            tuple(weight.shape), repr(arguments),
        )  # fmt: skip
        if own not in self.convolutions:
            self._kept.append(weight)
            known = self._same_weights(own, weight)
            if known is None:
                count = sum(key[:2] == own[:2] for key in self.convolutions)
                where = f"{where} ({count + 1})" if where and count else where
                self.convolutions[own] = self._entry(
                    name, where, inside[1] if inside else module if is_module else None, weight,
                    (x.shape[1], bias is not None, stride, padding, dilation, transposed,
                     output_padding, groups, ndim),
                )  # fmt: skip
            else:
                own = known
        found = self.convolutions[own]
        found.shapes.append(tuple(x.shape))
        if found.inputs is None and not found.reason and x.is_floating_point():
            with torch.utils._python_dispatch._disable_current_modes():
                found.inputs = cropped(x, ndim)
        found.values.append(self.number(x))

    def _same_weights(self, own: Any, weight: Tensor) -> Any:
        """Return the key of a convolution on the same line with equal weights, computed again."""
        if len(own) < 3:
            return None
        for key, other in self.convolutions.items():
            if len(key) > 2 and key[:2] == own[:2] and key[3:] == own[3:] and own[1]:
                canonical = weights_in_order(
                    as_array(weight), other.spec.groups, other.spec.transposed
                )
                if np.array_equal(canonical, other.weight):
                    return key
        return None

    def _entry(
        self, name: str, where: str, module: nn.Module | None, weight: Tensor, how: Any
    ) -> ObservedConv:
        channels, bias, stride, padding, dilation, transposed, extra, groups, ndim = how
        filters = weight.shape[1] * groups if transposed else weight.shape[0]
        options: dict[str, Any] = {}
        if transposed:
            options = {"transposed": True, "output_padding": list(extra)[-ndim:]}
        spec = ConvSpec.make(
            "audit", ndim, in_channels=int(channels), out_channels=int(filters),
            kernel_size=tuple(weight.shape[2:]), stride=list(stride), padding=list(padding),
            dilation=list(dilation), groups=groups, bias=bias, **options,
        )  # fmt: skip
        kind = f"conv{'_transpose' if transposed else ''}{ndim}d"
        if module is not None:
            kind = type(module).__name__
        reason = "separable already" if isinstance(module, FactoredConv) else ""
        found = weights_in_order(as_array(weight), groups, transposed)
        if not reason and not np.isfinite(found).all():
            reason = "weights that are not finite"
        if isinstance(module, FactoredConv):
            spec = module.spec
        return ObservedConv(name, where, kind, spec, found, weight.dtype, reason=reason)

    def _note_transform(self, x: Tensor, dims: Any, forward: bool) -> None:
        axes = [d % x.dim() for d in dims]
        size = tuple(x.shape[d] for d in axes)
        if len(axes) < 2 or min(size) < SMALLEST or not _is_product(x, axes):
            return
        name = self.stack[-1][0] if self.stack else ""
        count = x.numel() // int(np.prod(size))
        self.transforms.append(ObservedTransform(name, source_line(), size, count, forward))


def _is_product(x: Tensor, axes: list[int]) -> bool:
    """Return True if all values over some axes are products of one factor per axis, none constant."""
    lead = [a for a in range(x.dim()) if a not in axes]
    values = as_array(x.permute(*lead, *axes).resolve_conj())
    items = values.reshape(-1, *(x.shape[a] for a in axes))
    tolerance = 64 * float(np.finfo(values.dtype).eps)
    return all(_is_rank_one(item, tolerance) for item in items)


def _is_rank_one(values: Array, tolerance: float) -> bool:
    """Compare an array with the product of its lines through its largest element."""
    top = np.unravel_index(int(np.argmax(np.abs(values))), values.shape)
    peak = values[top]
    if peak == 0:
        return False
    product = np.ones(1, values.dtype)
    for axis in range(values.ndim):
        index: list[Any] = list(top)
        index[axis] = slice(None)
        line = values[tuple(index)]
        size = np.abs(line)
        if np.ptp(size) <= tolerance * abs(peak) or np.sum(size > tolerance * abs(peak)) < 2:
            return False  # constant, or a single sample: nothing to gain
        product = np.multiply.outer(product, line / peak)
    difference = np.abs(values - peak * product.reshape(values.shape))
    return bool(difference.max() <= tolerance * abs(peak))


def source_line() -> str:
    """Return the file and line that called PyTorch, or an empty string."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_LIBRARIES) and not file.startswith("<frozen"):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@contextlib.contextmanager
def observed(model: Callable[..., Any]) -> Iterator[Observer]:
    """Observe a model or function; modules are named by their paths."""
    observer = Observer()
    handles: list[Any] = []
    if isinstance(model, nn.Module):
        for name, module in model.named_modules():

            def enter(module: nn.Module, args: Any, name: str = name) -> None:
                observer.stack.append((name, module))

            def leave(module: nn.Module, args: Any, output: Any) -> None:
                observer.stack.pop()

            handles += [
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave, always_call=True),
            ]
    try:
        with observer, torch.no_grad():
            yield observer
    finally:
        for handle in handles:
            handle.remove()
