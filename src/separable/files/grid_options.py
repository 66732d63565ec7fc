"""Positions in the options of formats, for an image on another grid: `Format.on_grid` of each of them.

Each function returns the options of the new image, and a note about what cannot be kept (or an empty text).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from separable.files.image_grids import GridChange
from separable.files.image_info import SPACE, ImageInfo
from separable.files.stored_variables import Place, Variable

__all__ = [
    "GridPlace",
    "envi_on_grid",
    "nifti_on_grid",
    "picture_on_grid",
    "tiff_on_grid",
    "variables_on_grid",
    "zarr_on_grid",
]

Options = tuple[dict[str, Any], str]

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735  # GeoTIFF tags
RASTER_TYPE, IS_POINT = 1025, 2  # the GeoTIFF key that says where the tie points of pixels are
LARGEST = (1 << 31) - 1  # of the numbers of a TIFF resolution
# Fields of an ENVI header that hold positions of pixels, which this module does not compute.
ENVI_PLACES = ("x start", "y start", "pixel size", "geo points", "rpc info", "map corners")


def nifti_on_grid(info: ImageInfo, change: GridChange) -> Options:
    """Return the header with the new voxel sizes and affines; their codes stay."""
    if "nifti" not in info.options:  # Analyze
        return info.options, ""
    header = info.options["nifti"].copy()
    for axis, letter in enumerate(info.axes[: len(change.steps)]):
        place = "XYZTC".find(letter) + 1
        if place:
            header["pixdim"][place] *= change.steps[axis]
    if info.affine is not None:
        sform, qform = int(header["sform_code"]), int(header["qform_code"])
        if qform:
            header.set_qform(info.affine, code=qform)
        if sform or not qform:  # without a form programs would put the centre at the origin
            header.set_sform(info.affine, code=sform or 2)
    return {**info.options, "nifti": header}, ""


def envi_on_grid(info: ImageInfo, change: GridChange) -> Options:
    """Return the header fields with the new reference pixel and pixel size."""
    kept, texts = dict(info.options.get("envi", {})), dict(info.options.get("envi_texts", {}))
    gone = [name for name in ENVI_PLACES if kept.pop(name, None) is not None]
    fields = kept.get("map info")
    if isinstance(fields, list) and len(fields) >= 7 and "Y" in info.axes and "X" in info.axes:
        new = list(fields)
        for at, letter in ((1, "X"), (2, "Y")):
            axis = info.axes.index(letter)
            # Pixels are counted from 1, the outer edge of the first one.
            new[at] = f"{change.corner(axis, float(fields[at]) - 1) + 1:.17g}"
            new[at + 4] = f"{float(fields[at + 4]) * change.steps[axis]:.17g}"
        kept["map info"] = new
    for name in ("map info", *gone):
        texts.pop(name, None)
    note = f"ENVI's {', '.join(gone)} are not kept, because they name old pixels" if gone else ""
    return {**info.options, "envi": kept, "envi_texts": texts}, note


def tiff_on_grid(info: ImageInfo, change: GridChange) -> Options:
    """Return the options with the new resolution, georeference and physical sizes."""
    options = dict(info.options)
    axes = {letter: info.axes.find(letter) for letter in "XY"}
    if "resolution" in options and min(axes.values()) >= 0:
        options["resolution"] = tuple(
            _divided(pair, change.steps[axes[letter]])
            for letter, pair in zip("XY", options["resolution"], strict=True)
        )
    if "geotiff" in options and min(axes.values()) >= 0:
        options["geotiff"] = _geo_tags(options["geotiff"], change, axes["X"], axes["Y"])
    if "ome" in options and "TimeIncrement" in options["ome"] and "T" in info.axes:
        step = change.steps[info.axes.index("T")]
        ome = options["ome"]
        options["ome"] = {**ome, "TimeIncrement": float(ome["TimeIncrement"]) * step}
    return options, ""


def _divided(pair: tuple[int, int], step: float) -> tuple[int, int]:
    """Return samples per unit of length, as a fraction, after the samples moved apart."""
    found = (Fraction(*pair) / Fraction(step)).limit_denominator(1 << 20)
    if not 0 < found.numerator <= LARGEST:
        return pair
    return found.numerator, found.denominator


def _geo_tags(tags: list[Any], change: GridChange, x: int, y: int) -> list[Any]:
    """Return GeoTIFF tags whose tie points and pixel sizes belong to the new grid."""
    keys = next((tag[3] for tag in tags if tag[0] == GEO_KEYS), ())
    rows = [tuple(keys[i : i + 4]) for i in range(4, len(keys) - 3, 4)]
    by_centre = any(row[0] == RASTER_TYPE and row[3] == IS_POINT for row in rows)
    moved = change.index if by_centre else change.corner
    found = []
    for code, kind, count, value, once in tags:
        if code == PIXEL_SCALE:
            value = (value[0] * change.steps[x], value[1] * change.steps[y], *value[2:])
        elif code == TIE_POINTS:
            points = np.array(value, float).reshape(-1, 6)
            points[:, 0] = [moved(x, place) for place in points[:, 0]]
            points[:, 1] = [moved(y, place) for place in points[:, 1]]
            value = tuple(points.ravel().tolist())
        elif code == TRANSFORMATION:
            matrix, old = np.array(value, float).reshape(4, 4), np.eye(4)
            for column, axis in ((0, x), (1, y)):
                first = -moved(axis, 0.0) * change.steps[axis]  # the old place of the new 0
                old[column, column], old[column, 3] = change.steps[axis], first
            value = tuple((matrix @ old).ravel().tolist())
        found.append((code, kind, count, value, once))
    return found


def picture_on_grid(info: ImageInfo, change: GridChange) -> Options:
    """Return the options with the new number of pixels per inch."""
    options = dict(info.options)
    if "dpi" in options and info.axes[:2] == "YX":
        x, y = options["dpi"]
        options["dpi"] = (float(x) / change.steps[1], float(y) / change.steps[0])
    return options, ""


def zarr_on_grid(info: ImageInfo, change: GridChange) -> Options:
    """Return the options with the new scale, translation and levels of OME-Zarr, or the new coordinates."""
    options, note = variables_on_grid(info, change)
    kept = options.get("ome_zarr")
    if kept is None:
        return options, note
    scale = np.array(kept["scale"], float)
    shift = np.array(kept.get("translation") or np.zeros(len(scale)), float)
    new_scale, new_shift = scale * change.steps, shift + scale * change.firsts
    ome = {**kept, "scale": new_scale.tolist(), "translation": new_shift.tolist()}
    levels = kept.get("levels", ())
    if levels:
        ome["levels"] = [
            _level(level, kept["levels"][0], change, new_scale, new_shift) for level in levels
        ]
    return {**options, "ome_zarr": ome}, note


def _level(
    level: dict[str, Any], finest: dict[str, Any], change: GridChange, scale: Any, shift: Any
) -> dict[str, Any]:
    """Return shape and place of a coarser level: as many times coarser than the finest as it was."""
    factors = [max(1, round(f / c)) for f, c in zip(finest["shape"], level["shape"], strict=True)]
    shape = tuple(-(-n // f) for n, f in zip(change.shape, factors, strict=True))
    moved = shift + scale * (np.array(factors) - 1) / 2
    return {
        "shape": shape, "scale": (scale * factors).tolist(), "translation": moved.tolist(),
    }  # fmt: skip


@dataclass(frozen=True)
class GridPlace(Place):
    """Place of an image on another grid: its coordinates are interpolated.

    Attributes
    ----------
    original : Place or None
        Place of the image before.
    change : GridChange or None
    """

    original: Place | None = None
    change: GridChange | None = None

    def variables(self) -> Iterator[Variable]:
        """Yield the arrays beside the image, those with resampled dimensions at the new places."""
        assert self.original is not None
        assert self.change is not None
        axes = {name: axis for axis, name in enumerate(self.dims)}
        for variable in self.original.variables():
            values, lost = variable.values, False
            for place, dim in enumerate(variable.dims):
                axis = axes.get(dim)
                if axis is None or values.shape[place] != self.change.before[axis]:
                    continue
                if self.change.steps[axis] == 1 and self.change.shape[axis] == values.shape[place]:
                    continue
                if values.dtype.kind not in "iuf":
                    lost = True  # texts have no values between them
                    break
                values = _between(values, place, self.change, axis)
            if not lost:
                yield replace(variable, values=values)


def _between(values: Any, place: int, change: GridChange, axis: int) -> Any:
    """Return coordinates at the new places, continued in a straight line beyond the ends."""
    places = change.firsts[axis] + np.arange(change.shape[axis]) * change.steps[axis]
    moved = np.moveaxis(np.asarray(values, float), place, 0)
    if len(moved) == 1:
        found = np.repeat(moved, len(places), axis=0)
    else:
        low = np.clip(np.floor(places).astype(int), 0, len(moved) - 2)
        part = (places - low).reshape(-1, *[1] * (moved.ndim - 1))
        found = moved[low] * (1 - part) + moved[low + 1] * part
    kind = values.dtype if values.dtype.kind == "f" else np.dtype(float)
    return np.moveaxis(found, 0, place).astype(kind)


def variables_on_grid(info: ImageInfo, change: GridChange) -> Options:
    """Return the options of HDF5, netCDF and plain Zarr: coordinates and chunks of the new grid."""
    options = dict(info.options)
    place = options.get("place")
    if place is not None:
        options["place"] = GridPlace(
            place.path, place.name, place.dims, place.beside, place.groups, place.others, place, change
        )  # fmt: skip
    if "hdf5" in options:
        layout = {**options["hdf5"], "chunks": change.fitted(options["hdf5"].get("chunks"))}
        layout.pop("maxshape", None)
        options["hdf5"] = layout
    attributes = options.get("attributes")
    if attributes and any(letter in SPACE for letter in info.axes) and "axistags" in attributes:
        options["attributes"] = {k: v for k, v in attributes.items() if k != "axistags"}
    return options, ""
