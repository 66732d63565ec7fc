"""ledger: run a model on fake tensors and count every operation."""

from __future__ import annotations

import bisect
import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from separable.errors import ArgumentError, ArgumentTypeError
from separable.nn.ledger.counter import ModuleTotals
from separable.nn.ledger.fake_model import DEVICE, Shapes, fake_copy, fake_inputs, fake_keywords
from separable.nn.ledger.formulas import Operation, tensors
from separable.nn.ledger.ledger_data import Ledger

__all__ = ["ledger"]

FREE = ("prim",)  # namespaces of queries without arithmetic, such as the device of a tensor


def ledger(
    model: nn.Module,
    input_shape: Shapes,
    *,
    dtype: torch.dtype | Sequence[torch.dtype] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    backward: bool = True,
) -> Ledger:
    """Count what a network costs, layer by layer, forward and backward.

    Nothing is computed and no memory is taken for weights or activations: a copy of the model
    runs on tensors that have a shape only. The model may be on any device, "meta" too, and is
    left as it is.

    Parameters
    ----------
    model : torch.nn.Module
        Counted in the mode it is in, training or evaluation.
    input_shape : tuple of int, or list of such
        Shape of the input *with* its batch, ``(1, 3, 224, 224)``, or one for each input. A tensor
        stands for its shape and type.
    dtype : torch.dtype or one for each input, optional
        The type of the model's parameters if not given; `torch.int64` for tokens.
    kwargs : mapping, optional
        Inputs that `forward` takes by name. Tuples of whole numbers are shapes, all else is
        passed on.
    backward : bool
        Count the gradients too. They start at every output, and the input needs none.

    Returns
    -------
    Ledger

    Raises
    ------
    ArgumentError
        If the model refuses such an input, or reads values: what it does then depends on data.
    ArgumentTypeError
        If `model` is none, or `input_shape` no shape.

    Notes
    -----
    Conventions stand in the documentation of `separable.nn.ledger`'s package: products with
    zeros of the padding count, biases are counted apart, bytes are those of each operation's
    operands and results.

    Examples
    --------
    >>> import torch
    >>> ledger(torch.nn.Conv2d(3, 256, 5), (1, 3, 12, 12)).total.multiplications
    1228800
    >>> block = torch.nn.Sequential(
    ...     torch.nn.Conv2d(64, 64, 3, groups=64, bias=False),
    ...     torch.nn.Conv2d(64, 128, 1, bias=False),
    ... )
    >>> print(ledger(block, (1, 64, 3, 3)).table())
    Sequential on 1x64x3x3 float32, in training mode
    ...
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        raise ArgumentTypeError(
            f"`model` is TorchScript ({type(model).__name__}), which cannot be followed layer by "
            "layer: give the module that it was made from"
        )
    model = getattr(model, "_orig_mod", model)  # the module that torch.compile wraps
    with FakeTensorMode(allow_non_fake_inputs=True), _as_trained():
        # Step 1: a copy of the model, and inputs, that have no memory.
        inputs = fake_inputs(model, input_shape, dtype)
        keywords = fake_keywords(model, kwargs)
        copied = fake_copy(model)
        # Step 2: run it forward and backward; every operation goes into the book.
        recorder = _Recorder(copied)
        outputs = _forward(recorder, copied, inputs, keywords)
        if backward:
            _backward(recorder, outputs)
        # Step 3: one row for each module.
        return Ledger(
            model=type(model).__name__,
            inputs=tuple(_describe(t) for t in tensors([inputs, keywords])),
            training=model.training,
            layers=recorder.book.layers(),
            uncounted=recorder.book.uncounted(),
            containers=recorder.book.containers(),
            operations=tuple(recorder.book.operations),
        )


@contextlib.contextmanager
def _as_trained() -> Iterator[None]:
    """Record gradients, and disable compilation, fusion and processor-specific shortcuts."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.device(DEVICE))
        # oneDNN runs a whole LSTM as one operation; without it, the parts are visible.
        stack.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())
        torch._C._set_mkldnn_enabled(False)
        if hasattr(torch.compiler, "set_stance"):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _forward(
    recorder: _Recorder, model: nn.Module, inputs: Sequence[Tensor], keywords: Mapping[str, Any]
) -> list[Tensor]:
    """Run the model and return its outputs; errors name the layer and the shapes."""
    try:
        with recorder.hooked(model), recorder:
            return _results(model(*inputs, **keywords))
    except (DataDependentOutputException, DynamicOutputShapeException) as problem:
        raise ArgumentError(
            f"`model` cannot be counted without data: {recorder.where()} reads values of a tensor "
            f"({problem}), and what follows depends on them. Count the parts before and after"
        ) from problem
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as problem:
        given = ", ".join(_describe(t) for t in tensors([list(inputs), dict(keywords)]))
        raise ArgumentError(
            f"`input_shape` does not go through the model: {recorder.where()} says: "
            f"{str(problem).strip() or type(problem).__name__}\n"
            f"The input was {given or 'empty'}; the shape has the batch first, other types are "
            "given as `dtype=`, inputs with names as `kwargs=`"
        ) from problem


def _backward(recorder: _Recorder, outputs: Sequence[Tensor]) -> None:
    ends = [t for t in outputs if t.requires_grad]
    if not ends:
        if any(p.requires_grad for p in recorder.book.model.parameters()):
            recorder.book.refuse("", "backward", "no output has a gradient")
        return
    gradients = [torch.empty_like(t) for t in ends]
    recorder.book.is_backward = True
    with recorder:
        torch.autograd.backward(ends, gradients)
    recorder.book.close()


def _results(output: Any, depth: int = 3) -> list[Tensor]:
    """Return the tensors that a model returned, also those in attributes of an object."""
    found = []
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif depth and isinstance(leaf, Mapping):
            found += _results(list(leaf.values()), depth - 1)
        elif depth and hasattr(leaf, "__dict__"):
            found += _results(list(vars(leaf).values()), depth - 1)
    return tensors(found)


def _describe(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that sees every operation below autograd and the module that ran it.

    Forward that is the innermost module that is running. Backward it is found by autograd's
    sequence numbers: nodes are numbered as they are made, so that a node belongs to the module
    that was running when its number was the next one.
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.book = ModuleTotals(model)
        self.running: list[str] = []
        self.failed: str | None = None
        self.marks: list[int] = []
        self.marked: list[str] = []

    @contextlib.contextmanager
    def hooked(self, model: nn.Module) -> Iterator[None]:
        """Follow which module runs; the hooks stay for computations repeated in the backward pass."""
        for module in model.modules():
            module.register_forward_pre_hook(self._enter, with_kwargs=True)
            module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)
        yield

    def where(self) -> str:
        """Return the layer in which an error occurred."""
        name = self.failed if self.failed is not None else ""
        kind = self.book.kind(name)
        return f"layer `{name}` ({kind})" if name else kind

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        name = self.book.enter(module, tensors([list(args), dict(kwargs)]))
        self.running.append(name)
        self._mark()

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        name = self.running.pop()
        if sys.exc_info()[0] is not None and self.failed is None:
            self.failed = name
        self.book.leave(name, tensors(output))
        self._mark()

    def _mark(self) -> None:
        self.marks.append(torch._C._autograd._get_sequence_nr())
        self.marked.append(self.running[-1] if self.running else "")

    def _layer(self) -> str:
        if self.running:
            return self.running[-1]
        node: Any = torch._C._current_autograd_node()
        if node is None:
            return ""
        if hasattr(node, "variable"):  # the gradient of a parameter arrives
            return self.book.owner(node.variable)
        at = bisect.bisect_right(self.marks, node._sequence_nr()) - 1
        return self.marked[at] if at >= 0 else ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(func, torch._ops.OpOverload):
            self.book.refuse(self._layer(), str(func), "an operator with functions inside")
        elif func.namespace not in FREE and not func.is_view:
            self.book.write(self._layer(), Operation(func, args, kwargs, result))
        return result
