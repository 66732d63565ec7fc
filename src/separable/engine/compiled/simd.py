"""Vector operations for Numba kernels.

A :class:`Vec` is an LLVM vector.  A pointer (``types.CPointer``) names the element type, so that one kernel serves
every dtype: Numba specialises it by the types of the pointers.  Addresses are plain integers (``int64``) until
:func:`at` gives them a type.

============================== =========================================================
``at(like, address)``           a pointer of the type of ``like``
``offset_pointer(p, n)``        the pointer ``n`` elements after ``p``
``load(p)``                     one aligned vector;  ``load_any(p)`` without alignment
``store(p, v)``                 one aligned vector;  ``store_any``, ``store_stream`` (past the caches)
``load_scalar(p)``              one scalar, of any alignment;  ``store_scalar(p, x)``
``splat(p, x)``                 a vector of copies of ``x``, of the element type of ``p``
``add sub mul low high``        elementwise; ``low`` and ``high`` are minimum and maximum
``fma(a, b, c)``                ``a * b + c``, fused where the CPU can
``prefetch(address)``           ask for a cache line
============================== =========================================================

Functions named ``emit_...`` emit LLVM code while a kernel is compiled.  Conversions between element types are in
:mod:`.dtype_conversion`, transposes in :mod:`.transpose`, tuples of vectors in :mod:`.vector_blocks` and blocks of
multiply-adds in :mod:`.fma_blocks`.
"""

# mypy: disallow-untyped-calls=False

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from .jit import host, intrinsic, vector_bits
from .numba_api import cgutils, models, register_default, types

VECTOR_BYTES = vector_bits() // 8
LINE_BYTES = 64
LINE_VECTORS = max(1, LINE_BYTES // VECTOR_BYTES)
"""Vectors of a cache line: results are stored a line at a time, or stores past the caches are split."""
_FEATURES = host()[2]
_ARCHITECTURE = host()[0].split("-", maxsplit=1)[0]
IS_X86 = _ARCHITECTURE in ("x86_64", "i386", "i686", "amd64")
IS_ARM = _ARCHITECTURE in ("aarch64", "arm64")
HAS_FMA = "fma" in _FEATURES or IS_ARM
HAS_HALF = "f16c" in _FEATURES or "avx512f" in _FEATURES or IS_ARM
# 32 vector registers: AVX-512 and NEON; otherwise 16.
HAS_32_REGISTERS = vector_bits() == 512 or IS_ARM

_I32 = ir.IntType(32)


class Half(types.Type):
    """The storage type of float16, which Numba lacks on CPUs: only loaded and stored as vectors."""

    def __init__(self) -> None:
        super().__init__(name="Half")


@register_default(Half)
class _HalfModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.HalfType())


half = Half()

ELEMENTS: dict[str, types.Type] = {
    "float32": types.float32,
    "float64": types.float64,
    "float16": half,
    "uint8": types.uint8,
    "int8": types.int8,
    "uint16": types.uint16,
    "int16": types.int16,
    "uint32": types.uint32,
    "int32": types.int32,
    "uint64": types.uint64,
    "int64": types.int64,
}


class Vec(types.Type):
    """A vector of ``lanes`` elements of the Numba type ``dtype``."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vec({dtype}, {lanes})")


@register_default(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        element = dmm.lookup(fe_type.dtype).get_data_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def pointer(name: str) -> types.CPointer:
    """Return the pointer type for elements of the NumPy dtype called ``name``."""
    return types.CPointer(ELEMENTS[name])


class Taps(types.CPointer):
    """A pointer to taps, whose type selects the code that reads them.

    Code for taps of one kind is a third as long as for every kind, and takes a third of the time to compile.
    Code for long sums is compiled separately, see :mod:`.fma_blocks`.
    """

    def __init__(self, kind: int, long: bool, dtype: Any) -> None:
        super().__init__(dtype)
        self.kind, self.long = kind, long
        self.name = f"Taps({kind}, {'long' if long else 'short'}, {dtype})"

    @property
    def key(self) -> tuple[Any, ...]:
        """The attributes that distinguish two types of pointers to taps."""
        return (*super().key, self.kind, self.long)


register_default(Taps)(models.PointerModel)


def taps_pointer(kind: int, name: str, long: bool = False) -> Taps:
    """Return the pointer type for taps of one kind, of the NumPy dtype called ``name``."""
    return Taps(kind, long, ELEMENTS[name])


def lanes(dtype: np.dtype[Any] | str) -> int:
    """Return how many elements of ``dtype`` (a working dtype) one vector holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def native(element: Any) -> Vec:
    """Return the full-width vector type of a working element type (float32, float64, int64...)."""
    return Vec(element, VECTOR_BYTES * 8 // element.bitwidth)


def llvm_vector(context: Any, vector: Vec) -> Any:
    """Return the LLVM type of a vector type."""
    return context.get_value_type(vector)


def emit_load(context: Any, builder: Any, vector: Vec, pointer_value: Any, align: int) -> Any:
    """Emit a load of a whole vector from an element pointer."""
    # Without an alignment LLVM would assume the natural one, and a vector load from another address traps.
    place = builder.bitcast(pointer_value, llvm_vector(context, vector).as_pointer())
    return builder.load(place, align=align)


def emit_store(builder: Any, value: Any, pointer_value: Any, align: int) -> Any:
    """Emit a store of a whole vector to an element pointer; return the instruction."""
    place = builder.bitcast(pointer_value, value.type.as_pointer())
    return builder.store(value, place, align=align)


def emit_call(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """Emit a call of an LLVM intrinsic."""
    signature = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def suffix(vector: Vec) -> str:
    """Return the suffix of LLVM's names for a float vector, such as ``v16f32``."""
    return f"v{vector.lanes}f{vector.dtype.bitwidth}"


def emit_fma(builder: Any, vector: Vec, a: Any, b: Any, c: Any) -> Any:
    """Emit ``a * b + c``."""
    # Without FMA in the CPU `llvm.fma` would be a library call per lane, 35 times as slow.
    name = "fma" if HAS_FMA else "fmuladd"
    return emit_call(builder, f"llvm.{name}.{suffix(vector)}", a.type, [a, b, c])


def emit_splat(builder: Any, scalar: Any, count: int) -> Any:
    """Emit a vector of ``count`` copies of a scalar."""
    # Lane 0 set, then copied to all: LLVM recognises this pair as one broadcast.
    kind = ir.VectorType(scalar.type, count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _I32(0))
    mask = ir.Constant(ir.VectorType(_I32, count), [0] * count)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), mask)


def emit_shuffle(builder: Any, a: Any, b: Any, lanes_taken: list[int]) -> Any:
    """Emit the vector made of the named lanes of ``a`` followed by ``b``."""
    mask = ir.Constant(ir.VectorType(_I32, len(lanes_taken)), lanes_taken)
    return builder.shuffle_vector(a, b, mask)


# --- pointers -------------------------------------------------------------------------------------


@intrinsic
def at(_typing: Any, like: Any, address: Any) -> Any:
    """Return the pointer of the type of ``like`` to ``address``."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return like(like, types.int64), emit


@intrinsic
def offset_pointer(_typing: Any, p: Any, count: Any) -> Any:
    """Return the pointer ``count`` elements after ``p``."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return p(p, types.int64), emit


@intrinsic
def prefetch(_typing: Any, address: Any) -> Any:
    """Ask for the cache line at ``address`` in the second-level cache; never faults."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        flags = [_I32(0), _I32(2), _I32(1)]  # read, second-level cache, data
        emit_call(builder, "llvm.prefetch.p0", ir.VoidType(), [place, *flags])
        return context.get_dummy_value()

    return types.none(types.int64), emit


@intrinsic
def address_of(_typing: Any, p: Any) -> Any:
    """Return the address that a pointer holds."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(arguments[0], ir.IntType(64))

    return types.int64(p), emit


@intrinsic
def load_scalar(_typing: Any, p: Any) -> Any:
    """Return the scalar at ``p``, which may be unaligned."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(arguments[0], align=1)

    return p.dtype(p), emit


@intrinsic
def store_scalar(_typing: Any, p: Any, value: Any) -> Any:
    """Store a scalar at ``p``, which may be unaligned."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], arguments[0], align=1)
        return context.get_dummy_value()

    return types.none(p, p.dtype), emit


@intrinsic
def lanes_of(_typing: Any, like: Any) -> Any:
    """Return how many elements of the type of the pointer ``like`` a vector holds."""
    count = native(like.dtype).lanes

    def emit(_context: Any, _builder: Any, _signature: Any, _arguments: Any) -> Any:
        return ir.IntType(64)(count)

    return types.int64(like), emit


# --- vectors in memory ----------------------------------------------------------------------------


def _loader(p: Any, align: int | None) -> Any:
    vector = native(p.dtype)

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return emit_load(context, builder, vector, arguments[0], align or VECTOR_BYTES)

    return vector(p), emit


@intrinsic
def load(_typing: Any, p: Any) -> Any:
    """Load one vector from an address that is a multiple of its size."""
    return _loader(p, None)


@intrinsic
def load_any(_typing: Any, p: Any) -> Any:
    """Load one vector from any address."""
    return _loader(p, 1)


def _storer(p: Any, value: Any, align: int | None, stream: bool) -> Any:
    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        instruction = emit_store(builder, arguments[1], arguments[0], align or VECTOR_BYTES)
        if stream:
            mark_stream(builder, instruction)
        return context.get_dummy_value()

    return types.none(p, value), emit


def mark_stream(builder: Any, instruction: Any) -> None:
    """Make a store bypass the caches."""
    instruction.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))


@intrinsic
def store(_typing: Any, p: Any, value: Any) -> Any:
    """Store one vector at an address that is a multiple of its size."""
    return _storer(p, value, None, False)


@intrinsic
def store_any(_typing: Any, p: Any, value: Any) -> Any:
    """Store one vector at any address."""
    return _storer(p, value, 1, False)


@intrinsic
def store_stream(_typing: Any, p: Any, value: Any) -> Any:
    """Store one vector past the caches, at an address that is a multiple of its size."""
    return _storer(p, value, None, True)


@intrinsic
def fence(_typing: Any) -> Any:
    """Order the stores that bypass the caches before all later ones."""

    def emit(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        if IS_X86:
            emit_call(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
        else:
            builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), emit


# --- arithmetic -----------------------------------------------------------------------------------


@intrinsic
def splat(_typing: Any, p: Any, value: Any) -> Any:
    """Return a vector of copies of ``value``, of the element type of the pointer ``p``."""
    vector = native(p.dtype)

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return emit_splat(builder, arguments[1], vector.lanes)

    return vector(p, p.dtype), emit


def _binary(a: Any, operation: Any) -> Any:
    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return operation(builder, *arguments)

    return a(a, a), emit


@intrinsic
def add(_typing: Any, a: Any, _b: Any) -> Any:
    """Return ``a + b``."""
    return _binary(a, lambda builder, x, y: builder.fadd(x, y))


@intrinsic
def sub(_typing: Any, a: Any, _b: Any) -> Any:
    """Return ``a - b``."""
    return _binary(a, lambda builder, x, y: builder.fsub(x, y))


@intrinsic
def mul(_typing: Any, a: Any, _b: Any) -> Any:
    """Return ``a * b``."""
    return _binary(a, lambda builder, x, y: builder.fmul(x, y))


@intrinsic
def low(_typing: Any, a: Any, _b: Any) -> Any:
    """Return ``b if not a < b else a``: the smaller, and ``b`` where ``a`` is not a number."""
    return _binary(a, lambda builder, x, y: builder.select(builder.fcmp_ordered("<", x, y), x, y))


@intrinsic
def high(_typing: Any, a: Any, _b: Any) -> Any:
    """Return ``b if not a > b else a``: the larger, and ``b`` where ``a`` is not a number."""
    return _binary(a, lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))


@intrinsic
def fma(_typing: Any, a: Any, _b: Any, _c: Any) -> Any:
    """Return ``a * b + c``, rounded once where the CPU has fused multiply-add."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return emit_fma(builder, a, *arguments)

    return a(a, a, a), emit
