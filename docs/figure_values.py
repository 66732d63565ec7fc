"""The values of the worked figures, as text: each is computed by the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import separable as sep
from separable.cost import factor_costs
from separable.cost.cost_text import quantity
from separable.machine import shipped_profiles
from separable.plan import sweep_sizes

__all__ = [
    "LAPLACIAN",
    "SOBEL",
    "TEXTBOOK",
    "best_layer",
    "best_product",
    "crossing",
    "curve",
    "derivation",
    "detectors",
    "even",
    "fewer",
    "fft",
    "filter_count",
    "first_layer",
    "layer",
    "line",
    "multiplied",
    "network",
    "output_shape",
    "positions",
    "ranks",
    "same_shape",
    "second_strip",
    "share",
    "strips",
    "times",
    "traffic",
    "turned",
    "vectors",
]

TEXTBOOK = [[3, 6, 9], [4, 8, 12], [5, 10, 15]]
SOBEL = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
LAPLACIAN = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]


def vectors(kernel: Any) -> str:
    """Return the factors of a separable kernel."""
    answer = sep.is_separable(kernel)
    column, row = (" ".join(f"{v:g}" for v in vector) for vector in answer.vectors)
    kind = "integers" if answer.factors.dtype.kind == "i" else "numbers"
    return f"[{column}] (column) x [{row}] (row), {kind}"


def ranks(*kernels: Any, tol: float | None = None) -> str:
    """Return the ranks of kernels, or the terms that they need for an error."""
    found = [sep.spectrum(k.dense() if isinstance(k, sep.Factors) else k) for k in kernels]
    return " / ".join(str(s.rank if tol is None else s.rank_for(tol)) for s in found)


def best_product() -> str:
    """Return the rank of the Laplacian and the error of its best product."""
    answer = sep.is_separable(LAPLACIAN)
    return f"rank {answer.rank}, best product {100 * answer.error:.0f} % off"


def turned() -> Any:
    """Return a Gaussian with sigmas 6 and 2 at 45 degrees."""
    along = np.arange(-24, 25)
    y, x = np.meshgrid(along, along, indexing="ij")
    up, down = (y + x) / np.sqrt(2), (y - x) / np.sqrt(2)
    return np.exp(-(up**2) / 72 - down**2 / 8)


def filter_count(size: int, ndim: int) -> str:
    """Return the multiplications of a kernel, dense and as passes, and their ratio."""
    count = sep.cost.count_kernel(np.ones((size,) * ndim), 1)
    return f"{count.dense} / {count.needed:.0f} = {count.ratio:.1f}"


def layer(shape: tuple[int, ...], size: int, filters: int) -> str:
    """Return the multiplications of a layer, dense, depthwise and pointwise, and their ratio."""
    kernel = (size,) * (len(shape) - 1)
    space = "zyx"[-len(kernel) :]
    dense = sep.cost.conv(shape, kernel, filters).multiplications
    parts = factor_costs(shape, kernel, filters, f"oc{space} -> oc,c{space}").values()
    deep, point = (cost.multiplications for cost in parts)
    return f"{dense:,} / ({deep:,} + {point:,} = {deep + point:,}) = {dense / (deep + point):.3g}"


def strips() -> str:
    """Return the multiplications of 3x3 on 15x15, dense and as two passes."""
    dense = sep.cost.conv((15, 15, 1), (3, 3), 1).multiplications
    parts = factor_costs((15, 15, 1), (3, 3), 1, "ocyx -> ocy,ocx").values()
    first, second = (cost.multiplications for cost in parts)
    return f"{dense:,} / ({first} + {second} = {first + second:,}) = {dense / (first + second):.2f}"


def multiplied() -> str:
    """Return the shape of the depthwise output with depth multiplier 2."""
    middle = factor_costs((12, 12, 3), (5, 5), 256, "ocyx -> oc,cyx", rank=2)
    positions = (12 - 5 + 1) ** 2
    return f"8x8x{middle['cyx'].multiplications // (positions * 25)}"


def _over(filters: int, size: int) -> float:
    shape, kernel = (size, size, 64), (size, size)
    apart = sep.cost.separable(shape, kernel, filters).multiplications
    return apart / sep.cost.conv(shape, kernel, filters).multiplications


def share(filters: int, size: int) -> str:
    """Return separable over dense for a kernel size."""
    return f"{_over(filters, size):.5f}"


def times(size: int) -> str:
    """Return dense over separable for 64 and 1024 filters."""
    return " to ".join(f"{1 / _over(filters, size):.1f}" for filters in (64, 1024))


def even(size: int, ndim: int) -> str:
    """Return the depth multiplier from which a separable layer costs more than a dense one."""
    kernel, shape = (size,) * ndim, (*(size,) * ndim, 1)
    dense = sep.cost.conv(shape, kernel, 256).multiplications
    return f"{dense / sep.cost.separable(shape, kernel, 256).multiplications:.1f}"


def fewer(size: int, ndim: int, multiplier: int) -> str:
    """Return dense over separable for a depth multiplier, or its reciprocal."""
    kernel, shape = (size,) * ndim, (*(size,) * ndim, 1)
    dense = sep.cost.conv(shape, kernel, 256).multiplications
    apart = sep.cost.separable(shape, kernel, 256, depth_multiplier=multiplier).multiplications
    return f"{dense / apart:.1f}" if dense > apart else f"1 / {apart / dense:.3f}"


def crossing(size: int) -> str:
    """Return the number of positions at which attention costs as much as a separable layer."""
    channels = 64
    layer = sep.cost.separable((*(1, 1), channels), (size, size), channels, padding="same")
    at = next(
        n
        for n in range(1, 10 * size**2)
        if sep.cost.attention(n, channels, counted="alike").multiplications
        >= n * layer.multiplications
    )
    return f"N = {at}"


def detectors() -> str:
    """Return the least depth multipliers that represent one and both detectors."""
    one = np.zeros((1, 2, 3, 3))
    one[0, 0, :, 1], one[0, 1, 1, :] = 1, 1  # red vertical, blue horizontal
    both = np.concatenate([one, one[:, ::-1]])
    ranks = [sep.spectrum(w, "ocyx -> oc,cyx").rank for w in (one, both)]
    return f"M = {ranks[0]} for one, M = {ranks[1]} for both"


def network(name: str, **options: Any) -> str:
    """Return parameters and multiply-adds of a network of the library."""
    resolution = options.pop("resolution", None)
    model = sep.nn.models.create(name, **options)
    space = model.sample_shape[1:] if resolution is None else (resolution,) * 2
    total = sep.nn.ledger(model, (1, 3, *space), backward=False).total
    return f"{quantity(total.parameters)}, {quantity(total.macs)}"


def first_layer() -> str:
    """Return the multiply-adds of the two steps of the first separable layer of MobileNet."""
    found = sep.nn.ledger(sep.nn.models.create("mobilenet_v1"), (1, 3, 224, 224), backward=False)
    steps = (found[f"stages.0.0.{step}"].cost.macs for step in ("depthwise", "pointwise"))
    return " + ".join(map(quantity, steps))


def line(size: int) -> bool:
    """Return whether attention and a separable layer along one axis cost alike at N = k."""
    layer = sep.cost.separable((size, 64), (size,), 64, padding="same")
    return sep.cost.attention(size, 64, counted="alike").multiplications == layer.multiplications


def traffic() -> str:
    """Return dense over depthwise, in multiplications and in bytes."""
    shape, options = (56, 56, 128), {"padding": "same"}
    dense = sep.cost.conv(shape, (3, 3), 128, **options)
    deep = sep.cost.conv(shape, (3, 3), 128, groups=128, **options)
    times = dense.multiplications / deep.multiplications
    return f"{times:.0f} times, {dense.bytes / deep.bytes:.1f} times"


def fft() -> str:
    """Return which of passes and FFT are predicted to be faster for small and for large kernels."""
    machine = shipped_profiles()[0]  # the same on every computer
    found = sweep_sizes(
        (1024, 1024), rank=31, sizes=(3, 7, 151), machine=machine, threads=1
    ).seconds
    first, last = (found["passes"][at] < found["FFT"][at] for at in (0, -1))
    return f"passes first, {'passes' if last else 'FFT'} later" if first else "FFT first"


def curve(filters: int) -> str:
    """Return separable over dense for kernels of 32 .. 1024 samples."""
    return " ".join(f"{_over(filters, 2**n):.5f}" for n in range(5, 11))


def derivation() -> str:
    """Return dense over separable for K = 5, C_in = 3 and C_out = 256, and what two wrong lines give."""
    inputs, filters, size = 3, 256, 5
    dense = sep.cost.conv((size, size, inputs), (size, size), filters).multiplications
    apart = sep.cost.separable((size, size, inputs), (size, size), filters).multiplications
    lost = size**2 * inputs / (size**2 + filters)
    return f"{dense / apart:.2f}, not {lost:.3f} or {1 / size**2 + 1 / filters:.4f}"


def second_strip() -> str:
    """Return the sum of two passes over 15x15, and that with a second pass over 15 rows."""
    first, second = factor_costs((15, 15, 1), (3, 3), 1, "ocyx -> ocy,ocx").values()
    total = first.multiplications + second.multiplications
    return f"{total:,}, not {2 * first.multiplications:,}"


def positions() -> str:
    """Return the number of outputs of a 3x3 kernel on 15x15, and the number of inputs."""
    outputs = sep.cost.conv((15, 15, 1), (3, 3), 1).multiplications // 9
    return f"{outputs}, not {15 * 15}"


def output_shape() -> str:
    """Return the output of a 5x5 layer with 256 filters on 12x12x3, and its input with the filters."""
    seen = torch.zeros(1, 3, 12, 12)
    _, filters, *space = torch.nn.Conv2d(3, 256, 5)(seen).shape
    return f"{'x'.join(map(str, space))}x{filters}, not 12x12x{filters}"


def same_shape() -> str:
    """Return what a dense and a separable layer with arbitrary weights have in common."""
    torch.manual_seed(0)
    seen = torch.randn(1, 3, 12, 12)
    with torch.no_grad():
        whole = torch.nn.Conv2d(3, 256, 5)(seen)
        apart = sep.nn.SeparableConv2d(3, 256, 5, padding="valid")(seen)
    shape = "the same shape" if whole.shape == apart.shape else "other shapes"
    values = "the same values" if torch.allclose(whole, apart, atol=0.1) else "not the same values"
    return f"{shape}, {values}"


def best_layer() -> str:
    """Return the errors of the best layers for two detectors, if singular values give the same."""
    both = np.zeros((2, 2, 3, 3))
    both[0, 0, :, 1], both[0, 1, 1, :] = 1, 1  # red vertical, blue horizontal
    both[1] = both[0, ::-1]
    values = np.linalg.svd(both.transpose(1, 0, 2, 3).reshape(2, 2, 9), compute_uv=False)
    found = []
    for multiplier in (1, 2):
        error = sep.factorize(both, "ocyx -> oc,cyx", rank=multiplier).error
        expected = np.sqrt(np.sum(values[:, multiplier:] ** 2) / np.sum(both**2))
        assert abs(error - expected) < 1e-9
        found.append(f"{error:.3f} with M = {multiplier}")
    return ", ".join(found)
