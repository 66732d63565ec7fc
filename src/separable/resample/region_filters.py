"""Filters of a region for images of every kind: dispatch by the type of the image."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separable.arrays import array_of, package_of
from separable.errors import OutputError
from separable.filtering import cached_plan
from separable.kernels.parse import read_kernel_of
from separable.masked import MissingOptions
from separable.request import check_dtype
from separable.resample.output_regions import region_axes
from separable.resample.region_blocks import run_part
from separable.resample.region_plans import RegionPlan

__all__ = ["filter_region"]

Array = NDArray[Any]

# Packages that filter images of other kinds. They stand above this one, so they are imported by name.
PACKAGES = {
    "torch": "separable.tensors.region_tensors",
    "dask": "separable.volumes.dask_regions",
    "xarray": "separable.xarray_accessor.region_dims",
}
FILES = "separable.volumes.region_files"  # for an image that is a path


def filter_region(
    image: Any,
    kernel: Any,
    output: Any,
    *,
    output_region: Any = "same",
    stride: Any = 1,
    missing: MissingOptions | None = None,
    **options: Any,
) -> Any:
    """Filter an image where a region and a stride say, for `separable.convolve` and `correlate`.

    Parameters
    ----------
    image : array_like, tensor, Dask array, xarray object or path
    kernel : array_like, Factors or str
    output : dtype, ndarray or None
    output_region : str
    stride : int or sequence of int
    missing : MissingOptions, optional
        Missing samples; None if no option was given.
    **options
        Options of `separable.plan`.

    Raises
    ------
    OutputError
        If the output has another shape or is read-only.
    SeparableError
        Other subclasses, as for `separable.plan`.

    Examples
    --------
    >>> filter_region(np.arange(6.0), [1, 1, 1], None, output_region="valid", stride=2)
    array([3., 9.])
    """
    is_path = isinstance(image, (str, os.PathLike))
    package = FILES if is_path else PACKAGES.get(package_of(image), "")
    if package:
        return importlib.import_module(package).filter_region(
            image, kernel, output, output_region=output_region, stride=stride, missing=missing,
            **options,
        )  # fmt: skip
    given = array_of(image)
    plain = np.asarray(given)
    check_dtype(plain.dtype, "image")
    kernel = read_kernel_of(kernel, options.get("axes"), plain.ndim)
    into = output if isinstance(output, np.ndarray) else None
    if into is not None and not into.flags.writeable:
        raise OutputError("`output` is read-only; give a writeable array, for instance a copy")
    made = cached_plan(plain, kernel, into.dtype if into is not None else output, options)
    planned = RegionPlan(made, region_axes(made.problem, output_region, stride), output_region)
    return run_part(planned, given, into, kernel=kernel, missing=missing)
