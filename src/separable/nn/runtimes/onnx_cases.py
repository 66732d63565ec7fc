"""Cases of a profile as nodes of one ONNX graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from separable.cost import Convolution
from separable.nn.runtimes.profile_cases import JOINED_KIND, ProfileCase

__all__ = ["model_of_cases"]

OPSET, IR_VERSION = 20, 10
Nodes = list[Any]


def model_of_cases(cases: Sequence[ProfileCase]) -> tuple[Any, dict[str, Any]]:
    """Return an ONNX model whose nodes are the cases, independent of each other, and its inputs.

    The names of the nodes of case k begin with ``case_k_``. Cases without a node are left out.
    """
    from onnx import TensorProto, helper  # optional dependency

    builder = _Builder()
    inputs, outputs, feeds = [], [], {}
    for at, case in enumerate(cases):
        build = _BUILDERS.get(case.operation)
        if build is None or case.work.kind == JOINED_KIND:
            continue
        names = [f"in_{at}_{i}" for i in range(len(case.shapes))]
        for name, shape, tensor in zip(names, case.shapes, case.inputs(), strict=True):
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
            feeds[name] = tensor.numpy()
        builder.begin(at)
        build(builder, case, names)
        outputs.append(helper.make_tensor_value_info(f"case_{at}_out", TensorProto.FLOAT, None))
    graph = helper.make_graph(builder.nodes, "cases", inputs, outputs, builder.weights)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION), feeds


class _Builder:
    """Nodes and weights of a graph."""

    def __init__(self) -> None:
        self.nodes: Nodes = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(0)
        self._case = 0
        self._count = 0

    def begin(self, case: int) -> None:
        """Begin the nodes of another case."""
        self._case, self._count = case, 0

    def node(
        self, kind: str, inputs: Sequence[str], *, last: bool = True, **attributes: Any
    ) -> str:
        """Add a node and return the name of its output."""
        from onnx import helper  # optional dependency

        self._count += 1
        name = f"case_{self._case}_{self._count}"
        output = f"case_{self._case}_out" if last else f"{name}_value"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def weight(self, shape: Sequence[int]) -> str:
        """Add random weights and return their name."""
        return self.constant(self._random.random(tuple(shape), dtype=np.float32) + 0.1)

    def constant(self, values: Any) -> str:
        """Add an array and return its name."""
        from onnx import numpy_helper  # optional dependency

        name = f"weights_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name


Build = Callable[[_Builder, ProfileCase, Sequence[str]], None]


def _convolution(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
    conv = case.convolution
    assert conv is not None
    shape = _weight_shape(conv)
    before = [p for p, _ in conv.padding]
    builder.node(
        "ConvTranspose" if conv.transposed else "Conv",
        [*names, builder.weight(shape), builder.weight((conv.filters,))],
        strides=list(conv.stride), dilations=list(conv.dilation), group=conv.groups,
        pads=[*before, *before], kernel_shape=list(conv.kernel),
    )  # fmt: skip


def _weight_shape(conv: Convolution) -> tuple[int, ...]:
    if conv.transposed:
        return (conv.channels, conv.filters // conv.groups, *conv.kernel)
    return (conv.filters, conv.channels // conv.groups, *conv.kernel)


def _linear(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
    summed = case.shapes[0][1]
    columns = round(2 ** case.work.sizes[2])
    weights = [builder.weight((summed, columns)), builder.weight((columns,))]
    builder.node("Gemm", [*names, *weights])


def _silu(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
    sigmoid = builder.node("Sigmoid", names, last=False)
    builder.node("Mul", [names[0], sigmoid])


def _batch_norm(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
    builder.node(
        "BatchNormalization", [*names, *(builder.weight(case.shapes[0][1:2]) for _ in range(4))]
    )


def _layer_norm(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
    shape = case.shapes[0][1:]
    builder.node("LayerNormalization", [*names, builder.weight(shape)], axis=1)


def _pool(kind: str) -> Build:
    def build(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
        size = round(math.sqrt(2 ** case.work.sizes[2]))
        pads = [1, 1, 1, 1] if size == 3 else [0, 0, 0, 0]
        builder.node(kind, names, kernel_shape=[size] * 2, strides=[2, 2], pads=pads)

    return build


def _resize(mode: str) -> Build:
    def build(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
        scales = builder.constant(np.array([1, 1, 2, 2], np.float32))
        options: dict[str, Any] = {} if mode == "linear" else {
            "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"
        }  # fmt: skip
        builder.node("Resize", [names[0], "", scales], mode=mode, **options)

    return build


def _pad(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
    builder.node("Pad", [*names, builder.constant(np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64))])


def _plain(kind: str, **attributes: Any) -> Build:
    def build(builder: _Builder, case: ProfileCase, names: Sequence[str]) -> None:
        builder.node(kind, names, **attributes)

    return build


_BUILDERS: dict[str, Build] = {
    "convolution": _convolution,
    "addmm": _linear,
    "relu": _plain("Relu"),
    "silu": _silu,
    "sigmoid": _plain("Sigmoid"),
    "hardswish": _plain("HardSwish"),
    "gelu": _plain("Gelu"),
    "add": _plain("Add"),
    "mul": _plain("Mul"),
    "native_batch_norm": _batch_norm,
    "native_layer_norm": _layer_norm,
    "max_pool2d_with_indices": _pool("MaxPool"),
    "avg_pool2d": _pool("AveragePool"),
    "mean": _plain("GlobalAveragePool"),
    "_softmax": _plain("Softmax", axis=-1),
    "upsample_nearest2d": _resize("nearest"),
    "upsample_bilinear2d": _resize("linear"),
    "cat": _plain("Concat", axis=1),
    "constant_pad_nd": _pad,
}
