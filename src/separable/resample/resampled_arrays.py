"""Resample arrays of any kind on a grid: dispatch by the type of the image, types and missing samples."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.arrays import array_of, package_of
from separable.borders import Border
from separable.engine.thread_count import check_threads, get_num_threads
from separable.errors import ArgumentError, ArgumentTypeError, DTypeError, OutputError
from separable.masked import Missing, MissingOptions, keep_distinct, missing_of
from separable.request import check_axes, check_dtype, check_output_shape, shown
from separable.resample.axis_grids import Grid, band_of
from separable.resample.band_matrix import Band
from separable.resample.band_passes import empty_like_layout, resampling_work, run_bands
from separable.resample.interpolations import Interpolation
from separable.resample.label_majority import majority
from separable.run import store

__all__ = [
    "BandRequest",
    "Sampling",
    "bands_on",
    "image_and_axes",
    "run_request",
    "sampled",
    "spacing_of",
]

Array = NDArray[Any]

# Packages that resample images of other kinds. They stand above this one, so they are imported by name.
PACKAGES = {
    "torch": "separable.tensors.tensor_resampling",
    "dask": "separable.volumes.dask_resampling",
    "xarray": "separable.xarray_accessor.resampled_dims",
    "separable": "separable.resample.resampling_plans",  # a shape without samples
}
DATASETS = "separable.xarray_accessor.resampled_datasets"

NOTHING_MISSING = MissingOptions()


@dataclass(frozen=True)
class Sampling:
    """The way in which values on a grid are computed.

    Attributes
    ----------
    interpolation : Interpolation
    antialias : str
    modes : tuple of Border
        One for each resampled axis.
    cval : number
    threads : int or None
    align : str
        What of the first and last samples agrees, for plans.
    """

    interpolation: Interpolation
    antialias: str
    modes: tuple[Border, ...]
    cval: complex = 0.0
    threads: int | None = None
    align: str = "edges"

    @property
    def title(self) -> str:
        """Interpolation, filter against aliasing, alignment and border modes in words."""
        modes = "/".join(dict.fromkeys(border.name for border in self.modes))
        kind = self.interpolation
        smooths = self.antialias != "none" and kind.smooth and not kind.averages
        aliasing = f", {self.antialias} against aliasing" if smooths else ""
        return f"{kind.name.capitalize()}{aliasing}, {self.align}, {modes}"


@dataclass(frozen=True, eq=False)
class BandRequest:
    """Bands along some axes of an image, and what becomes of the result.

    Attributes
    ----------
    bands : dict of int to Band
    cval : number
        Constant outside the image.
    missing : MissingOptions
    threads : int or None
    votes : bool
        Whether the result is the label with the largest weight and not the weighted sum.
    title : str
        What is computed, for plans.
    grids : mapping of int to Grid
        Places of the outputs along each resampled axis, for coordinates.
    """

    bands: dict[int, Band]
    cval: complex = 0.0
    missing: MissingOptions = NOTHING_MISSING
    threads: int | None = None
    votes: bool = False
    title: str = ""
    grids: Mapping[int, Grid] = field(default_factory=dict)

    def result_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the result for an image of this shape."""
        return tuple(self.bands[a].size if a in self.bands else n for a, n in enumerate(shape))


@lru_cache(maxsize=256)
def _band(
    grid: Grid, interpolation: Interpolation, antialias: str, border: Border, work: str
) -> Band:
    return band_of(grid, interpolation, antialias, border, np.dtype(work))


def sampled(
    image: Any, grids: Mapping[int, Grid], sampling: Sampling, output: Any, missing: MissingOptions
) -> Any:
    """Return the values of an image on a grid.

    Parameters
    ----------
    image : array_like, tensor or Dask array
    grids : mapping of int to Grid
        The grid of each resampled axis, >= 0.
    sampling : Sampling
    output : dtype, ndarray or None
    missing : MissingOptions
    """
    if sampling.threads is not None:
        check_threads(sampling.threads)
    for axis, grid in grids.items():
        if grid.length < 1:
            raise ArgumentError(f"`image` must not be empty along a resampled axis; axis {axis} is")
    bands = _bands(grids, sampling, "float64" if _is_double(image, output) else "float32")
    votes = sampling.interpolation.votes
    request = BandRequest(
        bands, sampling.cval, missing, sampling.threads, votes, sampling.title, grids
    )
    return run_request(image, request, output)


def bands_on(
    grids: Mapping[int, Grid], sampling: Sampling, dtype: np.dtype[Any], out: np.dtype[Any]
) -> dict[int, Band]:
    """Return the bands of the axes whose grid differs from the samples, for images of a type."""
    return _bands(grids, sampling, resampling_work(np.dtype(dtype), np.dtype(out)).name)


def _bands(grids: Mapping[int, Grid], sampling: Sampling, work: str) -> dict[int, Band]:
    kinds = dict(zip(grids, sampling.modes, strict=True))
    return {
        axis: _band(grid, sampling.interpolation, sampling.antialias, kinds[axis], work)
        for axis, grid in grids.items()
        if not grid.is_identity
    }


def _is_double(image: Any, output: Any) -> bool:
    """Return whether weights need the precision of float64."""
    name = str(getattr(image, "dtype", "float64")).removeprefix("torch.")
    if name == "bfloat16":
        return False
    try:
        dtypes = [np.dtype(name)]
        if output is not None and package_of(output) != "torch":
            dtypes.append(output.dtype if isinstance(output, np.ndarray) else np.dtype(output))
    except TypeError:  # reported where types are checked
        return True
    return any(resampling_work(dtype, dtypes[0]) == np.float64 for dtype in dtypes)


def image_and_axes(image: Any, axes: Any) -> tuple[Any, tuple[int, ...]]:
    """Return an image that has a shape, and its axes to resample, >= 0.

    Raises
    ------
    ArgumentError, ArgumentTypeError, AxisError
        If it is a single number, or the axes do not fit it.
    """
    known = isinstance(image, np.ndarray) or (
        package_of(image) in PACKAGES and hasattr(image, "ndim")
    )
    if package_of(image) == "xarray" and hasattr(image, "data_vars"):
        as_image: tuple[Any, tuple[int, ...]] = importlib.import_module(DATASETS).dataset_axes(
            image, axes
        )
        return as_image
    found = image if known else array_of(image)
    if found.ndim == 0:
        raise ArgumentError("`image` must have at least one axis; got a single number")
    if package_of(found) == "xarray":
        return found, importlib.import_module(PACKAGES["xarray"]).resampled_axes(found, axes)
    return found, check_axes(axes, found.ndim)


def spacing_of(image: Any, axes: tuple[int, ...]) -> tuple[float, ...]:
    """Return the spacing of an image that has coordinates.

    Raises
    ------
    ArgumentError
        If it has none.
    """
    if hasattr(image, "spacing"):  # a Dataset as one image
        own: tuple[float, ...] = image.spacing(axes)
        return own
    if package_of(image) != "xarray":
        raise ArgumentError(
            "`spacing_in` must be the distance between neighbours; got None. Only an xarray object has "
            "coordinates that say it"
        )
    found: tuple[float, ...] = importlib.import_module(PACKAGES["xarray"]).spacing_along(
        image, axes
    )
    return found


def run_request(image: Any, request: BandRequest, output: Any) -> Any:
    """Multiply an image of any kind by the bands of a request."""
    package = "" if isinstance(image, np.ndarray) else package_of(image)
    if hasattr(image, "run_request"):  # a Dataset as one image
        return image.run_request(request, output)
    if package in PACKAGES:
        return importlib.import_module(PACKAGES[package]).run_request(image, request, output)
    given = array_of(image)
    check_dtype(given.dtype, "image")
    plain = np.asarray(given)
    out, target = _target(plain, request, output)
    missing = missing_of(
        given, plain, tuple(request.bands), request.missing, target.dtype, request.cval
    )
    if request.votes:
        _check_labels(plain, missing)
        majority(plain, request.bands, target, request.cval, request.threads)
    else:
        _run(plain, request, target, missing)
    if out is not None and out is not target:
        out[...] = target
        return out
    return target


def _target(plain: Array, request: BandRequest, output: Any) -> tuple[Array | None, Array]:
    """Return the array of the caller, if any, and the array to write into."""
    shape = request.result_shape(plain.shape)
    if isinstance(output, np.ndarray):
        check_output_shape(output, shape)
        check_dtype(output.dtype, "output")
        if not output.flags.writeable:
            raise OutputError("`output` is read-only; give a writeable array, for instance a copy")
        _check_complex(plain, output.dtype)
        plain_out = np.asarray(output)
        apart = not np.may_share_memory(plain, plain_out)
        made = plain_out if apart else empty_like_layout(plain, shape, plain_out.dtype)
        return plain_out, made
    if hasattr(output, "shape") and not isinstance(output, (type, np.dtype)):
        raise OutputError(f"`output` must be a type or a NumPy array; got {type(output).__name__}")
    dtype = plain.dtype.newbyteorder("=") if output is None else check_dtype(output, "output")
    if isinstance(request.cval, complex) and output is None:
        dtype = np.promote_types(dtype, np.complex64)
    _check_complex(plain, dtype)
    return None, empty_like_layout(plain, shape, dtype)


def _check_complex(plain: Array, dtype: np.dtype[Any]) -> None:
    if plain.dtype.kind == "c" and dtype.kind != "c":
        raise OutputError(
            f"`output` must be complex, as the image is; got {dtype}. Take .real or np.abs of the result"
        )


def _check_labels(plain: Array, missing: Missing | None) -> None:
    """Refuse what has no majority."""
    if plain.dtype.kind not in "biu":
        raise DTypeError(
            f"labels must be whole numbers to be counted; got {plain.dtype}. Take the interpolation nearest, or "
            "convert them to integers first"
        )
    if missing is not None:
        raise ArgumentError(
            '`mask` and missing samples are not for interpolation="majority". Give missing samples a label'
        )


def _run(plain: Array, request: BandRequest, target: Array, missing: Missing | None) -> None:
    """Multiply by the bands, real and imaginary parts each on their own."""
    native = plain.astype(plain.dtype.newbyteorder("="), copy=False)
    if target.dtype.kind != "c":
        _run_real(native, request, target, missing, _real(request.cval), None)
        return
    parts = (native.real, native.imag if native.dtype.kind == "c" else np.zeros_like(native))
    for take, part, into in zip(
        (np.real, np.imag), parts, (target.real, target.imag), strict=True
    ):  # fmt: skip
        fill = None if missing is None else take(missing.fill)
        _run_real(part, request, into, missing, float(take(request.cval)), fill)


def _real(cval: Any) -> float:
    if isinstance(cval, bool) or not isinstance(cval, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(
            f"`cval` must be a real number for a real result; got {shown(cval)}"
        )
    return float(cval)


def _run_real(
    plain: Array,
    request: BandRequest,
    target: Array,
    missing: Missing | None,
    cval: float,
    fill: Any,
) -> None:
    threads = get_num_threads() if request.threads is None else request.threads
    if missing is None:
        run_bands(plain, request.bands, target, cval=cval, threads=threads)
        return
    fill = missing.fill if fill is None else fill
    values, nothing = valid_values(plain, request.bands, missing, (cval, threads), target.dtype)
    if target.size:
        store(np.atleast_1d(values), np.atleast_1d(target), threads)
    np.copyto(target, fill, where=nothing, casting="unsafe")
    if missing.distinct:
        keep_distinct(target, fill, nothing)


def valid_values(
    plain: Array,
    bands: Mapping[int, Band],
    missing: Missing,
    how: tuple[float, int],
    out: np.dtype[Any],
) -> tuple[Array, Array]:
    """Return weighted sums in which missing samples count as the mean of the valid ones, and where there are none.

    With weights k, samples x and m = 1 where they are valid, this is ``k (m x) + mean (k (1 - m))`` where
    ``mean = |k| (m x) / |k| m``, as in `separable.masked`; without negative weights that is ``k (m x) / (k m)``.
    """
    cval, threads = how
    work = resampling_work(plain.dtype, out)
    shape = tuple(bands[a].size if a in bands else n for a, n in enumerate(plain.shape))
    valid = np.broadcast_to(missing.valid, plain.shape)
    known = np.where(valid, plain, 0).astype(work)
    outside = float(missing.outside)
    cval = cval if missing.outside else 0.0

    def run(image: Array, which: Mapping[int, Band], constant: float) -> Array:
        found: Array = np.empty(shape, work)
        return run_bands(image, which, found, cval=constant, threads=threads)

    signed = any((band.weights < 0).any() for band in bands.values())
    positive = {a: b.absolute() for a, b in bands.items()} if signed else dict(bands)
    share = valid.astype(work)
    weight = run(share, positive, outside)
    nothing = weight <= 0
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = run(known, positive, cval) / weight
        if signed:
            missing_weight = run((~valid).astype(work), bands, 1.0 - outside)
            mean = run(known, bands, cval) + mean * missing_weight
    return np.where(nothing, 0.0, mean), nothing
