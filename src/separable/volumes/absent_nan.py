"""Look whether a file that declares NaN as missing holds any.

Files of floats commonly declare NaN and hold none: NIfTI by convention, netCDF because xarray writes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from separable.factors import Factors
from separable.files.chunked_io import Source, boxes
from separable.masked import Weights
from separable.plan import Plan
from separable.volumes.missing_samples import missing_values

__all__ = ["LOOK_BYTES", "look_for_nan"]

LOOK_BYTES = 32 << 20  # samples that are read at a time


def look_for_nan(
    kernel: Any, missing: dict[str, Any], source: Source, known: bool | None = None
) -> bool | None:
    """Return whether a source has no NaN, if only NaN is missing and it is worth to look; else None.

    Parameters
    ----------
    kernel : array_like, Factors, Plan or Magnitude
    missing : dict
        Options for missing samples.
    source : Source
    known : bool, optional
        What an earlier look has found.

    Raises
    ------
    FileError
        If a region cannot be read.
    """
    if not _is_worth_it(kernel, missing, source.dtype):
        return None
    return not _has_nan(source) if known is None else known


def _is_worth_it(kernel: Any, missing: dict[str, Any], dtype: np.dtype[Any]) -> bool:
    """Return whether it is worth to look for NaN before a filter that ignores it.

    Without any NaN the plain filter gives the result. For kernels of both signs, and those that are not
    one product, it is many times faster than the filter of valid samples, which may even be impossible
    block by block.
    """
    values = missing_values(missing, dtype)
    if "mask" in missing or not values or any(v == v for v in values) or isinstance(kernel, Plan):
        return False
    kernels = getattr(kernel, "kernels", (kernel,))  # of a magnitude
    weights = [Weights.of(one) for one in kernels]
    return any(
        w.signed or not (isinstance(w.kernel, Factors) and w.kernel.rank == 1) for w in weights
    )


def _has_nan(source: Source) -> bool:
    """Return whether a sample of a source is NaN; it is read up to the first one."""
    chunks = source.chunks or (1,) * source.ndim
    row = max(1, source.nbytes // max(1, source.shape[0]))
    count = -(-max(1, LOOK_BYTES // row) // chunks[0]) * chunks[0]
    for region in boxes(source.shape, (count, *source.shape[1:])):
        if np.isnan(source.read(region)).any():
            return True
    return False
