"""Conv and ConvTranspose nodes of ONNX graphs as modules, and the reasons why some have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from separable.nn.formats.onnx_constants import Constants
from separable.nn.torch_convs import CONVS, TRANSPOSED

__all__ = ["CONVOLUTIONS", "Call", "Padding", "layer_of", "weight_input"]

TYPES = ("float16", "float32", "float64")
CONVOLUTIONS = frozenset((
    "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv", "NhwcConv", "NhwcFusedConv",
    "DeformConv",
))  # fmt: skip
INTEGER = ("ConvInteger", "QLinearConv")
SAME = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Padding:
    """Zeros around the input of a convolution that its module does not add itself.

    Attributes
    ----------
    amounts : tuple of int
        Zeros before and after all spatial axes, as in ONNX; empty if they depend on the input.
    same : str
        SAME_UPPER or SAME_LOWER, if the amounts depend on the size of the input.
    reach : tuple of int
        Extent of the kernel beyond one sample, per axis.
    stride : tuple of int
    """

    amounts: tuple[int, ...]
    same: str = ""
    reach: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()

    def for_sizes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return the zeros before and after all axes for an input of these sizes.

        Examples
        --------
        >>> Padding((), "SAME_UPPER", (2,), (2,)).for_sizes((8,))
        (0, 1)
        """
        if not self.same:
            return self.amounts
        before, after = [], []
        for size, reach, stride in zip(sizes, self.reach, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
            first = total // 2 if self.same == "SAME_UPPER" else total - total // 2
            before.append(first)
            after.append(total - first)
        return (*before, *after)

    def apply(self, value: Tensor) -> Tensor:
        """Return a tensor with the zeros around it."""
        count = len(self.amounts) // 2 or len(self.stride)
        pads = self.for_sizes(value.shape[-count:])
        pairs = [pads[j + k * count] for j in reversed(range(count)) for k in (0, 1)]
        return functional.pad(value, pairs)


@dataclass(frozen=True)
class Call:
    """Conv or ConvTranspose node that a module runs.

    Attributes
    ----------
    place : tuple of int or str
        Index of the node in the graph; within an If, the index of that, the name of its branch and
        the index there.
    layer : str
        Name of the module.
    source, target : str
        Values that it reads and writes.
    padding : Padding or None
        Padding that the module does not apply.
    """

    place: tuple[int | str, ...]
    layer: str
    source: str
    target: str
    padding: Padding | None


def weight_input(node: Any) -> str:
    """Return the name of a convolution's weights; empty if it has none."""
    at = 3 if node.op_type == "QLinearConv" else 1
    return str(node.input[at]) if len(node.input) > at else ""


def layer_of(
    node: Any, values: Constants, shared: dict[tuple[int, str], nn.Parameter]
) -> tuple[nn.Module, Padding | None, Any] | str:
    """Return the module of a node, the padding that it does not apply, and its key; or a reason.

    Parameters
    ----------
    node : onnx.NodeProto
    values : Constants
        Constants of the graph.
    shared : dict of (int, str) to Parameter
        Parameters made so far by the graph and name of their values. Nodes that read the same
        values get the same parameter, so that they stay tied.
    """
    reason = _refusal(node, values)
    if reason:
        return reason
    from onnx import helper  # optional dependency

    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    weights = values[node.input[1]]
    ndim = weights.ndim - 2
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    stride = tuple(given.get("strides", [1] * ndim))
    dilation = tuple(given.get("dilations", [1] * ndim))
    groups = given.get("group", 1)
    padding = _padding(given, weights.shape[2:], stride, dilation)
    own = padding.amounts
    even = bool(own) and own[:ndim] == own[ndim:] and min(own) >= 0
    extra: tuple[int, ...] = ()
    conv: Any
    if node.op_type == "ConvTranspose":
        extra = tuple(given.get("output_padding", [0] * ndim))
        conv = TRANSPOSED[ndim](
            weights.shape[0], weights.shape[1] * groups, weights.shape[2:], stride, own[:ndim],
            extra, groups, bias is not None, dilation, device="meta",
        )  # fmt: skip
    else:
        conv = CONVS[ndim](
            weights.shape[1] * groups, weights.shape[0], weights.shape[2:], stride,
            own[:ndim] if even else 0, dilation, groups, bias is not None, device="meta",
        )  # fmt: skip
    conv.weight = _parameter(node.input[1], values, shared)
    if bias is not None:
        conv.bias = _parameter(bias, values, shared)
    options = (type(conv), padding, stride, dilation, groups, extra)
    key = (values.owner(node.input[1]), node.input[1], bias, options)
    return conv, None if even else padding, key


def _parameter(
    name: str, values: Constants, shared: dict[tuple[int, str], nn.Parameter]
) -> nn.Parameter:
    key = (values.owner(name), name)
    if key not in shared:
        shared[key] = nn.Parameter(torch.from_numpy(values[name].copy()))
    return shared[key]


def _refusal(node: Any, values: Constants) -> str:
    """Return the reason why no module can run this node, or an empty string."""
    if node.op_type in INTEGER:
        return "computes with 8-bit integers: factors are real numbers"
    if node.op_type == "DeformConv":
        return "deformable: each position reads its input elsewhere"
    if node.op_type not in ("Conv", "ConvTranspose") or node.domain not in ("", "ai.onnx"):
        return f"{node.domain or 'ai.onnx'}.{node.op_type}, an operator of one runtime"
    bias = node.input[2] if len(node.input) > 2 else ""
    if node.input[1] not in values or (bias and bias not in values):
        return "its weights are computed from the network's inputs, or by other nodes"
    if node.input[0] in values:
        return "its input is a constant"
    weights = values[node.input[1]]
    if weights.ndim - 2 not in CONVS:
        return f"weights of shape {weights.shape}: over {max(weights.ndim - 2, 0)} axes of space"
    if weights.dtype.name not in TYPES:
        return f"weights of {weights.dtype}"
    return _refusal_transposed(node) if node.op_type == "ConvTranspose" else ""


def _refusal_transposed(node: Any) -> str:
    """Return the reason why no module of PyTorch has the size of this node's output, or ""."""
    from onnx import helper  # optional dependency

    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kind = given.get("auto_pad", b"NOTSET").decode()
    if kind in SAME:
        return f"transposed with auto_pad {kind}: its padding depends on the input's size"
    pads = [] if kind == "VALID" else given.get("pads", [])
    half = len(pads) // 2
    if "output_shape" in given or pads[:half] != pads[half:] or min(pads, default=0) < 0:
        return "transposed with an output size of its own, or uneven padding"
    return ""


def _padding(
    given: Mapping[str, Any], kernel: Sequence[int], stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Padding:  # fmt: skip
    """Return the padding of a node; amounts that do not depend on the input's size are resolved."""
    ndim = len(kernel)
    kind = given.get("auto_pad", b"NOTSET").decode() or "NOTSET"
    reach = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    if kind not in SAME:
        return Padding(
            (0,) * 2 * ndim if kind == "VALID" else tuple(given.get("pads", (0,) * 2 * ndim))
        )
    found = Padding((), kind, reach, stride)
    if max(stride) == 1 or max(reach) == 0:
        return Padding(found.for_sizes([1] * ndim))
    return found
