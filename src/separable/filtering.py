"""`convolve` and `correlate`: plan and run in one call. The last plans are cached."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from separable import borders
from separable.arrays import array_of, complete_array_of, is_gpu_array, package_of
from separable.borders import Modes
from separable.engine import get_num_threads, registry
from separable.errors import OutputError
from separable.factors import Factors
from separable.kernels.parse import read_kernel_of
from separable.machine import current
from separable.plan import Plan, plan
from separable.repeated_calls import PlannedCall, repeated
from separable.request import check_dtype, check_output_shape
from separable.request.filter_parameter_docs import documented
from separable.system import after_fork

__all__ = [
    "NoData",
    "cached_plan",
    "checked_output",
    "convolve",
    "correlate",
    "filter_with",
    "missing_options",
    "planned",
]

Array = NDArray[Any]
NoData: TypeAlias = "complex | str | Sequence[complex] | None"

MOST_PLANS = 64  # kept for the next call; with their kernels they are small
LARGEST_KERNEL = 1 << 16  # bytes; comparing a larger kernel with those of kept plans takes too long

# Packages that filter images of other kinds. Each has a function `filter_with` with the parameters of
# ours. They stand above this module, so they are imported by name when they are first needed.
PACKAGES = {  # by the package of the image's type
    "torch": "separable.tensors",
    "dask": "separable.volumes",
    "xarray": "separable.xarray_accessor",
}
FILES = "separable.volumes"  # for an image that is a path
GPU_ARRAYS = "separable.tensors.exchanged_arrays"  # of other libraries than PyTorch, such as CuPy
MASKED = "separable.masked"  # for an image with missing samples
REGIONS = "separable.resample.region_filters"  # for a part of the result


@documented
@repeated
def convolve(
    image: ArrayLike,
    kernel: ArrayLike | Factors,
    *,
    axes: int | Sequence[int] | None = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    output: DTypeLike | Array | None = None,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
    tol: float | None = None,
    method: str = "auto",
    threads: int | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    nodata: NoData = "auto",
) -> Array | PlannedCall:
    """Convolve an image or volume with a kernel by the cheapest method.

    %(filter)s

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

    Only where the kernel lies inside the image, and only every second output:

    >>> convolve(np.arange(15.0), np.ones(3), output_region="valid").shape
    (13,)
    >>> convolve(photo, disk, axes=(0, 1), stride=2).shape
    (32, 32, 3)

    Missing samples do not count (`separable.masked` has the definition):

    >>> convolve([1.0, 2.0, np.nan, 4.0, 5.0], np.ones(3) / 3, nan="ignore")
    array([1.33333333, 1.5       , 3.        , 4.5       , 4.66666667])
    """
    return planned(
        image, kernel, output, operation="convolve", axes=axes, mode=mode, cval=cval,
        origin=origin, output_region=output_region, stride=stride, tol=tol, method=method,
        threads=threads, mask=mask, nan=nan, fill=fill, nodata=nodata,
    )  # fmt: skip


@documented
@repeated
def correlate(
    image: ArrayLike,
    kernel: ArrayLike | Factors,
    *,
    axes: int | Sequence[int] | None = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: int | Sequence[int] = 0,
    output: DTypeLike | Array | None = None,
    output_region: str = "same",
    stride: int | Sequence[int] = 1,
    tol: float | None = None,
    method: str = "auto",
    threads: int | None = None,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: complex = math.nan,
    nodata: NoData = "auto",
) -> Array | PlannedCall:
    """Correlate an image or volume with a kernel: `convolve` without flipping the kernel.

    %(filter)s

    Examples
    --------
    >>> correlate([0, 0, 1, 1], [-1, 0, 1])
    array([0, 1, 1, 0])
    """
    return planned(
        image, kernel, output, operation="correlate", axes=axes, mode=mode, cval=cval,
        origin=origin, output_region=output_region, stride=stride, tol=tol, method=method,
        threads=threads, mask=mask, nan=nan, fill=fill, nodata=nodata,
    )  # fmt: skip


def filter_with(
    image: Any,
    kernel: ArrayLike | Factors,
    output: DTypeLike | Array | None,
    *,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: Any = math.nan,
    nodata: Any = "auto",
    progress: Callable[[float], None] | None = None,
    **options: Any,
) -> Array:
    """Filter an image of any kind; `options` are those of `plan`, `progress` is called as in `run`."""
    found = planned(
        image,
        kernel,
        output,
        mask=mask,
        nan=nan,
        fill=fill,
        nodata=nodata,
        progress=progress,
        **options,
    )
    if not isinstance(found, PlannedCall):
        return found
    return found.filter(found.image, found.out, progress=progress)


def planned(
    image: Any,
    kernel: ArrayLike | Factors,
    output: DTypeLike | Array | None,
    *,
    mask: ArrayLike | None = None,
    nan: str = "propagate",
    fill: Any = math.nan,
    nodata: Any = "auto",
    progress: Callable[[float], None] | None = None,
    output_region: Any = "same",
    stride: Any = 1,
    **options: Any,
) -> Array | PlannedCall:
    """Return the plan for an array; filter an image of another kind, or one with missing samples."""
    missing = missing_options(mask, nan, fill, nodata)
    if output_region != "same" or not (isinstance(stride, int) and stride == 1):
        return _in_region(image, kernel, output, missing, output_region, stride, options)
    other = _dispatch(image)
    # The axes of a file are not known yet; those of other images are counted only for text.
    if isinstance(kernel, str) and not isinstance(image, (str, os.PathLike)):
        kernel = read_kernel_of(kernel, options.get("axes"), np.ndim(image))
    if other is None:
        image = array_of(image)
        check_dtype(image.dtype, "image")
        kernel = kernel if isinstance(kernel, Factors) else complete_array_of(kernel, "kernel")
        if missing.keys() - {"fill"} or isinstance(image, np.ma.MaskedArray):
            other = importlib.import_module(MASKED).filter_missing
    if other is not None:
        filtered: Array = other(image, kernel, output, progress=progress, **missing, **options)
        return filtered
    out, dtype = checked_output(image, output)
    return PlannedCall(cached_plan(image, kernel, dtype, options), image, out)


def _in_region(
    image: Any,
    kernel: Any,
    output: Any,
    missing: dict[str, Any],
    output_region: Any,
    stride: Any,
    options: dict[str, Any],
) -> Array:
    """Filter where a region and a stride say."""
    marks = missing.keys() - {"fill"} or isinstance(image, np.ma.MaskedArray)
    asked = importlib.import_module(MASKED).MissingOptions(**missing) if marks else None
    found: Array = importlib.import_module(REGIONS).filter_region(
        image, kernel, output, output_region=output_region, stride=stride, missing=asked, **options
    )
    return found


def missing_options(mask: Any, nan: Any, fill: Any, nodata: Any = "auto") -> dict[str, Any]:
    """Return the arguments about missing samples that differ from their defaults.

    Examples
    --------
    >>> missing_options(None, "ignore", math.nan)
    {'nan': 'ignore'}
    """
    options: dict[str, Any] = {} if mask is None else {"mask": mask}
    if not isinstance(nan, str) or nan != "propagate":
        options["nan"] = nan
    if not (isinstance(fill, float) and math.isnan(fill)):
        options["fill"] = fill
    if not isinstance(nodata, str) or nodata != "auto":
        options["nodata"] = nodata
    return options


def checked_output(
    image: Array, output: DTypeLike | Array | None
) -> tuple[Array | None, DTypeLike | None]:
    """Return the array to write into, if any, and the type of the result, if it is given."""
    if not isinstance(output, np.ndarray):
        if hasattr(output, "shape") and not isinstance(output, (type, np.dtype)):
            raise OutputError(
                f"`output` must be a type or a NumPy array; got {type(output).__name__}. Give the "
                "array inside, or copy the result into it"
            )
        return None, output
    check_output_shape(output, image.shape)
    return np.asarray(output), output.dtype


def _dispatch(image: Any) -> Callable[..., Any] | None:
    """Return the function that filters an image which is not a NumPy array, or None."""
    if isinstance(image, np.ndarray):
        return None
    is_path = isinstance(image, (str, os.PathLike))
    package = FILES if is_path else PACKAGES.get(package_of(image), "")
    if not package and is_gpu_array(image) and importlib.util.find_spec("torch"):
        package = GPU_ARRAYS
    if not package:
        return None
    found: Callable[..., Any] = importlib.import_module(package).filter_with
    return found


_lock = threading.Lock()
_plans: OrderedDict[Any, Plan] = OrderedDict()


def _after_fork() -> None:
    """Replace the lock, which another thread may have held when this process was forked."""
    global _lock
    _lock = threading.Lock()


after_fork(_after_fork)


def cached_plan(image: Array, kernel: Any, dtype: Any, options: dict[str, Any]) -> Plan:
    """Return the plan for this call, from the cache if an earlier call had the same arguments."""
    key = _key(image, kernel, dtype, options)
    if key is not None:
        with _lock:
            found = _plans.get(key)
            if found is not None:
                _plans.move_to_end(key)
                return found
    made = plan(kernel, image.shape, image.dtype, output=dtype, **options)
    if key is not None:
        with _lock:
            _plans[key] = made
            while len(_plans) > MOST_PLANS:
                _plans.popitem(last=False)
    return made


def _key(image: Array, kernel: Any, kind: Any, options: dict[str, Any]) -> Any:
    """Return all that the plan depends on, or None if that is too much to compare."""
    if isinstance(kernel, Factors):
        what: Any = kernel
    else:
        array = np.asarray(kernel)
        if array.dtype.kind not in "biufc" or array.nbytes > LARGEST_KERNEL:
            return None
        what = (array.tobytes(), array.dtype.str, array.shape)
    plain = {**options, "mode": borders.cache_key(options.get("mode", ""))}
    settings = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in plain.items())
    asked = kind.str if isinstance(kind, np.dtype) else str(kind)  # a dtype's name takes long
    versions = (registry.registry_version(), borders.registry_version(), hash(current()))
    key = (what, image.shape, image.dtype.str, get_num_threads(), asked, settings, versions)
    try:
        hash(key)
    except TypeError:
        return None
    return key
