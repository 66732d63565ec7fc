"""The netCDF formats: netCDF-4, which is HDF5, and the classic format, which SciPy reads.

Results are written as netCDF-4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from separable.errors import FileError
from separable.files.axis_names import letters_of
from separable.files.cf_conventions import decoded, even_step, length_unit, referenced, unpacked
from separable.files.chunked_io import Region, Source, Target
from separable.files.file_format import CreateRequest, Format
from separable.files.grid_options import variables_on_grid
from separable.files.hdf5 import HDF5, create_hdf5, open_hdf5
from separable.files.image_info import SPACE, Array, ImageInfo
from separable.files.stored_variables import Place, Variable
from separable.files.volume_answers import NETCDF_ANSWERS

__all__ = ["NETCDF"]

CLASSIC = b"CDF"


@dataclass(frozen=True)
class ClassicPlace(Place):
    """Place of a variable in a file of the classic format."""

    def variables(self) -> Iterator[Variable]:
        """Yield the coordinates and grid mappings beside the variable."""
        self.check()
        with _opened(self.path) as file:
            for name in self.beside:
                yield _variable(name, file.variables[name])


def _opened(path: Path) -> Any:
    from scipy.io import netcdf_file  # start-up time

    return netcdf_file(path, "r", mmap=False, maskandscale=False)


def _variable(name: str, stored: Any) -> Variable:
    values, dims = np.array(stored.data), tuple(stored.dimensions)
    values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "S" and values.ndim:  # characters: the last dimension is the text
        values = np.char.decode(values.view(f"S{values.shape[-1]}")[..., 0], errors="replace")
        dims = dims[:-1]
    return Variable(name, dims, values, _attributes(stored))


def _attributes(stored: Any) -> dict[str, Any]:
    found = {}
    for name, value in stored._attributes.items():
        if isinstance(value, bytes):
            value = value.decode(errors="replace")
        elif isinstance(value, np.ndarray):
            value = value.astype(value.dtype.newbyteorder("="))
        found[name] = value
    return found


def _open_netcdf(path: Path, inside: str = "") -> Source:
    with path.open("rb") as file:
        classic = file.read(3) == CLASSIC
    return _open_classic(path, inside) if classic else open_hdf5(path, inside)


def _open_classic(path: Path, inside: str) -> Source:
    from scipy.io import netcdf_file  # start-up time

    file = netcdf_file(path, "r", mmap=True, maskandscale=False)
    try:
        name = _name(path, file, inside.strip("/"))
        stored = file.variables[name]
        attributes, dims = _attributes(stored), tuple(stored.dimensions)
        info = _info(path, file, name, attributes)
        dtype = np.dtype(stored.data.dtype)
        shape, strides = tuple(map(int, stored.data.shape)), tuple(stored.data.strides)
        first = stored.data.__array_interface__["data"][0]
        offset = first - file._mm_buf.__array_interface__["data"][0]
        if dtype.kind not in "iuf" or len(dims) != len(shape):
            raise FileError(f"cannot read {path}:{name}: expected numbers; got {dtype}")
    finally:
        stored = None  # arrays of the memory map would keep it open
        file.variables.clear()
        file.close()

    def fetch(region: Region) -> Array:
        # Variables with an unlimited dimension are interleaved: samples lie `strides` apart.
        mapped = np.memmap(path, np.uint8, "r")
        whole: Array = np.ndarray(shape, dtype, mapped, offset, strides)
        return np.array(whole[region], dtype.newbyteorder("="))

    where = Path(f"{path}:{inside}") if inside else path
    source = Source(where, shape, dtype.newbyteorder("="), None, info, fetch)
    return decoded(source, attributes)


def _name(path: Path, file: Any, inside: str) -> str:
    """Return the named variable, or the only one that is not a coordinate."""
    numeric = [n for n, v in file.variables.items() if v.data.dtype.kind in "iuf" and v.dimensions]
    if inside:
        if inside in file.variables:
            return inside
        raise FileError(
            f"cannot read {path}:{inside}: there is no such variable. It holds: {' '.join(numeric)}"
        )
    beside = {n for v in file.variables.values() for n in referenced(_attributes(v))}
    beside |= set(referenced(_attributes(file)))
    names = [n for n in numeric if n not in file.dimensions and n not in beside]
    if len(names) == 1:
        return str(names[0])
    if not names:
        raise FileError(f"cannot read {path}: it holds no variable of numbers")
    raise FileError(
        f"cannot read {path}: it holds {len(names)} variables: {' '.join(names)}. Name one, as "
        f"{path}:{names[0]}"
    )


def _info(path: Path, file: Any, name: str, attributes: dict[str, Any]) -> ImageInfo:
    dims = tuple(file.variables[name].dimensions)
    wanted = [*dims, *referenced(attributes), *referenced(_attributes(file))]
    beside: list[str] = []
    while wanted:
        one = wanted.pop(0)
        if one in beside or one == name or one not in file.variables:
            continue
        beside.append(one)
        wanted += referenced(_attributes(file.variables[one]))
    others = sorted(set(file.variables) - {name, *beside})
    place = ClassicPlace(path, name, dims, tuple(beside), {"": _attributes(file)}, tuple(others))
    axes = letters_of(dims)
    steps: list[float | None] = [None] * len(dims)
    units = []
    for i, dim in enumerate(dims):
        if dim in file.variables and axes[i] in SPACE:
            stored = file.variables[dim]
            steps[i] = even_step(unpacked(np.array(stored.data), _attributes(stored)))
            units.append(_attributes(file.variables[dim]).get("units", ""))
    unit = length_unit(units)
    return ImageInfo(
        axes, {"attributes": attributes, "place": place}, unit=unit,
        spacing=tuple(steps) if unit and any(steps) else None,
        names=dims if any(len(n) > 1 for n in dims) else (),
        notes=(place.note,) if place.note else (),
    )  # fmt: skip


def _create_netcdf(request: CreateRequest) -> Target:
    return create_hdf5(request, scales=True)


def _refuse_netcdf(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    if dtype.kind in "bc" or dtype.newbyteorder("=") == np.float16:
        other = "uint8" if dtype.kind == "b" else "float32"
        return f"netCDF does not hold {dtype}. Make it {other} (--dtype {other}), or write .h5"
    return HDF5.refuse(shape, dtype)


NETCDF = Format(
    name="netCDF",
    suffixes=(".nc", ".nc4", ".cdf"),
    signatures=(CLASSIC, *HDF5.signatures),
    refuse=_refuse_netcdf,
    open=_open_netcdf,
    create=_create_netcdf,
    inner=True,
    package="h5py",
    keeps=HDF5.keeps,
    options=HDF5.options,
    on_grid=variables_on_grid,
    statements=NETCDF_ANSWERS,
)
