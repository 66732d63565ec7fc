"""Slices of a DICOM series: found, checked and sorted by their position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.errors import FileError
from separable.files.anatomy import lps_affine
from separable.files.diagnostics import import_package

__all__ = ["Slice", "affine_of_slices", "is_dicom", "series_in", "slices_of", "sorted_slices"]

MAGIC_AT = 128  # the preamble before "DICM"
SAME = 1e-3  # largest difference of two unit vectors
EVEN = 0.02  # relative: scanners round positions
TILT = 2e-3  # shift per step: 0.1 degrees
FEW = 64  # files of a folder that are looked at to tell whether it is a series


@dataclass(frozen=True)
class Slice:
    """One slice: a file, or a frame of a file.

    Attributes
    ----------
    path : Path
    frame : int
        Number of the frame; 0 in a file with one.
    rows, columns : int
    position : ndarray or None
        Position of the first pixel.
    axes : ndarray or None
        Unit vectors along a row and along a column, ``(2, 3)``.
    spacing : tuple of float or None
        Distance between rows and between columns.
    slope, intercept : float
        Meant values are ``slope * stored + intercept``.
    """

    path: Path
    frame: int
    rows: int
    columns: int
    position: NDArray[np.float64] | None
    axes: NDArray[np.float64] | None
    spacing: tuple[float, float] | None
    slope: float
    intercept: float


def is_dicom(path: Path) -> bool:
    """Return whether a file has the signature of DICOM."""
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(MAGIC_AT + 4)[MAGIC_AT:] == b"DICM"
    except OSError:
        return False


def series_in(folder: Path, inside: str = "") -> list[Any]:
    """Return the headers of the image files of one series in a folder.

    Raises
    ------
    FileError
        If the folder holds several series and `inside` names none of them, or no images.
    """
    pydicom = import_package("pydicom", folder)
    series: dict[str, list[Any]] = {}
    for path in sorted(p for p in folder.iterdir() if p.is_file() and is_dicom(p)):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if "Rows" in header and "SeriesInstanceUID" in header:
            series.setdefault(str(header.SeriesInstanceUID), []).append(header)
    if inside and inside not in series:
        raise FileError(
            f"cannot read {folder}/{inside}: there is no such series. It holds: {' '.join(series)}"
        )
    if inside:
        return series[inside]
    if not series:
        raise FileError(f"cannot read {folder}: it holds no DICOM images")
    if len(series) > 1:
        shown = ", ".join(
            f"{uid} ({len(headers)} files"
            + (f", {text})" if (text := str(headers[0].get("SeriesDescription", ""))) else ")")
            for uid, headers in list(series.items())[:6]
        )
        raise FileError(
            f"cannot read {folder}: it holds {len(series)} series: {shown}. Name one, as "
            f"{folder}/{next(iter(series))}"
        )
    return next(iter(series.values()))


def slices_of(header: Any) -> list[Slice]:
    """Return the slices of one file: one, or one per frame of an enhanced file."""
    path = Path(str(header.filename))
    count = int(header.get("NumberOfFrames", 1) or 1)
    shared = _first(header, "SharedFunctionalGroupsSequence")
    frames = list(header.get("PerFrameFunctionalGroupsSequence", ()) or ())
    found = []
    for frame in range(count):
        places = [p for p in (frames[frame] if frame < len(frames) else None, shared) if p]

        def of(
            sequence: str, key: str, places: list[Any] = places, plain: bool = count == 1
        ) -> Any:
            for place in places:
                item = _first(place, sequence)
                if item is not None and key in item:
                    return item[key].value
            return header[key].value if plain and key in header else None

        position, axes, spacing = (
            of("PlanePositionSequence", "ImagePositionPatient"),
            of("PlaneOrientationSequence", "ImageOrientationPatient"),
            of("PixelMeasuresSequence", "PixelSpacing"),
        )
        slope = of("PixelValueTransformationSequence", "RescaleSlope")
        intercept = of("PixelValueTransformationSequence", "RescaleIntercept")
        if count > 1 and slope is None:
            slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
        if "DoseGridScaling" in header:
            slope = header.DoseGridScaling
        offsets = header.get("GridFrameOffsetVector")
        if position is None and offsets is not None and len(offsets) == count:  # a dose
            axes, spacing = header.get("ImageOrientationPatient"), header.get("PixelSpacing")
            row, column = np.array(axes, float).reshape(2, 3)
            step = float(offsets[frame]) * np.cross(row, column)
            position = np.array(header.ImagePositionPatient, float) + step
        found.append(
            Slice(
                path, frame, int(header.Rows), int(header.Columns),
                None if position is None else np.array(position, float),
                None if axes is None else np.array(axes, float).reshape(2, 3),
                None if spacing is None else (float(spacing[0]), float(spacing[1])),
                1.0 if slope is None else float(slope),
                0.0 if intercept is None else float(intercept),
            )
        )  # fmt: skip
    return found


def _first(item: Any, sequence: str) -> Any:
    found = item.get(sequence)
    return found[0] if found else None


def sorted_slices(name: Path, slices: list[Slice]) -> list[Slice]:
    """Return the slices in the order of their position along the normal of the planes.

    Raises
    ------
    FileError
        If slices differ in size, direction or pixel spacing; if one is missing or doubled; or if
        they are shifted against each other (gantry tilt).
    """
    first = slices[0]
    if len(slices) == 1:
        return slices
    where = f"cannot read {name}: "
    for one in slices:
        if (one.rows, one.columns) != (first.rows, first.columns):
            raise FileError(
                f"{where}its slices differ in size: {_label(first)} has {first.rows}x{first.columns} "
                f"pixels, {_label(one)} {one.rows}x{one.columns}. Put one size into a folder of its own"
            )
        if one.position is None or one.axes is None or one.spacing is None:
            raise FileError(
                f"{where}{_label(one)} does not say where its slice lies, so the slices cannot be "
                "sorted. Read single files, or convert the series with dcm2niix"
            )
    assert first.axes is not None
    assert first.spacing is not None
    for one in slices:
        if np.abs(np.subtract(np.asarray(one.axes), first.axes)).max() > SAME:
            raise FileError(
                f"{where}its slices differ in direction: {_label(first)} and {_label(one)}. Put one "
                "direction into a folder of its own"
            )
        if np.abs(np.subtract(one.spacing or (), first.spacing)).max() > EVEN * min(first.spacing):
            raise FileError(
                f"{where}its slices differ in pixel spacing: {_label(first)} {first.spacing} and "
                f"{_label(one)} {one.spacing}"
            )
    normal = np.cross(first.axes[0], first.axes[1])
    heights = [float(np.dot(np.asarray(one.position), normal)) for one in slices]
    order = sorted(range(len(slices)), key=heights.__getitem__)
    found, heights = [slices[i] for i in order], [heights[i] for i in order]
    _check_steps(where, found, np.array(heights), normal)
    return found


def _check_steps(where: str, slices: list[Slice], heights: Any, normal: Any) -> None:
    steps = np.diff(heights)
    usual = float(np.median(steps))
    doubled = np.flatnonzero(steps <= EVEN * max(usual, 1e-6))
    if len(doubled):
        at = int(doubled[0])
        raise FileError(
            f"{where}two slices lie at {heights[at]:.6g} mm: {_label(slices[at])} and "
            f"{_label(slices[at + 1])}. Remove the doubled one, or put each time point into a folder "
            "of its own"
        )
    uneven = np.flatnonzero(np.abs(steps - usual) > EVEN * usual)
    if len(uneven):
        at = int(uneven[0])
        what = "a slice is missing" if steps[at] > 1.5 * usual else "slices are not evenly spaced"
        raise FileError(
            f"{where}{what} between {heights[at]:.6g} and {heights[at + 1]:.6g} mm "
            f"({_label(slices[at])} and {_label(slices[at + 1])}); the usual step is {usual:.6g} mm. "
            "Fetch the series again, or resample it"
        )
    positions = np.array([one.position for one in slices])
    shift = np.diff(positions, axis=0) - steps[:, None] * normal
    if np.abs(shift).max() > TILT * usual:
        angle = math.degrees(math.atan(float(np.linalg.norm(shift, axis=1).max()) / usual))
        raise FileError(
            f"{where}its slices are shifted against each other by {angle:.3g} degrees (gantry tilt), "
            "so they form no rectangular volume. Resample it, for instance with dcm2niix"
        )


def _label(one: Slice) -> str:
    return f"frame {one.frame + 1}" if one.frame else one.path.name


def affine_of_slices(slices: list[Slice], thickness: float) -> NDArray[np.float64] | None:
    """Return the matrix from indices (x, y, z) to positions, or None if they are not known.

    `thickness` is the step of a single slice.
    """
    first = slices[0]
    if first.axes is None or first.spacing is None or first.position is None:
        return None
    row, column = first.axes
    normal = np.cross(row, column)
    step = thickness
    if len(slices) > 1:
        last = slices[-1].position
        assert last is not None
        step = float(np.dot(last - first.position, normal)) / (len(slices) - 1)
    dy, dx = first.spacing
    return lps_affine(first.position, [dx, dy, step], np.stack([row, column, normal], axis=1))
