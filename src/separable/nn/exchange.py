"""WeightExchange: conversion of a layer from and to dense weights and factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from separable.errors import ArgumentError, ArgumentTypeError, PatternError
from separable.factors import Factors
from separable.lowering.lower import read_weights, weights_of
from separable.lowering.scheme import GROUP, Rank, Scheme
from separable.lowering.step import Step
from separable.nn.dense_weights import (
    as_array,
    as_factors,
    factor_weights,
    filled,
    scheme_for,
    usable_ranks,
)
from separable.nn.torch_convs import build_conv, set_weights, spec_of, weights_in_order
from separable.pattern import Pattern

__all__ = ["WeightExchange"]

Layer = TypeVar("Layer", bound="WeightExchange")


class WeightExchange(nn.Module):
    """Base of `FactoredConv` that converts between dense weights, factors and the layer."""

    spatial_ndim: ClassVar[int | None] = None
    transposed: ClassVar[bool] = False
    scheme: Scheme
    steps: tuple[Step, ...]
    step_names: tuple[str, ...]

    def _build(
        self,
        scheme: Scheme,
        intermediate: nn.Module | None,
        device: Any,
        dtype: Any,
        *,
        draw: bool = True,
    ) -> None:
        raise NotImplementedError

    def _title(self) -> str:
        raise NotImplementedError

    @classmethod
    def from_dense(
        cls: type[Layer],
        conv: nn.Module,
        pattern: str | Pattern | None = None,
        *,
        rank: Rank | None = None,
        tol: float | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> Layer:
        """Create the layer from a trained convolution.

        Stride, padding, dilation, groups, padding mode, bias, device, type and `requires_grad`
        are carried over; the convolution is left as it is. The layer has parameters of its own: a weight
        that the convolution shares with another module (is tied to it) is not shared by the layer.
        `convert` ties layers again.

        Parameters
        ----------
        conv : torch.nn.Conv1d, Conv2d or Conv3d
        pattern : str, optional
            Pattern of `FactoredConv`; named layers have their own.
        rank : int, sequence or mapping, optional
            See `FactoredConv`; at most the rank that the weights can have.
        tol : float, optional
            The fewest terms for which the weights change by at most ``tol`` of their Frobenius
            norm. With neither, the layer equals the convolution to rounding.
        sizes : mapping of letter to int, optional

        Raises
        ------
        ArgumentTypeError
            If `conv` is not such a convolution.
        PatternError, RankError, ArgumentError
            See `separable.factorize`.

        Examples
        --------
        >>> from separable.nn import SeparableConv2d
        >>> conv = nn.Conv2d(16, 32, 3, padding=1)
        >>> layer = SeparableConv2d.from_dense(conv, rank=4)
        >>> layer.multiplications / conv.weight.numel()
        0.5694444444444444
        """
        scheme = cls._scheme_of(conv, pattern, sizes)
        weight: Any = conv.weight
        if weight.is_meta:
            raise ArgumentError(
                f"{cls.__name__}.from_dense: the weights of `conv`, shape {tuple(weight.shape)}, "
                "are on the meta device: there are no numbers to factorise"
            )
        ordered = weights_in_order(as_array(weight), scheme.spec.groups, scheme.spec.transposed)
        scheme, arrays = factor_weights(scheme, ordered, rank, tol)
        return cls._with_arrays(scheme, arrays, conv)

    @classmethod
    def from_factors(
        cls: type[Layer], factors: Factors, conv: nn.Module, bias: Tensor | None = None
    ) -> Layer:
        """Create the layer from given factors, with the geometry of a convolution.

        Parameters
        ----------
        factors : Factors
            Factors of the weights of `conv`; if `conv` has groups, the pattern has the batch letter
            `g` in front.
        conv : torch.nn.Conv1d, Conv2d or Conv3d
            Convolution with the stride, padding and other arguments, device and dtype of the layer.
        bias : Tensor, optional
            Bias in place of the convolution's own.

        Examples
        --------
        >>> import separable as sep
        >>> from separable.nn import FactoredConv
        >>> conv = nn.Conv2d(4, 8, 3)
        >>> factors = sep.factorize(conv.weight.detach(), "ocyx -> oc,cyx", rank=2)
        >>> FactoredConv.from_factors(factors, conv).ranks
        {'R': 2}
        """
        written = factors.pattern
        if written.axes[0] == GROUP:
            written = Pattern(
                written.axes[1:], tuple(f.replace(GROUP, "") for f in written.factors)
            )
        grouped = {a: factors.sizes[a] for axis in written.axes if len(axis) > 1 for a in axis}
        scheme = cls._scheme_of(conv, written, grouped)
        if scheme.kernel_shape != factors.shape:
            raise PatternError(
                f"{cls.__name__}.from_factors: expected factors of a kernel "
                f"{scheme.kernel_shape}, `{scheme.pattern}`; got {factors.shape}"
            )
        scheme = scheme.with_ranks(usable_ranks(factors.ranks))
        return cls._with_arrays(scheme, factors.arrays, conv, bias)

    @classmethod
    def _scheme_of(
        cls, conv: nn.Module, pattern: str | Pattern | None, sizes: Mapping[str, int] | None
    ) -> Scheme:
        """Fit the given pattern, or the layer's own, to a convolution."""
        if spec_of(conv).transposed != cls.transposed:
            other = "FactoredConvTranspose" if spec_of(conv).transposed else "FactoredConv"
            raise ArgumentTypeError(
                f"{cls.__name__} cannot replace a {type(conv).__name__}: use {other}"
            )
        return scheme_for(cls.__name__, cls.spatial_ndim, cls._patterns, conv, pattern, sizes)

    @classmethod
    def _patterns(cls, ndim: int) -> tuple[str | Pattern, ...]:
        """Return the patterns that the layer can have; empty if it takes all."""
        return ()

    @classmethod
    def _with_arrays(
        cls: type[Layer],
        scheme: Scheme,
        arrays: Sequence[Any],
        conv: nn.Module,
        bias: Tensor | None = None,
    ) -> Layer:
        """Create the layer with these factors, and everything else as in the convolution."""
        like: Any = conv.weight
        own: Any = conv.bias if bias is None else bias
        if bias is not None and not scheme.spec.bias:
            scheme = replace(scheme, spec=replace(scheme.spec, bias=True))
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._build(scheme, None, like.device, like.dtype, draw=False)
        layer._load(arrays, None if own is None else own.detach())
        return layer.requires_grad_(like.requires_grad).train(conv.training)

    @torch.no_grad()
    def _load(self, arrays: Sequence[Any], bias: Tensor | None) -> None:
        """Write the factors' arrays and the bias into the parameters."""
        weights = weights_of(self.scheme, self.steps, arrays)
        for module, weight in zip(self._convolutions(), weights, strict=True):
            set_weights(module, weight)
        if bias is not None:
            self._convolutions()[-1].bias.copy_(bias)

    def _convolutions(self) -> list[Any]:
        """Return the modules of the steps, in running order."""
        return [getattr(self, name) for name in self.step_names]

    def factors(self) -> Factors:
        """Return the weights as Factors, in float64.

        Examples
        --------
        >>> from separable.nn import FactoredConv
        >>> FactoredConv("ocyx -> oc,cyx", 4, 8, 3, rank=2).factors().parameters
        136
        """
        return as_factors(self.scheme, self._arrays())

    def _arrays(self, *, double: bool = True) -> list[Any]:
        """Return the arrays of the factors, in double precision or in the closest dtype of NumPy."""
        weights = [
            weights_in_order(as_array(m.weight), m.groups, step.transposed)
            for m, step in zip(self._convolutions(), self.steps, strict=True)
        ]
        if double:
            weights = [w.astype(np.result_type(w.dtype, np.float64)) for w in weights]
        return read_weights(self.scheme, self.steps, weights)

    def _bias(self) -> Any:
        """Return the bias as an array, or None."""
        return as_array(self._convolutions()[-1].bias) if self.scheme.spec.bias else None

    def to_dense(self) -> nn.Module:
        """Return the `torch.nn` convolution that is equal to the layer, to rounding.

        Raises
        ------
        ArgumentError
            If there is none: for a module between the steps, or for padding that depends on the
            input's size ('same' with a stride).

        Examples
        --------
        >>> from separable.nn import FactoredConv
        >>> layer = FactoredConv("ocyx -> oc,cyx", 4, 8, 3, rank=2)
        >>> layer.to_dense()
        Conv2d(4, 8, kernel_size=(3, 3), stride=(1, 1), padding=same)
        """
        between = getattr(self, "intermediate", None)
        if between is not None and not isinstance(between, nn.Identity):
            raise ArgumentError(
                f"{self._title()}: no convolution equals it, for there is a "
                f"{type(between).__name__} between its steps. Set `intermediate` to None to drop it"
            )
        try:
            dense = build_conv(self.scheme.spec, "meta", self._convolutions()[0].weight.dtype)
        except ArgumentError as error:
            raise ArgumentError(f"{self._title()}: {error}") from None
        arrays = self._arrays()
        kernel = as_factors(self.scheme, arrays).dense() if self.scheme.bonds else arrays[0]
        spec = self.scheme.spec
        kernel = weights_in_order(kernel.reshape(spec.weight_shape), spec.groups, spec.transposed)
        return filled(dense, kernel, self._convolutions()).train(self.training)
