"""Targets of the benchmark: by how much another library is slower, natively and limited to AVX2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Least ratio of a row.

    Attributes
    ----------
    over : tuple of str
        Libraries it is compared with; the fastest of them counts.
    ratio : dict of str to float
        Time of that library divided by ours, by table: "avx512" and "avx2".
    floor : dict of str to float
        Our time divided by the floor, at most, by table; empty if there is no such target.
    """

    over: tuple[str, ...]
    ratio: Mapping[str, float]
    floor: Mapping[str, float]


def _target(over: str, avx512: float, avx2: float, floor: float | None = None) -> Target:
    floors = {} if floor is None else {"avx512": floor}
    return Target(tuple(over.split(", ")), {"avx512": avx512, "avx2": avx2}, floors)


DENSE = "OpenCV, fftconvolve, IPP"

TARGETS = {
    "gaussian float32": _target("OpenCV", 3.5, 2.5, floor=1.8),
    "gaussian uint8": _target("OpenCV", 2.8, 2),
    "gaussian uint16": _target("OpenCV", 5, 3),
    "gaussian float64": _target("OpenCV", 3.5, 2),
    "sobel": _target("OpenCV", 2.8, 2),
    "first axis": _target("OpenCV", 3, 2),
    "last axis": _target("OpenCV", 3.5, 2),
    "volume": _target("DIPlib", 16, 10, floor=2.5),
    "dense separable": _target(DENSE, 12, 8),
    "dense LoG": _target(DENSE, 8, 5),
    "dense disk": _target(DENSE, 2.5, 2),
    "sigma 30": _target("OpenCV", 15, 8),
    "box": _target("OpenCV", 3.5, 2.5),
    "colour": _target("OpenCV", 2.5, 2),
    "small gaussian 64": _target("OpenCV", 0.5, 0.5),
    "small gaussian 256": _target("OpenCV", 1.2, 1),
    "small gaussian 512": _target("OpenCV", 1.5, 1.2),
    "small sobel 64": _target("OpenCV", 0.5, 0.5),
    "small sobel 256": _target("OpenCV", 1.2, 1),
    "small sobel 512": _target("OpenCV", 1.5, 1.2),
}
"""Targets by the key of the row. Rows without a target are printed as well."""

MEMORY = 64
"""Most MiB that a filter takes beyond its input and output."""
