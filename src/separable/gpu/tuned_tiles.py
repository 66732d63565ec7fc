"""Choice of tile sizes: predicted, then measured at first use on a GPU, and kept on disk.

One file per device and version of Triton in the user's cache folder, ``gpu-tiles-....json``. It may be missing, damaged or
impossible to write: a kernel never fails because of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextvars import ContextVar
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from separable.gpu.device_profile import Device, for_capability
from separable.gpu.kernel_support import LaunchError
from separable.gpu.tile_cost import BlockWork, predicted
from separable.machine.machine_profile import write_json
from separable.machine.this_machine import cache_path

__all__ = ["assumed_device", "chosen", "device_of", "keep_device", "ranked", "tiles_path"]

Tile = TypeVar("Tile", bound=Hashable)
FORMAT = 1
MOST_TUNED = 4
"""Candidates that are measured: the best by prediction."""
MOST_TRIED = 3 * MOST_TUNED
"""Candidates that are compiled at most, if some cannot be."""
REPEATS = 5

_chosen: dict[tuple[Any, ...], Any] = {}
_assumed: ContextVar[Device | None] = ContextVar("separable_gpu_assumed", default=None)


@contextlib.contextmanager
def assumed_device(device: Device) -> Iterator[None]:
    """Choose tiles for a described device where there is no GPU, in place of an H100."""
    token = _assumed.set(device)
    try:
        yield
    finally:
        _assumed.reset(token)


def ranked(
    device: Device, tiles: Sequence[Tile], work: Callable[[Tile], BlockWork]
) -> list[tuple[Tile, float, str]]:
    """Return candidates that fit the device, the fastest first, with predicted seconds and what binds them."""
    found = [(t, predicted(device, work(t))) for t in tiles]
    fitting = [(t, p.seconds, p.binds) for t, p in found if p.seconds < math.inf]
    return sorted(fitting, key=lambda each: each[1])


def chosen(
    kernel: str,
    key: tuple[Any, ...],
    where: Any,
    candidates: Callable[[Device], Sequence[Tile]],
    run: Callable[[Tile], None],
) -> Tile:
    """Return the fastest tile: from this process, from the disk, or measured now.

    Parameters
    ----------
    kernel : str
        Name of the kernel.
    key : tuple
        Sizes and types that decide, as JSON values.
    where : torch.device
        A CUDA device; on the CPU (the interpreter) the first candidate is taken and nothing is measured.
    candidates : callable
        Function of the device that returns tiles, the best by prediction first.
    run : callable
        Run the kernel with a tile; it must not change what it reads.

    Raises
    ------
    LaunchError
        If no candidate fits the device.
    """
    device = device_of(where)
    known = (kernel, str(where), device.name, *key)
    if known in _chosen:
        found: Tile = _chosen[known]
        return found
    tiles = list(candidates(device))
    if not tiles:
        raise LaunchError(f"{kernel}: no tile fits {device.name}")
    if where.type != "cuda":
        _chosen[known] = tiles[0]
        return tiles[0]
    path, name = tiles_path(device), json.dumps([kernel, *key])
    kept = _read(path)
    texts = [json.dumps(t) for t in tiles]
    if kept.get(name) in texts:
        best = tiles[texts.index(kept[name])]
    else:
        best = _fastest(tiles, run)
        _write(path, {**_read(path), name: json.dumps(best)})
    _chosen[known] = best
    return best


def _fastest(tiles: Sequence[Tile], run: Callable[[Tile], None]) -> Tile:
    """Return the tile with the smallest median of a few interleaved runs, timed by CUDA events.

    Tiles that cannot be compiled are left out. LaunchError is raised if none can.
    """
    import torch

    times: dict[int, list[float]] = {}
    failure = ""
    for number, tile in enumerate(tiles[:MOST_TRIED]):
        try:
            run(tile)  # compile
            times[number] = []
        except LaunchError as error:
            failure = str(error)
        if len(times) == MOST_TUNED:
            break
    for _ in range(REPEATS):
        for number, seconds in times.items():
            event: Any = torch.cuda.Event
            start, stop = event(enable_timing=True), event(enable_timing=True)
            start.record()
            run(tiles[number])
            stop.record()
            stop.synchronize()
            seconds.append(start.elapsed_time(stop))
    if not times:
        raise LaunchError(failure)
    return tiles[min(times, key=lambda n: sorted(times[n])[REPEATS // 2])]


def device_of(where: Any) -> Device:
    """Return the profile of a CUDA device; elsewhere that of an H100, or of `assumed_device`.

    Sizes are those that the driver reports. Rates are those of the data sheet of its generation; that of memory is the
    one that ``benchmarks/gpu.py`` has measured on this device, if it has run.
    """
    if where.type != "cuda":
        return _assumed.get() or for_capability((9, 0))
    return _seen_device(where)


@lru_cache(maxsize=32)
def _seen_device(where: Any) -> Device:
    """Return the profile of a CUDA device from the driver, the data sheet, and what was measured."""
    import torch

    seen = torch.cuda.get_device_properties(where)
    near = for_capability((seen.major, seen.minor))
    path = _cache_file("rates", seen.name)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        if path is not None:
            return Device.from_dict(json.loads(path.read_text(encoding="utf-8")))
    share = seen.multi_processor_count / near.multiprocessors
    values = near.to_dict() | {
        "name": seen.name, "capability": [seen.major, seen.minor],
        "multiprocessors": seen.multi_processor_count, "cache_bytes": seen.L2_cache_size,
        "cache_rate": near.cache_rate * share, "fma_rate": near.fma_rate * share,
        "tensor_rates": {k: v * share for k, v in near.tensor_rates.items()},
        "shared_bytes": getattr(seen, "shared_memory_per_block_optin", near.shared_bytes),
        "shared_bytes_all": getattr(seen, "shared_memory_per_multiprocessor", near.shared_bytes_all),
    }  # fmt: skip
    return Device.from_dict(values)


def keep_device(measured: Device) -> None:
    """Keep a measured profile in the user's cache folder; nothing is raised if it cannot be written."""
    path = _cache_file("rates", measured.name)
    if path is not None:
        with contextlib.suppress(OSError):
            write_json(path, measured.to_dict())
    _seen_device.cache_clear()


def tiles_path(device: Device) -> Path | None:
    """Return the file with the tiles of a device; None if the user has no home folder."""
    return _cache_file(
        "tiles", f"{device.name}, Triton {_version('triton')}, PyTorch {_version('torch')}"
    )


def _cache_file(kind: str, name: str) -> Path | None:
    with contextlib.suppress(OSError, RuntimeError, KeyError):
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        path = cache_path().with_name(f"gpu-{kind}-{digest}.json")
        return path if path.is_absolute() else None
    return None


def _version(package: str) -> str:
    with contextlib.suppress(Exception):
        return metadata.version(package)
    return ""


def _read(path: Path | None) -> dict[str, str]:
    """Return the tiles in a file; none if it is missing, damaged or of another format."""
    if path is None:
        return {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] == FORMAT:
            return {str(k): str(v) for k, v in values["tiles"].items()}
    return {}


def _write(path: Path | None, tiles: dict[str, str]) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            write_json(path, {"format": FORMAT, "tiles": tiles})
