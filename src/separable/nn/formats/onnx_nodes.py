"""ONNX nodes of a separable layer, one group per step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError
from separable.lowering.step import Step
from separable.nn.dense_weights import as_array
from separable.nn.factored_conv import FactoredConv
from separable.nn.formats.onnx_forms import PlainConv, Terms, conv_of, terms_of
from separable.nn.formats.onnx_layers import Padding

__all__ = ["Writer"]

Array = NDArray[Any]


class Writer:
    """Collector of the nodes and weights that replace Conv nodes.

    Parameters
    ----------
    taken : iterable of str
        The names that the graph has already.
    """

    def __init__(self, taken: Sequence[str]) -> None:
        self.nodes: list[Any] = []
        self.weights: dict[str, Array] = {}
        self._taken = set(taken)
        self._own: dict[Any, str] = {}  # names by dtype, shape and hash of the numbers

    def layer(
        self, name: str, layer: FactoredConv, source: str, target: str, title: str,
        padding: Padding | None,
    ) -> None:  # fmt: skip
        """Write the nodes of a layer.

        Parameters
        ----------
        name : str
            Name of the layer, which several nodes may share.
        layer : FactoredConv
        source, target : str
            Names of the layer's input and output.
        title : str
            Name of the node that it replaces.
        padding : Padding or None
            Padding that the layer does not apply itself.
        """
        paddings, rest = _shared_out(layer, padding)
        value = source
        if rest is not None:
            dtype = as_array(next(layer.parameters())).dtype
            count = len(rest.amounts) // 2
            amounts = [0, 0, *rest.amounts[:count], 0, 0, *rest.amounts[count:]]
            value = self._padded(value, name, title, amounts, dtype)
        terms = terms_of(layer, paddings)
        if terms is not None:
            self._terms(name, title, layer.step_names, terms, value, target)
            return
        for at, (own, step) in enumerate(zip(layer.step_names, layer.steps, strict=True)):
            last = at == len(layer.steps) - 1
            module: Any = layer.get_submodule(own)
            bias = None if module.bias is None else as_array(module.bias)
            conv = conv_of(step, as_array(module.weight), bias, paddings[at])
            value = self._step(
                f"{name}.{own}", f"{title}/{own}", step, conv, value, target if last else None
            )

    def _terms(
        self, name: str, title: str, steps: Sequence[str], terms: Terms, source: str, target: str
    ) -> None:
        """Write parallel chains of convolutions, and what joins or adds their outputs."""
        ends = []
        alone = len(terms.chains) == 1
        for at, chain in enumerate(terms.chains):
            value = source
            for own, conv in zip(steps, chain, strict=False):
                is_end = alone and terms.last is None and conv is chain[-1]
                value = self._conv(
                    f"{name}.{own}.{at}", f"{title}/{own}.{at}", conv, value,
                    target if is_end else None,
                )  # fmt: skip
            ends.append(value)
        if terms.last is not None:
            joined = ends[0] if alone else self._add("Concat", title, "concat", ends, axis=1)
            self._conv(f"{name}.{steps[1]}", f"{title}/{steps[1]}", terms.last, joined, target)
        elif not alone:
            self._add("Sum", title, "sum", ends, target)

    def _conv(self, name: str, title: str, conv: PlainConv, value: str, target: str | None) -> str:
        inputs = [value, self._stored(name, "weight", conv.weight)]
        if conv.bias is not None:
            inputs.append(self._stored(name, "bias", conv.bias))
        kind = "ConvTranspose" if conv.transposed else "Conv"
        return self._add(kind, title, "conv", inputs, target, group=conv.groups, **conv.options)

    def _step(
        self, name: str, title: str, step: Step, conv: PlainConv, value: str, target: str | None
    ) -> str:
        """Write gather, convolution, scatter and bias of a step, as far as they are needed."""
        if step.gather is not None:
            value = self._gathered(value, name, title, "gather", step.gather)
        if step.shared == 1 and step.scatter is None:
            return self._conv(name, title, conv, value, target)
        ndim = len(step.kernel_size)
        bias = conv.bias
        if step.shared > 1:
            shape = np.array([-1, step.in_channels, *(0,) * ndim])
            value = self._add("Reshape", title, "fold", [value, self._stored(name, "fold", shape)])
        value = self._conv(name, title, replace(conv, bias=None), value, None)
        ends = target if bias is None else None
        if step.shared > 1:
            shape = np.array([-1, step.shared * step.out_channels, *(0,) * ndim])
            shape_name = self._stored(name, "unfold", shape)
            only = ends if step.scatter is None else None
            value = self._add("Reshape", title, "unfold", [value, shape_name], only)
        if step.scatter is not None:
            value = self._scattered(value, name, title, step, ends, conv.weight.dtype)
        if bias is not None:
            stored = self._stored(name, "bias", bias.reshape(1, -1, *(1,) * ndim))
            value = self._add("Add", title, "add", [value, stored], target)
        return value

    def _scattered(
        self, value: str, name: str, title: str, step: Step, target: str | None, dtype: Any
    ) -> str:
        """Add up channels of the same output: the first ones of all outputs, then the second ones, ...

        An output with fewer of them reads an appended channel of zeros.
        """
        assert step.scatter is not None
        sources: list[list[int]] = [[] for _ in range(step.outputs)]
        for channel, output in enumerate(step.scatter):
            sources[output].append(channel)
        most = max(map(len, sources))
        if any(len(s) < most for s in sources):
            before = [0] * (2 + len(step.kernel_size))
            value = self._padded(value, name, title, [*before, 0, 1, *before[2:]], dtype)
        zero = len(step.scatter)
        terms = []
        for at in range(most):
            taken = [s[at] if at < len(s) else zero for s in sources]
            terms.append(
                self._gathered(
                    value, name, title, f"scatter{at}", taken, target if most == 1 else None
                )
            )
        return terms[0] if most == 1 else self._add("Sum", title, "sum", terms, target)

    def _gathered(
        self, value: str, name: str, title: str, what: str, index: Sequence[int],
        target: str | None = None,
    ) -> str:  # fmt: skip
        stored = self._stored(name, what, np.array(index, np.int64))
        return self._add("Gather", title, what, [value, stored], target, axis=1)

    def _padded(self, value: str, name: str, title: str, amounts: list[int], dtype: Any) -> str:
        stored = self._stored(name, "pads", np.array(amounts, np.int64))
        zero = self._stored(name, "zero", np.zeros((), dtype))
        return self._add("Pad", title, "pad", [value, stored, zero])

    def _stored(self, name: str, what: str, values: Array) -> str:
        """Store weights once for all nodes that read the same numbers; return their name."""
        array = np.ascontiguousarray(values)
        content = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if content not in self._own:
            self._own[content] = self._unique(f"{name}.{what}")
            self.weights[self._own[content]] = array
        return self._own[content]

    def _add(
        self, kind: str, title: str, what: str, inputs: list[str], target: str | None = None,
        **attributes: Any,
    ) -> str:  # fmt: skip
        from onnx import helper  # optional dependency

        output = target or self._unique(f"{title}/{what}_output")
        node = helper.make_node(kind, inputs, [output], name=f"{title}/{what}", **attributes)
        self.nodes.append(node)
        return output

    def _unique(self, name: str) -> str:
        found, at = name, 1
        while found in self._taken:
            at += 1
            found = f"{name}_{at}"
        self._taken.add(found)
        return found


def _shared_out(
    layer: FactoredConv, padding: Padding | None
) -> tuple[list[Padding | None], Padding | None]:
    """Return the padding of each step, and padding that needs a node of its own.

    The first step with a kernel or stride along an axis pads it: earlier ones have one tap there
    and no bias, so that padding commutes with them.
    """
    ndim = len(layer.kernel_size)
    found: list[Padding | None] = [None] * len(layer.steps)
    if padding is None:
        return found, None
    if padding.same:
        _check_one_step_per_axis(layer)
        return [padding] * len(layer.steps), None
    amounts = [[0] * 2 * ndim for _ in layer.steps]
    rest = [0] * 2 * ndim
    for j in range(ndim):
        steps = [k for k, step in enumerate(layer.steps) if _touches(step, j)]
        own = amounts[steps[0]] if steps else rest
        own[j], own[ndim + j] = padding.amounts[j], padding.amounts[ndim + j]
    if min(padding.amounts) < 0:  # Conv crops no input
        return found, padding
    found = [Padding(tuple(own)) for own in amounts]
    return found, Padding(tuple(rest)) if any(rest) else None


def _touches(step: Step, axis: int) -> bool:
    return step.kernel_size[axis] > 1 or step.stride[axis] > 1


def _check_one_step_per_axis(layer: FactoredConv) -> None:
    """Raise an error if two convolutions would pad the same axis.

    Raises
    ------
    ArgumentError
    """
    for j in range(len(layer.kernel_size)):
        if sum(_touches(step, j) for step in layer.steps) > 1:
            raise ArgumentError(
                f"`{layer.pattern}` filters an axis in two steps, whose padding with auto_pad "
                "depends on the size of the input: use another pattern, or export the network "
                "for a fixed size"
            )
