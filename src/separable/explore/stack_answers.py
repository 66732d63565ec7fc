"""Filter a volume in three passes and with its whole cube of weights, slice by slice."""

from __future__ import annotations

import gzip
import math
import tempfile
import time
import zlib
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.borders import Mode
from separable.cost import count_kernel
from separable.errors import SeparableError
from separable.explore.kernel_answers import Chosen
from separable.explore.limits import InputError
from separable.explore.picture_answers import scale_of
from separable.factorize import is_separable
from separable.files import open_source
from separable.filtering import correlate
from separable.plan import plan

__all__ = ["VOLUMES", "VOLUME_KERNELS", "decode_volume", "sample_volume", "slices", "volume_times"]

Array = NDArray[Any]

VOLUMES = {"head": "head, computed like an MRI", "beads": "beads, computed"}
VOLUME_KERNELS = {
    "gaussian:1.2,radius=3": "Gaussian, 7 x 7 x 7",
    "box:7": "Box, 7 x 7 x 7",
    "box:3": "Box, 3 x 3 x 3",
    "gaussian:1": "Gaussian, 9 x 9 x 9",
    "sobel": "Sobel along x, 3 x 3 x 3",
}
VOXELS = 1 << 22  # largest volume that is kept; larger ones are thinned out
CLAIMED = 1 << 26  # largest volume that a file may claim to hold
MOST_SLICES = 2048
SUFFIXES = ((b"\x93NUMPY", ".npy"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"II+\0", ".tif"),
            (b"MM\0+", ".tif"), (b"\x1f\x8b", ".nii.gz"))  # fmt: skip
NIFTI_MAGIC = slice(344, 347)  # "n+1" of NIfTI-1; NIfTI-2 has it at the beginning
EXPECTED = "expected a volume as NIfTI (.nii, .nii.gz), TIFF stack or .npy; got something else"
DENSE_VOXELS = 343 << 22  # largest number of products of the whole volume with all weights at once


@lru_cache(maxsize=4)
def sample_volume(name: str) -> Array:
    """Return a computed volume of shape (z, y, x), uint8.

    Raises
    ------
    InputError
        If there is no such volume.
    """
    if name not in VOLUMES:
        raise InputError(f"there is no volume `{name}`; choose one of {', '.join(VOLUMES)}")
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (64, 128, 128)), indexing="ij")
    values = np.zeros(z.shape)
    if name == "beads":
        for _ in range(60):
            at, radius = rng.uniform(-0.85, 0.85, 3), rng.uniform(0.05, 0.16)
            inside = (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 < radius**2
            values[inside] = rng.uniform(0.4, 1.0)
    else:
        for (cz, cy, cx), (rz, ry, rx), turn, level in HEAD:
            c, s = math.cos(turn), math.sin(turn)
            u, v = c * (x - cx) + s * (y - cy), -s * (x - cx) + c * (y - cy)
            inside = ((z - cz) / rz) ** 2 + (v / ry) ** 2 + (u / rx) ** 2 < 1
            values[inside] += level
    noisy = 220 * values + rng.normal(0, 11, values.shape)
    found: Array = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return found


# Ellipsoids of the computed head, as in the phantom of Shepp and Logan (1974, doi:10.1109/TNS.1974.6499235)
# in three dimensions: centre, radii (z, y, x), turn in the plane, and what each adds.
HEAD = (
    ((0, 0, 0), (0.9, 0.92, 0.69), 0.0, 1.0),
    ((0, -0.0184, 0), (0.86, 0.874, 0.6624), 0.0, -0.65),
    ((0, 0, 0.22), (0.3, 0.31, 0.11), -0.31, -0.2),
    ((0, 0, -0.22), (0.35, 0.41, 0.16), 0.31, -0.2),
    ((0.1, 0.35, 0), (0.41, 0.25, 0.21), 0.0, 0.15),
    ((0.1, 0.1, 0), (0.05, 0.046, 0.046), 0.0, 0.25),
    ((0, -0.1, 0), (0.06, 0.046, 0.046), 0.0, 0.25),
    ((0, -0.605, -0.08), (0.05, 0.023, 0.046), 0.0, 0.3),
    ((0, -0.605, 0.06), (0.05, 0.046, 0.023), 0.0, 0.3),
    ((-0.3, -0.3, 0.25), (0.14, 0.12, 0.12), 0.0, 0.2),
)


def decode_volume(content: bytes) -> tuple[Array, str]:
    """Read a volume from the content of a NIfTI, TIFF or NumPy file.

    Returns
    -------
    volume : ndarray, shape (z, y, x)
        float32 or uint8, at most `VOXELS` samples.
    note : str
        How it was thinned out; may be empty.

    Raises
    ------
    InputError
        If the file holds something else, or more than a page can show.
    """
    suffix = _suffix(content)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{suffix}"
        path.write_bytes(content)
        try:
            with open_source(path) as source:
                shape = source.shape
                if math.prod(shape) > CLAIMED:
                    raise InputError(
                        f"the volume has {math.prod(shape):,} samples; at most {CLAIMED:,} are accepted"
                    )
                volume = np.asarray(source.read(tuple(slice(0, n) for n in shape)))
        except InputError:
            raise
        except (
            SeparableError,
            OSError,
            ValueError,
            EOFError,
            zlib.error,
            gzip.BadGzipFile,
        ) as error:
            reason = str(error).replace(str(path), "the file").replace(folder, "")
            raise InputError(f"{EXPECTED} ({reason[:200]})") from None
    return _thinned(_three_axes(volume, nifti=suffix.startswith(".nii")))


def _suffix(content: bytes) -> str:
    for magic, suffix in SUFFIXES:
        if content.startswith(magic):
            return suffix
    if content[NIFTI_MAGIC] == b"n+1" or content[4:7] == b"n+2":
        return ".nii"
    raise InputError(EXPECTED)


def _three_axes(volume: Array, *, nifti: bool) -> Array:
    """Return the axes z, y, x of an array; of further axes the first sample is taken."""
    if volume.dtype.kind not in "biuf":
        raise InputError(f"a volume holds real numbers; got {volume.dtype}")
    if nifti:  # x, y, z, time in memory order; the head points up
        volume = volume.T
        volume = volume.reshape(-1, *volume.shape[-3:])[0] if volume.ndim >= 3 else volume
        volume = volume[..., ::-1, :] if volume.ndim == 3 else volume
    elif volume.ndim == 4 and volume.shape[-1] in (3, 4):
        volume = volume[..., :3].mean(axis=-1)
    if volume.ndim != 3 or min(volume.shape) < 1:
        raise InputError(f"a volume has the axes z, y, x; got the shape {volume.shape}")
    if not np.isfinite(volume).all():
        raise InputError("the volume holds NaN or infinity. Replace them first")
    return volume


def _thinned(volume: Array) -> tuple[Array, str]:
    """Leave out slices, rows and columns of a large volume."""
    kept, steps = volume, [1, 1, 1]
    while kept.size > VOXELS or kept.shape[0] > MOST_SLICES:
        axis = int(np.argmax(kept.shape))
        steps[axis] *= 2
        kept = kept[tuple(slice(None, None, 2 if k == axis else 1) for k in range(3))]
    plain = kept if kept.dtype == np.uint8 else kept.astype(np.float32)
    if kept is volume:
        return np.ascontiguousarray(plain), ""
    note = f"Every {' x '.join(map(str, steps))}th sample of {' x '.join(map(str, volume.shape))} is shown."
    return np.ascontiguousarray(plain), note


def slices(chosen: Chosen, volume: Array, at: Any, mode: Mode) -> dict[str, Any]:
    """Filter one slice of a volume in passes along z, y and x, and with all weights at once.

    Parameters
    ----------
    chosen : Chosen
        Separable kernel with three axes.
    volume : ndarray, shape (z, y, x)
    at : int or None
        Slice along z; None for the middle.
    mode : str or Border
        Border mode.

    Returns
    -------
    dict
        The slice as it is, after each pass and dense, with their scales; the counts.
    """
    vectors = _vectors(chosen)
    depth = volume.shape[0]
    place = depth // 2 if at is None else at
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < depth:
        raise InputError(f"`slice` must be a whole number, 0 .. {depth - 1}; got {at!r}")
    # Only the slices that the kernel reaches are filtered; borders cut inside are beyond its reach.
    reach = chosen.values.shape[0]
    low, high = max(0, place - reach), min(depth, place + reach + 1)
    if low == 0 or high == depth:  # a border mode such as wrap may need the other end
        low, high = 0, depth
    part, inner = volume[low:high].astype(np.float32), place - low
    run = partial(correlate, axes=(0, 1, 2), mode=mode)
    steps, passed = {}, part
    for axis, vector in enumerate(vectors):
        passed = run(passed, vector.reshape([-1 if k == axis else 1 for k in range(3)]))
        weights = math.prod([v.sum() for v in vectors[: axis + 1]])
        signs = math.prod([np.abs(v).sum() for v in vectors[: axis + 1]])
        both = np.array([(signs + weights) / 2, (weights - signs) / 2])
        steps["zyx"[axis]] = scale_of(both, volume, passed[inner]).picture(passed[inner])
    dense = run(part, chosen.values, method="direct")[inner]
    scale = scale_of(chosen.values, volume, dense)
    count = count_kernel(chosen.values, 1)
    return {
        **steps,
        "source": scale_of(np.ones(1), volume, volume[place]).picture(volume[place]),
        "x": scale.picture(passed[inner]),
        "dense": scale.picture(dense),
        "slice": place,
        "shape": list(volume.shape),
        "voxels": volume.size,
        "taps": [len(v) for v in vectors],
        "all": count.dense,
        "separable": int(count.needed),
        "sentence": count.sentence,
        "difference": float(np.max(np.abs(passed[inner] - dense))),
        "scale": float(np.max(np.abs(dense))),
        "note": "",
    }


def volume_times(chosen: Chosen, volume: Array, mode: Mode) -> dict[str, Any]:
    """Filter the whole volume in three passes and with all weights at once, and time both."""
    vectors, source = _vectors(chosen), volume.astype(np.float32)
    run = partial(correlate, axes=(0, 1, 2), mode=mode)
    if chosen.values.size * volume.size > DENSE_VOXELS:
        raise InputError("filtering this volume with all weights at once would take too long here")

    def passes() -> Array:
        found = source
        for axis, vector in enumerate(vectors):
            found = run(found, vector.reshape([-1 if k == axis else 1 for k in range(3)]))
        return found

    planned = plan(chosen.values, volume.shape, source.dtype, mode=mode, operation="correlate")
    ways: dict[str, tuple[float, Callable[[], Array]]] = {
        "all weights at once": (
            chosen.values.size,
            lambda: run(source, chosen.values, method="direct"),
        ),
        "three passes": (sum(map(len, vectors)), passes),
        f"as planned: {planned.chosen.title}": (
            planned.chosen.multiplications,
            lambda: planned(source),
        ),
    }
    rows = []
    for name, (each, work) in ways.items():
        work()  # the first run compiles and plans
        start = time.perf_counter()
        work()
        rows.append(
            {"name": name, "each": each, "total": round(each * volume.size),
             "seconds": time.perf_counter() - start}
        )  # fmt: skip
    return {"rows": rows}


def _vectors(chosen: Chosen) -> list[Array]:
    answer = is_separable(chosen.values) if chosen.values.ndim == 3 else None
    if not answer or not answer.rank:
        raise InputError("this view needs a separable kernel with three axes")
    return [np.asarray(v, np.float64) for v in answer.vectors]
