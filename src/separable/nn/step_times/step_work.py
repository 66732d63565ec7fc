"""StepWork: what the time of one step of a network depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from separable.cost import Convolution
from separable.nn.step_times.recorded_operation import RecordedOperation

__all__ = ["COPY", "GEOMETRIES", "StepWork", "joined_work", "work_of", "work_of_convolution"]

COPY = "copy"
"""Kind of step whose rates serve for operations that no profile has measured: time goes by bytes."""
_RELU = (
    "relu",
    "threshold",
    "hardtanh",
    "clamp",
    "clamp_min",
    "leaky_relu",
    "_prelu_kernel",
    "abs",
)
_SILU = (
    "silu",
    "mish",
    "elu",
    "softplus",
    "exp",
    "log",
    "pow",
    "sqrt",
    "rsqrt",
    "_softmax_backward",
)
_ADD = ("add", "sub", "mul", "div", "rsub", "maximum", "minimum")
_MEAN = ("mean", "sum", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d")
_NORM = ("native_layer_norm", "native_group_norm", "_fused_rms_norm")
_BATCH_NORM = (
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update", "cudnn_batch_norm",
)  # fmt: skip
KINDS: Mapping[str, str] = {
    **dict.fromkeys(_RELU, "relu"),
    **dict.fromkeys(_SILU, "silu"),
    **dict.fromkeys(("sigmoid", "tanh", "hardsigmoid"), "sigmoid"),
    **dict.fromkeys(("hardswish",), "hardswish"),
    **dict.fromkeys(("gelu", "erf"), "gelu"),
    **dict.fromkeys(_ADD, "add"),
    **dict.fromkeys(_BATCH_NORM, "batch_norm"),
    **dict.fromkeys(_NORM, "layer_norm"),
    **dict.fromkeys(("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d"), "max_pool"),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), "average_pool"),
    **dict.fromkeys(_MEAN, "mean"),
    **dict.fromkeys(("_softmax", "_log_softmax"), "softmax"),
    **dict.fromkeys(("upsample_nearest2d", "upsample_nearest3d", "upsample_nearest1d"), "upsample"),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"), "bilinear"),
}  # fmt: skip
"""Kind of step of each operation without MACs."""
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv")
GEOMETRIES = ("pointwise", "dense", "depthwise", "grouped", "transposed")
"""Kinds of convolutions."""
DILATION = 9  # place of the dilation among the sizes of a convolution
BLOCK = 16  # channels of a block: float32 numbers of 512 bits; shorter vectors divide it
FAR = 4.0  # octaves between layers that different programs run
LEAST_OF_ONEDNN = (
    20480  # elements of the input up to which PyTorch runs one image by its own program
)


@dataclass(frozen=True)
class StepWork:
    """One step of a network as a profile sees it.

    Attributes
    ----------
    kind : str
        Kind of step; each has rates of its own.
    sizes : tuple of float
        Logarithms to base 2 of the sizes that the efficiency depends on, in an order that the kind
        determines.
    macs, bytes : float
        Multiplications added to a sum, and bytes moved.
    """

    kind: str
    sizes: tuple[float, ...]
    macs: float
    bytes: float


def work_of(operation: RecordedOperation) -> StepWork:
    """Return what the time of an operation depends on.

    Examples
    --------
    >>> found = work_of(RecordedOperation.of_convolution(Convolution.of((8, 8, 16), (1, 1), 32)))
    >>> found.kind, found.macs, found.sizes[:4]
    ('pointwise', 32768.0, (6.0, 3.0, 4.0, 5.0))
    """
    if operation.convolution is not None:
        return work_of_convolution(operation.convolution)
    if operation.name in PRODUCTS and len(operation.input_shapes) > 1:
        return _product(operation)
    kind = KINDS.get(operation.name, COPY)
    elements = _log(operation.outputs)
    other = _log(max(1, operation.read_bytes // 4)) - elements
    sizes = (elements, other, _log(operation.window))
    return StepWork(kind, sizes, 0.0, float(operation.bytes))


def work_of_convolution(conv: Convolution) -> StepWork:
    """Return what the time of a convolution depends on."""
    inputs, outputs = conv.channels // conv.groups, conv.filters // conv.groups
    sizes = (
        _log(conv.batch * math.prod(conv.outputs)),
        _log(conv.outputs[-1]),
        _log(inputs),
        _log(outputs),
        _log(conv.groups),
        _log(math.prod(conv.kernel[:-1])),
        _log(conv.kernel[-1]),
        _log(math.prod(conv.stride)),
        float(conv.ndim),
        _log(max(conv.dilation)),
        _log(conv.batch),
        *_branches(conv, inputs, outputs),
    )
    return StepWork(_geometry(conv), sizes, float(conv.multiplications), _bytes(conv))


def _branches(conv: Convolution, inputs: int, outputs: int) -> tuple[float, ...]:
    """Return sizes by which runtimes choose between programs; times jump where they change.

    These are the channels that are added to fill blocks of 16, in octaves; whether any are added; whether
    Winograd's filtering is possible; and whether PyTorch leaves the layer to its own program instead of oneDNN's.
    """
    added = [_log(math.ceil(n / BLOCK) * BLOCK / n) for n in (inputs, outputs)]
    taps = set(conv.kernel)
    winograd = conv.groups == 1 < max(taps) and taps <= {1, 3} and max(conv.stride) == 1
    winograd = winograd and max(conv.dilation) == 1 and not conv.transposed
    small = conv.channels * math.prod(conv.space) <= LEAST_OF_ONEDNN and not conv.transposed
    small = small and conv.batch == conv.groups == 1 and conv.ndim < 3
    small = small and min(1 if conv.ndim == 1 else 4, *conv.kernel) <= 3
    flags = (added[0] > 0, added[1] > 0, winograd, small)
    return (2 * added[0], 2 * added[1], *(FAR * flag for flag in flags))


def joined_work(depthwise: Convolution, pointwise: Convolution) -> StepWork:
    """Return the work of a depthwise and a pointwise convolution that one kernel computes."""
    first = work_of_convolution(depthwise)
    macs = float(depthwise.multiplications + pointwise.multiplications)
    moved = _bytes(depthwise) + _bytes(pointwise)
    between = 2 * depthwise.batch * depthwise.filters * math.prod(depthwise.outputs) * 4
    added = _log(math.ceil(pointwise.filters / BLOCK) * BLOCK / pointwise.filters)
    sizes = (
        *first.sizes[:DILATION], _log(pointwise.filters), _log(depthwise.batch),
        2 * added, FAR * (added > 0),
    )  # fmt: skip
    return StepWork("depthwise_separable", sizes, macs, moved - between)


def _geometry(conv: Convolution) -> str:
    """Return the kind of a convolution."""
    if conv.transposed:
        return "transposed"
    if conv.groups == 1:
        return "pointwise" if math.prod(conv.kernel) == 1 else "dense"
    return "depthwise" if conv.groups == conv.channels else "grouped"


def _bytes(conv: Convolution) -> float:
    inputs = conv.batch * conv.channels * math.prod(conv.space)
    outputs = conv.batch * conv.filters * math.prod(conv.outputs)
    return float((inputs + outputs + conv.weights) * conv.itemsize)


def _product(operation: RecordedOperation) -> StepWork:
    """Return the work of a matrix product: rows, summed length, columns, number of products."""
    out = operation.output_shapes[0]
    columns = out[-1] if out else 1
    rows = out[-2] if len(out) > 1 else 1
    count = max(1, operation.outputs // max(1, rows * columns))
    summed = operation.macs // max(1, operation.outputs)
    sizes = (_log(rows), _log(summed), _log(columns), _log(count))
    return StepWork("product", sizes, float(operation.macs), float(operation.bytes))


def _log(size: float) -> float:
    return math.log2(max(1, size))
