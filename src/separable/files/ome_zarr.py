"""Metadata of Zarr stores: OME-Zarr 0.4 and 0.5, and attributes of plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from separable.files.axis_names import letters_of, long_unit, names_of, short_unit
from separable.files.cf_conventions import fill_as_text, result_attributes
from separable.files.image_info import SPACE, ImageInfo, affine_of
from separable.kernels.units import POWERS

__all__ = [
    "has_names",
    "ome_of",
    "ome_to_info",
    "own_to_info",
    "placed",
    "plain_json",
    "to_attributes",
    "to_ome",
    "transformations",
]

OLD_VERSIONS = ("0.1", "0.2", "0.3")  # without transformations
VERSION = {2: "0.4", 3: "0.5"}  # version of OME-Zarr for each version of Zarr
OWN = ("spacing", "unit", "affine", "_ARRAY_DIMENSIONS")


def ome_of(attributes: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first multiscale image in the attributes of a group, or None."""
    found = attributes.get("ome", attributes)
    scales = found.get("multiscales") if isinstance(found, dict) else None
    if not (isinstance(scales, list) and scales and isinstance(scales[0], dict)):
        return None
    image = scales[0]
    if not (isinstance(image.get("datasets"), list) and image["datasets"]):
        return None
    rest = {k: v for k, v in found.items() if k not in ("multiscales", "version")}
    return {**image, "rest": rest}


def placed(image: dict[str, Any], level: str, ndim: int) -> tuple[Any, Any]:
    """Return the scale and the translation of a level, its own and those of the whole image."""
    dataset = next(d for d in image["datasets"] if str(d["path"]) == level)
    steps = [*(dataset.get("coordinateTransformations") or ())]
    steps += image.get("coordinateTransformations") or ()
    scale, shift = np.ones(ndim), np.zeros(ndim)
    for step in steps:
        if step.get("type") == "scale" and "scale" in step:
            factors = _numbers(step["scale"], "scale", ndim)
            if not (factors > 0).all():
                raise ValueError(f"its OME-Zarr scale must be > 0; got {factors.tolist()}")
            scale, shift = scale * factors, shift * factors
        elif step.get("type") == "translation" and "translation" in step:
            shift = shift + _numbers(step["translation"], "translation", ndim)
    return scale, shift


def _numbers(value: Any, name: str, ndim: int) -> Any:
    """Return the numbers of a transformation, one per axis."""
    numbers = np.asarray(value, np.float64)
    if numbers.shape != (ndim,) or not np.isfinite(numbers).all():
        raise ValueError(f"its OME-Zarr {name} must be {ndim} numbers, one per axis; got {value}")
    return numbers


def common_unit(units: Sequence[str], letters: str) -> tuple[str, list[float]]:
    """Return the unit of the spatial axes, and the factors that convert the scale of each axis to it.

    The unit is that of the last spatial axis. Without a unit of length along each of them there is
    none.

    Examples
    --------
    >>> common_unit(["mm", "um", "um"], "ZYX"), common_unit(["", "um"], "YX")
    (('um', [1000.0, 1.0, 1.0]), ('', [1.0, 1.0]))
    """
    spatial = [u for u, n in zip(units, letters, strict=True) if n in SPACE]
    if len(set(spatial)) == 1:
        return spatial[0], [1.0] * len(units)
    if not spatial or any(u not in POWERS for u in spatial):
        return "", [1.0] * len(units)
    own = spatial[-1]
    return own, [
        float(f"1e{POWERS[u] - POWERS[own]}") if n in SPACE else 1.0
        for u, n in zip(units, letters, strict=True)
    ]


def ome_to_info(image: dict[str, Any], level: str, ndim: int, zarr_format: int) -> ImageInfo:
    """Return the metadata of one level of a multiscale image."""
    axes = [a if isinstance(a, dict) else {"name": a} for a in image.get("axes") or ()]
    axes = [{**a, "name": str(a.get("name", ""))} for a in axes]
    if len(axes) != ndim:
        axes = [{"name": n} for n in ("tczyx"[-ndim:] if ndim <= 5 else ())]
    names = [str(a.get("name", "")) for a in axes]
    letters = letters_of(names)
    units = [
        short_unit(a.get("unit")) if n in SPACE else "" for a, n in zip(axes, letters, strict=True)
    ]
    unit, factors = common_unit(units, letters)
    axes = [
        {**a, **({"unit": long_unit(unit)} if f != 1 else {})}
        for a, f in zip(axes, factors, strict=True)
    ]
    scale, shift = (np.asarray(v) * factors for v in placed(image, level, ndim))
    options: dict[str, Any] = {
        "zarr_format": zarr_format,
        "ome_zarr": {
            "axes": axes,
            "scale": [float(v) for v in scale],
            "translation": [float(v) for v in shift],
            "name": image.get("name", ""),
            "version": image.get("version", ""),
            "rest": image["rest"],
            "factors": factors,
        },
    }
    spacing = tuple(float(v) if n in SPACE else None for v, n in zip(scale, letters, strict=False))
    levels = len(image["datasets"])
    finest = str(image["datasets"][0]["path"]) == level
    notes = (f"took {level}, one of {levels} levels of resolution",) if not finest else ()
    dataset = next(d for d in image["datasets"] if str(d["path"]) == level)
    steps = [*(dataset.get("coordinateTransformations") or ())]
    steps += image.get("coordinateTransformations") or ()
    if not any(s.get("type") == "scale" for s in steps):
        return ImageInfo(letters, options, notes=notes)
    return ImageInfo(letters, options, notes=notes, spacing=spacing or None, unit=unit)


def to_ome(
    info: ImageInfo, path: Path, ndim: int, zarr_format: int, levels: int = 1
) -> dict[str, Any]:
    """Return the attributes of a group whose levels are the arrays ``0``, ``1`` ..."""
    kept = info.options.get("ome_zarr", {})
    axes = kept.get("axes") or []
    if len(axes) != ndim or letters_of([a["name"] for a in axes]) != info.axes:
        axes = _axes(info, ndim)
    axes = [_with_unit(a, n, info.unit) for a, n in zip(axes, _letters(info, ndim), strict=True)]
    before = kept.get("scale") if len(kept.get("scale", ())) == ndim else [1.0] * ndim
    spacing = info.spacing if len(info.spacing or ()) == ndim else (None,) * ndim
    scale = [float(b if s is None else s) for s, b in zip(spacing or (), before, strict=True)]
    shift = kept.get("translation") or []
    steps = transformations(scale, shift if len(shift) == ndim else [])
    image: dict[str, Any] = {
        "name": kept.get("name") or path.name.partition(".")[0],
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }
    for number, level in enumerate(kept.get("levels", ())[1:levels], start=1):
        image["datasets"].append({
            "path": str(number),
            "coordinateTransformations": transformations(level["scale"], level["translation"]),
        })  # fmt: skip
    rest = dict(kept.get("rest", {}))
    rest.pop("ome", None)
    if zarr_format == 3:
        return {"ome": {**rest, "version": VERSION[3], "multiscales": [image]}}
    version = kept.get("version")
    if version in OLD_VERSIONS and info.spacing is None:
        image["datasets"] = [{"path": dataset["path"]} for dataset in image["datasets"]]
        image["axes"] = [a["name"] for a in image["axes"]]
        if version != "0.3":
            del image["axes"]
        return {**rest, "multiscales": [{"version": version, **image}]}
    return {**rest, "multiscales": [{"version": VERSION[2], **image}]}


def transformations(scale: Sequence[float], shift: Sequence[float]) -> list[dict[str, Any]]:
    """Return the transformations of a level: a scale, and a translation if there is one.

    Examples
    --------
    >>> transformations([2.0, 1.0], [0.0, 0.0])
    [{'type': 'scale', 'scale': [2.0, 1.0]}]
    """
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale)}]
    if any(shift):
        steps.append({"type": "translation", "translation": list(shift)})
    return steps


def _letters(info: ImageInfo, ndim: int) -> str:
    if len(info.axes) == ndim:
        return info.axes
    return "TCZYX"[-ndim:] if ndim <= 5 else "Q" * ndim


def _axes(info: ImageInfo, ndim: int) -> list[dict[str, str]]:
    letters = _letters(info, ndim)
    kinds = {"T": "time", "C": "channel", "S": "channel", "L": "channel"}
    return [
        {"name": n, "type": kinds.get(letter, "space")}
        for n, letter in zip(names_of(letters), letters, strict=True)
    ]


def _with_unit(axis: dict[str, Any], letter: str, unit: str) -> dict[str, Any]:
    return {**axis, "unit": long_unit(unit)} if unit and letter in SPACE else axis


# Plain arrays


def plain_json(value: Any) -> Any:
    """Return a value that JSON holds: convert a value, which may come from HDF5 as an array, to JSON."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {str(k): plain_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def own_to_info(
    attributes: dict[str, Any], names: Sequence[str | None] | None, ndim: int
) -> ImageInfo:
    """Return the metadata of a plain array: dimension names and attributes of `to_attributes`."""
    names = names or attributes.get("_ARRAY_DIMENSIONS") or ()
    letters = letters_of(names) if len(names) == ndim else ""
    known = tuple(str(n) for n in names) if letters and all(names) else ()
    if all(n.startswith("dim") for n in known):
        letters, known = "", ()
    spacing, affine = attributes.get("spacing"), attributes.get("affine")
    rest = {k: v for k, v in attributes.items() if k not in OWN}
    return ImageInfo(
        letters,
        {"attributes": rest} if rest else {},
        spacing=_spacing(spacing, ndim),
        unit=short_unit(str(attributes.get("unit", ""))),
        affine=affine_of(affine),
        names=known if any(len(n) > 1 for n in known) else (),
    )


def _spacing(value: Any, ndim: int) -> tuple[float | None, ...] | None:
    if not (isinstance(value, list) and len(value) == ndim):
        return None
    return tuple(float(v) if isinstance(v, int | float) else None for v in value)


def to_attributes(
    info: ImageInfo, dtype: np.dtype[Any], ndim: int, zarr_format: int
) -> dict[str, Any]:
    """Return the attributes of a plain array: spacing, unit, affine and its former attributes."""
    former = result_attributes(info.options.get("attributes", {}), info, dtype)
    fill = former.pop("_FillValue", None)
    if fill is not None and zarr_format == 3:
        former["_FillValue"] = fill_as_text(fill)
    attributes = {k: plain_json(v) for k, v in former.items() if not k.startswith("_Netcdf4")}
    place = info.options.get("place")
    if place is None or not place.tells_spacing(attributes):
        if info.spacing is not None and len(info.spacing) == ndim:
            attributes["spacing"] = list(info.spacing)
        if info.unit:
            attributes["unit"] = info.unit
    if info.affine is not None:
        attributes["affine"] = info.affine.tolist()
    if zarr_format == 2 and has_names(info, ndim):
        dims = getattr(info.options.get("place"), "dims", ())
        names = dims if dims and all(dims) else info.names
        attributes["_ARRAY_DIMENSIONS"] = list(names_of(info.axes, names, ndim))
    return attributes


def has_names(info: ImageInfo, ndim: int) -> bool:
    """Return whether the dimensions of an array have names, or it declares missing values and so needs them."""
    return len(info.axes) == ndim or "place" in info.options or bool(info.nodata)
