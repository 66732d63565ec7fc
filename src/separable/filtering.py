"""convolve and correlate: plan and run in one call; the last plans are remembered."""

from __future__ import annotations

import importlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable.arrays import array_of, complete_array_of, package_of
from separable.engine import get_num_threads
from separable.engine.registry import registry_version
from separable.errors import OutputError
from separable.factors import Factors
from separable.machine import current
from separable.plan import Plan, plan
from separable.run import check_dtype
from separable.system import after_fork

__all__ = ["checked_output", "convolve", "correlate", "filter_with", "given", "remembered"]

Array = NDArray[Any]

KEPT = 64  # plans; with their kernels they are small
# Arrays of other libraries, by the package of their type, and the room that filters them: its
# `filter_with` has the parameters of ours. Rooms above this one are reached by name only.
ROOMS = {
    "torch": "separable.tensors",
    "dask": "separable.volumes",
    "xarray": "separable.xarray_accessor",
}
PATHS = "separable.volumes"  # files named by a str or a path
MISSING = "separable.masked"  # images with missing samples

LARGEST_KERNEL = 1 << 16  # bytes; larger kernels are not compared, they take long to run anyway


def convolve(
    image: ArrayLike,
    kernel: ArrayLike | Factors,
    *,
    axes: int | Sequence[int] | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    output: DTypeLike | Array | None = None,
    tol: float | None = None,
    method: str = "auto",
    threads: int | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
) -> Array:
    """Convolve an image or volume with a kernel by the cheapest method.

    Parameters
    ----------
    image : array_like
        Any number of axes; bool, integers, float16 .. float64 or complex.
    kernel : array_like or Factors
        Dense or factored; one axis for each filtered axis.
    output : dtype or ndarray, optional
        The type of the result, or where to put it (which may be the image itself).
    axes, mode, cval, origin, tol, method, threads
        As for `plan`.
    mask : array_like, optional
        **Nonzero where the image is valid**, 0 where it is missing: the opposite of `numpy.ma`.
        Of the image's shape, or of the shape of the filtered axes (one mask for all channels).
        What stands where it is 0 has no influence. The own mask of a `numpy.ma.MaskedArray` given
        as the image counts too, as NumPy means it: True is missing.
    nan : str
        "propagate" spreads NaN as far as the kernel reaches; "ignore" takes NaN for missing.
    fill : number
        The result where no valid sample lies below the kernel. Whole numbers cannot be NaN: with
        a mask they want a `fill` of their own.

    Returns
    -------
    ndarray
        Of the image's shape and, unless `output` says otherwise, type. Without `tol` it is exact
        to rounding; whole numbers are rounded half to even and saturated, once.

    Raises
    ------
    SeparableError
        Its subclasses, as for `plan`.

    Examples
    --------
    >>> convolve([[0, 0, 0], [0, 4, 0], [0, 0, 0]], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    array([[ 4,  8,  4],
           [ 8, 16,  8],
           [ 4,  8,  4]])

    Blur a colour image along its first two axes, with a known error:

    >>> photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    >>> disk = np.hypot(*np.mgrid[-7:8, -7:8]) <= 7
    >>> convolve(photo, disk / disk.sum(), axes=(0, 1), tol=0.01).dtype
    dtype('uint8')

    Samples that are missing do not count; the others count for them (`separable.masked` has
    the definition):

    >>> convolve([1.0, 2.0, np.nan, 4.0, 5.0], np.ones(3) / 3, nan="ignore")
    array([1.33333333, 1.5       , 3.        , 4.5       , 4.66666667])
    """
    return filter_with(
        image, kernel, output, operation="convolve", axes=axes, mode=mode, cval=cval,
        origin=origin, tol=tol, method=method, threads=threads, mask=mask, nan=nan, fill=fill,
    )  # fmt: skip


def correlate(
    image: ArrayLike,
    kernel: ArrayLike | Factors,
    *,
    axes: int | Sequence[int] | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    output: DTypeLike | Array | None = None,
    tol: float | None = None,
    method: str = "auto",
    threads: int | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
) -> Array:
    """Correlate an image or volume with a kernel: `convolve` without flipping the kernel.

    Parameters, results and errors are those of `convolve`.

    Examples
    --------
    >>> correlate([0, 0, 1, 1], [-1, 0, 1])
    array([0, 1, 1, 0])
    """
    return filter_with(
        image, kernel, output, operation="correlate", axes=axes, mode=mode, cval=cval,
        origin=origin, tol=tol, method=method, threads=threads, mask=mask, nan=nan, fill=fill,
    )  # fmt: skip


def filter_with(
    image: Any,
    kernel: ArrayLike | Factors,
    output: DTypeLike | Array | None,
    *,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: Any = math.nan,
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> Array:
    """Plan (or remember the plan) and run; `options` are those of `plan`."""
    missing = given(mask, nan, fill)
    elsewhere = _elsewhere(image)
    if elsewhere is None:
        image = array_of(image)
        check_dtype(image.dtype, "image")
        kernel = kernel if isinstance(kernel, Factors) else complete_array_of(kernel, "kernel")
        if missing.keys() - {"fill"} or isinstance(image, np.ma.MaskedArray):
            elsewhere = importlib.import_module(MISSING).filter_missing
    if elsewhere is not None:
        filtered: Array = elsewhere(image, kernel, output, progress=progress, **missing, **options)
        return filtered
    out, kind = checked_output(image, output)
    return remembered(image, kernel, kind, options)(image, out, progress=progress)


def given(mask: Any, nan: Any, fill: Any) -> dict[str, Any]:
    """Return what was said about missing samples, without what was not.

    Examples
    --------
    >>> given(None, "ignore", math.nan)
    {'nan': 'ignore'}
    """
    said: dict[str, Any] = {} if mask is None else {"mask": mask}
    if not isinstance(nan, str) or nan != "propagate":
        said["nan"] = nan
    if not (isinstance(fill, float) and math.isnan(fill)):
        said["fill"] = fill
    return said


def checked_output(
    image: Array, output: DTypeLike | Array | None
) -> tuple[Array | None, DTypeLike | None]:
    """Return the array to fill, if any, and the type of the result as it was asked for."""
    if not isinstance(output, np.ndarray):
        if hasattr(output, "shape") and not isinstance(output, (type, np.dtype)):
            raise OutputError(
                f"`output` must be a type or a NumPy array; got {type(output).__name__}. Give the "
                "array inside, or copy the result into it"
            )
        return None, output
    if output.shape != image.shape:
        raise OutputError(
            f"output shape not correct: `output` must have shape {image.shape}; got {output.shape}"
        )
    return np.asarray(output), output.dtype


def _elsewhere(image: Any) -> Callable[..., Any] | None:
    """The function that filters what is no array of NumPy, or None."""
    if isinstance(image, np.ndarray):
        return None
    is_path = isinstance(image, (str, os.PathLike))
    room = PATHS if is_path else ROOMS.get(package_of(image), "")
    if not room:
        return None
    found: Callable[..., Any] = importlib.import_module(room).filter_with
    return found


_lock = threading.Lock()
_plans: OrderedDict[Any, Plan] = OrderedDict()


def _after_fork() -> None:
    """Another thread may have held the lock when this process was forked off."""
    global _lock
    _lock = threading.Lock()


after_fork(_after_fork)


def remembered(image: Array, kernel: Any, kind: Any, options: dict[str, Any]) -> Plan:
    """Return the plan for this call: the same values as before give the same plan."""
    key = _key(image, kernel, kind, options)
    if key is not None:
        with _lock:
            found = _plans.get(key)
            if found is not None:
                _plans.move_to_end(key)
                return found
    made = plan(kernel, image.shape, image.dtype, output=kind, **options)
    if key is not None:
        with _lock:
            _plans[key] = made
            while len(_plans) > KEPT:
                _plans.popitem(last=False)
    return made


def _key(image: Array, kernel: Any, kind: Any, options: dict[str, Any]) -> Any:
    """Everything that the plan depends on, or None where that is too much to compare."""
    if isinstance(kernel, Factors):
        what: Any = kernel
    else:
        array = np.asarray(kernel)
        if array.dtype.kind not in "biufc" or array.nbytes > LARGEST_KERNEL:
            return None
        what = (array.tobytes(), array.dtype.str, array.shape)
    settings = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in options.items())
    asked = kind.str if isinstance(kind, np.dtype) else str(kind)  # a dtype's name takes long
    rest = (get_num_threads(), asked, settings, hash(current()), registry_version())
    key = (what, image.shape, image.dtype.str, *rest)
    try:
        hash(key)
    except TypeError:
        return None
    return key
