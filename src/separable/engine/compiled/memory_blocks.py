"""Large blocks of memory that are kept for the next array after their array is gone.

These functions are NumPy's memory handler for results (`separable.engine.result_memory` installs them), so that
a result owns its memory like any other array. NumPy calls them wherever an array is freed: they are native code
that touches no Python object.

A block is a private mapping with a multiple of a huge page, the *middle*. The data begins ``SHIFT`` bytes before it, and a header
lies before both::

    start ... | start, length, capacity | SHIFT bytes | middle: capacity bytes, a multiple of a huge page | ...

With the shift, results lie relative to a cache line as large arrays do that NumPy allocates itself: 16 bytes behind its
beginning where its memory is the C library's. Otherwise vectors of the image or of the result would lie across cache lines, and a
Gaussian along the last axis would take 42 instead of 32 cycles for 16 results.

A table of words lists the waiting blocks. Each place holds 0 or one waiting block: its address, which is a
multiple of a huge page, plus its capacity in huge pages. A block is put into a place and taken from it by one atomic
exchange, so that two threads never get the same block, with or without the interpreter's lock.
"""

# Kernels are typed by Numba.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import mmap
from typing import Any

from llvmlite import ir

from separable.system import HUGE_PAGES_ADVICE, MAPPING_FLAGS, MAPPING_PROTECTION

from .jit import intrinsic, part, stage
from .numba_api import types
from .simd import emit_call
from .sweep_params import set_word, word
from .thread_pool import atomic_add, atomic_load, atomic_swap

HUGE_PAGE = 1 << 21
LIMIT, SHIFT, NEXT, FIRST, PLACES = 0, 1, 8, 16, 64
"""Words of the table: most waiting bytes, shift of the data, number of the next place to use, first place; number of places."""
MOST_SHIFT = 64
"""Bytes before the middle that are left for a shift."""
TABLE_WORDS = FIRST + PLACES
LARGEST = 1 << 40
"""Largest block in bytes: the number of huge pages of a larger one would not fit below its address."""
START, LENGTH, CAPACITY, HEADER_WORDS = 0, 1, 2, 8
_PAGE = mmap.PAGESIZE
_WORD, _INT = ir.IntType(64), ir.IntType(32)
_BYTES = ir.IntType(8).as_pointer()


@intrinsic
def map_pages(_typing: Any, size: Any) -> Any:
    """Return the address of fresh zeroed pages, or -1."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        how = [_INT(MAPPING_PROTECTION), _INT(MAPPING_FLAGS)]
        given = [_BYTES(None), arguments[0], *how, _INT(-1), _WORD(0)]
        return builder.ptrtoint(emit_call(builder, "mmap", _BYTES, given), _WORD)

    return types.int64(types.int64), emit


@intrinsic
def unmap_pages(_typing: Any, address: Any, size: Any) -> Any:
    """Return pages to the system."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _BYTES)
        emit_call(builder, "munmap", _INT, [place, arguments[1]])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), emit


@intrinsic
def ask_huge_pages(_typing: Any, address: Any, size: Any) -> Any:
    """Ask for pages of 2 MiB where the system has them."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        if HUGE_PAGES_ADVICE:
            place = builder.inttoptr(arguments[0], _BYTES)
            emit_call(builder, "madvise", _INT, [place, arguments[1], _INT(HUGE_PAGES_ADVICE)])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), emit


@intrinsic
def copy_bytes(_typing: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy memory."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        places = [builder.inttoptr(a, _BYTES) for a in arguments[:2]]
        emit_call(builder, "memcpy", _BYTES, [*places, arguments[2]])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), emit


@intrinsic
def clear_bytes(_typing: Any, target: Any, size: Any) -> Any:
    """Set memory to 0."""

    def emit(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _BYTES)
        emit_call(builder, "memset", _BYTES, [place, _INT(0), arguments[1]])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), emit


@part
def _header(middle):
    return middle - MOST_SHIFT - 8 * HEADER_WORDS


@part
def _unmap(waiting):
    """Return a waiting block to the system."""
    header = _header(waiting & -HUGE_PAGE)
    unmap_pages(word(header, START), word(header, LENGTH))


@part
def _waiting(table):
    """Return the number of waiting bytes."""
    total = 0
    for place in range(FIRST, FIRST + PLACES):
        total += (atomic_load(table, place) & (HUGE_PAGE - 1)) * HUGE_PAGE
    return total


@part
def _take(table, capacity):
    """Return the middle of a waiting block of this capacity, or up to a quarter more; or 0."""
    # Look first, exchange then: an exchange writes to a cache line that other threads read.
    for place in range(FIRST, FIRST + PLACES):
        seen = atomic_load(table, place)
        size = (seen & (HUGE_PAGE - 1)) * HUGE_PAGE
        if seen == 0 or size < capacity or size > capacity + capacity // 4:
            continue
        taken = atomic_swap(table, place, 0)
        size = (taken & (HUGE_PAGE - 1)) * HUGE_PAGE
        if taken != 0 and capacity <= size <= capacity + capacity // 4:
            return taken & -HUGE_PAGE
        if taken != 0:  # another thread was faster and put another block here
            _unmap(taken)
    return 0


@part
def _allocate(table, size):
    """Return the middle of a block of at least `size` bytes, 0 where the system does not give them."""
    if size < 0 or size > LARGEST:
        return 0
    capacity = max((size + HUGE_PAGE - 1) & -HUGE_PAGE, HUGE_PAGE)
    middle = _take(table, capacity)
    if middle != 0:
        return middle
    length = capacity + HUGE_PAGE
    start = map_pages(length)
    if start == -1:
        return 0
    # The first multiple of a huge page that leaves a page for the header.
    middle = (start + _PAGE + HUGE_PAGE - 1) & -HUGE_PAGE
    ask_huge_pages(middle, capacity)
    header = _header(middle)
    set_word(header, START, start)
    set_word(header, LENGTH, length)
    set_word(header, CAPACITY, capacity)
    return middle


@part
def _give(table, middle):
    """Keep a block for the next array; the oldest ones are unmapped if too many bytes wait."""
    capacity = word(_header(middle), CAPACITY)
    block = middle | capacity // HUGE_PAGE
    limit = atomic_load(table, LIMIT)
    if capacity > limit:
        _unmap(block)
        return
    place = atomic_add(table, NEXT, 1)
    oldest = atomic_swap(table, FIRST + place % PLACES, block)
    if oldest != 0:
        _unmap(oldest)
    # Places are filled in turn, so the ones after this hold the oldest blocks.
    for later in range(1, PLACES):
        if _waiting(table) <= limit:
            return
        oldest = atomic_swap(table, FIRST + (place + later) % PLACES, 0)
        if oldest != 0:
            _unmap(oldest)


@part
def _data(table, size):
    """Return the address of the data of a block of `size` bytes, 0 where the system does not give them."""
    middle = _allocate(table, size)
    return middle - word(table, SHIFT) if middle != 0 else 0


@stage
def allocate(table, size):
    """Return memory for an array, like ``malloc``."""
    return _data(table, size)


@stage
def allocate_zeros(table, count, size):
    """Return memory of zeros, like ``calloc``."""
    if size > 0 and count > LARGEST // size:
        return 0
    data = _data(table, count * size)
    if data != 0:
        clear_bytes(data, count * size)
    return data


@stage
def allocate_again(table, data, size):
    """Return memory of another size with the same contents, like ``realloc``."""
    if data == 0:
        return _data(table, size)
    middle = data + word(table, SHIFT)
    capacity = word(_header(middle), CAPACITY)
    if size <= capacity <= max(2 * size, HUGE_PAGE):
        return data
    moved = _data(table, size)
    if moved != 0:
        copy_bytes(moved, data, min(size, capacity))
        _give(table, middle)
    return moved


@stage
def give_back(table, data, _size):
    """Release the memory of an array, like ``free``."""
    if data != 0:
        _give(table, data + word(table, SHIFT))


@stage
def unmap_all(table):
    """Return all waiting blocks to the system."""
    for place in range(FIRST, FIRST + PLACES):
        waiting = atomic_swap(table, place, 0)
        if waiting != 0:
            _unmap(waiting)
