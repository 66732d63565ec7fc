"""The filter of a file: planned for the whole, and aware of alpha, missing samples and magnitudes."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

import numpy as np

from separable.errors import ArgumentError, KernelError
from separable.factors import Factors
from separable.files.chunked_io import Source
from separable.files.declared_nodata import obey_nodata
from separable.files.format_registry import locate
from separable.files.image_filter import opacity_of
from separable.files.image_info import ImageInfo
from separable.filter_bank.magnitude import Magnitude, wide_type
from separable.kernels.parse import read_kernel_of
from separable.masked import STAYS_NAN, check_fill, fill_for, nodata_values
from separable.plan import Plan, plan
from separable.volumes.halo import BlockFilter, block_filter, chunkwise
from separable.volumes.magnitude_blocks import MagnitudeFilter
from separable.volumes.missing_samples import is_missing, missing_values, valid_filter
from separable.volumes.opacity_blocks import opacity_filter

__all__ = ["file_filter", "kernel_of", "obeyed_options"]


def obeyed_options(
    kernel: Any,
    source: Source,
    target: str | os.PathLike[str],
    missing: dict[str, Any],
    options: dict[str, Any],
) -> tuple[dict[str, Any], ImageInfo, str]:
    """Return the options for missing samples, the metadata of the target, and a note.

    Parameters
    ----------
    kernel : array_like, Factors, Plan or Magnitude
    source : Source
    target : path
    missing : dict
        Options for missing samples that were given.
    options : dict
        Options of `plan`.
    """
    info = source.info
    if isinstance(kernel, Plan) and not any(v == v for v in info.nodata):
        return missing, info, ""
    axes = info.space(source.ndim) if options.get("axes") is None else options["axes"]
    if opacity_of(info, source.ndim, axes) is not None:  # it says where nothing is valid
        values = nodata_values(missing.get("nodata", "auto"), info.nodata)
        more = {"nodata": values} if values else {}
        return {**missing, **more}, replace(info, nodata=()), ""
    out = np.dtype(options.get("output") or source.dtype)
    path, _, format = locate(target, "write")
    obeyed = obey_nodata(missing, info, source.path, source.dtype, out, (format, path))
    return obeyed.missing, obeyed.info, obeyed.note


def file_filter(
    kernel: Any,
    source: Source,
    options: dict[str, Any],
    missing: dict[str, Any],
) -> tuple[Plan, BlockFilter]:
    """Return the plan for the samples of a file, and the filter that obeys its alpha.

    Parameters
    ----------
    kernel : array_like, Factors, Plan or Magnitude
    source : Source
    options : dict
        Options of `plan`.
    missing : dict
        Options for missing samples.
    """
    if isinstance(kernel, Magnitude):
        out = source.dtype if options.get("output") is None else np.dtype(options["output"])
        wide = {**options, "output": wide_type(source.dtype)}
        marked = {**missing, "fill": STAYS_NAN} if is_missing(missing, source.dtype) else {}
        found = [file_filter(one, source, wide, marked) for one in kernel.kernels]
        first = found[0][0]
        place = opacity_of(source.info, source.ndim, first.problem.axes)
        fill = math.nan
        if marked and place is None:
            values = missing_values(missing, source.dtype)
            fill = check_fill(fill_for(missing.get("fill", math.nan), values), out)
        return first, MagnitudeFilter(tuple(f for _, f in found), kernel, out, fill, place)
    filter_plan = _planned(kernel, source, options, missing)
    some = is_missing(missing, source.dtype)
    opacity = opacity_of(source.info, source.ndim, filter_plan.problem.axes)
    if opacity is not None:
        return filter_plan, opacity_filter(filter_plan, kernel, source.dtype, opacity, missing=some)
    if some:
        return valid_filter(filter_plan, kernel, missing)
    filter_plan = chunkwise(filter_plan)
    return filter_plan, block_filter(filter_plan)


def kernel_of(kernel: Any, source: Source, options: dict[str, Any]) -> Any:
    """Return a kernel that may be given as text, for the axes that are filtered."""
    return read_kernel_of(kernel, options.get("axes"), len(source.info.space(source.ndim)))


def _planned(kernel: Any, source: Source, options: dict[str, Any], missing: dict[str, Any]) -> Plan:
    """Return the plan for the whole volume."""
    if isinstance(kernel, Plan) and missing:
        raise ArgumentError(
            f"a plan is for samples that are all valid; got {', '.join(missing)}. Give the kernel "
            'and the options of the plan, or nodata="none" to filter all samples'
        )
    if isinstance(kernel, Plan):
        if options:
            raise ArgumentError(f"a plan says all options; got {', '.join(sorted(options))}")
        problem = kernel.problem
        if (problem.shape, problem.dtype) != (source.shape, source.dtype):
            raise ArgumentError(
                f"this plan is for shape {problem.shape}, {problem.dtype}; {source.path} has shape "
                f"{source.shape}, {source.dtype}. Make a plan for it"
            )
        filter_plan = kernel
    else:
        if options.get("axes") is None:
            options = {**options, "axes": _space(kernel, source)}
        filter_plan = plan(kernel, source.shape, source.dtype, **options)
    if not filter_plan.problem.size:
        raise KernelError(f"{source.path} is empty, shape {source.shape}: there is nothing to do")
    return filter_plan


def _space(kernel: Any, source: Source) -> tuple[int, ...] | None:
    """Return the spatial axes of the file if the kernel has as many axes."""
    space = source.info.space(source.ndim)
    shape = kernel.shape if isinstance(kernel, Factors) else np.shape(kernel)
    return space if len(shape) == len(space) else None
