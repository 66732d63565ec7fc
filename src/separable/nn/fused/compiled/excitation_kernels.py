"""Factors of squeeze-and-excitation: two small linear layers per image, in one step.

    hidden[h] = act(first_bias[h] + sum_c mean[c] * first[c, h]),   mean[c] = sum over slabs of sums[slab, c] / divisor
    factor[c] = act(second_bias[c] + sum_h hidden[h] * second[h, c])

A work item is one image, because these layers are so small that a barrier between them takes longer. The sums are the
result of the first step of a global average (`pooling_kernels`), the factors the second array of a product.
"""

# Kernels are typed by Numba, for each dtype anew.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np

from separable.engine.compiled.jit import inline, intrinsic, stage
from separable.engine.compiled.numba_api import numba, types
from separable.engine.compiled.simd import add, load_scalar
from separable.engine.compiled.work_items import next_work_item

from .layer_kernels import multiply_panels
from .layer_params import emit_pointer
from .pooling_kernels import divided
from .simd_ops import LANES, float32_ptr, read_part, write_part, zero

EXCITATION = np.dtype(
    [(name, np.int64) for name in (
        # Arrays of this run.
        "source",  # sums [image][slab][channel]
        "target",  # factors [image][channel]
        "first",  # weights of the first linear layer, packed as panels
        "first_bias",
        "second",  # weights of the second linear layer
        "second_bias",
        "scratch",
        "scratch_size",
        "items",  # images
        "channels",
        "slabs",  # sums per image and channel
        "divisor",  # address of float32: what the sums are divided by
        "hidden",  # outputs of the first layer
        "outputs",  # outputs of the second layer
        "first_panels", "second_panels",
        "first_act", "second_act",
        "first_limits", "second_limits",  # addresses of float32[2]: clamps
        # Buffers in the scratch memory of a thread; the means, float32[channels], are at 0.
        "at_hidden",  # float32[hidden]
        "at_spill",  # float32[VECTORS * LANES]: a block whose last vector is not full
    )]
)  # fmt: skip
_RECORD = numba.from_dtype(EXCITATION)


@intrinsic
def excitation_at(_typing: Any, address: Any) -> Any:
    """Return the record of the factors of squeeze-and-excitation at an address."""
    return _RECORD(types.int64), emit_pointer


@inline
def _write_means(source, out, channels, slabs, divisor):
    """Write the means of one image, from its sums over slabs."""
    for c in range(0, channels, LANES):
        left = channels - c
        total = zero()
        for s in range(slabs):
            total = add(total, read_part(float32_ptr(source + (s * channels + c) * 4), left))
        write_part(float32_ptr(out + c * 4), divided(total, divisor), left)


@stage
def excitation_float32(address, counter, thread):
    """Compute the factors of squeeze-and-excitation of float32."""
    plan = excitation_at(address)
    means = plan.scratch + thread * plan.scratch_size
    hidden, spill = means + plan.at_hidden, means + plan.at_spill
    channels, outputs, width = plan.channels, plan.outputs, plan.hidden
    divisor, like = load_scalar(float32_ptr(plan.divisor)), float32_ptr(plan.source)
    image = next_work_item(counter, plan.items, thread)
    while image < plan.items:
        source = plan.source + image * plan.slabs * channels * 4
        _write_means(source, means, channels, plan.slabs, divisor)
        multiply_panels(
            like, means, channels * 4, channels, plan.first, plan.first_bias, hidden, width * 4, width,
            1, 0, plan.first_panels, float32_ptr(plan.first_limits), plan.first_act,
            spill,
        )  # fmt: skip
        multiply_panels(
            like, hidden, width * 4, width, plan.second, plan.second_bias,
            plan.target + image * outputs * 4, outputs * 4, outputs, 1, 0, plan.second_panels,
            float32_ptr(plan.second_limits), plan.second_act, spill,
        )  # fmt: skip
        image = next_work_item(counter, plan.items, thread)
