"""ONNX graphs as modules: convolutions run in PyTorch, everything else in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily

from separable.errors import ArgumentError
from separable.nn.formats.onnx_layers import Call
from separable.nn.formats.onnx_reading import graph_inputs
from separable.nn.formats.onnx_sizes import GraphSizes, sizes_of
from separable.nn.formats.onnx_stages import Scope, Stages, array_of

__all__ = ["OnnxGraph"]

Array = NDArray[Any]
Shape = tuple[int, ...]


class OnnxGraph(nn.Module):
    """ONNX model whose convolutions are modules.

    It is called with the graph's inputs and gives the graph's outputs. On tensors without memory
    the convolutions alone run, on values of their real shapes, and as many multiplications as the
    other nodes take are counted.

    Parameters
    ----------
    model : onnx.ModelProto
        Kept as it is.
    title : str
        Name of the model, for messages.
    layers : mapping of str to torch.nn.Module
        Modules by their paths, such as ``block.conv``.
    calls : sequence of Call

    Attributes
    ----------
    even_ranks : bool
        `convert` gives all channels of a layer the same rank, because ONNX has no layer with
        different ones.
    fixed_batch : int or None
        Number of samples of every call, if the graph takes no other.
    times_layers : bool
        False: `convert` does not time the layers in PyTorch, because the file runs elsewhere.
    """

    even_ranks = True
    times_layers = False
    fixed_batch: int | None = None

    def __init__(
        self, model: Any, title: str, layers: Mapping[str, nn.Module], calls: Sequence[Call]
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            owner: nn.Module = self
            *parts, last = name.split(".")
            for part in parts:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            owner.add_module(last, layer)
        self.calls = tuple(calls)
        self.plan = _Plan(model, title, self.calls)

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        """Run the graph; values that are no longer needed are released."""
        if any(isinstance(value, FakeTensor) for value in inputs):
            return self._counted(inputs)
        values = self.plan.stages.run(self.plan.given(inputs), self._convolved)
        found = [_tensor(values[name]) for name in self.plan.stages.outputs if name in values]
        return [value for value in found if isinstance(value, Tensor)]

    def onnx_bytes(self) -> bytes:
        """Return the graph as it is written to a file, with the present layers, to measure its time."""
        writer = self.plan.writer
        if writer is None:
            raise ArgumentError(f"{self.plan.title} was not read from a file: it cannot be written")
        return writer(self)

    def _convolved(self, call: Call, value: Any) -> Tensor:
        tensor = _tensor(value)
        padded = tensor if call.padding is None else call.padding.apply(tensor)
        found: Tensor = self.get_submodule(call.layer)(padded)
        return found

    def _counted(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        with unset_fake_temporarily():
            sizes = self.plan.sizes([tuple(value.shape) for value in inputs])
        outputs = []
        for call, shape in sizes.calls:
            like = next(self.get_submodule(call.layer).parameters())
            outputs.append(self._convolved(call, like.new_empty(shape)))
        rest = sizes.others
        for side in (1024, 32, 1):  # square products, which move few bytes
            count, rest = divmod(rest, side * side)
            if count:
                block = inputs[0].new_empty(side, count, dtype=torch.float32)
                block @ block.T
        return outputs


class _Plan:
    """Order of execution of a graph and its sizes, shared by its copies."""

    def __init__(self, model: Any, title: str, calls: Sequence[Call]) -> None:
        self.model = model
        self.title = title
        self.inputs = [name for name, _ in graph_inputs(model.graph)]
        self.calls = tuple(calls)
        self.examples: dict[str, Array] = {}
        places = {call.place: call for call in calls}
        opened = {
            place[:k]
            for place in places
            for k in range(1, len(place))
            if isinstance(place[k - 1], int)
        }
        self.stages = Stages(Scope(model, [model.graph]), places, opened)
        self._known: dict[tuple[Shape, ...], GraphSizes] = {}
        self.writer: Callable[[nn.Module], bytes] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> _Plan:
        return self

    @property
    def gone(self) -> list[list[str]]:
        """Values that are no longer needed after each stage."""
        return self.stages.gone

    def remember(self, inputs: Sequence[Tensor | None]) -> None:
        """Keep values of inputs, on which sizes may depend; None keeps nothing."""
        for name, value in zip(self.inputs, inputs, strict=False):
            if value is not None:
                self.examples[name] = value.detach().cpu().numpy()
                self._known.clear()

    def given(self, inputs: Sequence[Tensor]) -> dict[str, Any]:
        """Name the inputs; numbers get the precision that the graph takes."""
        from onnx import helper  # optional dependency

        if len(inputs) != len(self.inputs):
            raise ArgumentError(
                f"{self.title} takes {len(self.inputs)} inputs ({', '.join(self.inputs)}); "
                f"got {len(inputs)}"
            )
        kinds = {v.name: v.type.tensor_type.elem_type for v in self.model.graph.input}
        values: dict[str, Any] = {}
        for name, value in zip(self.inputs, inputs, strict=True):
            kind = helper.tensor_dtype_to_np_dtype(kinds[name])
            array = array_of(value)
            values[name] = array.astype(kind) if array.dtype.kind == kind.kind else array
        return values

    def sizes(self, inputs: Sequence[Shape]) -> GraphSizes:
        """Return the sizes of all convolutions for the given input shapes.

        Raises
        ------
        ArgumentError
            If the graph does not take them, or its sizes cannot be known without onnxruntime.
        """
        key = tuple(inputs)
        if key not in self._known:
            self._known[key] = sizes_of(self.model, self.calls, inputs, self.examples, self.title)
        return self._known[key]


def _tensor(value: Any) -> Any:
    """Convert an array of numbers to a tensor; texts and sequences are returned unchanged."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value)
    return value
