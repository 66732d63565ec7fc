"""The same layers in ONNX Runtime, OpenVINO and LiteRT, for the benchmarks: only those that are installed.

A layer is a `Conv`: weights and biases as PyTorch has them, padding, stride, groups, and the clamp after it.
LiteRT wants a model in its own format; `litert_bytes` writes one without TensorFlow.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Run = Callable[[], Any]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Conv:
    """One convolution: weights (out, in / groups, *kernel), as `torch.nn` has them; `act` is none, relu or relu6.

    `same`: padding as TensorFlow has it, less before than after; LiteRT knows it, and the writer of ONNX does not.
    """

    weight: Array
    bias: Array
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int
    act: str = "none"
    same: bool = False


@dataclass(frozen=True)
class Peer:
    """A runtime with the model in it: `run` alone is timed, `result` is as PyTorch lays it out."""

    run: Run
    result: Callable[[], Array]


def peers_of(layers: Sequence[Conv], x: Array, threads: int) -> dict[str, Peer]:
    """Return the runtimes that are installed, with some layers one after the other."""
    found: dict[str, Peer] = {}
    data = onnx_bytes(layers, x.shape)
    makers: dict[str, Callable[[], Peer]] = {
        "onnxruntime": lambda: onnxruntime(data, x, threads),
        "openvino": lambda: openvino(data, x, threads),
        "LiteRT": lambda: litert(layers, x, threads),
    }
    for name, make in makers.items():
        with contextlib.suppress(ImportError, NotImplementedError):
            found[name] = make()
    return found


def onnx_bytes(layers: Sequence[Conv], shape: tuple[int, ...]) -> bytes:
    """Write convolutions and clamps one after the other as an ONNX model."""
    import onnx
    from onnx import helper, numpy_helper

    if any(layer.same or layer.act == "relu" for layer in layers):
        raise NotImplementedError("ONNX: padding of TensorFlow, or a ReLU")
    nodes, weights, name = [], [], "x"
    for i, layer in enumerate(layers):
        weights.append(numpy_helper.from_array(layer.weight, f"w{i}"))
        weights.append(numpy_helper.from_array(layer.bias, f"b{i}"))
        nodes.append(helper.make_node(
            "Conv", [name, f"w{i}", f"b{i}"], [f"t{i}"], strides=list(layer.stride),
            pads=list(layer.padding) * 2, group=layer.groups,
        ))  # fmt: skip
        name = f"t{i}"
        if layer.act == "relu6":
            for bound, value in (("l", 0.0), ("h", 6.0)):
                weights.append(numpy_helper.from_array(np.float32(value), f"{bound}{i}"))
            nodes.append(helper.make_node("Clip", [name, f"l{i}", f"h{i}"], [f"c{i}"]))
            name = f"c{i}"
    one = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "layers", [helper.make_tensor_value_info("x", one, shape)],
        [helper.make_tensor_value_info(name, one, None)], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def onnxruntime(data: bytes, x: Array, threads: int) -> Peer:
    """A session of ONNX Runtime."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return Peer(lambda: session.run(None, {name: x}), lambda: session.run(None, {name: x})[0])


def openvino(data: bytes, x: Array, threads: int) -> Peer:
    """A request of OpenVINO, in float32."""
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    core = ov.Core()
    request = core.compile_model(core.read_model(data), "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def result() -> Array:
        request.infer()
        return np.array(request.get_output_tensor().data)

    return Peer(request.infer, result)


def openvino_kernels() -> list[str]:
    """Return the names of the kernels with which OpenVINO runs a small layer; none if it is not installed."""
    try:
        import openvino as ov
    except ImportError:
        return []
    layer = Conv(np.ones((64, 64, 3, 3), np.float32), np.zeros(64, np.float32), (1, 1), (1, 1), 1)
    core = ov.Core()
    model = core.read_model(onnx_bytes([layer], (1, 64, 8, 8)))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    operators = compiled.get_runtime_model().get_ordered_ops()
    return [str(o.get_rt_info()["primitiveType"].astype(str)) for o in operators]


def litert(layers: Sequence[Conv], x: Array, threads: int) -> Peer:
    """An interpreter of LiteRT, which lays channels last; the time of that is not counted."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=litert_bytes(layers, x.shape), num_threads=threads)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    made = interpreter.get_output_details()[0]["index"]
    lines = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    interpreter.set_tensor(place, lines.reshape(interpreter.get_input_details()[0]["shape"]))

    def result() -> Array:
        interpreter.invoke()
        found = interpreter.get_tensor(made)
        sizes = list(x.shape[2:])
        for layer in layers:
            sizes = _sizes(sizes, layer)
        return np.moveaxis(found.reshape(x.shape[0], *sizes, -1), -1, 1)

    return Peer(interpreter.invoke, result)


def _sizes(sizes: Sequence[int], layer: Conv) -> list[int]:
    kernel = layer.weight.shape[2:]
    if layer.same:
        return [-(-n // s) for n, s in zip(sizes, layer.stride, strict=True)]
    return [
        (n + 2 * p - k) // s + 1
        for n, p, k, s in zip(sizes, layer.padding, kernel, layer.stride, strict=True)
    ]


def _in_plane(layer: Conv, n: int, sizes: Sequence[int]) -> tuple[tuple[int, ...], slice]:
    """Return (batch, rows, columns) in which a step over one plane is one over two axes, and these axes."""
    kernel = layer.weight.shape[2:]
    if len(sizes) == 1:
        return (n, 1, sizes[0]), slice(0, 1)
    if len(sizes) == 2:
        return (n, *sizes), slice(0, 2)
    if kernel[0] == 1 and layer.padding[0] == 0:
        return (n * sizes[0], *sizes[1:]), slice(1, 3)
    if kernel[1:] == (1, 1) and not any(layer.padding[1:]) and n == 1:
        return (1, sizes[0], math.prod(sizes[1:])), slice(0, 1)
    raise NotImplementedError("LiteRT has no grouped convolution over three axes")


class _Writer:
    """A model of LiteRT as it grows."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.model = schema.ModelT()
        self.model.version, self.model.operatorCodes = 3, []
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self._codes: dict[int, int] = {}

    def tensor(self, shape: Sequence[int], data: NDArray[Any] | None = None) -> int:
        tensor = self.schema.TensorT()
        tensor.shape = np.array(shape, np.int32)
        kinds = self.schema.TensorType
        integer = data is not None and data.dtype == np.int32
        tensor.type = kinds.INT32 if integer else kinds.FLOAT32
        tensor.buffer = 0
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int, options: Any) -> None:
        code = getattr(self.schema.BuiltinOperator, name)
        if code not in self._codes:
            made = self.schema.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), 1
            self.model.operatorCodes.append(made)
            self._codes[code] = len(self._codes)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self._codes[code]
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
        self.graph.operators.append(operator)

    def reshaped(self, at: int, shape: Sequence[int]) -> int:
        if tuple(self.graph.tensors[at].shape) == tuple(shape):
            return at
        out = self.tensor(shape)
        options = self.schema.ReshapeOptionsT()
        options.newShape = np.array(shape, np.int32)
        self.operator(
            "RESHAPE", [at, self.tensor([len(shape)], np.array(shape, np.int32))], out, options
        )
        return out

    def convolution(self, at: int, layer: Conv, batch: tuple[int, ...], axes: slice) -> int:
        schema, channels = self.schema, self.graph.tensors[at].shape[-1]
        kernel, stride, pad = (
            tuple(v[axes]) for v in (layer.weight.shape[2:], layer.stride, layer.padding)
        )
        if len(kernel) == 1 and len(layer.weight.shape) == 3:
            kernel, stride, pad = (1, *kernel), (1, *stride), (0, *pad)
        elif len(kernel) == 1:
            kernel, stride, pad = (*kernel, 1), (*stride, 1), (*pad, 0)
        at = self.reshaped(at, (*batch, channels))
        # Its own padding is what PyTorch has only at stride 1.
        same = any(pad) and all(2 * p + 1 == k for p, k in zip(pad, kernel, strict=True))
        same = layer.same or (same and set(stride) == {1})
        if any(pad) and not same:
            ends = np.array([(0, 0), *((p, p) for p in pad), (0, 0)], np.int32)
            shape = [batch[0], *(n + 2 * p for n, p in zip(batch[1:], pad, strict=True)), channels]
            padded = self.tensor(shape)
            self.operator("PAD", [at, self.tensor([4, 2], ends)], padded, schema.PadOptionsT())
            at, batch = padded, tuple(shape[:3])
        outputs = layer.weight.shape[0]
        weight = np.moveaxis(layer.weight.reshape(outputs, -1, *kernel), 1, -1)
        depthwise = layer.groups > 1 or (channels == 1 and layer.weight.shape[0] == 1)
        if depthwise and layer.groups not in (1, channels):
            raise NotImplementedError("LiteRT: groups")
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        if depthwise:
            weight = np.moveaxis(weight[..., 0], 0, -1)[None]
            options.depthMultiplier = outputs // channels
        options.strideH, options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        act = schema.ActivationFunctionType
        options.fusedActivationFunction = getattr(act, layer.act.upper())
        sizes = [
            -(-n // s) if same else (n - k) // s + 1
            for n, k, s in zip(batch[1:], kernel, stride, strict=True)
        ]
        out = self.tensor((batch[0], *sizes, outputs))
        given = [at, self.tensor(weight.shape, weight), self.tensor([outputs], layer.bias)]
        self.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", given, out, options)
        return out

    def pooled(self, at: int) -> int:
        shape = self.graph.tensors[at].shape
        out = self.tensor((shape[0], shape[-1]))
        axes = self.tensor([2], np.array([1, 2], np.int32))
        self.operator("MEAN", [at, axes], out, self.schema.ReducerOptionsT())
        return out

    def linear(self, at: int, weight: Array, bias: Array) -> int:
        out = self.tensor((self.graph.tensors[at].shape[0], weight.shape[0]))
        options = self.schema.FullyConnectedOptionsT()
        given = [at, self.tensor(weight.shape, weight), self.tensor(bias.shape, bias)]
        self.operator("FULLY_CONNECTED", given, out, options)
        return out

    def finished(self, taken: int, made: int) -> bytes:
        import flatbuffers

        self.graph.inputs = np.array([taken], np.int32)
        self.graph.outputs = np.array([made], np.int32)
        self.model.subgraphs = [self.graph]
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def litert_bytes(
    layers: Sequence[Conv], shape: tuple[int, ...], head: tuple[Array, Array] | None = None
) -> bytes:
    """Write convolutions one after the other, and perhaps a mean and a linear layer, for LiteRT."""
    writer = _Writer()
    n, sizes = shape[0], list(shape[2:])
    batch, axes = _in_plane(layers[0], n, sizes)
    first = at = writer.tensor((*batch, shape[1]))
    for layer in layers:
        batch, axes = _in_plane(layer, n, sizes)
        at = writer.convolution(at, layer, batch, axes)
        sizes = _sizes(sizes, layer)
    if head is not None:
        at = writer.linear(writer.pooled(at), *head)
    return writer.finished(first, at)


def conv_of(module: Any, act: str = "none") -> Conv:
    """Return a `torch.nn` convolution as a value."""
    bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
    return Conv(
        module.weight.detach().numpy().copy(), bias.detach().numpy().copy(), tuple(module.stride),
        tuple(module.padding), module.groups, act,
    )  # fmt: skip
