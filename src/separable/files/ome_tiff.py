"""Metadata of TIFF files: OME-XML, ImageJ metadata and plain resolutions."""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from separable.errors import FileError
from separable.files.axis_names import short_unit
from separable.files.image_info import SPACE, ImageInfo

__all__ = ["check_files", "imagej_settings", "ome_settings", "plain_resolution", "tiff_info"]

IMAGEJ = ("uint8", "uint16", "float32")  # the data types that ImageJ supports
# Entries of ImageJ's metadata that are true of the result; its display range is that of the old numbers.
IMAGEJ_KEPT = ("spacing", "unit", "finterval", "fps", "loop", "mode", "Info", "Labels", "LUTs",
               "ROI", "Overlays", "Properties")  # fmt: skip
OME_LEFT_OUT = {"Plane", "Instrument", "Experimenter", "Experiment", "StructuredAnnotations", "ROI",
                "Plate", "Screen", "Project", "Dataset", "Folder", "ObjectiveSettings", "StageLabel",
                "ImagingEnvironment", "AcquisitionDate", "DetectorSettings", "LightSourceSettings",
                "MicrobeamManipulation"}  # fmt: skip
UNITS = range(1, 6)  # resolution units: none, inch, centimetre, and two that tifffile adds
METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6, "nm": 1e-9, "pm": 1e-12, "A": 1e-10,
          "km": 1e3, "in": 0.0254}  # fmt: skip
LARGEST = 1 << 32  # limit of the integers in a TIFF resolution
IMAGEJ_BYTES = (1 << 32) - (1 << 25)  # files for ImageJ have 32-bit offsets


def check_files(path: Path, file: Any) -> None:
    """Refuse descriptions that name files in other folders, or that expand when they are parsed.

    Parameters
    ----------
    path : Path
    file : tifffile.TiffFile
        File whose series are not yet read: reading them opens the files that the OME-XML and the
        index of Micro-Manager name.

    Raises
    ------
    FileError
    """
    text = str(file.pages[0].description or "")
    if re.search(r"<!\s*(DOCTYPE|ENTITY)", text, re.IGNORECASE):
        raise FileError(
            f"cannot read {path}: its description declares entities, which OME's never does. "
            "Export it again"
        )
    names: list[str] = []
    if file.is_ome:
        elements = ElementTree.fromstring(text).iter()
        names = [e.get(key) or "" for e in elements for key in ("FileName", "MetadataFile")]
    read_index = getattr(sys.modules.get("tifffile"), "read_ndtiff_index", None)
    if read_index is not None and getattr(file, "is_ndtiff", False):
        names += [str(entry[1]) for entry in read_index(str(path.parent / "NDTiff.index"))]
    folder = path.resolve().parent
    for name in filter(None, names):
        target = Path(os.path.realpath(path.parent / name))
        if "\\" in name or Path(name).name != name or target.parent != folder:
            raise FileError(
                f"cannot read {path}: parts of the image are in {name!r}, outside its folder. "
                "Put them beside it, under names without folders"
            )


def tiff_info(file: Any, axes: str, place: int = 0) -> ImageInfo:
    """Return the axes, the spacing and further metadata of an image, whose series has this place."""
    options = _options(file, place)
    steps: dict[str, float] = {}
    unit = ""
    notes: tuple[str, ...] = ()
    if file.is_ome and file.ome_metadata:
        ome = _read_ome(file.ome_metadata, place)
        options["ome"] = ome
        notes = _left_out(file.ome_metadata)
        unit = short_unit(ome.get("PhysicalSizeXUnit", "um"))
        for letter in "ZYX":
            size = _positive(ome.get(f"PhysicalSize{letter}"))
            own = short_unit(ome.get(f"PhysicalSize{letter}Unit", "um"))
            factor = 1.0 if own == unit else METRES.get(own, 0.0) / METRES.get(unit, math.inf)
            if size and factor:
                steps[letter] = float(f"{size * factor:.15g}")
    elif "imagej" in options:
        kept = options["imagej"]
        unit = short_unit(str(kept.get("unit", "")))
        steps = _per_pixel(options, 1.0)
        depth = _positive(kept.get("spacing"))
        if depth:
            steps["Z"] = depth
        if not unit and steps.get("X") == steps.get("Y") == 1.0:  # no unit given
            steps = {k: v for k, v in steps.items() if k == "Z"}
    elif options.get("resolutionunit") == 3:  # per centimetre; values per inch are for printers
        unit, steps = "um", _per_pixel(options, 1e4)
    if not set(steps) & set(axes):
        return ImageInfo(axes, options, notes=notes)
    spacing = tuple(steps.get(a) for a in axes)
    return ImageInfo(axes, options, spacing=spacing, unit=unit, notes=notes)


def _options(file: Any, place: int) -> dict[str, Any]:
    """Return the resolution, the compression, and the third axis of ImageJ."""
    page = file.series[place].keyframe if place else file.pages[0]
    options: dict[str, Any] = {}
    if "XResolution" in page.tags and "YResolution" in page.tags:
        found = tuple(page.tags[f"{a}Resolution"].value for a in "XY")
        unit = int(getattr(page, "resolutionunit", 1))
        if unit in UNITS and all(top > 0 and bottom > 0 for top, bottom in found):
            options["resolution"], options["resolutionunit"] = found, unit
    if int(page.compression) in (8, 32946):  # deflate, which needs no other package
        options["compression"] = "zlib"
    if file.is_imagej and file.imagej_metadata:
        kept = {k: v for k, v in file.imagej_metadata.items() if k in IMAGEJ_KEPT}
        options["imagej"] = kept
    return options


def _per_pixel(options: dict[str, Any], factor: float) -> dict[str, float]:
    found = {}
    for letter, (top, bottom) in zip("XY", options.get("resolution", ()), strict=False):
        if top > 0 and bottom > 0:
            found[letter] = factor * bottom / top
    return found


def _positive(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 < value < math.inf else None


def _read_ome(text: str, place: int = 0) -> dict[str, Any]:
    """Return the metadata of an image under the names that tifffile writes."""
    root = ElementTree.fromstring(text)
    images = [e for e in root.iter() if _tag(e) == "Image"]
    if place >= len(images):
        return {}
    image = images[place]
    pixels = next((e for e in image.iter() if _tag(e) == "Pixels"), None)
    if pixels is None:
        return {}
    kept: dict[str, Any] = {}
    if image.get("Name"):
        kept["Name"] = image.get("Name")
    described = next((e.text for e in image if _tag(e) == "Description"), None)
    if described:
        kept["Description"] = described
    for name in ("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement"):
        size = _positive(pixels.get(name))
        if size:
            kept[name] = size
            if pixels.get(f"{name}Unit"):
                kept[f"{name}Unit"] = pixels.get(f"{name}Unit")
    channels = [e for e in pixels if _tag(e) == "Channel"]
    for name in ("Name", "Color", "EmissionWavelength", "ExcitationWavelength", "Fluor"):
        values = [c.get(name) for c in channels]
        if channels and all(values):
            kept.setdefault("Channel", {})[name] = values
    return kept


def _left_out(text: str) -> tuple[str, ...]:
    """Return a note that names the OME elements that are not written again."""
    found = sorted({_tag(e) for e in ElementTree.fromstring(text).iter()} & OME_LEFT_OUT)
    if not found:
        return ()
    return (
        f"of the OME metadata, sizes, channels, names and times are kept, not {', '.join(found)}",
    )


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


# Writing


def ome_settings(info: ImageInfo, ndim: int) -> dict[str, Any]:
    """Return the metadata that tifffile needs to write OME-TIFF."""
    axes = info.axes if len(info.axes) == ndim else "TCZYX"[-ndim:] if ndim <= 5 else ""
    metadata: dict[str, Any] = {**info.options.get("ome", {})}
    if axes:
        metadata["axes"] = axes.replace("L", "C") if "C" not in axes else axes
    spacing = info.spacing if len(info.spacing or ()) == len(axes) else None
    for letter, step in zip(axes, spacing or (), strict=False):
        if step and letter in "ZYX":
            metadata[f"PhysicalSize{letter}"] = step
            metadata[f"PhysicalSize{letter}Unit"] = {"um": "\u00b5m", "A": "\u00c5"}.get(
                info.unit, info.unit or "pixel"
            )
    return metadata


def imagej_settings(info: ImageInfo, shape: tuple[int, ...], dtype: str) -> dict[str, Any] | None:
    """Return the options of tifffile for an ImageJ file; None if ImageJ does not support it.

    A file is written for ImageJ if it was read from one, or has a spacing, which plain TIFF lacks.
    """
    axes = info.axes if len(info.axes) == len(shape) else ""
    kept = info.options.get("imagej")
    spacing = info.spacing if axes and len(info.spacing or ()) == len(axes) else None
    if kept is None and (spacing is None or not info.unit):
        return None
    ordered = axes and list(axes) == sorted(axes, key="TZCYXS".find) and set(axes) <= set("TZCYXS")
    small = math.prod(shape) * (1 if dtype == "uint8" else 4) < IMAGEJ_BYTES
    if not (ordered and small and dtype in IMAGEJ and "YX" in axes):
        return None
    if "S" in axes and not (axes.endswith("S") and shape[-1] in (3, 4) and dtype == "uint8"):
        return None
    steps = {a: s for a, s in zip(axes, spacing or (), strict=False) if s and a in SPACE}
    metadata: dict[str, Any] = {**(kept or {}), "axes": axes}
    if "Z" in steps:
        metadata["spacing"] = steps["Z"]
    if info.unit:
        metadata["unit"] = info.unit
    settings: dict[str, Any] = {"imagej": True, "metadata": metadata}
    settings.update(plain_resolution(info))
    if "X" in steps and "Y" in steps:
        if not all(1 / LARGEST < steps[a] < LARGEST for a in "XY"):
            return None
        if _per_pixel(settings, 1.0) != {"X": steps["X"], "Y": steps["Y"]}:
            settings["resolution"] = (1.0 / steps["X"], 1.0 / steps["Y"])
        settings["resolutionunit"] = 1
    return settings


def plain_resolution(info: ImageInfo) -> dict[str, Any]:
    """Return the resolution of the file that was read."""
    return {k: v for k, v in info.options.items() if k in ("resolution", "resolutionunit")}
