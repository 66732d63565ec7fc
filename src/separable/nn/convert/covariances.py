"""Moments: second moments of a layer's input patches, and cross moments with the wanted outputs.

Only sums are stored. A patch is what one filter sees at one position, in the order of its weights.
At most `SAMPLES` positions of a call are looked at, drawn with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.conv import _ConvTransposeNd

__all__ = ["Collector", "Moments"]

Array = NDArray[Any]

SAMPLES = 8192  # positions per call: far more than most filters have inputs
CHUNK = 1024  # positions per matrix product


@dataclass(frozen=True, eq=False)
class Moments:
    """Centred second moments of patches p and of the wanted outputs y.

    Attributes
    ----------
    count : int
        Positions.
    patches : ndarray, shape (groups, inputs, inputs)
        ``mean(p p^T)`` of the centred patches.
    cross : ndarray, shape (groups, outputs, inputs)
        ``mean(y p^T)``, centred.
    energy : float
        ``mean(|y|^2)``, centred: what an error is relative to.
    patch_mean, output_mean : ndarray, shapes (groups, inputs), (groups, outputs)
    """

    count: int
    patches: Array
    cross: Array
    energy: float
    patch_mean: Array
    output_mean: Array

    def error(self, weights: Array) -> float:
        """Return the relative error of a layer with these weights and the best bias for them.

        Parameters
        ----------
        weights : ndarray, shape (groups, outputs, inputs)
        """
        product = weights @ self.patches
        inner = float(np.sum(product * weights) - 2 * np.sum(weights * self.cross))
        return math.sqrt(max(self.energy + inner, 0.0) / max(self.energy, np.finfo(float).tiny))

    def bias(self, weights: Array) -> Array:
        """Return the bias that gives the outputs their wanted mean, shape (groups * outputs,)."""
        found = self.output_mean - np.einsum("gon,gn->go", weights, self.patch_mean)
        return np.asarray(found.ravel())


class Collector:
    """Accumulator of the moments of one convolution.

    Parameters
    ----------
    conv : torch.nn.Conv1d, Conv2d, Conv3d, or one of their transposed kind
    """

    def __init__(self, conv: Any) -> None:
        self.conv = conv
        self.ndim = len(conv.kernel_size)
        groups = conv.groups
        n = _inputs(conv)
        outputs = conv.out_channels // groups
        self.device = (
            torch.device("cpu") if conv.weight.device.type == "mps" else conv.weight.device
        )
        options: dict[str, Any] = {"dtype": torch.float64, "device": self.device}
        self.count = 0
        self.patches = torch.zeros(groups, n, n, **options)
        self.cross = torch.zeros(groups, outputs, n, **options)
        self.energy = torch.zeros((), **options)
        self.patch_sum = torch.zeros(groups, n, **options)
        self.output_sum = torch.zeros(groups, outputs, **options)
        self.generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add the inputs and the wanted outputs of one call."""
        if inputs.dim() == self.ndim + 1:
            inputs, outputs = inputs[None], outputs[None]
        windows = self._windows(inputs)  # (n, *positions, c, *kernel)
        places = outputs.movedim(1, -1)  # (n, *positions, o)
        shape = places.shape[:-1]
        chosen = self._draw(math.prod(shape))
        for part in torch.split(chosen, CHUNK):
            index = tuple(i.to(inputs.device) for i in torch.unravel_index(part, shape))
            self._add(windows[index], places[index])

    def _add(self, windows: Tensor, outputs: Tensor) -> None:
        groups = self.conv.groups
        many = len(windows)
        p = windows.reshape(many, groups, -1).to(self.device, torch.float64).movedim(1, 0)
        y = outputs.reshape(many, groups, -1).to(self.device, torch.float64).movedim(1, 0)
        self.count += many
        self.patches.baddbmm_(p.mT, p)
        self.cross.baddbmm_(y.mT, p)
        self.energy += (y**2).sum()
        self.patch_sum += p.sum(dim=1)
        self.output_sum += y.sum(dim=1)

    def _draw(self, total: int) -> Tensor:
        if total <= SAMPLES:
            return torch.arange(total)
        return torch.randint(total, (SAMPLES,), generator=self.generator).sort().values

    def _windows(self, inputs: Tensor) -> Tensor:
        """Return a view of the padded input as one patch per position."""
        conv = self.conv
        if isinstance(conv, _ConvTransposeNd):
            return self._transposed_windows(inputs)
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        amounts = conv._reversed_padding_repeated_twice
        padded = functional.pad(inputs, amounts, mode=mode) if any(amounts) else inputs
        return self._views(padded, conv.stride)

    def _transposed_windows(self, inputs: Tensor) -> Tensor:
        """Return one patch per position of the output of a transposed convolution.

        It is the convolution, with the kernel reversed, of the input with ``stride - 1`` zeros between
        samples. An output sees the samples at its taps, and zeros at the taps between them.
        """
        conv = self.conv
        space = inputs.shape[2:]
        sizes = [(n - 1) * s + 1 for n, s in zip(space, conv.stride, strict=True)]
        spread = inputs.new_zeros(*inputs.shape[:2], *sizes)
        places: Any = (..., *(slice(None, None, s) for s in conv.stride))
        spread[places] = inputs
        amounts: list[int] = []
        for j in reversed(range(self.ndim)):
            before = conv.dilation[j] * (conv.kernel_size[j] - 1) - conv.padding[j]
            amounts += [before, before + conv.output_padding[j]]
        views = self._views(functional.pad(spread, amounts), (1,) * self.ndim)
        return views.flip(tuple(range(-self.ndim, 0)))

    def _views(self, padded: Tensor, stride: Sequence[int]) -> Tensor:
        conv = self.conv
        n, c, *space = padded.shape
        sn, sc, *strides = padded.stride()
        axes = list(zip(space, conv.kernel_size, stride, conv.dilation, strict=True))
        positions = [(size - d * (k - 1) - 1) // s + 1 for size, k, s, d in axes]
        steps = [s * a for (_, _, s, _), a in zip(axes, strides, strict=True)]
        taps = [d * a for (_, _, _, d), a in zip(axes, strides, strict=True)]
        return padded.as_strided(
            (n, *positions, c, *conv.kernel_size), (sn, *steps, sc, *taps),
            padded.storage_offset(),
        )  # fmt: skip

    def moments(self) -> Moments:
        """Return the moments of everything that was added."""
        n = max(self.count, 1)
        patch_mean, output_mean = self.patch_sum / n, self.output_sum / n
        patches = self.patches / n - patch_mean[:, :, None] * patch_mean[:, None, :]
        cross = self.cross / n - output_mean[:, :, None] * patch_mean[:, None, :]
        energy = float(self.energy / n - (output_mean**2).sum())
        return Moments(
            self.count, patches.cpu().numpy(), cross.cpu().numpy(), max(energy, 0.0),
            patch_mean.cpu().numpy(), output_mean.cpu().numpy(),
        )  # fmt: skip

    @staticmethod
    def size(conv: Any) -> int:
        """Return the number of bytes that the sums of a convolution need."""
        n = _inputs(conv)
        return int(8 * (conv.groups * n * n + conv.weight.numel()))


def _inputs(conv: Any) -> int:
    """Return the number of values that one filter multiplies."""
    return int(math.prod(conv.kernel_size) * conv.in_channels // conv.groups)
