"""`separable::filter_passes`: all passes of a filter or a bank of a tensor as one operator of PyTorch, with gradients.

    out[b, i] = sum over terms of the passes of band b of image[maps[i + taps]]

On CUDA devices a Triton kernel runs it. Elsewhere, and where no tile of the kernel fits, operations of PyTorch do.
The gradient runs the passes with their taps reversed over zeros, then adds each position of the index maps to the
sample that it reads. Importing this module registers the operator.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from separable.gpu.kernel_launch import launch, or_fallback
from separable.gpu.kernel_support import why_not_served
from separable.gpu.tuned_tiles import chosen, device_of
from separable.tensors.device.pass_geometry import MapRun, PassGeometry, PassTypes, geometry_of
from separable.tensors.device.pass_program import PassProgram
from separable.tensors.device.pass_tiling import PassTile
from separable.tensors.device.tensor_layout import TensorLayout, empty_result, layout_of

__all__ = ["KERNEL_DTYPES", "PassInputs", "arranged", "filter_passes", "fixed_tile", "geometries"]

KERNEL_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "uint16", "int16",
    "uint32", "int32", "int64",
)  # fmt: skip
"""Types of numbers of images that the kernel takes."""

_fixed: PassTile | None = None

_torch_library: Any = torch.library
library = _torch_library.Library("separable", "FRAGMENT")
library.define(
    "filter_passes(Tensor image, Tensor table, Tensor[] maps, str roles, int[] axes, int[] runs, "
    "int[] program, float[] weights, bool fills, ScalarType dtype) -> Tensor"
)


@contextlib.contextmanager
def fixed_tile(tile: PassTile) -> Iterator[None]:
    """Run the kernel with one tile in this process, so that tests reach the edges of many small tiles."""
    global _fixed
    before, _fixed = _fixed, tile
    try:
        yield
    finally:
        _fixed = before


@dataclass(frozen=True)
class PassInputs:
    """Arguments of the operator after the tensors.

    Attributes
    ----------
    roles : str
        "zyx", "yx", "x" or "y": the roles of the filtered axes, see `TensorLayout`.
    axes : tuple of int
        Axis of the image for each role.
    runs : tuple of int
        Start, stop and shift of the straight run of each index map.
    program : PassProgram
    fills : bool
        Whether entry 0 of the weights is a constant that lies outside.
    dtype : torch.dtype
        Type of the result.
    double : bool
        Whether sums are of double precision.
    """

    roles: str
    axes: tuple[int, ...]
    runs: tuple[int, ...]
    program: PassProgram
    fills: bool
    dtype: torch.dtype
    double: bool

    @property
    def x_run(self) -> MapRun | None:
        """Straight run of the map along x, if an axis has this role; x is the last one."""
        return MapRun(*self.runs[-3:]) if self.roles.endswith("x") else None

    def sizes(self, lengths: Sequence[int]) -> dict[str, int]:
        """Return the number of outputs along the axis of each role, for the lengths of the maps."""
        taps = dict(zip("xzy", self.program.taps, strict=True))
        return {r: n - taps[r] + 1 for r, n in zip(self.roles, lengths, strict=True)}


@lru_cache(maxsize=512)
def _decoded(numbers: tuple[int, ...]) -> PassProgram:
    return PassProgram.decoded(numbers)


@lru_cache(maxsize=512)
def _structure(program: PassProgram, roles: str) -> str:
    """Return a short text that stands for the passes where a tile is kept."""
    return blake2b(repr((program, roles)).encode(), digest_size=8).hexdigest()


def arranged(image: Tensor, roles: str, axes: Sequence[int]) -> tuple[Tensor, TensorLayout]:
    """Return a tensor whose axes lie in memory as their roles say, a copy if they do not, and its layout."""
    wanted = dict(zip(roles, axes, strict=True))
    others = [a for a in range(image.ndim) if a not in axes]
    inside = [*axes, *others] if roles == "y" else [*others, *axes]
    for order in (None, list(range(image.ndim)), inside):
        given = image
        if order is not None:
            back = [order.index(a) for a in range(image.ndim)]
            given = image.permute(*order).contiguous().permute(*back)
        layout = layout_of(given.shape, given.stride(), axes)
        if layout is not None and {r: layout.order[p] for r, p in layout.named} == wanted:
            return given, layout
    raise AssertionError(f"no order of the axes of {tuple(image.shape)} has the roles {wanted}")


def geometries(
    image: Tensor, layout: TensorLayout, lengths: Sequence[int], inputs: PassInputs
) -> tuple[PassGeometry, ...]:
    """Return the launches that fit into the registers, the best by prediction first."""
    sizes = inputs.sizes(lengths)
    types = PassTypes(image.dtype, inputs.dtype, inputs.double, inputs.fills)
    run = inputs.x_run or MapRun(0, max(1, layout.lanes), 0)
    device = device_of(image.device)
    return geometry_of(layout, tuple(sizes.items()), types, inputs.program, run, device)


def filter_passes(
    image: Tensor,
    table: Tensor,
    maps: Sequence[Tensor],
    weights: Sequence[float],
    inputs: PassInputs,
) -> Tensor:
    """Call the operator; the result has shape (bands, ...)."""
    found: Tensor = torch.ops.separable.filter_passes(
        image, table, list(maps), inputs.roles, list(inputs.axes), list(inputs.runs),
        inputs.program.encoded(), list(weights), inputs.fills, inputs.dtype,
    )  # fmt: skip
    return found


def _run(
    image: Tensor, table: Tensor, maps: list[Tensor], roles: str, axes: list[int], runs: list[int],
    program: list[int], weights: list[float], fills: bool, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    """Filter by the kernel if it takes the tensor, otherwise by operations of PyTorch."""
    inputs = PassInputs(
        roles, tuple(axes), tuple(runs), _decoded(tuple(program)), fills, dtype,
        table.dtype == torch.float64,
    )  # fmt: skip

    def by_torch() -> Tensor:
        return _by_torch(image, table, maps, inputs)

    if why_not_served(image, dtypes=KERNEL_DTYPES):
        return by_torch()
    return or_fallback(
        "separable.convolve", lambda: _by_kernel(image, table, maps, weights, inputs), by_torch
    )


def _by_kernel(
    image: Tensor, table: Tensor, maps: list[Tensor], weights: list[float], inputs: PassInputs
) -> Tensor:
    """Launch the kernel with the best tile."""
    image, layout = arranged(image, inputs.roles, inputs.axes)
    found = geometries(image, layout, [m.shape[0] for m in maps], inputs)
    if not found:
        return _by_torch(image, table, maps, inputs)
    result = empty_result(found[0].result, inputs.program.bands, inputs.dtype, image.device)
    if not result.numel():
        return result
    own = dict(zip(inputs.roles, maps, strict=True))
    for role, count in (("x", layout.lanes), ("y", 1), ("z", 1)):
        if role not in own:
            own[role] = torch.arange(max(1, count), dtype=torch.int32, device=image.device)

    def run(tile: tuple[int, ...]) -> None:
        launch(found[0].with_tile(PassTile(*tile)).launch(image, result, own, table, weights))

    if _fixed is not None:
        run(astuple(found[0].allowed(_fixed)))
        return result
    structure = _structure(inputs.program, inputs.roles)
    types = (str(image.dtype), str(inputs.dtype), inputs.double, inputs.fills)
    key = (layout.sizes, tuple(s.shape[0] for s in maps), structure, *types)
    run(chosen("filter_passes", key, image.device, lambda _: [astuple(g.tile) for g in found], run))
    return result


def _by_torch(image: Tensor, table: Tensor, maps: list[Tensor], inputs: PassInputs) -> Tensor:
    """Filter by operations of PyTorch: the image with all borders written out, then pass after pass."""
    from separable.tensors.ops import stored

    values = image.to(table.dtype)
    for axis, samples in zip(inputs.axes, maps, strict=True):
        found = values.index_select(axis, samples.clamp_min(0))
        if inputs.fills:
            shape = [1] * values.ndim
            shape[axis] = -1
            found = torch.where((samples < 0).reshape(shape), table[0], found)
        values = found
    sums = [values]
    layers = dict(zip("xzy", (inputs.program.x, inputs.program.z, inputs.program.y), strict=True))
    taps = dict(zip("xzy", inputs.program.taps, strict=True))
    where = dict(zip(inputs.roles, inputs.axes, strict=True))
    for role, layer in layers.items():
        if layer:
            sums = [
                _layer_sum(sums, terms, where.get(role, 0), taps[role], table) for terms in layer
            ]
    result = torch.stack([stored(band, inputs.dtype) for band in sums])
    _, layout = arranged(image, inputs.roles, inputs.axes)
    lengths = [m.shape[0] for m in maps]
    made = empty_result(
        layout.with_sizes(inputs.sizes(lengths)), len(sums), inputs.dtype, image.device
    )
    return made.copy_(result)


def _layer_sum(sums: list[Tensor], terms: Any, axis: int, taps: int, table: Tensor) -> Tensor:
    """Return the sum of the correlations of one sum of a layer along an axis."""
    total: Tensor | None = None
    for source, first, count, place in terms:
        values = sums[source]
        size = values.shape[axis] - taps + 1
        for t in range(count):
            part = table[place + t] * values.narrow(axis, first + t, size)
            total = part if total is None else total + part
    assert total is not None
    return total


for _backend in ("CPU", "CUDA"):
    library.impl("filter_passes", _run, _backend)


@torch.library.register_fake("separable::filter_passes", lib=library)  # type: ignore[untyped-decorator,unused-ignore]
def _fake(
    image: Tensor, table: Tensor, maps: list[Tensor], roles: str, axes: list[int], runs: list[int],
    program: list[int], weights: list[float], fills: bool, dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    decoded = _decoded(tuple(program))
    taps = dict(zip("xzy", decoded.taps, strict=True))
    sizes = {r: m.shape[0] - taps[r] + 1 for r, m in zip(roles, maps, strict=True)}
    _, layout = arranged(image, roles, axes)
    return empty_result(layout.with_sizes(sizes), decoded.bands, dtype, image.device)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keep what the gradient needs: the weights and the index maps, and nothing of the image."""
    image, table, maps, roles, axes, runs, program, weights, _, dtype = inputs
    ctx.save_for_backward(table, *maps)
    ctx.arguments = (
        tuple(image.shape),
        image.dtype,
        roles,
        tuple(axes),
        tuple(runs),
        tuple(program),
    )
    ctx.weights = weights
    ctx.linear = image.is_floating_point() and dtype.is_floating_point


def _backward(ctx: Any, gradient: Tensor) -> Any:
    """Return the gradient of the image: the reversed passes over zeros, and borders added to their samples."""
    shape, dtype, roles, axes, runs, program = ctx.arguments
    nothing = (None, [None] * len(axes), *(None,) * 7)
    if not ctx.linear or not ctx.needs_input_grad[0]:
        return None, *nothing
    table, *maps = ctx.saved_tensors
    decoded = _decoded(program)
    taps = dict(zip("xzy", decoded.taps, strict=True))
    adjoint_maps, adjoint_runs = [], []
    for role, samples in zip(roles, maps, strict=True):
        size, k = samples.shape[0] - taps[role] + 1, taps[role]
        places = torch.arange(size + 2 * k - 2, device=samples.device, dtype=torch.int32) - (k - 1)
        adjoint_maps.append(torch.where(places < size, places.clamp_min(-1), -1))
        adjoint_runs += [k - 1, k - 1 + size, 1 - k]
    total: Tensor | None = None
    for band in range(decoded.bands):
        reversed_, order = decoded.adjoint(band, len(ctx.weights))
        index = torch.as_tensor(order, device=table.device)
        turned = table[index]
        turned[0] = 0.0
        numbers = [ctx.weights[k] for k in order.tolist()]
        numbers[0] = 0.0
        inputs = PassInputs(
            roles, axes, tuple(adjoint_runs), reversed_, True, table.dtype,
            table.dtype == torch.float64,
        )  # fmt: skip
        found = filter_passes(gradient[band], turned, adjoint_maps, numbers, inputs)[0]
        total = found if total is None else total + found
    assert total is not None
    for number, (axis, samples) in enumerate(zip(axes, maps, strict=True)):
        total = _folded(total, axis, samples, runs[3 * number : 3 * number + 3], shape[axis])
    return total.to(dtype), *nothing


def _folded(wide: Tensor, axis: int, samples: Tensor, run: Sequence[int], size: int) -> Tensor:
    """Add each position of an index map to the sample that it reads."""
    start, stop, shift = run
    result = torch.zeros_like(wide.narrow(axis, 0, 1)).expand(
        *wide.shape[:axis], size, *wide.shape[axis + 1 :]
    ).clone()  # fmt: skip
    if stop > start:
        result.narrow(axis, start + shift, stop - start).copy_(
            wide.narrow(axis, start, stop - start)
        )
    for first, count in ((0, start), (stop, samples.shape[0] - stop)):
        if not count:
            continue
        own = samples.narrow(0, first, count)
        part = wide.narrow(axis, first, count)
        shape = [1] * wide.ndim
        shape[axis] = -1
        part = torch.where((own >= 0).reshape(shape), part, torch.zeros_like(part))
        result = result.index_add(axis, own.clamp_min(0), part)
    return result


torch.library.register_autograd(
    "separable::filter_passes", _backward, setup_context=_setup, lib=library
)
