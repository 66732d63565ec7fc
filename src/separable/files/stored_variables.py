"""Arrays beside an image in a file: coordinates, grid mappings and the groups that they lie in.

They are copied into the file of the result, so that xarray and netCDF programs open it as they
opened the source. Nothing of them is in memory until a file is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from separable.errors import FileError

__all__ = ["Place", "Variable", "groups_above", "resolve_name"]


@dataclass(frozen=True)
class Variable:
    """An array with named dimensions and attributes.

    Attributes
    ----------
    name : str
        Path in the file, without a slash at the beginning: ``"lat"``, ``"model/lat"``.
    dims : tuple of str
        Names of its dimensions.
    values : ndarray
    attributes : dict
    """

    name: str
    dims: tuple[str, ...]
    values: NDArray[Any]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Path of an image in a file with groups, and the arrays beside it.

    Formats derive from it: they read `variables`, and copy them without decoding into a file of the
    same format.

    Attributes
    ----------
    path : Path
        File of the image.
    name : str
        Path of the image in the file, without a slash at the beginning.
    dims : tuple of str
        Names of the dimensions of the image.
    beside : tuple of str
        Paths of the arrays to copy.
    groups : dict of str to dict
        Attributes of the groups from the root ("") to the image.
    others : tuple of str
        Paths of the arrays that are not copied.
    """

    path: Path
    name: str
    dims: tuple[str, ...]
    beside: tuple[str, ...] = ()
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: tuple[str, ...] = ()

    def variables(self) -> Iterator[Variable]:
        """Yield the arrays beside the image.

        Raises
        ------
        FileError
            If the file is gone.
        """
        raise NotImplementedError  # pragma: no cover - each format has its own

    @property
    def note(self) -> str:
        """Sentence about the arrays that are not copied; empty if there is none."""
        if not self.others:
            return ""
        shown = ", ".join(self.others[:5]) + (" ..." if len(self.others) > 5 else "")
        return f"only {self.name} and its coordinates are part of the result, not {shown}"

    def tells_spacing(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether the spacing is that of the coordinates, and needs no attributes."""
        return bool(self.beside) and not {"spacing", "element_size_um"} & set(attributes)

    def check(self) -> None:
        """Refuse to copy from a file that is gone.

        Raises
        ------
        FileError
        """
        if self.beside and not self.path.exists():
            raise FileError(
                f"cannot copy the coordinates of {self.path}: the file is gone. Write the result "
                "before it is deleted, or without the option `place` of its metadata"
            )


def groups_above(name: str) -> tuple[str, ...]:
    """Return the groups from the root to an array.

    Examples
    --------
    >>> groups_above("model/run/temp")
    ('', 'model', 'model/run')
    """
    parts = name.split("/")[:-1]
    return tuple("/".join(parts[:count]) for count in range(len(parts) + 1))


def resolve_name(name: str, beside: str, known: set[str]) -> str | None:
    """Return the array that a name refers to from a group: the nearest one in or above it.

    Examples
    --------
    >>> resolve_name("lat", "model/temp", {"lat", "model/time"})
    'lat'
    """
    if name.startswith("/"):
        return name.strip("/") if name.strip("/") in known else None
    for group in reversed(groups_above(beside)):
        found = "/".join(filter(None, (group, name)))
        if found in known:
            return found
    return None
