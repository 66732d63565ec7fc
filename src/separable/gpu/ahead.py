"""Compilation of a launch for a GPU that is not there: registers, spills, shared memory and instructions.

Triton's compiler and NVIDIA's assembler are part of Triton's wheel, so kernels are proven to compile, to fit and to use
tensor cores on any computer. The process must not run with ``TRITON_INTERPRET=1``, which replaces the compiler.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separable.errors import ArgumentError
from separable.gpu.kernel_launch import Launch

__all__ = ["CAPABILITIES", "Compiled", "compile_ahead", "described"]

CAPABILITIES = (80, 90, 100)
"""Generations of GPUs for which all kernels are compiled in tests: A100, H100 and B200."""
_TYPES = {
    "float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64", "int64": "i64", "int32": "i32",
    "int16": "i16", "int8": "i8", "uint8": "u8", "uint16": "u16", "uint32": "u32", "bool": "i1",
}  # fmt: skip
_TENSOR_CORES = re.compile(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)\b")
_USED = re.compile(r"REG:(\d+) STACK:(\d+)")


@dataclass(frozen=True)
class Compiled:
    """A kernel compiled for one capability.

    Attributes
    ----------
    name : str
    capability : int
        80, 90 or 100.
    registers : int
        Registers per thread.
    spilled_bytes : int
        Bytes per thread of the stack, which holds what registers do not.
    shared_bytes : int
        Shared memory per block.
    tensor_cores : tuple of str
        Kinds of tensor-core instructions in the code, sorted; empty if there are none.
    """

    name: str
    capability: int
    registers: int
    spilled_bytes: int
    shared_bytes: int
    tensor_cores: tuple[str, ...]


def described(made: Launch) -> dict[str, Any]:
    """Return a launch as JSON values, without its data, for another process that compiles it.

    Integer arguments keep what the compiler specialises on: whether they are 1, or divisible by 16. Tensors are taken to
    be aligned to 16 bytes, as PyTorch's allocator makes them, if their first element is.
    """
    function = getattr(made.kernel, "fn", made.kernel)
    arguments = {name: _description(value) for name, value in made.arguments.items()}
    return {
        "module": function.__module__, "kernel": function.__name__, "arguments": arguments,
        "constants": dict(made.constants), "warps": made.warps, "stages": made.stages,
    }  # fmt: skip


def _description(value: Any) -> list[Any]:
    """Return the type of an argument, its value if that is a constant, and whether it is divisible by 16."""
    if value is None:
        return ["constexpr", None, False]
    if isinstance(value, tuple):  # of numbers
        return [[_description(v)[0] for v in value], None, False]
    if hasattr(value, "data_ptr"):
        aligned = value.storage_offset() * value.element_size() % 16 == 0
        return [f"*{_TYPES[str(value.dtype).removeprefix('torch.')]}", None, aligned]
    if isinstance(value, bool):
        return ["i1", None, False]
    if isinstance(value, int):
        if value == 1:
            return ["constexpr", 1, False]
        return ["i32" if -(2**31) <= value < 2**31 else "i64", None, value % 16 == 0]
    return ["fp32", None, False]


def compile_ahead(made: Mapping[str, Any], capability: int) -> Compiled:
    """Compile a launch, as `described`, for a capability.

    Parameters
    ----------
    made : mapping
        Result of `described`.
    capability : int
        80, 90 or 100.

    Raises
    ------
    ArgumentError
        If Triton's interpreter is on in this process.
    """
    import importlib

    from separable.gpu.triton_kernels.triton_api import triton

    kernel = getattr(importlib.import_module(made["module"]), made["kernel"])
    if not hasattr(kernel, "cache_key"):
        raise ArgumentError(
            "compile_ahead: expected a process without TRITON_INTERPRET=1, which replaces the compiler; "
            "got one with it. Compile in a process of its own"
        )
    signature, constants, attributes = _signature(kernel, made)
    source = triton.compiler.ASTSource(kernel, signature, constants, attributes)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    options = {"num_warps": made["warps"], "num_stages": made["stages"], "enable_fp_fusion": True}
    built = triton.compile(source, target=target, options=options)
    registers, spilled = _used(built.asm["cubin"])
    found = tuple(sorted(set(_TENSOR_CORES.findall(built.asm["ptx"]))))
    return Compiled(
        made["kernel"], capability, registers, spilled, int(built.metadata.shared), found
    )


def _signature(
    kernel: Any, made: Mapping[str, Any]
) -> tuple[dict[str, str], dict[Any, Any], dict[Any, Any]]:
    """Return types, constants and divisible arguments as Triton's compiler takes them."""
    signature: dict[str, str] = {}
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}
    for place, name in enumerate(kernel.arg_names):
        if name in made["constants"]:
            signature[name], constants[place,] = "constexpr", _tuples(made["constants"][name])
            continue
        kind, value, divisible = made["arguments"][name]
        signature[name] = _tuples(kind)
        if kind == "constexpr":
            constants[place,] = value
        elif divisible:
            attributes[place,] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _tuples(value: Any) -> Any:
    """Return a value of JSON with tuples in place of lists, as the compiler takes constants and types."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _used(code: bytes) -> tuple[int, int]:
    """Return the registers and the bytes of the stack per thread of assembled code."""
    from triton import knobs

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(code)
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    ((registers, spilled),) = _USED.findall(done.stdout)
    return int(registers), int(spilled)
