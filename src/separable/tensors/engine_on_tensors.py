"""Filter tensors in main memory by the engine for arrays, with gradients.

The filter is ``y = C E x``: E writes the border out and C correlates. The gradient of x is ``E' C' g``
for the gradient g of y: correlate with the mirrored kernel over zeros, then add each sample of the
border to the sample that it is a copy of. Both maps are linear, so each is the gradient of the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from separable.borders import CONSTANT, OUTSIDE, Border
from separable.engine.tensor_memory import array_of, empty
from separable.factors import Factors
from separable.filtering import filter_with
from separable.request import result_dtype
from separable.tensors.ops import own, torch_dtype

__all__ = ["Filter", "Linear"]

MIRRORED = {"convolve": "correlate", "correlate": "convolve"}


@dataclass(frozen=True, eq=False)
class Filter:
    """Arguments of `filter_with` for one tensor.

    Attributes
    ----------
    kernel : ndarray or Factors
    axes : tuple of int
        The filtered axes, counted from the end, so that batch axes may be added in front.
    widths : tuple of (int, int)
        The numbers of samples that the kernel extends before and after, along each of them.
    modes : tuple of Border
    options : dict
        The other arguments of `filter_with`: operation, origin, cval, tol, method, threads.
    progress : callable or None
    """

    kernel: Any
    axes: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    modes: tuple[Border, ...]
    options: dict[str, Any]
    progress: Any = None

    def run(self, image: torch.Tensor, output: Any = None) -> torch.Tensor:
        """Filter a tensor without recording a gradient."""
        array = _array(image)
        dtype = output
        if dtype is None:
            dtype = result_dtype(array.dtype, self.kernel.dtype, self.options["cval"])
        result = empty(array.shape, torch_dtype(dtype))
        filter_with(
            array, self.kernel, array_of(result), progress=self.progress,
            axes=tuple(a + array.ndim for a in self.axes), mode=self.modes, **self.options,
        )  # fmt: skip
        return result.to(image.dtype) if output is None and not result.is_complex() else result

    def run_adjoint(self, gradient: torch.Tensor, real: bool) -> torch.Tensor:
        """Return the gradient of the image for a gradient of the result."""
        ndim = gradient.ndim
        array = _array(gradient)
        spread = list(array.shape)
        inside: list[slice] = [slice(None)] * ndim
        for axis, (before, after) in zip(self.axes, self.widths, strict=True):
            spread[axis] += before + after
            inside[axis] = slice(before, before + array.shape[axis])
        wide = np.zeros(spread, array.dtype)
        wide[tuple(inside)] = array
        options = {
            **self.options, "operation": MIRRORED[self.options["operation"]], "cval": 0.0,
            "method": "auto",
        }  # fmt: skip
        conjugate = _conjugate(self.kernel)
        result = filter_with(
            wide,
            conjugate,
            None,
            axes=tuple(a + ndim for a in self.axes),
            mode=CONSTANT,
            **options,
        )
        folded = torch.from_numpy(result)
        for axis, widths, border in zip(self.axes, self.widths, self.modes, strict=True):
            folded = _folded(folded, axis, widths, border)
        if real and folded.is_complex():
            folded = folded.real
        kind = folded.dtype if gradient.is_complex() else gradient.dtype
        return empty(folded.shape, kind).copy_(folded)  # the border left out, in memory of its own

    def linear(self) -> Filter:
        """Return the linear part of the filter: the same with the constant 0 outside."""
        return Filter(
            self.kernel, self.axes, self.widths, self.modes, {**self.options, "cval": 0.0}
        )


class Linear(torch.autograd.Function):
    """Autograd function of a filter or of its adjoint."""

    @staticmethod
    def forward(image: torch.Tensor, filter: Filter, adjoint: bool, real: bool) -> torch.Tensor:
        """Run the filter or its adjoint."""
        return filter.run_adjoint(image, real) if adjoint else filter.run(image)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Store the options that the gradient needs; no tensor is kept."""
        image, ctx.filter, ctx.adjoint, ctx.real = inputs
        ctx.real_input = not image.is_complex()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradient of the image."""
        (gradient,) = gradients
        back = _apply(gradient, ctx.filter.linear(), not ctx.adjoint, ctx.real_input)
        if ctx.real_input and back.is_complex():
            back = own(back.real)
        return back, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        """Return the tangent of the result."""
        return _apply(tangents[0], ctx.filter.linear(), ctx.adjoint, ctx.real)

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, image: torch.Tensor, filter: Filter, adjoint: bool, real: bool
    ) -> tuple[torch.Tensor, int]:
        """Run it for a batch, which is one more axis in front."""
        return _apply(image.movedim(in_dims[0], 0), filter, adjoint, real), 0


def _apply(image: torch.Tensor, filter: Filter, adjoint: bool, real: bool) -> Any:
    return Linear.apply(image, filter, adjoint, real)  # type: ignore[no-untyped-call]


def _array(tensor: torch.Tensor) -> Any:
    """Return an array that shares the tensor's memory; bfloat16, which NumPy lacks, becomes float32."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    if plain.dtype == torch.bfloat16:
        plain = plain.float()
    return array_of(plain)


def _conjugate(kernel: Any) -> Any:
    if isinstance(kernel, Factors):
        if kernel.dtype.kind != "c":
            return kernel
        terms = [[np.conj(v) for v in term] for term in kernel.terms]
        return Factors.from_terms(kernel.pattern, terms)
    return np.conj(kernel)


def _folded(wide: torch.Tensor, axis: int, widths: tuple[int, int], border: Border) -> torch.Tensor:
    """Add the samples of a border to those that they are copies of, and cut it off."""
    before, after = widths
    if not before and not after:
        return wide
    n = wide.shape[axis] - before - after
    middle = wide.narrow(axis, before, n)
    places = border.extension(n, before, after)
    summed = middle
    for start, count in ((0, before), (before + n, after)):
        part, own = wide.narrow(axis, start, count), places[start : start + count]
        if border.fills:  # the constant is not a copy of a sample
            copies = np.flatnonzero(own != OUTSIDE)
            part, own = part.index_select(axis, torch.from_numpy(copies)), own[copies]
        if own.size:
            summed = middle.clone() if summed is middle else summed
            summed.index_add_(axis, torch.from_numpy(own), part)
    return summed
