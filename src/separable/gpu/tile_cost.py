"""Predicted time of a kernel on a device: what its blocks move and multiply, and how many run at the same time.

    seconds = launch + max(memory, cache, products, sums) * waves

Memory traffic is bytes over the rate of memory, divided by how well the resident warps hide its latency; the first-level
cache, the tensor cores and the float32 units are counted in the same way. The last wave of blocks counts as a whole
one. The largest of the four is what binds the kernel. (Williams, Waterman and Patterson, "Roofline", 2009,
doi:10.1145/1498765.1498785, for the bound; Volkov, "Understanding Latency Hiding on GPUs", 2016, for occupancy.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from separable.gpu.device_profile import WARP, Device

__all__ = ["BlockWork", "Prediction", "predicted"]

ENOUGH_WARPS = 12
"""Resident warps per multiprocessor from which on memory latency is hidden: Little's law with 16 bytes per thread."""
CHUNK = 16


@dataclass(frozen=True)
class BlockWork:
    """Work of all blocks of one launch.

    Attributes
    ----------
    blocks : int
        Number of blocks.
    memory_bytes : float
        Bytes that cross between memory and chip, each once.
    cache_bytes : float
        Bytes that threads load, from whichever cache.
    products : float
        Multiply-adds of matrix products.
    precision : str
        Precision of these, see `Device.products_per_second`.
    sums : float
        Other multiply-adds, of float32.
    warps : int
        Warps of a block.
    registers : int
        Registers per thread.
    shared_bytes : int
        Shared memory of a block.
    """

    blocks: int
    memory_bytes: float
    cache_bytes: float
    products: float
    precision: str
    sums: float
    warps: int
    registers: int
    shared_bytes: int


@dataclass(frozen=True)
class Prediction:
    """Predicted seconds and what binds them: "memory", "cache", "products", "sums", or why a tile cannot run."""

    seconds: float
    binds: str


def predicted(device: Device, work: BlockWork) -> Prediction:
    """Return the predicted time of a launch, infinite if a block does not fit a multiprocessor.

    Examples
    --------
    >>> from separable.gpu.device_profile import PROFILES
    >>> copy = BlockWork(100_000, 3.35e9, 3.35e9, 0.0, "ieee", 0.0, 4, 32, 0)
    >>> found = predicted(PROFILES["h100"], copy)
    >>> found.binds, round(found.seconds * 1e3, 1)
    ('memory', 1.0)
    """
    resident = device.resident_blocks(work.warps, work.registers, work.shared_bytes)
    if resident == 0:
        return Prediction(math.inf, "does not fit")
    at_once = resident * device.multiprocessors
    waves = -(-work.blocks // at_once)
    idle = (
        waves * at_once / work.blocks
        if waves > 1
        else max(1.0, device.multiprocessors / work.blocks)
    )
    hidden = min(1.0, resident * work.warps / ENOUGH_WARPS)
    parts = {
        "memory": work.memory_bytes / device.memory_rate / hidden,
        "cache": work.cache_bytes / device.cache_rate / hidden,
        "products": work.products / device.products_per_second(work.precision),
        "sums": work.sums / device.fma_rate / min(1.0, resident * work.warps * WARP / 256),
    }
    binds = max(parts, key=lambda name: parts[name])
    return Prediction(device.launch + parts[binds] * idle, binds)
