"""Calibration data for a network: unlabelled batches of images or arrays from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import ArgumentError, FileError
from separable.files import is_image_path, read_image

__all__ = ["Folder", "Normalisation"]

Array = NDArray[Any]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
AT_ONCE = 16  # images per batch


class Folder:
    """The batches of a folder or of one file, which are read again in each iteration.

    Pictures with the input size of the network are scaled to 0..1, normalised, and combined into
    batches of 16. An NPY file is one batch or one sample; an NPZ file is one batch with one array
    per input, in this order. Files with more than 16 samples are read 16 samples at a time.

    Parameters
    ----------
    path : Path
    shapes : list of tuple of int, optional
        Shapes of the inputs of the network, with the batch axis.
    normalisation : (mean, std), optional
        Mean and standard deviation per channel of a picture.

    Raises
    ------
    FileError
        If the folder or file does not exist, or contains nothing that can be used.
    ArgumentError
        If an array has another shape than the network expects, or contains NaN.
    """

    def __init__(
        self,
        path: Path,
        shapes: Sequence[tuple[int, ...]] | None,
        normalisation: Normalisation | None = None,
    ) -> None:
        if not path.exists():
            raise FileError(
                "`--data` must be a folder of pictures, .npy or .npz files, or one such file; got "
                f"{path}, which does not exist"
            )
        inside = path.iterdir() if path.is_dir() else [path]
        found = sorted(p for p in inside if p.is_file() and not p.name.startswith("."))
        self.arrays = [p for p in found if p.suffix.lower() in (".npy", ".npz")]
        self.pictures = [p for p in found if p not in self.arrays and is_image_path(str(p))]
        if not self.arrays and not self.pictures:
            if not path.is_dir():
                raise FileError(
                    f"`--data` {path} is not a picture, .npy or .npz file; give one, or a folder of them"
                )
            raise FileError(
                f"`--data` {path} contains no picture, .npy or .npz file"
                + (f"; there is {found[0].name}" if found else "; it is empty")
            )
        self._shapes = shapes
        self._normalisation = normalisation

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        import torch  # optional

        for batch in self._batches():
            yield tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in batch)

    def _batches(self) -> Iterator[list[Array]]:
        for path in self.arrays:
            arrays = _stored(path)
            self._check(path, arrays)
            whole = [self._with_batch(at, a) for at, a in enumerate(arrays)]
            yield from [whole] if self._fits(whole) else _parts(whole)
        waiting: list[Array] = []
        for path in self.pictures:
            image = self._picture(path)
            if len(waiting) == AT_ONCE or (waiting and waiting[0].shape != image.shape):
                yield [np.stack(waiting)]
                waiting = []
            waiting.append(image)
        if waiting:
            yield [np.stack(waiting)]

    def _check(self, path: Path, arrays: list[Array]) -> None:
        for at, array in enumerate(arrays):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = int((~np.isfinite(array)).sum())
                raise ArgumentError(
                    f"`--data` {path} has {bad} values that are NaN or infinite. Leave it out"
                )
            if array.size == 0:
                raise ArgumentError(f"`--data` {path} is empty, shape {array.shape}. Leave it out")
            shape = self._shape(at)
            fits = (shape or ())[1:], (*array.shape[:1], *(shape or ())[1:])
            if shape is not None and array.shape not in (shape, *fits):
                raise ArgumentError(
                    f"`--data` {path} has shape {array.shape}; the network expects "
                    f"(n, {', '.join(map(str, shape[1:]))}). Arrays are not resized"
                )
        if self._shapes is not None and len(arrays) != len(self._shapes):
            raise ArgumentError(
                f"`--data` {path} has {len(arrays)} arrays; the network expects "
                f"{len(self._shapes)} inputs. Store a batch as .npz with one array each"
            )

    def _shape(self, at: int) -> tuple[int, ...] | None:
        return None if self._shapes is None or at >= len(self._shapes) else self._shapes[at]

    def _fits(self, arrays: list[Array]) -> bool:
        """Return whether the arrays have exactly the input shapes, or the shapes are unknown."""
        return self._shapes is None or [a.shape for a in arrays] == [tuple(s) for s in self._shapes]

    def _with_batch(self, at: int, array: Array) -> Array:
        """Return a batch: add the batch axis to one sample, and convert floats to float32."""
        shape = self._shape(at)
        found = array[None] if shape is not None and array.ndim == len(shape) - 1 else array
        return found.astype(np.float32) if found.dtype.kind == "f" else found

    def _picture(self, path: Path) -> Array:
        """Read a picture with channels first, scaled to 0..1 and normalised."""
        values, info = read_image(path)
        wanted = self._shape(0)
        colours = "C" in info.axes or "S" in info.axes
        found = np.moveaxis(values, -1, 0) if colours else values[None]
        if wanted is not None and found.shape[0] == 4 and wanted[1] == 3:
            found = found[:3]  # without alpha
        if wanted is not None and found.shape[0] == 1 and wanted[1] == 3:
            found = np.repeat(found, 3, axis=0)
        if wanted is not None and found.shape != wanted[1:]:
            raise ArgumentError(
                f"`--data` {path} is a picture of shape {_sizes(found.shape)}; the network expects "
                f"{_sizes(wanted[1:])}. Pictures are not resized: resize it, or give --input-shape "
                f"{_sizes((1, *found.shape))} if the network accepts that"
            )
        whole = np.iinfo(found.dtype).max if found.dtype.kind in "iu" else 1.0
        scaled = found.astype(np.float32) / np.float32(whole)
        if not np.isfinite(scaled).all():
            raise ArgumentError(f"`--data` {path} has values that are NaN or infinite")
        return self._normalised(scaled)

    def _normalised(self, image: Array) -> Array:
        if self._normalisation is None:
            return image
        mean, std = (np.asarray(v, np.float32) for v in self._normalisation)
        if any(len(v) not in (1, len(image)) for v in (mean, std)):
            raise ArgumentError(
                f"`--mean` and `--std` must have one number, or one for each of {len(image)} "
                f"channels; got {len(mean)} and {len(std)}"
            )
        return np.asarray((image - mean[:, None, None]) / std[:, None, None])


def _parts(arrays: list[Array]) -> Iterator[list[Array]]:
    """Cut a batch into smaller ones if all its arrays have the same number of samples."""
    count = len(arrays[0]) if arrays[0].ndim else 0
    if count <= AT_ONCE or any(not a.ndim or len(a) != count for a in arrays):
        yield arrays
        return
    for at in range(0, count, AT_ONCE):
        yield [a[at : at + AT_ONCE] for a in arrays]


def _stored(path: Path) -> list[Array]:
    """Read the arrays of a file, without pickled objects."""
    try:
        found = np.load(path, allow_pickle=False)
        arrays = [found] if isinstance(found, np.ndarray) else [found[k] for k in found.files]
    except (OSError, ValueError, EOFError, KeyError) as problem:
        raise FileError(
            f"cannot read {path}: it is damaged or holds objects ({problem}). Save plain arrays"
        ) from None
    except Exception as problem:  # zipfile and zlib raise further exceptions
        raise FileError(f"cannot read {path}: it is damaged ({problem}). Save it again") from None
    for array in arrays:
        if array.dtype.kind not in "biuf":
            raise ArgumentError(f"`--data` {path} has type {array.dtype}; expected numbers")
    return arrays


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
