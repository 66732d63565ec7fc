"""ONNX nodes of a separable layer, one group per step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.lowering.step import Step
from separable.nn.dense_weights import as_array
from separable.nn.factored_conv import FactoredConv

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
        self._own: dict[tuple[str, str], str] = {}

    def layer(
        self, name: str, layer: FactoredConv, source: str, target: str, title: str,
        pads: Sequence[int] | None,
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
        pads : sequence of int or None
            Zeros before and after all spatial axes, if these differ.
        """
        value = source
        dtype = as_array(next(layer.parameters())).dtype
        if pads is not None:
            count = len(pads) // 2
            amounts = [0, 0, *pads[:count], 0, 0, *pads[count:]]
            value = self._padded(value, name, title, amounts, dtype)
        for at, (own, step) in enumerate(zip(layer.step_names, layer.steps, strict=True)):
            last = at == len(layer.steps) - 1
            module: Any = layer.get_submodule(own)
            bias = None if module.bias is None else as_array(module.bias)
            value = self._step(
                f"{name}.{own}", f"{title}/{own}", step, as_array(module.weight), bias, value,
                target if last else None,
            )  # fmt: skip

    def _step(
        self, name: str, title: str, step: Step, weight: Array, bias: Array | None, value: str,
        target: str | None,
    ) -> str:  # fmt: skip
        """Write gather, convolution, scatter and bias of a step, as far as they are needed."""
        if step.gather is not None:
            value = self._gathered(value, name, title, "gather", step.gather)
        inside = step.shared == 1 and step.scatter is None
        names = [self._stored(name, "weight", weight)]
        if bias is not None and inside:
            names.append(self._stored(name, "bias", bias))
        ndim = len(step.kernel_size)
        if step.shared > 1:
            shape = np.array([-1, step.in_channels, *(0,) * ndim])
            value = self._add("Reshape", title, "fold", [value, self._stored(name, "fold", shape)])
        before, behind = zip(*step.padding, strict=True)
        more = {"output_padding": list(step.output_padding)} if step.transposed else {}
        value = self._add(
            "ConvTranspose" if step.transposed else "Conv", title, "conv", [value, *names],
            target if inside else None, kernel_shape=list(step.kernel_size),
            strides=list(step.stride), dilations=list(step.dilation), pads=[*before, *behind],
            group=step.groups, **more,
        )  # fmt: skip
        if inside:
            return value
        ends = target if bias is None else None
        if step.shared > 1:
            shape = np.array([-1, step.shared * step.out_channels, *(0,) * ndim])
            shape_name = self._stored(name, "unfold", shape)
            only = ends if step.scatter is None else None
            value = self._add("Reshape", title, "unfold", [value, shape_name], only)
        if step.scatter is not None:
            value = self._scattered(value, name, title, step, ends, weight.dtype)
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
        """Store weights once for all nodes of a layer; return their name."""
        if (name, what) not in self._own:
            self._own[name, what] = self._unique(f"{name}.{what}")
            self.weights[self._own[name, what]] = np.ascontiguousarray(values)
        return self._own[name, what]

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
