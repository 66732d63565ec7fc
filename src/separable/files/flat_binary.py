"""Arrays stored contiguously in a file: NPY, NIfTI, ENVI, uncompressed TIFF and HDF5.

Long runs are read and written at their offset. Short runs use a memory-mapped window that is
closed after each region: mapped pages count as memory of the process, and a region that is thin
along the fastest axis touches pages of the whole file.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.chunked_io import Bounds, Region, Source, Target, as_bounds
from separable.files.file_format import CreateRequest
from separable.files.image_info import Array, ImageInfo
from separable.system import Handle

__all__ = ["Raw", "raw_source", "raw_target"]

RUN_BYTES = 64 << 10  # a run of at least this size is read at its offset
WINDOW_BYTES = 32 << 20  # largest part of the file that a window spans


@dataclass(frozen=True)
class Raw:
    """An array in a file, open for reading or writing.

    Attributes
    ----------
    file : Handle
        The open file.
    dtype : dtype
        Data type in the file, with its byte order.
    shape : tuple of int
    offset : int
        Offset of the first sample in bytes.
    order : tuple of int
        Axes from the slowest to the fastest: ``(0, 1, 2)`` in C order, ``(2, 1, 0)`` in Fortran
        order.
    """

    file: Handle
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    order: tuple[int, ...]

    @classmethod
    def open(
        cls,
        path: Path,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        offset: int,
        order: tuple[int, ...] | None = None,
        write: bool = False,
    ) -> Raw:
        """Open a file; if it is too short, refuse it, or extend it for writing."""
        needed = offset + math.prod(shape) * dtype.itemsize
        file = Handle(path, write=write)
        try:
            found = file.size
            if not write and found < needed:
                raise FileError(
                    f"cannot read {path}: it is truncated; its header says {needed} bytes and "
                    f"it has {found}. Fetch or export it again"
                )
            if write:
                file.allocate(needed)
        except BaseException:
            file.close()
            raise
        return cls(file, dtype, shape, offset, order or tuple(range(len(shape))))

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def flush(self, since: int = 0) -> None:
        """Flush everything to the disk."""
        self.file.flush()

    def read(self, region: Region) -> Array:
        """Return a region as a new array in native byte order."""
        bounds = self._bounds(region)
        out = np.empty(tuple(b - a for a, b in bounds), self.dtype)  # slowest axis first
        if out.size:
            for at, part in self._runs(bounds, out):
                self.file.read(_bytes(part), self.offset + at)
            for box, part in self._windows(bounds, out):
                with _Window(self, box, write=False) as window:
                    part[...] = window
        if not self.dtype.isnative:
            out = out.byteswap(inplace=True).view(self.dtype.newbyteorder("="))
        return out.transpose(np.argsort(self.order))

    def write(self, region: Region, array: Array) -> None:
        """Write a region."""
        bounds = self._bounds(region)
        values = array.transpose(self.order)
        if not values.size:
            return
        for at, part in self._runs(bounds, values):
            packed = np.ascontiguousarray(part, self.dtype)
            self.file.write(_bytes(packed), self.offset + at)
        for box, part in self._windows(bounds, values):
            with _Window(self, box, write=True) as window:
                window[...] = part

    @property
    def _sides(self) -> tuple[int, ...]:
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def _strides(self) -> tuple[int, ...]:
        sides = self._sides
        return tuple(self.dtype.itemsize * math.prod(sides[i + 1 :]) for i in range(len(sides)))

    def _bounds(self, region: Region) -> Bounds:
        """Return the bounds of a region with the axes in the order of the file."""
        bounds = as_bounds(region, self.shape)
        return tuple(bounds[axis] for axis in self.order)

    def _run_axes(self, bounds: Bounds) -> int:
        """Return the number of slow axes to loop over; the remaining axes form one run."""
        sides, outer = self._sides, len(bounds)
        while outer > 0 and all(
            b - a == n for (a, b), n in zip(bounds[outer:], sides[outer:], strict=True)
        ):
            outer -= 1
        return outer

    def _long(self, bounds: Bounds) -> bool:
        outer = self._run_axes(bounds)
        run = math.prod(b - a for a, b in bounds[outer:]) * self.dtype.itemsize
        return run >= RUN_BYTES or all(b - a == 1 for a, b in bounds[:outer])

    def _runs(self, bounds: Bounds, array: Array) -> Iterator[tuple[int, Array]]:
        """Yield (offset in bytes, part of the array) if the runs are long."""
        if not self._long(bounds):
            return
        outer = self._run_axes(bounds)
        rest = sum(a * s for (a, _), s in zip(bounds[outer:], self._strides[outer:], strict=True))
        for index in np.ndindex(array.shape[:outer]):
            start = sum(
                (a + i) * s for (a, _), i, s in zip(bounds, index, self._strides, strict=False)
            )
            yield start + rest, array[index]

    def _windows(self, bounds: Bounds, array: Array) -> Iterator[tuple[Bounds, Array]]:
        """Yield (bounds, part of the array) for parts that span few pages, if the runs are short."""
        if self._long(bounds):
            return
        waiting = [(bounds, array)]
        while waiting:
            box, part = waiting.pop()
            axis = next((i for i, (a, b) in enumerate(box) if b - a > 1), None)
            if axis is None or self._extent(box) <= WINDOW_BYTES:
                yield box, part
                continue
            (first, last), middle = box[axis], part.shape[axis] // 2
            before: tuple[slice, ...] = (slice(None),) * axis
            for a, b in ((first, first + middle), (first + middle, last)):
                piece = part[(*before, slice(a - first, b - first))]
                waiting.append(((*box[:axis], (a, b), *box[axis + 1 :]), piece))

    def _extent(self, box: Bounds) -> int:
        """Return the bytes of the file from the first sample of a part to its last."""
        steps = ((b - 1 - a) * s for (a, b), s in zip(box, self._strides, strict=True))
        return sum(steps) + self.dtype.itemsize


class _Window:
    """A part of the file that is mapped into memory while it is copied."""

    def __init__(self, raw: Raw, box: Bounds, write: bool):
        first = raw.offset + sum(a * s for (a, _), s in zip(box, raw._strides, strict=True))
        base = first - first % mmap.ALLOCATIONGRANULARITY
        length = first - base + raw._extent(box)
        self.map = raw.file.map(base, length, write)
        shape = tuple(b - a for a, b in box)
        self.view: Array | None = np.ndarray(
            shape, raw.dtype, buffer=self.map, offset=first - base, strides=raw._strides
        )

    def __enter__(self) -> Array:
        assert self.view is not None
        return self.view

    def __exit__(self, *error: object) -> None:
        self.view = None  # the map cannot be closed while an array refers to it
        try:
            self.map.close()
        except BufferError:  # the caller still has a view; the map is closed with it
            return


def _bytes(run: Array) -> memoryview:
    """Return the bytes of a contiguous array, without a copy."""
    return run.reshape(-1).view(np.uint8).data


def raw_source(
    path: Path,
    inside: str,
    raw: Raw,
    info: ImageInfo,
    layout: dict[str, Any] | None = None,
) -> Source:
    """Return a source that reads an array in a file."""
    try:
        return Source(
            path=Path(f"{path}:{inside}") if inside else path,
            shape=raw.shape,
            dtype=raw.dtype.newbyteorder("="),
            chunks=None,
            info=info,
            fetch=raw.read,
            release=raw.close,
            layout=layout or {},
            slow=raw.order[0] if raw.order else 0,
        )
    except BaseException:  # the claims of the header are refused
        raw.close()
        raise


def raw_target(request: CreateRequest, raw: Raw, **options: Any) -> Target:
    """Return a target that writes an array in a file."""
    return Target(
        path=request.path,
        draft=request.draft,
        shape=request.shape,
        dtype=request.dtype,
        chunks=None,
        store=raw.write,
        flush=raw.flush,
        release=raw.close,
        info=request.info,
        resumed=request.resume,
        slow=raw.order[0] if raw.order else 0,
        **options,
    )
