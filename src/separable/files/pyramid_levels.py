"""The metadata of the levels of an OME-Zarr pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from separable.errors import ArgumentError
from separable.files.image_info import ImageInfo
from separable.files.ome_zarr import placed

__all__ = ["with_levels", "with_new_levels"]


def with_levels(info: ImageInfo, image: dict[str, Any], group: Any, level: str) -> ImageInfo:
    """Return the metadata of the finest level with the shapes and places of all levels."""
    paths = [str(dataset["path"]) for dataset in image["datasets"]]
    if level != paths[0] or len(paths) == 1:
        return info
    levels = []
    for path in paths:
        shape = tuple(group[path].shape)
        factors = info.options["ome_zarr"]["factors"]
        scale, shift = (np.asarray(v) * factors for v in placed(image, path, len(shape)))
        levels.append({
            "shape": shape, "scale": [float(v) for v in scale],
            "translation": [float(v) for v in shift],
        })  # fmt: skip
    ome = {**info.options["ome_zarr"], "levels": levels}
    return replace(info, options={**info.options, "ome_zarr": ome})


def with_new_levels(info: ImageInfo, shape: Sequence[int], count: object, path: Any) -> ImageInfo:
    """Return metadata with which an OME-Zarr target gets so many levels, each half of the one before.

    Parameters
    ----------
    info : ImageInfo
    shape : sequence of int
        Shape of the finest level.
    count : int
        Number of levels, the finest among them. Axes of one sample, and those that are not space, are not halved.
    path : str or path
        The target.

    Raises
    ------
    ArgumentError
        If the target is not an OME-Zarr store, or there are not so many levels.

    Examples
    --------
    >>> info = with_new_levels(ImageInfo("ZYX", spacing=(3.0, 1.0, 1.0)), (5, 8, 8), 3, "a.ome.zarr")
    >>> [level["shape"] for level in info.options["ome_zarr"]["levels"]]
    [(5, 8, 8), (3, 4, 4), (2, 2, 2)]
    >>> info.options["ome_zarr"]["levels"][1]["translation"]
    [1.5, 0.5, 0.5]
    """
    if not str(path).endswith(".ome.zarr"):
        raise ArgumentError(f"`levels` need an OME-Zarr target, such as out.ome.zarr; got {path}")
    space = info.space(len(shape))
    longest = max((shape[axis] for axis in space), default=1)
    most = 1 + max(0, longest - 1).bit_length()
    if not isinstance(count, int) or not 1 <= count <= most:
        raise ArgumentError(
            f"`levels` must be a number, 1 .. {most} for {tuple(shape)}; got {count!r}"
        )
    kept = info.options.get("ome_zarr", {})
    before = kept.get("scale") if len(kept.get("scale", ())) == len(shape) else [1.0] * len(shape)
    spacing = info.spacing if len(info.spacing or ()) == len(shape) else (None,) * len(shape)
    scale = [float(b if s is None else s) for s, b in zip(spacing or (), before, strict=True)]
    shift = list(kept.get("translation") or [0.0] * len(shape))
    sizes, levels = list(shape), []
    for _ in range(count):
        levels.append({"shape": tuple(sizes), "scale": list(scale), "translation": list(shift)})
        for axis in space:
            if sizes[axis] > 1:  # the centre of two samples lies half a sample further
                sizes[axis] = -(-sizes[axis] // 2)
                shift[axis] += scale[axis] / 2
                scale[axis] *= 2
    return replace(info, options={**info.options, "ome_zarr": {**kept, "levels": levels}})
