"""Device: the numbers of one GPU that the choice of tile sizes needs, as a value.

The profiles here are from data sheets and from NVIDIA's table of technical specifications per compute capability (CUDA
C++ Programming Guide, appendix "Compute Capabilities"). Rates are upper bounds that the vendor names; `measured` puts
the rate of a real device's memory in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from separable.value import Value

__all__ = ["PROFILES", "Device", "for_capability"]

WARP = 32
REGISTER_GRAIN = 256
"""Registers are given to warps in units of this many."""
LARGEST_REGISTERS = 255
"""Registers that one thread can have at most; more are spilled to memory."""
DATA_SHEET = "data sheet"


@dataclass(frozen=True, eq=False)
class Device(Value):
    """Sizes and rates of one GPU.

    Attributes
    ----------
    name : str
    capability : tuple of two int
        Compute capability.
    multiprocessors : int
    shared_bytes : int
        Shared memory that one block may use, with opt-in.
    shared_bytes_all : int
        Shared memory of one multiprocessor.
    registers : int
        Registers of 32 bits of one multiprocessor.
    threads, blocks : int
        Most resident threads and blocks of one multiprocessor.
    cache_bytes : int
        Second-level cache.
    memory_rate : float
        Bytes per second between memory and chip.
    cache_rate : float
        Bytes per second that all multiprocessors load from their first-level caches.
    fma_rate : float
        Multiply-adds of float32 per second without tensor cores.
    tensor_rates : mapping of str to float
        Multiply-adds per second of tensor cores for "tf32", "float16" and "bfloat16".
    launch : float
        Seconds of one launch.
    origin : str
        Where the rates are from: "data sheet", or which of them were measured.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int
    shared_bytes_all: int
    registers: int
    threads: int
    blocks: int
    cache_bytes: int
    memory_rate: float
    cache_rate: float
    fma_rate: float
    tensor_rates: dict[str, float]
    launch: float = 4e-6
    origin: str = DATA_SHEET

    def resident_blocks(self, warps: int, registers: int, shared: int) -> int:
        """Return how many blocks one multiprocessor runs at the same time; 0 if not even one fits.

        Parameters
        ----------
        warps : int
            Warps of a block.
        registers : int
            Registers per thread.
        shared : int
            Bytes of shared memory per block.
        """
        if shared > self.shared_bytes or registers > LARGEST_REGISTERS:
            return 0
        per_warp = -(-registers * WARP // REGISTER_GRAIN) * REGISTER_GRAIN
        by_registers = self.registers // (per_warp * warps)
        by_threads = self.threads // (warps * WARP)
        by_shared = self.shared_bytes_all // (shared + 1024) if shared else self.blocks
        return max(0, min(by_registers, by_threads, by_shared, self.blocks))

    def occupancy(self, warps: int, registers: int, shared: int) -> float:
        """Return the fraction of the resident threads that are used, from 0 to 1."""
        blocks = self.resident_blocks(warps, registers, shared)
        return blocks * warps * WARP / self.threads

    def products_per_second(self, precision: str) -> float:
        """Return the multiply-adds per second of a product of matrices.

        Parameters
        ----------
        precision : str
            "ieee" (no tensor cores), "tf32", "tf32x3" (three products of TF32), "float16" or "bfloat16".
        """
        if precision == "ieee":
            return self.fma_rate
        if precision == "tf32x3":
            return self.tensor_rates["tf32"] / 3
        return self.tensor_rates[precision]

    def measured(self, memory_rate: float) -> Device:
        """Return this profile with the measured rate of memory in place of that of the data sheet."""
        return replace(
            self, memory_rate=memory_rate, origin=f"memory measured, others of a {DATA_SHEET}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values."""
        return {
            **{f: getattr(self, f) for f in self.__dataclass_fields__},
            "capability": list(self.capability),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Device:
        """Read a profile from JSON values; raise KeyError, TypeError or ValueError if they are not one."""
        given = {f: values[f] for f in cls.__dataclass_fields__}
        major, minor = map(int, values["capability"])
        return cls(**{**given, "capability": (major, minor)})


def _tensor(tf32: float, half: float) -> dict[str, float]:
    """Return the rates of tensor cores from the dense TFLOPS of a data sheet; two operations per multiply-add."""
    return {"tf32": tf32 * 5e11, "float16": half * 5e11, "bfloat16": half * 5e11}


# Capability 8.0 has 164 KiB of shared memory per multiprocessor, of which a block may have 163; 9.0 and 10.0 have 228
# and 227. First-level caches load 128 bytes per cycle and multiprocessor.
PROFILES: dict[str, Device] = {
    "a100": Device(
        "NVIDIA A100 SXM 80 GB", (8, 0), 108, 163 << 10, 164 << 10, 65536, 2048, 32, 40 << 20, 2.039e12,
        108 * 128 * 1.41e9, 19.5e12 / 2, _tensor(156, 312),
    ),
    "h100": Device(
        "NVIDIA H100 SXM", (9, 0), 132, 227 << 10, 228 << 10, 65536, 2048, 32, 50 << 20, 3.35e12,
        132 * 128 * 1.83e9, 67e12 / 2, _tensor(494.5, 989.5),
    ),
    "h100 pcie": Device(
        "NVIDIA H100 PCIe", (9, 0), 114, 227 << 10, 228 << 10, 65536, 2048, 32, 50 << 20, 2.0e12,
        114 * 128 * 1.755e9, 51e12 / 2, _tensor(378, 756),
    ),
    "h200": Device(
        "NVIDIA H200", (9, 0), 132, 227 << 10, 228 << 10, 65536, 2048, 32, 50 << 20, 4.8e12,
        132 * 128 * 1.83e9, 67e12 / 2, _tensor(494.5, 989.5),
    ),
    "b200": Device(
        "NVIDIA B200", (10, 0), 148, 227 << 10, 228 << 10, 65536, 2048, 32, 126 << 20, 7.7e12,
        148 * 128 * 1.85e9, 75e12 / 2, _tensor(1100, 2250),
    ),
}  # fmt: skip
"""Profiles from data sheets, by a short name."""


def for_capability(capability: tuple[int, int]) -> Device:
    """Return the profile from a data sheet that stands for a compute capability."""
    names = {8: "a100", 9: "h100"}
    return PROFILES[names.get(capability[0], "b200" if capability[0] >= 10 else "a100")]
